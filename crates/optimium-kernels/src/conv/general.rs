//! Convolutions of any number of dimensions, layout and number type, by the definition.

use crate::gemm::Number;
use crate::{Part, SharedSlice};

/// What a convolution over `kernel.len()` dimensions is. All lists have one entry a dimension.
#[derive(Clone, Copy, Debug)]
pub struct GeneralParameters<'a> {
    /// Sizes of the kernel.
    pub kernel: &'a [usize],
    /// Steps between output positions.
    pub stride: &'a [usize],
    /// Distances between kernel taps.
    pub dilation: &'a [usize],
    /// Zeros before the input. Those behind it follow from the sizes.
    pub padding: &'a [usize],
    /// Number of groups that the channels are divided into.
    pub groups: usize,
}

/// Where the elements of a batch of images of any number of dimensions lie.
#[derive(Clone, Copy, Debug)]
pub struct GeneralImages<'a> {
    /// Number of images.
    pub batch: usize,
    /// Number of channels.
    pub channels: usize,
    /// Sizes of an image.
    pub sizes: &'a [usize],
    /// Elements from image to image.
    pub batch_stride: usize,
    /// Elements from channel to channel.
    pub channel_stride: usize,
    /// Elements from position to position, for each dimension.
    pub strides: &'a [usize],
}

impl GeneralImages<'_> {
    fn positions(&self) -> usize {
        self.sizes.iter().product()
    }

    /// Asserts that `len` elements hold all of them.
    fn check(&self, len: usize, dimensions: usize) {
        assert!(self.sizes.len() == dimensions && self.strides.len() == dimensions, "dimensions of {self:?}");
        if self.batch * self.channels * self.positions() == 0 {
            return;
        }
        let last: usize =
            self.sizes.iter().zip(self.strides).map(|(&size, &stride)| (size - 1) * stride).sum();
        let last = last + (self.batch - 1) * self.batch_stride + (self.channels - 1) * self.channel_stride;
        assert!(last < len, "{len} elements for {self:?}");
    }
}

/// A tap that meets the input at some output position: its index, and where the input lies.
type Meeting = (usize, usize);

/// Computes this part's share of the output positions of `y = convolution(x) + bias`, for `weights`
/// `[output channels, input channels / groups, kernel…]` and one bias an output channel.
///
/// # Panics
/// Where the numbers do not make a convolution or a slice is too short for them.
pub fn convolve_general<T: Number>(
    parameters: &GeneralParameters,
    x: &[T],
    input: &GeneralImages,
    weights: &[T],
    bias: Option<&[T]>,
    y: SharedSlice<T>,
    output: &GeneralImages,
    part: Part,
) {
    check(parameters, input, output, weights.len(), bias.map(<[T]>::len));
    input.check(x.len(), parameters.kernel.len());
    output.check(y.len(), parameters.kernel.len());
    let taps: usize = parameters.kernel.iter().product();
    let (inputs, outputs) = (input.channels / parameters.groups, output.channels / parameters.groups);
    let positions = output.positions();
    let mut meetings = Vec::with_capacity(taps);
    for index in part.range(output.batch * positions) {
        let (image, position) = (index / positions, index % positions);
        meetings.clear();
        let base = image * input.batch_stride;
        meetings.extend((0..taps).filter_map(|tap| {
            meet(parameters, input, output.sizes, position, tap).map(|offset| (tap, base + offset))
        }));
        let at = image * output.batch_stride + offset(output, position);
        for channel in 0..output.channels {
            let first_input = channel / outputs * inputs;
            let start = bias.map_or(T::default(), |bias| bias[channel]);
            let sum = meetings.iter().fold(start, |sum, &(tap, offset): &Meeting| {
                (0..inputs).fold(sum, |sum, i| {
                    let value = x[offset + (first_input + i) * input.channel_stride];
                    sum.add_product(value, weights[(channel * inputs + i) * taps + tap])
                })
            });
            let at = at + channel * output.channel_stride;
            // SAFETY: the element is this part's own, and `slice` checks that it exists.
            unsafe { y.slice(at..at + 1)[0] = sum };
        }
    }
}

