//! What the reader functions of operators work with.

use std::sync::Arc;

use optimium_graph::ops::{Activation, Binary, Cast, Operator, Reshape, Transpose, Unary};
use optimium_graph::{Node, Value, ValueId, ValueType};
use optimium_tensor::{ElementType, Error, QuantScheme, Result, Tensor};

use super::flatbuffer::Table;
use super::lowering::Lowering;

/// One operator of a model while it is read, and the graph that it becomes a part of.
pub(super) struct OperatorReader<'r, 'a> {
    lowering: &'r mut Lowering,
    name: String,
    name_is_used: bool,
    /// Its options.
    pub(super) options: Options<'a>,
    /// The operands.
    pub(super) inputs: Vec<Option<ValueId>>,
    /// The results.
    pub(super) outputs: Vec<Option<ValueId>>,
}

/// An operator's options; a file leaves them out where all are zero.
#[derive(Clone, Copy)]
pub(super) struct Options<'a>(Option<Table<'a>>);

impl Options<'_> {
    /// A small number, or 0.
    pub(super) fn i8(&self, index: usize) -> Result<i8> {
        self.0.map_or(Ok(0), |table| table.i8(index))
    }

    /// A truth value, or false.
    pub(super) fn bool(&self, index: usize) -> Result<bool> {
        self.0.map_or(Ok(false), |table| table.bool(index))
    }

    /// An integer, or 0.
    pub(super) fn i32(&self, index: usize) -> Result<i32> {
        self.0.map_or(Ok(0), |table| table.i32_or(index, 0))
    }

    /// A number that counts something from 1, or 1.
    pub(super) fn positive(&self, index: usize) -> Result<usize> {
        let number = self.0.map_or(Ok(1), |table| table.i32_or(index, 1))?;
        usize::try_from(number)
            .ok()
            .filter(|&number| number > 0)
            .ok_or_else(|| Error::model(format!("option {index} is {number}")))
    }

    /// A real number, or 0.
    pub(super) fn f32(&self, index: usize) -> Result<f32> {
        self.0.map_or(Ok(0.0), |table| table.f32_or(index, 0.0))
    }

    /// A list of integers.
    pub(super) fn i32s(&self, index: usize) -> Result<Vec<i32>> {
        self.0.map_or(Ok(Vec::new()), |table| table.i32s(index))
    }

    /// The activation that is fused behind the operator.
    pub(super) fn activation(&self, index: usize) -> Result<Activation> {
        Ok(match self.i8(index)? {
            0 => Activation::None,
            1 => Activation::Relu,
            2 => Activation::Clip { low: Some(-1.0), high: Some(1.0) },
            3 => Activation::Clip { low: Some(0.0), high: Some(6.0) },
            4 => Activation::Tanh,
            other => return unsupported(format!("fused activation {other}")),
        })
    }
}

impl<'r, 'a> OperatorReader<'r, 'a> {
    pub(super) fn new(
        lowering: &'r mut Lowering,
        name: &str,
        options: Option<Table<'a>>,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) -> OperatorReader<'r, 'a> {
        let options = Options(options);
        OperatorReader { lowering, name: name.to_owned(), name_is_used: false, options, inputs, outputs }
    }

    /// Input `index`, where it is there.
    pub(super) fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Input `index`, which has to be there.
    pub(super) fn required(&self, index: usize) -> Result<ValueId> {
        self.input(index).ok_or_else(|| Error::model(format!("its input {index} is missing")))
    }

    /// Output `index`, which has to be there.
    pub(super) fn output(&self, index: usize) -> Result<ValueId> {
        let output = self.outputs.get(index).copied().flatten();
        output.ok_or_else(|| Error::model(format!("its output {index} is missing")))
    }

    /// What is known about a value.
    pub(super) fn value(&self, id: ValueId) -> &Value {
        self.lowering.graph.value(id)
    }

    /// The type of a value's elements.
    pub(super) fn element_type(&self, id: ValueId) -> Result<ElementType> {
        self.value(id).element_type().ok_or_else(|| Error::not_implemented("a tensor of unsupported type"))
    }

    /// The number of dimensions.
    pub(super) fn rank(&self, id: ValueId) -> Result<usize> {
        match self.value(id).shape() {
            Some(shape) => Ok(shape.rank()),
            None => unsupported("unknown rank"),
        }
    }

