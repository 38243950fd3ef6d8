//! `tune_model`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use optimium_runtime::{LoadOptions, TuneOptions, TuneReport, TunedLayer};
use optimium_tensor::{Error, ErrorKind};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments::{argument, callable, optional};
use crate::errors::invalid_argument;
use crate::loading::{cores_from_python, precision_from_python, threads_from_python};
use crate::python::{detached, types};

/// Measures on this machine which kernels are the fastest for the layers of the model in a folder, and stores them there with the
/// packed weights that they need: load_model takes them where CPU, threads and precision are the same.
///
/// sizes says how large dynamic dimensions are, by symbol; the batch is 1 by default, images 224 pixels, everything else 128.
/// It takes about `seconds`, and somewhat longer for large models. `progress` is called with what is being done and how much of
/// the whole is done, from 0 to 1; an exception in it ends the work, and so does an interrupt: the folder is then as it was.
#[pyfunction]
#[pyo3(signature = (path, *, threads=None, cores=None, precision=None, sizes=None, seconds=None, progress=None),
    text_signature = "(path, *, threads=None, cores=None, precision='f32', sizes=None, seconds=10.0, progress=None)")]
pub(crate) fn tune_model<'py>(
    path: &Bound<'py, PyAny>,
    threads: Option<&Bound<'py, PyAny>>,
    cores: Option<&Bound<'py, PyAny>>,
    precision: Option<&Bound<'py, PyAny>>,
    sizes: Option<&Bound<'py, PyAny>>,
    seconds: Option<&Bound<'py, PyAny>>,
    progress: Option<Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let (py, path) = (path.py(), argument::<PathBuf>("path", path)?);
    let load = LoadOptions {
        threads: threads_from_python(py, threads)?,
        cores: cores_from_python(py, cores)?,
        precision: precision_from_python(py, precision)?,
        ..LoadOptions::default()
    };
    let mut options = TuneOptions { load, ..TuneOptions::default() };
    if let Some(sizes) = optional::<HashMap<String, usize>>("sizes", sizes)? {
        options.sizes = sizes;
    }
    if let Some(seconds) = optional::<f64>("seconds", seconds)? {
        let impossible = |_| invalid_argument(py, format!("seconds: no time is {seconds} seconds long"));
        options.time = Duration::try_from_secs_f64(seconds).map_err(impossible)?;
    }
    let progress = callable("progress", progress)?;
    let mut raised = None;
    let result = detached(py, || {
        optimium_runtime::tune_model(&path, &options, &mut |what, done| {
            let told = Python::attach(|py| {
                py.check_signals()?;
                progress.as_ref().map_or(Ok(()), |progress| progress.call1(py, (what, done)).map(drop))
            });
            told.map_err(|error| {
                raised = Some(error);
                Error::new(ErrorKind::InvalidOperation, "the tuning was ended")
            })
        })
    });
    raised.map_or(result, Err).and_then(|report| report_to_python(py, &report))
}

fn report_to_python<'py>(py: Python<'py>, report: &TuneReport) -> PyResult<Bound<'py, PyAny>> {
    let of_layer = types(py)?.getattr("TunedLayer")?;
    let layer = |layer: &TunedLayer| {
        let TunedLayer { name, operator, shape, old, new, before, after } = layer;
        of_layer.call1((name, operator, PyTuple::new(py, shape)?, old, new, before, after))
    };
    let layers = report.layers.iter().map(layer).collect::<PyResult<Vec<_>>>()?;
    let arguments = (PyTuple::new(py, layers)?, report.choices, report.before, report.after);
    types(py)?.getattr("TuneReport")?.call1(arguments)
}
