//! Inference requests: checks before, states during, errors after an inference.
//!
//! The states of a request: READY → RUNNING → READY or FAULT. `infer` checks its arguments, hands the
//! inference to the scheduler and returns. When the inference ends, its tensors are free again, the state
//! becomes final, the callback is called on the thread that ran the inference, and then `wait` returns. A
//! request stays in FAULT until the next `infer`, which needs the error to have been reported by `wait`
//! first.

mod checks;
mod phase;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use optimium_device::{Cancellation, ExecutionState};
use optimium_tensor::{Error, ErrorKind, Result, Tensor};

use crate::intermediates;
use crate::lease::Lease;
use crate::model::{self, Model};
use crate::profile::{Durations, Event, Measurement, ProfileOptions};
use crate::scheduler;

use checks::BoundShapes;
use phase::Phase;
pub use phase::{Callback, InferStatus};

/// How often a wait looks for an interruption.
const INTERRUPTION_PERIOD: Duration = Duration::from_millis(50);

/// The longest inference that callers should not give locks of theirs up for, in microseconds: handing over a contended lock
/// and getting it back takes about as long.
const QUICK: u64 = 20;

/// The tensors of one side of an inference.
#[derive(Clone, Debug)]
pub enum Tensors<'a> {
    /// By name, in any order.
    Named(Vec<(&'a str, Tensor)>),
    /// In the model's order.
    Ordered(Vec<Tensor>),
}

/// Room for one inference at a time. Dropping it while it runs lets the inference end on its own.
pub struct InferRequest(Arc<Inner>);

struct Inner {
    model: Model,
    phase: Phase,
    /// What the backend keeps between inferences; made by the first.
    state: Mutex<Option<Box<dyn ExecutionState>>>,
    bound: Mutex<Option<BoundShapes>>,
    /// The tensors of the last inference, until the caller is there to release them: releasing foreign memory
    /// on a worker could wait for its owner.
    last: Mutex<Option<(Vec<Tensor>, Vec<Tensor>)>>,
    /// How long the last inference took, in microseconds.
    last_duration: AtomicU64,
    /// Whether the caller waited for the last inference before it had ended, and will probably do so again.
    is_awaited: AtomicBool,
    /// The last profile.
    profile: Mutex<Option<Arc<Measurement>>>,
}

impl InferRequest {
    pub(crate) fn new(model: Model) -> InferRequest {
        InferRequest(Arc::new(Inner {
            model,
            phase: Phase::default(),
            state: Mutex::new(None),
            bound: Mutex::new(None),
            last: Mutex::new(None),
            last_duration: AtomicU64::new(u64::MAX),
            is_awaited: AtomicBool::new(false),
            profile: Mutex::new(None),
        }))
    }

    /// The model that it runs.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// Begins an inference and returns. Everything that can be wrong about the tensors is reported here.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for missing, surplus or unknown tensors, read-only
    /// outputs, and outputs that share memory with another tensor of the call, but for [caches that
    /// grow](optimium_device::Append); [`Type`](ErrorKind::Type) and
    /// [`Shape`](ErrorKind::Shape) for tensors that are not what the model says;
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) while the request runs, after a fault that `wait`
    /// has not reported, and for tensors that another running inference uses;
    /// [`InvalidState`](ErrorKind::InvalidState) after the runtime was finalized.
    pub fn infer(&self, inputs: Tensors<'_>, outputs: Tensors<'_>) -> Result<()> {
        self.begin(inputs, outputs, None)
    }

    /// Repeats one inference and records what happens when; returns when it has ended. The callback is called once, at
    /// the end. See [`profile`](crate::profile).
    ///
    /// `is_interrupted` is asked at least every 50 ms; its yes cancels the profile.
    ///
    /// # Errors
    /// As [`infer`](InferRequest::infer) and [`wait`](InferRequest::wait);
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for options that make no sense.
    pub fn profile(
        &self,
        inputs: Tensors<'_>,
        outputs: Tensors<'_>,
        options: ProfileOptions,
        is_interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<()> {
        let measurement = Arc::new(Measurement::new(options)?);
        self.begin(inputs, outputs, Some(measurement.clone()))?;
        *self.0.profile.lock().unwrap_or_else(PoisonError::into_inner) = Some(measurement);
        let inner = &self.0;
        // A callback would wait for a thread that it occupies itself.
        if scheduler::is_worker()
            && let Some(run) = inner.model.0.scheduler.take_back(|run| Arc::ptr_eq(&run.request, inner))
        {
            run.execute();
        }
        while !inner.phase.wait(INTERRUPTION_PERIOD)? {
            if is_interrupted() {
                self.cancel();
            }
        }
        if !inner.model.0.keeps_intermediates {
            inner.release_last();
        }
        Ok(())
    }

    /// The events of the last profile, by time, and how many found no room.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where nothing was profiled.
    pub fn profile_events(&self) -> Result<(Vec<Event>, usize)> {
        let profile = self.0.profile.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let profile = profile.ok_or_else(|| {
            Error::new(ErrorKind::InvalidOperation, "the request was not profiled; call profile() first")
        })?;
        Ok((profile.recorder.events(), profile.recorder.lost()))
    }

    /// How long everything took in the last profile.
    ///
    /// # Errors
    /// As [`profile_events`](InferRequest::profile_events).
    pub fn profile_durations(&self) -> Result<Durations> {
        let (events, lost) = self.profile_events()?;
        let model = self.model();
        Ok(Durations::new(model.name(), (&events, lost), model.operations(), model.tensors()))
    }

    fn begin(
        &self,
        inputs: Tensors<'_>,
        outputs: Tensors<'_>,
        measurement: Option<Arc<Measurement>>,
    ) -> Result<()> {
        let inner = &self.0;
        let model = &inner.model.0;
        model.scheduler.check_process()?;
        let mut inputs = checks::in_order("input", &model.inputs, inputs)?;
        let mut outputs = checks::in_order("output", &model.outputs, outputs)?;
        checks::types("input", &model.inputs, &mut inputs)?;
        checks::types("output", &model.outputs, &mut outputs)?;
        inner.check_shapes(&inputs, &outputs)?;
        checks::layouts(model, &mut inputs, &outputs)?;
        checks::memory(model, &inputs, &outputs)?;
        inner.phase.begin()?;
        let lease = match Lease::take(&inputs, &outputs) {
            Ok(lease) => lease,
            Err(error) => {
                inner.phase.abandon();
                return Err(error);
            }
        };
        inner.release_last();
        let is_awaited = measurement.is_none() && inner.is_awaited.load(Ordering::Relaxed);
        let run = Run { request: inner.clone(), inputs, outputs, lease, measurement };
        model.scheduler.submit(run, is_awaited).map_err(|(run, error)| {
            drop(run);
            inner.phase.abandon();
            error
        })
    }

    /// Waits for the inference to end, at most `timeout`; `None` and zero wait forever. The result says
    /// whether it has **not** ended. Where there is none, it returns at once.
    ///
    /// `is_interrupted` is asked at least every 50 ms; its yes ends the wait as a timeout does. Within a
    /// callback the inference that is being reported counts as ended.
    ///
    /// # Errors
    /// The error of the inference, once; [`InvalidState`](ErrorKind::InvalidState) in a process that was forked
    /// while it ran.
    pub fn wait(&self, timeout: Option<Duration>, is_interrupted: &mut dyn FnMut() -> bool) -> Result<bool> {
        let inner = &self.0;
        if let Err(error) = inner.model.0.scheduler.check_process()
            && inner.phase.may_be_running()
        {
            return Err(error);
        }
        let timeout = timeout.filter(|timeout| !timeout.is_zero());
        inner.help(timeout);
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let mut left = timeout;
        let result = loop {
            let period = left.map_or(INTERRUPTION_PERIOD, |left| left.min(INTERRUPTION_PERIOD));
            match inner.phase.wait(period) {
                Ok(true) => break Ok(false),
                Err(error) => break Err(error),
                Ok(false) if left.is_some_and(|left| left <= INTERRUPTION_PERIOD) || is_interrupted() => {
                    return Ok(true);
                }
                Ok(false) => {}
            }
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        };
        if !inner.model.0.keeps_intermediates {
            inner.release_last();
        }
        result
    }

    /// Does all of [`wait`](InferRequest::wait), on this thread and within microseconds, where that can be expected: the
    /// inference is still queued, and the last one was quick. Otherwise it does nothing, and returns `None`.
    ///
    /// # Errors
    /// As there.
    pub fn wait_quickly(&self) -> Option<Result<()>> {
        let inner = &self.0;
        if inner.last_duration.load(Ordering::Relaxed) > QUICK || inner.model.0.is_pinned {
            return None;
        }
        let run = inner.model.0.scheduler.take_back(|run| Arc::ptr_eq(&run.request, inner))?;
        inner.is_awaited.store(true, Ordering::Relaxed);
        run.execute();
        let result = inner.phase.wait(Duration::ZERO);
        if !inner.model.0.keeps_intermediates {
            inner.release_last();
        }
        match result {
            // A callback has begun the next inference already, which is to be waited for.
            Ok(false) => None,
            result => Some(result.map(|_| ())),
        }
    }

    /// Its state.
    pub fn status(&self) -> InferStatus {
        self.0.phase.status()
    }

    /// Sets what is called when an inference ends, with the final state and the error of a fault, on the
    /// thread that ran it and before `wait` returns to anybody else. It may use the request: ask its state,
    /// wait, infer again.
    pub fn set_callback(&self, callback: Option<Callback>) {
        self.0.phase.set_callback(callback);
    }

    /// Wishes that the running inference end. It ends between two steps, with
    /// [`InferCanceled`](ErrorKind::InferCanceled) from `wait`. Does nothing where none runs.
    pub fn cancel(&self) {
        self.0.phase.cancel();
    }

    /// A tensor as the last inference left it: an input, an output, a constant, or an intermediate tensor.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a name that the model does not have;
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where the model does not keep intermediate tensors,
    /// while the request runs, and before it has run.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let inner = &self.0;
        let model = &inner.model.0;
        model.tensor(name)?;
        let refuse = |why: &str| {
            Err(Error::new(ErrorKind::InvalidOperation, format!("the tensor {name:?} cannot be read: {why}")))
        };
        if let Some(constant) = model.constant(name) {
            return Ok(constant.clone());
        }
        if !model.keeps_intermediates {
            return refuse("load the model with memory_optimization=False or an intermediate_save_path");
        }
        if inner.phase.status() == InferStatus::Running {
            return refuse("the request is running; wait for it first");
        }
        if let Some((inputs, outputs)) = &*inner.last.lock().unwrap_or_else(PoisonError::into_inner) {
            let infos = model.inputs.iter().chain(&model.outputs);
            let position = infos.zip(inputs.iter().chain(outputs)).find(|(info, _)| info.name == name);
            if let Some((_, tensor)) = position {
                return if tensor.blocks().is_some() { tensor.to_owned_copy() } else { Ok(tensor.clone()) };
            }
        }
        match &*inner.state.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(state) => state.intermediate(name),
            None => refuse("the request has not run yet"),
        }
    }
}

