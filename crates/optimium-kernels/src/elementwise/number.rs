//! The element types that arithmetic kernels are written for.

/// A number type, with the arithmetic of ONNX: integers wrap, and nothing panics.
pub trait Number: Copy + PartialOrd + Send + Sync + 'static {
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// What every other value is at least as large as: minus infinity where there is one.
    const LOWEST: Self;
    /// What every other value is at most as large as: infinity where there is one.
    const HIGHEST: Self;

    /// `self + other`
    fn add(self, other: Self) -> Self;
    /// `self - other`
    fn sub(self, other: Self) -> Self;
    /// `self · other`
    fn mul(self, other: Self) -> Self;
    /// `self / other`; of integers truncated towards zero, and 0 where `other` is.
    fn div(self, other: Self) -> Self;
    /// The remainder with the sign of the divisor; of integers 0 where `other` is.
    fn modulo(self, other: Self) -> Self;
    /// The remainder with the sign of the dividend; of integers 0 where `other` is.
    fn remainder(self, other: Self) -> Self;
    /// `self` to the power of `other`. Of integers with a negative exponent: the truncated value.
    fn power(self, other: Self) -> Self;
    /// The larger of both, NaN where either is.
    fn max_or_nan(self, other: Self) -> Self;
    /// The smaller of both, NaN where either is.
    fn min_or_nan(self, other: Self) -> Self;
    /// The magnitude, wrapping.
    fn absolute(self) -> Self;
    /// `-self`, wrapping.
    fn negative(self) -> Self;
    /// -1, 0 or 1; NaN of NaN.
    fn signum_or_zero(self) -> Self;
    /// As an `f64`, rounded.
    fn to_f64(self) -> f64;
    /// The nearest value of this type; of integers truncated and saturated.
    fn from_f64(x: f64) -> Self;
    /// The number of elements, as a divisor.
    fn from_count(n: usize) -> Self;
}

/// A float type's arithmetic, by the type's own functions.
macro_rules! float_number {
    ($t:ty) => {
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const LOWEST: Self = <$t>::NEG_INFINITY;
            const HIGHEST: Self = <$t>::INFINITY;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self + other
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self - other
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self * other
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                self / other
            }
            #[inline(always)]
            fn modulo(self, other: Self) -> Self {
                let rest = self % other;
                if rest != 0.0 && (rest < 0.0) != (other < 0.0) { rest + other } else { rest }
            }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                self % other
            }
            #[inline(always)]
            fn power(self, other: Self) -> Self {
                self.powf(other)
            }
            #[inline(always)]
            fn max_or_nan(self, other: Self) -> Self {
                if self > other || self.is_nan() { self } else { other }
            }
            #[inline(always)]
            fn min_or_nan(self, other: Self) -> Self {
                if self < other || self.is_nan() { self } else { other }
            }
            #[inline(always)]
            fn absolute(self) -> Self {
                self.abs()
            }
            #[inline(always)]
            fn negative(self) -> Self {
                -self
            }
            #[inline(always)]
            fn signum_or_zero(self) -> Self {
                if self == 0.0 || self.is_nan() { self } else { self.signum() }
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn from_count(n: usize) -> Self {
                n as $t
            }
        }
    };
}

/// An integer type's arithmetic, wrapping.
macro_rules! integer_number {
    ($t:ty) => {
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const LOWEST: Self = <$t>::MIN;
            const HIGHEST: Self = <$t>::MAX;
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn div(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_div(other) }
            }
            #[inline(always)]
            fn modulo(self, other: Self) -> Self {
                let rest = self.remainder(other);
                #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                let opposite = (rest < 0) != (other < 0);
                if rest != 0 && opposite { rest.wrapping_add(other) } else { rest }
            }
            #[inline(always)]
            fn remainder(self, other: Self) -> Self {
                if other == 0 { 0 } else { self.wrapping_rem(other) }
            }
            #[inline(always)]
            fn power(self, other: Self) -> Self {
                match u64::try_from(other) {
                    Ok(exponent) => wrapping_power(self, exponent),
                    Err(_) if self == 1 => 1,
                    // The powers of minus one, the only other base whose inverse is an integer.
                    Err(_) if self == Self::ZERO.wrapping_sub(1) => {
                        if other % 2 == 0 {
                            1
                        } else {
                            self
                        }
                    }
                    Err(_) => 0,
                }
            }
            #[inline(always)]
            fn max_or_nan(self, other: Self) -> Self {
                self.max(other)
            }
            #[inline(always)]
            fn min_or_nan(self, other: Self) -> Self {
                self.min(other)
            }
            #[inline(always)]
            fn absolute(self) -> Self {
                #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                if self < 0 { self.negative() } else { self }
            }
            #[inline(always)]
            fn negative(self) -> Self {
                self.wrapping_neg()
            }
            #[inline(always)]
            fn signum_or_zero(self) -> Self {
                #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                if self < 0 { Self::ZERO.wrapping_sub(1) } else { (self > 0).into() }
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn from_f64(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn from_count(n: usize) -> Self {
                n as $t
            }
        }
    };
}

