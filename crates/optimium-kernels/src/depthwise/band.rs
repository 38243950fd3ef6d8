//! The walk over an image: bands of output rows, blocks of channels, tiles along the band.

use std::ops::Range;

use optimium_simd::{Simd, SimdTask};

use super::finish::{Finish, Store};
use super::tile::{self, Source, repeat};
use super::{Depthwise, Path, general};
use crate::conv::Geometry;
use crate::epilogue::Epilogue;
use crate::{Part, Real, SharedSlice};

/// One part of a depthwise convolution whose sizes have been checked. With `RING`, `x` is a ring of lines of one image.
pub struct Bands<'a, E, const RING: bool> {
    pub(super) depthwise: &'a Depthwise,
    pub(super) geometry: &'a Geometry,
    pub(super) x: &'a [E],
    pub(super) epilogue: &'a Epilogue<'a, E>,
    pub(super) y: SharedSlice<'a, E>,
    pub(super) part: Part,
    /// The images and their output rows that all parts together compute.
    pub(super) images: Range<usize>,
    pub(super) rows: Range<usize>,
    /// Lines of the ring.
    pub(super) ring: usize,
    /// The output pixel, counted through all images, that `y` begins with.
    pub(super) first_pixel: usize,
}

/// One row, or two, of one block of channels of one image.
#[derive(Clone, Copy)]
pub(super) struct Band<'a, E, const RING: bool> {
    pub(super) bands: &'a Bands<'a, E, RING>,
    pub(super) image: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) block: usize,
}

impl<E: Real, const RING: bool> Bands<'_, E, RING> {
    /// Computes the part with the instructions that the weights are packed for.
    pub(crate) fn run_at_level(self) {
        let level = self.depthwise.level;
        if E::ROUNDED { level.run_bf16(self) } else { level.run(self) }
    }
}

impl<E: Real, const RING: bool> SimdTask for Bands<'_, E, RING> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let p = &self.depthwise.parameters;
        let windowed = matches!(self.depthwise.path, Path::Window { .. });
        let at_once = if windowed && p.stride == [1, 1] { 2 } else { 1 };
        let (bands, blocks) = (self.rows.len().div_ceil(at_once), p.output_channels.div_ceil(S::LANES));
        assert!(self.depthwise.level.lanes() == S::LANES, "weights packed for other vectors");
        if self.geometry.output[1] == 0 {
            return;
        }
        let store = Store::new(self.epilogue, false);
        if store.complete && self.is_pixelwise() {
            // SAFETY: sizes were checked.
            return unsafe { self.pixels(simd, store) };
        }
        for step in self.part.range(self.images.len() * bands * blocks) {
            let (block, band) = (step % blocks, step / blocks);
            let (image, row) = (self.images.start + band / bands, self.rows.start + band % bands * at_once);
            let rows = at_once.min(self.rows.end - row);
            let band = Band { bands: &self, image, row, rows, block };
            // SAFETY: sizes were checked; the band lies in the output and belongs to this part.
            unsafe { band.run(simd) }
        }
    }
}

