//! The repetitions of a profile.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use optimium_device::{Cancellation, ExecutionState, Observer};
use optimium_tensor::{Result, Tensor};

use super::event::Activity;
use super::options::{ProfileOptions, StopRule};
use super::recorder::{EventRecorder, Subject};
use super::repetitions::{Repetition, Repetitions};

/// A profile under way: what is wanted, and what was seen so far.
pub(crate) struct Measurement {
    pub(crate) options: ProfileOptions,
    pub(crate) recorder: EventRecorder,
    /// When it was queued.
    queued: Instant,
    /// When the first inference began.
    pub(super) begun: OnceLock<Instant>,
    /// Unmeasured inferences so far.
    pub(super) warm: AtomicUsize,
    /// Measured inferences so far.
    pub(super) measured: AtomicUsize,
}

/// How far a profile is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProfileProgress {
    /// Whether inferences are measured already.
    pub is_warm: bool,
    /// How much is done of the unmeasured inferences, then of the measured ones: from 0 to 1.
    pub done: f32,
}

impl Measurement {
    /// # Errors
    /// What [`ProfileOptions::check`] and [`EventRecorder::new`] report.
    pub(crate) fn new(options: ProfileOptions) -> Result<Measurement> {
        options.check()?;
        let recorder = EventRecorder::new(options.buffer_size())?;
        Ok(Measurement {
            options,
            recorder,
            queued: Instant::now(),
            begun: OnceLock::new(),
            warm: AtomicUsize::new(0),
            measured: AtomicUsize::new(0),
        })
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> ProfileProgress {
        let share = |part: f64, whole: f64| if whole > 0.0 { (part / whole).min(1.0) } else { 1.0 };
        let options = &self.options;
        let elapsed = self.begun.get().map_or(0.0, |begun| begun.elapsed().as_secs_f64());
        let warm = share(self.warm.load(Ordering::Relaxed) as f64, options.warmup as f64)
            .min(share(elapsed, options.warmup_time.as_secs_f64()));
        let measured = share(self.measured.load(Ordering::Relaxed) as f64, options.repeat as f64);
        let is_warm = warm >= 1.0 || measured > 0.0;
        ProfileProgress { is_warm, done: if is_warm { measured } else { warm } as f32 }
    }

    /// The inferences that it takes.
    pub(crate) fn repetitions(&self) -> Repetitions {
        Repetitions::new(StopRule::new(&self.options))
    }

    /// Warms up, and repeats the inference.
    ///
    /// # Errors
    /// Those of the first inference that fails.
    pub(crate) fn run(
        &self,
        state: &mut dyn ExecutionState,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
    ) -> Result<()> {
        self.recorder.record(Activity::Queue, Subject::Model, self.queued, Instant::now());
        let mut repetitions = self.repetitions();
        while let Some(which) = repetitions.next(self) {
            let start = Instant::now();
            let observer = match which {
                Repetition::Warmup => None,
                Repetition::Measured => Some(&self.recorder as &dyn Observer),
            };
            state.run_observed(inputs, outputs, cancellation, observer)?;
            let end = Instant::now();
            if which == Repetition::Measured {
                self.recorder.record(Activity::ModelExecute, Subject::Model, start, end);
            }
            repetitions.note_end(self, which, end - start);
        }
        Ok(())
    }
}

impl Observer for EventRecorder {
    fn step(&self, worker: usize, operation: usize, start: Instant, end: Instant) {
        let number = |index: usize| u32::try_from(index).unwrap_or(u32::MAX);
        let part = Subject::Part { operation: number(operation), thread: number(worker) };
        self.record(Activity::LayerExecute, part, start, end);
    }
}
