//! Conversion of every type of number to every other.

use std::ops::Range;

use half::{bf16, f16};
use optimium_simd::{Level, Simd, SimdTask};

use crate::{Part, SharedSlice};

/// A type of number in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ElementKind {
    /// A byte that is 0 or 1.
    Bool,
    /// `u8`
    U8,
    /// `i8`
    I8,
    /// `u16`
    U16,
    /// `i16`
    I16,
    /// `u32`
    U32,
    /// `i32`
    I32,
    /// `u64`
    U64,
    /// `i64`
    I64,
    /// IEEE half float
    F16,
    /// bfloat16
    Bf16,
    /// `f32`
    F32,
    /// `f64`
    F64,
}

impl ElementKind {
    /// Every kind.
    pub const ALL: [ElementKind; 13] = [
        ElementKind::Bool,
        ElementKind::U8,
        ElementKind::I8,
        ElementKind::U16,
        ElementKind::I16,
        ElementKind::U32,
        ElementKind::I32,
        ElementKind::U64,
        ElementKind::I64,
        ElementKind::F16,
        ElementKind::Bf16,
        ElementKind::F32,
        ElementKind::F64,
    ];

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            ElementKind::Bool | ElementKind::U8 | ElementKind::I8 => 1,
            ElementKind::U16 | ElementKind::I16 | ElementKind::F16 | ElementKind::Bf16 => 2,
            ElementKind::U32 | ElementKind::I32 | ElementKind::F32 => 4,
            ElementKind::U64 | ElementKind::I64 | ElementKind::F64 => 8,
        }
    }
}

/// `y = x`, both given by their bytes, converted.
///
/// Integers wrap; floats become integers by truncation and saturation, NaN becomes 0; what is not 0
/// becomes true; floats are rounded to nearest even.
///
/// # Panics
/// Where the lengths in elements differ or are not whole.
pub fn cast(level: Level, from: ElementKind, x: &[u8], to: ElementKind, y: SharedSlice<'_, u8>, part: Part) {
    let length = x.len() / from.size();
    let fits = length * from.size() == x.len() && length * to.size() == y.len();
    assert!(fits, "{} bytes of {from:?} for {} bytes of {to:?}", x.len(), y.len());
    let range = part.range_of_granules(length, 64);
    if has_vector_form(from, to) {
        level.run(CastTask { from, to, x: x.as_ptr(), y: y.as_mut_ptr(), range });
        return;
    }
    let (x, y) = (x.as_ptr(), y.as_mut_ptr());
    // SAFETY: both have that many elements, and the range is this part's own.
    unsafe {
        match from {
            ElementKind::Bool => cast_from::<Truth>(x, to, y, range),
            ElementKind::U8 => cast_from::<u8>(x, to, y, range),
            ElementKind::I8 => cast_from::<i8>(x, to, y, range),
            ElementKind::U16 => cast_from::<u16>(x, to, y, range),
            ElementKind::I16 => cast_from::<i16>(x, to, y, range),
            ElementKind::U32 => cast_from::<u32>(x, to, y, range),
            ElementKind::I32 => cast_from::<i32>(x, to, y, range),
            ElementKind::U64 => cast_from::<u64>(x, to, y, range),
            ElementKind::I64 => cast_from::<i64>(x, to, y, range),
            ElementKind::F16 => cast_from::<f16>(x, to, y, range),
            ElementKind::Bf16 => cast_from::<bf16>(x, to, y, range),
            ElementKind::F32 => cast_from::<f32>(x, to, y, range),
            ElementKind::F64 => cast_from::<f64>(x, to, y, range),
        }
    }
}

