//! First come, first served, through stages that all requests of a model share.
//!
//! EXCLUSIVE has one stage, which is the whole model. PIPELINE has several: while one stage works on an inference, the stage
//! before it works on the next one.
//!
//! | file | |
//! |---|---|
//! | `pass` | an inference on its way |
//! | `frame` | the memory of what it carries from stage to stage |
//! | `stage` | a part of the model, and its execution state |
//!
//! Who waits in front of which stage, a [`Line`] says. Each stage has a thread, which takes an inference from the line, does the stage's part, and hands it on. The threads call nobody
//! back: where an inference has a callback, a worker of the runtime reports its end, so that callbacks may take their time, and
//! may themselves wait for inferences of the same model.

mod frame;
mod pass;
mod stage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use optimium_device::RunDetails;
use optimium_graph::Graph;
use optimium_sync::{Line, NotAdmitted};
use optimium_tensor::{Error, ErrorKind, Result, Tensor};

use crate::intermediates;
use crate::profile::{Activity, Subject, Transfer};
use crate::request::{Run, internal_error};
use crate::scheduler::{Refusal, Workers, stopped, workers};

pub(crate) use frame::Crossing;
use pass::{Pass, Series, Ticket};
pub(crate) use stage::{SharedState, Stage};

/// A model in stages.
pub(crate) struct StagedModel {
    /// The whole.
    pub(crate) graph: Arc<Graph>,
    /// In the order in which they run, at least one.
    pub(crate) stages: Vec<Stage>,
    /// What crosses from stage to stage.
    pub(crate) crossings: Vec<Crossing>,
    /// Where every inference leaves its intermediate tensors.
    pub(crate) save_path: Option<PathBuf>,
}

/// The scheduler of a model in stages. Its threads start with the first inference, and end with it.
pub(crate) struct Staged(Arc<Shared>);

/// What the threads share.
pub(crate) struct Shared {
    model: StagedModel,
    line: Line<Ticket>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    workers: Arc<Workers>,
}

impl Staged {
    /// A scheduler with room for `capacity` inferences that have not begun.
    pub(crate) fn new(model: StagedModel, capacity: usize, workers: Arc<Workers>) -> Staged {
        let line = Line::new(model.stages.len(), capacity);
        Staged(Arc::new(Shared { model, line, threads: Mutex::default(), workers }))
    }

    /// What [`finalize`](crate::finalize) stops.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    pub(crate) fn stages(&self) -> &[Stage] {
        &self.0.model.stages
    }

    pub(crate) fn workers(&self) -> &Arc<Workers> {
        &self.0.workers
    }

    /// Queues `run`.
    ///
    /// # Errors
    /// `run` comes back where it cannot run, with [`InvalidState`](ErrorKind::InvalidState) after the scheduler was stopped or a fork,
    /// [`OutOfResource`](ErrorKind::OutOfResource) where the queue is full, and [`Os`](ErrorKind::Os) where no thread can be started.
    pub(crate) fn submit(&self, run: Run) -> Result<(), Refusal> {
        let admission = self.0.workers.check_process().and_then(|()| {
            self.0.ensure_threads()?;
            self.0.line.admit().map_err(refusal)
        });
        match admission {
            Ok(admission) => {
                admission.enqueue(Ticket::first(run));
                Ok(())
            }
            Err(error) => Err(Box::new((run, error))),
        }
    }

    /// Ends the inferences of a request that were cancelled before they began.
    pub(crate) fn withdraw(&self, request: u64) {
        if self.0.workers.check_process().is_err() {
            return;
        }
        for Ticket { series, .. } in self.0.line.withdraw(|ticket| ticket.series.request == request) {
            series.fail(stage::cancelled());
            self.0.release(series);
        }
    }

    /// A copy of an intermediate tensor as the last inference of `request` left it.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where another request has used the memory since;
    /// [`InvalidArgument`](ErrorKind::InvalidArgument) for a name that there is not.
    pub(crate) fn intermediate(&self, request: u64, name: &str) -> Result<Tensor> {
        let Shared { model, line, workers, .. } = &*self.0;
        workers.check_process()?;
        if let Some(index) = model.crossings.iter().position(|crossing| crossing.name == name) {
            return line.with_free_frames(|frames| {
                let own = frames.iter().rev().find(|frame| frame.owner == Some(request));
                own.ok_or_else(stage::taken_over)?.tensor(index).to_owned_copy()
            });
        }
        let mut result =
            Err(Error::invalid_argument(format!("there is no tensor {name:?} in the compiled model")));
        for stage in &model.stages {
            result = stage.look(request, |state| state.intermediate(name));
            match &result {
                Err(error) if error.kind() == ErrorKind::InvalidArgument => {}
                _ => break,
            }
        }
        result
    }

    /// What the last inference of `request` consisted of; `None` where the platform does not tell.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where another request has used the memory since.
    pub(crate) fn details(&self, request: u64) -> Result<Option<RunDetails>> {
        self.0.workers.check_process()?;
        let mut whole = RunDetails::default();
        for stage in self.stages() {
            let Some(RunDetails { operations, memory }) = stage.details(request)? else { return Ok(None) };
            let (first, base) = (stage.first_operation, whole.memory.arena);
            whole.operations.extend(operations);
            whole.memory.blocks.extend(memory.blocks.into_iter().map(|mut block| {
                block.offset += base;
                block.first += first;
                block.last += first;
                block
            }));
            whole.memory.arena += memory.arena;
            whole.memory.scratch += memory.scratch;
            whole.memory.constants += memory.constants;
        }
        Ok(Some(whole))
    }
}

