//! The workers of one model: a pool that an inference enters once, and the barrier inside.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use optimium_tensor::{Error, ErrorKind, Result};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Spins before a waiting worker offers its core to others: some microseconds.
const SPINS_BEFORE_YIELD: u32 = 10_000;

/// `threads` workers that run one closure together.
pub(crate) struct Team {
    threads: usize,
    pool: Option<Pool>,
    /// One inference at a time: its workers wait for each other, so two must not share them.
    turn: Mutex<()>,
}

struct Pool {
    threads: ThreadPool,
    /// Whether the caller is worker 0. With pinned cores it is not: its own core is its own affair.
    caller_works: bool,
}

impl Team {
    /// A team of `threads` workers, pinned to `cores` where given.
    ///
    /// # Errors
    /// [`OutOfResource`](ErrorKind::OutOfResource) where threads cannot be started.
    pub(crate) fn new(threads: usize, cores: Option<&[usize]>) -> Result<Team> {
        let caller_works = cores.is_none();
        let pooled = if caller_works { threads - 1 } else { threads };
        let pool =
            if pooled == 0 { None } else { Some(Pool { threads: start(pooled, cores)?, caller_works }) };
        Ok(Team { threads, pool, turn: Mutex::new(()) })
    }

    /// Number of workers.
    pub(crate) fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `work` on the only worker of a team of one.
    pub(crate) fn run_alone(&self, work: impl FnOnce() + Send) {
        match &self.pool {
            None => work(),
            Some(pool) => pool.threads.install(work),
        }
    }

    /// Calls `work` once for each worker, with its index, all at the same time, and returns when all are done.
    pub(crate) fn run(&self, work: impl Fn(usize) + Sync) {
        let Some(pool) = &self.pool else { return work(0) };
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        pool.threads.in_place_scope(|scope| {
            let first = usize::from(pool.caller_works);
            let work = &work;
            scope.spawn_broadcast(move |_, context| work(context.index() + first));
            if pool.caller_works {
                work(0);
            }
        });
    }
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

/// Where the workers of a team wait for each other.
///
/// Each generation ends when all have arrived. A barrier that was broken lets everyone through, and says so.
pub(crate) struct Barrier {
    workers: usize,
    arrived: AtomicUsize,
    generation: AtomicUsize,
    broken: AtomicBool,
}

impl Barrier {
    pub(crate) fn new(workers: usize) -> Barrier {
        Barrier {
            workers,
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
        }
    }

    /// Waits for the others; false where the barrier is broken.
    pub(crate) fn wait(&self) -> bool {
        if self.workers == 1 {
            return true;
        }
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.workers {
            self.arrived.store(0, Ordering::Relaxed);
            self.generation.fetch_add(1, Ordering::Release);
            return !self.broken.load(Ordering::Acquire);
        }
        let mut spins = 0;
        while self.generation.load(Ordering::Acquire) == generation {
            if self.broken.load(Ordering::Acquire) {
                return false;
            }
            spins += 1;
            if spins < SPINS_BEFORE_YIELD { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        !self.broken.load(Ordering::Acquire)
    }

    /// Lets everyone through from now on: a worker died.
    pub(crate) fn break_open(&self) {
        self.broken.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_sees_what_the_others_did_before_the_barrier() {
        for threads in 1..5 {
            let team = Team::new(threads, None).unwrap();
            for _ in 0..50 {
                let barrier = Barrier::new(threads);
                let counts: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
                team.run(|worker| {
                    for round in 1..20 {
                        counts[worker].store(round, Ordering::Relaxed);
                        assert!(barrier.wait());
                        assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) >= round));
                        assert!(barrier.wait());
                    }
                });
            }
        }
    }

    #[test]
    fn a_broken_barrier_holds_nobody() {
        let team = Team::new(2, None).unwrap();
        let barrier = Barrier::new(2);
        team.run(|worker| if worker == 0 { barrier.break_open() } else { assert!(!barrier.wait()) });
    }

    #[test]
    fn pinned_teams_run_every_worker() {
        let team = Team::new(2, Some(&[0, 0])).unwrap();
        let count = AtomicUsize::new(0);
        team.run(|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