/// # Safety
/// The elements of `range` are readable at `x` and writable at `y`.
unsafe fn cast_from<T: Element>(x: *const u8, to: ElementKind, y: *mut u8, range: Range<usize>) {
    // SAFETY: by the caller's promise.
    unsafe {
        match to {
            ElementKind::Bool => convert::<T, Truth>(x, y, range),
            ElementKind::U8 => convert::<T, u8>(x, y, range),
            ElementKind::I8 => convert::<T, i8>(x, y, range),
            ElementKind::U16 => convert::<T, u16>(x, y, range),
            ElementKind::I16 => convert::<T, i16>(x, y, range),
            ElementKind::U32 => convert::<T, u32>(x, y, range),
            ElementKind::I32 => convert::<T, i32>(x, y, range),
            ElementKind::U64 => convert::<T, u64>(x, y, range),
            ElementKind::I64 => convert::<T, i64>(x, y, range),
            ElementKind::F16 => convert::<T, f16>(x, y, range),
            ElementKind::Bf16 => convert::<T, bf16>(x, y, range),
            ElementKind::F32 => convert::<T, f32>(x, y, range),
            ElementKind::F64 => convert::<T, f64>(x, y, range),
        }
    }
}

/// # Safety
/// The elements of `range` are readable at `x` and writable at `y`.
#[inline(always)]
unsafe fn convert<T: Element, U: Element>(x: *const u8, y: *mut u8, range: Range<usize>) {
    let (x, y) = (x.cast::<T>(), y.cast::<U>());
    for i in range {
        // SAFETY: by the caller's promise.
        unsafe { y.add(i).write_unaligned(U::of(x.add(i).read_unaligned().widen())) };
    }
}

/// A truth value in memory: any byte, so that a bad one from outside is no undefined behaviour.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Truth(u8);

/// A number on its way from one type to another, without loss.
trait Wide: Copy {
    fn is_nonzero(self) -> bool;
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
    fn to_f16(self) -> f16;
    fn to_bf16(self) -> bf16;
    /// An integer, truncated, and saturated to `low..=high` where it comes from a float.
    fn to_i64(self, low: i64, high: i64) -> i64;
    fn to_u64(self) -> u64;
    fn to_i32(self) -> i32;
}

trait Element: Copy {
    type Wide: Wide;
    fn widen(self) -> Self::Wide;
    fn of(wide: impl Wide) -> Self;
}

