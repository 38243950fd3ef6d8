//! Elementary functions of vectors, each a few instructions more than its polynomial.
//!
//! Every function takes the whole of `f32`: infinities, subnormal numbers and NaN (which gives NaN). The
//! errors named are in units in the last place of the result, for instruction sets with a fused
//! multiply-add; without one they are at most one unit larger.

mod erf;
mod exponential;
mod logarithm;
mod trigonometric;

use optimium_simd::Simd;

pub use erf::erf;
pub(crate) use exponential::exp2_up_to_one;
pub use exponential::{exp, expm1, sigmoid, tanh};
pub(crate) use logarithm::log1p_of_fraction;
pub use logarithm::{log, log1p};
pub use trigonometric::{cos, sin};

/// `c₀ + c₁·x + c₂·x² + …`
#[inline(always)]
pub(crate) fn polynomial<S: Simd, const N: usize>(simd: S, x: S::F32, coefficients: [f32; N]) -> S::F32 {
    let mut sum = simd.splat(coefficients[N - 1]);
    for i in 1..N {
        sum = simd.fma(sum, x, simd.splat(coefficients[N - 1 - i]));
    }
    sum
}

/// `2ⁿ` for an integral `n` in `-126..=127`.
#[inline(always)]
fn power_of_two<S: Simd>(simd: S, n: S::F32) -> S::F32 {
    let exponent = simd.add_i32(simd.round_to_i32(n), simd.splat_i32(127));
    simd.from_bits(simd.shift_left_i32(exponent, 23))
}

#[cfg(test)]
mod tests {
    use optimium_simd::{Level, SimdTask};
    use optimium_testing::{each_case, floats_of_all_magnitudes, ulp_error};

    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Function {
        Exp,
        /// Of what is greater than 1 that of 1.
        Exp2,
        Expm1,
        Log,
        Log1p,
        Tanh,
        Sigmoid,
        Erf,
        Sin,
        Cos,
    }

    struct Task<'a>(Function, &'a mut [f32]);
    impl SimdTask for Task<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            for chunk in self.1.chunks_exact_mut(S::LANES) {
                // SAFETY: the chunk has LANES elements.
                let x = unsafe { simd.load(chunk.as_ptr()) };
                let y = match self.0 {
                    Function::Exp => exp(simd, x),
                    Function::Exp2 => exp2_up_to_one(simd, simd.min(simd.splat(1.0), x)),
                    Function::Expm1 => expm1(simd, x),
                    Function::Log => log(simd, x),
                    Function::Log1p => log1p(simd, x),
                    Function::Tanh => tanh(simd, x),
                    Function::Sigmoid => sigmoid(simd, x),
                    Function::Erf => erf(simd, x),
                    Function::Sin => sin(simd, x),
                    Function::Cos => cos(simd, x),
                };
                // SAFETY: as above.
                unsafe { simd.store(chunk.as_mut_ptr(), y) };
            }
        }
    }

    fn reference(function: Function, x: f64) -> f64 {
        match function {
            Function::Exp => x.exp(),
            Function::Exp2 => (if x > 1.0 { 1.0 } else { x }).exp2(),
            Function::Expm1 => x.exp_m1(),
            Function::Log => x.ln(),
            Function::Log1p => x.ln_1p(),
            Function::Tanh => x.tanh(),
            Function::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Function::Erf => crate::elementwise::erf_f64(x),
            Function::Sin => x.sin(),
            Function::Cos => x.cos(),
        }
    }

    /// Sampled over all magnitudes, and again where the values are of everyday size.
    fn samples() -> Vec<f32> {
        let mut samples = floats_of_all_magnitudes(4001);
        samples.extend((-400_000..400_000).map(|i| i as f32 * 2.501e-4));
        samples.resize(samples.len().next_multiple_of(16), 0.5);
        samples
    }

    #[test]
    fn functions_are_as_accurate_as_they_say() {
        let limits = [
            (Function::Exp, 2.0),
            (Function::Exp2, 3.0),
            (Function::Expm1, 3.0),
            (Function::Log, 2.0),
            (Function::Log1p, 3.0),
            (Function::Tanh, 4.0),
            (Function::Sigmoid, 3.0),
            (Function::Erf, 4.0),
            (Function::Sin, 4.0),
            (Function::Cos, 4.0),
        ];
        let inputs = samples();
        let expected =
            limits.map(|(f, _)| inputs.iter().map(|&x| reference(f, x.into())).collect::<Vec<_>>());
        let cases = Level::available().flat_map(|level| (0..limits.len()).map(move |i| (level, i)));
        each_case(cases.collect::<Vec<_>>(), |&(level, i)| {
            let (function, limit) = limits[i];
            let limit = if level == Level::Portable { limit + 1.0 } else { limit };
            let mut outputs = inputs.clone();
            level.run(Task(function, &mut outputs));
            let error = |&j: &usize| ulp_error(outputs[j], expected[i][j]);
            let worst = (0..inputs.len()).max_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(0);
            if error(&worst) <= limit {
                return Ok(());
            }
            let (x, y) = (inputs[worst], outputs[worst]);
            Err(format!(
                "{function:?}({x:e}) = {y:e}, {:.2} units off {:e}",
                error(&worst),
                expected[i][worst]
            ))
        });
    }
}
