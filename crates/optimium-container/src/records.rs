//! What `graph.json` holds.

use std::borrow::Cow;

use optimium_graph::{Operator, Origins, ValueType};
use optimium_tensor::{ElementType, Error, QuantParam, QuantScheme, Result, TensorShape};
use serde::{Deserialize, Serialize};

/// The whole file. Graph 0 is the model; the others are bodies of operators.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GraphFile<'a> {
    /// The files of weights, by which constants name them.
    pub(crate) weights: Vec<WeightsRecord>,
    /// Quantization schemes, by which values and constants name them.
    #[serde(default)]
    pub(crate) schemes: Vec<SchemeRecord>,
    /// A body comes after the graph that it is used in.
    pub(crate) graphs: Vec<GraphRecord<'a>>,
}

/// A file of weights.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct WeightsRecord {
    /// Its name.
    pub(crate) file: String,
    /// SHA-256 of what follows its header, in hexadecimal digits.
    pub(crate) content: String,
}

/// A quantization scheme, its parameters as two lists.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct SchemeRecord {
    /// The axis of a per-channel scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    axis: Option<usize>,
    /// One scale, or one a channel.
    scales: Vec<f32>,
    /// As many zero points; none where all are zero.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    zero_points: Vec<i32>,
}

impl SchemeRecord {
    /// The record of a scheme.
    pub(crate) fn of(scheme: &QuantScheme) -> SchemeRecord {
        let symmetric = scheme.params().iter().all(|param| param.zero_point == 0);
        let with_zero_points = if symmetric { &[] } else { scheme.params() };
        SchemeRecord {
            axis: scheme.axis(),
            scales: scheme.params().iter().map(|param| param.scale).collect(),
            zero_points: with_zero_points.iter().map(|param| param.zero_point).collect(),
        }
    }

    /// The scheme of the record.
    ///
    /// # Errors
    /// `Container` where the numbers of scales and zero points fit neither each other nor the kind of scheme.
    pub(crate) fn scheme(&self) -> Result<QuantScheme> {
        let (scales, zero_points) = (self.scales.len(), self.zero_points.len());
        if scales == 0 || ![0, scales].contains(&zero_points) || (self.axis.is_none() && scales != 1) {
            return Err(Error::container(format!(
                "{scales} scales and {zero_points} zero points are no scheme with axis {:?}",
                self.axis
            )));
        }
        let zero_point = |index: usize| self.zero_points.get(index).copied().unwrap_or(0);
        match self.axis {
            None => Ok(QuantScheme::per_tensor(self.scales[0], zero_point(0))),
            Some(axis) => {
                let param = |(index, &scale)| QuantParam { scale, zero_point: zero_point(index) };
                QuantScheme::per_channel(axis, self.scales.iter().enumerate().map(param).collect())
            }
        }
    }
}

/// One graph.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct GraphRecord<'a> {
    /// Its name.
    pub(crate) name: Cow<'a, str>,
    /// Its values; everything else names them by their place.
    pub(crate) values: Vec<ValueRecord<'a>>,
    /// Its nodes, producers before consumers.
    pub(crate) nodes: Vec<NodeRecord<'a>>,
    /// What the caller gives.
    pub(crate) inputs: Vec<usize>,
    /// What the caller gets.
    pub(crate) outputs: Vec<usize>,
    /// What became of the tensors of the model that was converted: for people who ask for one, and of no consequence otherwise.
    #[serde(default, skip_serializing_if = "Origins::is_empty")]
    pub(crate) origins: Cow<'a, Origins>,
}

/// One value.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ValueRecord<'a> {
    /// Its name.
    pub(crate) name: Cow<'a, str>,
    /// Its type.
    #[serde(rename = "type")]
    pub(crate) value_type: TypeRecord,
    /// Its scheme, by place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<usize>,
    /// Its content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) constant: Option<ConstantRecord>,
}

/// A type, flat: the containers from the outermost in, then the tensor inside; nothing inside is an unknown type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TypeRecord {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    element: Option<ElementType>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    shape: Option<TensorShape>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Container {
    Sequence,
    Optional,
}

