//! Convolutions to one channel, as at the ends of networks that make masks.
//!
//! A vector holds neighbouring elements of a line of the input, of several pixels or some of one, and meets the weights of their
//! channels. The sums of as many pixels as there are lanes stay in registers under all taps. In the end neighbours in them are
//! added until each pixel has one lane.

use std::ops::Range;

use optimium_simd::{Level, MAX_LANES, Simd, SimdTask};

use super::band::Band;
use super::parameters::{Geometry, Parameters};
use crate::activation::Activation;
use crate::epilogue::{Epilogue, finish};
use crate::gemm;
use crate::gemm::grouped::{EvenAndOdd, add_neighbours};
use crate::{Packed, Packing, Part, SharedSlice};

/// A convolution to one channel.
#[derive(Clone, Debug)]
pub(super) struct OneOutput {
    level: Level,
    parameters: Parameters,
    /// `[kernel row][kernel column][vector of channels][lane]`, where channels that fill no vector repeat.
    weights: Packed<f32>,
}

/// Whether channels fill vectors of so many lanes, or vectors hold whole pixels.
fn fits(parameters: &Parameters, lanes: usize) -> bool {
    let channels = parameters.input_channels;
    channels > 0 && (channels.is_multiple_of(lanes) || lanes.is_multiple_of(channels))
}

/// The level with the longest vectors, up to those of `level`, that the channels fit.
fn fitting(level: Level, parameters: &Parameters) -> Level {
    let usable = |at: &Level| at.is_available() && *at <= level && fits(parameters, at.lanes());
    [level, Level::Avx2].into_iter().find(usable).unwrap_or(Level::Portable)
}

impl OneOutput {
    /// Whether it can compute that convolution.
    pub(super) fn serves(parameters: &Parameters) -> bool {
        parameters.output_channels == 1
            && parameters.groups == 1
            && parameters.stride[1] == 1
            && parameters.dilation[1] == 1
            && fits(parameters, Level::Portable.lanes())
    }

    /// Estimated cycles of one core for a line of so many output pixels.
    pub(super) fn cost(level: Level, parameters: &Parameters, width: usize) -> f64 {
        /// Cycles to add the neighbours of two vectors of sums.
        const FOLD: f64 = 4.0;
        /// Cycles to begin and to end a tile.
        const TILE: f64 = 30.0;
        let lanes = fitting(level, parameters).lanes();
        let (channels, taps) = (parameters.input_channels, parameters.kernel[0] * parameters.kernel[1]);
        let unit = if lanes == MAX_LANES && gemm::executes_in_halves() { 1.0 } else { 0.5 };
        let folds = (channels.min(lanes) - 1) as f64 * FOLD;
        let products_and_copies = (channels * (taps + 1)) as f64 * unit;
        width.div_ceil(lanes) as f64 * (products_and_copies + folds + TILE)
    }

    /// Packs `weights`, `[1, input channels, kernel height, kernel width]`, where `packing` says.
    pub(super) fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        packing: &Packing,
    ) -> OneOutput {
        let level = fitting(level, parameters);
        let (channels, taps) = (parameters.input_channels, parameters.kernel[0] * parameters.kernel[1]);
        let of_tap = channels.max(level.lanes());
        let form = format_args!("one output, {of_tap} elements of a tap");
        let weights = packing.block(form, taps * of_tap, |packed| {
            for (at, packed) in packed.iter_mut().enumerate() {
                *packed = weights[at % of_tap % channels * taps + at / of_tap];
            }
        });
        OneOutput { level, parameters: *parameters, weights }
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub(super) fn scratch_len(&self, geometry: &Geometry) -> usize {
        if self.reads_in_place(geometry) {
            return 0;
        }
        // The tile of a short line reads past its end.
        let beyond = self.level.lanes().saturating_mul(self.parameters.input_channels);
        Band::longest(&self.parameters, geometry).saturating_add(beyond)
    }

    /// Whether no tile reads anything but elements of the image.
    fn reads_in_place(&self, geometry: &Geometry) -> bool {
        geometry.input_stride == self.parameters.input_channels
            && geometry.output[1] >= self.level.lanes()
            && Band::under(&self.parameters, geometry, 0..geometry.output[0]).lies_in(geometry.input)
    }

    /// See [`Convolution::run`](super::Convolution::run); sizes are checked, and there is an output.
    pub(super) fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        let mut epilogue = *epilogue;
        if let (Activation::PRelu, Some(slope)) = (epilogue.activation, epilogue.slope) {
            epilogue.activation = Activation::LeakyRelu { alpha: slope[0] };
            epilogue.slope = None;
        }
        let in_place = self.reads_in_place(geometry);
        let ([height, _], channels) = (geometry.output, self.parameters.input_channels);
        let at_once = if in_place { height } else { Band::lines_at_once(&self.parameters, geometry) };
        let input = geometry.input[0] * geometry.input[1] * geometry.input_stride;
        let mut lines = part.range(geometry.batch * height);
        while !lines.is_empty() {
            let (image, first) = (lines.start / height, lines.start % height);
            let count = at_once.min(height - first).min(lines.len());
            let band = Band::under(&self.parameters, geometry, first..first + count);
            let x = &x[(image * input).min(x.len())..];
            let (data, line) = if in_place {
                let line = geometry.input[1] * channels;
                let start = band.origin[0].unsigned_abs() * line + band.origin[1].unsigned_abs() * channels;
                (&x[start..], line)
            } else {
                band.copy(x, geometry, channels, scratch);
                (&*scratch, band.size[1] * channels)
            };
            self.level.run(Lines {
                convolution: self,
                data,
                line,
                width: geometry.output[1],
                epilogue: &epilogue,
                y,
                stride: geometry.output_stride,
                lines: lines.start..lines.start + count,
            });
            lines.start += count;
        }
    }
}

