//! Depthwise convolutions of quantized images.
//!
//! Four taps of one kernel column are interleaved, so that each lane of a byte dot product holds four taps
//! of its channel: a block of as many channels as a vector has bytes takes four accumulators.

mod slide;
mod tall;

use optimium_simd::{Level, Simd, SimdTask};

use self::slide::Slide;
use self::tall::Tall;
use super::band::Band;
use super::output::{Output, Requantize, SmallBytes, Store, StoreBytes, StoreF32, StoreI32, to_byte_values};
use crate::conv::{Geometry, Parameters};
use crate::{Packed, Packing, Part};

/// Bytes of a copied band that should stay in the cache of a core.
const BAND_BYTES: usize = 192 * 1024;

/// Bytes to whose multiples memory for vectors is aligned.
const ALIGNMENT: usize = 64;

/// A convolution of every channel with its own kernel, with packed weights.
#[derive(Clone, Debug)]
pub struct QuantizedDepthwise {
    parameters: Parameters,
    level: Level,
    /// Block, kernel column, group of four taps, layer, vector.
    weights: Packed<i8>,
    /// Sum of the weights of each channel, block by block in the order of the lanes.
    sums: Packed<i32>,
    /// Two where weights minus their zero point need more than a byte: the sum of both layers.
    layers: usize,
}

/// The channel of a block that lane `lane` of vector `vector` holds after interleaving.
#[inline(always)]
fn channel_of(vector: usize, lane: usize) -> usize {
    lane / 4 * 16 + vector * 4 + lane % 4
}

/// Whether the lanes hold the channels of a block of `n` twice, so that two lines can be computed at once.
fn in_pairs(lanes: usize, n: usize) -> bool {
    // Fewer lanes are a single block of interleaved bytes, which has no halves.
    lanes >= 8 && n <= 2 * lanes
}

