//! A part of a model, with the one execution state that all requests share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use optimium_device::{DeviceId, Executable, ExecutionState, Observer, RunDetails};
use optimium_tensor::{Access, Error, ErrorKind, Result, Tensor};

use super::frame::{Crossing, Held};
use super::pass::Pass;
use crate::intermediates;
use crate::partition::{Destination, Source};
use crate::profile::EventRecorder;

/// A part of a model.
pub(crate) struct Stage {
    pub(crate) executable: Arc<dyn Executable>,
    pub(crate) device: DeviceId,
    /// The core that its thread is pinned to, where its thread does all the work.
    pub(crate) core: Option<usize>,
    /// The model's number of its first operation.
    pub(crate) first_operation: usize,
    /// The model's number of its first worker.
    pub(crate) first_worker: usize,
    pub(crate) inputs: Vec<Source>,
    pub(crate) outputs: Vec<Destination>,
    pub(crate) shared: Mutex<SharedState>,
}

/// What inferences leave behind for the next one.
#[derive(Default)]
pub(crate) struct SharedState {
    /// Made by the first inference.
    state: Option<Box<dyn ExecutionState>>,
    /// The number of the request whose tensors it holds.
    owner: Option<u64>,
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, SharedState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does its part of `pass`. Where it `saves`, the pass gets copies of the intermediate tensors.
    ///
    /// # Errors
    /// Those of [`ExecutionState::run`].
    pub(super) fn run(&self, pass: &mut Pass, crossings: &[Crossing], saves: bool) -> Result<()> {
        let cancellation = pass.series.cancellation.clone();
        if cancellation.is_cancelled() {
            return Err(cancelled());
        }
        let (inputs, outputs) = self.tensors(pass);
        let held = self.hold(pass)?;
        let mut shared = self.lock();
        shared.owner = None;
        // It is put back only after a run that returns: a panic may leave it in any condition.
        let mut state = match shared.state.take() {
            Some(state) => state,
            None => self.executable.clone().create_state()?,
        };
        let renumbered = pass.recorder().map(|recorder| Renumbered { stage: self, recorder });
        let observer = renumbered.as_ref().map(|renumbered| renumbered as &dyn Observer);
        let result = state.run_observed(&inputs, &outputs, &cancellation, observer);
        drop(held);
        let result = result.and_then(|()| {
            shared.owner = Some(pass.series.request);
            if saves { self.save(&*state, pass, crossings) } else { Ok(()) }
        });
        shared.state = Some(state);
        result
    }

    /// What it reads and writes, in the order of its graph.
    fn tensors(&self, pass: &Pass) -> (Vec<Tensor>, Vec<Tensor>) {
        let (series, frame) = (&pass.series, &pass.frame);
        let inputs = self.inputs.iter().map(|source| match *source {
            Source::Input(index) => series.inputs[index].clone(),
            Source::Crossing(index) => frame.tensor(index).clone(),
        });
        let outputs = self.outputs.iter().map(|destination| match *destination {
            Destination::Output(index) => series.outputs[index].clone(),
            Destination::Crossing(index) => frame.tensor(index).clone(),
        });
        (inputs.collect(), outputs.collect())
    }

    /// Takes the tensors of the frame for its use; the caller's are taken for the whole inference.
    fn hold(&self, pass: &Pass) -> Result<Held> {
        let mut held = Held::default();
        for source in &self.inputs {
            if let Source::Crossing(index) = *source {
                held.add(pass.frame.tensor(index), Access::Read)?;
            }
        }
        for destination in &self.outputs {
            if let Destination::Crossing(index) = *destination {
                held.add(pass.frame.tensor(index), Access::Write)?;
            }
        }
        Ok(held)
    }

    fn save(&self, state: &dyn ExecutionState, pass: &mut Pass, crossings: &[Crossing]) -> Result<()> {
        for tensor in intermediates::of(state) {
            pass.saved.push(tensor?);
        }
        for destination in &self.outputs {
            if let Destination::Crossing(index) = *destination {
                let copy = pass.frame.tensor(index).to_owned_copy()?;
                pass.saved.push((crossings[index].name.clone(), copy));
            }
        }
        Ok(())
    }

    /// Looks at the state that the last inference of `request` left.
    ///
    /// # Errors
    /// [`InvalidOperation`](ErrorKind::InvalidOperation) where another request has used it since, or uses it now.
    pub(super) fn look<T>(
        &self,
        request: u64,
        look: impl FnOnce(&dyn ExecutionState) -> Result<T>,
    ) -> Result<T> {
        let shared = match self.shared.try_lock() {
            Ok(shared) => shared,
            Err(TryLockError::Poisoned(shared)) => shared.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(taken_over()),
        };
        match &shared.state {
            Some(state) if shared.owner == Some(request) => look(&**state),
            Some(_) => Err(taken_over()),
            None => Err(Error::new(ErrorKind::InvalidOperation, "no inference has finished yet")),
        }
    }

    /// What its part of the last inference of `request` consisted of; `None` where the platform does not tell.
    ///
    /// # Errors
    /// As [`look`](Stage::look).
    pub(super) fn details(&self, request: u64) -> Result<Option<RunDetails>> {
        self.look(request, |state| Ok(state.details()))
    }
}

/// Records the events of a stage under the numbers that operations and workers have in the whole model.
struct Renumbered<'a> {
    stage: &'a Stage,
    recorder: &'a EventRecorder,
}

impl Observer for Renumbered<'_> {
    fn step(&self, worker: usize, operation: usize, start: Instant, end: Instant) {
        let Stage { first_worker, first_operation, .. } = self.stage;
        self.recorder.step(worker + first_worker, operation + first_operation, start, end);
    }
}

/// The error of an inference that ends because its caller wishes it.
pub(super) fn cancelled() -> Error {
    Error::new(ErrorKind::InferCanceled, "the inference was cancelled")
}

/// The error of a look at what is not there any more.
pub(super) fn taken_over() -> Error {
    Error::new(
        ErrorKind::InvalidOperation,
        "another request has used the memory since, which all requests of the model share; read tensors before others run, \
         or load the model with the SIMPLE scheduler",
    )
}
