//! Convolutions with bfloat16 factors.
//!
//! What the kernel covers of the image is rounded to bfloat16 and written as rows, one for each of a block of output pixels
//! that stays in the cache, and multiplied like the left rows of any product.

use optimium_simd::{Level, Simd, SimdTask};

use super::choice::Images;
use super::parameters::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::gemm::{PackedBf16, Problem, candidates_bf16, rounding_cost};
use crate::{Packing, Part, SharedSlice};

/// A convolution whose weights are packed in bfloat16.
#[derive(Clone, Debug)]
pub struct ConvolutionBf16 {
    level: Level,
    parameters: Parameters,
    weights: PackedBf16,
}

/// The product that a convolution of one group is.
fn problem(parameters: &Parameters, images: &Images) -> Problem {
    let taps = parameters.kernel[0] * parameters.kernel[1];
    Problem { m: images.pixels(), n: parameters.output_channels, k: taps * parameters.input_channels }
}

impl ConvolutionBf16 {
    /// Whether it can compute that convolution.
    pub fn serves(parameters: &Parameters) -> bool {
        parameters.groups == 1
    }

    /// Estimated cost of an output pixel, which compares with those of [`candidates`](super::candidates) where the level
    /// [has](Level::has_bf16) products of bfloat16.
    pub fn cost(level: Level, parameters: &Parameters, images: &Images) -> f64 {
        // Cycles to find a line of the kernel in the image.
        const LINE: f64 = 25.0;
        let problem = problem(parameters, images);
        let product = candidates_bf16(level, &problem)[0].cost + rounding_cost(&problem);
        product / problem.m.max(1) as f64 + LINE * parameters.kernel[0] as f64
    }

    /// Packs `weights`, `[output channels, input channels, kernel height, kernel width]`, for images of about the size of
    /// `images`, where `packing` says.
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
        let (inputs, taps) = (parameters.input_channels, parameters.kernel[0] * parameters.kernel[1]);
        let layout = candidates_bf16(level, &problem(parameters, images))[0].layout;
        let weights = PackedBf16::prepare(layout, taps * inputs, packing, |row, output| {
            weights[(output * inputs + row % inputs) * taps + row / inputs]
        });
        ConvolutionBf16 { level, parameters: *parameters, weights }
    }

    /// Elements of scratch memory that each part needs for such images.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        self.weights.scratch_len(geometry.output_pixels())
    }

    /// Computes this part's share of `y = epilogue(convolution(x))`, as [`Convolution::run`](super::Convolution::run) with `x` and the
    /// weights rounded. Subnormal numbers may count as zeros.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes; `scratch` has [`scratch_len`](ConvolutionBf16::scratch_len) elements of
    /// this part's own, with any content.
    pub fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [u32],
        part: Part,
    ) {
        geometry.check(&self.parameters, x.len(), y.len());
        let (pixels, channels) = (geometry.output_pixels(), self.parameters.output_channels);
        epilogue.check(pixels, channels);
        if pixels == 0 || channels == 0 {
            return;
        }
        let parameters = &self.parameters;
        let pairs = self.weights.layout().k;
        let round = |first: usize, out: &mut [u32]| {
            self.level.run_bf16(Patches { parameters, geometry, x, first, pairs, out });
        };
        // SAFETY: the output is checked to hold all pixels, and parts have rows or columns of their own.
        unsafe { self.weights.multiply(pixels, round, epilogue, y, geometry.output_stride, scratch, part) };
    }
}

/// Rounds what the kernel covers for the output pixels from `first` on to rows of so many `pairs`, as many as `out` holds.
struct Patches<'a> {
    parameters: &'a Parameters,
    geometry: &'a Geometry,
    x: &'a [f32],
    first: usize,
    pairs: usize,
    out: &'a mut [u32],
}

impl SimdTask for Patches<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let Parameters { input_channels: channels, kernel, stride, dilation, .. } = *self.parameters;
        let [height, width] = self.geometry.output;
        let line_len = kernel[1] * channels;
        let position = self.first % (height * width);
        let (mut image, mut at) = (self.first / (height * width), [position / width, position % width]);
        let out = std::mem::take(&mut self.out);
        for row in out.chunks_exact_mut(self.pairs.max(1)) {
            let (row, odd) = bytemuck::cast_slice_mut::<_, u16>(row).split_at_mut(kernel[0] * line_len);
            odd.fill(0);
            let origin =
                [0, 1].map(|axis| (at[axis] * stride[axis]) as isize - self.geometry.padding[axis] as isize);
            for (tap, line) in row.chunks_exact_mut(line_len).enumerate() {
                let y = origin[0] + (tap * dilation[0]) as isize;
                self.line(simd, image, [y, origin[1]], line);
            }
            at[1] += 1;
            if at[1] == width {
                at = [at[0] + 1, 0];
            }
            if at[0] == height {
                (image, at[0]) = (image + 1, 0);
            }
        }
    }
}

