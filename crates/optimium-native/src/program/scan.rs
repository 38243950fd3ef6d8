//! Scan: a body that runs once for each part of tensors along an axis.

use std::sync::Arc;

use optimium_graph::Node;
use optimium_graph::ops::Scan;
use optimium_tensor::{Error, Result, Tensor};

use super::run::{ProgramState, Watched};
use super::stack::{pick, stack};
use super::{Call, DynamicOperator, Program, Running, Surroundings};

/// A body that walks along tensors.
#[derive(Clone)]
pub(super) struct Scanning {
    body: Arc<Program>,
    op: Arc<Scan>,
    /// Number of values that go from part to part.
    states: usize,
    /// Whether each output of the node is wanted.
    wanted: Vec<bool>,
}

impl Scanning {
    /// The body of a Scan.
    ///
    /// # Errors
    /// As [`Program::body`].
    pub(super) fn compile(node: &Node, op: &Scan, around: &Surroundings) -> Result<Scanning> {
        let body = Program::body(&op.body.graph, around)?;
        let states = body.graph.outputs.len().checked_sub(op.output_axes.len());
        let states =
            states.ok_or_else(|| Error::model("the body has fewer outputs than are put together"))?;
        let wanted = node.outputs.iter().map(Option::is_some).collect();
        Ok(Scanning { body, op: Arc::new(op.clone()), states, wanted })
    }
}

impl DynamicOperator for Scanning {
    fn kernel(&self) -> String {
        "body for each part".to_owned()
    }

    fn bodies(&self) -> Vec<&Arc<Program>> {
        vec![&self.body]
    }

    fn start(&self) -> Box<dyn Running> {
        Box::new(Walk { scanning: self.clone(), state: None })
    }
}

/// One request's walk.
struct Walk {
    scanning: Scanning,
    state: Option<ProgramState>,
}

impl Running for Walk {
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>> {
        let Scanning { body, op, states, wanted } = &self.scanning;
        let state = match &mut self.state {
            Some(state) => state,
            empty => empty.insert(ProgramState::new(body.clone())?),
        };
        let mut inputs =
            (0..call.inputs.len()).map(|index| call.input(index).cloned()).collect::<Result<Vec<_>>>()?;
        let scanned: Vec<Tensor> = inputs.get(*states..states + op.scan_inputs).unwrap_or_default().to_vec();
        let axes = scanned.iter().zip(&op.input_axes).map(|(x, &axis)| place(axis, x.dims().len()));
        let axes = axes.collect::<Result<Vec<_>>>()?;
        let length = scanned.first().map_or(0, |x| x.dims()[axes[0]]);
        if let Some((x, _)) = scanned.iter().zip(&axes).find(|(x, axis)| x.dims()[**axis] != length) {
            return Err(Error::infer(format!("{:?} has not {length} parts", x.dims())));
        }
        let mut parts: Vec<Vec<Tensor>> = vec![Vec::with_capacity(length); op.output_axes.len()];
        let watched = Watched { cancellation: call.cancellation, observer: call.observer };
        for step in 0..length {
            for (index, (x, &axis)) in scanned.iter().zip(&axes).enumerate() {
                let at = if op.input_reversed[index] { length - 1 - step } else { step };
                inputs[states + index] = pick(x, axis, at)?;
            }
            let mut results = state.run_within(&inputs, &[], call.symbols, watched)?.into_iter();
            for (input, result) in inputs[..*states].iter_mut().zip(&mut results) {
                *input = result;
            }
            parts.iter_mut().zip(results).for_each(|(all, result)| all.push(result));
        }
        let together = parts.into_iter().enumerate().map(|(index, mut parts)| {
            if op.output_reversed[index] {
                parts.reverse();
            }
            let first = parts.first().ok_or_else(|| Error::infer("there is nothing to be scanned"))?;
            let axis = place(op.output_axes[index], first.dims().len() + 1)?;
            stack(&parts, axis, || Err(Error::infer("there is nothing to be scanned")))
        });
        let last = inputs[..*states].iter().cloned().map(Ok);
        last.chain(together).zip(wanted).map(|(result, &wanted)| Ok(wanted.then_some(result?))).collect()
    }
}

/// The axis, counted from the front.
fn place(axis: i64, rank: usize) -> Result<usize> {
    let from_front = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(from_front)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Error::infer(format!("there is no axis {axis} in {rank} dimensions")))
}
