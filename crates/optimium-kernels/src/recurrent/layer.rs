//! A recurrent layer with packed weights, and its rounds.

use std::ops::Range;
use std::ptr;

use optimium_simd::Level;

use super::gate::{DefaultFunctions, GivenFunctions};
use super::parameters::{Cell, RecurrentParameters, RecurrentWeights};
use super::round::{Round, Row};
use super::stage::Stage;
use super::state::{StateMatrix, unit_vectors};
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
    /// Of the state, for each stage of a step.
    state: Vec<StateMatrix>,
    /// What is added to the state's product for a GRU's hidden gate, where the reset gate applies to it too.
    state_bias: Option<Vec<f32>>,
    peepholes: Option<Vec<f32>>,
    /// None where they are ONNX's, without a bound.
    functions: Option<GivenFunctions>,
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

/// One run of a layer: its sizes and operands.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// Steps of the sequence.
    pub steps: usize,
    /// Rows of the batch.
    pub batch: usize,
    /// What is read.
    pub inputs: Inputs<'a>,
    /// What is written.
    pub outputs: Outputs<'a>,
    /// [`Recurrent::scratch_len`] elements that all parts share, and keep from round to round.
    pub scratch: SharedSlice<'a, f32>,
}

/// Scratch areas begin at multiples of this: a cache line.
const LINE: usize = 16;

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

    /// Elements of scratch memory of a run.
    pub fn scratch_len(&self, steps: usize, batch: usize) -> usize {
        let RecurrentParameters { cell, hidden_size, .. } = self.parameters;
        let states = (batch * hidden_size).next_multiple_of(LINE);
        let projection = (steps * batch * cell.gates() * hidden_size).next_multiple_of(LINE);
        self.directions.len() * (projection + States::COUNT * states)
    }

    /// Rounds of a run: one for the inputs, one or two for each step.
    pub fn rounds(&self, steps: usize) -> usize {
        1 + steps * self.stages().len()
    }

    /// Does this part of round `round` of a run. All parts must have done a round before any of them begins the next.
    ///
    /// # Panics
    /// Where a slice has another length than the shapes say.
    pub fn run(&self, run: &Run<'_>, round: usize, part: Part) {
        self.check(run);
        if self.parameters.hidden_size == 0 || run.batch == 0 {
            return;
        }
        if round == 0 {
            self.begin(run, part);
        } else {
            let stages = self.stages().len();
            self.step(run, (round - 1) / stages, (round - 1) % stages, part);
        }
    }

    fn check(&self, run: &Run<'_>) {
        let RecurrentParameters { input_size, hidden_size, .. } = self.parameters;
        let Run { steps, batch, inputs, outputs, scratch } = run;
        let states = self.directions.len() * batch * hidden_size;
        let fits = |length: Option<usize>, needed: usize| length.is_none_or(|length| length == needed);
        assert!(
            inputs.x.len() == steps * batch * input_size,
            "{} inputs for {steps} × {batch}",
            inputs.x.len()
        );
        assert!(fits(inputs.sequence_lens.map(<[i32]>::len), *batch), "sequence lengths for {batch} rows");
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
        assert!(scratch.len() >= self.scratch_len(*steps, *batch), "{} elements of scratch", scratch.len());
    }

    /// What a step does, one after the other; all parts meet in between.
    fn stages(&self) -> &'static [Stage] {
        match self.parameters.cell {
            Cell::Rnn => &[Stage::Rnn],
            Cell::Gru { linear_before_reset: true } => &[Stage::GruLinear],
            Cell::Gru { linear_before_reset: false } => &[Stage::GruReset, Stage::GruUpdate],
            Cell::Lstm { input_forget: false } => &[Stage::Lstm { input_forget: false }],
            Cell::Lstm { input_forget: true } => &[Stage::Lstm { input_forget: true }],
        }
    }

    /// The products with the inputs of all steps, and the initial states.
    fn begin(&self, run: &Run<'_>, part: Part) {
        let size = self.parameters.input_size;
        for (index, direction) in self.directions.iter().enumerate() {
            let (projection, _) = self.areas(run, index);
            let epilogue = Epilogue { bias: Some(&direction.input_bias), ..Epilogue::default() };
            let PackedMatrix { layout, data } = &direction.inputs;
            let (rows, x, columns) = (run.steps * run.batch, run.inputs.x, direction.input_bias.len());
            gemm(self.level, rows, x, size, layout, data, &epilogue, projection, columns, part);
        }
        for state in part.range(self.directions.len() * run.batch) {
            let (index, row) = (state / run.batch, state % run.batch);
            let states = self.areas(run, index).1;
            for (initial, to) in
                [(run.inputs.initial_h, states.h(0)), (run.inputs.initial_c, states.carried())]
            {
                let hidden = self.parameters.hidden_size;
                // SAFETY: every row of every direction has its own part.
                let to = unsafe { to.slice(row * hidden..(row + 1) * hidden) };
                match initial {
                    Some(initial) => {
                        to.copy_from_slice(&initial[self.state_offset(run, index, row)..][..hidden])
                    }
                    None => to.fill(0.0),
                }
            }
            if run.steps == 0 {
                self.end(run, index, row..row + 1, 0..self.parameters.hidden_size);
            }
        }
    }

    /// A stage of a step, for this part's units.
    fn step(&self, run: &Run<'_>, step: usize, stage: usize, part: Part) {
        let RecurrentParameters { hidden_size: hidden, .. } = self.parameters;
        for (index, direction) in self.directions.iter().enumerate() {
            let matrix = &direction.state[stage];
            let share = part.range(self.directions.len() * matrix.panels());
            let start = share.start.max(index * matrix.panels()) - index * matrix.panels();
            let end = share.end.min((index + 1) * matrix.panels()).saturating_sub(index * matrix.panels());
            if start >= end {
                continue;
            }
            self.panels(run, step, stage, index, start..end);
            if step + 1 == run.steps && stage + 1 == direction.state.len() {
                let units = start * matrix.panel_units()..(end * matrix.panel_units()).min(hidden);
                self.end(run, index, 0..run.batch, units);
            }
        }
    }

    /// A stage of a step of one direction, for the units of some panels.
    fn panels(&self, run: &Run<'_>, step: usize, stage: usize, index: usize, panels: Range<usize>) {
        let direction = &self.directions[index];
        let (projection, states) = self.areas(run, index);
        let kind = self.stages()[stage];
        let (old, next) = (states.h(step % 2).as_mut_ptr(), states.h((step + 1) % 2).as_mut_ptr());
        let reset = states.reset().as_mut_ptr();
        let pointer =
            |values: &Option<Vec<f32>>| values.as_ref().map_or(ptr::null(), |values| values.as_ptr());
        let row = |row: usize| self.row(run, index, step, row, projection.as_mut_ptr());
        let round = Round {
            stage: kind,
            functions: DefaultFunctions,
            matrix: &direction.state[stage],
            panels,
            backwards: step % 2 == 1,
            batch: run.batch,
            row: &row,
            factors: if kind == Stage::GruUpdate { reset } else { old },
            old,
            new: if kind == Stage::GruReset { reset } else { next },
            carried: states.carried().as_mut_ptr(),
            state_bias: pointer(&direction.state_bias),
            peepholes: pointer(&direction.peepholes),
        };
        match direction.functions {
            None => self.level.run(round),
            Some(functions) => self.level.run(round.with(functions)),
        }
    }

    /// Where a row of the batch is in a step of direction `index`.
    fn row(&self, run: &Run<'_>, index: usize, step: usize, row: usize, projection: *const f32) -> Row {
        let RecurrentParameters { cell, hidden_size: hidden, batch_first, .. } = self.parameters;
        let lengths = run.inputs.sequence_lens;
        let length = lengths.map_or(run.steps, |lengths| (lengths[row].max(0) as usize).min(run.steps));
        let running = step < length;
        let t = if running && self.directions[index].reverse { length - 1 - step } else { step };
        let (position, y) = if batch_first {
            let position = row * run.steps + t;
            (position, position * self.directions.len() + index)
        } else {
            (t * run.batch + row, (t * self.directions.len() + index) * run.batch + row)
        };
        let projection = projection.wrapping_add(position * cell.gates() * hidden);
        Row {
            projection: if running { projection } else { ptr::null() },
            y: run.outputs.y.map_or(ptr::null_mut(), |all| all.as_mut_ptr().wrapping_add(y * hidden)),
        }
    }

    /// Hands out the last states.
    fn end(&self, run: &Run<'_>, index: usize, rows: Range<usize>, units: Range<usize>) {
        let (_, states) = self.areas(run, index);
        for row in rows {
            let from = row * self.parameters.hidden_size;
            let to = self.state_offset(run, index, row);
            for (output, state) in
                [(run.outputs.y_h, states.h(run.steps % 2)), (run.outputs.y_c, states.carried())]
            {
                if let Some(output) = output {
                    // SAFETY: every unit of every row and direction has its own part, which has computed it.
                    let (output, state) = unsafe {
                        (
                            output.slice(to + units.start..to + units.end),
                            state.slice(from + units.start..from + units.end),
                        )
                    };
                    output.copy_from_slice(state);
                }
            }
        }
    }

    /// Where the states of a row of the batch begin.
    fn state_offset(&self, run: &Run<'_>, index: usize, row: usize) -> usize {
        let directions = self.directions.len();
        let index =
            if self.parameters.batch_first { row * directions + index } else { index * run.batch + row };
        index * self.parameters.hidden_size
    }

    /// The scratch memory of direction `index`: the products with the inputs, and the states.
    fn areas<'a>(&self, run: &Run<'a>, index: usize) -> (SharedSlice<'a, f32>, States<'a>) {
        let each = self.scratch_len(run.steps, run.batch) / self.directions.len();
        let length = (run.batch * self.parameters.hidden_size).next_multiple_of(LINE);
        let states = (index + 1) * each - States::COUNT * length;
        let projection = run.scratch.narrow(index * each..states);
        (projection, States { all: run.scratch.narrow(states..(index + 1) * each), length })
    }
}

