//! `Expr`: dimensions.

use std::hash::{DefaultHasher, Hash, Hasher};

use optimium_tensor::{Error, ErrorKind, Expr};
use pyo3::prelude::*;
use pyo3::types::{PyModule, PyString};

use crate::errors::{invalid_argument, raise};

/// A dimension: a number, a symbol, or arithmetic of both.
#[pyclass(name = "Expr", module = "optimium.runtime", frozen)]
pub(crate) struct PyExpr(pub(crate) Expr);

/// The dimension that `object` stands for: an `Expr`, an integer, or the name of a symbol.
pub(crate) fn to_expr(object: &Bound<'_, PyAny>) -> PyResult<Expr> {
    let py = object.py();
    if let Ok(expr) = object.cast::<PyExpr>() {
        return Ok(expr.get().0.clone());
    }
    if let Ok(name) = object.cast::<PyString>() {
        let name = name.to_cow()?;
        if name.is_empty() {
            return Err(invalid_argument(py, "a symbol needs a name"));
        }
        return Ok(Expr::symbol(&name));
    }
    // NumPy's integers have __index__ too.
    match object.extract::<i64>() {
        Ok(number) => Ok(Expr::from(number)),
        Err(_) => Err(raise(
            py,
            Error::type_mismatch(format!("a dimension is an integer, a name or an Expr, not {object}")),
        )),
    }
}

/// A dimension as users see it: an `int` where it is a number, else an `Expr`.
pub(crate) fn dim_to_python<'py>(py: Python<'py>, dim: &Expr) -> PyResult<Bound<'py, PyAny>> {
    match dim.as_const() {
        Some(number) => Ok(number.into_pyobject(py)?.into_any()),
        None => Ok(PyExpr(dim.clone()).into_pyobject(py)?.into_any()),
    }
}

fn divided(py: Python<'_>, a: Expr, b: Expr, f: fn(Expr, Expr) -> Expr) -> PyResult<PyExpr> {
    if b.as_const() == Some(0) {
        return Err(invalid_argument(py, format!("{a} is divided by zero")));
    }
    let (numbers, text) = (a.as_const().is_some() && b.as_const().is_some(), format!("{a} / {b}"));
    let result = f(a, b);
    if numbers && result.as_const().is_none() {
        return Err(invalid_argument(py, format!("{text} overflows")));
    }
    Ok(PyExpr(result))
}

/// The expression that was written as JSON, for the `pickle` module.
#[pyfunction]
pub(crate) fn expr_from_json(py: Python<'_>, text: &str) -> PyResult<PyExpr> {
    serde_json::from_str(text)
        .map(PyExpr)
        .map_err(|cause| invalid_argument(py, format!("this is not an expression: {cause}")))
}

#[pymethods]
impl PyExpr {
    #[new]
    fn new(value: &Bound<'_, PyAny>) -> PyResult<Self> {
        to_expr(value).map(PyExpr)
    }

    /// Whether it is a number.
    fn is_const(&self) -> bool {
        self.0.as_const().is_some()
    }

    /// Whether it is a symbol alone.
    fn is_symbol(&self) -> bool {
        self.0.as_symbol().is_some()
    }

    /// The number. Raises InvalidOperationError where it is none.
    #[getter]
    fn value(&self, py: Python<'_>) -> PyResult<i64> {
        self.0.as_const().ok_or_else(|| self.not("a number", py))
    }

    /// The name of the symbol. Raises InvalidOperationError where it is not a symbol alone.
    #[getter]
    fn symbol(&self, py: Python<'_>) -> PyResult<String> {
        self.0.as_symbol().map(str::to_string).ok_or_else(|| self.not("a symbol", py))
    }

    /// The smaller of both.
    fn min(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(self.0.clone().min(to_expr(other)?)))
    }

    /// The larger of both.
    fn max(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(self.0.clone().max(to_expr(other)?)))
    }

    fn __add__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(self.0.clone() + to_expr(other)?))
    }
    fn __radd__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(to_expr(other)? + self.0.clone()))
    }
    fn __sub__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(self.0.clone() - to_expr(other)?))
    }
    fn __rsub__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(to_expr(other)? - self.0.clone()))
    }
    fn __mul__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(self.0.clone() * to_expr(other)?))
    }
    fn __rmul__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        Ok(PyExpr(to_expr(other)? * self.0.clone()))
    }
    fn __truediv__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        divided(other.py(), self.0.clone(), to_expr(other)?, |a, b| a / b)
    }
    fn __rtruediv__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        divided(other.py(), to_expr(other)?, self.0.clone(), |a, b| a / b)
    }
    fn __floordiv__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        self.__truediv__(other)
    }
    fn __rfloordiv__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        self.__rtruediv__(other)
    }
    fn __mod__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        divided(other.py(), self.0.clone(), to_expr(other)?, |a, b| a % b)
    }
    fn __rmod__(&self, other: &Bound<'_, PyAny>) -> PyResult<PyExpr> {
        divided(other.py(), to_expr(other)?, self.0.clone(), |a, b| a % b)
    }
    fn __neg__(&self) -> PyExpr {
        PyExpr(-self.0.clone())
    }

    fn __index__(&self, py: Python<'_>) -> PyResult<i64> {
        let wrong = || raise(py, Error::type_mismatch(format!("{} is not a number", self.0)));
        self.0.as_const().ok_or_else(wrong)
    }

    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        let other = match (other.cast::<PyExpr>(), other.extract::<i64>()) {
            (Ok(other), _) => other.get().0.clone(),
            (_, Ok(number)) => Expr::from(number),
            _ => return Ok(py.NotImplemented().into_bound(py)),
        };
        Ok((self.0 == other).into_pyobject(py)?.to_owned().into_any())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        if let Some(number) = self.0.as_const() {
            return number.into_pyobject(py)?.hash();
        }
        let mut hasher = DefaultHasher::new();
        self.0.hash(&mut hasher);
        Ok(hasher.finish() as isize)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, (String,))> {
        let text = serde_json::to_string(&self.0).map_err(|cause| invalid_argument(py, cause.to_string()))?;
        let read = PyModule::import(py, "optimium.runtime._native")?.getattr("expr_from_json")?;
        Ok((read, (text,)))
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        match self.0.as_const() {
            Some(number) => format!("Expr({number})"),
            None => format!("Expr('{}')", self.0),
        }
    }
}

impl PyExpr {
    fn not(&self, what: &str, py: Python<'_>) -> PyErr {
        raise(py, Error::new(ErrorKind::InvalidOperation, format!("the expression {} is not {what}", self.0)))
    }
}
