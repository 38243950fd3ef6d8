//! Matrix products.

use serde::{Deserialize, Serialize};

use super::Fusion;

/// Inputs: a, b (as NumPy's matmul, broadcast over leading dimensions), bias `[n]` or none, residual (shaped as the output) or none,
/// slope `[n]` or none. Output: `alpha · a · b + bias`, fused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatMul {
    /// Whether the last two dimensions of a are swapped first.
    #[serde(default)]
    pub transpose_a: bool,
    /// Whether the last two dimensions of b are swapped first.
    #[serde(default)]
    pub transpose_b: bool,
    /// A factor of the product.
    pub alpha: f32,
    /// What happens to the result before it is stored.
    #[serde(default)]
    pub fusion: Fusion,
}

/// Inputs: a, b (matrices), c (broadcast to the output) or none. Output: `alpha · a · b + beta · c`. Simplification turns it into
/// [`MatMul`] where it can.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gemm {
    /// Whether a is transposed.
    pub transpose_a: bool,
    /// Whether b is transposed.
    pub transpose_b: bool,
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of c.
    pub beta: f32,
}

/// Inputs: a (8-bit), b (8-bit), a zero point or none (scalar, or one a row), b zero point or none (scalar, or one a column).
/// Output: I32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MatMulInteger {}

/// Inputs: any number. Output: the sum of products that the equation says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Einsum {
    /// As NumPy's `einsum`.
    pub equation: String,
}
