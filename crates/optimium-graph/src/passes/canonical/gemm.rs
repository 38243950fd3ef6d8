//! Matrix products: Gemm becomes MatMul.

use optimium_tensor::{Expr, TensorShape};

use super::super::editor::Editor;
use crate::ops::{Activation, Binary, Fusion, Gemm, MatMul, Reshape};
use crate::{NodeId, Operator, ValueId};

/// `alpha · a · b + beta · c` to a product with a bias where c is one row, else to a product and a sum.
pub(super) fn gemm_to_matmul(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Gemm(gemm) = editor.op(node).clone() else { return None };
    let (a, b, y) = (editor.input(node, 0)?, editor.input(node, 1)?, editor.output(node)?);
    if editor.element_type(a).is_some_and(|t| !t.is_float()) {
        return None;
    }
    let product = Operator::MatMul(MatMul {
        transpose_a: gemm.transpose_a,
        transpose_b: gemm.transpose_b,
        alpha: gemm.alpha,
        fusion: Fusion { activation: Activation::None, residual_after_activation: false },
    });
    let Some(c) = editor.input(node, 2).filter(|_| gemm.beta != 0.0) else {
        editor.replace(node, product, vec![Some(a), Some(b)]);
        return Some(());
    };
    let width = editor.dims(b)?.get(usize::from(!gemm.transpose_b))?.clone();
    if let Some(bias) = bias(editor, node, &gemm, c, &width) {
        editor.replace(node, product, vec![Some(a), Some(b), Some(bias)]);
        return Some(());
    }
    let c = scaled(editor, node, c, gemm.beta)?;
    let shape = editor.value(y).shape().cloned();
    let x = editor.compute(node, product, &[a, b], y, shape);
    editor.replace(node, Operator::Binary { function: Binary::Add }, vec![Some(x), Some(c)]);
    Some(())
}

/// `beta · c` as a vector of `width`, where c is one row.
fn bias(editor: &mut Editor, node: NodeId, gemm: &Gemm, c: ValueId, width: &Expr) -> Option<ValueId> {
    let dims = editor.dims(c)?.to_vec();
    let name = editor.value(c).name.clone();
    if let (Some(mut values), Some(n)) = (editor.f32s(c), width.as_const()) {
        let n = usize::try_from(n).ok()?;
        let is_row = values.len() == n && dims.last() == Some(width) || values.len() == 1;
        if !is_row {
            return None;
        }
        values.iter_mut().for_each(|value| *value *= gemm.beta);
        if values.len() == 1 {
            values = vec![values[0]; n];
        }
        return editor.add_f32s(&name, &[n], &values);
    }
    let one_row = match dims.as_slice() {
        [only] => only == width,
        [rows, columns] => rows.as_const() == Some(1) && columns == width,
        _ => false,
    };
    if !one_row {
        return None;
    }
    let c = scaled(editor, node, c, gemm.beta)?;
    if dims.len() == 1 {
        return Some(c);
    }
    let shape = vec![width.clone()];
    let op = Operator::Reshape(Reshape { dims: Some(shape.clone()), allow_zero: false });
    Some(editor.compute(node, op, &[c], c, Some(TensorShape::new(shape))))
}

fn scaled(editor: &mut Editor, node: NodeId, c: ValueId, beta: f32) -> Option<ValueId> {
    if beta == 1.0 {
        return Some(c);
    }
    let factor = editor.add_f32s("beta", &[], &[beta])?;
    let shape = editor.value(c).shape().cloned();
    Some(editor.compute(node, Operator::Binary { function: Binary::Mul }, &[c, factor], c, shape))
}
