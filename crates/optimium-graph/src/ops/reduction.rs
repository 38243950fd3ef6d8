//! Operators that make one value of many.

use serde::{Deserialize, Serialize};

use super::elementwise::named;

named! {
    /// How values become one.
    Reduction {
        /// Sum.
        Sum => "ReduceSum",
        /// Arithmetic mean.
        Mean => "ReduceMean",
        /// Largest.
        Max => "ReduceMax",
        /// Smallest.
        Min => "ReduceMin",
        /// Product.
        Prod => "ReduceProd",
        /// Sum of magnitudes.
        L1 => "ReduceL1",
        /// Root of the sum of squares.
        L2 => "ReduceL2",
        /// Sum of squares.
        SumSquare => "ReduceSumSquare",
        /// Logarithm of the sum.
        LogSum => "ReduceLogSum",
        /// Logarithm of the sum of exponentials.
        LogSumExp => "ReduceLogSumExp",
    }
}

/// Inputs: x, axes (I64) or none. Output: y.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reduce {
    /// How.
    pub reduction: Reduction,
    /// The axes, where they are known (input 1 is then dropped); negative ones count from the end, none are all.
    pub axes: Option<Vec<i64>>,
    /// Whether reduced axes stay with size one.
    pub keep_dims: bool,
    /// Whether no axes means that nothing is reduced.
    #[serde(default)]
    pub noop_with_empty_axes: bool,
}

/// Input: x. Output: I64 indices of the largest or smallest elements along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArgReduce {
    /// Largest or smallest.
    pub max: bool,
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the axis stays with size one.
    pub keep_dims: bool,
    /// Whether the last of equal elements is meant.
    #[serde(default)]
    pub select_last_index: bool,
}

/// Inputs: x, axis (scalar). Output: sums, or products, of all elements up to each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CumSum {
    /// The axis, where it is known (input 1 is then dropped).
    pub axis: Option<i64>,
    /// Whether an element is left out of its own sum.
    pub exclusive: bool,
    /// Whether sums run from the end.
    pub reverse: bool,
    /// Whether elements are multiplied instead.
    #[serde(default)]
    pub product: bool,
}
