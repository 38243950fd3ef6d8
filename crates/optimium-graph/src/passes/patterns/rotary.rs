//! Rotary embeddings spelled as `x · cos + turned(x) · sin`, where `turned` swaps the halves of a head and negates one.

use optimium_tensor::{ElementType, Expr};

use super::super::editor::Editor;
use super::super::matching::{either, operands, unary};
use crate::ops::{Binary, Reshape, RotaryEmbedding, Transpose, Unary};
use crate::{NodeId, Operator, ValueId};

pub(in super::super) fn core(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (x, cos, sin) = either(operands(editor, node, Binary::Add)?, |straight, turned| {
        let turned = product(editor, turned)?;
        let straight = product(editor, straight)?;
        either(turned, |swapped, sin| {
            let x = swapped_halves(editor, swapped)?;
            either(straight, |other, cos| (other == x).then_some((x, cos, sin)))
        })
    })?;
    let dims = <[Expr; 4]>::try_from(editor.dims(x)?.to_vec()).ok()?;
    // The kernel turns in single precision.
    let known = [ElementType::F32, ElementType::F16, ElementType::BF16];
    if !known.contains(&editor.element_type(x)?) || !editor.same_shape(x, editor.output(node)?) {
        return None;
    }
    let [batch, heads, length, size] = dims.clone();
    let cos = angles(editor, node, cos, &dims)?;
    let sin = angles(editor, node, sin, &dims)?;
    let Some(merged) = merged(editor, x).filter(|_| size.as_const().is_some()) else {
        let op = RotaryEmbedding { heads: None, size: None, interleaved: false };
        editor.replace(node, Operator::RotaryEmbedding(op), vec![Some(x), Some(cos), Some(sin)]);
        return Some(());
    };
    // The heads are read where the projection wrote them, and moved behind.
    let count = usize::try_from(heads.as_const()?).ok()?;
    let rows = vec![batch.clone(), length.clone(), heads.clone() * size.clone()];
    let shape = Some(rows.iter().cloned().collect());
    let reshape = |dims: Vec<Expr>| Operator::Reshape(Reshape { dims: Some(dims), allow_zero: true });
    let rows = editor.compute(node, reshape(rows), &[merged], x, shape.clone());
    let op = RotaryEmbedding { heads: Some(count), size: None, interleaved: false };
    let y = editor.compute(node, Operator::RotaryEmbedding(op), &[rows, cos, sin], x, shape);
    let separated = vec![batch, length, heads, size];
    let shape = Some(separated.iter().cloned().collect());
    let y = editor.compute(node, reshape(separated), &[y], x, shape);
    let transpose = Transpose { permutation: vec![0, 2, 1, 3] };
    editor.replace(node, Operator::Transpose(transpose), vec![Some(y)]);
    Some(())
}

/// The factors of a product.
fn product(editor: &Editor, value: ValueId) -> Option<[ValueId; 2]> {
    operands(editor, editor.producer(value)?, Binary::Mul)
}

/// x of `concat(-second half of x, first half of x)` along the last axis.
fn swapped_halves(editor: &Editor, value: ValueId) -> Option<ValueId> {
    let node = editor.producer(value)?;
    let Operator::Concat(concat) = editor.op(node) else { return None };
    let [Some(negated), Some(first)] = editor.node(node).inputs[..] else { return None };
    let (x, place) = half(editor, first)?;
    let (other, other_place) = half(editor, unary(editor, negated, Unary::Neg)?)?;
    let last = matches!(concat.axis, -1 | 3) && editor.rank(x)? == 4;
    (last && x == other && [place, other_place] == [0, 1]).then_some(x)
}

