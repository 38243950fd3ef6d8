//! SiLU, hard swish, hard sigmoid, GELU, Mish and softplus in their spellings.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_PI};

use optimium_tensor::ElementType;

use super::super::editor::Editor;
use super::super::matching::{activation, binary, close, either, operands, unary, with_scalar};
use super::product::Product;
use crate::ops::{Activation, Binary, Unary};
use crate::{NodeId, Operator, ValueId};

fn set(editor: &mut Editor, node: NodeId, function: Activation, x: ValueId) -> Option<()> {
    let y = editor.output(node)?;
    if !editor.same_shape(x, y) {
        return None;
    }
    editor.replace(node, Operator::Activation { function }, vec![Some(x)]);
    Some(())
}

/// `ln(1 + exp(x))`
pub(super) fn softplus(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Unary { function: Unary::Log } = editor.op(node) else { return None };
    let sum = editor.input(node, 0)?;
    let (exponential, one) = with_scalar(editor, binary(editor, sum, Binary::Add)?)?;
    let x = unary(editor, exponential, Unary::Exp).filter(|_| one == 1.0)?;
    set(editor, node, Activation::Softplus, x)
}

/// Whatever is a product of x and a function of x, and the hard sigmoid, a scaled bound. A factor that the function does not
/// have is multiplied behind it.
pub(super) fn product_of_activation(editor: &mut Editor, node: NodeId) -> Option<()> {
    operands(editor, node, Binary::Mul)?;
    let product = Product::of_node(editor, node)?;
    let rules = [silu, hard_swish, hard_sigmoid, gelu, gelu_tanh, mish];
    let Found { x, function, own_factor } = rules.iter().find_map(|rule| rule(editor, product.clone()))?;
    // Models round the factors of functions, but not a factor of one.
    if product.scale == own_factor || own_factor != 1.0 && close(product.scale, own_factor) {
        return set(editor, node, function, x);
    }
    let factor = product.scale / own_factor;
    if !factor.is_normal() || goes_on(editor, node) {
        return None;
    }
    set_scaled(editor, node, function, x, factor)
}

/// Whether a number is multiplied behind the node, with which it may be a function without a factor.
fn goes_on(editor: &Editor, node: NodeId) -> bool {
    let reader = editor.output(node).and_then(|y| editor.sole_consumer(y));
    reader
        .and_then(|reader| operands(editor, reader, Binary::Mul))
        .is_some_and(|pair| with_scalar(editor, pair).is_some())
}

/// The function, and that number times it.
fn set_scaled(
    editor: &mut Editor,
    node: NodeId,
    function: Activation,
    x: ValueId,
    factor: f32,
) -> Option<()> {
    let y = editor.output(node)?;
    if !editor.same_shape(x, y) || editor.element_type(y) != Some(ElementType::F32) {
        return None;
    }
    let shape = editor.value(x).shape().cloned();
    let activated = editor.compute(node, Operator::Activation { function }, &[x], y, shape);
    let base = editor.value(y).name.clone() + ".factor";
    let factor = editor.add_f32s(&base, &[], &[factor])?;
    editor.replace(node, Operator::Binary { function: Binary::Mul }, vec![Some(activated), Some(factor)]);
    Some(())
}

/// What a product is, but for its factor.
struct Found {
    x: ValueId,
    function: Activation,
    /// The factor of a product that is the function itself.
    own_factor: f32,
}

impl Found {
    fn new(x: ValueId, function: Activation, own_factor: f32) -> Found {
        Found { x, function, own_factor }
    }
}

/// The one factor that is left.
fn rest(product: &Product) -> Option<ValueId> {
    match product.factors.as_slice() {
        [x] => Some(*x),
        _ => None,
    }
}

/// The operand of the factor that is that activation.
fn take_activation(editor: &Editor, product: &mut Product, function: Activation) -> Option<ValueId> {
    product.take(|value| activation(editor, value).filter(|(_, f)| *f == function).map(|(x, _)| x))
}

fn silu(editor: &Editor, mut product: Product) -> Option<Found> {
    let x = take_activation(editor, &mut product, Activation::Sigmoid)?;
    (rest(&product)? == x).then_some(Found::new(x, Activation::Silu, 1.0))
}

