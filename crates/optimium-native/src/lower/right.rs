//! Constant right matrices of products, in the precision that was asked for.

use std::borrow::Cow;
use std::fmt::Display;

use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::gemm::{self, Layout, PackedBf16, PackedMatrix, PackedStrassen, Problem};
use optimium_kernels::{Part, SharedSlice};
use optimium_simd::Level;

use super::view::NodeView;

/// How packed matrices are made of the weights.
const ORIGIN: &str = "scaled";

/// The way to compute the node, as [`NodeView::choose`] has it, but one by seven products only where the weights suit. `suits` reads
/// them all. It is not asked where a block of weights is stored: it was when that block was packed.
pub(super) fn choose_suited<C: Display + Clone + Send + Sync + 'static>(
    view: &NodeView,
    problem: impl Fn() -> String + Clone + Send + Sync + 'static,
    candidates: Vec<(C, f64)>,
    is_strassen: impl Fn(&C) -> bool,
    is_stored: impl Fn(&C) -> bool,
    suits: impl FnOnce() -> bool,
) -> C {
    let chosen = view.choose(problem.clone(), candidates.clone());
    let others: Vec<(C, f64)> = candidates.iter().filter(|(way, _)| !is_strassen(way)).cloned().collect();
    if others.len() == candidates.len() || is_stored(&chosen) {
        return chosen;
    }
    let cheapest = candidates.iter().min_by(|(_, a), (_, b)| a.total_cmp(b));
    let estimated = cheapest.is_some_and(|(way, _)| is_strassen(way));
    let other = view.choose(problem.clone(), others);
    // What was estimated to be slower would not be stored if the weights did suit.
    if estimated && is_stored(&other) || !suits() { other } else { view.choose(problem, candidates) }
}

/// How constant right matrices of one size are multiplied by.
#[derive(Clone, Copy)]
pub(super) enum Form {
    Single(Layout),
    /// In quarters of that layout.
    Strassen(Layout),
    Bf16(Layout),
}

impl Form {
    /// The fastest form for `problem` in the precision of `view`, for left rows that are stored in bfloat16 or not. `suits` says
    /// whether the matrices may be computed by [`gemm_strassen`](gemm::gemm_strassen): it reads them, and is asked only where
    /// nothing else tells.
    pub(super) fn pick(
        view: &NodeView,
        problem: &Problem,
        rounded: bool,
        suits: impl FnOnce() -> bool,
    ) -> Form {
        let single = gemm::candidates(view.level, problem);
        let mut candidates: Vec<(Form, f64)> =
            single.into_iter().map(|one| (Form::Single(one.layout), one.cost)).collect();
        if view.prefers_bf16() {
            let rounding = if rounded { 0.0 } else { gemm::rounding_cost(problem) };
            let brain = gemm::candidates_bf16(view.level, problem);
            candidates.extend(brain.into_iter().map(|one| (Form::Bf16(one.layout), one.cost + rounding)));
        } else {
            let strassen = gemm::candidates_strassen(view.level, problem);
            candidates.extend(strassen.into_iter().map(|one| (Form::Strassen(one.layout), one.cost)));
        }
        let Problem { m, n, k } = *problem;
        let name = move || format!("product {m}x{n}x{k}");
        let is_strassen = |form: &Form| matches!(form, Form::Strassen(_));
        let is_stored = |form: &Form| form.is_stored(view);
        choose_suited(view, name, candidates, is_strassen, is_stored, suits)
    }

    /// Whether its first block is stored.
    fn is_stored(self, view: &NodeView) -> bool {
        match self {
            Form::Single(layout) => PackedMatrix::is_stored(&layout, ORIGIN, view.packing),
            Form::Strassen(layout) => PackedStrassen::is_stored(&layout, ORIGIN, view.packing),
            Form::Bf16(_) => false,
        }
    }

    /// The fastest form of bfloat16.
    pub(super) fn bf16(view: &NodeView, problem: &Problem) -> Form {
        Form::Bf16(gemm::candidates_bf16(view.level, problem)[0].layout)
    }

    /// Whether it is of bfloat16.
    pub(super) fn is_bf16(self) -> bool {
        matches!(self, Form::Bf16(_))
    }

    /// Packs `factor` times the `k × n` matrix whose elements of a row and of a column are `strides` apart.
    pub(super) fn pack(
        self,
        view: &NodeView,
        k: usize,
        weights: &[f32],
        strides: [usize; 2],
        factor: f32,
    ) -> RightMatrix {
        let scaled = || -> Cow<[f32]> {
            if factor == 1.0 { Cow::Borrowed(weights) } else { weights.iter().map(|&w| w * factor).collect() }
        };
        match self {
            Form::Single(layout) => {
                RightMatrix::Single(PackedMatrix::prepare(layout, ORIGIN, view.packing, |out| {
                    layout.pack(&scaled(), strides[0], strides[1], out, Part::WHOLE);
                }))
            }
            Form::Strassen(layout) => {
                RightMatrix::Strassen(PackedStrassen::prepare(layout, ORIGIN, view.packing, scaled, strides))
            }
            Form::Bf16(layout) => {
                RightMatrix::Bf16(PackedBf16::prepare(layout, k, view.packing, |row, column| {
                    weights[row * strides[0] + column * strides[1]] * factor
                }))
            }
        }
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Form::Single(layout) | Form::Bf16(layout) => layout.fmt(f),
            Form::Strassen(layout) => write!(f, "strassen, {layout}"),
        }
    }
}

/// A packed right matrix.
pub(super) enum RightMatrix {
    Single(PackedMatrix),
    Strassen(PackedStrassen),
    Bf16(PackedBf16),
}

impl RightMatrix {
    /// 32-bit elements of scratch memory that each part needs for `m` left rows.
    pub(super) fn scratch_len(&self, m: usize) -> usize {
        match self {
            RightMatrix::Single(_) => 0,
            RightMatrix::Strassen(matrix) => matrix.scratch_len(m),
            RightMatrix::Bf16(matrix) => matrix.scratch_len(m),
        }
    }

    /// The panel that a part of a product of `m` rows reads first.
    pub(super) fn first_panel(&self, m: usize, part: Part) -> &[f32] {
        match self {
            RightMatrix::Single(matrix) => matrix.first_panel(m, part),
            RightMatrix::Strassen(matrix) => matrix.first_panel(m, part),
            RightMatrix::Bf16(_) => &[],
        }
    }

    /// The matrix, where it is of bfloat16.
    pub(super) fn as_bf16(&self) -> Option<&PackedBf16> {
        if let RightMatrix::Bf16(matrix) = self { Some(matrix) } else { None }
    }

    /// `c = epilogue(a · self)` for `m` rows without gaps.
    pub(super) fn multiply(
        &self,
        level: Level,
        m: usize,
        a: &[f32],
        epilogue: &Epilogue,
        c: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        match self {
            RightMatrix::Single(matrix) => {
                let (k, n) = (matrix.layout.k, matrix.layout.n);
                gemm::gemm(level, m, a, k, &matrix.layout, &matrix.data, epilogue, c, n, part);
            }
            RightMatrix::Strassen(matrix) => {
                let (k, n) = (matrix.k(), matrix.n());
                gemm::gemm_strassen(level, m, a, k, matrix, epilogue, c, n, scratch, part);
            }
            RightMatrix::Bf16(matrix) => {
                let (k, n) = (matrix.k(), matrix.layout().n);
                let scratch = bytemuck::cast_slice_mut(scratch);
                gemm::gemm_bf16(level, m, a, k, matrix, epilogue, c, n, scratch, part);
            }
        }
    }
}
