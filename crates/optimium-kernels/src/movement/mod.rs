//! Bytes moved about: copies, transposes, pads, gathers, scatters, and tensors made from nothing.
//!
//! What only moves elements does not care for their type, so these kernels take bytes and an element
//! size: any element type goes through them, and they never look at a value. Nearly all are a
//! [`StridedCopy`]: a layout change described once, when the shapes are known, and then run. Indices that
//! come from data are checked, and give an [`IndexOutOfRange`] instead of a wrong read.
//!
//! | operation | here |
//! |---|---|
//! | slice, expand, tile, split, concatenation parts | [`StridedCopy`] and its constructors |
//! | transposes, depth to space and back | `transpose` (constructors of [`StridedCopy`]) |
//! | padding and cropping | [`Pad`] |
//! | gathers | [`gather`], [`gather_elements`], [`gather_nd`] |
//! | scatters | [`scatter_elements`], [`scatter_nd`] |
//! | sequences | [`reverse_sequence`] |
//! | tensors from nothing | [`fill`], [`range`], [`eye_like`], [`one_hot`] |
//! | parts of matrices | [`trilu`] |
//! | positions | [`count_nonzero`], [`nonzero`] |

mod copy_loops;
mod every;
mod gather;
mod generate;
mod index;
mod interleave;
mod nonzero;
mod pad;
mod scatter;
mod sequence;
mod strided;
mod transpose;
mod trilu;

pub use gather::{gather, gather_elements, gather_nd};
pub use generate::{RangeElement, eye_like, fill, one_hot, range};
pub(crate) use index::position;
pub use index::{Index, IndexOutOfRange};
pub use nonzero::{count_nonzero, nonzero};
pub use pad::{Pad, PadMode};
pub use scatter::{Reduction, ScatterElement, scatter_elements, scatter_nd};
pub use sequence::reverse_sequence;
pub use strided::{StridedCopy, contiguous_strides};
pub use transpose::{BlockOrder, Transpose};
pub use trilu::trilu;
