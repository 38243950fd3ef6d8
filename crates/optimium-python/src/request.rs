//! `InferRequest`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use optimium_runtime::{Callback, Completion, InferRequest, InferStatus, Tensors};
use optimium_tensor::{Error, Tensor};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple};

use crate::arguments::{argument, callable, optional};
use crate::arrays::tensor_over;
use crate::details::details_to_python;
use crate::enums::to_python;
use crate::errors::{exception, invalid_argument, raise};
use crate::model::Names;
use crate::profile::{PyProfileEvent, durations_to_python, profile, profile_options};
use crate::python::{arrays, asynchronous, attached, detached};
use crate::tensor::PyTensor;

/// Room for one inference at a time.
#[pyclass(name = "InferRequest", module = "optimium.runtime", frozen, weakref)]
pub(crate) struct PyInferRequest {
    request: InferRequest,
    names: Arc<Names>,
    callback: Arc<CallbackSlot>,
}

impl PyInferRequest {
    pub(crate) fn new(request: InferRequest, names: Arc<Names>) -> Self {
        PyInferRequest { request, names, callback: Arc::default() }
    }

    fn given<'py>(
        &self,
        inputs: &Bound<'py, PyAny>,
        outputs: &Bound<'py, PyAny>,
    ) -> PyResult<[Given<'py>; 2]> {
        let inputs = Given::from_python(inputs, Side::Input, &self.names.inputs)?;
        Ok([inputs, Given::from_python(outputs, Side::Output, &self.names.outputs)?])
    }
}

/// Which side of an inference a tensor is on.
#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

/// The tensors that were given for one side, and their names where they have some.
enum Given<'py> {
    Named(Vec<(Bound<'py, PyString>, Tensor)>),
    Ordered(Vec<Tensor>),
}

impl<'py> Given<'py> {
    /// What `object` gives for a side of a model, whose `names` are these.
    fn from_python(object: &Bound<'py, PyAny>, side: Side, names: &[Py<PyString>]) -> PyResult<Self> {
        let wrong_type = |message| raise(object.py(), Error::type_mismatch(message));
        if let Ok(list) = object.cast::<PyList>() {
            list.iter().map(|tensor| to_tensor(&tensor, side)).collect::<PyResult<_>>().map(Given::Ordered)
        } else if let Ok(named) = object.cast::<PyDict>() {
            if let Some(tensors) = in_order(named, side, names)? {
                return Ok(Given::Ordered(tensors));
            }
            let named = named.iter().map(|(name, tensor)| {
                let name = name.cast_into::<PyString>().map_err(|error| {
                    wrong_type(format!("the name of a tensor is a str, not {}", error.into_inner()))
                })?;
                Ok((name, to_tensor(&tensor, side)?))
            });
            named.collect::<PyResult<_>>().map(Given::Named)
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            tuple.iter().map(|tensor| to_tensor(&tensor, side)).collect::<PyResult<_>>().map(Given::Ordered)
        } else {
            Err(wrong_type(format!(
                "expected a list, a tuple or a dict of tensors, not {}",
                object.get_type().name()?
            )))
        }
    }

    fn into_tensors<'a>(self, names: &'a mut Vec<Bound<'py, PyString>>) -> PyResult<Tensors<'a>> {
        match self {
            Given::Ordered(tensors) => Ok(Tensors::Ordered(tensors)),
            Given::Named(named) => {
                let (own, tensors): (Vec<_>, Vec<_>) = named.into_iter().unzip();
                *names = own;
                names
                    .iter()
                    .zip(tensors)
                    .map(|(name, tensor)| Ok((name.to_str()?, tensor)))
                    .collect::<PyResult<_>>()
                    .map(Tensors::Named)
            }
        }
    }
}

/// The tensors of `named` in the order of `names`; `None` where it has others, or not all of them.
fn in_order(named: &Bound<'_, PyDict>, side: Side, names: &[Py<PyString>]) -> PyResult<Option<Vec<Tensor>>> {
    if named.len() != names.len() {
        return Ok(None);
    }
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        let Some(object) = named.get_item(name.bind(named.py()))? else { return Ok(None) };
        tensors.push(to_tensor(&object, side)?);
    }
    Ok(Some(tensors))
}

