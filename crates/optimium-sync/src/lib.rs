//! The hand-made synchronization of the runtime, with nothing of inferences in it, so that it can be checked alone.
//!
//! | type | what it is for |
//! |---|---|
//! | [`Barrier`], [`Worker`] | the workers of a team wait for each other between two steps of a plan |
//! | [`RollCall`] | a team that lingers is called together for the next inference |
//! | [`Lending`] | workers that outlive a call borrow what it has on its stack |
//! | [`Cancellation`] | a wish that an inference end early |
//! | [`WorkQueue`] | threads that run inferences, and callers who take theirs back |
//! | [`Line`] | inferences in front of the stages of a model |
//! | [`EventBuffer`] | events of any number of writers who never wait |
//! | [`Phase`] | what is begun, ends on any thread, and is waited for, called back and cancelled |
//! | [`Users`] | readers and writers of a buffer are kept apart, without waiting |
//!
//! Each file ends with *models*: with `--cfg loom` the primitives of the standard library are replaced by those of
//! [loom](https://docs.rs/loom), which runs a model in every order that its threads can take, up to a bound, and with every value
//! that a relaxed load may see. `make loom` runs them. A model states one property: what no order may break.

mod barrier;
mod cancellation;
mod event_buffer;
mod lending;
mod line;
mod phase;
mod primitives;
mod roll_call;
mod users;
mod work_queue;

pub use barrier::{Barrier, Worker};
pub use cancellation::Cancellation;
pub use event_buffer::{EventBuffer, Words};
pub use lending::Lending;
pub use line::{Admission, Line, NotAdmitted, Ticket};
pub use phase::{NotBegun, Phase, Reporting, Status};
pub use roll_call::RollCall;
pub use users::{InUse, Users};
pub use work_queue::{Job, NotQueued, WorkQueue};

/// Runs `model` in every order in which a thread is interrupted up to `preemptions` times where it could go on.
#[cfg(all(test, loom))]
fn check(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    // Threads that wait in a hurry look often.
    builder.max_branches = 10_000;
    builder.check(model);
}
