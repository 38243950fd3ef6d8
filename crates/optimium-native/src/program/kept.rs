//! What was compiled for values that come with inferences: the last of it is kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use optimium_tensor::{ErrorKind, Result};

/// The last things that were made, at most so many, by what they were made for.
pub(super) struct Kept<K, V> {
    limit: usize,
    made: Mutex<VecDeque<(K, Arc<V>)>>,
}

impl<K: Clone + PartialEq, V> Kept<K, V> {
    /// Room for `limit` things, of which there is at least one.
    pub(super) fn new(limit: usize) -> Kept<K, V> {
        Kept { limit, made: Mutex::default() }
    }

    /// What there is for `key`, or what `make` makes of it.
    ///
    /// # Errors
    /// As `make`. What is wrong with a value that an inference computes is not wrong with the model: it becomes
    /// [`Infer`](ErrorKind::Infer).
    pub(super) fn get(&self, key: &K, make: impl FnOnce() -> Result<V>) -> Result<Arc<V>> {
        let lock = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, made)) = lock().iter().find(|(kept, _)| kept == key) {
            return Ok(made.clone());
        }
        // Nobody waits for it who needs another one.
        let made = make().map_err(|error| match error.kind() {
            ErrorKind::Model | ErrorKind::Shape => error.with_kind(ErrorKind::Infer),
            _ => error,
        })?;
        let made = Arc::new(made);
        let mut kept = lock();
        kept.truncate(self.limit - 1);
        kept.push_front((key.clone(), made.clone()));
        Ok(made)
    }
}
