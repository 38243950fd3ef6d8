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
    let (squares, variance_axis) = trailing_mean(editor, variance)?;
    let is_square = match unary(editor, squares, Unary::Square) {
        Some(difference) => binary(editor, difference, Binary::Sub) == Some([x, mean]),
        None => binary(editor, squares, Binary::SquaredDifference)
            .is_some_and(|pair| pair == [x, mean] || pair == [mean, x]),
    };
    if !is_square || of_mean != x || axis != variance_axis || !editor.same_shape(x, editor.output(node)?) {
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

/// x, its mean, the factor and the bias of `x · factor` and `bias - mean · factor`.
fn parts(editor: &Editor, product: ValueId, rest: ValueId) -> Option<(ValueId, ValueId, ValueId, ValueId)> {
    let scaled = binary(editor, product, Binary::Mul)?;
    let [bias, shift] = binary(editor, rest, Binary::Sub)?;
    let moved = binary(editor, shift, Binary::Mul)?;
    let (x, mean, factor) = either(scaled, |x, factor| {
        either(moved, |mean, other| (other == factor && mean != factor).then_some((x, mean, factor)))
    })?;
    editor.is_constant(bias).then_some((x, mean, factor, bias))
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
