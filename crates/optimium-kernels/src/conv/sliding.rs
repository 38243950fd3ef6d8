//! Convolutions of few input channels: those of an image, or of small groups.
//!
//! A vector holds the output channels of several groups, or some of those of one group. Of an input pixel each of its
//! channels goes to all lanes of its own group at once, and from there into all the sums under the kernel that it
//! belongs to: a row of neighbouring output pixels, which stay in registers. Lines and columns outside of the image
//! are left out.
//!
//! An element of an image is an `f32` or a pair of bfloat16 that are neighbouring channels.

use std::marker::PhantomData;
use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::parameters::{Geometry, Parameters};
use crate::activation::ActivateInPlace;
use crate::depthwise::{repeat, tap_output, valid_columns};
use crate::epilogue::{Epilogue, TileActivation, finish_whole};
use crate::gemm;
use crate::gemm::arithmetic::{BrainPairs, Multiply, Single};
use crate::{Packed, Packing, Part, Real, SharedSlice};

/// Pixels of a tile: for few registers or short lines, and for many, where neighbours' columns overlap more or less.
const NARROW: usize = 7;
const WIDE: usize = 14;
const WIDE_STRIDED: usize = 8;

/// A convolution whose groups share vectors, or divide into vectors.
#[derive(Clone, Debug)]
pub(super) struct Sliding {
    level: Level,
    parameters: Parameters,
    /// `[block of output channels][kernel row][input channel of the group][kernel column][lane]`
    weights: Packed<f32>,
}

/// Whether groups fit vectors of so many lanes: several share one, and have as many inputs as outputs so that their inputs
/// fill one too, or one fills several.
pub(super) fn fits(parameters: &Parameters, lanes: usize) -> bool {
    let outputs = parameters.group_outputs();
    let shared = shares_vectors(parameters) && outputs > 0 && lanes.is_multiple_of(outputs);
    parameters.output_channels.is_multiple_of(lanes) && (shared || outputs.is_multiple_of(lanes))
}

/// Whether groups may share a vector.
fn shares_vectors(parameters: &Parameters) -> bool {
    parameters.group_inputs() == parameters.group_outputs()
}

/// The level with the longest vectors, up to those of `level`, that the groups fit.
fn fitting(level: Level, parameters: &Parameters) -> Level {
    let usable = |at: &Level| at.is_available() && *at <= level && fits(parameters, at.lanes());
    [level, Level::Avx2].into_iter().find(usable).unwrap_or(Level::Portable)
}

impl Sliding {
    /// Whether it can compute that convolution.
    pub(super) fn serves(parameters: &Parameters) -> bool {
        // Products gain from more channels, and sums that slide do not.
        const INPUTS: usize = 32;
        (1..=INPUTS).contains(&parameters.group_inputs())
            && (parameters.kernel[1] == 3 || parameters.kernel[1] == 7 && !shares_vectors(parameters))
            && matches!(parameters.stride[1], 1 | 2)
            && parameters.dilation[1] == 1
            && fits(parameters, Level::Portable.lanes())
    }

    /// Estimated cycles of one core for an output pixel.
    pub(super) fn cost(level: Level, parameters: &Parameters) -> f64 {
        Sliding::cost_at(fitting(level, parameters), parameters, 1)
    }

    /// The same with the vectors of `level`, where an element of an image is `each` inputs.
    pub(super) fn cost_at(level: Level, parameters: &Parameters, each: usize) -> f64 {
        // What is lost at borders and at the ends of lines, to picks of lanes that serve few sums each, and where there are few
        // registers for sums.
        const LOSS: f64 = 1.06;
        const PICKS_LOSS: f64 = 1.5;
        const NARROW_LOSS: f64 = 1.4;
        // Cycles to store a vector.
        const STORE: f64 = 4.0;
        let halves = level >= Level::Avx512 && gemm::executes_in_halves();
        let unit = if halves { 1.0 } else { 0.5 };
        let blocks = parameters.output_channels / level.lanes();
        let products = parameters.kernel[0] * parameters.kernel[1] * parameters.group_inputs().div_ceil(each);
        let picks = parameters.group_outputs() < level.lanes() && parameters.stride[1] > 1;
        let loss = match level {
            _ if picks => PICKS_LOSS,
            Level::Avx2 | Level::Portable => NARROW_LOSS,
            _ => LOSS,
        };
        blocks as f64 * (products as f64 * unit * loss + STORE)
    }

