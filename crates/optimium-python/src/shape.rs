//! `TensorShape`.

use optimium_tensor::{Error, Expr, TensorShape};
use pyo3::exceptions::PyIndexError;
use pyo3::prelude::*;
use pyo3::types::{PySlice, PyString, PyTuple};

use crate::errors::{invalid_argument, raise};
use crate::expr::{PyExpr, dim_to_python, to_expr};

/// The dimensions of a tensor: a sequence of `int`, and of `Expr` where they are symbolic.
#[pyclass(name = "TensorShape", module = "optimium.runtime", frozen, sequence)]
pub(crate) struct PyTensorShape(pub(crate) TensorShape);

/// The shape that `object` stands for: a `TensorShape`, a sequence of dimensions, or one dimension.
pub(crate) fn to_shape(object: &Bound<'_, PyAny>) -> PyResult<TensorShape> {
    if let Ok(shape) = object.cast::<PyTensorShape>() {
        return Ok(shape.get().0.clone());
    }
    let is_one = object.is_instance_of::<PyString>()
        || object.is_instance_of::<PyExpr>()
        || object.extract::<i64>().is_ok();
    let dims = if is_one {
        vec![to_expr(object)?]
    } else {
        let items = object.try_iter().map_err(|_| {
            raise(
                object.py(),
                Error::type_mismatch(format!("a shape is a sequence of dimensions, not {object}")),
            )
        })?;
        items.map(|item| to_expr(&item?)).collect::<PyResult<Vec<_>>>()?
    };
    checked(object.py(), dims)
}

/// The numbers of a shape without symbols.
pub(crate) fn to_dims(object: &Bound<'_, PyAny>) -> PyResult<Vec<usize>> {
    let shape = to_shape(object)?;
    shape.as_fixed().ok_or_else(|| {
        raise(object.py(), Error::shape(format!("a tensor needs a shape of numbers, not {shape}")))
    })
}

fn checked(py: Python<'_>, dims: Vec<Expr>) -> PyResult<TensorShape> {
    match dims.iter().find(|dim| dim.as_const().is_some_and(|number| number < 0)) {
        Some(negative) => Err(invalid_argument(py, format!("a dimension cannot be {negative}"))),
        None => Ok(TensorShape::new(dims)),
    }
}

#[pymethods]
impl PyTensorShape {
    #[new]
    #[pyo3(signature = (*dims))]
    fn new(dims: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let only = if dims.len() == 1 { Some(dims.get_item(0)?) } else { None };
        to_shape(only.as_ref().unwrap_or(dims.as_any())).map(PyTensorShape)
    }

    /// Number of dimensions.
    #[getter]
    fn rank(&self) -> usize {
        self.0.rank()
    }

    /// Whether a dimension is symbolic.
    #[getter]
    fn dynamic(&self) -> bool {
        self.0.is_dynamic()
    }

    /// Number of elements. Raises ShapeError for dynamic shapes.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<usize> {
        let dims = self.0.as_fixed().ok_or_else(|| {
            raise(py, Error::shape(format!("the dynamic shape {} has no fixed size", self.0)))
        })?;
        dims.iter().try_fold(1usize, |size, &dim| size.checked_mul(dim)).ok_or_else(|| {
            raise(py, Error::shape(format!("the shape {} has more elements than can be counted", self.0)))
        })
    }

    /// Distances between neighbours along each dimension, in elements, of row-major memory.
    #[getter]
    fn strides<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let mut stride = Expr::from(1i64);
        let mut strides = Vec::with_capacity(self.0.rank());
        for dim in self.0.dims().iter().rev() {
            strides.push(dim_to_python(py, &stride)?);
            stride = stride * dim.clone();
        }
        strides.reverse();
        PyTuple::new(py, strides)
    }

    /// Whether there can be a tensor that has both shapes.
    fn is_compatible(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        Ok(self.0.is_compatible(&to_shape(other)?))
    }

    fn __len__(&self) -> usize {
        self.0.rank()
    }

    fn __getitem__<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = index.py();
        if index.is_instance_of::<PySlice>() {
            return self.as_tuple(py)?.into_any().get_item(index);
        }
        let index: isize = index.extract()?;
        let position = if index < 0 { index.checked_add_unsigned(self.0.rank()) } else { Some(index) };
        let dim = position.and_then(|position| self.0.dims().get(usize::try_from(position).ok()?));
        match dim {
            Some(dim) => dim_to_python(py, dim),
            None => Err(PyIndexError::new_err(format!("the shape {} has no dimension {index}", self.0))),
        }
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        Ok(self.as_tuple(py)?.try_iter()?.into_any())
    }

    fn __contains__(&self, dim: &Bound<'_, PyAny>) -> bool {
        to_expr(dim).is_ok_and(|dim| self.0.dims().contains(&dim))
    }

    fn __eq__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = other.py();
        if other.is_instance_of::<PyString>() || other.try_iter().is_err() {
            return Ok(py.NotImplemented().into_bound(py));
        }
        let equal = to_shape(other).is_ok_and(|other| other == self.0);
        Ok(equal.into_pyobject(py)?.to_owned().into_any())
    }

    fn __hash__(&self, py: Python<'_>) -> PyResult<isize> {
        self.as_tuple(py)?.hash()
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let dims = self.as_tuple(py)?;
        let dims = dims.iter().map(|dim| Ok(dim.repr()?.to_string())).collect::<PyResult<Vec<_>>>()?;
        Ok(format!("TensorShape({})", dims.join(", ")))
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyTuple>)> {
        Ok((slf.get_type().into_any(), slf.get().as_tuple(slf.py())?))
    }
}

impl PyTensorShape {
    fn as_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let dims = self.0.dims().iter().map(|dim| dim_to_python(py, dim)).collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, dims)
    }
}
