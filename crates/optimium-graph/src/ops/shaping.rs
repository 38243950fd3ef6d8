//! Operators that change shapes, or make tensors of shapes.

use optimium_tensor::{ElementType, Expr};
use serde::{Deserialize, Serialize};

/// Inputs: x, shape (I64) where `dims` is `None`. Output: x in that shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reshape {
    /// The dimensions of the output, all of them known, once shape inference found them.
    pub dims: Option<Vec<Expr>>,
    /// Whether 0 in the input means zero instead of "as in x".
    #[serde(default)]
    pub allow_zero: bool,
}

/// Input: x. Output: a matrix, the dimensions before the axis merged and those from it on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flatten {
    /// The axis; negative counts from the end.
    pub axis: i64,
}

/// Inputs: x, axes (I64) or none. Output: x without those axes of size one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Squeeze {
    /// The axes, where they are known (input 1 is then dropped); with neither, all axes of size one.
    pub axes: Option<Vec<i64>>,
}

/// Inputs: x, axes (I64). Output: x with axes of size one inserted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unsqueeze {
    /// The axes in the output, where they are known (input 1 is then dropped).
    pub axes: Option<Vec<i64>>,
}

/// Input: x. Output: `y.shape[i] = x.shape[permutation[i]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transpose {
    /// One entry for each axis.
    pub permutation: Vec<usize>,
}

/// Inputs: x, shape (I64) where `dims` is `None`. Output: x broadcast with that shape.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expand {
    /// The dimensions of the output, once shape inference found them.
    pub dims: Option<Vec<Expr>>,
}

/// Inputs: x, repeats (I64) where `repeats` is `None`. Output: x repeated along every axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tile {
    /// How often along each axis, where it is known.
    pub repeats: Option<Vec<Expr>>,
}

/// What is put around a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PadMode {
    /// One value.
    Constant,
    /// The tensor mirrored, its border not repeated.
    Reflect,
    /// The border repeated.
    Edge,
    /// The tensor from the other side.
    Wrap,
}

/// Inputs: x, pads (I64, all begins then all ends) or none, value (scalar) or none, axes (I64) or none. Output: y.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pad {
    /// What is put there.
    pub mode: PadMode,
    /// Elements before and after each axis (negative ones are cut off), where they are known (inputs 1 and 3 are then dropped).
    pub pads: Option<Vec<(Expr, Expr)>>,
}

/// Input: x. Output: I64, the sizes of a range of its axes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shape {
    /// First axis; negative counts from the end, and it is clamped.
    pub start: i64,
    /// Axis after the last; none is the rank.
    pub end: Option<i64>,
}

/// Inputs: start, limit, delta (scalars) where `bounds` is `None`. Output: one dimension.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// The element type.
    pub element_type: ElementType,
    /// Start, limit and delta as expressions, where they are known integers.
    pub bounds: Option<[Expr; 3]>,
}

/// Input: shape (I64) where `dims` is `None`. Output: a tensor filled with one value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConstantOfShape {
    /// The dimensions, once shape inference found them.
    pub dims: Option<Vec<Expr>>,
    /// The element type.
    pub element_type: ElementType,
    /// The value's bytes, as the element type stores it (little-endian).
    pub value: Vec<u8>,
}
