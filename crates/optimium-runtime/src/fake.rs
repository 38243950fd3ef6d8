//! Platforms for tests, whose models do what a test says.

use std::sync::Arc;
use std::time::Instant;

use optimium_device::{
    Backend, Cancellation, CompileOptions, Executable, ExecutionState, Observer, OperationInfo,
};
use optimium_graph::{Graph, Unsupported};
use optimium_tensor::{Access, Result, Tensor};

/// What a test says.
pub(crate) trait Fake: Clone + Send + Sync + 'static {
    /// The same for a graph that is compiled.
    fn compiled(&self, graph: &Graph) -> Self;

    /// The steps of the graph.
    fn operations(&self) -> Vec<OperationInfo>;

    /// Does an inference.
    fn run(&mut self, inputs: &[Tensor], outputs: &[Tensor], cancellation: &Cancellation) -> Result<()>;

    /// The names of tensors that can be read after an inference.
    fn intermediate_names(&self) -> Vec<String>;

    /// One of them.
    fn intermediate(&self, name: &str) -> Result<Tensor>;
}

/// A platform, what it compiles, and what that keeps for a request.
pub(crate) struct Faked<T>(pub(crate) T);

impl<T: Fake> Backend for Faked<T> {
    fn unsupported(&self, _: &Graph) -> Vec<Unsupported> {
        Vec::new()
    }

    fn compile(&self, graph: &Arc<Graph>, _: &CompileOptions) -> Result<Arc<dyn Executable>> {
        Ok(Arc::new(Faked(self.0.compiled(graph))))
    }
}

impl<T: Fake> Executable for Faked<T> {
    fn operations(&self) -> Vec<OperationInfo> {
        self.0.operations()
    }

    fn create_state(self: Arc<Self>) -> Result<Box<dyn ExecutionState>> {
        Ok(Box::new(Faked(self.0.clone())))
    }
}

impl<T: Fake> ExecutionState for Faked<T> {
    fn run_observed(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<()> {
        let start = Instant::now();
        self.0.run(inputs, outputs, cancellation)?;
        if let Some(observer) = observer {
            observer.step(0, 0, start, Instant::now());
        }
        Ok(())
    }

    fn intermediate_names(&self) -> Vec<String> {
        self.0.intermediate_names()
    }

    fn intermediate(&self, name: &str) -> Result<Tensor> {
        self.0.intermediate(name)
    }
}

/// Writes the elements of an output, which a running inference holds for writing.
pub(crate) fn write(output: &Tensor, write: impl FnOnce(&mut [f32])) -> Result<()> {
    let (buffer, _) = output.buffer().expect("a contiguous tensor of numbers");
    buffer.release(Access::Write);
    write(&mut output.write::<f32>()?);
    buffer.acquire(Access::Write)
}
