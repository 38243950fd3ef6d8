//! The way of a window over the lines of an image.

use std::ops::Range;

use crate::conv::{Geometry, Parameters};

/// Output pixels of a strip that keep a product busy while its weights pass by, at least.
const PIXELS: usize = 96;
/// The fewest lines of a strip: what a depthwise convolution computes together.
const LINES: usize = 2;

/// How many output lines a strip has, and where its window is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Output lines of a strip, at most.
    pub(super) at_once: usize,
    /// Lines of the ring: those that a strip covers.
    pub(super) ring: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    height: usize,
}

impl Walk {
    /// The way over such images.
    pub(super) fn new(parameters: &Parameters, geometry: &Geometry) -> Walk {
        let (kernel, stride) = (parameters.kernel[0], parameters.stride[0]);
        let at_once = lines_at_once(geometry.output);
        let ring = (at_once - 1) * stride + kernel;
        Walk { at_once, ring, kernel, stride, padding: geometry.padding[0], height: geometry.input[0] }
    }

    /// The strips of some output lines.
    pub(super) fn strips(self, lines: Range<usize>) -> impl Iterator<Item = Range<usize>> {
        let end = lines.end;
        lines.step_by(self.at_once).map(move |first| first..end.min(first + self.at_once))
    }

    /// The input lines under some output lines, as far as they lie in the image.
    pub(super) fn covered(self, rows: &Range<usize>) -> Range<usize> {
        let inside = |line: usize| line.saturating_sub(self.padding).min(self.height);
        inside(rows.start * self.stride)..inside((rows.end - 1) * self.stride + self.kernel)
    }
}

/// Output lines of a strip of images whose output has that size.
pub(super) fn lines_at_once([height, width]: [usize; 2]) -> usize {
    PIXELS.div_ceil(width.max(1)).next_multiple_of(LINES).min(height.max(1))
}