/// A tensor over the memory of `object`; NumPy arrays as they come are wrapped here, everything else by
/// `optimium.runtime._arrays`.
fn to_tensor(object: &Bound<'_, PyAny>, side: Side) -> PyResult<Tensor> {
    if let Ok(tensor) = object.cast::<PyTensor>() {
        return Ok(tensor.get().0.clone());
    }
    if let Some(tensor) = tensor_over(object, true)? {
        return Ok(tensor);
    }
    let convert = match side {
        Side::Input => "as_input",
        Side::Output => "as_output",
    };
    let tensor = arrays(object.py())?.getattr(convert)?.call1((object,))?;
    Ok(tensor.cast::<PyTensor>()?.get().0.clone())
}

#[pymethods]
impl PyInferRequest {
    /// Begins an inference and returns. Everything that can be wrong about the tensors is raised here.
    ///
    /// An output shares no memory with other tensors of the call, except that the present keys and values of a decoder may be
    /// a view of the array that begins with the past ones: `array[:, :, :n + 1]` and `array[:, :, :n]`.
    ///
    /// Outputs whose sizes data decide may be left out, with the scheduler SIMPLE; get_tensor() gives them.
    fn infer(&self, py: Python<'_>, inputs: &Bound<'_, PyAny>, outputs: &Bound<'_, PyAny>) -> PyResult<()> {
        let (mut input_names, mut output_names) = (Vec::new(), Vec::new());
        let [inputs, outputs] = self.given(inputs, outputs)?;
        let (inputs, outputs) =
            (inputs.into_tensors(&mut input_names)?, outputs.into_tensors(&mut output_names)?);
        // Whoever holds a lock that this takes never waits for Python meanwhile.
        attached(py, || self.request.infer(inputs, outputs))
    }

    /// As infer(), and calls `then` on the thread that ran the inference, when everything about it has ended.
    fn _infer_then(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyAny>,
        outputs: &Bound<'_, PyAny>,
        then: Py<PyAny>,
    ) -> PyResult<()> {
        let (mut input_names, mut output_names) = (Vec::new(), Vec::new());
        let [inputs, outputs] = self.given(inputs, outputs)?;
        let (inputs, outputs) =
            (inputs.into_tensors(&mut input_names)?, outputs.into_tensors(&mut output_names)?);
        let then: Completion = Box::new(move || {
            // Without an interpreter there is nobody left to be told.
            Python::try_attach(|py| {
                if let Err(failure) = then.call0(py) {
                    failure.write_unraisable(py, Some(then.bind(py)));
                }
                drop(then);
            });
        });
        attached(py, || self.request.infer_then(inputs, outputs, then))
    }

