//! The activation functions that can be fused into a store.

use std::f32::consts::{LN_2, LOG2_E};

use optimium_simd::{Level, Simd, SimdTask};

use crate::elementwise::{Map, Source, VectorFunction};
use crate::math;
use crate::{Part, SharedSlice};

/// A function of one element.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, low), high)`
    Clip {
        /// Lower bound.
        low: f32,
        /// Upper bound.
        high: f32,
    },
    /// `x` where positive, else `alpha · x`
    LeakyRelu {
        /// The negative slope.
        alpha: f32,
    },
    /// `x` where positive, else the column's slope times `x`
    PRelu,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `min(max(alpha · x + beta, 0), 1)`
    HardSigmoid {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x · min(max(x / 6 + 1/2, 0), 1)`
    HardSwish,
    /// `x / (1 + exp(-x))`
    Silu,
    /// `x / 2 · (1 + erf(x / √2))`
    Gelu,
    /// GELU by its approximation with tanh.
    GeluTanh,
    /// `tanh(x)`
    Tanh,
    /// `x` where positive, else `alpha · (exp(x) - 1)`
    Elu {
        /// The limit at minus infinity, negated.
        alpha: f32,
    },
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x · tanh(ln(1 + exp(x)))`
    Mish,
}

/// `activation(x)` of a vector; NaN gives NaN.
///
/// [`Activation::PRelu`], whose slope is no part of it, leaves `x` as it is: see [`apply_prelu`]. The
/// code of every function is inlined where this is called, so call it once in a loop over finished
/// results and not in an unrolled one.
#[inline(always)]
pub fn apply<S: Simd>(simd: S, activation: Activation, x: S::F32) -> S::F32 {
    let zero = simd.splat(0.0);
    match activation {
        Activation::None | Activation::PRelu => x,
        Activation::Relu => simd.max(zero, x),
        Activation::Clip { low, high } => clamp(simd, x, low, high),
        Activation::LeakyRelu { alpha } => apply_prelu(simd, x, simd.splat(alpha)),
        Activation::Sigmoid => math::sigmoid(simd, x),
        Activation::HardSigmoid { alpha, beta } => {
            clamp(simd, simd.fma(x, simd.splat(alpha), simd.splat(beta)), 0.0, 1.0)
        }
        Activation::HardSwish => {
            simd.mul(x, clamp(simd, simd.fma(x, simd.splat(1.0 / 6.0), simd.splat(0.5)), 0.0, 1.0))
        }
        Activation::Silu => silu(simd, x, x),
        Activation::Gelu => gelu(simd, x),
        Activation::GeluTanh => gelu_tanh(simd, x),
        Activation::Tanh => math::tanh(simd, x),
        Activation::Elu { alpha } => {
            let negative = simd.mul(simd.splat(alpha), math::expm1(simd, x));
            simd.select(simd.lt(zero, x), x, negative)
        }
        Activation::Softplus => softplus(simd, x),
        Activation::Mish => mish(simd, x),
    }
}

impl VectorFunction for Activation {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        apply(simd, self, x)
    }
}

#[inline(always)]
fn clamp<S: Simd>(simd: S, x: S::F32, low: f32, high: f32) -> S::F32 {
    simd.min(simd.splat(high), simd.max(simd.splat(low), x))
}

/// `slope · x` where negative, else `x`; NaN gives NaN.
#[inline(always)]
pub fn apply_prelu<S: Simd>(simd: S, x: S::F32, slope: S::F32) -> S::F32 {
    simd.select(simd.lt(x, simd.splat(0.0)), simd.mul(x, slope), x)
}

/// `x · sigmoid(y)`
#[inline(always)]
fn silu<S: Simd>(simd: S, x: S::F32, y: S::F32) -> S::F32 {
    // exp(-y) as a power of two, which needs no bounds but these: beyond, it is far above or below all that counts beside 1.
    const HIGH: f32 = -LOG2_E;
    const LOW: f32 = -1.925_963e-8;
    let y = simd.min(simd.splat(174.0), simd.max(simd.splat(-174.0), y));
    let n = simd.round(simd.mul(y, simd.splat(HIGH)));
    let r = simd.fma(y, simd.splat(LOW), simd.fma(y, simd.splat(HIGH), simd.neg(n)));
    let power = math::polynomial(
        simd,
        r,
        [1.0, LN_2, 0.240_226_5, 0.055_504_11, 0.009_618_129, 0.001_333_355_8, 1.540_353e-4],
    );
    let e = simd.scale_by_small_power_of_two(power, n);
    simd.div(x, simd.add(simd.splat(1.0), e))
}

