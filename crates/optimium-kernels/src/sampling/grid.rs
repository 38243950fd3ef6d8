//! Sampling at the points of a grid.

use crate::{Part, SharedSlice};

/// How values between pixels come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleMode {
    /// The nearest pixel, that of an even index where two are.
    Nearest,
    /// Multilinear.
    Linear,
    /// Cubic convolution with a coefficient of -3/4.
    Cubic,
}

/// What lies outside of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplePadding {
    /// Zeros.
    Zeros,
    /// The pixels at the border.
    Border,
    /// The image mirrored.
    Reflection,
}

/// Images `[batch, channels, spatial…]` read at points: `[batch, points, dimensions]`, coordinates from -1 to 1, that of the last
/// dimension first.
#[derive(Clone, Debug)]
pub struct GridSampler {
    /// How values between pixels come about.
    pub mode: SampleMode,
    /// What lies outside.
    pub padding: SamplePadding,
    /// Whether -1 and 1 are the centres of the first and last pixels instead of their outer edges.
    pub align_corners: bool,
    /// Number of images.
    pub batch: usize,
    /// Planes of an image.
    pub channels: usize,
    /// The sizes of a plane, one to three.
    pub spatial: Vec<usize>,
    /// Points in each image.
    pub points: usize,
}

/// Points whose taps are kept while the planes pass by.
const BLOCK: usize = 16;
/// The most taps of a point: four along three dimensions.
const TAPS: usize = 64;

/// The pixels that one point takes part of.
struct Taps {
    pixels: [usize; TAPS],
    weights: [f32; TAPS],
    count: usize,
}

/// Along one dimension.
struct Line {
    indices: [usize; 4],
    weights: [f32; 4],
    count: usize,
}

impl GridSampler {
    /// `y[batch, channels, points]`.
    ///
    /// # Panics
    /// Where lengths do not fit, or there are no or more than three dimensions.
    pub fn run(&self, x: &[f32], grid: &[f32], y: SharedSlice<'_, f32>, part: Part) {
        let dimensions = self.spatial.len();
        assert!((1..=3).contains(&dimensions), "{dimensions} dimensions");
        let plane: usize = self.spatial.iter().product();
        assert_eq!(x.len(), self.batch * self.channels * plane, "the images' length");
        assert_eq!(grid.len(), self.batch * self.points * dimensions, "the grid's length");
        assert_eq!(y.len(), self.batch * self.channels * self.points, "the result's length");
        let blocks = self.points.div_ceil(BLOCK);
        for item in part.range(self.batch * blocks) {
            let (image, block) = (item / blocks, item % blocks);
            let start = block * BLOCK;
            let count = BLOCK.min(self.points - start);
            let points = &grid[(image * self.points + start) * dimensions..][..count * dimensions];
            let mut taps = [const { Taps { pixels: [0; TAPS], weights: [0.0; TAPS], count: 0 } }; BLOCK];
            for (taps, point) in taps.iter_mut().zip(points.chunks_exact(dimensions)) {
                self.taps(point, taps);
            }
            for channel in 0..self.channels {
                let plane = &x[(image * self.channels + channel) * plane..][..plane];
                let first = (image * self.channels + channel) * self.points + start;
                // SAFETY: the points of the block are this part's own.
                let y = unsafe { y.slice(first..first + count) };
                for (y, taps) in y.iter_mut().zip(&taps) {
                    let pairs = taps.pixels[..taps.count].iter().zip(&taps.weights[..taps.count]);
                    *y = if plane.is_empty() { 0.0 } else { pairs.map(|(&i, &w)| plane[i] * w).sum() };
                }
            }
        }
    }

    fn taps(&self, point: &[f32], taps: &mut Taps) {
        taps.count = 1;
        taps.pixels[0] = 0;
        taps.weights[0] = 1.0;
        for (&coordinate, &length) in point.iter().rev().zip(&self.spatial) {
            let line = self.line(coordinate, length);
            let before = taps.count;
            taps.count = before * line.count;
            // From the end, so that what is read is not yet overwritten.
            for tap in (0..before).rev() {
                let (pixel, weight) = (taps.pixels[tap] * length, taps.weights[tap]);
                for i in (0..line.count).rev() {
                    taps.pixels[tap * line.count + i] = pixel + line.indices[i];
                    taps.weights[tap * line.count + i] = weight * line.weights[i];
                }
            }
        }
    }

    fn line(&self, coordinate: f32, length: usize) -> Line {
        let size = length as f32;
        let mut place = match self.align_corners {
            true => (coordinate + 1.0) / 2.0 * (size - 1.0),
            false => ((coordinate + 1.0) * size - 1.0) / 2.0,
        };
        if self.mode == SampleMode::Nearest {
            place = place.round_ties_even();
        }
        let (low, high) = if self.align_corners { (0.0, size - 1.0) } else { (-0.5, size - 0.5) };
        if place < low || place > high {
            match self.padding {
                SamplePadding::Zeros => {}
                SamplePadding::Border => place = place.clamp(0.0, (size - 1.0).max(0.0)),
                SamplePadding::Reflection => place = reflect(place, low, high),
            }
        }
        let first = place.floor();
        let offset = place - first;
        let (start, weights, count) = match self.mode {
            SampleMode::Nearest => (place, [1.0, 0.0, 0.0, 0.0], 1),
            SampleMode::Linear => (first, [1.0 - offset, offset, 0.0, 0.0], 2),
            SampleMode::Cubic => (first - 1.0, cubic(offset), 4),
        };
        let mut line = Line { indices: [0; 4], weights, count };
        for i in 0..count {
            match self.pixel(start + i as f32, length, [low, high]) {
                Some(index) => line.indices[i] = index,
                None => line.weights[i] = 0.0,
            }
        }
        line
    }

