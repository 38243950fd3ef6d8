//! What simplification made of the tensors of a model, by the names that its author gave them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where a tensor of the model as it was read is now. Tensors that a value of the same name holds as they were are not in the list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A value holds it.
    Held {
        /// The name of the value.
        value: String,
        /// The axis of the value that each axis of the tensor is; none where all are the same.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        permutation: Vec<usize>,
    },
    /// It is computed on the way to another tensor of the model, and not kept.
    Fused {
        /// The name of the other tensor.
        into: String,
    },
}

/// The tensors of a model that are not values of the same name any more.
pub type Origins = BTreeMap<String, Origin>;
