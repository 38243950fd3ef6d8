//! The error function.

use optimium_simd::Simd;

use super::{exp, polynomial};

/// `erf x = 2/√π · ∫₀ˣ exp(-t²) dt`, within 4 units.
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // From 4 on the result is 1.
    let t = simd.min(simd.splat(4.0), simd.abs(x));
    let one = simd.splat(1.0);
    let exponent = polynomial(
        simd,
        t,
        [
            -1.692_052_2e-4,
            1.129_488_3,
            0.633_400_86,
            0.108_220_38,
            -0.025_080_618,
            0.004_156_255,
            -4.313_936_5e-4,
            2.082_862_7e-5,
        ],
    );
    let large = simd.sub(one, exp(simd, simd.neg(exponent)));
    let factor = polynomial(
        simd,
        simd.mul(t, t),
        [
            0.128_379_17,
            -0.376_126_35,
            0.112_837_15,
            -0.026_860_51,
            0.005_203_859,
            -8.175_639e-4,
            8.513_102e-5,
        ],
    );
    let small = simd.fma(t, factor, t);
    simd.copysign(simd.select(simd.lt(simd.splat(0.9), t), large, small), x)
}
