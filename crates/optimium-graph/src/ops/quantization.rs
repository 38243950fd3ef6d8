//! Operators between real and quantized tensors.

use optimium_tensor::ElementType;
use serde::{Deserialize, Serialize};

use super::Fusion;

/// Inputs: x, scale, zero point or none. Output: integers.
///
/// Where the output value carries a scheme (its type is then QS8, QU8, …), scale and zero point are dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantizeLinear {
    /// The axis of per-channel scales; negative counts from the end.
    pub axis: i64,
    /// Size of blocks along the axis that share a scale; 0 for none.
    #[serde(default)]
    pub block_size: usize,
    /// The type of the output where there is no zero point to tell it.
    pub output_type: Option<ElementType>,
}

/// Inputs: x, scale, zero point or none. Output: reals.
///
/// Where the input value carries a scheme (its type is then QS8, QU8, …), scale and zero point are dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DequantizeLinear {
    /// The axis of per-channel scales; negative counts from the end.
    pub axis: i64,
    /// Size of blocks along the axis that share a scale; 0 for none.
    #[serde(default)]
    pub block_size: usize,
}

/// Inputs: a (F32), b (8-bit constant), b scale (scalar or one a column), b zero point or none, bias `[n]` or none, residual or
/// none, slope or none.
/// Output (F32): a is quantized as DynamicQuantizeLinear does, multiplied as MatMulInteger does, and scaled back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DynamicQuantizedMatMul {
    /// What happens to the result before it is stored.
    #[serde(default)]
    pub fusion: Fusion,
}
