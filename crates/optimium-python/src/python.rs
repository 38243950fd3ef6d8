//! The Python half of the package, as seen from here.

use std::panic::{AssertUnwindSafe, catch_unwind};

use optimium_tensor::{Error, ErrorKind, Result};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyModule;

use crate::errors::raise;

/// The module of enumerations and plain data.
pub(crate) fn types(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module(py, &MODULE, "optimium.runtime._types")
}

/// The module that deals with NumPy.
pub(crate) fn arrays(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module(py, &MODULE, "optimium.runtime._arrays")
}

/// The module of exceptions.
pub(crate) fn errors(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module(py, &MODULE, "optimium.runtime._errors")
}

fn module<'py>(
    py: Python<'py>,
    cell: &'py PyOnceLock<Py<PyModule>>,
    name: &str,
) -> PyResult<&'py Bound<'py, PyModule>> {
    cell.get_or_try_init(py, || PyModule::import(py, name).map(Bound::unbind)).map(|module| module.bind(py))
}

/// Does `work` while other Python threads may run. A panic, which is a defect of the runtime, becomes an
/// exception like any other.
pub(crate) fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> Result<T> + Send) -> PyResult<T> {
    py.detach(|| guarded(work)).map_err(|error| raise(py, error))
}

/// Does `work` that takes less time than other Python threads would need to begin: as [`detached`], but they wait.
pub(crate) fn attached<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    guarded(work).map_err(|error| raise(py, error))
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::InvalidState, "internal error of the runtime, please report it"))
    })
}