    /// Runs an inference while the event loop does other things: to be awaited. Raises its error. Where the awaiting task is
    /// cancelled, so is the inference, and the task ends when the inference has.
    fn infer_async<'py>(
        slf: &Bound<'py, Self>,
        inputs: &Bound<'py, PyAny>,
        outputs: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        asynchronous(slf.py())?.getattr("infer_async")?.call1((slf, inputs, outputs))
    }

    /// Waits for the inference to end, at most `timeout` microseconds; 0 and None wait forever. Returns True
    /// where it has not ended, and raises the error of one that failed, once.
    #[pyo3(signature = (timeout=None), text_signature = "($self, timeout=0)")]
    fn wait(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = optional::<i64>("timeout", timeout)?.unwrap_or(0);
        let timeout = u64::try_from(timeout)
            .map_err(|_| invalid_argument(py, format!("a timeout cannot be {timeout} microseconds")))?;
        if timeout == 0 && attached(py, || self.request.wait_quickly().transpose())?.is_some() {
            return Ok(false);
        }
        let mut raised = None;
        let mut is_interrupted = || {
            raised = Python::attach(|py| py.check_signals()).err();
            raised.is_some()
        };
        let timeout = (timeout > 0).then(|| Duration::from_micros(timeout));
        let result = detached(py, || self.request.wait(timeout, &mut is_interrupted));
        raised.map_or(result, Err)
    }

    /// Repeats one inference, records what happens when, and returns when it has ended. Times are in microseconds.
    #[pyo3(signature = (inputs, outputs, repeat=None, warmup=None, warmup_time=None, stop_threshold=None, check_period=None, event_buffer_size=None, *, progress=None), text_signature = "($self, inputs, outputs, repeat=100, warmup=10, warmup_time=1000000, stop_threshold=0, check_period=0, event_buffer_size=0, *, progress=None)")]
    fn profile(
        &self,
        py: Python<'_>,
        inputs: &Bound<'_, PyAny>,
        outputs: &Bound<'_, PyAny>,
        repeat: Option<&Bound<'_, PyAny>>,
        warmup: Option<&Bound<'_, PyAny>>,
        warmup_time: Option<&Bound<'_, PyAny>>,
        stop_threshold: Option<&Bound<'_, PyAny>>,
        check_period: Option<&Bound<'_, PyAny>>,
        event_buffer_size: Option<&Bound<'_, PyAny>>,
        progress: Option<Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let options =
            profile_options([repeat, warmup, warmup_time, stop_threshold, check_period, event_buffer_size])?;
        let progress = callable("progress", progress)?;
        let (mut input_names, mut output_names) = (Vec::new(), Vec::new());
        let [inputs, outputs] = self.given(inputs, outputs)?;
        let (inputs, outputs) =
            (inputs.into_tensors(&mut input_names)?, outputs.into_tensors(&mut output_names)?);
        profile(py, &self.request, (inputs, outputs), options, progress.as_ref())
    }

    /// What happened in the last profile, by time.
    fn get_profile_events(&self, py: Python<'_>) -> PyResult<Vec<PyProfileEvent>> {
        let (events, _) = detached(py, || self.request.profile_events())?;
        Ok(events.into_iter().map(PyProfileEvent).collect())
    }

    /// How long everything took in the last profile, in nanoseconds.
    fn get_profile_durations<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let durations = detached(py, || self.request.profile_durations())?;
        durations_to_python(py, &durations)
    }

    /// What the last inference consisted of: the work of each operation, and the plan of its memory.
    fn get_run_details<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let details = detached(py, || self.request.run_details())?;
        details_to_python(py, &details)
    }

    /// Its state.
    #[getter]
    fn status<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.request.status())
    }

    /// Sets what is called when an inference ends, with the final state and the exception of a fault (else
    /// None), on a thread of the runtime or the one in wait(), before wait() returns. It may use the request. None removes it.
    fn set_callback(&self, callback: Option<Bound<'_, PyAny>>) -> PyResult<()> {
        let callback = callable("callback", callback)?;
        let is_set = callback.is_some();
        self.callback.replace(callback);
        let slot = self.callback.clone();
        self.request.set_callback(is_set.then(|| -> Callback {
            Arc::new(move |status, error| {
                // Without an interpreter there is nobody left to be told.
                Python::try_attach(|py| slot.call(py, status, error));
            })
        }));
        Ok(())
    }

    /// Wishes that the running inference end early: wait() then raises InferCanceledError. Does nothing where
    /// none runs.
    fn cancel(&self) {
        self.request.cancel();
    }

    /// A tensor as the last inference left it. Intermediate tensors are kept where the model was loaded with
    /// memory_optimization=False or an intermediate_save_path.
    fn get_tensor(&self, name: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
        let (py, name) = (name.py(), argument::<String>("name", name)?);
        detached(py, || self.request.tensor(&name)).map(PyTensor)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector must not wait; what is being replaced now is in use anyway.
        match self.callback.0.try_lock() {
            Ok(callback) => visit.call(&*callback),
            Err(_) => Ok(()),
        }
    }

    fn __clear__(&self) {
        self.callback.replace(None);
    }

    fn __repr__(&self) -> String {
        format!("<InferRequest of {:?}: {}>", self.request.model().name(), self.request.status().name())
    }
}

/// The Python callback of a request. The request and its running inference share it, so that the garbage
/// collector finds the one reference to it.
#[derive(Default)]
struct CallbackSlot(Mutex<Option<Py<PyAny>>>);

impl CallbackSlot {
    fn replace(&self, callback: Option<Py<PyAny>>) {
        let previous = std::mem::replace(&mut *self.lock(), callback);
        // Dropped without the lock: Python code may run.
        drop(previous);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Py<PyAny>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls the callback, where there is one. What it raises is reported as unraisable, and the inference is
    /// none the worse.
    fn call(&self, py: Python<'_>, status: InferStatus, error: Option<&Error>) {
        let callback = self.lock().as_ref().map(|callback| callback.clone_ref(py));
        let Some(callback) = callback else { return };
        let call = || {
            let error = error.map(|error| exception(py, error)).transpose()?;
            callback.call1(py, (to_python(py, status)?, error))
        };
        if let Err(failure) = call() {
            tracing::error!("a callback raised {failure}");
            failure.write_unraisable(py, Some(callback.bind(py)));
        }
    }
}
