//! Kernels whose data decide how much they give: distinct items, boxes that do not overlap.
//!
//! They allocate their results, and one call does all of the work: a caller who wants several workers divides by batch or class.

mod suppression;
mod unique;

pub use suppression::{BoxFormat, Boxes, Suppression};
pub use unique::{Items, Order, Unique, unique};
