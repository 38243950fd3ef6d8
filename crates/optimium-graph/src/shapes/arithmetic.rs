//! Arithmetic of dimensions, and of the numbers that models compute dimensions from.

use optimium_tensor::{ElementType, Error, Expr, Result};

use crate::ops::{Binary, Comparison};

/// The largest denominator of a fraction that stands for a floating-point constant.
const MAX_DENOMINATOR: i64 = 1 << 20;

/// A constant dimension.
pub(super) fn constant(n: i64) -> Expr {
    n.into()
}

/// Whether it is at least zero wherever every symbol is at least one.
pub(super) fn is_non_negative(e: &Expr) -> bool {
    match e.as_const() {
        Some(n) => n >= 0,
        None => {
            e.is_non_negative()
                || e.substitute(&|name| Some(Expr::symbol(name) + constant(1))).is_non_negative()
        }
    }
}

/// The smaller of both.
pub(super) fn smaller(a: Expr, b: Expr) -> Expr {
    if is_non_negative(&(b.clone() - a.clone())) {
        a
    } else if is_non_negative(&(a.clone() - b.clone())) {
        b
    } else {
        a.min(b)
    }
}

/// The larger of both.
pub(super) fn larger(a: Expr, b: Expr) -> Expr {
    if is_non_negative(&(a.clone() - b.clone())) {
        a
    } else if is_non_negative(&(b.clone() - a.clone())) {
        b
    } else {
        a.max(b)
    }
}

/// `⌈a / b⌉` for a positive divisor.
pub(super) fn divide_up(a: Expr, b: i64) -> Expr {
    (a + constant(b.saturating_sub(1))) / constant(b)
}

/// The axis counted from the front.
pub(super) fn normalize_axis(axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Error::model(format!("the axis {axis} is outside of the {rank} dimensions")))
}

/// [`normalize_axis`] for several different axes.
pub(super) fn normalize_axes(axes: &[i64], rank: usize) -> Result<Vec<usize>> {
    let mut normalized = Vec::with_capacity(axes.len().min(rank));
    for &axis in axes {
        let axis = normalize_axis(axis, rank)?;
        if normalized.contains(&axis) {
            return Err(Error::model(format!("the axis {axis} is named twice in {axes:?}")));
        }
        normalized.push(axis);
    }
    Ok(normalized)
}

/// The product of all.
pub(super) fn product(factors: &[Expr]) -> Expr {
    factors.iter().fold(constant(1), |product, factor| product * factor.clone())
}

/// `Π numerators / Π denominators`, equal factors and equal products of neighbours cancelled first, because the
/// quotient of two expanded polynomials would not simplify. `None` for a denominator of zero.
pub(super) fn quotient(numerators: &[Expr], denominators: &[Expr]) -> Option<Expr> {
    let mut above = numerators.to_vec();
    let mut below: Vec<Expr> = denominators.to_vec();
    cancel_equal(&mut above, &mut below);
    cancel_runs(&mut above, &mut below);
    cancel_runs(&mut below, &mut above);
    let divisor = product(&below);
    match divisor.as_const() {
        Some(0) => None,
        _ => Some(product(&above) / divisor),
    }
}

fn cancel_equal(above: &mut Vec<Expr>, below: &mut Vec<Expr>) {
    below.retain(|factor| {
        let equal = above.iter().position(|other| other == factor && other.as_const() != Some(0));
        equal.map(|at| above.remove(at)).is_none()
    });
}

/// Cancels every symbolic factor of `single` against neighbours in `many` whose product it is.
fn cancel_runs(many: &mut Vec<Expr>, single: &mut Vec<Expr>) {
    single.retain(|factor| {
        if factor.as_const().is_some() {
            return true;
        }
        let runs = (0..many.len()).flat_map(|from| (from + 2..=many.len()).map(move |to| (from, to)));
        match runs.into_iter().find(|&(from, to)| product(&many[from..to]) == *factor) {
            Some((from, to)) => {
                many.drain(from..to);
                false
            }
            None => true,
        }
    });
}

/// A number that a model computes with: a fraction of expressions, the denominator positive.
///
/// Integers have the denominator one. Floating-point arithmetic with symbols is done as if it were exact.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Number {
    numerator: Expr,
    denominator: Expr,
}

impl From<Expr> for Number {
    fn from(numerator: Expr) -> Number {
        Number { numerator, denominator: constant(1) }
    }
}

