//! RNN, GRU and LSTM.

use std::sync::Arc;

use optimium_graph::ops::{Direction, Recurrent, RecurrentKind};
use optimium_kernels::recurrent::{
    self as kernels, Cell, Directions, GateFunction, Inputs, Outputs, RecurrentParameters, RecurrentWeights,
    Run,
};
use optimium_kernels::{Packing, Part, SharedSlice};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};
use crate::memory::{Memory, Operand};

fn parameters(view: &NodeView, op: &Recurrent) -> Result<RecurrentParameters> {
    let cell = match op.kind {
        RecurrentKind::Rnn => Cell::Rnn,
        RecurrentKind::Gru => Cell::Gru { linear_before_reset: op.linear_before_reset },
        RecurrentKind::Lstm => Cell::Lstm { input_forget: op.input_forget },
    };
    let directions = match op.direction {
        Direction::Forward => Directions::Forward,
        Direction::Reverse => Directions::Reverse,
        Direction::Bidirectional => Directions::Bidirectional,
    };
    let functions = op
        .activations
        .iter()
        .map(|function| {
            GateFunction::from_name(&function.name, function.alpha, function.beta)
                .ok_or_else(|| Error::not_implemented(format!("the function {:?}", function.name)))
        })
        .collect::<Result<Vec<_>>>()?;
    let needed = directions.count() * cell.default_functions().len();
    if !functions.is_empty() && functions.len() != needed {
        return Err(Error::model(format!("{} functions, expected {needed}", functions.len())));
    }
    let weights = view.input_shape(1)?.as_fixed().filter(|dims| dims.len() == 3);
    let input_size = weights.ok_or_else(|| Error::not_implemented("weights of a dynamic shape"))?[2];
    let hidden_size = op.hidden_size;
    Ok(RecurrentParameters {
        cell,
        input_size,
        hidden_size,
        directions,
        functions,
        clip: op.clip,
        batch_first: op.batch_first,
    })
}

pub(super) fn recurrent(view: &NodeView, op: &Recurrent) -> Result<Layer> {
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let parameters = parameters(view, op)?;
    let layer = prepared(view, op, &parameters)?.map(Arc::new);
    let level = view.level;
    let lstm = op.kind == RecurrentKind::Lstm;
    Ok(Layer::new(op.kind.name().to_lowercase(), move |b| {
        let x = b.input(0)?;
        let [first, second, size] = x.dims[..] else {
            return Err(Error::shape(format!("expected three dimensions, found {:?}", x.dims)));
        };
        let (steps, batch) = if parameters.batch_first { (second, first) } else { (first, second) };
        if size != parameters.input_size {
            return Err(Error::shape(format!("inputs of {size}, expected {}", parameters.input_size)));
        }
        let state = parameters.directions.count() * batch * parameters.hidden_size;
        let sized = |bound: Option<Bound>, length: usize| match bound {
            Some(bound) if bound.len() != length => {
                Err(Error::shape(format!("found {:?}, expected {length} elements", bound.dims)))
            }
            bound => Ok(bound),
        };
        let lengths = sized(b.optional_input(4), batch)?;
        let initial_h = sized(b.optional_input(5), state)?;
        let initial_c = sized(if lstm { b.optional_input(6) } else { None }, state)?;
        let outputs = [b.optional_output(0), b.optional_output(1), b.optional_output(2)];
        let call = Call { steps, batch, x, lengths, initial_h, initial_c, outputs };
        let Some(layer) = layer.clone() else {
            let weights = ComputedWeights::of(b, &parameters, lstm)?;
            let parameters = parameters.clone();
            return Ok(Step::serial(move |memory| {
                let layer = weights.pack(level, &parameters, memory);
                let mut scratch = vec![0.0; layer.scratch_len(steps, batch)];
                let scratch = SharedSlice::new(&mut scratch);
                (0..layer.rounds(steps))
                    .try_for_each(|round| call.run(&layer, memory, scratch, round, Part::WHOLE))
            }));
        };
        let scratch = layer.scratch_len(steps, batch);
        b.need_shared_scratch::<f32>(scratch);
        Ok(Step::in_rounds(layer.rounds(steps), move |memory, part, round| {
            call.run(&layer, memory, memory.shared_scratch(scratch), round, part)
        }))
    }))
}