impl Drop for Staged {
    /// No inference is left, since each of them holds the model. The threads end by themselves: one of them may be what drops this.
    fn drop(&mut self) {
        if self.0.workers.check_process().is_ok() {
            self.0.line.stop();
        }
    }
}

impl Shared {
    /// Fails what has not begun, cancels what has, and waits for the threads.
    pub(crate) fn stop(&self) {
        for Ticket { series, .. } in self.line.stop() {
            series.fail(stopped());
            self.release(series);
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for stage in threads {
            // A stage catches the panics of what it runs; there is nothing to learn from its end.
            let _ = stage.join();
        }
    }

    fn ensure_threads(self: &Arc<Self>) -> Result<()> {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        while threads.len() < self.model.stages.len() {
            let (shared, index) = (self.clone(), threads.len());
            let thread = thread::Builder::new()
                .name(format!("optimium-stage-{index}"))
                .spawn(move || shared.work(index))
                .map_err(workers::no_thread)?;
            threads.push(thread);
        }
        Ok(())
    }

    /// The life of a stage's thread.
    fn work(&self, index: usize) {
        if let Some(id) = self.model.stages[index].core
            && !core_affinity::set_for_current(core_affinity::CoreId { id })
        {
            tracing::warn!(core = id, "a stage could not be pinned to its core");
        }
        while let Some((pass, idle_since)) = self.line.next(index) {
            self.advance(index, pass, idle_since);
        }
    }

    /// Does the part of stage `index`, and hands `pass` on or ends it.
    fn advance(&self, index: usize, mut pass: Pass, idle_since: Instant) {
        self.record_arrival(index, &pass, idle_since);
        let run = AssertUnwindSafe(|| self.run(index, &mut pass));
        let result = catch_unwind(run).unwrap_or_else(|panic| Err(internal_error(&*panic)));
        let is_over = result.is_err() || index + 1 == self.model.stages.len();
        if is_over {
            pass.frame.owner = result.is_ok().then_some(pass.series.request);
            pass.note_end(result);
        }
        if index == 0
            && let Some(next) = pass.series.next()
            && let Err(Ticket { series, .. }) = self.line.enqueue_again(next)
        {
            series.fail(stopped());
        }
        if is_over {
            let Pass { series, frame, .. } = pass;
            self.line.finish(frame, &series.cancellation);
            self.release(series);
        } else {
            if pass.recorder().is_some() {
                pass.ends.push(Instant::now());
            }
            self.line.hand_over(index + 1, pass);
        }
    }

    fn run(&self, index: usize, pass: &mut Pass) -> Result<()> {
        let StagedModel { graph, stages, crossings, save_path } = &self.model;
        if index == 0 {
            pass.frame.owner = None;
            pass.frame.prepare(crossings, graph, &pass.series.inputs)?;
        }
        stages[index].run(pass, crossings, save_path.is_some())?;
        match save_path {
            Some(folder) if index + 1 == stages.len() => {
                let executables: Vec<_> = stages.iter().map(|stage| &stage.executable).collect();
                let saved = std::mem::take(&mut pass.saved).into_iter().map(Ok);
                intermediates::save(folder, graph, &executables, saved)
            }
            _ => Ok(()),
        }
    }

    /// Records how long `pass` waited for the stage, and the stage for it.
    fn record_arrival(&self, index: usize, pass: &Pass, idle_since: Instant) {
        let Some(recorder) = pass.recorder() else { return };
        if index == 0 {
            return pass.record_queue();
        }
        let now = Instant::now();
        let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let StagedModel { stages, crossings, .. } = &self.model;
        let stage = &stages[index];
        let wait = Subject::Operation(number(stage.first_operation));
        recorder.record(Activity::Wait, wait, idle_since.max(pass.begun), now);
        for crossing in crossings.iter().filter(|crossing| crossing.to == index) {
            let source = stages[crossing.from].device;
            let transfer = Transfer { tensor: crossing.tensor, source, destination: stage.device };
            recorder.record(Activity::Copy, Subject::Transfer(transfer), pass.ends[crossing.from], now);
        }
    }

    /// One inference of a series has ended; with the last one, the series has.
    fn release(&self, series: Arc<Series>) {
        let Some((run, result)) = series.into_run() else { return };
        if let Some(run) = run.end(result)
            && let Err(refusal) = self.workers.submit(run, false)
        {
            refusal.0.execute();
        }
    }
}

/// The error of an inference that the line does not take.
fn refusal(why: NotAdmitted) -> Error {
    match why {
        NotAdmitted::Stopped => stopped(),
        NotAdmitted::Full(capacity) => Error::new(
            ErrorKind::OutOfResource,
            format!(
                "the queue of the model is full: {capacity} inferences wait for their turn; wait for one of them to end, or load \
                 the model with a larger queue_capacity"
            ),
        ),
    }
}

#[cfg(test)]
mod tests;
