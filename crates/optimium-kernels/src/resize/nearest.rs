//! Copies of the nearest elements.

use super::Resize;
use crate::{Part, SharedSlice};

/// Runs a resize whose tables have one tap, with elements of any type; sizes have been checked.
pub(super) fn run(
    resize: &Resize,
    x: &[u8],
    outside: &[u8],
    element_size: usize,
    y: SharedSlice<'_, u8>,
    part: Part,
) {
    let (before, last) = resize.rows();
    let bytes = resize.inner * element_size;
    let [from_step, to_step] = [resize.input_stride, resize.output_stride].map(|step| step * element_size);
    let columns = last.map_or(1, |axis| axis.output());
    let input_columns = last.map_or(1, |axis| axis.input());
    let rows: usize = before.iter().map(|axis| axis.output()).product();
    if columns * bytes == 0 {
        return;
    }
    for row in part.range(resize.outer * rows) {
        let start = row * columns * to_step;
        // SAFETY: each row belongs to one part.
        let to = unsafe { y.slice(start..start + (columns - 1) * to_step + bytes) };
        let from = source_row(resize, row).map(|source| &x[source * input_columns * from_step..]);
        for (column, to) in to.chunks_mut(to_step).enumerate() {
            let to = &mut to[..bytes];
            match from {
                Some(from) if last.is_none_or(|axis| !axis.is_outside(column)) => {
                    let at = last.map_or(0, |axis| axis.indices(column)[0]) * from_step;
                    copy(to, &from[at..at + bytes]);
                }
                _ => fill(to, outside),
            }
        }
    }
}

/// The input's row of that output row; none where it lies beyond the input.
fn source_row(resize: &Resize, row: usize) -> Option<usize> {
    let (before, _) = resize.rows();
    let (mut rest, mut source, mut stride) = (row, 0, 1);
    for axis in before.iter().rev() {
        let index = rest % axis.output();
        rest /= axis.output();
        if axis.is_outside(index) {
            return None;
        }
        source += axis.indices(index)[0] * stride;
        stride *= axis.input();
    }
    Some(source + rest * stride)
}

/// A copy of equal lengths; those of single elements without a call.
#[inline(always)]
fn copy(to: &mut [u8], from: &[u8]) {
    match to.len() {
        1 => to[0] = from[0],
        3 => to[..3].copy_from_slice(&from[..3]),
        4 => to[..4].copy_from_slice(&from[..4]),
        8 => to[..8].copy_from_slice(&from[..8]),
        _ => to.copy_from_slice(from),
    }
}

fn fill(to: &mut [u8], element: &[u8]) {
    to.chunks_exact_mut(element.len()).for_each(|to| to.copy_from_slice(element));
}
