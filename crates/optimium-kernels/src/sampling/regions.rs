//! Regions of interest, each brought to one size.

use super::{Corners, blend, corners};
use crate::{Part, SharedSlice};

/// What becomes of the samples of a bin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionPool {
    /// Their mean.
    Average,
    /// The largest of the weighted pixels around all of them.
    Max,
}

/// Images `[batch, channels, height, width]`, of which regions become `[regions, channels, rows, columns]`.
#[derive(Clone, Debug)]
pub struct RegionSampling {
    /// What becomes of samples.
    pub pool: RegionPool,
    /// Whether pixels are areas around their positions, rather than points.
    pub half_pixel: bool,
    /// Samples along each side of a bin; 0 for as many as there are pixels.
    pub samples: usize,
    /// What coordinates of regions are multiplied with.
    pub scale: f32,
    /// Planes of an image.
    pub channels: usize,
    /// Height and width of an image.
    pub size: [usize; 2],
    /// Rows and columns of bins.
    pub bins: [usize; 2],
}

/// One region: where it begins, the size of a bin, and samples along its sides.
#[derive(Clone, Copy, Debug)]
struct Region {
    start: [f32; 2],
    bin: [f32; 2],
    samples: [usize; 2],
}

impl RegionSampling {
    /// The most samples along a side of a bin, as a multiple of the image's size: a region that is much larger lies outside.
    const LARGEST: usize = 16;

    /// Whether a region `[left, top, right, bottom]` asks for no more samples than its image can mean.
    pub fn is_sensible(&self, region: &[f32; 4]) -> bool {
        let Region { samples, .. } = self.region(region);
        region.iter().all(|side| side.is_finite())
            && samples.iter().zip(self.size).all(|(&samples, size)| samples <= Self::LARGEST * (size + 16))
    }

    fn region(&self, &[left, top, right, bottom]: &[f32; 4]) -> Region {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let [left, top, right, bottom] = [left, top, right, bottom].map(|side| side * self.scale - offset);
        let mut size = [bottom - top, right - left];
        if !self.half_pixel {
            // Regions of no size are those of one pixel.
            size = size.map(|side| side.max(1.0));
        }
        let bin = [size[0] / self.bins[0] as f32, size[1] / self.bins[1] as f32];
        let samples = bin.map(|side| if self.samples > 0 { self.samples } else { side.ceil() as usize });
        Region { start: [top, left], bin, samples }
    }

    /// `y`, of regions of the images that `images` says.
    ///
    /// # Panics
    /// Where lengths do not fit, an image of a region is not there, or images are empty.
    pub fn run(&self, x: &[f32], regions: &[[f32; 4]], images: &[i64], y: SharedSlice<'_, f32>, part: Part) {
        let (bins, plane) = (self.bins[0] * self.bins[1], self.size[0] * self.size[1]);
        assert_eq!(regions.len(), images.len(), "images of regions");
        assert_eq!(y.len(), regions.len() * self.channels * bins, "the result's length");
        assert!(plane > 0, "empty images");
        for item in part.range(regions.len() * bins) {
            let (index, bin) = (item / bins, item % bins);
            let image = &x[images[index] as usize * self.channels * plane..][..self.channels * plane];
            let region = self.region(&regions[index]);
            for channel in 0..self.channels {
                let to = (index * self.channels + channel) * bins + bin;
                // SAFETY: the bin is this part's own.
                unsafe { y.as_mut_ptr().add(to).write(0.0) };
            }
            self.bin(image, &region, bin, |channel, value, first| {
                let to = (index * self.channels + channel) * bins + bin;
                // SAFETY: as above.
                let y = unsafe { &mut *y.as_mut_ptr().add(to) };
                *y = match self.pool {
                    RegionPool::Average => *y + value,
                    RegionPool::Max if first => value,
                    RegionPool::Max => y.max(value),
                };
            });
        }
    }

