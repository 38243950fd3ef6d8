//! Operators that treat every element alone.

use optimium_graph::ops::{Activation, Binary, Cast, Comparison, Operator, Unary};
use optimium_tensor::{ElementType, Error, Result};

use super::super::operator::OperatorReader;

pub(super) fn unary(node: &mut OperatorReader<'_, '_>, function: Unary) -> Result<()> {
    let x = node.required(0)?;
    node.finish(Operator::Unary { function }, [Some(x)])
}

pub(super) fn activation(node: &mut OperatorReader<'_, '_>, function: Activation) -> Result<()> {
    let x = node.required(0)?;
    node.finish(Operator::Activation { function }, [Some(x)])
}

pub(super) fn clip(node: &mut OperatorReader<'_, '_>, low: f32, high: f32) -> Result<()> {
    activation(node, Activation::Clip { low: Some(low), high: Some(high) })
}

pub(super) fn leaky_relu(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let alpha = node.options.f32(0)?;
    activation(node, Activation::LeakyRelu { alpha })
}

pub(super) fn gelu(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let approximate = node.options.bool(0)?;
    activation(node, if approximate { Activation::GeluTanh } else { Activation::Gelu })
}

pub(super) fn binary(node: &mut OperatorReader<'_, '_>, function: Binary) -> Result<()> {
    let (a, b) = (node.required(0)?, node.required(1)?);
    node.finish(Operator::Binary { function }, [Some(a), Some(b)])
}

/// One whose first option is a fused activation.
pub(super) fn fused_binary(node: &mut OperatorReader<'_, '_>, function: Binary) -> Result<()> {
    let activation = node.options.activation(0)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    node.finish_fused(Operator::Binary { function }, [Some(a), Some(b)], activation)
}

pub(super) fn comparison(node: &mut OperatorReader<'_, '_>, function: Comparison) -> Result<()> {
    let (a, b) = (node.required(0)?, node.required(1)?);
    node.finish(Operator::Comparison { function }, [Some(a), Some(b)])
}

pub(super) fn not_equal(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (a, b) = (node.required(0)?, node.required(1)?);
    let equal = Operator::Comparison { function: Comparison::Equal };
    let equal = node.step_of_type(equal, [Some(a), Some(b)], ElementType::Bool);
    node.finish(Operator::Unary { function: Unary::Not }, [Some(equal)])
}

/// Towards minus infinity. Integers: what is left after the remainder, which has the divisor's sign, divides.
pub(super) fn floor_div(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (a, b) = (node.required(0)?, node.required(1)?);
    if node.element_type(a)?.is_float() {
        let quotient = node.binary(Binary::Div, a, b);
        return node.finish(Operator::Unary { function: Unary::Floor }, [Some(quotient)]);
    }
    let remainder = node.binary(Binary::Mod, a, b);
    let multiple = node.binary(Binary::Sub, a, remainder);
    node.finish(Operator::Binary { function: Binary::Div }, [Some(multiple), Some(b)])
}

pub(super) fn add_n(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let mut terms = node.inputs.clone().into_iter().flatten();
    let mut sum = terms.next().ok_or_else(|| Error::model("it has no inputs"))?;
    let output = node.output(0)?;
    let mut terms = terms.peekable();
    while let Some(term) = terms.next() {
        let add = Operator::Binary { function: Binary::Add };
        if terms.peek().is_none() {
            return node.finish(add, [Some(sum), Some(term)]);
        }
        sum = node.step(add, [Some(sum), Some(term)], output);
    }
    node.finish(Operator::Identity, [Some(sum)])
}

/// The slope of an image is `[1, 1, channels]`, that of a vector `[channels]`.
pub(super) fn prelu(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (x, mut slope) = (node.required(0)?, node.required(1)?);
    slope = node.real_for(slope, x)?;
    if let Some(tensor) = node.constant(slope) {
        let ones = tensor.dims().iter().take_while(|&&dim| dim == 1).count();
        if ones > 0 {
            let dims = tensor.dims()[ones.min(tensor.dims().len() - 1)..].to_vec();
            // A scheme along an axis would have to move with it.
            if tensor.scheme().is_none_or(|scheme| scheme.axis().is_none()) {
                slope = node.add_constant("slope", tensor.reshaped(&dims)?);
            }
        }
    }
    node.finish(Operator::Binary { function: Binary::PRelu }, [Some(x), Some(slope)])
}

pub(super) fn cast(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let output = node.output(0)?;
    let to = node.element_type(output)?;
    node.finish(Operator::Cast(Cast { to }), [Some(x)])
}

/// A vector of conditions chooses whole rows.
pub(super) fn select(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (condition, a) = (node.required(0)?, node.required(1)?);
    let known = node.value(condition).shape().zip(node.value(a).shape());
    if let Some((condition_shape, shape)) = known
        && condition_shape.rank() == 1
        && shape.rank() > 1
    {
        let mut dims = vec![1; shape.rank()];
        dims[0] = -1;
        let condition = node.reshape(condition, &dims)?;
        node.inputs[0] = Some(condition);
    }
    select_v2(node)
}

pub(super) fn select_v2(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = [node.required(0)?, node.required(1)?, node.required(2)?];
    node.finish(Operator::Where, inputs.map(Some))
}
