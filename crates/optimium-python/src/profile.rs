//! Profiles of requests.

use std::ffi::CString;
use std::time::Duration;

use optimium_runtime::profile::{Durations, Event, EventKind, ProfileOptions};
use optimium_runtime::{InferRequest, Tensors};
use pyo3::exceptions::PyRuntimeWarning;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arguments::optional;
use crate::devices::device_to_python;
use crate::enums::{PythonEnum, to_python};
use crate::python::{detached, types};

impl PythonEnum for EventKind {
    const CLASS: &'static str = "ProfileEventKind";
    fn members() -> Vec<(Self, String)> {
        EventKind::all().map(|kind| (kind, kind.name())).collect()
    }
}

/// Something that began or ended while a request was profiled.
#[pyclass(name = "ProfileEvent", module = "optimium.runtime", frozen)]
pub(crate) struct PyProfileEvent(pub(crate) Event);

#[pymethods]
impl PyProfileEvent {
    /// What it is.
    #[getter]
    fn kind<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.0.kind)
    }

    /// Microseconds on a clock that all profiles of the process share.
    #[getter]
    fn timestamp(&self) -> u128 {
        self.0.time.as_micros()
    }

    /// Nanoseconds on the same clock.
    #[getter]
    fn timestamp_ns(&self) -> u128 {
        self.0.time.as_nanos()
    }

    /// The index of the operation, for LAYER_EXECUTE and WAIT events; else None.
    #[getter]
    fn operation(&self) -> Option<u32> {
        self.0.operation
    }

    /// The number of the worker, for LAYER_EXECUTE events; else None.
    #[getter]
    fn thread_id(&self) -> Option<u32> {
        self.0.thread
    }

    /// The index of the tensor, for COPY events; else None.
    #[getter]
    fn tensor_id(&self) -> Option<u32> {
        self.0.transfer.map(|transfer| transfer.tensor)
    }

    /// The device that a tensor is copied from, for COPY events; else None.
    #[getter]
    fn source_device<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.transfer.map(|transfer| device_to_python(py, transfer.source)).transpose()
    }

    /// The device that a tensor is copied to, for COPY events; else None.
    #[getter]
    fn dest_device<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.transfer.map(|transfer| device_to_python(py, transfer.destination)).transpose()
    }

    fn __repr__(&self) -> String {
        let Event { kind, time, operation, thread, .. } = self.0;
        let of = operation.map_or(String::new(), |operation| format!(" of operation {operation}"));
        let on = thread.map_or(String::new(), |thread| format!(" on thread {thread}"));
        format!("<ProfileEvent {}{of}{on} at {} us>", kind.name(), time.as_micros())
    }
}

/// The options of a profile, from arguments of which any may be missing.
pub(crate) fn profile_options(
    [repeat, warmup, warmup_time, stop_threshold, check_period, event_buffer_size]: [Option<&Bound<'_, PyAny>>;
        6],
) -> PyResult<ProfileOptions> {
    let usual = ProfileOptions::default();
    let count =
        |name, object, usual| -> PyResult<usize> { Ok(optional::<usize>(name, object)?.unwrap_or(usual)) };
    let time = |name, object, usual| -> PyResult<Duration> {
        Ok(optional::<u64>(name, object)?.map_or(usual, Duration::from_micros))
    };
    Ok(ProfileOptions {
        repeat: count("repeat", repeat, usual.repeat)?,
        warmup: count("warmup", warmup, usual.warmup)?,
        warmup_time: time("warmup_time", warmup_time, usual.warmup_time)?,
        stop_threshold: time("stop_threshold", stop_threshold, usual.stop_threshold)?,
        check_period: count("check_period", check_period, usual.check_period)?,
        event_buffer_size: count("event_buffer_size", event_buffer_size, usual.event_buffer_size)?,
    })
}

/// Profiles a request, tells `progress` how far it is, and warns where events were lost.
pub(crate) fn profile(
    py: Python<'_>,
    request: &InferRequest,
    (inputs, outputs): (Tensors<'_>, Tensors<'_>),
    options: ProfileOptions,
    progress: Option<&Py<PyAny>>,
) -> PyResult<()> {
    let mut raised = None;
    let mut is_interrupted = || {
        let told = Python::attach(|py| {
            py.check_signals()?;
            let (Some(progress), Some(state)) = (progress, request.profile_progress()) else { return Ok(()) };
            let what = if state.is_warm { "measuring" } else { "warming up" };
            progress.call1(py, (what, state.done)).map(drop)
        });
        raised = told.err();
        raised.is_some()
    };
    let result = detached(py, || request.profile(inputs, outputs, options, &mut is_interrupted));
    raised.map_or(result, Err)?;
    let Some(message) = request.lost_events() else { return Ok(()) };
    let message = CString::new(message.replace('\0', " "))?;
    PyErr::warn(py, &py.get_type::<PyRuntimeWarning>(), &message, 1)
}

/// A `ProfileDurations`.
pub(crate) fn durations_to_python<'py>(
    py: Python<'py>,
    durations: &Durations,
) -> PyResult<Bound<'py, PyAny>> {
    let nanoseconds = |all: &[Duration]| all.iter().map(Duration::as_nanos).collect::<Vec<_>>();
    let by_name = |all: &[(String, Vec<Duration>)]| -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for (name, durations) in all {
            dict.set_item(name, nanoseconds(durations))?;
        }
        Ok(dict)
    };
    types(py)?.getattr("ProfileDurations")?.call1((
        &durations.model_name,
        nanoseconds(&durations.model),
        by_name(&durations.layers)?,
        by_name(&durations.copies)?,
        durations.lost_events,
    ))
}
