//! Where inferences wait for a thread.

mod simple;

pub(crate) use simple::{Scheduler, is_worker};
