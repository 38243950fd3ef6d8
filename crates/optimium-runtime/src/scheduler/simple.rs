//! First come, first served, on a bounded number of threads.
//!
//! A caller who waits for an inference that no worker has begun can take it back and run it on its own
//! thread, which saves handing it over and back.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use optimium_tensor::{Error, ErrorKind, Result};

use crate::fork;
use crate::request::Run;

/// Threads that run inferences, and the queue in front of them. Threads start with the first inferences and
/// sleep while there is nothing to do.
pub(crate) struct Scheduler(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    max_workers: usize,
    /// The process that its threads live in, as [`fork::generation`] counts.
    generation: u64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Run>,
    running: Vec<Arc<optimium_device::Cancellation>>,
    workers: Vec<JoinHandle<()>>,
    idle: usize,
    stopped: bool,
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread belongs to a scheduler.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.get()
}

impl Scheduler {
    /// A scheduler that runs up to `max_workers` inferences at once.
    pub(crate) fn new(max_workers: usize) -> Scheduler {
        Scheduler(Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            max_workers: max_workers.max(1),
            generation: fork::generation(),
        }))
    }

    /// Queues `run`.
    ///
    /// # Errors
    /// `run` comes back where it cannot run any more, with [`InvalidState`](ErrorKind::InvalidState) after
    /// [`stop`](Scheduler::stop) or a fork, or [`Os`](ErrorKind::Os) where no thread can be started.
    pub(crate) fn submit(&self, run: Run) -> Result<(), (Run, Error)> {
        if let Err(error) = self.check_process() {
            return Err((run, error));
        }
        let mut state = self.0.lock();
        if state.stopped {
            return Err((run, stopped()));
        }
        if state.idle <= state.queue.len()
            && state.workers.len() < self.0.max_workers
            && let Err(error) = self.start_worker(&mut state)
            && state.workers.is_empty()
        {
            return Err((run, error));
        }
        state.queue.push_back(run);
        drop(state);
        self.0.work.notify_one();
        Ok(())
    }

    /// Takes the run of a request back out of the queue, where it is still there.
    pub(crate) fn take_back(&self, is_wanted: impl Fn(&Run) -> bool) -> Option<Run> {
        self.check_process().ok()?;
        let mut state = self.0.lock();
        let position = state.queue.iter().position(is_wanted)?;
        state.queue.remove(position)
    }

    /// Fails what is queued, cancels what runs, and waits for the workers, unless it is one of them that
    /// calls.
    pub(crate) fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        let queued = std::mem::take(&mut state.queue);
        let workers = std::mem::take(&mut state.workers);
        state.running.iter().for_each(|cancellation| cancellation.cancel());
        drop(state);
        self.0.work.notify_all();
        for run in queued {
            run.fail(stopped());
        }
        for worker in workers {
            if worker.thread().id() != thread::current().id() {
                // A worker catches the panics of what it runs; there is nothing to learn from its end.
                let _ = worker.join();
            }
        }
    }

    /// How many inferences it runs at once, at most.
    pub(crate) fn max_workers(&self) -> usize {
        self.0.max_workers
    }

    /// Whether its threads exist, which a fork ends. Takes no lock: the fork may have left any locked.
    ///
    /// # Errors
    /// [`InvalidState`](ErrorKind::InvalidState) after a fork.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.0.generation == fork::generation() { Ok(()) } else { Err(stopped()) }
    }

    fn start_worker(&self, state: &mut MutexGuard<'_, State>) -> Result<()> {
        let shared = self.0.clone();
        let name = format!("optimium-{}", state.workers.len());
        let worker = thread::Builder::new().name(name).spawn(move || shared.work()).map_err(|cause| {
            Error::new(ErrorKind::Os, format!("cannot start a thread: {cause}")).with_cause(cause)
        })?;
        state.workers.push(worker);
        Ok(())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a worker.
    fn work(&self) {
        IS_WORKER.set(true);
        let mut state = self.lock();
        loop {
            if let Some(run) = state.queue.pop_front() {
                let cancellation = run.cancellation();
                state.running.push(cancellation.clone());
                drop(state);
                run.execute();
                state = self.lock();
                state.running.retain(|other| !Arc::ptr_eq(other, &cancellation));
            } else if state.stopped {
                return;
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }
}

/// The error of an inference that a stopped scheduler was given.
fn stopped() -> Error {
    Error::new(
        ErrorKind::InvalidState,
        "the runtime that the model was loaded in was finalized, or lived before a fork; load the model again",
    )
}
