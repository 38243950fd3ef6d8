//! Convolutions of quantized images: products whose rows are read from the image in place, or from a
//! copy of a few lines with the border filled in.

use std::ops::Range;

use optimium_simd::Level;

use super::band::Band;
use super::gemm::{self, Product, flip};
use super::output::{Output, Rows};
use super::packed::PackedMatrix;
use super::tile::{Grid, Runs};
use crate::conv::{Geometry, Parameters};
use crate::{Packing, Part};

/// Pixels that one pass over the weights should serve.
const CHUNK_PIXELS: usize = 256;

/// Bytes that may be read past the end of a run.
const SLACK: usize = 4;

/// A convolution with packed weights.
#[derive(Clone, Debug)]
pub struct QuantizedConvolution {
    parameters: Parameters,
    level: Level,
    /// One matrix a group.
    weights: Vec<PackedMatrix>,
    /// Whether a run spans the kernel's width, or one tap.
    wide_runs: bool,
}

impl QuantizedConvolution {
    /// Packs `weights`: output channels × input channels of a group × kernel height × kernel width.
    /// Their zero points are none (0), one, or one an output channel. They are packed where `packing` says.
    ///
    /// # Panics
    /// Where the lengths do not fit the parameters.
    pub fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[u8],
        signed: bool,
        zero_point: &[i32],
        packing: &Packing,
    ) -> QuantizedConvolution {
        let Parameters { input_channels, output_channels, kernel: [height, width], groups, dilation, .. } =
            *parameters;
        assert!(
            groups > 0 && input_channels.is_multiple_of(groups) && output_channels.is_multiple_of(groups),
            "{input_channels} and {output_channels} channels in {groups} groups"
        );
        let (inputs, outputs) = (input_channels / groups, output_channels / groups);
        let length = output_channels * inputs * height * width;
        assert!(weights.len() == length, "{} weights instead of {length}", weights.len());
        assert!(matches!(zero_point.len(), 0 | 1) || zero_point.len() == output_channels, "zero points");
        let wide_runs = groups == 1 && (dilation[1] == 1 || width == 1);
        let (runs, run) = if wide_runs { (height, width * inputs) } else { (height * width, inputs) };
        let (mask, shift) = if signed { (0, 0) } else { (0x80, 128) };
        let zero = |channel: usize| match zero_point {
            [] => -shift,
            [one] => one - shift,
            many => many[channel] - shift,
        };
        let pack = |group: usize| {
            let value = |r: usize, i: usize, column: usize| {
                let (ky, kx) = if wide_runs { (r, i / inputs) } else { (r / width, r % width) };
                let index = (((group * outputs + column) * inputs + i % inputs) * height + ky) * width + kx;
                (weights[index] ^ mask) as i8
            };
            let zero = |column| zero(group * outputs + column);
            PackedMatrix::pack(level, [runs, run, outputs], zero, value, packing)
        };
        let weights = (0..groups).map(pack).collect();
        QuantizedConvolution { parameters: *parameters, level, weights, wide_runs }
    }

    /// Bytes of scratch memory that each part needs.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        if self.reads_in_place(geometry) {
            return 0;
        }
        let lines = chunk_lines(geometry).min(geometry.output[0]);
        if lines == 0 { 0 } else { self.band(geometry, 0, lines).len(self.parameters.input_channels) + SLACK }
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
        let Geometry { batch, input, output: [height, width], .. } = *geometry;
        let pixels = batch * height * width;
        output.check(pixels, self.parameters.output_channels, geometry.output_stride);
        if pixels == 0 || self.parameters.output_channels == 0 {
            return;
        }
        let channels = self.parameters.input_channels;
        let needed = (batch * input[0] * input[1]).saturating_sub(1) * geometry.input_stride + channels;
        let empty = input[0] * input[1] == 0;
        assert!(
            geometry.input_stride >= channels && (empty || x.len() >= needed),
            "image in {} bytes",
            x.len()
        );
        let call = Call { convolution: self, geometry, x, signed, zero_point, output };
        if self.reads_in_place(geometry) {
            call.in_place(part);
        } else {
            assert!(scratch.len() >= self.scratch_len(geometry), "{} bytes of scratch", scratch.len());
            call.by_bands(scratch, part);
        }
    }

    /// Whether every tap of every pixel lies in the image, and runs can be read from it.
    fn reads_in_place(&self, geometry: &Geometry) -> bool {
        let Parameters { kernel, stride, dilation, input_channels, groups, .. } = self.parameters;
        let inside = (0..2).all(|d| {
            let last =
                geometry.output[d].saturating_sub(1) * stride[d] + kernel[d].saturating_sub(1) * dilation[d];
            geometry.padding[d] == 0 && last < geometry.input[d]
        });
        let pixel_runs = kernel[1] == 1 || !self.wide_runs || geometry.input_stride == input_channels;
        let small_rest = kernel == [1, 1] && groups == 1 || self.weights[0].run.is_multiple_of(4);
        inside && pixel_runs && small_rest
    }

    /// The band that output lines `first..first + lines` see.
    fn band(&self, geometry: &Geometry, first: usize, lines: usize) -> Band {
        let Parameters { kernel, stride, dilation, .. } = self.parameters;
        let span = |d: usize, n: usize| (n - 1) * stride[d] + (kernel[d].max(1) - 1) * dilation[d] + 1;
        Band {
            top: (first * stride[0]) as isize - geometry.padding[0] as isize,
            left: -(geometry.padding[1] as isize),
            lines: span(0, lines),
            columns: span(1, geometry.output[1]),
        }
    }
}

