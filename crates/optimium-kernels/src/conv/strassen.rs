//! Convolutions of one tap as products with seven multiplications of quarters instead of eight.

use std::borrow::Cow;

use optimium_simd::Level;

use super::parameters::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::gemm::{self, Layout, PackedMatrix, PackedStrassen, Problem, gemm_strassen};
use crate::{Packing, Part, SharedSlice};

/// A convolution of one tap, without steps and groups, whose weights are packed as a matrix in sums of quarters.
#[derive(Clone, Debug)]
pub(super) struct Strassen {
    matrix: PackedStrassen,
}

/// Whether the parameters are those of such a convolution.
pub(super) fn serves(parameters: &Parameters) -> bool {
    let even = parameters.input_channels.is_multiple_of(2) && parameters.output_channels.is_multiple_of(2);
    parameters.kernel == [1, 1] && parameters.stride == [1, 1] && parameters.groups == 1 && even
}

/// Whether the weights of such a convolution are stored, so that they need not be looked at.
pub(super) fn is_stored(layout: &Layout, packing: &Packing) -> bool {
    PackedStrassen::is_stored(layout, PackedMatrix::AS_IT_IS, packing)
}

impl Strassen {
    /// Packs `weights`, `[output channels, input channels]`, for about so many output pixels a call, where `packing` says, by
    /// `layout` or else by the cheapest one.
    pub(super) fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        pixels: usize,
        layout: Option<Layout>,
        packing: &Packing,
    ) -> Strassen {
        let (n, k) = (parameters.output_channels, parameters.input_channels);
        let quarter = Problem { m: pixels.div_ceil(2), n: n / 2, k: k / 2 };
        let layout = layout.unwrap_or_else(|| gemm::pick(level, &quarter));
        let matrix = PackedStrassen::prepare(
            layout,
            PackedMatrix::AS_IT_IS,
            packing,
            || Cow::Borrowed(weights),
            [1, k],
        );
        assert!((matrix.n(), matrix.k()) == (n, k), "{layout} for {parameters:?}");
        Strassen { matrix }
    }

    /// The panel that a part reads first.
    pub(super) fn first_panel(&self, geometry: &Geometry, part: Part) -> &[f32] {
        self.matrix.first_panel(geometry.output_pixels(), part)
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub(super) fn scratch_len(&self, geometry: &Geometry) -> usize {
        let copied = if geometry.is_pixel_by_pixel() {
            0
        } else {
            geometry.output_pixels().saturating_mul(self.matrix.k())
        };
        self.matrix.scratch_len(geometry.output_pixels()).saturating_add(copied)
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
        let (pixels, channels) = (geometry.output_pixels(), self.matrix.k());
        let level = self.matrix.layout().level;
        let (scratch, copied) = scratch.split_at_mut(self.matrix.scratch_len(pixels));
        let (x, stride) = if geometry.is_pixel_by_pixel() {
            (x, geometry.input_stride)
        } else {
            let copied = &mut copied[..pixels * channels];
            pad(geometry, x, channels, copied);
            (&*copied, channels)
        };
        let y_stride = geometry.output_stride;
        gemm_strassen(level, pixels, x, stride, &self.matrix, epilogue, y, y_stride, scratch, part);
    }
}

/// Copies the `channels` of the input pixel of each output pixel: zeros where there is none.
fn pad(geometry: &Geometry, x: &[f32], channels: usize, copied: &mut [f32]) {
    let [height, width] = geometry.output;
    for (pixel, copy) in copied.chunks_exact_mut(channels).enumerate() {
        let (image, line, column) = (pixel / (height * width), pixel / width % height, pixel % width);
        let inside = |at: usize, axis: usize| {
            at.checked_sub(geometry.padding[axis]).filter(|&at| at < geometry.input[axis])
        };
        match (inside(line, 0), inside(column, 1)) {
            (Some(line), Some(column)) => {
                let at = (image * geometry.input[0] + line) * geometry.input[1] + column;
                copy.copy_from_slice(&x[at * geometry.input_stride..][..channels]);
            }
            _ => copy.fill(0.0),
        }
    }
}
