//! What follows the products with the state: one vector of units of one row of the batch.

use optimium_simd::Simd;

use super::gate::{Functions, Role};

/// What is done between or after the products.
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

/// Where the operands of a vector of units lie: each has one element a unit.
#[derive(Clone, Copy)]
pub(super) struct Units {
    /// How many units there are: a vector at most.
    pub(super) count: usize,
    /// The products with the state, a vector for each gate of the stage.
    pub(super) sums: *const f32,
    /// The products with the inputs for the first gate of the cell, and the distance to the next gate's.
    pub(super) projection: *const f32,
    pub(super) gate_stride: usize,
    /// What is added to the product with the state of a GRU's hidden gate before it is reset, if anything.
    pub(super) state_bias: *const f32,
    /// The peepholes of an LSTM, if any: input, output, forget, at that same distance.
    pub(super) peepholes: *const f32,
    /// The state before.
    pub(super) old: *const f32,
    /// The state after; that of a GRU after the reset, where that is all so far.
    pub(super) new: *mut f32,
    /// The state of the cell of an LSTM, or the update gate of a GRU from one stage to the next.
    pub(super) carried: *mut f32,
    /// Where the state is wanted too, if anywhere.
    pub(super) y: *mut f32,
}

/// Loads and stores of the units that exist.
#[derive(Clone, Copy)]
struct Access<S: Simd> {
    simd: S,
    count: usize,
}

impl<S: Simd> Access<S> {
    /// # Safety
    /// The units' elements are readable at `p`.
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> S::F32 {
        // SAFETY: forwarded.
        unsafe {
            if self.count >= S::LANES {
                self.simd.load(p)
            } else {
                self.simd.load_masked(p, self.simd.first(self.count))
            }
        }
    }

    /// As [`load`](Self::load), but zeros where `p` is null.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn load_if_any(self, p: *const f32, offset: usize) -> S::F32 {
        if p.is_null() {
            return self.simd.splat(0.0);
        }
        // SAFETY: forwarded.
        unsafe { self.load(p.wrapping_add(offset)) }
    }

    /// # Safety
    /// The units' elements are writable at `p`.
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, x: S::F32) {
        // SAFETY: forwarded.
        unsafe {
            if self.count >= S::LANES {
                self.simd.store(p, x);
            } else {
                self.simd.store_masked(p, x, self.simd.first(self.count));
            }
        }
    }
}

impl Units {
    /// Does the stage.
    ///
    /// # Safety
    /// What the stage uses is readable, and `new`, `carried` and `y` writable and nobody else's.
    #[inline(always)]
    pub(super) unsafe fn run<S: Simd>(&self, simd: S, stage: Stage, functions: impl Functions) {
        let access = Access { simd, count: self.count };
        // SAFETY: forwarded.
        unsafe {
            let state = match stage {
                Stage::Rnn => functions.apply(simd, Role::Candidate, self.gate(access, 0, 0)),
                Stage::GruReset => {
                    access.store(self.carried, functions.apply(simd, Role::Gate, self.gate(access, 0, 0)));
                    let reset = functions.apply(simd, Role::Gate, self.gate(access, 1, 1));
                    simd.mul(reset, access.load(self.old))
                }
                Stage::GruUpdate => {
                    let candidate = functions.apply(simd, Role::Candidate, self.gate(access, 0, 2));
                    self.gru(access, access.load(self.carried), candidate)
                }
                Stage::GruLinear => {
                    let update = functions.apply(simd, Role::Gate, self.gate(access, 0, 0));
                    let reset = functions.apply(simd, Role::Gate, self.gate(access, 1, 1));
                    let sum = simd.add(self.sum(simd, 2), access.load_if_any(self.state_bias, 0));
                    let candidate = simd.fma(reset, sum, access.load(self.projected(2)));
                    self.gru(access, update, functions.apply(simd, Role::Candidate, candidate))
                }
                Stage::Lstm { input_forget } => self.lstm(access, input_forget, functions),
            };
            access.store(self.new, state);
            if !self.y.is_null() && stage != Stage::GruReset {
                access.store(self.y, state);
            }
        }
    }

    /// What the stage does in a row that has ended: the state stays as it is.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    #[inline(always)]
    pub(super) unsafe fn stay(&self, stage: Stage) {
        if stage == Stage::GruReset {
            return;
        }
        for i in 0..self.count {
            // SAFETY: forwarded.
            unsafe {
                *self.new.wrapping_add(i) = *self.old.wrapping_add(i);
                if !self.y.is_null() {
                    *self.y.wrapping_add(i) = 0.0;
                }
            }
        }
    }

    /// The product with the state for the gate of that position in the stage.
    ///
    /// # Safety
    /// It is readable.
    #[inline(always)]
    unsafe fn sum<S: Simd>(&self, simd: S, position: usize) -> S::F32 {
        // SAFETY: forwarded.
        unsafe { simd.load(self.sums.wrapping_add(position * S::LANES)) }
    }

    /// Where the product with the inputs is for a gate of the cell.
    #[inline(always)]
    fn projected(&self, gate: usize) -> *const f32 {
        self.projection.wrapping_add(gate * self.gate_stride)
    }

    /// Both products for the gate of that position in the stage, and that number in the cell.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    unsafe fn gate<S: Simd>(&self, access: Access<S>, position: usize, gate: usize) -> S::F32 {
        // SAFETY: forwarded.
        unsafe { access.simd.add(self.sum(access.simd, position), access.load(self.projected(gate))) }
    }

    /// `(1 - update) · candidate + update · old`
    ///
    /// # Safety
    /// The old state is readable.
    #[inline(always)]
    unsafe fn gru<S: Simd>(&self, access: Access<S>, update: S::F32, candidate: S::F32) -> S::F32 {
        let simd = access.simd;
        // SAFETY: forwarded.
        let old = unsafe { access.load(self.old) };
        simd.fma(update, old, simd.mul(simd.sub(simd.splat(1.0), update), candidate))
    }

    /// The new state; that of the cell is stored.
    ///
    /// # Safety
    /// As for [`run`](Self::run).
    #[inline(always)]
    unsafe fn lstm<S: Simd>(
        &self,
        access: Access<S>,
        input_forget: bool,
        functions: impl Functions,
    ) -> S::F32 {
        let (simd, stride) = (access.simd, self.gate_stride);
        // SAFETY: forwarded.
        unsafe {
            let before = access.load(self.carried);
            let input = self.gate(access, 0, 0);
            let input = simd.fma(access.load_if_any(self.peepholes, 0), before, input);
            let input = functions.apply(simd, Role::Gate, input);
            let forget = if input_forget {
                simd.sub(simd.splat(1.0), input)
            } else {
                let forget = self.gate(access, 2, 2);
                let forget = simd.fma(access.load_if_any(self.peepholes, 2 * stride), before, forget);
                functions.apply(simd, Role::Gate, forget)
            };
            let candidate = functions.apply(simd, Role::Candidate, self.gate(access, 3, 3));
            let cell = simd.fma(forget, before, simd.mul(input, candidate));
            access.store(self.carried, cell);
            let output = self.gate(access, 1, 1);
            let output = simd.fma(access.load_if_any(self.peepholes, stride), cell, output);
            let output = functions.apply(simd, Role::Gate, output);
            simd.mul(output, functions.apply(simd, Role::CellState, cell))
        }
    }
}
