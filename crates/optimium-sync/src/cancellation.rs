//! A wish that an inference end early.

use crate::primitives::sync::atomic::{AtomicBool, Ordering};

/// A wish that an inference end early. Backends look at it between steps.
#[derive(Debug, Default)]
pub struct Cancellation(AtomicBool);

impl Cancellation {
    /// No wish yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Wishes it.
    pub fn cancel(&self) {
        // It carries nothing with it: what belongs together is under the lock of whoever asks.
        self.0.store(true, Ordering::Relaxed);
    }

    /// Takes the wish back, before the next inference.
    pub fn reset(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it is wished.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
