//! Normalization by the statistics of the data, or by those learned.

mod affine;
mod groups;
mod local_response;
mod lp;
mod rows;
mod statistics;

pub use affine::{batch_norm_affine, channel_affine};
pub use groups::{GroupNorm, group_norm};
pub use local_response::{LocalResponse, local_response_norm};
pub use lp::lp_normalize;
pub use rows::{Residual, RowNorm, RowStatistic, normalize_rows};
pub use statistics::row_statistics;
