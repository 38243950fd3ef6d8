//! The state of a request, and who is told of its end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use optimium_device::Cancellation;
use optimium_sync::{NotBegun, Status};
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

impl From<Status> for InferStatus {
    fn from(status: Status) -> InferStatus {
        match status {
            Status::Ready => InferStatus::Ready,
            Status::Running => InferStatus::Running,
            Status::Fault => InferStatus::Fault,
        }
    }
}

/// What is called when an inference ends.
pub type Callback = Arc<dyn Fn(InferStatus, Option<&Error>) + Send + Sync>;

/// The [`Phase`](optimium_sync::Phase) of a request, in the words of its users.
#[derive(Default)]
pub(super) struct Phase(optimium_sync::Phase<dyn Fn(InferStatus, Option<&Error>) + Send + Sync, Error>);

impl Phase {
    pub(super) fn status(&self) -> InferStatus {
        self.0.status().into()
    }

    pub(super) fn set_callback(&self, callback: Option<Callback>) {
        self.0.set_callback(callback);
    }

    /// The request runs from now on.
    pub(super) fn begin(&self) -> Result<()> {
        self.0.begin().map_err(|why| {
            let why = match why {
                NotBegun::Running => "the request is running; wait for it, or create another request",
                NotBegun::Unreported => {
                    "the last inference failed; call wait() for its error before the next one"
                }
            };
            Error::new(ErrorKind::InvalidOperation, why)
        })
    }

    /// Whether an inference or its callback runs, as far as can be told without waiting for anybody.
    pub(super) fn may_be_running(&self) -> bool {
        self.0.may_be_running()
    }

    /// The wish that the inference end early.
    pub(super) fn cancellation(&self) -> &Arc<Cancellation> {
        self.0.cancellation()
    }

    /// Wishes it, where one runs.
    pub(super) fn cancel(&self) {
        self.0.cancel();
    }

    /// Takes [`begin`](Phase::begin) back.
    pub(super) fn abandon(&self) {
        self.0.abandon();
    }

    /// The inference has ended: sets the final state, calls the callback, and wakes those who wait.
    pub(super) fn end(&self, error: Option<Error>) {
        let shown = error.as_ref().map(copy);
        let Some(reporting) = self.0.end(error) else { return };
        let call = || reporting.callback()(reporting.status().into(), shown.as_ref());
        if catch_unwind(AssertUnwindSafe(call)).is_err() {
            tracing::error!("a callback panicked");
        }
    }

    /// As [`end`](Phase::end), where there is no callback.
    ///
    /// # Errors
    /// `result` comes back where there is one, and nothing has changed.
    pub(super) fn end_quietly(&self, result: Result<()>) -> Result<(), Result<()>> {
        self.0.end_quietly(result)
    }

    /// As [`end_quietly`](Phase::end_quietly), on the thread of the caller, who takes the result: nobody else is told an error.
    ///
    /// # Errors
    /// As there.
    pub(super) fn end_for_caller(&self, result: Result<()>) -> Result<Result<()>, Result<()>> {
        self.0.end_for_caller(result)
    }

    /// Waits for the inference and its callback to end, at most `period`; on a thread that runs a callback of this
    /// request, for the inference alone. The result says whether they have.
    ///
    /// # Errors
    /// The error of an inference that has ended, where nobody has been told yet.
    pub(super) fn wait(&self, period: Duration) -> Result<bool> {
        self.0.wait(period)
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
