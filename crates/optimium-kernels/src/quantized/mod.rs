//! Integer kernels: products, convolutions and elementwise functions of quantized tensors.
//!
//! A quantized tensor holds bytes `q` that stand for `scale · (q - zero_point)`. Bytes are passed as
//! `u8` bit patterns with a flag that says whether they are signed; zero points and bounds are given in
//! the values of the type, so `-128..=127` for signed bytes.
//!
//! The products multiply unsigned by signed bytes, as the byte dot instructions do. Signed activations
//! are read with their sign bit flipped, unsigned weights are packed with theirs flipped, and the
//! shifts are undone together with the zero points: with `a` shifted by `z` and `b` by `y`,
//! `Σ (a-z)(b-y) = Σ ab - z·(Σ b - K·y) - y·Σ a`.
//!
//! What happens to a sum before it is stored is an [`Output`]: raw integers, floats, or bytes of another
//! quantization. Rounding is to nearest even everywhere, as ONNX demands of `QuantizeLinear`.

mod add;
mod band;
mod conv;
mod depthwise;
mod finish;
mod gemm;
pub mod general;
mod linear;
mod lookup;
mod output;
mod packed;
mod pool;
#[cfg(test)]
mod testing;
mod tile;

pub use add::{add, mul};
pub use conv::QuantizedConvolution;
pub use depthwise::QuantizedDepthwise;
pub use gemm::{Activations, gemm};
pub use linear::{
    Blocks, Channels, QuantizedElement, dequantize_linear, dequantize_linear_blocked, dynamic_parameters,
    dynamic_quantize_linear, dynamic_range, dynamic_range_part, quantize_linear, quantize_linear_blocked,
    requantize,
};
pub use lookup::{LookupTable, lookup};
pub use output::{Dequantize, Output, QuantizedResidual, Requantize, Rows};
pub use packed::{Layout, PackedMatrix, Weights};
pub use pool::{PoolWindow, average_pool};

/// How the bytes of a tensor are to be read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// The value of one step.
    pub scale: f32,
    /// The byte that stands for zero.
    pub zero_point: i32,
    /// Whether the bytes are signed.
    pub signed: bool,
}

impl Quantization {
    /// The smallest and the largest byte.
    pub fn limits(self) -> (i32, i32) {
        limits(self.signed)
    }
}

/// The smallest and the largest byte.
fn limits(signed: bool) -> (i32, i32) {
    if signed { (-128, 127) } else { (0, 255) }
}

/// The value of a byte.
#[inline(always)]
fn byte_value(byte: u8, signed: bool) -> i32 {
    if signed { i32::from(byte as i8) } else { i32::from(byte) }
}

/// `n` bytes as integers; the other lanes are zero.
///
/// # Safety
/// `n` bytes are readable at `p`.
#[inline(always)]
unsafe fn load_values<S: optimium_simd::Simd>(simd: S, p: *const u8, n: usize, signed: bool) -> S::I32 {
    // SAFETY: the caller's promise.
    unsafe { if signed { simd.load_i8(p.cast(), n) } else { simd.load_u8(p, n) } }
}

/// Stores `n` lanes as saturated bytes.
///
/// # Safety
/// `n` bytes are writable at `p`.
#[inline(always)]
unsafe fn store_values<S: optimium_simd::Simd>(simd: S, p: *mut u8, v: S::I32, n: usize, signed: bool) {
    // SAFETY: the caller's promise.
    unsafe { if signed { simd.store_i8(p.cast(), v, n) } else { simd.store_u8(p, v, n) } }
}
