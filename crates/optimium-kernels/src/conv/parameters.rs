//! The sizes of a convolution.

/// Sizes in pixels lie below this, so that the product of two does not overflow.
const LIMIT: usize = 1 << (usize::BITS / 2 - 1);

/// What a convolution is, whatever it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Parameters {
    /// Channels of the input.
    pub input_channels: usize,
    /// Channels of the output.
    pub output_channels: usize,
    /// Height and width of the kernel.
    pub kernel: [usize; 2],
    /// Steps between output pixels, down and across.
    pub stride: [usize; 2],
    /// Distances between kernel taps, down and across.
    pub dilation: [usize; 2],
    /// Number of groups that the channels are divided into.
    pub groups: usize,
}

impl Parameters {
    /// Input channels of a group.
    pub fn group_inputs(&self) -> usize {
        self.input_channels / self.groups
    }

    /// Output channels of a group.
    pub fn group_outputs(&self) -> usize {
        self.output_channels / self.groups
    }

    /// Height and width of what the kernel covers, dilation included.
    pub fn extent(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.kernel[axis] - 1) * self.dilation[axis] + 1)
    }

    /// Asserts that the numbers make a convolution with weights of that many elements.
    ///
    /// # Panics
    /// Where one is zero, groups do not divide the channels, or the weights have another number.
    pub(super) fn check(&self, weights: usize) {
        let sizes = [self.kernel, self.stride, self.dilation].concat();
        assert!(sizes.iter().all(|&size| (1..LIMIT).contains(&size)), "a size out of range in {self:?}");
        assert!(self.groups > 0, "no group in {self:?}");
        let divided = self.input_channels.is_multiple_of(self.groups)
            && self.output_channels.is_multiple_of(self.groups);
        assert!(divided, "the groups do not divide the channels of {self:?}");
        let taps = self.kernel[0] * self.kernel[1];
        let expected =
            taps.checked_mul(self.group_inputs()).and_then(|n| n.checked_mul(self.output_channels));
        assert_eq!(Some(weights), expected, "the number of weights of {self:?}");
    }
}

/// The images that a convolution is applied to: channels-last, batch outermost, lines and images contiguous.
///
/// Where the output reaches past the input, beyond the begin padding or at the end, the input counts as zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Geometry {
    /// Number of images.
    pub batch: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Zeros above and to the left of the input. Those at the end follow from the sizes.
    pub padding: [usize; 2],
    /// Elements from pixel to pixel of the input, at least its channels.
    pub input_stride: usize,
    /// Elements from pixel to pixel of the output, at least its channels.
    pub output_stride: usize,
}

impl Geometry {
    /// Pixels of all output images.
    pub fn output_pixels(&self) -> usize {
        self.batch.saturating_mul(self.output[0]).saturating_mul(self.output[1])
    }

    /// Pixels of all input images.
    pub fn input_pixels(&self) -> usize {
        self.batch.saturating_mul(self.input[0]).saturating_mul(self.input[1])
    }

    /// Whether a kernel of one tap that takes no steps meets each input pixel once, in order.
    pub(super) fn is_pixel_by_pixel(&self) -> bool {
        self.padding == [0, 0] && self.input == self.output
    }

    /// Asserts that slices of those lengths hold the images of `parameters`.
    ///
    /// # Panics
    /// Where one is too short, or pixels overlap.
    pub(crate) fn check(&self, parameters: &Parameters, input: usize, output: usize) {
        let needed = |pixels: usize, stride: usize, channels: usize| {
            if pixels == 0 { 0 } else { (pixels - 1).saturating_mul(stride).saturating_add(channels) }
        };
        let sizes = [self.input, self.output, self.padding].concat();
        assert!(sizes.iter().all(|&size| size < LIMIT), "a size out of range in {self:?}");
        let (i, o) = (parameters.input_channels, parameters.output_channels);
        assert!(self.input_stride >= i && self.output_stride >= o, "pixels overlap in {self:?}");
        assert!(
            input >= needed(self.input_pixels(), self.input_stride, i),
            "an input of {input} for {self:?}"
        );
        assert!(
            output >= needed(self.output_pixels(), self.output_stride, o),
            "an output of {output} for {self:?}"
        );
    }
}