    /// The size of an axis, where it is fixed.
    pub(super) fn dim(&self, id: ValueId, axis: usize) -> Option<usize> {
        let dim = self.value(id).shape()?.dims().get(axis)?.as_const()?;
        usize::try_from(dim).ok()
    }

    /// The content of a constant.
    pub(super) fn constant(&self, id: ValueId) -> Option<Tensor> {
        self.lowering.graph.constant(id).cloned()
    }

    /// The integers of input `index`, where it is a constant.
    pub(super) fn constant_i64s(&self, index: usize) -> Result<Option<Vec<i64>>> {
        match self.constant(self.required(index)?) {
            None => Ok(None),
            Some(tensor) => tensor.to_i64s().map(Some).map_err(|error| {
                Error::model(format!("its input {index} is no list of integers")).with_cause(error)
            }),
        }
    }

    /// The integers of input `index`, which has to be a constant.
    pub(super) fn i64s(&self, index: usize) -> Result<Vec<i64>> {
        let values = self.constant_i64s(index)?;
        values.ok_or_else(|| Error::not_implemented(format!("input {index} that is computed")))
    }

    /// The integer of input `index`, which has to be a constant.
    pub(super) fn i64(&self, index: usize) -> Result<i64> {
        match self.i64s(index)?.as_slice() {
            [value] => Ok(*value),
            values => Err(Error::model(format!("its input {index} has {} elements", values.len()))),
        }
    }

    /// Input `index` as I64, which the graph's operators want for shapes and axes.
    pub(super) fn as_i64(&mut self, index: usize) -> Result<ValueId> {
        let value = self.required(index)?;
        if self.element_type(value)? == ElementType::I64 {
            return Ok(value);
        }
        match self.constant(value) {
            Some(tensor) => {
                let values = tensor.to_i64s()?;
                self.lowering.grow(8 * values.len())?;
                Ok(self.add_constant("i64", Tensor::from_slice(tensor.dims(), &values)?))
            }
            None => {
                let cast = Operator::Cast(Cast { to: ElementType::I64 });
                Ok(self.step_of_type(cast, [Some(value)], ElementType::I64))
            }
        }
    }

    /// Adds a constant.
    pub(super) fn add_constant(&mut self, what: &str, tensor: Tensor) -> ValueId {
        let name = self.lowering.value_names.unique(&format!("{}/{what}", self.name));
        self.lowering.graph.add_constant(name, tensor)
    }

    /// Adds a constant vector of integers.
    pub(super) fn add_i64s(&mut self, what: &str, values: &[i64]) -> Result<ValueId> {
        Ok(self.add_constant(what, Tensor::from_slice(&[values.len()], values)?))
    }

    /// Makes a constant of the operator's output.
    pub(super) fn finish_constant(&mut self, tensor: Tensor) -> Result<()> {
        let output = self.output(0)?;
        let value = self.lowering.graph.value_mut(output);
        value.value_type =
            ValueType::Tensor { element_type: tensor.element_type(), shape: Some(tensor.shape()) };
        value.constant = Some(tensor);
        Ok(())
    }

