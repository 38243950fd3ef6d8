//! The weights of the state, in the order in which a step reads them.

use std::ops::Range;

use optimium_simd::Level;

use crate::{Packed, Packing};

/// Some gates' weights of the state, in panels: the columns of all these gates for a few vectors of units.
///
/// A panel is `[k][vector of units][gate][lane]`, so that what a unit needs is summed side by side. Units that do not exist
/// have zeros.
#[derive(Clone, Debug)]
pub(super) struct StateMatrix {
    /// Gates of this matrix.
    pub(super) gates: usize,
    /// Vectors of units in a panel.
    pub(super) unit_vectors: usize,
    /// The hidden size: rows, and units.
    pub(super) hidden: usize,
    lanes: usize,
    packed: Packed<f32>,
}

/// Vectors of units in a panel for a layer of `hidden` units: several where that leaves an even number of panels, so that
/// they fill the registers and two workers find the same number.
pub(super) fn unit_vectors(level: Level, gates: usize, hidden: usize) -> usize {
    let wide = if gates == 1 { 4 } else { 2 };
    if hidden.div_ceil(level.lanes()).is_multiple_of(2 * wide) { wide } else { 1 }
}

impl StateMatrix {
    /// Packs the rows `gates` (counted in gates) of `r`, which has `hidden` rows of `hidden` elements for each gate.
    pub(super) fn new(
        level: Level,
        r: &[f32],
        hidden: usize,
        gates: Range<usize>,
        unit_vectors: usize,
        packing: &Packing,
    ) -> StateMatrix {
        let (lanes, first, count) = (level.lanes(), gates.start, gates.len());
        let panels = hidden.div_ceil(lanes * unit_vectors);
        let length = panels * unit_vectors * lanes * count * hidden;
        let form = format_args!(
            "gates {first}..{} of the state, panels of {unit_vectors} × {lanes} units",
            gates.end
        );
        let packed = packing.block(form, length, |out: &mut [f32]| {
            for unit in 0..hidden {
                let (vector, lane) = (unit / lanes, unit % lanes);
                let (panel, vector) = (vector / unit_vectors, vector % unit_vectors);
                for gate in 0..count {
                    let row = &r[((first + gate) * hidden + unit) * hidden..][..hidden];
                    let width = unit_vectors * count * lanes;
                    let column = (vector * count + gate) * lanes + lane;
                    for (k, &weight) in row.iter().enumerate() {
                        out[(panel * hidden + k) * width + column] = weight;
                    }
                }
            }
        });
        StateMatrix { gates: count, unit_vectors, hidden, lanes, packed }
    }

    /// Vectors of a row of a panel.
    pub(super) fn vectors(&self) -> usize {
        self.unit_vectors * self.gates
    }

    /// Units of a panel.
    pub(super) fn panel_units(&self) -> usize {
        self.unit_vectors * self.lanes
    }

    /// Number of panels.
    pub(super) fn panels(&self) -> usize {
        self.hidden.div_ceil(self.panel_units())
    }

    /// The weights of a panel: rows of [`vectors`](Self::vectors).
    pub(super) fn panel(&self, index: usize) -> &[f32] {
        let length = self.hidden * self.vectors() * self.lanes;
        &self.packed[index * length..][..length]
    }
}
