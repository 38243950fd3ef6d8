//! Functions of one element.

use optimium_simd::{Level, Simd, SimdTask};

use super::{Bits, Map, Number, Source, VectorFunction, scalar};
use crate::math;
use crate::{Part, SharedSlice};

/// A function of one element. Those of [`Activation`](crate::activation::Activation) are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unary {
    /// `|x|`
    Abs,
    /// `-x`
    Neg,
    /// `eˣ`
    Exp,
    /// `ln x`
    Log,
    /// `√x`
    Sqrt,
    /// `1 / x`
    Reciprocal,
    /// To the integer below.
    Floor,
    /// To the integer above.
    Ceil,
    /// To the nearest integer, ties to even.
    Round,
    /// -1, 0 or 1.
    Sign,
    /// The error function.
    Erf,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// Inverse sine.
    Asin,
    /// Inverse cosine.
    Acos,
    /// Inverse tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// Hyperbolic tangent.
    Tanh,
    /// Inverse hyperbolic sine.
    Asinh,
    /// Inverse hyperbolic cosine.
    Acosh,
    /// Inverse hyperbolic tangent.
    Atanh,
}

/// `y = op(x)` element by element; `x` may be the memory of `y`.
///
/// # Panics
/// Where the lengths differ, or `x` overlaps `y` without being the same.
pub fn unary_f32<'a>(
    level: Level,
    op: Unary,
    x: impl Into<Source<'a, f32>>,
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    x.assert_elementwise(y);
    if has_vector_form(op) {
        level.run(UnaryTask { op, x, y, part });
    } else {
        map_scalar(x, y, part, |x| unary_f64_of(op, f64::from(x)) as f32);
    }
}

/// As [`unary_f32`], of `f64`.
///
/// # Panics
/// Where the lengths differ, or `x` overlaps `y` without being the same.
pub fn unary_f64<'a>(op: Unary, x: impl Into<Source<'a, f64>>, y: SharedSlice<'_, f64>, part: Part) {
    map_scalar(x.into(), y, part, |x| unary_f64_of(op, x));
}

/// As [`unary_f32`], of integers: `Abs`, `Neg` (wrapping) and `Sign`; what rounds leaves integers as
/// they are, and the rest is computed in `f64`, truncated and saturated.
///
/// # Panics
/// Where the lengths differ, or `x` overlaps `y` without being the same.
pub fn unary_integer<'a, T: Number>(
    op: Unary,
    x: impl Into<Source<'a, T>>,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    let x = x.into();
    match op {
        Unary::Abs => map_scalar(x, y, part, T::absolute),
        Unary::Neg => map_scalar(x, y, part, T::negative),
        Unary::Sign => map_scalar(x, y, part, T::signum_or_zero),
        Unary::Floor | Unary::Ceil | Unary::Round => map_scalar(x, y, part, |x| x),
        _ => map_scalar(x, y, part, |x| T::from_f64(unary_f64_of(op, x.to_f64()))),
    }
}

/// The bitwise complement of integers.
///
/// # Panics
/// Where the lengths differ, or `x` overlaps `y` without being the same.
pub fn bitwise_not<'a, T: Bits>(x: impl Into<Source<'a, T>>, y: SharedSlice<'_, T>, part: Part) {
    map_scalar(x.into(), y, part, T::complement);
}

/// The negation of truth values, of which 0 is false and all others true; gives 0 or 1.
///
/// # Panics
/// Where the lengths differ, or `x` overlaps `y` without being the same.
pub fn logical_not<'a>(x: impl Into<Source<'a, u8>>, y: SharedSlice<'_, u8>, part: Part) {
    map_scalar(x.into(), y, part, |x| u8::from(x == 0));
}

/// Whether each element is NaN, as 0 or 1.
///
/// # Panics
/// Where the lengths differ.
pub fn is_nan<T: Number>(x: &[T], y: SharedSlice<'_, u8>, part: Part) {
    map_scalar(x.into(), y, part, |x| u8::from(x.to_f64().is_nan()));
}