    /// Calls `add(channel, value, whether it is the first)` with what every sample of a bin adds.
    #[inline(always)]
    fn bin(&self, image: &[f32], region: &Region, bin: usize, mut add: impl FnMut(usize, f32, bool)) {
        let plane = self.size[0] * self.size[1];
        let [rows, columns] = region.samples;
        let count = (rows * columns).max(1) as f32;
        let cell = [bin / self.bins[1], bin % self.bins[1]];
        for sample in 0..rows * columns {
            let steps = [(sample / columns) as f32 + 0.5, (sample % columns) as f32 + 0.5];
            let place = |side: usize| {
                region.start[side]
                    + cell[side] as f32 * region.bin[side]
                    + steps[side] * region.bin[side] / region.samples[side] as f32
            };
            let Some(corners) = self.corners([place(0), place(1)]) else {
                (0..self.channels).for_each(|channel| add(channel, 0.0, sample == 0));
                continue;
            };
            for (channel, plane) in image.chunks_exact(plane).enumerate() {
                let value = match self.pool {
                    RegionPool::Average => blend(plane, &corners) / count,
                    RegionPool::Max => {
                        let weighted = corners.iter().map(|&(pixel, weight)| plane[pixel] * weight);
                        weighted.fold(f32::NEG_INFINITY, f32::max)
                    }
                };
                add(channel, value, sample == 0);
            }
        }
    }

    /// The pixels around a sample, one outside of the image drawn to its border; none where it is further than one pixel away.
    #[inline(always)]
    fn corners(&self, place: [f32; 2]) -> Option<Corners> {
        let mut inside = [0.0; 2];
        for side in 0..2 {
            let size = self.size[side] as f32;
            if !(place[side] >= -1.0 && place[side] <= size) {
                return None;
            }
            inside[side] = place[side].clamp(0.0, size - 1.0);
        }
        Some(corners(inside, self.size))
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Tolerance, compare};

    use super::*;

    fn sampling(pool: RegionPool, half_pixel: bool, samples: usize) -> RegionSampling {
        let (channels, size, bins) = (2, [4, 6], [2, 3]);
        RegionSampling { pool, half_pixel, samples, scale: 1.0, channels, size, bins }
    }

    fn image() -> Vec<f32> {
        // A plane that rises by one a column and by ten a row, and its double.
        let plane = |factor: f32| {
            (0..24).map(move |i| factor * ((i % 6) as f32 + 10.0 * (i / 6) as f32)).collect::<Vec<_>>()
        };
        let (single, double) = (plane(1.0), plane(2.0));
        // The first image of the batch is empty.
        [vec![0.0; 48], single, double].concat()
    }

    #[test]
    fn means_of_linear_images_are_centres() {
        for samples in [0, 1, 2, 5] {
            let sampling = sampling(RegionPool::Average, true, samples);
            let mut y = vec![f32::NAN; 12];
            // Centres of bins are at columns 1, 2, 3 and rows 1, 2.
            sampling.run(&image(), &[[1.0, 1.0, 4.0, 3.0]], &[1], SharedSlice::new(&mut y), Part::WHOLE);
            let single = [11.0, 12.0, 13.0, 21.0, 22.0, 23.0];
            let double = single.map(|value| value * 2.0);
            compare(&y, &[single, double].concat(), Tolerance::Relative(1e-4)).unwrap();
        }
    }

    #[test]
    fn outside_is_zero_and_parts_agree() {
        let sampling = RegionSampling { samples: 2, ..sampling(RegionPool::Max, false, 2) };
        let regions = [[-50.0, -50.0, -40.0, -40.0], [0.0, 0.0, 5.0, 3.0], [2.0, 1.0, 2.0, 1.0]];
        let mut whole = vec![f32::NAN; 36];
        sampling.run(&image(), &regions, &[1, 1, 0], SharedSlice::new(&mut whole), Part::WHOLE);
        assert!(whole[..12].iter().chain(&whole[24..]).all(|&value| value == 0.0));
        let mut parts = vec![f32::NAN; 36];
        for index in 0..5 {
            let part = Part { index, count: 5 };
            sampling.run(&image(), &regions, &[1, 1, 0], SharedSlice::new(&mut parts), part);
        }
        assert_eq!(whole, parts);
    }

    #[test]
    fn senseless_regions_are_told() {
        let sampling = sampling(RegionPool::Average, true, 0);
        assert!(sampling.is_sensible(&[0.0, 0.0, 6.0, 4.0]) && sampling.is_sensible(&[3.0, 3.0, 1.0, 1.0]));
        for wrong in [[0.0, 0.0, 1e30, 4.0], [0.0, f32::NAN, 1.0, 1.0], [0.0, 0.0, 1.0, f32::INFINITY]] {
            assert!(!sampling.is_sensible(&wrong), "{wrong:?}");
        }
    }
}
