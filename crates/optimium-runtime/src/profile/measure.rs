//! The repetitions of a profile.

use std::time::Instant;

use optimium_device::{Cancellation, ExecutionState, Observer};
use optimium_tensor::{Result, Tensor};

use super::event::Activity;
use super::options::{ProfileOptions, StopRule};
use super::recorder::{EventRecorder, Subject};

/// A profile under way: what is wanted, and what was seen so far.
pub(crate) struct Measurement {
    pub(crate) options: ProfileOptions,
    pub(crate) recorder: EventRecorder,
    /// When it was queued.
    queued: Instant,
}

impl Measurement {
    /// # Errors
    /// What [`ProfileOptions::check`] and [`EventRecorder::new`] report.
    pub(crate) fn new(options: ProfileOptions) -> Result<Measurement> {
        options.check()?;
        let recorder = EventRecorder::new(options.buffer_size())?;
        Ok(Measurement { options, recorder, queued: Instant::now() })
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
        let begin = Instant::now();
        let mut warm = 0;
        while warm < self.options.warmup || begin.elapsed() < self.options.warmup_time {
            state.run(inputs, outputs, cancellation)?;
            warm += 1;
        }
        let mut rule = StopRule::new(&self.options);
        for _ in 0..self.options.repeat {
            let start = Instant::now();
            state.run_observed(inputs, outputs, cancellation, &self.recorder)?;
            let end = Instant::now();
            self.recorder.record(Activity::ModelExecute, Subject::Model, start, end);
            if rule.is_enough(end - start) {
                break;
            }
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
