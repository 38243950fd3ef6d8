//! The matrix product of dynamically quantized activations: five operators that are one.

use super::super::editor::Editor;
use super::super::matching::{either, operands};
use crate::ops::{Activation, Binary, DynamicQuantizedMatMul, Fusion};
use crate::{NodeId, Operator, ValueId};

/// `cast(matmul_integer(quantize(a), b)) · (a scale · b scale)`
pub(super) fn matmul(editor: &mut Editor, node: NodeId) -> Option<()> {
    let pair = operands(editor, node, Binary::Mul)?;
    let (cast, scales) = either(pair, |a, b| {
        matches!(editor.op(editor.inner(a)?), Operator::Cast(_)).then_some((a, b))
    })?;
    let product = editor.input(editor.producer(cast)?, 0)?;
    let product = editor.inner(product)?;
    let Operator::MatMulInteger(_) = editor.op(product) else { return None };
    let (a, b, zero) = (editor.input(product, 0)?, editor.input(product, 1)?, editor.input(product, 2)?);
    let b_zero = editor.input(product, 3);
    let quantize = editor.producer(a)?;
    let is_dynamic = *editor.op(quantize) == Operator::DynamicQuantizeLinear
        && editor.node(quantize).output(0) == Some(a)
        && editor.node(quantize).output(2) == Some(zero);
    let a_scale = editor.node(quantize).output(1)?;
    let b_scale = other_factor(editor, scales, a_scale)?;
    let constant = |value: ValueId| editor.is_constant(value);
    if !is_dynamic || !constant(b) || !constant(b_scale) || !b_zero.is_none_or(constant) || editor.rank(b)? != 2 {
        return None;
    }
    let x = editor.input(quantize, 0)?;
    let fusion = Fusion { activation: Activation::None, residual_after_activation: false };
    let op = Operator::DynamicQuantizedMatMul(DynamicQuantizedMatMul { fusion });
    editor.replace(node, op, vec![Some(x), Some(b), Some(b_scale), b_zero]);
    Some(())
}

fn other_factor(editor: &Editor, product: ValueId, factor: ValueId) -> Option<ValueId> {
    let pair = operands(editor, editor.producer(product)?, Binary::Mul)?;
    either(pair, |a, b| (a == factor).then_some(b))
}