/// Whether each element is infinite, with a positive or negative sign as asked for, as 0 or 1.
///
/// # Panics
/// Where the lengths differ.
pub fn is_infinite<T: Number>(
    x: &[T],
    detect_negative: bool,
    detect_positive: bool,
    y: SharedSlice<'_, u8>,
    part: Part,
) {
    map_scalar(x.into(), y, part, |x| {
        let x = x.to_f64();
        u8::from((detect_positive && x == f64::INFINITY) || (detect_negative && x == f64::NEG_INFINITY))
    });
}

/// `y = f(x)`, one after the other.
pub(crate) fn map_scalar<T: Copy, U>(
    x: Source<'_, T>,
    y: SharedSlice<'_, U>,
    part: Part,
    f: impl Fn(T) -> U,
) {
    x.assert_elementwise(y);
    for i in part.range_of_granules(y.len(), 64) {
        // SAFETY: in bounds of both, which have the same length; the range is this part's own, and
        // where x is the memory of y, each element is read before it is written.
        unsafe { y.as_mut_ptr().add(i).write(f(x.as_ptr().add(i).read())) };
    }
}

/// Whether [`UnaryTask`] has the function.
fn has_vector_form(op: Unary) -> bool {
    !matches!(
        op,
        Unary::Tan
            | Unary::Asin
            | Unary::Acos
            | Unary::Atan
            | Unary::Sinh
            | Unary::Cosh
            | Unary::Asinh
            | Unary::Acosh
            | Unary::Atanh
    )
}

struct UnaryTask<'a, 'b> {
    op: Unary,
    x: Source<'a, f32>,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for UnaryTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let range = self.part.range_of_granules(self.y.len(), 64);
        // SAFETY: the lengths were found equal, and the range is this part's own.
        let map = unsafe { Map::new(self.x, self.y, range) };
        // Each function has its own loop, without the choice inside.
        match self.op {
            Unary::Abs => map.run(simd, Unary::Abs),
            Unary::Neg => map.run(simd, Unary::Neg),
            Unary::Exp => map.run(simd, Unary::Exp),
            Unary::Log => map.run(simd, Unary::Log),
            Unary::Sqrt => map.run(simd, Unary::Sqrt),
            Unary::Reciprocal => map.run(simd, Unary::Reciprocal),
            Unary::Floor => map.run(simd, Unary::Floor),
            Unary::Ceil => map.run(simd, Unary::Ceil),
            Unary::Round => map.run(simd, Unary::Round),
            Unary::Sign => map.run(simd, Unary::Sign),
            Unary::Erf => map.run(simd, Unary::Erf),
            Unary::Sin => map.run(simd, Unary::Sin),
            Unary::Cos => map.run(simd, Unary::Cos),
            Unary::Tanh => map.run(simd, Unary::Tanh),
            // Not reached: `has_vector_form` sends the others elsewhere.
            _ => {}
        }
    }
}

impl VectorFunction for Unary {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32 {
        match self {
            Unary::Abs => simd.abs(x),
            Unary::Neg => simd.neg(x),
            Unary::Exp => math::exp(simd, x),
            Unary::Log => math::log(simd, x),
            Unary::Sqrt => simd.sqrt(x),
            Unary::Reciprocal => simd.div(simd.splat(1.0), x),
            Unary::Floor => simd.floor(x),
            Unary::Ceil => simd.neg(simd.floor(simd.neg(x))),
            Unary::Round => simd.round(x),
            Unary::Sign => sign(simd, x),
            Unary::Erf => math::erf(simd, x),
            Unary::Sin => math::sin(simd, x),
            Unary::Cos => math::cos(simd, x),
            Unary::Tanh => math::tanh(simd, x),
            // Those without a vector form, which do not get here.
            _ => x,
        }
    }
}

/// -1, 0 or 1; NaN of NaN.
#[inline(always)]
fn sign<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let nonzero = simd.lt(simd.splat(0.0), simd.abs(x));
    simd.select(nonzero, simd.copysign(simd.splat(1.0), x), x)
}

