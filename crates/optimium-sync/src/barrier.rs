//! Where the workers of a team wait for each other.

use crate::primitives::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::primitives::wait_until;

/// Where the workers of a team wait for each other: each counts the points that it has reached, and looks at the others' counts.
#[derive(Debug)]
pub struct Barrier {
    reached: Vec<OwnLine>,
    broken: AtomicBool,
}

/// A counter on cache lines that nothing else is on: processors fetch them in pairs.
#[derive(Debug)]
#[repr(align(128))]
struct OwnLine(AtomicUsize);

impl Barrier {
    /// A barrier for so many `workers`.
    pub fn new(workers: usize) -> Barrier {
        Barrier {
            reached: (0..workers).map(|_| OwnLine(AtomicUsize::new(0))).collect(),
            broken: AtomicBool::new(false),
        }
    }

    /// As new, while nobody uses it.
    pub fn reset(&self) {
        self.reached.iter().for_each(|count| count.0.store(0, Ordering::Relaxed));
        self.broken.store(false, Ordering::Relaxed);
    }

    /// Worker `index` at the start. Each has to be there once, or somebody has to [break the barrier open](Barrier::break_open).
    pub fn worker(&self, index: usize) -> Worker<'_> {
        Worker { index, epoch: 0, barrier: self }
    }

    /// Lets everyone through from now on, and tells them.
    pub fn break_open(&self) {
        self.broken.store(true, Ordering::Release);
    }

    #[inline]
    fn wait_for(&self, worker: usize, epoch: usize) -> bool {
        let reached = &self.reached[worker].0;
        wait_until(|| reached.load(Ordering::Acquire) >= epoch || self.broken.load(Ordering::Acquire));
        !self.broken.load(Ordering::Acquire)
    }
}

/// One worker on its way from point to point. All workers of a team have to reach the same points, in the same order.
#[derive(Debug)]
pub struct Worker<'a> {
    index: usize,
    epoch: usize,
    barrier: &'a Barrier,
}

impl Worker<'_> {
    /// Which one it is.
    #[inline]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Tells the others that it has reached the next point.
    #[inline]
    pub fn arrive(&mut self) {
        self.epoch += 1;
        self.barrier.reached[self.index].0.store(self.epoch, Ordering::Release);
    }

    /// Waits for all to reach the point where this one is; false where the others must not be waited for any more.
    #[inline]
    pub fn wait_for_all(&self) -> bool {
        (0..self.barrier.reached.len()).all(|other| self.barrier.wait_for(other, self.epoch))
    }

    /// Waits for worker 0 to reach the point where this one is, as [`wait_for_all`](Worker::wait_for_all).
    #[inline]
    pub fn wait_for_first(&self) -> bool {
        self.barrier.wait_for(0, self.epoch)
    }

    /// Lets everyone through from now on, and tells them: this one stops here.
    pub fn give_up(&self) {
        self.barrier.break_open();
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::sync::Arc;

    use super::*;

    /// What workers write and read between the points, of which the checker knows who saw what.
    struct Parts {
        barrier: Barrier,
        parts: [UnsafeCell<usize>; 3],
    }

    // SAFETY: the checker compares all uses.
    unsafe impl Sync for Parts {}

    impl Parts {
        fn of(workers: usize) -> Arc<Parts> {
            Arc::new(Parts { barrier: Barrier::new(workers), parts: Default::default() })
        }

        fn write(&self, index: usize, value: usize) {
            // SAFETY: others look at it only after a point that this worker has not reached yet.
            self.parts[index].with_mut(|part| unsafe { *part = value });
        }

        fn read(&self, index: usize) -> usize {
            // SAFETY: its writer has passed the point before this.
            self.parts[index].with(|part| unsafe { *part })
        }
    }

    /// Calls `work` for each worker of `workers`, the last on this thread.
    fn team(workers: usize, work: impl Fn(&Parts, &mut Worker) + Copy + Send + Sync + 'static) {
        let shared = Parts::of(workers);
        let others: Vec<_> = (1..workers)
            .map(|index| {
                let shared = shared.clone();
                thread::spawn(move || work(&shared, &mut shared.barrier.worker(index)))
            })
            .collect();
        work(&shared, &mut shared.barrier.worker(0));
        others.into_iter().for_each(|other| other.join().unwrap());
    }

    #[test]
    fn nobody_passes_before_all_are_there() {
        crate::check(3, || {
            team(2, |shared, worker| {
                for round in 1..3 {
                    shared.write(worker.index(), round);
                    worker.arrive();
                    assert!(worker.wait_for_all());
                    assert!((0..2).all(|index| shared.read(index) == round));
                    worker.arrive();
                    assert!(worker.wait_for_all());
                }
            });
        });
    }

    #[test]
    fn the_first_works_alone_between_two_points() {
        crate::check(3, || {
            team(2, |shared, worker| {
                if worker.index() > 0 {
                    shared.write(1, 3);
                }
                worker.arrive();
                if worker.index() == 0 {
                    assert!(worker.wait_for_all());
                    shared.write(0, shared.read(1));
                }
                worker.arrive();
                if worker.index() > 0 {
                    assert!(worker.wait_for_first());
                }
                assert_eq!(shared.read(0), 3);
            });
        });
    }

    // Several who wait have the checker run in circles: here only one of three does.
    #[test]
    fn the_first_sees_what_several_did() {
        crate::check(3, || {
            team(3, |shared, worker| {
                shared.write(worker.index(), 1);
                worker.arrive();
                if worker.index() == 0 {
                    assert!(worker.wait_for_all());
                    assert!((0..3).all(|index| shared.read(index) == 1));
                }
            });
        });
    }

    #[test]
    fn one_who_gives_up_holds_nobody() {
        crate::check(3, || {
            team(2, |_, worker| match worker.index() {
                0 => worker.give_up(),
                _ => {
                    worker.arrive();
                    assert!(!worker.wait_for_all());
                }
            });
        });
    }
}
