//! Arguments whose conversion raises the runtime's exceptions.

use optimium_tensor::Error;
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;

use crate::errors::{invalid_argument, raise};

/// The argument `name` as a `T`.
///
/// Raises `rt.TypeError` for objects of a wrong type, and InvalidArgumentError for numbers out of range.
pub(crate) fn argument<'a, 'py, T>(name: &str, object: &'a Bound<'py, PyAny>) -> PyResult<T>
where
    T: FromPyObject<'a, 'py>,
{
    object.extract::<T>().map_err(|error| {
        let (py, error) = (object.py(), error.into());
        if error.is_instance_of::<PyOverflowError>(py) {
            out_of_range(name, object)
        } else {
            own(py, name, error)
        }
    })
}

/// The exception for a number that is negative or too large, or for something that has such a number in it.
fn out_of_range(name: &str, object: &Bound<'_, PyAny>) -> PyErr {
    // Longer texts help nobody.
    const LONGEST: usize = 60;
    let text = object.repr().map_or_else(|_| "this number".to_string(), |text| text.to_string());
    let shown: String = text.chars().take(LONGEST).collect();
    let rest = if shown.len() < text.len() { "…" } else { "" };
    invalid_argument(
        object.py(),
        format!("{name} cannot be {shown}{rest}: a number is negative or too large"),
    )
}

/// [`argument`] of one that may be `None` or missing.
pub(crate) fn optional<'a, 'py, T>(name: &str, object: Option<&'a Bound<'py, PyAny>>) -> PyResult<Option<T>>
where
    T: FromPyObject<'a, 'py>,
{
    object.filter(|object| !object.is_none()).map(|object| argument(name, object)).transpose()
}

/// Something that can be called, or `None`.
pub(crate) fn callable(name: &str, object: Option<Bound<'_, PyAny>>) -> PyResult<Option<Py<PyAny>>> {
    match object.filter(|object| !object.is_none()) {
        Some(object) if !object.is_callable() => {
            Err(raise(object.py(), Error::type_mismatch(format!("{name}: {object} cannot be called"))))
        }
        object => Ok(object.map(Bound::unbind)),
    }
}

/// The runtime's exception for one of Python's.
pub(crate) fn own(py: Python<'_>, name: &str, error: PyErr) -> PyErr {
    let text = format!("{name}: {}", error.value(py));
    if error.get_type(py).is(py.get_type::<PyTypeError>()) {
        raise(py, Error::type_mismatch(text))
    } else if error.is_instance_of::<PyOverflowError>(py) {
        invalid_argument(py, text)
    } else {
        error
    }
}
