//! An operator between DequantizeLinear and QuantizeLinear becomes one on integers.

use super::super::editor::Editor;
use super::parameters::{bias, weights};
use super::schemes::{bytes, integers};
use crate::ops::{Activation, Binary, Fusion, Reduction, ResizeMode};
use crate::{NodeId, Operator, ValueId};

/// An operator and its inputs on integers.
type OnIntegers = (Operator, Vec<Option<ValueId>>);

/// A QuantizeLinear, and the operator of which it alone reads the result.
pub(super) fn quantize_operator(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::QuantizeLinear(_) = editor.op(node) else { return None };
    let (real, result) = (editor.input(node, 0)?, editor.output(node)?);
    editor.value(result).scheme.as_ref().filter(|scheme| scheme.axis().is_none())?;
    let producer = editor.inner(real).filter(|&producer| editor.output(producer) == Some(real))?;
    let (op, inputs) = product_with_bound(editor, producer)
        .or_else(|| product(editor, producer))
        .or_else(|| arithmetic(editor, producer))
        .or_else(|| concat(editor, producer, result))?;
    editor.replace(node, op, inputs);
    Some(())
}

/// A convolution or matrix product that reads integers and writes reals.
pub(super) fn quantize_inputs(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (op, inputs) = product(editor, node)?;
    editor.replace(node, op, inputs);
    Some(())
}

/// A bound behind a convolution or matrix product, that is fused.
fn product_with_bound(editor: &mut Editor, node: NodeId) -> Option<OnIntegers> {
    let Operator::Activation { function } = *editor.op(node) else { return None };
    let producer = editor.inner(editor.input(node, 0)?)?;
    if !matches!(function, Activation::Relu | Activation::Clip { .. }) {
        return None;
    }
    let (mut op, inputs) = product(editor, producer)?;
    let fusion = match &mut op {
        Operator::Conv(conv) => &mut conv.fusion,
        Operator::MatMul(matmul) => &mut matmul.fusion,
        _ => return None,
    };
    fusion.activation = function;
    Some((op, inputs))
}

/// A convolution or matrix product with constant weights.
fn product(editor: &mut Editor, node: NodeId) -> Option<OnIntegers> {
    let op = editor.op(node).clone();
    let plain = Fusion { activation: Activation::None, residual_after_activation: false };
    let channel_axis = match &op {
        Operator::Conv(conv) if conv.fusion == plain => 0,
        Operator::MatMul(matmul) if matmul.fusion == plain && matmul.alpha == 1.0 && !matmul.transpose_a => {
            usize::from(!matmul.transpose_b)
        }
        _ => return None,
    };
    let x = bytes(editor, editor.input(node, 0)?)?;
    let weights = weights(editor, editor.input(node, 1)?, channel_axis)?;
    let is_matrix = editor.rank(weights) == Some(2);
    if (matches!(op, Operator::MatMul(_)) && !is_matrix) || editor.input(node, 3).is_some() {
        return None;
    }
    let bias = match editor.input(node, 2) {
        None => None,
        Some(real) => Some(bias(editor, real, x, weights)?),
    };
    Some((op, vec![Some(x), Some(weights), bias]))
}

/// Operators that read reals alone: every input must be dequantized.
fn arithmetic(editor: &mut Editor, node: NodeId) -> Option<OnIntegers> {
    let op = editor.op(node).clone();
    let reals = match &op {
        Operator::Binary { function: Binary::Add | Binary::Mul } => 2,
        Operator::AveragePool(_) => 1,
        Operator::Reduce(reduce) if reduce.reduction == Reduction::Mean && reduce.axes.is_some() => 1,
        Operator::Activation { function } if !matches!(function, Activation::PRelu) => 1,
        _ => return None,
    };
    let mut inputs = editor.node(node).inputs.clone();
    for input in inputs.iter_mut().take(reals) {
        *input = Some(bytes(editor, (*input)?)?);
    }
    let same_type = inputs.iter().take(reals).flatten().map(|&x| editor.element_type(x)).collect::<Vec<_>>();
    same_type.iter().all(|&t| t == same_type[0]).then_some((op, inputs))
}

/// Concat, its inputs brought to the scheme of the result.
fn concat(editor: &mut Editor, node: NodeId, result: ValueId) -> Option<OnIntegers> {
    let op = editor.op(node).clone();
    if !matches!(op, Operator::Concat(_)) {
        return None;
    }
    let reals: Vec<ValueId> = editor.node(node).inputs.iter().copied().collect::<Option<_>>()?;
    let stored: Vec<ValueId> = reals.iter().map(|&real| bytes(editor, real)).collect::<Option<_>>()?;
    let inputs = stored.into_iter().map(|value| Some(in_scheme(editor, node, value, result))).collect();
    Some((op, inputs))
}

/// The value in the type and scheme of another.
fn in_scheme(editor: &mut Editor, node: NodeId, value: ValueId, like: ValueId) -> ValueId {
    let same_type = editor.element_type(value) == editor.element_type(like);
    if same_type && editor.value(value).scheme == editor.value(like).scheme {
        return value;
    }
    let shape = editor.value(value).shape().cloned();
    editor.compute(node, Operator::Requantize, &[value], like, shape)
}

/// Whether an operator only moves elements or picks among them, so that it means the same on integers.
pub(super) fn only_moves(op: &Operator) -> bool {
    match op {
        Operator::Reshape(reshape) => reshape.dims.is_some(),
        Operator::Slice(slice) => slice.ranges.is_some(),
        Operator::Transpose(_) | Operator::MaxPool(_) => true,
        Operator::Resize(resize) => matches!(resize.mode, ResizeMode::Nearest(_)),
        _ => false,
    }
}

/// The integers behind the first input of an operator that only moves elements.
pub(super) fn moved_integers(editor: &Editor, node: NodeId) -> Option<ValueId> {
    let x = integers(editor, editor.input(node, 0)?)?;
    let single = editor.value(x).scheme.as_ref()?.axis().is_none();
    (only_moves(editor.op(node)) && single).then_some(x)
}