impl From<i64> for Number {
    fn from(n: i64) -> Number {
        constant(n).into()
    }
}

impl Number {
    /// The floating-point number, as the simplest fraction that rounds to it (in `f64` where `double`, else in `f32`).
    pub(super) fn from_float(value: f64, double: bool) -> Option<Number> {
        if !value.is_finite() || value.abs() > 9e15 {
            return None;
        }
        let rounds_back = |n: i64, d: i64| {
            let fraction = n as f64 / d as f64;
            if double { fraction == value } else { fraction as f32 == value as f32 }
        };
        // Convergents of the continued fraction.
        let (mut n, mut d, mut last_n, mut last_d) = (1i64, 0i64, 0i64, 1i64);
        let mut rest = value.abs();
        for _ in 0..32 {
            let whole = rest.floor();
            let next = |now: i64, last: i64| (whole as i64).checked_mul(now)?.checked_add(last);
            (n, last_n) = (next(n, last_n)?, n);
            (d, last_d) = (next(d, last_d)?, d);
            if d > MAX_DENOMINATOR {
                return None;
            }
            let signed = if value < 0.0 { -n } else { n };
            if rounds_back(signed, d) {
                return Some(Number { numerator: constant(signed), denominator: constant(d) });
            }
            rest = 1.0 / (rest - whole);
            if !rest.is_finite() || rest > 9e15 {
                return None;
            }
        }
        None
    }

    /// The expression, where it is an integer.
    pub(super) fn as_integer(&self) -> Option<&Expr> {
        (self.denominator.as_const() == Some(1)).then_some(&self.numerator)
    }

    /// The number, where it is a constant integer.
    pub(super) fn as_const(&self) -> Option<i64> {
        self.as_integer()?.as_const()
    }

    /// The value, where it is constant.
    pub(super) fn as_float(&self) -> Option<f64> {
        Some(self.numerator.as_const()? as f64 / self.denominator.as_const()? as f64)
    }

    /// Calls `visit` for every symbol in it.
    pub(super) fn visit_symbols(&self, visit: &mut dyn FnMut(&std::sync::Arc<str>)) {
        self.numerator.visit_symbols(visit);
        self.denominator.visit_symbols(visit);
    }

    /// The fraction, in simpler terms where that is easy to see; `None` where the denominator may not be positive.
    fn ratio(mut numerator: Expr, mut denominator: Expr) -> Option<Number> {
        if denominator.as_const().is_some_and(|d| d < 0) {
            (numerator, denominator) = (-numerator, -denominator);
        }
        if denominator.as_const() == Some(0) || !is_non_negative(&denominator) {
            return None;
        }
        if (numerator.clone() % denominator.clone()).as_const() == Some(0) {
            return Some((numerator / denominator).into());
        }
        for prime in [2, 3, 5, 7].map(constant) {
            let divides = |e: &Expr| (e.clone() % prime.clone()).as_const() == Some(0);
            while divides(&numerator) && divides(&denominator) {
                numerator = numerator / prime.clone();
                denominator = denominator / prime.clone();
            }
        }
        Some(Number { numerator, denominator })
    }

    /// To the integer below.
    pub(super) fn floor(&self) -> Expr {
        self.numerator.clone() / self.denominator.clone()
    }

    /// To the integer above.
    pub(super) fn ceil(&self) -> Expr {
        match self.as_integer() {
            Some(integer) => integer.clone(),
            None => {
                (self.numerator.clone() + self.denominator.clone() - constant(1)) / self.denominator.clone()
            }
        }
    }

    /// To the integer towards zero.
    pub(super) fn truncate(&self) -> Expr {
        let positive = larger(self.numerator.clone(), constant(0)) / self.denominator.clone();
        let negative = larger(-self.numerator.clone(), constant(0)) / self.denominator.clone();
        positive - negative
    }

    /// `a · b`
    pub(super) fn multiply(&self, other: &Number) -> Option<Number> {
        Number::ratio(
            self.numerator.clone() * other.numerator.clone(),
            self.denominator.clone() * other.denominator.clone(),
        )
    }

    /// `-x`
    pub(super) fn negate(&self) -> Number {
        Number { numerator: -self.numerator.clone(), denominator: self.denominator.clone() }
    }

    /// `|x|`
    pub(super) fn absolute(&self) -> Number {
        let numerator = larger(self.numerator.clone(), -self.numerator.clone());
        Number { numerator, denominator: self.denominator.clone() }
    }

