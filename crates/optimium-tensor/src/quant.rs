//! How quantized integers stand for real numbers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// `real = scale · (stored - zero_point)`
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantParam {
    /// Real distance of two neighbouring stored values.
    pub scale: f32,
    /// The stored value of real zero.
    pub zero_point: i32,
}

/// The quantization of a tensor: one parameter pair for all, or one for each index of an axis.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuantScheme {
    axis: Option<usize>,
    params: Vec<QuantParam>,
}

impl QuantScheme {
    /// One scale and zero point for the whole tensor.
    pub fn per_tensor(scale: f32, zero_point: i32) -> Self {
        Self { axis: None, params: vec![QuantParam { scale, zero_point }] }
    }

    /// One scale and zero point for each index of `axis`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`](crate::ErrorKind::InvalidArgument) where there are none.
    pub fn per_channel(axis: usize, params: Vec<QuantParam>) -> Result<Self> {
        if params.is_empty() {
            return Err(Error::invalid_argument(
                "a per-channel quantization scheme needs at least one channel",
            ));
        }
        Ok(Self { axis: Some(axis), params })
    }

    /// The axis of a per-channel scheme.
    pub fn axis(&self) -> Option<usize> {
        self.axis
    }

    /// The same parameters along another axis: what a transpose does to a scheme.
    #[must_use]
    pub fn with_axis(mut self, axis: usize) -> Self {
        if self.axis.is_some() {
            self.axis = Some(axis);
        }
        self
    }

    /// The parameters: one, or one a channel.
    pub fn params(&self) -> &[QuantParam] {
        &self.params
    }

    /// The parameters of channel `index`; those of a per-tensor scheme for every index.
    pub fn param(&self, index: usize) -> Option<QuantParam> {
        if self.axis.is_none() { self.params.first().copied() } else { self.params.get(index).copied() }
    }
}

impl fmt::Display for QuantScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.axis {
            None => write!(
                f,
                "per tensor, scale {}, zero point {}",
                self.params[0].scale, self.params[0].zero_point
            ),
            Some(axis) => write!(f, "per channel on axis {axis}, {} channels", self.params.len()),
        }
    }
}
