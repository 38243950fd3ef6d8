//! Which taps of a kernel lie in the image.
//!
//! Taps that are far apart often reach past the edges. Output positions that see the same taps make ranges along each
//! axis, and the rectangles of two ranges are computed with the taps that they see alone, in place.

use std::ops::Range;

use super::parameters::{Geometry, Parameters};

/// Neighbouring output positions of one axis that see the same taps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) outputs: Range<usize>,
    pub(super) taps: Range<usize>,
}

/// All output positions of one axis, in order.
pub(super) fn spans(parameters: &Parameters, geometry: &Geometry, axis: usize) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for output in 0..geometry.output[axis] {
        let taps = taps(parameters, geometry, axis, output);
        match spans.last_mut() {
            Some(span) if span.taps == taps => span.outputs.end += 1,
            _ => spans.push(Span { outputs: output..output + 1, taps }),
        }
    }
    spans
}

/// The taps of one axis that lie in the image at one output position.
fn taps(parameters: &Parameters, geometry: &Geometry, axis: usize, output: usize) -> Range<usize> {
    let (taps, apart) = (parameters.kernel[axis], parameters.dilation[axis]);
    let (position, padding) = (output * parameters.stride[axis], geometry.padding[axis]);
    let first = padding.saturating_sub(position).div_ceil(apart);
    let end = (geometry.input[axis] + padding).saturating_sub(position).div_ceil(apart).min(taps);
    if first < end { first..end } else { 0..0 }
}

/// Whether to leave out what lies outside pays: it saves more than is lost where rectangles are no multiple of a tile.
pub(super) fn pays(rows: &[Span], columns: &[Span], taps: usize) -> bool {
    /// Pixels of a tile, about.
    const TILE: usize = 12;
    /// What is known to be lost at rectangles' edges and starts, in steps of the same size.
    const SAVED: f64 = 0.97;
    let cost = |row: &Span, column: &Span| {
        let pixels = (row.outputs.len() * column.outputs.len()).next_multiple_of(TILE);
        pixels * row.taps.len() * column.taps.len()
    };
    let total: usize = rows.iter().flat_map(|row| columns.iter().map(move |column| cost(row, column))).sum();
    let pixels = |spans: &[Span]| spans.last().map_or(0, |span| span.outputs.end);
    (total as f64) < SAVED * (pixels(rows) * pixels(columns) * taps) as f64
}

/// The rectangles, as lines and columns, that so many `pixels` of lines of that width make: what there is of the first line,
/// whole lines, and what there is of the last one.
pub(super) fn rectangles(pixels: Range<usize>, width: usize) -> impl Iterator<Item = [Range<usize>; 2]> {
    let (start, end) = (pixels.start % width, pixels.end % width);
    let whole = pixels.start.div_ceil(width)..pixels.end / width;
    let pieces = if whole.start > whole.end {
        // Within one line.
        [[whole.end..whole.end + 1, start..end], [0..0, 0..0], [0..0, 0..0]]
    } else {
        let head = whole.start.saturating_sub(usize::from(start > 0))..whole.start;
        let tail = whole.end..whole.end + usize::from(end > 0);
        [[head, start..width], [whole, 0..width], [tail, 0..end]]
    };
    pieces.into_iter().filter(|piece| piece.iter().all(|range| !range.is_empty()))
}

/// What remains of `spans` between two output positions.
pub(super) fn between(spans: &[Span], outputs: &Range<usize>) -> impl Iterator<Item = Span> {
    let clipped = |range: &Range<usize>| range.start.max(outputs.start)..range.end.min(outputs.end);
    let spans = spans.iter().map(move |span| Span { outputs: clipped(&span.outputs), ..span.clone() });
    spans.filter(|span| !span.outputs.is_empty())
}

/// The average of the taps of one axis that lie in the image, for as much padding as keeps the size.
pub(super) fn visible_taps(parameters: &Parameters, output: usize, axis: usize) -> f64 {
    let (taps, outputs) = (parameters.kernel[axis], output.max(1));
    let reach = parameters.dilation[axis] * (taps - 1);
    let outside =
        |tap: usize| (2 * tap * parameters.dilation[axis]).abs_diff(reach) / 2 / parameters.stride[axis];
    (0..taps).map(|tap| outputs.saturating_sub(outside(tap))).sum::<usize>() as f64 / outputs as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn rectangles_have_every_pixel_once() {
        let ranges = (0..13).flat_map(|start| (start..13).map(move |end| (start, end)));
        each_case(
            ranges.flat_map(|range| [1, 3, 4, 20].map(|width| (range, width))),
            |&((start, end), width)| {
                let found: Vec<usize> = rectangles(start..end, width)
                    .flat_map(|[lines, columns]| {
                        lines.flat_map(move |line| columns.clone().map(move |x| line * width + x))
                    })
                    .collect();
                if found == (start..end).collect::<Vec<_>>() { Ok(()) } else { Err(format!("{found:?}")) }
            },
        );
    }

    #[test]
    fn spans_follow_the_definition() {
        let mut cases = Vec::new();
        for (kernel, dilation) in [(1, 1), (3, 1), (3, 2), (3, 6), (3, 18), (4, 5)] {
            for stride in [1, 2, 3] {
                for (input, output, padding) in [(9, 9, 6), (1, 5, 2), (12, 7, 0), (3, 20, 18), (0, 4, 3)] {
                    cases.push((kernel, dilation, stride, input, output, padding));
                }
            }
        }
        each_case(cases, |&(kernel, dilation, stride, input, output, padding)| {
            let parameters = Parameters {
                input_channels: 1,
                output_channels: 1,
                kernel: [kernel, 1],
                stride: [stride, 1],
                dilation: [dilation, 1],
                groups: 1,
            };
            let geometry = Geometry {
                batch: 1,
                input: [input, 1],
                output: [output, 1],
                padding: [padding, 0],
                input_stride: 1,
                output_stride: 1,
            };
            let spans = spans(&parameters, &geometry, 0);
            for at in 0..output {
                let span = spans.iter().find(|span| span.outputs.contains(&at)).ok_or("a gap")?;
                for tap in 0..kernel {
                    let position = (at * stride + tap * dilation).checked_sub(padding);
                    let seen = position.is_some_and(|position| position < input);
                    if seen != span.taps.contains(&tap) {
                        return Err(format!("tap {tap} at {at}: {spans:?}"));
                    }
                }
            }
            Ok(())
        });
    }
}
