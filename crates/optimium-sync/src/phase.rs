//! The phases of something that is begun, ends on any thread, and is begun again: who waits for its end, and who is called.

use std::sync::Arc;
use std::time::Duration;

use crate::Cancellation;
use crate::primitives::sync::{Condvar, Mutex, MutexGuard};
use crate::primitives::thread::{self, ThreadId};
use crate::primitives::{lock, wait_while};

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Status {
    /// It has not been begun, or the last one succeeded.
    #[default]
    Ready,
    /// It is queued or runs.
    Running,
    /// The last one failed.
    Fault,
}

/// Why it cannot be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotBegun {
    /// It runs.
    Running,
    /// The last one failed, and nobody has been told.
    Unreported,
}

/// What is begun and ends, with errors `E` and a callback `C` where one is set. No lock is held while a callback runs or is dropped.
pub struct Phase<C: ?Sized, E> {
    state: Mutex<State<C, E>>,
    changed: Condvar,
    cancellation: Arc<Cancellation>,
}

struct State<C: ?Sized, E> {
    status: Status,
    /// The error of a fault that nobody has been told yet.
    unreported: Option<E>,
    callback: Option<Arc<C>>,
    /// The threads that run a callback now.
    in_callback: Vec<ThreadId>,
    /// Number of threads that sleep until something changes.
    waiting: usize,
}

impl<C: ?Sized, E> Default for Phase<C, E> {
    fn default() -> Self {
        let state = State {
            status: Status::default(),
            unreported: None,
            callback: None,
            in_callback: Vec::new(),
            waiting: 0,
        };
        Phase { state: Mutex::new(state), changed: Condvar::new(), cancellation: Arc::default() }
    }
}

impl<C: ?Sized, E> Phase<C, E> {
    fn lock(&self) -> MutexGuard<'_, State<C, E>> {
        lock(&self.state)
    }

    /// How far it is.
    pub fn status(&self) -> Status {
        self.lock().status
    }

    /// Sets what is to be called at the ends from now on.
    pub fn set_callback(&self, callback: Option<Arc<C>>) {
        let previous = std::mem::replace(&mut self.lock().callback, callback);
        // Dropped without the lock: it may own anything.
        drop(previous);
    }

    /// It runs from now on, until one of the functions that end it.
    ///
    /// # Errors
    /// [`NotBegun`], and nothing has changed.
    pub fn begin(&self) -> Result<(), NotBegun> {
        let mut state = self.lock();
        if state.status == Status::Running {
            return Err(NotBegun::Running);
        }
        if state.unreported.is_some() {
            return Err(NotBegun::Unreported);
        }
        state.status = Status::Running;
        self.cancellation.reset();
        Ok(())
    }

    /// Whether it or a callback runs, as far as can be told without waiting for anybody.
    pub fn may_be_running(&self) -> bool {
        match self.state.try_lock() {
            Ok(state) => state.status == Status::Running || !state.in_callback.is_empty(),
            Err(_) => true,
        }
    }

    /// The wish that it end early.
    pub fn cancellation(&self) -> &Arc<Cancellation> {
        &self.cancellation
    }

    /// Wishes it, where it runs. The lock keeps the wish from hitting the next one.
    pub fn cancel(&self) {
        let state = self.lock();
        if state.status == Status::Running {
            self.cancellation.cancel();
        }
    }

    /// Takes [`begin`](Phase::begin) back.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.status = Status::Ready;
        self.wake(state);
    }

    /// Wakes those who wait. A notification that nobody hears would be a system call for nothing.
    fn wake(&self, state: MutexGuard<'_, State<C, E>>) {
        let is_heard = state.waiting > 0;
        drop(state);
        if is_heard {
            self.changed.notify_all();
        }
    }

    /// It has ended. Where there is a callback, those who wait go on when the result is dropped, on this thread; otherwise now.
    #[must_use = "there may be somebody to call"]
    pub fn end(&self, error: Option<E>) -> Option<Reporting<'_, C, E>> {
        let mut state = self.lock();
        let status = state.set_end(error.is_some());
        state.unreported = error;
        let Some(callback) = state.callback.clone() else {
            self.wake(state);
            return None;
        };
        state.in_callback.push(thread::current().id());
        Some(Reporting { phase: self, status, callback })
    }

    /// As [`end`](Phase::end), where there is no callback.
    ///
    /// # Errors
    /// `result` comes back where there is one, and nothing has changed.
    pub fn end_quietly(&self, result: Result<(), E>) -> Result<(), Result<(), E>> {
        let Some(mut state) = self.settle(&result) else { return Err(result) };
        state.unreported = result.err();
        self.wake(state);
        Ok(())
    }

    /// As [`end_quietly`](Phase::end_quietly), on the thread of the caller, who takes the result: nobody else is told an error.
    ///
    /// # Errors
    /// As there.
    pub fn end_for_caller(&self, result: Result<(), E>) -> Result<Result<(), E>, Result<(), E>> {
        let Some(state) = self.settle(&result) else { return Err(result) };
        self.wake(state);
        Ok(result)
    }

    /// Sets the final state, unless there is a callback.
    fn settle(&self, result: &Result<(), E>) -> Option<MutexGuard<'_, State<C, E>>> {
        let mut state = self.lock();
        if state.callback.is_some() {
            return None;
        }
        state.set_end(result.is_err());
        Some(state)
    }

    /// Waits for it and its callback to end, at most `period`; on a thread that runs a callback of it, for itself alone. The result
    /// says whether they have.
    ///
    /// # Errors
    /// The error of one that has ended, where nobody has been told yet.
    pub fn wait(&self, period: Duration) -> Result<bool, E> {
        let mut state = self.lock();
        if state.is_busy() {
            state.waiting += 1;
            state = wait_while(&self.changed, state, &self.state, period, |state| state.is_busy());
            state.waiting -= 1;
            if state.is_busy() {
                return Ok(false);
            }
        }
        state.unreported.take().map_or(Ok(true), Err)
    }
}

