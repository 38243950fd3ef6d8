//! Operators on integers, out of models that spell quantization as QuantizeLinear and DequantizeLinear around real
//! operators.
//!
//! First, [`schemes`] gives integer tensors with constant scales a quantized type and drops the scales. Then an
//! operator between DequantizeLinear and QuantizeLinear reads and writes the integers itself ([`regions`]). What is
//! left of neighbouring pairs cancels or becomes Requantize.

mod parameters;
mod regions;
mod schemes;
mod simple;

use optimium_tensor::Result;

use super::editor::Editor;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(schemes::type_constant)
        + editor.visit(schemes::type_activation)
        + editor.visit(simple::drop_implied_bound)
        + editor.visit(simple::sink_dequantize)
        + editor.visit(regions::quantize_operator)
        + editor.visit(simple::cancel_pair))
}

/// Products whose result stays real read integers too; only what did not become an operator on integers whole.
pub(super) fn run_real_results(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(regions::quantize_inputs))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect_simplified, plain_conv, plain_matmul};
    use crate::ops::{Activation, Binary, Concat, DequantizeLinear, QuantizeLinear};
    use crate::{Operator, ValueId};
    use optimium_tensor::{ElementType, Tensor};
    use optimium_testing::each_case;

    type Build = fn(&mut Builder, ValueId) -> ValueId;

    fn constant<T: optimium_tensor::Element>(b: &mut Builder, dims: &[usize], values: &[T]) -> ValueId {
        let name = format!("q{}", b.graph.values().len());
        b.graph.add_constant(name, Tensor::from_slice(dims, values).expect("values fit"))
    }

    fn dequantize(b: &mut Builder, x: ValueId, scale: f32, zero: u8) -> ValueId {
        let (scale, zero) = (b.number(scale), constant(b, &[], &[zero]));
        b.node(Operator::DequantizeLinear(DequantizeLinear { axis: 1, block_size: 0 }), &[x, scale, zero])
    }

    /// Through integers and back.
    fn round(b: &mut Builder, x: ValueId, scale: f32, zero: u8) -> ValueId {
        let (number, zero_point) = (b.number(scale), constant(b, &[], &[zero]));
        let quantize = QuantizeLinear { axis: 1, block_size: 0, output_type: None };
        let y = b.node(Operator::QuantizeLinear(quantize), &[x, number, zero_point]);
        dequantize(b, y, scale, zero)
    }

    /// Dequantized integer weights with one scale for each index of the first axis.
    fn weights(b: &mut Builder, dims: &[usize]) -> ValueId {
        let stored = constant(b, dims, &vec![3i8; dims.iter().product()]);
        let scales = b.constant(&[dims[0]], &vec![0.5; dims[0]]);
        let zeros = constant(b, &[dims[0]], &vec![0i8; dims[0]]);
        let op = Operator::DequantizeLinear(DequantizeLinear { axis: 0, block_size: 0 });
        b.node(op, &[stored, scales, zeros])
    }

    fn conv(b: &mut Builder, x: ValueId) -> ValueId {
        let weights = weights(b, &[4, 4, 1, 1]);
        let bias = b.constant(&[4], &[1.0, 2.0, 3.0, 4.0]);
        b.node(Operator::Conv(plain_conv(0)), &[x, weights, bias])
    }

    /// The operators between the first QuantizeLinear and the last DequantizeLinear.
    fn check<const N: usize>(cases: [(&str, Build, &[&str]); N]) {
        each_case(cases, |(_, build, expected)| {
            let mut b = Builder::new();
            let x = b.input(&[1, 4, 1, 1]);
            let x = round(&mut b, x, 0.1, 128);
            let y = build(&mut b, x);
            let y = round(&mut b, y, 0.2, 0);
            let expected = [&["QuantizeLinear"], *expected, &["DequantizeLinear"]].concat();
            expect_simplified(b.finish(&[y]), &expected).map(|_| ())
        });
    }

    #[test]
    fn operators_between_integers_work_on_integers() {
        check([
            ("convolution", conv, &["Reshape", "Conv", "Reshape"]),
            (
                "bound that is implied",
                |b, x| {
                    let y = conv(b, x);
                    b.activation(Activation::Relu, y)
                },
                &["Reshape", "Conv", "Reshape"],
            ),
            (
                "sum",
                |b, x| {
                    let y = conv(b, x);
                    let y = round(b, y, 0.3, 7);
                    b.binary(Binary::Add, x, y)
                },
                &["Reshape", "Conv", "Reshape", "Add"],
            ),
            ("another scheme", |b, x| b.reshape(x, &[4]), &["Reshape", "Requantize"]),
            (
                "joined",
                |b, x| b.node(Operator::Concat(Concat { axis: 1 }), &[x, x]),
                &["Requantize", "Concat"],
            ),
            ("function", |b, x| b.activation(Activation::Sigmoid, x), &["Sigmoid"]),
            (
                "what has no kernel on integers",
                |b, x| b.unary(crate::ops::Unary::Exp, x),
                &["DequantizeLinear", "Exp", "QuantizeLinear"],
            ),
        ]);
    }

    #[test]
    fn bounds_between_integers_of_one_scheme_are_fused() {
        type Case = (f32, u8, &'static [&'static str]);
        let cases: [Case; 2] = [
            (0.3, 7, &["QuantizeLinear", "Transpose", "Conv", "Conv", "Transpose", "DequantizeLinear"]),
            (
                0.2,
                3,
                &["QuantizeLinear", "Transpose", "Conv", "Relu", "Conv", "Transpose", "DequantizeLinear"],
            ),
        ];
        each_case(cases, |&(scale, zero, expected)| {
            let mut b = Builder::new();
            let x = b.input(&[1, 4, 5, 5]);
            let x = round(&mut b, x, 0.1, 128);
            let y = conv(&mut b, x);
            let y = round(&mut b, y, 0.3, 7);
            let y = b.activation(Activation::Relu, y);
            let y = round(&mut b, y, scale, zero);
            let y = conv(&mut b, y);
            let y = round(&mut b, y, 0.2, 0);
            expect_simplified(b.finish(&[y]), expected).map(|_| ())
        });
    }

    #[test]
    fn a_product_may_write_reals_and_its_bias_is_rounded() {
        let mut b = Builder::new();
        let x = b.input(&[2, 4]);
        let x = round(&mut b, x, 0.1, 128);
        let weights = weights(&mut b, &[3, 4]);
        let bias = b.constant(&[3], &[1.0, -0.5, 0.07]);
        let matmul = crate::ops::MatMul { transpose_b: true, ..plain_matmul() };
        let y = b.node(Operator::MatMul(matmul), &[x, weights, bias]);
        let graph = expect_simplified(b.finish(&[y]), &["QuantizeLinear", "MatMul"]).unwrap();
        let product = &graph.nodes()[1];
        let bias = product.input(2).and_then(|bias| graph.constant(bias)).unwrap();
        assert_eq!(bias.element_type(), ElementType::QS32);
        assert_eq!(bias.to_i64s().unwrap(), [20, -10, 1]);
        assert_eq!(graph.value(product.output(0).unwrap()).element_type(), Some(ElementType::F32));
    }
}
