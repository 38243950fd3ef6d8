//! Rectangles of an image that reach past its edges.

use std::ops::Range;

use super::parameters::{Geometry, Parameters};

/// Elements that a band may have, so that it stays in the second-level cache.
pub(super) const BAND_LEN: usize = 128 << 10;

/// A rectangle of pixels, in coordinates of the input image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    /// The first line and column; negative in the padding.
    pub(super) origin: [isize; 2],
    /// Height and width.
    pub(super) size: [usize; 2],
}

impl Band {
    /// The input that the output `lines` need.
    pub(super) fn under(parameters: &Parameters, geometry: &Geometry, lines: Range<usize>) -> Band {
        let (stride, extent) = (parameters.stride, parameters.extent());
        let size = |axis: usize, count: usize| count.saturating_sub(1) * stride[axis] + extent[axis];
        let origin =
            |axis: usize, first: usize| (first * stride[axis]) as isize - geometry.padding[axis] as isize;
        Band {
            origin: [origin(0, lines.start), origin(1, 0)],
            size: [size(0, lines.len()), size(1, geometry.output[1])],
        }
    }

    /// Output lines whose input is copied at once.
    pub(super) fn lines_at_once(parameters: &Parameters, geometry: &Geometry) -> usize {
        let line = Band::under(parameters, geometry, 0..1).size[1] * parameters.input_channels;
        let lines = (BAND_LEN / line.max(1)).saturating_sub(parameters.extent()[0]) / parameters.stride[0];
        (lines + 1).min(geometry.output[0])
    }

    /// Elements of the longest copy.
    pub(super) fn longest(parameters: &Parameters, geometry: &Geometry) -> usize {
        let lines = Band::lines_at_once(parameters, geometry);
        Band::under(parameters, geometry, 0..lines).len(parameters.input_channels)
    }

    /// Whether it has no pixel outside of an image of that height and width.
    pub(super) fn lies_in(&self, image: [usize; 2]) -> bool {
        (0..2).all(|axis| {
            self.origin[axis] >= 0 && self.origin[axis].unsigned_abs() + self.size[axis] <= image[axis]
        })
    }

    /// Elements of a copy.
    pub(super) fn len(&self, channels: usize) -> usize {
        self.size[0].saturating_mul(self.size[1]).saturating_mul(channels)
    }

    /// The pixels of axis 1 or lines of axis 0 that exist in an image of that length, counted in the band.
    fn existing(&self, axis: usize, length: usize) -> Range<usize> {
        let start = (-self.origin[axis]).clamp(0, self.size[axis] as isize);
        let end = (length as isize - self.origin[axis]).clamp(start, self.size[axis] as isize);
        start.unsigned_abs()..end.unsigned_abs()
    }

    /// Copies it from the image at the start of `image` to `out`, without gaps between the pixels, with zeros
    /// where there is no image.
    pub(super) fn copy(&self, image: &[f32], geometry: &Geometry, channels: usize, out: &mut [f32]) {
        if self.len(channels) == 0 {
            return;
        }
        let (lines, pixels) = (self.existing(0, geometry.input[0]), self.existing(1, geometry.input[1]));
        let out = &mut out[..self.len(channels)];
        for (line, row) in out.chunks_exact_mut(self.size[1] * channels).enumerate() {
            if !lines.contains(&line) || pixels.is_empty() {
                row.fill(0.0);
                continue;
            }
            row[..pixels.start * channels].fill(0.0);
            row[pixels.end * channels..].fill(0.0);
            let y = self.origin[0].wrapping_add_unsigned(line).unsigned_abs();
            let x = self.origin[1].wrapping_add_unsigned(pixels.start).unsigned_abs();
            let source = &image[(y * geometry.input[1] + x) * geometry.input_stride..];
            copy_pixels(
                source,
                geometry.input_stride,
                channels,
                &mut row[pixels.start * channels..pixels.end * channels],
            );
        }
    }
}

/// Copies pixels that are `stride` apart to neighbours.
fn copy_pixels(source: &[f32], stride: usize, channels: usize, out: &mut [f32]) {
    if stride == channels {
        out.copy_from_slice(&source[..out.len()]);
        return;
    }
    for (x, pixel) in out.chunks_exact_mut(channels).enumerate() {
        pixel.copy_from_slice(&source[x * stride..][..channels]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn copies_have_zeros_outside() {
        let cases = [
            ([0, 0], [3, 4]),
            ([-1, -2], [5, 8]),
            ([-3, -4], [2, 2]),
            ([3, 4], [2, 2]),
            ([1, 2], [9, 1]),
            ([2, -1], [0, 3]),
        ];
        each_case(cases, |&(origin, size)| {
            let (band, channels, input_stride) = (Band { origin, size }, 2, 3);
            let geometry = Geometry {
                batch: 1,
                input: [3, 4],
                output: [0, 0],
                padding: [0, 0],
                input_stride,
                output_stride: 1,
            };
            let image: Vec<f32> = (1..=3 * 4 * input_stride).map(|i| i as f32).collect();
            let mut out = vec![f32::NAN; band.len(channels)];
            band.copy(&image, &geometry, channels, &mut out);
            for (i, &value) in out.iter().enumerate() {
                let (pixel, channel) = (i / channels, i % channels);
                let y = origin[0] + (pixel / size[1]) as isize;
                let x = origin[1] + (pixel % size[1]) as isize;
                let exists = (0..3).contains(&y) && (0..4).contains(&x);
                let expected =
                    if exists { image[(y * 4 + x) as usize * input_stride + channel] } else { 0.0 };
                if value != expected {
                    return Err(format!("{value} instead of {expected} at {i}"));
                }
            }
            Ok(())
        });
    }
}
