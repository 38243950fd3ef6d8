//! One inference on its way through the stages.
//!
//! A [`Series`] is what a caller began: one inference, or the many of a profile. Each inference is a [`Ticket`] while it waits, and a
//! [`Pass`] from the first stage to the last. The series has ended when the last of its tickets and passes is gone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use optimium_device::Cancellation;
use optimium_sync as sync;
use optimium_tensor::{Error, Result, Tensor};

use crate::profile::{Activity, EventRecorder, Measurement, Repetition, Repetitions, Subject};
use crate::request::Run;

use super::frame::Frame;

/// What a caller began.
pub(super) struct Series {
    /// The number of the request.
    pub(super) request: u64,
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) cancellation: Arc<Cancellation>,
    measurement: Option<Arc<Measurement>>,
    progress: Mutex<Progress>,
}

struct Progress {
    run: Run,
    /// What is to come, where it is a profile.
    repetitions: Option<Repetitions>,
    /// The first error.
    result: Result<()>,
}

/// An inference that waits for the first stage.
pub(super) struct Ticket {
    pub(super) series: Arc<Series>,
    which: Option<Repetition>,
    queued: Instant,
}

/// An inference that has begun.
pub(super) struct Pass {
    pub(super) series: Arc<Series>,
    which: Option<Repetition>,
    queued: Instant,
    /// When the first stage took it.
    pub(super) begun: Instant,
    /// When each stage so far was done with it.
    pub(super) ends: Vec<Instant>,
    pub(super) frame: Frame,
    /// Copies of intermediate tensors that are to be saved.
    pub(super) saved: Vec<(String, Tensor)>,
}

impl Series {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The inference that follows; `None` where there is none.
    pub(super) fn next(self: &Arc<Self>) -> Option<Ticket> {
        let measurement = self.measurement.as_deref()?;
        let mut progress = self.progress();
        if progress.result.is_err() {
            return None;
        }
        let which = progress.repetitions.as_mut()?.next(measurement)?;
        Some(Ticket { series: self.clone(), which: Some(which), queued: Instant::now() })
    }

    /// It fails with `error`, unless it has failed already.
    pub(super) fn fail(&self, error: Error) {
        let mut progress = self.progress();
        if progress.result.is_ok() {
            progress.result = Err(error);
        }
    }

    /// What was begun, and how it ended; `None` while anything of it is under way.
    pub(super) fn into_run(self: Arc<Self>) -> Option<(Run, Result<()>)> {
        let series = Arc::into_inner(self)?;
        let Progress { run, result, .. } =
            series.progress.into_inner().unwrap_or_else(PoisonError::into_inner);
        Some((run, result))
    }
}

impl Ticket {
    /// The first inference of a series.
    pub(super) fn first(run: Run) -> Ticket {
        let measurement = run.measurement().cloned();
        let mut repetitions = measurement.as_deref().map(Measurement::repetitions);
        let which = repetitions
            .as_mut()
            .zip(measurement.as_deref())
            .and_then(|(all, measurement)| all.next(measurement));
        let (inputs, outputs) = run.tensors();
        let series = Series {
            request: run.request_number(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
            cancellation: run.cancellation(),
            measurement,
            progress: Mutex::new(Progress { run, repetitions, result: Ok(()) }),
        };
        Ticket { series: Arc::new(series), which, queued: Instant::now() }
    }
}

impl sync::Ticket for Ticket {
    type Frame = Frame;
    type Pass = Pass;

    fn cancellation(&self) -> &Arc<Cancellation> {
        &self.series.cancellation
    }

    fn begin(self, frame: Frame) -> Pass {
        let Ticket { series, which, queued } = self;
        Pass { series, which, queued, begun: Instant::now(), ends: Vec::new(), frame, saved: Vec::new() }
    }
}

impl Pass {
    /// Where its events are recorded, if they are.
    pub(super) fn recorder(&self) -> Option<&EventRecorder> {
        let is_measured = self.which == Some(Repetition::Measured);
        self.series.measurement.as_ref().filter(|_| is_measured).map(|measurement| &measurement.recorder)
    }

    /// Records the time that it waited for the first stage.
    pub(super) fn record_queue(&self) {
        if let Some(recorder) = self.recorder() {
            recorder.record(Activity::Queue, Subject::Model, self.queued, self.begun);
        }
    }

    /// Notes how it ended.
    pub(super) fn note_end(&self, result: Result<()>) {
        let end = Instant::now();
        if let Err(error) = result {
            return self.series.fail(error);
        }
        if let Some(recorder) = self.recorder() {
            recorder.record(Activity::ModelExecute, Subject::Model, self.begun, end);
        }
        if let Some((measurement, which)) = self.series.measurement.as_deref().zip(self.which)
            && let Some(repetitions) = &mut self.series.progress().repetitions
        {
            repetitions.note_end(measurement, which, end - self.begun);
        }
    }
}
