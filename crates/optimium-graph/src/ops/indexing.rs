//! Operators that pick, join and rearrange elements.

use optimium_tensor::Expr;
use serde::{Deserialize, Serialize};

use super::ImageLayout;

/// Inputs: one or more. Output: them joined along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Concat {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// Inputs: x, sizes (I64) or none. Outputs: its parts along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// The sizes, where they are known (input 1 is then dropped); with neither, equal parts, the last one smaller.
    pub sizes: Option<Vec<Expr>>,
}

/// Inputs: x, starts, ends, axes or none, steps or none (I64 vectors) where `ranges` is `None`. Output: y.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Slice {
    /// For each sliced axis: axis (not negative), start (normalized: within the axis), number of elements, step.
    pub ranges: Option<Vec<SliceRange>>,
}

/// One sliced axis, normalized: element `start + i · step` for `i < count`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SliceRange {
    /// The axis.
    pub axis: usize,
    /// The first element.
    pub start: Expr,
    /// Number of elements.
    pub count: Expr,
    /// Distance of elements; negative runs backwards.
    pub step: i64,
}

/// Inputs: x, indices. Output: `x` at the indices along an axis; negative indices count from the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gather {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// Inputs: x, indices of the same rank. Output shaped as the indices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatherElements {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// Inputs: x, indices whose last dimension addresses leading axes of x.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GatherNd {
    /// Leading axes that both share.
    pub batch_dims: usize,
}

/// What scattering does where an element is already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScatterReduction {
    /// Replaces it.
    #[default]
    None,
    /// Adds to it.
    Add,
    /// Multiplies it.
    Mul,
    /// Keeps the larger.
    Max,
    /// Keeps the smaller.
    Min,
}

/// Inputs: x, indices, updates (shaped as the indices). Output shaped as x.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScatterElements {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// How updates are combined.
    #[serde(default)]
    pub reduction: ScatterReduction,
}

/// Inputs: x, indices, updates. Output shaped as x.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScatterNd {
    /// How updates are combined.
    #[serde(default)]
    pub reduction: ScatterReduction,
}

/// Inputs: indices, depth (scalar), values `[off, on]`. Output: one more axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneHot {
    /// The new axis; negative counts from the end of the output.
    pub axis: i64,
    /// The new axis's size, where it is known.
    pub depth: Option<Expr>,
}

/// Inputs: x, k (I64 vector of one). Outputs: values, I64 indices.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TopK {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Largest or smallest.
    pub largest: bool,
    /// Whether results are in order.
    pub sorted: bool,
    /// How many, where it is known (input 1 is then dropped).
    pub k: Option<Expr>,
}

/// Inputs: x, k (scalar) or none. Output: a triangle of the last two dimensions, zeros elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trilu {
    /// The upper triangle or the lower.
    pub upper: bool,
    /// The diagonal, where it is known (input 1 is then dropped).
    pub k: Option<i64>,
}

/// Inputs: x, lengths. Output: every sequence's beginning reversed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReverseSequence {
    /// The axis of the batch.
    pub batch_axis: usize,
    /// The axis of time.
    pub time_axis: usize,
}

/// Input: x. Output: blocks of channels laid out in space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DepthToSpace {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Side of a block.
    pub block: usize,
    /// Whether channels are ordered column, row, depth (CRD) instead of depth, column, row (DCR).
    pub column_row_depth: bool,
}

/// Input: x. Output: blocks of space gathered into channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SpaceToDepth {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Side of a block.
    pub block: usize,
}