/// Computes this part's share of the output positions of `y = transposed convolution(x) + bias`, for `weights`
/// `[input channels, output channels / groups, kernel…]` and one bias an output channel: the output at
/// `position · stride - padding + tap · dilation` receives what the tap gives for the input at `position`.
///
/// # Panics
/// As [`convolve_general`].
pub fn transpose_convolve_general<T: Number>(
    parameters: &GeneralParameters,
    x: &[T],
    input: &GeneralImages,
    weights: &[T],
    bias: Option<&[T]>,
    y: SharedSlice<T>,
    output: &GeneralImages,
    part: Part,
) {
    // Weights are laid out as those of the convolution from y to x.
    check(parameters, output, input, weights.len(), None);
    assert!(bias.is_none_or(|bias| bias.len() >= output.channels), "biases of {} channels", output.channels);
    assert!(parameters.stride.iter().all(|&stride| stride > 0), "a stride of zero: {parameters:?}");
    input.check(x.len(), parameters.kernel.len());
    output.check(y.len(), parameters.kernel.len());
    let taps: usize = parameters.kernel.iter().product();
    let (inputs, outputs) = (input.channels / parameters.groups, output.channels / parameters.groups);
    let positions = output.positions();
    for index in part.range(output.batch * positions) {
        let (image, position) = (index / positions, index % positions);
        let meetings: Vec<Meeting> = (0..taps)
            .filter_map(|tap| Some((tap, meet_back(parameters, input, output.sizes, position, tap)?)))
            .collect();
        let base = image * input.batch_stride;
        let at = image * output.batch_stride + offset(output, position);
        for channel in 0..output.channels {
            let (group, of_group) = (channel / outputs, channel % outputs);
            let start = bias.map_or(T::default(), |bias| bias[channel]);
            let sum = meetings.iter().fold(start, |sum, &(tap, offset)| {
                (group * inputs..(group + 1) * inputs).fold(sum, |sum, i| {
                    let value = x[base + offset + i * input.channel_stride];
                    sum.add_product(value, weights[(i * outputs + of_group) * taps + tap])
                })
            });
            let at = at + channel * output.channel_stride;
            // SAFETY: the element is this part's own, and `slice` checks that it exists.
            unsafe { y.slice(at..at + 1)[0] = sum };
        }
    }
}

/// Where in an image the input lies whose `tap` meets the output's `position`, if there is one.
fn meet_back(
    parameters: &GeneralParameters,
    input: &GeneralImages,
    output_sizes: &[usize],
    mut position: usize,
    mut tap: usize,
) -> Option<usize> {
    let mut offset = 0;
    for axis in (0..parameters.kernel.len()).rev() {
        let reach = tap % parameters.kernel[axis] * parameters.dilation[axis];
        let at = (position % output_sizes[axis] + parameters.padding[axis]).checked_sub(reach)?;
        let stride = parameters.stride[axis];
        if !at.is_multiple_of(stride) || at / stride >= input.sizes[axis] {
            return None;
        }
        offset += at / stride * input.strides[axis];
        position /= output_sizes[axis];
        tap /= parameters.kernel[axis];
    }
    Some(offset)
}

/// Asserts that the numbers make a convolution.
fn check(
    parameters: &GeneralParameters,
    input: &GeneralImages,
    output: &GeneralImages,
    weights: usize,
    bias: Option<usize>,
) {
    let GeneralParameters { kernel, stride, dilation, padding, groups } = *parameters;
    let dimensions = kernel.len();
    let lists = [stride.len(), dilation.len(), padding.len()];
    assert!(lists.iter().all(|&len| len == dimensions), "dimensions of {parameters:?}");
    assert!(groups > 0 && input.channels.is_multiple_of(groups) && output.channels.is_multiple_of(groups));
    let taps: usize = kernel.iter().product();
    assert_eq!(weights, output.channels * (input.channels / groups) * taps, "weights of {parameters:?}");
    assert!(bias.is_none_or(|len| len >= output.channels), "{bias:?} biases of {} channels", output.channels);
    assert_eq!(input.batch, output.batch, "images of input and output");
}

