//! Symbolic integers: the dimensions of shapes that are known only when a model runs.
//!
//! An expression is kept as a sum of products in a fixed order, so that two ways to write the same
//! polynomial are equal. Symbols stand for sizes and are never negative; simplification uses that.

use std::collections::HashMap;
use std::fmt;
use std::ops::{Add, Div, Mul, Neg, Rem, Sub};
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

/// The values of symbols, by name.
pub type SymbolValues = HashMap<Arc<str>, i64>;

/// Larger expressions are given up: they come from damaged or hostile models only.
const MAX_SIZE: usize = 4096;
/// Nested operations beyond this are given up.
const MAX_DEPTH: usize = 64;

/// An integer, a symbol, or arithmetic of both.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Expr(Repr);

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Repr {
    Const(i64),
    Sum(Arc<Sum>),
    /// An expression that grew beyond the limits; it has no value.
    TooComplex,
}

/// `constant + Σ coefficient · Π atoms`, terms sorted, at least one of them.
#[derive(PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Sum {
    terms: Vec<Term>,
    constant: i64,
    size: usize,
    depth: usize,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Term {
    /// Sorted, at least one.
    atoms: Vec<Atom>,
    coefficient: i64,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Symbol(Arc<str>),
    /// Rounded towards minus infinity.
    Div(Expr, Expr),
    /// With the sign of the divisor.
    Mod(Expr, Expr),
    Min(Expr, Expr),
    Max(Expr, Expr),
}

impl Expr {
    /// The symbol of that name.
    pub fn symbol(name: &str) -> Expr {
        Expr::from_terms(vec![Term { atoms: vec![Atom::Symbol(name.into())], coefficient: 1 }], 0)
    }

    /// The number, where it is one.
    pub fn as_const(&self) -> Option<i64> {
        match self.0 {
            Repr::Const(n) => Some(n),
            _ => None,
        }
    }

