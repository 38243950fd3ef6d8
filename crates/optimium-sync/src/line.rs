//! Who is where: inferences in front of the stages of a model, in the order in which they came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::Cancellation;
use crate::primitives::sync::atomic::{AtomicUsize, Ordering};
use crate::primitives::sync::{Condvar, Mutex, MutexGuard};
use crate::primitives::{is_within, lock, thread};

/// How long a stage looks out for its next inference before it sleeps: about what waking it would take.
const LINGER: Duration = Duration::from_micros(50);

/// An inference that waits for the first stage.
pub trait Ticket: Sized {
    /// The memory that an inference has while it is under way.
    type Frame: Default;
    /// An inference that is under way.
    type Pass;

    /// The wish that it end early.
    fn cancellation(&self) -> &Arc<Cancellation>;

    /// It begins, with `frame` for what crosses from stage to stage.
    fn begin(self, frame: Self::Frame) -> Self::Pass;
}

/// Why an inference does not come into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// The line was stopped.
    Stopped,
    /// So many wait already.
    Full(usize),
}

/// The queues of a model's stages. One lock guards them all: nobody holds it for longer than a move takes.
pub struct Line<T: Ticket> {
    state: Mutex<State<T>>,
    /// For each stage.
    signals: Vec<Signal>,
    capacity: usize,
}

/// How a stage learns that there is something to do.
#[derive(Default)]
struct Signal {
    changed: Condvar,
    /// Counts what has come.
    news: AtomicUsize,
}

struct State<T: Ticket> {
    /// In front of the first stage.
    waiting: VecDeque<T>,
    /// In front of each of the others.
    handed: Vec<VecDeque<T::Pass>>,
    /// Those that no pass has.
    frames: Vec<T::Frame>,
    /// Of every pass.
    under_way: Vec<Arc<Cancellation>>,
    /// For each stage whether its thread sleeps.
    asleep: Vec<bool>,
    is_stopped: bool,
}

/// The right to add one inference to a line that has room for it.
pub struct Admission<'a, T: Ticket> {
    line: &'a Line<T>,
    state: MutexGuard<'a, State<T>>,
}

