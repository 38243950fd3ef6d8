//! Matrix products with bfloat16 factors.
//!
//! Both matrices are rounded to bfloat16, the right one when it is packed and the left one as it is read; the products
//! are exact, and summed in `f32` like those of [`gemm`](super::gemm()). The loops are the same: two neighbours in k make
//! one element of 32 bits.

use optimium_simd::{Level, Simd, SimdTask};

use super::arithmetic::Arithmetic;
use super::choice::{Candidate, Problem, candidates_of};
use super::layout::Layout;
use super::lines::Lines;
use super::run::{Product, share};
use super::tile::strip;
use crate::epilogue::Epilogue;
use crate::{Packed, Packing, Part, SharedSlice};

/// A right matrix of bfloat16 in packed form.
#[derive(Clone, Debug)]
pub struct PackedBf16 {
    k: usize,
    layout: Layout,
    data: Packed<u32>,
}

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
    pub(crate) unsafe fn multiply(
        &self,
        m: usize,
        mut round: impl FnMut(usize, &mut [u32]),
        epilogue: &Epilogue,
        c: SharedSlice<f32>,
        c_stride: usize,
        scratch: &mut [u32],
        part: Part,
    ) {
        assert!(scratch.len() >= self.scratch_len(m), "{} elements of scratch memory", scratch.len());
        let (layout, pairs) = (&self.layout, self.layout.k);
        let (rows, panels) = share(part, m, layout.panels());
        let blocks = rows.len().div_ceil(block_rows(pairs));
        for block in 0..blocks {
            let (offset, count) = strip(rows.len(), blocks, block);
            let first = rows.start + offset;
            let rounded = &mut scratch[..count * pairs];
            round(first, rounded);
            let product = Product {
                layout,
                packed: bytemuck::cast_slice(&self.data),
                following: &[],
                a: rounded.as_ptr().cast(),
                left: Lines::straight(pairs),
                runs: &[0],
                run_length: pairs,
                row_len: pairs,
                result: Lines { start: first, ..Lines::straight(1) },
                c: c.as_mut_ptr(),
                c_stride,
                column: 0,
                epilogue,
                single_row: m == 1,
            };
            // SAFETY: the left rows were just written; the rest is the caller's promise.
            unsafe { product.run(0..count, panels.clone()) };
        }
    }
}

/// Rows of so many pairs that are rounded at once, so that they stay in the second-level cache beside a panel.
fn block_rows(pairs: usize) -> usize {
    const BLOCK_LEN: usize = 64 << 10;
    const BLOCK_ROWS: usize = 96;
    (BLOCK_LEN / pairs.max(1)).max(BLOCK_ROWS)
}

/// `C[m,n] = epilogue(A[m,k] · B[k,n])` with A and B rounded to bfloat16 and sums in `f32`.
///
/// Rows of A and C lie as for [`gemm`](super::gemm()). `scratch` has [`PackedBf16::scratch_len`] elements of this part's own, with
/// any content. Subnormal numbers may count as zeros.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub fn gemm_bf16(
    level: Level,
    m: usize,
    a: &[f32],
    a_stride: usize,
    b: &PackedBf16,
    epilogue: &Epilogue,
    c: SharedSlice<f32>,
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
    let round = |first: usize, out: &mut [u32]| {
        let rows = a.get(first * a_stride..).unwrap_or_default();
        level.run_bf16(RoundRows { a: rows, stride: a_stride, k, out });
    };
    // SAFETY: the result is checked to hold all rows, and parts have rows or columns of their own.
    unsafe { b.multiply(m, round, epilogue, c, c_stride, scratch, part) };
}

/// Rounds rows of `k` elements, which start `stride` apart in `a`, to pairs of bfloat16; an odd last one gets a zero for a
/// neighbour. There are as many rows as `out` holds.
struct RoundRows<'a> {
    a: &'a [f32],
    stride: usize,
    k: usize,
    out: &'a mut [u32],
}

impl SimdTask for RoundRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let pairs = self.k.div_ceil(2);
        for (i, out) in self.out.chunks_exact_mut(pairs.max(1)).enumerate() {
            let row = &self.a[i * self.stride..][..self.k];
            if self.k % 2 == 1 {
                out[pairs - 1] = 0;
            }
            let out: &mut [u16] = bytemuck::cast_slice_mut(out);
            for (x, y) in row.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
                let mask = simd.first(x.len());
                // SAFETY: the mask and the count select the elements of the chunks, of which the second is no shorter.
                unsafe { simd.store_bf16(y.as_mut_ptr(), simd.load_masked(x.as_ptr(), mask), x.len()) };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::Activation;
    use crate::gemm::Tile;
    use half::bf16;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    /// The sums of products of rounded factors, added up in `f64`.
    fn expected([m, n, k]: [usize; 3], a: &[f32], stride: usize, b: &[f32], bias: &[f32]) -> Vec<f32> {
        let round = |x: f32| bf16::from_f32(x).to_f64();
        let element = |at: usize| {
            let (i, j) = (at / n, at % n);
            let sum: f64 = (0..k).map(|p| round(a[i * stride + p]) * round(b[p * n + j])).sum();
            (sum as f32 + bias[j]).max(0.0)
        };
        (0..m * n).map(element).collect()
    }

    fn check(sizes: [usize; 3]) -> Result<(), String> {
        let [m, n, k] = sizes;
        let mut random = Random::new((m * 1000 + n * 10 + k) as u64);
        let stride = k + 3;
        let (a, b, bias) = (random.floats(m * stride), random.floats(k * n), random.floats(n));
        let expected = expected(sizes, &a, stride, &b, &bias);
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
        let levels = [Level::Portable, Level::best()];
        for level in levels {
            for tile in Tile::all(effective(level)) {
                let layout = Layout {
                    arithmetic: Arithmetic::BrainPairs,
                    ..Layout::new(effective(level), tile, k.div_ceil(2), n)
                };
                let packed = PackedBf16::prepare(layout, k, &Packing::default(), |i, j| b[i * n + j]);
                let run = |parts: usize| {
                    let mut c = vec![7.0; m * n];
                    let shared = SharedSlice::new(&mut c);
                    for index in 0..parts {
                        let mut scratch = vec![u32::MAX; packed.scratch_len(m)];
                        let part = Part { index, count: parts };
                        gemm_bf16(level, m, &a, stride, &packed, &epilogue, shared, n, &mut scratch, part);
                    }
                    c
                };
                let whole = run(1);
                compare(&whole, &expected, Tolerance::dot(k)).map_err(|e| format!("{layout}: {e}"))?;
                compare(&run(3), &whole, Tolerance::Exact).map_err(|e| format!("{layout}, 3 parts: {e}"))?;
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
