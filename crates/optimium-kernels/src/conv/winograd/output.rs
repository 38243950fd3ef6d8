//! From the points of tiles to the result.

use std::marker::PhantomData;
use std::ops::Range;

use optimium_simd::{Simd, SimdTask};

use super::block::Points;
use super::tiles::{Place, Tiles};
use super::transform::Transform;
use crate::SharedSlice;
use crate::epilogue::{Epilogue, TileActivation, finish};

/// Transforms the products of the tiles of `range`, finishes and stores them.
pub(super) struct OutputTransform<'a, T, const N: usize, const M: usize> {
    pub(super) transform: PhantomData<T>,
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    /// The channels to be done.
    pub(super) channels: Range<usize>,
    /// Where the points of the first tile of the range begin, and how they lie.
    pub(super) points: &'a [f32],
    pub(super) layout: Points,
    /// Checked for all output pixels.
    pub(super) epilogue: &'a Epilogue<'a>,
    /// The output images, whose pixels begin `stride` elements apart; long enough for all of them.
    pub(super) y: SharedSlice<'a, f32>,
    pub(super) stride: usize,
}

impl<T: Transform<N, M>, const N: usize, const M: usize> SimdTask for OutputTransform<'_, T, N, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.points.len() >= self.layout.len(N * N), "{} elements of points", self.points.len());
        assert!(self.range.len() <= self.layout.tiles && self.channels.end <= self.layout.channels);
        for (i, tile) in self.range.clone().enumerate() {
            let source = self.points.as_ptr().wrapping_add(i * self.layout.tile_stride);
            let place = self.tiles.place(tile);
            for channel in self.channels.clone().step_by(S::LANES) {
                // SAFETY: the points' rows are filled up to whole vectors.
                let sums = unsafe { self.vector(simd, source.add(channel)) };
                // SAFETY: as promised by the fields.
                unsafe { self.store(simd, &sums, place, channel) };
            }
        }
    }
}

impl<T: Transform<N, M>, const N: usize, const M: usize> OutputTransform<'_, T, N, M> {
    /// The sums of one vector of channels.
    ///
    /// # Safety
    /// The vectors of all points are readable at `source`.
    #[inline(always)]
    unsafe fn vector<S: Simd>(&self, simd: S, source: *const f32) -> [[S::F32; M]; M] {
        let mut half = [[simd.splat(0.0); N]; M];
        for column in 0..N {
            let mut m = [simd.splat(0.0); N];
            for (line, value) in m.iter_mut().enumerate() {
                let point = line * N + column;
                // SAFETY: forwarded.
                *value = unsafe { simd.load(source.add(point * self.layout.point_stride)) };
            }
            for (line, value) in half.iter_mut().zip(T::output(simd, m)) {
                line[column] = value;
            }
        }
        let mut sums = [[simd.splat(0.0); M]; M];
        for line in 0..M {
            sums[line] = T::output(simd, half[line]);
        }
        sums
    }

    /// Finishes the sums of one vector of channels and stores what exists of them.
    ///
    /// # Safety
    /// The output has the tile, nobody else writes these channels of it, and the epilogue is checked.
    #[inline(always)]
    unsafe fn store<S: Simd>(&self, simd: S, sums: &[[S::F32; M]; M], place: Place, channel: usize) {
        let [height, width] = self.tiles.size(place);
        let rest = self.channels.end - channel;
        let mask = simd.first(rest);
        let bias = match self.epilogue.bias {
            // SAFETY: the mask selects channels that exist.
            Some(bias) => unsafe { simd.load_masked(bias.as_ptr().add(channel), mask) },
            None => simd.splat(0.0),
        };
        let activation = self.epilogue.of_tile(channel);
        for (line, sums) in sums[..height].iter().enumerate() {
            for (pixel, &sum) in sums[..width].iter().enumerate() {
                let row = self.tiles.output(place, line, pixel);
                let sum = simd.add(sum, bias);
                // SAFETY: forwarded.
                unsafe {
                    let y = match activation {
                        TileActivation::Clamp { low, high } => {
                            self.clamp(simd, row, channel, mask, sum, [low, high])
                        }
                        _ => finish(simd, self.epilogue, row, channel, mask, sum),
                    };
                    let target = self.y.as_mut_ptr().add(row * self.stride + channel);
                    if rest >= S::LANES {
                        simd.store(target, y);
                    } else {
                        simd.store_masked(target, y, mask);
                    }
                }
            }
        }
    }

    /// As [`finish`] for an activation that only sets bounds, which is the usual one.
    ///
    /// # Safety
    /// As there.
    #[inline(always)]
    unsafe fn clamp<S: Simd>(
        &self,
        simd: S,
        row: usize,
        channel: usize,
        mask: S::Mask,
        sum: S::F32,
        [low, high]: [f32; 2],
    ) -> S::F32 {
        let bounded = |x| simd.min(simd.splat(high), simd.max(simd.splat(low), x));
        let Some(residual) = &self.epilogue.residual else {
            return bounded(sum);
        };
        // SAFETY: forwarded.
        let added =
            unsafe { simd.load_masked(residual.data.as_ptr().add(row * residual.stride + channel), mask) };
        if residual.after_activation { simd.add(bounded(sum), added) } else { bounded(simd.add(sum, added)) }
    }
}