/// Output lines whose input lies side by side, pixel by pixel.
struct Lines<'a> {
    convolution: &'a OneOutput,
    /// What is under the first of them, and all that its tiles read.
    data: &'a [f32],
    /// Elements from one line of input to the next.
    line: usize,
    /// Pixels of an output line.
    width: usize,
    epilogue: &'a Epilogue<'a>,
    y: SharedSlice<'a, f32>,
    /// Elements from one output pixel to the next.
    stride: usize,
    /// Counted through all images.
    lines: Range<usize>,
}

impl SimdTask for Lines<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.convolution.level.lanes() == S::LANES, "weights packed for other vectors");
        // SAFETY: sizes are checked, and lines belong to this call.
        unsafe {
            match self.convolution.parameters.input_channels.min(S::LANES) {
                1 => self.tiles::<S, 1>(simd),
                2 => self.tiles::<S, 2>(simd),
                4 => self.tiles::<S, 4>(simd),
                8 => self.tiles::<S, 8>(simd),
                _ => self.tiles::<S, MAX_LANES>(simd),
            }
        }
    }
}

impl Lines<'_> {
    /// All lines, with `SUMS` vectors of sums for as many pixels as a vector has lanes.
    ///
    /// # Safety
    /// The sizes are checked, `SUMS` is the smaller one of channels and lanes, and no other part writes these lines.
    #[inline(always)]
    unsafe fn tiles<S: Simd, const SUMS: usize>(&self, simd: S) {
        let OneOutput { parameters, .. } = self.convolution;
        let channels = parameters.input_channels;
        let bias = simd.splat(self.epilogue.bias.map_or(0.0, |bias| bias[0]));
        let neighbours = EvenAndOdd::new(simd);
        for (index, line) in self.lines.clone().enumerate() {
            let start = index * parameters.stride[0] * self.line;
            let mut column = 0;
            while column < self.width {
                // The last tile of a line begins where all of it is in the line, and computes some pixels again.
                let from = column.min(self.width.saturating_sub(S::LANES));
                let end = (from + S::LANES).min(self.width);
                // SAFETY: by the promise of the caller.
                let sums = unsafe {
                    let x = self.data.as_ptr().add(start + from * channels);
                    fold(simd, neighbours, self.sums::<S, SUMS>(simd, x))
                };
                let mut buffer = [0.0; MAX_LANES];
                // SAFETY: there are as many as lanes.
                unsafe { simd.store(buffer.as_mut_ptr(), simd.add(sums, bias)) };
                let (sums, first) = (&buffer[column - from..end - from], line * self.width + column);
                simd.call(Finish { epilogue: self.epilogue, sums, first, y: self.y, stride: self.stride });
                column = end;
            }
        }
    }

    /// The sums of the tile whose input begins at `x`: neighbours belong to one pixel.
    ///
    /// # Safety
    /// As [`tiles`](Self::tiles), and all of the tile's input is readable.
    #[inline(always)]
    unsafe fn sums<S: Simd, const SUMS: usize>(&self, simd: S, x: *const f32) -> [S::F32; SUMS] {
        let OneOutput { parameters, weights, .. } = self.convolution;
        let (channels, [rows, columns]) = (parameters.input_channels, parameters.kernel);
        let step = channels.max(S::LANES);
        let mut sums = [simd.splat(0.0); SUMS];
        let mut weights = weights.as_ptr();
        for row in 0..rows {
            for column in 0..columns {
                let tap = x.wrapping_add(row * parameters.dilation[0] * self.line + column * channels);
                for vector in (0..step).step_by(S::LANES) {
                    // SAFETY: there are weights for all taps, and the tile's input is readable.
                    unsafe {
                        let weight = simd.load(weights);
                        weights = weights.add(S::LANES);
                        for (s, sum) in sums.iter_mut().enumerate() {
                            *sum = simd.fma(simd.load(tap.add(vector + s * step)), weight, *sum);
                        }
                    }
                }
            }
        }
        sums
    }
}

