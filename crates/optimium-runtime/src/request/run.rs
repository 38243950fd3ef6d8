//! An inference on its way through the scheduler.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use optimium_device::Cancellation;
use optimium_tensor::{Error, Result, Tensor};

use super::made::Made;
use super::{Completion, Inner};
use crate::lease::Lease;
use crate::profile::Measurement;

/// An inference that was checked and begun.
pub(crate) struct Run {
    request: Arc<Inner>,
    /// Its tensors; none once the inference has ended.
    lease: Option<Lease>,
    /// What is to be measured, where the inference is profiled.
    measurement: Option<Arc<Measurement>>,
    then: Option<Completion>,
    /// Which outputs it makes, where it makes some.
    made: Option<Made>,
    /// How it ended, where all that is left to do is to tell.
    ended: Option<Result<()>>,
}

impl Run {
    /// One of `request`, which has begun.
    pub(super) fn new(
        request: Arc<Inner>,
        lease: Lease,
        measurement: Option<Arc<Measurement>>,
        then: Option<Completion>,
    ) -> Run {
        Run { request, lease: Some(lease), measurement, then, made: None, ended: None }
    }

    /// The outputs that it makes itself.
    #[must_use]
    pub(super) fn making(mut self, made: Option<Made>) -> Run {
        self.made = made;
        self
    }

    /// Whether it is one of `request`.
    pub(super) fn is_of(&self, request: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.request, request)
    }

    /// Notes that a worker has it, because its caller did something else than waiting.
    pub(crate) fn note_not_awaited(&self) {
        self.request.is_awaited.store(false, Ordering::Relaxed);
    }

    /// The wish to end it early.
    pub(crate) fn cancellation(&self) -> Arc<Cancellation> {
        self.request.phase.cancellation().clone()
    }

    /// The number of its request.
    pub(crate) fn request_number(&self) -> u64 {
        self.request.number
    }

    /// Inputs and outputs; none once it has ended.
    pub(crate) fn tensors(&self) -> (&[Tensor], &[Tensor]) {
        self.lease.as_ref().map_or((&[], &[]), Lease::tensors)
    }

    /// What is to be measured, where the inference is profiled.
    pub(crate) fn measurement(&self) -> Option<&Arc<Measurement>> {
        self.measurement.as_ref()
    }

    /// Does what is left of it on this thread, the callback included.
    pub(crate) fn execute(mut self) {
        let result = self.compute();
        self.finish(result);
    }

    /// As [`execute`](Run::execute), on the thread of the caller who waits for it. The result is how it ended, where nobody else is
    /// to be told.
    pub(super) fn execute_for_caller(mut self) -> Option<Result<()>> {
        let result = self.compute();
        if self.then.is_some() || self.request.model.0.keeps_intermediates {
            self.finish(result);
            return None;
        }
        let tensors = self.lease.take().map(Lease::end);
        match self.request.phase.end_for_caller(result) {
            // What is dropped here comes last: releasing foreign memory may run anything.
            Ok(result) => {
                drop(tensors);
                Some(result)
            }
            Err(result) => {
                tensors.into_iter().for_each(|tensors| self.request.last.hold(tensors));
                self.finish(result);
                None
            }
        }
    }

    /// Computes it, where that is left to be done, and notes how long it took.
    fn compute(&mut self) -> Result<()> {
        if let Some(result) = self.ended.take() {
            self.log(&result);
            return result;
        }
        let start = Instant::now();
        let tensors = self.tensors();
        let run = || self.request.run(tensors, self.made.as_ref(), self.measurement.as_deref());
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(internal_error(&*panic)));
        if self.measurement.is_none() {
            let duration = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.request.last_duration.store(duration, Ordering::Relaxed);
        }
        self.log(&result);
        result
    }

    /// Ends it without having run.
    pub(crate) fn fail(mut self, error: Error) {
        let result = self.ended.take().unwrap_or(Err(error));
        self.log(&result);
        self.finish(result);
    }

    fn log(&self, result: &Result<()>) {
        if let Err(error) = result {
            tracing::info!("an inference of {:?} failed: {error}", self.request.model.name());
        }
    }

    /// Ends it here where nobody is to be called. Otherwise it comes back, and [`execute`](Run::execute) calls them.
    pub(crate) fn end(mut self, result: Result<()>) -> Option<Run> {
        self.release();
        let result = match self.then {
            None => self.request.phase.end_quietly(result).err()?,
            Some(_) => result,
        };
        self.ended = Some(result);
        Some(self)
    }

    /// Gives its tensors back.
    fn release(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.request.last.hold(lease.end());
        }
    }

    fn finish(mut self, result: Result<()>) {
        self.release();
        let Run { request, then, .. } = self;
        request.phase.end(result.err());
        if let Some(then) = then
            && catch_unwind(AssertUnwindSafe(then)).is_err()
        {
            tracing::error!("what was to follow an inference panicked");
        }
    }
}

/// The error of a panic, which is a defect of the runtime.
pub(crate) fn internal_error(panic: &(dyn std::any::Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    Error::infer(format!("internal error, please report it: {text}"))
}
