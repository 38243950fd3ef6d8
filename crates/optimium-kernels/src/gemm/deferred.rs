//! Activations of many instructions, applied to several strips at once.
//!
//! A tile has too few vectors to hide the latency of such functions, and is stored and loaded to be passed to them anyway.
//! So strips store what the function is applied to, and it goes over the rows of a few while they are in the first cache.

use optimium_simd::{Simd, SimdTask};

use super::kernel::AnyStrips;
use super::lines::Walk;
use super::store::Finish;
use crate::activation::{Activation, apply};
use crate::epilogue::TileActivation;

/// Vectors of the strips that are stored before the function goes over them, about.
const VECTORS: usize = 128;

/// Takes the activation off `finish` where it is to be applied to stored strips.
pub(super) fn take(finish: &mut Finish, kept: bool) -> Option<Activation> {
    let TileActivation::Called(activation) = finish.activation else { return None };
    // What is added last may lie where the result goes.
    let late = finish.residual_last && !finish.residual.is_null();
    if late || finish.rounded || kept {
        return None;
    }
    finish.activation = TileActivation::Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY };
    Some(activation)
}

/// Strips of so many vectors that are stored before the function goes over them.
pub(super) fn strips_at_once(vectors: usize) -> usize {
    VECTORS.div_ceil(vectors.max(1))
}

/// Applies `activation` to the stored columns of the next `rows` rows of `result`.
pub(super) struct ActivateRows<'a> {
    pub(super) activation: Activation,
    pub(super) strips: &'a AnyStrips<'a>,
    pub(super) result: Walk,
    pub(super) rows: usize,
    /// Columns of the panel.
    pub(super) columns: usize,
}

impl SimdTask for ActivateRows<'_> {
    type Output = ();

    /// The caller promises that the strips have stored these rows.
    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let whole = self.columns / S::LANES * S::LANES;
        let mask = simd.first(self.columns - whole);
        for _ in 0..self.rows {
            let row = self.strips.c.wrapping_add(self.result.step() * self.strips.c_stride);
            // SAFETY: the rows and columns were just stored; the mask selects those of the last vector.
            unsafe {
                for column in (0..whole).step_by(S::LANES) {
                    let at = row.add(column);
                    simd.store(at, apply(simd, self.activation, simd.load(at)));
                }
                if whole < self.columns {
                    let at = row.add(whole);
                    simd.store_masked(at, apply(simd, self.activation, simd.load_masked(at, mask)), mask);
                }
            }
        }
    }
}