/// The tensor of whose last axis a value is the first or the second half, and which.
fn half(editor: &Editor, value: ValueId) -> Option<(ValueId, usize)> {
    let node = editor.producer(value)?;
    let x = editor.input(node, 0)?;
    let rank = editor.rank(x)?;
    let size = editor.dims(x)?.last()?.as_const()?;
    let own = editor.dims(value)?.last()?.as_const()?;
    let start = match editor.op(node) {
        Operator::Slice(slice) => match slice.ranges.as_deref()? {
            [range] if range.axis + 1 == rank && range.step == 1 => range.start.as_const()?,
            _ => return None,
        },
        Operator::Split(split) if split.axis == -1 || usize::try_from(split.axis) == Ok(rank - 1) => {
            let index = editor.node(node).outputs.iter().position(|&output| output == Some(value))?;
            index as i64 * own
        }
        _ => return None,
    };
    let place = [0, own].iter().position(|&place| place == start)?;
    (2 * own == size && own > 0).then_some((x, place))
}

/// Cosines or sines of `[batch or 1, 1, length, size]`, without their axis of heads.
fn angles(editor: &mut Editor, near: NodeId, value: ValueId, x: &[Expr; 4]) -> Option<ValueId> {
    let dims = editor.dims(value)?;
    let skipped = 4usize.checked_sub(dims.len())?;
    let one = Expr::from(1i64);
    let dim = |axis: usize| axis.checked_sub(skipped).map_or(&one, |axis| &dims[axis]);
    let batch = dim(0).clone();
    let fits = *dim(1) == one && (batch == one || batch == x[0]) && *dim(2) == x[2] && *dim(3) == x[3];
    if !fits || editor.element_type(value) != editor.element_type(editor.output(near)?) {
        return None;
    }
    let dims = vec![batch, x[2].clone(), x[3].clone()];
    let shape = Some(dims.iter().cloned().collect());
    let op = Operator::Reshape(Reshape { dims: Some(dims), allow_zero: true });
    Some(editor.compute(near, op, &[value], value, shape))
}

/// `[batch, length, heads, size]`, where x is the transpose of that to `[batch, heads, length, size]`.
fn merged(editor: &Editor, x: ValueId) -> Option<ValueId> {
    let node = editor.producer(x)?;
    match editor.op(node) {
        Operator::Transpose(op) if op.permutation == [0, 2, 1, 3] => editor.input(node, 0),
        _ => None,
    }
    .filter(|_| editor.dims(x).is_some_and(|dims| dims[1].as_const().is_some()))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Builder, same_operators, simplified};
    use super::*;
    use crate::ops::{Concat, Slice, SliceRange};
    use optimium_testing::each_case;

    fn slice(b: &mut Builder, x: ValueId, start: usize, count: usize) -> ValueId {
        let range = SliceRange { axis: 3, start: Expr::from(start), count: Expr::from(count), step: 1 };
        b.node(Operator::Slice(Slice { ranges: Some(vec![range]) }), &[x])
    }

    /// `x · cos + turned(x) · sin`, where the halves are cut at `first`.
    fn turned(b: &mut Builder, x: ValueId, first: usize) -> ValueId {
        let (cos, sin) = (b.input(&[1, 1, 5, 8]), b.input(&[1, 1, 5, 8]));
        let (low, high) = (slice(b, x, 0, first), slice(b, x, first, 8 - first));
        let high = b.unary(Unary::Neg, high);
        let swapped = b.node(Operator::Concat(Concat { axis: -1 }), &[high, low]);
        let straight = b.binary(Binary::Mul, x, cos);
        let swapped = b.binary(Binary::Mul, swapped, sin);
        b.binary(Binary::Add, straight, swapped)
    }

    #[test]
    fn halves_that_swap() {
        let cases: [(usize, &[&str]); 2] = [
            (4, &["Reshape", "Reshape", "RotaryEmbedding"]),
            (3, &["Slice", "Slice", "Neg", "Concat", "Mul", "Mul", "Add"]),
        ];
        each_case(cases, |&(first, expected)| {
            let mut b = Builder::new();
            let x = b.input(&[2, 3, 5, 8]);
            let y = turned(&mut b, x, first);
            let mut graph = b.finish(&[y]);
            simplified(&mut graph)?;
            same_operators(&graph, expected)
        });
    }
}