impl Inner {
    /// Shapes that were checked by the last inference need no second look.
    fn check_shapes(&self, inputs: &[Tensor], outputs: &[Tensor]) -> Result<()> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if !bound.as_ref().is_some_and(|bound| bound.is_for(inputs)) {
            *bound = Some(BoundShapes::new(&self.model.0, inputs)?);
        }
        bound.as_ref().map_or(Ok(()), |bound| bound.check_outputs(&self.model.0.outputs, outputs))
    }

    /// Drops the tensors of the last inference, without the lock: foreign memory may wait for its owner.
    fn release_last(&self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(last);
    }

    /// Runs the inference here where it is still queued, or sees to it that a worker does.
    fn help(self: &Arc<Self>, timeout: Option<Duration>) {
        if self.phase.status() != InferStatus::Running {
            return;
        }
        let (scheduler, is_mine) = (&self.model.0.scheduler, |run: &Run| Arc::ptr_eq(&run.request, self));
        if !self.may_run_here(timeout) {
            return scheduler.hand_over(is_mine);
        }
        self.is_awaited.store(true, Ordering::Relaxed);
        if let Some(run) = scheduler.take_back(is_mine) {
            run.execute();
        }
    }

    /// Whether an inference that is still queued may run on the thread that waits for it. Long ones may not,
    /// since nothing could interrupt the wait; pinned ones belong to the threads on their cores.
    fn may_run_here(&self, timeout: Option<Duration>) -> bool {
        let is_short =
            u128::from(self.last_duration.load(Ordering::Relaxed)) <= INTERRUPTION_PERIOD.as_micros();
        scheduler::is_worker() || (timeout.is_none() && is_short && !self.model.0.is_pinned)
    }

    fn run(&self, inputs: &[Tensor], outputs: &[Tensor], measurement: Option<&Measurement>) -> Result<()> {
        let cancellation = self.phase.cancellation();
        if cancellation.is_cancelled() {
            return Err(Error::new(ErrorKind::InferCanceled, "the inference was cancelled before it began"));
        }
        let mut slot = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // It is put back only after a run that returns: a panic may leave it in any condition.
        let mut state = match slot.take() {
            Some(state) => state,
            None => self.model.0.executable.clone().create_state()?,
        };
        let result = match measurement {
            None => state.run(inputs, outputs, cancellation),
            Some(measurement) => measurement.run(&mut *state, inputs, outputs, cancellation),
        };
        if result.is_ok()
            && let Some(folder) = &self.model.0.save_path
        {
            intermediates::save(folder, &*state)?;
        }
        *slot = Some(state);
        result
    }
}

