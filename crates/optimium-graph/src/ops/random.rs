//! Random numbers.

use optimium_tensor::{ElementType, Expr};
use serde::{Deserialize, Serialize};

/// Input: shape (I64) where `dims` is `None`. Output: numbers that are drawn independently of each other, F32 or F64.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Random {
    /// The dimensions, once shape inference found them.
    pub dims: Option<Vec<Expr>>,
    /// The element type.
    pub element_type: ElementType,
    /// What is drawn from.
    pub distribution: Distribution,
    /// Every inference draws the same numbers from the same seed; others each time where there is none.
    pub seed: Option<u32>,
}

/// What random numbers are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Distribution {
    /// All numbers from `low` on and below `high` are equally likely.
    Uniform {
        /// The least number.
        low: f32,
        /// What they stay below.
        high: f32,
    },
    /// A Gaussian one.
    Normal {
        /// Its mean.
        mean: f32,
        /// Its standard deviation.
        deviation: f32,
    },
}

impl Distribution {
    /// The name of the operator that draws from it.
    pub fn name(self) -> &'static str {
        match self {
            Distribution::Uniform { .. } => "RandomUniform",
            Distribution::Normal { .. } => "RandomNormal",
        }
    }
}
