//! 3×3 kernels that slide along the lines of an image where it lies: each column of taps is read once, and added to all the
//! pixels that see it. Of blocks no more than half full, two lines are computed at once.

use optimium_simd::{Simd, SimdTask};

use super::{QuantizedDepthwise, channel_of, in_pairs};
use crate::conv::{Geometry, Parameters};
use crate::quantized::output::{Requantize, SmallBytes};

/// Bytes of input lines that stay near while the blocks of channels pass.
const CHUNK_BYTES: usize = 40 * 1024;

/// Some lines of one image.
#[derive(Clone, Copy)]
pub(super) struct Slide<'a> {
    pub(super) depthwise: &'a QuantizedDepthwise,
    pub(super) geometry: &'a Geometry,
    /// The image.
    pub(super) image: &'a [u8],
    /// A line of bytes that stand for zero.
    pub(super) border: &'a [u8],
    pub(super) signed: bool,
    pub(super) zero_point: i32,
    pub(super) output: Requantize<'a>,
    pub(super) bytes: SmallBytes,
    /// The row of the output that the image's first pixel is.
    pub(super) first_row: usize,
    /// Lines to be computed.
    pub(super) lines: (usize, usize),
    /// Blocks of channels to be computed.
    pub(super) blocks: (usize, usize),
}

impl QuantizedDepthwise {
    /// Whether the image can be read in place, line by line.
    pub(super) fn slides(&self) -> bool {
        let Parameters { kernel, stride, dilation, .. } = self.parameters;
        kernel == [3, 3] && matches!(stride[1], 1 | 2) && dilation == [1, 1] && self.layers == 1
    }
}

/// A block of channels, in the order of the lanes, with the weights of the first `K` columns of a kernel of up to four lines.
#[derive(Clone, Copy)]
pub(super) struct Block<S: Simd, const K: usize> {
    /// First channel.
    pub(super) first: usize,
    /// Channels that exist.
    pub(super) n: usize,
    /// By kernel column.
    weights: [[S::I32; 4]; K],
    /// `bias - zero point · sum of weights`
    pub(super) base: [S::I32; 4],
    multiplier: [S::F32; 4],
}

impl SimdTask for Slide<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let stride = self.depthwise.parameters.stride;
        let line = (self.geometry.input[1] * self.geometry.input_stride).max(1);
        let chunk = ((CHUNK_BYTES / line).saturating_sub(2) / stride[0]).max(2) / 2 * 2;
        let (mut start, end) = self.lines;
        while start < end {
            // What is left over goes with the last chunk.
            let stop = if end - start < 2 * chunk { end } else { start + chunk };
            for index in self.blocks.0..self.blocks.1 {
                let block = self.block::<S, 3>(simd, index);
                // SAFETY: the image, the border and the output hold the lines, as `QuantizedDepthwise::run` checked.
                unsafe {
                    if in_pairs(S::LANES, block.n) {
                        for y in (start..stop).step_by(2) {
                            self.any_line::<S, true>(simd, &block, [y, (y + 1).min(stop - 1)]);
                        }
                    } else {
                        for y in start..stop {
                            self.any_line::<S, false>(simd, &block, [y, y]);
                        }
                    }
                }
            }
            start = stop;
        }
    }
}

/// Where the taps of two output lines begin; the second is read only where lines come in pairs.
type Rows = [[*const u8; 3]; 2];

