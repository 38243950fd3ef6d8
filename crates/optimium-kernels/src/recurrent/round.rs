//! One round of one direction: the products of the state with some panels, and what follows them.

use std::ops::Range;

use optimium_simd::{Simd, SimdTask};

use super::gate::Functions;
use super::product::{MAX_ROWS, MAX_VECTORS, Product, largest_block};
use super::stage::{Stage, Units};
use super::state::StateMatrix;

/// A round of one direction, for all rows of the batch and the units of some panels.
pub(super) struct Round<'a, F> {
    pub(super) stage: Stage,
    pub(super) functions: F,
    pub(super) matrix: &'a StateMatrix,
    pub(super) panels: Range<usize>,
    /// Whether to begin at the end: see [`Product::backwards`].
    pub(super) backwards: bool,
    pub(super) batch: usize,
    /// Where each row of the batch is: called with the row.
    pub(super) row: &'a (dyn Fn(usize) -> Row + 'a),
    /// What is multiplied with the weights: batch × hidden.
    pub(super) factors: *const f32,
    /// Batch × hidden each; see [`Units`].
    pub(super) old: *const f32,
    pub(super) new: *mut f32,
    pub(super) carried: *mut f32,
    pub(super) state_bias: *const f32,
    pub(super) peepholes: *const f32,
}

/// The place of a row of the batch in a round.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Its products with the inputs, gate by gate; null where the row has ended, and its state stays.
    pub(super) projection: *const f32,
    /// Its element 0 in the output, if that is wanted: it gets zeros where the row has ended.
    pub(super) y: *mut f32,
}

/// The sums of a block of rows.
#[repr(align(64))]
struct Sums([f32; MAX_ROWS * MAX_VECTORS * 16]);

impl<F: Functions> SimdTask for Round<'_, F> {
    type Output = ();

    /// The caller promises that all that the stage uses lies where it says, and that the units of the panels are its own in what
    /// is written.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut sums = Sums([0.0; MAX_ROWS * MAX_VECTORS * 16]);
        let count = self.panels.len();
        for i in 0..count {
            let panel = if self.backwards { self.panels.end - 1 - i } else { self.panels.start + i };
            let mut row = 0;
            while row < self.batch {
                let rows = largest_block::<S>(self.batch - row);
                let product = Product {
                    weights: self.matrix.panel(panel).as_ptr(),
                    vectors: self.matrix.vectors(),
                    state: self.factors.wrapping_add(row * self.matrix.hidden),
                    hidden: self.matrix.hidden,
                    backwards: self.backwards,
                    sums: sums.0.as_mut_ptr(),
                };
                // SAFETY: the matrix says how large a panel is; the states are promised by the caller.
                unsafe { product.run(simd, rows) };
                for r in 0..rows {
                    // SAFETY: promised by the caller.
                    unsafe { self.finish(simd, panel, row + r, &sums.0[r * MAX_VECTORS * S::LANES..]) };
                }
                row += rows;
            }
        }
    }
}

impl<'a, F: Functions> Round<'a, F> {
    /// The same with other functions.
    pub(super) fn with<G>(self, functions: G) -> Round<'a, G> {
        let Round { stage, matrix, panels, backwards, batch, row, factors, old, new, carried, .. } = self;
        let (state_bias, peepholes) = (self.state_bias, self.peepholes);
        Round {
            stage,
            functions,
            matrix,
            panels,
            backwards,
            batch,
            row,
            factors,
            old,
            new,
            carried,
            state_bias,
            peepholes,
        }
    }

    /// What follows the products in one row.
    ///
    /// # Safety
    /// As [`Units::run`] says, for all units of the panel.
    #[inline(always)]
    unsafe fn finish<S: Simd>(&self, simd: S, panel: usize, row: usize, sums: &[f32]) {
        let hidden = self.matrix.hidden;
        let first = panel * self.matrix.panel_units();
        let place = (self.row)(row);
        for vector in 0..self.matrix.unit_vectors {
            let unit = first + vector * S::LANES;
            if unit >= hidden {
                break;
            }
            let at = row * hidden + unit;
            let optional = |p: *const f32| if p.is_null() { p } else { p.wrapping_add(unit) };
            let units = Units {
                count: (hidden - unit).min(S::LANES),
                sums: sums[vector * self.matrix.gates * S::LANES..].as_ptr(),
                projection: place.projection.wrapping_add(unit),
                gate_stride: hidden,
                state_bias: optional(self.state_bias),
                peepholes: optional(self.peepholes),
                old: self.old.wrapping_add(at),
                new: self.new.wrapping_add(at),
                carried: self.carried.wrapping_add(at),
                y: optional(place.y).cast_mut(),
            };
            // SAFETY: forwarded.
            unsafe {
                if place.projection.is_null() {
                    units.stay(self.stage);
                } else {
                    units.run(simd, self.stage, self.functions);
                }
            }
        }
    }
}