/// Output lines that are computed from one band.
fn chunk_lines(geometry: &Geometry) -> usize {
    CHUNK_PIXELS.div_ceil(geometry.output[1].max(1))
}

/// The arguments of one call.
struct Call<'a> {
    convolution: &'a QuantizedConvolution,
    geometry: &'a Geometry,
    x: &'a [u8],
    signed: bool,
    zero_point: i32,
    output: &'a Output<'a>,
}

impl Call<'_> {
    /// The lines of all images and the panels of each group that a part computes.
    fn share(&self, part: Part) -> (Range<usize>, Range<usize>) {
        let lines = self.geometry.batch * self.geometry.output[0];
        let panels = self.convolution.weights[0].panels();
        if lines >= 4 * part.count || lines >= panels {
            (part.range(lines), 0..panels)
        } else {
            (0..lines, part.range(panels))
        }
    }

    fn in_place(&self, part: Part) {
        let Geometry { batch, input: [height, width], output, input_stride, .. } = *self.geometry;
        let Parameters { kernel, stride, .. } = self.convolution.parameters;
        if kernel == [1, 1] && stride == [1, 1] && output == [height, width] {
            // All pixels of all images are one line.
            let (matrix, pixels) = (&self.convolution.weights[0], batch * height * width);
            let (rows, panels) = gemm::share(self.convolution.level, pixels, matrix, part);
            // SAFETY: all pixels lie in the image, as `run` checked.
            return unsafe { self.lines(self.x, width * input_stride, input_stride, 0, rows, panels, false) };
        }
        let (lines, panels) = self.share(part);
        let image = height * width * input_stride;
        let mut line = lines.start;
        while line < lines.end {
            let (index, first) = (line / output[0], line % output[0]);
            let count = (output[0] - first).min(lines.end - line);
            let start = index * image + first * self.convolution.parameters.stride[0] * width * input_stride;
            // SAFETY: all taps of these lines lie in the image, as `reads_in_place` and `run` checked.
            unsafe {
                self.lines(
                    &self.x[start..],
                    width * input_stride,
                    input_stride,
                    line,
                    0..count * output[1],
                    panels.clone(),
                    false,
                )
            };
            line += count;
        }
    }

    fn by_bands(&self, scratch: &mut [u8], part: Part) {
        let Geometry { input, output, input_stride, .. } = *self.geometry;
        let channels = self.convolution.parameters.input_channels;
        let (lines, panels) = self.share(part);
        if panels.is_empty() {
            return;
        }
        let image = input[0] * input[1] * input_stride;
        let mut line = lines.start;
        while line < lines.end {
            let (index, first) = (line / output[0], line % output[0]);
            let count = (output[0] - first).min(lines.end - line).min(chunk_lines(self.geometry));
            let band = self.convolution.band(self.geometry, first, count);
            let start = (index * image).min(self.x.len());
            band.copy(&self.x[start..], input, input_stride, channels, self.zero_point as u8, scratch);
            // SAFETY: the band holds all taps of these lines, and the scratch memory the slack after it.
            unsafe {
                let rows = 0..count * output[1];
                self.lines(scratch, band.columns * channels, channels, line, rows, panels.clone(), true)
            };
            line += count;
        }
    }

    /// Computes pixels `rows`, counted from the first one of output line `line`, whose first tap is the first byte of `bytes`.
    ///
    /// # Safety
    /// All taps lie in `bytes`, lines `line_length` and pixels `pixel` bytes apart; with `slack`, so do the
    /// next bytes to fill a group of four. The output's rows of other lines and other panels are not touched.
    unsafe fn lines(
        &self,
        bytes: &[u8],
        line_length: usize,
        pixel: usize,
        line: usize,
        rows: Range<usize>,
        panels: Range<usize>,
        slack: bool,
    ) {
        let convolution = self.convolution;
        let Parameters { input_channels, output_channels, kernel, stride, dilation, groups } =
            convolution.parameters;
        let width = self.geometry.output[1];
        let run = convolution.weights[0].run;
        let (group_count, rest) = if slack { (run.div_ceil(4), 0) } else { (run / 4, run % 4) };
        let runs = Runs {
            outer: kernel[0],
            outer_step: dilation[0] * line_length,
            inner: if convolution.wide_runs { 1 } else { kernel[1] },
            inner_step: dilation[1] * pixel,
            groups: group_count,
            rest,
            flip: flip(self.signed),
        };
        for (group, matrix) in convolution.weights.iter().enumerate() {
            let base = bytes[group * (input_channels / groups)..].as_ptr();
            let (line_step, pixel_step) = (stride[0] * line_length, stride[1] * pixel);
            // Lines without gaps are one.
            let joined = line_step == width * pixel_step;
            let grid = Grid { base, width: if joined { usize::MAX } else { width }, line_step, pixel_step };
            let product = Product {
                grid,
                first_row: line * width,
                runs,
                matrix,
                zero_point: Rows::Same(self.zero_point),
                signed: self.signed,
                column: group * (output_channels / groups),
                rows: rows.clone(),
                panels: panels.clone(),
            };
            // SAFETY: the caller's promise.
            unsafe { product.run(convolution.level, self.output, self.geometry.output_stride) }
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

    /// Input channels, output channels, groups, kernel, stride, dilation, padding, input size.
    type Case = (usize, usize, usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

    const CASES: [Case; 15] = [
        (16, 24, 1, [1, 1], [1, 1], [1, 1], [0, 0], [5, 7]),
        (7, 9, 1, [1, 1], [2, 2], [1, 1], [0, 0], [5, 7]),
        (3, 16, 1, [3, 3], [2, 2], [1, 1], [1, 1], [11, 9]),
        (3, 70, 1, [3, 3], [2, 2], [1, 1], [0, 0], [12, 12]),
        (8, 17, 1, [3, 3], [1, 1], [1, 1], [1, 1], [9, 6]),
        (8, 130, 1, [3, 3], [1, 1], [1, 1], [0, 0], [4, 5]),
        (5, 6, 1, [3, 2], [1, 2], [2, 3], [2, 1], [9, 9]),
        (8, 6, 1, [3, 3], [1, 1], [1, 2], [0, 0], [7, 9]),
        (12, 8, 2, [3, 3], [1, 1], [1, 1], [1, 1], [6, 6]),
        (6, 9, 3, [1, 1], [1, 1], [1, 1], [0, 0], [6, 6]),
        (8, 12, 2, [1, 1], [1, 1], [1, 1], [0, 0], [6, 6]),
        (4, 4, 1, [5, 1], [1, 1], [1, 1], [2, 0], [3, 3]),
        (4, 4, 1, [1, 7], [1, 1], [1, 1], [0, 3], [3, 2]),
        (4, 5, 1, [3, 3], [1, 1], [1, 1], [3, 3], [1, 1]),
        (3, 4, 1, [3, 3], [1, 1], [1, 1], [1, 1], [40, 30]),
    ];

    fn shapes(case: &Case, batch: usize, gap: usize) -> (Parameters, Geometry) {
        let (input_channels, output_channels, groups, kernel, stride, dilation, padding, input) = *case;
        let parameters = Parameters { input_channels, output_channels, kernel, stride, dilation, groups };
        let output =
            [0, 1].map(|d| (input[d] + 2 * padding[d] - (kernel[d] - 1) * dilation[d] - 1) / stride[d] + 1);
        let geometry = Geometry {
            batch,
            input,
            output,
            padding,
            input_stride: input_channels + gap,
            output_stride: output_channels,
        };
        (parameters, geometry)
    }

    #[test]
    fn convolutions_match_the_plain_one() {
        let variants = [(false, true, 1, 0), (true, true, 2, 0), (true, false, 1, 0), (false, true, 2, 5)];
        let cases = Level::available().flat_map(|level| {
            CASES
                .into_iter()
                .flat_map(move |case| variants.into_iter().map(move |variant| (level, case, variant)))
        });
        each_case(cases, |&(level, case, (x_signed, w_signed, batch, gap))| {
            let (parameters, geometry) = shapes(&case, batch, gap);
            let mut random = Random::new(5);
            let x = bytes(&mut random, batch * geometry.input[0] * geometry.input[1] * geometry.input_stride);
            let taps = parameters.kernel[0] * parameters.kernel[1];
            let outputs = parameters.output_channels;
            let w = bytes(&mut random, outputs * parameters.input_channels / parameters.groups * taps);
            let x_zero = if x_signed { -3 } else { 131 };
            let w_zero: Vec<i32> =
                if w_signed { vec![] } else { (0..outputs as i32).map(|i| 120 + i % 9).collect() };
            let mut sums = vec![0; batch * geometry.output[0] * geometry.output[1] * outputs];
            let c = SharedSlice::new(&mut sums);
            let (signed_x, signed_w): (&[i8], &[i8]) = (bytemuck::cast_slice(&x), bytemuck::cast_slice(&w));
            let (p, g, whole) = (&parameters, &geometry, Part::WHOLE);
            match (x_signed, w_signed) {
                (false, false) => general::convolution(p, g, &x, x_zero, &w, &w_zero, c, whole),
                (false, true) => general::convolution(p, g, &x, x_zero, signed_w, &w_zero, c, whole),
                (true, false) => general::convolution(p, g, signed_x, x_zero, &w, &w_zero, c, whole),
                (true, true) => general::convolution(p, g, signed_x, x_zero, signed_w, &w_zero, c, whole),
            }
            let convolution =
                QuantizedConvolution::new(level, &parameters, &w, w_signed, &w_zero, &Packing::default());
            let mut scratch = vec![0xaa; convolution.scratch_len(&geometry)];
            check_outputs(&sums, outputs, x_signed, |output, part| {
                convolution.run(&geometry, &x, x_signed, x_zero, output, &mut scratch, part);
            })
        });
    }
}
