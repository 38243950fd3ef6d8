//! What needs no copy, and what only looks as if it did not.

use optimium_graph::ops::{
    Binary, Concat, Expand, Pad, PadMode, Reshape, Slice, SliceRange, Split, Tile, Transpose, Unary,
};
use optimium_graph::{Operator, ValueId};
use optimium_tensor::Expr;
use optimium_testing::Tolerance;

use super::harness::{Builder, check, map};

fn concat(b: &mut Builder, axis: i64, parts: &[ValueId]) -> ValueId {
    b.node(Operator::Concat(Concat { axis }), parts)
}

fn split(b: &mut Builder, x: ValueId, axis: i64, sizes: &[usize]) -> Vec<ValueId> {
    let known = Some(sizes.iter().map(|&size| Expr::from(size)).collect());
    b.nodes(Operator::Split(Split { axis, sizes: known }), vec![Some(x)], sizes.len())
}

fn reshape(b: &mut Builder, x: ValueId, dims: &[usize]) -> ValueId {
    let dims = Some(dims.iter().map(|&dim| Expr::from(dim)).collect());
    b.node(Operator::Reshape(Reshape { dims, allow_zero: true }), &[x])
}

fn slice(b: &mut Builder, x: ValueId, axis: usize, start: usize, count: usize, step: i64) -> ValueId {
    let range = SliceRange { axis, start: start.into(), count: count.into(), step };
    b.node(Operator::Slice(Slice { ranges: Some(vec![range]) }), &[x])
}

fn negated(x: &[f32]) -> Vec<f32> {
    map(x, |x| -x)
}

#[test]
fn joined() {
    check(
        Tolerance::Exact,
        [
            ("along the first axis", |b| {
                let ((x, v), (z, w)) = (b.random(&[2, 3]), b.random(&[4, 3]));
                let (y, z) = (b.unary(Unary::Neg, x), b.unary(Unary::Neg, z));
                vec![(concat(b, 0, &[y, z]), negated(&[v, w].concat()))]
            }),
            ("along the last axis", |b| {
                let (x, z) = (b.input(&[2, 1], &[1.0f32, 2.0]), b.input(&[2, 2], &[3.0f32, 4.0, 5.0, 6.0]));
                let y = b.unary(Unary::Neg, x);
                vec![(concat(b, -1, &[y, z, y]), vec![-1.0, 3.0, 4.0, -1.0, -2.0, 5.0, 6.0, -2.0])]
            }),
            ("one operand twice", |b| {
                let (x, v) = b.random(&[7]);
                let y = b.unary(Unary::Neg, x);
                let z = concat(b, 0, &[y, y]);
                vec![(b.unary(Unary::Neg, z), [v.clone(), v].concat())]
            }),
            ("a part that is read again", |b| {
                let ((x, v), (z, w)) = (b.random(&[5]), b.random(&[5]));
                let y = b.unary(Unary::Neg, x);
                let joined = concat(b, 0, &[y, z]);
                let again = b.unary(Unary::Neg, y);
                let more = b.unary(Unary::Neg, joined);
                vec![(again, v.clone()), (more, [v, negated(&w)].concat())]
            }),
            ("a part that is an output", |b| {
                let ((x, v), (z, w)) = (b.random(&[5]), b.random(&[3]));
                let y = b.unary(Unary::Neg, x);
                let joined = concat(b, 0, &[z, y]);
                vec![(y, negated(&v)), (joined, [w, negated(&v)].concat())]
            }),
            ("a part of two wholes", |b| {
                let ((x, v), (z, w)) = (b.random(&[5]), b.random(&[3]));
                let (y, z) = (b.unary(Unary::Neg, x), b.unary(Unary::Neg, z));
                let (first, second) = (concat(b, 0, &[y, z]), concat(b, 0, &[z, y]));
                let (first, second) = (b.unary(Unary::Neg, first), b.unary(Unary::Neg, second));
                vec![(first, [v.clone(), w.clone()].concat()), (second, [w, v].concat())]
            }),
            ("a whole of a whole", |b| {
                let (x, v) = b.random(&[3]);
                let (y, z) = (b.unary(Unary::Neg, x), b.unary(Unary::Abs, x));
                let inner = concat(b, 0, &[y, z]);
                let last = b.unary(Unary::Neg, y);
                let outer = concat(b, 0, &[inner, last, inner]);
                let inner = [negated(&v), map(&v, f32::abs)].concat();
                vec![(outer, [inner.clone(), v, inner].concat())]
            }),
            ("a view of a part", |b| {
                let (x, v) = b.random(&[2, 3]);
                let y = b.unary(Unary::Neg, x);
                let flat = reshape(b, y, &[6]);
                let joined = concat(b, 0, &[flat, flat]);
                let sum = b.binary(Binary::Add, y, y);
                vec![(joined, negated(&[v.clone(), v.clone()].concat())), (sum, map(&v, |x| -x - x))]
            }),
            ("an empty part", |b| {
                let ((x, v), (z, _)) = (b.random(&[2, 3]), b.random(&[0, 3]));
                let (y, z) = (b.unary(Unary::Neg, x), b.unary(Unary::Neg, z));
                vec![(concat(b, 0, &[z, y, z]), negated(&v))]
            }),
        ],
    );
}