/// The states of a direction, batch × hidden size each.
#[derive(Clone, Copy)]
struct States<'a> {
    all: SharedSlice<'a, f32>,
    length: usize,
}

impl<'a> States<'a> {
    const COUNT: usize = 4;

    fn area(self, index: usize) -> SharedSlice<'a, f32> {
        self.all.narrow(index * self.length..(index + 1) * self.length)
    }

    /// The state before the steps of that parity: others may read it while the next one is written.
    fn h(self, parity: usize) -> SharedSlice<'a, f32> {
        self.area(parity)
    }

    /// The state of the cell of an LSTM, or the update gate of a GRU from one stage to the next.
    fn carried(self) -> SharedSlice<'a, f32> {
        self.area(2)
    }

    /// The reset state of a GRU.
    fn reset(self) -> SharedSlice<'a, f32> {
        self.area(3)
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
        let layout = pick(level, &Problem { m: 64, n: columns, k: input_size });
        let inputs = PackedMatrix::new(layout, w, 1, input_size, packing);
        let (w_bias, r_bias) = match weights.b {
            Some(b) => b[index * 2 * columns..][..2 * columns].split_at(columns),
            None => (&[][..], &[][..]),
        };
        let mut input_bias = vec![0.0; columns];
        for (sum, (w, r)) in input_bias.iter_mut().zip(w_bias.iter().zip(r_bias)) {
            *sum = w + r;
        }
        let mut state_bias = None;
        if cell == (Cell::Gru { linear_before_reset: true }) && weights.b.is_some() {
            input_bias[2 * hidden..].copy_from_slice(&w_bias[2 * hidden..]);
            state_bias = Some(r_bias[2 * hidden..].to_vec());
        }
        // Where the gates of each stage end.
        let ends: &[usize] = match cell {
            Cell::Gru { linear_before_reset: false } => &[2, 3],
            _ => &[cell.gates()],
        };
        let wide = unit_vectors(level, cell.gates(), hidden);
        let starts = [0].iter().chain(ends);
        let state = starts
            .zip(ends)
            .map(|(&start, &end)| StateMatrix::new(level, r, hidden, start..end, wide, packing))
            .collect();
        Direction {
            inputs,
            input_bias,
            state,
            state_bias,
            peepholes: weights.p.map(|p| p[index * 3 * hidden..][..3 * hidden].to_vec()),
            functions: given_functions(parameters, index),
            reverse: parameters.directions.is_reverse(index),
        }
    }
}

