//! Threads that run jobs, first come, first served, and the queue in front of them.
//!
//! A caller who waits for a job that no worker has begun can take it back and run it on its own thread, which saves handing it
//! over and back.
//!
//! Waking a thread costs more than a small job takes. A job that its caller is expected to wait for at once is therefore
//! *reserved* for the caller: nobody is woken for it. A worker that naps in the meantime takes it where the caller does something
//! else instead, after two naps at most. Workers nap only while such jobs come in; then they sleep until they are woken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::Cancellation;
use crate::primitives::sync::{Condvar, Mutex, MutexGuard};
use crate::primitives::thread::{self, JoinHandle};
use crate::primitives::{lock, wait_at_most};

/// The first nap: long against a wake-up, which it saves.
const SHORTEST_NAP: Duration = Duration::from_micros(500);

/// Naps grow up to this while callers do wait, because the end of a nap takes a core from those who compute. It is short against
/// what a person notices, which it may cost once when a caller changes its ways.
const LONGEST_NAP: Duration = Duration::from_millis(4);

/// Naps during which a reserved job is left to its caller.
const RESERVED_NAPS: u8 = 2;

/// What workers do. It is ended once: by [`execute`](Job::execute) or by [`refuse`](Job::refuse).
pub trait Job: Send + 'static {
    /// What is called first on every thread of the workers.
    fn on_thread_start() {}

    /// The wish that it end early.
    fn cancellation(&self) -> Arc<Cancellation>;

    /// A worker has it, because its caller did something else than waiting.
    fn note_not_awaited(&self) {}

    /// Does it. It does not panic.
    fn execute(self);

    /// Ends it undone: the workers have been stopped.
    fn refuse(self);
}

/// Why a job is not queued.
#[derive(Debug)]
pub enum NotQueued {
    /// The workers have been stopped.
    Stopped,
    /// No thread can be started.
    NoThread(std::io::Error),
}

/// Threads that run jobs, and the queue in front of them. Threads start with the first jobs and sleep while there is nothing
/// to do.
pub struct WorkQueue<J>(Arc<Shared<J>>);

struct Shared<J> {
    state: Mutex<State<J>>,
    work: Condvar,
    max_workers: usize,
}

struct State<J> {
    queue: VecDeque<Queued<J>>,
    running: Vec<Arc<Cancellation>>,
    workers: Vec<JoinHandle<()>>,
    /// Workers that sleep or nap.
    idle: usize,
    /// Whether a worker naps, or is about to.
    napping: bool,
    /// Whether jobs were reserved since the last nap began.
    reserving: bool,
    /// How long the next nap is.
    nap: Duration,
    stopped: bool,
}

struct Queued<J> {
    job: J,
    /// Naps during which it is left to its caller.
    reserved: u8,
}

impl<J> State<J> {
    fn has_reserved(&self) -> bool {
        self.queue.iter().any(|queued| queued.reserved > 0)
    }

    /// The first job that is not left to its caller.
    fn next(&mut self) -> Option<J> {
        let position = self.queue.iter().position(|queued| queued.reserved == 0)?;
        self.queue.remove(position).map(|queued| queued.job)
    }
}

impl<J: Job> WorkQueue<J> {
    /// Up to `max_workers` threads, which run a job each.
    pub fn new(max_workers: usize) -> WorkQueue<J> {
        let state = State {
            queue: VecDeque::new(),
            running: Vec::new(),
            workers: Vec::new(),
            idle: 0,
            napping: false,
            reserving: false,
            nap: SHORTEST_NAP,
            stopped: false,
        };
        WorkQueue(Arc::new(Shared {
            state: Mutex::new(state),
            work: Condvar::new(),
            max_workers: max_workers.max(1),
        }))
    }

    /// Queues `job`. Where it `is_awaited`, its caller is expected to [take it back](WorkQueue::take_back) at once.
    ///
    /// # Errors
    /// `job` comes back where it cannot run any more.
    pub fn submit(&self, job: J, is_awaited: bool) -> Result<(), (J, NotQueued)> {
        let mut state = self.0.lock();
        if state.stopped {
            return Err((job, NotQueued::Stopped));
        }
        // A caller that begins several jobs wants them to run side by side: one is left to it.
        let reserve = is_awaited && !state.has_reserved();
        if reserve && state.napping {
            state.reserving = true;
            state.queue.push_back(Queued { job, reserved: RESERVED_NAPS });
            return Ok(());
        }
        if let Err(error) = self.0.ensure_worker(&mut state) {
            return Err((job, NotQueued::NoThread(error)));
        }
        state.reserving |= reserve;
        state.queue.push_back(Queued { job, reserved: if reserve { RESERVED_NAPS } else { 0 } });
        self.0.notify(state);
        Ok(())
    }