impl Slide<'_> {
    #[inline(always)]
    pub(super) fn block<S: Simd, const K: usize>(&self, simd: S, index: usize) -> Block<S, K> {
        let QuantizedDepthwise { parameters, weights, sums, .. } = self.depthwise;
        let first = index * 4 * S::LANES;
        let n = (parameters.input_channels - first).min(4 * S::LANES);
        let bias = match self.output.bias {
            Some(bias) => in_lanes::<S, i32>(&bias[first..first + n]),
            None => [0; 64],
        };
        let factors = in_lanes::<S, f32>(&self.output.multiplier[first..first + n]);
        let zero = simd.splat_i32(self.zero_point + if self.signed { 128 } else { 0 });
        let weights = &weights[index * K * 16 * S::LANES..][..K * 16 * S::LANES];
        let sums = &sums[first..][..4 * S::LANES];
        let mut block =
            Block { first, n, weights: [[zero; 4]; K], base: [zero; 4], multiplier: [simd.splat(0.0); 4] };
        for v in 0..4 {
            // SAFETY: a block has four vectors, each weight four of four bytes a lane; a vector has at most sixteen lanes.
            unsafe {
                for (kx, column) in block.weights.iter_mut().enumerate() {
                    column[v] = simd.load_i32(weights.as_ptr().cast::<i32>().add((kx * 4 + v) * S::LANES));
                }
                let sums = simd.load_i32(sums.as_ptr().add(v * S::LANES));
                let bias = simd.load_i32(bias.as_ptr().add(v * S::LANES));
                block.base[v] = simd.sub_i32(bias, simd.mul_i32(zero, sums));
                block.multiplier[v] = simd.load(factors.as_ptr().add(v * S::LANES));
            }
        }
        block
    }

    /// Computes output line `y[0]`, and `y[1]` with it where `PAIR`.
    ///
    /// # Safety
    /// The lines exist, and no other part writes them.
    #[inline(always)]
    unsafe fn any_line<S: Simd, const PAIR: bool>(&self, simd: S, block: &Block<S, 3>, y: [usize; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            match (self.depthwise.parameters.stride[1], self.signed) {
                (1, false) => self.line::<S, PAIR, 1, false>(simd, block, y),
                (1, true) => self.line::<S, PAIR, 1, true>(simd, block, y),
                (_, false) => self.line::<S, PAIR, 2, false>(simd, block, y),
                (_, true) => self.line::<S, PAIR, 2, true>(simd, block, y),
            }
        }
    }

    /// Where the taps of output line `y` begin, for the channels from `first` on.
    ///
    /// # Safety
    /// The channel exists.
    #[inline(always)]
    unsafe fn rows(&self, y: usize, first: usize) -> [*const u8; 3] {
        let Geometry { input: [height, width], padding, input_stride, .. } = *self.geometry;
        let top = y * self.depthwise.parameters.stride[0];
        std::array::from_fn(
            #[inline(always)]
            |ky| {
                let row = (top + ky).wrapping_sub(padding[0]);
                let line = if row < height { &self.image[row * width * input_stride..] } else { self.border };
                // An image without columns has no taps to be read.
                line.as_ptr().wrapping_add(first)
            },
        )
    }

    /// Column `column` of the taps, or of the border beside the image.
    ///
    /// # Safety
    /// The rows have the block's channels in all columns of the image.
    #[inline(always)]
    unsafe fn taps<S: Simd, const PAIR: bool, const SIGNED: bool>(
        &self,
        simd: S,
        block: &Block<S, 3>,
        rows: &Rows,
        column: usize,
        outside: S::I32,
    ) -> [S::I32; 4] {
        if column >= self.geometry.input[1] {
            return [outside; 4];
        }
        let offset = column * self.geometry.input_stride;
        let flip = simd.splat_i32(i32::from_ne_bytes([0x80; 4]));
        let mut taps = [outside; 4];
        for ky in 0..3 {
            // SAFETY: the caller's promise.
            let bytes = unsafe {
                let p = rows[0][ky].add(offset);
                if PAIR {
                    simd.load_byte_halves(p, rows[1][ky].add(offset), block.n)
                } else {
                    simd.load_bytes(p, block.n)
                }
            };
            taps[ky] = if SIGNED { simd.xor_i32(bytes, flip) } else { bytes };
        }
        // The fourth tap has weight zero.
        taps[3] = taps[2];
        simd.interleave_bytes(taps)
    }

    /// # Safety
    /// As [`any_line`](Slide::any_line).
    #[inline(always)]
    unsafe fn line<S: Simd, const PAIR: bool, const STRIDE: usize, const SIGNED: bool>(
        &self,
        simd: S,
        block: &Block<S, 3>,
        y: [usize; 2],
    ) {
        let Geometry { output: [_, width], padding, output_stride, .. } = *self.geometry;
        let zero = (self.zero_point as u8) ^ if SIGNED { 0x80 } else { 0 };
        let outside = simd.splat_i32(i32::from_ne_bytes([zero; 4]));
        let [left, middle, _] = block.weights;
        // Columns before the image are beyond its width once they wrap.
        let before = 0usize.wrapping_sub(padding[1]);
        // SAFETY: the caller's promise; the channels exist.
        unsafe {
            let rows = [self.rows(y[0], block.first), self.rows(y[1], block.first)];
            let c = y.map(
                #[inline(always)]
                |y| {
                    let row = self.first_row + y * width;
                    self.output.c.as_mut_ptr().add(row * output_stride + block.first)
                },
            );
            // The weights are read once for two pixels.
            let column = |x: usize| before.wrapping_add(x * STRIDE);
            if STRIDE == 1 {
                let first = self.taps::<S, PAIR, SIGNED>(simd, block, &rows, column(0), outside);
                let second = self.taps::<S, PAIR, SIGNED>(simd, block, &rows, column(1), outside);
                let mut sums = [dot(simd, block.base, first, left), dot(simd, block.base, second, left)];
                sums[0] = dot(simd, sums[0], second, middle);
                for x in (0..width).step_by(2) {
                    let third = self.taps::<S, PAIR, SIGNED>(simd, block, &rows, column(x + 2), outside);
                    let fourth = self.taps::<S, PAIR, SIGNED>(simd, block, &rows, column(x + 3), outside);
                    let done = slide_two(simd, block, &mut sums, third, fourth);
                    self.store::<S, PAIR, 3>(simd, block, c, x * output_stride, done[0]);
                    if x + 1 < width {
                        self.store::<S, PAIR, 3>(simd, block, c, (x + 1) * output_stride, done[1]);
                    }
                }
                return;
            }
            let mut first = self.taps::<S, PAIR, SIGNED>(simd, block, &rows, column(0), outside);
            for x in (0..width).step_by(2) {
                let mut taps = [first; 5];
                for (i, taps) in taps.iter_mut().enumerate().skip(1) {
                    let column = column(x).wrapping_add(i);
                    *taps = self.taps::<S, PAIR, SIGNED>(simd, block, &rows, column, outside);
                }
                first = taps[4];
                let done = two_apart(simd, block, taps);
                self.store::<S, PAIR, 3>(simd, block, c, x * output_stride, done[0]);
                if x + 1 < width {
                    self.store::<S, PAIR, 3>(simd, block, c, (x + 1) * output_stride, done[1]);
                }
            }
        }
    }

    /// Stores the bytes of one pixel, or of two below each other.
    ///
    /// # Safety
    /// The output has the block's channels at that offset from both lines, and no other part writes them.
    #[inline(always)]
    pub(super) unsafe fn store<S: Simd, const PAIR: bool, const K: usize>(
        &self,
        simd: S,
        block: &Block<S, K>,
        c: [*mut u8; 2],
        offset: usize,
        sums: [S::I32; 4],
    ) {
        let mut values = sums;
        for v in 0..4 {
            values[v] = self.bytes.value(simd, sums[v], block.multiplier[v]);
        }
        let bytes = self.bytes.pack(simd, values);
        // SAFETY: the caller's promise.
        unsafe {
            if PAIR {
                simd.store_byte_halves(c[0].add(offset), c[1].add(offset), bytes, block.n);
            } else {
                simd.store_bytes(c[0].add(offset), bytes, block.n);
            }
        }
    }
}

