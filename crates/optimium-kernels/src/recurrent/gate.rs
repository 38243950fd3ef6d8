//! The functions of the gates.

use optimium_simd::{Simd, SimdTask};

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
}

/// Which function of a cell is meant. A simple recurrent cell has the candidate's alone, a GRU all but the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Of the gates.
    Gate,
    /// Of what may become the new state.
    Candidate,
    /// Of the state of an LSTM's cell.
    CellState,
}

/// The functions of a cell.
pub(super) trait Functions: Copy {
    /// The function of that role, after the bound that it may have.
    fn apply<S: Simd>(self, simd: S, role: Role, x: S::F32) -> S::F32;
}

/// ONNX's default functions, without a bound.
#[derive(Clone, Copy, Debug)]
pub(super) struct DefaultFunctions;

impl Functions for DefaultFunctions {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, role: Role, x: S::F32) -> S::F32 {
        if role == Role::Gate { math::sigmoid(simd, x) } else { math::tanh(simd, x) }
    }
}

/// Any functions, in the order of the [roles](Role), the first two after a bound of the magnitude.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct GivenFunctions {
    pub(super) functions: [GateFunction; 3],
    pub(super) clip: Option<f32>,
}

impl Functions for GivenFunctions {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, role: Role, x: S::F32) -> S::F32 {
        let bound = if role == Role::CellState { None } else { self.clip }.unwrap_or(f32::INFINITY);
        let x = simd.min(simd.splat(bound), simd.max(simd.splat(-bound), x));
        let mut values = [0.0; MAX_LANES];
        // SAFETY: the array has at least as many elements as a vector.
        unsafe { simd.store(values.as_mut_ptr(), x) };
        simd.call(ApplyToVector { function: self.functions[role as usize], values: &mut values });
        // SAFETY: as above.
        unsafe { simd.load(values.as_ptr()) }
    }
}

/// Lanes of the longest vectors.
const MAX_LANES: usize = 16;

/// Applies a function to one vector. The code of all functions is long, so that there should be one copy.
struct ApplyToVector<'a> {
    function: GateFunction,
    values: &'a mut [f32; MAX_LANES],
}

impl SimdTask for ApplyToVector<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let p = self.values.as_mut_ptr();
        // SAFETY: the array has at least as many elements as a vector.
        unsafe { simd.store(p, self.function.apply(simd, simd.load(p))) };
    }
}
