//! What brings values to a scale, and what makes one of many.

use optimium_graph::Operator;
use optimium_graph::ops::{
    BatchNormalization, GroupNormalization, ImageLayout, InstanceNormalization, LayerNormalization,
    LocalResponseNormalization, LpNormalization, Reduce, Reduction, RmsNormalization, Softmax,
};

use super::harness::{APPROXIMATE, Builder, Expected, check, indices, map, place};

/// `f` of every line along `axis`.
fn lines(x: &[f32], dims: &[usize], axis: usize, f: impl Fn(&[f32]) -> Vec<f32>) -> Vec<f32> {
    let mut result = vec![0.0; x.len()];
    for start in indices(dims).into_iter().filter(|index| index[axis] == 0) {
        let at = |i: usize| {
            let mut index = start.clone();
            index[axis] = i;
            place(&index, dims)
        };
        let line: Vec<f32> = (0..dims[axis]).map(|i| x[at(i)]).collect();
        f(&line).into_iter().enumerate().for_each(|(i, y)| result[at(i)] = y);
    }
    result
}

fn normalized_exponentials(line: &[f32]) -> Vec<f32> {
    let largest = line.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f32 = line.iter().map(|x| (x - largest).exp()).sum();
    map(line, |x| (x - largest).exp() / sum)
}

/// Mean, and inverse standard deviation.
fn statistics(x: &[f32], epsilon: f32) -> (f32, f32) {
    let mean = x.iter().sum::<f32>() / x.len() as f32;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / x.len() as f32;
    (mean, 1.0 / (variance + epsilon).sqrt())
}

#[test]
fn softmax() {
    check(
        APPROXIMATE,
        [
            ("last axis", |b| {
                let (x, v) = b.random(&[3, 2, 17]);
                let y = b.node(Operator::Softmax(Softmax { axis: -1, log: false, flatten: false }), &[x]);
                vec![(y, lines(&v, &[3, 2, 17], 2, normalized_exponentials))]
            }),
            ("middle axis, logarithm", |b| {
                let (x, v) = b.random(&[3, 5, 4]);
                let y = b.node(Operator::Softmax(Softmax { axis: 1, log: true, flatten: false }), &[x]);
                let expected = lines(&v, &[3, 5, 4], 1, |line| map(&normalized_exponentials(line), f32::ln));
                vec![(y, expected)]
            }),
            ("all axes from one on", |b| {
                let (x, v) = b.random(&[2, 3, 4]);
                let y = b.node(Operator::Softmax(Softmax { axis: 1, log: false, flatten: true }), &[x]);
                vec![(y, lines(&v, &[2, 12], 1, normalized_exponentials))]
            }),
            ("double precision", |b| {
                let x = b.input(&[2, 2], &[0.0f64, 0.0, 1.0, 3.0]);
                let y = b.node(Operator::Softmax(Softmax { axis: 0, log: false, flatten: false }), &[x]);
                let log = b.node(Operator::Softmax(Softmax { axis: 1, log: true, flatten: false }), &[x]);
                let expected = lines(&[0.0, 0.0, 1.0, 3.0], &[2, 2], 0, normalized_exponentials);
                let logs =
                    lines(&[0.0, 0.0, 1.0, 3.0], &[2, 2], 1, |l| map(&normalized_exponentials(l), f32::ln));
                vec![(y, expected), (log, logs)]
            }),
        ],
    );
}

/// Layer normalization over the last two axes, perhaps in place, with all its results.
fn layer(b: &mut Builder, in_place: bool) -> Vec<Expected> {
    let ((input, v), (scale, s), (bias, c)) = (b.random(&[3, 2, 5]), b.weights(&[2, 5]), b.weights(&[2, 5]));
    let x = if in_place { b.unary(optimium_graph::ops::Unary::Neg, input) } else { input };
    let v = if in_place { map(&v, |x| -x) } else { v };
    let op = Operator::LayerNormalization(LayerNormalization { axis: -2, epsilon: 0.01 });
    let results = b.nodes(op, vec![Some(x), Some(scale), Some(bias)], 3);
    let (mut y, mut mean, mut inverse) = (Vec::new(), Vec::new(), Vec::new());
    for row in v.chunks(10) {
        let (m, i) = statistics(row, 0.01);
        y.extend((0..10).map(|j| (row[j] - m) * i * s[j] + c[j]));
        mean.push(m);
        inverse.push(i);
    }
    vec![(results[0], y), (results[1], mean), (results[2], inverse)]
}

