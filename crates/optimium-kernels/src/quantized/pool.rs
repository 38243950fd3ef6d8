//! Average pooling of quantized images.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::Quantization;
use super::output::{SmallBytes, to_byte_values};
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
    level.run_vnni(AveragePool { window, x, x_quantization, y, y_quantization, part });
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
        let blocks = channels.div_ceil(4 * S::LANES);
        // Blocks of channels are shared out too: there may be a single pixel.
        let share = self.part.range(batch * height * width * blocks);
        let mut index = share.start;
        while index < share.end {
            let (pixel, first) = (index / blocks, index % blocks);
            let (image, y, x) = (pixel / (height * width), pixel / width % height, pixel % width);
            let end = blocks.min(first + share.end - index);
            // SAFETY: the pixel and these blocks of its channels exist, and are this part's alone.
            unsafe { self.pixel(simd, image, [y, x], pixel * channels, first..end) }
            index += end - first;
        }
    }
}

/// The pixels of a window, line by line.
#[derive(Clone, Copy)]
struct Taps {
    next: *const u8,
    /// Bytes from one pixel to the next.
    step: usize,
    /// Bytes from the last pixel of a line to the first of the next, less a step.
    gap: usize,
    width: usize,
    /// Pixels of this line that are still to come.
    left: usize,
}

impl Taps {
    /// The `n` bytes of the next pixel; with `flip`, signed ones become unsigned.
    ///
    /// # Safety
    /// There is a next pixel, and its bytes are readable.
    #[inline(always)]
    unsafe fn load<S: Simd>(&mut self, simd: S, n: usize, flip: S::I32) -> S::I32 {
        // SAFETY: the caller's promise.
        let bytes = unsafe { simd.load_bytes(self.next, n) };
        // Behind the last pixel nothing is read, so the address may be any.
        self.next = self.next.wrapping_add(self.step);
        self.left -= 1;
        if self.left == 0 {
            self.next = self.next.wrapping_add(self.gap);
            self.left = self.width;
        }
        simd.xor_i32(bytes, flip)
    }
}

/// The sums of `count` taps in `n` channels, added to `start`, in the order of [`Simd::interleave_bytes`]. Four taps at a
/// time are one byte product with ones.
///
/// # Safety
/// The bytes of the taps are readable.
#[inline(always)]
unsafe fn tap_sums<S: Simd>(
    simd: S,
    mut taps: Taps,
    count: usize,
    n: usize,
    flip: S::I32,
    start: S::I32,
) -> [S::I32; 4] {
    let none = simd.splat_i32(0);
    let mut sums = [start; 4];
    // SAFETY: the caller's promise, here and below.
    unsafe {
        for _ in 0..count / 4 {
            let first = taps.load(simd, n, flip);
            let second = taps.load(simd, n, flip);
            let third = taps.load(simd, n, flip);
            sums = add_four(simd, sums, [first, second, third, taps.load(simd, n, flip)]);
        }
        let rest = count % 4;
        if rest > 0 {
            let first = taps.load(simd, n, flip);
            let second = if rest > 1 { taps.load(simd, n, flip) } else { none };
            let third = if rest > 2 { taps.load(simd, n, flip) } else { none };
            sums = add_four(simd, sums, [first, second, third, none]);
        }
    }
    sums
}

/// The sums and four taps more.
#[inline(always)]
fn add_four<S: Simd>(simd: S, sums: [S::I32; 4], taps: [S::I32; 4]) -> [S::I32; 4] {
    let ones = simd.splat_i32(0x0101_0101);
    let [a, b, c, d] = simd.interleave_bytes(taps);
    [
        simd.dot_u8_i8(sums[0], a, ones),
        simd.dot_u8_i8(sums[1], b, ones),
        simd.dot_u8_i8(sums[2], c, ones),
        simd.dot_u8_i8(sums[3], d, ones),
    ]
}

