//! Attention spelled as products, a softmax and what brings the heads together, as transformers are exported.
//!
//! The heads are then read from where the projections wrote them: what separated and merged them is left out.

use optimium_tensor::{ElementType, Expr};

use super::super::editor::Editor;
use super::super::matching::{binary, either};
use crate::ops::{
    Attention, AttentionScores, Binary, Fusion, MatMul, Reshape, Slice, SliceRange, Transpose, Unary,
};
use crate::{NodeId, Operator, ValueId};

/// `softmax(scale · q · kᵀ + mask) · v`, or with a mask that chooses between scores and a number.
pub(in super::super) fn core(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (product, [weights, v]) = plain_product(editor, node)?;
    if product.transpose_b || product.alpha != 1.0 {
        return None;
    }
    let scores = Scores::of(editor, softmax_input(editor, weights)?)?;
    let dims = <[Expr; 4]>::try_from(editor.dims(scores.q)?.to_vec()).ok()?;
    let key_dims = <[Expr; 4]>::try_from(editor.dims(scores.k)?.to_vec()).ok()?;
    let value_dims = <[Expr; 4]>::try_from(editor.dims(v)?.to_vec()).ok()?;
    let same_batch = dims[..2] == key_dims[..2] && key_dims[..3] == value_dims[..3];
    // The kernels sum in single precision.
    let known = [ElementType::F32, ElementType::F16, ElementType::BF16];
    let element_type = editor.element_type(v).filter(|found| known.contains(found));
    let float = [scores.q, scores.k]
        .iter()
        .all(|&x| element_type.is_some() && editor.element_type(x) == element_type);
    if !same_batch || !float || !mask_fits(editor, &scores, &dims, &key_dims) {
        return None;
    }
    let (k, v) = match (ungrouped(editor, scores.k), ungrouped(editor, v)) {
        (Some(k), Some(v)) => (k, v),
        _ => (scores.k, v),
    };
    let cache = Cache::of(editor, k, v);
    let (new_k, new_v) = cache.as_ref().map_or((k, v), |cache| (cache.new[0], cache.new[1]));
    let [q, new_k, new_v] = [scores.q, new_k, new_v].map(|value| Heads::of(editor, node, value));
    let merging = merging_transpose(editor, node).filter(|_| dims[1].as_const().is_some());
    let op = Attention {
        query_heads: q.heads,
        key_heads: new_k.heads,
        value_heads: new_v.heads,
        scale: Some(scores.scale),
        softcap: 0.0,
        causal: false,
        merged: Some(merging.is_some()),
        scores: AttentionScores::Product,
        masked_score: scores.masked_score,
    };
    let mask = scores.mask.map(|mask| if scores.is_inverted { inverted(editor, node, mask) } else { mask });
    let past = |index: usize| cache.as_ref().map(|cache| cache.past[index]);
    let mut inputs = vec![Some(q.value), Some(new_k.value), Some(new_v.value), mask, past(0), past(1)];
    while inputs.last() == Some(&None) {
        inputs.pop();
    }
    let attention = finish(editor, node, merging, Operator::Attention(op), inputs)?;
    if let Some(cache) = cache {
        editor.adopt_output(attention, 1, cache.all[0]);
        editor.adopt_output(attention, 2, cache.all[1]);
    }
    Some(())
}

/// Lets `node`, or where the heads are merged behind it the Transpose that begins it, be computed from the new node.
fn finish(
    editor: &mut Editor,
    node: NodeId,
    merging: Option<NodeId>,
    op: Operator,
    inputs: Vec<Option<ValueId>>,
) -> Option<NodeId> {
    let Some(transpose) = merging else {
        editor.replace(node, op, inputs);
        return Some(node);
    };
    let split = editor.dims(editor.output(transpose)?)?.to_vec();
    let merged = vec![split[0].clone(), split[1].clone(), split[2].clone() * split[3].clone()];
    let like = editor.output(node)?;
    let output = editor.add_like(like, Some(merged.into_iter().collect()));
    let attention = editor.insert(node, op, inputs, output);
    let reshape = Operator::Reshape(Reshape { dims: Some(split), allow_zero: true });
    editor.replace(transpose, reshape, vec![Some(output)]);
    Some(attention)
}

