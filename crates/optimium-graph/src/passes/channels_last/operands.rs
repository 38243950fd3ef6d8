//! Which inputs of a node are images.

use super::super::editor::Editor;
use super::roles::Role;
use crate::{NodeId, Operator, ValueId};

/// Whether every input of an operator on elements takes part with its axes.
pub(super) fn is_elementwise(op: &Operator) -> bool {
    matches!(
        op,
        Operator::Binary { .. } | Operator::Comparison { .. } | Operator::Where | Operator::Concat(_)
    )
}

/// The places of the inputs whose axes are those of the output.
pub(super) fn image_inputs(op: &Operator, count: usize) -> Vec<usize> {
    match op {
        op if is_elementwise(op) => (0..count).collect(),
        Operator::Conv(_) | Operator::ConvTranspose(_) if count > 3 => vec![0, 3],
        _ => vec![0],
    }
}

/// Whether `node` reads `value` as an image that may be stored either way.
pub(super) fn is_image_operand(editor: &Editor, node: NodeId, role: &Role, value: ValueId) -> bool {
    if *role == Role::Fixed {
        return false;
    }
    let inputs = &editor.node(node).inputs;
    let image = image_inputs(editor.op(node), inputs.len());
    let only_there = inputs.iter().enumerate().all(|(i, &input)| input != Some(value) || image.contains(&i));
    let output_rank = editor.node(node).outputs.iter().flatten().next().and_then(|&y| editor.rank(y));
    let same_rank = !is_elementwise(editor.op(node)) || editor.rank(value) == output_rank;
    only_there && same_rank
}

/// Whether the image inputs have `rank` axes, or fewer where they are broadcast; all of them known.
pub(super) fn all_fit(editor: &Editor, node: NodeId, rank: usize) -> bool {
    let (op, inputs) = (editor.op(node), &editor.node(node).inputs);
    let broadcast = is_elementwise(op) && !matches!(op, Operator::Concat(_));
    let fits = |value: ValueId| {
        editor.rank(value).is_some_and(|own| if broadcast { own <= rank } else { own == rank })
    };
    let all_images = image_inputs(op, inputs.len()).into_iter().all(|i| inputs[i].is_some_and(fits));
    // The scale and the zero point behind quantized images have no axes.
    let count = if *op == Operator::DynamicQuantizeLinear { 1 } else { usize::MAX };
    let outputs = editor.node(node).outputs.iter().take(count).flatten();
    all_images && outputs.into_iter().all(|&output| editor.rank(output) == Some(rank))
}
