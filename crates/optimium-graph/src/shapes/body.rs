//! What the rules of operators with bodies share: a body is inferred with what is known of the values that it gets.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use optimium_tensor::{ElementType, Error, Expr, QuantScheme, Result, TensorShape};

use super::context::{Context, Known};
use super::facts::SymbolicTensor;
use super::infer_graph;
use crate::{Graph, Value, ValueType};

/// What a body gets as one of its inputs.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) value_type: ValueType,
    pub(super) scheme: Option<Arc<QuantScheme>>,
    pub(super) known: Known,
}

impl Given {
    /// A value of the graph around the body.
    pub(super) fn outer(cx: &mut Context<'_>, index: usize) -> Result<Given> {
        let known = cx.known(index);
        let value = cx.input(index)?;
        Ok(Given { value_type: value.value_type.clone(), scheme: value.scheme.clone(), known })
    }

    /// A tensor about which no more is known.
    pub(super) fn tensor(element_type: ElementType, shape: TensorShape) -> Given {
        let value_type = ValueType::Tensor { element_type, shape: Some(shape) };
        Given { value_type, scheme: None, known: None }
    }

    /// A number that the loop itself computes: shaped as the body declares it, a scalar otherwise.
    pub(super) fn counter(body: &Graph, index: usize, element_type: ElementType) -> Given {
        let declared = body.inputs.get(index).and_then(|id| body.values().get(id.index()));
        let shape = declared.and_then(|value| value.shape().cloned());
        Given::tensor(element_type, shape.unwrap_or_default())
    }

    pub(super) fn shape(&self) -> Option<&TensorShape> {
        match &self.value_type {
            ValueType::Tensor { shape, .. } => shape.as_ref(),
            _ => None,
        }
    }

    /// The element type and the dimensions.
    pub(super) fn parts(&self) -> Result<(ElementType, Vec<Expr>)> {
        match &self.value_type {
            ValueType::Tensor { element_type, shape: Some(shape) } => {
                Ok((*element_type, shape.dims().to_vec()))
            }
            _ => {
                Err(Error::not_implemented("a value that is no tensor of known rank passes through the body"))
            }
        }
    }
}

/// The symbols that occur in what is given.
pub(super) fn symbols<'a>(given: impl IntoIterator<Item = &'a Given>) -> HashSet<Arc<str>> {
    let mut symbols = HashSet::new();
    for given in given {
        let mut visit = |name: &Arc<str>| {
            symbols.insert(name.clone());
        };
        given.shape().into_iter().flat_map(TensorShape::dims).for_each(|dim| dim.visit_symbols(&mut visit));
        let elements = given.known.iter().flat_map(|known| known.elements()).flatten();
        elements.for_each(|number| number.visit_symbols(&mut visit));
    }
    symbols
}

/// What a body gives as one of its outputs. Symbols of the body mean nothing around it: what contains them is `None`.
pub(super) struct Produced {
    pub(super) value_type: ValueType,
    pub(super) scheme: Option<Arc<QuantScheme>>,
    pub(super) dims: Option<Vec<Option<Expr>>>,
    pub(super) known: Option<SymbolicTensor>,
}

impl Produced {
    /// A body that says nothing of what it gives.
    pub(super) fn nothing() -> Produced {
        Produced { value_type: ValueType::Unknown, scheme: None, dims: None, known: None }
    }

    /// What the model declares of a value. Symbols mean nothing around the body.
    pub(super) fn declared(value: &Value) -> Produced {
        let dims = value.shape().map(|shape| shape.dims().iter().map(constant_size).collect());
        Produced { value_type: value.value_type.clone(), scheme: value.scheme.clone(), dims, known: None }
    }

    /// Whether it is a tensor of known rank.
    pub(super) fn has_rank(&self) -> bool {
        self.parts().is_ok()
    }

    /// The element type and the dimensions.
    pub(super) fn parts(&self) -> Result<(ElementType, Vec<Option<Expr>>)> {
        match (&self.value_type, &self.dims) {
            (ValueType::Tensor { element_type, .. }, Some(dims)) => Ok((*element_type, dims.clone())),
            _ => Err(Error::not_implemented("the body gives a value that is no tensor of known rank")),
        }
    }
}

/// Whether a body is a graph at all, and gets as many values as it has inputs. Sorts it.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where it is not.
pub(super) fn check_body(body: &mut Graph, inputs: usize) -> Result<()> {
    if body.inputs.len() != inputs {
        return Err(Error::model(format!(
            "the body {:?} has {} inputs, but gets {inputs} values",
            body.name,
            body.inputs.len(),
        )));
    }
    super::settle(body).map_err(|error| error.context(format!("in the body {:?}", body.name)))
}

/// Infers a body, and says what comes out of it in the symbols `outer`.
pub(super) fn infer_body(
    body: &mut Graph,
    inputs: &[Given],
    outer: &HashSet<Arc<str>>,
    depth: usize,
) -> Result<Vec<Produced>> {
    check_body(body, inputs.len())?;
    for (id, given) in body.inputs.clone().into_iter().zip(inputs) {
        let value = body.value_mut(id);
        value.value_type = given.value_type.clone();
        value.scheme = given.scheme.clone();
    }
    let known: Vec<Known> = inputs.iter().map(|given| given.known.clone()).collect();
    let known = infer_graph(body, &known, depth + 1)
        .map_err(|error| error.context(format!("in the body {:?}", body.name)))?;
    let produced = body.outputs.iter().map(|&id| {
        let value = body.value(id);
        let dims = value.shape().map(|shape| {
            shape
                .dims()
                .iter()
                .map(|dim| is_outer(|v| dim.visit_symbols(v), outer).then(|| dim.clone()))
                .collect()
        });
        let constant = || value.constant.as_ref().and_then(SymbolicTensor::of_constant).map(Rc::new);
        let known = known[id.index()]
            .clone()
            .or_else(constant)
            .map(|known| known.map(|n| is_outer(|visit| n.visit_symbols(visit), outer).then(|| n.clone())));
        Produced { value_type: value.value_type.clone(), scheme: value.scheme.clone(), dims, known }
    });
    Ok(produced.collect())
}

/// The size where it is a number that a tensor can have.
fn constant_size(dim: &Expr) -> Option<Expr> {
    dim.as_const().filter(|&size| size >= 0).map(Expr::from)
}

/// Whether every visited symbol is one of `outer`.
fn is_outer(visit_all: impl Fn(&mut dyn FnMut(&Arc<str>)), outer: &HashSet<Arc<str>>) -> bool {
    let mut all = true;
    visit_all(&mut |name| all &= outer.contains(name));
    all
}

/// Says that output `index` of the node is what a body gives.
pub(super) fn set_produced(index: usize, produced: Produced, cx: &mut Context<'_>) -> Result<()> {
    match (&produced.value_type, &produced.dims) {
        (ValueType::Tensor { element_type, .. }, Some(dims)) => {
            cx.set_partial(index, *element_type, dims.clone())?;
        }
        _ => cx.set_type(index, produced.value_type),
    }
    cx.set_scheme(index, produced.scheme);
    cx.set_known(index, produced.known);
    Ok(())
}

pub(super) fn check_outputs(body: &Graph, expected: usize) -> Result<()> {
    if body.outputs.len() == expected {
        return Ok(());
    }
    Err(Error::model(format!(
        "the body {:?} has {} outputs, expected {expected}",
        body.name,
        body.outputs.len()
    )))
}
