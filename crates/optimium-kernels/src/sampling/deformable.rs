//! The columns of a convolution whose taps data move.

use super::{Corners, blend, corners};
use crate::{Part, SharedSlice};

/// Images `[batch, channels, height, width]` as matrices `[batch, channels · taps, rows · columns]`: what every tap of every
/// output reads, at positions that offsets move and weighted by a mask.
#[derive(Clone, Debug)]
pub struct DeformableColumns {
    /// Number of images.
    pub batch: usize,
    /// Planes of an image.
    pub channels: usize,
    /// Height and width of an image.
    pub input: [usize; 2],
    /// Rows and columns of outputs.
    pub output: [usize; 2],
    /// Rows and columns of taps.
    pub kernel: [usize; 2],
    /// Distance of outputs.
    pub stride: [usize; 2],
    /// Distance of taps.
    pub dilation: [usize; 2],
    /// Padding before the image.
    pub padding: [usize; 2],
    /// Groups of channels, each with offsets of its own.
    pub groups: usize,
}

/// Outputs whose pixels are kept while the planes pass by.
const BLOCK: usize = 32;

impl DeformableColumns {
    /// Fills the columns `y`. Offsets are `[batch, groups, taps, 2, rows, columns]`, the first of two along the height; the mask is
    /// `[batch, groups, taps, rows, columns]`.
    ///
    /// # Panics
    /// Where lengths do not fit, or the channels do not divide into groups.
    pub fn run(&self, x: &[f32], offsets: &[f32], mask: Option<&[f32]>, y: SharedSlice<'_, f32>, part: Part) {
        let (points, plane) = (self.output[0] * self.output[1], self.input[0] * self.input[1]);
        let taps = self.kernel[0] * self.kernel[1];
        let each = self.channels / self.groups;
        assert_eq!(each * self.groups, self.channels, "channels of groups");
        assert_eq!(x.len(), self.batch * self.channels * plane, "the images' length");
        let places = self.batch * self.groups * taps;
        assert_eq!(offsets.len(), places * 2 * points, "the offsets' length");
        assert!(mask.is_none_or(|mask| mask.len() == places * points), "the mask's length");
        assert_eq!(y.len(), self.batch * self.channels * taps * points, "the result's length");
        let blocks = points.div_ceil(BLOCK);
        for item in part.range(places * blocks) {
            let (place, start) = (item / blocks, item % blocks * BLOCK);
            let count = BLOCK.min(points - start);
            let (group, tap) = (place / taps, place % taps);
            let mut pixels = [[(0, 0.0); 4]; BLOCK];
            for (i, pixels) in pixels.iter_mut().take(count).enumerate() {
                *pixels = self.pixels(offsets, mask, place, tap, start + i);
            }
            for channel in group * each..(group + 1) * each {
                let first = (channel * taps + tap) * points + start;
                // SAFETY: these columns are this part's own.
                let y = unsafe { y.slice(first..first + count) };
                let plane = &x[channel * plane..][..plane];
                for (y, pixels) in y.iter_mut().zip(&pixels) {
                    *y = if plane.is_empty() { 0.0 } else { blend(plane, pixels) };
                }
            }
        }
    }

    #[inline(always)]
    fn pixels(
        &self,
        offsets: &[f32],
        mask: Option<&[f32]>,
        place: usize,
        tap: usize,
        point: usize,
    ) -> Corners {
        let points = self.output[0] * self.output[1];
        let at = [point / self.output[1], point % self.output[1]];
        let tap = [tap / self.kernel[1], tap % self.kernel[1]];
        let position = |side: usize| {
            // In reals, which no distance from a model overflows.
            let [stride, dilation] = [self.stride[side], self.dilation[side]].map(|step| step as f32);
            at[side] as f32 * stride + tap[side] as f32 * dilation - self.padding[side] as f32
                + offsets[(2 * place + side) * points + point]
        };
        let mut pixels = corners([position(0), position(1)], self.input);
        if let Some(mask) = mask {
            pixels.iter_mut().for_each(|(_, weight)| *weight *= mask[place * points + point]);
        }
        pixels
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_move_taps() {
        let columns = DeformableColumns {
            batch: 1,
            channels: 2,
            input: [3, 3],
            output: [2, 2],
            kernel: [2, 2],
            stride: [1, 1],
            dilation: [1, 1],
            padding: [0, 0],
            groups: 2,
        };
        let x: Vec<f32> = (0..18).map(|i| i as f32).collect();
        let mut offsets = vec![0.0; 2 * 4 * 2 * 4];
        let run = |offsets: &[f32], mask: Option<&[f32]>| {
            let mut y = vec![f32::NAN; 2 * 4 * 4];
            for index in 0..3 {
                columns.run(&x, offsets, mask, SharedSlice::new(&mut y), Part { index, count: 3 });
            }
            y
        };
        let plain = run(&offsets, None);
        assert_eq!(plain[..8], [0.0, 1.0, 3.0, 4.0, 1.0, 2.0, 4.0, 5.0]);
        assert_eq!(plain[28..], [13.0, 14.0, 16.0, 17.0]);
        // The first tap of the first group one half to the right, at the first output; far outside at the second.
        offsets[4] = 0.5;
        offsets[1] = -100.0;
        let moved = run(&offsets, None);
        assert_eq!(moved[..4], [0.5, 0.0, 3.0, 4.0]);
        assert_eq!(moved[4..], plain[4..]);
        let halved = run(&offsets, Some(&[0.5; 2 * 4 * 4]));
        assert!(halved.iter().zip(&moved).all(|(half, whole)| *half == whole / 2.0));
    }
}
