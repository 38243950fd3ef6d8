//! If: one of two bodies, whose results may have different sizes.

use std::sync::Arc;

use optimium_graph::ops::If;
use optimium_graph::{Graph, Node};
use optimium_tensor::{Error, Result, Tensor};

use super::run::{ProgramState, Watched};
use super::{Call, DynamicOperator, Program, Running, Surroundings};

/// A choice between bodies: that for false, that for true. One that is never taken is not there.
#[derive(Clone)]
pub(super) struct Branch([Option<Arc<Program>>; 2]);

impl Branch {
    /// The bodies of an If; only one of them where the condition is a constant.
    ///
    /// # Errors
    /// As [`Program::body`].
    pub(super) fn compile(graph: &Graph, node: &Node, op: &If, around: &Surroundings) -> Result<Branch> {
        let condition = node.input(0).and_then(|id| graph.constant(id)).map(is_true).transpose()?;
        let body = |taken: bool| {
            let body = if taken { &op.then_branch } else { &op.else_branch };
            let is_wanted = condition.is_none_or(|condition| condition == taken);
            is_wanted.then(|| Program::body(&body.graph, around)).transpose()
        };
        Ok(Branch([body(false)?, body(true)?]))
    }
}

/// The truth of a condition of one element.
///
/// # Errors
/// [`Infer`](optimium_tensor::ErrorKind::Infer) where there are more elements, or none.
pub(super) fn is_true(condition: &Tensor) -> Result<bool> {
    match *condition.read_bytes()? {
        [value] => Ok(value != 0),
        _ => Err(Error::infer(format!("a condition of shape {:?} is not one truth", condition.dims()))),
    }
}

impl DynamicOperator for Branch {
    fn kernel(&self) -> String {
        "one of two bodies".to_owned()
    }

    fn bodies(&self) -> Vec<&Arc<Program>> {
        self.0.iter().flatten().collect()
    }

    fn start(&self) -> Box<dyn Running> {
        Box::new(Taken { branch: self.clone(), states: [None, None] })
    }
}

/// One request's bodies, which get memory when they are taken for the first time.
struct Taken {
    branch: Branch,
    states: [Option<ProgramState>; 2],
}

impl Running for Taken {
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let index = usize::from(is_true(call.input(0)?)?);
        let program = self.branch.0[index].as_ref().ok_or_else(|| Error::infer("the branch was left out"))?;
        let before =
            self.branch.0[..index].iter().flatten().map(|body| body.operation_count()).sum::<usize>();
        let state = match &mut self.states[index] {
            Some(state) => state,
            empty => empty.insert(ProgramState::new(program.clone())?),
        };
        let inputs = (1..call.inputs.len()).map(|index| call.input(index).cloned());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let observer = call.observer.map(|(observer, first)| (observer, first + before));
        let watched = Watched { cancellation: call.cancellation, observer };
        let results = state.run_within(&inputs, &[], call.symbols, watched)?;
        Ok(results.into_iter().map(Some).collect())
    }
}