    /// The name, where it is a symbol alone.
    pub fn as_symbol(&self) -> Option<&str> {
        match &self.0 {
            Repr::Sum(sum) => match (sum.terms.as_slice(), sum.constant) {
                ([Term { atoms, coefficient: 1 }], 0) => match atoms.as_slice() {
                    [Atom::Symbol(name)] => Some(name),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }

    /// The smaller of both.
    #[must_use]
    pub fn min(self, other: Expr) -> Expr {
        self.extremum(other, i64::min, Atom::Min, false)
    }

    /// The larger of both.
    #[must_use]
    pub fn max(self, other: Expr) -> Expr {
        self.extremum(other, i64::max, Atom::Max, true)
    }

    fn extremum(
        self,
        other: Expr,
        f: fn(i64, i64) -> i64,
        atom: fn(Expr, Expr) -> Atom,
        larger: bool,
    ) -> Expr {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const()) {
            return f(a, b).into();
        }
        if (self.clone() - other.clone()).is_non_negative() {
            return if larger { self } else { other };
        }
        if (other.clone() - self.clone()).is_non_negative() {
            return if larger { other } else { self };
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Expr::from_atom(atom(a, b))
    }

    /// Whether it is provably at least zero, every symbol being at least zero.
    pub fn is_non_negative(&self) -> bool {
        match &self.0 {
            Repr::Const(n) => *n >= 0,
            Repr::Sum(sum) => {
                sum.constant >= 0
                    && sum
                        .terms
                        .iter()
                        .all(|t| t.coefficient >= 0 && t.atoms.iter().all(Atom::is_non_negative))
            }
            Repr::TooComplex => false,
        }
    }

    /// Its value, every symbol having the value that `values` gives it.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where a symbol has no value, at a division by zero, or on overflow.
    pub fn evaluate(&self, values: &SymbolValues) -> Result<i64> {
        let sum = match &self.0 {
            Repr::Const(n) => return Ok(*n),
            Repr::TooComplex => return Err(Error::shape("an expression of dimensions is too complex")),
            Repr::Sum(sum) => sum,
        };
        let overflow = || Error::shape(format!("the dimension {self} overflows"));
        let mut total = sum.constant;
        for term in &sum.terms {
            let mut product = term.coefficient;
            for atom in &term.atoms {
                product = product.checked_mul(atom.evaluate(values)?).ok_or_else(overflow)?;
            }
            total = total.checked_add(product).ok_or_else(overflow)?;
        }
        Ok(total)
    }

    /// The expression with some symbols replaced.
    #[must_use]
    pub fn substitute(&self, replacement: &dyn Fn(&str) -> Option<Expr>) -> Expr {
        let Repr::Sum(sum) = &self.0 else { return self.clone() };
        sum.terms.iter().fold(Expr::from(sum.constant), |total, term| {
            let product =
                term.atoms.iter().fold(Expr::from(term.coefficient), |p, a| p * a.substitute(replacement));
            total + product
        })
    }

    /// Calls `visit` for every symbol in it, as often as it occurs.
    pub fn visit_symbols(&self, visit: &mut dyn FnMut(&Arc<str>)) {
        if let Repr::Sum(sum) = &self.0 {
            for atom in sum.terms.iter().flat_map(|term| &term.atoms) {
                match atom {
                    Atom::Symbol(name) => visit(name),
                    Atom::Div(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                        a.visit_symbols(visit);
                        b.visit_symbols(visit);
                    }
                }
            }
        }
    }

    /// The quotient as it stands, a number where both are.
    fn floor_quotient(a: Expr, b: Expr) -> Expr {
        match (a.as_const(), b.as_const()) {
            (Some(0), _) => a,
            (Some(x), Some(y)) if floor_div(x, y).is_some() => {
                Expr::from(floor_div(x, y).unwrap_or_default())
            }
            _ => Expr::from_atom(Atom::Div(a, b)),
        }
    }

    fn from_atom(atom: Atom) -> Expr {
        Expr::from_terms(vec![Term { atoms: vec![atom], coefficient: 1 }], 0)
    }

    /// Sorts the terms, adds up equal ones and drops zeros.
    fn from_terms(mut terms: Vec<Term>, constant: i64) -> Expr {
        terms.sort_unstable();
        let mut merged: Vec<Term> = Vec::with_capacity(terms.len());
        for term in terms {
            match merged.last_mut() {
                Some(last) if last.atoms == term.atoms => {
                    last.coefficient = last.coefficient.saturating_add(term.coefficient);
                }
                _ => merged.push(term),
            }
        }
        merged.retain(|term| term.coefficient != 0);
        if merged.is_empty() {
            return constant.into();
        }
        let atoms = || merged.iter().flat_map(|term| &term.atoms);
        let size = merged.len() + atoms().map(Atom::size).sum::<usize>();
        let depth = atoms().map(Atom::depth).max().unwrap_or(0);
        if size > MAX_SIZE || depth > MAX_DEPTH || atoms().any(Atom::is_too_complex) {
            return Expr(Repr::TooComplex);
        }
        Expr(Repr::Sum(Arc::new(Sum { terms: merged, constant, size, depth })))
    }

    /// The terms and the constant; `None` where it is too complex.
    fn parts(&self) -> Option<(&[Term], i64)> {
        match &self.0 {
            Repr::Const(n) => Some((&[], *n)),
            Repr::Sum(sum) => Some((&sum.terms, sum.constant)),
            Repr::TooComplex => None,
        }
    }

    /// `self = divisor · quotient + rest`, with as much in the quotient as divides term by term.
    fn divide_terms(&self, divisor: &Expr) -> Option<(Expr, Expr)> {
        let (terms, constant) = self.parts()?;
        let (divisor_atoms, divisor_coefficient): (&[Atom], i64) = match divisor.parts()? {
            ([], n) => (&[], n),
            ([single], 0) => (&single.atoms, single.coefficient),
            _ => return None,
        };
        if divisor_coefficient == 0 {
            return None;
        }
        let (mut quotient, mut rest) = (Vec::new(), Vec::new());
        for term in terms {
            match (without(&term.atoms, divisor_atoms), term.coefficient.checked_rem(divisor_coefficient)) {
                (Some(atoms), Some(0)) => quotient.push((atoms, term.coefficient / divisor_coefficient)),
                _ => rest.push(term.clone()),
            }
        }
        let mut quotient_constant = 0i64;
        let mut plain = Vec::new();
        for (atoms, coefficient) in quotient {
            if atoms.is_empty() {
                quotient_constant = quotient_constant.saturating_add(coefficient);
            } else {
                plain.push(Term { atoms, coefficient });
            }
        }
        let mut rest_constant = constant;
        if divisor_atoms.is_empty() {
            quotient_constant =
                quotient_constant.saturating_add(constant.checked_div_euclid(divisor_coefficient)?);
            rest_constant = constant.checked_rem_euclid(divisor_coefficient)?;
        }
        Some((Expr::from_terms(plain, quotient_constant), Expr::from_terms(rest, rest_constant)))
    }
}

/// `atoms` without one occurrence of each of `remove`.
fn without(atoms: &[Atom], remove: &[Atom]) -> Option<Vec<Atom>> {
    let mut left = atoms.to_vec();
    for atom in remove {
        let position = left.iter().position(|a| a == atom)?;
        left.remove(position);
    }
    Some(left)
}

/// Rounded towards minus infinity; `None` for zero divisors and overflow.
fn floor_div(a: i64, b: i64) -> Option<i64> {
    let quotient = a.checked_div(b)?;
    Some(if a % b != 0 && (a < 0) != (b < 0) { quotient - 1 } else { quotient })
}

impl Atom {
    fn operands(&self) -> Option<(&Expr, &Expr)> {
        match self {
            Atom::Symbol(_) => None,
            Atom::Div(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => Some((a, b)),
        }
    }

    fn size(&self) -> usize {
        let of = |e: &Expr| if let Repr::Sum(sum) = &e.0 { sum.size } else { 1 };
        self.operands().map_or(1, |(a, b)| 1 + of(a) + of(b))
    }

    fn depth(&self) -> usize {
        let of = |e: &Expr| if let Repr::Sum(sum) = &e.0 { sum.depth } else { 0 };
        self.operands().map_or(0, |(a, b)| 1 + of(a).max(of(b)))
    }

    fn is_too_complex(&self) -> bool {
        self.operands().is_some_and(|(a, b)| a.0 == Repr::TooComplex || b.0 == Repr::TooComplex)
    }

    fn is_non_negative(&self) -> bool {
        match self {
            Atom::Symbol(_) => true,
            Atom::Div(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) => a.is_non_negative() && b.is_non_negative(),
            Atom::Max(a, b) => a.is_non_negative() || b.is_non_negative(),
        }
    }

    fn evaluate(&self, values: &SymbolValues) -> Result<i64> {
        let (a, b) = match self {
            Atom::Symbol(name) => {
                return values.get(name).copied().ok_or_else(|| {
                    Error::shape(format!("the symbol {name} of a dynamic shape has no value"))
                });
            }
            Atom::Div(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                (a.evaluate(values)?, b.evaluate(values)?)
            }
        };
        let division = || floor_div(a, b).ok_or_else(|| Error::shape("a dimension is divided by zero"));
        Ok(match self {
            Atom::Div(..) => division()?,
            Atom::Mod(..) => a.wrapping_sub(division()?.wrapping_mul(b)),
            Atom::Min(..) => a.min(b),
            _ => a.max(b),
        })
    }

    fn substitute(&self, replacement: &dyn Fn(&str) -> Option<Expr>) -> Expr {
        match self {
            Atom::Symbol(name) => replacement(name).unwrap_or_else(|| Expr::from_atom(self.clone())),
            Atom::Div(a, b) => a.substitute(replacement) / b.substitute(replacement),
            Atom::Mod(a, b) => a.substitute(replacement) % b.substitute(replacement),
            Atom::Min(a, b) => a.substitute(replacement).min(b.substitute(replacement)),
            Atom::Max(a, b) => a.substitute(replacement).max(b.substitute(replacement)),
        }
    }
}

impl From<i64> for Expr {
    fn from(n: i64) -> Expr {
        Expr(Repr::Const(n))
    }
}

impl From<usize> for Expr {
    fn from(n: usize) -> Expr {
        Expr(Repr::Const(i64::try_from(n).unwrap_or(i64::MAX)))
    }
}

impl Add for Expr {
    type Output = Expr;
    fn add(self, other: Expr) -> Expr {
        let (Some((a, m)), Some((b, n))) = (self.parts(), other.parts()) else {
            return Expr(Repr::TooComplex);
        };
        Expr::from_terms([a, b].concat(), m.saturating_add(n))
    }
}

impl Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self * Expr::from(-1i64)
    }
}

impl Sub for Expr {
    type Output = Expr;
    fn sub(self, other: Expr) -> Expr {
        self + -other
    }
}

impl Mul for Expr {
    type Output = Expr;
    fn mul(self, other: Expr) -> Expr {
        let (Some((a, m)), Some((b, n))) = (self.parts(), other.parts()) else {
            return Expr(Repr::TooComplex);
        };
        if (a.len() + 1).saturating_mul(b.len() + 1) > MAX_SIZE {
            return Expr(Repr::TooComplex);
        }
        let scaled = |terms: &[Term], factor: i64| {
            terms
                .iter()
                .map(|t| Term { atoms: t.atoms.clone(), coefficient: t.coefficient.saturating_mul(factor) })
                .collect::<Vec<_>>()
        };
        let mut terms = scaled(a, n);
        terms.extend(scaled(b, m));
        for x in a {
            for y in b {
                let mut atoms = [x.atoms.as_slice(), &y.atoms].concat();
                atoms.sort_unstable();
                terms.push(Term { atoms, coefficient: x.coefficient.saturating_mul(y.coefficient) });
            }
        }
        Expr::from_terms(terms, m.saturating_mul(n))
    }
}

/// Rounded towards minus infinity.
impl Div for Expr {
    type Output = Expr;
    fn div(self, other: Expr) -> Expr {
        if self == other && self.as_const() != Some(0) {
            return 1i64.into();
        }
        match self.divide_terms(&other) {
            Some((quotient, rest)) if rest.as_const() == Some(0) => quotient,
            // What divides comes out of the floor; that needs a positive divisor.
            Some((quotient, rest)) if other.is_non_negative() => quotient + Expr::floor_quotient(rest, other),
            _ => Expr::floor_quotient(self, other),
        }
    }
}

/// With the sign of the divisor: `a - b · (a / b)`.
impl Rem for Expr {
    type Output = Expr;
    fn rem(self, other: Expr) -> Expr {
        if let (Some(a), Some(b)) = (self.as_const(), other.as_const())
            && let Some(quotient) = floor_div(a, b)
        {
            return a.wrapping_sub(quotient.wrapping_mul(b)).into();
        }
        match self.divide_terms(&other) {
            Some((_, rest)) if rest.as_const() == Some(0) => 0i64.into(),
            _ => Expr::from_atom(Atom::Mod(self, other)),
        }
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sum = match &self.0 {
            Repr::Const(n) => return write!(f, "{n}"),
            Repr::TooComplex => return f.write_str("?"),
            Repr::Sum(sum) => sum,
        };
        for (i, term) in sum.terms.iter().enumerate() {
            let sign = if term.coefficient < 0 { "-" } else { "+" };
            match (i, sign) {
                (0, "-") => f.write_str("-")?,
                (0, _) => {}
                _ => write!(f, " {sign} ")?,
            }
            let factor = term.coefficient.unsigned_abs();
            if factor != 1 {
                write!(f, "{factor}*")?;
            }
            for (j, atom) in term.atoms.iter().enumerate() {
                write!(f, "{}{atom}", if j == 0 { "" } else { "*" })?;
            }
        }
        match sum.constant {
            0 => Ok(()),
            n if n < 0 => write!(f, " - {}", n.unsigned_abs()),
            n => write!(f, " + {n}"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(name) => f.write_str(name),
            Atom::Div(a, b) => write!(f, "floor(({a}) / ({b}))"),
            Atom::Mod(a, b) => write!(f, "(({a}) % ({b}))"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
        }
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How an expression is written to files: a number, a symbol's name, or an operation.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(i64),
    Symbol(String),
    Operation(Operation),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Add(Vec<Written>),
    Mul(Vec<Written>),
    Div(Box<[Written; 2]>),
    Mod(Box<[Written; 2]>),
    Min(Box<[Written; 2]>),
    Max(Box<[Written; 2]>),
}

impl Written {
    fn of(expr: &Expr) -> Option<Written> {
        let (terms, constant) = expr.parts()?;
        let mut summands = Vec::new();
        for term in terms {
            let mut factors =
                if term.coefficient == 1 { vec![] } else { vec![Written::Number(term.coefficient)] };
            for atom in &term.atoms {
                factors.push(Written::of_atom(atom)?);
            }
            summands.push(single_or(factors, Operation::Mul));
        }
        if constant != 0 || summands.is_empty() {
            summands.push(Written::Number(constant));
        }
        Some(single_or(summands, Operation::Add))
    }

    fn of_atom(atom: &Atom) -> Option<Written> {
        let both = |a: &Expr, b: &Expr| Some(Box::new([Written::of(a)?, Written::of(b)?]));
        Some(Written::Operation(match atom {
            Atom::Symbol(name) => return Some(Written::Symbol(name.to_string())),
            Atom::Div(a, b) => Operation::Div(both(a, b)?),
            Atom::Mod(a, b) => Operation::Mod(both(a, b)?),
            Atom::Min(a, b) => Operation::Min(both(a, b)?),
            Atom::Max(a, b) => Operation::Max(both(a, b)?),
        }))
    }

    fn read(&self) -> Expr {
        let operation = match self {
            Written::Number(n) => return (*n).into(),
            Written::Symbol(name) => return Expr::symbol(name),
            Written::Operation(operation) => operation,
        };
        let both = |pair: &[Written; 2], apply: fn(Expr, Expr) -> Expr| apply(pair[0].read(), pair[1].read());
        match operation {
            Operation::Add(all) => all.iter().fold(Expr::from(0i64), |sum, e| sum + e.read()),
            Operation::Mul(all) => all.iter().fold(Expr::from(1i64), |product, e| product * e.read()),
            Operation::Div(pair) => both(pair, |a, b| a / b),
            Operation::Mod(pair) => both(pair, |a, b| a % b),
            Operation::Min(pair) => both(pair, Expr::min),
            Operation::Max(pair) => both(pair, Expr::max),
        }
    }
}

fn single_or(mut all: Vec<Written>, operation: fn(Vec<Written>) -> Operation) -> Written {
    match (all.len(), all.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            all.extend(last);
            Written::Operation(operation(all))
        }
    }
}

impl Serialize for Expr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Written::of(self)
            .ok_or_else(|| serde::ser::Error::custom("an expression of dimensions is too complex"))?
            .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Expr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Expr, D::Error> {
        Ok(Written::deserialize(deserializer)?.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(name: &str) -> Expr {
        Expr::symbol(name)
    }
    fn c(n: i64) -> Expr {
        n.into()
    }

    #[test]
    fn equal_polynomials_are_equal() {
        assert_eq!((s("a") + c(1)) * (s("a") - c(1)), s("a") * s("a") - c(1));
        assert_eq!(s("a") - s("a"), c(0));
        assert_eq!((s("n") * s("t") * c(384)) / (s("t") * s("n")), c(384));
        assert_eq!((c(4) * s("h") + c(6)) / c(4), s("h") + c(1));
        assert_eq!((c(4) * s("h") + s("w")) / c(2), c(2) * s("h") + s("w") / c(2));
        assert_eq!((c(4) * s("h")) % c(2), c(0));
        assert_eq!(s("t").max(c(0)), s("t"));
        assert_eq!(s("t").min(s("t") + c(3)), s("t"));
    }

    #[test]
    fn division_rounds_down() {
        let values = SymbolValues::from([("x".into(), -7)]);
        assert_eq!((s("x") / c(2)).evaluate(&values).unwrap(), -4);
        assert_eq!((s("x") % c(2)).evaluate(&values).unwrap(), 1);
        assert_eq!(c(-7) / c(2), c(-4));
        assert!((s("x") / (s("x") + c(7))).evaluate(&values).is_err());
        for overflow in [c(i64::MIN) / c(-1), (s("x") + c(i64::MIN)) / c(-1), (s("x") * c(i64::MIN)) / c(-1)]
        {
            assert!(overflow.evaluate(&values).is_err(), "{overflow}");
        }
        assert!((c(i64::MIN) % c(-1)).evaluate(&values).is_err());
    }

    #[test]
    fn written_and_read_back() {
        for e in [
            c(-3),
            s("n"),
            (s("n") * c(2) + c(1)) / s("k"),
            s("a").max(s("b")) % c(3),
            s("a").min(s("b") * s("a")),
        ] {
            let text = serde_json::to_string(&e).unwrap();
            assert_eq!(serde_json::from_str::<Expr>(&text).unwrap(), e, "{text}");
        }
    }

    #[test]
    fn growth_is_bounded() {
        let mut e = s("x");
        for i in 0..200 {
            e = (e.clone() / c(i + 2)).max(e % c(i + 3) + s("y"));
        }
        assert!(e.evaluate(&SymbolValues::from([("x".into(), 5), ("y".into(), 1)])).is_err());
    }
}
