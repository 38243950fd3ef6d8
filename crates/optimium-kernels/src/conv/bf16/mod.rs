//! Convolutions with bfloat16 factors.
//!
//! The lines of the image that some lines of the output need are rounded to bfloat16 with zeros around them, in a band that stays
//! in the cache. Where channels come in pairs, or steps across do, what the kernel covers are pieces of the band, as for any
//! convolution; else they are gathered into rows. Pixels of bfloat16 under a kernel of one tap are such rows where they lie. Groups of channels are
//! products of their own, of columns of the same band, or slide along lines where they are small. Kernels whose taps lie apart leave out those outside of the image.

mod band;
mod sliding;
mod visible;

use std::ops::Range;

use optimium_simd::Level;

use super::choice::Images;
use super::parameters::{Geometry, Parameters};
use super::taps::{Taps, View};
use crate::epilogue::Epilogue;
use crate::gemm::run::{Division, Product};
use crate::gemm::{Lines, PackedBf16, Problem, as_pairs, candidates_bf16, rounding_cost};
use crate::{Packing, Part, Real, SharedSlice};
use band::RoundedBand;
use sliding::SlidingWeights;

/// A convolution whose weights are packed in bfloat16.
#[derive(Clone, Debug)]
pub struct ConvolutionBf16 {
    level: Level,
    parameters: Parameters,
    /// One matrix a group; none where the kernel slides.
    weights: Vec<PackedBf16>,
    sliding: Option<SlidingWeights>,
}

/// The product that a group of a convolution is.
fn problem(parameters: &Parameters, images: &Images) -> Problem {
    let n = parameters.output_channels / parameters.groups;
    let k = match Pieces::of(parameters) {
        Pieces::Taps | Pieces::Gathered => {
            parameters.kernel[0] * parameters.kernel[1] * parameters.group_inputs()
        }
        Pieces::Lines => parameters.kernel[0] * line_of_pairs(parameters),
    };
    Problem { m: images.pixels(), n, k }
}

/// Estimated cost of the products of an output pixel.
fn product_cost(level: Level, parameters: &Parameters, images: &Images) -> f64 {
    let problem = problem(parameters, images);
    let product = candidates_bf16(level, &problem)[0].cost / problem.m.max(1) as f64;
    parameters.groups as f64 * product * visible::share_of_taps(parameters, images)
}

/// Estimated cost of an output pixel of a kernel that slides, where that is the cheapest.
fn sliding_cost(level: Level, parameters: &Parameters, images: &Images) -> Option<f64> {
    sliding::cost(level, parameters).filter(|&cost| cost < product_cost(level, parameters, images))
}

/// How what a kernel covers becomes rows of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pieces {
    /// Channels come in pairs: taps are pieces of the band.
    Taps,
    /// Steps across are whole pairs, so that lines of the kernel are, with the element behind an odd one, whose weight is zero.
    Lines,
    /// They are gathered.
    Gathered,
}

impl Pieces {
    fn of(parameters: &Parameters) -> Pieces {
        let Parameters { input_channels, stride, dilation, groups, .. } = *parameters;
        if input_channels.is_multiple_of(2) {
            Pieces::Taps
        } else if groups == 1 && dilation[1] == 1 && stride[1].is_multiple_of(2) {
            Pieces::Lines
        } else {
            Pieces::Gathered
        }
    }
}

/// Elements of a line of the kernel, and one more where they are odd.
fn line_of_pairs(parameters: &Parameters) -> usize {
    (parameters.kernel[1] * parameters.input_channels).next_multiple_of(2)
}

/// Elements that a band may have, so that it stays in the second-level cache.
const BAND_LEN: usize = 128 << 10;

/// Output pixels whose factors are pieces of memory.
struct Stretch<'a> {
    /// The image, in pairs of bfloat16.
    view: View<'a>,
    taps: Taps,
    /// The pixels under the first tap of the rows.
    left: Lines,
    result: Lines,
    rows: Range<usize>,
}

/// One call of [`ConvolutionBf16::run`].
struct Job<'a, L, T> {
    geometry: &'a Geometry,
    x: &'a [L],
    epilogue: &'a Epilogue<'a, T>,
    y: SharedSlice<'a, T>,
    /// Panels to be computed, which count through all groups.
    panels: Range<usize>,
}