    /// Packs `weights`, `[output channels, input channels / groups, kernel height, kernel width]`, where `packing` says.
    pub(super) fn new(level: Level, parameters: &Parameters, weights: &[f32], packing: &Packing) -> Sliding {
        let level = fitting(level, parameters);
        let (lanes, inputs, [rows, columns]) = (level.lanes(), parameters.group_inputs(), parameters.kernel);
        let form = format_args!("groups in blocks of {lanes} channels");
        let weights = packing.block(form, weights.len(), |packed| {
            for (output, of_output) in weights.chunks_exact(inputs * rows * columns).enumerate() {
                let (block, lane) = (output / lanes, output % lanes);
                for (at, &weight) in of_output.iter().enumerate() {
                    let (input, row, column) = (at / columns / rows, at / columns % rows, at % columns);
                    packed[(((block * rows + row) * inputs + input) * columns + column) * lanes + lane] =
                        weight;
                }
            }
        });
        Sliding { level, parameters: *parameters, weights }
    }

    /// See [`Convolution::run`](super::Convolution::run); sizes are checked, and there is an output.
    pub(super) fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        part: Part,
    ) {
        let lines = geometry.batch * geometry.output[0];
        let blocks = self.parameters.output_channels / self.level.lanes();
        self.level.run(Lines {
            arithmetic: PhantomData::<Single>,
            parameters: &self.parameters,
            weights: &self.weights,
            lanes: self.level.lanes(),
            geometry,
            x: x.as_ptr(),
            pixel: geometry.input_stride,
            epilogue,
            y,
            steps: part.range(lines * blocks),
        });
    }
}

/// How elements of an image meet their weights.
pub(super) trait Inputs: Multiply {
    /// Inputs of an element.
    const EACH: usize;
    /// In each lane that of the inputs of `LANES` channels at `p` whose number `lanes` has there.
    /// # Safety
    /// They are readable.
    unsafe fn pick<S: Simd>(simd: S, p: *const f32, lanes: S::I32) -> Self::Vector<S>;
}

impl Inputs for Single {
    const EACH: usize = 1;
    #[inline(always)]
    unsafe fn pick<S: Simd>(simd: S, p: *const f32, lanes: S::I32) -> S::F32 {
        // SAFETY: forwarded.
        simd.permute(unsafe { simd.load(p) }, lanes)
    }
}

impl Inputs for BrainPairs {
    const EACH: usize = 2;
    #[inline(always)]
    unsafe fn pick<S: Simd>(simd: S, p: *const f32, lanes: S::I32) -> S::I32 {
        // SAFETY: so many channels are half as many pairs.
        let pairs = unsafe { simd.load_masked(p, simd.first(S::LANES / 2)) };
        simd.to_bits(simd.permute(pairs, lanes))
    }
}

/// Lines of a convolution whose sizes have been checked. Elements are those of the arithmetic.
pub struct Lines<'a, A, T> {
    pub(super) arithmetic: PhantomData<A>,
    pub(super) parameters: &'a Parameters,
    /// `[block of output channels][kernel row][element of the group][kernel column][lane]`
    pub(super) weights: &'a [f32],
    /// Those of the vectors that the weights are packed for.
    pub(super) lanes: usize,
    pub(super) geometry: &'a Geometry,
    /// Where the first line of the first image is or would be: what is read must be there.
    pub(super) x: *const f32,
    /// Elements from one pixel to the next.
    pub(super) pixel: usize,
    pub(super) epilogue: &'a Epilogue<'a, T>,
    pub(super) y: SharedSlice<'a, T>,
    /// Blocks of output channels of lines of the output, line by line.
    pub(super) steps: Range<usize>,
}

impl<A: Inputs, T: Real> SimdTask for Lines<'_, A, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let parameters = self.parameters;
        assert!(self.lanes == S::LANES, "weights packed for other vectors");
        let shared = parameters.group_outputs() < S::LANES;
        let blocks = parameters.output_channels / S::LANES;
        for step in self.steps.clone() {
            let line = Line { lines: &self, line: step / blocks, first: step % blocks * S::LANES };
            // SAFETY: sizes were checked; the line's block of channels belongs to this call.
            unsafe {
                match (parameters.kernel[1], parameters.stride[1], shared) {
                    (3, 1, true) => line.run::<S, 3, 1, true>(simd),
                    (3, 1, false) => line.run::<S, 3, 1, false>(simd),
                    (3, _, true) => line.run::<S, 3, 2, true>(simd),
                    (3, _, false) => line.run::<S, 3, 2, false>(simd),
                    (_, 1, _) => line.run::<S, 7, 1, false>(simd),
                    _ => line.run::<S, 7, 2, false>(simd),
                }
            }
        }
    }
}

