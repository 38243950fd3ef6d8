//! 5×5 kernels over an image where it lies. Lines come in groups of four, whose columns are interleaved once for all the output
//! lines that see them; the weights move to where the taps of an output line lie in its two groups. Of blocks no more than half
//! full, the two halves of a line are computed at once.

use optimium_simd::{Simd, SimdTask};

use super::slide::{Block, Slide};
use super::{QuantizedDepthwise, in_pairs};
use crate::conv::Parameters;
use crate::depthwise::{repeat, tap_output};

/// Height and width of the kernel.
const KERNEL: usize = 5;

/// Lines of a group.
const GROUP: usize = 4;

/// Output pixels whose sums are in registers at once.
const TILE: usize = 7;

/// Output pixels of a line that are computed from the columns that were interleaved.
const SEGMENT: usize = 28;

/// Lanes of a block: those of four of the widest vectors.
const BLOCK: usize = 64;

impl QuantizedDepthwise {
    /// Whether it is for [`Tall`].
    pub(super) fn is_tall(&self) -> bool {
        let Parameters { kernel, stride, dilation, .. } = self.parameters;
        kernel == [KERNEL; 2] && matches!(stride[1], 1 | 2) && dilation == [1, 1] && self.layers == 1
    }

    /// Elements of memory that [`Tall`] needs.
    pub(super) fn tall_len(&self) -> usize {
        (2 * columns(self.parameters.stride[1], SEGMENT) + SEGMENT) * BLOCK
    }
}

/// Columns that `pixels` neighbouring output pixels see.
fn columns(stride: usize, pixels: usize) -> usize {
    (pixels - 1) * stride + KERNEL
}

/// Some lines of one image.
pub(super) struct Tall<'a> {
    pub(super) slide: Slide<'a>,
    /// Memory of [`QuantizedDepthwise::tall_len`] elements: two groups of interleaved lines, vector by vector, and the sums of a
    /// segment, pixel by pixel.
    pub(super) memory: &'a mut [i32],
}

/// Output pixels of a line, which come twice where the block's channels do.
#[derive(Clone, Copy)]
struct Segment {
    /// The first one of either half.
    starts: [usize; 2],
    /// Number of pixels in a half.
    count: usize,
}

impl SimdTask for Tall<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        for index in self.slide.blocks.0..self.slide.blocks.1 {
            let block = self.slide.block::<S, 0>(simd, index);
            let pair = in_pairs(S::LANES, block.n);
            let width = self.slide.geometry.output[1];
            let half = if pair { width.div_ceil(2) } else { width };
            for start in (0..half).step_by(SEGMENT) {
                let segment = Segment { starts: [start, half + start], count: SEGMENT.min(half - start) };
                // SAFETY: the image, the border and the output hold the lines, as `QuantizedDepthwise::run` checked.
                unsafe {
                    if pair {
                        self.segment::<S, true>(simd, &block, index, segment);
                    } else {
                        self.segment::<S, false>(simd, &block, index, segment);
                    }
                }
            }
        }
    }
}

