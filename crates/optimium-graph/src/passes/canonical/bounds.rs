//! Clipping to numbers becomes an activation.

use super::super::editor::Editor;
use super::super::matching::{activation, operands};
use crate::ops::{Activation, Binary};
use crate::{NodeId, Operator, ValueId};

/// Clip, or the minimum or maximum with a number.
pub(super) fn constant_bounds(editor: &mut Editor, node: NodeId) -> Option<()> {
    let x = editor.input(node, 0).filter(|&x| editor.is_float(x))?;
    let (x, low, high) = match editor.op(node) {
        Operator::Clip => {
            let bound = |index| match editor.input(node, index) {
                None => Some(None),
                Some(value) => editor.scalar_f32(value).map(Some),
            };
            (x, bound(1)?, bound(2)?)
        }
        Operator::Binary { function: Binary::Max } => {
            let [x, low] = scalar_right(editor, node, Binary::Max)?;
            (x, editor.scalar_f32(low), None)
        }
        Operator::Binary { function: Binary::Min } => {
            let [x, high] = scalar_right(editor, node, Binary::Min)?;
            (x, None, editor.scalar_f32(high))
        }
        _ => return None,
    };
    let function = clip(low, high);
    editor.replace(node, Operator::Activation { function }, vec![Some(x)]);
    Some(())
}

fn scalar_right(editor: &Editor, node: NodeId, function: Binary) -> Option<[ValueId; 2]> {
    let [x, bound] = operands(editor, node, function)?;
    let number = editor.scalar_f32(bound)?;
    (!number.is_nan() && editor.rank(bound)? <= editor.rank(x)?).then_some([x, bound])
}

/// Two bounds in a row.
pub(super) fn merge_bounds(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Activation { function } = *editor.op(node) else { return None };
    let inner = editor.input(node, 0)?;
    editor.inner(inner)?;
    let (x, first) = activation(editor, inner)?;
    let ((low, high), (then_low, then_high)) = (bounds(first)?, bounds(function)?);
    let larger = |a: Option<f32>, b: Option<f32>| a.into_iter().chain(b).reduce(f32::max);
    let smaller = |a: Option<f32>, b: Option<f32>| a.into_iter().chain(b).reduce(f32::min);
    let (low, high) = (larger(low, then_low), smaller(high, then_high));
    if low.zip(high).is_some_and(|(low, high)| low > high) {
        return None;
    }
    editor.replace(node, Operator::Activation { function: clip(low, high) }, vec![Some(x)]);
    Some(())
}

fn bounds(function: Activation) -> Option<(Option<f32>, Option<f32>)> {
    match function {
        Activation::Relu => Some((Some(0.0), None)),
        Activation::Clip { low, high } => Some((low, high)),
        _ => None,
    }
}

/// The activation of those bounds; bounds that every number keeps are none.
fn clip(low: Option<f32>, high: Option<f32>) -> Activation {
    let low = low.filter(|&low| low > f32::MIN);
    let high = high.filter(|&high| high < f32::MAX);
    match (low, high) {
        (None, None) => Activation::None,
        (Some(0.0), None) => Activation::Relu,
        _ => Activation::Clip { low, high },
    }
}
