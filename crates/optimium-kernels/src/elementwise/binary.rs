//! Functions of two elements, with broadcasting.

use optimium_simd::{Level, Simd, SimdTask};

use super::broadcast::Plane;
use super::{Bits, Broadcast, Number, Source};
use crate::activation::apply_prelu;
use crate::{Part, SharedSlice};

/// A function of two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Binary {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a · b`
    Mul,
    /// `a / b`; of integers truncated, and 0 for a divisor of 0.
    Div,
    /// `a` to the power of `b`
    Pow,
    /// The smaller of both, NaN where either is.
    Min,
    /// The larger of both, NaN where either is.
    Max,
    /// The remainder with the sign of the divisor.
    Mod,
    /// The remainder with the sign of the dividend.
    Fmod,
    /// `a` where positive, else `a · b`
    PRelu,
    /// `(a - b)²`
    SquaredDifference,
}

/// A function of the bits of two integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bitwise {
    /// `a & b`
    And,
    /// `a | b`
    Or,
    /// `a ^ b`
    Xor,
    /// `a << b`; 0 where `b` is not below the width.
    ShiftLeft,
    /// `a >> b`; 0 where `b` is not below the width.
    ShiftRight,
}

/// A function of two truth values, bytes of which 0 is false.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Logical {
    /// Both.
    And,
    /// Either or both.
    Or,
    /// Either, not both.
    Xor,
}

/// A relation of two numbers; none but inequality holds for NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// `a = b`
    Equal,
    /// `a ≠ b`
    NotEqual,
    /// `a < b`
    Less,
    /// `a <= b`
    LessOrEqual,
    /// `a > b`
    Greater,
    /// `a >= b`
    GreaterOrEqual,
}

/// `y = op(a, b)`. An operand that is not broadcast and contiguous may be the memory of `y`.
///
/// # Panics
/// Where `broadcast` reads beyond an operand, `y` has another length than it, or an operand overlaps
/// `y` otherwise than element by element.
pub fn binary_f32<'a, 'b>(
    level: Level,
    op: Binary,
    broadcast: &Broadcast,
    a: impl Into<Source<'a, f32>>,
    b: impl Into<Source<'b, f32>>,
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let (a, b) = (a.into(), b.into());
    broadcast.check(0, a, y);
    broadcast.check(1, b, y);
    match op {
        Binary::Pow | Binary::Mod | Binary::Fmod => binary(op, broadcast, a, b, y, part),
        _ => level.run(BinaryTask { op, broadcast, a: a.as_ptr(), b: b.as_ptr(), y, part }),
    }
}

/// As [`binary_f32`], for every type of number.
///
/// # Panics
/// As [`binary_f32`].
pub fn binary<'a, 'b, T: Number>(
    op: Binary,
    broadcast: &Broadcast,
    a: impl Into<Source<'a, T>>,
    b: impl Into<Source<'b, T>>,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    let (a, b) = (a.into(), b.into());
    match op {
        Binary::Add => zip(broadcast, a, b, y, part, T::add),
        Binary::Sub => zip(broadcast, a, b, y, part, T::sub),
        Binary::Mul => zip(broadcast, a, b, y, part, T::mul),
        Binary::Div => zip(broadcast, a, b, y, part, T::div),
        Binary::Pow => zip(broadcast, a, b, y, part, power),
        Binary::Min => zip(broadcast, a, b, y, part, T::min_or_nan),
        Binary::Max => zip(broadcast, a, b, y, part, T::max_or_nan),
        Binary::Mod => zip(broadcast, a, b, y, part, T::modulo),
        Binary::Fmod => zip(broadcast, a, b, y, part, T::remainder),
        Binary::PRelu => zip(broadcast, a, b, y, part, |a, b| if a < T::ZERO { a.mul(b) } else { a }),
        Binary::SquaredDifference => zip(broadcast, a, b, y, part, |a, b| a.sub(b).mul(a.sub(b))),
    }
}

/// `y = op(a, b)` of the bits of integers.
///
/// # Panics
/// As [`binary_f32`].
pub fn bitwise<'a, 'b, T: Bits>(
    op: Bitwise,
    broadcast: &Broadcast,
    a: impl Into<Source<'a, T>>,
    b: impl Into<Source<'b, T>>,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    let (a, b) = (a.into(), b.into());
    match op {
        Bitwise::And => zip(broadcast, a, b, y, part, T::and),
        Bitwise::Or => zip(broadcast, a, b, y, part, T::or),
        Bitwise::Xor => zip(broadcast, a, b, y, part, T::xor),
        Bitwise::ShiftLeft => zip(broadcast, a, b, y, part, T::shift_left),
        Bitwise::ShiftRight => zip(broadcast, a, b, y, part, T::shift_right),
    }
}