    /// As another type, as ONNX converts.
    pub(super) fn cast(&self, to: ElementType) -> Option<Number> {
        if to == ElementType::Bool {
            return Some(i64::from(!compare(Comparison::Equal, self, &0.into())?).into());
        }
        if to.is_float() {
            return Some(self.clone());
        }
        let integer = self.truncate();
        let Some(n) = integer.as_const() else { return to.is_integer().then(|| integer.into()) };
        let wrapped = match to {
            ElementType::I8 => i64::from(n as i8),
            ElementType::U8 => i64::from(n as u8),
            ElementType::I16 => i64::from(n as i16),
            ElementType::U16 => i64::from(n as u16),
            ElementType::I32 => i64::from(n as i32),
            ElementType::U32 => i64::from(n as u32),
            ElementType::I64 => n,
            ElementType::U64 if n >= 0 => n,
            _ => return None,
        };
        Some(wrapped.into())
    }
}

/// `function(a, b)` of elements of that type; `None` where it is not followed.
pub(super) fn binary(function: Binary, element_type: ElementType, a: &Number, b: &Number) -> Option<Number> {
    if element_type.is_float()
        && let (Some(a), Some(b)) = (a.as_float(), b.as_float())
    {
        return binary_floats(function, element_type, a, b);
    }
    match function {
        Binary::Add => add(a, b),
        Binary::Sub => add(a, &b.negate()),
        Binary::Mul => a.multiply(b),
        Binary::Div => {
            let quotient = Number::ratio(
                a.numerator.clone() * b.denominator.clone(),
                a.denominator.clone() * b.numerator.clone(),
            )?;
            Some(if element_type.is_float() { quotient } else { quotient.truncate().into() })
        }
        Binary::Min => Some(smaller(a.as_integer()?.clone(), b.as_integer()?.clone()).into()),
        Binary::Max => Some(larger(a.as_integer()?.clone(), b.as_integer()?.clone()).into()),
        Binary::Mod | Binary::Fmod => remainder(function, a.as_integer()?, b.as_integer()?).map(Into::into),
        Binary::And => Some((a.as_const()? & b.as_const()?).into()),
        Binary::Or => Some((a.as_const()? | b.as_const()?).into()),
        Binary::Xor => Some((a.as_const()? ^ b.as_const()?).into()),
        _ => None,
    }
}

fn add(a: &Number, b: &Number) -> Option<Number> {
    if a.denominator == b.denominator {
        return Number::ratio(a.numerator.clone() + b.numerator.clone(), a.denominator.clone());
    }
    Number::ratio(
        a.numerator.clone() * b.denominator.clone() + b.numerator.clone() * a.denominator.clone(),
        a.denominator.clone() * b.denominator.clone(),
    )
}

fn remainder(function: Binary, a: &Expr, b: &Expr) -> Option<Expr> {
    if let (Binary::Fmod, Some(a), Some(b)) = (function, a.as_const(), b.as_const()) {
        return a.checked_rem(b).map(constant);
    }
    let plain = function == Binary::Mod || is_non_negative(a);
    (plain && b.as_const() != Some(0) && is_non_negative(b)).then(|| a.clone() % b.clone())
}

fn binary_floats(function: Binary, element_type: ElementType, a: f64, b: f64) -> Option<Number> {
    let result = match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::Pow => a.powf(b),
        _ => return None,
    };
    let double = element_type == ElementType::F64;
    Number::from_float(if double { result } else { f64::from(result as f32) }, double)
}

