//! Matrix products with bfloat16 factors.
//!
//! Both matrices are rounded to bfloat16, the right one when it is packed and the left one as it is read, if it is not bfloat16
//! already; the products are exact, and summed in `f32` like those of [`gemm`](super::gemm()). The loops are the same: two
//! neighbours in k make one element of 32 bits. Results are stored in either type.

use optimium_simd::{Level, Simd, SimdTask};

use super::arithmetic::Arithmetic;
use super::choice::{Candidate, Problem, candidates_of};
use super::layout::Layout;
use super::lines::{Lines, Run};
use super::run::{Product, share};
use super::tile::strip;
use crate::epilogue::Epilogue;
use crate::{Packed, Packing, Part, Real, SharedSlice};

/// A right matrix of bfloat16 in packed form.
#[derive(Clone, Debug)]
pub struct PackedBf16 {
    k: usize,
    layout: Layout,
    data: Packed<u32>,
}

/// Left rows of one piece.
const WHOLE_ROWS: &[Run] = &[Run { left: 0, right: 0 }];

/// The level whose kernels multiply bfloat16 for `level`.
fn effective(level: Level) -> Level {
    if level.has_bf16() { Level::Avx512 } else { Level::Portable }
}

/// The ways to compute `problem` with bfloat16 at `level`, the cheapest first. Costs compare with those of
/// [`candidates`](super::candidates) where the level [has](Level::has_bf16) such products.
pub fn candidates_bf16(level: Level, problem: &Problem) -> Vec<Candidate> {
    let pairs = Problem { k: problem.k.div_ceil(2), ..*problem };
    candidates_of(Arithmetic::BrainPairs, effective(level), &pairs)
}

/// Estimated cycles to round the left rows of `problem`, on the scale of a candidate's cost.
pub fn rounding_cost(problem: &Problem) -> f64 {
    const CYCLES_PER_ELEMENT: f64 = 0.15;
    problem.m as f64 * problem.k as f64 * CYCLES_PER_ELEMENT
}

impl PackedBf16 {
    /// Packs the `k × n` matrix `b`, whose element of row `i` and column `j` is `b[i * row_stride + j * column_stride]`, for
    /// the cheapest way to multiply it by `m` rows.
    ///
    /// # Panics
    /// Where `b` is too short for the strides.
    pub fn new(
        level: Level,
        problem: &Problem,
        b: &[f32],
        row_stride: usize,
        column_stride: usize,
        packing: &Packing,
    ) -> PackedBf16 {
        let layout = candidates_bf16(level, problem)[0].layout;
        PackedBf16::prepare(layout, problem.k, packing, |i, j| b[i * row_stride + j * column_stride])
    }

    /// The matrix with `k` rows and those elements, for a layout of [`candidates_bf16`].
    ///
    /// # Panics
    /// Where the layout is for another `k`, or not for bfloat16.
    pub fn prepare(
        layout: Layout,
        k: usize,
        packing: &Packing,
        element: impl Fn(usize, usize) -> f32,
    ) -> PackedBf16 {
        assert!(
            layout.arithmetic == Arithmetic::BrainPairs && layout.k == k.div_ceil(2),
            "{layout} for k {k}"
        );
        let n = layout.n;
        let data = packing.block(format_args!("bfloat16, {layout}"), layout.len(), |out| {
            let brain = |i: usize, j: usize| {
                let x = if i < k { element(i, j) } else { 0.0 };
                u32::from(half::bf16::from_f32(x).to_bits())
            };
            let pair = |i: usize, j: usize| brain(2 * i, j) | brain(2 * i + 1, j) << 16;
            let pairs: Vec<u32> = (0..layout.k * n).map(|at| pair(at / n, at % n)).collect();
            let out = SharedSlice::new(bytemuck::cast_slice_mut(out));
            layout.pack(bytemuck::cast_slice(&pairs), n, 1, out, Part::WHOLE);
        });
        PackedBf16 { k, layout, data }
    }

    /// Rows of the matrix.
    pub fn k(&self) -> usize {
        self.k
    }

    /// The form of the packed pairs.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The packed pairs, as elements of the layout.
    pub(crate) fn packed(&self) -> &[f32] {
        bytemuck::cast_slice(&self.data)
    }

    /// Elements of scratch memory that each part of [`gemm_bf16`] needs for `m` rows.
    pub fn scratch_len(&self, m: usize) -> usize {
        m.min(block_rows(self.layout.k)) * self.layout.k
    }