impl QuantizedDepthwise {
    /// Packs `weights`: channels × kernel height × kernel width. Their zero points are none (0), one, or
    /// one a channel. They are packed where `packing` says.
    ///
    /// # Panics
    /// Where the lengths do not fit the parameters, or these are not depthwise with one output a channel.
    pub fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[u8],
        signed: bool,
        zero_point: &[i32],
        packing: &Packing,
    ) -> QuantizedDepthwise {
        let Parameters { input_channels: channels, output_channels, kernel: [height, width], groups, .. } =
            *parameters;
        assert!(groups == channels && output_channels == channels, "not depthwise: {parameters:?}");
        assert!(weights.len() == channels * height * width, "{} weights for {parameters:?}", weights.len());
        assert!(matches!(zero_point.len(), 0 | 1) || zero_point.len() == channels, "zero points");
        let centred = |channel: usize, ky: usize, kx: usize| {
            let zero = match zero_point {
                [] => 0,
                [one] => *one,
                many => many[channel],
            };
            super::byte_value(weights[(channel * height + ky) * width + kx], signed) - zero
        };
        let fits = |channel: usize| {
            (0..height * width).all(|t| i8::try_from(centred(channel, t / width, t % width)).is_ok())
        };
        // With the zero point in the middle no weight needs to be looked at.
        let middle = if signed { 0 } else { 128 };
        let always_fits =
            if zero_point.is_empty() { signed } else { zero_point.iter().all(|&zero| zero == middle) };
        let layers = if always_fits || (0..channels).all(fits) { 1 } else { 2 };
        let (lanes, groups) = (level.lanes(), height.div_ceil(4));
        let blocks = channels.div_ceil(4 * lanes);
        // The bytes, four in a word, then the sums.
        let (words, columns) = (blocks * width * groups * layers * 4 * lanes, blocks * 4 * lanes);
        let form =
            format_args!("{layers} layers of byte channels, few of them twice, for vectors of {lanes}");
        let packed = packing.block(form, words + columns, |packed: &mut [i32]| {
            let (bytes, sums) = packed.split_at_mut(words);
            let bytes: &mut [i8] = bytemuck::cast_slice_mut(bytes);
            for (index, sum) in sums.iter_mut().enumerate() {
                let (block, vector, lane) = (index / (4 * lanes), index / lanes % 4, index % lanes);
                let (first, mut channel) = (block * 4 * lanes, channel_of(vector, lane));
                if in_pairs(lanes, channels - first) {
                    channel %= 2 * lanes;
                }
                channel += first;
                if channel >= channels {
                    continue;
                }
                for (ky, kx) in (0..height * width).map(|t| (t / width, t % width)) {
                    let mut rest = centred(channel, ky, kx);
                    *sum += rest;
                    for layer in 0..layers {
                        let piece = rest.clamp(-128, 127);
                        rest -= piece;
                        let row = ((block * width + kx) * groups + ky / 4) * layers + layer;
                        bytes[((row * 4 + vector) * lanes + lane) * 4 + ky % 4] = piece as i8;
                    }
                }
            }
        });
        let (weights, sums) = (packed.part(0..words), packed.part(words..words + columns));
        QuantizedDepthwise { parameters: *parameters, level, weights, sums, layers }
    }

    /// Bytes of scratch memory that each part needs.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        let lines = self.chunk_lines(geometry).min(geometry.output[0]);
        let band =
            if lines == 0 { 0 } else { self.band(geometry, 0, lines).len(self.parameters.input_channels) };
        let border = geometry.input[1] * geometry.input_stride;
        match (self.slides(), self.is_tall()) {
            (true, _) => band.max(border),
            (_, true) => band.max(border + self.tall_len() * size_of::<i32>() + ALIGNMENT),
            _ => band,
        }
    }

    /// Convolves `x`, whose bytes are `signed` or not and stand for zero at `zero_point`. A row of the
    /// output is a pixel.
    ///
    /// # Panics
    /// Where a slice is shorter than the sizes say.
    pub fn run(
        &self,
        geometry: &Geometry,
        x: &[u8],
        signed: bool,
        zero_point: i32,
        output: &Output<'_>,
        scratch: &mut [u8],
        part: Part,
    ) {
        let Geometry { batch, input, output: [height, width], input_stride, output_stride, .. } = *geometry;
        let channels = self.parameters.input_channels;
        let pixels = batch * height * width;
        output.check(pixels, channels, output_stride);
        if pixels == 0 || channels == 0 {
            return;
        }
        let needed = (batch * input[0] * input[1]).saturating_sub(1) * input_stride + channels;
        let empty = input[0] * input[1] == 0;
        assert!(input_stride >= channels && (empty || x.len() >= needed), "image in {} bytes", x.len());
        assert!(scratch.len() >= self.scratch_len(geometry), "{} bytes of scratch", scratch.len());
        if let Output::Bytes(output) = *output
            && (self.slides() || self.is_tall() && input[1] > 0)
            && let Some(bytes) = SmallBytes::of(&output, &output.multiplier[..channels])
        {
            let (border, memory) = scratch.split_at_mut(input[1] * input_stride);
            border.fill(zero_point as u8);
            let (lines, blocks, first_row) = ((0, 0), (0, 0), 0);
            let (depthwise, image) = (self, x);
            let slide = Slide {
                depthwise,
                geometry,
                image,
                border,
                signed,
                zero_point,
                output,
                bytes,
                first_row,
                lines,
                blocks,
            };
            return self.slide(slide, memory, part);
        }
        let lines = part.range(batch * height);
        let mut line = lines.start;
        while line < lines.end {
            let (index, first) = (line / height, line % height);
            let count = (height - first).min(lines.end - line).min(self.chunk_lines(geometry));
            let band = self.band(geometry, first, count);
            let start = (index * input[0] * input[1] * input_stride).min(x.len());
            band.copy(&x[start..], input, input_stride, channels, zero_point as u8, scratch);
            let [line_step, column_step] = [band.columns * channels, channels];
            let bytes = &mut scratch[..band.len(channels)];
            if signed {
                // Unsigned from here on, as the dot product wants them.
                bytes.iter_mut().for_each(|byte| *byte ^= 0x80);
            }
            let lines = Lines {
                depthwise: self,
                bytes,
                line_step,
                column_step,
                signed,
                zero_point,
                width,
                count,
                first_row: line * width,
            };
            match *output {
                Output::Bytes(output) if output.residual.is_none() => {
                    self.level.run_vnni(BytesTask { lines, output, stride: output_stride });
                }
                output => self.level.run_vnni(AnyTask { lines, output, stride: output_stride }),
            }
            line += count;
        }
    }

    /// Computes a part of all images, which `slide` begins with, in the rest of the scratch memory.
    fn slide(&self, slide: Slide<'_>, memory: &mut [u8], part: Part) {
        let Geometry { batch, input, output: [height, _], input_stride, .. } = *slide.geometry;
        let (all, count) = (batch * height, self.parameters.input_channels.div_ceil(4 * self.level.lanes()));
        let few_lines = all < 4 * part.count && all < count;
        let (lines, blocks) =
            if few_lines { (0..all, part.range(count)) } else { (part.range(all), 0..count) };
        let mut line = lines.start;
        while line < lines.end {
            let (index, first) = (line / height, line % height);
            let count = (height - first).min(lines.end - line);
            let start = (index * input[0] * input[1] * input_stride).min(slide.image.len());
            let slide = Slide {
                image: &slide.image[start..],
                first_row: index * height * slide.geometry.output[1],
                lines: (first, first + count),
                blocks: (blocks.start, blocks.end),
                ..slide
            };
            if self.is_tall() {
                let offset = memory.as_ptr().align_offset(ALIGNMENT).min(memory.len());
                let memory = &mut memory[offset..][..self.tall_len() * size_of::<i32>()];
                self.level.run_vnni(Tall { slide, memory: bytemuck::cast_slice_mut(memory) });
            } else {
                self.level.run_vnni(slide);
            }
            line += count;
        }
    }

    /// Output lines that are computed from one band.
    fn chunk_lines(&self, geometry: &Geometry) -> usize {
        let line =
            self.band(geometry, 0, 1).len(self.parameters.input_channels) / self.parameters.kernel[0].max(1);
        let lines = BAND_BYTES / line.max(1);
        (lines.saturating_sub(self.parameters.kernel[0]) / self.parameters.stride[0].max(1)).max(1)
    }

    /// The band that output lines `first..first + lines` see.
    fn band(&self, geometry: &Geometry, first: usize, lines: usize) -> Band {
        let Parameters { kernel, stride, dilation, .. } = self.parameters;
        let span = |d: usize, n: usize| (n.max(1) - 1) * stride[d] + (kernel[d].max(1) - 1) * dilation[d] + 1;
        Band {
            top: (first * stride[0]) as isize - geometry.padding[0] as isize,
            left: -(geometry.padding[1] as isize),
            lines: span(0, lines),
            columns: span(1, geometry.output[1]),
        }
    }
}