impl<T: Ticket> Line<T> {
    /// A line in front of so many `stages`, at least one, with room for `capacity` inferences that have not begun.
    pub fn new(stages: usize, capacity: usize) -> Line<T> {
        // One inference in each stage, and one in front of each but the first: a stage that is a little faster than the next
        // goes on working.
        let frames = 2 * stages - 1;
        let state = State {
            waiting: VecDeque::new(),
            handed: (1..stages).map(|_| VecDeque::new()).collect(),
            frames: (0..frames).map(|_| T::Frame::default()).collect(),
            under_way: Vec::new(),
            asleep: vec![false; stages],
            is_stopped: false,
        };
        Line { state: Mutex::new(state), signals: (0..stages).map(|_| Signal::default()).collect(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        lock(&self.state)
    }

    /// Asks for room for one more inference.
    ///
    /// # Errors
    /// [`NotAdmitted`] where there is none.
    pub fn admit(&self) -> Result<Admission<'_, T>, NotAdmitted> {
        let state = self.lock();
        if state.is_stopped {
            return Err(NotAdmitted::Stopped);
        }
        if state.waiting.len() >= self.capacity {
            return Err(NotAdmitted::Full(self.capacity));
        }
        Ok(Admission { line: self, state })
    }

    /// Adds an inference of a series that is in the line already, whether there is room or not.
    ///
    /// # Errors
    /// It comes back where the line was stopped.
    pub fn enqueue_again(&self, ticket: T) -> Result<(), T> {
        let state = self.lock();
        if state.is_stopped {
            return Err(ticket);
        }
        Admission { line: self, state }.enqueue(ticket);
        Ok(())
    }

    /// The next inference for `stage`, and since when the stage has waited for it. `None` where there will be none.
    pub fn next(&self, stage: usize) -> Option<(T::Pass, Instant)> {
        let since = Instant::now();
        let signal = &self.signals[stage];
        let mut has_lingered = false;
        let mut state = self.lock();
        loop {
            if let Some(pass) = state.take(stage) {
                return Some((pass, since));
            }
            if state.is_stopped && state.under_way.is_empty() {
                return None;
            }
            if has_lingered {
                state.asleep[stage] = true;
                state = signal.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
                state.asleep[stage] = false;
            } else {
                let seen = signal.news.load(Ordering::Relaxed);
                drop(state);
                signal.look_out(seen);
                has_lingered = true;
                state = self.lock();
            }
        }
    }

    /// Hands `pass` to `stage`, which is not the first.
    pub fn hand_over(&self, stage: usize, pass: T::Pass) {
        let mut state = self.lock();
        state.handed[stage - 1].push_back(pass);
        self.tell(state, stage);
    }

    /// A pass has ended: its frame is free.
    pub fn finish(&self, frame: T::Frame, cancellation: &Arc<Cancellation>) {
        let mut state = self.lock();
        if let Some(place) = state.under_way.iter().position(|other| Arc::ptr_eq(other, cancellation)) {
            state.under_way.swap_remove(place);
        }
        state.frames.push(frame);
        if state.is_stopped {
            self.tell_all(state);
        } else if !state.waiting.is_empty() {
            self.tell(state, 0);
        }
    }

    /// Takes the inferences that `is_wanted` out where they are cancelled and have not begun.
    pub fn withdraw(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut state = self.lock();
        let is_wanted = |ticket: &T| is_wanted(ticket) && ticket.cancellation().is_cancelled();
        let mut withdrawn = Vec::new();
        while let Some(place) = state.waiting.iter().position(is_wanted) {
            withdrawn.extend(state.waiting.remove(place));
        }
        withdrawn
    }

    /// Lets nothing begin any more, cancels what has begun, and gives back what has not.
    pub fn stop(&self) -> VecDeque<T> {
        let mut state = self.lock();
        state.is_stopped = true;
        state.under_way.iter().for_each(|cancellation| cancellation.cancel());
        let waiting = std::mem::take(&mut state.waiting);
        self.tell_all(state);
        waiting
    }

    /// Looks at the frames that no pass has.
    pub fn with_free_frames<R>(&self, look: impl FnOnce(&[T::Frame]) -> R) -> R {
        look(&self.lock().frames)
    }

    /// Tells `stage` that there is something to do. A notification that nobody hears would be a system call for nothing.
    fn tell(&self, mut state: MutexGuard<'_, State<T>>, stage: usize) {
        let signal = &self.signals[stage];
        signal.news.fetch_add(1, Ordering::Relaxed);
        let is_asleep = std::mem::take(&mut state.asleep[stage]);
        drop(state);
        if is_asleep {
            signal.changed.notify_one();
        }
    }

    fn tell_all(&self, state: MutexGuard<'_, State<T>>) {
        drop(state);
        for signal in &self.signals {
            signal.news.fetch_add(1, Ordering::Relaxed);
            signal.changed.notify_all();
        }
    }
}

impl<T: Ticket> Admission<'_, T> {
    /// Adds `ticket` at the end of the line.
    pub fn enqueue(mut self, ticket: T) {
        self.state.waiting.push_back(ticket);
        if !self.state.frames.is_empty() {
            self.line.tell(self.state, 0);
        }
    }
}

impl<T: Ticket> State<T> {
    fn take(&mut self, stage: usize) -> Option<T::Pass> {
        if let Some(index) = stage.checked_sub(1) {
            return self.handed[index].pop_front();
        }
        let frame = self.frames.pop()?;
        match self.waiting.pop_front() {
            Some(ticket) => {
                self.under_way.push(ticket.cancellation().clone());
                Some(ticket.begin(frame))
            }
            None => {
                self.frames.push(frame);
                None
            }
        }
    }
}

