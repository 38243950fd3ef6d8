//! Attention without softmax, whose state does not grow.

use serde::{Deserialize, Serialize};

/// Inputs: q `[batch, length, query heads · key size]`, k `[batch, length, heads · key size]`, v `[batch, length, heads · value size]`,
/// past state `[batch, heads, key size, value size]` or none, logarithms of decays (`[batch, length, heads]` or as k) or none,
/// rates (`[batch, length, heads or 1]`) or none. Outputs: y `[batch, length, query heads · value size]`, state.
///
/// For every position `S = exp(decay) · S`, then `S = S + k · vᵀ` or with rates `S + k · (rate · (v - Sᵀ · k))ᵀ`, then
/// `y = scale · Sᵀ · q`. Several query heads, neighbours, share a state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearAttention {
    /// Heads of q.
    pub query_heads: usize,
    /// Heads of k and v.
    pub heads: usize,
    /// Factor of the results; `1 / √key size` where none.
    pub scale: Option<f32>,
}
