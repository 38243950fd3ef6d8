//! Matrix products: batches, broadcasts, what is fused behind them, and other number types.

use optimium_graph::Operator;
use optimium_graph::ops::{Activation, Binary, Einsum, Fusion, Gemm, MatMul};
use optimium_testing::Tolerance;

use super::harness::{Builder, Expected, ROUNDED, check, indices, map, place, zip};

fn plain() -> MatMul {
    MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() }
}

fn product(a: &[f32], b: &[f32], [m, k, n]: [usize; 3]) -> Vec<f32> {
    let element = |i: usize| (0..k).map(|j| a[i / n * k + j] * b[j * n + i % n]).sum();
    (0..m * n).map(element).collect()
}

fn transposed(x: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    indices(&[columns, rows]).iter().map(|i| x[place(&[i[1], i[0]], &[rows, columns])]).collect()
}

/// A product with the right matrix as a constant or an input, each side perhaps stored transposed.
fn simple(b: &mut Builder, sides: [bool; 2], constant: bool, [m, k, n]: [usize; 3]) -> Vec<Expected> {
    let (left, right) = (b.floats(&[m, k]), b.floats(&[k, n]));
    let x = if sides[0] { b.input(&[k, m], &transposed(&left, m, k)) } else { b.input(&[m, k], &left) };
    let (dims, stored) = if sides[1] { ([n, k], transposed(&right, k, n)) } else { ([k, n], right.clone()) };
    let w = if constant { b.constant(&dims, &stored) } else { b.input(&dims, &stored) };
    let op = MatMul { transpose_a: sides[0], transpose_b: sides[1], alpha: 0.5, ..plain() };
    let y = b.node(Operator::MatMul(op), &[x, w]);
    vec![(y, map(&product(&left, &right, [m, k, n]), |x| x / 2.0))]
}

#[test]
fn of_two_matrices() {
    check(
        Tolerance::dot(70),
        [
            ("constant", |b| simple(b, [false, false], true, [7, 70, 33])),
            ("constant, right side transposed", |b| simple(b, [false, true], true, [17, 5, 3])),
            ("constant, both transposed", |b| simple(b, [true, true], true, [6, 9, 50])),
            ("computed", |b| simple(b, [false, false], false, [7, 70, 33])),
            ("computed, left side transposed", |b| simple(b, [true, false], false, [13, 11, 4])),
            ("computed, right side transposed", |b| simple(b, [false, true], false, [1, 40, 20])),
            ("no rows", |b| simple(b, [false, false], true, [0, 4, 3])),
            ("no products", |b| simple(b, [false, false], false, [2, 0, 3])),
        ],
    );
}

#[test]
fn of_batches() {
    check(
        ROUNDED,
        [
            ("broadcast on both sides", |b| {
                let ((x, v), (z, w)) = (b.random(&[2, 1, 3, 4]), b.random(&[5, 4, 2]));
                let y = b.node(Operator::MatMul(plain()), &[x, z]);
                let expected = indices(&[2, 5])
                    .iter()
                    .flat_map(|i| product(&v[i[0] * 12..][..12], &w[i[1] * 8..][..8], [3, 4, 2]))
                    .collect();
                vec![(y, expected)]
            }),
            ("of vectors", |b| {
                let ((x, v), (z, w)) = (b.random(&[4]), b.random(&[4]));
                let (m, u) = b.random(&[2, 4, 3]);
                let dot = b.node(Operator::MatMul(plain()), &[x, z]);
                let rows = b.node(Operator::MatMul(plain()), &[x, m]);
                let both = [product(&v, &u[..12], [1, 4, 3]), product(&v, &u[12..], [1, 4, 3])].concat();
                vec![(dot, product(&v, &w, [1, 4, 1])), (rows, both)]
            }),
            ("constant batch", |b| {
                let ((x, v), (z, w)) = (b.random(&[2, 3, 4]), b.weights(&[2, 4, 2]));
                let y = b.node(Operator::MatMul(plain()), &[x, z]);
                let each = |i: usize| product(&v[i * 12..][..12], &w[i * 8..][..8], [3, 4, 2]);
                vec![(y, [each(0), each(1)].concat())]
            }),
        ],
    );
}

