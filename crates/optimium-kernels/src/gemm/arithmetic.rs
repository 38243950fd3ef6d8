//! What the elements of a product are, and how they are multiplied.

use optimium_simd::Simd;

/// What a 32-bit element of both matrices of a product holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Arithmetic {
    /// An `f32`.
    #[default]
    Single,
    /// An `f32`; a vector of the right matrix holds two of its rows for each of its columns.
    Pairs,
    /// The same with four of its rows.
    Fours,
    /// Two bfloat16 that are neighbours in k, the first one in the low half. Their products are summed in `f32`.
    BrainPairs,
}

impl Arithmetic {
    /// Those where neighbours in k lie side by side.
    pub(super) const GROUPED: [Arithmetic; 2] = [Arithmetic::Pairs, Arithmetic::Fours];

    /// Rows of the right matrix that a vector holds.
    pub(super) fn rows_of_vector(self) -> usize {
        match self {
            Arithmetic::Single | Arithmetic::BrainPairs => 1,
            Arithmetic::Pairs => 2,
            Arithmetic::Fours => 4,
        }
    }
}

/// The inner step of a product, in one [`Arithmetic`].
pub(crate) trait Multiply: Copy {
    /// Whether results may be bfloat16.
    const ROUNDS: bool;
    /// A vector of elements.
    type Vector<S: Simd>: Copy;
    /// All elements zero.
    fn zero<S: Simd>(simd: S) -> Self::Vector<S>;
    /// # Safety
    /// `LANES` elements are readable at `p`.
    unsafe fn load<S: Simd>(simd: S, p: *const f32) -> Self::Vector<S>;
    /// The element at `p` in all lanes.
    /// # Safety
    /// It is readable.
    unsafe fn splat<S: Simd>(simd: S, p: *const f32) -> Self::Vector<S>;
    /// `sum + a · b`
    fn add_product<S: Simd>(simd: S, sum: S::F32, a: Self::Vector<S>, b: Self::Vector<S>) -> S::F32;
}

/// [`Arithmetic::Single`]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Single;

impl Multiply for Single {
    const ROUNDS: bool = false;
    type Vector<S: Simd> = S::F32;
    #[inline(always)]
    fn zero<S: Simd>(simd: S) -> S::F32 {
        simd.splat(0.0)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const f32) -> S::F32 {
        // SAFETY: forwarded.
        unsafe { simd.load(p) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(simd: S, p: *const f32) -> S::F32 {
        // SAFETY: forwarded.
        simd.splat(unsafe { *p })
    }
    #[inline(always)]
    fn add_product<S: Simd>(simd: S, sum: S::F32, a: S::F32, b: S::F32) -> S::F32 {
        simd.fma(a, b, sum)
    }
}

/// [`Arithmetic::BrainPairs`]
#[derive(Clone, Copy, Debug)]
pub struct BrainPairs;

impl Multiply for BrainPairs {
    const ROUNDS: bool = true;
    type Vector<S: Simd> = S::I32;
    #[inline(always)]
    fn zero<S: Simd>(simd: S) -> S::I32 {
        simd.splat_i32(0)
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const f32) -> S::I32 {
        // SAFETY: forwarded.
        unsafe { simd.load_i32(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat<S: Simd>(simd: S, p: *const f32) -> S::I32 {
        // SAFETY: forwarded.
        simd.splat_i32(unsafe { *p.cast() })
    }
    #[inline(always)]
    fn add_product<S: Simd>(simd: S, sum: S::F32, a: S::I32, b: S::I32) -> S::F32 {
        simd.dot_bf16(sum, a, b)
    }
}