impl<E: Real, const RING: bool> Band<'_, E, RING> {
    /// # Safety
    /// The slices have the sizes of the geometry, and no other part writes this band.
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, simd: S) {
        let windowed = matches!(self.bands.depthwise.path, Path::Window { .. });
        let store = Store::new(self.bands.epilogue, windowed);
        // SAFETY: by the caller's promise.
        unsafe {
            match self.bands.depthwise.path {
                Path::General => {
                    assert!(!RING, "rings are for windows");
                    general::row(simd, self, store);
                }
                Path::Window { columns: 1, .. } => self.windows::<S, 1, 1>(simd, store),
                Path::Window { columns: 3, stride: 1 } => self.windows::<S, 3, 1>(simd, store),
                Path::Window { columns: 3, .. } => self.windows::<S, 3, 2>(simd, store),
                Path::Window { columns: 5, stride: 1 } => self.windows::<S, 5, 1>(simd, store),
                Path::Window { columns: 5, .. } => self.windows::<S, 5, 2>(simd, store),
                Path::Window { .. } => self.windows::<S, 7, 1>(simd, store),
            }
        }
        if !store.complete {
            Finish { band: self }.run(simd);
        }
    }

    /// Channels of this band's block.
    #[inline(always)]
    pub(super) fn channels<S: Simd>(&self) -> usize {
        (self.bands.depthwise.parameters.output_channels - self.first::<S>()).min(S::LANES)
    }

    /// The first channel of this band's block.
    #[inline(always)]
    pub(super) fn first<S: Simd>(&self) -> usize {
        self.block * S::LANES
    }

    /// The index in `y` of the band's row `row` and that column, at the block's first channel.
    #[inline(always)]
    pub(super) fn output<S: Simd>(&self, row: usize, column: usize) -> usize {
        let g = self.bands.geometry;
        (self.pixel(row, column) - self.bands.first_pixel) * g.output_stride + self.first::<S>()
    }

    /// The number of that output pixel among those of all images.
    #[inline(always)]
    pub(super) fn pixel(&self, row: usize, column: usize) -> usize {
        let [height, width] = self.bands.geometry.output;
        (self.image * height + self.row + row) * width + column
    }

    /// The bias of the block, or zeros.
    #[inline(always)]
    pub(super) fn bias<S: Simd>(&self, simd: S) -> S::F32 {
        match self.bands.epilogue.bias {
            // SAFETY: one value a channel, checked at entry.
            Some(bias) => unsafe {
                f32::load_first(simd, bias.as_ptr().add(self.first::<S>()), self.channels::<S>())
            },
            None => simd.splat(0.0),
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn windows<S: Simd, const K: usize, const STRIDE: usize>(&self, simd: S, store: Store) {
        // SAFETY: by the caller's promise.
        unsafe {
            match (S::REGISTERS >= 32, self.rows == 2) {
                (true, true) => self.tiles::<S, K, 1, 7, true>(simd, store),
                (true, false) => self.tiles::<S, K, STRIDE, 7, false>(simd, store),
                (false, true) => self.tiles::<S, K, 1, 4, true>(simd, store),
                (false, false) => self.tiles::<S, K, STRIDE, 4, false>(simd, store),
            }
        }
    }

    /// # Safety
    /// As [`run`](Self::run).
    #[inline(always)]
    unsafe fn tiles<S: Simd, const K: usize, const STRIDE: usize, const T: usize, const TWO: bool>(
        &self,
        simd: S,
        store: Store,
    ) {
        let g = self.bands.geometry;
        let start = self.bias(simd);
        let channels = self.channels::<S>();
        let mut source = self.source::<S>(usize::from(TWO));
        let base = source.x;
        let span = (T - 1) * STRIDE + K;
        for column in (0..g.output[1]).step_by(T) {
            let count = T.min(g.output[1] - column);
            let left = (column * STRIDE) as isize - g.padding[1] as isize;
            source.x = base.wrapping_add(column * STRIDE * g.input_stride);
            let inner = left >= 0 && left as usize + span <= g.input[1];
            // SAFETY: rows and columns outside of the image are excluded in `source`, and the tile's outputs
            // lie in this band.
            unsafe {
                let sums = if inner && count == T && channels == S::LANES {
                    tile::sums::<S, E, K, STRIDE, T, TWO, false, false, RING>(simd, start, &source)
                } else if inner && count == T && S::REGISTERS >= 32 {
                    tile::sums::<S, E, K, STRIDE, T, TWO, false, true, RING>(simd, start, &source)
                } else {
                    source.columns = valid_columns(left, (count - 1) * STRIDE + K, g.input[1]);
                    tile::sums::<S, E, K, STRIDE, T, TWO, true, true, RING>(simd, start, &source)
                };
                let sums = store.activated(simd, sums, 1 + usize::from(TWO));
                for (row, sums) in sums.iter().enumerate().take(1 + usize::from(TWO)) {
                    let to = self.bands.y.as_mut_ptr().add(self.output::<S>(row, column));
                    repeat!(INDEX in [0 1 2 3 4 5 6] {
                        if INDEX < T && INDEX < count {
                            store.put(simd, sums[INDEX % T], to.wrapping_add(INDEX * g.output_stride), channels);
                        }
                    });
                }
            }
        }
    }

    /// Where the band's first tile reads; `extra` more rows than the window lie under the band.
    #[inline(always)]
    fn source<S: Simd>(&self, extra: usize) -> Source<E> {
        let (g, depthwise) = (self.bands.geometry, self.bands.depthwise);
        let p = &depthwise.parameters;
        let [window, columns] = p.kernel;
        let top = (self.row * p.stride[0]) as isize - g.padding[0] as isize;
        let under = window + extra;
        let first_row = ((-top).max(0) as usize).min(under);
        let end_row = (g.input[0] as isize - top).clamp(first_row as isize, under as isize);
        let row_step = g.input[1] * g.input_stride;
        let ring = self.bands.ring;
        let first_line =
            if RING { top.rem_euclid(ring as isize) } else { (self.image * g.input[0]) as isize + top };
        let before = first_line * row_step as isize - (g.padding[1] * g.input_stride) as isize;
        Source {
            x: self.bands.x.as_ptr().wrapping_add(self.first::<S>()).wrapping_offset(before),
            row_step,
            wrap: ring.wrapping_sub(first_line as usize),
            back: ring * row_step,
            pixel_step: g.input_stride,
            weights: depthwise.weights[self.block * window * columns * S::LANES..].as_ptr(),
            window,
            first_row,
            end_row: end_row as usize,
            columns: u32::MAX,
            channels: self.channels::<S>(),
        }
    }
}

/// One bit for each of the first `needed` columns from `left` that lies in an image of that width.
#[inline(always)]
pub(crate) fn valid_columns(left: isize, needed: usize, width: usize) -> u32 {
    let below = |n: isize| (1u64 << n.clamp(0, 32)) as u32;
    let first = below(-left).wrapping_sub(1);
    let end = below((width as isize - left).min(needed as isize)).wrapping_sub(1);
    end & !first
}
