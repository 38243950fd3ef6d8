//! What tensors of reals are stored in: single precision or bfloat16. Kernels compute in `f32` either way.

use half::bf16;
use optimium_simd::{Level, Simd};

use crate::conv::BrainLines;
use crate::depthwise::Bands;

/// A stored real number: `f32` or [`bf16`].
pub trait Real: Compiled + bytemuck::Pod + Default + Into<f32> + Send + Sync {
    /// Whether storing rounds. Such elements want the instructions of [`run_bf16`](optimium_simd::Level::run_bf16).
    const ROUNDED: bool;

    /// `LANES` elements.
    /// # Safety
    /// They are readable at `p`.
    unsafe fn load<S: Simd>(simd: S, p: *const Self) -> S::F32;
    /// The first `n` elements, at most `LANES` of them; the other lanes are zero.
    /// # Safety
    /// They are readable at `p`.
    unsafe fn load_first<S: Simd>(simd: S, p: *const Self, n: usize) -> S::F32;
    /// Stores all lanes.
    /// # Safety
    /// `LANES` elements are writable at `p`.
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, v: S::F32);
    /// Stores the first `n` lanes, at most `LANES` of them.
    /// # Safety
    /// `n` elements are writable at `p`.
    unsafe fn store_first<S: Simd>(simd: S, p: *mut Self, v: S::F32, n: usize);
    /// The bits of as many elements as `out` holds, as bfloat16.
    ///
    /// # Panics
    /// Where there are fewer.
    fn round<S: Simd>(simd: S, x: &[Self], out: &mut [u16]);
}

/// Large kernels that are compiled here for each type. What is generic would be compiled again in every crate that calls it.
pub trait Compiled: Sized {
    /// Runs a part of a depthwise convolution.
    fn run_bands(bands: Bands<'_, Self, false>);
    /// The same from a ring of lines.
    fn run_ring(bands: Bands<'_, Self, true>);
    /// Runs lines of a convolution of pairs of bfloat16 that gives such elements.
    fn run_lines(level: Level, lines: BrainLines<'_, Self>);
}

impl Compiled for f32 {
    fn run_bands(bands: Bands<'_, f32, false>) {
        bands.run_at_level();
    }
    fn run_ring(bands: Bands<'_, f32, true>) {
        bands.run_at_level();
    }
    fn run_lines(level: Level, lines: BrainLines<'_, f32>) {
        level.run_bf16(lines);
    }
}

impl Compiled for bf16 {
    fn run_bands(bands: Bands<'_, bf16, false>) {
        bands.run_at_level();
    }
    fn run_ring(bands: Bands<'_, bf16, true>) {
        bands.run_at_level();
    }
    fn run_lines(level: Level, lines: BrainLines<'_, bf16>) {
        level.run_bf16(lines);
    }
}

impl Real for f32 {
    const ROUNDED: bool = false;
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const f32) -> S::F32 {
        // SAFETY: forwarded.
        unsafe { simd.load(p) }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(simd: S, p: *const f32, n: usize) -> S::F32 {
        // Masked loads and stores are slow on some processors that have AVX2 only.
        // SAFETY: forwarded; the mask selects the elements.
        unsafe { if n >= S::LANES { simd.load(p) } else { simd.load_masked(p, simd.first(n)) } }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut f32, v: S::F32) {
        // SAFETY: forwarded.
        unsafe { simd.store(p, v) }
    }
    #[inline(always)]
    unsafe fn store_first<S: Simd>(simd: S, p: *mut f32, v: S::F32, n: usize) {
        // SAFETY: forwarded; the mask selects the elements.
        unsafe { if n >= S::LANES { simd.store(p, v) } else { simd.store_masked(p, v, simd.first(n)) } }
    }
    #[inline(always)]
    fn round<S: Simd>(simd: S, x: &[f32], out: &mut [u16]) {
        for (x, y) in x[..out.len()].chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
            // SAFETY: the count is that of the two chunks, which are equally long.
            unsafe { simd.store_bf16(y.as_mut_ptr(), f32::load_first(simd, x.as_ptr(), x.len()), x.len()) };
        }
    }
}

impl Real for bf16 {
    const ROUNDED: bool = true;
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const bf16) -> S::F32 {
        // SAFETY: forwarded.
        unsafe { simd.load_bf16(p.cast(), S::LANES) }
    }
    #[inline(always)]
    unsafe fn load_first<S: Simd>(simd: S, p: *const bf16, n: usize) -> S::F32 {
        // SAFETY: forwarded.
        unsafe { simd.load_bf16(p.cast(), n) }
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut bf16, v: S::F32) {
        // SAFETY: forwarded.
        unsafe { simd.store_bf16(p.cast(), v, S::LANES) }
    }
    #[inline(always)]
    unsafe fn store_first<S: Simd>(simd: S, p: *mut bf16, v: S::F32, n: usize) {
        // SAFETY: forwarded.
        unsafe { simd.store_bf16(p.cast(), v, n) }
    }
    #[inline(always)]
    fn round<S: Simd>(_simd: S, x: &[bf16], out: &mut [u16]) {
        out.copy_from_slice(bytemuck::cast_slice(&x[..out.len()]));
    }
}
