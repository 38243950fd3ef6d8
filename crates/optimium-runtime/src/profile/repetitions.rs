//! Which inference of a profile comes next. Several may be under way at once, one in each stage of a pipeline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::measure::Measurement;
use super::options::StopRule;

/// One inference of a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    /// It makes memory and caches warm.
    Warmup,
    /// Its events are recorded.
    Measured,
}

/// The inferences of a profile so far.
pub(crate) struct Repetitions {
    warm: usize,
    measured: usize,
    rule: StopRule,
    is_enough: bool,
}

impl Repetitions {
    pub(super) fn new(rule: StopRule) -> Repetitions {
        Repetitions { warm: 0, measured: 0, rule, is_enough: false }
    }

    /// The next one; `None` where there is none.
    pub(crate) fn next(&mut self, measurement: &Measurement) -> Option<Repetition> {
        let options = &measurement.options;
        let begun = *measurement.begun.get_or_init(Instant::now);
        let is_cold = self.warm < options.warmup || begun.elapsed() < options.warmup_time;
        if self.measured == 0 && is_cold {
            self.warm += 1;
            return Some(Repetition::Warmup);
        }
        if self.is_enough || self.measured >= options.repeat {
            return None;
        }
        self.measured += 1;
        Some(Repetition::Measured)
    }

    /// To be called when one has ended well.
    pub(crate) fn note_end(&mut self, measurement: &Measurement, which: Repetition, duration: Duration) {
        match which {
            Repetition::Warmup => _ = measurement.warm.fetch_add(1, Ordering::Relaxed),
            Repetition::Measured => {
                measurement.measured.fetch_add(1, Ordering::Relaxed);
                self.is_enough |= self.rule.is_enough(duration);
            }
        }
    }
}
