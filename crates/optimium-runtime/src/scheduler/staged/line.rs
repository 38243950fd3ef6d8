//! Who is where: inferences in front of the stages, in the order in which they came.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use optimium_device::Cancellation;
use optimium_tensor::{Error, ErrorKind, Result};

use super::frame::Frame;
use super::pass::{Pass, Ticket};
use crate::scheduler::stopped;

/// How long a stage looks out for its next inference before it sleeps: about what waking it would take.
const LINGER: Duration = Duration::from_micros(50);

/// The queues of a model's stages. One lock guards them all: nobody holds it for longer than a move takes.
pub(super) struct Line {
    state: Mutex<State>,
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

struct State {
    /// In front of the first stage.
    waiting: VecDeque<Ticket>,
    /// In front of each of the others.
    handed: Vec<VecDeque<Pass>>,
    /// Those that no pass has.
    frames: Vec<Frame>,
    /// Of every pass.
    under_way: Vec<Arc<Cancellation>>,
    /// For each stage whether its thread sleeps.
    asleep: Vec<bool>,
    is_stopped: bool,
}

/// The right to add one inference to a line that has room for it.
pub(super) struct Admission<'a> {
    line: &'a Line,
    state: MutexGuard<'a, State>,
}

impl Line {
    /// A line in front of so many `stages`, with room for `capacity` inferences that have not begun.
    pub(super) fn new(stages: usize, capacity: usize) -> Line {
        // One inference in each stage, and one in front of each but the first: a stage that is a little faster than the next
        // goes on working.
        let frames = 2 * stages - 1;
        let state = State {
            waiting: VecDeque::new(),
            handed: (1..stages).map(|_| VecDeque::new()).collect(),
            frames: (0..frames).map(|_| Frame::default()).collect(),
            under_way: Vec::new(),
            asleep: vec![false; stages],
            is_stopped: false,
        };
        Line { state: Mutex::new(state), signals: (0..stages).map(|_| Signal::default()).collect(), capacity }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for room for one more inference.
    ///
    /// # Errors
    /// [`InvalidState`](ErrorKind::InvalidState) for a line that was stopped; [`OutOfResource`](ErrorKind::OutOfResource) for one
    /// that is full.
    pub(super) fn admit(&self) -> Result<Admission<'_>> {
        let state = self.lock();
        if state.is_stopped {
            return Err(stopped());
        }
        if state.waiting.len() >= self.capacity {
            return Err(Error::new(
                ErrorKind::OutOfResource,
                format!(
                    "the queue of the model is full: {} inferences wait for their turn; wait for one of them to end, or load \
                     the model with a larger queue_capacity",
                    self.capacity
                ),
            ));
        }
        Ok(Admission { line: self, state })
    }

    /// Adds an inference of a series that is in the line already, whether there is room or not.
    ///
    /// # Errors
    /// It comes back where the line was stopped.
    pub(super) fn enqueue_again(&self, ticket: Ticket) -> Result<(), Ticket> {
        let state = self.lock();
        if state.is_stopped {
            return Err(ticket);
        }
        Admission { line: self, state }.enqueue(ticket);
        Ok(())
    }

    /// The next inference for `stage`, and since when the stage has waited for it. `None` where there will be none.
    pub(super) fn next(&self, stage: usize) -> Option<(Pass, Instant)> {
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
                state = signal.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
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

    /// Hands `pass` to `stage`.
    pub(super) fn hand_over(&self, stage: usize, pass: Pass) {
        let mut state = self.lock();
        state.handed[stage - 1].push_back(pass);
        self.tell(state, stage);
    }

    /// A pass has ended: its frame is free.
    pub(super) fn finish(&self, frame: Frame, cancellation: &Arc<Cancellation>) {
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

    /// Takes the inferences of a request out that are cancelled and have not begun.
    pub(super) fn withdraw(&self, request: u64) -> Vec<Ticket> {
        let mut state = self.lock();
        let is_wanted =
            |ticket: &Ticket| ticket.series.request == request && ticket.series.cancellation.is_cancelled();
        let mut withdrawn = Vec::new();
        while let Some(place) = state.waiting.iter().position(is_wanted) {
            withdrawn.extend(state.waiting.remove(place));
        }
        withdrawn
    }

    /// Lets nothing begin any more, cancels what has begun, and gives back what has not.
    pub(super) fn stop(&self) -> VecDeque<Ticket> {
        let mut state = self.lock();
        state.is_stopped = true;
        state.under_way.iter().for_each(|cancellation| cancellation.cancel());
        let waiting = std::mem::take(&mut state.waiting);
        self.tell_all(state);
        waiting
    }

    /// Looks at the frames that no pass has.
    pub(super) fn with_free_frames<T>(&self, look: impl FnOnce(&[Frame]) -> T) -> T {
        look(&self.lock().frames)
    }

    /// Tells `stage` that there is something to do. A notification that nobody hears would be a system call for nothing.
    fn tell(&self, mut state: MutexGuard<'_, State>, stage: usize) {
        let signal = &self.signals[stage];
        signal.news.fetch_add(1, Ordering::Relaxed);
        let is_asleep = std::mem::take(&mut state.asleep[stage]);
        drop(state);
        if is_asleep {
            signal.changed.notify_one();
        }
    }

    fn tell_all(&self, state: MutexGuard<'_, State>) {
        drop(state);
        for signal in &self.signals {
            signal.news.fetch_add(1, Ordering::Relaxed);
            signal.changed.notify_all();
        }
    }
}

impl Admission<'_> {
    /// Adds `ticket` at the end of the line.
    pub(super) fn enqueue(mut self, ticket: Ticket) {
        self.state.waiting.push_back(ticket);
        if !self.state.frames.is_empty() {
            self.line.tell(self.state, 0);
        }
    }
}

impl State {
    fn take(&mut self, stage: usize) -> Option<Pass> {
        if let Some(index) = stage.checked_sub(1) {
            return self.handed[index].pop_front();
        }
        let frame = self.frames.pop()?;
        match self.waiting.pop_front() {
            Some(ticket) => {
                self.under_way.push(ticket.series.cancellation.clone());
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
        while self.news.load(Ordering::Relaxed) == seen && start.elapsed() < LINGER {
            thread::yield_now();
        }
    }
}
