//! Sine and cosine.

use optimium_simd::Simd;

use super::polynomial;

/// Up to here the number of quarter turns has at most 16 bits, so that the reduction is exact.
const LIMIT: f32 = 1e5;

/// Lanes of the widest vector.
const MAX_LANES: usize = 16;

/// `sin x`, within 4 units.
///
/// Vectors that hold a magnitude above 1e5 go through the standard library, lane by lane.
#[inline(always)]
pub fn sin<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    if is_large(simd, x) { each_lane(simd, x, f32::sin) } else { sin_of_quarter_turns(simd, x, 0) }
}

/// `cos x`, within 4 units.
///
/// Vectors that hold a magnitude above 1e5 go through the standard library, lane by lane.
#[inline(always)]
pub fn cos<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    if is_large(simd, x) { each_lane(simd, x, f32::cos) } else { sin_of_quarter_turns(simd, x, 1) }
}

/// Whether a lane is finite or infinite beyond [`LIMIT`].
#[inline(always)]
fn is_large<S: Simd>(simd: S, x: S::F32) -> bool {
    let magnitude = simd.abs(x);
    let beyond = simd.select(simd.lt(simd.splat(LIMIT), magnitude), magnitude, simd.splat(0.0));
    simd.reduce_max(beyond) > 0.0
}

/// `f` of each lane.
#[inline(always)]
fn each_lane<S: Simd>(simd: S, x: S::F32, f: impl Fn(f32) -> f32) -> S::F32 {
    const { assert!(S::LANES <= MAX_LANES) };
    let mut lanes = [0.0; MAX_LANES];
    // SAFETY: the array holds at least LANES elements.
    unsafe { simd.store(lanes.as_mut_ptr(), x) };
    for lane in &mut lanes[..S::LANES] {
        *lane = f(*lane);
    }
    // SAFETY: as above.
    unsafe { simd.load(lanes.as_ptr()) }
}

/// `sin(x + turns·π/2)`
#[inline(always)]
fn sin_of_quarter_turns<S: Simd>(simd: S, x: S::F32, turns: i32) -> S::F32 {
    let (quarter, r) = reduce(simd, x);
    let quarter = simd.add_i32(quarter, simd.splat_i32(turns));
    let square = simd.mul(r, r);
    let sine = polynomial(simd, square, [-0.166_666_67, 0.008_333_329, -1.983_933_3e-4, 2.718_296_6e-6]);
    let sine = simd.fma(simd.mul(square, r), sine, r);
    let cosine =
        polynomial(simd, square, [-0.5, 0.041_666_668, -0.001_388_888_3, 2.479_951_8e-5, -2.721_01e-7]);
    let cosine = simd.fma(square, cosine, simd.splat(1.0));
    let odd = simd.to_f32(simd.and_i32(quarter, simd.splat_i32(1)));
    let value = simd.select(simd.eq(odd, simd.splat(1.0)), cosine, sine);
    let sign = simd.shift_left_i32(simd.and_i32(quarter, simd.splat_i32(2)), 30);
    simd.from_bits(simd.xor_i32(simd.to_bits(value), sign))
}

/// `x = n·π/2 + r` with an integral `n` and `|r| <= π/4`, for `|x| <= LIMIT`.
#[inline(always)]
fn reduce<S: Simd>(simd: S, x: S::F32) -> (S::I32, S::F32) {
    // π/2 in pieces of eight bits, the last one full: their products with n are exact without a fused
    // multiply-add too, and the differences until the leading digits have cancelled.
    const PIECES: [f32; 7] = [
        1.570_312_5,
        4.844_665_5e-4,
        -6.407_499_3e-7,
        9.895_302e-10,
        2.557_953_8e-12,
        5.384_581_7e-15,
        5.721_189e-18,
    ];
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::FRAC_2_PI)));
    let mut r = x;
    for piece in PIECES {
        r = simd.fma(n, simd.splat(-piece), r);
    }
    (simd.round_to_i32(n), r)
}
