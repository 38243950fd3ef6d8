//! One spelling for what can be spelled in several ways, so that every later pass looks for that one.

mod arithmetic;
mod bounds;
mod gemm;
mod shaping;

use optimium_tensor::Result;

use super::editor::Editor;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(gemm::gemm_to_matmul)
        + editor.visit(shaping::to_reshape)
        + editor.visit(shaping::merge_reshapes)
        + editor.visit(shaping::global_pool_to_reduce)
        + editor.visit(shaping::plain_softmax)
        + editor.visit(bounds::constant_bounds)
        + editor.visit(bounds::merge_bounds)
        + editor.visit(arithmetic::simpler_function))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect};
    use super::*;
    use crate::ops::{Activation, Binary, Flatten, Gemm, Unary};
    use crate::{Operator, ValueId};
    use optimium_testing::each_case;

    type Build = fn(&mut Builder, ValueId) -> ValueId;

    fn check<const N: usize>(dims: &[usize], cases: [(&str, Build, &[&str]); N]) {
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(dims);
            let x = builder.activation(Activation::Sigmoid, x);
            let y = build(&mut builder, x);
            let expected = [&["Sigmoid"], *expected].concat();
            expect(run, builder.finish(&[y]), &expected).map(|_| ())
        });
    }

    #[test]
    fn arithmetic_has_one_spelling() {
        check(
            &[2, 3],
            [
                (
                    "quotient",
                    |b, x| {
                        let c = b.number(7.0);
                        b.binary(Binary::Div, x, c)
                    },
                    &["Mul"],
                ),
                (
                    "quotient by a vector",
                    |b, x| {
                        let c = b.weights(&[3]);
                        b.binary(Binary::Div, x, c)
                    },
                    &["Div"],
                ),
                (
                    "difference",
                    |b, x| {
                        let c = b.weights(&[3]);
                        b.binary(Binary::Sub, x, c)
                    },
                    &["Add"],
                ),
                (
                    "square",
                    |b, x| {
                        let c = b.number(2.0);
                        b.binary(Binary::Pow, x, c)
                    },
                    &["Square"],
                ),
                ("product with itself", |b, x| b.binary(Binary::Mul, x, x), &["Square"]),
                (
                    "root",
                    |b, x| {
                        let c = b.number(0.5);
                        b.binary(Binary::Pow, x, c)
                    },
                    &["Sqrt"],
                ),
                (
                    "another power",
                    |b, x| {
                        let c = b.number(2.5);
                        b.binary(Binary::Pow, x, c)
                    },
                    &["Pow"],
                ),
                (
                    "reciprocal of a root",
                    |b, x| {
                        let y = b.unary(Unary::Sqrt, x);
                        b.unary(Unary::Reciprocal, y)
                    },
                    &["Rsqrt"],
                ),
                (
                    "one over a root",
                    |b, x| {
                        let y = b.unary(Unary::Sqrt, x);
                        let c = b.number(1.0);
                        b.binary(Binary::Div, c, y)
                    },
                    &["Rsqrt"],
                ),
                (
                    "bounds",
                    |b, x| {
                        let (low, high) = (b.number(0.0), b.number(0.6));
                        b.node(Operator::Clip, &[x, low, high])
                    },
                    &["Clip"],
                ),
                (
                    "maximum with zero",
                    |b, x| {
                        let c = b.number(0.0);
                        b.binary(Binary::Max, x, c)
                    },
                    &["Relu"],
                ),
                (
                    "bounds in a row",
                    |b, x| {
                        let y = b.activation(Activation::Relu, x);
                        let c = b.number(0.6);
                        b.binary(Binary::Min, y, c)
                    },
                    &["Clip"],
                ),
                (
                    "numbers in a row",
                    |b, x| {
                        let (c, d) = (b.number(3.0), b.number(5.0));
                        let y = b.binary(Binary::Mul, c, x);
                        b.binary(Binary::Div, y, d)
                    },
                    &["Mul"],
                ),
            ],
        );
    }

    #[test]
    fn products_have_one_spelling() {
        let gemm = Operator::Gemm(Gemm { transpose_a: false, transpose_b: true, alpha: 0.5, beta: 2.0 });
        let cases: [(&str, &[usize], bool, &[&str]); 6] = [
            ("vector", &[4], true, &["MatMul"]),
            ("row", &[1, 4], true, &["MatMul"]),
            ("number", &[1], true, &["MatMul"]),
            ("column", &[2, 1], true, &["Mul", "MatMul", "Add"]),
            ("computed row", &[1, 4], false, &["Neg", "Mul", "Reshape", "MatMul"]),
            ("computed vector", &[4], false, &["Neg", "Mul", "MatMul"]),
        ];
        each_case(cases, |&(_, dims, constant, expected)| {
            let mut builder = Builder::new();
            let a = builder.input(&[2, 3]);
            let b = builder.weights(&[4, 3]);
            let mut c = builder.weights(dims);
            if !constant {
                c = builder.unary(Unary::Neg, c);
            }
            let y = builder.node(gemm.clone(), &[a, b, c]);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }

    #[test]
    fn shapes_have_one_spelling() {
        check(
            &[2, 3, 4],
            [
                ("flatten", |b, x| b.node(Operator::Flatten(Flatten { axis: 1 }), &[x]), &["Reshape"]),
                (
                    "reshape in a row",
                    |b, x| {
                        let y = b.reshape(x, &[6, 4]);
                        b.reshape(y, &[24])
                    },
                    &["Reshape"],
                ),
            ],
        );
    }
}
