//! The compute kernels: slices in, slices out, no graph types.
//!
//! Every family has its module. A kernel is a plain function (or the `run` of a prepared object that
//! holds packed weights) which takes concrete sizes, its instruction set as a
//! [`Level`](optimium_simd::Level), and the [`Part`] of the work that this call does: with `n` workers
//! the same function is called `n` times, with parts `0..n` of `n`, in any order or at once. Parts are
//! independent: a kernel never waits for another part, and its result does not depend on how many there
//! are. Outputs are [`SharedSlice`]s, because several parts write one buffer, each its own elements.
//!
//! Images are channels-last (NHWC). Strides are counted in elements.
//!
//! Where several kernels could do the same work, the family offers *candidates*, ranks them by a cost
//! estimate and picks one; the choice is data that a plan can print and a user can override.

pub mod activation;
pub mod attention;
pub mod conv;
pub mod depthwise;
pub mod elementwise;
pub mod epilogue;
pub mod gemm;
pub mod linear_attention;
pub mod machine;
pub mod math;
pub mod movement;
pub mod normalization;
mod packing;
pub mod pool;
pub mod quantized;
mod real;
pub mod recurrent;
pub mod reduce;
pub mod resize;
pub mod sampling;
pub mod selection;
mod shared;
pub mod softmax;
pub mod strips;
pub mod weight_only;

pub use packing::{
    PACKED_ALIGNMENT, PACKING_VERSION, Packed, PackedBlock, Packing, PackingArena, StoredBlocks,
};
pub use real::Real;
pub use shared::{AlignedVec, Part, SharedSlice};