/// The layer with its weights packed, where they are constants.
fn prepared(
    view: &NodeView,
    op: &Recurrent,
    parameters: &RecurrentParameters,
) -> Result<Option<kernels::Recurrent>> {
    let lstm = op.kind == RecurrentKind::Lstm;
    let indices: &[usize] = if lstm { &[1, 2, 3, 7] } else { &[1, 2, 3] };
    if !view.has_input(1) || !view.has_input(2) {
        return Err(Error::model("weights are missing"));
    }
    if indices.iter().any(|&index| view.has_input(index) && view.constant(index).is_none()) {
        return Ok(None);
    }
    let (w, r, b) = (view.weights(1)?, view.weights(2)?, view.weights(3)?);
    let p = if lstm { view.weights(7)? } else { None };
    let all = [&w, &r, &b, &p];
    check_lengths(parameters, all.map(|weights| weights.as_ref().map(|weights| weights.len())))?;
    let (Some(w), Some(r)) = (&w, &r) else { return Err(Error::model("weights are missing")) };
    let weights = RecurrentWeights { w, r, b: b.as_deref(), p: p.as_deref() };
    Ok(Some(kernels::Recurrent::new(view.level, parameters, &weights, view.packing)))
}

/// Weights that are packed whenever the layer runs.
struct ComputedWeights {
    w: Operand,
    r: Operand,
    b: Option<Operand>,
    p: Option<Operand>,
}

impl ComputedWeights {
    fn of(binding: &Binding, parameters: &RecurrentParameters, lstm: bool) -> Result<ComputedWeights> {
        let (w, r, b) = (binding.input(1)?, binding.input(2)?, binding.optional_input(3));
        let p = if lstm { binding.optional_input(7) } else { None };
        let length = |bound: &Option<Bound>| bound.as_ref().map(Bound::len);
        check_lengths(parameters, [Some(w.len()), Some(r.len()), length(&b), length(&p)])?;
        let operand = |bound: Option<Bound>| bound.map(|bound| bound.operand);
        Ok(ComputedWeights { w: w.operand, r: r.operand, b: operand(b), p: operand(p) })
    }

    fn pack(&self, level: Level, parameters: &RecurrentParameters, memory: &Memory) -> kernels::Recurrent {
        let weights = RecurrentWeights {
            w: memory.read(self.w),
            r: memory.read(self.r),
            b: self.b.map(|b| memory.read(b)),
            p: self.p.map(|p| memory.read(p)),
        };
        kernels::Recurrent::new(level, parameters, &weights, &Packing::default())
    }
}

/// The operands of a run.
struct Call {
    steps: usize,
    batch: usize,
    x: Bound,
    lengths: Option<Bound>,
    initial_h: Option<Bound>,
    initial_c: Option<Bound>,
    outputs: [Option<Bound>; 3],
}

impl Call {
    fn run(
        &self,
        layer: &kernels::Recurrent,
        memory: &Memory,
        scratch: SharedSlice<f32>,
        round: usize,
        part: Part,
    ) -> Result<()> {
        let steps = self.steps;
        let read = |bound: &Option<Bound>| bound.as_ref().map(|bound| memory.read::<f32>(bound.operand));
        let write = |bound: &Option<Bound>| bound.as_ref().map(|bound| memory.write::<f32>(bound.operand));
        let inputs = Inputs {
            x: memory.read(self.x.operand),
            sequence_lens: self.lengths.as_ref().map(|lengths| memory.read::<i32>(lengths.operand)),
            initial_h: read(&self.initial_h),
            initial_c: read(&self.initial_c),
        };
        let steps_in_bounds =
            |lengths: &[i32]| lengths.iter().all(|&n| usize::try_from(n).is_ok_and(|n| n <= steps));
        if inputs.sequence_lens.is_some_and(|lengths| !steps_in_bounds(lengths)) {
            return Err(Error::infer(format!("a sequence length is not within 0..={steps}")));
        }
        let [y, y_h, y_c] = &self.outputs;
        let outputs = Outputs { y: write(y), y_h: write(y_h), y_c: write(y_c) };
        layer.run(&Run { steps, batch: self.batch, inputs, outputs, scratch }, round, part);
        Ok(())
    }
}

fn check_lengths(parameters: &RecurrentParameters, lengths: [Option<usize>; 4]) -> Result<()> {
    let (hidden, directions) = (parameters.hidden_size, parameters.directions.count());
    let rows = directions * parameters.cell.gates() * hidden;
    let expected = [rows * parameters.input_size, rows * hidden, 2 * rows, 3 * directions * hidden];
    match lengths.iter().zip(expected).find(|(found, expected)| found.is_some_and(|n| n != *expected)) {
        None => Ok(()),
        Some((_, expected)) => {
            Err(Error::model(format!("weights of another size, expected {expected} elements")))
        }
    }
}