/// `activation(x · w + bias + residual)` or `activation(x · w + bias) + residual`.
fn fused(b: &mut Builder, after: bool, constant: bool) -> Vec<Expected> {
    let [m, k, n] = [5, 6, 19];
    let ((x, v), (residual, r)) = (b.random(&[m, k]), b.random(&[m, n]));
    let (weights, w) = if constant { b.weights(&[k, n]) } else { b.random(&[k, n]) };
    let (bias, c) = if constant { b.weights(&[n]) } else { b.random(&[n]) };
    let fusion = Fusion { activation: Activation::Relu, residual_after_activation: after };
    let op = Operator::MatMul(MatMul { fusion, ..plain() });
    let y = b.node(op, &[x, weights, bias, residual]);
    let sums = zip((&product(&v, &w, [m, k, n]), &[m, n]), (&c, &[n]), &[m, n], |x, c| x + c);
    let finish = |x: f32, r: f32| if after { x.max(0.0) + r } else { (x + r).max(0.0) };
    vec![(y, zip((&sums, &[m, n]), (&r, &[m, n]), &[m, n], finish))]
}

#[test]
fn fused_behind() {
    check(
        ROUNDED,
        [
            ("residual before, constant", |b| fused(b, false, true)),
            ("residual after, constant", |b| fused(b, true, true)),
            ("residual before, computed", |b| fused(b, false, false)),
            ("residual after, computed", |b| fused(b, true, false)),
            ("double precision", |b| {
                let x = b.input(&[1, 2], &[1.0f64, 2.0]);
                let w = b.input(&[2, 2], &[1.0f64, -1.0, 3.0, -2.0]);
                let (bias, residual) = (b.input(&[2], &[0.5f64, 0.25]), b.input(&[1, 2], &[1.0f64, 2.0]));
                let fusion = Fusion { activation: Activation::Relu, residual_after_activation: true };
                let op = Operator::MatMul(MatMul { alpha: 0.5, fusion, ..plain() });
                vec![(b.node(op, &[x, w, bias, residual]), vec![5.0, 2.0])]
            }),
        ],
    );
}

#[test]
fn of_other_kinds() {
    check(
        ROUNDED,
        [
            ("integers", |b| {
                let (x, w) = (b.input(&[1, 2], &[3i32, -4]), b.input(&[2, 2], &[1i32, 2, 3, 4]));
                vec![(b.node(Operator::MatMul(plain()), &[x, w]), vec![-9.0, -10.0])]
            }),
            ("with a matrix added", |b| {
                let ((x, v), (w, u), (c, t)) = (b.random(&[4, 3]), b.random(&[4, 5]), b.random(&[3, 1]));
                let op = Gemm { transpose_a: true, transpose_b: false, alpha: 2.0, beta: 0.5 };
                let y = b.node(Operator::Gemm(op), &[x, w, c]);
                let sums = product(&transposed(&v, 4, 3), &u, [3, 4, 5]);
                vec![(y, zip((&sums, &[3, 5]), (&t, &[3, 1]), &[3, 5], |x, c| 2.0 * x + 0.5 * c))]
            }),
            ("with a matrix added, double precision", |b| {
                let (x, w) = (b.input(&[1, 2], &[1.0f64, 2.0]), b.input(&[2, 1], &[3.0f64, 4.0]));
                let c = b.input(&[1], &[10.0f64]);
                let op = Gemm { transpose_a: false, transpose_b: false, alpha: 2.0, beta: 0.5 };
                vec![(b.node(Operator::Gemm(op), &[x, w, c]), vec![27.0])]
            }),
            ("Einstein sums", |b| {
                let ((x, v), (z, w)) = (b.random(&[3, 2, 4]), b.random(&[3, 5, 4]));
                let einsum = |equation: &str| Operator::Einsum(Einsum { equation: equation.into() });
                let y = b.node(einsum("bij, bkj -> ikb"), &[x, z]);
                let sums = b.node(einsum("bij->j"), &[x]);
                let implicit = b.node(einsum("bij,bkj"), &[x, z]);
                let at = |i: &Vec<usize>| {
                    (0..4)
                        .map(|j| {
                            v[place(&[i[2], i[0], j], &[3, 2, 4])] * w[place(&[i[2], i[1], j], &[3, 5, 4])]
                        })
                        .sum()
                };
                let batches: Vec<f32> = indices(&[2, 5, 3]).iter().map(at).collect();
                let whole = batches.chunks(3).map(|b| b.iter().sum()).collect();
                let columns = (0..4).map(|j| (0..6).map(|i| v[i * 4 + j]).sum()).collect();
                vec![(y, batches), (sums, columns), (implicit, whole)]
            }),
        ],
    );
}

