//! Some output lines of one image, whose input lines may lie in a ring.

use std::ops::Range;

use super::band::Bands;
use super::{Depthwise, Path};
use crate::conv::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::{Part, Real, SharedSlice};

/// Output lines, and where they are computed from and go to.
pub(crate) struct Strip<'a, E> {
    /// The images. Its strides are those of `x` and `y`.
    pub(crate) geometry: &'a Geometry,
    /// The image that the lines are of.
    pub(crate) image: usize,
    /// The lines.
    pub(crate) rows: Range<usize>,
    /// All images, or the lines of this one that the kernel covers.
    pub(crate) x: &'a [E],
    /// Where `x` has the lines of one image in a ring: its number of lines. Line `i` of the image is its line `i % ring`.
    pub(crate) ring: Option<usize>,
    /// Rows of it are the output pixels of all images.
    pub(crate) epilogue: &'a Epilogue<'a, E>,
    /// Where the output goes.
    pub(crate) y: SharedSlice<'a, E>,
    /// The output pixel, counted through all images, that `y` begins with.
    pub(crate) first_pixel: usize,
}

impl Depthwise {
    /// Whether [`run_strip`](Depthwise::run_strip) computes such a convolution.
    pub(crate) fn serves_strips(parameters: &Parameters) -> bool {
        let depthwise = parameters.groups == parameters.input_channels
            && parameters.output_channels == parameters.input_channels;
        depthwise && matches!(Path::of(parameters), Path::Window { .. })
    }

    /// Computes the lines of `strip`, as [`run`](Depthwise::run) does.
    ///
    /// # Panics
    /// Where the parameters are not [served](Depthwise::serves_strips), or a slice is too short for the lines.
    ///
    /// # Safety
    /// Nobody else reaches the pixels of these lines in `y` meanwhile.
    pub(crate) unsafe fn run_strip<E: Real>(&self, strip: Strip<'_, E>) {
        let Strip { geometry: g, image, rows, x, ring, epilogue, y, first_pixel } = strip;
        let (p, [height, width]) = (&self.parameters, g.output);
        assert!(Depthwise::serves_strips(p), "strips of {p:?}");
        assert!(image < g.batch && rows.start <= rows.end && rows.end <= height, "lines {rows:?} of {g:?}");
        if rows.is_empty() || width == 0 {
            return;
        }
        let (lines, covered) =
            (ring.unwrap_or(g.batch * g.input[0]), (rows.len() - 1) * p.stride[0] + p.kernel[0]);
        assert!(
            ring.is_none_or(|lines| lines >= covered.min(g.input[0])),
            "a ring of {lines} lines for {covered}"
        );
        let needed = |pixels: usize, stride: usize| match pixels {
            0 => 0,
            _ => (pixels - 1) * stride + p.output_channels,
        };
        assert!(x.len() >= needed(lines * g.input[1], g.input_stride), "input of {g:?}");
        let end = (image * height + rows.end) * width;
        let begin = (image * height + rows.start) * width;
        assert!(
            first_pixel <= begin && y.len() >= needed(end - first_pixel, g.output_stride),
            "output of {g:?}"
        );
        assert!(
            g.input_stride >= p.output_channels && g.output_stride >= p.output_channels,
            "pixels overlap: {g:?}"
        );
        epilogue.check(end, p.output_channels);
        let images = image..image + 1;
        let part = Part::WHOLE;
        let depthwise = self;
        let Some(ring) = ring else {
            let ring = 0;
            let bands =
                Bands { depthwise, geometry: g, x, epilogue, y, part, images, rows, ring, first_pixel };
            return E::run_bands(bands);
        };
        E::run_ring(Bands { depthwise, geometry: g, x, epilogue, y, part, images, rows, ring, first_pixel });
    }
}