/// `y = op(a, b)` of truth values; gives 0 or 1.
///
/// # Panics
/// As [`binary_f32`].
pub fn logical<'a, 'b>(
    op: Logical,
    broadcast: &Broadcast,
    a: impl Into<Source<'a, u8>>,
    b: impl Into<Source<'b, u8>>,
    y: SharedSlice<'_, u8>,
    part: Part,
) {
    let (a, b) = (a.into(), b.into());
    match op {
        Logical::And => zip(broadcast, a, b, y, part, |a, b| u8::from((a != 0) & (b != 0))),
        Logical::Or => zip(broadcast, a, b, y, part, |a, b| u8::from((a != 0) | (b != 0))),
        Logical::Xor => zip(broadcast, a, b, y, part, |a, b| u8::from((a != 0) ^ (b != 0))),
    }
}

/// Whether the relation holds, as 0 or 1.
///
/// # Panics
/// As [`binary_f32`].
pub fn compare<'a, 'b, T: Number>(
    op: Comparison,
    broadcast: &Broadcast,
    a: impl Into<Source<'a, T>>,
    b: impl Into<Source<'b, T>>,
    y: SharedSlice<'_, u8>,
    part: Part,
) {
    let (a, b) = (a.into(), b.into());
    match op {
        Comparison::Equal => zip(broadcast, a, b, y, part, |a, b| u8::from(a == b)),
        Comparison::NotEqual => zip(broadcast, a, b, y, part, |a, b| u8::from(a != b)),
        Comparison::Less => zip(broadcast, a, b, y, part, |a, b| u8::from(a < b)),
        Comparison::LessOrEqual => zip(broadcast, a, b, y, part, |a, b| u8::from(a <= b)),
        Comparison::Greater => zip(broadcast, a, b, y, part, |a, b| u8::from(a > b)),
        Comparison::GreaterOrEqual => zip(broadcast, a, b, y, part, |a, b| u8::from(a >= b)),
    }
}

/// The power, with the cheap and most frequent exponent first.
#[inline(always)]
fn power<T: Number>(a: T, b: T) -> T {
    if b == T::ONE.add(T::ONE) { a.mul(a) } else { a.power(b) }
}

/// `y = f(a, b)`, one after the other.
fn zip<T: Copy, U>(
    broadcast: &Broadcast,
    a: Source<'_, T>,
    b: Source<'_, T>,
    y: SharedSlice<'_, U>,
    part: Part,
    f: impl Fn(T, T) -> U + Copy,
) {
    broadcast.check(0, a, y);
    broadcast.check(1, b, y);
    let (a, b, y) = (a.as_ptr(), b.as_ptr(), y.as_mut_ptr());
    for plane in broadcast.planes(part.range_of_granules(broadcast.len(), 64)) {
        for row in 0..plane.rows {
            // SAFETY: the plane lies in the operands and in the output, whose lengths were checked,
            // and its output elements are this part's own.
            unsafe {
                let a = a.add(plane.offsets[0] + row * plane.row_strides[0]);
                let b = b.add(plane.offsets[1] + row * plane.row_strides[1]);
                let y = y.add(plane.output + row * plane.columns);
                // The steps as constants, for loops that the compiler can turn into vectors.
                match plane.strides {
                    [1, 1] => zip_row(a, 1, b, 1, y, plane.columns, f),
                    [1, 0] => zip_row(a, 1, b, 0, y, plane.columns, f),
                    [0, 1] => zip_row(a, 0, b, 1, y, plane.columns, f),
                    [i, j] => zip_row(a, i, b, j, y, plane.columns, f),
                }
            }
        }
    }
}

/// # Safety
/// `n` elements are readable at `a` and `b` in those steps, and writable at `y`.
#[inline(always)]
unsafe fn zip_row<T: Copy, U>(
    a: *const T,
    a_stride: usize,
    b: *const T,
    b_stride: usize,
    y: *mut U,
    n: usize,
    f: impl Fn(T, T) -> U,
) {
    for i in 0..n {
        // SAFETY: by the caller's promise.
        unsafe { y.add(i).write(f(a.add(i * a_stride).read(), b.add(i * b_stride).read())) };
    }
}

