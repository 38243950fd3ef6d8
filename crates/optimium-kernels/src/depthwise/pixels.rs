//! Windows of one pixel: a factor and an offset for each channel. Whole pixels follow each other, as they lie in memory.

use optimium_simd::Simd;

use super::band::Bands;
use super::finish::Store;
use crate::Real;

impl<E: Real, const RING: bool> Bands<'_, E, RING> {
    /// Whether every output is a product of the input at the same place.
    #[inline(always)]
    pub(super) fn is_pixelwise(&self) -> bool {
        let (p, g) = (&self.depthwise.parameters, self.geometry);
        let one = p.kernel == [1, 1] && p.stride == [1, 1] && g.padding == [0, 0] && g.input == g.output;
        one && p.output_channels == p.input_channels && self.is_whole()
    }

    /// Whether all rows of all images are computed, from images to images.
    #[inline(always)]
    fn is_whole(&self) -> bool {
        let g = self.geometry;
        self.images == (0..g.batch) && self.rows == (0..g.output[0]) && !RING && self.first_pixel == 0
    }

    /// Computes this part's pixels; `store` is complete.
    ///
    /// # Safety
    /// The sizes were checked, and the windows are [of one pixel](Self::is_pixelwise).
    #[inline(always)]
    pub(super) unsafe fn pixels<S: Simd>(&self, simd: S, store: Store) {
        let g = self.geometry;
        let channels = self.depthwise.parameters.output_channels;
        let whole = channels / S::LANES * S::LANES;
        for pixel in self.part.range(g.batch * g.output[0] * g.output[1]) {
            // SAFETY: the pixel lies in both images, and is this part's own; the weights are filled up to whole vectors.
            unsafe {
                let x = self.x.as_ptr().add(pixel * g.input_stride);
                let y = self.y.as_mut_ptr().add(pixel * g.output_stride);
                for first in (0..whole).step_by(S::LANES) {
                    let sums = self.product(simd, E::load(simd, x.add(first)), first, S::LANES);
                    store.put(simd, sums, y.add(first), S::LANES);
                }
                if whole < channels {
                    let rest = channels - whole;
                    let sums = self.product(simd, E::load_first(simd, x.add(whole), rest), whole, rest);
                    store.put(simd, sums, y.add(whole), rest);
                }
            }
        }
    }

    /// The sums of `count` channels from `first` on, at most a vector.
    ///
    /// # Safety
    /// The channels exist.
    #[inline(always)]
    unsafe fn product<S: Simd>(&self, simd: S, x: S::F32, first: usize, count: usize) -> S::F32 {
        // SAFETY: forwarded; blocks of one tap are one vector.
        unsafe {
            let weights = simd.load(self.depthwise.weights.as_ptr().add(first));
            match self.epilogue.bias {
                Some(bias) if count == S::LANES => simd.fma(x, weights, simd.load(bias.as_ptr().add(first))),
                Some(bias) => simd.fma(x, weights, f32::load_first(simd, bias.as_ptr().add(first), count)),
                None => simd.fma(x, weights, simd.splat(0.0)),
            }
        }
    }
}
