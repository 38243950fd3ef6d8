//! The sums of quarters of the left matrix.

use std::ops::Range;

use optimium_simd::{Simd, SimdTask};

/// How many sums there are.
pub(super) const SUMS: usize = 4;

/// Writes the sums of pairs of rows: with A₁₁ and A₁₂ the halves of a pair's first row, A₂₁ and A₂₂ those of its second
/// one, which is zero where there is none,
///
/// | | |
/// |---|---|
/// | 0 | A₂₁ + A₂₂ |
/// | 1 | A₂₁ + A₂₂ − A₁₁ |
/// | 2 | A₁₁ − A₂₁ |
/// | 3 | A₁₁ + A₁₂ − A₂₁ − A₂₂ |
pub(super) struct LeftSums<'a> {
    /// The left matrix, the rows of all pairs, and the elements from one to the next.
    pub(super) a: *const f32,
    pub(super) rows: Range<usize>,
    pub(super) stride: usize,
    /// Elements of a half row.
    pub(super) half: usize,
    /// Where sum `s` of the pair `i` of these begins: `(s · pairs + i) · sum_stride`.
    pub(super) out: &'a mut [f32],
    pub(super) sum_stride: usize,
}

impl SimdTask for LeftSums<'_> {
    type Output = ();

    /// The caller promises that all rows are readable.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let count = self.rows.len().div_ceil(2);
        assert!(self.out.len() >= SUMS * count * self.sum_stride && self.half <= self.sum_stride);
        for (i, row) in self.rows.clone().step_by(2).enumerate() {
            let first = self.a.wrapping_add(row * self.stride);
            let second = (row + 1 < self.rows.end).then(|| first.wrapping_add(self.stride));
            for k in (0..self.half).step_by(S::LANES) {
                let rest = self.half - k;
                let targets: [usize; SUMS] = std::array::from_fn(|s| (s * count + i) * self.sum_stride + k);
                // SAFETY: the halves of existing rows are readable, and the sums lie in `out` by the assertion.
                unsafe {
                    let [a11, a12] = halves(simd, first.wrapping_add(k), self.half, rest);
                    let [a21, a22] = match second {
                        Some(second) => halves(simd, second.wrapping_add(k), self.half, rest),
                        None => [simd.splat(0.0); 2],
                    };
                    let of_second = simd.add(a21, a22);
                    let mixed = simd.sub(of_second, a11);
                    let sums = [of_second, mixed, simd.sub(a11, a21), simd.sub(a12, mixed)];
                    for (target, sum) in targets.into_iter().zip(sums) {
                        let target = self.out.as_mut_ptr().add(target);
                        if rest >= S::LANES {
                            simd.store(target, sum);
                        } else {
                            simd.store_masked(target, sum, simd.first(rest));
                        }
                    }
                }
            }
        }
    }
}

/// The vectors of both halves of a row, of which `rest` elements exist.
///
/// # Safety
/// They are readable at `row` and `half` elements behind it.
#[inline(always)]
unsafe fn halves<S: Simd>(simd: S, row: *const f32, half: usize, rest: usize) -> [S::F32; 2] {
    // SAFETY: forwarded; the mask selects the elements that exist.
    unsafe {
        if rest >= S::LANES {
            [simd.load(row), simd.load(row.add(half))]
        } else {
            let mask = simd.first(rest);
            [simd.load_masked(row, mask), simd.load_masked(row.add(half), mask)]
        }
    }
}