#[test]
fn cut() {
    check(
        Tolerance::Exact,
        [
            ("a part changed in place while the whole is needed", |b| {
                let (x, v) = b.random(&[6, 2]);
                let y = b.unary(Unary::Neg, x);
                let parts = split(b, y, 0, &[2, 4]);
                let changed = b.unary(Unary::Neg, parts[0]);
                let sum = b.binary(Binary::Add, y, y);
                vec![(changed, v[..4].to_vec()), (parts[1], negated(&v[4..])), (sum, map(&v, |x| -x - x))]
            }),
            ("along the last axis", |b| {
                let x = b.input(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
                let parts = split(b, x, 1, &[1, 2]);
                vec![(parts[0], vec![1.0, 4.0]), (parts[1], vec![2.0, 3.0, 5.0, 6.0])]
            }),
            ("parts of an input, one changed", |b| {
                let (x, v) = b.random(&[4]);
                let parts = split(b, x, 0, &[1, 3]);
                let changed = b.unary(Unary::Neg, parts[1]);
                vec![(changed, negated(&v[1..])), (x, v)]
            }),
            ("slices", |b| {
                let x = b.input(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
                let y = b.unary(Unary::Neg, x);
                let lower = slice(b, y, 0, 1, 2, 1);
                let lower = b.unary(Unary::Neg, lower);
                let backwards = slice(b, y, 0, 2, 3, -1);
                let column = slice(b, y, 1, 1, 1, 1);
                let none = slice(b, y, 0, 0, 0, 1);
                vec![
                    (lower, vec![3.0, 4.0, 5.0, 6.0]),
                    (backwards, vec![-5.0, -6.0, -3.0, -4.0, -1.0, -2.0]),
                    (column, vec![-2.0, -4.0, -6.0]),
                    (none, vec![]),
                ]
            }),
            ("split and joined in another order", |b| {
                let (x, v) = b.random(&[8]);
                let y = b.unary(Unary::Neg, x);
                let parts = split(b, y, 0, &[3, 5]);
                let joined = concat(b, 0, &[parts[1], parts[0]]);
                vec![(joined, negated(&[&v[3..], &v[..3]].concat()))]
            }),
        ],
    );
}

#[test]
fn outputs_and_inputs_in_one() {
    check(
        Tolerance::Exact,
        [
            ("an output that is the input", |b| {
                let (x, v) = b.random(&[3]);
                vec![(x, v)]
            }),
            ("one value twice", |b| {
                let (x, v) = b.random(&[3]);
                let y = b.unary(Unary::Neg, x);
                vec![(y, negated(&v)), (y, negated(&v))]
            }),
            ("the input twice, and read", |b| {
                let (x, v) = b.random(&[3]);
                let y = b.unary(Unary::Neg, x);
                vec![(x, v.clone()), (y, negated(&v)), (x, v)]
            }),
            ("an output that is read", |b| {
                let (x, v) = b.random(&[9]);
                let y = b.unary(Unary::Neg, x);
                let z = b.unary(Unary::Neg, y);
                let w = b.unary(Unary::Abs, z);
                vec![(y, negated(&v)), (w, map(&v, f32::abs)), (z, v)]
            }),
            ("views of the input", |b| {
                let (x, v) = b.random(&[2, 3]);
                let y = reshape(b, x, &[3, 2]);
                let z = reshape(b, y, &[6]);
                let changed = b.unary(Unary::Neg, z);
                vec![(y, v.clone()), (z, v.clone()), (changed, negated(&v)), (x, v)]
            }),
            ("views of an output", |b| {
                let (x, v) = b.random(&[2, 3]);
                let y = b.unary(Unary::Neg, x);
                let flat = reshape(b, y, &[6]);
                let changed = b.unary(Unary::Neg, flat);
                vec![(y, negated(&v)), (flat, negated(&v)), (changed, v)]
            }),
            ("a constant", |b| {
                let (c, v) = b.weights(&[4]);
                let y = b.unary(Unary::Neg, c);
                vec![(c, v.clone()), (y, negated(&v))]
            }),
        ],
    );
}

#[test]
fn moved() {
    check(
        Tolerance::Exact,
        [
            ("transposed", |b| {
                let x = b.input(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
                let y = b.node(Operator::Transpose(Transpose { permutation: vec![1, 0] }), &[x]);
                vec![(y, vec![1.0, 4.0, 2.0, 5.0, 3.0, 6.0])]
            }),
            ("expanded, of bytes", |b| {
                let x = b.input(&[2, 1], &[1u8, 2]);
                let y =
                    b.node(Operator::Expand(Expand { dims: Some(vec![2usize.into(), 3usize.into()]) }), &[x]);
                vec![(y, vec![1.0, 1.0, 1.0, 2.0, 2.0, 2.0])]
            }),
            ("tiled", |b| {
                let x = b.input(&[2], &[1i64, 2]);
                let y = b.node(Operator::Tile(Tile { repeats: Some(vec![2usize.into()]) }), &[x]);
                vec![(y, vec![1.0, 2.0, 1.0, 2.0])]
            }),
            ("padded", |b| {
                let x = b.input(&[3], &[1.0f32, 2.0, 3.0]);
                let mut pad = |mode| {
                    b.node(
                        Operator::Pad(Pad { mode, pads: Some(vec![(2usize.into(), 1usize.into())]) }),
                        &[x],
                    )
                };
                let (zeros, mirrored) = (pad(PadMode::Constant), pad(PadMode::Reflect));
                let repeated = pad(PadMode::Edge);
                vec![
                    (zeros, vec![0.0, 0.0, 1.0, 2.0, 3.0, 0.0]),
                    (mirrored, vec![3.0, 2.0, 1.0, 2.0, 3.0, 2.0]),
                    (repeated, vec![1.0, 1.0, 1.0, 2.0, 3.0, 3.0]),
                ]
            }),
        ],
    );
}
