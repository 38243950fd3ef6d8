//! The exponential function and what is made of it.

use optimium_simd::Simd;

use super::{polynomial, power_of_two};

/// `x = n·ln 2 + r` with an integral `n` and `|r| <= ln 2 / 2`, and `exp(r) - 1`.
#[inline(always)]
fn reduce<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    // The high part has so few bits that its product with n is exact.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let r = simd.fma(n, simd.splat(-LN_2_HIGH), x);
    let r = simd.fma(n, simd.splat(-LN_2_LOW), r);
    let q = polynomial(simd, r, [0.5, 0.166_665_18, 0.041_666_206, 0.008_368_89, 0.001_395_048_9]);
    (n, simd.fma(simd.mul(r, r), q, r))
}

/// `eˣ`, within 2 units; right at overflow, for subnormal results, and 0 below them.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // Beyond these the result is 0 or infinite.
    let x = simd.min(simd.splat(89.0), simd.max(simd.splat(-105.0), x));
    let (n, p) = reduce(simd, x);
    simd.scale_by_small_power_of_two(simd.add(p, simd.splat(1.0)), n)
}

/// `2ˣ` for `x` up to 1, within 3 units; right for subnormal results, and 0 below them.
#[inline(always)]
pub(crate) fn exp2_up_to_one<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // Below this the result is 0.
    let x = simd.max(simd.splat(-151.0), x);
    let n = simd.round(x);
    let power = polynomial(
        simd,
        simd.sub(x, n),
        [1.0, std::f32::consts::LN_2, 0.240_222_83, 0.055_505_585, 0.009_669_691, 0.001_330_060_7],
    );
    simd.scale_by_small_power_of_two(power, n)
}

/// `eˣ - 1`, within 3 units, near zero too.
#[inline(always)]
pub fn expm1<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // Below the lower bound the result is -1, above the upper one infinite.
    let x = simd.min(simd.splat(89.0), simd.max(simd.splat(-20.0), x));
    let (n, p) = reduce(simd, x);
    let one = simd.splat(1.0);
    let inverse = power_of_two(simd, simd.max(simd.splat(-126.0), simd.neg(n)));
    simd.scale_by_power_of_two(simd.add(p, simd.sub(one, inverse)), n)
}

/// `tanh x`, within 4 units.
#[inline(always)]
pub fn tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // From the bound on the result is 1. With t = exp(2|x|) - 1 it is t / (t + 2).
    let double = simd.min(simd.splat(20.0), simd.abs(simd.add(x, x)));
    let (n, p) = reduce(simd, double);
    let power = power_of_two(simd, n);
    let t = simd.fma(power, p, simd.sub(power, simd.splat(1.0)));
    simd.copysign(simd.div(t, simd.add(t, simd.splat(2.0))), x)
}

/// `1 / (1 + e⁻ˣ)`, within 3 units, for subnormal results too.
#[inline(always)]
pub fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let e = exp(simd, simd.neg(simd.abs(x)));
    let numerator = simd.select(simd.lt(x, simd.splat(0.0)), e, one);
    simd.div(numerator, simd.add(one, e))
}