impl<C: ?Sized, E> State<C, E> {
    fn set_end(&mut self, is_fault: bool) -> Status {
        self.status = if is_fault { Status::Fault } else { Status::Ready };
        self.status
    }

    /// Whether it runs, or a callback on another thread.
    fn is_busy(&self) -> bool {
        let on_other_thread = || !self.in_callback.contains(&thread::current().id());
        self.status == Status::Running || (!self.in_callback.is_empty() && on_other_thread())
    }
}

/// The time in which a callback is called. Those who wait go on when it is dropped, on the thread that got it.
pub struct Reporting<'a, C: ?Sized, E> {
    phase: &'a Phase<C, E>,
    status: Status,
    /// Dropped last of all: there may be another callback by then, and this one may own anything.
    callback: Arc<C>,
}

impl<C: ?Sized, E> Reporting<'_, C, E> {
    /// What is to be called.
    pub fn callback(&self) -> &C {
        &self.callback
    }

    /// How it ended.
    pub fn status(&self) -> Status {
        self.status
    }
}

impl<C: ?Sized, E> Drop for Reporting<'_, C, E> {
    fn drop(&mut self) {
        let mut state = self.phase.lock();
        if let Some(position) = state.in_callback.iter().position(|&id| id == thread::current().id()) {
            state.in_callback.swap_remove(position);
        }
        self.phase.wake(state);
    }
}

#[cfg(all(test, loom))]
mod models {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::cell::UnsafeCell;

    use super::*;

    const FOREVER: Duration = Duration::MAX;

    type Call = dyn Fn(Status) + Send + Sync;

    /// Something to run, and what its runs leave behind.
    #[derive(Default)]
    struct Runs {
        phase: Phase<Call, &'static str>,
        /// Memory that the runs use. The checker compares: two uses at the same time, or in no order, fail the model.
        memory: UnsafeCell<usize>,
        /// Calls of callbacks. The models look at it when no thread is left, so that it need not be one of the checker's.
        calls: AtomicUsize,
    }

    // SAFETY: the checker compares all uses of `memory`.
    unsafe impl Sync for Runs {}
    // SAFETY: as above.
    unsafe impl Send for Runs {}

