//! The prepared convolution.

use std::ops::Range;

use optimium_simd::Level;

use super::band::{BAND_LEN, Band};
use super::choice::{Algorithm, TYPICAL_PIXELS};
use super::parameters::{Geometry, Parameters};
use super::taps::{Stretch, Taps, View};
use crate::epilogue::Epilogue;
use crate::gemm::{self, Lines, PackedMatrix, Problem};
use crate::{Part, SharedSlice};

/// A convolution with its weights packed.
#[derive(Clone, Debug)]
pub struct Convolution {
    parameters: Parameters,
    algorithm: Algorithm,
    groups: Vec<PackedMatrix>,
}

/// One call of [`Convolution::run`].
struct Job<'a> {
    geometry: &'a Geometry,
    x: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    y: SharedSlice<'a, f32>,
    panels: Range<usize>,
}

impl Convolution {
    /// Packs `weights`, `[output channels, input channels / groups, kernel height, kernel width]`, for images
    /// of a usual size.
    ///
    /// # Panics
    /// Where the numbers do not make a convolution, or `algorithm` does not [serve](Algorithm::serves) it.
    pub fn new(level: Level, parameters: &Parameters, algorithm: Algorithm, weights: &[f32]) -> Convolution {
        Convolution::for_pixels(level, parameters, algorithm, weights, TYPICAL_PIXELS)
    }

    /// As [`new`](Convolution::new), for about that many output pixels a call.
    ///
    /// # Panics
    /// As there.
    pub fn for_pixels(
        level: Level,
        parameters: &Parameters,
        algorithm: Algorithm,
        weights: &[f32],
        pixels: usize,
    ) -> Convolution {
        parameters.check(weights.len());
        assert!(algorithm.serves(parameters), "{algorithm} cannot compute {parameters:?}");
        let groups =
            (0..parameters.groups).map(|group| pack(level, parameters, weights, group, pixels)).collect();
        Convolution { parameters: *parameters, algorithm, groups }
    }

