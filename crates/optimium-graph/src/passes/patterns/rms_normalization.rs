//! RMS normalization spelled as a mean of squares and a root, as language models are exported.

use super::super::editor::Editor;
use super::super::matching::{binary, unary, with_scalar};
use super::layer_normalization::{
    constant_second, is_ones, over_root, parameter, trailing_dims, trailing_mean,
};
use crate::ops::{Binary, RmsNormalization, Unary};
use crate::{NodeId, Operator};

/// `x / √(mean(x²) + ε)`
pub(super) fn core(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (x, radicand) = over_root(editor, node)?;
    let (mean, epsilon) = with_scalar(editor, binary(editor, radicand, Binary::Add)?)?;
    let (squares, axis) = trailing_mean(editor, mean)?;
    if unary(editor, squares, Unary::Square)? != x || !editor.same_shape(x, editor.output(node)?) {
        return None;
    }
    let dims = trailing_dims(editor, x, axis)?;
    let ones = vec![1.0; dims.iter().product()];
    let name = editor.value(x).name.clone() + ".scale";
    let scale = editor.add_f32s(&name, &dims, &ones)?;
    let axis = axis as i64 - editor.rank(x)? as i64;
    let op = Operator::RmsNormalization(RmsNormalization { axis, epsilon });
    editor.replace(node, op, vec![Some(x), Some(scale)]);
    Some(())
}

/// A product behind it.
pub(super) fn scale(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [normalized, factor] = constant_second(editor, node, Binary::Mul)?;
    let inner = editor.inner(normalized)?;
    let Operator::RmsNormalization(rms) = editor.op(inner).clone() else { return None };
    let (x, old) = (editor.input(inner, 0)?, editor.input(inner, 1)?);
    if !is_ones(editor, old) {
        return None;
    }
    let scale = parameter(editor, x, rms.axis, factor)?;
    editor.replace(node, Operator::RmsNormalization(rms), vec![Some(x), Some(scale)]);
    Some(())
}