/// One line of output pixels, counted through all images, of the vector of channels from `first` on.
struct Line<'a, A, T> {
    lines: &'a Lines<'a, A, T>,
    line: usize,
    first: usize,
}

/// Where a tile reads. Addresses of lines and columns that are left out may lie outside of the image.
struct Source<I> {
    /// The first channel under the block of the tile's first pixel.
    x: *const f32,
    /// Elements from one kernel row's line to the next.
    row_step: usize,
    /// Elements from one pixel to the next.
    pixel_step: usize,
    /// The block's weights.
    weights: *const f32,
    /// The kernel rows that lie in the image.
    rows: Range<usize>,
    /// Elements of a group.
    inputs: usize,
    /// One bit for each column under the tile that is needed and lies in the image.
    columns: u32,
    /// For each lane where the inputs of its group begin in a vector of inputs.
    starts: I,
}

impl<A: Inputs, T: Real> Line<'_, A, T> {
    /// # Safety
    /// The slices have the sizes of the geometry, and no other part writes these channels of the line.
    #[inline(always)]
    unsafe fn run<S: Simd, const K: usize, const STRIDE: usize, const SHARED: bool>(&self, simd: S) {
        let wide = if STRIDE == 1 { WIDE } else { WIDE_STRIDED };
        // Few registers do not hold the sums of a wide tile beside the weights of a kernel row.
        let (wide, width) = (wide * usize::from(S::REGISTERS >= 32), self.lines.geometry.output[1]);
        let mut source = self.source(simd);
        let mut column = 0;
        while column < width {
            let rest = width - column;
            // SAFETY: by the caller's promise; the columns lie in the line.
            unsafe {
                column += match (rest.min(wide) > NARROW, STRIDE) {
                    (true, 1) => self.tile::<S, WIDE, K, STRIDE, SHARED>(simd, &mut source, column, rest),
                    (true, _) => {
                        self.tile::<S, WIDE_STRIDED, K, STRIDE, SHARED>(simd, &mut source, column, rest)
                    }
                    _ => self.tile::<S, NARROW, K, STRIDE, SHARED>(simd, &mut source, column, rest),
                };
            }
        }
    }

    /// Where the tile at column 0 would read without padding.
    #[inline(always)]
    fn source<S: Simd>(&self, simd: S) -> Source<S::I32> {
        let Lines { geometry, parameters, pixel, .. } = *self.lines;
        let (inputs, outputs) = (parameters.group_inputs() / A::EACH, parameters.group_outputs());
        let (image, line) = (self.line / geometry.output[0], self.line % geometry.output[0]);
        let line_len = geometry.input[1] * pixel;
        let (top, apart) = (line * parameters.stride[0], parameters.dilation[0]);
        let [rows, columns] = parameters.kernel;
        let begin = geometry.padding[0].saturating_sub(top).div_ceil(apart).min(rows);
        let end = (geometry.input[0] + geometry.padding[0]).saturating_sub(top).div_ceil(apart).min(rows);
        let corner = (image * geometry.input[0] + top) as isize - geometry.padding[0] as isize;
        let mut starts = [0; optimium_simd::MAX_LANES];
        for (lane, start) in starts.iter_mut().enumerate() {
            *start = (lane / outputs * inputs) as i32;
        }
        let x = self.lines.x.wrapping_offset(corner * line_len as isize);
        Source {
            x: x.wrapping_add(self.first / outputs * inputs),
            row_step: apart * line_len,
            pixel_step: pixel,
            weights: self.lines.weights[self.first * rows * inputs * columns..].as_ptr(),
            rows: begin..end.max(begin),
            inputs,
            columns: u32::MAX,
            // SAFETY: the array has as many elements as the longest vector.
            starts: unsafe { simd.load_i32(starts.as_ptr()) },
        }
    }

    /// Computes the next pixels from `column` on, of which `rest` are left, `WIDTH` at most, and returns how many.
    ///
    /// # Safety
    /// As [`run`](Self::run), and the line has that many pixels.
    #[inline(always)]
    unsafe fn tile<S: Simd, const WIDTH: usize, const K: usize, const STRIDE: usize, const SHARED: bool>(
        &self,
        simd: S,
        source: &mut Source<S::I32>,
        column: usize,
        rest: usize,
    ) -> usize {
        let count = rest.min(WIDTH);
        let (geometry, epilogue) = (self.lines.geometry, self.lines.epilogue);
        let left = (column * STRIDE) as isize - geometry.padding[1] as isize;
        let span = (WIDTH - 1) * STRIDE + K;
        let inner = count == WIDTH && left >= 0 && left.unsigned_abs() + span <= geometry.input[1];
        let start = match epilogue.bias {
            // SAFETY: the epilogue is checked for all channels.
            Some(bias) => unsafe { simd.load(bias.as_ptr().add(self.first)) },
            None => simd.splat(0.0),
        };
        let line = source.x;
        source.x = line.wrapping_offset(left * source.pixel_step as isize);
        source.columns = valid_columns(left, (count - 1) * STRIDE + K, geometry.input[1]);
        // SAFETY: lines and columns outside of the image are excluded in `source`.
        let sums = unsafe {
            if inner {
                sums::<S, A, WIDTH, K, STRIDE, SHARED, false>(simd, start, source)
            } else {
                sums::<S, A, WIDTH, K, STRIDE, SHARED, true>(simd, start, source)
            }
        };
        source.x = line;
        // SAFETY: the tile's pixels lie in the line.
        unsafe { self.store(simd, sums, column, count) };
        count
    }

    /// Stores the sums of `count` pixels from row `row` of the result on after what tiles do not do themselves.
    #[inline(always)]
    fn finish<S: Simd, const WIDTH: usize>(&self, simd: S, sums: [S::F32; WIDTH], row: usize, count: usize) {
        // A copy: what has an address does not stay in registers.
        let buffer = sums;
        simd.call(Finish {
            epilogue: self.lines.epilogue,
            sums: buffer.as_ptr().cast(),
            rows: row..row + count,
            first: self.first,
            y: self.lines.y,
            stride: self.lines.geometry.output_stride,
        });
    }

    /// Finishes and stores the sums of `count` pixels from `column` on.
    ///
    /// # Safety
    /// As [`tile`](Self::tile).
    #[inline(always)]
    unsafe fn store<S: Simd, const WIDTH: usize>(
        &self,
        simd: S,
        sums: [S::F32; WIDTH],
        column: usize,
        count: usize,
    ) {
        let (epilogue, stride) = (self.lines.epilogue, self.lines.geometry.output_stride);
        let row = self.line * self.lines.geometry.output[1] + column;
        let to = self.lines.y.as_mut_ptr().wrapping_add(row * stride + self.first);
        let (mut low, mut high) = (f32::NEG_INFINITY, f32::INFINITY);
        let mut finished = sums;
        match epilogue.of_tile(self.first) {
            _ if epilogue.residual.is_some() => return self.finish(simd, sums, row, count),
            TileActivation::Clamp { low: bound, high: other } => {
                (low, high) = (bound, other);
            }
            TileActivation::Called(activation) => {
                // A copy: what has an address does not stay in registers.
                let mut vectors = sums;
                // SAFETY: vectors are arrays of LANES elements.
                simd.call(unsafe {
                    ActivateInPlace::new(activation, vectors.as_mut_ptr().cast(), count * S::LANES)
                });
                finished = vectors;
            }
            _ => return self.finish(simd, sums, row, count),
        }
        let (low, high) = (simd.splat(low), simd.splat(high));
        repeat!(INDEX in [0 1 2 3 4 5 6 7 8 9 10 11 12 13] {
            if INDEX < WIDTH && INDEX < count {
                let y = simd.min(high, simd.max(low, finished[INDEX % WIDTH]));
                // SAFETY: by the caller's promise.
                unsafe { T::store(simd, to.wrapping_add(INDEX * stride), y) };
            }
        });
    }
}

