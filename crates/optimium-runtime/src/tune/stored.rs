//! Choices in the model folder.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use optimium_container::{PackedBlocks, Tuned, TunedMachine};
use optimium_device::{Backend, Choices, CompileOptions, Executable, Precision, cpu_model};
use optimium_tensor::{Error, Result};

use super::trial::Bench;

/// Uses of the model whose packed weights are stored, besides that of the estimate's choices: the latest.
const STORED_USES: usize = 8;

/// The choices that were stored for this machine and such options.
pub(crate) fn stored_choices(tuned: &Tuned, target: &str, options: &CompileOptions) -> Choices {
    tuned.find(&machine(target, options, &Choices::default())).map(choices_of).unwrap_or_default()
}

fn machine(target: &str, options: &CompileOptions, choices: &Choices) -> TunedMachine {
    TunedMachine {
        cpu: cpu_model().to_owned(),
        target: target.to_owned(),
        threads: options.threads,
        precision: options.precision.name().to_owned(),
        choices: choices.iter().map(|(key, name)| (key.to_owned(), name.to_owned())).collect(),
    }
}

fn choices_of(machine: &TunedMachine) -> Choices {
    machine.choices.iter().map(|(key, name)| (key.clone(), name.clone())).collect()
}

/// A folder that choices are stored in.
pub(super) struct Store<'a> {
    pub(super) path: &'a Path,
    pub(super) target: &'a str,
    /// What is stored there.
    pub(super) tuned: &'a Tuned,
    /// Whether packed weights are stored too.
    pub(super) with_weights: bool,
}

impl Store<'_> {
    /// Stores `choices` for the options of `bench`, with the packed weights of all uses of the model on such a machine.
    ///
    /// # Errors
    /// As [`save_tuned`](optimium_container::save_tuned) and [`Backend::compile`].
    pub(super) fn save(&self, bench: &Bench<'_>, choices: &Choices) -> Result<()> {
        let before = self.tuned;
        let mut tuned = before.clone();
        tuned.set(machine(self.target, bench.options, choices));
        if tuned == *before {
            return Ok(());
        }
        let in_model = |error: Error| error.context(self.path.display());
        let executables =
            if self.with_weights { self.uses(bench, &tuned).map_err(in_model)? } else { Vec::new() };
        let mut seen = HashSet::new();
        let blocks = executables.iter().flat_map(|executable| executable.packed());
        let blocks: Vec<(String, &[u8])> = blocks
            .filter(|block| seen.insert(block.key.clone()))
            .map(|block| (block.key, block.bytes))
            .collect();
        let packed = PackedBlocks { target: self.target.to_owned(), blocks };
        let packed = if self.with_weights { std::slice::from_ref(&packed) } else { &[] };
        optimium_container::save_tuned(self.path, &tuned, packed)
    }

    /// The model compiled as the estimate says, and as it was tuned for such machines.
    fn uses(&self, bench: &Bench<'_>, tuned: &Tuned) -> Result<Vec<Arc<dyn Executable>>> {
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let latest = tuned.machines().iter().rev().filter(|machine| machine.target == self.target);
        let tuned = latest.take(STORED_USES).filter_map(|machine| {
            let precision = Precision::from_name(&machine.precision)?;
            // A folder that came from elsewhere must not start any number of threads.
            let possible = (1..=available).contains(&machine.threads);
            possible.then(|| (machine.threads, precision, choices_of(machine)))
        });
        let estimated = (1, Precision::F32, Choices::default());
        let compiled = |(threads, precision, choices): (usize, Precision, Choices)| {
            let options =
                CompileOptions { threads, cores: None, precision, choices, ..bench.options.clone() };
            bench.native.compile(bench.graph, &options)
        };
        std::iter::once(estimated).chain(tuned).map(compiled).collect()
    }
}
