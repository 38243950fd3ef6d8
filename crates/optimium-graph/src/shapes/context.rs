//! What a rule sees of its node, and how it says what it found.

use std::rc::Rc;
use std::sync::Arc;

use optimium_tensor::{ElementType, Error, Expr, QuantScheme, Result, Tensor, TensorShape};

use super::arithmetic::Number;
use super::facts::SymbolicTensor;
use crate::{Graph, Value, ValueId, ValueType};

/// More dimensions come from damaged or hostile models only.
pub(super) const MAX_RANK: usize = 64;

/// The values of a tensor, where they are followed.
pub(super) type Known = Option<Rc<SymbolicTensor>>;

/// One node while its rule is applied.
pub(super) struct Context<'a> {
    graph: &'a mut Graph,
    known: &'a mut [Known],
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<Option<ValueId>>,
    depth: usize,
}

impl<'a> Context<'a> {
    /// A node with those inputs and outputs; `known` has an entry for each value of the graph.
    pub(super) fn new(
        graph: &'a mut Graph,
        known: &'a mut [Known],
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
        depth: usize,
    ) -> Context<'a> {
        Context { graph, known, inputs, outputs, depth }
    }

    /// The inputs that are left.
    pub(super) fn into_inputs(self) -> Vec<Option<ValueId>> {
        self.inputs
    }

    /// How many bodies of control flow are around the node.
    pub(super) fn depth(&self) -> usize {
        self.depth
    }

    /// Whether the values of input `index` follow from sizes and constants alone, as far as can be seen.
    pub(super) fn is_decided_by_sizes(&self, index: usize) -> bool {
        let id = self.inputs.get(index).copied().flatten();
        id.is_some_and(|id| super::deferred::follows_sizes(self.graph, id, self.depth))
    }

    /// Number of inputs, those left out included.
    pub(super) fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Number of outputs, those that nobody wants included.
    pub(super) fn output_count(&self) -> usize {
        self.outputs.len()
    }

    /// Whether input `index` is there.
    pub(super) fn has(&self, index: usize) -> bool {
        self.inputs.get(index).is_some_and(Option::is_some)
    }

    /// Input `index`.
    ///
    /// # Errors
    /// Where it is left out.
    pub(super) fn input(&self, index: usize) -> Result<&Value> {
        let id = self.inputs.get(index).copied().flatten();
        id.map(|id| self.graph.value(id)).ok_or_else(|| Error::model(format!("the input {index} is missing")))
    }

    /// The value that output `index` goes to.
    pub(super) fn output(&self, index: usize) -> Option<&Value> {
        self.outputs.get(index).copied().flatten().map(|id| self.graph.value(id))
    }

    /// The dimensions of input `index`.
    ///
    /// # Errors
    /// Where it is left out, no tensor, or of unknown rank.
    pub(super) fn dims(&self, index: usize) -> Result<Vec<Expr>> {
        let value = self.input(index)?;
        value.shape().map(|shape| shape.dims().to_vec()).ok_or_else(|| match value.value_type {
            ValueType::Sequence(_) | ValueType::Optional(_) => {
                Error::model(format!("the input {:?} is not a tensor", value.name))
            }
            _ => Error::not_implemented(format!("the number of dimensions of {:?} is not known", value.name)),
        })
    }

    /// The dimensions of input `index`, of which there must be `rank`.
    ///
    /// # Errors
    /// As [`dims`](Context::dims), and where their number is another.
    pub(super) fn dims_of_rank(&self, index: usize, rank: usize) -> Result<Vec<Expr>> {
        let dims = self.dims(index)?;
        if dims.len() == rank {
            return Ok(dims);
        }
        let (name, shape) = (&self.input(index)?.name, TensorShape::new(dims));
        Err(Error::model(format!("the input {name:?} has the shape {shape}, expected {rank} dimensions")))
    }

    /// The element type of input `index`.
    ///
    /// # Errors
    /// Where it is left out or no tensor.
    pub(super) fn element_type(&self, index: usize) -> Result<ElementType> {
        let value = self.input(index)?;
        value.element_type().ok_or_else(|| {
            Error::model(format!("the input {:?} is not a tensor of known element type", value.name))
        })
    }

    /// Requires that the given inputs, where they are there, have one element type; quantized ones, which stand for
    /// real numbers in their own ways, may be anything.
    ///
    /// # Errors
    /// Names both inputs.
    pub(super) fn same_types(&self, indices: &[usize]) -> Result<()> {
        let mut first: Option<(usize, ElementType)> = None;
        for &index in indices.iter().filter(|&&index| self.has(index)) {
            let found = self.element_type(index)?;
            match first {
                _ if found.is_quantized() => {}
                None => first = Some((index, found)),
                Some((_, expected)) if expected == found => {}
                Some((other, expected)) => {
                    let (name, other) = (&self.input(index)?.name, &self.input(other)?.name);
                    return Err(Error::model(format!(
                        "the input {name:?} has the element type {found}, expected {expected} as {other:?} has"
                    )));
                }
            }
        }
        Ok(())
    }

    /// Requires that input `index`, where it is there, has one of those element types.
    ///
    /// # Errors
    /// Names the input.
    pub(super) fn expect_type(&self, index: usize, expected: &[ElementType]) -> Result<()> {
        if !self.has(index) {
            return Ok(());
        }
        let found = self.element_type(index)?;
        if expected.contains(&found) {
            return Ok(());
        }
        let expected: Vec<&str> = expected.iter().map(|t| t.name()).collect();
        Err(Error::model(format!(
            "the input {:?} has the element type {found}, expected {}",
            self.input(index)?.name,
            expected.join(" or ")
        )))
    }

    /// The element type of the result of arithmetic on input `index`: its own, or for a quantized one, whose scheme the
    /// result need not share, what the model declares.
    ///
    /// # Errors
    /// Where the model declares nothing.
    pub(super) fn arithmetic_type(&self, index: usize) -> Result<ElementType> {
        let own = self.element_type(index)?;
        let declared = self.output(0).and_then(Value::element_type);
        match declared {
            Some(declared) if own.is_quantized() => Ok(declared),
            None if own.is_quantized() => Err(Error::model(
                "the result of arithmetic on quantized tensors needs an element type and a scheme",
            )),
            _ => Ok(own),
        }
    }

    /// The values of input `index`, where they are followed.
    pub(super) fn known(&mut self, index: usize) -> Known {
        let id = self.inputs.get(index).copied().flatten()?;
        if self.known[id.index()].is_none() {
            let constant = self.graph.constant(id)?;
            self.known[id.index()] = SymbolicTensor::of_constant(constant).map(Rc::new);
        }
        self.known[id.index()].clone()
    }

    /// The values of input `index`, or for a small tensor of fixed shape one without any known value.
    pub(super) fn known_or_unknown(&mut self, index: usize) -> Option<Rc<SymbolicTensor>> {
        if let Some(known) = self.known(index) {
            return Some(known);
        }
        let dims = self.input(index).ok()?.shape()?.as_fixed()?;
        SymbolicTensor::unknown(&dims).map(Rc::new)
    }

    /// The integers of input `index`, where all are constant.
    pub(super) fn constants(&mut self, index: usize) -> Option<Vec<i64>> {
        self.known(index)?.constants()
    }

    /// The single constant integer of input `index`.
    pub(super) fn constant(&mut self, index: usize) -> Option<i64> {
        match self.constants(index)?.as_slice() {
            [single] => Some(*single),
            _ => None,
        }
    }

    /// The integers of input `index`, `None` for those that depend on data.
    ///
    /// # Errors
    /// Where not even their number is known, or there are more than two for each dimension that a tensor may have.
    pub(super) fn integers(&mut self, index: usize) -> Result<Vec<Option<Expr>>> {
        let (dims, name) = (self.dims(index)?, self.input(index)?.name.clone());
        if dims.len() > 1 {
            return Err(Error::model(format!("the input {name:?} must be a vector")));
        }
        let length = dims.first().map_or(Some(1), Expr::as_const).ok_or_else(|| {
            Error::not_implemented(format!("the number of elements of {name:?} depends on data"))
        })?;
        let length =
            usize::try_from(length).ok().filter(|&length| length <= 2 * MAX_RANK).ok_or_else(|| {
                Error::model(format!(
                    "the input {name:?} has {length} elements, more than a tensor has dimensions"
                ))
            })?;
        match self.known(index).map(|known| known.integers()) {
            Some(integers) if integers.len() == length => Ok(integers),
            _ => Ok(vec![None; length]),
        }
    }

    /// Drops input `index`, which the operator itself says now.
    pub(super) fn drop_input(&mut self, index: usize) {
        if let Some(input) = self.inputs.get_mut(index) {
            *input = None;
        }
        while self.inputs.len() > 1 && self.inputs.last() == Some(&None) {
            self.inputs.pop();
        }
    }

    /// Drops every input from `index` on.
    pub(super) fn drop_inputs_from(&mut self, index: usize) {
        self.inputs.truncate(index);
    }

    /// Puts a new constant in the place of input `index`.
    pub(super) fn replace_input(&mut self, index: usize, name: String, constant: Tensor) {
        let id = self.graph.add_constant(name, constant);
        if let Some(input) = self.inputs.get_mut(index) {
            *input = Some(id);
        }
    }

    /// Says the type and the shape of output `index`.
    ///
    /// # Errors
    /// Where a dimension is negative, or the model declares another number or type.
    pub(super) fn set(&mut self, index: usize, element_type: ElementType, dims: Vec<Expr>) -> Result<()> {
        self.set_partial(index, element_type, dims.into_iter().map(Some).collect())
    }

    /// [`set`](Context::set) with `None` for dimensions that depend on data.
    ///
    /// # Errors
    /// As [`set`](Context::set).
    pub(super) fn set_partial(
        &mut self,
        index: usize,
        element_type: ElementType,
        dims: Vec<Option<Expr>>,
    ) -> Result<()> {
        let Some(id) = self.outputs.get(index).copied().flatten() else { return Ok(()) };
        let value = self.graph.value(id);
        let element_type = merge_types(value, element_type)?;
        let shape = Some(merge_shapes(value, dims)?);
        self.graph.value_mut(id).value_type = ValueType::Tensor { element_type, shape };
        Ok(())
    }

    /// Says that output `index` has the type and the shape of input `input`.
    ///
    /// # Errors
    /// As [`set`](Context::set).
    pub(super) fn set_as(&mut self, index: usize, input: usize) -> Result<()> {
        let (element_type, dims) = (self.element_type(input)?, self.dims(input)?);
        self.set(index, element_type, dims)
    }

    /// Says the type of output `index`, which need not be a tensor.
    pub(super) fn set_type(&mut self, index: usize, value_type: ValueType) {
        if let Some(id) = self.outputs.get(index).copied().flatten() {
            self.graph.value_mut(id).value_type = value_type;
        }
    }

    /// Gives a quantized output `index` a scheme, where it has none yet.
    pub(super) fn set_scheme(&mut self, index: usize, scheme: Option<Arc<QuantScheme>>) {
        let Some(id) = self.outputs.get(index).copied().flatten() else { return };
        let value = self.graph.value_mut(id);
        if value.scheme.is_none() && value.element_type().is_some_and(ElementType::is_quantized) {
            value.scheme = scheme;
        }
    }

    /// Says the values of output `index`.
    pub(super) fn set_known(&mut self, index: usize, known: Option<SymbolicTensor>) {
        let Some(id) = self.outputs.get(index).copied().flatten() else { return };
        if let Some(known) = known.filter(|known| !known.is_unknown()) {
            self.known[id.index()] = Some(Rc::new(known));
        }
    }

    /// Says that the values of output `index` are `f` of those of input `input`.
    pub(super) fn follow(&mut self, input: usize, index: usize, f: impl Fn(&Number) -> Option<Number>) {
        let known = self.known(input).map(|known| known.map(f));
        self.set_known(index, known);
    }

    /// Says that the values of output `index` are those of input `input` in the output's shape.
    pub(super) fn follow_reshaped(&mut self, input: usize, index: usize) {
        let Some(known) = self.known(input) else { return };
        let dims = self.output(index).and_then(|value| value.shape()?.as_fixed());
        self.set_known(index, dims.and_then(|dims| known.reshaped(&dims)));
    }

    /// Gives a quantized output `index` the scheme of input `input`, the axis of a per-channel scheme mapped, where
    /// the output has none yet. Nothing happens where the axis maps to none.
    pub(super) fn pass_scheme(&mut self, input: usize, index: usize, axis: impl Fn(usize) -> Option<usize>) {
        let Some(scheme) = self.input(input).ok().and_then(|value| value.scheme.clone()) else { return };
        let mapped = match scheme.axis() {
            None => Some(scheme),
            Some(from) => axis(from).map(|to| Arc::new(QuantScheme::clone(&scheme).with_axis(to))),
        };
        self.set_scheme(index, mapped);
    }
}

