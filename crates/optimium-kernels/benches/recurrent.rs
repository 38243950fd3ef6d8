//! Rates of recurrent layers on one core.

mod common;

use std::process::ExitCode;

use optimium_kernels::recurrent::{
    Cell, Directions, Inputs, Outputs, Recurrent, RecurrentParameters, RecurrentWeights, Run,
};
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice};
use optimium_testing::Random;

use common::Bench;

/// Recurrent layers: input size, hidden size, steps, batch.
const LAYERS: [[usize; 4]; 5] =
    [[64, 192, 32, 1], [256, 256, 80, 1], [512, 256, 80, 1], [128, 64, 100, 1], [256, 256, 80, 8]];

const LSTM: Cell = Cell::Lstm { input_forget: false };

/// A layer whose product with the inputs is one matrix product, and whose steps read the weights of the state again and again.
fn recurrent(
    bench: &mut Bench,
    cell: Cell,
    directions: Directions,
    [input_size, hidden_size, steps, batch]: [usize; 4],
) {
    let kind = match cell {
        Cell::Rnn => "RNN",
        Cell::Gru { linear_before_reset: true } => "GRU",
        Cell::Gru { linear_before_reset: false } => "GRU that resets first",
        Cell::Lstm { .. } => "LSTM",
    };
    let mut name = format!("{kind} of {steps} steps, {input_size} to {hidden_size}");
    if batch > 1 {
        name += &format!(", batch of {batch}");
    }
    if directions == Directions::Bidirectional {
        name += ", both ways";
    }
    if !bench.wants(&name) {
        return;
    }
    let mut random = Random::new(1);
    let rows = directions.count() * cell.gates() * hidden_size;
    let [w, r, b] = [rows * input_size, rows * hidden_size, 2 * rows].map(|count| random.floats(count));
    let weights = RecurrentWeights { w: &w, r: &r, b: Some(&b), p: None };
    let parameters = RecurrentParameters {
        cell,
        input_size,
        hidden_size,
        directions,
        functions: Vec::new(),
        clip: None,
        batch_first: false,
    };
    let layer = Recurrent::new(bench.level, &parameters, &weights, &Packing::default());
    let x = random.floats(steps * batch * input_size);
    let inputs = Inputs { x: &x, sequence_lens: None, initial_h: None, initial_c: None };
    let mut y = AlignedVec::zeroed(directions.count() * steps * batch * hidden_size);
    let outputs = Outputs { y: Some(SharedSlice::new(&mut y)), ..Outputs::default() };
    let mut scratch = AlignedVec::zeroed(layer.scratch_len(steps, batch));
    let run = Run { steps, batch, inputs, outputs, scratch: SharedSlice::new(&mut scratch) };
    let work = || (0..layer.rounds(steps)).for_each(|round| layer.run(&run, round, Part::WHOLE));
    match batch {
        1 => bench.reads(&name, 4 * r.len(), steps, work),
        _ => bench.operations(&name, 2.0 * (steps * batch * (w.len() + r.len())) as f64, work),
    }
}

fn main() -> ExitCode {
    common::run("recurrent", |bench| {
        for layer in LAYERS {
            recurrent(bench, LSTM, Directions::Forward, layer);
            recurrent(bench, Cell::Gru { linear_before_reset: true }, Directions::Forward, layer);
        }
        recurrent(bench, LSTM, Directions::Bidirectional, LAYERS[1]);
        recurrent(bench, Cell::Gru { linear_before_reset: false }, Directions::Forward, LAYERS[1]);
        recurrent(bench, Cell::Rnn, Directions::Forward, LAYERS[1]);
    })
}
