//! Average pooling of quantized images.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::output::to_byte_values;
use super::{Quantization, load_values, store_values};
use crate::{Part, SharedSlice};

/// The sizes of a pooling; images lie densely, channels last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolWindow {
    /// Number of images.
    pub batch: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Number of channels.
    pub channels: usize,
    /// Height and width of the window.
    pub kernel: [usize; 2],
    /// Steps of the window.
    pub stride: [usize; 2],
    /// Border above and to the left.
    pub padding: [usize; 2],
    /// Border below and to the right.
    pub padding_end: [usize; 2],
    /// Whether the border counts in the mean.
    pub count_include_pad: bool,
}

impl PoolWindow {
    /// The mean over whole images.
    pub fn global(batch: usize, input: [usize; 2], channels: usize) -> PoolWindow {
        let (output, stride) = ([1, 1], [1, 1]);
        let (padding, padding_end) = ([0, 0], [0, 0]);
        PoolWindow {
            batch,
            input,
            output,
            channels,
            kernel: input,
            stride,
            padding,
            padding_end,
            count_include_pad: false,
        }
    }

    /// The pixels that output index `i` sees along dimension `d`, and how many count.
    fn span(&self, d: usize, i: usize) -> (Range<usize>, usize) {
        let start = i * self.stride[d];
        let end = (start + self.kernel[d]).min(self.input[d] + self.padding[d] + self.padding_end[d]);
        let inside = start.saturating_sub(self.padding[d]).min(self.input[d])
            ..end.saturating_sub(self.padding[d]).min(self.input[d]);
        let count = if self.count_include_pad { end.saturating_sub(start) } else { inside.len() };
        (inside, count)
    }
}

/// The mean of each window and channel; of an empty window, zero.
///
/// # Panics
/// Where a length does not fit the sizes.
pub fn average_pool(
    level: Level,
    window: &PoolWindow,
    x: &[u8],
    x_quantization: Quantization,
    y: SharedSlice<'_, u8>,
    y_quantization: Quantization,
    part: Part,
) {
    let pixels = |size: [usize; 2]| window.batch * size[0] * size[1] * window.channels;
    assert!(x.len() == pixels(window.input), "{} bytes for {window:?}", x.len());
    assert!(y.len() == pixels(window.output), "{} bytes of result for {window:?}", y.len());
    level.run(AveragePool { window, x, x_quantization, y, y_quantization, part });
}

struct AveragePool<'a> {
    window: &'a PoolWindow,
    x: &'a [u8],
    x_quantization: Quantization,
    y: SharedSlice<'a, u8>,
    y_quantization: Quantization,
    part: Part,
}

impl SimdTask for AveragePool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PoolWindow { batch, output: [height, width], channels, .. } = *self.window;
        let vectors = channels.div_ceil(S::LANES);
        // Vectors of channels are shared out too: there may be a single pixel.
        for index in self.part.range(batch * height * width * vectors) {
            let (pixel, vector) = (index / vectors, index % vectors);
            let (image, y, x) = (pixel / (height * width), pixel / width % height, pixel % width);
            // SAFETY: the pixel and its channels exist, and are this part's alone.
            unsafe { self.vector(simd, image, [y, x], pixel * channels, vector * S::LANES) }
        }
    }
}

