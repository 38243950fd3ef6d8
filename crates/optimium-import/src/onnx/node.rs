//! What the reader functions of operators work with.

use optimium_graph::ops::{Activation, Binary, Comparison, Operator, Unary};
use optimium_graph::{Node, ValueId};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::attributes::Attributes;
use super::importer::Importer;
use super::level::{Body, Level, Structure};
use super::proto::{GraphProto, SparseTensorProto, TensorProto};

/// One node of a model while it is read, and the graph that it becomes a part of.
pub(super) struct NodeReader<'r, 'm> {
    importer: &'r mut Importer<'m>,
    name: String,
    name_is_used: bool,
    /// The operator's name in the model.
    pub(super) op_type: &'m str,
    /// The version of the operators that the model is written in.
    pub(super) opset: i64,
    /// The operands.
    pub(super) inputs: Vec<Option<ValueId>>,
    /// The results.
    pub(super) outputs: Vec<Option<ValueId>>,
    /// The attributes.
    pub(super) attributes: Attributes<'m>,
}

impl<'r, 'm> NodeReader<'r, 'm> {
    pub(super) fn new(
        importer: &'r mut Importer<'m>,
        name: &str,
        op_type: &'m str,
        opset: i64,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
        attributes: Attributes<'m>,
    ) -> NodeReader<'r, 'm> {
        NodeReader {
            importer,
            name: name.to_owned(),
            name_is_used: false,
            op_type,
            opset,
            inputs,
            outputs,
            attributes,
        }
    }