impl ConvolutionBf16 {
    /// Whether it can compute that convolution.
    pub fn serves(parameters: &Parameters) -> bool {
        parameters.groups == 1 || parameters.groups > 1 && parameters.group_inputs().is_multiple_of(2)
    }

    /// Estimated cost of an output pixel, which compares with those of [`candidates`](super::candidates) where the level
    /// [has](Level::has_bf16) products of bfloat16. Images that are `rounded` are of such already.
    pub fn cost(level: Level, parameters: &Parameters, images: &Images, rounded: bool) -> f64 {
        // Cycles to find a line of the kernel in the band, and to gather a vector of it.
        const LINE: f64 = 3.0;
        const PIECE: f64 = 2.0;
        let (channels, [height, width]) = (parameters.input_channels, parameters.kernel);
        let covered = parameters.stride[0] * parameters.stride[1];
        let band = rounding_cost(&Problem { m: 1, n: 1, k: covered * channels });
        if let Some(cost) = sliding_cost(level, parameters, images) {
            return cost + if rounded { 0.0 } else { band };
        }
        let product = product_cost(level, parameters, images);
        let pieces = Pieces::of(parameters);
        if rounded && pieces == Pieces::Taps && parameters.kernel == [1, 1] {
            return product;
        }
        let gathered = height as f64 * (LINE + PIECE * (width * channels).div_ceil(band::PIECE) as f64);
        product + band + if pieces == Pieces::Gathered { gathered } else { 0.0 }
    }

