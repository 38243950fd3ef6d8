//! Forks of the process.
//!
//! A fork copies the memory and only the thread that calls it. A lock that another thread holds at that moment
//! would stay locked in the child for ever, so the locks that all threads share are taken before a fork and
//! released after it, on both sides. Requests from before a fork are refused in the child without a look at
//! their own locks.

use std::cell::RefCell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use crate::lease::{self, Use};
use crate::lifecycle::{self, Runtime};
use crate::logging::{self, Settings};

/// How long a fork waits for each lock: whoever holds one may itself wait for the thread that forks.
const PATIENCE: Duration = Duration::from_secs(1);
const PERIOD: Duration = Duration::from_millis(1);

/// Number of forks between the first process and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What is held during a fork; none where it could not be had in time.
struct Held {
    current: Option<MutexGuard<'static, Option<Arc<Runtime>>>>,
    in_use: Option<MutexGuard<'static, Vec<Use>>>,
    _settings: Option<MutexGuard<'static, Settings>>,
}

thread_local! {
    static HELD: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// To be called before a fork, on the thread that forks; one of the other two has to follow.
pub fn before() {
    // The order in which these locks are taken elsewhere.
    let held = Held {
        current: hold(&lifecycle::CURRENT),
        in_use: hold(&lease::IN_USE),
        _settings: hold(&logging::SETTINGS),
    };
    HELD.set(Some(held));
}

/// To be called after a fork, in the process that forked.
pub fn after_in_parent() {
    HELD.set(None);
}

/// To be called after a fork, in the new process. The runtime starts afresh where it ran; models that were
/// loaded before the fork cannot be run here.
pub fn after_in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    let Some(mut held) = HELD.take() else { return };
    if let Some(in_use) = &mut held.in_use {
        in_use.clear();
    }
    if let Some(current) = &mut held.current
        && let Some(runtime) = current.take()
    {
        **current = Some(Arc::new(runtime.afresh()));
        // Its threads do not exist, so that nothing of it may be ended or awaited.
        std::mem::forget(runtime);
    }
}

/// Number of forks between the first process and this one.
pub fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

fn hold<T>(lock: &'static Mutex<T>) -> Option<MutexGuard<'static, T>> {
    for _ in 0..PATIENCE.as_millis() / PERIOD.as_millis() {
        match lock.try_lock() {
            Ok(guard) => return Some(guard),
            Err(TryLockError::Poisoned(guard)) => return Some(guard.into_inner()),
            Err(TryLockError::WouldBlock) => thread::sleep(PERIOD),
        }
    }
    None
}
