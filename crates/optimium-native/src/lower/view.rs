//! A node with what lowering asks of its graph.

use std::fmt::Display;
use std::ops::Deref;
use std::sync::Arc;

use optimium_device::Precision;
use optimium_graph::{Graph, Node, ValueId};
use optimium_kernels::Packing;
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, ReadGuard, Result, Tensor, TensorShape};

use super::choice::Chooser;

/// A node to be lowered.
#[derive(Clone, Copy)]
pub(crate) struct NodeView<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) node: &'a Node,
    pub(crate) level: Level,
    pub(crate) precision: Precision,
    /// Where its packed weights come from.
    pub(crate) packing: &'a Packing<'a>,
    /// Who chooses where there are several ways.
    pub(crate) chooser: &'a Chooser,
}

/// Weights as `f32`, which are read only where somebody looks at them.
pub(crate) enum Weights<'a> {
    /// In the constant itself.
    InPlace(ReadGuard<'a, f32>),
    /// Converted from another type.
    Converted(Vec<f32>),
}

impl Deref for Weights<'_> {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        match self {
            Weights::InPlace(elements) => elements,
            Weights::Converted(elements) => elements,
        }
    }
}

impl<'a> NodeView<'a> {
    fn given(&self, index: usize) -> Result<ValueId> {
        self.node.input(index).ok_or_else(|| Error::model(format!("input {index} is missing")))
    }

    /// Whether factors may be bfloat16, and the level multiplies them fast.
    pub(crate) fn prefers_bf16(&self) -> bool {
        self.precision == Precision::Bf16 && self.level.has_bf16()
    }

    /// The way to compute the node: the one of `candidates` that was chosen before, or else the one of the lowest cost. `problem`
    /// says what is computed, in which sizes; what follows from the options is added to it.
    ///
    /// # Panics
    /// Where there is no candidate.
    pub(crate) fn choose<C: Display + Clone + Send + Sync + 'static>(
        &self,
        problem: impl Fn() -> String + Send + Sync + 'static,
        candidates: Vec<(C, f64)>,
    ) -> C {
        let (level, precision) = (self.level, self.precision.name());
        self.chooser.choose(move || format!("{}, {level}, {precision}", problem()), candidates)
    }

    /// Whether input `index` is there.
    pub(crate) fn has_input(&self, index: usize) -> bool {
        self.node.input(index).is_some()
    }

    /// The element type of input `index`.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where it is left out or unknown.
    pub(crate) fn input_type(&self, index: usize) -> Result<ElementType> {
        let value = self.graph.value(self.given(index)?);
        value
            .element_type()
            .ok_or_else(|| Error::not_implemented(format!("{:?} is not a tensor", value.name)))
    }

    /// The element type of output `index`.
    ///
    /// # Errors
    /// As [`input_type`](Self::input_type).
    pub(crate) fn output_type(&self, index: usize) -> Result<ElementType> {
        let id = self.node.output(index).ok_or_else(|| Error::model(format!("output {index} is missing")))?;
        let value = self.graph.value(id);
        value
            .element_type()
            .ok_or_else(|| Error::not_implemented(format!("{:?} is not a tensor", value.name)))
    }

    /// The symbolic shape of input `index`.
    ///
    /// # Errors
    /// As [`input_type`](Self::input_type).
    pub(crate) fn input_shape(&self, index: usize) -> Result<&'a TensorShape> {
        let value = self.graph.value(self.given(index)?);
        value.shape().ok_or_else(|| Error::model(format!("the shape of {:?} is not known", value.name)))
    }

    /// The symbolic shape of output `index`.
    ///
    /// # Errors
    /// As [`input_type`](Self::input_type).
    pub(crate) fn output_shape(&self, index: usize) -> Result<&'a TensorShape> {
        let id = self.node.output(index).ok_or_else(|| Error::model(format!("output {index} is missing")))?;
        let value = self.graph.value(id);
        value.shape().ok_or_else(|| Error::model(format!("the shape of {:?} is not known", value.name)))
    }

    /// The content of input `index`, where it is a constant.
    pub(crate) fn constant(&self, index: usize) -> Option<&'a Tensor> {
        self.graph.constant(self.node.input(index)?)
    }

    /// The content of input `index`, where it is a constant of floats.
    ///
    /// # Errors
    /// [`Type`](optimium_tensor::ErrorKind::Type) where it is one of something else.
    pub(crate) fn floats(&self, index: usize) -> Result<Option<Arc<[f32]>>> {
        self.constant(index).map(|tensor| tensor.to_f32s().map(Arc::from)).transpose()
    }

    /// The content of input `index`, where it is a constant of floats, without a copy where they are `f32`.
    ///
    /// # Errors
    /// As [`floats`](Self::floats).
    pub(crate) fn weights(&self, index: usize) -> Result<Option<Weights<'a>>> {
        let Some(tensor) = self.constant(index) else { return Ok(None) };
        if tensor.element_type().storage() == ElementType::F32 {
            return Ok(Some(Weights::InPlace(tensor.read::<f32>()?)));
        }
        tensor.to_f32s().map(|elements| Some(Weights::Converted(elements)))
    }

    /// `axis` of input 0, counted from the start.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where there is no such axis.
    pub(crate) fn axis(&self, axis: i64) -> Result<usize> {
        normalize_axis(axis, self.input_shape(0)?.rank())
    }

    /// Whether a tensor of it is quantized and its operator is not one that goes between reals and quantized tensors, or moves
    /// elements whatever they are.
    pub(crate) fn is_quantized(&self) -> bool {
        use optimium_graph::Operator::*;
        let moves = matches!(
            self.node.op,
            Identity
                | Reshape(_)
                | Flatten(_)
                | Squeeze(_)
                | Unsqueeze(_)
                | Transpose(_)
                | Expand(_)
                | Tile(_)
                | Split(_)
                | Slice(_)
                | Gather(_)
                | GatherElements(_)
                | GatherNd(_)
                | DepthToSpace(_)
                | SpaceToDepth(_)
                | QuantizeLinear(_)
                | DequantizeLinear(_)
                | MatMulInteger(_)
                | DynamicQuantizedMatMul(_)
        );
        let quantized =
            |id: &ValueId| self.graph.value(*id).element_type().is_some_and(ElementType::is_quantized);
        !moves && self.node.inputs.iter().chain(&self.node.outputs).flatten().any(quantized)
    }
}

/// `axis`, negative ones counted from the end, as an index below `rank`.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where there is no such axis.
pub(crate) fn normalize_axis(axis: i64, rank: usize) -> Result<usize> {
    let from_start = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    usize::try_from(from_start)
        .ok()
        .filter(|&axis| axis < rank)
        .ok_or_else(|| Error::model(format!("there is no axis {axis} in {rank} dimensions")))
}

/// The error for an element type that no kernel takes.
pub(crate) fn unsupported_type(element_type: ElementType) -> Error {
    Error::not_implemented(format!("element type {element_type}"))
}
