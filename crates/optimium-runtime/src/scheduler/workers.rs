//! The threads that SIMPLE runs inferences on, first come, first served, and that tell callers of every scheduler how theirs ended.
//!
//! A caller who waits for an inference that no worker has begun can take it back and run it on its own
//! thread, which saves handing it over and back.
//!
//! Waking a thread costs more than a small inference takes. An inference that its caller is expected to wait for at once
//! is therefore *reserved* for the caller: nobody is woken for it. A worker that naps in the meantime takes it where
//! the caller does something else instead, after two naps at most. Workers nap only while such inferences come in; then
//! they sleep until they are woken.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use optimium_tensor::{Error, ErrorKind, Result};

use crate::fork;
use crate::request::Run;

use super::{Refusal, stopped};

/// Long against a wake-up, which it saves, and short against what a person notices, which it may cost once when a caller
/// changes its ways.
const NAP: Duration = Duration::from_micros(500);

/// Threads that run inferences, and the queue in front of them. Threads start with the first inferences and
/// sleep while there is nothing to do.
pub(crate) struct Workers(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    max_workers: usize,
    /// The process that its threads live in, as [`fork::generation`] counts.
    generation: u64,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Queued>,
    running: Vec<Arc<optimium_device::Cancellation>>,
    workers: Vec<JoinHandle<()>>,
    /// Workers that sleep or nap.
    idle: usize,
    /// Whether a worker naps, or is about to.
    napping: bool,
    /// Whether inferences were reserved since the last nap began.
    reserving: bool,
    stopped: bool,
}

struct Queued {
    run: Run,
    /// Naps during which it is left to its caller.
    reserved: u8,
}

impl State {
    fn has_reserved(&self) -> bool {
        self.queue.iter().any(|queued| queued.reserved > 0)
    }

    /// The first inference that is not left to its caller.
    fn next(&mut self) -> Option<Run> {
        let position = self.queue.iter().position(|queued| queued.reserved == 0)?;
        self.queue.remove(position).map(|queued| queued.run)
    }
}

thread_local! {
    static IS_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether this is such a thread.
pub(crate) fn is_worker() -> bool {
    IS_WORKER.get()
}

impl Workers {
    /// Up to `max_workers` threads, which run an inference each.
    pub(crate) fn new(max_workers: usize) -> Workers {
        Workers(Arc::new(Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            max_workers: max_workers.max(1),
            generation: fork::generation(),
        }))
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
        let mut state = self.0.lock();
        if state.stopped {
            return Err(Box::new((run, stopped())));
        }
        // A caller that begins several inferences wants them to run side by side: one is left to it.
        let reserve = is_awaited && !state.has_reserved();
        if reserve && state.napping {
            state.reserving = true;
            state.queue.push_back(Queued { run, reserved: 2 });
            return Ok(());
        }
        if let Err(error) = self.0.ensure_worker(&mut state) {
            return Err(Box::new((run, error)));
        }
        state.reserving |= reserve;
        state.queue.push_back(Queued { run, reserved: if reserve { 2 } else { 0 } });
        self.0.notify(state);
        Ok(())
    }

    /// Takes the run of a request back out of the queue, where it is still there.
    pub(crate) fn take_back(&self, is_wanted: impl Fn(&Run) -> bool) -> Option<Run> {
        self.check_process().ok()?;
        let mut state = self.0.lock();
        let position = state.queue.iter().position(|queued| is_wanted(&queued.run))?;
        state.queue.remove(position).map(|queued| queued.run)
    }

    /// Ends the reservation of a run for its caller, where it is still there.
    pub(crate) fn hand_over(&self, is_wanted: impl Fn(&Run) -> bool) {
        let mut state = self.0.lock();
        let reserved = state.queue.iter_mut().find(|queued| queued.reserved > 0 && is_wanted(&queued.run));
        if let Some(queued) = reserved {
            queued.reserved = 0;
            self.0.notify(state);
        }
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
        for queued in queued {
            queued.run.fail(stopped());
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
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that there is a worker for one more inference, or that all are busy.
    fn ensure_worker(self: &Arc<Self>, state: &mut State) -> Result<()> {
        if state.idle > state.queue.len() || state.workers.len() >= self.max_workers {
            return Ok(());
        }
        let shared = self.clone();
        let name = format!("optimium-{}", state.workers.len());
        match thread::Builder::new().name(name).spawn(move || shared.work()) {
            Ok(worker) => state.workers.push(worker),
            Err(cause) if state.workers.is_empty() => {
                return Err(
                    Error::new(ErrorKind::Os, format!("cannot start a thread: {cause}")).with_cause(cause)
                );
            }
            Err(_) => {}
        }
        Ok(())
    }

    /// Wakes an idle worker, where there is one. A notification that nobody hears would be a system call for nothing.
    fn notify(&self, state: MutexGuard<'_, State>) {
        let is_heard = state.idle > 0;
        drop(state);
        if is_heard {
            self.work.notify_one();
        }
    }

    /// The life of a worker.
    fn work(self: &Arc<Self>) {
        IS_WORKER.set(true);
        let mut state = self.lock();
        loop {
            if let Some(run) = state.next() {
                self.run(run, state);
                state = self.lock();
            } else if state.stopped {
                return;
            } else if !state.napping && (state.reserving || state.has_reserved()) {
                state = self.nap(state);
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    fn run(self: &Arc<Self>, run: Run, mut state: MutexGuard<'_, State>) {
        run.note_not_awaited();
        let cancellation = run.cancellation();
        state.running.push(cancellation.clone());
        if state.queue.is_empty() {
            drop(state);
        } else {
            // Somebody has to look after the others while this worker is busy; without a thread they wait for it.
            let _ = self.ensure_worker(&mut state);
            self.notify(state);
        }
        run.execute();
        self.lock().running.retain(|other| !Arc::ptr_eq(other, &cancellation));
    }

    /// Sleeps for a while, or until there is something to do, and shortens the reservations of what is still there.
    fn nap<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        (state.napping, state.reserving) = (true, false);
        state.idle += 1;
        let (mut state, _) = self.work.wait_timeout(state, NAP).unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        state.napping = false;
        state.queue.iter_mut().for_each(|queued| queued.reserved = queued.reserved.saturating_sub(1));
        state
    }
}
