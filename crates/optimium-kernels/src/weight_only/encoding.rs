//! Stored bits to `f32`, in registers.

use optimium_simd::Simd;

/// How the elements of 32-bit words become `f32`.
///
/// Integers go into the mantissa of a power of two: `BASE + stored` in one masked shift, without a conversion. What that is too
/// large, zero point included, is subtracted from the sum of a block.
pub(super) trait Widen: Copy {
    /// Elements of a word.
    const PER_WORD: usize;
    /// What is added to every stored integer.
    const BASE: f32;
    /// Whether blocks have scales.
    const SCALED: bool;
    /// Element `J` of each word, plus `BASE`.
    fn element<S: Simd, const J: usize>(simd: S, words: S::I32) -> S::F32;
}

/// [`Encoding::Bf16`](super::Encoding::Bf16)
#[derive(Clone, Copy)]
pub(super) struct Bf16;
/// [`Encoding::Int8`](super::Encoding::Int8)
#[derive(Clone, Copy)]
pub(super) struct Int8;
/// [`Encoding::Int4`](super::Encoding::Int4)
#[derive(Clone, Copy)]
pub(super) struct Int4;

impl Widen for Bf16 {
    const PER_WORD: usize = 2;
    const BASE: f32 = 0.0;
    const SCALED: bool = false;
    #[inline(always)]
    fn element<S: Simd, const J: usize>(simd: S, words: S::I32) -> S::F32 {
        let bits = if J == 0 {
            simd.shift_left_i32(words, 16)
        } else {
            simd.and_i32(words, simd.splat_i32(0xffff_0000_u32 as i32))
        };
        simd.from_bits(bits)
    }
}

impl Widen for Int8 {
    const PER_WORD: usize = 4;
    const BASE: f32 = 256.0;
    const SCALED: bool = true;
    #[inline(always)]
    fn element<S: Simd, const J: usize>(simd: S, words: S::I32) -> S::F32 {
        into_mantissa::<S, 8, J>(simd, words, Self::BASE)
    }
}

impl Widen for Int4 {
    const PER_WORD: usize = 8;
    const BASE: f32 = 16.0;
    const SCALED: bool = true;
    #[inline(always)]
    fn element<S: Simd, const J: usize>(simd: S, words: S::I32) -> S::F32 {
        into_mantissa::<S, 4, J>(simd, words, Self::BASE)
    }
}

/// `base`, which is `2^BITS`, plus the `J`-th group of so many bits.
#[inline(always)]
fn into_mantissa<S: Simd, const BITS: usize, const J: usize>(simd: S, words: S::I32, base: f32) -> S::F32 {
    // The mantissa's highest bits are those below bit 23.
    let (from, to) = (BITS * J, 23 - BITS);
    let placed = if from <= to {
        simd.shift_left_i32(words, (to.wrapping_sub(from) % 32) as u32)
    } else {
        simd.shift_right_i32(words, (from.wrapping_sub(to) % 32) as u32)
    };
    let mask = ((1 << BITS) - 1) << to;
    let bits = simd.or_i32(simd.and_i32(placed, simd.splat_i32(mask)), simd.splat_i32(base.to_bits() as i32));
    simd.from_bits(bits)
}
