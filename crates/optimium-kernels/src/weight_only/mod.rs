//! Products with a constant right matrix that is stored in few bits: bfloat16, or integers of 8 or 4 bits with a scale for each block.
//!
//! Only the weights are compressed: left rows, products and sums are `f32`. Products of few rows are bound by reading the weights;
//! they read the compressed ones and widen them in registers. For many rows a panel is widened to `f32` once, and the
//! ordinary tiles multiply it.
//!
//! | file | |
//! |---|---|
//! | `stored` | the form that comes in: one column after the other |
//! | `packed` | the form that kernels read: panels of columns |
//! | `encoding` | bits to `f32` in registers |
//! | `few_rows` | products that widen as they go |
//! | `widen` | a panel to `f32` |
//! | `multiply` | the loops around them |
//! | `gather` | some columns to `f32` |

mod encoding;
mod few_rows;
mod gather;
mod multiply;
mod packed;
mod stored;
mod widen;

pub use gather::gather;
pub use multiply::multiply;
pub use packed::CompactMatrix;
pub use stored::{Encoding, Scales, StoredMatrix};