    /// Takes a job back out of the queue, where it is still there.
    pub fn take_back(&self, is_wanted: impl Fn(&J) -> bool) -> Option<J> {
        let mut state = self.0.lock();
        let position = state.queue.iter().position(|queued| is_wanted(&queued.job))?;
        state.queue.remove(position).map(|queued| queued.job)
    }

    /// Ends the reservation of a job for its caller, where it is still there.
    pub fn hand_over(&self, is_wanted: impl Fn(&J) -> bool) {
        let mut state = self.0.lock();
        let reserved = state.queue.iter_mut().find(|queued| queued.reserved > 0 && is_wanted(&queued.job));
        if let Some(queued) = reserved {
            queued.reserved = 0;
            self.0.notify(state);
        }
    }

    /// Refuses what is queued, cancels what runs, and waits for the workers, unless it is one of them that calls.
    pub fn stop(&self) {
        let mut state = self.0.lock();
        state.stopped = true;
        let queued = std::mem::take(&mut state.queue);
        let workers = std::mem::take(&mut state.workers);
        state.running.iter().for_each(|cancellation| cancellation.cancel());
        drop(state);
        self.0.work.notify_all();
        for queued in queued {
            queued.job.refuse();
        }
        for worker in workers {
            if worker.thread().id() != thread::current().id() {
                // A job does not panic; there is nothing to learn from a worker's end.
                let _ = worker.join();
            }
        }
    }

    /// How many jobs it runs at once, at most.
    pub fn max_workers(&self) -> usize {
        self.0.max_workers
    }
}

