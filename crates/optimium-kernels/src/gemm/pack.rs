//! Packing of right matrices.

use std::ops::Range;

use optimium_simd::{Simd, SimdTask};

use super::layout::{Layout, Panel};
use crate::{Part, SharedSlice};

/// See [`Layout::pack`].
pub(super) fn pack(
    layout: &Layout,
    b: &[f32],
    row_stride: usize,
    column_stride: usize,
    out: SharedSlice<f32>,
    part: Part,
) {
    if layout.is_empty() {
        return;
    }
    let last_row = (layout.k - 1).saturating_mul(row_stride);
    let last = last_row.saturating_add((layout.n - 1).saturating_mul(column_stride));
    assert!(last < b.len(), "a {}x{} matrix does not fit into {} elements", layout.k, layout.n, b.len());
    assert!(out.len() >= layout.len(), "{} elements for {layout}", out.len());
    if layout.group() > 1 {
        return pack_groups(layout, b, [row_stride, column_stride], out, part);
    }
    let rows = part.range_of_granules(layout.k, layout.lanes());
    layout.level.run(Pack { layout, b, row_stride, column_stride, out, rows });
}

/// As [`pack`], for the one panel of groups of rows.
fn pack_groups(
    layout: &Layout,
    b: &[f32],
    [row_stride, column_stride]: [usize; 2],
    out: SharedSlice<f32>,
    part: Part,
) {
    let (width, group) = (layout.tile.vectors * layout.lanes(), layout.group());
    for step in part.range(layout.steps()) {
        // SAFETY: each part has its own steps.
        let out = unsafe { out.slice(step * width..(step + 1) * width) };
        for (lane, element) in out.iter_mut().enumerate() {
            let (row, column) = (group * step + lane % group, lane / group);
            let exists = row < layout.k && column < layout.n;
            *element = if exists { b[row * row_stride + column * column_stride] } else { 0.0 };
        }
    }
}

struct Pack<'a> {
    layout: &'a Layout,
    b: &'a [f32],
    row_stride: usize,
    column_stride: usize,
    out: SharedSlice<'a, f32>,
    rows: Range<usize>,
}

impl SimdTask for Pack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for index in 0..self.layout.panels() {
            let panel = self.layout.panel(index);
            let width = panel.vectors * S::LANES;
            let range = panel.offset + self.rows.start * width..panel.offset + self.rows.end * width;
            // SAFETY: each part has its own rows of every panel.
            let out = unsafe { self.out.slice(range) };
            if self.column_stride == 1 {
                self.copy_rows(simd, panel, out);
            } else {
                self.transpose(simd, panel, out);
            }
        }
    }
}