    /// What was asked for.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How it is computed.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        let lines = geometry.output[0];
        if lines == 0 || geometry.output[1] == 0 || self.band(geometry, 0..lines).lies_in(geometry.input) {
            return 0;
        }
        self.band(geometry, 0..self.band_lines(geometry)).len(self.parameters.input_channels)
    }

    /// Computes this part's share of `y = epilogue(convolution(x))`; rows of the epilogue are output pixels,
    /// batch outermost.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes; `scratch` has [`scratch_len`](Convolution::scratch_len)
    /// elements of this part's own, with any content.
    pub fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        geometry.check(&self.parameters, x.len(), y.len());
        let pixels = geometry.output_pixels();
        epilogue.check(pixels, self.parameters.output_channels);
        if pixels == 0 || self.parameters.output_channels == 0 {
            return;
        }
        let panels = self.groups.len() * self.groups[0].layout.panels();
        let (rows, panels) = gemm::run::share(part, pixels, panels);
        let job = Job { geometry, x, epilogue, y, panels };
        if self.is_one_product(geometry) {
            let view = View { data: x, pixel: geometry.input_stride, line: 0 };
            let left = Lines::straight(geometry.input_stride);
            // SAFETY: the slices are checked; parts have rows or panels of their own.
            unsafe { self.stretch(&job, view, left, 0).run(rows, job.panels.clone()) };
            return;
        }
        let image = geometry.output[0] * geometry.output[1];
        for index in rows.start / image..rows.end.div_ceil(image) {
            let start = index * image;
            let of_image = rows.start.max(start) - start..rows.end.min(start + image) - start;
            self.run_image(&job, index, of_image, scratch);
        }
    }

    /// Whether the left rows are simply the input's pixels.
    fn is_one_product(&self, geometry: &Geometry) -> bool {
        self.parameters.kernel == [1, 1]
            && self.parameters.stride == [1, 1]
            && geometry.padding == [0, 0]
            && geometry.input == geometry.output
    }

    /// The output `pixels` of one image.
    fn run_image(&self, job: &Job, image: usize, pixels: Range<usize>, scratch: &mut [f32]) {
        let geometry = job.geometry;
        let [height, width] = geometry.output;
        let input = geometry.input[0] * geometry.input[1] * geometry.input_stride;
        let x = &job.x[(image * input).min(job.x.len())..];
        let in_place = self.band(geometry, 0..height).lies_in(geometry.input);
        let lines_at_once = if in_place { height } else { self.band_lines(geometry) };
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let first = pixel / width;
            let end = pixels.end.min((first + lines_at_once) * width);
            let band = self.band(geometry, first..end.div_ceil(width));
            let view = View::of(&band, x, geometry, self.parameters.input_channels, scratch);
            let [down, across] = self.parameters.stride;
            let left =
                Lines { start: 0, rows: width, stride: across * view.pixel, line_stride: down * view.line };
            let stretch = self.stretch(job, view, left, image * height * width + first * width);
            // SAFETY: the slices are checked; parts have rows or panels of their own.
            unsafe { stretch.run(pixel - first * width..end - first * width, job.panels.clone()) };
            pixel = end;
        }
    }

    /// The work on the rows from output pixel `first` on, whose inputs lie in `view`.
    fn stretch<'a>(&'a self, job: &'a Job, view: View<'a>, left: Lines, first: usize) -> Stretch<'a> {
        let [down, across] = self.parameters.stride;
        Stretch {
            groups: &self.groups,
            view,
            taps: Taps::of(&self.parameters, self.algorithm == Algorithm::Rows),
            left,
            result: Lines { start: first, ..Lines::straight(1) },
            c: job.y.as_mut_ptr(),
            c_stride: job.geometry.output_stride,
            epilogue: job.epilogue,
            single_row: job.geometry.output_pixels() == 1,
            row_len: view.pixel * down * across,
        }
    }

    /// The input that the output `lines` need.
    fn band(&self, geometry: &Geometry, lines: Range<usize>) -> Band {
        let (stride, extent) = (self.parameters.stride, self.parameters.extent());
        let size = |axis: usize, count: usize| count.saturating_sub(1) * stride[axis] + extent[axis];
        let origin =
            |axis: usize, first: usize| (first * stride[axis]) as isize - geometry.padding[axis] as isize;
        Band {
            origin: [origin(0, lines.start), origin(1, 0)],
            size: [size(0, lines.len()), size(1, geometry.output[1])],
        }
    }

    /// Output lines whose input is copied at once.
    fn band_lines(&self, geometry: &Geometry) -> usize {
        let line = self.band(geometry, 0..1).size[1] * self.parameters.input_channels;
        let lines =
            (BAND_LEN / line.max(1)).saturating_sub(self.parameters.extent()[0]) / self.parameters.stride[0];
        (lines + 1).min(geometry.output[0])
    }
}

/// The matrix `[tap, input channel] × [output channel]` of a group.
fn pack(level: Level, parameters: &Parameters, weights: &[f32], group: usize, pixels: usize) -> PackedMatrix {
    let (inputs, outputs) = (parameters.group_inputs(), parameters.group_outputs());
    let taps = parameters.kernel[0] * parameters.kernel[1];
    let k = taps * inputs;
    let layout = gemm::pick(level, &Problem { m: pixels, n: outputs, k });
    let weights = &weights[group * outputs * k..][..outputs * k];
    let mut columns = vec![0.0; outputs * k];
    for (column, weights) in columns.chunks_exact_mut(k.max(1)).zip(weights.chunks_exact(k.max(1))) {
        for (tap, column) in column.chunks_exact_mut(inputs).enumerate() {
            for (weight, of_input) in column.iter_mut().zip(weights.chunks_exact(taps)) {
                *weight = of_input[tap];
            }
        }
    }
    PackedMatrix::new(layout, &columns, 1, k)
}

#[cfg(test)]
mod tests {
    use super::super::reference::Case;
    use super::*;
    use optimium_testing::{Tolerance, compare, each_case};