impl TypeRecord {
    /// The record of a type.
    pub(crate) fn of(value_type: &ValueType) -> TypeRecord {
        let mut containers = Vec::new();
        let mut inner = value_type;
        loop {
            inner = match inner {
                ValueType::Sequence(next) => {
                    containers.push(Container::Sequence);
                    next
                }
                ValueType::Optional(next) => {
                    containers.push(Container::Optional);
                    next
                }
                ValueType::Tensor { element_type, shape } => {
                    return TypeRecord { containers, element: Some(*element_type), shape: shape.clone() };
                }
                ValueType::Unknown => return TypeRecord { containers, element: None, shape: None },
            };
        }
    }

    /// Number of containers around the tensor.
    pub(crate) fn nesting(&self) -> usize {
        self.containers.len()
    }

    /// The type of the record.
    pub(crate) fn value_type(&self) -> ValueType {
        let inner = match self.element {
            Some(element_type) => ValueType::Tensor { element_type, shape: self.shape.clone() },
            None => ValueType::Unknown,
        };
        self.containers.iter().rev().fold(inner, |inner, container| match container {
            Container::Sequence => ValueType::Sequence(Box::new(inner)),
            Container::Optional => ValueType::Optional(Box::new(inner)),
        })
    }
}

/// The content of a constant.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ConstantRecord {
    /// The type of its elements.
    #[serde(rename = "type")]
    pub(crate) element_type: ElementType,
    /// Its dimensions.
    pub(crate) dims: Vec<usize>,
    /// Its scheme, by place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scheme: Option<usize>,
    /// Its elements.
    pub(crate) data: Data,
}

/// Where the elements of a constant are; numbers are little-endian.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Data {
    /// Here, as hexadecimal digits.
    Inline(String),
    /// Here, as text.
    Strings(Vec<String>),
    /// In a file of weights.
    Stored {
        /// Which one, by place.
        file: usize,
        /// From the beginning of the file, a multiple of 64.
        offset: u64,
        /// Number of bytes.
        bytes: u64,
    },
}

/// One node.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct NodeRecord<'a> {
    /// Its name.
    pub(crate) name: Cow<'a, str>,
    /// What it does.
    pub(crate) operator: Cow<'a, Operator>,
    /// Its operands.
    pub(crate) inputs: Vec<Option<usize>>,
    /// Its results.
    pub(crate) outputs: Vec<Option<usize>>,
    /// The operator's bodies, by their place among the graphs, in the order of [`bodies`](crate::check::bodies).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) bodies: Vec<usize>,
}

#[cfg(test)]
mod tests {
    use optimium_tensor::Expr;

    use super::*;

    #[test]
    fn schemes_survive() {
        let channels = |zero_point| {
            let params = (1..4).map(|i| QuantParam { scale: 0.1 * i as f32, zero_point: zero_point * i });
            QuantScheme::per_channel(2, params.collect()).unwrap()
        };
        for scheme in
            [QuantScheme::per_tensor(0.3, 0), QuantScheme::per_tensor(1e-9, -128), channels(0), channels(7)]
        {
            let text = serde_json::to_string(&SchemeRecord::of(&scheme)).unwrap();
            let read: SchemeRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(read.scheme().unwrap(), scheme, "{text}");
        }
    }

    #[test]
    fn types_survive() {
        let tensor = |shape| ValueType::Tensor { element_type: ElementType::F32, shape };
        let shape = TensorShape::new(vec![Expr::symbol("n"), 3i64.into()]);
        for value_type in [
            ValueType::Unknown,
            tensor(None),
            tensor(Some(shape.clone())),
            ValueType::Sequence(Box::new(tensor(Some(shape)))),
            ValueType::Optional(Box::new(ValueType::Sequence(Box::new(ValueType::Unknown)))),
        ] {
            let text = serde_json::to_string(&TypeRecord::of(&value_type)).unwrap();
            let read: TypeRecord = serde_json::from_str(&text).unwrap();
            assert_eq!(read.value_type(), value_type, "{text}");
        }
    }
}
