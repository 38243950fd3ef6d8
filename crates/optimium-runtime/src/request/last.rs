//! The tensors of the last inference.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use optimium_tensor::Tensor;

/// Inputs and outputs.
type Both = (Vec<Tensor>, Vec<Tensor>);

/// The tensors of an inference that has ended, until the caller is there to release them: releasing foreign memory on a worker could
/// wait for its owner.
#[derive(Default)]
pub(super) struct Last {
    tensors: Mutex<Option<Both>>,
    /// Whether there are some: where there are none, nobody needs the lock. It changes before an inference ends and after one
    /// has begun, and who begins one has seen the last one end.
    is_held: AtomicBool,
}

impl Last {
    fn lock(&self) -> MutexGuard<'_, Option<Both>> {
        self.tensors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Holds `tensors` from now on.
    pub(super) fn hold(&self, tensors: Both) {
        *self.lock() = Some(tensors);
        self.is_held.store(true, Ordering::Relaxed);
    }

    /// Drops what is held, without the lock: foreign memory may wait for its owner.
    pub(super) fn release(&self) {
        if self.is_held() {
            self.is_held.store(false, Ordering::Relaxed);
            let tensors = self.lock().take();
            drop(tensors);
        }
    }

    /// Whether anything is held.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Ordering::Relaxed)
    }

    /// The tensor at that place among inputs and outputs, where they are held.
    pub(super) fn tensor(&self, place: usize) -> Option<Tensor> {
        self.lock().as_ref().and_then(|(inputs, outputs)| inputs.iter().chain(outputs).nth(place).cloned())
    }
}