struct BinaryTask<'a> {
    op: Binary,
    broadcast: &'a Broadcast,
    a: *const f32,
    b: *const f32,
    y: SharedSlice<'a, f32>,
    part: Part,
}

impl SimdTask for BinaryTask<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.op {
            Binary::Add => self.zip(simd, |a, b| simd.add(a, b)),
            Binary::Sub => self.zip(simd, |a, b| simd.sub(a, b)),
            Binary::Mul => self.zip(simd, |a, b| simd.mul(a, b)),
            Binary::Div => self.zip(simd, |a, b| simd.div(a, b)),
            // The vector operation gives its second operand where one is NaN.
            Binary::Min => self.zip(simd, |a, b| simd.select(simd.eq(a, a), simd.min(a, b), a)),
            Binary::Max => self.zip(simd, |a, b| simd.select(simd.eq(a, a), simd.max(a, b), a)),
            Binary::PRelu => self.zip(simd, |a, b| apply_prelu(simd, a, b)),
            Binary::SquaredDifference => self.zip(simd, |a, b| {
                let difference = simd.sub(a, b);
                simd.mul(difference, difference)
            }),
            // Not reached: `binary_f32` sends these elsewhere.
            Binary::Pow | Binary::Mod | Binary::Fmod => {}
        }
    }
}

impl BinaryTask<'_> {
    #[inline(always)]
    fn zip<S: Simd>(&self, simd: S, f: impl Fn(S::F32, S::F32) -> S::F32 + Copy) {
        let range = self.part.range_of_granules(self.broadcast.len(), 64);
        for plane in self.broadcast.planes(range) {
            // SAFETY: the plane lies in the operands and in the output, whose lengths were checked,
            // and its output elements are this part's own.
            unsafe {
                match plane.strides {
                    [1, 1] => self.plane(simd, plane, Contiguous, Contiguous, f),
                    [1, 0] => self.plane(simd, plane, Contiguous, Constant, f),
                    [0, 1] => self.plane(simd, plane, Constant, Contiguous, f),
                    [i, j] => self.plane(simd, plane, Strided(i), Strided(j), f),
                }
            }
        }
    }

    /// # Safety
    /// The plane lies in the operands and in the output; the walks are those of its columns.
    #[inline(always)]
    unsafe fn plane<S: Simd>(
        &self,
        simd: S,
        plane: Plane<2>,
        a_walk: impl Walk,
        b_walk: impl Walk,
        f: impl Fn(S::F32, S::F32) -> S::F32,
    ) {
        let n = plane.columns;
        for row in 0..plane.rows {
            // SAFETY: the row, its whole vectors and the selected lanes of its last one lie in the
            // plane.
            unsafe {
                let a = self.a.add(plane.offsets[0] + row * plane.row_strides[0]);
                let b = self.b.add(plane.offsets[1] + row * plane.row_strides[1]);
                let y = self.y.as_mut_ptr().add(plane.output + row * n);
                let mut i = 0;
                while i + S::LANES <= n {
                    simd.store(y.add(i), f(a_walk.load(simd, a, i), b_walk.load(simd, b, i)));
                    i += S::LANES;
                }
                if i < n {
                    let a = a_walk.load_partial(simd, a, i, n - i);
                    let b = b_walk.load_partial(simd, b, i, n - i);
                    simd.store_masked(y.add(i), f(a, b), simd.first(n - i));
                }
            }
        }
    }
}

/// How a row's elements follow each other.
trait Walk: Copy {
    /// Elements from `i` on.
    ///
    /// # Safety
    /// LANES elements from `i` on are readable.
    unsafe fn load<S: Simd>(self, simd: S, row: *const f32, i: usize) -> S::F32;
    /// `n` elements from `i` on.
    ///
    /// # Safety
    /// They are readable, and there are fewer than LANES.
    unsafe fn load_partial<S: Simd>(self, simd: S, row: *const f32, i: usize, n: usize) -> S::F32;
}

#[derive(Clone, Copy)]
struct Contiguous;
#[derive(Clone, Copy)]
struct Constant;
#[derive(Clone, Copy)]
struct Strided(usize);

