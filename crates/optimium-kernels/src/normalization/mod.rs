//! Normalization by the statistics of the data, or by those learned.

mod affine;
mod groups;
mod lp;
mod rows;

pub use affine::{batch_norm_affine, channel_affine};
pub use groups::{GroupNorm, group_norm};
pub use lp::lp_normalize;
pub use rows::{Residual, RowNorm, RowStatistic, normalize_rows};