fn mish(editor: &Editor, mut product: Product) -> Option<Found> {
    let softplus = take_activation(editor, &mut product, Activation::Tanh)?;
    let (x, function) = activation(editor, softplus)?;
    let matches = function == Activation::Softplus && rest(&product)? == x;
    matches.then_some(Found::new(x, Activation::Mish, 1.0))
}

/// `x · hardsigmoid(x)` or `x · clip(x + 3, 0, 6) / 6`
fn hard_swish(editor: &Editor, mut product: Product) -> Option<Found> {
    let hard = |value| {
        let (x, function) = activation(editor, value)?;
        match function {
            Activation::HardSigmoid { alpha, beta } if close(alpha, 1.0 / 6.0) && close(beta, 0.5) => {
                Some((x, 1.0))
            }
            _ => Some((shifted_bound(editor, value)?, 1.0 / 6.0)),
        }
    };
    let (x, factor) = product.take(hard)?;
    (rest(&product)? == x).then_some(Found::new(x, Activation::HardSwish, factor))
}

/// `clip(x + 3, 0, 6) / 6`
fn hard_sigmoid(editor: &Editor, product: Product) -> Option<Found> {
    let x = shifted_bound(editor, rest(&product)?)?;
    Some(Found::new(x, Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }, 1.0 / 6.0))
}

/// The x of `clip(x + 3, 0, 6)`.
fn shifted_bound(editor: &Editor, value: ValueId) -> Option<ValueId> {
    let (sum, function) = activation(editor, value)?;
    if function != (Activation::Clip { low: Some(0.0), high: Some(6.0) }) {
        return None;
    }
    let (x, offset) = with_scalar(editor, binary(editor, sum, Binary::Add)?)?;
    (offset == 3.0).then_some(x)
}

/// `x / 2 · (1 + erf(x / √2))`
fn gelu(editor: &Editor, mut product: Product) -> Option<Found> {
    let argument = product.take(|value| {
        let (erf, one) = with_scalar(editor, binary(editor, value, Binary::Add)?)?;
        unary(editor, erf, Unary::Erf).filter(|_| one == 1.0)
    })?;
    let inner = Product::of(editor, argument);
    let x = rest(&inner).filter(|_| close(inner.scale, FRAC_1_SQRT_2))?;
    (rest(&product)? == x).then_some(Found::new(x, Activation::Gelu, 0.5))
}

/// `x / 2 · (1 + tanh(√(2/π) · (x + 0.044715 · x³)))`
fn gelu_tanh(editor: &Editor, mut product: Product) -> Option<Found> {
    let argument = product.take(|value| {
        let (tanh, one) = with_scalar(editor, binary(editor, value, Binary::Add)?)?;
        let (argument, function) = activation(editor, tanh)?;
        (function == Activation::Tanh && one == 1.0).then_some(argument)
    })?;
    let x = rest(&product)?;
    is_gelu_polynomial(editor, argument, x).then_some(Found::new(x, Activation::GeluTanh, 0.5))
}

/// Whether it is `√(2/π) · (x + 0.044715 · x³)` or `√(2/π) · x · (1 + 0.044715 · x²)`.
fn is_gelu_polynomial(editor: &Editor, value: ValueId, x: ValueId) -> bool {
    let mut outer = Product::of(editor, value);
    let is_power = |value: ValueId, power: usize| {
        let product = Product::of(editor, value);
        close(product.scale, 0.044_715) && product.factors == vec![x; power]
    };
    let cubic =
        |value| either(binary(editor, value, Binary::Add)?, |a, b| (a == x && is_power(b, 3)).then_some(()));
    let quadratic = |value| {
        let (square, one) = with_scalar(editor, binary(editor, value, Binary::Add)?)?;
        (one == 1.0 && is_power(square, 2)).then_some(())
    };
    if !close(outer.scale, FRAC_2_PI.sqrt()) {
        return false;
    }
    match outer.take(cubic) {
        Some(()) => outer.factors.is_empty(),
        None => outer.take(quadratic).is_some() && outer.factors == [x],
    }
}
