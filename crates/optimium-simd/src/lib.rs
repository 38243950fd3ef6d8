//! Instruction sets found at run time, and the vectors that kernels are written in.
//!
//! A kernel is written once, as a [`SimdTask`] generic over [`Simd`]. [`Level::run`] enters it for
//! an instruction set: the body is inlined into one function that has the features switched on, so
//! every vector operation becomes the instruction it is named after.
//!
//! ```
//! use optimium_simd::{Level, Simd, SimdTask};
//!
//! struct Sum<'a>(&'a [f32]);
//! impl SimdTask for Sum<'_> {
//!     type Output = f32;
//!     #[inline(always)]
//!     fn run<S: Simd>(self, simd: S) -> f32 {
//!         let mut total = simd.splat(0.0);
//!         let mut chunks = self.0.chunks_exact(S::LANES);
//!         for chunk in &mut chunks {
//!             // SAFETY: the chunk has exactly LANES elements.
//!             total = simd.add(total, unsafe { simd.load(chunk.as_ptr()) });
//!         }
//!         simd.reduce_add(total) + chunks.remainder().iter().sum::<f32>()
//!     }
//! }
//! assert_eq!(Level::best().run(Sum(&[1.0; 100])), 100.0);
//! ```
//!
//! A value of a [`Simd`] type exists only where detection found its features: that is the proof on
//! which its safe operations rest. Everything from the task down to the smallest helper must be
//! `#[inline(always)]`, closures included, or the features are lost on the way.
//!
//! On AArch64 the vectors of [`Portable`] are compiled to NEON, which is part of the base
//! architecture there; [`Level::Neon`] is its name.

mod denormals;
mod level;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use denormals::FlushDenormals;
pub use level::{Level, SimdTask};
pub use portable::Portable;
#[cfg(target_arch = "x86_64")]
pub use x86::{Avx2, Avx512};

