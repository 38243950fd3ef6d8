//! Windows of any size, stride and dilation, and channel multipliers.

use std::ops::Range;

use optimium_simd::Simd;

use super::band::Band;
use super::finish::Store;
use crate::Real;

/// Output pixels that are summed together.
const TILE: usize = 6;

/// The part of a window along one axis that lies in the image.
#[derive(Clone)]
struct Taps {
    /// Position of the window's first element.
    first: isize,
    /// Positions from one element to the next.
    step: usize,
    /// The elements that lie in the image.
    valid: Range<usize>,
}

impl Taps {
    #[inline(always)]
    fn new(output: usize, stride: usize, padding: usize, step: usize, size: usize, image: usize) -> Taps {
        let first = (output * stride) as isize - padding as isize;
        let begin = ((-first).max(0) as usize).div_ceil(step).min(size);
        let end = ((image as isize - first).max(0) as usize).div_ceil(step).clamp(begin, size);
        Taps { first, step, valid: begin..end }
    }

    #[inline(always)]
    fn position(&self, tap: usize) -> usize {
        (self.first + (tap * self.step) as isize) as usize
    }
}

/// Where a block of channels reads.
#[derive(Clone, Copy)]
struct Source<'a, E, const RING: bool> {
    band: &'a Band<'a, E, RING>,
    /// The image, at its first channel.
    image: *const E,
    weights: *const f32,
    channels: usize,
}

/// Computes one row of one block of channels.
///
/// # Safety
/// The slices have the sizes of the geometry, and no other part writes this band.
#[inline(always)]
pub(super) unsafe fn row<S: Simd, E: Real, const RING: bool>(
    simd: S,
    band: &Band<'_, E, RING>,
    store: Store,
) {
    let (g, depthwise) = (band.bands.geometry, band.bands.depthwise);
    let p = &depthwise.parameters;
    let [height, width] = g.input;
    let taps_of = p.kernel[0] * p.kernel[1];
    let source = Source {
        band,
        image: band.bands.x.as_ptr().wrapping_add(band.image * height * width * g.input_stride),
        weights: depthwise.weights[band.block * taps_of * S::LANES..].as_ptr(),
        channels: band.channels::<S>(),
    };
    let bias = band.bias(simd);
    let rows = Taps::new(band.row, p.stride[0], g.padding[0], p.dilation[0], p.kernel[0], height);
    let columns = |x: usize| Taps::new(x, p.stride[1], g.padding[1], p.dilation[1], p.kernel[1], width);
    let mut x = 0;
    while x < g.output[1] {
        let first = columns(x);
        let whole = x + TILE <= g.output[1] && {
            let last = columns(x + TILE - 1);
            first.valid == (0..p.kernel[1]) && last.valid == (0..p.kernel[1])
        };
        // SAFETY: windows of the image by construction of the taps; outputs of this band.
        unsafe {
            let to = band.bands.y.as_mut_ptr().add(band.output::<S>(0, x));
            if whole {
                let sums = source.sums::<S, TILE>(simd, bias, &rows, &first);
                for (i, sum) in sums.into_iter().enumerate() {
                    store.put(simd, sum, to.add(i * g.output_stride), source.channels);
                }
                x += TILE;
            } else {
                let [sum] = source.sums::<S, 1>(simd, bias, &rows, &first);
                store.put(simd, sum, to, source.channels);
                x += 1;
            }
        }
    }
}

impl<E: Real, const RING: bool> Source<'_, E, RING> {
    /// The sums of `T` neighbouring outputs; `columns` are the taps of the first one.
    ///
    /// # Safety
    /// The taps, moved by the stride for each further output, lie in the image.
    #[inline(always)]
    unsafe fn sums<S: Simd, const T: usize>(
        &self,
        simd: S,
        start: S::F32,
        rows: &Taps,
        columns: &Taps,
    ) -> [S::F32; T] {
        let g = self.band.bands.geometry;
        let p = &self.band.bands.depthwise.parameters;
        let step = p.stride[1] * g.input_stride;
        let expands = p.output_channels != p.input_channels;
        let mut sums = [start; T];
        for i in rows.valid.clone() {
            for j in columns.valid.clone() {
                // SAFETY: a tap of the window and a pixel of the image by the caller's promise.
                unsafe {
                    let weight = simd.load(self.weights.add((i * p.kernel[1] + j) * S::LANES));
                    let pixel = rows.position(i) * g.input[1] + columns.position(j);
                    let x = self.image.add(pixel * g.input_stride);
                    if expands {
                        for (t, sum) in sums.iter_mut().enumerate() {
                            *sum = simd.fma(self.expanded(simd, x.add(t * step)), weight, *sum);
                        }
                    } else {
                        let x = x.add(self.band.first::<S>());
                        for (t, sum) in sums.iter_mut().enumerate() {
                            *sum =
                                simd.fma(E::load_first(simd, x.add(t * step), self.channels), weight, *sum);
                        }
                    }
                }
            }
        }
        sums
    }

    /// The input channel of each output channel of the block, of the pixel at `x`.
    ///
    /// # Safety
    /// A pixel's channels are readable at `x`.
    #[inline(always)]
    unsafe fn expanded<S: Simd>(&self, simd: S, x: *const E) -> S::F32 {
        let p = &self.band.bands.depthwise.parameters;
        let multiplier = p.output_channels / p.input_channels;
        let first = self.band.first::<S>();
        if p.input_channels == 1 {
            // SAFETY: by the caller's promise.
            return simd.splat(unsafe { (*x).into() });
        }
        let mut lanes = [0.0; 64];
        for (lane, value) in lanes.iter_mut().enumerate().take(self.channels) {
            // SAFETY: an output channel's input channel is below the input's channels.
            *value = unsafe { (*x.add((first + lane) / multiplier)).into() };
        }
        // SAFETY: no vector has more than 64 lanes.
        unsafe { simd.load(lanes.as_ptr()) }
    }
}
