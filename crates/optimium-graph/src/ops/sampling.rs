//! Operators that read images between their pixels. Channels are the second axis.

use serde::{Deserialize, Serialize};

/// How values between pixels come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SampleMode {
    /// The nearest pixel, that of an even index where two are.
    Nearest,
    /// Multilinear.
    Linear,
    /// Cubic convolution with a coefficient of -3/4.
    Cubic,
}

/// What lies outside of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SamplePadding {
    /// Zeros.
    Zeros,
    /// The pixels at the border.
    Border,
    /// The image mirrored.
    Reflection,
}

/// Inputs: x `[n, channels, spatial…]`, grid `[n, output…, dimensions]`: coordinates from -1 to 1, that of the last dimension first.
/// Output: `[n, channels, output…]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridSample {
    /// How values between pixels come about.
    pub mode: SampleMode,
    /// What lies outside of an image.
    pub padding: SamplePadding,
    /// Whether -1 and 1 are the centres of the first and last pixels instead of their outer edges.
    pub align_corners: bool,
}

/// Inputs: x `[n, channels, height, width]`, regions `[m, 4]` (left, top, right, bottom), their images (I64 `[m]`).
/// Output: `[m, channels, rows, columns]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoiAlign {
    /// Whether the largest of the weighted pixels is taken instead of the mean of samples.
    pub max: bool,
    /// Whether pixels are areas around their positions, rather than points.
    pub half_pixel: bool,
    /// Rows of the output.
    pub rows: usize,
    /// Columns of the output.
    pub columns: usize,
    /// Samples along each side of a bin; 0 for as many as there are pixels.
    pub samples: usize,
    /// What coordinates of regions are multiplied with.
    pub scale: f32,
}

/// Inputs: x `[n, channels, height, width]`, offsets `[n, groups · taps · 2, rows, columns]`, mask `[n, groups · taps, rows, columns]`
/// or none. Output: `[n, channels · taps, rows · columns]`, what each tap of a convolution reads, moved by its offset and
/// multiplied with the mask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeformableColumns {
    /// Rows and columns of taps.
    pub kernel: [usize; 2],
    /// Distance of outputs.
    pub strides: [usize; 2],
    /// Distance of taps.
    pub dilations: [usize; 2],
    /// Padding before the image.
    pub padding: [usize; 2],
    /// Groups of channels, each with offsets of its own.
    pub groups: usize,
}
