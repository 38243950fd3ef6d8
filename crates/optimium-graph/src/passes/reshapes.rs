//! Reshapes that stand between operators that need none, as exporters of `einsum` and `tensordot` leave them: around
//! transposes of axes of size one, products whose batches were merged into one axis, and the bias of a product. The operators are
//! computed in the shape from before, and the Reshapes meet behind them.

use optimium_tensor::{Expr, Result};

use super::editor::Editor;
use super::matching::operands;
use super::permutation::permuted;
use crate::ops::{Binary, Fusion, Reshape, Transpose};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(transpose) + editor.visit(product) + editor.visit(bias))
}

/// What a value was reshaped from.
fn origin(editor: &Editor, value: ValueId) -> Option<ValueId> {
    let node = editor.producer(value)?;
    if matches!(editor.op(node), Operator::Reshape(_)) { editor.input(node, 0) } else { None }
}

/// Whether a Reshape is all that becomes of the node's result.
fn is_reshaped(editor: &Editor, node: NodeId) -> bool {
    let reader = editor.output(node).and_then(|y| editor.sole_consumer(y));
    reader.is_some_and(|reader| matches!(editor.op(reader), Operator::Reshape(_)))
}

/// Lets `op` compute `dims` of `inputs`, and the node reshape that to what it gave.
fn reshape_behind(
    editor: &mut Editor,
    node: NodeId,
    op: Operator,
    inputs: &[ValueId],
    dims: Vec<Expr>,
) -> Option<()> {
    let y = editor.output(node)?;
    let own = editor.dims(y)?.to_vec();
    let inner = editor.compute(node, op, inputs, y, Some(dims.into_iter().collect()));
    let reshape = Operator::Reshape(Reshape { dims: Some(own), allow_zero: true });
    editor.replace(node, reshape, vec![Some(inner)]);
    Some(())
}

/// A Transpose of a tensor that axes of size one were put into, to more than the four that images and heads have.
fn transpose(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Transpose(Transpose { permutation }) = editor.op(node) else {
        return None;
    };
    let x = editor.input(node, 0).filter(|_| permutation.len() > 4 && is_reshaped(editor, node))?;
    let (origin, dims) = (origin(editor, x)?, editor.dims(x)?);
    let kept = kept_axes(dims);
    if kept.len() == dims.len() {
        return None;
    }
    let dims: Vec<Expr> = kept.iter().map(|&axis| dims[axis].clone()).collect();
    let place = |axis: &usize| kept.iter().position(|kept| kept == axis);
    let permutation: Vec<usize> = permutation.iter().filter_map(place).collect();
    let moved = permuted(&dims, &permutation);
    let reshape = Operator::Reshape(Reshape { dims: Some(dims.clone()), allow_zero: true });
    let x = editor.compute(node, reshape, &[origin], x, Some(dims.into_iter().collect()));
    reshape_behind(editor, node, Operator::Transpose(Transpose { permutation }), &[x], moved)
}

/// The axes that are left without those of size one, the last ones first, as far as there are more than four.
fn kept_axes(dims: &[Expr]) -> Vec<usize> {
    let mut kept: Vec<usize> = (0..dims.len()).collect();
    for axis in (0..dims.len()).rev() {
        if kept.len() > 4 && dims[axis].as_const() == Some(1) {
            kept.remove(axis);
        }
    }
    kept
}

/// A product whose operands had several axes of batches, the same ones.
fn product(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::MatMul(matmul) = editor.op(node).clone() else {
        return None;
    };
    let [Some(a), Some(b)] = editor.node(node).inputs[..] else {
        return None;
    };
    if matmul.fusion != Fusion::default() || !is_reshaped(editor, node) {
        return None;
    }
    let origins = [origin(editor, a)?, origin(editor, b)?];
    let [batches, others] = [batches(editor, a, origins[0])?, batches(editor, b, origins[1])?];
    if batches != others {
        return None;
    }
    let y = editor.dims(editor.output(node)?)?;
    let dims = batches.into_iter().chain(y.get(1..)?.iter().cloned()).collect();
    reshape_behind(editor, node, Operator::MatMul(matmul), &origins, dims)
}

/// The axes of batches of `origin`, where `x` is it with these as one.
fn batches(editor: &Editor, x: ValueId, origin: ValueId) -> Option<Vec<Expr>> {
    let (whole, merged) = (editor.dims(origin)?, editor.dims(x)?);
    let [_, rows, columns] = merged else {
        return None;
    };
    let (batches, matrix) = whole.split_at_checked(whole.len().checked_sub(2)?)?;
    (batches.len() > 1 && matrix == [rows.clone(), columns.clone()]).then(|| batches.to_vec())
}

