//! The epilogue of a depthwise convolution.

use optimium_simd::Simd;

use super::band::Band;
use crate::Real;
use crate::activation::{self, ActivateInPlace, Activation};
use crate::epilogue::Epilogue;

/// What a tile does to its sums when it stores them.
#[derive(Clone, Copy)]
pub(super) struct Store {
    function: Function,
    /// Whether nothing of the epilogue is left for [`Finish`].
    pub(super) complete: bool,
}

/// What happens to sums on the way: activations of few instructions to each vector when it is put, longer ones to a whole tile
/// before.
#[derive(Clone, Copy)]
enum Function {
    None,
    Clamp { low: f32, high: f32 },
    HardSwish,
    Called(Activation),
}

impl Store {
    /// An activation is applied in the store where it is all that there is, and where sums come in tiles unless it is cheap;
    /// anything else afterwards.
    #[inline(always)]
    pub(super) fn new<E>(epilogue: &Epilogue<'_, E>, in_tiles: bool) -> Store {
        let alone = epilogue.residual.is_none();
        let function = match epilogue.activation {
            Activation::None => Some(Function::None),
            Activation::Relu => Some(Function::Clamp { low: 0.0, high: f32::INFINITY }),
            Activation::Clip { low, high } => Some(Function::Clamp { low, high }),
            Activation::HardSwish => Some(Function::HardSwish),
            Activation::PRelu => None,
            other => in_tiles.then_some(Function::Called(other)),
        };
        let function = function.filter(|_| alone);
        Store { complete: function.is_some(), function: function.unwrap_or(Function::None) }
    }

    /// The sums of the first `rows` rows of a tile after an activation of many instructions, if that is what there is.
    #[inline(always)]
    pub(super) fn activated<S: Simd, const T: usize>(
        self,
        simd: S,
        sums: [[S::F32; T]; 2],
        rows: usize,
    ) -> [[S::F32; T]; 2] {
        let Function::Called(activation) = self.function else { return sums };
        // A copy: what has an address does not stay in registers.
        let mut buffer = sums;
        let vectors = &mut buffer.as_flattened_mut()[..rows * T];
        let (start, length) = (vectors.as_mut_ptr().cast(), vectors.len() * S::LANES);
        // SAFETY: vectors are arrays of LANES elements.
        simd.call(unsafe { ActivateInPlace::new(activation, start, length) });
        buffer
    }

    /// Stores the sums of one output, with a cheap activation.
    ///
    /// # Safety
    /// `channels` elements are writable at `to`.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd, E: Real>(self, simd: S, sum: S::F32, to: *mut E, channels: usize) {
        let y = match self.function {
            Function::None | Function::Called(_) => sum,
            Function::Clamp { low, high } => simd.min(simd.splat(high), simd.max(simd.splat(low), sum)),
            Function::HardSwish => activation::apply(simd, Activation::HardSwish, sum),
        };
        // SAFETY: by the caller's promise.
        unsafe {
            if channels >= S::LANES { E::store(simd, to, y) } else { E::store_first(simd, to, y, channels) }
        }
    }
}

/// The rest of the epilogue, over a band that was just written.
pub(super) struct Finish<'a, E, const RING: bool> {
    pub(super) band: &'a Band<'a, E, RING>,
}

impl<E: Real, const RING: bool> Finish<'_, E, RING> {
    /// Applies residual and activation in place.
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let band = self.band;
        let epilogue = band.bands.epilogue;
        let channels = band.channels::<S>();
        let first = band.first::<S>();
        let slope = match epilogue.slope {
            // SAFETY: one value a channel, checked at entry.
            Some(slope) => unsafe { f32::load_first(simd, slope.as_ptr().add(first), channels) },
            None => simd.splat(0.0),
        };
        for row in 0..band.rows {
            for column in 0..band.bands.geometry.output[1] {
                // SAFETY: a pixel of the band, and the same one of the residual; sizes were checked.
                unsafe {
                    let at = band.bands.y.as_mut_ptr().add(band.output::<S>(row, column));
                    let added = epilogue.residual.map(|residual| {
                        let p = residual.data.as_ptr().add(band.pixel(row, column) * residual.stride + first);
                        E::load_first(simd, p, channels)
                    });
                    let after = epilogue.residual.is_some_and(|residual| residual.after_activation);
                    let mut y = E::load_first(simd, at, channels);
                    if let (Some(added), false) = (added, after) {
                        y = simd.add(y, added);
                    }
                    y = match epilogue.activation {
                        Activation::PRelu => activation::apply_prelu(simd, y, slope),
                        other => activation::apply(simd, other, y),
                    };
                    if let (Some(added), true) = (added, after) {
                        y = simd.add(y, added);
                    }
                    E::store_first(simd, at, y, channels);
                }
            }
        }
    }
}