/// Within 3 units in the last place of `x`.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // erf(x / √2) as a quotient of polynomials in x², fitted where |x| <= 5.3. Beyond, the quotient is held and its
    // product with x reaches 1 at once.
    let square = simd.min(simd.splat(5.3 * 5.3), simd.mul(x, x));
    let numerator = math::polynomial(
        simd,
        square,
        [0.797_884_5, 0.065_282_56, 0.009_219_471, 3.145_750_4e-4, 1.270_991_2e-5, 4.853_908_2e-8],
    );
    let denominator = math::polynomial(
        simd,
        square,
        [1.0, 0.248_486_07, 0.027_969_643, 0.001_819_487_3, 7.035_39e-5, 1.241_731e-6],
    );
    let erf = clamp(simd, simd.div(simd.mul(x, numerator), denominator), -1.0, 1.0);
    let half = simd.mul(x, simd.splat(0.5));
    simd.fma(half, erf, half)
}

#[inline(always)]
fn gelu_tanh<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // (1 + tanh u) / 2 is sigmoid(2u), with u = √(2/π)·(x + 0.044715·x³).
    const TWICE_ROOT: f32 = 1.595_769;
    let factor = simd.fma(simd.mul(x, x), simd.splat(0.044_715 * TWICE_ROOT), simd.splat(TWICE_ROOT));
    silu(simd, x, simd.mul(x, factor))
}

#[inline(always)]
fn softplus<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let e = math::exp(simd, simd.neg(simd.abs(x)));
    simd.add(simd.max(simd.splat(0.0), x), math::log1p_of_fraction(simd, e))
}

#[inline(always)]
fn mish<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // With e = exp(x), tanh(ln(1 + e)) is n / (n + 2) for n = e·(e + 2); 1 from the bound on.
    let two = simd.splat(2.0);
    let e = math::exp(simd, simd.min(simd.splat(20.0), x));
    let n = simd.mul(e, simd.add(e, two));
    simd.mul(x, simd.div(n, simd.add(n, two)))
}

/// `activation(x)` of one number, by the formula alone: the reference of tests.
pub fn apply_scalar(activation: Activation, x: f32) -> f32 {
    let wide = f64::from(x);
    let softplus = |x: f64| x.max(0.0) + (-x.abs()).exp().ln_1p();
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    if x.is_nan() {
        return x;
    }
    let y = match activation {
        Activation::None | Activation::PRelu => wide,
        Activation::Relu => wide.max(0.0),
        Activation::Clip { low, high } => wide.max(low.into()).min(high.into()),
        Activation::LeakyRelu { alpha } => {
            if wide > 0.0 {
                wide
            } else {
                wide * f64::from(alpha)
            }
        }
        Activation::Sigmoid => sigmoid(wide),
        Activation::HardSigmoid { alpha, beta } => {
            (f64::from(alpha) * wide + f64::from(beta)).clamp(0.0, 1.0)
        }
        Activation::HardSwish => wide * (wide / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Silu => wide * sigmoid(wide),
        Activation::Gelu => {
            wide / 2.0 * (1.0 + crate::elementwise::erf_f64(wide * std::f64::consts::FRAC_1_SQRT_2))
        }
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044715 * wide.powi(3));
            wide / 2.0 * (1.0 + u.tanh())
        }
        Activation::Tanh => wide.tanh(),
        Activation::Elu { alpha } => {
            if wide > 0.0 {
                wide
            } else {
                f64::from(alpha) * wide.exp_m1()
            }
        }
        Activation::Softplus => softplus(wide),
        Activation::Mish => wide * softplus(wide).tanh(),
    };
    y as f32
}

/// `y = activation(x)`, element by element; `x` may be the memory of `y`.
///
/// # Panics
/// Where the lengths differ, or `x` overlaps `y` without being the same.
pub fn activate<'a>(
    level: Level,
    activation: Activation,
    x: impl Into<Source<'a, f32>>,
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    x.assert_elementwise(y);
    level.run(ActivateTask { activation, x, y, part });
}

/// Applies an activation to the `length` elements at `x`, in place.
pub(crate) struct ActivateInPlace {
    activation: Activation,
    x: *mut f32,
    length: usize,
}

