//! Functions of corresponding elements: of one tensor, of two or three with broadcasting, and casts.

mod binary;
mod broadcast;
mod cast;
mod map;
mod narrow;
mod number;
mod scalar;
mod select;
mod source;
mod unary;

pub use binary::{Binary, Bitwise, Comparison, Logical, binary, binary_f32, bitwise, compare, logical};
pub use broadcast::{Broadcast, broadcast_strides};
pub use cast::{ElementKind, cast};
pub(crate) use map::{Map, VectorFunction};
pub use narrow::{NarrowKind, NarrowRounding, PowerRounding, narrow, widen};
pub use number::{Bits, Number};
pub(crate) use scalar::erf_f64;
pub use select::select;
pub use source::Source;
pub use unary::{Unary, bitwise_not, is_infinite, is_nan, logical_not, unary_f32, unary_f64, unary_integer};