#[test]
fn normalizations() {
    check(
        APPROXIMATE,
        [
            ("layer, with its statistics", |b| layer(b, false)),
            ("layer, with its statistics, in place", |b| layer(b, true)),
            ("root mean square", |b| {
                let ((x, v), (scale, s)) = (b.random(&[3, 7]), b.weights(&[7]));
                let op = RmsNormalization { axis: 1, epsilon: 0.01 };
                let y = b.node(Operator::RmsNormalization(op), &[x, scale]);
                let expected = lines(&v, &[3, 7], 1, |row| {
                    let root = (row.iter().map(|x| x * x).sum::<f32>() / 7.0 + 0.01).sqrt();
                    (0..7).map(|j| row[j] / root * s[j]).collect()
                });
                vec![(y, expected)]
            }),
            ("instance and groups of one", |b| {
                let ((x, v), (scale, s), (bias, c)) =
                    (b.random(&[2, 3, 8]), b.weights(&[3]), b.weights(&[3]));
                let layout = ImageLayout::ChannelsFirst;
                let op = Operator::InstanceNormalization(InstanceNormalization { layout, epsilon: 0.1 });
                let instance = b.node(op, &[x, scale, bias]);
                let op = Operator::GroupNormalization(GroupNormalization { layout, groups: 3, epsilon: 0.1 });
                let group = b.node(op, &[x, scale, bias]);
                let plane = |(i, plane): (usize, &[f32])| {
                    let (m, inverse) = statistics(plane, 0.1);
                    map(plane, |x| (x - m) * inverse * s[i % 3] + c[i % 3])
                };
                let expected = v.chunks(8).enumerate().flat_map(plane).collect::<Vec<f32>>();
                vec![(instance, expected.clone()), (group, expected)]
            }),
            ("batch, channels last", |b| {
                let (x, v) = b.random(&[2, 5, 3]);
                let (scale, bias) =
                    (b.input(&[3], &[1.0f32, 2.0, 3.0]), b.constant(&[3], &[0.5f32, 0.0, -1.0]));
                let (mean, variance) =
                    (b.constant(&[3], &[0.1f32, 0.2, 0.3]), b.constant(&[3], &[4.0f32, 1.0, 0.25]));
                let op = BatchNormalization { layout: ImageLayout::ChannelsLast, epsilon: 0.0 };
                let y = b.node(Operator::BatchNormalization(op), &[x, scale, bias, mean, variance]);
                let (factor, offset) = ([0.5, 2.0, 6.0], [0.45, -0.4, -2.8]);
                vec![(y, (0..30).map(|i| v[i] * factor[i % 3] + offset[i % 3]).collect())]
            }),
            ("norm along an axis", |b| {
                let (x, v) = b.random(&[4, 3]);
                let y = b.node(Operator::LpNormalization(LpNormalization { axis: 0, p: 2 }), &[x]);
                let expected = lines(&v, &[4, 3], 0, |line| {
                    let norm = line.iter().map(|x| x * x).sum::<f32>().sqrt();
                    map(line, |x| x / norm)
                });
                vec![(y, expected)]
            }),
            ("local response", |b| {
                let x = b.input(&[1, 3, 2], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
                let op = LocalResponseNormalization {
                    layout: ImageLayout::ChannelsFirst,
                    size: 3,
                    alpha: 3.0,
                    beta: 0.5,
                    bias: 1.0,
                };
                let y = b.node(Operator::LocalResponseNormalization(op), &[x]);
                let sums = [11.0f32, 21.0, 36.0, 57.0, 35.0, 53.0];
                vec![(y, (0..6).map(|i| (i + 1) as f32 / sums[i].sqrt()).collect())]
            }),
        ],
    );
}

fn reduce(reduction: Reduction, axes: &[i64]) -> Operator {
    Operator::Reduce(Reduce {
        reduction,
        axes: Some(axes.to_vec()),
        keep_dims: false,
        noop_with_empty_axes: false,
    })
}

#[test]
fn reductions() {
    check(
        APPROXIMATE,
        [
            ("of rows and columns", |b| {
                let (x, v) = b.random(&[3, 19]);
                let rows = b.node(reduce(Reduction::Mean, &[1]), &[x]);
                let columns = b.node(reduce(Reduction::Max, &[-2]), &[x]);
                let all = b.node(reduce(Reduction::L2, &[0, 1]), &[x]);
                let mean = v.chunks(19).map(|row| row.iter().sum::<f32>() / 19.0).collect();
                let largest = (0..19).map(|j| v[j].max(v[19 + j]).max(v[38 + j])).collect();
                let norm = v.iter().map(|x| x * x).sum::<f32>().sqrt();
                vec![(rows, mean), (columns, largest), (all, vec![norm])]
            }),
            ("of nothing", |b| {
                let (x, _) = b.random(&[2, 0]);
                let sum = b.node(reduce(Reduction::Sum, &[1]), &[x]);
                let product = b.node(reduce(Reduction::Prod, &[1]), &[x]);
                vec![(sum, vec![0.0; 2]), (product, vec![1.0; 2])]
            }),
            ("of integers", |b| {
                let x = b.input(&[2, 3], &[1i64, 2, 3, 4, 5, 6]);
                let (sum, most) =
                    (b.node(reduce(Reduction::Sum, &[0]), &[x]), b.node(reduce(Reduction::Max, &[1]), &[x]));
                vec![(sum, vec![5.0, 7.0, 9.0]), (most, vec![3.0, 6.0])]
            }),
        ],
    );
}
