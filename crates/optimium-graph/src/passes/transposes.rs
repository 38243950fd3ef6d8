//! Transposes in a row become one, those that move nothing become Reshapes, and matrix products take the swap of
//! the last two axes of their operands. This is after the layout of images was chosen, in which these Transposes count.

use optimium_tensor::Result;

use super::editor::Editor;
use super::permutation::{compose, moves_nothing, permuted, permuted_shape, swaps_last_two};
use crate::ops::{Reshape, Transpose};
use crate::{NodeId, Operator};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(merge)
        + editor.visit(to_reshape)
        + editor.visit(sides_to_flags)
        + editor.visit(swap_into_product))
}

fn permutation_of(editor: &Editor, node: NodeId) -> Option<Vec<usize>> {
    match editor.op(node) {
        Operator::Transpose(transpose) => Some(transpose.permutation.clone()),
        _ => None,
    }
}

/// A Transpose of a Transpose.
fn merge(editor: &mut Editor, node: NodeId) -> Option<()> {
    let second = permutation_of(editor, node)?;
    let producer = editor.producer(editor.input(node, 0)?)?;
    let permutation = compose(&permutation_of(editor, producer)?, &second);
    let x = editor.input(producer, 0)?;
    editor.replace(node, Operator::Transpose(Transpose { permutation }), vec![Some(x)]);
    Some(())
}

/// A Transpose that only moves axes of size one.
fn to_reshape(editor: &mut Editor, node: NodeId) -> Option<()> {
    let permutation = permutation_of(editor, node)?;
    let dims = editor.dims(editor.input(node, 0)?)?;
    let is_identity = permutation.is_sorted();
    if is_identity || !moves_nothing(dims, &permutation) {
        return None;
    }
    let dims = Some(permuted(dims, &permutation));
    editor.set_op(node, Operator::Reshape(Reshape { dims, allow_zero: true }));
    Some(())
}

/// Operands whose last two dimensions a Transpose swapped.
fn sides_to_flags(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::MatMul(mut matmul) = editor.op(node).clone() else { return None };
    let mut inputs = editor.node(node).inputs.clone();
    let mut changed = false;
    for (side, input) in inputs.iter_mut().take(2).enumerate() {
        let Some(producer) = input.and_then(|value| editor.producer(value)) else { continue };
        if permutation_of(editor, producer).is_some_and(|permutation| swaps_last_two(&permutation)) {
            *input = editor.input(producer, 0);
            let flag = if side == 0 { &mut matmul.transpose_a } else { &mut matmul.transpose_b };
            *flag = !*flag;
            changed = true;
        }
    }
    if changed {
        editor.replace(node, Operator::MatMul(matmul), inputs);
    }
    changed.then_some(())
}

/// An operand of a product whose last axis came from further in front: moving whole rows is cheaper, and the product
/// reads them either way.
fn swap_into_product(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::MatMul(mut matmul) = editor.op(node).clone() else { return None };
    let mut inputs = editor.node(node).inputs.clone();
    let mut changed = false;
    for (side, input) in inputs.iter_mut().take(2).enumerate() {
        let Some(operand) = *input else { continue };
        let Some(producer) = editor.inner(operand) else { continue };
        let (Some(mut permutation), Some(x)) = (permutation_of(editor, producer), editor.input(producer, 0))
        else {
            continue;
        };
        let rank = permutation.len();
        if rank < 3 || permutation[rank - 2] != rank - 1 {
            continue;
        }
        permutation.swap(rank - 1, rank - 2);
        let shape = editor.value(x).shape().map(|shape| permuted_shape(shape, &permutation));
        let op = Operator::Transpose(Transpose { permutation });
        *input = Some(editor.compute(node, op, &[x], operand, shape));
        let flag = if side == 0 { &mut matmul.transpose_a } else { &mut matmul.transpose_b };
        *flag = !*flag;
        changed = true;
    }
    if changed {
        editor.replace(node, Operator::MatMul(matmul), inputs);
    }
    changed.then_some(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect};
    use super::*;
    use crate::ValueId;
    use optimium_testing::each_case;

    #[test]
    fn fewer_and_cheaper_transposes() {
        type Build = fn(&mut Builder, ValueId) -> ValueId;
        let cases: [(&str, Build, &[&str]); 4] = [
            (
                "two",
                |b, x| {
                    let y = b.transpose(x, &[1, 0, 2, 3]);
                    b.transpose(y, &[0, 2, 1, 3])
                },
                &["Transpose"],
            ),
            ("of ones", |b, x| b.transpose(x, &[1, 0, 2, 3]), &["Transpose"]),
            (
                "of ones alone",
                |b, x| {
                    let y = b.reshape(x, &[2, 1, 3, 20]);
                    b.transpose(y, &[0, 2, 1, 3])
                },
                &["Reshape", "Reshape"],
            ),
            (
                "in front of a product",
                |b, x| {
                    let k = b.transpose(x, &[0, 2, 3, 1]);
                    let q = b.transpose(x, &[0, 2, 1, 3]);
                    b.matmul(q, k)
                },
                &["Transpose", "Transpose", "MatMul"],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 3, 4, 5]);
            let y = build(&mut builder, x);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }
}
