//! The Python half of the package, as seen from here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use optimium_runtime::fork;
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

/// The module that deals with asyncio.
pub(crate) fn asynchronous(py: Python<'_>) -> PyResult<&Bound<'_, PyModule>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    module(py, &MODULE, "optimium.runtime._async")
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
    let _visit = Visit::begin();
    py.detach(|| guarded(work)).map_err(|error| raise(py, error))
}

/// Threads that are in the runtime, or on their way back.
static VISITORS: AtomicUsize = AtomicUsize::new(0);

/// A thread's time among [`VISITORS`], in the process of that [generation](fork::generation).
struct Visit(u64);

impl Visit {
    fn begin() -> Visit {
        VISITORS.fetch_add(1, Ordering::Relaxed);
        Visit(fork::generation())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        // A fork left the visitors behind.
        if self.0 == fork::generation() {
            VISITORS.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Forgets the visitors, who did not follow into this process.
pub(crate) fn forget_visitors() {
    VISITORS.store(0, Ordering::Relaxed);
}

/// Waits until no thread is in the runtime, for as long as `limit`.
pub(crate) fn wait_for_visitors(py: Python<'_>, limit: Duration) {
    const PERIOD: Duration = Duration::from_millis(1);
    let end = Instant::now() + limit;
    py.detach(|| {
        while VISITORS.load(Ordering::Relaxed) > 0 && Instant::now() < end {
            thread::sleep(PERIOD);
        }
    });
}

/// Does `work` that takes less time than other Python threads would need to begin: as [`detached`], but they wait.
pub(crate) fn attached<T>(py: Python<'_>, work: impl FnOnce() -> Result<T>) -> PyResult<T> {
    // A callback may let go of the interpreter meanwhile.
    let _visit = Visit::begin();
    guarded(work).map_err(|error| raise(py, error))
}

fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::InvalidState, "internal error of the runtime, please report it"))
    })
}
