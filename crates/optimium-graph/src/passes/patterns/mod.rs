//! Functions that exporters spell out in elementary operators, put together again.

mod activations;
mod attention;
mod channel_shuffle;
mod choice;
mod dynamic_quantization;
mod layer_normalization;
mod moments;
mod product;
mod rms_normalization;
mod rotary;

use optimium_tensor::Result;

use super::editor::Editor;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(activations::softplus)
        + editor.visit(activations::product_of_activation)
        + editor.visit(layer_normalization::core)
        + editor.visit(layer_normalization::scale)
        + editor.visit(moments::layer_normalization)
        + editor.visit(layer_normalization::bias)
        + editor.visit(rms_normalization::core)
        + editor.visit(rms_normalization::scale)
        + editor.visit(channel_shuffle::with_channels_last)
        + editor.visit(choice::by_arithmetic)
        + editor.visit(dynamic_quantization::matmul))
}

/// Patterns of many operators, which count on transposes and factors being where they belong.
pub(super) fn run_attention(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(rotary::core) + editor.visit(attention::core))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, same_operators, simplified};
    use crate::ops::{Activation, Binary, Reduction, Unary};
    use crate::{Operator, ValueId};
    use optimium_testing::each_case;

    type Build = fn(&mut Builder, ValueId) -> ValueId;

    fn times(b: &mut Builder, x: ValueId, number: f32) -> ValueId {
        let number = b.number(number);
        b.binary(Binary::Mul, x, number)
    }

    fn plus(b: &mut Builder, x: ValueId, number: f32) -> ValueId {
        let number = b.number(number);
        b.binary(Binary::Add, number, x)
    }

    /// `1 + erf(x / √2)`
    fn error_part(b: &mut Builder, x: ValueId) -> ValueId {
        let root = b.number(2f32.sqrt());
        let x = b.binary(Binary::Div, x, root);
        let x = b.unary(Unary::Erf, x);
        plus(b, x, 1.0)
    }

    /// `clip(x + 3, 0, 6)`
    fn bound(b: &mut Builder, x: ValueId) -> ValueId {
        let x = plus(b, x, 3.0);
        let (low, high) = (b.number(0.0), b.number(6.0));
        b.node(Operator::Clip, &[x, low, high])
    }

    fn tanh_part(b: &mut Builder, x: ValueId) -> ValueId {
        let three = b.number(3.0);
        let cube = b.binary(Binary::Pow, x, three);
        let cube = times(b, cube, 0.044715);
        let sum = b.binary(Binary::Add, x, cube);
        let y = times(b, sum, 0.797_884_6);
        let y = b.activation(Activation::Tanh, y);
        plus(b, y, 1.0)
    }

    fn check<const N: usize>(cases: [(&str, Build, &[&str]); N]) {
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 3, 4]);
            let y = build(&mut builder, x);
            let mut graph = builder.finish(&[y]);
            simplified(&mut graph)?;
            same_operators(&graph, expected)
        });
    }

    #[test]
    fn activations_in_all_spellings() {
        check([
            (
                "silu",
                |b, x| {
                    let s = b.activation(Activation::Sigmoid, x);
                    b.binary(Binary::Mul, x, s)
                },
                &["Swish"],
            ),
            (
                "another factor",
                |b, x| {
                    let s = b.activation(Activation::Sigmoid, x);
                    let y = b.unary(Unary::Neg, x);
                    b.binary(Binary::Mul, y, s)
                },
                &["Sigmoid", "Neg", "Mul"],
            ),
            (
                "gelu",
                |b, x| {
                    let e = error_part(b, x);
                    let y = b.binary(Binary::Mul, x, e);
                    times(b, y, 0.5)
                },
                &["Gelu"],
            ),
            (
                "gelu, half first",
                |b, x| {
                    let e = error_part(b, x);
                    let y = times(b, x, 0.5);
                    b.binary(Binary::Mul, y, e)
                },
                &["Gelu"],
            ),
            (
                "gelu, half on the function",
                |b, x| {
                    let e = error_part(b, x);
                    let e = times(b, e, 0.5);
                    b.binary(Binary::Mul, e, x)
                },
                &["Gelu"],
            ),
            (
                "gelu without half",
                |b, x| {
                    let e = error_part(b, x);
                    b.binary(Binary::Mul, e, x)
                },
                &["Gelu", "Mul"],
            ),
            (
                "swish of a scaled operand",
                |b, x| {
                    let s = b.activation(Activation::Sigmoid, x);
                    let y = times(b, x, 0.3);
                    b.binary(Binary::Mul, y, s)
                },
                &["Swish", "Mul"],
            ),
            (
                "gelu with tanh",
                |b, x| {
                    let t = tanh_part(b, x);
                    let y = times(b, x, 0.5);
                    b.binary(Binary::Mul, y, t)
                },
                &["Gelu"],
            ),
            (
                "hard swish",
                |b, x| {
                    let c = bound(b, x);
                    let y = b.binary(Binary::Mul, x, c);
                    times(b, y, 1.0 / 6.0)
                },
                &["HardSwish"],
            ),
            (
                "hard swish and another factor",
                |b, x| {
                    let c = bound(b, x);
                    let y = b.binary(Binary::Mul, x, c);
                    let y = times(b, y, 1.0 / 6.0);
                    times(b, y, 0.8)
                },
                &["HardSwish", "Mul"],
            ),
            (
                "hard swish without a sixth",
                |b, x| {
                    let c = bound(b, x);
                    b.binary(Binary::Mul, x, c)
                },
                &["HardSwish", "Mul"],
            ),
            (
                "hard swish, another factor on the bound",
                |b, x| {
                    let c = bound(b, x);
                    let c = times(b, c, 0.3);
                    b.binary(Binary::Mul, x, c)
                },
                &["HardSwish", "Mul"],
            ),
            (
                "hard sigmoid and another factor",
                |b, x| {
                    let c = bound(b, x);
                    times(b, c, 0.3)
                },
                &["HardSigmoid", "Mul"],
            ),
            (
                "hard swish, divided first",
                |b, x| {
                    let c = bound(b, x);
                    let six = b.number(6.0);
                    let c = b.binary(Binary::Div, c, six);
                    b.binary(Binary::Mul, x, c)
                },
                &["HardSwish"],
            ),
            (
                "hard sigmoid",
                |b, x| {
                    let c = bound(b, x);
                    times(b, c, 1.0 / 6.0)
                },
                &["HardSigmoid"],
            ),
            (
                "mish",
                |b, x| {
                    let e = b.unary(Unary::Exp, x);
                    let e = plus(b, e, 1.0);
                    let e = b.unary(Unary::Log, e);
                    let t = b.activation(Activation::Tanh, e);
                    b.binary(Binary::Mul, t, x)
                },
                &["Mish"],
            ),
        ]);
    }

    #[test]
    fn normalizations_in_all_spellings() {
        check([
            (
                "layer normalization",
                |b, x| {
                    let mean = b.reduce(Reduction::Mean, x, &[-1], true);
                    let d = b.binary(Binary::Sub, x, mean);
                    let two = b.number(2.0);
                    let squares = b.binary(Binary::Pow, d, two);
                    let variance = b.reduce(Reduction::Mean, squares, &[2], true);
                    let sum = plus(b, variance, 1e-5);
                    let root = b.unary(Unary::Sqrt, sum);
                    let y = b.binary(Binary::Div, d, root);
                    let (scale, bias) = (b.weights(&[4]), b.weights(&[4]));
                    let y = b.binary(Binary::Mul, y, scale);
                    b.binary(Binary::Add, y, bias)
                },
                &["LayerNormalization"],
            ),
            (
                "layer normalization of moments",
                |b, x| {
                    let mean = b.reduce(Reduction::Mean, x, &[-1], true);
                    let d = b.binary(Binary::Sub, x, mean);
                    let squares = b.binary(Binary::Mul, d, d);
                    let variance = b.reduce(Reduction::Mean, squares, &[-1], true);
                    let sum = plus(b, variance, 1e-3);
                    let root = b.unary(Unary::Sqrt, sum);
                    let root = b.unary(Unary::Reciprocal, root);
                    let (scale, bias) = (b.weights(&[4]), b.weights(&[4]));
                    let factor = b.binary(Binary::Mul, root, scale);
                    let shift = b.binary(Binary::Mul, mean, factor);
                    let rest = b.binary(Binary::Sub, bias, shift);
                    let scaled = b.binary(Binary::Mul, x, factor);
                    b.binary(Binary::Add, scaled, rest)
                },
                &["LayerNormalization"],
            ),
            (
                "layer normalization of a negated mean",
                |b, x| {
                    let mean = b.reduce(Reduction::Mean, x, &[-1], true);
                    let squares = b.binary(Binary::SquaredDifference, x, mean);
                    let variance = b.reduce(Reduction::Mean, squares, &[-1], true);
                    let sum = plus(b, variance, 1e-3);
                    let root = b.unary(Unary::Rsqrt, sum);
                    let (scale, bias) = (b.weights(&[1, 1, 4]), b.weights(&[1, 1, 4]));
                    let factor = b.binary(Binary::Mul, root, scale);
                    let negated = b.unary(Unary::Neg, mean);
                    let shift = b.binary(Binary::Mul, negated, factor);
                    let rest = b.binary(Binary::Add, shift, bias);
                    let scaled = b.binary(Binary::Mul, x, factor);
                    b.binary(Binary::Add, scaled, rest)
                },
                &["LayerNormalization"],
            ),
            (
                "layer normalization, the mean of squares less the squared mean",
                |b, x| {
                    let mean = b.reduce(Reduction::Mean, x, &[-1], true);
                    let squares = b.unary(Unary::Square, x);
                    let mean_of_squares = b.reduce(Reduction::Mean, squares, &[-1], true);
                    let squared_mean = b.unary(Unary::Square, mean);
                    let variance = b.binary(Binary::Sub, mean_of_squares, squared_mean);
                    let sum = plus(b, variance, 1e-3);
                    let root = b.unary(Unary::Sqrt, sum);
                    let difference = b.binary(Binary::Sub, x, mean);
                    b.binary(Binary::Div, difference, root)
                },
                &["LayerNormalization"],
            ),
            (
                "over another axis",
                |b, x| {
                    let mean = b.reduce(Reduction::Mean, x, &[1], true);
                    let d = b.binary(Binary::Sub, x, mean);
                    let squares = b.binary(Binary::Mul, d, d);
                    let variance = b.reduce(Reduction::Mean, squares, &[1], true);
                    let sum = plus(b, variance, 1e-5);
                    let root = b.unary(Unary::Sqrt, sum);
                    b.binary(Binary::Div, d, root)
                },
                &["ReduceMean", "Sub", "Square", "ReduceMean", "Add", "Sqrt", "Div"],
            ),
            (
                "rms normalization",
                |b, x| {
                    let two = b.number(2.0);
                    let squares = b.binary(Binary::Pow, x, two);
                    let mean = b.reduce(Reduction::Mean, squares, &[-1], true);
                    let sum = plus(b, mean, 1e-6);
                    let root = b.unary(Unary::Sqrt, sum);
                    let one = b.number(1.0);
                    let factor = b.binary(Binary::Div, one, root);
                    let y = b.binary(Binary::Mul, x, factor);
                    let scale = b.weights(&[4]);
                    b.binary(Binary::Mul, scale, y)
                },
                &["RMSNormalization"],
            ),
        ]);
    }
}
