//! LayerNormalization spelled as `x · f + (bias - mean · f)`, with `f = scale / √(variance + ε)`: from the moments of x, as
//! Keras has it.

use super::super::editor::Editor;
use super::super::matching::{binary, either, operands, unary, with_scalar};
use super::layer_normalization::{parameter, trailing_dims, trailing_mean};
use crate::ops::{Binary, LayerNormalization, Unary};
use crate::{NodeId, Operator, ValueId};

/// `1 / √(variance + ε)`, and what it is multiplied with.
struct Factor {
    variance: ValueId,
    epsilon: f32,
    scale: Option<ValueId>,
}

pub(super) fn layer_normalization(editor: &mut Editor, node: NodeId) -> Option<()> {
    let pair = operands(editor, node, Binary::Add)?;
    let (x, mean, factor, bias) = either(pair, |product, rest| parts(editor, product, rest))?;
    let Factor { variance, epsilon, scale } = factor_of(editor, factor)?;
    let (of_mean, axis) = trailing_mean(editor, mean)?;
    let variance_axis = axis_of_variance(editor, variance, x, mean)?;
    if of_mean != x || axis != variance_axis || !editor.same_shape(x, editor.output(node)?) {
        return None;
    }
    let dims = trailing_dims(editor, x, axis)?;
    let axis = axis as i64 - editor.rank(x)? as i64;
    let name = editor.value(x).name.clone() + ".scale";
    let ones = vec![1.0; dims.iter().product()];
    let op = LayerNormalization { axis, epsilon };
    let scale = match scale {
        Some(scale) => parameter(editor, x, axis, scale)?,
        None => editor.add_f32s(&name, &dims, &ones)?,
    };
    let bias = parameter(editor, x, axis, bias)?;
    editor.replace(node, Operator::LayerNormalization(op), vec![Some(x), Some(scale), Some(bias)]);
    Some(())
}

/// The first of the last axes over which a value is the variance of x, given x's mean over them: the mean of the squared
/// difference of both, or that of x² less the square of the mean.
pub(super) fn axis_of_variance(
    editor: &Editor,
    variance: ValueId,
    x: ValueId,
    mean: ValueId,
) -> Option<usize> {
    if let Some([mean_of_squares, squared_mean]) = binary(editor, variance, Binary::Sub) {
        let (squares, axis) = trailing_mean(editor, mean_of_squares)?;
        let both = [unary(editor, squares, Unary::Square)?, unary(editor, squared_mean, Unary::Square)?];
        return (both == [x, mean]).then_some(axis);
    }
    let (squares, axis) = trailing_mean(editor, variance)?;
    let pair = match unary(editor, squares, Unary::Square) {
        Some(difference) => binary(editor, difference, Binary::Sub)?,
        None => binary(editor, squares, Binary::SquaredDifference)?,
    };
    (pair == [x, mean] || pair == [mean, x]).then_some(axis)
}

/// x, its mean, the factor and the bias of `x · factor` and `bias - mean · factor`.
fn parts(editor: &Editor, product: ValueId, rest: ValueId) -> Option<(ValueId, ValueId, ValueId, ValueId)> {
    let scaled = binary(editor, product, Binary::Mul)?;
    let (bias, moved) = shift(editor, rest)?;
    let (x, mean, factor) = either(scaled, |x, factor| {
        either(moved, |mean, other| (other == factor && mean != factor).then_some((x, mean, factor)))
    })?;
    editor.is_constant(bias).then_some((x, mean, factor, bias))
}

/// The bias, and mean and factor in some order, of `bias - mean · factor` or `bias + (-mean) · factor`.
fn shift(editor: &Editor, rest: ValueId) -> Option<(ValueId, [ValueId; 2])> {
    if let Some([bias, product]) = binary(editor, rest, Binary::Sub) {
        return Some((bias, binary(editor, product, Binary::Mul)?));
    }
    either(binary(editor, rest, Binary::Add)?, |product, bias| {
        let pair = binary(editor, product, Binary::Mul)?;
        let pair = either(pair, |negated, other| Some([unary(editor, negated, Unary::Neg)?, other]))?;
        Some((bias, pair))
    })
}

fn factor_of(editor: &Editor, factor: ValueId) -> Option<Factor> {
    let root = |value: ValueId| {
        let sum = binary(editor, unary(editor, value, Unary::Rsqrt)?, Binary::Add)?;
        with_scalar(editor, sum)
    };
    if let Some((variance, epsilon)) = root(factor) {
        return Some(Factor { variance, epsilon, scale: None });
    }
    let pair = binary(editor, factor, Binary::Mul)?;
    either(pair, |value, scale| {
        let (variance, epsilon) = root(value)?;
        editor.is_constant(scale).then_some(Factor { variance, epsilon, scale: Some(scale) })
    })
}