    /// This part's share of a product with `m` left rows, of which `round` writes those from a row on, as many as it is given
    /// memory for.
    ///
    /// # Safety
    /// The epilogue is checked for `m` rows of all columns, and `c` holds them; parts write it at once.
    ///
    /// # Panics
    /// Where `scratch` is shorter than [`scratch_len`](PackedBf16::scratch_len).
    unsafe fn multiply<T: Real>(
        &self,
        m: usize,
        mut round: impl FnMut(usize, &mut [u32]),
        epilogue: &Epilogue<T>,
        c: SharedSlice<T>,
        c_stride: usize,
        scratch: &mut [u32],
        part: Part,
    ) {
        assert!(scratch.len() >= self.scratch_len(m), "{} elements of scratch memory", scratch.len());
        let pairs = self.layout.k;
        let (rows, panels) = share(part, m, &self.layout);
        let blocks = rows.len().div_ceil(block_rows(pairs));
        for block in 0..blocks {
            let (offset, count) = strip(rows.len(), blocks, block);
            let first = rows.start + offset;
            let rounded = &mut scratch[..count * pairs];
            round(first, rounded);
            let result = Lines { start: first, ..Lines::straight(1) };
            let product = Product {
                result,
                ..self.product(m, rounded.as_ptr(), Lines::straight(pairs), epilogue, c, c_stride)
            };
            // SAFETY: the left rows were just written; the rest is the caller's promise.
            unsafe { product.run(0..count, panels.clone()) };
        }
    }

    /// The product with `m` left rows of pairs that lie at the positions of `left` behind `a`. Its promises are those of
    /// [`Product::run`].
    pub(crate) fn product<'a, T: Real>(
        &'a self,
        m: usize,
        a: *const u32,
        left: Lines,
        epilogue: &'a Epilogue<T>,
        c: SharedSlice<T>,
        c_stride: usize,
    ) -> Product<'a, T> {
        let packed = bytemuck::cast_slice(&self.data);
        product_of((&self.layout, packed), m, a, left, epilogue, c, c_stride)
    }
}

/// As [`PackedBf16::product`], with a matrix that is packed somewhere.
fn product_of<'a, T: Real>(
    (layout, packed): (&'a Layout, &'a [f32]),
    m: usize,
    a: *const u32,
    left: Lines,
    epilogue: &'a Epilogue<T>,
    c: SharedSlice<T>,
    c_stride: usize,
) -> Product<'a, T> {
    Product {
        layout,
        packed,
        following: epilogue.following,
        a: a.cast(),
        left,
        runs: WHOLE_ROWS,
        run_length: layout.k,
        row_len: layout.k,
        result: Lines::straight(1),
        c: c.as_mut_ptr(),
        c_stride,
        column: 0,
        epilogue,
        single_row: m == 1,
    }
}

/// `C[m,n] = A[m,k] · B[k,n]` as [`gemm_bf16`], with pairs that are packed by a layout of [`candidates_bf16`] in `packed`. `scratch`
/// has room for all rows.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub(crate) fn gemm_pairs(
    level: Level,
    [m, k]: [usize; 2],
    a: &[f32],
    a_stride: usize,
    layout: &Layout,
    packed: &[f32],
    c: SharedSlice<f32>,
    c_stride: usize,
    scratch: &mut [u32],
) {
    assert!(layout.arithmetic == Arithmetic::BrainPairs && layout.k == k.div_ceil(2), "{layout} for k {k}");
    if m == 0 || layout.n == 0 {
        return;
    }
    let rows = &mut scratch[..m * layout.k];
    round_rows(level, a, a_stride, k, rows);
    multiply_pairs(m, rows, layout, packed, c, c_stride);
}

/// The same of `m` rows of pairs, one behind the other in `rows`.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub(crate) fn multiply_pairs(
    m: usize,
    rows: &[u32],
    layout: &Layout,
    packed: &[f32],
    c: SharedSlice<f32>,
    c_stride: usize,
) {
    assert!(layout.arithmetic == Arithmetic::BrainPairs, "{layout} for pairs");
    if m == 0 || layout.n == 0 {
        return;
    }
    super::check_bounds(m, [layout.k, layout.n], [rows.len(), layout.k], [c.len(), c_stride]);
    let epilogue = Epilogue::default();
    let left = Lines::straight(layout.k);
    let product = product_of((layout, packed), m, rows.as_ptr(), left, &epilogue, c, c_stride);
    // SAFETY: the left rows and the result are checked to hold all rows.
    unsafe { product.run(0..m, 0..layout.panels()) };
}

