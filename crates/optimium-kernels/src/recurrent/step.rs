//! One step of one row of the batch, after the products.

use optimium_simd::{Simd, SimdTask};

use super::gate::GateFunction;

/// What a step does between or after the products.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// `h = f(gates)`
    Rnn,
    /// Update and reset gates, and the reset state for the next product.
    GruReset,
    /// The new state, from the hidden gate's product with the reset state.
    GruUpdate,
    /// All of a GRU that resets after the product.
    GruLinear,
    /// All of an LSTM.
    Lstm {
        /// Whether the forget gate is one minus the input gate.
        input_forget: bool,
    },
}

/// The operands of a stage. All but `gates` and `projection` have one element a hidden unit.
pub(super) struct Step<'a> {
    pub(super) stage: Stage,
    pub(super) functions: &'a [GateFunction],
    pub(super) clip: Option<f32>,
    /// The product with the inputs, gate by gate.
    pub(super) projection: &'a [f32],
    /// The product with the state, gate by gate; becomes the gates.
    pub(super) gates: &'a mut [f32],
    /// The state.
    pub(super) h: &'a mut [f32],
    /// The state of the cell of an LSTM, or the reset state of a GRU.
    pub(super) c: &'a mut [f32],
    /// The peepholes: input, output, forget.
    pub(super) peepholes: Option<&'a [f32]>,
}

impl SimdTask for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.stage {
            Stage::Rnn => self.rnn(simd),
            Stage::GruReset => self.gru_reset(simd),
            Stage::GruUpdate => self.gru_update(simd, false),
            Stage::GruLinear => {
                let n = self.h.len();
                add(simd, &mut self.gates[..2 * n], self.projection);
                self.functions[0].apply_to(simd, self.clip, &mut self.gates[..2 * n]);
                self.gru_update(simd, true);
            }
            Stage::Lstm { input_forget } => self.lstm(simd, input_forget),
        }
    }
}

impl Step<'_> {
    #[inline(always)]
    fn rnn<S: Simd>(self, simd: S) {
        add(simd, self.gates, self.projection);
        self.functions[0].apply_to(simd, self.clip, self.gates);
        self.h.copy_from_slice(self.gates);
    }

    #[inline(always)]
    fn gru_reset<S: Simd>(self, simd: S) {
        let n = self.h.len();
        let gates = &mut self.gates[..2 * n];
        add(simd, gates, self.projection);
        self.functions[0].apply_to(simd, self.clip, gates);
        each(
            simd,
            n,
            [&gates[n..], self.h, &[], &[]],
            self.c,
            #[inline(always)]
            |[r, h, _, _], _| simd.mul(r, h),
        );
    }

    /// From the update and reset gates to the new state; the hidden gate's product is either reset now, or
    /// was made from the reset state.
    #[inline(always)]
    fn gru_update<S: Simd>(self, simd: S, reset: bool) {
        let n = self.h.len();
        let (update_reset, hidden) = self.gates.split_at_mut(2 * n);
        let (update, resets) = update_reset.split_at(n);
        let projection = &self.projection[2 * n..];
        if reset {
            each(
                simd,
                n,
                [resets, projection, &[], &[]],
                hidden,
                #[inline(always)]
                |[r, x, _, _], product| simd.fma(r, product, x),
            );
        } else {
            add(simd, hidden, projection);
        }
        self.functions[1].apply_to(simd, self.clip, hidden);
        // (1 - z) · hidden + z · h
        each(
            simd,
            n,
            [update, hidden, &[], &[]],
            self.h,
            #[inline(always)]
            |[z, hidden, _, _], h| simd.fma(z, h, simd.mul(simd.sub(simd.splat(1.0), z), hidden)),
        );
    }

    #[inline(always)]
    fn lstm<S: Simd>(self, simd: S, input_forget: bool) {
        let n = self.h.len();
        let functions = self.functions;
        add(simd, self.gates, self.projection);
        let (input, rest) = self.gates.split_at_mut(n);
        let (output, rest) = rest.split_at_mut(n);
        let (forget, cell) = rest.split_at_mut(n);
        if let Some(p) = self.peepholes {
            add_product(simd, input, &p[..n], self.c);
            add_product(simd, forget, &p[2 * n..], self.c);
        }
        functions[0].apply_to(simd, self.clip, input);
        if input_forget {
            each(
                simd,
                n,
                [input, &[], &[], &[]],
                forget,
                #[inline(always)]
                |[i, ..], _| simd.sub(simd.splat(1.0), i),
            );
        } else {
            functions[0].apply_to(simd, self.clip, forget);
        }
        functions[1].apply_to(simd, self.clip, cell);
        each(
            simd,
            n,
            [input, forget, cell, &[]],
            self.c,
            #[inline(always)]
            |[i, f, cell, _], c| simd.fma(f, c, simd.mul(i, cell)),
        );
        if let Some(p) = self.peepholes {
            add_product(simd, output, &p[n..2 * n], self.c);
        }
        functions[0].apply_to(simd, self.clip, output);
        cell.copy_from_slice(self.c);
        functions[2].apply_to(simd, None, cell);
        each(
            simd,
            n,
            [output, cell, &[], &[]],
            self.h,
            #[inline(always)]
            |[o, c, _, _], _| simd.mul(o, c),
        );
    }
}

/// `to[i] = f([from[0][i], ..], to[i])` for `n` elements; an empty operand reads as zeros.
#[inline(always)]
fn each<S: Simd>(
    simd: S,
    n: usize,
    from: [&[f32]; 4],
    to: &mut [f32],
    f: impl Fn([S::F32; 4], S::F32) -> S::F32,
) {
    assert!(to.len() >= n && from.iter().all(|x| x.is_empty() || x.len() >= n), "{n} elements of a step");
    let mut i = 0;
    while i < n {
        let mask = simd.first(n - i);
        // SAFETY: the operands have n elements, of which only those that exist are touched.
        unsafe {
            let values = from.map(
                #[inline(always)]
                |x| if x.is_empty() { simd.splat(0.0) } else { simd.load_masked(x.as_ptr().add(i), mask) },
            );
            let p = to.as_mut_ptr().add(i);
            simd.store_masked(p, f(values, simd.load_masked(p, mask)), mask);
        }
        i += S::LANES;
    }
}

/// `to += x`
#[inline(always)]
fn add<S: Simd>(simd: S, to: &mut [f32], x: &[f32]) {
    each(
        simd,
        to.len(),
        [x, &[], &[], &[]],
        to,
        #[inline(always)]
        |[x, ..], to| simd.add(to, x),
    );
}

/// `to += a · b`
#[inline(always)]
fn add_product<S: Simd>(simd: S, to: &mut [f32], a: &[f32], b: &[f32]) {
    each(
        simd,
        to.len(),
        [a, b, &[], &[]],
        to,
        #[inline(always)]
        |[a, b, ..], to| simd.fma(a, b, to),
    );
}
