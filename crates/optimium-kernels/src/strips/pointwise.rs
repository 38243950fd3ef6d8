//! The products of a chain.

use optimium_simd::Level;

use crate::epilogue::Epilogue;
use crate::gemm::run::Product;
use crate::gemm::{self, Layout, Lines, PackedBf16, PackedMatrix, Problem, Run, as_pairs, candidates_bf16};
use crate::{Packing, Real, SharedSlice};

/// A convolution of one tap with its weights packed.
#[derive(Clone, Debug)]
pub struct Pointwise {
    channels: [usize; 2],
    weights: Weights,
}

#[derive(Clone, Debug)]
enum Weights {
    Single(PackedMatrix),
    Bf16(PackedBf16),
}

impl Pointwise {
    /// Packs `weights`, `[output channels, input channels]`, for images of `f32` of about so many pixels, where `packing` says: as
    /// the convolution by itself takes them.
    ///
    /// # Panics
    /// Where there is another number of weights.
    pub fn new(
        level: Level,
        channels: [usize; 2],
        weights: &[f32],
        pixels: usize,
        packing: &Packing,
    ) -> Pointwise {
        let problem = problem(channels, weights, pixels);
        let layout = gemm::candidates(level, &problem)[0].layout;
        let weights = PackedMatrix::new(layout, weights, 1, problem.k, packing);
        Pointwise { channels, weights: Weights::Single(weights) }
    }

    /// As [`new`](Pointwise::new), for images of bfloat16.
    ///
    /// # Panics
    /// As there, and where the input channels are odd.
    pub fn new_bf16(
        level: Level,
        channels: [usize; 2],
        weights: &[f32],
        pixels: usize,
        packing: &Packing,
    ) -> Pointwise {
        let problem = problem(channels, weights, pixels);
        assert!(problem.k.is_multiple_of(2), "{} channels are no pairs", problem.k);
        let layout = candidates_bf16(level, &problem)[0].layout;
        let element = |input: usize, output: usize| weights[output * problem.k + input];
        let weights = PackedBf16::prepare(layout, problem.k, packing, element);
        Pointwise { channels, weights: Weights::Bf16(weights) }
    }

    /// Channels of the input.
    pub fn input_channels(&self) -> usize {
        self.channels[0]
    }

    /// Channels of the output.
    pub fn output_channels(&self) -> usize {
        self.channels[1]
    }

    /// Computes `pixels` pixels that lie `stride` apart in `x`, and leaves them at the pixels from `first` on of `y`, the epilogue's
    /// rows.
    ///
    /// # Safety
    /// Nobody else reaches those pixels of `y` meanwhile, and `epilogue` is checked for them.
    ///
    /// # Panics
    /// Where a slice is too short, or elements of another type than the weights are packed for.
    pub(super) unsafe fn run<E: Real>(
        &self,
        x: &[E],
        stride: usize,
        pixels: usize,
        epilogue: &Epilogue<'_, E>,
        (y, y_stride): (SharedSlice<'_, E>, usize),
        first: usize,
    ) {
        if pixels == 0 {
            return;
        }
        let [inputs, outputs] = self.channels;
        assert!(x.len() >= (pixels - 1) * stride + inputs, "an input of {} for {pixels} pixels", x.len());
        let end = (first + pixels - 1) * y_stride + outputs;
        assert!(y.len() >= end && y_stride >= outputs, "an output of {} for {end} elements", y.len());
        let (layout, packed, a, stride) = self.factors(x, stride);
        let product = Product {
            layout,
            packed,
            following: &[],
            a,
            left: Lines::straight(stride),
            runs: &[Run::default()],
            run_length: layout.k,
            row_len: layout.k,
            result: Lines { start: first, ..Lines::straight(1) },
            c: y.as_mut_ptr(),
            c_stride: y_stride,
            column: 0,
            epilogue,
            single_row: false,
        };
        // SAFETY: all pixels lie in their slices by the assertions; the rest is the caller's promise.
        unsafe { product.run(0..pixels, 0..layout.panels()) };
    }

    /// The packed weights; the left rows and their distance, in elements of the layout.
    fn factors<E: Real>(&self, x: &[E], stride: usize) -> (&Layout, &[f32], *const f32, usize) {
        match &self.weights {
            Weights::Single(matrix) => {
                assert!(!E::ROUNDED, "images of bfloat16 for weights of f32");
                (&matrix.layout, &matrix.data, x.as_ptr().cast(), stride)
            }
            Weights::Bf16(matrix) => {
                let Some(pairs) = as_pairs(x, self.channels[0], stride) else {
                    panic!("pixels {stride} apart are no pairs of bfloat16");
                };
                (matrix.layout(), matrix.packed(), pairs.cast(), stride / 2)
            }
        }
    }
}

fn problem([inputs, outputs]: [usize; 2], weights: &[f32], pixels: usize) -> Problem {
    assert_eq!(weights.len(), inputs * outputs, "weights of {inputs} to {outputs} channels");
    Problem { m: pixels, n: outputs, k: inputs }
}