impl Walk for Contiguous {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, row: *const f32, i: usize) -> S::F32 {
        // SAFETY: by the caller's promise.
        unsafe { simd.load(row.add(i)) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(self, simd: S, row: *const f32, i: usize, n: usize) -> S::F32 {
        // SAFETY: by the caller's promise.
        unsafe { simd.load_masked(row.add(i), simd.first(n)) }
    }
}

impl Walk for Constant {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, row: *const f32, _: usize) -> S::F32 {
        // SAFETY: by the caller's promise.
        simd.splat(unsafe { row.read() })
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(self, simd: S, row: *const f32, i: usize, _: usize) -> S::F32 {
        // SAFETY: by the caller's promise.
        unsafe { self.load(simd, row, i) }
    }
}

impl Walk for Strided {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, simd: S, row: *const f32, i: usize) -> S::F32 {
        // SAFETY: by the caller's promise.
        unsafe { self.load_partial(simd, row, i, S::LANES) }
    }
    #[inline(always)]
    unsafe fn load_partial<S: Simd>(self, simd: S, row: *const f32, i: usize, n: usize) -> S::F32 {
        const MAX_LANES: usize = 16;
        const { assert!(S::LANES <= MAX_LANES) };
        let mut lanes = [0.0; MAX_LANES];
        for (lane, value) in lanes[..n].iter_mut().enumerate() {
            // SAFETY: by the caller's promise.
            *value = unsafe { row.add((i + lane) * self.0).read() };
        }
        // SAFETY: the array has at least LANES elements.
        unsafe { simd.load(lanes.as_ptr()) }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, each_case};

    use super::super::broadcast_strides;
    use super::*;

    const ALL: [Binary; 11] = [
        Binary::Add,
        Binary::Sub,
        Binary::Mul,
        Binary::Div,
        Binary::Pow,
        Binary::Min,
        Binary::Max,
        Binary::Mod,
        Binary::Fmod,
        Binary::PRelu,
        Binary::SquaredDifference,
    ];

    /// Output shape, and the operands' strides.
    const LAYOUTS: [(&[usize], &[usize], &[usize]); 11] = [
        (&[], &[], &[]),
        (&[1000], &[1], &[1]),
        (&[67], &[1], &[0]),
        (&[67], &[0], &[1]),
        (&[0, 3], &[3, 1], &[0, 1]),
        (&[7, 33], &[33, 1], &[0, 1]),
        (&[7, 33], &[33, 1], &[1, 0]),
        (&[7, 33], &[1, 7], &[33, 1]),
        (&[2, 3, 5, 17], &[255, 85, 17, 1], &[0, 1, 0, 0]),
        (&[2, 3, 5, 17], &[0, 85, 0, 1], &[17, 0, 34, 1]),
        (&[4, 3, 2], &[6, 2, 1], &[0, 2, 1]),
    ];

    fn naive<T: Copy, U>(
        (shape, a_strides, b_strides): (&[usize], &[usize], &[usize]),
        a: &[T],
        b: &[T],
        f: impl Fn(T, T) -> U,
    ) -> Vec<U> {
        let length: usize = shape.iter().product();
        let at = |mut i: usize, strides: &[usize]| {
            let mut offset = 0;
            for d in (0..shape.len()).rev() {
                offset += i % shape[d] * strides[d];
                i /= shape[d];
            }
            offset
        };
        (0..length).map(|i| f(a[at(i, a_strides)], b[at(i, b_strides)])).collect()
    }