/// The vector operations of one instruction set.
///
/// `F32`, `I32` hold [`LANES`](Simd::LANES) elements; `Mask` selects lanes. Memory operations take
/// unaligned pointers; masked ones touch only the selected lanes' memory.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `f32`.
    type F32: Copy;
    /// A vector of `i32`; also four bytes a lane, for [`dot_u8_i8`](Simd::dot_u8_i8).
    type I32: Copy;
    /// One truth value a lane.
    type Mask: Copy;
    /// Lanes of `F32` and `I32`.
    const LANES: usize;
    /// Vector registers of the architecture: what a register tile may use.
    const REGISTERS: usize;
    /// The level that this type implements.
    const LEVEL: Level;

    /// Runs `task` in a function of its own, for what is too long to be inlined.
    fn call<T: SimdTask>(self, task: T) -> T::Output;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;
    /// # Safety
    /// `LANES` elements are readable at `p`.
    unsafe fn load(self, p: *const f32) -> Self::F32;
    /// The two elements at `p` in all pairs of lanes.
    /// # Safety
    /// Two elements are readable at `p`.
    #[inline(always)]
    unsafe fn splat_pair(self, p: *const f32) -> Self::F32 {
        // SAFETY: forwarded.
        unsafe { repeated::<Self, 2>(self, p) }
    }
    /// The four elements at `p` in all fours of lanes.
    /// # Safety
    /// Four elements are readable at `p`.
    #[inline(always)]
    unsafe fn splat_four(self, p: *const f32) -> Self::F32 {
        // SAFETY: forwarded.
        unsafe { repeated::<Self, 4>(self, p) }
    }
    /// # Safety
    /// `LANES` elements are writable at `p`.
    unsafe fn store(self, p: *mut f32, v: Self::F32);
    /// Lanes outside `mask` are zero.
    /// # Safety
    /// The elements of the selected lanes are readable at `p`.
    unsafe fn load_masked(self, p: *const f32, mask: Self::Mask) -> Self::F32;
    /// # Safety
    /// The elements of the selected lanes are writable at `p`.
    unsafe fn store_masked(self, p: *mut f32, v: Self::F32, mask: Self::Mask);
    /// The mask of the first `n` lanes; all of them where `n >= LANES`.
    fn first(self, n: usize) -> Self::Mask;
    /// Asks for the cache line at `p` to be brought nearer. Any address will do.
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        let _ = p;
    }
    /// Writes the transpose of the `LANES × LANES` block at `source` to `target`; strides are from row to row.
    /// # Safety
    /// The `LANES` rows of `LANES` elements are readable at `source` and writable at `target`, apart from each
    /// other.
    #[inline(always)]
    unsafe fn transpose(
        self,
        source: *const f32,
        source_stride: usize,
        target: *mut f32,
        target_stride: usize,
    ) {
        for i in 0..Self::LANES {
            for j in 0..Self::LANES {
                // SAFETY: both lie in their blocks.
                unsafe { target.add(j * target_stride + i).write(source.add(i * source_stride + j).read()) };
            }
        }
    }

    /// `a + b`
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a - b`
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b`
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a / b`
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `a * b + c`, rounded once where the instruction set can.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;
    /// The larger of both; `b` where either is NaN. Give the bound first to let NaN through.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// The smaller of both; `b` where either is NaN. Give the bound first to let NaN through.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;
    /// `-a`
    fn neg(self, a: Self::F32) -> Self::F32;
    /// `|a|`
    fn abs(self, a: Self::F32) -> Self::F32;
    /// The magnitude of `a` with the sign of `sign`.
    fn copysign(self, a: Self::F32, sign: Self::F32) -> Self::F32;
    /// `√a`
    fn sqrt(self, a: Self::F32) -> Self::F32;
    /// To the nearest integer, ties to even.
    fn round(self, a: Self::F32) -> Self::F32;
    /// To the integer below.
    fn floor(self, a: Self::F32) -> Self::F32;
    /// `a · 2ⁿ` for an integral `n`, right at overflow, underflow, ±∞ and NaN.
    fn scale_by_power_of_two(self, a: Self::F32, n: Self::F32) -> Self::F32;
    /// `a · 2ⁿ`, rounded once, for `|a|` between 1/2 and 2 and an integral `n` in `-252..=254`.
    #[inline(always)]
    fn scale_by_small_power_of_two(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        // Two factors with exponents of normal numbers.
        let n = self.round_to_i32(n);
        let half = self.shift_right_i32(n, 1);
        let power = |e| self.from_bits(self.shift_left_i32(self.add_i32(e, self.splat_i32(127)), 23));
        self.mul(self.mul(a, power(half)), power(self.sub_i32(n, half)))
    }
    /// `a < b`; false where either is NaN.
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a <= b`; false where either is NaN.
    fn le(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// `a == b`; false where either is NaN.
    fn eq(self, a: Self::F32, b: Self::F32) -> Self::Mask;
    /// Whether the mask selects a lane.
    fn any(self, mask: Self::Mask) -> bool;
    /// `on` where the mask is set, else `off`.
    fn select(self, mask: Self::Mask, on: Self::F32, off: Self::F32) -> Self::F32;
    /// In each lane the lane of that index of `a`, or of `b` where the index is `LANES` or more. Indices are below `2 * LANES`.
    fn permute_pair(self, a: Self::F32, b: Self::F32, index: Self::I32) -> Self::F32;
    /// In each lane that lane of `a` whose number `lanes` has there, taken modulo [`LANES`](Simd::LANES).
    #[inline(always)]
    fn permute(self, a: Self::F32, lanes: Self::I32) -> Self::F32 {
        let (mut from, mut to, mut numbers) = ([0.0; MAX_LANES], [0.0; MAX_LANES], [0i32; MAX_LANES]);
        // SAFETY: the arrays have at least LANES elements.
        unsafe {
            self.store(from.as_mut_ptr(), a);
            self.store_i32(numbers.as_mut_ptr(), lanes);
            for (to, &number) in to.iter_mut().zip(&numbers[..Self::LANES]) {
                *to = from[number as usize % Self::LANES];
            }
            self.load(to.as_ptr())
        }
    }
    /// Sum over the lanes.
    fn reduce_add(self, a: Self::F32) -> f32;
    /// Largest lane.
    fn reduce_max(self, a: Self::F32) -> f32;
    /// Smallest lane.
    fn reduce_min(self, a: Self::F32) -> f32;

    /// All lanes `x`.
    fn splat_i32(self, x: i32) -> Self::I32;
    /// # Safety
    /// `LANES` elements are readable at `p`.
    unsafe fn load_i32(self, p: *const i32) -> Self::I32;
    /// # Safety
    /// `LANES` elements are writable at `p`.
    unsafe fn store_i32(self, p: *mut i32, v: Self::I32);
    /// Lanes outside `mask` are zero.
    /// # Safety
    /// The elements of the selected lanes are readable at `p`.
    unsafe fn load_i32_masked(self, p: *const i32, mask: Self::Mask) -> Self::I32;
    /// # Safety
    /// The elements of the selected lanes are writable at `p`.
    unsafe fn store_i32_masked(self, p: *mut i32, v: Self::I32, mask: Self::Mask);
    /// `a + b`, wrapping.
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a - b`, wrapping.
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a * b`, the low 32 bits.
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The larger of both.
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// The smaller of both.
    fn min_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise exclusive or.
    fn xor_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise and.
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// Bitwise or.
    fn or_i32(self, a: Self::I32, b: Self::I32) -> Self::I32;
    /// `a << n`, for `n < 32`.
    fn shift_left_i32(self, a: Self::I32, n: u32) -> Self::I32;
    /// `a >> n` with the sign bit copied in, for `n < 32`.
    fn shift_right_i32(self, a: Self::I32, n: u32) -> Self::I32;
    /// The bits of each lane.
    fn to_bits(self, a: Self::F32) -> Self::I32;
    /// The lanes of those bits.
    #[allow(clippy::wrong_self_convention, reason = "self is the instruction set, as everywhere here")]
    fn from_bits(self, a: Self::I32) -> Self::F32;
    /// To the nearest integer, ties to even. Unspecified outside the range of `i32`.
    fn round_to_i32(self, a: Self::F32) -> Self::I32;
    /// The nearest `f32`.
    fn to_f32(self, a: Self::I32) -> Self::F32;
    /// In each lane `acc + Σ aᵢ·bᵢ` over its four bytes, `a` unsigned and `b` signed; exact, wrapping
    /// only in the sum.
    fn dot_u8_i8(self, acc: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32;

    /// The first `n <= LANES` bytes at `p`, widened; the other lanes are zero.
    /// # Safety
    /// `n` elements are readable at `p`.
    unsafe fn load_u8(self, p: *const u8, n: usize) -> Self::I32;
    /// As [`load_u8`](Simd::load_u8), signed.
    /// # Safety
    /// `n` elements are readable at `p`.
    unsafe fn load_i8(self, p: *const i8, n: usize) -> Self::I32;
    /// The first `n <= LANES` lanes, saturated to `0..=255`.
    /// # Safety
    /// `n` elements are writable at `p`.
    unsafe fn store_u8(self, p: *mut u8, v: Self::I32, n: usize);
    /// The first `n <= LANES` lanes, saturated to `-128..=127`.
    /// # Safety
    /// `n` elements are writable at `p`.
    unsafe fn store_i8(self, p: *mut i8, v: Self::I32, n: usize);
    /// The first `n <= 4 * LANES` bytes at `p`, four a lane; the others are zero.
    /// # Safety
    /// `n` elements are readable at `p`.
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Self::I32;
    /// The first `n <= 4 * LANES` bytes, four a lane.
    /// # Safety
    /// `n` elements are writable at `p`.
    unsafe fn store_bytes(self, p: *mut u8, v: Self::I32, n: usize);
    /// The first `n <= 2 * LANES` bytes at `p` in the lower half, those at `q` in the upper one; the others are zero.
    /// # Safety
    /// `n` elements are readable at both.
    #[inline(always)]
    unsafe fn load_byte_halves(self, p: *const u8, q: *const u8, n: usize) -> Self::I32 {
        let mut bytes = [0u8; 4 * MAX_LANES];
        // SAFETY: the caller promises n readable elements, and a vector has at most MAX_LANES lanes.
        unsafe {
            std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n.min(2 * Self::LANES));
            std::ptr::copy_nonoverlapping(q, bytes.as_mut_ptr().add(2 * Self::LANES), n.min(2 * Self::LANES));
            self.load_bytes(bytes.as_ptr(), 4 * Self::LANES)
        }
    }
    /// The first `n <= 2 * LANES` bytes of the lower half to `p`, those of the upper half to `q`.
    /// # Safety
    /// `n` elements are writable at both.
    #[inline(always)]
    unsafe fn store_byte_halves(self, p: *mut u8, q: *mut u8, v: Self::I32, n: usize) {
        let mut bytes = [0u8; 4 * MAX_LANES];
        // SAFETY: the caller promises n writable elements, and a vector has at most MAX_LANES lanes.
        unsafe {
            self.store_bytes(bytes.as_mut_ptr(), v, 4 * Self::LANES);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n.min(2 * Self::LANES));
            std::ptr::copy_nonoverlapping(bytes.as_ptr().add(2 * Self::LANES), q, n.min(2 * Self::LANES));
        }
    }
    /// Within each block of sixteen bytes, byte `j` of lane `i` of result `q` is byte `4 q + i` of `rows[j]`.
    fn interleave_bytes(self, rows: [Self::I32; 4]) -> [Self::I32; 4];
    /// Within each block of sixteen bytes, byte `4 q + i` is lane `i` of `v[q]`, saturated to `0..=255`: the
    /// order of [`interleave_bytes`](Simd::interleave_bytes) undone.
    fn pack_u8(self, v: [Self::I32; 4]) -> Self::I32;
    /// As [`pack_u8`](Simd::pack_u8), saturated to `-128..=127`.
    fn pack_i8(self, v: [Self::I32; 4]) -> Self::I32;
    /// The lanes of `v[0]`, then those of `v[1]` and so on, from the order of [`pack_u8`](Simd::pack_u8).
    fn order_packed(self, packed: Self::I32) -> Self::I32;
    /// The first `n <= LANES` IEEE half floats whose bits lie at `p`, widened; the other lanes are zero.
    /// # Safety
    /// `n` elements are readable at `p`.
    unsafe fn load_f16(self, p: *const u16, n: usize) -> Self::F32;
    /// The first `n <= LANES` lanes as half floats, rounded to nearest even.
    /// # Safety
    /// `n` elements are writable at `p`.
    unsafe fn store_f16(self, p: *mut u16, v: Self::F32, n: usize);
    /// The first `n <= LANES` bfloat16 whose bits lie at `p`, widened; the other lanes are zero.
    /// # Safety
    /// `n` elements are readable at `p`.
    unsafe fn load_bf16(self, p: *const u16, n: usize) -> Self::F32;
    /// The first `n <= LANES` lanes as bfloat16, rounded to nearest even. Subnormal numbers may become zeros.
    /// # Safety
    /// `n` elements are writable at `p`.
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: Self::F32, n: usize) {
        let mut lanes = [0i32; MAX_LANES];
        // SAFETY: the array has at least LANES elements.
        unsafe { self.store_i32(lanes.as_mut_ptr(), round_to_bf16(self, v)) };
        for (i, lane) in lanes[..Self::LANES].iter().enumerate().take(n) {
            // SAFETY: the caller promises n elements.
            unsafe { p.add(i).write((lane >> 16) as u16) };
        }
    }
    /// In each lane `sum + aₕ·bₕ + aₗ·bₗ` for the two bfloat16 in the high and the low half of `a` and `b`: exact products, added
    /// in that order and rounded each time. Subnormal operands and results may count as zeros.
    #[inline(always)]
    fn dot_bf16(self, sum: Self::F32, a: Self::I32, b: Self::I32) -> Self::F32 {
        dot_bf16_by_parts(self, sum, a, b)
    }
}

