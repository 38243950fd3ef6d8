//! Elements picked by number, and numbers that are none of the tensor's.

use optimium_graph::Operator;
use optimium_graph::ops::{
    ArgReduce, CumSum, Gather, GatherElements, OneHot, ScatterElements, ScatterReduction, Split, TopK,
};
use optimium_tensor::{ElementType, ErrorKind, TensorShape};
use optimium_testing::{Tolerance, each_case};

use super::harness::{Builder, check, ways};

#[test]
fn picked() {
    check(
        Tolerance::Exact,
        [
            ("gathered", |b| {
                let x = b.input(&[3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
                let rows = b.input(&[2], &[-1i64, 0]);
                let columns = b.input(&[1], &[1i32]);
                let rows = b.node(Operator::Gather(Gather { axis: 0 }), &[x, rows]);
                let column = b.node(Operator::Gather(Gather { axis: 1 }), &[x, columns]);
                vec![(rows, vec![5.0, 6.0, 1.0, 2.0]), (column, vec![2.0, 4.0, 6.0])]
            }),
            ("element by element", |b| {
                let x = b.input(&[2, 2], &[1.0f32, 2.0, 3.0, 4.0]);
                let picks = b.input(&[2, 2], &[0i64, 0, 1, 0]);
                let y = b.node(Operator::GatherElements(GatherElements { axis: 1 }), &[x, picks]);
                vec![(y, vec![1.0, 1.0, 4.0, 3.0])]
            }),
            ("scattered over what is needed later", |b| {
                let (x, picks) = (b.input(&[3], &[1.0f32, 2.0, 3.0]), b.input(&[2], &[2i64, 2]));
                let (updates, one) = (b.input(&[2], &[10.0f32, 20.0]), b.constant(&[], &[1.0f32]));
                let sum = optimium_graph::ops::Binary::Add;
                let x = b.binary(sum, x, one);
                let op = ScatterElements { axis: 0, reduction: ScatterReduction::Add };
                let y = b.node(Operator::ScatterElements(op), &[x, picks, updates]);
                let z = b.binary(sum, x, y);
                vec![(z, vec![4.0, 6.0, 38.0])]
            }),
            ("one hot of reals", |b| {
                let (x, depth) = (b.input(&[2], &[1.0f32, -1.0]), b.constant(&[], &[3i64]));
                let values = b.constant(&[2], &[0.0f32, 5.0]);
                let y = b.node(Operator::OneHot(OneHot { axis: -1, depth: None }), &[x, depth, values]);
                vec![(y, vec![0.0, 5.0, 0.0, 0.0, 0.0, 5.0])]
            }),
            ("largest", |b| {
                let (x, k) = (b.input(&[4], &[1.0f32, 4.0, 3.0, 4.0]), b.constant(&[1], &[2i64]));
                let op = TopK { axis: 0, largest: true, sorted: true, k: None };
                let results = b.nodes(Operator::TopK(op), vec![Some(x), Some(k)], 2);
                let op = ArgReduce { max: true, axis: 0, keep_dims: false, select_last_index: true };
                let last = b.node(Operator::ArgReduce(op), &[x]);
                vec![(results[0], vec![4.0, 4.0]), (results[1], vec![1.0, 3.0]), (last, vec![3.0])]
            }),
            ("sums so far", |b| {
                let x = b.input(&[2, 2], &[1i32, 2, 3, 4]);
                let axis = b.constant(&[], &[1i64]);
                let op = CumSum { axis: None, exclusive: false, reverse: true, product: false };
                vec![(b.node(Operator::CumSum(op), &[x, axis]), vec![3.0, 2.0, 7.0, 4.0])]
            }),
            ("parts whose sizes data decide", |b| {
                let (x, sizes) =
                    (b.input(&[6], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]), b.input(&[2], &[2i64, 4]));
                let op = Operator::Split(Split { axis: 0, sizes: None });
                let parts = b.nodes(op, vec![Some(x), Some(sizes)], 2);
                for (&part, size) in parts.iter().zip([2, 4]) {
                    b.graph.value_mut(part).value_type = optimium_graph::ValueType::Tensor {
                        element_type: ElementType::F32,
                        shape: Some(TensorShape::fixed(&[size])),
                    };
                }
                vec![(parts[0], vec![1.0, 2.0]), (parts[1], vec![3.0, 4.0, 5.0, 6.0])]
            }),
        ],
    );
}

#[test]
fn an_index_out_of_range_names_the_node() {
    each_case([3i64, -4, i64::MAX, i64::MIN], |&index| {
        for options in ways() {
            let mut b = Builder::new();
            let (x, _) = b.random(&[3, 2]);
            let picks = b.input(&[1], &[index]);
            let y = b.node(Operator::Gather(Gather { axis: 0 }), &[x, picks]);
            match b.failure(y, &options) {
                Some(error) if error.kind() == ErrorKind::Infer && error.to_string().contains("node0") => {}
                other => return Err(format!("{options:?}: {other:?}")),
            }
        }
        Ok(())
    });
}
