//! Loop: a body that runs as often as a number and a condition say.

use std::sync::Arc;

use optimium_graph::Node;
use optimium_graph::ops::Loop;
use optimium_tensor::{ElementType, Error, Result, Tensor, TensorShape};

use super::branch::is_true;
use super::run::{ProgramState, Watched};
use super::stack::stack;
use super::{Call, DynamicOperator, Program, Running, Surroundings};

/// A body that is repeated.
#[derive(Clone)]
pub(super) struct Repetition {
    body: Arc<Program>,
    /// Number of values that go from iteration to iteration.
    carried: usize,
    /// Dimensions of the iteration number and of the condition, as the body reads them.
    counters: [Vec<usize>; 2],
    /// Whether each output of the node is wanted.
    wanted: Vec<bool>,
}

impl Repetition {
    /// The body of a Loop.
    ///
    /// # Errors
    /// As [`Program::body`].
    pub(super) fn compile(node: &Node, op: &Loop, around: &Surroundings) -> Result<Repetition> {
        let graph = &op.body.graph;
        let counter = |index: usize| -> Result<Vec<usize>> {
            let shape = graph.inputs.get(index).and_then(|&id| graph.value(id).shape());
            let dims = shape.and_then(TensorShape::as_fixed).unwrap_or_default();
            match dims.iter().product::<usize>() {
                1 => Ok(dims),
                _ => Err(Error::model(format!("the body's input {index} has the shape {dims:?}"))),
            }
        };
        let counters = [counter(0)?, counter(1)?];
        let wanted = node.outputs.iter().map(Option::is_some).collect();
        Ok(Repetition { body: Program::body(graph, around)?, carried: op.carried, counters, wanted })
    }
}

impl DynamicOperator for Repetition {
    fn kernel(&self) -> String {
        "repeated body".to_owned()
    }

    fn bodies(&self) -> Vec<&Arc<Program>> {
        vec![&self.body]
    }

    fn start(&self) -> Box<dyn Running> {
        Box::new(Iterations { repetition: self.clone(), state: None })
    }
}

/// One request's iterations.
struct Iterations {
    repetition: Repetition,
    state: Option<ProgramState>,
}

impl Running for Iterations {
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let Repetition { body, carried, counters, wanted } = &self.repetition;
        let state = match &mut self.state {
            Some(state) => state,
            empty => empty.insert(ProgramState::new(body.clone())?),
        };
        let limit = call.optional(0).map(trip_count).transpose()?;
        let mut goes_on = call.optional(1).map_or(Ok(true), is_true)?;
        let mut inputs =
            (2..call.inputs.len()).map(|index| call.input(index).cloned()).collect::<Result<Vec<_>>>()?;
        let counter = Tensor::zeros(ElementType::I64, &counters[0])?;
        let condition = Tensor::zeros(ElementType::Bool, &counters[1])?;
        inputs.splice(0..0, [counter, condition]);
        let mut scanned: Vec<Vec<Tensor>> = vec![Vec::new(); wanted.len().saturating_sub(*carried)];
        let watched = Watched { cancellation: call.cancellation, observer: call.observer };
        for iteration in 0i64.. {
            if !goes_on || limit.is_some_and(|limit| iteration >= limit) {
                break;
            }
            inputs[0] = Tensor::from_slice(&counters[0], &[iteration])?;
            inputs[1] = Tensor::from_bytes(ElementType::Bool, &counters[1], &[1])?;
            let mut results = state.run_within(&inputs, &[], call.symbols, watched)?.into_iter();
            goes_on = results.next().as_ref().map_or(Ok(true), is_true)?;
            for (input, result) in inputs[2..2 + carried].iter_mut().zip(&mut results) {
                *input = result;
            }
            for (index, (all, result)) in scanned.iter_mut().zip(results).enumerate() {
                if wanted[carried + index] {
                    all.push(result);
                }
            }
        }
        let last = inputs.drain(2..2 + carried).map(Ok);
        let scanned = scanned
            .iter()
            .enumerate()
            .map(|(index, parts)| stack(parts, 0, || nothing(body, 1 + carried + index, call)));
        last.chain(scanned).zip(wanted).map(|(result, &wanted)| Ok(wanted.then_some(result?))).collect()
    }
}

fn trip_count(tensor: &Tensor) -> Result<i64> {
    match tensor.to_i64s()?.as_slice() {
        [count] => Ok(*count),
        _ => Err(Error::infer(format!("the number of iterations has the shape {:?}", tensor.dims()))),
    }
}

/// What no iteration gives as output `index` of the body: sizes that only iterations would show are zero.
fn nothing(body: &Program, index: usize, call: &Call) -> Result<Tensor> {
    let value = body.graph.value(body.graph.outputs[index]);
    let (Some(shape), Some(element_type)) = (value.shape(), value.element_type()) else {
        return Err(Error::model(format!("the shape of {:?} is not known", value.name)));
    };
    let size = |dim: &optimium_tensor::Expr| {
        dim.evaluate(call.symbols).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    };
    let dims: Vec<usize> = std::iter::once(0).chain(shape.dims().iter().map(size)).collect();
    Tensor::zeros(element_type, &dims)
}
