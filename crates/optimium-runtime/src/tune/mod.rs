//! Tuning: which of the candidates for each layer is the fastest on this machine, measured in the running model.
//!
//! | file | |
//! |---|---|
//! | `inputs` | what the model is run with |
//! | `trial` | the model compiled with some choices, and its times |
//! | `search` | from times to choices |
//! | `stored` | choices in the model folder |
//!
//! A layer's time depends on what ran before it and on what else lies in the caches, so layers are timed in the whole model: it is
//! compiled with the second candidate of every layer, with the third, and so on, and run in turns with the one of the estimate's
//! choices. What was chosen is measured once more, all of it together.

mod inputs;
mod search;
mod stored;
mod trial;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use optimium_device::{Backend, PackedWeights};
use optimium_graph::shapes;
use optimium_native::Native;
use optimium_tensor::{Error, Result};

use crate::lifecycle;
use crate::loading::Progress;
use crate::options::LoadOptions;

pub(crate) use stored::stored_choices;

/// How a model is tuned.
#[derive(Clone, Debug, PartialEq)]
pub struct TuneOptions {
    /// How it will be loaded: choices are made for these threads and this precision.
    pub load: LoadOptions,
    /// The sizes of dynamic dimensions, by symbol. Without, one of a batch, 224 pixels, and 128 of everything else.
    pub sizes: HashMap<String, usize>,
    /// About how long it may take.
    pub time: Duration,
}

impl Default for TuneOptions {
    fn default() -> Self {
        TuneOptions { load: LoadOptions::default(), sizes: HashMap::new(), time: Duration::from_secs(10) }
    }
}

/// What tuning did.
#[derive(Clone, Debug, PartialEq)]
pub struct TuneReport {
    /// The layers that take another kernel than the estimate chose, in the order in which they run.
    pub layers: Vec<TunedLayer>,
    /// Layers that had several candidates.
    pub choices: usize,
    /// Seconds of one inference with the estimate's choices: the fastest of many.
    pub before: f64,
    /// The same with the choices that are stored now.
    pub after: f64,
}

/// A layer that takes another kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct TunedLayer {
    /// The node's name.
    pub name: String,
    /// The operator's name.
    pub operator: String,
    /// The shape of its first output.
    pub shape: Vec<usize>,
    /// The candidate that the estimate chose.
    pub old: String,
    /// The candidate that is taken now.
    pub new: String,
    /// Seconds with the old one: the fastest of many.
    pub before: f64,
    /// Seconds with the new one.
    pub after: f64,
}

/// Measures the candidates for the layers of the model in the folder at `path` on this machine, and stores those that are faster
/// than what the estimate chose in the folder, with the packed weights that they need: [`load_model`](crate::load_model) takes them
/// where CPU, threads and precision are the same. What was stored for the same before is replaced.
///
/// # Errors
/// [`InvalidState`](optimium_tensor::ErrorKind::InvalidState) outside the life of the runtime;
/// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for a model that is not a folder, and for sizes of symbols that
/// the model does not have; [`Container`](optimium_tensor::ErrorKind::Container) where there is no model at `path`, or the folder
/// cannot be written; [`Shape`](optimium_tensor::ErrorKind::Shape) where the sizes do not fit the model;
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for inputs of strings; what `progress` reports.
pub fn tune_model(path: &Path, options: &TuneOptions, progress: Progress<'_>) -> Result<TuneReport> {
    let runtime = lifecycle::current()?;
    if path.is_file() {
        return Err(Error::invalid_argument(format!(
            "{} is not a model folder, which choices could be stored in; convert it first",
            path.display()
        )));
    }
    let mut compile_options = options.load.compile_options(runtime.environment.instruction_set.clone())?;
    progress("reading", 0.0)?;
    let native = Native::new();
    let target = native.packing_target(&compile_options);
    let target =
        target.ok_or_else(|| Error::not_implemented("there is nothing to be tuned for this machine"))?;
    let passphrase = options.load.passphrase.as_deref();
    let mut opened = optimium_container::open_packed(path, passphrase, Some(&target))?;
    // Better now than after all has been measured.
    optimium_container::check_tunable(path)?;
    let was_packed = opened.packed.is_some();
    compile_options.packed =
        opened.packed.take().map(|stored| PackedWeights::new(stored.buffer, stored.places));
    let mut graph = std::mem::take(&mut opened.graph);
    let in_model = |error: Error| error.context(path.display());
    shapes::infer(&mut graph).map_err(in_model)?;
    let graph = Arc::new(graph);
    let values = inputs::Values::new(&graph, &options.sizes).map_err(in_model)?;
    let bench = trial::Bench { native, graph: &graph, options: &compile_options, values };
    let found = search::search(&bench, options.time, progress).map_err(in_model)?;
    progress("storing", 1.0)?;
    let store = stored::Store { path, target: &target, tuned: &opened.tuned, with_weights: was_packed };
    store.save(&bench, &found.choices)?;
    Ok(found.report)
}

#[cfg(test)]
mod tests;
