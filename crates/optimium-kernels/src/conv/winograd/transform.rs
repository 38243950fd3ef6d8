//! The transforms of one axis.
//!
//! A convolution of `M + 2` inputs with three taps is the product of two polynomials, taken at `M + 1` numbers and
//! at infinity. All functions here apply the matrices of Lavin and Gray, "Fast Algorithms for Convolutional
//! Neural Networks": `Bᵀ` to inputs, `G` to taps, `Aᵀ` to products.

use optimium_simd::Simd;

/// The transforms that give `M` neighbouring outputs from products at `N = M + 2` points.
pub(super) trait Transform<const N: usize, const M: usize>: Copy {
    /// `Bᵀ d`
    fn input<S: Simd>(simd: S, d: [S::F32; N]) -> [S::F32; N];

    /// `Aᵀ m`
    fn output<S: Simd>(simd: S, m: [S::F32; N]) -> [S::F32; M];

    /// `G`
    fn taps() -> [[f64; 3]; N];
}

/// F(2, 3): two outputs, from the points 0, 1, -1, ∞.
#[derive(Clone, Copy, Debug)]
pub(super) struct Two;

/// F(4, 3): four outputs, from the points 0, ±1/√2, ±√2, ∞.
///
/// These points are nearer to each other in size than the usual ±1, ±2, so that rounding errors grow as little as
/// in a sum without any transform.
#[derive(Clone, Copy, Debug)]
pub(super) struct Four;

impl Transform<4, 2> for Two {
    #[inline(always)]
    fn input<S: Simd>(simd: S, d: [S::F32; 4]) -> [S::F32; 4] {
        [simd.sub(d[0], d[2]), simd.add(d[1], d[2]), simd.sub(d[2], d[1]), simd.sub(d[1], d[3])]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, m: [S::F32; 4]) -> [S::F32; 2] {
        let (sum, difference) = (simd.add(m[1], m[2]), simd.sub(m[1], m[2]));
        [simd.add(m[0], sum), simd.sub(difference, m[3])]
    }

    fn taps() -> [[f64; 3]; 4] {
        [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]]
    }
}

/// The smaller of the points of [`Four`]; the larger one is its inverse.
const SMALL: f64 = std::f64::consts::FRAC_1_SQRT_2;
const LARGE: f64 = std::f64::consts::SQRT_2;

impl Transform<6, 4> for Four {
    #[inline(always)]
    fn input<S: Simd>(simd: S, d: [S::F32; 6]) -> [S::F32; 6] {
        let (small, large) = (simd.splat(SMALL as f32), simd.splat(LARGE as f32));
        let (half, two, both) = (simd.splat(-0.5), simd.splat(-2.0), simd.splat(-2.5));
        let (even_small, odd_small) = (simd.fma(two, d[2], d[4]), simd.fma(two, d[1], d[3]));
        let (even_large, odd_large) = (simd.fma(half, d[2], d[4]), simd.fma(half, d[1], d[3]));
        [
            simd.fma(both, d[2], simd.add(d[0], d[4])),
            simd.fma(small, odd_small, even_small),
            simd.fma(simd.neg(small), odd_small, even_small),
            simd.fma(large, odd_large, even_large),
            simd.fma(simd.neg(large), odd_large, even_large),
            simd.fma(both, d[3], simd.add(d[1], d[5])),
        ]
    }

    #[inline(always)]
    fn output<S: Simd>(simd: S, m: [S::F32; 6]) -> [S::F32; 4] {
        let (sum_small, difference_small) = (simd.add(m[1], m[2]), simd.sub(m[1], m[2]));
        let (sum_large, difference_large) = (simd.add(m[3], m[4]), simd.sub(m[3], m[4]));
        let (half, two) = (simd.splat(0.5), simd.splat(2.0));
        let (small, large) = (simd.splat(SMALL as f32), simd.splat(LARGE as f32));
        let (small_cubed, large_cubed) = (simd.splat((SMALL / 2.0) as f32), simd.splat((LARGE * 2.0) as f32));
        [
            simd.add(m[0], simd.add(sum_small, sum_large)),
            simd.fma(large, difference_large, simd.mul(small, difference_small)),
            simd.fma(two, sum_large, simd.mul(half, sum_small)),
            simd.fma(large_cubed, difference_large, simd.fma(small_cubed, difference_small, m[5])),
        ]
    }

    fn taps() -> [[f64; 3]; 6] {
        // The numerators are the powers of the point, the denominators its products with the other points.
        let point = |p: f64, denominator: f64| [1.0, p, p * p].map(|power| power / denominator);
        [
            [1.0, 0.0, 0.0],
            point(SMALL, -1.5),
            point(-SMALL, -1.5),
            point(LARGE, 6.0),
            point(-LARGE, 6.0),
            [0.0, 0.0, 1.0],
        ]
    }
}