/// Whether the comparison holds; `None` where that depends on symbols.
pub(super) fn compare(comparison: Comparison, a: &Number, b: &Number) -> Option<bool> {
    let difference =
        a.numerator.clone() * b.denominator.clone() - b.numerator.clone() * a.denominator.clone();
    let positive = is_non_negative(&(difference.clone() - constant(1)));
    let negative = is_non_negative(&(-difference.clone() - constant(1)));
    let at_least = positive || is_non_negative(&difference);
    let at_most = negative || is_non_negative(&-difference.clone());
    let decide = |yes: bool, no: bool| if yes { Some(true) } else { no.then_some(false) };
    match comparison {
        Comparison::Equal => decide(difference.as_const() == Some(0), positive || negative),
        Comparison::Less => decide(negative, at_least),
        Comparison::LessOrEqual => decide(at_most, positive),
        Comparison::Greater => decide(positive, at_most),
        Comparison::GreaterOrEqual => decide(at_least, negative),
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    fn s(name: &str) -> Expr {
        Expr::symbol(name)
    }
    fn c(n: i64) -> Expr {
        n.into()
    }

    #[test]
    fn symbols_count_as_positive() {
        assert_eq!(larger(s("T") - c(1), c(0)), s("T") - c(1));
        assert_eq!(smaller(s("T"), c(1)), c(1));
        assert_eq!(larger(s("T") - c(2), c(0)), (s("T") - c(2)).max(c(0)));
    }

    #[test]
    fn floats_become_simple_fractions() {
        let cases: [(f32, Option<(i64, i64)>); 8] = [
            (2.0, Some((2, 1))),
            (0.5, Some((1, 2))),
            (-0.75, Some((-3, 4))),
            (0.7, Some((7, 10))),
            (1.0 / 3.0, Some((1, 3))),
            (f32::NAN, None),
            (f32::INFINITY, None),
            (1e30, None),
        ];
        each_case(cases, |(value, expected)| {
            let found = Number::from_float(f64::from(*value), false);
            let expected = expected.map(|(n, d)| Number { numerator: c(n), denominator: c(d) });
            if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    #[test]
    fn quotients_cancel() {
        let pixels = (s("H") + c(1)) * (s("W") + c(1));
        let cases = [
            (vec![s("N"), c(3), s("H")], vec![s("N"), s("H")], Some(c(3))),
            (vec![s("N"), s("H") + c(1), s("W") + c(1)], vec![pixels.clone()], Some(s("N"))),
            (vec![s("N"), pixels], vec![s("W") + c(1), s("H") + c(1)], Some(s("N"))),
            (vec![c(0), s("N")], vec![c(0)], None),
            (vec![c(12)], vec![c(4)], Some(c(3))),
        ];
        each_case(cases, |(above, below, expected)| {
            let found = quotient(above, below);
            if found == *expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    #[test]
    fn integers_divide_towards_zero() {
        let divide = |a: Expr, b: Expr| {
            binary(Binary::Div, ElementType::I64, &a.into(), &b.into()).and_then(|n| n.as_integer().cloned())
        };
        assert_eq!(divide(c(-7), c(2)), Some(c(-3)));
        assert_eq!(divide(c(7), c(-2)), Some(c(-3)));
        assert_eq!(divide(s("H") - c(1), c(2)), Some((s("H") - c(1)) / c(2)));
        assert_eq!(divide(c(1), c(0)), None);
        assert_eq!(divide(s("H") * s("W"), s("H")), Some(s("W")));
        assert_eq!(divide(c(i64::MIN), c(-1)), Some(c(i64::MAX)));
    }

    #[test]
    fn floats_are_exact_with_symbols() {
        let half = Number::from_float(0.5, false).unwrap();
        let scaled = binary(Binary::Mul, ElementType::F32, &s("H").into(), &half).unwrap();
        assert_eq!(scaled.floor(), s("H") / c(2));
        assert_eq!(scaled.ceil(), (s("H") + c(1)) / c(2));
        assert_eq!(scaled.cast(ElementType::I64).unwrap().as_integer(), Some(&(s("H") / c(2))));
        let ratio = binary(Binary::Div, ElementType::F32, &s("T").into(), &s("H").into()).unwrap();
        assert_eq!(ratio.multiply(&s("H").into()).unwrap().as_integer(), Some(&s("T")));
    }

    #[test]
    fn casts_wrap() {
        let cast = |n: i64, to| Number::from(n).cast(to).and_then(|n| n.as_const());
        assert_eq!(cast(i64::MAX, ElementType::I32), Some(-1));
        assert_eq!(cast(300, ElementType::U8), Some(44));
        assert_eq!(cast(-1, ElementType::U64), None);
        assert_eq!(cast(5, ElementType::Bool), Some(1));
    }

    #[test]
    fn comparisons_are_decided_where_they_can() {
        use Comparison::*;
        let cases = [
            (Equal, s("N"), c(-1), Some(false)),
            (Equal, s("N"), s("N"), Some(true)),
            (Equal, s("N"), c(1), None),
            (Less, s("N"), s("N") + c(1), Some(true)),
            (GreaterOrEqual, s("N"), c(1), Some(true)),
            (Greater, s("N"), c(1), None),
            (LessOrEqual, s("N") + c(1), s("N"), Some(false)),
        ];
        each_case(cases, |(comparison, a, b, expected)| {
            let found = compare(*comparison, &a.clone().into(), &b.clone().into());
            if found == *expected { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}
