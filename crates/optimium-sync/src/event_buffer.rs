//! The buffer that the events of profiles are written to.

use std::collections::TryReserveError;

use crate::primitives::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// What an event is stored as. The first word of an event is not zero.
pub type Words = [u64; 3];

/// A buffer of events for any number of writers, who never wait: each pair of events gets slots of its own by one atomic
/// addition. When the slots are used up, further pairs are counted and lost.
#[derive(Debug)]
pub struct EventBuffer {
    slots: Box<[Slot]>,
    /// Slots that were asked for, which may be more than there are.
    taken: AtomicUsize,
}

/// One event. Its first word is written last: as soon as that is not zero, the rest is there.
#[derive(Debug, Default)]
struct Slot([AtomicU64; 3]);

impl EventBuffer {
    /// Bytes that an event takes.
    pub const BYTES_PER_EVENT: usize = size_of::<Words>();

    /// A buffer for so many events.
    ///
    /// # Errors
    /// Where there is not so much memory.
    pub fn new(events: usize) -> Result<EventBuffer, TryReserveError> {
        let mut slots = Vec::new();
        slots.try_reserve_exact(events)?;
        slots.resize_with(events, Slot::default);
        Ok(EventBuffer { slots: slots.into(), taken: AtomicUsize::new(0) })
    }

    /// Keeps what `pair` gives, both or none of it.
    #[inline]
    pub fn push_pair(&self, pair: impl FnOnce() -> [Words; 2]) {
        // Slots are not reused: no order with other memory is needed.
        let first = self.taken.fetch_add(2, Ordering::Relaxed);
        let Some([begin, end]) = self.slots.get(first..).and_then(<[Slot]>::first_chunk) else { return };
        let words = pair();
        begin.publish(words[0]);
        end.publish(words[1]);
    }

    /// The events so far whose writers were done with them, in the order of their slots.
    pub fn events(&self) -> impl Iterator<Item = Words> {
        self.slots.iter().take(self.asked()).filter_map(Slot::read)
    }

    /// Events so far, with those that found no room.
    pub fn asked(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Events that found no room.
    pub fn lost(&self) -> usize {
        // An odd slot at the end holds no pair.
        self.asked().saturating_sub(self.slots.len() & !1)
    }
}

impl Slot {
    #[inline]
    fn publish(&self, [first, second, third]: Words) {
        let Slot(words) = self;
        words[1].store(second, Ordering::Relaxed);
        words[2].store(third, Ordering::Relaxed);
        words[0].store(first, Ordering::Release);
    }

    fn read(&self) -> Option<Words> {
        let Slot(words) = self;
        let first = words[0].load(Ordering::Acquire);
        (first != 0).then(|| [first, words[1].load(Ordering::Relaxed), words[2].load(Ordering::Relaxed)])
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::thread;
    use std::sync::Arc;

    use super::*;

    /// Two events of one writer, whose words all say who wrote them.
    fn pair(number: u64) -> [Words; 2] {
        [[number; 3], [number + 10; 3]]
    }

    #[test]
    fn no_event_is_torn_or_lost_while_there_is_room() {
        crate::check(3, || {
            let buffer = Arc::new(EventBuffer::new(4).unwrap());
            let writers = [1, 2].map(|number| {
                let buffer = buffer.clone();
                thread::spawn(move || buffer.push_pair(|| pair(number)))
            });
            for [a, b, c] in buffer.events() {
                assert!(a == b && b == c, "an event that can be seen is whole");
            }
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            let seen: Vec<u64> = buffer.events().map(|words| words[0]).collect();
            assert!(seen == [1, 11, 2, 12] || seen == [2, 12, 1, 11], "pairs lie together: {seen:?}");
            assert_eq!(buffer.lost(), 0);
        });
    }

    #[test]
    fn what_is_kept_and_what_is_lost_adds_up() {
        crate::check(3, || {
            let buffer = Arc::new(EventBuffer::new(3).unwrap());
            let writers = [1, 2].map(|number| {
                let buffer = buffer.clone();
                thread::spawn(move || buffer.push_pair(|| pair(number)))
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            let seen: Vec<u64> = buffer.events().map(|words| words[0]).collect();
            assert!(seen == [1, 11] || seen == [2, 12], "one pair is kept, whole: {seen:?}");
            assert_eq!(buffer.lost(), 2);
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn events_without_room_are_counted() {
        let buffer = EventBuffer::new(5).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (1..101).for_each(|number| buffer.push_pair(|| [[number; 3]; 2])));
            }
        });
        assert_eq!((buffer.events().count(), buffer.lost()), (4, 796));
    }
}
