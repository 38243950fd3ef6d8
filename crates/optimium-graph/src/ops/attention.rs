//! Scaled dot-product attention, and positions as angles of its operands.

use serde::{Deserialize, Serialize};

/// What the fourth output of [`Attention`] holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionScores {
    /// The scaled products of queries and keys.
    #[default]
    Product,
    /// These after the soft cap.
    Capped,
    /// These after the mask.
    Masked,
    /// What the values are weighted with.
    Probabilities,
}

/// Inputs: q, k, v, mask (BOOL: what takes part; else added to the scores; broadcast to the scores, missing last columns take no
/// part) or none, past k or none, past v or none, numbers of keys that count (I64 `[batch]`) or none.
/// Outputs: y, present k, present v, scores (`[batch, query heads, queries, keys]`).
///
/// q, k and v have the shape `[batch, heads, length, size]`, or `[batch, length, heads · size]` each where the attributes
/// say the number of heads; past and present always have the former. Several query heads, neighbours, share a head of k and v. With
/// `s = scale · q · kᵀ`, the result is `softmax(softcap · tanh(s / softcap) + mask) · v`, and zero for a query that no key takes
/// part for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attention {
    /// Heads of q, where it has no axis of them.
    pub query_heads: Option<usize>,
    /// Heads of k, where it has no axis of them.
    pub key_heads: Option<usize>,
    /// Heads of v, where it has no axis of them.
    pub value_heads: Option<usize>,
    /// Factor of the products; `1 / √size` where none.
    pub scale: Option<f32>,
    /// Bound of the products' magnitude; none where 0.
    pub softcap: f32,
    /// Whether a query sees no later key. The first of the queries has the position that follows the past keys, or that makes the last
    /// one that of the last key that counts.
    pub causal: bool,
    /// Whether y has the shape `[batch, length, heads · size]`; as q where none.
    pub merged: Option<bool>,
    /// What the scores are.
    #[serde(default)]
    pub scores: AttentionScores,
    /// What the score of a key becomes that a mask of Bool leaves out; none where it takes no part.
    #[serde(default)]
    pub masked_score: Option<f32>,
}

/// Inputs: x, cos, sin, positions (I64 `[batch, length]`) or none. Output: as x.
///
/// x has the shape `[batch, heads, length, size]` or, with a number of heads, `[batch, length, heads · size]`. Pairs of elements are
/// turned: `(a, b)` becomes `(a · cos - b · sin, b · cos + a · sin)`. cos and sin have one number a pair, or one an element, in
/// their last axis: `[batch or 1, length, numbers]`, or with positions `[positions, numbers]`, of which each takes its row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RotaryEmbedding {
    /// Heads of x, where it has no axis of them.
    pub heads: Option<usize>,
    /// The first elements of a head that are turned; all where none.
    pub size: Option<usize>,
    /// Whether the elements of a pair are neighbours; else they lie half of the size apart.
    pub interleaved: bool,
}