/// A quantized type that the value has already stays; another declared type must be the inferred one.
fn merge_types(value: &Value, inferred: ElementType) -> Result<ElementType> {
    match value.element_type() {
        Some(declared) if declared.is_quantized() => Ok(declared),
        Some(declared) if declared != inferred && declared.storage() != inferred.storage() => {
            Err(Error::model(format!(
                "the output {:?} is declared with the element type {declared}, but has {inferred}",
                value.name
            )))
        }
        _ => Ok(inferred),
    }
}

/// The inferred dimensions, and where they are not known the declared ones or fresh symbols.
fn merge_shapes(value: &Value, inferred: Vec<Option<Expr>>) -> Result<TensorShape> {
    let name = &value.name;
    if inferred.len() > MAX_RANK {
        return Err(Error::model(format!("the output {name:?} has {} dimensions", inferred.len())));
    }
    let declared = value.shape();
    if let Some(declared) = declared.filter(|declared| declared.rank() != inferred.len()) {
        return Err(Error::model(format!(
            "the output {name:?} is declared with the shape {declared}, but has {} dimensions",
            inferred.len()
        )));
    }
    let mut dims = Vec::with_capacity(inferred.len());
    for (axis, dim) in inferred.into_iter().enumerate() {
        let hint = declared.map(|shape| &shape[axis]).filter(|dim| dim.as_const().is_none_or(|n| n >= 0));
        if let Some(n) = dim.as_ref().and_then(Expr::as_const) {
            if n < 0 {
                return Err(Error::model(format!("the size of axis {axis} of {name:?} would be {n}")));
            }
            if let Some(expected) = hint.and_then(Expr::as_const).filter(|&expected| expected != n) {
                return Err(Error::model(format!(
                    "axis {axis} of the output {name:?} is declared with the size {expected}, but has {n}"
                )));
            }
        }
        let fresh = || hint.cloned().unwrap_or_else(|| Expr::symbol(&format!("{name}.{axis}")));
        dims.push(dim.unwrap_or_else(fresh));
    }
    Ok(TensorShape::new(dims))
}