/// A product of two tensors alone, and its operands.
fn plain_product(editor: &Editor, node: NodeId) -> Option<(MatMul, [ValueId; 2])> {
    let Operator::MatMul(matmul) = editor.op(node) else { return None };
    let plain = matmul.fusion == Fusion::default() && !matmul.transpose_a;
    let alone = editor.node(node).inputs.iter().skip(2).all(Option::is_none);
    let operands = [editor.input(node, 0)?, editor.input(node, 1)?];
    (plain && alone).then(|| (matmul.clone(), operands))
}

/// The operand of a softmax over the last of four axes, read by nobody else.
fn softmax_input(editor: &Editor, weights: ValueId) -> Option<ValueId> {
    let node = editor.inner(weights)?;
    let Operator::Softmax(softmax) = editor.op(node) else { return None };
    let last = matches!(softmax.axis, -1 | 3) && editor.rank(weights)? == 4;
    if last && !softmax.log { editor.input(node, 0) } else { None }
}

/// `scale · q · kᵀ`, and what becomes of it.
struct Scores {
    q: ValueId,
    k: ValueId,
    scale: f32,
    /// Real numbers to be added, or Bool where the products count.
    mask: Option<ValueId>,
    /// What they are where they do not count; none for no part at all.
    masked_score: Option<f32>,
    /// Whether the mask is Bool where they do not.
    is_inverted: bool,
}

impl Scores {
    fn of(editor: &Editor, value: ValueId) -> Option<Scores> {
        if let Some(scores) = Scores::product(editor, value) {
            return Some(scores);
        }
        if let Some(scores) = Scores::chosen(editor, value) {
            return Some(scores);
        }
        editor.sole_consumer(value)?;
        either(binary(editor, value, Binary::Add)?, |x, mask| {
            let scores = Scores::product(editor, x)?;
            Some(Scores { mask: Some(mask), ..scores })
        })
    }

    /// Products where the mask says so, or where it does not, and a number elsewhere.
    fn chosen(editor: &Editor, value: ValueId) -> Option<Scores> {
        let node = editor.inner(value)?;
        let (Operator::Where, &[Some(mask), Some(on), Some(off)]) =
            (editor.op(node), &editor.node(node).inputs[..])
        else {
            return None;
        };
        let (product, number, is_inverted) = match (editor.scalar_f32(on), editor.scalar_f32(off)) {
            (None, Some(number)) => (on, number, false),
            (Some(number), None) => (off, number, true),
            _ => return None,
        };
        // Minus infinity is no part at all.
        let masked_score = Some(number).filter(|number| number.is_finite());
        let scores = Scores::product(editor, product).filter(|_| number < f32::INFINITY)?;
        Some(Scores { mask: Some(mask), masked_score, is_inverted, ..scores })
    }

    /// The product, and factors behind it.
    fn product(editor: &Editor, value: ValueId) -> Option<Scores> {
        let (mut value, mut factor) = (value, 1.0);
        loop {
            let node = editor.inner(value)?;
            let Operator::Binary { function } = editor.op(node) else { break };
            let (x, number) = (editor.input(node, 0)?, editor.scalar_f32(editor.input(node, 1)?)?);
            factor *= match function {
                Binary::Mul => number,
                Binary::Div => 1.0 / number,
                _ => return None,
            };
            value = x;
        }
        let (product, [q, k]) = plain_product(editor, editor.inner(value)?)?;
        let scale = product.alpha * factor;
        (product.transpose_b && scale.is_finite()).then_some(Scores {
            q,
            k,
            scale,
            mask: None,
            masked_score: None,
            is_inverted: false,
        })
    }
}

