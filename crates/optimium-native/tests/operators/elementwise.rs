//! Functions of corresponding elements, in place where nobody needs the operand any more.

use optimium_graph::Operator;
use optimium_graph::ops::{Activation, Binary, Cast, Comparison, Unary};
use optimium_tensor::ElementType;
use optimium_testing::Tolerance;

use super::harness::{APPROXIMATE, check, map, zip};

#[test]
fn functions_of_one_element() {
    check(
        APPROXIMATE,
        [
            ("chain", |b| {
                let (x, v) = b.random(&[3, 37]);
                let y = b.unary(Unary::Exp, x);
                let y = b.unary(Unary::Neg, y);
                let y = b.node(Operator::Activation { function: Activation::Tanh }, &[y]);
                vec![(y, map(&v, |x| (-x.exp()).tanh()))]
            }),
            ("an operand that is needed later", |b| {
                let (x, v) = b.random(&[41]);
                let y = b.unary(Unary::Exp, x);
                let z = b.unary(Unary::Neg, y);
                let w = b.unary(Unary::Square, z);
                let sum = b.binary(Binary::Add, w, y);
                vec![(sum, map(&v, |x| x.exp() * x.exp() + x.exp()))]
            }),
            ("softsign, rsqrt, twice the same operand", |b| {
                let (x, v) = b.random(&[19]);
                let y = b.unary(Unary::Softsign, x);
                let y = b.binary(Binary::Mul, y, y);
                let one = b.constant(&[], &[1.0f32]);
                let y = b.binary(Binary::Add, y, one);
                let y = b.unary(Unary::Rsqrt, y);
                vec![(y, map(&v, |x| 1.0 / ((x / (1.0 + x.abs())).powi(2) + 1.0).sqrt()))]
            }),
            ("double precision", |b| {
                let x = b.input(&[3], &[0.5f64, -1.0, 2.0]);
                let y = b.unary(Unary::Exp, x);
                vec![(y, map(&[0.5, -1.0, 2.0], f32::exp))]
            }),
        ],
    );
}

#[test]
fn functions_of_two_elements() {
    check(
        Tolerance::Exact,
        [
            ("broadcast both ways", |b| {
                let ((p, x), (q, y)) = (b.random(&[2, 1, 5]), b.random(&[3, 1]));
                let sum = b.binary(Binary::Add, p, q);
                let back = b.binary(Binary::Sub, q, p);
                let (x, y): ((&[f32], &[usize]), (&[f32], &[usize])) = ((&x, &[2, 1, 5]), (&y, &[3, 1]));
                let dims = [2, 3, 5];
                vec![(sum, zip(x, y, &dims, |x, y| x + y)), (back, zip(y, x, &dims, |y, x| y - x))]
            }),
            ("scalars", |b| {
                let (x, v) = b.random(&[4, 33]);
                let two = b.constant(&[], &[2.0f32]);
                let y = b.binary(Binary::Div, two, x);
                vec![(y, map(&v, |x| 2.0 / x))]
            }),
            ("shifts of negative numbers", |b| {
                let x = b.input(&[4], &[-8i8, -8, -8, 8]);
                let n = b.input(&[4], &[1i8, 8, -1, 9]);
                let y = b.binary(Binary::ShiftRight, x, n);
                vec![(y, vec![-4.0, -1.0, -1.0, 0.0])]
            }),
            ("remainders", |b| {
                let (x, y) = (b.input(&[3], &[-7i32, 7, -7]), b.input(&[3], &[3i32, -3, -3]));
                let (of_b, of_a) = (b.binary(Binary::Mod, x, y), b.binary(Binary::Fmod, x, y));
                vec![(of_b, vec![2.0, -2.0, -1.0]), (of_a, vec![-1.0, 1.0, -1.0])]
            }),
            ("an exponent of another type", |b| {
                let (x, n) = (b.input(&[3], &[2.0f32, -3.0, 0.5]), b.input(&[3], &[3i64, 2, 1]));
                let y = b.binary(Binary::Pow, x, n);
                vec![(y, vec![8.0, 9.0, 0.5])]
            }),
            ("PRelu and comparison", |b| {
                let (x, slope) =
                    (b.input(&[2, 2], &[-1.0f32, 2.0, -3.0, -4.0]), b.constant(&[2], &[0.5f32, 0.25]));
                let y = b.binary(Binary::PRelu, x, slope);
                let less = b.node(Operator::Comparison { function: Comparison::Less }, &[x, y]);
                vec![(y, vec![-0.5, 2.0, -1.5, -1.0]), (less, vec![1.0, 0.0, 1.0, 1.0])]
            }),
            ("selected, clipped and cast", |b| {
                let x = b.input(&[4], &[-2.5f32, -0.5, 0.5, 2.5]);
                let (low, high) = (b.constant(&[], &[-1.0f32]), b.constant(&[], &[1.0f32]));
                let y = b.node(Operator::Clip, &[x, low, high]);
                let negative = b.node(Operator::Comparison { function: Comparison::Less }, &[x, high]);
                let picked = b.node(Operator::Where, &[negative, y, x]);
                let whole = b.node(Operator::Cast(Cast { to: ElementType::I32 }), &[x]);
                vec![(picked, vec![-1.0, -0.5, 0.5, 2.5]), (whole, vec![-2.0, 0.0, 0.0, 2.0])]
            }),
            ("dropout", |b| {
                let (x, v) = b.random(&[5]);
                let results = b.nodes(Operator::Dropout, vec![Some(x)], 2);
                vec![(results[0], v), (results[1], vec![1.0; 5])]
            }),
            ("no elements", |b| {
                let (x, _) = b.random(&[0, 3]);
                let (row, _) = b.random(&[3]);
                let y = b.binary(Binary::Add, x, row);
                vec![(b.unary(Unary::Exp, y), vec![])]
            }),
        ],
    );
}