    /// The index of a whole position; none where there is nothing.
    fn pixel(&self, position: f32, length: usize, [low, high]: [f32; 2]) -> Option<usize> {
        let last = length.checked_sub(1)?;
        if position >= 0.0 && position <= last as f32 {
            return Some(position as usize);
        }
        match self.padding {
            SamplePadding::Zeros => None,
            // A position that is no number becomes the first.
            SamplePadding::Border => Some((position as usize).min(last)),
            SamplePadding::Reflection => Some((reflect(position, low, high) as usize).min(last)),
        }
    }
}

/// `place` mirrored at the bounds until it is inside.
fn reflect(place: f32, low: f32, high: f32) -> f32 {
    let range = high - low;
    if range <= 0.0 || !place.is_finite() {
        return low;
    }
    let (beyond, from_low) = if place < low { (low - place, true) } else { (place - high, false) };
    if beyond <= 0.0 {
        return place;
    }
    let turns = (beyond / range).trunc();
    let rest = beyond - turns * range;
    if (turns % 2.0 == 0.0) == from_low { low + rest } else { high - rest }
}

/// The weights of the four pixels around a position that lies `x` behind the second.
fn cubic(x: f32) -> [f32; 4] {
    const A: f32 = -0.75;
    let near = |x: f32| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f32| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(x + 1.0), near(x), near(1.0 - x), far(2.0 - x)]
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Tolerance, compare, each_case};

    use super::*;

    fn sampler(
        mode: SampleMode,
        padding: SamplePadding,
        align_corners: bool,
        spatial: &[usize],
    ) -> GridSampler {
        GridSampler {
            mode,
            padding,
            align_corners,
            batch: 1,
            channels: 1,
            spatial: spatial.to_vec(),
            points: 1,
        }
    }

    fn at(sampler: &GridSampler, x: &[f32], point: &[f32]) -> f32 {
        let mut y = [f32::NAN];
        sampler.run(x, point, SharedSlice::new(&mut y), Part::WHOLE);
        y[0]
    }

    #[test]
    fn known_values() {
        use SampleMode::{Cubic, Linear, Nearest};
        use SamplePadding::{Border, Reflection, Zeros};
        let x = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0];
        // Two rows of three; a point is (x, y).
        let cases: Vec<(SampleMode, SamplePadding, bool, [f32; 2], f32)> = vec![
            (Linear, Zeros, true, [-1.0, -1.0], 0.0),
            (Linear, Zeros, true, [1.0, 1.0], 5.0),
            (Linear, Zeros, true, [0.0, 0.0], 2.5),
            (Linear, Zeros, false, [-1.0, 0.0], 0.75),
            (Linear, Zeros, true, [2.0, 1.0], 0.0),
            (Linear, Border, true, [2.0, 1.0], 5.0),
            (Linear, Border, false, [-1.0, -1.0], 0.0),
            (Linear, Reflection, true, [2.0, 1.0], 4.0),
            (Linear, Reflection, false, [1.0, 1.0], 5.0),
            (Nearest, Zeros, true, [0.1, -0.9], 1.0),
            (Nearest, Zeros, true, [0.0, 0.0], 1.0),
            (Nearest, Zeros, false, [3.0, 0.0], 0.0),
            (Nearest, Reflection, true, [3.0, -1.0], 0.0),
            (Cubic, Border, true, [0.0, -1.0], 1.0),
            (Cubic, Reflection, true, [0.0, 1.0], 4.0),
            (Linear, Border, true, [f32::INFINITY, -1.0], 2.0),
        ];
        each_case(cases, |&(mode, padding, align, point, expected)| {
            let actual = at(&sampler(mode, padding, align, &[2, 3]), &x, &point);
            compare(&[actual], &[expected], Tolerance::Relative(1e-5))
        });
    }

    #[test]
    fn hostile_points_stay_inside() {
        use SampleMode::{Cubic, Linear, Nearest};
        use SamplePadding::{Border, Reflection, Zeros};
        for mode in [Nearest, Linear, Cubic] {
            for padding in [Zeros, Border, Reflection] {
                for align in [false, true] {
                    for point in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, f32::MIN, 1e20] {
                        for length in [1, 2, 7] {
                            at(&sampler(mode, padding, align, &[length]), &vec![1.0; length], &[point]);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn all_planes_and_parts() {
        let sampler = GridSampler {
            batch: 2,
            channels: 3,
            points: 37,
            ..sampler(SampleMode::Linear, SamplePadding::Zeros, true, &[2, 2, 5])
        };
        let x: Vec<f32> = (0..2 * 3 * 20).map(|i| i as f32).collect();
        let grid: Vec<f32> = (0..2 * 37 * 3).map(|i| (i * 7 % 19) as f32 / 9.0 - 1.0).collect();
        let mut whole = vec![f32::NAN; 2 * 3 * 37];
        sampler.run(&x, &grid, SharedSlice::new(&mut whole), Part::WHOLE);
        let mut parts = vec![f32::NAN; whole.len()];
        for index in 0..4 {
            sampler.run(&x, &grid, SharedSlice::new(&mut parts), Part { index, count: 4 });
        }
        assert_eq!(whole, parts);
        // The image is linear along the fastest dimension: planes differ by a constant where all weights are inside.
        let (first, second) = (&whole[..37], &whole[37..74]);
        let differences: Vec<f32> = second.iter().zip(first).map(|(b, a)| b - a).collect();
        compare(&differences, &[20.0; 37], Tolerance::Relative(1e-4)).unwrap();
    }
}