/// The epilogue of pixels, for one vector of channels.
struct Finish<'a, T> {
    epilogue: &'a Epilogue<'a, T>,
    /// One vector a pixel.
    sums: *const f32,
    rows: Range<usize>,
    first: usize,
    y: SharedSlice<'a, T>,
    stride: usize,
}

impl<T: Real> SimdTask for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (i, row) in self.rows.enumerate() {
            // SAFETY: there is a vector for each row, whose pixel lies in the result; the epilogue is checked.
            unsafe {
                let sums = simd.load(self.sums.add(i * S::LANES));
                let y = finish_whole(simd, self.epilogue, row, self.first, sums);
                T::store(simd, self.y.as_mut_ptr().add(row * self.stride + self.first), y);
            }
        }
    }
}

/// The sums of `T` neighbouring pixels, all of which begin with `start`. Without `GUARDED` all columns lie in the image.
///
/// # Safety
/// The weights are of the kernel's size, and all pixels that `source` does not exclude are readable.
#[inline(always)]
unsafe fn sums<
    S: Simd,
    A: Inputs,
    const T: usize,
    const K: usize,
    const STRIDE: usize,
    const SHARED: bool,
    const GUARDED: bool,
>(
    simd: S,
    start: S::F32,
    source: &Source<S::I32>,
) -> [S::F32; T] {
    let mut sums = [start; T];
    for row in source.rows.clone() {
        let line = source.x.wrapping_add(row * source.row_step);
        let weights = source.weights.wrapping_add(row * source.inputs * K * S::LANES);
        for input in 0..source.inputs {
            let weights = weights.wrapping_add(input * K * S::LANES);
            // SAFETY: by the caller's promise.
            unsafe {
                let mut taps = [A::zero(simd); K];
                for (tap, weight) in taps.iter_mut().enumerate() {
                    *weight = A::load(simd, weights.add(tap * S::LANES));
                }
                add_row::<S, A, T, K, STRIDE, SHARED, GUARDED>(simd, &mut sums, &taps, line, input, source);
            }
        }
    }
    sums
}