/// Some output lines and the band that they see.
#[derive(Clone, Copy)]
struct Lines<'a> {
    depthwise: &'a QuantizedDepthwise,
    bytes: &'a [u8],
    line_step: usize,
    column_step: usize,
    signed: bool,
    zero_point: i32,
    /// Pixels of a line.
    width: usize,
    /// Number of lines.
    count: usize,
    /// The row of the output that the first pixel is.
    first_row: usize,
}

/// One block of channels.
#[derive(Clone, Copy)]
struct Block<'a> {
    /// First channel.
    first: usize,
    /// Channels that exist.
    n: usize,
    weights: &'a [i8],
    sums: &'a [i32],
}

impl<'a> Lines<'a> {
    /// The blocks of `4 · lanes` channels.
    #[inline(always)]
    fn blocks(self, lanes: usize) -> impl Iterator<Item = Block<'a>> {
        let depthwise = self.depthwise;
        let Parameters { input_channels: channels, kernel: [height, width], .. } = depthwise.parameters;
        let size = width * height.div_ceil(4) * depthwise.layers * 16 * lanes;
        (0..channels.div_ceil(4 * lanes)).map(move |i| Block {
            first: i * 4 * lanes,
            n: (channels - i * 4 * lanes).min(4 * lanes),
            weights: &depthwise.weights[i * size..][..size],
            sums: &depthwise.sums[i * 4 * lanes..][..4 * lanes],
        })
    }

    /// Four taps below each other, from kernel row `ky` on, of all channels of a block.
    ///
    /// # Safety
    /// The band holds the taps of the kernel column that begins at `p`.
    #[inline(always)]
    unsafe fn taps<S: Simd>(self, simd: S, block: Block<'_>, p: *const u8, ky: usize) -> [S::I32; 4] {
        let Parameters { kernel: [height, _], dilation, .. } = self.depthwise.parameters;
        let row_step = dilation[0] * self.line_step;
        // Taps below the kernel have weight zero: any line may stand for them.
        let lines = [ky, ky + 1, ky + 2, ky + 3].map(
            #[inline(always)]
            |y| y.min(height - 1),
        );
        // SAFETY: the caller's promise.
        let rows = lines.map(
            #[inline(always)]
            |y| unsafe { simd.load_bytes(p.add(y * row_step), block.n) },
        );
        simd.interleave_bytes(rows)
    }

    /// The sums of one pixel, whose first tap lies at `start`, added to `sums`.
    ///
    /// # Safety
    /// The band holds the taps of the pixel.
    #[inline(always)]
    unsafe fn pixel<S: Simd>(
        self,
        simd: S,
        block: Block<'_>,
        start: *const u8,
        sums: [S::I32; 4],
    ) -> [S::I32; 4] {
        let Parameters { kernel: [height, width], dilation, .. } = self.depthwise.parameters;
        let mut sums = sums;
        let mut w = block.weights.as_ptr().cast::<i32>();
        for kx in 0..width {
            for ky in (0..height).step_by(4) {
                // SAFETY: the caller's promise; the weights have that many vectors.
                unsafe {
                    let p = start.add(kx * dilation[1] * self.column_step);
                    let taps = self.taps(simd, block, p, ky);
                    for _ in 0..self.depthwise.layers {
                        sums = dot_four(simd, sums, taps, w);
                        w = w.add(4 * S::LANES);
                    }
                }
            }
        }
        sums
    }

    /// `bias - zero point · sum of weights` for the lanes of a block.
    #[inline(always)]
    fn base<S: Simd>(self, simd: S, block: Block<'_>, bias: Option<&[i32]>) -> [S::I32; 4] {
        let shift = if self.signed { 128 } else { 0 };
        let zero = simd.splat_i32(self.zero_point + shift);
        let mut base = [simd.splat_i32(0); 4];
        for (v, base) in base.iter_mut().enumerate() {
            let mut lanes = [0i32; 16];
            if let Some(bias) = bias {
                for (lane, value) in lanes.iter_mut().enumerate().take(S::LANES) {
                    *value = bias.get(block.first + channel_of(v, lane)).copied().unwrap_or(0);
                }
            }
            // SAFETY: a vector has at most sixteen lanes, and a block four vectors.
            unsafe {
                let sums = simd.load_i32(block.sums[v * S::LANES..].as_ptr());
                *base = simd.sub_i32(simd.load_i32(lanes.as_ptr()), simd.mul_i32(zero, sums));
            }
        }
        base
    }

    /// Calls `store(row of the output, sums)` for each pixel.
    #[inline(always)]
    fn each_pixel<S: Simd>(
        self,
        simd: S,
        block: Block<'_>,
        base: [S::I32; 4],
        mut store: impl FnMut(usize, [S::I32; 4]),
    ) {
        let Parameters { kernel: [height, width], stride, dilation, .. } = self.depthwise.parameters;
        let slides =
            width == 3 && height <= 4 && stride[1] == 1 && dilation[1] == 1 && self.depthwise.layers == 1;
        for y in 0..self.count {
            let line = self.bytes[y * stride[0] * self.line_step + block.first..].as_ptr();
            let row = self.first_row + y * self.width;
            // SAFETY: the band holds the taps of all pixels of these lines.
            unsafe {
                if slides {
                    self.slide(simd, block, base, line, row, &mut store);
                    continue;
                }
                for x in 0..self.width {
                    store(row + x, self.pixel(simd, block, line.add(x * stride[1] * self.column_step), base));
                }
            }
        }
    }

    /// One line of a kernel of three columns that moves pixel by pixel: each column of taps is read once, and
    /// added to the three pixels that see it.
    ///
    /// # Safety
    /// The band holds the taps of the line, which begin at `line`.
    #[inline(always)]
    unsafe fn slide<S: Simd>(
        self,
        simd: S,
        block: Block<'_>,
        base: [S::I32; 4],
        line: *const u8,
        row: usize,
        store: &mut impl FnMut(usize, [S::I32; 4]),
    ) {
        let w = block.weights.as_ptr().cast::<i32>();
        // SAFETY: the caller's promise; the weights have three times four vectors.
        unsafe {
            let (left, middle, right) = (w, w.add(4 * S::LANES), w.add(8 * S::LANES));
            let first = self.taps(simd, block, line, 0);
            let second = self.taps(simd, block, line.add(self.column_step), 0);
            let mut one = dot_four(simd, dot_four(simd, base, first, left), second, middle);
            let mut two = dot_four(simd, base, second, left);
            for x in 0..self.width {
                let taps = self.taps(simd, block, line.add((x + 2) * self.column_step), 0);
                let sums = dot_four(simd, one, taps, right);
                one = dot_four(simd, two, taps, middle);
                two = dot_four(simd, base, taps, left);
                store(row + x, sums);
            }
        }
    }
}

