//! Outputs that an inference makes because nobody can know their sizes before.

use std::sync::{Mutex, PoisonError};

use optimium_device::{Cancellation, ExecutionState, Observer};
use optimium_tensor::{Error, Result, Tensor};

use super::Tensors;
use crate::info::TensorInfo;
use crate::model;

/// For each output whether the inference makes it.
pub(super) type Made = Vec<bool>;

/// The outputs in the order of the model, with empty tensors for those that are left out; which these are, where there are some. Only
/// outputs may be left out whose sizes data decide, as `is_open` says.
///
/// # Errors
/// As [`model::sort_by_name`].
pub(super) fn in_order(
    infos: &[TensorInfo],
    is_open: &[bool],
    given: Tensors<'_>,
) -> Result<(Vec<Tensor>, Option<Made>)> {
    let mut named = match given {
        Tensors::Ordered(tensors) if !tensors.is_empty() => {
            model::check_count("output", infos.len(), tensors.len())?;
            return Ok((tensors, None));
        }
        Tensors::Ordered(_) => Vec::new(),
        Tensors::Named(named) => named,
    };
    let is_left_out = |info: &TensorInfo| !named.iter().any(|(name, _)| *name == info.name);
    let made: Made = infos.iter().zip(is_open).map(|(info, &is_open)| is_open && is_left_out(info)).collect();
    for (info, _) in infos.iter().zip(&made).filter(|(_, made)| **made) {
        named.push((&info.name, Tensor::zeros(info.element_type, &vec![0; info.shape.rank()])?));
    }
    let tensors = model::sort_by_name("output", infos, named)?;
    Ok((tensors, made.contains(&true).then_some(made)))
}

/// A state that runs with some outputs left out, and keeps what it makes of them.
pub(super) struct Making<'a> {
    pub(super) state: &'a mut dyn ExecutionState,
    pub(super) made: &'a [bool],
    pub(super) results: Vec<Tensor>,
}

impl ExecutionState for Making<'_> {
    fn run_observed(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<()> {
        let outputs: Vec<Option<Tensor>> =
            outputs.iter().zip(self.made).map(|(output, &made)| (!made).then(|| output.clone())).collect();
        self.results = Vec::new();
        self.results = self.state.run_open(inputs, &outputs, cancellation, observer)?;
        Ok(())
    }

    fn intermediate_names(&self) -> Vec<String> {
        self.state.intermediate_names()
    }

    fn intermediate(&self, name: &str) -> Result<Tensor> {
        self.state.intermediate(name)
    }
}

/// What the last inference made, by the place among the outputs.
#[derive(Default)]
pub(super) struct MadeTensors(Mutex<Vec<Option<Tensor>>>);

impl MadeTensors {
    /// Keeps those of `results` that were made.
    pub(super) fn hold(&self, results: Vec<Tensor>, made: &[bool]) {
        let kept = results.into_iter().zip(made).map(|(result, &made)| made.then_some(result)).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// Forgets what there is.
    pub(super) fn clear(&self) {
        let before = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(before);
    }

    /// The output at that place, where it was made.
    pub(super) fn tensor(&self, place: usize) -> Option<Tensor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(place).cloned().flatten()
    }
}

/// The error where a scheduler cannot make outputs.
pub(super) fn refusal(infos: &[TensorInfo], made: &[bool]) -> Error {
    let names: Vec<&str> =
        infos.iter().zip(made).filter(|(_, made)| **made).map(|(info, _)| info.name.as_str()).collect();
    Error::invalid_argument(format!(
        "the outputs {names:?} are missing; only the SIMPLE scheduler makes outputs whose sizes data decide"
    ))
}