impl<J: Job> Shared<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        lock(&self.state)
    }

    /// Makes sure that there is a worker for one more job, or that all are busy.
    fn ensure_worker(self: &Arc<Self>, state: &mut State<J>) -> std::io::Result<()> {
        if state.idle > state.queue.len() || state.workers.len() >= self.max_workers {
            return Ok(());
        }
        let shared = self.clone();
        let name = format!("optimium-{}", state.workers.len());
        match thread::Builder::new().name(name).spawn(move || shared.work()) {
            Ok(worker) => state.workers.push(worker),
            Err(cause) if state.workers.is_empty() => return Err(cause),
            Err(_) => {}
        }
        Ok(())
    }

    /// Wakes an idle worker, where there is one. A notification that nobody hears would be a system call for nothing.
    fn notify(&self, state: MutexGuard<'_, State<J>>) {
        let is_heard = state.idle > 0;
        drop(state);
        if is_heard {
            self.work.notify_one();
        }
    }

    /// The life of a worker.
    fn work(self: &Arc<Self>) {
        J::on_thread_start();
        let mut state = self.lock();
        loop {
            if let Some(job) = state.next() {
                self.run(job, state);
                state = self.lock();
            } else if state.stopped {
                return;
            } else if !state.napping && (state.reserving || state.has_reserved()) {
                state = self.nap(state);
            } else {
                state.idle += 1;
                state = self.work.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                state.idle -= 1;
            }
        }
    }

    fn run(self: &Arc<Self>, job: J, mut state: MutexGuard<'_, State<J>>) {
        job.note_not_awaited();
        let cancellation = job.cancellation();
        state.running.push(cancellation.clone());
        if state.queue.is_empty() {
            drop(state);
        } else {
            // Somebody has to look after the others while this worker is busy; without a thread they wait for it.
            let _ = self.ensure_worker(&mut state);
            self.notify(state);
        }
        job.execute();
        self.lock().running.retain(|other| !Arc::ptr_eq(other, &cancellation));
    }

    /// Sleeps for a while, or until there is something to do, and shortens the reservations of what is still there.
    fn nap<'a>(&'a self, mut state: MutexGuard<'a, State<J>>) -> MutexGuard<'a, State<J>> {
        (state.napping, state.reserving) = (true, false);
        state.idle += 1;
        let period = state.nap;
        let mut state = wait_at_most(&self.work, state, &self.state, period);
        state.idle -= 1;
        state.napping = false;
        state.nap = if state.has_reserved() { SHORTEST_NAP } else { LONGEST_NAP.min(2 * period) };
        state.queue.iter_mut().for_each(|queued| queued.reserved = queued.reserved.saturating_sub(1));
        state
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;

    /// How jobs ended, and who waits for that.
    #[derive(Default)]
    struct Ends {
        ends: Mutex<Vec<(usize, End)>>,
        changed: Condvar,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum End {
        Executed { was_cancelled: bool },
        Refused,
    }

    /// A job that notes its end.
    struct Noted {
        number: usize,
        cancellation: Arc<Cancellation>,
        ends: Arc<Ends>,
    }

    impl Noted {
        fn end(self, end: End) {
            lock(&self.ends.ends).push((self.number, end));
            self.ends.changed.notify_all();
        }
    }

    impl Job for Noted {
        fn cancellation(&self) -> Arc<Cancellation> {
            self.cancellation.clone()
        }
        fn execute(self) {
            let was_cancelled = self.cancellation.is_cancelled();
            self.end(End::Executed { was_cancelled });
        }
        fn refuse(self) {
            self.end(End::Refused);
        }
    }

    impl Ends {
        fn job(self: &Arc<Self>, number: usize) -> Noted {
            Noted { number, cancellation: Arc::default(), ends: self.clone() }
        }

        /// Waits until so many jobs have ended: a job that nobody does blocks the model, which the checker notices.
        fn wait_for(&self, count: usize) {
            let mut ends = lock(&self.ends);
            while ends.len() < count {
                ends = self.changed.wait(ends).unwrap();
            }
        }

        /// The ends in the order of the jobs' numbers, each of which is there once.
        fn of(&self, jobs: usize) -> Vec<End> {
            let mut ends = lock(&self.ends).clone();
            ends.sort_by_key(|&(number, _)| number);
            assert!(ends.iter().map(|&(number, _)| number).eq(0..jobs), "each ends once: {ends:?}");
            ends.into_iter().map(|(_, end)| end).collect()
        }
    }

    #[test]
    fn every_job_is_done_by_someone() {
        for (workers, is_awaited) in
            [(1, [false, false]), (2, [false, false]), (1, [true, false]), (2, [true, true])]
        {
            crate::check(2, move || {
                let (queue, ends) = (WorkQueue::new(workers), Arc::new(Ends::default()));
                for (number, is_awaited) in is_awaited.into_iter().enumerate() {
                    assert!(queue.submit(ends.job(number), is_awaited).is_ok());
                }
                ends.wait_for(2);
                queue.stop();
                assert_eq!(ends.of(2), [End::Executed { was_cancelled: false }; 2]);
            });
        }
    }

    #[test]
    fn a_job_that_follows_another_is_not_overlooked() {
        for is_awaited in [[true, true], [true, false], [false, true]] {
            crate::check(2, move || {
                let (queue, ends) = (WorkQueue::new(1), Arc::new(Ends::default()));
                for (number, is_awaited) in is_awaited.into_iter().enumerate() {
                    assert!(queue.submit(ends.job(number), is_awaited).is_ok());
                    ends.wait_for(number + 1);
                }
                queue.stop();
                assert_eq!(ends.of(2), [End::Executed { was_cancelled: false }; 2]);
            });
        }
    }

    #[test]
    fn a_job_is_taken_back_or_done_by_a_worker() {
        for is_handed_over in [false, true] {
            crate::check(2, move || {
                let (queue, ends) = (WorkQueue::new(1), Arc::new(Ends::default()));
                for number in 0..2 {
                    assert!(queue.submit(ends.job(number), true).is_ok());
                    let is_mine = |job: &Noted| job.number == number;
                    if is_handed_over {
                        queue.hand_over(is_mine);
                    } else if let Some(job) = queue.take_back(is_mine) {
                        job.execute();
                    }
                    ends.wait_for(number + 1);
                }
                queue.stop();
                assert_eq!(ends.of(2), [End::Executed { was_cancelled: false }; 2]);
            });
        }
    }

    #[test]
    fn stopping_ends_every_job_and_refuses_what_comes_later() {
        crate::check(2, || {
            let (queue, ends) = (Arc::new(WorkQueue::new(1)), Arc::new(Ends::default()));
            let submitter = {
                let (queue, ends) = (queue.clone(), ends.clone());
                thread::spawn(move || {
                    for number in 0..2 {
                        if let Err((job, why)) = queue.submit(ends.job(number), number == 0) {
                            assert!(matches!(why, NotQueued::Stopped));
                            job.refuse();
                        }
                    }
                })
            };
            queue.stop();
            submitter.join().unwrap();
            queue.stop();
            ends.of(2);
        });
    }

    #[test]
    fn what_runs_when_the_workers_stop_is_cancelled_before_its_end_or_not_at_all() {
        crate::check(3, || {
            let (queue, ends) = (WorkQueue::new(1), Arc::new(Ends::default()));
            let job = ends.job(0);
            let cancellation = job.cancellation.clone();
            assert!(queue.submit(job, false).is_ok());
            queue.stop();
            match ends.of(1)[0] {
                End::Refused => assert!(!cancellation.is_cancelled(), "what has not begun is not cancelled"),
                End::Executed { was_cancelled } => assert!(cancellation.is_cancelled() || !was_cancelled),
            }
        });
    }
}