/// The mask that says the contrary.
fn inverted(editor: &mut Editor, near: NodeId, mask: ValueId) -> ValueId {
    let shape = editor.value(mask).shape().cloned();
    editor.compute(near, Operator::Unary { function: Unary::Not }, &[mask], mask, shape)
}

/// Whether the mask is of real numbers or of Bool, and no larger than the scores.
fn mask_fits(editor: &Editor, scores: &Scores, dims: &[Expr; 4], key_dims: &[Expr; 4]) -> bool {
    let Some(mask) = scores.mask else { return true };
    let Some(mask_dims) = editor.dims(mask) else { return false };
    let full = [&dims[0], &dims[1], &dims[2], &key_dims[2]];
    let one = |dim: &Expr| dim.as_const() == Some(1);
    let Some(skipped) = full.len().checked_sub(mask_dims.len()) else { return false };
    let fits = mask_dims.iter().zip(&full[skipped..]).all(|(dim, full)| one(dim) || dim == *full);
    let known = [Some(ElementType::Bool), editor.element_type(scores.q)];
    fits && !mask_dims.is_empty() && known.contains(&editor.element_type(mask))
}

/// Heads of which each is repeated for several of the queries', before they are.
fn ungrouped(editor: &Editor, value: ValueId) -> Option<ValueId> {
    let reshape = editor.producer(value)?;
    let Operator::Reshape(_) = editor.op(reshape) else { return None };
    let expand = editor.producer(editor.input(reshape, 0)?)?;
    let Operator::Expand(_) = editor.op(expand) else { return None };
    let dims = editor.dims(value)?;
    let [batch, heads, group, length, size] = editor.dims(editor.input(reshape, 0)?)? else { return None };
    let repeated = [batch.clone(), heads.clone() * group.clone(), length.clone(), size.clone()];
    let unsqueezed = editor.input(expand, 0)?;
    let one = Expr::from(1i64);
    let before = [batch, heads, &one, length, size].map(Expr::clone);
    if dims != repeated || editor.dims(unsqueezed)? != before {
        return None;
    }
    let origin = editor.producer(unsqueezed)?;
    if !matches!(editor.op(origin), Operator::Reshape(_) | Operator::Unsqueeze(_)) {
        return None;
    }
    let x = editor.input(origin, 0)?;
    let wanted = [batch, heads, length, size].map(Expr::clone);
    (editor.dims(x)? == wanted).then_some(x)
}

/// Keys and values that are joined to past ones.
struct Cache {
    past: [ValueId; 2],
    new: [ValueId; 2],
    all: [ValueId; 2],
}

impl Cache {
    fn of(editor: &Editor, k: ValueId, v: ValueId) -> Option<Cache> {
        let [(past_k, new_k), (past_v, new_v)] = [Cache::joined(editor, k)?, Cache::joined(editor, v)?];
        let past_length = |value: ValueId| editor.dims(value).map(|dims| dims[2].clone());
        let same = past_length(past_k) == past_length(past_v) && k != v;
        same.then_some(Cache { past: [past_k, past_v], new: [new_k, new_v], all: [k, v] })
    }

    fn joined(editor: &Editor, value: ValueId) -> Option<(ValueId, ValueId)> {
        let node = editor.producer(value)?;
        let Operator::Concat(concat) = editor.op(node) else { return None };
        match editor.node(node).inputs[..] {
            [Some(past), Some(new)] if matches!(concat.axis, 2 | -2) => Some((past, new)),
            _ => None,
        }
    }
}

/// A tensor of heads, as an operand of attention.
struct Heads {
    value: ValueId,
    /// Their number, where they have no axis.
    heads: Option<usize>,
}

