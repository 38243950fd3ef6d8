//! The natural logarithm.

use optimium_simd::Simd;

use super::polynomial;

/// `ln x`, within 2 units; minus infinity at 0 and NaN below.
#[inline(always)]
pub fn log<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let (e, f) = decompose(simd, x);
    let y = log_of_mantissa(simd, e, f);
    let zero = simd.splat(0.0);
    let y = simd.select(simd.lt(zero, x), y, simd.splat(f32::NAN));
    let y = simd.select(simd.eq(x, zero), simd.splat(f32::NEG_INFINITY), y);
    simd.select(simd.eq(x, simd.splat(f32::INFINITY)), x, y)
}

/// `ln(1 + x)`, within 3 units, near zero too; minus infinity at -1 and NaN below.
#[inline(always)]
pub fn log1p<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let u = simd.add(one, x);
    // What the sum rounded away, to first order. For large x it is x - 1 that rounds.
    let large = simd.lt(one, x);
    let lost_small = simd.sub(x, simd.sub(u, one));
    let lost_large = simd.sub(one, simd.sub(u, x));
    let lost = simd.div(simd.select(large, lost_large, lost_small), u);
    let y = log(simd, u);
    // At the ends of the range (0 and infinity) the correction is not a number.
    let inside = simd.lt(simd.abs(y), simd.splat(f32::INFINITY));
    simd.select(inside, simd.add(y, lost), y)
}

/// `ln(1 + x)` of an `x` between 0 and 1, within 3 units.
#[inline(always)]
pub(crate) fn log1p_of_fraction<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // From √2 - 1 on with an exponent of one.
    let halved = simd.lt(simd.splat(std::f32::consts::SQRT_2 - 1.0), x);
    let one = simd.splat(1.0);
    let half = simd.mul(simd.sub(x, one), simd.splat(0.5));
    log_of_mantissa(simd, simd.select(halved, one, simd.splat(0.0)), simd.select(halved, half, x))
}

/// `x = (1 + f)·2ᵉ` with `√½ <= 1 + f < √2`, for a positive finite `x`.
#[inline(always)]
fn decompose<S: Simd>(simd: S, x: S::F32) -> (S::F32, S::F32) {
    let subnormal = simd.lt(x, simd.splat(f32::MIN_POSITIVE));
    let scaled = simd.select(subnormal, simd.mul(x, simd.splat((1u32 << 24) as f32)), x);
    let bias = simd.select(subnormal, simd.splat(24.0), simd.splat(0.0));
    // Counted from √½, so that the exponent steps there.
    let offset = simd.splat_i32(std::f32::consts::FRAC_1_SQRT_2.to_bits() as i32);
    let bits = simd.sub_i32(simd.to_bits(scaled), offset);
    let e = simd.to_f32(simd.shift_right_i32(bits, 23));
    let mantissa = simd.add_i32(simd.and_i32(bits, simd.splat_i32(0x007f_ffff)), offset);
    (simd.sub(e, bias), simd.sub(simd.from_bits(mantissa), simd.splat(1.0)))
}

/// `e·ln 2 + ln(1 + f)`
#[inline(always)]
fn log_of_mantissa<S: Simd>(simd: S, e: S::F32, f: S::F32) -> S::F32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let q = polynomial(
        simd,
        f,
        [
            0.333_333_1,
            -0.249_999_87,
            0.200_022_27,
            -0.166_692_51,
            0.142_186_58,
            -0.123_843_48,
            0.118_729_76,
            -0.117_898_08,
            0.069_153_68,
        ],
    );
    let square = simd.mul(f, f);
    let tail = simd.mul(simd.mul(square, f), q);
    let tail = simd.fma(e, simd.splat(LN_2_LOW), tail);
    let tail = simd.fma(square, simd.splat(-0.5), tail);
    simd.fma(e, simd.splat(LN_2_HIGH), simd.add(f, tail))
}