impl AveragePool<'_> {
    /// # Safety
    /// The window of that image and the channels exist; the result at `to + channel` is this part's.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, image: usize, at: [usize; 2], to: usize, channel: usize) {
        let PoolWindow { input: [height, width], channels, .. } = *self.window;
        let (rows, row_count) = self.window.span(0, at[0]);
        let (columns, column_count) = self.window.span(1, at[1]);
        let (qx, qy) = (self.x_quantization, self.y_quantization);
        let n = S::LANES.min(channels - channel);
        let mut sum = simd.splat_i32(0);
        for y in rows.clone() {
            for x in columns.clone() {
                let offset = ((image * height + y) * width + x) * channels + channel;
                // SAFETY: the caller's promise.
                sum = simd
                    .add_i32(sum, unsafe { load_values(simd, self.x.as_ptr().add(offset), n, qx.signed) });
            }
        }
        let zeros = qx.zero_point.wrapping_mul((rows.len() * columns.len()) as i32);
        let count = (row_count * column_count).max(1);
        let factor = qx.scale / (qy.scale * count as f32);
        let value = simd.mul(simd.to_f32(simd.sub_i32(sum, simd.splat_i32(zeros))), simd.splat(factor));
        let (low, high) = qy.limits();
        let bytes = to_byte_values(simd, value, qy.zero_point, low, high);
        // SAFETY: the caller's promise.
        unsafe { store_values(simd, self.y.as_mut_ptr().add(to + channel), bytes, n, qy.signed) }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, each_case};

    use super::*;
    use crate::quantized::byte_value;
    use crate::quantized::testing::{bytes, compare_bytes};

    fn naive(window: &PoolWindow, x: &[u8], from: Quantization, to: Quantization) -> Vec<u8> {
        let PoolWindow { batch, input: [h, w], output: [oh, ow], channels, kernel, stride, padding, .. } =
            *window;
        let mut result = vec![];
        for index in 0..batch * oh * ow * channels {
            let (pixel, channel) = (index / channels, index % channels);
            let (image, oy, ox) = (pixel / (oh * ow), pixel / ow % oh, pixel % ow);
            let (mut sum, mut count) = (0, 0);
            for (ky, kx) in (0..kernel[0] * kernel[1]).map(|t| (t / kernel[1], t % kernel[1])) {
                let (y, x_) = (oy * stride[0] + ky, ox * stride[1] + kx);
                let bounds = [h + padding[0] + window.padding_end[0], w + padding[1] + window.padding_end[1]];
                let inside = y >= padding[0] && y < h + padding[0] && x_ >= padding[1] && x_ < w + padding[1];
                if inside {
                    let at = ((image * h + y - padding[0]) * w + x_ - padding[1]) * channels + channel;
                    sum += byte_value(x[at], from.signed) - from.zero_point;
                }
                count += usize::from(inside || window.count_include_pad && y < bounds[0] && x_ < bounds[1]);
            }
            let value = sum as f32 * (from.scale / (to.scale * count.max(1) as f32));
            let (low, high) = to.limits();
            result.push((value.round_ties_even() as i32 + to.zero_point).clamp(low, high) as u8);
        }
        result
    }

    #[test]
    fn means_match_their_definition() {
        let window = |input, output, channels, kernel, stride, padding, count_include_pad| PoolWindow {
            batch: 2,
            input,
            output,
            channels,
            kernel,
            stride,
            padding,
            padding_end: [1, 1],
            count_include_pad,
        };
        let windows = [
            PoolWindow::global(2, [7, 7], 70),
            PoolWindow::global(1, [1, 3], 5),
            window([6, 7], [3, 4], 17, [2, 2], [2, 2], [0, 0], false),
            window([5, 5], [5, 5], 16, [3, 3], [1, 1], [1, 1], true),
            window([5, 5], [3, 3], 33, [3, 3], [2, 2], [1, 1], false),
            window([5, 5], [4, 4], 3, [3, 3], [2, 2], [1, 1], true),
        ];
        let cases =
            Level::available().flat_map(|level| windows.into_iter().map(move |window| (level, window)));
        each_case(cases, |&(level, window)| {
            let from = Quantization { scale: 0.5, zero_point: 3, signed: true };
            let to = Quantization { scale: 0.25, zero_point: 120, signed: false };
            let x = bytes(
                &mut Random::new(9),
                window.batch * window.input[0] * window.input[1] * window.channels,
            );
            let expected = naive(&window, &x, from, to);
            for count in 1..=3 {
                let mut y = vec![0; expected.len()];
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    average_pool(level, &window, &x, from, shared, to, Part { index, count });
                }
                compare_bytes(&y, &expected, false).map_err(|e| format!("{count} parts: {e}"))?;
            }
            Ok(())
        });
    }
}