    impl Runs {
        /// One that has begun, with a callback that counts its calls where there is to be one.
        fn begun(with_callback: bool) -> Arc<Runs> {
            let runs = Arc::new(Runs::default());
            if with_callback {
                runs.phase.set_callback(Some(runs.counting()));
            }
            assert_eq!(runs.phase.begin(), Ok(()));
            runs
        }

        fn counting(self: &Arc<Self>) -> Arc<Call> {
            let runs = Arc::downgrade(self);
            Arc::new(move |_| {
                let runs = runs.upgrade().unwrap();
                runs.use_memory();
                runs.calls.fetch_add(1, Ordering::Relaxed);
            })
        }

        /// Uses the memory, as a run, a callback, or somebody who has waited.
        fn use_memory(&self) -> usize {
            self.memory.with_mut(|memory| {
                // SAFETY: the checker finds out whether somebody else uses it.
                let memory = unsafe { &mut *memory };
                *memory += 1;
                *memory
            })
        }

        fn end(&self, error: Option<&'static str>) {
            if let Some(reporting) = self.phase.end(error) {
                reporting.callback()(reporting.status());
            }
        }

        fn calls(&self) -> usize {
            self.calls.load(Ordering::Relaxed)
        }
    }

    /// Begins a thread that works on `runs`.
    fn spawn<T: 'static>(
        runs: &Arc<Runs>,
        work: impl FnOnce(&Arc<Runs>) -> T + 'static,
    ) -> loom::thread::JoinHandle<T> {
        let runs = runs.clone();
        thread::spawn(move || work(&runs))
    }

    #[test]
    fn whoever_waits_is_woken_by_every_way_to_end() {
        let ways: [(bool, fn(&Runs)); 5] = [
            (false, |runs| runs.end(None)),
            (true, |runs| runs.end(None)),
            (false, |runs| assert!(runs.phase.end_quietly(Ok(())).is_ok())),
            (false, |runs| assert!(matches!(runs.phase.end_for_caller(Ok(())), Ok(Ok(()))))),
            (false, |runs| runs.phase.abandon()),
        ];
        for (with_callback, end) in ways {
            crate::check(3, move || {
                let runs = Runs::begun(with_callback);
                let waiter = spawn(&runs, |runs| runs.phase.wait(FOREVER));
                let ender = spawn(&runs, move |runs| {
                    runs.use_memory();
                    end(runs);
                });
                assert_eq!(runs.phase.wait(FOREVER), Ok(true));
                assert_eq!(runs.use_memory(), 2 + usize::from(with_callback), "run and callback are seen");
                assert_eq!(waiter.join().unwrap(), Ok(true));
                ender.join().unwrap();
                assert_eq!(runs.phase.status(), Status::Ready);
            });
        }
    }

    #[test]
    fn an_error_is_told_once_and_holds_the_next_run_back_until_then() {
        for (with_callback, period) in [(false, FOREVER), (true, FOREVER), (false, Duration::ZERO)] {
            crate::check(3, move || {
                let runs = Runs::begun(with_callback);
                let ender = spawn(&runs, |runs| runs.end(Some("fault")));
                let waiter = spawn(&runs, move |runs| runs.phase.wait(period));
                let own = runs.phase.wait(FOREVER);
                let other = waiter.join().unwrap();
                ender.join().unwrap();
                assert!(period < FOREVER || other != Ok(false), "a wait without limit sees the end");
                let told = [own, other].into_iter().filter(Result::is_err).count();
                assert_eq!((told, runs.phase.status()), (1, Status::Fault));
                assert_eq!(runs.phase.begin(), Ok(()));
            });
        }
        crate::check(3, || {
            let runs = Runs::begun(false);
            let ender = spawn(&runs, |runs| runs.end(Some("fault")));
            assert!(runs.phase.begin().is_err(), "it runs, or its error was told to nobody");
            ender.join().unwrap();
            assert_eq!(runs.phase.begin(), Err(NotBegun::Unreported));
            assert_eq!(runs.phase.wait(FOREVER), Err("fault"));
        });
    }

    #[test]
    fn one_runs_at_a_time() {
        crate::check(3, || {
            let runs = Arc::new(Runs::default());
            let run = |runs: &Arc<Runs>| {
                let begun = runs.phase.begin();
                if begun.is_ok() {
                    runs.use_memory();
                    runs.end(None);
                }
                begun
            };
            let other = spawn(&runs, run);
            let begun = [run(&runs), other.join().unwrap()];
            assert!(begun.contains(&Ok(())) && !begun.contains(&Err(NotBegun::Unreported)));
            assert_eq!(runs.phase.wait(FOREVER), Ok(true));
            assert_eq!(runs.use_memory(), 1 + begun.iter().filter(|begun| begun.is_ok()).count());
        });
    }

    #[test]
    fn a_wish_ends_what_runs_and_not_what_comes_later() {
        crate::check(3, || {
            let runs = Runs::begun(false);
            let canceller = spawn(&runs, |runs| {
                runs.phase.cancel();
                let was_running = runs.phase.status() == Status::Running;
                assert!(!was_running || runs.phase.cancellation().is_cancelled());
                runs.phase.wait(FOREVER)
            });
            let ender = spawn(&runs, |runs| {
                let is_cancelled = runs.phase.cancellation().is_cancelled();
                runs.end(is_cancelled.then_some("cancelled"));
                is_cancelled
            });
            let told = canceller.join().unwrap();
            assert_eq!(told.is_err(), ender.join().unwrap());
            runs.phase.cancel();
            assert_eq!(runs.phase.begin(), Ok(()));
            assert!(!runs.phase.cancellation().is_cancelled(), "the wish was for the last one, or for none");
        });
    }

    #[test]
    fn every_end_is_reported_to_one_callback_or_quiet() {
        for is_replaced in [false, true] {
            crate::check(3, move || {
                let runs = Runs::begun(is_replaced);
                let setter = spawn(&runs, |runs| {
                    runs.phase.set_callback(Some(runs.counting()));
                    runs.phase.status() == Status::Running
                });
                let ender = spawn(&runs, |runs| match runs.phase.end_quietly(Ok(())) {
                    Ok(()) => true,
                    Err(result) => {
                        runs.end(result.err());
                        false
                    }
                });
                assert_eq!(runs.phase.wait(FOREVER), Ok(true));
                let was_running = setter.join().unwrap();
                let is_quiet = ender.join().unwrap();
                assert!(!is_quiet || !(is_replaced || was_running), "a callback was set before the end");
                assert_eq!(runs.calls(), usize::from(!is_quiet));
            });
        }
    }

    #[test]
    fn a_callback_may_begin_the_next_run_which_is_waited_for_too() {
        crate::check(2, || {
            let runs = Arc::new(Runs::default());
            let weak = Arc::downgrade(&runs);
            runs.phase.set_callback(Some(Arc::new(move |_| {
                let runs = weak.upgrade().unwrap();
                if runs.calls.fetch_add(1, Ordering::Relaxed) > 0 {
                    return;
                }
                assert_eq!(runs.phase.wait(FOREVER), Ok(true), "what is being reported has ended");
                assert_eq!(runs.phase.begin(), Ok(()));
                spawn(&runs, |runs| {
                    runs.use_memory();
                    runs.end(None);
                });
            })));
            assert_eq!(runs.phase.begin(), Ok(()));
            let ender = spawn(&runs, |runs| runs.end(None));
            assert_eq!(runs.phase.wait(FOREVER), Ok(true));
            assert_eq!((runs.use_memory(), runs.calls()), (2, 2));
            ender.join().unwrap();
        });
    }

    /// What a callback may own: something that uses the phase when it is dropped.
    struct Owned(std::sync::Weak<Runs>);

    impl Drop for Owned {
        fn drop(&mut self) {
            if let Some(runs) = self.0.upgrade() {
                runs.phase.status();
            }
        }
    }

    #[test]
    fn callbacks_are_dropped_without_the_lock_and_a_run_outlives_its_handles() {
        crate::check(3, || {
            let runs = Runs::begun(false);
            let owned = Owned(Arc::downgrade(&runs));
            runs.phase.set_callback(Some(Arc::new(move |_| assert!(owned.0.strong_count() > 0))));
            let ender = spawn(&runs, |runs| runs.end(None));
            let setter = spawn(&runs, |runs| runs.phase.set_callback(None));
            drop(runs);
            ender.join().unwrap();
            setter.join().unwrap();
        });
    }
}
