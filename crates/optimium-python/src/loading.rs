//! `load_model` and `convert`.

use std::path::PathBuf;

use optimium_runtime::device::{DeviceId, Precision};
use optimium_runtime::{Compression, ConvertOptions, LoadOptions, SchedulerType, WeightEncoding};
use optimium_tensor::{Error, ErrorKind};
use pyo3::prelude::*;

use crate::arguments::{argument, callable, optional};
use crate::devices::device_from_python;
use crate::enums::from_python;
use crate::errors::invalid_argument;
use crate::model::PyModel;
use crate::python::detached;

/// Loads a model: a model folder, or an .onnx or .tflite file.
///
/// precision is "f32", which computes all of it in f32, or "bf16": where it is faster, the factors of matrix products and
/// convolutions are rounded to bfloat16, each with a relative error of at most 1/256, and so are tensors between layers that
/// all take such. Products are summed in f32; inputs, outputs and, without memory_optimization, all tensors stay f32.
/// On processors without such products both are the same.
///
/// With tuned, a folder that was tuned on such a CPU for as many threads and that precision takes the kernels that were chosen.
///
/// keep_tensors names tensors of the model that are to stay readable where layers would otherwise be fused over them; for a folder
/// that is said when it is converted.
///
/// sequences says, by name, what inputs that are sequences stand for: the shapes of the tensors in them, each of which is then an input,
/// name.0, name.1, …; None is an optional input without a value. For a folder that is said when it is converted.
///
/// The PIPELINE scheduler divides the threads (and cores) into stages, one for each thread unless stages says how many. With
/// EXCLUSIVE and PIPELINE, queue_capacity inferences (1024 unless it says how many) may wait for their turn; infer() raises
/// OutOfResourceError when there would be more.
#[pyfunction]
#[pyo3(signature = (path, *, devices=None, strict=None, memory_optimization=None, disable_denormals=None,
    intermediate_save_path=None, passphrase=None, threads=None, cores=None, scheduler_type=None, precision=None,
    tuned=None, stages=None, queue_capacity=None, keep_tensors=None, sequences=None),
    text_signature = "(path, *, devices=None, strict=False, memory_optimization=True, disable_denormals=True, \
    intermediate_save_path=None, passphrase=None, threads=None, cores=None, scheduler_type=None, precision='f32', \
    tuned=True, stages=None, queue_capacity=None, keep_tensors=None, sequences=None)")]
pub(crate) fn load_model(
    path: &Bound<'_, PyAny>,
    devices: Option<&Bound<'_, PyAny>>,
    strict: Option<&Bound<'_, PyAny>>,
    memory_optimization: Option<&Bound<'_, PyAny>>,
    disable_denormals: Option<&Bound<'_, PyAny>>,
    intermediate_save_path: Option<&Bound<'_, PyAny>>,
    passphrase: Option<&Bound<'_, PyAny>>,
    threads: Option<&Bound<'_, PyAny>>,
    cores: Option<&Bound<'_, PyAny>>,
    scheduler_type: Option<&Bound<'_, PyAny>>,
    precision: Option<&Bound<'_, PyAny>>,
    tuned: Option<&Bound<'_, PyAny>>,
    stages: Option<&Bound<'_, PyAny>>,
    queue_capacity: Option<&Bound<'_, PyAny>>,
    keep_tensors: Option<&Bound<'_, PyAny>>,
    sequences: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyModel> {
    let (py, path) = (path.py(), argument::<PathBuf>("path", path)?);
    let switch = |name, object, default| optional(name, object).map(|on| on.unwrap_or(default));
    let options = LoadOptions {
        devices: devices_from_python(py, devices)?,
        strict: switch("strict", strict, false)?,
        memory_optimization: switch("memory_optimization", memory_optimization, true)?,
        disable_denormals: switch("disable_denormals", disable_denormals, true)?,
        intermediate_save_path: save_path_from_python(py, intermediate_save_path)?,
        passphrase: optional("passphrase", passphrase)?.filter(|passphrase: &String| !passphrase.is_empty()),
        threads: threads_from_python(py, threads)?,
        cores: cores_from_python(py, cores)?,
        scheduler_type: match scheduler_type {
            Some(scheduler_type) => from_python(scheduler_type)?,
            None => SchedulerType::Simple,
        },
        precision: precision_from_python(py, precision)?,
        stages: count_from_python(py, "stages", stages)?,
        queue_capacity: count_from_python(py, "queue_capacity", queue_capacity)?,
        keep_tensors: optional("keep_tensors", keep_tensors)?.unwrap_or_default(),
        sequences: optional("sequences", sequences)?.unwrap_or_default(),
        tuned: switch("tuned", tuned, true)?,
    };
    let model = detached(py, || optimium_runtime::load_model(&path, &options))?;
    Ok(PyModel::new(py, model))
}

/// The folder for intermediate tensors, where it is given.
fn save_path_from_python(py: Python<'_>, path: Option<&Bound<'_, PyAny>>) -> PyResult<Option<PathBuf>> {
    let path: Option<PathBuf> = optional("intermediate_save_path", path)?;
    if path.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
        let why = "intermediate_save_path is empty: \".\" is the current folder, and None saves nothing";
        return Err(invalid_argument(py, why));
    }
    Ok(path)
}

