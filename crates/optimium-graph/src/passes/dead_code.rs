//! Removes nodes whose results nobody reads, and values that nobody names.

use optimium_tensor::Result;

use super::editor::Editor;
use crate::Operator;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    let mut changes = 0;
    for node in editor.nodes().into_iter().rev() {
        if editor.is_alive(node) && !editor.node(node).outputs.iter().flatten().any(|&o| editor.is_read(o)) {
            editor.remove(node);
            changes += 1;
        }
    }
    Ok(changes + editor.visit(drop_mask))
}

/// An operator whose second result nobody reads need not make it.
fn drop_mask(editor: &mut Editor, node: crate::NodeId) -> Option<()> {
    let droppable = matches!(
        editor.op(node),
        Operator::Dropout
            | Operator::MaxPool(_)
            | Operator::LayerNormalization(_)
            | Operator::TopK(_)
            | Operator::Recurrent(_)
    ) || (matches!(editor.op(node), Operator::Attention(_))
        && editor.input(node, 4).is_none());
    let unread = |&index: &usize| {
        index > 0 && editor.node(node).output(index).is_some_and(|value| !editor.is_read(value))
    };
    let unread: Vec<usize> =
        (0..editor.node(node).outputs.len()).filter(|_| droppable).filter(unread).collect();
    unread.iter().for_each(|&index| editor.drop_output(node, index));
    (!unread.is_empty()).then_some(())
}