/// Adds the products of four vectors of taps with the weights at `w`.
///
/// # Safety
/// Four vectors are readable at `w`.
#[inline(always)]
unsafe fn dot_four<S: Simd>(simd: S, mut sums: [S::I32; 4], taps: [S::I32; 4], w: *const i32) -> [S::I32; 4] {
    for v in 0..4 {
        // SAFETY: the caller's promise.
        sums[v] = simd.dot_u8_i8(sums[v], taps[v], unsafe { simd.load_i32(w.add(v * S::LANES)) });
    }
    sums
}

/// Stores bytes, which packing brings back to the order of the channels.
struct BytesTask<'a> {
    lines: Lines<'a>,
    output: Requantize<'a>,
    stride: usize,
}

impl SimdTask for BytesTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let BytesTask { lines, output, stride } = self;
        let Requantize { signed, zero_point, low, high, .. } = output;
        for block in lines.blocks(S::LANES) {
            let base = lines.base(simd, block, output.bias);
            let mut multiplier = [simd.splat(0.0); 4];
            for (v, multiplier) in multiplier.iter_mut().enumerate() {
                let mut lanes = [0f32; 16];
                for (lane, value) in lanes.iter_mut().enumerate().take(S::LANES) {
                    *value = output.multiplier.get(block.first + channel_of(v, lane)).copied().unwrap_or(0.0);
                }
                // SAFETY: a vector has at most sixteen lanes.
                *multiplier = unsafe { simd.load(lanes.as_ptr()) };
            }
            lines.each_pixel(
                simd,
                block,
                base,
                #[inline(always)]
                |row, mut sums| {
                    for v in 0..4 {
                        let value = simd.mul(simd.to_f32(sums[v]), multiplier[v]);
                        sums[v] = to_byte_values(simd, value, zero_point, low, high);
                    }
                    let bytes = if signed { simd.pack_i8(sums) } else { simd.pack_u8(sums) };
                    // SAFETY: `Output::check`; the lines are this part's alone.
                    unsafe {
                        simd.store_bytes(
                            output.c.as_mut_ptr().add(row * stride + block.first),
                            bytes,
                            block.n,
                        )
                    }
                },
            );
        }
    }
}

