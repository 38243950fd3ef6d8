//! From output positions to input positions.

use super::{Coordinates, NearestMode};

/// One axis of a resize.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scaling {
    pub(super) coordinates: Coordinates,
    pub(super) input: usize,
    pub(super) output: usize,
    pub(super) scale: f32,
    pub(super) region: (f32, f32),
}

impl Scaling {
    /// Where output position `x` lies in the input. In `f32`, as the other runtimes do: halves must round
    /// alike.
    pub(super) fn position(&self, x: usize) -> f32 {
        let Scaling { input, output, scale, region: (start, end), .. } = *self;
        let (x, last) = (x as f32, input as f32 - 1.0);
        let half_pixel = (x + 0.5) / scale - 0.5;
        match self.coordinates {
            Coordinates::HalfPixel => half_pixel,
            Coordinates::HalfPixelSymmetric => {
                let adjustment = output as f32 / (scale * input as f32);
                input as f32 / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
            Coordinates::PytorchHalfPixel => {
                if output > 1 {
                    half_pixel
                } else {
                    0.0
                }
            }
            Coordinates::AlignCorners => {
                if output > 1 {
                    x * last / (output as f32 - 1.0)
                } else {
                    0.0
                }
            }
            Coordinates::Asymmetric => x / scale,
            Coordinates::TfHalfPixelForNn => (x + 0.5) / scale,
            Coordinates::TfCropAndResize => {
                if output > 1 {
                    start * last + x * (end - start) * last / (output as f32 - 1.0)
                } else {
                    0.5 * (start + end) * last
                }
            }
        }
    }

    /// Whether that input position is beyond what a region of interest may read.
    pub(super) fn is_outside(&self, position: f32) -> bool {
        self.coordinates == Coordinates::TfCropAndResize
            && (position < 0.0 || position > self.input as f32 - 1.0)
    }
}

impl NearestMode {
    pub(super) fn round(self, position: f32) -> f32 {
        match self {
            NearestMode::RoundPreferFloor => (position - 0.5).ceil(),
            NearestMode::RoundPreferCeil => (position + 0.5).floor(),
            NearestMode::Floor => position.floor(),
            NearestMode::Ceil => position.ceil(),
        }
    }
}