/// The function of one `f64`.
pub(crate) fn unary_f64_of(op: Unary, x: f64) -> f64 {
    match op {
        Unary::Abs => x.abs(),
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Reciprocal => 1.0 / x,
        Unary::Floor => x.floor(),
        Unary::Ceil => x.ceil(),
        Unary::Round => x.round_ties_even(),
        Unary::Sign => x.signum_or_zero(),
        Unary::Erf => scalar::erf_f64(x),
        Unary::Sin => x.sin(),
        Unary::Cos => x.cos(),
        Unary::Tan => x.tan(),
        Unary::Asin => x.asin(),
        Unary::Acos => x.acos(),
        Unary::Atan => x.atan(),
        Unary::Sinh => x.sinh(),
        Unary::Cosh => x.cosh(),
        Unary::Tanh => x.tanh(),
        Unary::Asinh => x.asinh(),
        Unary::Acosh => x.acosh(),
        Unary::Atanh => x.atanh(),
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Tolerance, compare, each_case};

    use super::*;

    const ALL: [Unary; 23] = [
        Unary::Abs,
        Unary::Neg,
        Unary::Exp,
        Unary::Log,
        Unary::Sqrt,
        Unary::Reciprocal,
        Unary::Floor,
        Unary::Ceil,
        Unary::Round,
        Unary::Sign,
        Unary::Erf,
        Unary::Sin,
        Unary::Cos,
        Unary::Tan,
        Unary::Asin,
        Unary::Acos,
        Unary::Atan,
        Unary::Sinh,
        Unary::Cosh,
        Unary::Tanh,
        Unary::Asinh,
        Unary::Acosh,
        Unary::Atanh,
    ];

    fn inputs() -> Vec<f32> {
        let mut x: Vec<f32> = (-300..300).map(|i| i as f32 * 0.25).collect();
        x.extend([0.5, 1.5, 2.5, -0.5, -0.0, 1e9, -1e9, 1e-40, f32::MAX]);
        x.extend([f32::NAN, f32::INFINITY, f32::NEG_INFINITY]);
        x
    }

    #[test]
    fn every_function_at_every_level_in_parts_and_in_place() {
        let cases = Level::available().flat_map(|level| ALL.map(|op| (level, op)));
        let x = inputs();
        each_case(cases.collect::<Vec<_>>(), |&(level, op)| {
            let expected: Vec<f32> = x.iter().map(|&x| unary_f64_of(op, f64::from(x)) as f32).collect();
            for count in 1..4 {
                let mut y = x.clone();
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    unary_f32(level, op, shared, shared, Part { index, count });
                }
                compare(&y, &expected, Tolerance::Relative(1e-6))?;
            }
            Ok(())
        });
    }

    #[test]
    fn integers_and_truth_values() {
        let mut y = [0i32; 4];
        unary_integer(Unary::Abs, &[-3, 4, i32::MIN, 0][..], SharedSlice::new(&mut y), Part::WHOLE);
        assert_eq!(y, [3, 4, i32::MIN, 0]);
        unary_integer(Unary::Sqrt, &[9, 8, 0, 1][..], SharedSlice::new(&mut y), Part::WHOLE);
        assert_eq!(y, [3, 2, 0, 1]);
        bitwise_not(&[0, -1, 5, 1][..], SharedSlice::new(&mut y), Part::WHOLE);
        assert_eq!(y, [-1, 0, -6, -2]);
        let mut b = [0u8; 3];
        logical_not(&[0, 1, 7][..], SharedSlice::new(&mut b), Part::WHOLE);
        assert_eq!(b, [1, 0, 0]);
        is_nan(&[f32::NAN, 1.0, f32::INFINITY], SharedSlice::new(&mut b), Part::WHOLE);
        assert_eq!(b, [1, 0, 0]);
        let infinities = [f64::NEG_INFINITY, 1.0, f64::INFINITY];
        is_infinite(&infinities, true, false, SharedSlice::new(&mut b), Part::WHOLE);
        assert_eq!(b, [1, 0, 0]);
    }
}
