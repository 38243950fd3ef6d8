//! Deferred graphs: compiled when the sizes of what they get are known.
//!
//! With sizes, shapes follow that symbols could not say, and branches that sizes decide are no branches any more. What becomes of a graph
//! is a program without symbols; the last few are kept.

use std::sync::Arc;

use optimium_graph::ops::Deferred;
use optimium_graph::{Graph, ValueType, passes, shapes};
use optimium_tensor::{Error, Result, SymbolValues, Tensor, TensorShape};

use super::cut::{Outputs, unstored};
use super::kept::Kept;
use super::run::{ProgramState, Watched};
use super::{Call, DynamicOperator, Program, Running, Surroundings};
use crate::Native;

/// Programs that are kept of one graph: each has packed weights of its own.
const KEPT_PROGRAMS: usize = 4;

/// The dimensions of all that comes with an inference.
type Sizes = Vec<Vec<usize>>;

/// A graph that is compiled when sizes are known.
pub(super) struct Postponed(Arc<Inner>);

struct Inner {
    /// As the model has it.
    graph: Graph,
    around: Surroundings,
    programs: Kept<Sizes, Program>,
}

impl Postponed {
    /// For the body of `op`.
    pub(super) fn new(op: &Deferred, around: &Surroundings) -> Postponed {
        let options = unstored(&around.options);
        let around = Surroundings { options, team: around.team.clone(), symbols: Default::default() };
        let graph = Graph::clone(&op.body.graph);
        Postponed(Arc::new(Inner { graph, around, programs: Kept::new(KEPT_PROGRAMS) }))
    }
}

impl DynamicOperator for Postponed {
    fn kernel(&self) -> String {
        "compiled for the sizes of its inputs".to_owned()
    }

    fn start(&self) -> Box<dyn Running> {
        Box::new(Current { inner: self.0.clone(), current: None })
    }
}

/// One request's use of such a graph.
struct Current {
    inner: Arc<Inner>,
    current: Option<(Sizes, ProgramState)>,
}

impl Running for Current {
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let inputs = (0..call.inputs.len()).map(|index| call.input(index).cloned());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let is_same = |sizes: &Sizes| sizes.iter().map(Vec::as_slice).eq(inputs.iter().map(Tensor::dims));
        if !self.current.as_ref().is_some_and(|(sizes, _)| is_same(sizes)) {
            let sizes: Sizes = inputs.iter().map(|input| input.dims().to_vec()).collect();
            let program = self.inner.programs.get(&sizes, || self.inner.compile(&inputs))?;
            self.current = Some((sizes, ProgramState::new(program)?));
        }
        let Some((_, state)) = &mut self.current else { return Err(Error::infer("no program")) };
        let watched = Watched { cancellation: call.cancellation, observer: None };
        let results = state.run_within(&inputs, &[], &SymbolValues::new(), watched)?;
        Ok(results.into_iter().map(Some).collect())
    }
}

impl Inner {
    /// The program for tensors of those types and sizes.
    fn compile(&self, inputs: &[Tensor]) -> Result<Program> {
        let mut graph = self.graph.clone();
        for (id, input) in graph.inputs.clone().into_iter().zip(inputs) {
            let shape = Some(TensorShape::fixed(input.dims()));
            graph.value_mut(id).value_type = ValueType::Tensor { element_type: input.element_type(), shape };
        }
        // It must not be deferred again.
        shapes::infer_now(&mut graph)?;
        passes::simplify(&mut graph, &Native)?;
        Program::compile(&graph, &self.around, Outputs::Kept)
    }
}
