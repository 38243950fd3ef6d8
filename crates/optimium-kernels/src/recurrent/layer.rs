//! A recurrent layer with packed weights, and its run over the steps.

use std::ops::Range;

use optimium_simd::Level;

use super::gate::GateFunction;
use super::parameters::{Cell, RecurrentParameters, RecurrentWeights};
use super::step::{Stage, Step};
use crate::epilogue::Epilogue;
use crate::gemm::{PackedMatrix, Problem, gemm, pick};
use crate::{Packing, Part, SharedSlice};

/// A recurrent layer.
#[derive(Clone, Debug)]
pub struct Recurrent {
    parameters: RecurrentParameters,
    level: Level,
    directions: Vec<Direction>,
}

/// The weights of one direction.
#[derive(Clone, Debug)]
struct Direction {
    /// Of the inputs, all gates side by side.
    inputs: PackedMatrix,
    input_bias: Vec<f32>,
    /// Of the state: the gates whose product is taken first, and for a GRU that resets before the product
    /// the hidden gate.
    state: Vec<PackedMatrix>,
    /// Of the first state product, where the reset gate applies to it too.
    state_bias: Option<Vec<f32>>,
    peepholes: Option<Vec<f32>>,
    functions: Vec<GateFunction>,
    reverse: bool,
}

/// What a layer is run on. Of the states, none given are zeros. Shapes are those without ONNX's layout;
/// with `batch_first` the batch comes first.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Steps × batch × input size.
    pub x: &'a [f32],
    /// Steps of each row of the batch; all where not given. Later steps give zeros.
    pub sequence_lens: Option<&'a [i32]>,
    /// Directions × batch × hidden size.
    pub initial_h: Option<&'a [f32]>,
    /// Directions × batch × hidden size; of an LSTM.
    pub initial_c: Option<&'a [f32]>,
}

/// Where the results go, each if wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outputs<'a> {
    /// The states after each step: steps × directions × batch × hidden size; with `batch_first`
    /// batch × steps × directions × hidden size.
    pub y: Option<SharedSlice<'a, f32>>,
    /// The last states: directions × batch × hidden size; with `batch_first` the batch comes first.
    pub y_h: Option<SharedSlice<'a, f32>>,
    /// The last states of the cells of an LSTM, likewise.
    pub y_c: Option<SharedSlice<'a, f32>>,
}

impl Recurrent {
    /// Packs the weights for `level`, where `packing` says.
    ///
    /// # Panics
    /// Where the lengths do not fit the parameters, or there are other than 0 or the right number of functions.
    pub fn new(
        level: Level,
        parameters: &RecurrentParameters,
        weights: &RecurrentWeights<'_>,
        packing: &Packing,
    ) -> Recurrent {
        let count = parameters.directions.count();
        let rows = parameters.cell.gates() * parameters.hidden_size;
        let (inputs, hidden) = (parameters.input_size, parameters.hidden_size);
        assert!(weights.w.len() == count * rows * inputs, "{} weights of the inputs", weights.w.len());
        assert!(weights.r.len() == count * rows * hidden, "{} weights of the state", weights.r.len());
        assert!(weights.b.is_none_or(|b| b.len() == count * 2 * rows), "biases of {parameters:?}");
        assert!(weights.p.is_none_or(|p| p.len() == count * 3 * hidden), "peepholes of {parameters:?}");
        let functions = parameters.functions.len();
        let needed = count * parameters.cell.default_functions().len();
        assert!(functions == 0 || functions == needed, "{functions} functions instead of {needed}");
        let direction = |index| Direction::new(level, parameters, weights, index, packing);
        let directions = (0..count).map(direction).collect();
        Recurrent { parameters: parameters.clone(), level, directions }
    }

    /// Elements of scratch memory that each part needs.
    pub fn scratch_len(&self, steps: usize, batch: usize) -> usize {
        let RecurrentParameters { cell, hidden_size, .. } = self.parameters;
        let gates = cell.gates() * hidden_size;
        // Two rows at least, as `Rows::product_rows` says.
        (steps * batch).max(2) * gates + batch.max(2) * (gates + 2 * hidden_size)
    }