/// Rounds rows of `k` elements, `stride` apart, to pairs; as many rows as `out` holds.
pub(crate) fn round_rows<L: Real>(level: Level, a: &[L], stride: usize, k: usize, out: &mut [u32]) {
    level.run_bf16(RoundRows { a, stride, k, out });
}

/// Rows of so many pairs that are rounded at once, so that they stay in the second-level cache beside a panel.
fn block_rows(pairs: usize) -> usize {
    const BLOCK_LEN: usize = 64 << 10;
    const BLOCK_ROWS: usize = 96;
    (BLOCK_LEN / pairs.max(1)).max(BLOCK_ROWS)
}

/// The pairs that rows of `k` elements `stride` apart consist of, where they do.
pub(crate) fn as_pairs<L: Real>(a: &[L], k: usize, stride: usize) -> Option<*const u32> {
    let pairs: *const u32 = a.as_ptr().cast();
    let possible = L::ROUNDED && k.is_multiple_of(2) && stride.is_multiple_of(2) && pairs.is_aligned();
    possible.then_some(pairs)
}

/// `C[m,n] = epilogue(A[m,k] · B[k,n])` with A and B rounded to bfloat16 and sums in `f32`.
///
/// Rows of A and C lie as for [`gemm`](super::gemm()). `scratch` has [`PackedBf16::scratch_len`] elements of this part's own, with
/// any content; rows of bfloat16 are read where they lie, if `k` and the stride are even. Subnormal numbers may count as zeros.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub fn gemm_bf16<L: Real, T: Real>(
    level: Level,
    m: usize,
    a: &[L],
    a_stride: usize,
    b: &PackedBf16,
    epilogue: &Epilogue<T>,
    c: SharedSlice<T>,
    c_stride: usize,
    scratch: &mut [u32],
    part: Part,
) {
    let (k, n) = (b.k, b.layout.n);
    if m == 0 || n == 0 {
        return;
    }
    super::check_bounds(m, [k, n], [a.len(), a_stride], [c.len(), c_stride]);
    epilogue.check(m, n);
    if let Some(pairs) = as_pairs(a, k, a_stride) {
        let left = Lines::straight(a_stride / 2);
        let (rows, panels) = share(part, m, &b.layout);
        // SAFETY: the slices are checked to hold all rows, and parts have rows or columns of their own.
        return unsafe { b.product(m, pairs, left, epilogue, c, c_stride).run(rows, panels) };
    }
    let round = |first: usize, out: &mut [u32]| {
        let rows = a.get(first * a_stride..).unwrap_or_default();
        round_rows(level, rows, a_stride, k, out);
    };
    // SAFETY: the result is checked to hold all rows, and parts have rows or columns of their own.
    unsafe { b.multiply(m, round, epilogue, c, c_stride, scratch, part) };
}

/// Rounds rows of `k` elements, which start `stride` apart in `a`, to pairs of bfloat16; an odd last one gets a zero for a
/// neighbour. There are as many rows as `out` holds.
struct RoundRows<'a, L> {
    a: &'a [L],
    stride: usize,
    k: usize,
    out: &'a mut [u32],
}

