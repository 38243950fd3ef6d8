//! Shapes: one operator for all that keep the elements' order, and plain reductions.

use std::collections::HashSet;
use std::sync::Arc;

use optimium_tensor::{Expr, TensorShape};

use super::super::editor::Editor;
use crate::ops::{Reduce, Reshape};
use crate::{Graph, NodeId, Operator};

/// Flatten, Squeeze and Unsqueeze, where the output's shape is known.
pub(super) fn to_reshape(editor: &mut Editor, node: NodeId) -> Option<()> {
    let is_known = match editor.op(node) {
        Operator::Flatten(_) => true,
        Operator::Squeeze(squeeze) => squeeze.axes.is_some(),
        Operator::Unsqueeze(unsqueeze) => unsqueeze.axes.is_some(),
        Operator::Reshape(reshape) => reshape.dims.is_none(),
        _ => false,
    };
    let x = editor.input(node, 0).filter(|_| is_known)?;
    let dims = editor.dims(editor.output(node)?)?.to_vec();
    if matches!(editor.op(node), Operator::Reshape(_)) && !follow_from_inputs(editor.graph(), &dims) {
        return None;
    }
    editor.replace(node, reshape(dims), vec![Some(x)]);
    Some(())
}

/// A Reshape of a Reshape.
pub(super) fn merge_reshapes(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Reshape(Reshape { dims: Some(dims), .. }) = editor.op(node).clone() else { return None };
    let producer = editor.producer(editor.input(node, 0)?)?;
    let Operator::Reshape(Reshape { dims: Some(_), .. }) = editor.op(producer) else { return None };
    let x = editor.input(producer, 0)?;
    editor.replace(node, reshape(dims), vec![Some(x)]);
    Some(())
}

/// Whether the sizes of the graph's inputs, not its data, decide `dims`.
fn follow_from_inputs(graph: &Graph, dims: &[Expr]) -> bool {
    let mut given: HashSet<Arc<str>> = HashSet::new();
    let shapes = graph.inputs.iter().filter_map(|&id| graph.value(id).shape());
    shapes.flat_map(TensorShape::dims).for_each(|dim| {
        dim.visit_symbols(&mut |symbol| {
            given.insert(symbol.clone());
        });
    });
    let mut all = true;
    dims.iter().for_each(|dim| dim.visit_symbols(&mut |symbol| all &= given.contains(symbol)));
    all
}

fn reshape(dims: Vec<Expr>) -> Operator {
    Operator::Reshape(Reshape { dims: Some(dims), allow_zero: true })
}

pub(super) fn global_pool_to_reduce(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::GlobalPool(pool) = editor.op(node) else { return None };
    let rank = editor.rank(editor.input(node, 0)?)?;
    let axes = (0..rank.checked_sub(2)?).map(|index| pool.layout.spatial_axis(index) as i64).collect();
    let reduce =
        Reduce { reduction: pool.reduction, axes: Some(axes), keep_dims: true, noop_with_empty_axes: true };
    editor.set_op(node, Operator::Reduce(reduce));
    Some(())
}

/// The old meaning of Softmax is the new one where only the last axis is left.
pub(super) fn plain_softmax(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Softmax(mut softmax) = editor.op(node).clone() else { return None };
    let dims = editor.dims(editor.input(node, 0)?)?;
    let axis =
        usize::try_from(if softmax.axis < 0 { softmax.axis + dims.len() as i64 } else { softmax.axis })
            .ok()?;
    let rest_is_one = dims.get(axis + 1..)?.iter().all(|dim| dim.as_const() == Some(1));
    if !softmax.flatten || !rest_is_one {
        return None;
    }
    softmax.flatten = false;
    editor.set_op(node, Operator::Softmax(softmax));
    Some(())
}
