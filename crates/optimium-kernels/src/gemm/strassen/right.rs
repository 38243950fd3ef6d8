//! The packed sums of quarters of the right matrix.

use std::borrow::Cow;

use optimium_simd::{Simd, SimdTask};

use super::super::layout::{Layout, Panel};
use super::balance::{all_magnitudes, column_factors, scaled};
use crate::{Packed, Packing, Part, SharedSlice};

/// How many sums there are: one for each product.
pub(super) const PRODUCTS: usize = 7;

/// The factors of B₁₁, B₁₂, B₂₁ and B₂₂ in each sum.
const FACTORS: [[i8; 4]; PRODUCTS] =
    [[1, 0, 0, 0], [0, 0, 1, 0], [1, -1, 0, 1], [0, -1, 0, 1], [-1, 1, 1, -1], [-1, 1, 0, 0], [0, 0, 0, 1]];

/// A right matrix in the form that [`gemm_strassen`](super::gemm_strassen()) takes: sums of its quarters, each packed.
#[derive(Clone, Debug)]
pub struct PackedStrassen {
    /// The form of a quarter.
    pub(super) layout: Layout,
    /// The sums, one after the other.
    pub(super) data: Packed<f32>,
    /// What results are to be multiplied by, powers of two, one a column, where columns were scaled to be alike.
    pub(super) factors: Option<Packed<f32>>,
}

impl PackedStrassen {
    /// The matrix of twice as many rows and columns as `layout`, whose element of row `i` and column `j` is
    /// `b[i * row_stride + j * column_stride]`, of which one stride is 1. `b` is asked for only where the block is not stored;
    /// `origin` says how it is made of the weights, and is part of the block's [form](Packing::block). The sums are rounded
    /// once. Columns that differ are scaled by powers of two before. Results are as exact as the module says where the matrix
    /// [suits](super::suits_strassen).
    ///
    /// # Panics
    /// Where neither stride is 1, or `b` is too short for them.
    pub fn prepare<'a>(
        layout: Layout,
        origin: &str,
        packing: &Packing,
        b: impl FnOnce() -> Cow<'a, [f32]>,
        [row_stride, column_stride]: [usize; 2],
    ) -> PackedStrassen {
        let data = packing.block(form_of(&layout, origin), block_len(&layout), |out| {
            let by_rows = column_stride == 1;
            assert!(by_rows || row_stride == 1, "strides of {row_stride} and {column_stride}");
            let lines = if by_rows { layout.k } else { layout.n };
            let length = if by_rows { layout.n } else { layout.k };
            let stride = if by_rows { row_stride } else { column_stride };
            let offsets = [0, layout.n * column_stride, layout.k * row_stride];
            let quarters = [offsets[0], offsets[1], offsets[2], offsets[1] + offsets[2]];
            let strides = if by_rows { [length, 1] } else { [1, length] };
            let (mut b, mut sums) = (b(), vec![0.0; lines * length]);
            let (out, undone) = out.split_at_mut(PRODUCTS * layout.len());
            undone.fill(1.0);
            let (size, all_strides) = ([2 * layout.k, 2 * layout.n], [row_stride, column_stride]);
            let [_, columns] = all_magnitudes(layout.level, size, &b, all_strides);
            if let Some(factors) = column_factors(&columns) {
                b = Cow::Owned(scaled(&b, size, all_strides, &factors));
                undone.iter_mut().zip(&factors).for_each(|(undone, factor)| *undone = 1.0 / factor);
            }
            for (factors, out) in FACTORS.iter().zip(out.chunks_exact_mut(layout.len().max(1))) {
                let out = SharedSlice::new(out);
                if let Some(quarter) = single(factors) {
                    layout.pack(&b[quarters[quarter]..], row_stride, column_stride, out, Part::WHOLE);
                } else {
                    layout.level.run(Sums { b: &b, quarters, stride, length, factors, out: &mut sums });
                    layout.pack(&sums, strides[0], strides[1], out, Part::WHOLE);
                }
            }
        });
        let factors = data.part(PRODUCTS * layout.len()..block_len(&layout));
        let scales = factors.iter().any(|&factor| factor != 1.0);
        PackedStrassen { layout, data, factors: scales.then_some(factors) }
    }

    /// Whether [`prepare`](PackedStrassen::prepare) would find the next block stored: its matrix was looked at before.
    pub fn is_stored(layout: &Layout, origin: &str, packing: &Packing) -> bool {
        packing.has_stored::<f32>(form_of(layout, origin), block_len(layout))
    }

    /// The form of a quarter.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Rows of the matrix.
    pub fn k(&self) -> usize {
        2 * self.layout.k
    }

    /// Columns of the matrix.
    pub fn n(&self) -> usize {
        2 * self.layout.n
    }

    /// The panel that this part of a product of `m` rows reads first, if it has one.
    pub fn first_panel(&self, m: usize, part: Part) -> &[f32] {
        let (pairs, panels) = super::share(part, m, &self.layout);
        if pairs.is_empty() || panels.is_empty() {
            &[]
        } else {
            self.panel(0, self.layout.panel(panels.start))
        }
    }

    /// The sum of that index.
    pub(super) fn sum(&self, index: usize) -> &[f32] {
        &self.data[index * self.layout.len()..][..self.layout.len()]
    }

    /// A panel of the sum of that index.
    pub(super) fn panel(&self, index: usize, panel: Panel) -> &[f32] {
        &self.sum(index)[panel.offset..][..panel.vectors * self.layout.lanes() * self.layout.k]
    }
}

/// Elements of the sums and the factors.
fn block_len(layout: &Layout) -> usize {
    (PRODUCTS * layout.len()).saturating_add(2 * layout.n)
}

/// All that the sums depend on besides the matrix.
fn form_of(layout: &Layout, origin: &str) -> String {
    format!("strassen of scaled columns, {origin}, {layout}")
}

/// The quarter that is the sum by itself, if one is.
fn single(factors: &[i8; 4]) -> Option<usize> {
    let others = factors.iter().filter(|&&factor| factor != 0).count() - 1;
    factors.iter().position(|&factor| factor == 1).filter(|_| others == 0)
}

/// The sum of four quarters, which start at `quarters`, in lines of `length` elements, `stride` apart in `b` and without gaps
/// in `out`.
struct Sums<'a> {
    b: &'a [f32],
    quarters: [usize; 4],
    stride: usize,
    length: usize,
    factors: &'a [i8; 4],
    out: &'a mut [f32],
}

impl SimdTask for Sums<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let factors = self.factors.map(f64::from);
        for (line, out) in self.out.chunks_exact_mut(self.length.max(1)).enumerate() {
            let [b11, b12, b21, b22] =
                self.quarters.map(|quarter| &self.b[quarter + line * self.stride..][..self.length]);
            for ((((out, &b11), &b12), &b21), &b22) in out.iter_mut().zip(b11).zip(b12).zip(b21).zip(b22) {
                let product = |factor: usize, b: f32| factors[factor] * f64::from(b);
                *out = (product(0, b11) + product(1, b12) + product(2, b21) + product(3, b22)) as f32;
            }
        }
    }
}