impl Pack<'_> {
    /// The panel's rows of `self.rows` from rows that are contiguous in the source.
    #[inline(always)]
    fn copy_rows<S: Simd>(&self, simd: S, panel: Panel, out: &mut [f32]) {
        let mask = simd.first(panel.columns - (panel.vectors - 1) * S::LANES);
        for (k, row) in self.rows.clone().zip(out.chunks_exact_mut(panel.vectors * S::LANES)) {
            let source = &self.b[k * self.row_stride + panel.column..][..panel.columns];
            let (from, to) = (source.as_ptr(), row.as_mut_ptr());
            for v in 0..panel.vectors - 1 {
                // SAFETY: all vectors but the last one are whole in the source, and the row holds them.
                unsafe { simd.store(to.add(v * S::LANES), simd.load(from.add(v * S::LANES))) };
            }
            let last = (panel.vectors - 1) * S::LANES;
            // SAFETY: the mask selects the source's columns of the last vector.
            unsafe { simd.store(to.add(last), simd.load_masked(from.add(last), mask)) };
        }
    }

    /// The panel's rows of `self.rows` from rows that are not.
    #[inline(always)]
    fn transpose<S: Simd>(&self, simd: S, panel: Panel, out: &mut [f32]) {
        let width = panel.vectors * S::LANES;
        let mut k = self.rows.start;
        while k < self.rows.end {
            let depth = S::LANES.min(self.rows.end - k);
            for v in 0..panel.vectors {
                let columns = S::LANES.min(panel.columns - v * S::LANES);
                let column = panel.column + v * S::LANES;
                let source = &self.b[k * self.row_stride + column * self.column_stride..];
                let target = &mut out[(k - self.rows.start) * width + v * S::LANES..];
                if self.row_stride == 1 && depth == S::LANES && columns == S::LANES {
                    assert!(source.len() > (columns - 1) * self.column_stride + depth - 1);
                    assert!(target.len() >= (depth - 1) * width + S::LANES);
                    // SAFETY: both blocks lie in their slices, as just asserted.
                    unsafe {
                        simd.transpose(source.as_ptr(), self.column_stride, target.as_mut_ptr(), width)
                    };
                } else {
                    self.gather(source, target, [depth, columns], width, S::LANES);
                }
            }
            k += depth;
        }
    }

    /// A block of `depth × columns` element by element, and zeros up to `lanes` columns.
    #[inline(always)]
    fn gather(
        &self,
        source: &[f32],
        target: &mut [f32],
        [depth, columns]: [usize; 2],
        width: usize,
        lanes: usize,
    ) {
        for i in 0..depth {
            for (j, element) in target[i * width..][..lanes].iter_mut().enumerate() {
                *element =
                    if j < columns { source[i * self.row_stride + j * self.column_stride] } else { 0.0 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tile::Tile;
    use super::*;
    use crate::AlignedVec;
    use optimium_simd::Level;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    /// The packed form by its definition.
    fn expected(layout: &Layout, b: &[f32], strides: [usize; 2]) -> Vec<f32> {
        let mut out = Vec::new();
        if layout.group() > 1 {
            let group = layout.group();
            let width = layout.tile.vectors * layout.lanes() / group;
            for (step, column) in
                (0..layout.k.div_ceil(group)).flat_map(|step| (0..width).map(move |column| (step, column)))
            {
                let exists = |row: usize| row < layout.k && column < layout.n;
                let element = |row| if exists(row) { b[row * strides[0] + column * strides[1]] } else { 0.0 };
                out.extend((group * step..group * (step + 1)).map(element));
            }
            return out;
        }
        for panel in (0..layout.panels()).map(|index| layout.panel(index)) {
            for k in 0..layout.k {
                let element = |j| {
                    if j < panel.columns { b[k * strides[0] + (panel.column + j) * strides[1]] } else { 0.0 }
                };
                out.extend((0..panel.vectors * layout.lanes()).map(element));
            }
        }
        out
    }

    #[test]
    fn all_strides_and_parts_give_the_same_panels() {
        let sizes = [[1, 1], [3, 5], [16, 16], [17, 33], [40, 64], [33, 65], [64, 100], [0, 4], [4, 0]];
        each_case(sizes, |&[k, n]| {
            for strides in [[n + 2, 1], [1, k + 1], [2 * n + 1, 2], [n, 1]] {
                let b = Random::new(1).floats((k.max(1) - 1) * strides[0] + n.max(1) * strides[1] + k);
                for level in Level::available() {
                    let plain = Tile::all(level).map(|tile| Layout::new(level, tile, k, n));
                    for layout in plain.chain(Layout::grouped(level, k, n)) {
                        for count in 1..=3 {
                            let mut out = AlignedVec::zeroed(layout.len());
                            out.fill(f32::NAN);
                            let shared = SharedSlice::new(&mut out);
                            for index in 0..count {
                                layout.pack(&b, strides[0], strides[1], shared, Part { index, count });
                            }
                            compare(&out, &expected(&layout, &b, strides), Tolerance::Exact)
                                .map_err(|e| format!("{layout}, strides {strides:?}, {count} parts: {e}"))?;
                        }
                    }
                }
            }
            Ok(())
        });
    }
}