impl<L: Real> SimdTask for RoundRows<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let pairs = self.k.div_ceil(2);
        for (i, out) in self.out.chunks_exact_mut(pairs.max(1)).enumerate() {
            let row = &self.a[i * self.stride..][..self.k];
            if self.k % 2 == 1 {
                out[pairs - 1] = 0;
            }
            L::round(simd, row, &mut bytemuck::cast_slice_mut(out)[..self.k]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::epilogue::Residual;
    use crate::gemm::Tile;
    use half::bf16;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    /// A product, its residual rounded already.
    struct Case {
        sizes: [usize; 3],
        stride: usize,
        a: Vec<f32>,
        b: Vec<f32>,
        bias: Vec<f32>,
        residual: Vec<f32>,
    }

    fn rounded(x: &[f32]) -> Vec<bf16> {
        x.iter().map(|&x| bf16::from_f32(x)).collect()
    }

    fn widened(x: &[bf16]) -> Vec<f32> {
        x.iter().map(|x| x.to_f32()).collect()
    }

    impl Case {
        fn new([m, n, k]: [usize; 3]) -> Case {
            let mut random = Random::new((m * 1000 + n * 10 + k) as u64);
            let stride = k + 3 + m % 2;
            let residual = widened(&rounded(&random.floats(m * n)));
            let (a, b) = (random.floats(m * stride), random.floats(k * n));
            Case { sizes: [m, n, k], stride, a, b, bias: random.floats(n), residual }
        }

        /// The sums of products of rounded factors, added up in `f64`.
        fn expected(&self) -> Vec<f32> {
            let [m, n, k] = self.sizes;
            let round = |x: f32| bf16::from_f32(x).to_f64();
            let element = |at: usize| {
                let (i, j) = (at / n, at % n);
                let product = |p| round(self.a[i * self.stride + p]) * round(self.b[p * n + j]);
                let sum: f64 = (0..k).map(product).sum();
                (sum as f32 + self.bias[j] + self.residual[at]).max(0.0)
            };
            (0..m * n).map(element).collect()
        }

        fn run<L: Real, T: Real>(
            &self,
            level: Level,
            packed: &PackedBf16,
            a: &[L],
            residual: &[T],
            parts: usize,
        ) -> Vec<T> {
            let [m, n, _] = self.sizes;
            let residual = Residual { data: residual.into(), stride: n, after_activation: false };
            let epilogue = Epilogue {
                bias: Some(&self.bias),
                residual: Some(residual),
                activation: Activation::Relu,
                ..Epilogue::default()
            };
            let mut c = vec![T::default(); m * n];
            let shared = SharedSlice::new(&mut c);
            for index in 0..parts {
                let mut scratch = vec![u32::MAX; packed.scratch_len(m)];
                let part = Part { index, count: parts };
                gemm_bf16(level, m, a, self.stride, packed, &epilogue, shared, n, &mut scratch, part);
            }
            c
        }
    }

    fn check(sizes: [usize; 3]) -> Result<(), String> {
        let [_, n, k] = sizes;
        let case = Case::new(sizes);
        let (expected, a, residual) = (case.expected(), rounded(&case.a), rounded(&case.residual));
        for level in [Level::Portable, Level::best()] {
            for tile in Tile::all(effective(level)) {
                let layout = Layout {
                    arithmetic: Arithmetic::BrainPairs,
                    ..Layout::new(effective(level), tile, k.div_ceil(2), n)
                };
                let packed = PackedBf16::prepare(layout, k, &Packing::default(), |i, j| case.b[i * n + j]);
                let whole = case.run(level, &packed, &case.a, &case.residual, 1);
                compare(&whole, &expected, Tolerance::dot(k)).map_err(|e| format!("{layout}: {e}"))?;
                let once = widened(&rounded(&whole));
                let others = [
                    ("3 parts", case.run(level, &packed, &case.a, &case.residual, 3), &whole),
                    ("rounded rows", case.run(level, &packed, &a, &case.residual, 2), &whole),
                    ("rounded results", widened(&case.run(level, &packed, &case.a, &residual, 2)), &once),
                    ("all rounded", widened(&case.run(level, &packed, &a, &residual, 1)), &once),
                ];
                for (name, result, expected) in others {
                    compare(&result, expected, Tolerance::Exact)
                        .map_err(|e| format!("{layout}, {name}: {e}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn products_of_rounded_factors() {
        let shapes = [1, 2, 5, 6, 7, 12, 13, 25]
            .into_iter()
            .flat_map(|m| [1, 15, 16, 17, 33, 64, 65, 130].into_iter().map(move |n| [m, n, 11 + m % 7]));
        let deep =
            [[1, 64, 1], [3, 70, 300], [130, 40, 64], [700, 33, 501], [0, 5, 5], [5, 0, 5], [5, 20, 0]];
        each_case(shapes.chain(deep), |&sizes| check(sizes));
    }

    #[test]
    fn strides_of_the_right_matrix() {
        let (n, k) = (37, 21);
        let b = Random::new(3).floats(n * k);
        let transposed: Vec<f32> = (0..n * k).map(|at| b[at % k * n + at / k]).collect();
        let problem = Problem { m: 9, n, k };
        let packing = Packing::default();
        let plain = PackedBf16::new(Level::best(), &problem, &b, n, 1, &packing);
        let other = PackedBf16::new(Level::best(), &problem, &transposed, 1, k, &packing);
        assert_eq!(&plain.data[..], &other.data[..]);
    }
}
