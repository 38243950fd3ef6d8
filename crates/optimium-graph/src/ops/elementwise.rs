//! Operators that treat every element alone.

use optimium_tensor::ElementType;
use serde::{Deserialize, Serialize};

/// Names for the variants of a plain enum, as ONNX writes them.
macro_rules! named {
    ($(#[$meta:meta])* $type:ident { $($(#[$doc:meta])* $variant:ident => $name:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $type { $($(#[$doc])* $variant),* }
        impl $type {
            /// Its name as ONNX writes it.
            pub fn name(self) -> &'static str {
                match self { $($type::$variant => $name),* }
            }
        }
    };
}
pub(super) use named;

named! {
    /// A function of one element.
    Unary {
        /// `|x|`
        Abs => "Abs",
        /// `-x`
        Neg => "Neg",
        /// `eˣ`
        Exp => "Exp",
        /// Natural logarithm.
        Log => "Log",
        /// Square root.
        Sqrt => "Sqrt",
        /// `1 / √x`
        Rsqrt => "Rsqrt",
        /// `x²`
        Square => "Square",
        /// `1 / x`
        Reciprocal => "Reciprocal",
        /// To the integer below.
        Floor => "Floor",
        /// To the integer above.
        Ceil => "Ceil",
        /// To the nearest integer, ties to even.
        Round => "Round",
        /// -1, 0 or 1.
        Sign => "Sign",
        /// Error function.
        Erf => "Erf",
        /// Sine.
        Sin => "Sin",
        /// Cosine.
        Cos => "Cos",
        /// Tangent.
        Tan => "Tan",
        /// Arc sine.
        Asin => "Asin",
        /// Arc cosine.
        Acos => "Acos",
        /// Arc tangent.
        Atan => "Atan",
        /// Hyperbolic sine.
        Sinh => "Sinh",
        /// Hyperbolic cosine.
        Cosh => "Cosh",
        /// Inverse hyperbolic sine.
        Asinh => "Asinh",
        /// Inverse hyperbolic cosine.
        Acosh => "Acosh",
        /// Inverse hyperbolic tangent.
        Atanh => "Atanh",
        /// `x / (1 + |x|)`
        Softsign => "Softsign",
        /// Logical negation of BOOL.
        Not => "Not",
        /// Complement of every bit.
        BitwiseNot => "BitwiseNot",
        /// Whether it is NaN: BOOL.
        IsNan => "IsNaN",
        /// Whether it is infinite: BOOL.
        IsInf => "IsInf",
    }
}

named! {
    /// A function of two elements of the same type.
    Binary {
        /// `a + b`
        Add => "Add",
        /// `a - b`
        Sub => "Sub",
        /// `a * b`
        Mul => "Mul",
        /// `a / b`; towards zero for integers.
        Div => "Div",
        /// `aᵇ`; b may have another type.
        Pow => "Pow",
        /// The smaller; NaN where one is.
        Min => "Min",
        /// The larger; NaN where one is.
        Max => "Max",
        /// Remainder with the sign of b.
        Mod => "Mod",
        /// Remainder with the sign of a.
        Fmod => "Fmod",
        /// `(a - b)²`
        SquaredDifference => "SquaredDifference",
        /// Logical and of BOOL.
        And => "And",
        /// Logical or of BOOL.
        Or => "Or",
        /// Logical exclusive or of BOOL.
        Xor => "Xor",
        /// Bitwise and.
        BitwiseAnd => "BitwiseAnd",
        /// Bitwise or.
        BitwiseOr => "BitwiseOr",
        /// Bitwise exclusive or.
        BitwiseXor => "BitwiseXor",
        /// `a << b`
        ShiftLeft => "BitShift",
        /// `a >> b`
        ShiftRight => "BitShift",
        /// `a` where positive, else `b · a`.
        PRelu => "PRelu",
    }
}

named! {
    /// A predicate of two elements.
    Comparison {
        /// `a == b`
        Equal => "Equal",
        /// `a < b`
        Less => "Less",
        /// `a <= b`
        LessOrEqual => "LessOrEqual",
        /// `a > b`
        Greater => "Greater",
        /// `a >= b`
        GreaterOrEqual => "GreaterOrEqual",
    }
}

/// A function of one element that can be fused behind a matrix product or a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "function", rename_all = "snake_case")]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, low), high)`
    Clip {
        /// Lower bound; none is minus infinity.
        low: Option<f32>,
        /// Upper bound; none is infinity.
        high: Option<f32>,
    },
    /// `x` where positive, else `alpha · x`
    LeakyRelu {
        /// The negative slope.
        alpha: f32,
    },
    /// `x` where positive, else slope times `x`; the slope is an input, one value a channel.
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
    /// `x · sigmoid(x)`
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
    /// `x · tanh(softplus(x))`
    Mish,
}

impl Activation {
    /// Its name as ONNX writes it.
    pub fn name(self) -> &'static str {
        match self {
            Activation::None => "Identity",
            Activation::Relu => "Relu",
            Activation::Clip { .. } => "Clip",
            Activation::LeakyRelu { .. } => "LeakyRelu",
            Activation::PRelu => "PRelu",
            Activation::Sigmoid => "Sigmoid",
            Activation::HardSigmoid { .. } => "HardSigmoid",
            Activation::HardSwish => "HardSwish",
            Activation::Silu => "Swish",
            Activation::Gelu | Activation::GeluTanh => "Gelu",
            Activation::Tanh => "Tanh",
            Activation::Elu { .. } => "Elu",
            Activation::Softplus => "Softplus",
            Activation::Mish => "Mish",
        }
    }
}

/// What was fused behind a matrix product or a convolution: `activation(x + residual)` or `activation(x) + residual`.
///
/// The residual, where there is one, and then the slope, where the activation is [`Activation::PRelu`], are the inputs
/// after the operator's own; the operator says at which index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Fusion {
    /// The function of the sum.
    #[serde(default)]
    pub activation: Activation,
    /// Whether the residual is added after the activation instead of before.
    #[serde(default)]
    pub residual_after_activation: bool,
}

/// How numbers between two powers of two become one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerRounding {
    /// The larger.
    #[default]
    Up,
    /// The smaller.
    Down,
    /// The nearer.
    Nearest,
}

/// Input: x (F32, once it is lowered). Output: its elements as a [narrow](ElementType::is_narrow) type, floating point rounded
/// to nearest even, integers cut off and wrapped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NarrowCast {
    /// The narrow type.
    pub to: ElementType,
    /// Whether what is too large for 8-bit floating point becomes the largest number instead of infinity or NaN.
    pub saturate: bool,
    /// How numbers become F8E8M0.
    #[serde(default)]
    pub rounding: PowerRounding,
}

/// Inputs: x, like. Output: x as the type of like, by the rules of [`Cast`] and [`NarrowCast`], one of which it becomes when types are
/// known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CastLike {
    /// See [`NarrowCast::saturate`].
    pub saturate: bool,
    /// See [`NarrowCast::rounding`].
    pub rounding: PowerRounding,
}

/// Input: x. Output: its elements as another type, as ONNX converts: floating point to integer cuts off, anything but zero
/// becomes true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cast {
    /// The new type.
    pub to: ElementType,
}
