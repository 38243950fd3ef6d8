//! Life cycle, logging and version.

use std::path::PathBuf;
use std::time::Duration;

use optimium_runtime::environment::Environment;
use optimium_runtime::{fork, logging};
use pyo3::prelude::*;

use crate::arguments::argument;
use crate::enums::from_python;
use crate::python::{detached, forget_visitors, types, wait_for_visitors};

/// Starts the runtime. Does nothing where it runs already.
#[pyfunction]
pub(crate) fn initialize(py: Python<'_>) -> PyResult<()> {
    detached(py, optimium_runtime::initialize)
}

/// Shuts the runtime down: what runs is cancelled and awaited, what is queued fails, and models loaded before can no longer be run.
///
/// Callbacks of these inferences are called before it returns.
#[pyfunction]
pub(crate) fn finalize(py: Python<'_>) -> PyResult<()> {
    detached(py, || {
        optimium_runtime::finalize();
        Ok(())
    })
}

/// Shuts the runtime down before the interpreter ends, and waits for threads that are in it: the interpreter would end them
/// as they come back, in the midst of functions that cannot be left so.
#[pyfunction]
pub(crate) fn finalize_at_exit(py: Python<'_>) -> PyResult<()> {
    // Long against an inference's steps, between which it notices; short for somebody who waits for a program to end.
    const LIMIT: Duration = Duration::from_secs(5);
    finalize(py)?;
    wait_for_visitors(py, LIMIT);
    Ok(())
}

/// Whether the runtime is initialized and not finalized.
#[pyfunction]
pub(crate) fn is_initialized() -> bool {
    optimium_runtime::is_initialized()
}

/// Prepares a fork. The interpreter is not let go: between this and the fork no other Python thread may run
/// into what is held here.
#[pyfunction]
pub(crate) fn before_fork() {
    fork::before();
}

/// Ends what [`before_fork`] began, in the process that forked.
#[pyfunction]
pub(crate) fn after_fork_in_parent() {
    fork::after_in_parent();
}

/// Starts the runtime afresh in a process that was forked off one where it ran.
#[pyfunction]
pub(crate) fn after_fork_in_child() {
    fork::after_in_child();
    forget_visitors();
}

/// Whether the environment asks that importing the package does not initialize the runtime.
#[pyfunction]
pub(crate) fn is_deferred() -> bool {
    Environment::read().defer_init
}

/// The version of the runtime.
#[pyfunction]
pub(crate) fn get_version(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let version = optimium_runtime::version();
    types(py)?.getattr("Version")?.call1((version.major, version.minor, version.patch, version.build_info))
}

/// Writes what is at least as important as `level` from now on.
#[pyfunction]
pub(crate) fn set_loglevel(level: &Bound<'_, PyAny>) -> PyResult<()> {
    logging::set_log_level(from_python(level)?);
    Ok(())
}

/// Writes logs to the standard error stream from now on.
#[pyfunction]
pub(crate) fn enable_console_log() {
    logging::enable_console_log();
}

/// Appends logs to a file from now on.
#[pyfunction]
pub(crate) fn enable_file_log(path: &Bound<'_, PyAny>) -> PyResult<()> {
    let (py, path) = (path.py(), argument::<PathBuf>("path", path)?);
    detached(py, || logging::enable_file_log(&path))
}
