//! Rectangles of an image in bfloat16, with zeros where they reach past its edges.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::super::parameters::Geometry;
use super::super::taps::{Taps, View};
use crate::Real;

/// Elements that are gathered at once, whether as many are needed or not.
pub(super) const PIECE: usize = 16;

/// A rectangle of pixels, in coordinates of the input image.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundedBand {
    /// The first line and column; negative in the padding.
    pub(super) origin: [isize; 2],
    /// Height and width.
    pub(super) size: [usize; 2],
    /// Channels of a pixel.
    pub(super) channels: usize,
}

impl RoundedBand {
    /// Words of memory for its elements, pixel behind pixel, and a piece more.
    pub(super) fn len(&self) -> usize {
        let elements = self.size[0].saturating_mul(self.size[1]).saturating_mul(self.channels);
        elements.saturating_add(PIECE).div_ceil(2)
    }

    /// The pixels of axis 1 or lines of axis 0 that exist in an image of that length, counted in the band.
    fn existing(&self, axis: usize, length: usize) -> Range<usize> {
        let start = (-self.origin[axis]).clamp(0, self.size[axis] as isize);
        let end = (length as isize - self.origin[axis]).clamp(start, self.size[axis] as isize);
        start.unsigned_abs()..end.unsigned_abs()
    }

    /// Writes it from the image at the start of `image` to `out`, without gaps between the pixels.
    pub(super) fn fill<L: Real>(&self, level: Level, image: &[L], geometry: &Geometry, out: &mut [u32]) {
        level.run_bf16(Fill { band: self, image, geometry, out: bytemuck::cast_slice_mut(out) });
    }

    /// Writes what the taps cover for the output pixels `pixels`, counted from the band's first and in lines of `width` whose pixels
    /// are `stride` apart, as rows of an even number of elements to `out`, which has room for a piece more.
    ///
    /// # Panics
    /// Where the taps reach past the band, or `out` is too short.
    pub(super) fn gather(
        &self,
        taps: &Taps,
        stride: [usize; 2],
        width: usize,
        band: &[u32],
        pixels: Range<usize>,
        out: &mut [u32],
    ) {
        let (band, out): (&[u16], &mut [u16]) = (bytemuck::cast_slice(band), bytemuck::cast_slice_mut(out));
        let view = View { data: &[], pixel: self.channels, line: self.size[1] * self.channels };
        let (down, across) = (stride[0] * view.line, stride[1] * view.pixel);
        taps.with_runs(&view, |runs, length| {
            let (row_len, pieces) = (runs.len() * length, length.div_ceil(PIECE));
            let row_stride = row_len.next_multiple_of(2);
            let farthest = runs.iter().map(|run| run.left).max().unwrap_or(0) + pieces * PIECE;
            let last_line = pixels.end.saturating_sub(1) / width;
            assert!(
                last_line * down + (width - 1) * across + farthest <= band.len(),
                "taps reach past the band"
            );
            assert!(pixels.len() * row_stride + pieces * PIECE <= out.len() + length, "no room for the rows");
            let mut at = [pixels.start / width, pixels.start % width];
            let mut to = 0;
            for _ in pixels {
                let corner = at[0] * down + at[1] * across;
                for run in runs {
                    for piece in 0..pieces {
                        // SAFETY: all pieces of all rows were just found to lie in both slices.
                        unsafe {
                            let from = band.as_ptr().add(corner + run.left + piece * PIECE);
                            let to = out.as_mut_ptr().add(to + run.right + piece * PIECE);
                            std::ptr::copy_nonoverlapping(from, to, PIECE);
                        }
                    }
                }
                to += row_stride;
                if row_len % 2 == 1 {
                    out[to - 1] = 0;
                }
                at = if at[1] + 1 == width { [at[0] + 1, 0] } else { [at[0], at[1] + 1] };
            }
        });
    }
}

struct Fill<'a, L> {
    band: &'a RoundedBand,
    image: &'a [L],
    geometry: &'a Geometry,
    out: &'a mut [u16],
}

impl<L: Real> SimdTask for Fill<'_, L> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Fill { band, image, geometry, out } = self;
        let RoundedBand { origin, size, channels } = *band;
        let line_len = size[1] * channels;
        let (written, rest) = out.split_at_mut(size[0] * line_len);
        rest.fill(0);
        if line_len == 0 {
            return;
        }
        let (lines, pixels) = (band.existing(0, geometry.input[0]), band.existing(1, geometry.input[1]));
        for (line, row) in written.chunks_exact_mut(line_len).enumerate() {
            if !lines.contains(&line) || pixels.is_empty() {
                row.fill(0);
                continue;
            }
            row[..pixels.start * channels].fill(0);
            row[pixels.end * channels..].fill(0);
            let y = origin[0].wrapping_add_unsigned(line).unsigned_abs();
            let x = origin[1].wrapping_add_unsigned(pixels.start).unsigned_abs();
            let source = &image[(y * geometry.input[1] + x) * geometry.input_stride..];
            let row = &mut row[pixels.start * channels..pixels.end * channels];
            if geometry.input_stride == channels {
                L::round(simd, source, row);
                continue;
            }
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                L::round(simd, &source[x * geometry.input_stride..], pixel);
            }
        }
    }
}
