//! The workers of one model: a pool that an inference enters once, and the barriers inside.
//!
//! Waking a thread that sleeps takes as long as a small inference. Workers therefore *linger* after an inference: they look out
//! for the next one for a while before they go back to the pool and sleep. Only the team that ran last may do that, so that
//! the teams of several models do not take the cores from each other.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub(crate) use optimium_sync::Worker;
use optimium_sync::{Barrier, Lending, RollCall};
use optimium_tensor::{Error, ErrorKind, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// How long workers look out for the next inference: several times what waking them would take, and less than the time
/// between the frames of a video, which they sleep through.
const LINGER: Duration = Duration::from_micros(500);

/// The team that ran last, by its number.
static LAST_TEAM: AtomicUsize = AtomicUsize::new(0);

/// Workers that run one closure together.
pub(crate) struct Team {
    workers: usize,
    pool: Option<Pool>,
    /// One inference at a time: its workers wait for each other, so two must not share them.
    turn: Mutex<()>,
}

struct Pool {
    threads: ThreadPool,
    /// Whether the caller is worker 0. With pinned cores it is not: its own core is its own affair.
    caller_works: bool,
    shared: Arc<Shared>,
}

/// What the workers of the pool see of each other and of the caller.
struct Shared {
    /// Which team this is, from 1 on.
    number: usize,
    work: Lending,
    calls: RollCall,
    barrier: Barrier,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Team {
    /// A team with that many `threads`, pinned to `cores` where given. Without them, those that are more than the cores for
    /// this process take no part: they would only be in the others' way.
    ///
    /// # Errors
    /// [`OutOfResource`](ErrorKind::OutOfResource) where threads cannot be started.
    pub(crate) fn new(threads: usize, cores: Option<&[usize]>) -> Result<Team> {
        let available = thread::available_parallelism().map_or(1, usize::from);
        Team::of(if cores.is_some() { threads } else { threads.min(available) }, threads, cores)
    }

    /// A team of the first `workers` of `threads`.
    fn of(workers: usize, threads: usize, cores: Option<&[usize]>) -> Result<Team> {
        let caller_works = cores.is_none();
        let pooled = |count: usize| if caller_works { count - 1 } else { count };
        let pool = if pooled(threads) == 0 {
            None
        } else {
            let shared = Arc::new(Shared::new(pooled(workers), workers));
            Some(Pool { threads: start(pooled(threads), cores)?, caller_works, shared })
        };
        Ok(Team { workers, pool, turn: Mutex::new(()) })
    }

    /// Number of workers.
    pub(crate) fn threads(&self) -> usize {
        self.workers
    }

    /// Calls `work` on one worker.
    pub(crate) fn run_alone(&self, work: impl FnOnce() + Send) {
        match &self.pool {
            Some(pool) if !pool.caller_works => {
                // Workers that linger are in the way.
                LAST_TEAM.store(0, Ordering::Relaxed);
                pool.threads.install(work);
            }
            _ => work(),
        }
    }

    /// Calls `work` once for each worker, all at the same time, and returns when all are done.
    pub(crate) fn run(&self, work: impl Fn(Worker) + Sync) {
        let Some(pool) = &self.pool else {
            return work(Barrier::new(1).worker(0));
        };
        let _turn = lock(&self.turn);
        let shared = &pool.shared;
        shared.barrier.reset();
        let work = |index: usize| work(shared.barrier.worker(index));
        shared.work.lend(&work, || {
            pool.call_workers();
            let own = pool.caller_works.then(|| catch_unwind(AssertUnwindSafe(|| work(0))));
            if let Some(Err(_)) = own {
                shared.barrier.break_open();
            }
            pool.wait_for_workers();
            if let Some(Err(panic)) = own {
                resume_unwind(panic);
            }
        });
        if let Some(panic) = lock(&shared.panic).take() {
            resume_unwind(panic);
        }
    }
}

impl Pool {
    /// Tells those who linger that there is something to do, and calls back those who are away.
    fn call_workers(&self) {
        LAST_TEAM.store(self.shared.number, Ordering::Relaxed);
        let first = usize::from(self.caller_works);
        let fetch = |index, seen| {
            let shared = self.shared.clone();
            self.threads.spawn(move || shared.serve(index, first, seen));
        };
        if self.caller_works {
            self.shared.calls.call(fetch);
        } else {
            self.shared.calls.call_and_wake_me(fetch);
        }
    }

    fn wait_for_workers(&self) {
        if self.caller_works {
            self.shared.calls.wait();
        } else {
            // The cores are the workers' alone.
            self.shared.calls.sleep();
        }
    }
}

impl Shared {
    fn new(pooled: usize, workers: usize) -> Shared {
        static TEAMS: AtomicUsize = AtomicUsize::new(1);
        Shared {
            number: TEAMS.fetch_add(1, Ordering::Relaxed),
            work: Lending::default(),
            calls: RollCall::new(pooled),
            barrier: Barrier::new(workers),
            panic: Mutex::new(None),
        }
    }

    /// The inferences of worker `index` of the pool, whose number in the team is `first` more, until none comes for a while.
    /// It has done all up to number `seen`.
    fn serve(&self, index: usize, first: usize, seen: usize) {
        let since = Cell::new(Instant::now());
        let lingers = |times| {
            if times == 0 {
                since.set(Instant::now());
            }
            LAST_TEAM.load(Ordering::Relaxed) == self.number && since.get().elapsed() <= LINGER
        };
        self.calls.serve(index, seen, lingers, || self.work_once(index + first));
    }

    fn work_once(&self, worker: usize) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.work.call(worker))) {
            *lock(&self.panic) = Some(panic);
            self.barrier.break_open();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(threads: usize, cores: Option<&[usize]>) -> Result<ThreadPool> {
    let cores: Option<Vec<usize>> = cores.map(<[usize]>::to_vec);
    ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("optimium-worker-{index}"))
        .start_handler(move |index| {
            if let Some(&id) = cores.as_ref().and_then(|cores| cores.get(index))
                && !core_affinity::set_for_current(core_affinity::CoreId { id })
            {
                tracing::warn!(core = id, "a worker could not be pinned to its core");
            }
        })
        .build()
        .map_err(|error| {
            Error::new(ErrorKind::OutOfResource, format!("{threads} worker threads could not be started"))
                .with_cause(error)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pauses(round: usize) {
        // Longer than workers linger, now and then.
        if round.is_multiple_of(40) {
            thread::sleep(2 * LINGER);
        }
    }

    #[test]
    fn every_worker_sees_what_the_others_did_before_the_barrier() {
        for threads in 1..6 {
            let team = Team::of(threads, threads, None).unwrap();
            for round in 0..200 {
                let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                team.run(|mut worker| {
                    for round in 1..20 {
                        counts[worker.index()].store(round, Ordering::Relaxed);
                        worker.arrive();
                        assert!(worker.wait_for_all());
                        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) >= round));
                        worker.arrive();
                        assert!(worker.wait_for_all());
                    }
                });
                pauses(round);
            }
        }
    }

    #[test]
    fn work_alternates_between_all_and_the_first() {
        let team = Team::of(3, 5, None).unwrap();
        let (sum, parts) = (AtomicUsize::new(0), [const { AtomicUsize::new(0) }; 3]);
        for round in 0..200 {
            team.run(|mut worker| {
                for step in 0..10 {
                    parts[worker.index()].store(step + round, Ordering::Relaxed);
                    worker.arrive();
                    if worker.index() == 0 {
                        assert!(worker.wait_for_all());
                        sum.store(
                            parts.iter().map(|part| part.load(Ordering::Relaxed)).sum(),
                            Ordering::Relaxed,
                        );
                    }
                    worker.arrive();
                    if worker.index() != 0 {
                        assert!(worker.wait_for_first());
                    }
                    assert_eq!(sum.load(Ordering::Relaxed), 3 * (step + round));
                    worker.arrive();
                    assert!(worker.wait_for_all());
                }
            });
        }
    }

    #[test]
    fn one_who_gives_up_holds_nobody() {
        let team = Team::of(2, 2, None).unwrap();
        for _ in 0..100 {
            team.run(|mut worker| match worker.index() {
                0 => worker.give_up(),
                _ => {
                    worker.arrive();
                    assert!(!worker.wait_for_all());
                }
            });
        }
    }

    #[test]
    fn a_panic_of_any_worker_reaches_the_caller() {
        let team = Team::of(3, 5, None).unwrap();
        for culprit in 0..3 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                team.run(|mut worker| {
                    assert_ne!(worker.index(), culprit);
                    worker.arrive();
                    worker.wait_for_all();
                });
            }));
            assert!(outcome.is_err());
            let count = AtomicUsize::new(0);
            team.run(|_| _ = count.fetch_add(1, Ordering::Relaxed));
            assert_eq!(count.into_inner(), 3);
        }
    }

    #[test]
    fn pinned_teams_run_every_worker() {
        let team = Team::new(2, Some(&[0, 0])).unwrap();
        for round in 0..100 {
            let count = AtomicUsize::new(0);
            team.run(|_| _ = count.fetch_add(1, Ordering::Relaxed));
            assert_eq!(count.load(Ordering::Relaxed), 2);
            team.run_alone(|| _ = count.fetch_add(1, Ordering::Relaxed));
            assert_eq!(count.into_inner(), 3);
            pauses(round);
        }
    }

    #[test]
    fn teams_and_callers_take_turns() {
        let teams: Vec<Team> = (2..5).map(|threads| Team::of(threads, threads, None).unwrap()).collect();
        thread::scope(|scope| {
            for caller in 0..4 {
                let teams = &teams;
                scope.spawn(move || {
                    for round in 0..300 {
                        let team = &teams[(caller + round) % teams.len()];
                        let count = AtomicUsize::new(0);
                        team.run(|mut worker| {
                            count.fetch_add(1, Ordering::Relaxed);
                            worker.arrive();
                            assert!(worker.wait_for_all());
                            assert_eq!(count.load(Ordering::Relaxed), team.threads());
                        });
                        pauses(round + 1);
                    }
                });
            }
        });
    }
}
