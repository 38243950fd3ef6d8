//! How an inference is profiled.

use std::time::Duration;

use optimium_tensor::{Error, Result};

/// Bytes of events that a profile keeps where nothing else is said.
pub const DEFAULT_EVENT_BUFFER_SIZE: usize = 4 << 20;

/// The largest buffer that can be asked for: a wrong unit should not take the machine's memory.
const LARGEST_EVENT_BUFFER: usize = 1 << 32;

/// How an inference is profiled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileOptions {
    /// Measured inferences, at most.
    pub repeat: usize,
    /// Unmeasured inferences before them, at least.
    pub warmup: usize,
    /// How long inferences go unmeasured, at least.
    pub warmup_time: Duration,
    /// The profile ends early where the mean duration of an inference changes by less than this from one check to the next.
    /// Zero never ends it.
    pub stop_threshold: Duration,
    /// Inferences between two checks; 0 stands for 10.
    pub check_period: usize,
    /// Bytes for events; 0 stands for [`DEFAULT_EVENT_BUFFER_SIZE`].
    pub event_buffer_size: usize,
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            repeat: 100,
            warmup: 10,
            warmup_time: Duration::from_secs(1),
            stop_threshold: Duration::ZERO,
            check_period: 0,
            event_buffer_size: 0,
        }
    }
}

impl ProfileOptions {
    /// # Errors
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) where nothing is to be measured, or the buffer is
    /// larger than 4 GB.
    pub(crate) fn check(&self) -> Result<()> {
        if self.repeat == 0 {
            return Err(Error::invalid_argument("repeat is the number of inferences to measure, at least 1"));
        }
        if self.event_buffer_size > LARGEST_EVENT_BUFFER {
            return Err(Error::invalid_argument(format!(
                "an event buffer of {} bytes; {LARGEST_EVENT_BUFFER} are possible",
                self.event_buffer_size
            )));
        }
        Ok(())
    }

    /// Bytes for events.
    pub(crate) fn buffer_size(&self) -> usize {
        if self.event_buffer_size == 0 { DEFAULT_EVENT_BUFFER_SIZE } else { self.event_buffer_size }
    }
}

/// Decides when enough was measured.
pub(super) struct StopRule {
    threshold: Duration,
    period: usize,
    count: usize,
    total: Duration,
    /// The mean at the last check.
    mean: Option<Duration>,
}

impl StopRule {
    pub(super) fn new(options: &ProfileOptions) -> StopRule {
        const USUAL_PERIOD: usize = 10;
        let period = if options.check_period == 0 { USUAL_PERIOD } else { options.check_period };
        StopRule { threshold: options.stop_threshold, period, count: 0, total: Duration::ZERO, mean: None }
    }

    /// Whether an inference that took `duration` was the last one.
    pub(super) fn is_enough(&mut self, duration: Duration) -> bool {
        self.count += 1;
        self.total += duration;
        if self.threshold.is_zero() || !self.count.is_multiple_of(self.period) {
            return false;
        }
        let mean = self.total.div_f64(self.count as f64);
        let last = self.mean.replace(mean);
        last.is_some_and(|last| last.abs_diff(mean) < self.threshold)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_that_stay_are_enough() {
        let options = ProfileOptions {
            stop_threshold: Duration::from_micros(5),
            check_period: 2,
            ..ProfileOptions::default()
        };
        // Means at the checks, in microseconds: 100, 90, 86.
        let durations = [100, 100, 80, 80, 78, 78];
        let mut rule = StopRule::new(&options);
        let enough: Vec<bool> =
            durations.into_iter().map(|duration| rule.is_enough(Duration::from_micros(duration))).collect();
        assert_eq!(enough, [false, false, false, false, false, true]);
        let mut never = StopRule::new(&ProfileOptions::default());
        assert!((0..100).all(|_| !never.is_enough(Duration::from_micros(1))));
    }
}