impl Heads {
    /// `[batch, heads, length, size]` as it is, or as `[batch, length, heads · size]` where it came from that.
    fn of(editor: &mut Editor, near: NodeId, value: ValueId) -> Heads {
        let separated = Heads::transposed(editor, near, value);
        separated.or_else(|| Heads::of_three(editor, near, value)).unwrap_or(Heads { value, heads: None })
    }

    fn transposed(editor: &mut Editor, near: NodeId, value: ValueId) -> Option<Heads> {
        let x = transposed_by(editor, value, &[0, 2, 1, 3])?;
        let [batch, length, heads, size] = editor.dims(x)?.to_vec().try_into().ok()?;
        let count = positive(&heads)?;
        positive(&size)?;
        let merged = reshaped(editor, near, x, vec![batch, length, heads * size]);
        Some(Heads { value: merged, heads: Some(count) })
    }

    /// One of several tensors that were projected together: `[batch, length, several, heads, size]`.
    fn of_three(editor: &mut Editor, near: NodeId, value: ValueId) -> Option<Heads> {
        let (part, index) = leading_part(editor, value)?;
        let x = transposed_by(editor, part, &[2, 0, 3, 1, 4])?;
        let [batch, length, several, heads, size] = editor.dims(x)?.to_vec().try_into().ok()?;
        let (count, size) = (positive(&heads)?, positive(&size)?);
        let width = count * size;
        let (several, index) = (positive(&several)?, usize::try_from(index).ok()?);
        let rows = vec![batch.clone(), length.clone(), Expr::from(several * width)];
        let merged = reshaped(editor, near, x, rows);
        let (start, columns) = (Expr::from(index * width), Expr::from(width));
        let range = SliceRange { axis: 2, start, count: columns.clone(), step: 1 };
        let op = Operator::Slice(Slice { ranges: Some(vec![range]) });
        let shape = [batch, length, columns].into_iter().collect();
        let value = editor.compute(near, op, &[merged], value, Some(shape));
        Some(Heads { value, heads: Some(count) })
    }
}

fn positive(dim: &Expr) -> Option<usize> {
    usize::try_from(dim.as_const()?).ok().filter(|&dim| dim > 0)
}

/// The operand of that Transpose.
fn transposed_by(editor: &Editor, value: ValueId, permutation: &[usize]) -> Option<ValueId> {
    let node = editor.producer(value)?;
    match editor.op(node) {
        Operator::Transpose(Transpose { permutation: found }) if found == permutation => {
            editor.input(node, 0)
        }
        _ => None,
    }
}

/// The tensor of whose first axis a value is one index, and which.
fn leading_part(editor: &Editor, value: ValueId) -> Option<(ValueId, i64)> {
    let (mut part, mut node) = (value, editor.producer(value)?);
    if matches!(editor.op(node), Operator::Reshape(_) | Operator::Squeeze(_)) {
        part = editor.input(node, 0)?;
        node = editor.producer(part)?;
    }
    let whole = editor.input(node, 0)?;
    let dims = editor.dims(whole)?;
    let index = match editor.op(node) {
        Operator::Slice(slice) => match slice.ranges.as_deref()? {
            [range] if range.axis == 0 && range.count.as_const() == Some(1) => range.start.as_const()?,
            _ => return None,
        },
        Operator::Gather(gather) if gather.axis == 0 => {
            match editor.constant(editor.input(node, 1)?)?.to_i64s().ok()?[..] {
                [index] => index,
                _ => return None,
            }
        }
        Operator::Split(split) if split.axis == 0 => {
            let sizes = split.sizes.as_ref()?;
            if sizes.iter().any(|size| size.as_const() != Some(1)) {
                return None;
            }
            editor.node(node).outputs.iter().position(|&output| output == Some(part))? as i64
        }
        _ => return None,
    };
    // The value is that part and nothing else.
    (dims.get(1..)? == editor.dims(value)?).then_some((whole, index))
}

