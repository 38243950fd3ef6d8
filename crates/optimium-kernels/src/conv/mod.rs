//! Convolutions of channels-last images.
//!
//! A [`Convolution`] is prepared once from its weights, by an [`Algorithm`] that [`pick`] chooses, and run on
//! images of any size. The direct algorithms are matrix products whose left rows are gathered from the image:
//! an output pixel's row is the concatenation of the pieces of memory under the kernel. No patch matrix is ever
//! written; where the kernel reaches past the image, a band of it is first copied with zeros around. Kernels of
//! 3×3 taps may be computed by Winograd's algorithm instead.
//!
//! | file | |
//! |---|---|
//! | `parameters` | the sizes |
//! | `choice` | the algorithms, and which one is taken |
//! | `convolution` | the prepared convolution |
//! | `direct` | as products over what the kernel covers |
//! | `strassen` | of one tap, as products with fewer multiplications |
//! | `sliding` | of few channels: in small groups, or in all |
//! | `one_output` | to one channel |
//! | `winograd` | by products of transformed tiles |
//! | `bf16` | with bfloat16 factors |
//! | `band` | copies with zeros around |
//! | `taps` | the products over what the kernel covers |
//! | `visible` | which taps lie in the image |
//! | `transposed` | the transposed convolution, in phases |
//! | `patches` | the same, where its taps do not overlap |
//! | `general` | every number of dimensions, layout and floating-point type, without hurry |

mod band;
mod bf16;
mod choice;
mod convolution;
mod direct;
mod general;
mod one_output;
mod parameters;
mod patches;
#[cfg(test)]
mod reference;
mod sliding;
mod strassen;
mod taps;
mod transposed;
mod visible;
mod winograd;

pub use bf16::ConvolutionBf16;
pub use choice::{Algorithm, Candidate, Images, candidates, layouts, pick};
pub use convolution::{Convolution, is_stored};
pub use general::{GeneralImages, GeneralParameters, convolve_general, transpose_convolve_general};
pub use parameters::{Geometry, Parameters};
pub use transposed::TransposedConvolution;

/// Lines of a convolution of pairs of bfloat16.
pub type BrainLines<'a, T> = sliding::Lines<'a, crate::gemm::arithmetic::BrainPairs, T>;
