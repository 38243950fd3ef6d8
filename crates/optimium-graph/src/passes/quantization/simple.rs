//! Bounds that quantization implies, operators that move integers as well as reals, and pairs that undo each other.

use optimium_tensor::ElementType;

use super::super::editor::Editor;
use super::regions::moved_integers;
use super::schemes::integers;
use crate::ops::Activation;
use crate::{NodeId, Operator};

/// A bound in front of a QuantizeLinear whose integers cannot exceed it anyway.
pub(super) fn drop_implied_bound(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::QuantizeLinear(quantize) = editor.op(node).clone() else { return None };
    let result = editor.output(node)?;
    let scheme = editor.value(result).scheme.as_ref().filter(|scheme| scheme.axis().is_none())?;
    let param = scheme.param(0)?;
    let (smallest, largest) = match editor.element_type(result)? {
        ElementType::QU8 => (0, 255),
        ElementType::QS8 => (-128, 127),
        _ => return None,
    };
    let bounded = editor.inner(editor.input(node, 0)?)?;
    let (low, high) = match *editor.op(bounded) {
        Operator::Activation { function: Activation::Relu } => (Some(0.0), None),
        Operator::Activation { function: Activation::Clip { low, high } } => (low, high),
        _ => return None,
    };
    let real = |stored: i32| (stored - param.zero_point) as f32 * param.scale;
    // A bound within half a step of the outermost number rounds to it.
    let slack = param.scale * 0.499;
    let low_implied = low.is_none_or(|low| real(smallest) >= low - slack);
    let high_implied = high.is_none_or(|high| real(largest) <= high + slack);
    if !low_implied || !high_implied {
        return None;
    }
    let x = editor.input(bounded, 0)?;
    editor.replace(node, Operator::QuantizeLinear(quantize), vec![Some(x)]);
    Some(())
}

/// An operator that moves what DequantizeLinear made moves the integers before.
pub(super) fn sink_dequantize(editor: &mut Editor, node: NodeId) -> Option<()> {
    let stored = moved_integers(editor, node)?;
    let real = editor.output(node)?;
    let dequantize = editor.producer(editor.input(node, 0)?)?;
    let shape = editor.value(real).shape().cloned();
    let mut inputs = editor.node(node).inputs.clone();
    inputs[0] = Some(stored);
    let op = editor.op(node).clone();
    let moved = editor.add_like(stored, shape);
    editor.insert(node, op, inputs, moved);
    let op = editor.op(dequantize).clone();
    editor.replace(node, op, vec![Some(moved)]);
    Some(())
}

/// A QuantizeLinear of what was dequantized.
pub(super) fn cancel_pair(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::QuantizeLinear(_) = editor.op(node) else { return None };
    let result = editor.output(node)?;
    let stored = integers(editor, editor.input(node, 0)?)?;
    let scheme = editor.value(result).scheme.clone()?;
    if editor.value(stored).scheme.as_ref() == Some(&scheme)
        && editor.element_type(stored) == editor.element_type(result)
    {
        return editor.forward(node, stored);
    }
    let per_tensor = scheme.axis().is_none() && editor.value(stored).scheme.as_ref()?.axis().is_none();
    if !per_tensor {
        return None;
    }
    editor.replace(node, Operator::Requantize, vec![Some(stored)]);
    Some(())
}