impl Patches<'_> {
    /// Rounds the pixels of `image` under one line of the kernel, whose first one is at `origin`.
    #[inline(always)]
    fn line<S: Simd>(&self, simd: S, image: usize, origin: [isize; 2], out: &mut [u16]) {
        let Parameters { input_channels: channels, kernel, dilation, .. } = *self.parameters;
        let Geometry { input: [height, width], input_stride, .. } = *self.geometry;
        let Some(y) = usize::try_from(origin[0]).ok().filter(|&y| y < height) else { return out.fill(0) };
        let line = (image * height + y) * width;
        if dilation[1] == 1 && input_stride == channels {
            let outside = |x: isize| x.clamp(0, kernel[1] as isize).unsigned_abs();
            let (begin, end) = (outside(-origin[1]), outside(width as isize - origin[1]));
            if begin >= end {
                return out.fill(0);
            }
            out[..begin * channels].fill(0);
            out[end * channels..].fill(0);
            let first = line.wrapping_add_signed(origin[1] + begin as isize) * channels;
            round(simd, &self.x[first..], &mut out[begin * channels..end * channels]);
            return;
        }
        for (tap, out) in out.chunks_exact_mut(channels).enumerate() {
            let x = usize::try_from(origin[1] + (tap * dilation[1]) as isize).ok().filter(|&x| x < width);
            match x {
                Some(x) => round(simd, &self.x[(line + x) * input_stride..], out),
                None => out.fill(0),
            }
        }
    }
}

/// Rounds as many elements of `x` as `out` holds.
#[inline(always)]
fn round<S: Simd>(simd: S, x: &[f32], out: &mut [u16]) {
    for (x, y) in x[..out.len()].chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
        let mask = simd.first(x.len());
        // SAFETY: the mask and the count select the elements of the two chunks, which are equally long.
        unsafe { simd.store_bf16(y.as_mut_ptr(), simd.load_masked(x.as_ptr(), mask), x.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::reference::Case;
    use super::*;
    use half::bf16;
    use optimium_testing::{Tolerance, compare, each_case};

    /// `[batch, height, width, inputs, outputs, kernel, kernel, stride, stride, dilation, dilation, padding begin and end
    /// down, across]`
    const CASES: [[usize; 15]; 14] = [
        [1, 5, 7, 8, 16, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0],
        [2, 6, 7, 8, 33, 1, 1, 2, 2, 1, 1, 0, 0, 0, 0],
        [1, 7, 7, 16, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [3, 14, 14, 5, 70, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 9, 11, 3, 16, 3, 3, 2, 2, 1, 1, 0, 1, 0, 1],
        [2, 20, 22, 3, 64, 7, 7, 2, 2, 1, 1, 3, 3, 3, 3],
        [2, 9, 11, 4, 16, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2],
        [1, 1, 40, 8, 16, 1, 5, 1, 1, 1, 1, 0, 0, 2, 2],
        [1, 2, 2, 3, 5, 5, 5, 1, 1, 1, 1, 4, 4, 4, 4],
        [1, 40, 50, 12, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [0, 5, 5, 3, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 3, 0, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 5, 5, 0, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1],
        [1, 0, 5, 3, 4, 3, 3, 1, 1, 1, 1, 2, 2, 1, 1],
    ];

    /// A case whose factors are bfloat16 already.
    fn case(sizes: &[usize; 15], gaps: [usize; 2]) -> Case {
        let &[batch, h, w, inputs, outputs, kh, kw, sh, sw, dh, dw, top, bottom, left, right] = sizes;
        let (kernel, stride, dilation) = ([kh, kw], [sh, sw], [dh, dw]);
        let parameters = Parameters {
            input_channels: inputs,
            output_channels: outputs,
            kernel,
            stride,
            dilation,
            groups: 1,
        };
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
        let cases = CASES.iter().flat_map(|sizes| [[0, 0], [3, 2]].map(|gaps| (sizes, gaps)));
        each_case(cases, |&(sizes, gaps)| {
            let case = case(sizes, gaps);
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
            }
            Ok(())
        });
    }
}