float_number!(f32);
float_number!(f64);
integer_number!(i8);
integer_number!(i16);
integer_number!(i32);
integer_number!(i64);
integer_number!(u8);
integer_number!(u16);
integer_number!(u32);
integer_number!(u64);

/// `baseⁿ` by squaring.
fn wrapping_power<T: Number>(mut base: T, mut n: u64) -> T {
    let mut product = T::ONE;
    while n > 0 {
        if n & 1 == 1 {
            product = product.mul(base);
        }
        base = base.mul(base);
        n >>= 1;
    }
    product
}

/// A type whose bits can be combined: the integers, and `bool` as `u8`.
pub trait Bits: Number {
    /// Bitwise and.
    fn and(self, other: Self) -> Self;
    /// Bitwise or.
    fn or(self, other: Self) -> Self;
    /// Bitwise exclusive or.
    fn xor(self, other: Self) -> Self;
    /// Bitwise complement.
    fn complement(self) -> Self;
    /// `self << n`; 0 where `n` is negative or not below the width.
    fn shift_left(self, n: Self) -> Self;
    /// `self >> n`, logical for unsigned types; where `n` is negative or not below the width 0, and -1 of negative
    /// numbers.
    fn shift_right(self, n: Self) -> Self;
}

/// The bit operations of an integer type.
macro_rules! integer_bits {
    ($t:ty) => {
        impl Bits for $t {
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn complement(self) -> Self {
                !self
            }
            #[inline(always)]
            fn shift_left(self, n: Self) -> Self {
                u32::try_from(n).ok().and_then(|n| self.checked_shl(n)).unwrap_or(0)
            }
            #[inline(always)]
            fn shift_right(self, n: Self) -> Self {
                #[allow(unused_comparisons, reason = "the macro serves unsigned types too")]
                let all_sign = if self < 0 { !0 } else { 0 };
                u32::try_from(n).ok().and_then(|n| self.checked_shr(n)).unwrap_or(all_sign)
            }
        }
    };
}

integer_bits!(i8);
integer_bits!(i16);
integer_bits!(i32);
integer_bits!(i64);
integer_bits!(u8);
integer_bits!(u16);
integer_bits!(u32);
integer_bits!(u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_follow_onnx() {
        assert_eq!(Number::div(-7i32, 2), -3);
        assert_eq!(Number::div(7i64, 0), 0);
        assert_eq!(Number::div(i8::MIN, -1), i8::MIN);
        assert_eq!([(-7i32).modulo(3), 7i32.modulo(-3), 6i32.modulo(-3), 5i32.modulo(0)], [2, -2, 0, 0]);
        assert_eq!([(-7i32).remainder(3), 7i32.remainder(-3)], [-1, 1]);
        assert_eq!(
            [2i64.power(10), (-2i64).power(3), 2i64.power(-1), (-1i64).power(-3), 0i64.power(0)],
            [1024, -8, 0, -1, 1]
        );
        assert_eq!(
            [1u8.shift_left(7), 1u8.shift_left(8), 0x80u8.shift_right(7), 0x80u8.shift_right(9)],
            [0x80, 0, 1, 0]
        );
        assert_eq!(
            [(-8i8).shift_right(1), (-8i8).shift_right(8), (-8i8).shift_right(-1), 8i8.shift_right(8)],
            [-4, -1, -1, 0]
        );
        assert_eq!([(-5i32).signum_or_zero(), 0i32.signum_or_zero(), 5i32.signum_or_zero()], [-1, 0, 1]);
    }

    #[test]
    fn floats_follow_onnx() {
        assert_eq!([(-7.5f32).modulo(2.0), 7.5f32.modulo(-2.0)], [0.5, -0.5]);
        assert_eq!([(-7.5f32).remainder(2.0), 7.5f32.remainder(-2.0)], [-1.5, 1.5]);
        assert!(f32::NAN.max_or_nan(1.0).is_nan() && 1f32.max_or_nan(f32::NAN).is_nan());
        assert!(f32::NAN.min_or_nan(1.0).is_nan() && 1f32.min_or_nan(f32::NAN).is_nan());
        assert!(f32::NAN.signum_or_zero().is_nan());
    }
}