/// A constant added to a product behind a Reshape that leaves the rows together, or takes them apart as the constant is.
fn bias(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [sum, constant] = operands(editor, node, Binary::Add)?;
    editor.inner(sum)?;
    let x = origin(editor, sum)?;
    if !matches!(editor.op(editor.inner(x)?), Operator::MatMul(_)) {
        return None;
    }
    let values = editor.f32s(constant)?;
    let rank = editor.rank(constant).filter(|&rank| rank > 0)?;
    let shape = editor.fixed(constant)?;
    let dims = editor.dims(x)?.to_vec();
    let split = editor.dims(sum)?;
    let parts = split.get(split.len().checked_sub(rank)?..)?;
    let same = parts.iter().zip(&shape).all(|(part, &dim)| part.as_const() == i64::try_from(dim).ok());
    if !same || dims.last()?.as_const() != i64::try_from(values.len()).ok() {
        return None;
    }
    let name = editor.value(constant).name.clone();
    let row = editor.add_f32s(&name, &[values.len()], &values)?;
    reshape_behind(editor, node, Operator::Binary { function: Binary::Add }, &[x, row], dims)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect, same_operators, simplified};
    use super::*;
    use crate::ops::Softmax;
    use optimium_testing::each_case;

    #[test]
    fn operators_are_computed_in_the_shape_from_before() {
        type Build = fn(&mut Builder, ValueId) -> ValueId;
        let cases: [(&str, Build, &[&str]); 5] = [
            (
                "transpose of inserted axes",
                |b, x| {
                    let y = b.reshape(x, &[2, 3, 1, 4, 5]);
                    let y = b.transpose(y, &[0, 3, 2, 1, 4]);
                    b.reshape(y, &[8, 3, 5])
                },
                &["Reshape", "Transpose", "Reshape", "Reshape"],
            ),
            (
                "transpose of other axes",
                |b, x| {
                    let y = b.reshape(x, &[2, 3, 2, 2, 5]);
                    let y = b.transpose(y, &[0, 3, 2, 1, 4]);
                    b.reshape(y, &[8, 3, 5])
                },
                &["Reshape", "Transpose", "Reshape"],
            ),
            (
                "product of merged batches",
                |b, x| {
                    let c = b.input(&[2, 3, 5, 7]);
                    let (x, c) = (b.reshape(x, &[6, 4, 5]), b.reshape(c, &[6, 5, 7]));
                    let y = b.matmul(x, c);
                    b.reshape(y, &[2, 3, 4, 7])
                },
                &["MatMul", "Reshape", "Reshape"],
            ),
            (
                "product of other batches",
                |b, x| {
                    let c = b.input(&[3, 2, 5, 7]);
                    let (x, c) = (b.reshape(x, &[6, 4, 5]), b.reshape(c, &[6, 5, 7]));
                    let y = b.matmul(x, c);
                    b.reshape(y, &[2, 3, 4, 7])
                },
                &["Reshape", "Reshape", "MatMul", "Reshape"],
            ),
            (
                "bias of heads",
                |b, x| {
                    let (w, c) = (b.weights(&[5, 6]), b.weights(&[2, 3]));
                    let y = b.matmul(x, w);
                    let y = b.reshape(y, &[6, 4, 2, 3]);
                    b.binary(Binary::Add, y, c)
                },
                &["MatMul", "Add", "Reshape"],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 3, 4, 5]);
            let y = build(&mut builder, x);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }

    /// A projection of `[1, 5, 12]` in heads `[1, 5, 3, 4]`, with an axis put into it and moved, and the batches merged.
    fn heads(
        b: &mut Builder,
        x: ValueId,
        has_bias: bool,
        inserted: &[usize],
        permutation: &[usize],
        merged: &[usize],
    ) -> ValueId {
        let w = b.weights(&[12, 12]);
        let y = b.matmul(x, w);
        let mut y = b.reshape(y, &[1, 5, 3, 4]);
        if has_bias {
            let bias = b.weights(&[3, 4]);
            y = b.binary(Binary::Add, y, bias);
        }
        let y = b.reshape(y, inserted);
        let y = b.transpose(y, permutation);
        b.reshape(y, merged)
    }

    /// As tf2onnx writes the products of Keras: with a bias of keys or not, and with an axis of one behind scores, weights and
    /// heads or not.
    #[test]
    fn attention_of_einsum() {
        each_case([(true, false), (true, true), (false, false), (false, true)], |&(has_bias, inserts)| {
            let mut b = Builder::new();
            let x = b.input(&[1, 5, 12]);
            let q = heads(&mut b, x, true, &[1, 5, 3, 1, 4], &[0, 2, 1, 3, 4], &[3, 5, 4]);
            let k = heads(&mut b, x, has_bias, &[1, 1, 5, 3, 4], &[0, 3, 1, 2, 4], &[3, 5, 4]);
            let v = heads(&mut b, x, true, &[1, 5, 1, 3, 4], &[0, 3, 2, 4, 1], &[3, 4, 5]);
            let (k, v) = (b.transpose(k, &[0, 2, 1]), b.transpose(v, &[0, 2, 1]));
            let mut scores = b.matmul(q, k);
            if inserts {
                scores = b.reshape(scores, &[1, 3, 5, 5, 1]);
            }
            let scores = b.reshape(scores, &[1, 3, 5, 5]);
            let half = b.number(0.5);
            let scores = b.binary(Binary::Mul, scores, half);
            let softmax = Operator::Softmax(Softmax { axis: -1, log: false, flatten: false });
            let mut weights = b.node(softmax, &[scores]);
            if inserts {
                weights = b.reshape(weights, &[1, 3, 5, 1, 5]);
            }
            let weights = b.reshape(weights, &[3, 5, 5]);
            let y = b.matmul(weights, v);
            let y = if inserts {
                let y = b.reshape(y, &[1, 3, 5, 4, 1]);
                b.transpose(y, &[0, 2, 1, 3, 4])
            } else {
                let y = b.reshape(y, &[1, 3, 5, 4]);
                b.transpose(y, &[0, 2, 1, 3])
            };
            let y = b.reshape(y, &[1, 5, 12]);
            let w = b.weights(&[12, 7]);
            let y = b.matmul(y, w);
            let expected = ["MatMul", "Slice", "Slice", "Slice", "Attention", "MatMul"];
            let mut graph = b.finish(&[y]);
            simplified(&mut graph).map_err(|error| error.to_string())?;
            same_operators(&graph, &expected)
        });
    }
}
