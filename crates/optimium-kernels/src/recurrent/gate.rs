//! The functions of the gates.

use optimium_simd::Simd;

use crate::activation::{self, Activation};
use crate::math;

/// A function that ONNX allows for the gates of a recurrent layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum GateFunction {
    /// One that other kernels know too.
    Activation(Activation),
    /// `alpha · x + beta`
    Affine {
        /// Factor.
        alpha: f32,
        /// Offset.
        beta: f32,
    },
    /// `x` where greater than `alpha`, else 0
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
    /// `alpha · tanh(beta · x)`
    ScaledTanh {
        /// Factor of the result.
        alpha: f32,
        /// Factor of the argument.
        beta: f32,
    },
    /// `x / (1 + |x|)`
    Softsign,
}

impl GateFunction {
    /// The function that ONNX calls by that name (upper and lower case do not matter), with its default
    /// parameters where none are given.
    pub fn from_name(name: &str, alpha: Option<f32>, beta: Option<f32>) -> Option<GateFunction> {
        use GateFunction::Activation as Known;
        let alpha = |default: f32| alpha.unwrap_or(default);
        let beta = |default: f32| beta.unwrap_or(default);
        Some(match name.to_ascii_lowercase().as_str() {
            "relu" => Known(Activation::Relu),
            "tanh" => Known(Activation::Tanh),
            "sigmoid" => Known(Activation::Sigmoid),
            "leakyrelu" => Known(Activation::LeakyRelu { alpha: alpha(0.01) }),
            "hardsigmoid" => Known(Activation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) }),
            "elu" => Known(Activation::Elu { alpha: alpha(1.0) }),
            "softplus" => Known(Activation::Softplus),
            "affine" => GateFunction::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "thresholdedrelu" => GateFunction::ThresholdedRelu { alpha: alpha(1.0) },
            "scaledtanh" => GateFunction::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            "softsign" => GateFunction::Softsign,
            _ => return None,
        })
    }

    /// The function of each lane.
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        match self {
            GateFunction::Activation(function) => activation::apply(simd, function, x),
            GateFunction::Affine { alpha, beta } => simd.fma(x, simd.splat(alpha), simd.splat(beta)),
            GateFunction::ThresholdedRelu { alpha } => {
                simd.select(simd.lt(simd.splat(alpha), x), x, simd.splat(0.0))
            }
            GateFunction::ScaledTanh { alpha, beta } => {
                simd.mul(simd.splat(alpha), math::tanh(simd, simd.mul(x, simd.splat(beta))))
            }
            GateFunction::Softsign => simd.div(x, simd.add(simd.splat(1.0), simd.abs(x))),
        }
    }

    /// Applies the function to all elements, bounded by `clip` first.
    #[inline(always)]
    pub(super) fn apply_to<S: Simd>(self, simd: S, clip: Option<f32>, values: &mut [f32]) {
        let bound = clip.unwrap_or(f32::INFINITY);
        let (low, high) = (simd.splat(-bound), simd.splat(bound));
        for chunk in values.chunks_mut(S::LANES) {
            let mask = simd.first(chunk.len());
            // SAFETY: only the elements of the chunk are touched.
            unsafe {
                let x = simd.load_masked(chunk.as_ptr(), mask);
                let x = simd.min(high, simd.max(low, x));
                simd.store_masked(chunk.as_mut_ptr(), self.apply(simd, x), mask);
            }
        }
    }
}
