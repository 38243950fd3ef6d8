//! Rows and columns of `f32` combined to one value each.

use optimium_simd::Simd;

use crate::math;

/// An associative combination.
pub(crate) trait Fold: Copy {
    /// What changes nothing.
    const IDENTITY: f32;
    /// Lane by lane.
    fn combine<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32;
    /// Of all lanes.
    fn lanes<S: Simd>(simd: S, a: S::F32) -> f32;
}

/// Addition.
#[derive(Clone, Copy)]
pub(crate) struct Add;
/// Multiplication.
#[derive(Clone, Copy)]
pub(crate) struct Multiply;
/// The maximum; NaN wins.
#[derive(Clone, Copy)]
pub(crate) struct Largest;
/// The minimum; NaN wins.
#[derive(Clone, Copy)]
pub(crate) struct Smallest;

impl Fold for Add {
    const IDENTITY: f32 = 0.0;
    #[inline(always)]
    fn combine<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.add(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, a: S::F32) -> f32 {
        simd.reduce_add(a)
    }
}

impl Fold for Multiply {
    const IDENTITY: f32 = 1.0;
    #[inline(always)]
    fn combine<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(a, b)
    }
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, a: S::F32) -> f32 {
        let mut lanes = [1.0; 16];
        const { assert!(S::LANES <= 16) };
        // SAFETY: the array has at least LANES elements.
        unsafe { simd.store(lanes.as_mut_ptr(), a) };
        lanes.iter().product()
    }
}

impl Fold for Largest {
    const IDENTITY: f32 = f32::NEG_INFINITY;
    #[inline(always)]
    fn combine<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.select(simd.eq(a, a), simd.max(a, b), a)
    }
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, a: S::F32) -> f32 {
        if has_nan(simd, a) { f32::NAN } else { simd.reduce_max(a) }
    }
}

impl Fold for Smallest {
    const IDENTITY: f32 = f32::INFINITY;
    #[inline(always)]
    fn combine<S: Simd>(simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.select(simd.eq(a, a), simd.min(a, b), a)
    }
    #[inline(always)]
    fn lanes<S: Simd>(simd: S, a: S::F32) -> f32 {
        if has_nan(simd, a) { f32::NAN } else { simd.reduce_min(a) }
    }
}

#[inline(always)]
fn has_nan<S: Simd>(simd: S, a: S::F32) -> bool {
    simd.reduce_add(simd.select(simd.eq(a, a), simd.splat(0.0), simd.splat(1.0))) > 0.0
}

/// What each element contributes, given the amount that its row or column is shifted by.
///
/// A trait and no closure: a closure cannot be forced to be inlined, and what is not inlined into the
/// task has none of its instruction set's features.
pub(crate) trait Term: Copy {
    /// Lane by lane.
    fn of<S: Simd>(self, simd: S, x: S::F32, shift: S::F32) -> S::F32;
}

/// `x`
#[derive(Clone, Copy)]
pub(crate) struct Identity;
/// `|x|`
#[derive(Clone, Copy)]
pub(crate) struct Absolute;
/// `x²`
#[derive(Clone, Copy)]
pub(crate) struct Square;
/// `(x - shift)²`
#[derive(Clone, Copy)]
pub(crate) struct CentredSquare;
/// `exp(x - shift)`
#[derive(Clone, Copy)]
pub(crate) struct ShiftedExp;

impl Term for Identity {
    #[inline(always)]
    fn of<S: Simd>(self, _: S, x: S::F32, _: S::F32) -> S::F32 {
        x
    }
}

impl Term for Absolute {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, _: S::F32) -> S::F32 {
        simd.abs(x)
    }
}

impl Term for Square {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, _: S::F32) -> S::F32 {
        simd.mul(x, x)
    }
}

impl Term for CentredSquare {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, shift: S::F32) -> S::F32 {
        let centred = simd.sub(x, shift);
        simd.mul(centred, centred)
    }
}

impl Term for ShiftedExp {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32, shift: S::F32) -> S::F32 {
        math::exp(simd, simd.sub(x, shift))
    }
}

/// Elements that go to one set of accumulators before these join the total: so the error of a sum grows
/// with the number of blocks and not with that of elements.
const BLOCK: usize = 2048;

/// Accumulators of a row, so that the additions need not wait for each other.
const CHAINS: usize = 4;

/// The combination of the terms of a row of `n` elements.
///
/// # Safety
/// They are readable.
#[inline(always)]
pub(crate) unsafe fn fold_row<S: Simd, F: Fold>(
    simd: S,
    x: *const f32,
    n: usize,
    term: impl Term,
    shift: S::F32,
) -> f32 {
    let identity = simd.splat(F::IDENTITY);
    let mut total = identity;
    let mut i = 0;
    while i < n {
        let end = n.min(i + BLOCK);
        let mut sums = [identity; CHAINS];
        while i + CHAINS * S::LANES <= end {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: in bounds by the loop's condition.
                let v = unsafe { simd.load(x.add(i + j * S::LANES)) };
                *sum = F::combine(simd, *sum, term.of(simd, v, shift));
            }
            i += CHAINS * S::LANES;
        }
        while i + S::LANES <= end {
            // SAFETY: in bounds by the loop's condition.
            let v = unsafe { simd.load(x.add(i)) };
            sums[0] = F::combine(simd, sums[0], term.of(simd, v, shift));
            i += S::LANES;
        }
        if i < end {
            let mask = simd.first(end - i);
            // SAFETY: the mask selects the elements that are left.
            let last = term.of(simd, unsafe { simd.load_masked(x.add(i), mask) }, shift);
            sums[1] = F::combine(simd, sums[1], simd.select(mask, last, identity));
            i = end;
        }
        let (left, right) = (F::combine(simd, sums[0], sums[1]), F::combine(simd, sums[2], sums[3]));
        total = F::combine(simd, total, F::combine(simd, left, right));
    }
    F::lanes(simd, total)
}

/// Adds to `totals` the combination of the terms down `rows` rows, of `V` vectors side by side each. As many rows go to one
/// set of accumulators as there are sets, so that the error of a sum grows with the root of the number of rows. The last
/// vector is cut to `last` lanes, and where it is cut, lanes beyond hold anything.
///
/// # Safety
/// The rows are readable, `stride` elements apart.
#[inline(always)]
pub(crate) unsafe fn fold_columns<S: Simd, F: Fold, const V: usize>(
    simd: S,
    x: *const f32,
    rows: usize,
    stride: usize,
    last: S::Mask,
    totals: &mut [S::F32; V],
    term: impl Term,
    shifts: &[S::F32; V],
) {
    let (mut row, block) = (0, rows.isqrt().max(1));
    while row < rows {
        let end = rows.min(row + block);
        // Copies of their own, which stay in registers.
        let (mut sums, shifts) = ([simd.splat(F::IDENTITY); V], *shifts);
        while row < end {
            // SAFETY: the row is readable, its last vector in the selected lanes.
            unsafe {
                let x = x.add(row * stride);
                for j in 0..V - 1 {
                    let v = term.of(simd, simd.load(x.add(j * S::LANES)), shifts[j]);
                    sums[j] = F::combine(simd, sums[j], v);
                }
                let v = simd.load_masked(x.add((V - 1) * S::LANES), last);
                sums[V - 1] = F::combine(simd, sums[V - 1], term.of(simd, v, shifts[V - 1]));
            }
            row += 1;
        }
        for j in 0..V {
            totals[j] = F::combine(simd, totals[j], sums[j]);
        }
    }
}