/// Adds the products of four vectors of taps with four of weights.
#[inline(always)]
fn dot<S: Simd>(simd: S, mut sums: [S::I32; 4], taps: [S::I32; 4], weights: [S::I32; 4]) -> [S::I32; 4] {
    for v in 0..4 {
        sums[v] = simd.dot_u8_i8(sums[v], taps[v], weights[v]);
    }
    sums
}

/// Adds the third and the fourth column to the sums of two neighbours, which have seen two columns and one,
/// and gives them; leaves the sums of the next two.
#[inline(always)]
fn slide_two<S: Simd>(
    simd: S,
    block: &Block<S, 3>,
    sums: &mut [[S::I32; 4]; 2],
    third: [S::I32; 4],
    fourth: [S::I32; 4],
) -> [[S::I32; 4]; 2] {
    let mut done = *sums;
    for v in 0..4 {
        let [left, middle, right] = [block.weights[0][v], block.weights[1][v], block.weights[2][v]];
        done[0][v] = simd.dot_u8_i8(sums[0][v], third[v], right);
        done[1][v] = simd.dot_u8_i8(simd.dot_u8_i8(sums[1][v], third[v], middle), fourth[v], right);
        sums[0][v] = simd.dot_u8_i8(simd.dot_u8_i8(block.base[v], third[v], left), fourth[v], middle);
        sums[1][v] = simd.dot_u8_i8(block.base[v], fourth[v], left);
    }
    done
}

/// The sums of two pixels, two columns apart, that see five columns.
#[inline(always)]
fn two_apart<S: Simd>(simd: S, block: &Block<S, 3>, taps: [[S::I32; 4]; 5]) -> [[S::I32; 4]; 2] {
    let mut done = [block.base; 2];
    for v in 0..4 {
        for kx in 0..3 {
            let weights = block.weights[kx][v];
            done[0][v] = simd.dot_u8_i8(done[0][v], taps[kx][v], weights);
            done[1][v] = simd.dot_u8_i8(done[1][v], taps[kx + 2][v], weights);
        }
    }
    done
}

/// The values of a block's channels in the order of the lanes, twice where it comes in pairs; zeros where there are no channels.
#[inline(always)]
fn in_lanes<S: Simd, T: Copy + Default>(values: &[T]) -> [T; 64] {
    let mut plain = [T::default(); 64];
    plain[..values.len()].copy_from_slice(values);
    if in_pairs(S::LANES, values.len()) {
        plain.copy_within(..2 * S::LANES, 2 * S::LANES);
    }
    let mut ordered = [T::default(); 64];
    for v in 0..4 {
        for lane in (0..S::LANES).step_by(4) {
            let from = channel_of(v, lane);
            ordered[v * S::LANES + lane..][..4].copy_from_slice(&plain[from..from + 4]);
        }
    }
    ordered
}
