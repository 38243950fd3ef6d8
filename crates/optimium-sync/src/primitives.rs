//! The primitives that everything here is made of: those of the standard library, or those of the model checker.

use std::time::{Duration, Instant};

#[cfg(not(loom))]
pub(crate) use std::{hint, sync, thread};

#[cfg(loom)]
pub(crate) use loom::{hint, sync, thread};

use sync::{Condvar, Mutex, MutexGuard};

/// Looks at a condition before a waiting thread offers its core to others: some microseconds, as long as most steps differ
/// between workers. Where threads are more than cores, the awaited one may need this one's core.
const SPINS_BEFORE_YIELD: u32 = 300;

/// The content of `mutex`, also after a panic of somebody who had it: every change here is whole before anything can panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Waits for others to make it true, in a hurry.
#[inline]
pub(crate) fn wait_until(mut is_true: impl FnMut() -> bool) {
    let mut spins = 0;
    while !is_true() {
        // To the model checker both are the same.
        if spins < SPINS_BEFORE_YIELD {
            spins += 1;
            hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

/// Waits for `condition`, at most `period`.
#[cfg(not(loom))]
pub(crate) fn wait_at_most<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    _of: &'a Mutex<T>,
    period: Duration,
) -> MutexGuard<'a, T> {
    condition.wait_timeout(guard, period).unwrap_or_else(std::sync::PoisonError::into_inner).0
}

/// In a model every wait of limited length ends unheard, at any time: nothing may depend on its being woken.
#[cfg(loom)]
pub(crate) fn wait_at_most<'a, T>(
    _condition: &Condvar,
    guard: MutexGuard<'a, T>,
    of: &'a Mutex<T>,
    _period: Duration,
) -> MutexGuard<'a, T> {
    drop(guard);
    thread::yield_now();
    lock(of)
}

/// Waits until `is_true` no longer holds, at most `period`.
#[cfg(not(loom))]
pub(crate) fn wait_while<'a, T>(
    condition: &Condvar,
    guard: MutexGuard<'a, T>,
    _of: &'a Mutex<T>,
    period: Duration,
    mut is_true: impl FnMut(&T) -> bool,
) -> MutexGuard<'a, T> {
    let waited = condition.wait_timeout_while(guard, period, |state| is_true(state));
    waited.unwrap_or_else(std::sync::PoisonError::into_inner).0
}

/// In a model only [`Duration::MAX`] is long enough to be woken; see [`wait_at_most`].
#[cfg(loom)]
pub(crate) fn wait_while<'a, T>(
    condition: &Condvar,
    mut guard: MutexGuard<'a, T>,
    of: &'a Mutex<T>,
    period: Duration,
    mut is_true: impl FnMut(&T) -> bool,
) -> MutexGuard<'a, T> {
    if period < Duration::MAX {
        return if is_true(&guard) { wait_at_most(condition, guard, of, period) } else { guard };
    }
    while is_true(&guard) {
        guard = condition.wait(guard).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
    guard
}

/// Whether a thread that began to look out at `start` goes on after `period`. In a model, where there is no time, it does not.
pub(crate) fn is_within(start: Instant, period: Duration) -> bool {
    cfg!(not(loom)) && start.elapsed() < period
}
