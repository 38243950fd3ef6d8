//! The matrix product of dynamically quantized activations: five operators that are one.

use super::super::editor::Editor;
use super::super::matching::{either, operands};
use crate::ops::{Activation, Binary, DynamicQuantizedMatMul, Fusion};
use crate::{NodeId, Operator, ValueId};

/// `cast(matmul_integer(quantize(a), b)) · (a scale · b scale)`
pub(super) fn matmul(editor: &mut Editor, node: NodeId) -> Option<()> {
    let pair = operands(editor, node, Binary::Mul)?;
    let (cast, scales) =
        either(pair, |a, b| matches!(editor.op(editor.inner(a)?), Operator::Cast(_)).then_some((a, b)))?;
    let product = editor.input(editor.producer(cast)?, 0)?;
    let product = editor.inner(product)?;
    let Operator::MatMulInteger(_) = editor.op(product) else { return None };
    let (a, b, zero) = (editor.input(product, 0)?, editor.input(product, 1)?, editor.input(product, 2)?);
    let b_zero = editor.input(product, 3);
    let quantize = editor.producer(a)?;
    let is_dynamic = *editor.op(quantize) == Operator::DynamicQuantizeLinear
        && editor.node(quantize).output(0) == Some(a)
        && editor.node(quantize).output(2) == Some(zero);
    let a_scale = editor.node(quantize).output(1)?;
    let b_scale = other_factor(editor, scales, a_scale)?;
    let constant = |value: ValueId| editor.is_constant(value);
    if !is_dynamic
        || !constant(b)
        || !constant(b_scale)
        || !b_zero.is_none_or(constant)
        || editor.rank(b)? != 2
    {
        return None;
    }
    let x = editor.input(quantize, 0)?;
    let fusion = Fusion { activation: Activation::None, residual_after_activation: false };
    let op = Operator::DynamicQuantizedMatMul(DynamicQuantizedMatMul { fusion });
    editor.replace(node, op, vec![Some(x), Some(b), Some(b_scale), b_zero]);
    Some(())
}

fn other_factor(editor: &Editor, product: ValueId, factor: ValueId) -> Option<ValueId> {
    let pair = operands(editor, editor.producer(product)?, Binary::Mul)?;
    either(pair, |a, b| (a == factor).then_some(b))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Builder, expect_simplified};
    use super::*;
    use crate::Node;
    use crate::ops::{Cast, MatMulInteger};
    use optimium_tensor::{ElementType, Tensor};

    #[test]
    fn five_operators_and_a_bias_are_one() {
        let mut builder = Builder::new();
        let x = builder.input(&[2, 3]);
        let outputs = ["q", "scale", "zero"].map(|name| Some(builder.graph.add_unknown(name)));
        builder.graph.add_node(Node {
            name: "quantize".into(),
            op: Operator::DynamicQuantizeLinear,
            inputs: vec![Some(x)],
            outputs: outputs.to_vec(),
        });
        let [q, scale, zero] = outputs.map(|output| output.expect("named"));
        let b = Tensor::from_slice(&[3, 4], &[5i8; 12]).expect("values fit");
        let b = builder.graph.add_constant("b", b);
        let b_zero = builder.graph.add_constant("b_zero", Tensor::scalar(0i8).expect("one value"));
        let product = builder.node(Operator::MatMulInteger(MatMulInteger {}), &[q, b, zero, b_zero]);
        let product = builder.node(Operator::Cast(Cast { to: ElementType::F32 }), &[product]);
        let b_scale = builder.number(0.02);
        let scales = builder.binary(Binary::Mul, scale, b_scale);
        let product = builder.binary(Binary::Mul, product, scales);
        let bias = builder.weights(&[4]);
        let y = builder.binary(Binary::Add, bias, product);
        let graph = expect_simplified(builder.finish(&[y]), &["DynamicQuantizedMatMul"]).unwrap();
        let inputs: Vec<bool> = graph.nodes()[0].inputs.iter().map(Option::is_some).collect();
        assert_eq!(inputs, [true; 5]);
    }
}