/// An inference on its way through the scheduler.
pub(crate) struct Run {
    request: Arc<Inner>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    lease: Lease,
    /// What is to be measured, where the inference is profiled.
    measurement: Option<Arc<Measurement>>,
}

impl Run {
    /// Notes that a worker has it, because its caller did something else than waiting.
    pub(crate) fn note_not_awaited(&self) {
        self.request.is_awaited.store(false, Ordering::Relaxed);
    }

    /// The wish to end it early.
    pub(crate) fn cancellation(&self) -> Arc<Cancellation> {
        self.request.phase.cancellation().clone()
    }

    /// Runs it to its end on this thread, the callback included.
    pub(crate) fn execute(self) {
        let start = Instant::now();
        let run = || self.request.run(&self.inputs, &self.outputs, self.measurement.as_deref());
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(internal_error(&*panic)));
        if self.measurement.is_none() {
            let duration = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.request.last_duration.store(duration, Ordering::Relaxed);
        }
        self.finish(result);
    }

    /// Ends it without having run.
    pub(crate) fn fail(self, error: Error) {
        self.finish(Err(error));
    }

    fn finish(self, result: Result<()>) {
        let Run { request, inputs, outputs, lease, .. } = self;
        drop(lease);
        *request.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((inputs, outputs));
        if let Err(error) = &result {
            tracing::info!("an inference of {:?} failed: {error}", request.model.name());
        }
        request.phase.end(result.err());
    }
}

/// The error of a panic, which is a defect of the runtime.
fn internal_error(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::infer(format!("internal error, please report it: {text}"))
}

#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod tests;
