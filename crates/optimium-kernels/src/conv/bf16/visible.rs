//! Dilated convolutions without the taps that lie outside of the image.
//!
//! Pixels of bfloat16 are read where they lie. Others are rounded first, a few lines of the image at once, without zeros around
//! them.

use std::ops::Range;

use super::band::RoundedBand;
use super::{ConvolutionBf16, Job, Stretch};
use crate::Real;
use crate::conv::choice::{Images, visible_share};
use crate::conv::parameters::{Geometry, Parameters};
use crate::conv::taps::{Taps, View};
use crate::conv::visible::{self, Span};
use crate::gemm::{Lines, as_pairs};

/// The output positions by the taps that they see, along both axes.
pub(super) type Spans = [Vec<Span>; 2];

/// Whether the taps that lie outside of an image may be left out.
fn serves(parameters: &Parameters) -> bool {
    parameters.dilation != [1, 1] && parameters.input_channels.is_multiple_of(2)
}

/// The share of the taps that are multiplied.
pub(super) fn share_of_taps(parameters: &Parameters, images: &Images) -> f64 {
    if serves(parameters) { visible_share(parameters, images) } else { 1.0 }
}

/// Lines of `width` pixels that start so many `pixel` pairs apart.
fn whole_lines<T: bytemuck::Pod>(pairs: &[T], pixel: usize, width: usize) -> View<'_> {
    View { data: bytemuck::cast_slice(pairs), pixel, line: width * pixel }
}

impl ConvolutionBf16 {
    /// What the output positions see, where leaving out the other taps pays: those that lie apart reach far past the edges.
    pub(super) fn visible(&self, geometry: &Geometry) -> Option<Spans> {
        if !serves(&self.parameters) {
            return None;
        }
        let [rows, columns] = [0, 1].map(|axis| visible::spans(&self.parameters, geometry, axis));
        let taps = self.parameters.kernel[0] * self.parameters.kernel[1];
        visible::pays(&rows, &columns, taps).then_some([rows, columns])
    }

    /// Elements of scratch memory that each part needs.
    pub(super) fn visible_scratch_len(&self, geometry: &Geometry) -> usize {
        let lines = self.lines_under(self.visible_lines(geometry));
        self.existing(geometry, 0..lines.min(geometry.input[0])).len()
    }

    /// The output `pixels` of one image, with the taps that lie in it alone.
    pub(super) fn run_visible<L: Real, T: Real>(
        &self,
        job: &Job<L, T>,
        spans: &Spans,
        image: usize,
        pixels: Range<usize>,
        scratch: &mut [u32],
    ) {
        let Geometry { input, output: [_, width], input_stride, .. } = *job.geometry;
        let channels = self.parameters.input_channels;
        let x = &job.x[(image * input[0] * input[1] * input_stride).min(job.x.len())..];
        if as_pairs(x, channels, input_stride).is_some() {
            let view = whole_lines(&x[..x.len() / 2 * 2], input_stride / 2, input[1]);
            return self.run_rectangles(job, spans, image, pixels, view, 0);
        }
        let at_once = self.visible_lines(job.geometry);
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let first = pixel / width;
            let end = pixels.end.min((first + at_once) * width);
            let lines = self.lines_of(job.geometry, first..end.div_ceil(width));
            let band = self.existing(job.geometry, lines.clone());
            let of_band = &mut scratch[..band.len()];
            band.fill(self.level, x, job.geometry, of_band);
            let view = whole_lines(of_band, channels / 2, input[1]);
            self.run_rectangles(job, spans, image, pixel..end, view, lines.start);
            pixel = end;
        }
    }

    /// The output `pixels` of one image, whose lines from `first_line` on lie in `view`.
    fn run_rectangles<L: Real, T: Real>(
        &self,
        job: &Job<L, T>,
        [rows, columns]: &Spans,
        image: usize,
        pixels: Range<usize>,
        view: View,
        first_line: usize,
    ) {
        for [lines, across] in visible::rectangles(pixels, job.geometry.output[1]) {
            for row in visible::between(rows, &lines) {
                for column in visible::between(columns, &across) {
                    let stretch = self.rectangle(job.geometry, image, [&row, &column], view, first_line);
                    self.multiply_pieces(job, &stretch);
                }
            }
        }
    }

    /// The output pixels of one image that see the same taps, `spans` down and across.
    fn rectangle<'a>(
        &self,
        geometry: &Geometry,
        image: usize,
        spans: [&Span; 2],
        view: View<'a>,
        first_line: usize,
    ) -> Stretch<'a> {
        let Parameters { stride, dilation, .. } = self.parameters;
        // Positions that see no tap read nothing, wherever they lie.
        let sees = spans.iter().all(|span| !span.taps.is_empty());
        let start = [0, 1].map(|axis| {
            let position = spans[axis].outputs.start * stride[axis] + spans[axis].taps.start * dilation[axis];
            position.saturating_sub(geometry.padding[axis])
        });
        let [row, column] = spans.map(|span| &span.outputs);
        Stretch {
            view,
            taps: Taps {
                grid: if sees { spans.map(|span| span.taps.len()) } else { [0, 0] },
                first: spans.map(|span| span.taps.start),
                ..self.taps()
            },
            left: Lines {
                start: start[0].saturating_sub(first_line) * view.line + start[1] * view.pixel,
                rows: column.len(),
                stride: stride[1] * view.pixel,
                line_stride: stride[0] * view.line,
            },
            result: Lines {
                start: (image * geometry.output[0] + row.start) * geometry.output[1] + column.start,
                rows: column.len(),
                stride: 1,
                line_stride: geometry.output[1],
            },
            rows: 0..row.len() * column.len(),
        }
    }

    /// Lines of the image that so many lines of the output cover, were there no edges.
    fn lines_under(&self, outputs: usize) -> usize {
        outputs.saturating_sub(1) * self.parameters.stride[0] + self.parameters.extent()[0]
    }

    /// The lines of the image that some lines of the output see.
    pub(super) fn lines_of(&self, geometry: &Geometry, outputs: Range<usize>) -> Range<usize> {
        let (first, height) = (outputs.start * self.parameters.stride[0], geometry.input[0]);
        let end = (first + self.lines_under(outputs.len())).saturating_sub(geometry.padding[0]).min(height);
        first.saturating_sub(geometry.padding[0]).min(end)..end
    }

    /// These lines of the image.
    pub(super) fn existing(&self, geometry: &Geometry, lines: Range<usize>) -> RoundedBand {
        RoundedBand {
            origin: [lines.start as isize, 0],
            size: [lines.len(), geometry.input[1]],
            channels: self.parameters.input_channels,
        }
    }

    /// Output lines whose input is rounded at once: as many as the kernel is high at least, so that no line is rounded much more
    /// often than twice.
    pub(super) fn visible_lines(&self, geometry: &Geometry) -> usize {
        let extent = self.parameters.extent()[0];
        let line = geometry.input[1] * self.parameters.input_channels;
        let lines = (super::BAND_LEN / line.max(1)).saturating_sub(extent) / self.parameters.stride[0];
        lines.max(extent.div_ceil(self.parameters.stride[0])).min(geometry.output[0])
    }
}