/// The devices that are allowed; none stands for all.
fn devices_from_python(py: Python<'_>, devices: Option<&Bound<'_, PyAny>>) -> PyResult<Vec<DeviceId>> {
    let Some(devices) = optional::<Vec<Bound<'_, PyAny>>>("devices", devices)? else { return Ok(Vec::new()) };
    if devices.is_empty() {
        return Err(invalid_argument(py, "devices: a model needs at least one; None stands for all"));
    }
    devices.iter().map(device_from_python).collect()
}

/// The number of threads, where it is given.
pub(crate) fn threads_from_python(
    py: Python<'_>,
    threads: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<usize>> {
    count_from_python(py, "threads", threads)
}

fn count_from_python(
    py: Python<'_>,
    name: &str,
    count: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<usize>> {
    optional(name, count)?.map(|number| not_negative(py, name, number)).transpose()
}

/// The numbers of the cores, where they are given.
pub(crate) fn cores_from_python(
    py: Python<'_>,
    cores: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<Vec<usize>>> {
    let Some(cores) = optional::<Vec<i64>>("cores", cores)? else { return Ok(None) };
    cores.into_iter().map(|core| not_negative(py, "a core", core)).collect::<PyResult<_>>().map(Some)
}

/// The precision of that name; `f32` where none is given.
pub(crate) fn precision_from_python(py: Python<'_>, name: Option<&Bound<'_, PyAny>>) -> PyResult<Precision> {
    let Some(name) = optional::<String>("precision", name)? else { return Ok(Precision::F32) };
    Precision::from_name(&name).ok_or_else(|| {
        let known = Precision::ALL.map(Precision::name).join(", ");
        invalid_argument(py, format!("precision: {name:?} is not one of {known}"))
    })
}

fn not_negative(py: Python<'_>, name: &str, number: i64) -> PyResult<usize> {
    usize::try_from(number).map_err(|_| invalid_argument(py, format!("{name} cannot be {number}")))
}

/// Converts an .onnx or .tflite file to a model folder. With `pack` the weights are stored a second time, as kernels for the
/// instruction set of this machine read them: loading is faster and takes less memory. `progress` is called with what is being
/// done and how much of the whole is done, from 0 to 1; an exception in it ends the conversion.
///
/// weights is "bf16", "int8" or "int4": large constant matrices are then stored with 16, 8 or 4 bits an element, integers with a
/// scale for every 64 or 32 of them. Activations, products and sums stay f32. Weights that the model has in few bits already are left
/// as they are.
///
/// keep_tensors names tensors of the model that are to stay readable where layers would otherwise be fused over them. sequences says what
/// inputs that are sequences stand for, as load_model(sequences=...) does.
#[pyfunction]
#[pyo3(signature = (source, destination, *, pack=None, weights=None, progress=None, keep_tensors=None, sequences=None),
    text_signature = "(source, destination, *, pack=True, weights=None, progress=None, keep_tensors=None, sequences=None)")]
pub(crate) fn convert(
    source: &Bound<'_, PyAny>,
    destination: &Bound<'_, PyAny>,
    pack: Option<&Bound<'_, PyAny>>,
    weights: Option<&Bound<'_, PyAny>>,
    progress: Option<Bound<'_, PyAny>>,
    keep_tensors: Option<&Bound<'_, PyAny>>,
    sequences: Option<&Bound<'_, PyAny>>,
) -> PyResult<PyConversion> {
    let py = source.py();
    let source: PathBuf = argument("source", source)?;
    let destination: PathBuf = argument("destination", destination)?;
    let options = ConvertOptions {
        pack: optional("pack", pack)?.unwrap_or(true),
        weights: weights_from_python(py, weights)?,
        keep_tensors: optional("keep_tensors", keep_tensors)?.unwrap_or_default(),
        sequences: optional("sequences", sequences)?.unwrap_or_default(),
    };
    let progress = callable("progress", progress)?;
    let mut raised = None;
    let result = detached(py, || {
        optimium_runtime::convert(&source, &destination, &options, &mut |what, done| {
            let Some(progress) = &progress else { return Ok(()) };
            Python::attach(|py| progress.call1(py, (what, done))).map(drop).map_err(|error| {
                raised = Some(error);
                Error::new(ErrorKind::InvalidOperation, "the progress callback ended the conversion")
            })
        })
    });
    raised.map_or(result, Err).map(PyConversion)
}

/// The encoding of that name.
fn weights_from_python(py: Python<'_>, name: Option<&Bound<'_, PyAny>>) -> PyResult<Option<WeightEncoding>> {
    let Some(name) = optional::<String>("weights", name)? else { return Ok(None) };
    WeightEncoding::from_name(&name).map(Some).ok_or_else(|| {
        let known = WeightEncoding::ALL.map(WeightEncoding::name).join(", ");
        invalid_argument(py, format!("weights: {name:?} is not one of {known}"))
    })
}

/// What a conversion did.
#[pyclass(frozen, name = "Conversion", module = "optimium.runtime")]
pub(crate) struct PyConversion(Compression);

#[pymethods]
impl PyConversion {
    /// How many matrices of weights were compressed.
    #[getter]
    fn compressed_weights(&self) -> usize {
        self.0.matrices
    }

    /// Their bytes before.
    #[getter]
    fn bytes_before(&self) -> u64 {
        self.0.bytes_before
    }

    /// Their bytes now, scales included.
    #[getter]
    fn bytes_after(&self) -> u64 {
        self.0.bytes_after
    }

    fn __repr__(&self) -> String {
        let Compression { matrices, bytes_before, bytes_after } = self.0;
        format!(
            "Conversion(compressed_weights={matrices}, bytes_before={bytes_before}, bytes_after={bytes_after})"
        )
    }
}
