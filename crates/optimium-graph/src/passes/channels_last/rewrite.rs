//! Carries an assignment of layouts out.

use std::collections::HashMap;

use optimium_tensor::{Expr, TensorShape};

use super::super::editor::Editor;
use super::super::permutation::{
    channels_last, compose, inverse, moves_nothing, permute_tensor, permuted, permuted_shape,
};
use super::operands::{image_inputs, is_elementwise, is_image_operand};
use super::roles::{Role, flattened_into_product};
use super::{Plan, attributes, is_image};
use crate::ops::{Reshape, Transpose};
use crate::{NodeId, Operator, ValueId};

/// What was made so far: the channels-last form of values that have one.
#[derive(Default)]
struct Images {
    last: HashMap<ValueId, ValueId>,
}

pub(super) fn rewrite(editor: &mut Editor, plan: &Plan) -> usize {
    let nodes = editor.nodes();
    let changing = |&node: &NodeId| plan.reads_last(node) || plan.writes_last(node);
    let changing: Vec<NodeId> = nodes.iter().copied().filter(changing).collect();
    let mut images = Images::default();
    for &node in &nodes {
        make_forms(editor, plan, node, &mut images);
    }
    for value in editor.graph().inputs.clone() {
        make_last(editor, plan, value, None, &mut images);
    }
    for &node in &changing {
        match plan.role(node) {
            Role::Fixed => {}
            Role::Transpose { .. } => rewrite_transpose(editor, plan, node, &images),
            Role::EitherInput => rewrite_input(editor, node, &images),
            Role::ChannelsLast | Role::Either => rewrite_node(editor, node, &mut images),
        }
    }
    changing.len()
}

/// Whether a reader of `value` wants it with channels last.
fn wants_last(editor: &Editor, plan: &Plan, reader: NodeId, value: ValueId) -> bool {
    plan.reads_last(reader) && is_image_operand(editor, reader, plan.role(reader), value)
}

/// Lets a node write its results the way it was told, and makes the other forms that readers want.
fn make_forms(editor: &mut Editor, plan: &Plan, node: NodeId, images: &mut Images) {
    let outputs: Vec<ValueId> = editor.node(node).outputs.iter().flatten().copied().collect();
    for value in outputs {
        if !is_image(editor, value) {
            continue;
        }
        if !plan.writes_last(node) {
            make_last(editor, plan, value, Some(node), images);
            continue;
        }
        let last = add_last(editor, value);
        images.last.insert(value, last);
        let wanted_first = editor.is_output(value)
            || editor.consumers(value).iter().any(|&reader| !wants_last(editor, plan, reader, value));
        editor.move_output(node, value, last);
        if wanted_first {
            let rank = editor.rank(value).unwrap_or_default();
            let op = transpose_or_reshape(editor, last, inverse(&channels_last(rank)));
            editor.insert(node, op, vec![Some(last)], value);
        }
    }
}

/// Makes the channels-last form of a value that is written as the model says, where somebody wants it.
fn make_last(editor: &mut Editor, plan: &Plan, value: ValueId, near: Option<NodeId>, images: &mut Images) {
    let readers = editor.consumers(value);
    let first_reader =
        readers.iter().filter(|&&reader| wants_last(editor, plan, reader, value)).min().copied();
    let Some(first_reader) = first_reader.filter(|_| is_image(editor, value)) else { return };
    let rank = editor.rank(value).unwrap_or_default();
    let op = transpose_or_reshape(editor, value, channels_last(rank));
    let last = add_last(editor, value);
    editor.insert(near.unwrap_or(first_reader), op, vec![Some(value)], last);
    images.last.insert(value, last);
}

/// A value that holds another with channels last.
fn add_last(editor: &mut Editor, value: ValueId) -> ValueId {
    let shape = editor.value(value).shape().map(|shape| permuted_shape(shape, &channels_last(shape.rank())));
    let moved = shape.as_ref().map(|shape| inverse(&channels_last(shape.rank())));
    let last = editor.add_like(value, shape);
    if let Some(moved) = &moved {
        editor.note_move(value, last, moved.clone());
    }
    if let (Some(scheme), Some(moved)) = (editor.value(last).scheme.clone(), moved)
        && let Some(&axis) = scheme.axis().and_then(|axis| moved.get(axis))
    {
        editor.value_mut(last).scheme = Some(std::sync::Arc::new((*scheme).clone().with_axis(axis)));
    }
    last
}

/// The operator that permutes the axes of `x`: a Reshape where no element moves.
fn transpose_or_reshape(editor: &Editor, x: ValueId, permutation: Vec<usize>) -> Operator {
    match editor.dims(x) {
        Some(dims) if moves_nothing(dims, &permutation) => {
            Operator::Reshape(Reshape { dims: Some(permuted(dims, &permutation)), allow_zero: true })
        }
        _ => Operator::Transpose(Transpose { permutation }),
    }
}