/// The `N` elements at `p`, over and over.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn repeated<S: Simd, const N: usize>(simd: S, p: *const f32) -> S::F32 {
    // SAFETY: forwarded.
    let elements = unsafe { p.cast::<[f32; N]>().read() };
    let lanes: [f32; MAX_LANES] = std::array::from_fn(|lane| elements[lane % N]);
    // SAFETY: there are as many as lanes.
    unsafe { simd.load(lanes.as_ptr()) }
}

/// No vector has more lanes.
pub const MAX_LANES: usize = 16;

/// [`Simd::dot_bf16`] by operations of `f32`.
#[inline(always)]
fn dot_bf16_by_parts<S: Simd>(simd: S, sum: S::F32, a: S::I32, b: S::I32) -> S::F32 {
    let mask = simd.splat_i32(0xffff_0000_u32 as i32);
    let (high_a, high_b) = (simd.and_i32(a, mask), simd.and_i32(b, mask));
    let (low_a, low_b) = (simd.shift_left_i32(a, 16), simd.shift_left_i32(b, 16));
    let high = simd.fma(simd.from_bits(high_a), simd.from_bits(high_b), sum);
    simd.fma(simd.from_bits(low_a), simd.from_bits(low_b), high)
}

/// The nearest bfloat16 in the high half of each lane, ties to even; what is in the low half means nothing.
#[inline(always)]
fn round_to_bf16<S: Simd>(simd: S, x: S::F32) -> S::I32 {
    let bits = simd.to_bits(x);
    let odd = simd.and_i32(simd.shift_right_i32(bits, 16), simd.splat_i32(1));
    let rounded = simd.add_i32(simd.add_i32(bits, simd.splat_i32(0x7fff)), odd);
    // Rounding would carry NaN into infinity; a bit that stays marks it.
    let nan = simd.or_i32(bits, simd.splat_i32(0x0040_0000));
    simd.to_bits(simd.select(simd.eq(x, x), simd.from_bits(rounded), simd.from_bits(nan)))
}