impl Signal {
    /// Looks out for news after `seen` for a while.
    fn look_out(&self, seen: usize) {
        let start = Instant::now();
        while self.news.load(Ordering::Relaxed) == seen && is_within(start, LINGER) {
            thread::yield_now();
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::*;

    #[derive(Default)]
    struct Frame;

    /// An inference by its number, and the frame of one that has begun.
    struct Numbered {
        number: usize,
        cancellation: Arc<Cancellation>,
    }

    struct UnderWay {
        number: usize,
        cancellation: Arc<Cancellation>,
        frame: Frame,
    }

    impl Ticket for Numbered {
        type Frame = Frame;
        type Pass = UnderWay;

        fn cancellation(&self) -> &Arc<Cancellation> {
            &self.cancellation
        }
        fn begin(self, frame: Frame) -> UnderWay {
            UnderWay { number: self.number, cancellation: self.cancellation, frame }
        }
    }

    fn ticket(number: usize) -> Numbered {
        Numbered { number, cancellation: Arc::default() }
    }

    /// A line with a thread for each stage.
    struct Stages {
        line: Line<Numbered>,
        count: usize,
        /// The inferences that came through all stages.
        done: Mutex<Vec<usize>>,
        changed: Condvar,
    }

    impl Stages {
        fn start(count: usize, capacity: usize) -> (Arc<Stages>, Vec<thread::JoinHandle<()>>) {
            let (line, done) = (Line::new(count, capacity), Mutex::new(Vec::new()));
            let stages = Arc::new(Stages { line, count, done, changed: Condvar::new() });
            let threads = (0..count).map(|index| {
                let stages = stages.clone();
                thread::spawn(move || stages.work(index))
            });
            let threads = threads.collect();
            (stages, threads)
        }

        fn work(&self, index: usize) {
            while let Some((pass, _)) = self.line.next(index) {
                if index + 1 < self.count {
                    self.line.hand_over(index + 1, pass);
                    continue;
                }
                self.line.finish(pass.frame, &pass.cancellation);
                lock(&self.done).push(pass.number);
                self.changed.notify_all();
            }
        }

        /// Waits until so many have come through: where nobody goes on, the model is blocked, which the checker notices.
        fn wait_for(&self, count: usize) {
            let mut done = lock(&self.done);
            while done.len() < count {
                done = self.changed.wait(done).unwrap();
            }
        }
    }

    fn join(threads: Vec<thread::JoinHandle<()>>) {
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    #[test]
    fn inferences_come_through_all_stages_in_their_order() {
        for (count, inferences, preemptions) in [(1, 3, 2), (2, 2, 2), (2, 4, 2)] {
            crate::check(preemptions, move || {
                let (stages, threads) = Stages::start(count, inferences);
                for number in 0..inferences {
                    stages.line.admit().expect("room").enqueue(ticket(number));
                }
                stages.wait_for(inferences);
                assert!(stages.line.stop().is_empty());
                join(threads);
                assert!(lock(&stages.done).iter().copied().eq(0..inferences));
            });
        }
    }

    #[test]
    fn stopping_gives_back_what_has_not_begun_and_ends_the_rest() {
        for count in [1, 2] {
            crate::check(3, move || {
                let (stages, threads) = Stages::start(count, 2);
                for number in 0..2 {
                    stages.line.admit().expect("room").enqueue(ticket(number));
                }
                let given_back = stages.line.stop().into_iter().map(|ticket| ticket.number);
                let given_back: Vec<usize> = given_back.collect();
                join(threads);
                let all: Vec<usize> = lock(&stages.done).iter().copied().chain(given_back).collect();
                assert_eq!(all, [0, 1], "each ends once");
                assert_eq!(stages.line.admit().err(), Some(NotAdmitted::Stopped));
                assert_eq!(
                    stages.line.with_free_frames(<[Frame]>::len),
                    2 * count - 1,
                    "every frame is back"
                );
            });
        }
    }

    #[test]
    fn a_cancelled_inference_is_withdrawn_or_begins() {
        crate::check(3, || {
            let (stages, threads) = Stages::start(1, 2);
            let first = ticket(0);
            let cancellation = first.cancellation.clone();
            stages.line.admit().expect("room").enqueue(first);
            stages.line.admit().expect("room").enqueue(ticket(1));
            cancellation.cancel();
            let withdrawn = stages.line.withdraw(|_| true);
            assert!(withdrawn.iter().all(|ticket| ticket.number == 0), "the other was not cancelled");
            stages.wait_for(2 - withdrawn.len());
            stages.line.stop();
            join(threads);
            let came_through = lock(&stages.done).clone();
            assert_eq!(came_through, if withdrawn.is_empty() { vec![0, 1] } else { vec![1] });
        });
    }

    #[test]
    fn a_series_goes_on_from_the_stage_or_comes_back() {
        crate::check(3, || {
            let (stages, threads) = Stages::start(1, 1);
            stages.line.admit().expect("room").enqueue(ticket(0));
            let again = {
                let stages = stages.clone();
                thread::spawn(move || stages.line.enqueue_again(ticket(1)).is_ok())
            };
            let given_back = stages.line.stop().len();
            let was_taken = again.join().unwrap();
            join(threads);
            assert_eq!(lock(&stages.done).len() + given_back, if was_taken { 2 } else { 1 });
        });
    }
}