/// Stores anything, through a copy in the order of the channels.
struct AnyTask<'a> {
    lines: Lines<'a>,
    output: Output<'a>,
    stride: usize,
}

impl SimdTask for AnyTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AnyTask { lines, output, stride } = self;
        for block in lines.blocks(S::LANES) {
            let base = lines.base(simd, block, None);
            lines.each_pixel(
                simd,
                block,
                base,
                #[inline(always)]
                |row, sums| {
                    let mut ordered = [0i32; 64];
                    for (v, &sums) in sums.iter().enumerate() {
                        let mut lanes = [0i32; 16];
                        // SAFETY: a vector has at most sixteen lanes.
                        unsafe { simd.store_i32(lanes.as_mut_ptr(), sums) };
                        for (lane, &sum) in lanes.iter().enumerate().take(S::LANES) {
                            ordered[channel_of(v, lane)] = sum;
                        }
                    }
                    // SAFETY: `Output::check`; the lines are this part's alone.
                    unsafe {
                        match output {
                            Output::I32(c) => {
                                store_ordered(simd, StoreI32 { c, stride }, row, block, &ordered)
                            }
                            Output::F32(output) => {
                                store_ordered(simd, StoreF32 { output, stride }, row, block, &ordered);
                            }
                            Output::Bytes(output) => {
                                store_ordered(simd, StoreBytes { output, stride }, row, block, &ordered);
                            }
                        }
                    }
                },
            );
        }
    }
}