/// The ways out of a wide float.
macro_rules! wide_float {
    ($t:ty, $half:ident) => {
        impl Wide for $t {
            #[inline(always)]
            fn is_nonzero(self) -> bool {
                self != 0.0
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_f16(self) -> f16 {
                f16::$half(self)
            }
            #[inline(always)]
            fn to_bf16(self) -> bf16 {
                bf16::$half(self)
            }
            #[inline(always)]
            fn to_i64(self, low: i64, high: i64) -> i64 {
                (self as i64).clamp(low, high)
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn to_i32(self) -> i32 {
                self as i32
            }
        }
    };
}

/// The ways out of a wide integer.
macro_rules! wide_integer {
    ($t:ty) => {
        impl Wide for $t {
            #[inline(always)]
            fn is_nonzero(self) -> bool {
                self != 0
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_f16(self) -> f16 {
                f16::from_f64(self as f64)
            }
            #[inline(always)]
            fn to_bf16(self) -> bf16 {
                bf16::from_f64(self as f64)
            }
            #[inline(always)]
            fn to_i64(self, _: i64, _: i64) -> i64 {
                self as i64
            }
            #[inline(always)]
            fn to_u64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn to_i32(self) -> i32 {
                self as i32
            }
        }
    };
}

wide_float!(f32, from_f32);
wide_float!(f64, from_f64);
wide_integer!(i64);
wide_integer!(u64);

/// An element type: its wide form, the way there, and the way back.
macro_rules! element {
    ($t:ty, $wide:ty, |$x:ident| $widen:expr, |$w:ident| $of:expr) => {
        impl Element for $t {
            type Wide = $wide;
            #[inline(always)]
            fn widen(self) -> $wide {
                let $x = self;
                $widen
            }
            #[inline(always)]
            fn of($w: impl Wide) -> Self {
                $of
            }
        }
    };
}

element!(Truth, u64, |x| (x.0 != 0).into(), |w| Truth(w.is_nonzero().into()));
element!(u8, u64, |x| x.into(), |w| w.to_i64(0, 0xff) as u8);
element!(u16, u64, |x| x.into(), |w| w.to_i64(0, 0xffff) as u16);
element!(u32, u64, |x| x.into(), |w| w.to_i64(0, 0xffff_ffff) as u32);
element!(u64, u64, |x| x, |w| w.to_u64());
element!(i8, i64, |x| x.into(), |w| w.to_i64(-0x80, 0x7f) as i8);
element!(i16, i64, |x| x.into(), |w| w.to_i64(-0x8000, 0x7fff) as i16);
element!(i32, i64, |x| x.into(), |w| w.to_i32());
element!(i64, i64, |x| x, |w| w.to_i64(i64::MIN, i64::MAX));
element!(f16, f32, |x| x.to_f32(), |w| w.to_f16());
element!(bf16, f32, |x| x.to_f32(), |w| w.to_bf16());
element!(f32, f32, |x| x, |w| w.to_f32());
element!(f64, f64, |x| x, |w| w.to_f64());

/// Whether [`CastTask`] has the pair.
fn has_vector_form(from: ElementKind, to: ElementKind) -> bool {
    use ElementKind::{Bf16, F16, F32, I8, I32, U8};
    matches!((from, to), (F16 | Bf16 | U8 | I8 | I32, F32) | (F32, F16 | Bf16 | I32 | U8 | I8))
}

struct CastTask {
    from: ElementKind,
    to: ElementKind,
    x: *const u8,
    y: *mut u8,
    range: Range<usize>,
}

impl SimdTask for CastTask {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        use ElementKind::{Bf16, F16, F32, I8, I32, U8};
        // SAFETY: the elements of the range are readable and writable.
        unsafe {
            match (self.from, self.to) {
                (F16, F32) => self.each(simd, HalfToFloat),
                (Bf16, F32) => self.each(simd, BrainToFloat),
                (U8, F32) => self.each(simd, UnsignedByteToFloat),
                (I8, F32) => self.each(simd, SignedByteToFloat),
                (I32, F32) => self.each(simd, IntegerToFloat),
                (F32, F16) => self.each(simd, FloatToHalf),
                (F32, I32) => self.each(simd, FloatToInteger),
                (F32, U8) => self.each(simd, FloatToUnsignedByte),
                (F32, I8) => self.each(simd, FloatToSignedByte),
                // A plain loop, which the compiler turns into this level's vectors.
                (F32, Bf16) => convert::<f32, bf16>(self.x, self.y, self.range),
                // Not reached: `has_vector_form` sends the others elsewhere.
                _ => {}
            }
        }
    }
}

impl CastTask {
    /// # Safety
    /// The elements of the range are readable and writable.
    #[inline(always)]
    unsafe fn each<S: Simd, C: Conversion>(self, simd: S, conversion: C) {
        let (x, y) = (self.x.cast::<C::From>(), self.y.cast::<C::To>());
        let Range { start: mut i, end } = self.range;
        // SAFETY: no more elements are converted than are left.
        unsafe {
            while i + S::LANES <= end {
                conversion.convert(simd, x.add(i), y.add(i), S::LANES);
                i += S::LANES;
            }
            if i < end {
                conversion.convert(simd, x.add(i), y.add(i), end - i);
            }
        }
    }
}

/// The conversion of one vector.
trait Conversion {
    type From;
    type To;
    /// Converts the first `n <= LANES` elements.
    ///
    /// # Safety
    /// They are readable at `x` and writable at `y`.
    unsafe fn convert<S: Simd>(&self, simd: S, x: *const Self::From, y: *mut Self::To, n: usize);
}

/// A conversion by loading and storing.
macro_rules! conversion {
    ($name:ident, $from:ty, $to:ty, |$simd:ident, $x:ident, $y:ident, $n:ident| $body:expr) => {
        struct $name;
        impl Conversion for $name {
            type From = $from;
            type To = $to;
            #[inline(always)]
            unsafe fn convert<S: Simd>(&self, $simd: S, $x: *const $from, $y: *mut $to, $n: usize) {
                // SAFETY: by the caller's promise.
                unsafe { $body }
            }
        }
    };
}

conversion!(HalfToFloat, u16, f32, |simd, x, y, n| {
    simd.store_masked(y, simd.load_f16(x, n), simd.first(n));
});
conversion!(BrainToFloat, u16, f32, |simd, x, y, n| {
    simd.store_masked(y, simd.load_bf16(x, n), simd.first(n));
});
conversion!(UnsignedByteToFloat, u8, f32, |simd, x, y, n| {
    simd.store_masked(y, simd.to_f32(simd.load_u8(x, n)), simd.first(n));
});
conversion!(SignedByteToFloat, i8, f32, |simd, x, y, n| {
    simd.store_masked(y, simd.to_f32(simd.load_i8(x, n)), simd.first(n));
});
conversion!(IntegerToFloat, i32, f32, |simd, x, y, n| {
    let mask = simd.first(n);
    simd.store_masked(y, simd.to_f32(simd.load_i32_masked(x, mask)), mask);
});
conversion!(FloatToHalf, f32, u16, |simd, x, y, n| {
    simd.store_f16(y, simd.load_masked(x, simd.first(n)), n);
});
conversion!(FloatToInteger, f32, i32, |simd, x, y, n| {
    let mask = simd.first(n);
    simd.store_i32_masked(y, truncate(simd, simd.load_masked(x, mask)), mask);
});
conversion!(FloatToUnsignedByte, f32, u8, |simd, x, y, n| {
    simd.store_u8(y, truncate(simd, simd.load_masked(x, simd.first(n))), n);
});
conversion!(FloatToSignedByte, f32, i8, |simd, x, y, n| {
    simd.store_i8(y, truncate(simd, simd.load_masked(x, simd.first(n))), n);
});

/// To the integer nearest to zero, saturated; NaN becomes 0.
#[inline(always)]
fn truncate<S: Simd>(simd: S, x: S::F32) -> S::I32 {
    const LIMIT: f32 = (1u32 << 31) as f32;
    // The largest float below the limit; the bits that it lacks of the largest integer come last.
    const LARGEST: f32 = 2_147_483_520.0;
    let zero = simd.splat(0.0);
    let missing = simd.select(simd.le(simd.splat(LIMIT), x), simd.from_bits(simd.splat_i32(127)), zero);
    let number = simd.select(simd.eq(x, x), x, zero);
    let bounded = simd.min(simd.splat(LARGEST), simd.max(simd.splat(-LIMIT), number));
    let whole = simd.copysign(simd.floor(simd.abs(bounded)), bounded);
    simd.or_i32(simd.round_to_i32(whole), simd.to_bits(missing))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes<T: bytemuck::NoUninit>(x: &[T]) -> Vec<u8> {
        bytemuck::cast_slice(x).to_vec()
    }

    fn encode(kind: ElementKind, values: &[f64]) -> Vec<u8> {
        let each = |f: &dyn Fn(f64) -> Vec<u8>| values.iter().flat_map(|&x| f(x)).collect();
        match kind {
            ElementKind::Bool => each(&|x| vec![u8::from(x != 0.0)]),
            ElementKind::U8 => each(&|x| vec![x as u8]),
            ElementKind::I8 => each(&|x| bytes(&[x as i8])),
            ElementKind::U16 => each(&|x| bytes(&[x as u16])),
            ElementKind::I16 => each(&|x| bytes(&[x as i16])),
            ElementKind::U32 => each(&|x| bytes(&[x as u32])),
            ElementKind::I32 => each(&|x| bytes(&[x as i32])),
            ElementKind::U64 => each(&|x| bytes(&[x as u64])),
            ElementKind::I64 => each(&|x| bytes(&[x as i64])),
            ElementKind::F16 => each(&|x| bytes(&[f16::from_f64(x).to_bits()])),
            ElementKind::Bf16 => each(&|x| bytes(&[bf16::from_f64(x).to_bits()])),
            ElementKind::F32 => each(&|x| bytes(&[x as f32])),
            ElementKind::F64 => each(&|x| bytes(&[x])),
        }
    }

    #[test]
    fn every_pair_at_every_level_in_parts() {
        // Small integers, which every type but bool holds exactly.
        let values: Vec<f64> = (0..131).map(|i| f64::from(i % 100)).collect();
        for level in Level::available() {
            for from in ElementKind::ALL {
                for to in ElementKind::ALL {
                    let source = encode(from, &values);
                    let truth: Vec<f64> = values.iter().map(|&x| f64::from(u8::from(x != 0.0))).collect();
                    let expected = encode(to, if from == ElementKind::Bool { &truth } else { &values });
                    for (n, count) in [(131, 1), (131, 3), (17, 2), (1, 1), (0, 1)] {
                        let mut y = vec![0xee; n * to.size()];
                        for index in 0..count {
                            let x = &source[..n * from.size()];
                            cast(level, from, x, to, SharedSlice::new(&mut y), Part { index, count });
                        }
                        assert_eq!(y, expected[..n * to.size()], "{level} {from:?} to {to:?}, {n} elements");
                    }
                }
            }
        }
    }

    fn cast_all<T: bytemuck::NoUninit, U: bytemuck::AnyBitPattern>(
        level: Level,
        from: ElementKind,
        x: &[T],
        to: ElementKind,
    ) -> Vec<U> {
        let mut y = vec![0; x.len() * to.size()];
        cast(level, from, bytemuck::cast_slice(x), to, SharedSlice::new(&mut y), Part::WHOLE);
        y.chunks_exact(size_of::<U>()).map(bytemuck::pod_read_unaligned).collect()
    }

    #[test]
    fn edges_saturate_wrap_and_round() {
        use ElementKind::{Bf16, Bool, F16, F32, F64, I8, I32, I64, U8};
        let floats = [1.9f32, -1.9, 300.0, -300.0, 3e9, -3e9, f32::NAN, f32::INFINITY, -0.0];
        for level in Level::available() {
            let max = i32::MAX;
            let words: Vec<i32> = cast_all(level, F32, &floats, I32);
            assert_eq!(words, [1, -1, 300, -300, max, i32::MIN, 0, max, 0]);
            let bytes: Vec<u8> = cast_all(level, F32, &floats, U8);
            assert_eq!(bytes, [1, 0, 255, 0, 255, 0, 0, 255, 0]);
            let bytes: Vec<i8> = cast_all(level, F32, &floats, I8);
            assert_eq!(bytes, [1, -1, 127, -128, 127, -128, 0, 127, 0]);
            let bytes: Vec<u8> = cast_all(level, F32, &floats, Bool);
            assert_eq!(bytes, [1, 1, 1, 1, 1, 1, 1, 1, 0]);
            let bytes: Vec<i8> = cast_all(level, I64, &[127i64, 128, -129, 256], I8);
            assert_eq!(bytes, [127, -128, 127, 0]);
            let halves: Vec<u16> = cast_all(level, F32, &[1.0f32, 65520.0, 1.0 + 1.0 / 2048.0, 1e-8], F16);
            assert_eq!(halves, [0x3c00, 0x7c00, 0x3c00, 0]);
            let brains: Vec<u16> = cast_all(level, F32, &[1.0f32, 1.0 + 1.0 / 256.0, f32::NAN], Bf16);
            assert_eq!(brains[..2], [0x3f80, 0x3f80]);
            assert!(bf16::from_bits(brains[2]).is_nan());
            let wide: Vec<f64> = cast_all(level, ElementKind::U64, &[u64::MAX], F64);
            assert_eq!(wide, [18446744073709551615.0]);
        }
    }
}
