//! LayerNormalization spelled as means, differences and a root.
//!
//! The core `(x - mean) / √(variance + ε)` is found first; a product and a sum behind it become its scale and bias.

use super::super::editor::Editor;
use super::super::matching::{binary, either, operands, unary, with_scalar};
use super::moments::axis_of_variance;
use crate::ops::{Binary, LayerNormalization, Reduction, Unary};
use crate::{NodeId, Operator, ValueId};

/// `d / √(mean(d²) + ε)` with `d = x - mean(x)`, or `d · 1/√…`.
pub(super) fn core(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (difference, radicand) = over_root(editor, node)?;
    let (variance, epsilon) = with_scalar(editor, binary(editor, radicand, Binary::Add)?)?;
    let [x, mean] = binary(editor, difference, Binary::Sub)?;
    let (of_mean, axis) = trailing_mean(editor, mean)?;
    let variance_axis = axis_of_variance(editor, variance, x, mean)?;
    if of_mean != x || axis != variance_axis || !editor.same_shape(x, editor.output(node)?) {
        return None;
    }
    let dims = editor.fixed(x).or_else(|| trailing_dims(editor, x, axis))?;
    let normalized = &dims[dims.len() - (editor.rank(x)? - axis)..];
    let ones = vec![1.0; normalized.iter().product()];
    let name = editor.value(x).name.clone() + ".scale";
    let scale = editor.add_f32s(&name, normalized, &ones)?;
    let axis = axis as i64 - editor.rank(x)? as i64;
    let op = Operator::LayerNormalization(LayerNormalization { axis, epsilon });
    editor.replace(node, op, vec![Some(x), Some(scale)]);
    Some(())
}

/// `a / √b`, however spelled.
pub(super) fn over_root(editor: &Editor, node: NodeId) -> Option<(ValueId, ValueId)> {
    if let Some([a, root]) = operands(editor, node, Binary::Div) {
        return Some((a, unary(editor, root, Unary::Sqrt)?));
    }
    let pair = operands(editor, node, Binary::Mul)?;
    either(pair, |a, root| Some((a, unary(editor, root, Unary::Rsqrt)?)))
}

/// The operand of a mean over the last axes, which stay, and the first of them.
pub(super) fn trailing_mean(editor: &Editor, value: ValueId) -> Option<(ValueId, usize)> {
    let node = editor.producer(value)?;
    let Operator::Reduce(reduce) = editor.op(node) else { return None };
    let x = editor.input(node, 0)?;
    let rank = editor.rank(x)? as i64;
    let axes = reduce.axes.as_ref().filter(|_| reduce.reduction == Reduction::Mean && reduce.keep_dims)?;
    let mut axes: Vec<i64> = axes.iter().map(|&axis| if axis < 0 { axis + rank } else { axis }).collect();
    axes.sort_unstable();
    let first = *axes.first()?;
    axes.into_iter().eq(first..rank).then_some((x, first as usize))
}

/// The dimensions from `axis` on, where they are numbers.
pub(super) fn trailing_dims(editor: &Editor, x: ValueId, axis: usize) -> Option<Vec<usize>> {
    editor.dims(x)?.get(axis..)?.iter().map(|dim| usize::try_from(dim.as_const()?).ok()).collect()
}

/// The dimensions of `x` that are normalized together.
fn normalized_dims(editor: &Editor, x: ValueId, axis: i64) -> Option<Vec<usize>> {
    let rank = editor.rank(x)? as i64;
    let first = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    trailing_dims(editor, x, first)
}

/// A parameter of a normalization of `x`: a constant that has one number for each normalized element.
pub(super) fn parameter(editor: &mut Editor, x: ValueId, axis: i64, value: ValueId) -> Option<ValueId> {
    let dims = normalized_dims(editor, x, axis)?;
    let own = editor.fixed(value)?;
    if own == dims {
        return Some(value);
    }
    let values = editor.f32s(value)?;
    let leading_ones = own.len().checked_sub(dims.len())?;
    let fits = own[leading_ones..] == dims && own[..leading_ones].iter().all(|&dim| dim == 1);
    let name = editor.value(value).name.clone();
    if fits { editor.add_f32s(&name, &dims, &values) } else { None }
}

/// Whether a constant is one everywhere.
pub(super) fn is_ones(editor: &Editor, value: ValueId) -> bool {
    editor.f32s(value).is_some_and(|values| values.iter().all(|&x| x == 1.0))
}

pub(super) fn scale(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [normalized, factor] = constant_second(editor, node, Binary::Mul)?;
    let inner = editor.inner(normalized)?;
    let Operator::LayerNormalization(layer) = editor.op(inner).clone() else { return None };
    let (x, old) = (editor.input(inner, 0)?, editor.input(inner, 1)?);
    if !is_ones(editor, old) || editor.input(inner, 2).is_some() {
        return None;
    }
    let scale = parameter(editor, x, layer.axis, factor)?;
    editor.replace(node, Operator::LayerNormalization(layer), vec![Some(x), Some(scale)]);
    Some(())
}

pub(super) fn bias(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [normalized, term] = constant_second(editor, node, Binary::Add)?;
    let inner = editor.inner(normalized)?;
    let Operator::LayerNormalization(layer) = editor.op(inner).clone() else { return None };
    let (x, scale) = (editor.input(inner, 0)?, editor.input(inner, 1)?);
    if editor.input(inner, 2).is_some() {
        return None;
    }
    let bias = parameter(editor, x, layer.axis, term)?;
    editor.replace(node, Operator::LayerNormalization(layer), vec![Some(x), Some(scale), Some(bias)]);
    Some(())
}

/// The operands, a constant second.
pub(super) fn constant_second(editor: &Editor, node: NodeId, function: Binary) -> Option<[ValueId; 2]> {
    let pair = operands(editor, node, function)?;
    either(pair, |a, b| (editor.is_constant(b) && !editor.is_constant(a)).then_some([a, b]))
}