/// The functions of a direction; `None` where they are the default ones without a bound.
fn given_functions(parameters: &RecurrentParameters, index: usize) -> Option<GivenFunctions> {
    let defaults = parameters.cell.default_functions();
    let functions = match parameters.functions.as_slice() {
        [] => defaults,
        functions => &functions[index * defaults.len()..][..defaults.len()],
    };
    if functions == defaults && parameters.clip.is_none() {
        return None;
    }
    let functions = match *functions {
        [candidate] => [candidate; 3],
        [gate, candidate] => [gate, candidate, candidate],
        [gate, candidate, cell, ..] => [gate, candidate, cell],
        [] => unreachable!("every cell has functions"),
    };
    Some(GivenFunctions { functions, clip: parameters.clip })
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::super::gate::GateFunction;
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
            let scratch = SharedSlice::new(&mut scratch);
            let run = Run { steps: case.steps, batch: case.batch, inputs, outputs, scratch };
            for round in 0..layer.rounds(case.steps) {
                // Whatever the order, a part must find what the others did in the rounds before.
                for index in if round % 2 == 0 { [0, 1, 2] } else { [2, 1, 0] } {
                    if index < count {
                        layer.run(&run, round, Part { index, count });
                    }
                }
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
        let sizes = [
            ([3, 5], 4, 1),
            ([7, 16], 1, 1),
            ([4, 17], 5, 3),
            ([9, 40], 1, 3),
            ([1, 1], 2, 2),
            ([5, 64], 3, 1),
            ([6, 131], 2, 15),
            ([2, 128], 2, 9),
        ];
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
