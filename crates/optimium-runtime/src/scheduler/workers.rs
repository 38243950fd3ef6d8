//! The threads that SIMPLE runs inferences on, first come, first served, and that tell callers of every scheduler how theirs ended.
//!
//! How they sleep, nap and wake is [`WorkQueue`]'s affair; here it meets inferences, and processes that forked.

use std::cell::Cell;
use std::sync::Arc;

use optimium_device::Cancellation;
use optimium_sync::{Job, NotQueued, WorkQueue};
use optimium_tensor::{Error, ErrorKind, Result};

use crate::fork;
use crate::request::Run;

use super::{Refusal, stopped};

/// Threads that run inferences, and the queue in front of them.
pub(crate) struct Workers {
    queue: WorkQueue<Run>,
    /// The process that its threads live in, as [`fork::generation`] counts.
    generation: u64,
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is such a thread.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.get()
}

impl Job for Run {
    fn on_thread_start() {
        IS_WORKER.set(true);
    }

    fn cancellation(&self) -> Arc<Cancellation> {
        Run::cancellation(self)
    }

    fn note_not_awaited(&self) {
        Run::note_not_awaited(self);
    }

    fn execute(self) {
        Run::execute(self);
    }

    fn refuse(self) {
        self.fail(stopped());
    }
}

impl Workers {
    /// Up to `max_workers` threads, which run an inference each.
    pub(crate) fn new(max_workers: usize) -> Workers {
        Workers { queue: WorkQueue::new(max_workers), generation: fork::generation() }
    }

    /// Queues `run`. Where it `is_awaited`, its caller is expected to [take it back](Workers::take_back) at once.
    ///
    /// # Errors
    /// `run` comes back where it cannot run any more, with [`InvalidState`](ErrorKind::InvalidState) after
    /// [`stop`](Workers::stop) or a fork, or [`Os`](ErrorKind::Os) where no thread can be started.
    pub(crate) fn submit(&self, run: Run, is_awaited: bool) -> Result<(), Refusal> {
        if let Err(error) = self.check_process() {
            return Err(Box::new((run, error)));
        }
        self.queue.submit(run, is_awaited).map_err(|(run, why)| {
            let error = match why {
                NotQueued::Stopped => stopped(),
                NotQueued::NoThread(cause) => no_thread(cause),
            };
            Box::new((run, error))
        })
    }

    /// Takes the run of a request back out of the queue, where it is still there.
    pub(crate) fn take_back(&self, is_wanted: impl Fn(&Run) -> bool) -> Option<Run> {
        self.check_process().ok()?;
        self.queue.take_back(is_wanted)
    }

    /// Ends the reservation of a run for its caller, where it is still there.
    pub(crate) fn hand_over(&self, is_wanted: impl Fn(&Run) -> bool) {
        self.queue.hand_over(is_wanted);
    }

    /// Fails what is queued, cancels what runs, and waits for the workers, unless it is one of them that
    /// calls.
    pub(crate) fn stop(&self) {
        self.queue.stop();
    }

    /// How many inferences it runs at once, at most.
    pub(crate) fn max_workers(&self) -> usize {
        self.queue.max_workers()
    }

    /// Whether its threads exist, which a fork ends. Takes no lock: the fork may have left any locked.
    ///
    /// # Errors
    /// [`InvalidState`](ErrorKind::InvalidState) after a fork.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.generation == fork::generation() { Ok(()) } else { Err(stopped()) }
    }
}

/// The error of a thread that the operating system does not start.
pub(super) fn no_thread(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Os, format!("cannot start a thread: {cause}")).with_cause(cause)
}
