//! How workers that outlive a call borrow what the call has on its stack.

use crate::primitives::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use crate::primitives::wait_until;

/// What a call lends to the workers of a team.
type Work<'a> = &'a (dyn Fn(usize) + Sync + 'a);

/// A place where a call lends a closure to threads that live longer than it.
#[derive(Debug, Default)]
pub struct Lending {
    lent: AtomicPtr<Work<'static>>,
    /// Threads that have, or are about to look at, what is lent.
    borrowers: AtomicUsize,
}

impl Lending {
    /// Lends `work` for as long as `during` takes, and returns when nobody has it any more. One call at a time may lend.
    pub fn lend(&self, work: &(dyn Fn(usize) + Sync), during: impl FnOnce()) {
        let work: Work = work;
        let _return = Return(self);
        self.lent.store(std::ptr::from_ref(&work).cast::<Work<'static>>().cast_mut(), Ordering::Release);
        during();
    }

    /// Calls what is lent with `index`; false where nothing is.
    pub fn call(&self, index: usize) -> bool {
        let _borrower = Borrower::new(&self.borrowers);
        let work = self.lent.load(Ordering::Acquire);
        // SAFETY: where it is not null, its lender has not taken it back, or takes it back now. Lender and borrowers all change the
        // count, one after the other: a borrower who was counted before the lender came is waited for; one who is counted after it
        // sees what the lender did before, and finds nothing.
        let Some(work) = (unsafe { work.as_ref() }) else { return false };
        work(index);
        true
    }
}

/// Takes back what was lent.
struct Return<'a>(&'a Lending);

impl Drop for Return<'_> {
    fn drop(&mut self) {
        let Lending { lent, borrowers } = self.0;
        lent.store(std::ptr::null_mut(), Ordering::Relaxed);
        // An addition of nothing has a place among the additions of the borrowers, which a load would not have.
        if borrowers.fetch_add(0, Ordering::AcqRel) > 0 {
            wait_until(|| borrowers.load(Ordering::Acquire) == 0);
        }
    }
}

/// One who is counted while it lives.
struct Borrower<'a>(&'a AtomicUsize);

impl<'a> Borrower<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Borrower(count)
    }
}

impl Drop for Borrower<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(all(test, loom))]
mod models {
    use loom::cell::UnsafeCell;
    use loom::thread;
    use std::sync::Arc;

    use super::*;

    /// What a call has on its stack: the checker fails a model where it is changed while somebody may still use it.
    #[derive(Default)]
    struct OnStack(UnsafeCell<usize>);

    // SAFETY: the checker compares all uses.
    unsafe impl Sync for OnStack {}

    impl OnStack {
        fn look(&self) -> usize {
            // SAFETY: the checker compares all uses.
            self.0.with(|value| unsafe { *value })
        }

        fn end(&self) {
            // SAFETY: the checker compares all uses.
            self.0.with_mut(|value| unsafe { *value = usize::MAX });
        }
    }

    #[test]
    fn nobody_uses_what_was_taken_back() {
        crate::check(3, || {
            let lending = Arc::new(Lending::default());
            let borrowers = [0, 1].map(|index| {
                let lending = lending.clone();
                thread::spawn(move || lending.call(index))
            });
            let on_stack = OnStack::default();
            lending.lend(&|_| assert_eq!(on_stack.look(), 0), || ());
            on_stack.end();
            borrowers.into_iter().for_each(|borrower| _ = borrower.join().unwrap());
            assert!(!lending.call(2), "nothing is lent");
        });
    }

    #[test]
    fn a_borrower_gets_the_first_or_the_second_loan_or_nothing() {
        crate::check(3, || {
            let lending = Arc::new(Lending::default());
            let borrower = {
                let lending = lending.clone();
                thread::spawn(move || (0..2).for_each(|index| _ = lending.call(index)))
            };
            for _ in 0..2 {
                let on_stack = OnStack::default();
                lending.lend(&|_| assert_eq!(on_stack.look(), 0), || ());
                on_stack.end();
            }
            borrower.join().unwrap();
        });
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn nobody_calls_what_was_taken_back() {
        let (lending, calls) = (Lending::default(), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for index in 0..3 {
                let lending = &lending;
                scope.spawn(move || (0..20_000).filter(|_| lending.call(index)).count());
            }
            for _ in 0..2_000 {
                let on_stack = AtomicUsize::new(0);
                let work = |index| {
                    assert!(index < 3);
                    on_stack.fetch_add(1, Ordering::Relaxed);
                };
                lending.lend(&work, std::thread::yield_now);
                calls.fetch_add(on_stack.into_inner(), Ordering::Relaxed);
            }
        });
        assert!(!lending.call(0), "nothing is lent");
    }

    #[test]
    fn a_panic_takes_back_too() {
        let lending = Lending::default();
        let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            lending.lend(&|_| (), || panic!("during"));
        }));
        assert!(panic.is_err() && !lending.call(0));
    }
}