    fn level(&mut self) -> &mut Level<'m> {
        self.importer.level()
    }

    /// Input `index`, where it is there.
    pub(super) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Input `index`, which has to be there.
    pub(super) fn required(&self, index: usize) -> Result<ValueId> {
        self.input(index).ok_or_else(|| Error::model(format!("its input {index} is missing")))
    }

    /// Output `index`, where it is wanted.
    pub(super) fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }

    /// The content of a constant.
    pub(super) fn constant(&mut self, value: ValueId) -> Option<Tensor> {
        self.level().graph.constant(value).cloned()
    }

    /// The content of a constant, or of a copy of one.
    pub(super) fn known(&mut self, value: ValueId) -> Option<Tensor> {
        self.level().known(value).cloned()
    }

    /// What a condition is, where that is known.
    pub(super) fn truth(&mut self, condition: ValueId) -> Option<bool> {
        self.level().truth(condition)
    }

    /// The dimensions that follow from the nodes so far, those that are numbers.
    pub(super) fn inferred_dims(&mut self, value: ValueId) -> Option<Vec<Option<i64>>> {
        self.level().inferred_dims(value)
    }

    /// What a value stands for that is no tensor.
    pub(super) fn structure(&mut self, value: ValueId) -> Option<Structure> {
        self.level().structures.get(&value).cloned()
    }

    /// The tensors of input `index`, a sequence.
    pub(super) fn sequence(&mut self, index: usize) -> Result<Vec<ValueId>> {
        let value = self.required(index)?;
        match self.structure(value) {
            Some(Structure::Sequence(values)) => Ok(values),
            Some(Structure::Absent) => Err(Error::model("it reads an optional without a value")),
            None => unsupported("a sequence of unknown length"),
        }
    }

    /// Says what output `index` stands for, where it is wanted.
    pub(super) fn finish_structure(&mut self, index: usize, structure: Structure) {
        if let Some(output) = self.output(index) {
            self.level().structures.insert(output, structure);
        }
    }

    /// The element type, where it is known.
    pub(super) fn element_type(&mut self, value: ValueId) -> Option<ElementType> {
        self.level().element_type(value)
    }

    /// The number of dimensions, where it is known.
    pub(super) fn rank(&mut self, value: ValueId) -> Option<usize> {
        self.level().rank(value)
    }

    /// The size of a dimension, where it is known and a number.
    pub(super) fn known_size(&mut self, value: ValueId, axis: usize) -> Option<i64> {
        self.level().graph.value(value).shape()?.dims().get(axis)?.as_const()
    }

    /// The size of the last dimension, where it is known and a number.
    pub(super) fn last_size(&mut self, value: ValueId) -> Option<i64> {
        self.level().graph.value(value).shape()?.dims().last()?.as_const()
    }

    /// Reads the nodes of a graph of an attribute in place of this one, and gives its outputs.
    pub(super) fn inline(&mut self, graph: &'m GraphProto, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        self.importer.inline_graph(graph, &self.name, inputs)
    }

    /// The dimensions of a constant.
    pub(super) fn constant_dims(&mut self, value: ValueId) -> Option<Vec<usize>> {
        self.level().graph.value(value).shape().and_then(|shape| shape.as_fixed())
    }

    /// The tensor of an attribute.
    pub(super) fn tensor(&mut self, proto: &'m TensorProto) -> Result<Tensor> {
        self.importer.tensor(proto)
    }

    /// The sparse tensor of an attribute.
    pub(super) fn sparse_tensor(&self, proto: &SparseTensorProto) -> Result<Tensor> {
        self.importer.sparse_tensor(proto)
    }

    /// The graph of an attribute, and what it captures.
    pub(super) fn read_body(&mut self, body: &'m GraphProto) -> Result<Body> {
        self.importer.read_body(body)
    }

    /// Makes the node's first output a constant.
    pub(super) fn finish_constant(&mut self, tensor: Tensor) {
        if let Some(output) = self.output(0) {
            self.importer.set_constant(output, tensor);
        }
    }

    /// Adds the node that computes this node's outputs.
    pub(super) fn finish(&mut self, op: Operator, inputs: impl Into<Vec<Option<ValueId>>>) -> Result<()> {
        let outputs = self.outputs.clone();
        self.add_node(op, inputs.into(), outputs);
        Ok(())
    }

    /// Adds the node that computes this node's outputs, of all of its inputs.
    pub(super) fn finish_with_all_inputs(&mut self, op: Operator) -> Result<()> {
        let inputs = self.inputs.clone();
        self.finish(op, inputs)
    }

    /// Adds a node on the way to this node's outputs; gives what it computes.
    pub(super) fn step(&mut self, op: Operator, inputs: impl Into<Vec<Option<ValueId>>>) -> ValueId {
        let name = format!("{}/{}", self.name, op.name());
        let output = self.level().add_intermediate(&name);
        let node_name = self.level().node_names.unique(&name);
        self.level().add_node(Node {
            name: node_name,
            op,
            inputs: inputs.into(),
            outputs: vec![Some(output)],
        });
        output
    }

    /// A value for an output that the model does not take.
    pub(super) fn intermediate(&mut self, what: &str) -> ValueId {
        let name = format!("{}/{what}", self.name);
        self.level().add_intermediate(&name)
    }

    /// Adds a node under this node's name.
    pub(super) fn add_node(
        &mut self,
        op: Operator,
        mut inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) {
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let name = match std::mem::replace(&mut self.name_is_used, true) {
            false => self.name.clone(),
            true => {
                let name = self.name.clone();
                self.level().node_names.unique(&name)
            }
        };
        self.level().add_node(Node { name, op, inputs, outputs });
    }

    /// A step of one operand.
    pub(super) fn unary(&mut self, function: Unary, x: ValueId) -> ValueId {
        self.step(Operator::Unary { function }, [Some(x)])
    }

    /// A step of one operand.
    pub(super) fn activation(&mut self, function: Activation, x: ValueId) -> ValueId {
        self.step(Operator::Activation { function }, [Some(x)])
    }

    /// A step of two operands.
    pub(super) fn binary(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.step(Operator::Binary { function }, [Some(a), Some(b)])
    }

    /// A predicate of two operands.
    pub(super) fn compare(&mut self, function: Comparison, a: ValueId, b: ValueId) -> ValueId {
        self.step(Operator::Comparison { function }, [Some(a), Some(b)])
    }

    /// A constant.
    pub(super) fn add_constant(&mut self, what: &str, tensor: Tensor) -> ValueId {
        let name = format!("{}/{what}", self.name);
        self.level().add_constant(&name, tensor)
    }

    /// A constant vector of integers.
    pub(super) fn add_i64s(&mut self, what: &str, values: &[i64]) -> Result<ValueId> {
        Ok(self.add_constant(what, Tensor::from_slice(&[values.len()], values)?))
    }

    /// A constant scalar of the element type of `like`; F32 where that is not known.
    pub(super) fn scalar_like(&mut self, what: &str, like: ValueId, value: f32) -> Result<ValueId> {
        use ElementType::*;
        let tensor = match self.element_type(like) {
            Some(F16) => Tensor::scalar(half::f16::from_f32(value)),
            Some(BF16) => Tensor::scalar(half::bf16::from_f32(value)),
            Some(F64) => Tensor::scalar(f64::from(value)),
            Some(I8) => Tensor::scalar(value as i8),
            Some(U8) => Tensor::scalar(value as u8),
            Some(I16) => Tensor::scalar(value as i16),
            Some(U16) => Tensor::scalar(value as u16),
            Some(I32) => Tensor::scalar(value as i32),
            Some(U32) => Tensor::scalar(value as u32),
            Some(I64) => Tensor::scalar(value as i64),
            Some(U64) => Tensor::scalar(value as u64),
            _ => Tensor::scalar(value),
        }?;
        Ok(self.add_constant(what, tensor))
    }
}

/// The error for something that the format allows and the graph does not have.
pub(super) fn unsupported<T>(what: impl Into<String>) -> Result<T> {
    Err(Error::not_implemented(what))
}

/// Fails as unsupported unless `condition` holds.
pub(super) fn support(condition: bool, what: &str) -> Result<()> {
    if condition { Ok(()) } else { unsupported(what) }
}