    fn scalar(op: Binary, a: f32, b: f32) -> f32 {
        match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => a / b,
            Binary::Pow => a.powf(b),
            Binary::Min | Binary::Max if a.is_nan() || b.is_nan() => f32::NAN,
            Binary::Min => a.min(b),
            Binary::Max => a.max(b),
            Binary::Mod => a - (a / b).floor() * b,
            Binary::Fmod => a - (a / b).trunc() * b,
            Binary::PRelu => {
                if a > 0.0 {
                    a
                } else {
                    a * b
                }
            }
            Binary::SquaredDifference => (a - b) * (a - b),
        }
    }

    #[test]
    fn floats_with_every_layout_at_every_level_in_parts() {
        let mut random = Random::new(1);
        let mut a = random.floats(1000);
        let b: Vec<f32> = random.floats(1000).iter().map(|x| x + x.signum()).collect();
        a[3] = f32::NAN;
        let cases = Level::available()
            .flat_map(|level| ALL.into_iter().flat_map(move |op| LAYOUTS.map(|layout| (level, op, layout))));
        each_case(cases.collect::<Vec<_>>(), |&(level, op, layout)| {
            let expected = naive(layout, &a, &b, |a, b| scalar(op, a, b));
            let broadcast = Broadcast::new(layout.0, layout.1, layout.2);
            for count in 1..4 {
                let mut y = vec![0.0; expected.len()];
                for index in 0..count {
                    let part = Part { index, count };
                    binary_f32(level, op, &broadcast, &a, &b, SharedSlice::new(&mut y), part);
                }
                optimium_testing::compare(&y, &expected, Tolerance::Relative(2e-6))?;
            }
            Ok(())
        });
    }

    #[test]
    fn in_place_on_either_side() {
        let x: Vec<f32> = (0..300).map(|i| i as f32).collect();
        let bias: Vec<f32> = (0..30).map(|i| i as f32 * 0.5).collect();
        let strides = broadcast_strides(&[30], &[10, 30]).unwrap_or_default();
        for level in Level::available() {
            let mut y = x.clone();
            let shared = SharedSlice::new(&mut y);
            let broadcast = Broadcast::new(&[10, 30], &[30, 1], &strides);
            binary_f32(level, Binary::Sub, &broadcast, shared, &bias, shared, Part::WHOLE);
            let broadcast = Broadcast::new(&[10, 30], &strides, &[30, 1]);
            binary_f32(level, Binary::Sub, &broadcast, &bias, shared, shared, Part::WHOLE);
            let expected: Vec<f32> = (0..300).map(|i| bias[i % 30] - (x[i] - bias[i % 30])).collect();
            assert_eq!(y, expected);
        }
    }

    #[test]
    #[should_panic(expected = "overlaps the output")]
    fn a_broadcast_operand_may_not_be_the_output() {
        let mut y = [0.0; 6];
        let shared = SharedSlice::new(&mut y);
        let broadcast = Broadcast::new(&[2, 3], &[3, 1], &[0, 1]);
        binary_f32(Level::Portable, Binary::Add, &broadcast, shared, shared, shared, Part::WHOLE);
    }

    #[test]
    #[should_panic(expected = "are read")]
    fn a_short_operand_is_refused() {
        let mut y = [0.0; 6];
        let broadcast = Broadcast::new(&[2, 3], &[3, 1], &[3, 1]);
        let shared = SharedSlice::new(&mut y);
        binary_f32(
            Level::Portable,
            Binary::Add,
            &broadcast,
            &[0.0; 6][..],
            &[0.0; 5][..],
            shared,
            Part::WHOLE,
        );
    }

    #[test]
    fn integers_bits_truth_values_and_relations() {
        let (a, b): (Vec<i64>, Vec<i64>) = ((-20..280).collect(), (0..300).map(|i| i % 7 - 3).collect());
        each_case(
            LAYOUTS.into_iter().filter(|layout| layout.0.iter().product::<usize>() <= 300),
            |&layout| {
                let (shape, a_strides, b_strides) = layout;
                let broadcast = Broadcast::new(shape, a_strides, b_strides);
                let mut y = vec![0; broadcast.len()];
                binary(Binary::Mod, &broadcast, &a, &b, SharedSlice::new(&mut y), Part::WHOLE);
                let modulo =
                    |a: i64, b: i64| if b == 0 { 0 } else { a - (a as f64 / b as f64).floor() as i64 * b };
                if y != naive(layout, &a, &b, modulo) {
                    return Err(format!("Mod gives {y:?}"));
                }
                bitwise(Bitwise::Xor, &broadcast, &a, &b, SharedSlice::new(&mut y), Part::WHOLE);
                if y != naive(layout, &a, &b, |a, b| a ^ b) {
                    return Err(format!("Xor gives {y:?}"));
                }
                let mut truth = vec![0; broadcast.len()];
                compare(
                    Comparison::LessOrEqual,
                    &broadcast,
                    &a,
                    &b,
                    SharedSlice::new(&mut truth),
                    Part::WHOLE,
                );
                if truth != naive(layout, &a, &b, |a, b| u8::from(a <= b)) {
                    return Err(format!("LessOrEqual gives {truth:?}"));
                }
                Ok(())
            },
        );
        let mut truth = [9; 4];
        let broadcast = Broadcast::new(&[4], &[1], &[1]);
        logical(
            Logical::Xor,
            &broadcast,
            &[0, 0, 1, 2][..],
            &[0, 1, 0, 1][..],
            SharedSlice::new(&mut truth),
            Part::WHOLE,
        );
        assert_eq!(truth, [0, 1, 1, 0]);
    }
}