impl Tall<'_> {
    /// Computes a segment of all lines.
    ///
    /// # Safety
    /// The lines exist, and no other part writes them.
    #[inline(always)]
    unsafe fn segment<S: Simd, const PAIR: bool>(
        &mut self,
        simd: S,
        block: &Block<S, 0>,
        index: usize,
        segment: Segment,
    ) {
        let mut held = [usize::MAX; 2];
        for y in self.slide.lines.0..self.slide.lines.1 {
            let top = y * self.slide.depthwise.parameters.stride[0];
            for group in [top / GROUP, top / GROUP + 1] {
                if held[group % 2] != group {
                    // SAFETY: the caller's promise.
                    unsafe { self.interleave::<S, PAIR>(simd, block, group, segment) };
                    held[group % 2] = group;
                }
            }
            // SAFETY: the caller's promise.
            unsafe {
                if self.slide.depthwise.parameters.stride[1] == 1 {
                    self.line::<S, 1>(simd, block, index, y, segment);
                } else {
                    self.line::<S, 2>(simd, block, index, y, segment);
                }
                self.store::<S, PAIR>(simd, block, y, segment);
            }
        }
    }

    /// Elements of a group of interleaved lines.
    fn group_len(&self) -> usize {
        columns(self.slide.depthwise.parameters.stride[1], SEGMENT) * BLOCK
    }

    /// Interleaves the columns of a group of lines, which are counted from the first one of the border above the image.
    ///
    /// # Safety
    /// The image and the border hold the block's channels.
    #[inline(always)]
    unsafe fn interleave<S: Simd, const PAIR: bool>(
        &mut self,
        simd: S,
        block: &Block<S, 0>,
        group: usize,
        segment: Segment,
    ) {
        let (slide, group_len) = (&self.slide, self.group_len());
        let g = slide.geometry;
        let stride = slide.depthwise.parameters.stride[1];
        let flip = simd.splat_i32(i32::from_ne_bytes([if slide.signed { 0x80 } else { 0 }; 4]));
        let rows: [Option<*const u8>; GROUP] = std::array::from_fn(
            #[inline(always)]
            |j| {
                let row = (group * GROUP + j).wrapping_sub(g.padding[0]);
                let exists = row < g.input[0];
                exists.then(|| slide.image[row * g.input[1] * g.input_stride + block.first..].as_ptr())
            },
        );
        let border = slide.border.as_ptr().wrapping_add(block.first);
        let out = &mut self.memory[group % 2 * group_len..][..group_len];
        let count = columns(stride, segment.count);
        for column in 0..count {
            let x = segment.starts.map(
                #[inline(always)]
                |start| (start * stride + column).wrapping_sub(g.padding[1]),
            );
            let mut taps = [flip; GROUP];
            for (tap, row) in taps.iter_mut().zip(rows) {
                let p = x.map(
                    #[inline(always)]
                    |x| match row {
                        Some(row) if x < g.input[1] => row.wrapping_add(x * g.input_stride),
                        _ => border,
                    },
                );
                // SAFETY: pixels of the image, or the first one of the border; the caller's promise.
                let bytes = unsafe {
                    if PAIR {
                        simd.load_byte_halves(p[0], p[1], block.n)
                    } else {
                        simd.load_bytes(p[0], block.n)
                    }
                };
                *tap = simd.xor_i32(bytes, flip);
            }
            let taps = simd.interleave_bytes(taps);
            for (v, &taps) in taps.iter().enumerate() {
                // SAFETY: a group has room for the columns of the longest segment in each of four vectors.
                unsafe { simd.store_i32(out.as_mut_ptr().add((v * count + column) * S::LANES), taps) };
            }
        }
    }

    /// Computes the sums of a segment of output line `y` from the groups that it sees.
    ///
    /// # Safety
    /// The groups have been interleaved.
    #[inline(always)]
    unsafe fn line<S: Simd, const STRIDE: usize>(
        &mut self,
        simd: S,
        block: &Block<S, 0>,
        index: usize,
        y: usize,
        segment: Segment,
    ) {
        let top = y * self.slide.depthwise.parameters.stride[0];
        let (group, phase) = (top / GROUP, (top % GROUP) as u32);
        let (group_len, count) = (self.group_len(), columns(STRIDE, segment.count));
        let (groups, sums) = self.memory.split_at_mut(2 * group_len);
        let groups = [group % 2, (group + 1) % 2].map(|half| groups[half * group_len..].as_ptr());
        let packed =
            &self.slide.depthwise.weights[index * KERNEL * 2 * 16 * S::LANES..][..KERNEL * 2 * 16 * S::LANES];
        for v in 0..4 {
            let mut weights = [[block.base[v]; 2]; KERNEL];
            for (column, weights) in weights.iter_mut().enumerate() {
                // SAFETY: four vectors for each group of four taps of a column.
                let [upper, lower] = [0, 1].map(|half| unsafe {
                    simd.load_i32(packed.as_ptr().cast::<i32>().add(((column * 2 + half) * 4 + v) * S::LANES))
                });
                *weights = moved(simd, upper, lower, phase);
            }
            for x in (0..segment.count).step_by(TILE) {
                let at = (v * count + x * STRIDE) * S::LANES;
                // SAFETY: a group has room for what four times the longest segment sees, whose pixels are a multiple of the tile's.
                unsafe {
                    let tile = tile::<S, STRIDE>(simd, block.base[v], &weights, groups.map(|p| p.add(at)));
                    repeat!(I in [0 1 2 3 4 5 6] {
                        simd.store_i32(sums.as_mut_ptr().add(((x + I) * 4 + v) * S::LANES), tile[I]);
                    });
                }
            }
        }
    }

    /// Stores the pixels of output line `y` whose sums were computed.
    ///
    /// # Safety
    /// The line exists, and no other part writes it.
    #[inline(always)]
    unsafe fn store<S: Simd, const PAIR: bool>(
        &self,
        simd: S,
        block: &Block<S, 0>,
        y: usize,
        segment: Segment,
    ) {
        let (slide, sums) = (&self.slide, &self.memory[2 * self.group_len()..]);
        let (width, stride) = (slide.geometry.output[1], slide.geometry.output_stride);
        let line = slide.first_row + y * width;
        for i in 0..segment.count {
            let pixels = segment.starts.map(|start| start + i);
            let mut vectors = [simd.splat_i32(0); 4];
            for (v, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: four vectors a pixel.
                *vector = unsafe { simd.load_i32(sums.as_ptr().add((i * 4 + v) * S::LANES)) };
            }
            let c = pixels
                .map(|pixel| slide.output.c.as_mut_ptr().wrapping_add((line + pixel) * stride + block.first));
            // SAFETY: the caller's promise; the second half of a line of odd length is shorter.
            unsafe {
                if PAIR && pixels[1] < width {
                    slide.store::<S, true, 0>(simd, block, c, 0, vectors);
                } else {
                    slide.store::<S, false, 0>(simd, block, c, 0, vectors);
                }
            }
        }
    }
}