/// A product of rows and columns of very different sizes, which scales behind it make alike again.
fn uneven(b: &mut Builder, scales: [&[f32]; 2], transposed_b: bool) -> Vec<Expected> {
    let [m, k, n] = [96, 128, 64];
    let (left, right) = (b.floats(&[m, k]), b.floats(&[k, n]));
    let [of_rows, of_columns] = scales.map(|scales| move |i: usize| scales[i % scales.len()]);
    let x: Vec<f32> = left.iter().enumerate().map(|(at, x)| x * of_rows(at / k)).collect();
    let w: Vec<f32> = right.iter().enumerate().map(|(at, w)| w * of_columns(at % n)).collect();
    let x = b.input(&[m, k], &x);
    let w =
        if transposed_b { b.constant(&[n, k], &self::transposed(&w, k, n)) } else { b.constant(&[k, n], &w) };
    let y = b.node(Operator::MatMul(MatMul { transpose_b: transposed_b, ..plain() }), &[x, w]);
    let inverse = |scale: f32| if scale == 0.0 { 1.0 } else { 1.0 / scale };
    let rows: Vec<f32> = (0..m).map(|i| inverse(of_rows(i))).collect();
    let columns: Vec<f32> = (0..n).map(|j| inverse(of_columns(j))).collect();
    let (rows, columns) = (b.input(&[m, 1], &rows), b.input(&[n], &columns));
    let even = b.binary(Binary::Mul, y, rows);
    let even = b.binary(Binary::Mul, even, columns);
    let factor = |scale: f32| if scale.is_nan() { scale } else { f32::from(scale != 0.0) };
    let results = product(&left, &right, [m, k, n]).into_iter().enumerate();
    vec![(even, results.map(|(at, y)| y * factor(of_rows(at / n)) * factor(of_columns(at % n))).collect())]
}

#[test]
fn of_rows_and_columns_that_do_not_spoil_each_other() {
    check(
        Tolerance::dot(128),
        [
            ("rows", |b| uneven(b, [&[1.0, 1e3, 1.0, 1e-3, 0.0, 1e6, 1e30], &[1.0]], false)),
            ("a row in a hundred", |b| {
                let mut rows = [1.0; 96];
                rows[51] = 1e6;
                uneven(b, [&rows, &[1.0]], true)
            }),
            ("rows that are no numbers", |b| {
                let mut rows = [1.0; 96];
                (rows[0], rows[95]) = (f32::NAN, f32::NAN);
                uneven(b, [&rows, &[1.0]], false)
            }),
            ("columns", |b| uneven(b, [&[1.0], &[1.0, 1e3, 1e-6, 1e3, 0.0]], false)),
            ("columns of transposed weights", |b| uneven(b, [&[1.0], &[1e4, 1.0, 1.0]], true)),
            ("a column that is no number", |b| {
                let mut columns = [1.0; 64];
                columns[40] = f32::NAN;
                uneven(b, [&[1.0], &columns], false)
            }),
        ],
    );
}