/// `x` in another shape; where it was reshaped from that, what it was.
fn reshaped(editor: &mut Editor, near: NodeId, x: ValueId, dims: Vec<Expr>) -> ValueId {
    if let Some(node) = editor.producer(x)
        && matches!(editor.op(node), Operator::Reshape(_))
        && let Some(origin) = editor.input(node, 0)
        && editor.dims(origin) == Some(&dims[..])
    {
        return origin;
    }
    let op = Operator::Reshape(Reshape { dims: Some(dims.clone()), allow_zero: true });
    editor.compute(near, op, &[x], x, Some(dims.into_iter().collect()))
}

/// The Transpose that is all that becomes of a result, and puts its heads beside each other.
fn merging_transpose(editor: &Editor, node: NodeId) -> Option<NodeId> {
    let transpose = editor.sole_consumer(editor.output(node)?)?;
    match editor.op(transpose) {
        Operator::Transpose(op) if op.permutation == [0, 2, 1, 3] => Some(transpose),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::super::super::testing::{
        Builder, expect_simplified, plain_matmul, same_operators, simplified,
    };
    use super::*;
    use crate::ops::{Concat, Expand, Softmax};

    type Build = fn(&mut Builder, ValueId) -> ValueId;

    /// A projection of `[2, 5, 12]`, as `[2, 3, 5, 4]`.
    fn heads(b: &mut Builder, x: ValueId) -> ValueId {
        let w = b.weights(&[12, 12]);
        let (y, bias) = (b.matmul(x, w), b.weights(&[12]));
        let y = b.binary(Binary::Add, y, bias);
        let y = b.reshape(y, &[2, 5, 3, 4]);
        b.transpose(y, &[0, 2, 1, 3])
    }

    fn softmax(b: &mut Builder, x: ValueId) -> ValueId {
        b.node(Operator::Softmax(Softmax { axis: -1, log: false, flatten: false }), &[x])
    }

    fn merged(b: &mut Builder, y: ValueId, dims: &[usize]) -> ValueId {
        let y = b.transpose(y, &[0, 2, 1, 3]);
        let y = b.reshape(y, dims);
        let w = b.weights(&[dims[2], 7]);
        b.matmul(y, w)
    }

    /// As BERT is exported.
    fn masked(b: &mut Builder, x: ValueId) -> ValueId {
        let (q, k, v) = (heads(b, x), heads(b, x), heads(b, x));
        let k = b.transpose(k, &[0, 1, 3, 2]);
        let scores = b.matmul(q, k);
        let two = b.number(2.0);
        let scores = b.binary(Binary::Div, scores, two);
        let mask = b.input(&[2, 1, 1, 5]);
        let scores = b.binary(Binary::Add, scores, mask);
        let weights = softmax(b, scores);
        let y = b.matmul(weights, v);
        merged(b, y, &[2, 5, 12])
    }

    /// A mask chooses between scores and a number.
    fn chosen(b: &mut Builder, x: ValueId, is_inverted: bool) -> ValueId {
        let (q, k, v) = (heads(b, x), heads(b, x), heads(b, x));
        let k = b.transpose(k, &[0, 1, 3, 2]);
        let scores = b.matmul(q, k);
        let (mask, lowest) = (b.flags(&[2, 1, 5, 5]), b.number(-1e9));
        let (on, off) = if is_inverted { (lowest, scores) } else { (scores, lowest) };
        let scores = b.node(Operator::Where, &[mask, on, off]);
        let weights = softmax(b, scores);
        let y = b.matmul(weights, v);
        merged(b, y, &[2, 5, 12])
    }

    /// As vision transformers are: one projection, and the heads of all three moved together.
    fn of_one(b: &mut Builder, x: ValueId) -> ValueId {
        let w = b.weights(&[12, 36]);
        let y = b.matmul(x, w);
        let y = b.reshape(y, &[2, 5, 3, 3, 4]);
        let y = b.transpose(y, &[2, 0, 3, 1, 4]);
        let [q, k, v] = [0usize, 1, 2].map(|index| {
            let range = SliceRange { axis: 0, start: index.into(), count: 1usize.into(), step: 1 };
            let part = b.node(Operator::Slice(Slice { ranges: Some(vec![range]) }), &[y]);
            b.reshape(part, &[2, 3, 5, 4])
        });
        let half = b.number(0.5);
        let q = b.binary(Binary::Mul, q, half);
        let k = b.transpose(k, &[0, 1, 3, 2]);
        let scores = b.matmul(q, k);
        let weights = softmax(b, scores);
        let y = b.matmul(weights, v);
        merged(b, y, &[2, 5, 12])
    }

    /// Other readers need the scores.
    fn seen(b: &mut Builder, x: ValueId) -> ValueId {
        let (q, k, v) = (heads(b, x), heads(b, x), heads(b, x));
        let k = b.transpose(k, &[0, 1, 3, 2]);
        let scores = b.matmul(q, k);
        let weights = softmax(b, scores);
        let y = b.matmul(weights, v);
        let sum = b.reduce(crate::ops::Reduction::Sum, weights, &[3], true);
        b.binary(Binary::Mul, y, sum)
    }

    #[test]
    fn exporters_spellings() {
        let cases: [(&str, Build, &[&str]); 5] = [
            ("masked", masked, &["MatMul", "Slice", "Slice", "Slice", "Attention", "MatMul"]),
            (
                "chosen by a mask",
                |b, x| chosen(b, x, false),
                &["MatMul", "Slice", "Slice", "Slice", "Attention", "MatMul"],
            ),
            (
                "a mask of what is left out",
                |b, x| chosen(b, x, true),
                &["Not", "MatMul", "Slice", "Slice", "Slice", "Attention", "MatMul"],
            ),
            ("of one projection", of_one, &["MatMul", "Slice", "Slice", "Slice", "Attention", "MatMul"]),
            (
                "scores that are read",
                seen,
                &[
                    "MatMul",
                    "Reshape",
                    "Transpose",
                    "MatMul",
                    "Reshape",
                    "MatMul",
                    "Reshape",
                    "Transpose",
                    "Transpose",
                    "MatMul",
                    "Softmax",
                    "MatMul",
                    "ReduceSum",
                    "Mul",
                ],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 5, 12]);
            let y = build(&mut builder, x);
            let mut graph = builder.finish(&[y]);
            simplified(&mut graph)?;
            same_operators(&graph, expected)
        });
    }

    #[test]
    fn shared_heads_and_their_cache() {
        let mut b = Builder::new();
        let q = b.input(&[1, 4, 2, 8]);
        let mut joined = Vec::new();
        let mut repeated = Vec::new();
        for _ in 0..2 {
            let (past, new) = (b.input(&[1, 2, 6, 8]), b.input(&[1, 2, 2, 8]));
            let all = b.node(Operator::Concat(Concat { axis: 2 }), &[past, new]);
            let x = b.reshape(all, &[1, 2, 1, 8, 8]);
            let dims = [1, 2, 2, 8, 8].map(|dim: usize| Expr::from(dim)).to_vec();
            let x = b.node(Operator::Expand(Expand { dims: Some(dims) }), &[x]);
            repeated.push(b.reshape(x, &[1, 4, 8, 8]));
            joined.push(all);
        }
        let product = MatMul { transpose_b: true, alpha: 0.25, ..plain_matmul() };
        let scores = b.node(Operator::MatMul(product), &[q, repeated[0]]);
        let weights = softmax(&mut b, scores);
        let y = b.matmul(weights, repeated[1]);
        let graph = expect_simplified(b.finish(&[y, joined[0], joined[1]]), &["Attention"]).unwrap();
        let node = &graph.nodes()[0];
        assert_eq!(node.inputs.iter().flatten().count(), 5);
        assert_eq!(node.outputs, graph.outputs.iter().copied().map(Some).collect::<Vec<_>>());
    }
}
