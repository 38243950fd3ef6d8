//! `load_model` and `convert`.

use std::path::PathBuf;

use optimium_runtime::{LoadOptions, SchedulerType};
use optimium_tensor::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::devices::device_from_python;
use crate::enums::from_python;
use crate::errors::invalid_argument;
use crate::model::PyModel;
use crate::python::detached;

/// Loads a model: a model folder, or an .onnx or .tflite file.
#[pyfunction]
#[pyo3(signature = (path, *, devices=None, strict=false, memory_optimization=true, disable_denormals=true,
    intermediate_save_path=None, passphrase=None, threads=None, cores=None, scheduler_type=None))]
pub(crate) fn load_model(
    py: Python<'_>,
    path: PathBuf,
    devices: Option<Vec<Bound<'_, PyAny>>>,
    strict: bool,
    memory_optimization: bool,
    disable_denormals: bool,
    intermediate_save_path: Option<PathBuf>,
    passphrase: Option<String>,
    threads: Option<i64>,
    cores: Option<Vec<i64>>,
    scheduler_type: Option<Bound<'_, PyAny>>,
) -> PyResult<PyModel> {
    let devices = devices.unwrap_or_default().iter().map(device_from_python).collect::<PyResult<_>>()?;
    let not_negative = |name: &str, number: i64| {
        usize::try_from(number).map_err(|_| invalid_argument(py, format!("{name} cannot be {number}")))
    };
    let cores = match cores {
        Some(cores) => {
            Some(cores.into_iter().map(|core| not_negative("a core", core)).collect::<PyResult<_>>()?)
        }
        None => None,
    };
    let options = LoadOptions {
        devices,
        strict,
        memory_optimization,
        disable_denormals,
        intermediate_save_path: intermediate_save_path.filter(|path| !path.as_os_str().is_empty()),
        passphrase: passphrase.filter(|passphrase| !passphrase.is_empty()),
        threads: threads.map(|threads| not_negative("threads", threads)).transpose()?,
        cores,
        scheduler_type: match scheduler_type {
            Some(scheduler_type) => from_python(&scheduler_type)?,
            None => SchedulerType::Simple,
        },
    };
    detached(py, || optimium_runtime::load_model(&path, &options)).map(PyModel)
}

/// Converts an .onnx or .tflite file to a model folder. `progress` is called with what is being done and how
/// much of the whole is done, from 0 to 1; an exception in it ends the conversion.
#[pyfunction]
#[pyo3(signature = (source, destination, *, progress=None))]
pub(crate) fn convert(
    py: Python<'_>,
    source: PathBuf,
    destination: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let mut raised = None;
    let result = detached(py, || {
        optimium_runtime::convert(&source, &destination, &mut |what, done| {
            let Some(progress) = &progress else { return Ok(()) };
            Python::attach(|py| progress.call1(py, (what, done))).map(drop).map_err(|error| {
                raised = Some(error);
                Error::new(ErrorKind::InvalidOperation, "the progress callback ended the conversion")
            })
        })
    });
    raised.map_or(result, Err)
}
