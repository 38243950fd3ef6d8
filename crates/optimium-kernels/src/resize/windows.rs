//! Rows of single elements, blended by vectors of outputs.
//!
//! A vector of neighbouring outputs reads few neighbouring inputs where an axis grows: they lie in one vector, from
//! which both neighbours of every output are picked.

use optimium_simd::{Level, Simd};

use super::AxisTable;

/// Where the vectors of outputs of a linear axis read.
#[derive(Clone, Debug)]
pub(super) struct Windows {
    lanes: usize,
    /// Elements of the axis.
    input: usize,
    output: usize,
    /// For each vector of outputs the first element of its window.
    starts: Vec<usize>,
    /// For each output which elements of the window it reads, and their weights. Filled up to whole vectors.
    picks: [Vec<i32>; 2],
    weights: [Vec<f32>; 2],
}

impl Windows {
    /// Those of `axis` for vectors of that level, if every vector's inputs lie in one.
    pub(super) fn new(level: Level, axis: &AxisTable) -> Option<Windows> {
        if !axis.is_linear() || !level.is_available() {
            return None;
        }
        let (lanes, output) = (level.lanes(), axis.output());
        let length = output.next_multiple_of(lanes);
        let mut windows = Windows {
            lanes,
            input: axis.input(),
            output,
            starts: Vec::new(),
            picks: [vec![0; length], vec![0; length]],
            weights: [vec![0.0; length], vec![0.0; length]],
        };
        for first in (0..output).step_by(lanes) {
            let outputs = first..output.min(first + lanes);
            let read = || outputs.clone().flat_map(|output| axis.indices(output));
            let (&lowest, &highest) = (read().min()?, read().max()?);
            if highest - lowest >= lanes {
                return None;
            }
            // As far left as the row's end demands.
            let start = lowest.min(axis.input().saturating_sub(lanes));
            windows.starts.push(start);
            for output in outputs {
                for side in 0..2 {
                    windows.picks[side][output] = (axis.indices(output)[side] - start) as i32;
                    windows.weights[side][output] = axis.weights(output)[side];
                }
            }
        }
        Some(windows)
    }

    /// Blends two rows of inputs, `down` by their weights and across by the axis, to a row of outputs.
    ///
    /// # Panics
    /// Where the rows have other lengths, or the windows are for other vectors.
    #[inline(always)]
    pub(super) fn blend<S: Simd>(&self, simd: S, rows: [&[f32]; 2], down: [f32; 2], to: &mut [f32]) {
        assert!(
            rows.iter().all(|row| row.len() == self.input)
                && to.len() == self.output
                && S::LANES == self.lanes
        );
        let down = [simd.splat(down[0]), simd.splat(down[1])];
        let mask = simd.first(self.input);
        let whole = self.input >= S::LANES;
        for (index, &start) in self.starts.iter().enumerate() {
            let first = index * S::LANES;
            // SAFETY: windows lie in the rows, or end with them where the mask does; the lists are filled up to whole
            // vectors, and the row of outputs ends no earlier than the last mask.
            unsafe {
                let [upper, lower] =
                    [load(simd, rows[0], start, whole, mask), load(simd, rows[1], start, whole, mask)];
                let window = simd.fma(lower, down[1], simd.mul(upper, down[0]));
                let left = simd.permute(window, simd.load_i32(self.picks[0].as_ptr().add(first)));
                let right = simd.permute(window, simd.load_i32(self.picks[1].as_ptr().add(first)));
                let y = simd.mul(left, simd.load(self.weights[0].as_ptr().add(first)));
                let y = simd.fma(right, simd.load(self.weights[1].as_ptr().add(first)), y);
                let at = to.as_mut_ptr().add(first);
                if first + S::LANES <= self.output {
                    simd.store(at, y);
                } else {
                    simd.store_masked(at, y, simd.first(self.output - first));
                }
            }
        }
    }
}

/// The vector from `start` on, or what `mask` selects of one that is not `whole`.
///
/// # Safety
/// The row has these elements.
#[inline(always)]
unsafe fn load<S: Simd>(simd: S, row: &[f32], start: usize, whole: bool, mask: S::Mask) -> S::F32 {
    // SAFETY: forwarded.
    unsafe {
        let at = row.as_ptr().add(start);
        if whole { simd.load(at) } else { simd.load_masked(at, mask) }
    }
}
