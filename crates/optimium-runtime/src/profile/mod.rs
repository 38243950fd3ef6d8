//! What inferences did, and when.
//!
//! [`InferRequest::profile`](crate::InferRequest::profile) repeats one inference and records [`Event`]s: begin and end of
//! the model, of every layer on every worker, of the time in the queue. The data flow: `measure` runs the repetitions; workers
//! write into an [`EventRecorder`], which never waits; [`Durations`] pairs begins with ends. A plain inference has no part
//! of this.

mod durations;
mod event;
mod measure;
mod options;
mod recorder;
mod repetitions;

pub use durations::Durations;
pub use event::{Activity, Event, EventKind, Transfer};
pub use options::{DEFAULT_EVENT_BUFFER_SIZE, ProfileOptions};
pub use recorder::{EventRecorder, Subject};

pub(crate) use measure::Measurement;
pub use measure::ProfileProgress;
pub(crate) use repetitions::{Repetition, Repetitions};
