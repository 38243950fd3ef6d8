//! RNN, GRU and LSTM.

use std::sync::Arc;

use optimium_graph::ops::{Direction, Recurrent, RecurrentKind};
use optimium_kernels::recurrent::{
    self as kernels, Cell, Directions, GateFunction, Inputs, Outputs, RecurrentParameters, RecurrentWeights,
};
use optimium_tensor::{ElementType, Error, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Bound, Layer, Step};

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
    let constant = |index: usize| -> Result<Option<Arc<[f32]>>> {
        match view.floats(index)? {
            None if view.has_input(index) => Err(Error::not_implemented("weights that are computed")),
            constant => Ok(constant),
        }
    };
    let missing = || Error::model("weights are missing");
    let (w, r) = (constant(1)?.ok_or_else(missing)?, constant(2)?.ok_or_else(missing)?);
    let (b, p) = (constant(3)?, if op.kind == RecurrentKind::Lstm { constant(7)? } else { None });
    check_lengths(&parameters, [Some(&w), Some(&r), b.as_ref(), p.as_ref()])?;
    let weights = RecurrentWeights { w: &w, r: &r, b: b.as_deref(), p: p.as_deref() };
    let layer = Arc::new(kernels::Recurrent::new(view.level, &parameters, &weights));
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
        let scratch = layer.scratch_len(steps, batch);
        b.need_scratch::<f32>(scratch);
        let layer = layer.clone();
        Ok(Step::parallel(move |memory, part| {
            let read = |bound: &Option<Bound>| bound.as_ref().map(|bound| memory.read::<f32>(bound.operand));
            let write =
                |bound: &Option<Bound>| bound.as_ref().map(|bound| memory.write::<f32>(bound.operand));
            let inputs = Inputs {
                x: memory.read(x.operand),
                sequence_lens: lengths.as_ref().map(|lengths| memory.read::<i32>(lengths.operand)),
                initial_h: read(&initial_h),
                initial_c: read(&initial_c),
            };
            let steps_in_bounds =
                |lengths: &[i32]| lengths.iter().all(|&n| usize::try_from(n).is_ok_and(|n| n <= steps));
            if inputs.sequence_lens.is_some_and(|lengths| !steps_in_bounds(lengths)) {
                return Err(Error::infer(format!("a sequence length is not within 0..={steps}")));
            }
            let [y, y_h, y_c] = &outputs;
            let outputs = Outputs { y: write(y), y_h: write(y_h), y_c: write(y_c) };
            layer.run(steps, batch, &inputs, &outputs, memory.scratch(part.index, scratch), part);
            Ok(())
        }))
    }))
}

fn check_lengths(parameters: &RecurrentParameters, weights: [Option<&Arc<[f32]>>; 4]) -> Result<()> {
    let (hidden, directions) = (parameters.hidden_size, parameters.directions.count());
    let rows = directions * parameters.cell.gates() * hidden;
    let expected = [rows * parameters.input_size, rows * hidden, 2 * rows, 3 * directions * hidden];
    match weights
        .iter()
        .zip(expected)
        .find(|(found, expected)| found.is_some_and(|found| found.len() != *expected))
    {
        None => Ok(()),
        Some((_, expected)) => {
            Err(Error::model(format!("weights of another size, expected {expected} elements")))
        }
    }
}
