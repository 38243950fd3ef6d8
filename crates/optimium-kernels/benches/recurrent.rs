//! Rates of recurrent layers on one core.

mod common;

use std::process::ExitCode;

use optimium_kernels::recurrent::{
    Cell, Directions, Inputs, Outputs, Recurrent, RecurrentParameters, RecurrentWeights,
};
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice};
use optimium_testing::Random;

use common::Bench;

/// Recurrent layers: input size, hidden size, steps.
const LAYERS: [[usize; 3]; 4] = [[64, 192, 32], [256, 256, 80], [512, 256, 80], [128, 64, 100]];

/// A layer whose product with the inputs is one matrix product, and whose steps read the weights of the state again and again.
fn recurrent(bench: &mut Bench, cell: Cell, [input_size, hidden_size, steps]: [usize; 3]) {
    let kind = if cell.gates() == 3 { "GRU" } else { "LSTM" };
    let name = format!("{kind} of {steps} steps, {input_size} to {hidden_size}");
    if !bench.wants(&name) {
        return;
    }
    let mut random = Random::new(1);
    let rows = cell.gates() * hidden_size;
    let [w, r, b] = [rows * input_size, rows * hidden_size, 2 * rows].map(|count| random.floats(count));
    let weights = RecurrentWeights { w: &w, r: &r, b: Some(&b), p: None };
    let parameters = RecurrentParameters {
        cell,
        input_size,
        hidden_size,
        directions: Directions::Forward,
        functions: Vec::new(),
        clip: None,
        batch_first: false,
    };
    let layer = Recurrent::new(bench.level, &parameters, &weights, &Packing::default());
    let x = random.floats(steps * input_size);
    let inputs = Inputs { x: &x, sequence_lens: None, initial_h: None, initial_c: None };
    let mut y = AlignedVec::zeroed(steps * hidden_size);
    let outputs = Outputs { y: Some(SharedSlice::new(&mut y)), ..Outputs::default() };
    let mut scratch = AlignedVec::zeroed(layer.scratch_len(steps, 1));
    bench.reads(&name, 4 * r.len(), steps, || {
        layer.run(steps, 1, &inputs, &outputs, &mut scratch, Part::WHOLE);
    });
}

fn main() -> ExitCode {
    common::run("recurrent", |bench| {
        for layer in LAYERS {
            recurrent(bench, Cell::Lstm { input_forget: false }, layer);
            recurrent(bench, Cell::Gru { linear_before_reset: true }, layer);
        }
    })
}
