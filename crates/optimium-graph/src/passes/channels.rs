//! Vectors with one number for each channel, and where the channels of a product's result are.

use super::editor::Editor;
use crate::{Operator, ValueId};

/// The axis of the output channels in the result of a convolution or matrix product.
pub(super) fn channel_axis(op: &Operator, rank: usize) -> Option<usize> {
    match op {
        Operator::Conv(conv) => Some(conv.layout.channel_axis(rank)),
        Operator::ConvTranspose(conv) => Some(conv.layout.channel_axis(rank)),
        Operator::MatMul(_) | Operator::DynamicQuantizedMatMul(_) | Operator::CompressedMatMul(_) => {
            rank.checked_sub(1)
        }
        _ => None,
    }
}

/// The numbers of a constant that is broadcast to `x` along all axes but `axis`, one for each index of it.
pub(super) fn channel_values(
    editor: &Editor,
    x: ValueId,
    axis: usize,
    constant: ValueId,
) -> Option<Vec<f32>> {
    let rank = editor.rank(x)?;
    let channels = usize::try_from(editor.dims(x)?.get(axis)?.as_const()?).ok()?;
    let dims = editor.fixed(constant)?;
    let offset = rank.checked_sub(dims.len())?;
    let values = editor.f32s(constant)?;
    if values.len() == 1 {
        return Some(vec![values[0]; channels]);
    }
    let in_place = axis >= offset && dims[axis - offset] == channels && values.len() == channels;
    in_place.then_some(values)
}