    /// Takes memory for a constant that is made of others.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        self.lowering.grow(bytes)
    }

    fn add_value(
        &mut self,
        what: &str,
        element_type: Option<ElementType>,
        scheme: Option<Arc<QuantScheme>>,
    ) -> ValueId {
        let name = self.lowering.value_names.unique(&format!("{}/{what}", self.name));
        let value_type = match element_type {
            Some(element_type) => ValueType::Tensor { element_type, shape: None },
            None => ValueType::Unknown,
        };
        self.lowering.graph.add_value(Value { name, value_type, scheme, constant: None })
    }

    /// A value of the type and the scheme of another, for an output of [`add_node`](OperatorReader::add_node).
    pub(super) fn intermediate_like(&mut self, what: &str, like: ValueId) -> ValueId {
        let like = self.value(like);
        let (element_type, scheme) = (like.element_type(), like.scheme.clone());
        self.add_value(what, element_type, scheme)
    }

    /// A value of a plain type, for an output of [`add_node`](OperatorReader::add_node).
    pub(super) fn intermediate_of_type(&mut self, what: &str, element_type: ElementType) -> ValueId {
        self.add_value(what, Some(element_type), None)
    }

    /// Adds a node on the way to the outputs, whose result is of the type and the scheme of `like`.
    pub(super) fn step(
        &mut self,
        op: Operator,
        inputs: impl Into<Vec<Option<ValueId>>>,
        like: ValueId,
    ) -> ValueId {
        let output = self.intermediate_like(op.name(), like);
        self.add_node(op, inputs.into(), vec![Some(output)]);
        output
    }

    /// Adds a node on the way to the outputs, whose result is of that plain type.
    pub(super) fn step_of_type(
        &mut self,
        op: Operator,
        inputs: impl Into<Vec<Option<ValueId>>>,
        element_type: ElementType,
    ) -> ValueId {
        let output = self.add_value(op.name(), Some(element_type), None);
        self.add_node(op, inputs.into(), vec![Some(output)]);
        output
    }

    /// Adds the node that computes the outputs.
    pub(super) fn finish(&mut self, op: Operator, inputs: impl Into<Vec<Option<ValueId>>>) -> Result<()> {
        let outputs = self.outputs.clone();
        self.add_node(op, inputs.into(), outputs);
        Ok(())
    }

    /// Adds the node that computes the output, and the activation that is fused behind it.
    pub(super) fn finish_fused(
        &mut self,
        op: Operator,
        inputs: impl Into<Vec<Option<ValueId>>>,
        activation: Activation,
    ) -> Result<()> {
        if activation == Activation::None {
            return self.finish(op, inputs);
        }
        let output = self.output(0)?;
        let before = self.step(op, inputs, output);
        self.finish(Operator::Activation { function: activation }, [Some(before)])
    }

    /// Adds a node.
    pub(super) fn add_node(
        &mut self,
        op: Operator,
        mut inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) {
        while inputs.last() == Some(&None) {
            inputs.pop();
        }
        let name = if outputs == self.outputs && !self.name_is_used {
            self.name_is_used = true;
            self.name.clone()
        } else {
            self.lowering.node_names.unique(&format!("{}/{}", self.name, op.name()))
        };
        self.lowering.graph.add_node(Node { name, op, inputs, outputs });
    }

    /// A step of one operand.
    pub(super) fn unary(&mut self, function: Unary, x: ValueId) -> ValueId {
        self.step(Operator::Unary { function }, [Some(x)], x)
    }

    /// A step of two operands of the same type.
    pub(super) fn binary(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.step(Operator::Binary { function }, [Some(a), Some(b)], a)
    }

    /// `x` with other dimensions.
    pub(super) fn reshape(&mut self, x: ValueId, dims: &[i64]) -> Result<ValueId> {
        let shape = self.add_i64s("shape", dims)?;
        let op = Operator::Reshape(Reshape { dims: None, allow_zero: false });
        Ok(self.step(op, [Some(x), Some(shape)], x))
    }

    /// Weights with their axes in another order; real numbers where `x`, which they meet, is real.
    pub(super) fn weights(&mut self, weights: ValueId, permutation: &[usize], x: ValueId) -> Result<ValueId> {
        let identity = permutation.iter().enumerate().all(|(index, &axis)| index == axis);
        let mut result = weights;
        if !identity {
            result = match self.lowering.transposed(weights, permutation)? {
                Some(constant) => constant,
                None => {
                    support(self.value(weights).scheme.is_none(), "quantized weights that are computed")?;
                    let op = Operator::Transpose(Transpose { permutation: permutation.to_vec() });
                    self.step(op, [Some(weights)], weights)
                }
            };
        }
        self.real_for(result, x)
    }

    /// `value` as real numbers where it is quantized and `x`, which it meets, is not.
    pub(super) fn real_for(&mut self, value: ValueId, x: ValueId) -> Result<ValueId> {
        if !self.element_type(value)?.is_quantized() || self.element_type(x)?.is_quantized() {
            return Ok(value);
        }
        let axis = self.value(value).scheme.as_ref().and_then(|scheme| scheme.axis()).unwrap_or(0);
        let op = optimium_graph::ops::DequantizeLinear { axis: axis as i64, block_size: 0 };
        Ok(self.step_of_type(Operator::DequantizeLinear(op), [Some(value)], ElementType::F32))
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
