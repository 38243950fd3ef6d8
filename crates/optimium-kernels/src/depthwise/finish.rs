//! The epilogue of a depthwise convolution.

use optimium_simd::Simd;

use super::band::Band;
use super::tile::load_channels;
use crate::activation::{self, Activation};
use crate::epilogue::Epilogue;

/// What a tile does to its sums when it stores them.
#[derive(Clone, Copy)]
pub(super) struct Store {
    function: Function,
    /// Whether nothing of the epilogue is left for [`Finish`].
    pub(super) complete: bool,
}

/// The activations that take few instructions.
#[derive(Clone, Copy)]
enum Function {
    None,
    Clamp { low: f32, high: f32 },
    HardSwish,
}

impl Store {
    /// A cheap activation is applied in the store where it is all that there is; anything else afterwards.
    #[inline(always)]
    pub(super) fn new(epilogue: &Epilogue<'_>) -> Store {
        let alone = epilogue.residual.is_none();
        let function = match epilogue.activation {
            Activation::None => Some(Function::None),
            Activation::Relu => Some(Function::Clamp { low: 0.0, high: f32::INFINITY }),
            Activation::Clip { low, high } => Some(Function::Clamp { low, high }),
            Activation::HardSwish => Some(Function::HardSwish),
            _ => None,
        };
        let function = function.filter(|_| alone);
        Store { complete: function.is_some(), function: function.unwrap_or(Function::None) }
    }

    /// # Safety
    /// `channels` elements are writable at `to`.
    #[inline(always)]
    pub(super) unsafe fn put<S: Simd>(self, simd: S, sum: S::F32, to: *mut f32, channels: usize) {
        let y = match self.function {
            Function::None => sum,
            Function::Clamp { low, high } => simd.min(simd.splat(high), simd.max(simd.splat(low), sum)),
            Function::HardSwish => activation::apply(simd, Activation::HardSwish, sum),
        };
        // SAFETY: by the caller's promise.
        unsafe {
            if channels >= S::LANES {
                simd.store(to, y)
            } else {
                simd.store_masked(to, y, simd.first(channels))
            }
        }
    }
}

/// The rest of the epilogue, over a band that was just written.
pub(super) struct Finish<'a> {
    pub(super) band: &'a Band<'a>,
}

impl Finish<'_> {
    /// Applies residual and activation in place.
    #[inline(always)]
    pub(super) fn run<S: Simd>(self, simd: S) {
        let band = self.band;
        let epilogue = band.bands.epilogue;
        let channels = band.channels::<S>();
        let first = band.first::<S>();
        let mask = simd.first(channels);
        let slope = match epilogue.slope {
            // SAFETY: one value a channel, checked at entry.
            Some(slope) => unsafe { load_channels(simd, slope.as_ptr().add(first), channels) },
            None => simd.splat(0.0),
        };
        for row in 0..band.rows {
            for column in 0..band.bands.geometry.output[1] {
                // SAFETY: a pixel of the band, and the same one of the residual; sizes were checked.
                unsafe {
                    let at = band.bands.y.as_mut_ptr().add(band.output::<S>(row, column));
                    let added = epilogue.residual.map(|residual| {
                        let p = residual.data.as_ptr().add(band.pixel(row, column) * residual.stride + first);
                        load_channels(simd, p, channels)
                    });
                    let after = epilogue.residual.is_some_and(|residual| residual.after_activation);
                    let mut y = load_channels(simd, at, channels);
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
                    simd.store_masked(at, y, mask);
                }
            }
        }
    }
}