fn rewrite_node(editor: &mut Editor, node: NodeId, images: &mut Images) {
    let output = editor.node(node).outputs.iter().flatten().next().copied();
    let Some(rank) = output.and_then(|output| editor.rank(output)) else { return };
    let Some(op) = attributes::remapped(editor, node, rank) else { return };
    let mut inputs = editor.node(node).inputs.clone();
    let broadcast = is_elementwise(&op);
    for index in image_inputs(&op, inputs.len()) {
        let Some(value) = inputs[index] else { continue };
        let last =
            images.last.get(&value).copied().filter(|_| !broadcast || editor.rank(value) == Some(rank));
        inputs[index] = last.or_else(|| broadcast_operand(editor, node, value, rank)).or(inputs[index]);
    }
    editor.replace(node, op, inputs);
}

/// An operand that is constant, or broadcast from fewer axes, with channels last.
fn broadcast_operand(editor: &mut Editor, node: NodeId, value: ValueId, rank: usize) -> Option<ValueId> {
    let permutation = channels_last(rank);
    let dims = editor.dims(value)?.to_vec();
    if dims.iter().all(|dim| dim.as_const() == Some(1)) && dims.len() <= rank {
        return Some(value);
    }
    let full: Vec<Expr> =
        std::iter::repeat_n(Expr::from(1i64), rank.checked_sub(dims.len())?).chain(dims).collect();
    if let Some(tensor) = editor.constant(value) {
        let fixed = TensorShape::new(full).as_fixed()?;
        let tensor = permute_tensor(&tensor.clone().reshaped(&fixed).ok()?, &permutation)?;
        let name = editor.value(value).name.clone();
        return Some(editor.add_constant(&name, tensor));
    }
    let op = Operator::Reshape(Reshape { dims: Some(full.clone()), allow_zero: true });
    let shape = TensorShape::new(full);
    let whole = editor.compute(node, op, &[value], value, Some(shape.clone()));
    let op = transpose_or_reshape(editor, whole, permutation.clone());
    Some(editor.compute(node, op, &[whole], value, Some(permuted_shape(&shape, &permutation))))
}

fn rewrite_transpose(editor: &mut Editor, plan: &Plan, node: NodeId, images: &Images) {
    let (Operator::Transpose(transpose), Some(x)) = (editor.op(node).clone(), editor.input(node, 0)) else {
        return;
    };
    let last = channels_last(transpose.permutation.len());
    let mut permutation = transpose.permutation;
    let mut input = x;
    if let Some(&stored) = images.last.get(&x).filter(|_| plan.reads_last(node)) {
        permutation = compose(&inverse(&last), &permutation);
        input = stored;
    }
    if plan.writes_last(node) {
        permutation = compose(&permutation, &last);
    }
    editor.replace(node, Operator::Transpose(Transpose { permutation }), vec![Some(input)]);
}

/// A reduction or a flattening of an image.
fn rewrite_input(editor: &mut Editor, node: NodeId, images: &Images) {
    let Some(x) = editor.input(node, 0) else { return };
    let Some(&last) = images.last.get(&x) else { return };
    if let Some(reader) = flattened_into_product(editor, node) {
        if permute_weights(editor, reader, x).is_some() {
            let op = editor.op(node).clone();
            editor.replace(node, op, vec![Some(last)]);
        }
    } else if let Some(op) = attributes::reduced_to_vectors(editor, node) {
        editor.replace(node, op, vec![Some(last)]);
    }
}

/// Orders the rows of a matrix product's weights as the elements of `image` with channels last.
fn permute_weights(editor: &mut Editor, product: NodeId, image: ValueId) -> Option<()> {
    let Operator::MatMul(matmul) = editor.op(product) else { return None };
    let transposed = matmul.transpose_b;
    let weights = editor.input(product, 1)?;
    let matrix = editor.fixed(weights)?;
    let sizes = TensorShape::new(editor.dims(image)?.get(1..)?.to_vec()).as_fixed()?;
    let axes = sizes.len();
    let (dims, permutation): (Vec<usize>, Vec<usize>) = if transposed {
        ([&[matrix[0]], sizes.as_slice()].concat(), (0..1).chain(2..axes + 1).chain([1]).collect())
    } else {
        ([sizes.as_slice(), &[matrix[1]]].concat(), (1..axes).chain([0, axes]).collect())
    };
    let tensor = editor.constant(weights)?.clone().reshaped(&dims).ok()?;
    let tensor = permute_tensor(&tensor, &permutation)?.reshaped(&matrix).ok()?;
    let name = editor.value(weights).name.clone();
    let constant = editor.add_constant(&name, tensor);
    editor.set_input(product, 1, Some(constant));
    Some(())
}
