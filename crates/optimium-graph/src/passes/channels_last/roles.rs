//! What every operator allows.

use super::super::editor::Editor;
use super::super::permutation::{channels_last, inverse};
use super::{attributes, operands};
use crate::ops::{AveragePool, ImageLayout, MaxPool, Reshape};
use crate::{NodeId, Operator, ValueId};

/// How a node may read and write images.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Role {
    /// As the model says.
    Fixed,
    /// With channels last.
    ChannelsLast,
    /// Either way, inputs and outputs alike.
    Either,
    /// A permutation of axes: input and output either way, each for itself.
    Transpose {
        /// Whether it is the one to channels last, rather than from there.
        to_last: bool,
    },
    /// Its input either way, its output as the model says.
    EitherInput,
}

impl Role {
    pub(super) fn of(editor: &Editor, node: NodeId) -> Role {
        Role::find(editor, node).unwrap_or(Role::Fixed)
    }

    fn find(editor: &Editor, node: NodeId) -> Option<Role> {
        let x = editor.input(node, 0)?;
        let y = editor.node(node).outputs.iter().flatten().next().copied()?;
        let rank = editor.rank(y)?;
        let op = editor.op(node);
        if wants_last(editor, node) {
            return Some(Role::ChannelsLast);
        }
        match op {
            Operator::Transpose(transpose) => return transpose_role(editor, node, &transpose.permutation),
            Operator::Reshape(_) if flattened_into_product(editor, node).is_some() => {
                return Some(Role::EitherInput);
            }
            Operator::Reduce(_) if attributes::reduced_to_vectors(editor, node).is_some() => {
                return Some(Role::EitherInput);
            }
            Operator::Reshape(Reshape { dims: Some(dims), .. }) => {
                let before = editor.dims(x)?;
                let keeps_channels =
                    before.len() >= 3 && rank >= 3 && dims.len() == rank && before[..2] == dims[..2];
                return keeps_channels.then_some(Role::Either);
            }
            _ => {}
        }
        attributes::remapped(editor, node, rank)?;
        let fits = rank >= 3 && operands::all_fit(editor, node, rank);
        fits.then_some(Role::Either)
    }
}

/// Operators on images that have kernels for channels last.
fn wants_last(editor: &Editor, node: NodeId) -> bool {
    let first = ImageLayout::ChannelsFirst;
    let spatial = editor.input(node, 0).and_then(|x| editor.rank(x)).is_some_and(|rank| rank >= 3);
    spatial
        && match editor.op(node) {
            Operator::Conv(conv) => conv.layout == first,
            Operator::ConvTranspose(conv) => conv.layout == first,
            Operator::ConvInteger(integer) => integer.conv.layout == first,
            Operator::MaxPool(MaxPool { window, .. }) | Operator::AveragePool(AveragePool { window, .. }) => {
                window.layout == first && attributes::pools_channels_last(editor, node)
            }
            _ => false,
        }
}

fn transpose_role(editor: &Editor, node: NodeId, permutation: &[usize]) -> Option<Role> {
    let to_last = channels_last(permutation.len());
    if permutation.len() < 3 {
        return None;
    }
    if permutation == to_last && permutation == inverse(&to_last) {
        // With three axes both directions are one permutation: the side that works on images tells them apart.
        let y = editor.output(node)?;
        let into_images = editor.consumers(y).iter().any(|&reader| wants_last(editor, reader));
        return Some(Role::Transpose { to_last: !into_images });
    }
    if permutation == to_last {
        return Some(Role::Transpose { to_last: true });
    }
    (permutation == inverse(&to_last)).then_some(Role::Transpose { to_last: false })
}

/// The matrix product that alone reads an image made a vector for each batch entry, with constant weights.
pub(super) fn flattened_into_product(editor: &Editor, node: NodeId) -> Option<NodeId> {
    let (x, y): (ValueId, ValueId) = (editor.input(node, 0)?, editor.output(node)?);
    let (before, after) = (editor.dims(x)?, editor.dims(y)?);
    let known = before.get(1..)?.iter().all(|dim| dim.as_const().is_some_and(|n| n > 0));
    let flattens = before.len() >= 3 && after.len() == 2 && before[0] == after[0] && known;
    let reader = editor.sole_consumer(y).filter(|_| flattens)?;
    let Operator::MatMul(matmul) = editor.op(reader) else { return None };
    let weights = editor.input(reader, 1)?;
    let usable = !matmul.transpose_a
        && editor.input(reader, 0) == Some(y)
        && editor.is_constant(weights)
        && editor.rank(weights) == Some(2)
        && editor.value(weights).scheme.as_ref().is_none_or(|scheme| scheme.axis().is_none());
    usable.then_some(reader)
}
