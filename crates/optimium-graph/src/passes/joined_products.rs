//! Queries, keys and values that are projections of one tensor become one product of it, and columns of that.

use optimium_tensor::{Expr, Result};

use super::editor::Editor;
use crate::ops::{Fusion, MatMul, Slice, SliceRange};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(join))
}

/// A product with constant weights that only attention reads, or the embedding of its positions.
struct Projection {
    /// Who reads it, as which input.
    reader: NodeId,
    input: usize,
    x: ValueId,
    /// `[rows, columns]`, with the product's factor.
    weights: Vec<f32>,
    rows: usize,
    columns: usize,
    bias: Option<Vec<f32>>,
}

fn join(editor: &mut Editor, node: NodeId) -> Option<()> {
    if !matches!(editor.op(node), Operator::Attention(_)) {
        return None;
    }
    let all: Vec<Projection> = (0..3).filter_map(|input| projection(editor, node, input)).collect();
    let x = all.iter().map(|one| one.x).find(|&x| all.iter().filter(|one| one.x == x).count() > 1)?;
    let joined: Vec<Projection> = all.into_iter().filter(|one| one.x == x).collect();
    let columns: usize = joined.iter().map(|one| one.columns).sum();
    let rows = joined[0].rows;
    let mut weights = Vec::with_capacity(rows * columns);
    for row in 0..rows {
        joined.iter().for_each(|one| weights.extend(&one.weights[row * one.columns..][..one.columns]));
    }
    let name = editor.node(node).name.clone();
    let mut inputs = vec![x, editor.add_f32s(&format!("{name}.weights"), &[rows, columns], &weights)?];
    if joined.iter().any(|one| one.bias.is_some()) {
        let bias: Vec<f32> = joined
            .iter()
            .flat_map(|one| one.bias.clone().unwrap_or_else(|| vec![0.0; one.columns]))
            .collect();
        inputs.push(editor.add_f32s(&format!("{name}.bias"), &[columns], &bias)?);
    }
    let mut dims = editor.dims(x)?.to_vec();
    let op = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
    *dims.last_mut()? = Expr::from(columns);
    let whole = editor.compute(node, Operator::MatMul(op), &inputs, x, Some(dims.iter().cloned().collect()));
    let mut start = 0;
    for one in joined {
        let (first, count) = (Expr::from(start), Expr::from(one.columns));
        *dims.last_mut()? = count.clone();
        let range = SliceRange { axis: dims.len() - 1, start: first, count, step: 1 };
        let slice = Operator::Slice(Slice { ranges: Some(vec![range]) });
        let part = editor.compute(node, slice, &[whole], x, Some(dims.iter().cloned().collect()));
        editor.set_input(one.reader, one.input, Some(part));
        start += one.columns;
    }
    Some(())
}

/// What input `input` of an attention is, the embedding of positions left aside.
fn projection(editor: &Editor, node: NodeId, input: usize) -> Option<Projection> {
    let (mut reader, mut input, mut value) = (node, input, editor.input(node, input)?);
    if let Some(rotary) = editor.inner(value)
        && matches!(editor.op(rotary), Operator::RotaryEmbedding(_))
    {
        (reader, input, value) = (rotary, 0, editor.input(rotary, 0)?);
    }
    let product = editor.inner(value)?;
    let Operator::MatMul(matmul) = editor.op(product) else { return None };
    let alone = editor.node(product).inputs.iter().skip(3).all(Option::is_none);
    let plain = matmul.fusion == Fusion::default() && !matmul.transpose_a && alone;
    let (x, w) = (editor.input(product, 0)?, editor.input(product, 1)?);
    let dims = editor.fixed(w)?;
    if !plain || dims.len() != 2 || editor.rank(x)? != 3 {
        return None;
    }
    let stored: Vec<f32> = editor.f32s(w)?.iter().map(|weight| weight * matmul.alpha).collect();
    let (rows, columns) = if matmul.transpose_b { (dims[1], dims[0]) } else { (dims[0], dims[1]) };
    let weights = match matmul.transpose_b {
        true => (0..rows * columns).map(|i| stored[i % columns * rows + i / columns]).collect(),
        false => stored,
    };
    let bias = match editor.input(product, 2) {
        Some(bias) => Some(editor.f32s(bias).filter(|bias| bias.len() == columns)?),
        None => None,
    };
    Some(Projection { reader, input, x, weights, rows, columns, bias })
}
