//! Who runs an inference, and when.
//!
//! | scheduler | what an inference runs on | memory between operations |
//! |---|---|---|
//! | SIMPLE | a worker of the runtime, or the caller that waits for it ([`Workers`]) | one for each request |
//! | EXCLUSIVE | the thread of the model's one stage ([`Staged`]) | one for all requests |
//! | PIPELINE | the threads of the model's stages, one after the other | one for all requests, in parts |
//!
//! The vocabulary is common: a [`Run`] is an inference that was checked and begun. A scheduler takes it by `submit`, and gives it
//! back only with an error. `take_back` returns what is still queued on workers to a caller that would rather do it itself: a
//! whole inference under SIMPLE, under the others the report that one has ended. `withdraw` ends what was cancelled before it began.

mod staged;
mod workers;

use std::sync::Arc;

use optimium_device::{Append, Executable, ExecutionState};
use optimium_tensor::{Error, ErrorKind, Result};

use crate::request::Run;

pub(crate) use staged::{Crossing, Shared as StagedShared, SharedState, Stage, Staged, StagedModel};
pub(crate) use workers::{Workers, is_worker};

/// A run that cannot run, and why.
pub(crate) type Refusal = Box<(Run, Error)>;

/// What runs the inferences of a model.
pub(crate) enum Scheduler {
    /// Requests have resources of their own.
    Simple(Simple),
    /// Requests share the resources of the model's stages.
    Staged(Staged),
}

/// A model whose requests have resources of their own.
pub(crate) struct Simple {
    workers: Arc<Workers>,
    executable: Arc<dyn Executable>,
}

impl Simple {
    pub(crate) fn new(workers: Arc<Workers>, executable: Arc<dyn Executable>) -> Simple {
        Simple { workers, executable }
    }

    /// The resources of a request.
    ///
    /// # Errors
    /// As [`Executable::create_state`].
    pub(crate) fn create_state(&self) -> Result<Box<dyn ExecutionState>> {
        self.executable.clone().create_state()
    }
}

impl Scheduler {
    fn workers(&self) -> &Workers {
        match self {
            Scheduler::Simple(simple) => &simple.workers,
            Scheduler::Staged(staged) => staged.workers(),
        }
    }

    /// The compiled parts of the model, in the order in which they run.
    pub(crate) fn executables(&self) -> Vec<&Arc<dyn Executable>> {
        match self {
            Scheduler::Simple(simple) => vec![&simple.executable],
            Scheduler::Staged(staged) => staged.stages().iter().map(|stage| &stage.executable).collect(),
        }
    }

    /// The inputs and outputs of the model that can share memory; none where stages divide it.
    pub(crate) fn appends(&self) -> &[Append] {
        match self.executables()[..] {
            [only] => only.appends(),
            _ => &[],
        }
    }

    /// Queues `run`. Where it `is_awaited`, its caller is expected to [take it back](Scheduler::take_back) at once.
    ///
    /// # Errors
    /// As [`Workers::submit`] and [`Staged::submit`].
    pub(crate) fn submit(&self, run: Run, is_awaited: bool) -> Result<(), Refusal> {
        match self {
            Scheduler::Simple(simple) => simple.workers.submit(run, is_awaited),
            Scheduler::Staged(staged) => staged.submit(run),
        }
    }

    /// Takes what is left of a run back from the workers, where none of them has begun it.
    pub(crate) fn take_back(&self, is_wanted: impl Fn(&Run) -> bool) -> Option<Run> {
        self.workers().take_back(is_wanted)
    }

    /// Ends the reservation of a run for its caller, where there is one.
    pub(crate) fn hand_over(&self, is_wanted: impl Fn(&Run) -> bool) {
        if let Scheduler::Simple(simple) = self {
            simple.workers.hand_over(is_wanted);
        }
    }

    /// Ends the inference of a request that was cancelled before it began, where it would wait for its turn.
    pub(crate) fn withdraw(&self, request: u64) {
        if let Scheduler::Staged(staged) = self {
            staged.withdraw(request);
        }
    }

    /// Whether its threads exist, which a fork ends. Takes no lock: the fork may have left any locked.
    ///
    /// # Errors
    /// [`InvalidState`](ErrorKind::InvalidState) after a fork.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.workers().check_process()
    }

    /// Whether `workers`, those of the runtime that is alive, are its own.
    ///
    /// # Errors
    /// [`InvalidState`](ErrorKind::InvalidState) where they are not.
    pub(crate) fn check_runs_on(&self, workers: Option<&Arc<Workers>>) -> Result<()> {
        let own = self.workers();
        if workers.is_some_and(|workers| std::ptr::eq(&raw const **workers, own)) {
            Ok(())
        } else {
            Err(stopped())
        }
    }

    /// How many inferences it runs at once at most, on threads of its own.
    #[cfg(test)]
    pub(crate) fn max_workers(&self) -> usize {
        self.workers().max_workers()
    }
}

/// The error of an inference that a stopped scheduler was given.
fn stopped() -> Error {
    Error::new(
        ErrorKind::InvalidState,
        "the runtime that the model was loaded in was finalized, or lived before a fork; load the model again",
    )
}
