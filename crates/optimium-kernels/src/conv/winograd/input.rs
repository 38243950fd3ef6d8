//! From the image to the points of tiles.

use std::marker::PhantomData;
use std::ops::Range;

use optimium_simd::{Simd, SimdTask};

use super::block::Points;
use super::tiles::Tiles;
use super::transform::Transform;

/// Transforms the inputs of the tiles of `range`.
pub(super) struct InputTransform<'a, T, const N: usize, const M: usize> {
    pub(super) transform: PhantomData<T>,
    pub(super) tiles: &'a Tiles,
    pub(super) range: Range<usize>,
    pub(super) channels: usize,
    /// The images, whose pixels begin `stride` elements apart.
    pub(super) x: &'a [f32],
    pub(super) stride: usize,
    /// As many zeros as channels.
    pub(super) zeros: &'a [f32],
    /// Where the points of the first tile of the range begin, and how they lie.
    pub(super) points: &'a mut [f32],
    pub(super) layout: Points,
}

impl<T: Transform<N, M>, const N: usize, const M: usize> SimdTask for InputTransform<'_, T, N, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.zeros.len() >= self.channels, "{} zeros", self.zeros.len());
        assert!(self.points.len() >= self.layout.len(N * N), "{} elements for points", self.points.len());
        assert!(self.range.len() <= self.layout.tiles && self.channels <= self.layout.channels);
        let whole = self.channels / S::LANES * S::LANES;
        for (i, tile) in self.range.clone().enumerate() {
            let sources = self.sources(tile);
            let target = self.points.as_mut_ptr().wrapping_add(i * self.layout.tile_stride);
            for channel in (0..whole).step_by(S::LANES) {
                // SAFETY: the sources have that many channels, the points' rows too.
                unsafe { self.vector::<S, true>(simd, &sources, channel, target) };
            }
            if whole < self.channels {
                // SAFETY: as above, and the points' rows are filled up to whole vectors.
                unsafe { self.vector::<S, false>(simd, &sources, whole, target) };
            }
        }
    }
}

impl<T: Transform<N, M>, const N: usize, const M: usize> InputTransform<'_, T, N, M> {
    /// The pixels under a tile; zeros where there are none.
    #[inline(always)]
    fn sources(&self, tile: usize) -> [[*const f32; N]; N] {
        let place = self.tiles.place(tile);
        let mut sources = [[self.zeros.as_ptr(); N]; N];
        for (line, row) in sources.iter_mut().enumerate() {
            for (pixel, source) in row.iter_mut().enumerate() {
                if let Some(index) = self.tiles.input(place, line, pixel) {
                    *source = self.x.as_ptr().wrapping_add(index * self.stride);
                }
            }
        }
        sources
    }

    /// Transforms one vector of channels.
    ///
    /// # Safety
    /// The channels that exist from `channel` on are readable at all `sources`, a vector of them if `WHOLE`; the
    /// vectors of all points are writable at `target`.
    #[inline(always)]
    unsafe fn vector<S: Simd, const WHOLE: bool>(
        &self,
        simd: S,
        sources: &[[*const f32; N]; N],
        channel: usize,
        target: *mut f32,
    ) {
        let mask = simd.first(self.channels - channel);
        let mut half = [[simd.splat(0.0); N]; N];
        for column in 0..N {
            let mut d = [simd.splat(0.0); N];
            for line in 0..N {
                // SAFETY: forwarded.
                d[line] = unsafe {
                    let source = sources[line][column].add(channel);
                    if WHOLE { simd.load(source) } else { simd.load_masked(source, mask) }
                };
            }
            let d = T::input(simd, d);
            for line in 0..N {
                half[line][column] = d[line];
            }
        }
        for (line, &half) in half.iter().enumerate() {
            for (column, &value) in T::input(simd, half).iter().enumerate() {
                let point = line * N + column;
                // SAFETY: forwarded.
                unsafe { simd.store(target.add(point * self.layout.point_stride + channel), value) };
            }
        }
    }
}
