//! Operators in terms of permuted axes.

use optimium_tensor::ElementType;

use super::super::editor::Editor;
use super::super::permutation::{channels_last, inverse, permuted};
use crate::ops::{CoordinateMode, CumSum, Expand, ImageLayout, Pad, Reduce, Reshape, Resize, Slice, Tile};
use crate::{NodeId, Operator};

/// The axis as a place among `rank`.
fn place(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}

/// The node's operator for images of `rank` axes with channels last; `None` where there is none, as with fewer than
/// three axes.
pub(super) fn remapped(editor: &Editor, node: NodeId, rank: usize) -> Option<Operator> {
    if rank < 3 {
        return None;
    }
    let permutation = channels_last(rank);
    let moved = inverse(&permutation);
    let axis = |axis: i64| Some(moved[place(axis, rank)?] as i64);
    let mut op = editor.op(node).clone();
    match &mut op {
        Operator::Unary { .. }
        | Operator::Activation { .. }
        | Operator::Binary { .. }
        | Operator::Comparison { .. }
        | Operator::Clip
        | Operator::Where
        | Operator::Cast(_)
        | Operator::Identity
        | Operator::Requantize
        | Operator::DynamicQuantizeLinear => {}
        Operator::Concat(concat) => concat.axis = axis(concat.axis)?,
        Operator::Split(split) => split.axis = axis(split.axis)?,
        Operator::ArgReduce(reduce) if reduce.keep_dims => reduce.axis = axis(reduce.axis)?,
        Operator::TopK(top) => top.axis = axis(top.axis)?,
        Operator::LpNormalization(norm) => norm.axis = axis(norm.axis)?,
        Operator::Softmax(softmax) if !softmax.flatten => softmax.axis = axis(softmax.axis)?,
        Operator::CumSum(CumSum { axis: Some(along), .. }) => *along = axis(*along)?,
        Operator::Slice(Slice { ranges: Some(ranges) }) => {
            for range in ranges.iter_mut() {
                range.axis = *moved.get(range.axis)?;
            }
            ranges.sort_by_key(|range| range.axis);
        }
        Operator::Pad(Pad { pads: Some(pads), .. }) if pads.len() == rank => {
            *pads = permuted(pads, &permutation)
        }
        Operator::Expand(Expand { dims: Some(dims) }) if dims.len() == rank => {
            *dims = permuted(dims, &permutation)
        }
        Operator::Tile(Tile { repeats: Some(n) }) if n.len() == rank => *n = permuted(n, &permutation),
        Operator::Reshape(Reshape { dims: Some(dims), .. }) => {
            *dims = permuted(dims, &channels_last(dims.len()))
        }
        Operator::Reduce(reduce) => *reduce = remapped_reduce(reduce, rank)?,
        Operator::Resize(resize) => *resize = remapped_resize(editor, node, resize, &moved)?,
        Operator::QuantizeLinear(quantize) if quantize.block_size == 0 => {
            quantize.axis = axis(quantize.axis).unwrap_or(1)
        }
        Operator::DequantizeLinear(dequantize) if dequantize.block_size == 0 => {
            dequantize.axis = axis(dequantize.axis).unwrap_or(1);
        }
        Operator::Conv(conv) => to_last(&mut conv.layout)?,
        Operator::ConvTranspose(conv) => to_last(&mut conv.layout)?,
        Operator::ConvInteger(integer) => to_last(&mut integer.conv.layout)?,
        Operator::MaxPool(pool) if pools_channels_last(editor, node) => to_last(&mut pool.window.layout)?,
        Operator::AveragePool(pool) if pools_channels_last(editor, node) => to_last(&mut pool.window.layout)?,
        Operator::BatchNormalization(norm) => to_last(&mut norm.layout)?,
        Operator::InstanceNormalization(norm) => to_last(&mut norm.layout)?,
        Operator::GroupNormalization(norm) => to_last(&mut norm.layout)?,
        Operator::LocalResponseNormalization(norm) => to_last(&mut norm.layout)?,
        Operator::DepthToSpace(depth) => to_last(&mut depth.layout)?,
        Operator::SpaceToDepth(space) => to_last(&mut space.layout)?,
        _ => return None,
    }
    Some(op)
}

/// Whether a pool has a kernel for channels last: over one or two dimensions, without indices (which count elements in
/// the order of the model), and not of double precision.
pub(super) fn pools_channels_last(editor: &Editor, node: NodeId) -> bool {
    let x = editor.input(node, 0);
    x.and_then(|x| editor.rank(x)).is_some_and(|rank| (3..=4).contains(&rank))
        && x.and_then(|x| editor.element_type(x)) != Some(ElementType::F64)
        && editor.node(node).output(1).is_none()
}

/// Marks that channels are last now; `None` where they were before.
fn to_last(layout: &mut ImageLayout) -> Option<()> {
    (std::mem::replace(layout, ImageLayout::ChannelsLast) == ImageLayout::ChannelsFirst).then_some(())
}

fn remapped_axes(axes: &[i64], rank: usize) -> Option<Vec<i64>> {
    let moved = inverse(&channels_last(rank));
    let mut axes: Vec<i64> =
        axes.iter().map(|&axis| Some(moved[place(axis, rank)?] as i64)).collect::<Option<_>>()?;
    axes.sort_unstable();
    Some(axes)
}

fn remapped_reduce(reduce: &Reduce, rank: usize) -> Option<Reduce> {
    let axes = remapped_axes(reduce.axes.as_ref().filter(|_| reduce.keep_dims)?, rank)?;
    Some(Reduce { axes: Some(axes), ..reduce.clone() })
}

/// A reduction without kept axes whose result is in the order of the model even if its input has channels last.
pub(super) fn reduced_to_vectors(editor: &Editor, node: NodeId) -> Option<Operator> {
    let Operator::Reduce(reduce) = editor.op(node) else { return None };
    let rank = editor.rank(editor.input(node, 0)?).filter(|&rank| rank >= 3 && !reduce.keep_dims)?;
    let axes = reduce.axes.as_ref()?;
    let reduced: Vec<usize> = axes.iter().map(|&axis| place(axis, rank)).collect::<Option<_>>()?;
    let kept = channels_last(rank).into_iter().filter(|axis| !reduced.contains(axis));
    if reduced.is_empty() || !kept.is_sorted() {
        return None;
    }
    let axes = remapped_axes(axes, rank)?;
    Some(Operator::Reduce(Reduce { axes: Some(axes), ..reduce.clone() }))
}

/// Scales and sizes stay as they are; they speak of the moved axes.
fn remapped_resize(editor: &Editor, node: NodeId, resize: &Resize, moved: &[usize]) -> Option<Resize> {
    let crops = resize.coordinates == CoordinateMode::TfCropAndResize;
    if crops || editor.input(node, 0).and_then(|x| editor.rank(x)) != Some(moved.len()) {
        return None;
    }
    let rank = moved.len();
    let axes: Vec<i64> = match &resize.axes {
        None => moved.iter().map(|&axis| axis as i64).collect(),
        Some(axes) => {
            axes.iter().map(|&axis| Some(moved[place(axis, rank)?] as i64)).collect::<Option<_>>()?
        }
    };
    Some(Resize { axes: Some(axes), ..resize.clone() })
}
