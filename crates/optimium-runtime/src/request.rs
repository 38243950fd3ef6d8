//! Inference requests: checks before, states during, errors after an inference.
//!
//! The states of a request: READY → RUNNING → READY or FAULT. `infer` checks its arguments, hands the
//! inference to the scheduler and returns. When the inference ends, its tensors are free again, the state
//! becomes final, the callback is called (on the thread that ran the inference; where stages run it, on a worker), and then `wait` returns. A
//! request stays in FAULT until the next `infer`, which needs the error to have been reported by `wait`
//! first.

mod checks;
mod details;
mod last;
mod made;
mod phase;
mod run;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use optimium_device::ExecutionState;
use optimium_tensor::{Error, ErrorKind, Result, Tensor};

use crate::intermediates;
use crate::lease::{self, Lease};
use crate::model::{self, Model};
use crate::names;
use crate::profile::{Durations, Event, Measurement, ProfileOptions};
use crate::scheduler::{self, Scheduler};

use checks::BoundShapes;
use last::Last;
use made::{Made, MadeTensors, Making};
use phase::Phase;
pub use phase::{Callback, InferStatus};
pub(crate) use run::{Run, internal_error};

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

/// What is called once, after an inference.
pub type Completion = Box<dyn FnOnce() + Send>;

/// Room for one inference at a time. Dropping it while it runs lets the inference end on its own.
pub struct InferRequest(Arc<Inner>);

struct Inner {
    /// Which request it is.
    number: u64,
    model: Model,
    phase: Phase,
    /// What the backend keeps between inferences; made by the first.
    state: Mutex<Option<Box<dyn ExecutionState>>>,
    bound: Mutex<Option<BoundShapes>>,
    /// The tensors of the last inference.
    last: Last,
    /// Outputs that the last inference made itself.
    made: MadeTensors,
    /// How long the last inference took, in microseconds.
    last_duration: AtomicU64,
    /// Whether the caller waited for the last inference before it had ended, and will probably do so again.
    is_awaited: AtomicBool,
    /// The last profile.
    profile: Mutex<Option<Arc<Measurement>>>,
}