/// The weights of five taps below each other, four and one, where the first is tap `phase` of the upper group.
#[inline(always)]
fn moved<S: Simd>(simd: S, four: S::I32, one: S::I32, phase: u32) -> [S::I32; 2] {
    if phase == 0 {
        return [four, one];
    }
    let bits = 8 * phase;
    let carried = simd.shift_right_i32(four, 32 - bits);
    let carried = simd.and_i32(carried, simd.splat_i32((1 << bits) - 1));
    [simd.shift_left_i32(four, bits), simd.or_i32(carried, simd.shift_left_i32(one, bits))]
}

/// The sums of neighbouring pixels in one vector of channels.
///
/// # Safety
/// What they see is readable in both groups.
#[inline(always)]
unsafe fn tile<S: Simd, const STRIDE: usize>(
    simd: S,
    base: S::I32,
    weights: &[[S::I32; 2]; KERNEL],
    groups: [*const i32; 2],
) -> [S::I32; TILE] {
    let mut sums = [base; TILE];
    repeat!(COLUMN in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16] {
        if COLUMN < (TILE - 1) * STRIDE + KERNEL {
            // SAFETY: the caller's promise.
            let [upper, lower] = unsafe {
                [simd.load_i32(groups[0].add(COLUMN * S::LANES)), simd.load_i32(groups[1].add(COLUMN * S::LANES))]
            };
            repeat!(J in [0 1 2 3 4] {
                let to = tap_output(COLUMN, J, STRIDE);
                if to < TILE {
                    sums[to] = simd.dot_u8_i8(sums[to], upper, weights[J][0]);
                    sums[to] = simd.dot_u8_i8(sums[to], lower, weights[J][1]);
                }
            });
        }
    });
    sums
}
