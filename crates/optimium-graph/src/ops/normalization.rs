//! Operators that bring values to a scale.

use serde::{Deserialize, Serialize};

use super::ImageLayout;

/// Input: x. Output: `exp(x) / Σ exp(x)` along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Softmax {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// Whether the logarithm is wanted.
    #[serde(default)]
    pub log: bool,
    /// Whether all axes from `axis` on are one (the meaning before opset 13).
    #[serde(default)]
    pub flatten: bool,
}

/// Inputs: x, scale, bias or none (shaped as the normalized axes). Outputs: y, mean, inverse standard deviation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerNormalization {
    /// The first normalized axis; all after it are too. Negative counts from the end.
    pub axis: i64,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Inputs: x, scale. Output: `x / √(mean(x²) + epsilon) · scale`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RmsNormalization {
    /// The first normalized axis; negative counts from the end.
    pub axis: i64,
    /// Added to the mean square.
    pub epsilon: f32,
}

/// Inputs: x, scale, bias, mean, variance (one a channel). Output: y. Folded into convolutions by simplification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchNormalization {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Inputs: x, scale, bias (one a channel). Output: y, normalized over the spatial dimensions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceNormalization {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Inputs: x, scale, bias (one a channel). Output: y, normalized over groups of channels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupNormalization {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Number of groups.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// Input: x. Output: `x / ‖x‖ₚ` along an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LpNormalization {
    /// The axis; negative counts from the end.
    pub axis: i64,
    /// 1 or 2.
    pub p: u32,
}

/// Input: x. Output: x over a power of the local sum of squares across channels (AlexNet).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LocalResponseNormalization {
    /// Where the channels are.
    #[serde(default)]
    pub layout: ImageLayout,
    /// Number of channels summed.
    pub size: usize,
    /// Factor of the sum.
    pub alpha: f32,
    /// The power.
    pub beta: f32,
    /// Added before the power.
    pub bias: f32,
}