/// Where in an image the input lies that `tap` meets at the output's `position`, if it is not in the padding.
fn meet(
    parameters: &GeneralParameters,
    input: &GeneralImages,
    output_sizes: &[usize],
    mut position: usize,
    mut tap: usize,
) -> Option<usize> {
    let mut offset = 0;
    for axis in (0..parameters.kernel.len()).rev() {
        let at = position % output_sizes[axis] * parameters.stride[axis]
            + tap % parameters.kernel[axis] * parameters.dilation[axis];
        let at = at.checked_sub(parameters.padding[axis]).filter(|&at| at < input.sizes[axis])?;
        offset += at * input.strides[axis];
        position /= output_sizes[axis];
        tap /= parameters.kernel[axis];
    }
    Some(offset)
}

/// Where in an image `position` lies.
fn offset(images: &GeneralImages, mut position: usize) -> usize {
    let mut offset = 0;
    for (&size, &stride) in images.sizes.iter().zip(images.strides).rev() {
        offset += position % size * stride;
        position /= size;
    }
    offset
}

#[cfg(test)]
mod tests {
    use super::super::parameters::{Geometry, Parameters};
    use super::super::reference::Case;
    use super::*;
    use optimium_testing::{Tolerance, compare, each_case};

    fn case(groups: usize, stride: [usize; 2], dilation: [usize; 2], padding: [usize; 2]) -> Case {
        let parameters =
            Parameters { input_channels: 4, output_channels: 6, kernel: [3, 2], stride, dilation, groups };
        let input = [9, 8];
        let output = [4, 3];
        let geometry = Geometry { batch: 2, input, output, padding, input_stride: 0, output_stride: 0 };
        Case::new(parameters, geometry, [1, 2])
    }

    /// The images of a channels-last case; `depth` adds a dimension of that size in the middle, of which there
    /// is one position.
    fn run(case: &Case, transposed: bool, three_dimensions: bool, count: usize) -> Vec<f32> {
        let convolve = if transposed { transpose_convolve_general } else { convolve_general::<f32> };
        let (p, g) = (&case.parameters, &case.geometry);
        let widen = |pair: [usize; 2], middle: usize| {
            if three_dimensions { vec![pair[0], middle, pair[1]] } else { pair.to_vec() }
        };
        let lists = [widen(p.kernel, 1), widen(p.stride, 2), widen(p.dilation, 3), widen(g.padding, 0)];
        let parameters = GeneralParameters {
            kernel: &lists[0],
            stride: &lists[1],
            dilation: &lists[2],
            padding: &lists[3],
            groups: p.groups,
        };
        let sizes = [g.input, g.output].map(|sizes| widen(sizes, 1));
        let strides = [(g.input, g.input_stride), (g.output, g.output_stride)]
            .map(|(sizes, pixel)| widen([sizes[1] * pixel, pixel], 77));
        let images = |i: usize, channels, pixel: usize| GeneralImages {
            batch: g.batch,
            channels,
            sizes: &sizes[i],
            batch_stride: sizes[i].iter().product::<usize>() * pixel,
            channel_stride: 1,
            strides: &strides[i],
        };
        let (input, output) =
            (images(0, p.input_channels, g.input_stride), images(1, p.output_channels, g.output_stride));
        let mut y = case.blank();
        let shared = SharedSlice::new(&mut y);
        for index in 0..count {
            let part = Part { index, count };
            convolve(&parameters, &case.x, &input, &case.weights, Some(&case.bias), shared, &output, part);
        }
        y
    }

    #[test]
    fn two_and_three_dimensions() {
        let cases = [
            (1, [1, 1], [1, 1], [0, 0]),
            (1, [2, 3], [1, 1], [1, 1]),
            (2, [1, 2], [2, 1], [2, 0]),
            (2, [3, 3], [2, 3], [5, 6]),
        ];
        each_case(cases, |&(groups, stride, dilation, padding)| {
            let case = case(groups, stride, dilation, padding);
            for (transposed, expected) in [(false, case.expected()), (true, case.expected_transposed())] {
                for three_dimensions in [false, true] {
                    for parts in 1..=3 {
                        let found = run(&case, transposed, three_dimensions, parts);
                        compare(&found, &expected, Tolerance::dot(case.depth())).map_err(|e| {
                            format!(
                                "transposed {transposed}, 3 dimensions {three_dimensions}, {parts} parts: {e}"
                            )
                        })?;
                    }
                }
            }
            Ok(())
        });
    }
}