/// Stores the sums of a block, which are in the order of its channels.
///
/// # Safety
/// The row and the channels exist, and no other part stores them.
#[inline(always)]
unsafe fn store_ordered<S: Simd, T: Store>(
    simd: S,
    store: T,
    row: usize,
    block: Block<'_>,
    sums: &[i32; 64],
) {
    for start in (0..block.n).step_by(S::LANES) {
        let (column, n) = (block.first + start, S::LANES.min(block.n - start));
        // SAFETY: the caller's promise; a block has at most 64 channels, a multiple of the lanes.
        unsafe {
            let sum = simd.add_i32(simd.load_i32(sums[start..].as_ptr()), store.bias(simd, column, n));
            store.store(simd, store.column(simd, column, n), row, column, n, sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, each_case};

    use super::*;
    use crate::SharedSlice;
    use crate::quantized::general;
    use crate::quantized::testing::{bytes, check_outputs};

    /// Channels, kernel, stride, dilation, padding, input size.
    type Case = (usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

    const CASES: [Case; 18] = [
        (64, [3, 3], [1, 1], [1, 1], [1, 1], [6, 7]),
        (1, [3, 3], [1, 1], [1, 1], [1, 1], [6, 7]),
        (33, [3, 3], [2, 2], [1, 1], [1, 1], [9, 8]),
        (96, [3, 3], [1, 1], [1, 1], [0, 0], [5, 5]),
        (65, [5, 5], [1, 1], [1, 1], [2, 2], [7, 6]),
        (24, [5, 5], [2, 2], [1, 1], [2, 2], [7, 6]),
        (72, [5, 5], [2, 2], [1, 1], [2, 2], [9, 70]),
        (100, [5, 5], [1, 1], [1, 1], [2, 2], [14, 29]),
        (5, [5, 5], [1, 1], [1, 1], [0, 1], [11, 15]),
        (17, [5, 5], [1, 2], [1, 1], [4, 4], [1, 1]),
        (40, [5, 5], [3, 1], [1, 1], [2, 2], [16, 64]),
        (64, [5, 5], [2, 1], [1, 1], [2, 2], [3, 2]),
        (3, [5, 5], [2, 2], [1, 1], [2, 2], [20, 121]),
        (16, [7, 3], [1, 1], [1, 2], [3, 2], [7, 6]),
        (20, [1, 1], [1, 1], [1, 1], [0, 0], [3, 3]),
        (130, [4, 9], [1, 3], [2, 1], [3, 4], [9, 8]),
        (100, [3, 3], [1, 1], [1, 1], [1, 1], [1, 1]),
        (67, [3, 3], [1, 1], [1, 1], [1, 1], [90, 70]),
    ];

    #[test]
    fn depthwise_matches_the_plain_one() {
        let variants = [(false, true, 1, 0), (true, true, 2, 3), (true, false, 1, 0)];
        let cases = Level::available().flat_map(|level| {
            CASES
                .into_iter()
                .flat_map(move |case| variants.into_iter().map(move |variant| (level, case, variant)))
        });
        each_case(cases, |&(level, case, (x_signed, w_signed, batch, gap))| {
            let (channels, kernel, stride, dilation, padding, input) = case;
            let parameters = Parameters {
                input_channels: channels,
                output_channels: channels,
                kernel,
                stride,
                dilation,
                groups: channels,
            };
            let output = [0, 1]
                .map(|d| (input[d] + 2 * padding[d] - (kernel[d] - 1) * dilation[d] - 1) / stride[d] + 1);
            let geometry = Geometry {
                batch,
                input,
                output,
                padding,
                input_stride: channels + gap,
                output_stride: channels,
            };
            let mut random = Random::new(6);
            let x = bytes(&mut random, batch * input[0] * input[1] * geometry.input_stride);
            let w = bytes(&mut random, channels * kernel[0] * kernel[1]);
            let x_zero = if x_signed { -3 } else { 131 };
            let w_zero: Vec<i32> =
                if w_signed { vec![] } else { (0..channels as i32).map(|i| 120 + i % 9).collect() };
            let mut sums = vec![0; batch * output[0] * output[1] * channels];
            let c = SharedSlice::new(&mut sums);
            let (signed_x, signed_w): (&[i8], &[i8]) = (bytemuck::cast_slice(&x), bytemuck::cast_slice(&w));
            let (p, g, whole) = (&parameters, &geometry, Part::WHOLE);
            match (x_signed, w_signed) {
                (false, _) => general::convolution(p, g, &x, x_zero, signed_w, &w_zero, c, whole),
                (true, false) => general::convolution(p, g, signed_x, x_zero, &w, &w_zero, c, whole),
                (true, true) => general::convolution(p, g, signed_x, x_zero, signed_w, &w_zero, c, whole),
            }
            let depthwise =
                QuantizedDepthwise::new(level, &parameters, &w, w_signed, &w_zero, &Packing::default());
            let mut scratch = vec![0xaa; depthwise.scratch_len(&geometry)];
            check_outputs(&sums, channels, x_signed, |output, part| {
                depthwise.run(&geometry, &x, x_signed, x_zero, output, &mut scratch, part);
            })
        });
    }
}