impl ActivateInPlace {
    /// # Safety
    /// The elements are readable and writable by this task alone.
    #[inline(always)]
    pub(crate) unsafe fn new(activation: Activation, x: *mut f32, length: usize) -> ActivateInPlace {
        ActivateInPlace { activation, x, length }
    }
}

impl SimdTask for ActivateInPlace {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: promised at `new`.
        let map = unsafe { Map::in_place(self.x, self.length) };
        map_by(simd, self.activation, map);
    }
}

struct ActivateTask<'a, 'b> {
    activation: Activation,
    x: Source<'a, f32>,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for ActivateTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let range = self.part.range_of_granules(self.y.len(), 64);
        // SAFETY: the lengths were found equal, and the range is this part's own.
        let map = unsafe { Map::new(self.x, self.y, range) };
        map_by(simd, self.activation, map);
    }
}

/// `map` by `activation`, of which each has its own loop, without the choice inside.
#[inline(always)]
fn map_by<S: Simd>(simd: S, activation: Activation, map: Map) {
    match activation {
        Activation::None | Activation::PRelu => map.run(simd, Activation::None),
        Activation::Relu => map.run(simd, Activation::Relu),
        Activation::Sigmoid => map.run(simd, Activation::Sigmoid),
        Activation::HardSwish => map.run(simd, Activation::HardSwish),
        Activation::Silu => map.run(simd, Activation::Silu),
        Activation::Gelu => map.run(simd, Activation::Gelu),
        Activation::GeluTanh => map.run(simd, Activation::GeluTanh),
        Activation::Tanh => map.run(simd, Activation::Tanh),
        Activation::Softplus => map.run(simd, Activation::Softplus),
        Activation::Mish => map.run(simd, Activation::Mish),
        Activation::Clip { low, high } => map.run(simd, Activation::Clip { low, high }),
        Activation::LeakyRelu { alpha } => map.run(simd, Activation::LeakyRelu { alpha }),
        Activation::HardSigmoid { alpha, beta } => map.run(simd, Activation::HardSigmoid { alpha, beta }),
        Activation::Elu { alpha } => map.run(simd, Activation::Elu { alpha }),
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Tolerance, compare, each_case, floats_of_all_magnitudes};

    use super::*;

    const ACTIVATIONS: [Activation; 16] = [
        Activation::None,
        Activation::Relu,
        Activation::Clip { low: 0.0, high: 6.0 },
        Activation::Clip { low: -1.5, high: 2.5 },
        Activation::LeakyRelu { alpha: 0.1 },
        Activation::Sigmoid,
        Activation::HardSigmoid { alpha: 0.2, beta: 0.5 },
        Activation::HardSwish,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Tanh,
        Activation::Elu { alpha: 0.7 },
        Activation::Softplus,
        Activation::Mish,
        Activation::PRelu,
    ];

    fn inputs() -> Vec<f32> {
        let mut x: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.0251).collect();
        x.extend(floats_of_all_magnitudes(1_000_003).iter().filter(|x| x.abs() < 1e18));
        x.extend([f32::NAN, f32::INFINITY]);
        x
    }

    #[test]
    fn every_activation_matches_its_formula() {
        let cases = Level::available().flat_map(|level| ACTIVATIONS.map(|activation| (level, activation)));
        let x = inputs();
        each_case(cases.collect::<Vec<_>>(), |&(level, activation)| {
            let expected: Vec<f32> = x.iter().map(|&x| apply_scalar(activation, x)).collect();
            let mut y = vec![0.0; x.len()];
            activate(level, activation, &x, SharedSlice::new(&mut y), Part::WHOLE);
            compare(&y, &expected, Tolerance::Relative(1e-6))
        });
    }

    #[test]
    fn parts_tails_and_in_place_agree() {
        let all = inputs();
        let cases = Level::available().flat_map(|level| (0..70).chain([1000]).map(move |n| (level, n)));
        each_case(cases.collect::<Vec<_>>(), |&(level, n)| {
            let x = &all[..n];
            let mut whole = vec![0.0; n];
            activate(level, Activation::Gelu, x, SharedSlice::new(&mut whole), Part::WHOLE);
            for count in 1..4 {
                let mut y = x.to_vec();
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    activate(level, Activation::Gelu, shared, shared, Part { index, count });
                }
                compare(&y, &whole, Tolerance::Exact)?;
            }
            Ok(())
        });
    }
}
