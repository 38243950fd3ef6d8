//! The windows of a pool.

use std::ops::Range;

/// The images and windows of a two-dimensional pool, NHWC; pairs are (vertical, horizontal).
#[derive(Clone, Debug, PartialEq)]
pub struct PoolGeometry {
    /// Number of images.
    pub batch: usize,
    /// Channels of every pixel.
    pub channels: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Size of the window.
    pub kernel: [usize; 2],
    /// Input pixels from one window to the next.
    pub stride: [usize; 2],
    /// Input pixels from one element of a window to the next.
    pub dilation: [usize; 2],
    /// Padding above and to the left.
    pub padding: [usize; 2],
    /// Padding below and to the right; it counts only for means that include padding.
    pub padding_end: [usize; 2],
    /// Elements from one input pixel to the next.
    pub input_stride: usize,
    /// Elements from one output pixel to the next.
    pub output_stride: usize,
}

/// The tensors and windows of a pool over any number of axes, channels first and row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct WindowGeometry {
    /// Number of planes: the batch times the channels.
    pub planes: usize,
    /// Sizes of the input.
    pub input: Vec<usize>,
    /// Sizes of the output.
    pub output: Vec<usize>,
    /// Size of the window.
    pub kernel: Vec<usize>,
    /// Input positions from one window to the next.
    pub stride: Vec<usize>,
    /// Input positions from one element of a window to the next.
    pub dilation: Vec<usize>,
    /// Padding before each axis.
    pub padding: Vec<usize>,
    /// Padding after each axis; it counts only for means that include padding.
    pub padding_end: Vec<usize>,
}

/// One axis of one window.
#[derive(Clone, Debug, Default)]
pub(super) struct Taps {
    first: isize,
    step: usize,
    /// The elements that lie in the image.
    pub(super) valid: Range<usize>,
    /// How many lie in the image or its padding.
    pub(super) padded: usize,
}

/// One axis of a pool.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    pub(super) input: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) padding: usize,
    pub(super) padding_end: usize,
}

impl Axis {
    /// The window of that output.
    #[inline(always)]
    pub(super) fn taps(&self, output: usize) -> Taps {
        let first = (output * self.stride) as isize - self.padding as isize;
        // A division takes longer than a small window.
        let steps = |n: usize| if self.dilation == 1 { n } else { n.div_ceil(self.dilation) };
        let until = |end: isize| steps((end - first).max(0) as usize).min(self.kernel);
        let begin = until(0);
        Taps {
            first,
            step: self.dilation,
            valid: begin..until(self.input as isize).max(begin),
            padded: until((self.input + self.padding_end) as isize),
        }
    }
}

impl Taps {
    /// The input position of a valid element.
    #[inline(always)]
    pub(super) fn position(&self, tap: usize) -> usize {
        (self.first + (tap * self.step) as isize) as usize
    }
}

impl PoolGeometry {
    #[inline(always)]
    pub(super) fn axis(&self, axis: usize) -> Axis {
        Axis {
            input: self.input[axis],
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            padding: self.padding[axis],
            padding_end: self.padding_end[axis],
        }
    }

    /// # Panics
    /// Where a slice is too short, or pixels overlap.
    pub(super) fn check(&self, x: usize, y: usize) {
        // Wide numbers: sizes whose product overflows must not pass.
        let needed = |size: [usize; 2], stride: usize| {
            let pixels = (self.batch as u128 * size[0] as u128).saturating_mul(size[1] as u128);
            let before = pixels.saturating_sub(1).saturating_mul(stride as u128);
            if pixels == 0 { 0 } else { before.saturating_add(self.channels as u128) }
        };
        assert!(x as u128 >= needed(self.input, self.input_stride), "input of {x} elements for {self:?}");
        assert!(y as u128 >= needed(self.output, self.output_stride), "output of {y} elements for {self:?}");
        assert!(self.output_stride >= self.channels, "output pixels overlap: {self:?}");
        assert!(self.dilation.iter().all(|&d| d > 0), "a dilation of zero: {self:?}");
    }
}

impl WindowGeometry {
    pub(super) fn axis(&self, axis: usize) -> Axis {
        Axis {
            input: self.input[axis],
            kernel: self.kernel[axis],
            stride: self.stride[axis],
            dilation: self.dilation[axis],
            padding: self.padding[axis],
            padding_end: self.padding_end[axis],
        }
    }

    /// Number of input and output elements of one plane.
    pub(super) fn sizes(&self) -> (usize, usize) {
        (self.input.iter().product(), self.output.iter().product())
    }

    /// # Panics
    /// Where a slice does not have the size of its tensor, or the axes differ in number.
    pub(super) fn check(&self, x: usize, y: usize) {
        let axes = self.input.len();
        let lists =
            [&self.output, &self.kernel, &self.stride, &self.dilation, &self.padding, &self.padding_end];
        assert!(lists.iter().all(|list| list.len() == axes), "axes of {self:?}");
        assert!(self.dilation.iter().all(|&d| d > 0), "a dilation of zero: {self:?}");
        let (input, output) = self.sizes();
        assert_eq!(x, self.planes * input, "input of {self:?}");
        assert_eq!(y, self.planes * output, "output of {self:?}");
    }
}