/// The sums of all lanes that belong to one pixel, of all pixels in their order.
#[inline(always)]
fn fold<S: Simd, const SUMS: usize>(simd: S, neighbours: EvenAndOdd<S>, mut sums: [S::F32; SUMS]) -> S::F32 {
    for half in [MAX_LANES / 2, MAX_LANES / 4, MAX_LANES / 8, MAX_LANES / 16] {
        if half < SUMS {
            for i in 0..half {
                sums[i] = add_neighbours(simd, neighbours, sums[2 * i % SUMS], sums[(2 * i + 1) % SUMS]);
            }
        }
    }
    sums[0]
}

/// The epilogue of neighbouring pixels.
struct Finish<'a> {
    epilogue: &'a Epilogue<'a>,
    /// Those of the pixels from `first` on, with the bias.
    sums: &'a [f32],
    first: usize,
    y: SharedSlice<'a, f32>,
    stride: usize,
}

impl SimdTask for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let is_dense = self.stride == 1 && self.epilogue.residual.is_none_or(|residual| residual.stride == 1);
        let each = if is_dense { S::LANES } else { 1 };
        for (i, sums) in self.sums.chunks(each).enumerate() {
            let (pixel, mask) = (self.first + i * each, simd.first(sums.len()));
            // SAFETY: the mask selects pixels that exist, side by side; the epilogue is checked and has no slopes.
            unsafe {
                let sums = simd.load_masked(sums.as_ptr(), mask);
                let y = finish(simd, self.epilogue, pixel, 0, mask, sums);
                simd.store_masked(self.y.as_mut_ptr().add(pixel * self.stride), y, mask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;
    use crate::epilogue::Residual;

    #[test]
    fn epilogues() {
        let parameters = Parameters {
            input_channels: 8,
            output_channels: 1,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 1,
        };
        let activations = [
            Activation::None,
            Activation::Sigmoid,
            Activation::PRelu,
            Activation::Clip { low: -0.1, high: 0.2 },
        ];
        // Elements from pixel to pixel of the result and of what is added.
        let strides = [None, Some((1, 1)), Some((3, 1)), Some((1, 2))];
        let cases = activations
            .into_iter()
            .flat_map(|activation| strides.into_iter().map(move |strides| (activation, strides)));
        each_case(cases.collect::<Vec<_>>(), |&(activation, strides)| {
            let (output_stride, residual_stride) = strides.unwrap_or((2, 1));
            let (height, width) = (5, 37);
            let geometry = Geometry {
                batch: 1,
                input: [height, width],
                output: [height, width],
                padding: [1, 1],
                input_stride: 8,
                output_stride,
            };
            let mut random = Random::new(7);
            let (weights, x) = (random.floats(72), random.floats(8 * height * width));
            let added = random.floats(residual_stride * height * width);
            let residual = Residual {
                data: (&added[..]).into(),
                stride: residual_stride,
                after_activation: residual_stride == 1,
            };
            let epilogue = Epilogue {
                bias: Some(&[0.25]),
                residual: strides.map(|_| residual),
                activation,
                slope: (activation == Activation::PRelu).then_some(&[-0.5]),
                ..Epilogue::default()
            };
            for level in Level::available() {
                let one = OneOutput::new(level, &parameters, &weights, &Packing::default());
                let run = |epilogue: &Epilogue| {
                    let mut y = vec![0.0; output_stride * height * width];
                    let mut scratch = vec![f32::NAN; one.scratch_len(&geometry)];
                    one.run(&geometry, &x, epilogue, SharedSlice::new(&mut y), &mut scratch, Part::WHOLE);
                    y
                };
                let mut expected = run(&Epilogue { bias: epilogue.bias, ..Epilogue::default() });
                let finished = Epilogue { bias: None, ..epilogue };
                let sizes = [height * width, 1];
                crate::epilogue::finish_rows(
                    level,
                    &finished,
                    sizes,
                    SharedSlice::new(&mut expected),
                    output_stride,
                );
                compare(&run(&epilogue), &expected, Tolerance::Exact).map_err(|e| format!("{level}: {e}"))?;
            }
            Ok(())
        });
    }
}
