//! Operators on images: convolutions, pools, resizing.

use serde::{Deserialize, Serialize};

use super::{Fusion, Reduction};

/// Where the channels of images are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImageLayout {
    /// `[batch, channels, spatial…]`
    #[default]
    ChannelsFirst,
    /// `[batch, spatial…, channels]`
    ChannelsLast,
}

impl ImageLayout {
    /// The axis of the channels of a tensor of `rank` dimensions.
    pub fn channel_axis(self, rank: usize) -> usize {
        match self {
            ImageLayout::ChannelsFirst => 1,
            ImageLayout::ChannelsLast => rank.saturating_sub(1),
        }
    }

    /// The axis of spatial dimension `index`.
    pub fn spatial_axis(self, index: usize) -> usize {
        match self {
            ImageLayout::ChannelsFirst => index + 2,
            ImageLayout::ChannelsLast => index + 1,
        }
    }
}

/// How an image is extended at its borders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Padding {
    /// So many elements before and after each spatial dimension.
    Explicit {
        /// Before each.
        begin: Vec<usize>,
        /// After each.
        end: Vec<usize>,
    },
    /// Output size = ⌈input size / stride⌉, an odd element of padding after.
    SameUpper,
    /// Output size = ⌈input size / stride⌉, an odd element of padding before.
    SameLower,
    /// None.
    Valid,
}

/// Inputs: x, weights `[output channels, input channels / groups, kernel…]`, bias `[output channels]` or none,
/// residual (shaped as the output) or none, slope `[output channels]` or none. Output: y.
///
/// Any number of spatial dimensions; every list has one entry for each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Conv {
    /// Where the channels of x and y are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Distance of neighbouring windows.
    pub strides: Vec<usize>,
    /// Distance of neighbouring taps of a window.
    pub dilations: Vec<usize>,
    /// Number of groups of channels.
    pub groups: usize,
    /// Padding with zeros.
    pub padding: Padding,
    /// What happens to y before it is stored.
    #[serde(default)]
    pub fusion: Fusion,
}

/// Inputs: x (8-bit), weights (8-bit), x zero point or none, weight zero point or none. Output: I32.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvInteger {
    /// The geometry, without fusion.
    pub conv: Conv,
}

/// Inputs as [`Conv`], the weights as `[input channels, output channels / groups, kernel…]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvTranspose {
    /// Where the channels of x and y are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Distance of neighbouring windows in y.
    pub strides: Vec<usize>,
    /// Distance of neighbouring taps of a window.
    pub dilations: Vec<usize>,
    /// Number of groups of channels.
    pub groups: usize,
    /// What is cut off the borders of y.
    pub padding: Padding,
    /// Rows added at the end of each spatial dimension of y.
    pub output_padding: Vec<usize>,
    /// The spatial size of y, where the model gives it; it then determines the padding.
    pub output_shape: Option<Vec<usize>>,
    /// What happens to y before it is stored.
    #[serde(default)]
    pub fusion: Fusion,
}

/// The windows of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolWindow {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Size of a window.
    pub kernel: Vec<usize>,
    /// Distance of neighbouring windows.
    pub strides: Vec<usize>,
    /// Distance of neighbouring elements of a window.
    pub dilations: Vec<usize>,
    /// Padding that takes no part in the result.
    pub padding: Padding,
    /// Whether a window may begin inside and end outside of the padded image.
    pub ceil_mode: bool,
}

/// Input: x. Outputs: y, and the flat indices of the maxima (I64) where wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaxPool {
    /// The windows.
    pub window: PoolWindow,
    /// Whether indices count the last spatial dimension slowest.
    #[serde(default)]
    pub column_major: bool,
}

/// Input: x. Output: y.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AveragePool {
    /// The windows.
    pub window: PoolWindow,
    /// Whether padding counts as zeros.
    pub count_include_pad: bool,
}

/// Input: x. Output: y, the p-norm of each window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LpPool {
    /// The windows.
    pub window: PoolWindow,
    /// The norm's exponent.
    pub p: u32,
}

/// Input: x. Output: x with every spatial dimension reduced to one. Simplification turns it into a
/// [`Reduce`](super::Reduce).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalPool {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// [`Reduction::Mean`], [`Reduction::Max`], or [`Reduction::L2`] and [`Reduction::L1`] of GlobalLpPool.
    pub reduction: Reduction,
}

impl GlobalPool {
    /// Its name as ONNX writes it.
    pub fn name(&self) -> &'static str {
        match self.reduction {
            Reduction::Mean => "GlobalAveragePool",
            Reduction::Max => "GlobalMaxPool",
            _ => "GlobalLpPool",
        }
    }
}

/// How resizing interpolates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeMode {
    /// The nearest element.
    Nearest(NearestMode),
    /// Multilinear.
    Linear,
    /// Cubic convolution with that coefficient.
    Cubic(f32),
}

/// Which element is nearest to a position between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NearestMode {
    /// Halves go down.
    RoundPreferFloor,
    /// Halves go up.
    RoundPreferCeil,
    /// The one before.
    Floor,
    /// The one after.
    Ceil,
}

/// How a position of the output corresponds to one of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CoordinateMode {
    /// Centres of pixels.
    HalfPixel,
    /// Centres, with the whole image centred where sizes were rounded.
    HalfPixelSymmetric,
    /// Centres, but position 0 for an output of one element.
    PytorchHalfPixel,
    /// First and last elements coincide.
    AlignCorners,
    /// Left edges of pixels.
    Asymmetric,
    /// Centres of the output, edges of the input.
    TfHalfPixelForNn,
    /// A region of interest, given as an input.
    TfCropAndResize,
}

/// Inputs: x, roi or none, scales or none, sizes or none (as ONNX's Resize). Output: y.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Resize {
    /// The axes that scales and sizes speak of; all where there are none.
    pub axes: Option<Vec<i64>>,
    /// How values are interpolated.
    pub mode: ResizeMode,
    /// How positions correspond.
    pub coordinates: CoordinateMode,
    /// Whether weights of a cubic kernel outside of the image are dropped.
    pub exclude_outside: bool,
    /// The value outside of the region of interest.
    pub extrapolation_value: f32,
    /// Whether shrinking filters.
    pub antialias: bool,
    /// Whether sizes are bounds: 0 no, 1 not larger, 2 not smaller.
    #[serde(default)]
    pub keep_aspect_ratio: u8,
}
