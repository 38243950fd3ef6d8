//! The contract between the runtime and a platform.

use std::sync::Arc;
use std::time::Instant;

use optimium_graph::{Graph, Unsupported};
use optimium_sync::Cancellation;
use optimium_tensor::{Error, Result, Tensor};

use crate::choices::{Choices, KernelChoice};
use crate::details::RunDetails;
use crate::packed::{PackedBlock, PackedWeights};
use crate::precision::Precision;

/// How a graph is to be compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct CompileOptions {
    /// Workers of one inference, at least 1.
    pub threads: usize,
    /// The cores that the workers are pinned to, one each; none leaves them to the operating system.
    pub cores: Option<Vec<usize>>,
    /// Whether tensors whose lifetimes do not overlap share memory. Without it every tensor stays readable.
    pub memory_optimization: bool,
    /// Whether denormal numbers count as zero.
    pub disable_denormals: bool,
    /// The instruction set to be used, by name; none is the best of the machine.
    pub instruction_set: Option<String>,
    /// How exact matrix products and convolutions are to be.
    pub precision: Precision,
    /// Weights of this very graph that were packed before; those that do not fit are packed anew.
    pub packed: Option<PackedWeights>,
    /// Which candidates are taken where there are several, besides what is left to the estimate.
    pub choices: Choices,
}

impl Default for CompileOptions {
    fn default() -> Self {
        Self {
            threads: 1,
            cores: None,
            memory_optimization: true,
            disable_denormals: true,
            instruction_set: None,
            precision: Precision::F32,
            packed: None,
            choices: Choices::default(),
        }
    }
}

/// A platform that can run graphs.
pub trait Backend: Send + Sync {
    /// Everything in `graph` that the platform cannot run: all of it, not the first.
    fn unsupported(&self, graph: &Graph) -> Vec<Unsupported>;

    /// Prepares `graph`, whose shapes are inferred and whose nodes are sorted, for running.
    ///
    /// # Errors
    /// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) listing all that is unsupported; [`Model`](optimium_tensor::ErrorKind::Model),
    /// [`OutOfResource`](optimium_tensor::ErrorKind::OutOfResource) as they occur.
    fn compile(&self, graph: &Arc<Graph>, options: &CompileOptions) -> Result<Arc<dyn Executable>>;

    /// The name of what weights are packed for with those options; `None` where nothing is packed.
    fn packing_target(&self, _options: &CompileOptions) -> Option<String> {
        None
    }
}

/// An output that is an input with something behind it along an axis: a cache that grows.
///
/// Both may be given in [blocks](optimium_tensor::Blocks), one for each index of the axes before that one. Where the blocks of both
/// begin at the same addresses, what was there stays, and only what is new is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Append {
    /// Which input of the graph.
    pub input: usize,
    /// Which output.
    pub output: usize,
    /// Along which axis it grows.
    pub axis: usize,
}

/// A compiled graph: immutable, shared by any number of states.
pub trait Executable: Send + Sync {
    /// What it does, step by step.
    fn operations(&self) -> Vec<OperationInfo>;

    /// The packed weights, which [`CompileOptions::packed`] takes when the same graph is compiled again.
    fn packed(&self) -> Vec<PackedBlock<'_>> {
        Vec::new()
    }

    /// What each of the [`operations`](Executable::operations) could be computed by; none for those that there is one way for. It is
    /// put into words when it is asked for, not when the graph is compiled.
    fn choices(&self) -> Vec<Option<KernelChoice>> {
        Vec::new()
    }

    /// The pairs of an input and an output that may share memory.
    fn appends(&self) -> &[Append] {
        &[]
    }

    /// The memory of one inference after the other. States run independently of each other.
    ///
    /// # Errors
    /// [`OutOfResource`](optimium_tensor::ErrorKind::OutOfResource) where memory ran out.
    fn create_state(self: Arc<Self>) -> Result<Box<dyn ExecutionState>>;
}

/// What one request needs to run, and keeps from one inference to the next.
pub trait ExecutionState: Send {
    /// Runs one inference.
    ///
    /// `inputs` and `outputs` are in the order of the graph's; types and concrete shapes fit the graph, and the caller holds
    /// read access to the inputs' memory and write access to the outputs'. An output shares memory with no other tensor, but as
    /// [`Executable::appends`] says; no other tensors are in blocks.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) for shapes that do not fit each other; [`InferCanceled`](optimium_tensor::ErrorKind::InferCanceled);
    /// [`Infer`](optimium_tensor::ErrorKind::Infer) for what only values show, an index out of range for instance.
    fn run(&mut self, inputs: &[Tensor], outputs: &[Tensor], cancellation: &Cancellation) -> Result<()> {
        self.run_observed(inputs, outputs, cancellation, None)
    }

    /// As [`run`](ExecutionState::run), and tells `observer` of every step. Without one, a run pays nothing for it.
    ///
    /// # Errors
    /// As there.
    fn run_observed(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<()>;

    /// As [`run_observed`](ExecutionState::run_observed), for graphs whose data decide the sizes of outputs: an output may be left
    /// out, and is then made. Gives the outputs, those that were given among them.
    ///
    /// # Errors
    /// As there, and [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) where an output has to be given.
    fn run_open(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Option<Tensor>],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<Vec<Tensor>> {
        let outputs: Option<Vec<Tensor>> = outputs.iter().cloned().collect();
        let outputs = outputs.ok_or_else(|| Error::invalid_argument("every output needs a tensor"))?;
        self.run_observed(inputs, &outputs, cancellation, observer)?;
        Ok(outputs)
    }

    /// What the last run consisted of; `None` before the first one, and where the platform does not tell. It is worked out when it
    /// is asked for: a run pays nothing for it.
    fn details(&self) -> Option<RunDetails> {
        None
    }

    /// Names of the tensors that can be read after a run.
    fn intermediate_names(&self) -> Vec<String>;

    /// A copy of a tensor as the last run left it.
    ///
    /// # Errors
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for a name that there is not;
    /// [`InvalidOperation`](optimium_tensor::ErrorKind::InvalidOperation) where its memory is shared or nothing has run.
    fn intermediate(&self, name: &str) -> Result<Tensor>;
}

/// Who watches an inference.
pub trait Observer: Sync {
    /// Worker `worker` did its part of operation `operation`, an index into [`Executable::operations`], from `start` to `end`. It is
    /// called by the worker, between its steps.
    fn step(&self, worker: usize, operation: usize, start: Instant, end: Instant);
}

/// One operation of a compiled graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationInfo {
    /// The node's name.
    pub name: String,
    /// The operator's name.
    pub operator: String,
    /// The kernel that was chosen, and the fusions: for people.
    pub kernel: String,
    /// Names of the tensors it reads.
    pub inputs: Vec<String>,
    /// Names of the tensors it writes.
    pub outputs: Vec<String>,
}
