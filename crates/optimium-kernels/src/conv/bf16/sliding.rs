//! Lines of sums that the kernel slides along, of pairs of channels: few input channels in every group.
//!
//! Pixels of bfloat16 are read where they lie; of others a few lines are rounded first.

use std::marker::PhantomData;
use std::ops::Range;

use optimium_simd::Level;

use super::{ConvolutionBf16, Job};
use crate::conv::BrainLines;
use crate::conv::parameters::Parameters;
use crate::conv::sliding::{Inputs, Sliding, fits};
use crate::gemm::arithmetic::BrainPairs;
use crate::gemm::as_pairs;
use crate::{Packed, Packing, Real};

/// Weights of a kernel that slides along lines.
#[derive(Clone, Debug)]
pub(super) struct SlidingWeights {
    /// Elements of the vectors that they are packed for.
    lanes: usize,
    /// `[block of output channels][kernel row][input pair of the group][kernel column][lane]`
    pairs: Packed<u32>,
}

/// Elements of the vectors that multiply bfloat16 for `level`.
fn lanes(level: Level) -> usize {
    if level.has_bf16() { Level::Avx512.lanes() } else { Level::Portable.lanes() }
}

/// Estimated cost of an output pixel, where there are groups that such kernels serve.
pub(super) fn cost(level: Level, parameters: &Parameters) -> Option<f64> {
    let serves = parameters.groups > 1
        && Sliding::serves(parameters)
        && parameters.group_inputs().is_multiple_of(2)
        && fits(parameters, lanes(level));
    let vectors = if level.has_bf16() { Level::Avx512 } else { Level::Portable };
    serves.then(|| Sliding::cost_at(vectors, parameters, BrainPairs::EACH))
}

impl SlidingWeights {
    /// Packs `weights`, `[output channels, input channels / groups, kernel height, kernel width]`, where `packing` says.
    pub(super) fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        packing: &Packing,
    ) -> SlidingWeights {
        let (lanes, pairs, [rows, columns]) =
            (lanes(level), parameters.group_inputs() / 2, parameters.kernel);
        let form = format_args!("bfloat16, groups in blocks of {lanes} channels");
        let brain = |index: usize| u32::from(half::bf16::from_f32(weights[index]).to_bits());
        let pairs = packing.block(form, weights.len() / 2, |packed| {
            for (at, packed) in packed.iter_mut().enumerate() {
                let (at, lane) = (at / lanes, at % lanes);
                let (at, column) = (at / columns, at % columns);
                let (at, pair) = (at / pairs, at % pairs);
                let (block, row) = (at / rows, at % rows);
                let weight = |input: usize| {
                    brain((((block * lanes + lane) * pairs * 2 + input) * rows + row) * columns + column)
                };
                *packed = weight(2 * pair) | weight(2 * pair + 1) << 16;
            }
        });
        SlidingWeights { lanes, pairs }
    }
}

impl ConvolutionBf16 {
    /// Computes blocks of channels of lines of the output, `steps` counted through all lines.
    pub(super) fn run_sliding<L: Real, T: Real>(
        &self,
        job: &Job<L, T>,
        weights: &SlidingWeights,
        steps: Range<usize>,
        scratch: &mut [u32],
    ) {
        let (geometry, channels) = (job.geometry, self.parameters.input_channels);
        if let Some(pairs) = as_pairs(job.x, channels, geometry.input_stride) {
            return self.slide(job, weights, pairs.cast(), geometry.input_stride / 2, steps);
        }
        let (blocks, height) = (self.blocks(weights), geometry.output[0]);
        let of_line = geometry.input[1] * channels / 2;
        let mut step = steps.start;
        while step < steps.end {
            let (image, first) = (step / blocks / height, step / blocks % height);
            let end = (first + self.visible_lines(geometry)).min(height);
            let stop = steps.end.min((image * height + end) * blocks);
            let lines = self.lines_of(geometry, first..end);
            let band = self.existing(geometry, lines.clone());
            let of_band = &mut scratch[..band.len()];
            let of_image = geometry.input[0] * geometry.input[1] * geometry.input_stride;
            band.fill(self.level, &job.x[(image * of_image).min(job.x.len())..], geometry, of_band);
            let before = (image * geometry.input[0] + lines.start) * of_line;
            let x = of_band.as_ptr().cast::<f32>().wrapping_sub(before);
            self.slide(job, weights, x, channels / 2, step..stop);
            step = stop;
        }
    }

    /// Blocks of output channels, a vector each.
    pub(super) fn blocks(&self, weights: &SlidingWeights) -> usize {
        self.parameters.output_channels / weights.lanes
    }

    /// Computes `steps` from the pixels of pairs at `x`, `pixel` pairs apart.
    fn slide<L: Real, T: Real>(
        &self,
        job: &Job<L, T>,
        weights: &SlidingWeights,
        x: *const f32,
        pixel: usize,
        steps: Range<usize>,
    ) {
        let lines = BrainLines {
            arithmetic: PhantomData,
            parameters: &self.parameters,
            weights: bytemuck::cast_slice(&weights.pairs),
            lanes: weights.lanes,
            geometry: job.geometry,
            x,
            pixel,
            epilogue: job.epilogue,
            y: job.y,
            steps,
        };
        T::run_lines(self.level, lines);
    }
}
