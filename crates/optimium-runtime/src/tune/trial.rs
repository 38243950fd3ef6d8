//! A model compiled with some choices, and how long its layers take.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use optimium_device::{Backend, Cancellation, Choices, CompileOptions, Executable, ExecutionState, Observer};
use optimium_graph::Graph;
use optimium_native::Native;
use optimium_tensor::Result;

use super::inputs::Values;

/// What all trials have in common.
pub(super) struct Bench<'a> {
    pub(super) native: Native,
    pub(super) graph: &'a Arc<Graph>,
    pub(super) options: &'a CompileOptions,
    pub(super) values: Values,
}

/// The model with some choices.
pub(super) struct Trial<'a> {
    pub(super) executable: Arc<dyn Executable>,
    state: Box<dyn ExecutionState>,
    values: &'a Values,
    watch: Watch,
    /// For each operation the fastest of its times in seconds, of two halves of the turns.
    halves: [Vec<f64>; 2],
    /// The same for inferences that nobody watched.
    whole: [f64; 2],
}

impl Bench<'_> {
    /// The model compiled with `choices`, after a first inference.
    ///
    /// # Errors
    /// As [`Backend::compile`] and [`ExecutionState::run`].
    pub(super) fn trial(&self, choices: Choices) -> Result<Trial<'_>> {
        let options = CompileOptions { choices, ..self.options.clone() };
        let executable = self.native.compile(self.graph, &options)?;
        let operations = executable.operations().len();
        let mut trial = Trial {
            state: executable.clone().create_state()?,
            executable,
            values: &self.values,
            watch: Watch::new(options.threads, operations),
            halves: [vec![f64::INFINITY; operations], vec![f64::INFINITY; operations]],
            whole: [f64::INFINITY; 2],
        };
        trial.run()?;
        Ok(trial)
    }
}

impl Trial<'_> {
    /// Forgets all times.
    pub(super) fn reset(&mut self) {
        self.halves.iter_mut().for_each(|times| times.fill(f64::INFINITY));
        self.whole = [f64::INFINITY; 2];
    }

    /// Seconds of operation `index`: the fastest of all.
    pub(super) fn layer(&self, index: usize) -> f64 {
        self.halves[0][index].min(self.halves[1][index])
    }

    /// Seconds of an inference: the fastest of all.
    pub(super) fn whole(&self) -> f64 {
        self.whole[0].min(self.whole[1])
    }

    /// By what the time of those operations is that of `base`: in the worse half, so that a moment in which something else was busy
    /// does not decide.
    pub(super) fn ratio(&self, base: &Trial<'_>, operations: &[usize]) -> f64 {
        let sum = |times: &[f64]| operations.iter().map(|&index| times[index]).sum::<f64>();
        let of_half = |half: usize| sum(&self.halves[half]) / sum(&base.halves[half]);
        of_half(0).max(of_half(1))
    }

    /// By what the time of an inference is that of `base`, in the worse half.
    pub(super) fn whole_ratio(&self, base: &Trial<'_>) -> f64 {
        (self.whole[0] / base.whole[0]).max(self.whole[1] / base.whole[1])
    }

    fn run(&mut self) -> Result<f64> {
        let start = Instant::now();
        self.state.run(&self.values.inputs, &self.values.outputs, &Cancellation::new())?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Times inferences as a whole in turn number `turn`, one and then more for so long; one before does not count.
    ///
    /// # Errors
    /// As [`ExecutionState::run`].
    pub(super) fn time_whole(&mut self, turn: usize, time: Duration) -> Result<()> {
        self.run()?;
        let start = Instant::now();
        loop {
            let seconds = self.run()?;
            let least = &mut self.whole[turn % 2];
            *least = least.min(seconds);
            if start.elapsed() >= time {
                return Ok(());
            }
        }
    }

    /// Times the operations of inferences, as [`time_whole`](Trial::time_whole).
    ///
    /// # Errors
    /// As there.
    pub(super) fn time_layers(&mut self, turn: usize, time: Duration) -> Result<()> {
        self.run()?;
        let start = Instant::now();
        loop {
            self.watch.clear();
            let (inputs, outputs) = (&self.values.inputs, &self.values.outputs);
            self.state.run_observed(inputs, outputs, &Cancellation::new(), Some(&self.watch))?;
            for (least, seconds) in self.halves[turn % 2].iter_mut().zip(self.watch.seconds()) {
                *least = least.min(seconds);
            }
            if start.elapsed() >= time {
                return Ok(());
            }
        }
    }
}

/// The times of one inference: for each worker those of its operations.
struct Watch {
    operations: usize,
    workers: Vec<Mutex<Vec<f64>>>,
}

impl Watch {
    fn new(workers: usize, operations: usize) -> Watch {
        Watch { operations, workers: (0..workers).map(|_| Mutex::new(vec![0.0; operations])).collect() }
    }

    fn clear(&self) {
        for worker in &self.workers {
            worker.lock().unwrap_or_else(PoisonError::into_inner).fill(0.0);
        }
    }

    /// For each operation the time of the worker that took longest.
    fn seconds(&self) -> Vec<f64> {
        let mut longest = vec![0.0f64; self.operations];
        for worker in &self.workers {
            let times = worker.lock().unwrap_or_else(PoisonError::into_inner);
            longest.iter_mut().zip(times.iter()).for_each(|(most, &seconds)| *most = most.max(seconds));
        }
        longest
    }
}

impl Observer for Watch {
    fn step(&self, worker: usize, operation: usize, start: Instant, end: Instant) {
        let Some(times) = self.workers.get(worker) else { return };
        let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(time) = times.get_mut(operation) {
            *time += (end - start).as_secs_f64();
        }
    }
}