/// Adds what one row of the kernel gives for one element of every group.
///
/// # Safety
/// The line's pixels that `source` does not exclude are readable.
#[inline(always)]
unsafe fn add_row<
    S: Simd,
    A: Inputs,
    const T: usize,
    const K: usize,
    const STRIDE: usize,
    const SHARED: bool,
    const GUARDED: bool,
>(
    simd: S,
    sums: &mut [S::F32; T],
    taps: &[A::Vector<S>; K],
    line: *const f32,
    input: usize,
    source: &Source<S::I32>,
) {
    let lanes = simd.add_i32(source.starts, simd.splat_i32(input as i32));
    repeat!(COLUMN in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20] {
        if COLUMN < (T - 1) * STRIDE + K && (!GUARDED || source.columns >> COLUMN & 1 == 1) {
            let pixel = line.wrapping_add(COLUMN * source.pixel_step);
            // SAFETY: by the caller's promise; groups that share a vector have a vector of inputs.
            let x = unsafe {
                if SHARED { A::pick(simd, pixel, lanes) } else { A::splat(simd, pixel.add(input)) }
            };
            repeat!(TAP in [0 1 2 3 4 5 6] {
                let to = tap_output(COLUMN, TAP, STRIDE);
                if TAP < K && to < T {
                    sums[to] = A::add_product(simd, sums[to], x, taps[TAP]);
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::super::reference::Case;
    use super::*;
    use crate::activation::Activation;
    use crate::epilogue::Residual;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    #[test]
    fn epilogues_of_all_kinds() {
        let activations =
            [Activation::None, Activation::Relu, Activation::PRelu, Activation::HardSwish, Activation::Silu];
        let cases = activations.into_iter().flat_map(|activation| (0..3).map(move |add| (activation, add)));
        each_case(cases, |&(activation, add)| {
            let parameters = Parameters {
                input_channels: 32,
                output_channels: 32,
                kernel: [3, 3],
                stride: [1, 1],
                dilation: [1, 1],
                groups: 8,
            };
            let size = [5, 19];
            let geometry = Geometry {
                batch: 2,
                input: size,
                output: size,
                padding: [1, 1],
                input_stride: 0,
                output_stride: 0,
            };
            let case = Case::new(parameters, geometry, [1, 2]);
            let (columns, stride, mut random) = (32, 35, Random::new(8));
            let added = random.floats(geometry.output_pixels() * stride);
            let slope = random.floats(columns);
            let residual = Residual { data: (&added).into(), stride, after_activation: add == 2 };
            let epilogue = Epilogue {
                bias: Some(&case.bias),
                residual: (add > 0).then_some(residual),
                activation,
                slope: Some(&slope),
                following: &[],
            };
            let mut expected = case.expected();
            case.finish(&mut expected, &epilogue, &added);
            for level in Level::available() {
                let sliding = Sliding::new(level, &parameters, &case.weights, &Packing::default());
                let mut y = case.blank();
                for index in 0..2 {
                    let part = Part { index, count: 2 };
                    sliding.run(&case.geometry, &case.x, &epilogue, SharedSlice::new(&mut y), part);
                }
                compare(&y, &expected, Tolerance::dot(case.depth())).map_err(|e| format!("{level}: {e}"))?;
            }
            Ok(())
        });
    }
}