    /// Runs the layer over `steps` steps of `batch` rows.
    ///
    /// # Panics
    /// Where a slice has another length than the shapes say.
    pub fn run(
        &self,
        steps: usize,
        batch: usize,
        inputs: &Inputs<'_>,
        outputs: &Outputs<'_>,
        scratch: &mut [f32],
        part: Part,
    ) {
        self.check(steps, batch, inputs, outputs);
        assert!(scratch.len() >= self.scratch_len(steps, batch), "{} elements of scratch", scratch.len());
        let share = part.range(self.directions.len() * batch);
        for (index, direction) in self.directions.iter().enumerate() {
            let start = share.start.max(index * batch);
            let end = share.end.min((index + 1) * batch);
            if start < end && self.parameters.hidden_size > 0 {
                let rows = start - index * batch..end - index * batch;
                let call = Call { layer: self, index, direction, steps, batch, rows, inputs, outputs };
                call.run(scratch);
            }
        }
    }

    fn check(&self, steps: usize, batch: usize, inputs: &Inputs<'_>, outputs: &Outputs<'_>) {
        let RecurrentParameters { input_size, hidden_size, .. } = self.parameters;
        let states = self.directions.len() * batch * hidden_size;
        let fits = |length: Option<usize>, needed: usize| length.is_none_or(|length| length == needed);
        assert!(
            inputs.x.len() == steps * batch * input_size,
            "{} inputs for {steps} × {batch}",
            inputs.x.len()
        );
        assert!(fits(inputs.sequence_lens.map(<[i32]>::len), batch), "sequence lengths for {batch} rows");
        let given = [inputs.initial_h.map(<[f32]>::len), inputs.initial_c.map(<[f32]>::len)];
        let wanted = [outputs.y_h.map(SharedSlice::len), outputs.y_c.map(SharedSlice::len)];
        assert!(
            given.into_iter().chain(wanted).all(|length| fits(length, states)),
            "states of {states} elements"
        );
        assert!(
            fits(outputs.y.map(SharedSlice::len), steps * states),
            "outputs of {steps} × {states} elements"
        );
    }
}

impl Direction {
    fn new(
        level: Level,
        parameters: &RecurrentParameters,
        weights: &RecurrentWeights<'_>,
        index: usize,
        packing: &Packing,
    ) -> Direction {
        let RecurrentParameters { cell, input_size, hidden_size: hidden, .. } = *parameters;
        let columns = cell.gates() * hidden;
        let w = &weights.w[index * columns * input_size..][..columns * input_size];
        let r = &weights.r[index * columns * hidden..][..columns * hidden];
        let pack = |m: usize, k: usize, rows: Range<usize>, data: &[f32]| {
            let layout = pick(level, &Problem { m, n: rows.len(), k });
            PackedMatrix::new(layout, &data[rows.start * k..rows.end * k], 1, k, packing)
        };
        let (w_bias, r_bias) = match weights.b {
            Some(b) => b[index * 2 * columns..][..2 * columns].split_at(columns),
            None => (&[][..], &[][..]),
        };
        let mut input_bias = vec![0.0; columns];
        for (sum, (w, r)) in input_bias.iter_mut().zip(w_bias.iter().zip(r_bias)) {
            *sum = w + r;
        }
        let (mut state_bias, mut state) = (None, vec![]);
        match cell {
            Cell::Gru { linear_before_reset: true } if weights.b.is_some() => {
                let mut bias = vec![0.0; columns];
                bias[2 * hidden..].copy_from_slice(&r_bias[2 * hidden..]);
                input_bias[2 * hidden..].copy_from_slice(&w_bias[2 * hidden..]);
                state_bias = Some(bias);
            }
            _ => {}
        }
        if cell == (Cell::Gru { linear_before_reset: false }) {
            state.push(pack(1, hidden, 0..2 * hidden, r));
            state.push(pack(1, hidden, 2 * hidden..columns, r));
        } else {
            state.push(pack(1, hidden, 0..columns, r));
        }
        let per_direction = cell.default_functions().len();
        let functions = match parameters.functions.as_slice() {
            [] => cell.default_functions().to_vec(),
            functions => functions[index * per_direction..][..per_direction].to_vec(),
        };
        Direction {
            inputs: pack(64, input_size, 0..columns, w),
            input_bias,
            state,
            state_bias,
            peepholes: weights.p.map(|p| p[index * 3 * hidden..][..3 * hidden].to_vec()),
            functions,
            reverse: parameters.directions.is_reverse(index),
        }
    }
}

/// The run of one direction over some rows of the batch.
struct Call<'a> {
    layer: &'a Recurrent,
    /// Which direction.
    index: usize,
    direction: &'a Direction,
    steps: usize,
    batch: usize,
    rows: Range<usize>,
    inputs: &'a Inputs<'a>,
    outputs: &'a Outputs<'a>,
}