impl InferRequest {
    pub(crate) fn new(model: Model) -> InferRequest {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        InferRequest(Arc::new(Inner {
            number: NEXT.fetch_add(1, Ordering::Relaxed),
            model,
            phase: Phase::default(),
            state: Mutex::new(None),
            bound: Mutex::new(None),
            last: Last::default(),
            made: MadeTensors::default(),
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
    /// [`InvalidState`](ErrorKind::InvalidState) after the runtime was finalized;
    /// [`OutOfResource`](ErrorKind::OutOfResource) where the queue of the model's scheduler is full.
    pub fn infer(&self, inputs: Tensors<'_>, outputs: Tensors<'_>) -> Result<()> {
        self.begin(inputs, outputs, None, None)
    }

    /// As [`infer`](InferRequest::infer), and calls `then` on the thread that ran the inference, after all that `wait` waits for:
    /// its tensors are free, its state is final, and its callback has returned. `then` is not called where this fails.
    ///
    /// # Errors
    /// As there.
    pub fn infer_then(&self, inputs: Tensors<'_>, outputs: Tensors<'_>, then: Completion) -> Result<()> {
        self.begin(inputs, outputs, None, Some(then))
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
        self.begin(inputs, outputs, Some(measurement.clone()), None)?;
        *self.0.profile.lock().unwrap_or_else(PoisonError::into_inner) = Some(measurement);
        let inner = &self.0;
        inner.help_as_worker();
        while !inner.phase.wait(INTERRUPTION_PERIOD)? {
            inner.help_as_worker();
            if is_interrupted() {
                self.cancel();
            }
        }
        self.warn_of_lost_events();
        inner.release_last_unless_kept();
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
        then: Option<Completion>,
    ) -> Result<()> {
        let inner = &self.0;
        let model = &inner.model.0;
        model.scheduler.check_process()?;
        let mut inputs = checks::in_order("input", &model.inputs, inputs)?;
        let (mut outputs, made) = match model.open_outputs.as_deref() {
            None => (checks::in_order("output", &model.outputs, outputs)?, None),
            Some(is_open) => made::in_order(&model.outputs, is_open, outputs)?,
        };
        if let (Some(made), Scheduler::Staged(_)) = (&made, &model.scheduler) {
            return Err(made::refusal(&model.outputs, made));
        }
        checks::types("input", &model.inputs, &mut inputs)?;
        checks::types("output", &model.outputs, &mut outputs)?;
        inner.check_shapes(&inputs, &outputs, made.as_ref())?;
        checks::layouts(model, &mut inputs, &outputs)?;
        let spans = lease::spans(&inputs, &outputs);
        checks::memory(model, &inputs, &outputs, &spans)?;
        inner.phase.begin()?;
        let lease = match Lease::take(inputs, outputs, &spans) {
            Ok(lease) => lease,
            Err(error) => {
                inner.phase.abandon();
                return Err(error);
            }
        };
        inner.last.release();
        if model.open_outputs.is_some() {
            inner.made.clear();
        }
        let is_awaited = measurement.is_none() && inner.is_awaited.load(Ordering::Relaxed);
        let run = Run::new(inner.clone(), lease, measurement, then).making(made);
        model.scheduler.submit(run, is_awaited).map_err(|refusal| {
            let (run, error) = *refusal;
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
                Ok(false) => inner.help_as_worker(),
            }
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        };
        inner.release_last_unless_kept();
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
        let run = inner.model.0.scheduler.take_back(|run| run.is_of(inner))?;
        inner.is_awaited.store(true, Ordering::Relaxed);
        if let Some(result) = run.execute_for_caller() {
            return Some(result);
        }
        let result = inner.phase.wait(Duration::ZERO);
        inner.release_last_unless_kept();
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
    /// thread that ran it (or a worker, where the stages of a model ran it) and before `wait` returns to anybody else. It may use the request: ask its state,
    /// wait, infer again.
    pub fn set_callback(&self, callback: Option<Callback>) {
        self.0.phase.set_callback(callback);
    }

    /// Wishes that the running inference end. It ends between two steps, with
    /// [`InferCanceled`](ErrorKind::InferCanceled) from `wait`; at once where it waits for its turn at resources that requests share.
    /// Does nothing where none runs.
    pub fn cancel(&self) {
        self.0.phase.cancel();
        self.0.model.0.scheduler.withdraw(self.0.number);
    }

    /// A tensor as the last inference left it: an input, an output, a constant, or an intermediate tensor.
    ///
    /// # Errors
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a name that the model does not have;
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where the model does not keep intermediate tensors,
    /// while the request runs, before it has run, and where other requests have used the memory since, which the schedulers other
    /// than SIMPLE share.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let inner = &self.0;
        let model = &inner.model.0;
        let held = names::find(&model.graph, name)?;
        let refuse = |why: &str| {
            Err(Error::new(ErrorKind::InvalidOperation, format!("the tensor {name:?} cannot be read: {why}")))
        };
        if let Some(constant) = model.constant(held.value) {
            return held.tensor(constant.clone());
        }
        let output = model.outputs.iter().position(|info| info.name == held.value);
        if let Some(tensor) = output.and_then(|place| inner.made.tensor(place)) {
            return held.tensor(tensor);
        }
        if !model.keeps_intermediates {
            return refuse("load the model with memory_optimization=False or an intermediate_save_path");
        }
        if inner.phase.status() == InferStatus::Running {
            return refuse("the request is running; wait for it first");
        }
        let place = model.inputs.iter().chain(&model.outputs).position(|info| info.name == held.value);
        if let Some(tensor) = place.and_then(|place| inner.last.tensor(place)) {
            let is_view = tensor.blocks().is_some();
            return held.tensor(if is_view { tensor.to_owned_copy()? } else { tensor });
        }
        let tensor = match (&model.scheduler, &*inner.state.lock().unwrap_or_else(PoisonError::into_inner)) {
            (Scheduler::Simple(_), Some(state)) => state.intermediate(held.value)?,
            (Scheduler::Staged(staged), _) if inner.has_succeeded() => {
                let look = staged.intermediate(inner.number, held.value);
                look.map_err(|error| error.context(format!("{name:?}")))?
            }
            _ => return refuse("no inference has finished yet"),
        };
        held.tensor(tensor)
    }
}

impl Inner {
    /// Shapes that were checked by the last inference need no second look.
    fn check_shapes(&self, inputs: &[Tensor], outputs: &[Tensor], made: Option<&Made>) -> Result<()> {
        let mut bound = self.bound.lock().unwrap_or_else(PoisonError::into_inner);
        if !bound.as_ref().is_some_and(|bound| bound.is_for(inputs)) {
            *bound = Some(BoundShapes::new(&self.model.0, inputs)?);
        }
        bound.as_ref().map_or(Ok(()), |bound| bound.check_outputs(&self.model.0.outputs, outputs, made))
    }

    /// Drops the tensors of the last inference, unless they are to be read.
    fn release_last_unless_kept(&self) {
        if !self.model.0.keeps_intermediates {
            self.last.release();
        }
    }

    /// Runs the inference here where it is still queued, or sees to it that a worker does.
    fn help(self: &Arc<Self>, timeout: Option<Duration>) {
        if self.phase.status() != InferStatus::Running {
            return;
        }
        let (scheduler, is_mine) = (&self.model.0.scheduler, |run: &Run| run.is_of(self));
        if !self.may_run_here(timeout) {
            return scheduler.hand_over(is_mine);
        }
        self.is_awaited.store(true, Ordering::Relaxed);
        if let Some(run) = scheduler.take_back(is_mine) {
            run.execute();
        }
    }

    /// Does what is still queued for this request, where this is a worker: a callback would wait for a thread that it occupies
    /// itself.
    fn help_as_worker(self: &Arc<Self>) {
        if scheduler::is_worker()
            && let Some(run) = self.model.0.scheduler.take_back(|run: &Run| run.is_of(self))
        {
            run.execute();
        }
    }

    /// Whether the last inference has ended well, and its tensors can still be read.
    fn has_succeeded(&self) -> bool {
        self.last.is_held() && self.phase.status() == InferStatus::Ready
    }

    /// Whether an inference that is still queued may run on the thread that waits for it. Long ones may not,
    /// since nothing could interrupt the wait; pinned ones belong to the threads on their cores.
    fn may_run_here(&self, timeout: Option<Duration>) -> bool {
        let is_short =
            u128::from(self.last_duration.load(Ordering::Relaxed)) <= INTERRUPTION_PERIOD.as_micros();
        scheduler::is_worker() || (timeout.is_none() && is_short && !self.model.0.is_pinned)
    }

    fn run(
        &self,
        (inputs, outputs): (&[Tensor], &[Tensor]),
        made: Option<&Made>,
        measurement: Option<&Measurement>,
    ) -> Result<()> {
        let cancellation = self.phase.cancellation();
        if cancellation.is_cancelled() {
            return Err(Error::new(ErrorKind::InferCanceled, "the inference was cancelled before it began"));
        }
        let mut slot = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // It is put back only after a run that returns: a panic may leave it in any condition.
        let mut state = match slot.take() {
            Some(state) => state,
            None => self.create_state()?,
        };
        let run = |state: &mut dyn ExecutionState| match measurement {
            None => state.run(inputs, outputs, cancellation),
            Some(measurement) => measurement.run(state, inputs, outputs, cancellation),
        };
        let result = match made {
            None => run(&mut *state),
            Some(made) => {
                let mut making = Making { state: &mut *state, made, results: Vec::new() };
                run(&mut making).map(|()| self.made.hold(making.results, made))
            }
        };
        if result.is_ok()
            && let Some(folder) = &self.model.0.save_path
        {
            let Model(model) = &self.model;
            intermediates::save(
                folder,
                &model.graph,
                &model.scheduler.executables(),
                intermediates::of(&*state),
            )?;
        }
        *slot = Some(state);
        result
    }

    fn create_state(&self) -> Result<Box<dyn ExecutionState>> {
        match &self.model.0.scheduler {
            Scheduler::Simple(simple) => simple.create_state(),
            Scheduler::Staged(_) => Err(Error::infer("inferences of a model in stages run on its stages")),
        }
    }
}

#[cfg(test)]
mod profile_tests;
#[cfg(test)]
mod tests;
