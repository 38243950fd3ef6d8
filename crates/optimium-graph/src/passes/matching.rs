//! Small questions about the surroundings of a value, in which patterns are written.

use super::editor::Editor;
use crate::ops::{Activation, Binary, Unary};
use crate::{NodeId, Operator, ValueId};

/// The operands of a value that is computed by that function of two.
pub(super) fn binary(editor: &Editor, value: ValueId, function: Binary) -> Option<[ValueId; 2]> {
    operands(editor, editor.producer(value)?, function)
}

/// The operands of a node, where it is that function of two.
pub(super) fn operands(editor: &Editor, node: NodeId, function: Binary) -> Option<[ValueId; 2]> {
    match editor.op(node) {
        Operator::Binary { function: f } if *f == function => {
            Some([editor.input(node, 0)?, editor.input(node, 1)?])
        }
        _ => None,
    }
}

/// The operand of a value that is computed by that function of one.
pub(super) fn unary(editor: &Editor, value: ValueId, function: Unary) -> Option<ValueId> {
    let node = editor.producer(value)?;
    match editor.op(node) {
        Operator::Unary { function: f } if *f == function => editor.input(node, 0),
        _ => None,
    }
}

/// The operand of a value that is computed by an activation, and which.
pub(super) fn activation(editor: &Editor, value: ValueId) -> Option<(ValueId, Activation)> {
    let node = editor.producer(value)?;
    match editor.op(node) {
        Operator::Activation { function } => Some((editor.input(node, 0)?, *function)),
        _ => None,
    }
}

/// The operands of a commutative function, a constant of one element second: its number.
pub(super) fn with_scalar(editor: &Editor, pair: [ValueId; 2]) -> Option<(ValueId, f32)> {
    either(pair, |a, b| editor.scalar_f32(b).map(|number| (a, number)))
}

/// What `rule` finds in a pair in one order or the other.
pub(super) fn either<T>([a, b]: [ValueId; 2], rule: impl Fn(ValueId, ValueId) -> Option<T>) -> Option<T> {
    rule(a, b).or_else(|| rule(b, a))
}

/// Whether two numbers are the same up to the rounding of a constant in a model.
pub(super) fn close(a: f32, b: f32) -> bool {
    (a - b).abs() <= 1e-4 * b.abs()
}