/// The scratch memory of a call; each with a row a row of the batch.
struct Memory<'a> {
    /// Rows × steps × gates.
    projection: &'a mut [f32],
    gates: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
}

impl Call<'_> {
    fn run(&self, scratch: &mut [f32]) {
        let hidden = self.hidden();
        let columns = self.layer.parameters.cell.gates() * hidden;
        let product_rows = self.product_rows();
        let (projection, rest) = scratch.split_at_mut((self.rows.len() * self.steps).max(2) * columns);
        let (gates, rest) = rest.split_at_mut(product_rows * columns);
        let (h, rest) = rest.split_at_mut(product_rows * hidden);
        let mut memory = Memory { projection, gates, h, c: &mut rest[..product_rows * hidden] };
        self.start(&mut memory);
        self.project(memory.projection);
        for step in 0..self.steps {
            self.step(&mut memory, step);
        }
        for (i, row) in self.rows.clone().enumerate() {
            for (output, state) in [(self.outputs.y_h, &memory.h), (self.outputs.y_c, &memory.c)] {
                if let Some(output) = output {
                    let start = self.state_offset(row);
                    // SAFETY: every row of every direction has its own part.
                    unsafe { output.slice(start..start + hidden) }
                        .copy_from_slice(&state[i * hidden..][..hidden]);
                }
            }
        }
    }

    fn hidden(&self) -> usize {
        self.layer.parameters.hidden_size
    }

    /// Rows of the products with the state. A product of one row may be summed in another order than that
    /// of more, so a single row of a larger batch gets a companion: the result must not depend on the parts.
    fn product_rows(&self) -> usize {
        if self.batch > 1 { self.rows.len().max(2) } else { 1 }
    }

    /// Where the states of a row of the batch begin.
    fn state_offset(&self, row: usize) -> usize {
        let directions = self.layer.directions.len();
        let index = if self.layer.parameters.batch_first {
            row * directions + self.index
        } else {
            self.index * self.batch + row
        };
        index * self.hidden()
    }

    /// The initial states.
    fn start(&self, memory: &mut Memory<'_>) {
        let hidden = self.hidden();
        for (initial, state) in
            [(self.inputs.initial_h, &mut *memory.h), (self.inputs.initial_c, &mut *memory.c)]
        {
            state.fill(0.0);
            if let Some(initial) = initial {
                for (i, row) in self.rows.clone().enumerate() {
                    state[i * hidden..][..hidden]
                        .copy_from_slice(&initial[self.state_offset(row)..][..hidden]);
                }
            }
        }
    }

    /// The products with the inputs of all steps.
    fn project(&self, projection: &mut [f32]) {
        let size = self.layer.parameters.input_size;
        let columns = self.direction.input_bias.len();
        let batch_first = self.layer.parameters.batch_first;
        let epilogue = Epilogue { bias: Some(&self.direction.input_bias), ..Epilogue::default() };
        let PackedMatrix { layout, data } = &self.direction.inputs;
        let product = |x: usize, stride: usize, rows: usize, out: &mut [f32]| {
            let c = SharedSlice::new(out);
            let x = &self.inputs.x[x..];
            gemm(self.layer.level, rows, x, stride, layout, data, &epilogue, c, columns, Part::WHOLE);
        };
        if self.steps == 0 {
            return;
        }
        if self.steps == 1 {
            // With a stride of 0 the companion is the row itself.
            let stride = if self.rows.len() == 1 { 0 } else { size };
            product(self.rows.start * size, stride, self.product_rows(), projection);
            return;
        }
        for (i, row) in self.rows.clone().enumerate() {
            let (first, stride) =
                if batch_first { (row * self.steps, size) } else { (row, self.batch * size) };
            let out = &mut projection[i * self.steps * columns..][..self.steps * columns];
            product(first * size, stride, self.steps, out);
        }
    }

    /// Steps of a row of the batch.
    fn length(&self, row: usize) -> usize {
        self.inputs.sequence_lens.map_or(self.steps, |lengths| (lengths[row].max(0) as usize).min(self.steps))
    }

    /// One step of all rows.
    fn step(&self, memory: &mut Memory<'_>, step: usize) {
        match self.layer.parameters.cell {
            Cell::Rnn => self.product_and_stage(memory, step, 0, Stage::Rnn),
            Cell::Lstm { input_forget } => {
                self.product_and_stage(memory, step, 0, Stage::Lstm { input_forget })
            }
            Cell::Gru { linear_before_reset: true } => {
                self.product_and_stage(memory, step, 0, Stage::GruLinear)
            }
            Cell::Gru { linear_before_reset: false } => {
                self.product_and_stage(memory, step, 0, Stage::GruReset);
                self.product_and_stage(memory, step, 1, Stage::GruUpdate);
            }
        }
        self.store(memory.h, step);
    }

    /// A product with the state (or the reset state), and what follows it in each row.
    fn product_and_stage(&self, memory: &mut Memory<'_>, step: usize, matrix: usize, stage: Stage) {
        let hidden = self.hidden();
        let columns = self.direction.input_bias.len();
        let PackedMatrix { layout, data } = &self.direction.state[matrix];
        let bias = self.direction.state_bias.as_deref().filter(|_| matrix == 0);
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        let state: &[f32] = if matrix == 0 { memory.h } else { memory.c };
        let out = SharedSlice::new(&mut memory.gates[matrix * 2 * hidden..]);
        let level = self.layer.level;
        gemm(level, self.product_rows(), state, hidden, layout, data, &epilogue, out, columns, Part::WHOLE);
        for (i, row) in self.rows.clone().enumerate() {
            let length = self.length(row);
            if step >= length {
                continue;
            }
            let t = if self.direction.reverse { length - 1 - step } else { step };
            level.run(Step {
                stage,
                functions: &self.direction.functions,
                clip: self.layer.parameters.clip,
                projection: &memory.projection[(i * self.steps + t) * columns..][..columns],
                gates: &mut memory.gates[i * columns..][..columns],
                h: &mut memory.h[i * hidden..][..hidden],
                c: &mut memory.c[i * hidden..][..hidden],
                peepholes: self.direction.peepholes.as_deref(),
            });
        }
    }

    /// The states after a step, or zeros for rows that have ended.
    fn store(&self, h: &[f32], step: usize) {
        let Some(y) = self.outputs.y else { return };
        let (hidden, directions) = (self.hidden(), self.layer.directions.len());
        for (i, row) in self.rows.clone().enumerate() {
            let length = self.length(row);
            let running = step < length;
            let t = if running && self.direction.reverse { length - 1 - step } else { step };
            let index = if self.layer.parameters.batch_first {
                (row * self.steps + t) * directions + self.index
            } else {
                (t * directions + self.index) * self.batch + row
            };
            // SAFETY: every row of every direction has its own part.
            let y = unsafe { y.slice(index * hidden..(index + 1) * hidden) };
            if running {
                y.copy_from_slice(&h[i * hidden..][..hidden]);
            } else {
                y.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::super::parameters::Directions;
    use super::*;

    /// What the products, functions and sums of a few steps may lose.
    const TOLERANCE: Tolerance = Tolerance::Relative(2e-5);

    #[derive(Clone, Debug)]
    struct Case {
        level: Level,
        parameters: RecurrentParameters,
        steps: usize,
        batch: usize,
        lengths: Option<Vec<i32>>,
        /// Whether there are biases, peepholes and initial states.
        full: bool,
    }

    /// Random operands of a case.
    struct Data {
        x: Vec<f32>,
        w: Vec<f32>,
        r: Vec<f32>,
        b: Vec<f32>,
        p: Vec<f32>,
        h: Vec<f32>,
        c: Vec<f32>,
    }

    impl Data {
        fn new(case: &Case) -> Data {
            let RecurrentParameters { cell, input_size, hidden_size, directions, .. } = case.parameters;
            let mut random = Random::new(11);
            let (d, columns) = (directions.count(), cell.gates() * hidden_size);
            let mut floats = |n: usize| random.floats(n);
            let mut data = Data {
                x: floats(case.steps * case.batch * input_size),
                w: floats(d * columns * input_size),
                r: floats(d * columns * hidden_size),
                b: floats(d * 2 * columns),
                p: floats(d * 3 * hidden_size),
                h: floats(d * case.batch * hidden_size),
                c: floats(d * case.batch * hidden_size),
            };
            if !case.full {
                for values in [&mut data.b, &mut data.p, &mut data.h, &mut data.c] {
                    values.fill(0.0);
                }
            }
            data
        }
    }

    fn scalar(function: GateFunction, clip: Option<f32>, x: f32) -> f32 {
        let x = clip.map_or(x, |clip| x.clamp(-clip, clip));
        match function {
            GateFunction::Activation(function) => crate::activation::apply_scalar(function, x),
            GateFunction::Affine { alpha, beta } => alpha * x + beta,
            GateFunction::ThresholdedRelu { alpha } => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            GateFunction::ScaledTanh { alpha, beta } => alpha * (beta * x).tanh(),
            GateFunction::Softsign => x / (1.0 + x.abs()),
        }
    }

    /// One step of one row in one direction, by ONNX's formulas.
    fn naive_step(case: &Case, data: &Data, d: usize, x: &[f32], h: &mut [f32], c: &mut [f32]) {
        let RecurrentParameters { cell, input_size, hidden_size: n, clip, ref functions, .. } =
            case.parameters;
        let columns = cell.gates() * n;
        let defaults = cell.default_functions();
        let of = |i: usize| functions.get(d * defaults.len() + i).copied().unwrap_or(defaults[i]);
        let f = |i: usize, x: f32| scalar(of(i), clip, x);
        let old = h.to_vec();
        let wx = |g: usize, i: usize| -> f32 {
            let row = d * columns + g * n + i;
            let sum: f32 = (0..input_size).map(|j| data.w[row * input_size + j] * x[j]).sum();
            sum + data.b[d * 2 * columns + g * n + i]
        };
        let rh = |g: usize, i: usize, h: &[f32]| -> f32 {
            let row = d * columns + g * n + i;
            let sum: f32 = (0..n).map(|j| data.r[row * n + j] * h[j]).sum();
            sum + data.b[d * 2 * columns + columns + g * n + i]
        };
        let p = |g: usize, i: usize| data.p[d * 3 * n + g * n + i];
        match cell {
            Cell::Rnn => (0..n).for_each(|i| h[i] = f(0, wx(0, i) + rh(0, i, &old))),
            Cell::Gru { linear_before_reset } => {
                let r: Vec<f32> = (0..n).map(|i| f(0, wx(1, i) + rh(1, i, &old))).collect();
                let reset: Vec<f32> = (0..n).map(|i| r[i] * old[i]).collect();
                for i in 0..n {
                    let z = f(0, wx(0, i) + rh(0, i, &old));
                    let recurrent =
                        if linear_before_reset { r[i] * rh(2, i, &old) } else { rh(2, i, &reset) };
                    h[i] = (1.0 - z) * f(1, wx(2, i) + recurrent) + z * old[i];
                }
            }
            Cell::Lstm { input_forget } => {
                for i in 0..n {
                    let gate = |g: usize| wx(g, i) + rh(g, i, &old);
                    let input = f(0, gate(0) + p(0, i) * c[i]);
                    let forget = if input_forget { 1.0 - input } else { f(0, gate(2) + p(2, i) * c[i]) };
                    c[i] = forget * c[i] + input * f(1, gate(3));
                    h[i] = f(0, gate(1) + p(1, i) * c[i]) * scalar(of(2), None, c[i]);
                }
            }
        }
    }

    /// Y, Y_h and Y_c of a case.
    fn naive(case: &Case, data: &Data) -> [Vec<f32>; 3] {
        let RecurrentParameters { input_size, hidden_size: n, directions, batch_first, .. } = case.parameters;
        let (steps, batch, count) = (case.steps, case.batch, directions.count());
        let (mut y, mut h, mut c) = (vec![0.0; steps * count * batch * n], data.h.clone(), data.c.clone());
        for (d, row) in (0..count * batch).map(|i| (i / batch, i % batch)) {
            let state = if batch_first { row * count + d } else { d * batch + row } * n;
            let length = case.lengths.as_ref().map_or(steps, |lengths| lengths[row] as usize);
            for step in 0..length {
                let t = if directions.is_reverse(d) { length - 1 - step } else { step };
                let x = if batch_first { row * steps + t } else { t * batch + row } * input_size;
                let (h, c) = (&mut h[state..state + n], &mut c[state..state + n]);
                naive_step(case, data, d, &data.x[x..x + input_size], h, c);
                let to =
                    if batch_first { (row * steps + t) * count + d } else { (t * count + d) * batch + row }
                        * n;
                y[to..to + n].copy_from_slice(h);
            }
        }
        [y, h, c]
    }

    fn check(case: &Case) -> Result<(), String> {
        let data = Data::new(case);
        let lstm = matches!(case.parameters.cell, Cell::Lstm { .. });
        let given = |values: &'_ Vec<f32>| case.full.then(|| values.clone());
        let (b, p, h, c) = (given(&data.b), given(&data.p), given(&data.h), given(&data.c));
        let weights =
            RecurrentWeights { w: &data.w, r: &data.r, b: b.as_deref(), p: p.as_deref().filter(|_| lstm) };
        let layer = Recurrent::new(case.level, &case.parameters, &weights, &Packing::default());
        let inputs = Inputs {
            x: &data.x,
            sequence_lens: case.lengths.as_deref(),
            initial_h: h.as_deref(),
            initial_c: c.as_deref().filter(|_| lstm),
        };
        let expected = naive(case, &data);
        let mut first: Option<[Vec<f32>; 3]> = None;
        for count in 1..=3 {
            let mut actual = expected.clone().map(|values| vec![f32::NAN; values.len()]);
            let [y, y_h, y_c] = actual.each_mut().map(|values| Some(SharedSlice::new(values)));
            let outputs = Outputs { y, y_h, y_c: y_c.filter(|_| lstm) };
            let mut scratch = vec![f32::NAN; layer.scratch_len(case.steps, case.batch)];
            for index in 0..count {
                layer.run(case.steps, case.batch, &inputs, &outputs, &mut scratch, Part { index, count });
            }
            for i in 0..if lstm { 3 } else { 2 } {
                compare(&actual[i], &expected[i], TOLERANCE).map_err(|e| format!("output {i}: {e}"))?;
                if let Some(first) = &first {
                    compare(&actual[i], &first[i], Tolerance::Exact)
                        .map_err(|e| format!("{count} parts: {e}"))?;
                }
            }
            first = first.or(Some(actual));
        }
        Ok(())
    }

    fn parameters(cell: Cell, sizes: [usize; 2], directions: Directions) -> RecurrentParameters {
        let [input_size, hidden_size] = sizes;
        let (functions, clip, batch_first) = (vec![], None, false);
        RecurrentParameters { cell, input_size, hidden_size, directions, functions, clip, batch_first }
    }

    const CELLS: [Cell; 5] = [
        Cell::Rnn,
        Cell::Gru { linear_before_reset: false },
        Cell::Gru { linear_before_reset: true },
        Cell::Lstm { input_forget: false },
        Cell::Lstm { input_forget: true },
    ];

    #[test]
    fn layers_match_the_formulas() {
        let directions = [Directions::Forward, Directions::Reverse, Directions::Bidirectional];
        let sizes = [([3, 5], 4, 1), ([7, 16], 1, 1), ([4, 17], 5, 3), ([9, 40], 1, 3), ([1, 1], 2, 2)];
        let mut cases = vec![];
        for level in Level::available() {
            for cell in CELLS {
                for (i, (sizes, steps, batch)) in sizes.into_iter().enumerate() {
                    for batch_first in [false, true] {
                        let direction = directions[(i + usize::from(batch_first)) % 3];
                        let parameters =
                            RecurrentParameters { batch_first, ..parameters(cell, sizes, direction) };
                        let lengths = (batch == 3).then(|| vec![steps as i32, 0, 1]);
                        cases.push(Case {
                            level,
                            parameters,
                            steps,
                            batch,
                            lengths,
                            full: (i + steps) % 3 > 0,
                        });
                    }
                }
            }
        }
        each_case(cases, check);
    }

    #[test]
    fn functions_and_clips_match_the_formulas() {
        let named = |name| GateFunction::from_name(name, None, None).expect("a known function");
        let sets = [
            ["HardSigmoid", "Softsign", "Relu"],
            ["Sigmoid", "ScaledTanh", "Affine"],
            ["hardsigmoid", "Elu", "LeakyRelu"],
            ["Softsign", "ThresholdedRelu", "Softplus"],
        ];
        let mut cases = vec![];
        for level in Level::available() {
            for cell in CELLS {
                for set in sets {
                    let functions =
                        set[..cell.default_functions().len()].iter().map(|name| named(name)).collect();
                    let parameters = RecurrentParameters {
                        functions,
                        clip: Some(0.7),
                        ..parameters(cell, [3, 6], Directions::Forward)
                    };
                    cases.push(Case { level, parameters, steps: 3, batch: 2, lengths: None, full: true });
                }
            }
        }
        each_case(cases, check);
    }

    #[test]
    fn nothing_to_do_is_done() {
        for (steps, batch) in [(0, 0), (0, 2), (3, 0)] {
            let parameters = parameters(Cell::Rnn, [2, 3], Directions::Forward);
            check(&Case { level: Level::best(), parameters, steps, batch, lengths: None, full: true })
                .expect("an empty run");
        }
    }
}
