//! How a team is called together.
//!
//! Waking a thread that sleeps takes as long as a small inference. A worker that has done its part therefore looks out for the
//! next call for a while before it goes *away*, and then somebody has to fetch it.

use crate::primitives::sync::Mutex;
use crate::primitives::sync::atomic::{AtomicUsize, Ordering};
use crate::primitives::thread::{self, Thread};
use crate::primitives::{hint, lock, wait_until};

/// Looks for a call between two questions whether to go on.
const LOOKS: u32 = if cfg!(loom) { 1 } else { 32 };

/// The mark of a worker who is not away.
const PRESENT: usize = usize::MAX;

/// Calls of a team, one at a time, each of which all workers answer once.
#[derive(Debug)]
pub struct RollCall {
    /// Counts calls; a worker that sees a new number has something to do.
    number: AtomicUsize,
    /// Workers that have not answered the call yet.
    busy: AtomicUsize,
    /// For each worker the last call that it had answered when it went away, or [`PRESENT`].
    away: Vec<AtomicUsize>,
    /// Who sleeps until all have answered.
    caller: Mutex<Option<Thread>>,
}

impl RollCall {
    /// For a team of so many `workers`, all of whom are away.
    pub fn new(workers: usize) -> RollCall {
        RollCall {
            number: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            away: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            caller: Mutex::new(None),
        }
    }

    /// Calls all workers. Who is away is to be fetched: `fetch` gets the worker's index and the `seen` of
    /// [`serve`](RollCall::serve). The call before must have been answered.
    pub fn call(&self, mut fetch: impl FnMut(usize, usize)) {
        self.busy.store(self.away.len(), Ordering::Relaxed);
        let seen = self.number.fetch_add(1, Ordering::AcqRel);
        for (index, away) in self.away.iter().enumerate() {
            match away.swap(PRESENT, Ordering::AcqRel) {
                PRESENT => {}
                mark if mark == seen => fetch(index, seen),
                // It was still there, has answered this very call, and has gone away again.
                mark => away.store(mark, Ordering::Release),
            }
        }
    }

    /// As [`call`](RollCall::call), and tells the last who answers to wake this thread from [`sleep`](RollCall::sleep).
    pub fn call_and_wake_me(&self, fetch: impl FnMut(usize, usize)) {
        *lock(&self.caller) = Some(thread::current());
        self.call(fetch);
    }

    /// Waits in a hurry until all have answered.
    pub fn wait(&self) {
        wait_until(|| self.is_answered());
    }

    /// Sleeps until all have answered.
    pub fn sleep(&self) {
        while !self.is_answered() {
            thread::park();
        }
    }

    fn is_answered(&self) -> bool {
        self.busy.load(Ordering::Acquire) == 0
    }

    /// Answers calls as worker `index`, who has answered all up to number `seen`, with `work`, until `lingers` has it go away. That
    /// is asked now and then while no call comes, with the number of times it was asked since the last.
    pub fn serve(&self, index: usize, mut seen: usize, lingers: impl Fn(usize) -> bool, work: impl Fn()) {
        loop {
            if self.await_call(seen, &lingers) {
                seen = seen.wrapping_add(1);
                work();
                self.answer();
                continue;
            }
            // Both this worker and the caller swap the mark: the second of them sees what the first did before. Either this one
            // sees the next call, or the caller sees that it is away; where both happen, the one that takes the mark back decides.
            // The mark says whose it is: by now the one who was fetched instead of this one may be away again.
            let away = &self.away[index];
            away.swap(seen, Ordering::AcqRel);
            let take_back = || away.compare_exchange(seen, PRESENT, Ordering::AcqRel, Ordering::Relaxed);
            if self.number.load(Ordering::Acquire) == seen || take_back().is_err() {
                return;
            }
        }
    }

    /// Looks out for a call after `seen`; whether one came.
    fn await_call(&self, seen: usize, lingers: &impl Fn(usize) -> bool) -> bool {
        for times in 0.. {
            for _ in 0..LOOKS {
                if self.number.load(Ordering::Acquire) != seen {
                    return true;
                }
                hint::spin_loop();
            }
            if !lingers(times) {
                break;
            }
            thread::yield_now();
        }
        false
    }

    fn answer(&self) {
        if self.busy.fetch_sub(1, Ordering::AcqRel) == 1
            && let Some(caller) = &*lock(&self.caller)
        {
            caller.unpark();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread::JoinHandle;
    use std::sync::Arc;

    use super::*;

    /// A team whose workers are fetched by starting a thread.
    struct Team {
        calls: RollCall,
        answers: Vec<AtomicUsize>,
        threads: Mutex<Vec<JoinHandle<()>>>,
    }

    impl Team {
        fn of(workers: usize) -> Arc<Team> {
            Arc::new(Team {
                calls: RollCall::new(workers),
                answers: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
                threads: Mutex::new(Vec::new()),
            })
        }

        /// Looks out for calls for as long as `patience` says.
        fn fetch(self: &Arc<Self>, index: usize, seen: usize, patience: usize) {
            let team = self.clone();
            let work = move || {
                let answer = || _ = team.answers[index].fetch_add(1, Ordering::Relaxed);
                team.calls.serve(index, seen, |times| times < patience, answer);
            };
            lock(&self.threads).push(thread::spawn(work));
        }

        fn end(&self) {
            let threads = std::mem::take(&mut *lock(&self.threads));
            threads.into_iter().for_each(|thread| thread.join().unwrap());
        }

        fn assert_answered(&self, calls: usize) {
            assert!(self.answers.iter().all(|answers| answers.load(Ordering::Relaxed) == calls));
        }
    }

    #[test]
    fn every_worker_answers_every_call_once() {
        for (workers, calls, preemptions) in [(1, 3, 3), (2, 2, 2)] {
            crate::check(preemptions, move || {
                let team = Team::of(workers);
                for call in 1..=calls {
                    team.calls.call(|index, seen| team.fetch(index, seen, 0));
                    team.calls.wait();
                    team.assert_answered(call);
                }
                team.end();
            });
        }
    }

    #[test]
    fn a_caller_who_sleeps_is_woken() {
        crate::check(3, || {
            let team = Team::of(1);
            for call in 1..3 {
                team.calls.call_and_wake_me(|index, seen| team.fetch(index, seen, 1));
                team.calls.sleep();
                team.assert_answered(call);
            }
            team.end();
        });
    }
}