    /// `[batch, height, width, inputs, outputs, groups, kernel, kernel, stride, stride, dilation, dilation,
    /// padding begin and end down, across]`
    type Sizes = [usize; 16];

    const CASES: [Sizes; 23] = [
        [1, 5, 7, 8, 16, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 5, 7, 8, 16, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 6, 7, 8, 33, 1, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0],
        [1, 6, 7, 8, 5, 1, 1, 1, 1, 2, 1, 1, 1, 0, 0, 1],
        [1, 7, 7, 16, 64, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [3, 14, 14, 5, 70, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 9, 11, 3, 16, 1, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1],
        [2, 20, 22, 3, 64, 1, 7, 7, 2, 2, 1, 1, 3, 3, 3, 3],
        [1, 9, 11, 3, 17, 1, 3, 3, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 9, 11, 4, 16, 1, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2],
        [1, 9, 11, 4, 16, 1, 3, 3, 1, 1, 3, 1, 0, 3, 1, 0],
        [2, 8, 9, 12, 8, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 8, 9, 12, 20, 2, 3, 2, 2, 1, 1, 2, 1, 1, 1, 1],
        [1, 8, 9, 6, 6, 6, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 40, 8, 16, 1, 1, 5, 1, 1, 1, 1, 0, 0, 2, 2],
        [1, 12, 12, 2, 4, 1, 9, 9, 1, 1, 1, 1, 4, 4, 4, 4],
        [1, 4, 4, 64, 10, 1, 4, 4, 1, 1, 1, 1, 0, 0, 0, 0],
        [1, 2, 2, 3, 5, 1, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4],
        [1, 120, 130, 12, 8, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 5, 5, 3, 5, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 3, 0, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 0, 4, 1, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 5, 3, 4, 1, 3, 3, 1, 1, 1, 1, 2, 2, 1, 1],
    ];

    fn case(sizes: &Sizes, gaps: [usize; 2]) -> Case {
        let &[batch, h, w, inputs, outputs, groups, kh, kw, sh, sw, dh, dw, top, bottom, left, right] = sizes;
        let parameters = Parameters {
            input_channels: inputs,
            output_channels: outputs,
            kernel: [kh, kw],
            stride: [sh, sw],
            dilation: [dh, dw],
            groups,
        };
        let [eh, ew] = parameters.extent();
        let output = [(h + top + bottom - eh) / sh + 1, (w + left + right - ew) / sw + 1];
        let geometry = Geometry {
            batch,
            input: [h, w],
            output,
            padding: [top, left],
            input_stride: 0,
            output_stride: 0,
        };
        Case::new(parameters, geometry, gaps)
    }

    fn run(convolution: &Convolution, case: &Case, parts: usize) -> Vec<f32> {
        let mut y = case.blank();
        let shared = SharedSlice::new(&mut y);
        let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
        for index in 0..parts {
            let mut scratch = vec![f32::NAN; convolution.scratch_len(&case.geometry)];
            let part = Part { index, count: parts };
            convolution.run(&case.geometry, &case.x, &epilogue, shared, &mut scratch, part);
        }
        y
    }

    #[test]
    fn convolutions_of_all_kinds_by_all_algorithms() {
        let cases = CASES.iter().flat_map(|sizes| [[0, 0], [3, 2]].map(|gaps| (sizes, gaps)));
        each_case(cases, |&(sizes, gaps)| {
            let case = case(sizes, gaps);
            let expected = case.expected();
            for level in Level::available() {
                for candidate in super::super::candidates(level, &case.parameters) {
                    let convolution =
                        Convolution::new(level, &case.parameters, candidate.algorithm, &case.weights);
                    let whole = run(&convolution, &case, 1);
                    compare(&whole, &expected, Tolerance::dot(case.depth()))
                        .map_err(|e| format!("{level}, {candidate}: {e}"))?;
                    for parts in [2, 3] {
                        compare(&run(&convolution, &case, parts), &whole, Tolerance::Exact)
                            .map_err(|e| format!("{level}, {candidate}, {parts} parts: {e}"))?;
                    }
                }
            }
            Ok(())
        });
    }
}
