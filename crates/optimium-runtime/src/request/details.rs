//! What can be asked about the inferences of a request, besides their results.

use std::sync::PoisonError;

use optimium_device::RunDetails;
use optimium_tensor::{Error, ErrorKind, Result};

use super::{InferRequest, InferStatus};
use crate::profile::ProfileProgress;
use crate::scheduler::Scheduler;

impl InferRequest {
    /// What the last inference consisted of: the work of each operation for the shapes that it had, and the plan of its memory.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) while the request runs, and before it has run;
    /// [`NotImplemented`](ErrorKind::NotImplemented) where the platform does not tell.
    pub fn run_details(&self) -> Result<RunDetails> {
        let refuse = |why: &str| Err(Error::new(ErrorKind::InvalidOperation, why));
        if self.status() == InferStatus::Running {
            return refuse("the request is running; wait for it first");
        }
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let details = match (&self.0.model.0.scheduler, &*state) {
            (Scheduler::Simple(_), Some(state)) => state.details(),
            (Scheduler::Staged(staged), _) if self.status() == InferStatus::Ready => {
                staged.details(self.0.number)?
            }
            _ => return refuse("the request has not run yet"),
        };
        details
            .ok_or_else(|| Error::not_implemented("the platform does not tell what an inference consists of"))
    }

    /// How far the last profile is: to be asked while it runs. `None` where there was none.
    pub fn profile_progress(&self) -> Option<ProfileProgress> {
        let profile = self.0.profile.lock().unwrap_or_else(PoisonError::into_inner);
        profile.as_ref().map(|profile| profile.progress())
    }

    /// Says so where events of the last profile found no room.
    pub(super) fn warn_of_lost_events(&self) {
        if let Some(message) = self.lost_events() {
            tracing::warn!("{message}");
        }
    }

    /// What there is to say about events of the last profile that found no room; `None` where all did.
    pub fn lost_events(&self) -> Option<String> {
        let profile = self.0.profile.lock().unwrap_or_else(PoisonError::into_inner);
        let recorder = &profile.as_ref()?.recorder;
        let lost = Some(recorder.lost()).filter(|&lost| lost > 0)?;
        Some(format!(
            "{lost} events of the profile of {:?} found no room and are lost; an event_buffer_size of {} has room for all",
            self.model().name(),
            recorder.needed_bytes(),
        ))
    }
}
