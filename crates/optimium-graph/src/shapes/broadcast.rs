//! Broadcasting, as NumPy does.

use optimium_tensor::{Error, Expr, Result, TensorShape};

use super::arithmetic::{constant, larger};

/// The size of an axis in which operands have the sizes `a` and `b`; `None` where two numbers do not fit.
///
/// Two different symbols give their maximum: it is right unless one of them turns out to be zero and the other one.
pub(super) fn broadcast_dim(a: &Expr, b: &Expr) -> Option<Expr> {
    match (a.as_const(), b.as_const()) {
        _ if a == b => Some(a.clone()),
        (Some(1), _) => Some(b.clone()),
        (_, Some(1)) => Some(a.clone()),
        (Some(_), Some(_)) => None,
        (Some(_), None) => Some(a.clone()),
        (None, Some(_)) => Some(b.clone()),
        (None, None) if is_covered(b, a) => Some(a.clone()),
        (None, None) if is_covered(a, b) => Some(b.clone()),
        (None, None) => Some(larger(a.clone(), b.clone())),
    }
}

/// Whether a size that follows from `symbol` is one where the symbol is: then the result has the symbol's size,
/// because sizes other than one must be equal. `min(512, T)` against `T` is a table of positions that is cut.
fn is_covered(size: &Expr, symbol: &Expr) -> bool {
    let Some(name) = symbol.as_symbol() else { return false };
    size.substitute(&|other| (other == name).then(|| constant(1))).as_const() == Some(1)
}

/// The shape of the result of an operation on tensors of the shapes `a` and `b`.
///
/// # Errors
/// Where two numbers do not fit.
pub(super) fn broadcast(a: &[Expr], b: &[Expr]) -> Result<Vec<Expr>> {
    let rank = a.len().max(b.len());
    let one = constant(1);
    let at = |dims: &[Expr], axis: usize| {
        axis.checked_sub(rank - dims.len()).map_or(one.clone(), |axis| dims[axis].clone())
    };
    let dims: Option<Vec<Expr>> = (0..rank).map(|axis| broadcast_dim(&at(a, axis), &at(b, axis))).collect();
    dims.ok_or_else(|| Error::model(format!("{} and {} cannot be broadcast", shown(a), shown(b))))
}

/// Requires that a tensor of shape `from` can be broadcast to the shape `to`, `to` staying as it is.
///
/// # Errors
/// Where two numbers do not fit, or `from` has more dimensions.
pub(super) fn check_broadcasts_to(from: &[Expr], to: &[Expr]) -> Result<()> {
    let fits = |(from, to): (&Expr, &Expr)| match (from.as_const(), to.as_const()) {
        (Some(from), Some(to)) => from == to || from == 1,
        _ => true,
    };
    if from.len() <= to.len() && from.iter().rev().zip(to.iter().rev()).all(fits) {
        return Ok(());
    }
    Err(Error::model(format!("{} cannot be broadcast to {}", shown(from), shown(to))))
}

/// The dimensions as messages show them.
pub(super) fn shown(dims: &[Expr]) -> TensorShape {
    TensorShape::new(dims.to_vec())
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::shapes::testing::dims;

    #[test]
    fn dimensions_are_broadcast() {
        let cases = [
            ("2 3", "3", Some("2 3")),
            ("1 3", "2 1", Some("2 3")),
            ("", "2", Some("2")),
            ("N 3", "1 3", Some("N 3")),
            ("N 1", "4", Some("N 4")),
            ("N 1", "4 1", Some("4 1")),
            ("N T", "N T", Some("N T")),
            ("0", "1", Some("0")),
            ("2", "3", None),
            ("0", "3", None),
        ];
        each_case(cases, |(a, b, expected)| {
            let result = broadcast(&dims(a), &dims(b)).ok();
            let expected = expected.map(dims);
            if result == expected { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }

    #[test]
    fn two_symbols_give_their_maximum() {
        let (n, m) = (Expr::symbol("N"), Expr::symbol("M"));
        assert_eq!(broadcast_dim(&n, &m), Some(n.clone().max(m.clone())));
        assert_eq!(broadcast_dim(&n, &(n.clone() + m.clone())), Some(n.clone() + m));
        assert_eq!(broadcast_dim(&n.clone().min(constant(512)), &n), Some(n));
    }

    #[test]
    fn one_sided_broadcasting_keeps_the_target() {
        let cases = [("3", "2 3", true), ("1 1", "2 3", true), ("2 3", "3", false), ("2", "3", false)];
        each_case(cases, |(from, to, expected)| {
            let result = check_broadcasts_to(&dims(from), &dims(to));
            if result.is_ok() == *expected { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }
}
