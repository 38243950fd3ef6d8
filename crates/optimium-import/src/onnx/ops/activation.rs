//! Activation functions.

use optimium_graph::ops::{Activation, Binary, Comparison, Operator};
use optimium_tensor::{Error, Result};

use super::super::node::NodeReader;

/// One without attributes.
pub(super) fn plain(node: &mut NodeReader<'_, '_>, function: Activation) -> Result<()> {
    let x = node.input(0);
    node.finish(Operator::Activation { function }, [x])
}

pub(super) fn leaky_relu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 0.01)?;
    plain(node, Activation::LeakyRelu { alpha })
}

pub(super) fn elu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 1.0)?;
    plain(node, Activation::Elu { alpha })
}

pub(super) fn hard_sigmoid(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 0.2)?;
    let beta = node.attributes.float_or("beta", 0.5)?;
    plain(node, Activation::HardSigmoid { alpha, beta })
}

pub(super) fn gelu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let function = match node.attributes.string_or("approximate", "none")? {
        "none" => Activation::Gelu,
        "tanh" => Activation::GeluTanh,
        other => return Err(Error::model(format!("it approximates as {other:?}"))),
    };
    plain(node, function)
}

/// `x · sigmoid(alpha · x)`: Swish, and QuickGelu with another default.
pub(super) fn swish(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let default = if node.op_type == "QuickGelu" { 1.702 } else { 1.0 };
    let alpha = node.attributes.float_or("alpha", default)?;
    if alpha == 1.0 {
        return plain(node, Activation::Silu);
    }
    let x = node.required(0)?;
    let alpha = node.scalar_like("alpha", x, alpha)?;
    let scaled = node.binary(Binary::Mul, x, alpha);
    let gate = node.activation(Activation::Sigmoid, scaled);
    node.finish(Operator::Binary { function: Binary::Mul }, [Some(x), Some(gate)])
}

/// `alpha · elu(x / alpha)`
pub(super) fn celu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 1.0)?;
    if alpha == 1.0 {
        return plain(node, Activation::Elu { alpha });
    }
    let x = node.required(0)?;
    let alpha = node.scalar_like("alpha", x, alpha)?;
    let divided = node.binary(Binary::Div, x, alpha);
    let bent = node.activation(Activation::Elu { alpha: 1.0 }, divided);
    node.finish(Operator::Binary { function: Binary::Mul }, [Some(bent), Some(alpha)])
}

/// `gamma · elu(x)`
pub(super) fn selu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 1.673_263_2)?;
    let gamma = node.attributes.float_or("gamma", 1.050_701)?;
    let x = node.required(0)?;
    let gamma = node.scalar_like("gamma", x, gamma)?;
    let bent = node.activation(Activation::Elu { alpha }, x);
    node.finish(Operator::Binary { function: Binary::Mul }, [Some(bent), Some(gamma)])
}

/// `x` where it is above `alpha`, else 0
pub(super) fn thresholded_relu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 1.0)?;
    let x = node.required(0)?;
    let alpha = node.scalar_like("alpha", x, alpha)?;
    let zero = node.scalar_like("zero", x, 0.0)?;
    let above = node.compare(Comparison::Greater, x, alpha);
    node.finish(Operator::Where, [Some(above), Some(x), Some(zero)])
}

/// `x + bias` below `-lambd`, `x - bias` above `lambd`, else 0
pub(super) fn shrink(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let bias = node.attributes.float_or("bias", 0.0)?;
    let threshold = node.attributes.float_or("lambd", 0.5)?;
    let x = node.required(0)?;
    let zero = node.scalar_like("zero", x, 0.0)?;
    let high = node.scalar_like("high", x, threshold)?;
    let low = node.scalar_like("low", x, -threshold)?;
    let bias = node.scalar_like("bias", x, bias)?;
    let raised = node.binary(Binary::Add, x, bias);
    let lowered = node.binary(Binary::Sub, x, bias);
    let above = node.compare(Comparison::Greater, x, high);
    let below = node.compare(Comparison::Less, x, low);
    let inner = node.step(Operator::Where, [Some(above), Some(lowered), Some(zero)]);
    node.finish(Operator::Where, [Some(below), Some(raised), Some(inner)])
}

/// `a · sigmoid(alpha · a) · b`
pub(super) fn swiglu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 1.0)?;
    let (a, b) = (node.required(0)?, node.required(1)?);
    let gate = if alpha == 1.0 {
        node.activation(Activation::Silu, a)
    } else {
        let scaled = node.times(a, alpha)?;
        let gate = node.activation(Activation::Sigmoid, scaled);
        node.binary(Binary::Mul, a, gate)
    };
    node.finish(Operator::Binary { function: Binary::Mul }, [Some(gate), Some(b)])
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Case, case, check, node};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let activation = |function| Operator::Activation { function };
        let binary = |function| Operator::Binary { function };
        let compare = |function| Operator::Comparison { function };
        let one = |name: &str| node(name, &["x"], &["y"]);
        let several = |node, expected| Case { opset: 13, node, constants: Vec::new(), expected };
        let elu = |alpha| activation(Activation::Elu { alpha });
        let (mul, div) = (binary(Binary::Mul), binary(Binary::Div));
        let (greater, less) = (compare(Comparison::Greater), compare(Comparison::Less));
        check([
            case(7, one("Relu"), activation(Activation::Relu)),
            case(7, one("LeakyRelu"), activation(Activation::LeakyRelu { alpha: 0.01 })),
            case(7, one("Elu").float("alpha", 0.5), elu(0.5)),
            case(22, one("HardSigmoid"), activation(Activation::HardSigmoid { alpha: 0.2, beta: 0.5 })),
            case(20, one("Gelu").text("approximate", "tanh"), activation(Activation::GeluTanh)),
            case(24, one("Swish"), activation(Activation::Silu)),
            case(13, one("Celu"), elu(1.0)),
            several(one("Celu").float("alpha", 2.0), vec![div, elu(1.0), mul.clone()]),
            several(one("Selu").float("alpha", 2.0), vec![elu(2.0), mul.clone()]),
            several(one("ThresholdedRelu"), vec![greater.clone(), Operator::Where]),
            several(
                one("Swish").float("alpha", 2.0),
                vec![mul.clone(), activation(Activation::Sigmoid), mul],
            ),
            several(
                one("Shrink"),
                vec![
                    binary(Binary::Add),
                    binary(Binary::Sub),
                    greater,
                    less,
                    Operator::Where,
                    Operator::Where,
                ],
            ),
        ]);
    }
}