impl AveragePool<'_> {
    /// The means of one pixel, in these blocks of channels.
    ///
    /// # Safety
    /// The window of that image and the channels exist; the results from `to` on are this part's.
    #[inline(always)]
    unsafe fn pixel<S: Simd>(&self, simd: S, image: usize, at: [usize; 2], to: usize, blocks: Range<usize>) {
        let PoolWindow { input: [height, width], channels, .. } = *self.window;
        let (rows, row_count) = self.window.span(0, at[0]);
        let (columns, column_count) = self.window.span(1, at[1]);
        let (qx, qy) = (self.x_quantization, self.y_quantization);
        let count = rows.len() * columns.len();
        let factor = qx.scale / (qy.scale * (row_count * column_count).max(1) as f32);
        let (shift, flip) = if qx.signed { (128, 0x8080_8080_u32 as i32) } else { (0, 0) };
        let start = simd.splat_i32((qx.zero_point + shift).wrapping_mul(count as i32).wrapping_neg());
        let finish = Means { factor, to: qy, small: is_small(count, qx, factor) };
        let first = ((image * height + rows.start) * width + columns.start) * channels;
        for block in blocks {
            let channel = block * 4 * S::LANES;
            let n = (channels - channel).min(4 * S::LANES);
            let taps = Taps {
                // The pixel does not exist where the window is empty; then nothing is read.
                next: self.x.as_ptr().wrapping_add(first + channel),
                step: channels,
                gap: (width - columns.len()) * channels,
                width: columns.len(),
                left: columns.len(),
            };
            // SAFETY: the caller's promise.
            unsafe {
                let sums = tap_sums(simd, taps, count, n, simd.splat_i32(flip), start);
                simd.store_bytes(self.y.as_mut_ptr().add(to + channel), finish.bytes(simd, sums), n);
            }
        }
    }
}

/// Whether no mean of `count` bytes can exceed the integers, in steps of the result.
#[inline(always)]
fn is_small(count: usize, x: Quantization, factor: f32) -> bool {
    const FAR: f32 = (1 << 30) as f32;
    (count as f32) * (255.0 + x.zero_point.unsigned_abs() as f32) * factor.abs() < FAR
}

/// How sums become bytes.
#[derive(Clone, Copy)]
struct Means {
    factor: f32,
    to: Quantization,
    /// Whether they need not be bounded before they are rounded.
    small: bool,
}

impl Means {
    /// The bytes of sums in the order of [`Simd::interleave_bytes`], that order undone.
    #[inline(always)]
    fn bytes<S: Simd>(self, simd: S, sums: [S::I32; 4]) -> S::I32 {
        let (low, high) = self.to.limits();
        let factor = simd.splat(self.factor);
        let mut values = [simd.splat_i32(0); 4];
        if self.small {
            let bytes = SmallBytes::bounded(self.to.signed, self.to.zero_point, low, high);
            for (value, sum) in values.iter_mut().zip(sums) {
                *value = bytes.value(simd, sum, factor);
            }
            return bytes.pack(simd, values);
        }
        for (value, sum) in values.iter_mut().zip(sums) {
            let mean = simd.mul(simd.to_f32(sum), factor);
            *value = to_byte_values(simd, mean, self.to.zero_point, low, high);
        }
        if self.to.signed { simd.pack_i8(values) } else { simd.pack_u8(values) }
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
            result
                .push((value.round_ties_even() as i32).saturating_add(to.zero_point).clamp(low, high) as u8);
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
            PoolWindow::global(1, [9, 16], 130),
            // Windows in the border alone.
            window([2, 3], [5, 5], 64, [2, 1], [1, 1], [2, 1], true),
            window([6, 7], [3, 4], 17, [2, 2], [2, 2], [0, 0], false),
            window([5, 5], [5, 5], 16, [3, 3], [1, 1], [1, 1], true),
            window([5, 5], [3, 3], 33, [3, 3], [2, 2], [1, 1], false),
            window([5, 5], [4, 4], 3, [3, 3], [2, 2], [1, 1], true),
        ];
        let quantization = |scale, zero_point, signed| Quantization { scale, zero_point, signed };
        let ends = [
            [quantization(0.5, 3, true), quantization(0.25, 120, false)],
            [quantization(0.5, 131, false), quantization(0.25, -7, true)],
            // Means beyond the integers.
            [quantization(1e12, 128, false), quantization(0.25, 120, false)],
        ];
        let cases = Level::available().flat_map(|level| {
            windows.into_iter().flat_map(move |window| ends.map(|ends| (level, window, ends)))
        });
        each_case(cases, |&(level, window, quantizations)| {
            let [from, to] = quantizations;
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
