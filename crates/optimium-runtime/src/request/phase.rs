//! The state of a request, and who waits for it to change.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

use optimium_device::Cancellation;
use optimium_tensor::{Error, ErrorKind, Result};

/// The state of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum InferStatus {
    /// No inference has been begun, or the last one succeeded.
    #[default]
    Ready,
    /// An inference is queued or runs.
    Running,
    /// The last inference failed.
    Fault,
}

impl InferStatus {
    /// All of them.
    pub const ALL: [InferStatus; 3] = [InferStatus::Ready, InferStatus::Running, InferStatus::Fault];

    /// The name that users know it by.
    pub fn name(self) -> &'static str {
        match self {
            InferStatus::Ready => "READY",
            InferStatus::Running => "RUNNING",
            InferStatus::Fault => "FAULT",
        }
    }
}

/// What is called when an inference ends.
pub type Callback = Arc<dyn Fn(InferStatus, Option<&Error>) + Send + Sync>;

/// The state of a request. No lock is held while a callback runs.
#[derive(Default)]
pub(super) struct Phase {
    state: Mutex<State>,
    changed: Condvar,
    cancellation: Arc<Cancellation>,
}

#[derive(Default)]
struct State {
    status: InferStatus,
    /// The error of a fault that nobody has been told yet.
    unreported: Option<Error>,
    callback: Option<Callback>,
    /// The threads that run a callback of this request now.
    in_callback: Vec<ThreadId>,
    /// Number of threads that sleep until something changes.
    waiting: usize,
}

impl Phase {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> InferStatus {
        self.lock().status
    }

    pub(super) fn set_callback(&self, callback: Option<Callback>) {
        let previous = std::mem::replace(&mut self.lock().callback, callback);
        // Dropped without the lock: it may own anything.
        drop(previous);
    }

    /// The request runs from now on.
    pub(super) fn begin(&self) -> Result<()> {
        let mut state = self.lock();
        let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidOperation, why));
        if state.status == InferStatus::Running {
            return refuse("the request is running; wait for it, or create another request");
        }
        if state.unreported.is_some() {
            return refuse("the last inference failed; call wait() for its error before the next one");
        }
        state.status = InferStatus::Running;
        self.cancellation.reset();
        Ok(())
    }

    /// Whether an inference or its callback runs, as far as can be told without waiting for anybody.
    pub(super) fn may_be_running(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => state.status == InferStatus::Running || !state.in_callback.is_empty(),
            Err(_) => true,
        }
    }

    /// The wish that the inference end early.
    pub(super) fn cancellation(&self) -> &Arc<Cancellation> {
        &self.cancellation
    }

    /// Wishes it, where one runs. The lock keeps the wish from hitting the next inference.
    pub(super) fn cancel(&self) {
        let state = self.lock();
        if state.status == InferStatus::Running {
            self.cancellation.cancel();
        }
    }

    /// Takes [`begin`](Phase::begin) back.
    pub(super) fn abandon(&self) {
        let mut state = self.lock();
        state.status = InferStatus::Ready;
        self.wake(state);
    }

    /// Wakes those who wait. A notification that nobody hears would be a system call for nothing.
    fn wake(&self, state: MutexGuard<'_, State>) {
        let is_heard = state.waiting > 0;
        drop(state);
        if is_heard {
            self.changed.notify_all();
        }
    }

    /// The inference has ended: sets the final state, calls the callback, and wakes those who wait.
    pub(super) fn end(&self, error: Option<Error>) {
        let mut state = self.lock();
        state.status = if error.is_some() { InferStatus::Fault } else { InferStatus::Ready };
        let (status, callback) = (state.status, state.callback.clone());
        let Some(callback) = callback else {
            state.unreported = error;
            self.wake(state);
            return;
        };
        let shown = error.as_ref().map(copy);
        state.unreported = error;
        state.in_callback.push(thread::current().id());
        drop(state);
        let outcome =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| callback(status, shown.as_ref())));
        if outcome.is_err() {
            tracing::error!("a callback panicked");
        }
        let mut state = self.lock();
        if let Some(position) = state.in_callback.iter().position(|&id| id == thread::current().id()) {
            state.in_callback.swap_remove(position);
        }
        self.wake(state);
        // Last of all: the request may have been given another callback, and this one may own anything.
        drop(callback);
    }

    /// As [`end`](Phase::end), where there is no callback.
    ///
    /// # Errors
    /// `result` comes back where there is one, and nothing has changed.
    pub(super) fn end_quietly(&self, result: Result<()>) -> Result<(), Result<()>> {
        let Some(mut state) = self.settle(&result) else { return Err(result) };
        state.unreported = result.err();
        self.wake(state);
        Ok(())
    }

    /// As [`end_quietly`](Phase::end_quietly), on the thread of the caller, who takes the result: nobody else is told an error.
    ///
    /// # Errors
    /// As there.
    pub(super) fn end_for_caller(&self, result: Result<()>) -> Result<Result<()>, Result<()>> {
        let Some(state) = self.settle(&result) else { return Err(result) };
        self.wake(state);
        Ok(result)
    }

    /// Sets the final state, unless there is a callback.
    fn settle(&self, result: &Result<()>) -> Option<MutexGuard<'_, State>> {
        let mut state = self.lock();
        if state.callback.is_some() {
            return None;
        }
        state.status = if result.is_err() { InferStatus::Fault } else { InferStatus::Ready };
        Some(state)
    }

    /// Waits for the inference and its callback to end, at most `period`; on a thread that runs a callback of this
    /// request, for the inference alone. The result says whether they have.
    ///
    /// # Errors
    /// The error of an inference that has ended, where nobody has been told yet.
    pub(super) fn wait(&self, period: Duration) -> Result<bool> {
        let mut state = self.lock();
        if state.is_busy() {
            state.waiting += 1;
            let waited = self.changed.wait_timeout_while(state, period, |state| state.is_busy());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.waiting -= 1;
            if state.is_busy() {
                return Ok(false);
            }
        }
        state.unreported.take().map_or(Ok(true), Err)
    }
}

impl State {
    /// Whether an inference runs, or its callback on another thread.
    fn is_busy(&self) -> bool {
        let on_other_thread = || !self.in_callback.contains(&thread::current().id());
        self.status == InferStatus::Running || (!self.in_callback.is_empty() && on_other_thread())
    }
}

/// The same error once more: its kind, its message and what its cause says.
fn copy(error: &Error) -> Error {
    let copy = Error::new(error.kind(), error.message());
    match std::error::Error::source(error) {
        Some(cause) => copy.with_cause(cause.to_string()),
        None => copy,
    }
}
