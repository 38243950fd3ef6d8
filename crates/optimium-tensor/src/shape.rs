//! Shapes whose dimensions may be symbolic.

use std::fmt;
use std::ops::Index;

use serde::{Deserialize, Serialize};

use crate::{Error, Expr, Result, SymbolValues};

/// The dimensions of a tensor, each a number or an expression of symbols.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TensorShape(Vec<Expr>);

impl TensorShape {
    /// A shape of those dimensions.
    pub fn new(dims: Vec<Expr>) -> Self {
        TensorShape(dims)
    }

    /// A shape without symbols.
    pub fn fixed(dims: &[usize]) -> Self {
        TensorShape(dims.iter().map(|&dim| Expr::from(dim)).collect())
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// The dimensions.
    pub fn dims(&self) -> &[Expr] {
        &self.0
    }

    /// Whether a dimension is not a number.
    pub fn is_dynamic(&self) -> bool {
        self.0.iter().any(|dim| dim.as_const().is_none())
    }

    /// The dimensions as numbers; `None` where one is symbolic (or negative).
    pub fn as_fixed(&self) -> Option<Vec<usize>> {
        self.0.iter().map(|dim| dim.as_const().and_then(|n| usize::try_from(n).ok())).collect()
    }

    /// Number of elements, as an expression.
    pub fn element_count(&self) -> Expr {
        self.0.iter().fold(Expr::from(1i64), |product, dim| product * dim.clone())
    }

    /// The dimensions with every symbol replaced by its value.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where a symbol has no value or a dimension is negative.
    pub fn evaluate(&self, values: &SymbolValues) -> Result<Vec<usize>> {
        self.0
            .iter()
            .map(|dim| {
                let n = dim.evaluate(values)?;
                usize::try_from(n).map_err(|_| Error::shape(format!("the dimension {dim} of {self} is {n}")))
            })
            .collect()
    }

    /// Whether there can be a tensor that has both shapes: same rank, and no two different numbers face each other.
    pub fn is_compatible(&self, other: &TensorShape) -> bool {
        self.rank() == other.rank()
            && self.0.iter().zip(&other.0).all(|(a, b)| match (a.as_const(), b.as_const()) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            })
    }
}

impl Index<usize> for TensorShape {
    type Output = Expr;
    fn index(&self, index: usize) -> &Expr {
        &self.0[index]
    }
}

impl FromIterator<Expr> for TensorShape {
    fn from_iter<I: IntoIterator<Item = Expr>>(dims: I) -> Self {
        TensorShape(dims.into_iter().collect())
    }
}

impl fmt::Display for TensorShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.0.iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}
