//! Readers and writers of memory.

use crate::primitives::sync::atomic::{AtomicIsize, Ordering};

/// How many read something now, or that one writes it. Nobody waits: who comes at the wrong time is refused.
#[derive(Debug, Default)]
pub struct Users(
    /// Number of readers, or -1 while somebody writes.
    AtomicIsize,
);

/// Why a use is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InUse {
    /// Somebody reads.
    Read,
    /// Somebody writes.
    Written,
}

impl Users {
    /// Nobody yet.
    pub fn new() -> Users {
        Users::default()
    }

    /// One more reader, until [`end_read`](Users::end_read).
    ///
    /// # Errors
    /// [`InUse::Written`] while somebody writes.
    #[inline]
    pub fn begin_read(&self) -> Result<(), InUse> {
        let more = |readers: isize| (readers >= 0).then_some(readers + 1);
        match self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, more) {
            Ok(_) => Ok(()),
            Err(_) => Err(InUse::Written),
        }
    }

    /// The only user, until [`end_write`](Users::end_write).
    ///
    /// # Errors
    /// [`InUse`] while anybody reads or writes.
    #[inline]
    pub fn begin_write(&self) -> Result<(), InUse> {
        match self.0.compare_exchange(0, -1, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(()),
            Err(users) => Err(if users < 0 { InUse::Written } else { InUse::Read }),
        }
    }

    /// One reader less.
    #[inline]
    pub fn end_read(&self) {
        self.0.fetch_sub(1, Ordering::Release);
    }

    /// The writer is gone.
    #[inline]
    pub fn end_write(&self) {
        self.0.store(0, Ordering::Release);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::sync::Arc;

    use super::*;

    /// Memory whose uses the checker compares: two that exclude each other at the same time, or in no order, fail the model.
    #[derive(Default)]
    struct Guarded {
        users: Users,
        memory: UnsafeCell<usize>,
    }

    // SAFETY: the checker compares all uses.
    unsafe impl Sync for Guarded {}

    impl Guarded {
        fn write(&self) -> bool {
            let is_free = self.users.begin_write().is_ok();
            if is_free {
                // SAFETY: this is the only user.
                self.memory.with_mut(|memory| unsafe { *memory += 1 });
                self.users.end_write();
            }
            is_free
        }

        fn read(&self) -> Option<usize> {
            self.users.begin_read().ok()?;
            // SAFETY: nobody writes.
            let seen = self.memory.with(|memory| unsafe { *memory });
            self.users.end_read();
            Some(seen)
        }
    }

    #[test]
    fn a_writer_is_alone_and_readers_see_all_of_what_was_written() {
        crate::check(3, || {
            let shared = Arc::new(Guarded::default());
            let writers = [(); 2].map(|()| {
                let shared = shared.clone();
                thread::spawn(move || shared.write())
            });
            let seen = shared.read();
            let written =
                writers.map(|writer| writer.join().unwrap()).into_iter().filter(|&done| done).count();
            assert!(seen.is_none_or(|seen| seen <= written));
            assert_eq!(shared.read(), Some(written), "nobody uses it any more, and no write is lost");
        });
    }

    #[test]
    fn readers_do_not_refuse_each_other() {
        crate::check(3, || {
            let shared = Arc::new(Guarded::default());
            let reader = {
                let shared = shared.clone();
                thread::spawn(move || shared.read())
            };
            assert_eq!(shared.read(), Some(0));
            assert_eq!(reader.join().unwrap(), Some(0));
            assert!(shared.write(), "the last reader lets writers in");
        });
    }
}
