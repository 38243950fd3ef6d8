//! Operators whose data decide how much they give.

use serde::{Deserialize, Serialize};

/// Input: x. Outputs: the distinct items y; I64 vectors: of each of them where it occurs first, of each item of x its index in y, how
/// often each occurs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unique {
    /// The axis along which x has items, negative counts from the end; without one, its elements.
    pub axis: Option<i64>,
    /// Whether items are in ascending order; otherwise in that of their first occurrence.
    pub sorted: bool,
}

/// Inputs: boxes (F32 `[batch, n, 4]`), scores (F32 `[batch, classes, n]`), most boxes of a class (I64) or none, overlap from which
/// on a box is left out (F32) or none, score that a box must have more of (F32) or none. Output: I64 `[kept, 3]` of batch, class
/// and box.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NonMaxSuppression {
    /// Whether a box is given by its center, its width and its height, and not by two corners.
    pub center_point_box: bool,
}