    /// Packs `weights`, `[output channels, input channels / groups, kernel height, kernel width]`, for images of about the size
    /// of `images`, where `packing` says.
    ///
    /// # Panics
    /// Where the numbers do not make a convolution that this [serves](ConvolutionBf16::serves).
    pub fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        images: &Images,
        packing: &Packing,
    ) -> ConvolutionBf16 {
        parameters.check(weights.len());
        assert!(ConvolutionBf16::serves(parameters), "groups in {parameters:?}");
        if sliding_cost(level, parameters, images).is_some() {
            let sliding = Some(SlidingWeights::new(level, parameters, weights, packing));
            return ConvolutionBf16 { level, parameters: *parameters, weights: Vec::new(), sliding };
        }
        let (inputs, taps) = (parameters.group_inputs(), parameters.kernel[0] * parameters.kernel[1]);
        let outputs = parameters.output_channels / parameters.groups;
        let problem = problem(parameters, images);
        let layout = candidates_bf16(level, &problem)[0].layout;
        // Elements of the rows from one line of the kernel to the next, and those that exist.
        let [height, width] = parameters.kernel;
        let (line, existing) = (problem.k / height, width * inputs);
        let pack = |group: usize| {
            PackedBf16::prepare(layout, problem.k, packing, |row, output| {
                let (row, at) = (row / line.max(1), row % line.max(1));
                let tap = row * width + at / inputs;
                let index = ((group * outputs + output) * inputs + at % inputs) * taps + tap;
                if at < existing { weights[index] } else { 0.0 }
            })
        };
        ConvolutionBf16 {
            level,
            parameters: *parameters,
            weights: (0..parameters.groups).map(pack).collect(),
            sliding: None,
        }
    }

    /// Elements of scratch memory that each part needs for such images.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        if geometry.output_pixels() == 0 {
            return 0;
        }
        if self.sliding.is_some() || self.visible(geometry).is_some() {
            return self.visible_scratch_len(geometry);
        }
        self.band(geometry, 0..self.band_lines(geometry)).len() + self.gathered_len(geometry)
    }

    /// Elements of the rows that are gathered at once; none where they are pieces of the band.
    fn gathered_len(&self, geometry: &Geometry) -> usize {
        if Pieces::of(&self.parameters) != Pieces::Gathered {
            return 0;
        }
        let rows = self.gathered_rows().min(geometry.output[0] * geometry.output[1]);
        rows * self.weights[0].layout().k + band::PIECE
    }

    /// Rows that are gathered at once: they stay in the first-level cache.
    fn gathered_rows(&self) -> usize {
        const GATHERED_LEN: usize = 4 << 10;
        const FEWEST: usize = 24;
        (GATHERED_LEN / self.weights[0].layout().k.max(1)).max(FEWEST)
    }

    /// Computes this part's share of `y = epilogue(convolution(x))`, as [`Convolution::run`](super::Convolution::run) with `x` and the
    /// weights rounded. Subnormal numbers may count as zeros. Where the channels are odd, what is not finite may also reach the output
    /// pixel whose kernel ends before it.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes; `scratch` has [`scratch_len`](ConvolutionBf16::scratch_len) elements of
    /// this part's own, with any content.
    pub fn run<L: Real, T: Real>(
        &self,
        geometry: &Geometry,
        x: &[L],
        epilogue: &Epilogue<T>,
        y: SharedSlice<T>,
        scratch: &mut [u32],
        part: Part,
    ) {
        geometry.check(&self.parameters, x.len(), y.len());
        let (pixels, channels) = (geometry.output_pixels(), self.parameters.output_channels);
        epilogue.check(pixels, channels);
        if pixels == 0 || channels == 0 {
            return;
        }
        if let Some(weights) = &self.sliding {
            let steps = part.range(geometry.batch * geometry.output[0] * self.blocks(weights));
            let job = Job { geometry, x, epilogue, y, panels: 0..0 };
            return self.run_sliding(&job, weights, steps, scratch);
        }
        let division = Division { m: pixels, layout: self.weights[0].layout(), groups: self.weights.len() };
        let (rows, panels) = division.share(part);
        let job = Job { geometry, x, epilogue, y, panels };
        if let Some((pairs, left)) = self.pixels(geometry, x) {
            return self.each_group(&job, pairs, left, |product, panels| {
                // SAFETY: the slices are checked; parts have rows or panels of their own.
                unsafe { product.run(rows.clone(), panels) };
            });
        }
        let spans = self.visible(geometry);
        let image = geometry.output[0] * geometry.output[1];
        for index in rows.start / image..rows.end.div_ceil(image) {
            let start = index * image;
            let of_image = rows.start.max(start) - start..rows.end.min(start + image) - start;
            match &spans {
                Some(spans) => self.run_visible(&job, spans, index, of_image, scratch),
                None => self.run_image(&job, index, of_image, scratch),
            }
        }
    }

    /// The pixels under a kernel of one tap as rows of pairs, where they are such and lie at equal distances.
    fn pixels<L: Real>(&self, geometry: &Geometry, x: &[L]) -> Option<(*const u32, Lines)> {
        let Parameters { kernel, stride, input_channels, .. } = self.parameters;
        let Geometry { batch, input, output, padding, input_stride, .. } = *geometry;
        let inside = |axis: usize| padding[axis] == 0 && (output[axis] - 1) * stride[axis] < input[axis];
        let even_lines = batch == 1 || input[0] == output[0] * stride[0];
        if kernel != [1, 1] || !inside(0) || !inside(1) || !even_lines {
            return None;
        }
        let pairs = as_pairs(x, input_channels, input_stride)?;
        let pixel = input_stride / 2;
        let (stride, line_stride) = (stride[1] * pixel, stride[0] * input[1] * pixel);
        Some((pairs, Lines { start: 0, rows: output[1], stride, line_stride }))
    }

    /// The output `pixels` of one image, band by band.
    fn run_image<L: Real, T: Real>(
        &self,
        job: &Job<L, T>,
        image: usize,
        pixels: Range<usize>,
        scratch: &mut [u32],
    ) {
        let [height, width] = job.geometry.output;
        let lines_at_once = self.band_lines(job.geometry);
        let of_image = job.geometry.input[0] * job.geometry.input[1] * job.geometry.input_stride;
        let x = &job.x[(image * of_image).min(job.x.len())..];
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let first = pixel / width;
            let end = pixels.end.min((first + lines_at_once) * width);
            let band = self.band(job.geometry, first..end.div_ceil(width));
            let (of_band, gathered) = scratch.split_at_mut(band.len());
            band.fill(self.level, x, job.geometry, of_band);
            let result = Lines { start: (image * height + first) * width, ..Lines::straight(1) };
            let rows = pixel - first * width..end - first * width;
            if Pieces::of(&self.parameters) != Pieces::Gathered {
                self.multiply_pieces(job, &self.band_stretch(job.geometry, &band, of_band, result, rows));
            } else {
                self.multiply_gathered(job, &band, of_band, result, rows, gathered);
            }
            pixel = end;
        }
    }

    /// The output pixels `rows` of a band whose pixels or steps are pairs, as they lie there.
    fn band_stretch<'a>(
        &self,
        geometry: &Geometry,
        band: &RoundedBand,
        pairs: &'a [u32],
        result: Lines,
        rows: Range<usize>,
    ) -> Stretch<'a> {
        let [down, across] = self.parameters.stride;
        let channels = self.parameters.input_channels;
        let (taps, pixel) = match Pieces::of(&self.parameters) {
            Pieces::Lines => (self.kernel_lines(), line_of_pairs(&self.parameters) / 2),
            _ => (self.taps(), channels / 2),
        };
        let view = View { data: bytemuck::cast_slice(pairs), pixel, line: band.size[1] * channels / 2 };
        let left = Lines {
            start: 0,
            rows: geometry.output[1],
            stride: across * channels / 2,
            line_stride: down * view.line,
        };
        Stretch { view, taps, left, result, rows }
    }

    /// The lines of the kernel as taps that are as wide.
    fn kernel_lines(&self) -> Taps {
        let channels = line_of_pairs(&self.parameters) / 2;
        Taps { grid: [self.parameters.kernel[0], 1], line: 1, channels, ..Taps::of(&self.parameters, true) }
    }

    /// The taps of a group, whose channels are pairs.
    fn taps(&self) -> Taps {
        Taps { channels: self.parameters.group_inputs() / 2, ..Taps::of(&self.parameters, true) }
    }

    /// The products of one stretch with the weights of all groups.
    ///
    /// # Panics
    /// Where a row's taps reach past the view.
    fn multiply_pieces<L: Real, T: Real>(&self, job: &Job<L, T>, stretch: &Stretch) {
        let Stretch { view, taps, left, result, ref rows } = *stretch;
        let [down, across] = self.parameters.stride;
        taps.with_runs(&view, |runs, run_length| {
            let farthest = left.farthest(rows.clone()) + runs.iter().map(|run| run.left).max().unwrap_or(0);
            let needed = farthest + (self.parameters.groups - 1) * taps.channels + run_length;
            assert!(runs.is_empty() || needed <= view.data.len(), "the kernel reaches past the image");
            let row_len = self.parameters.group_inputs() * down * across / 2;
            self.each_group(job, view.data.as_ptr().cast(), left, |product, panels| {
                let product = Product { runs, run_length, result, row_len, ..product };
                // SAFETY: all pieces lie in the view; the other slices are checked, and parts have rows or panels of their own.
                unsafe { product.run(rows.clone(), panels) };
            });
        });
    }

    /// The output pixels `rows` of a band, gathered to rows of pairs.
    fn multiply_gathered<L: Real, T: Real>(
        &self,
        job: &Job<L, T>,
        band: &RoundedBand,
        of_band: &[u32],
        result: Lines,
        rows: Range<usize>,
        gathered: &mut [u32],
    ) {
        let pairs = self.weights[0].layout().k;
        let (at_once, taps) = (self.gathered_rows(), Taps::of(&self.parameters, true));
        for first in rows.clone().step_by(at_once) {
            let count = at_once.min(rows.end - first);
            let pixels = first..first + count;
            band.gather(&taps, self.parameters.stride, job.geometry.output[1], of_band, pixels, gathered);
            let result = Lines { start: result.start + first, ..result };
            self.each_group(job, gathered.as_ptr(), Lines::straight(pairs), |product, panels| {
                // SAFETY: the rows were just written; the other slices are checked, and parts have rows or panels of their own.
                unsafe { Product { result, ..product }.run(0..count, panels) };
            });
        }
    }

    /// Calls `run` with the product of each group that the job has panels of, and with these panels. The pairs of the first
    /// group's channels lie at the positions of `left` behind `pairs`, those of the others follow.
    fn each_group<'a, L: Real, T: Real>(
        &'a self,
        job: &Job<'a, L, T>,
        pairs: *const u32,
        left: Lines,
        mut run: impl FnMut(Product<'a, T>, Range<usize>),
    ) {
        let Parameters { output_channels, groups, .. } = self.parameters;
        let (pixels, stride) = (job.geometry.output_pixels(), job.geometry.output_stride);
        let of_group = self.parameters.group_inputs() / 2;
        for (group, weights) in self.weights.iter().enumerate() {
            let count = weights.layout().panels();
            let within = |panel: usize| panel.saturating_sub(group * count).min(count);
            let panels = within(job.panels.start)..within(job.panels.end);
            if panels.is_empty() {
                continue;
            }
            let pairs = pairs.wrapping_add(group * of_group);
            let product = weights.product(pixels, pairs, left, job.epilogue, job.y, stride);
            run(Product { column: group * (output_channels / groups), ..product }, panels);
        }
    }

    /// The input that the output `lines` need.
    fn band(&self, geometry: &Geometry, lines: Range<usize>) -> RoundedBand {
        let (stride, extent) = (self.parameters.stride, self.parameters.extent());
        let size = |axis: usize, count: usize| count.saturating_sub(1) * stride[axis] + extent[axis];
        let origin =
            |axis: usize, first: usize| (first * stride[axis]) as isize - geometry.padding[axis] as isize;
        let width = size(1, geometry.output[1]);
        // Lines of pairs start at pairs.
        let in_pairs = Pieces::of(&self.parameters) == Pieces::Lines;
        RoundedBand {
            origin: [origin(0, lines.start), origin(1, 0)],
            size: [size(0, lines.len()), if in_pairs { width.next_multiple_of(2) } else { width }],
            channels: self.parameters.input_channels,
        }
    }

    /// Output lines whose input is rounded at once.
    fn band_lines(&self, geometry: &Geometry) -> usize {
        let line = self.band(geometry, 0..1).size[1] * self.parameters.input_channels;
        let lines =
            (BAND_LEN / line.max(1)).saturating_sub(self.parameters.extent()[0]) / self.parameters.stride[0];
        (lines + 1).min(geometry.output[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conv::reference::Case;
    use half::bf16;
    use optimium_testing::{Tolerance, compare, each_case};

    /// `[batch, height, width, inputs, outputs, kernel, kernel, stride, stride, dilation, dilation, padding begin and end
    /// down, across]`
    const CASES: [[usize; 15]; 32] = [
        [1, 9, 12, 3, 33, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1],
        [2, 15, 11, 3, 20, 7, 7, 1, 2, 2, 1, 3, 3, 2, 4],
        [1, 8, 9, 5, 16, 2, 2, 2, 4, 1, 1, 0, 1, 1, 0],
        [1, 11, 10, 1, 16, 3, 5, 2, 2, 1, 1, 1, 1, 1, 1],
        [2, 5, 7, 7, 18, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0],
        [1, 4, 3, 3, 8, 5, 5, 1, 2, 1, 1, 4, 4, 4, 4],
        [1, 7, 9, 8, 16, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0],
        [2, 8, 7, 8, 20, 1, 1, 2, 3, 1, 1, 0, 0, 0, 0],
        [1, 5, 7, 8, 16, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 6, 7, 8, 33, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0],
        [1, 7, 7, 16, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [3, 14, 14, 5, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 9, 11, 3, 16, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1],
        [2, 20, 22, 3, 64, 7, 7, 2, 2, 1, 1, 3, 3, 3, 3],
        [2, 9, 11, 4, 16, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2],
        [1, 1, 40, 8, 16, 1, 5, 1, 1, 1, 1, 0, 0, 2, 2],
        [1, 2, 2, 3, 5, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4],
        [1, 7, 6, 16, 40, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2],
        [2, 17, 15, 6, 20, 3, 3, 1, 1, 12, 12, 12, 12, 12, 12],
        [1, 13, 16, 8, 33, 3, 3, 1, 1, 24, 24, 24, 24, 24, 24],
        [1, 33, 33, 256, 8, 3, 3, 1, 1, 6, 6, 6, 6, 6, 6],
        [2, 15, 19, 8, 16, 3, 3, 2, 3, 2, 12, 2, 1, 12, 11],
        [1, 5, 90, 500, 3, 3, 2, 2, 1, 2, 1, 9, 9, 0, 2],
        [1, 9, 8, 5, 7, 3, 3, 1, 1, 12, 12, 12, 12, 12, 12],
        [1, 4, 5, 8, 16, 3, 3, 1, 1, 2, 1, 2, 2, 3, 9],
        [2, 4, 5, 8, 16, 3, 3, 1, 2, 1, 3, 9, 9, 9, 2],
        [2, 1, 1, 4, 6, 5, 3, 1, 1, 2, 2, 7, 6, 5, 4],
        [1, 40, 50, 12, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 5, 5, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 3, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 0, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 5, 3, 4, 3, 3, 1, 1, 1, 1, 2, 2, 1, 1],
    ];

    /// The same, and the number of groups.
    const GROUPED: [([usize; 15], usize); 14] = [
        ([1, 9, 17, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1], 8),
        ([2, 8, 15, 32, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1], 4),
        ([1, 7, 29, 64, 64, 3, 3, 1, 1, 2, 1, 2, 1, 0, 1], 4),
        ([2, 6, 5, 64, 64, 3, 3, 1, 2, 1, 1, 1, 0, 1, 2], 2),
        ([1, 40, 80, 96, 96, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1], 48),
        ([1, 12, 9, 64, 32, 7, 7, 2, 1, 1, 1, 3, 3, 3, 3], 2),
        ([1, 5, 7, 12, 20, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], 2),
        ([2, 6, 7, 60, 240, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0], 3),
        ([1, 7, 7, 16, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1], 4),
        ([2, 9, 8, 24, 6, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1], 3),
        ([1, 30, 41, 8, 8, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2], 4),
        ([1, 9, 11, 24, 66, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2], 3),
        ([2, 14, 15, 16, 64, 3, 3, 2, 1, 12, 12, 12, 12, 12, 12], 4),
        ([1, 16, 13, 12, 18, 3, 3, 1, 2, 24, 24, 24, 24, 24, 24], 2),
    ];

    /// A case whose factors are bfloat16 already.
    fn case(sizes: &[usize; 15], groups: usize, gaps: [usize; 2]) -> Case {
        let &[batch, h, w, inputs, outputs, kh, kw, sh, sw, dh, dw, top, bottom, left, right] = sizes;
        let (kernel, stride, dilation) = ([kh, kw], [sh, sw], [dh, dw]);
        let parameters =
            Parameters { input_channels: inputs, output_channels: outputs, kernel, stride, dilation, groups };
        let [eh, ew] = parameters.extent();
        let output = [(h + top + bottom - eh) / sh + 1, (w + left + right - ew) / sw + 1];
        let (input, padding) = ([h, w], [top, left]);
        let geometry = Geometry { batch, input, output, padding, input_stride: 0, output_stride: 0 };
        let mut case = Case::new(parameters, geometry, gaps);
        for factor in case.x.iter_mut().chain(&mut case.weights) {
            *factor = bf16::from_f32(*factor).to_f32();
        }
        case
    }

    #[test]
    fn convolutions_of_rounded_factors() {
        let all = CASES.map(|sizes| (sizes, 1)).into_iter().chain(GROUPED);
        let cases =
            all.flat_map(|(sizes, groups)| [[0, 0], [3, 2], [2, 0]].map(|gaps| (sizes, groups, gaps)));
        each_case(cases, |&(sizes, groups, gaps)| {
            let case = case(&sizes, groups, gaps);
            let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
            for level in [Level::Portable, Level::best()] {
                let (images, packing) = (Images::default(), Packing::default());
                let convolution =
                    ConvolutionBf16::new(level, &case.parameters, &case.weights, &images, &packing);
                let run = |parts: usize| {
                    let mut y = case.blank();
                    let shared = SharedSlice::new(&mut y);
                    for index in 0..parts {
                        let mut scratch = vec![u32::MAX; convolution.scratch_len(&case.geometry)];
                        let part = Part { index, count: parts };
                        convolution.run(&case.geometry, &case.x, &epilogue, shared, &mut scratch, part);
                    }
                    y
                };
                let whole = run(1);
                compare(&whole, &case.expected(), Tolerance::dot(case.depth()))
                    .map_err(|e| format!("{level}: {e}"))?;
                compare(&run(3), &whole, Tolerance::Exact).map_err(|e| format!("{level}, 3 parts: {e}"))?;
                let x: Vec<bf16> = case.x.iter().map(|&x| bf16::from_f32(x)).collect();
                let mut y: Vec<bf16> = case.blank().into_iter().map(bf16::from_f32).collect();
                let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
                let mut scratch = vec![u32::MAX; convolution.scratch_len(&case.geometry)];
                let shared = SharedSlice::new(&mut y);
                convolution.run(&case.geometry, &x, &epilogue, shared, &mut scratch, Part::WHOLE);
                let found: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
                let once: Vec<f32> = whole.iter().map(|&y| bf16::from_f32(y).to_f32()).collect();
                compare(&found, &once, Tolerance::Exact).map_err(|e| format!("{level}, rounded: {e}"))?;
            }
            Ok(())
        });
    }
}
