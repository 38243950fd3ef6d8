//! Reductions over any axes, positions of extremes, cumulative sums and the largest elements.
//!
//! Work is split over the results, each of which is computed by one part, or over [segments](SegmentedReduce) of what is reduced;
//! always in one order.

mod cumulative;
mod extreme;
mod floats;
pub(crate) mod fold;
mod numbers;
mod plan;
mod segments;
mod top;

pub use cumulative::{cumulative_product, cumulative_sum};
pub use extreme::{Extreme, extreme_index};
pub use floats::reduce_f32;
pub use numbers::reduce;
pub use plan::Reduce;
pub(crate) use plan::runs;
pub use segments::SegmentedReduce;
pub use top::top_k;

/// What becomes of the elements of a reduction. Of none: what the formula gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reduction {
    /// `Σ x`
    Sum,
    /// `Σ x / n`
    Mean,
    /// The largest; NaN where one is.
    Max,
    /// The smallest; NaN where one is.
    Min,
    /// `Π x`
    Prod,
    /// `Σ |x|`
    L1,
    /// `√(Σ x²)`
    L2,
    /// `Σ x²`
    SumSquare,
    /// `ln(Σ x)`
    LogSum,
    /// `ln(Σ eˣ)`, without overflow.
    LogSumExp,
}
