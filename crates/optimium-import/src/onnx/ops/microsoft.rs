//! Operators of the domain `com.microsoft`.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Activation, Binary, DynamicQuantizedMatMul, Fusion, LayerNormalization, MatMul, Operator,
    RmsNormalization,
};
use optimium_tensor::Result;

use super::super::node::{NodeReader, support, unsupported};
use super::spatial;

pub(super) fn bias_gelu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (x, bias) = (node.required(0)?, node.required(1)?);
    let sum = node.binary(Binary::Add, x, bias);
    node.finish(Operator::Activation { function: Activation::Gelu }, [Some(sum)])
}

pub(super) fn fast_gelu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let mut x = node.required(0)?;
    if let Some(bias) = node.input(1) {
        x = node.binary(Binary::Add, x, bias);
    }
    node.finish(Operator::Activation { function: Activation::GeluTanh }, [Some(x)])
}

pub(super) fn fused_matmul(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    let op = MatMul {
        transpose_a: attributes.flag("transA", false)?,
        transpose_b: attributes.flag("transB", false)?,
        alpha: attributes.float_or("alpha", 1.0)?,
        fusion: Fusion::default(),
    };
    let batched = attributes.flag("transBatchA", false)? || attributes.flag("transBatchB", false)?;
    support(!batched, "transposed batches")?;
    node.finish_with_all_inputs(Operator::MatMul(op))
}

pub(super) fn fused_conv(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let weights = node.required(1)?;
    let mut conv = spatial::read_conv(node, weights)?;
    let parameters = node.attributes.floats("activation_params")?.unwrap_or_default();
    let parameter = |index: usize, default: f32| parameters.get(index).copied().unwrap_or(default);
    conv.fusion.activation = match node.attributes.string_or("activation", "")? {
        "" => Activation::None,
        "Relu" => Activation::Relu,
        "Tanh" => Activation::Tanh,
        "Sigmoid" => Activation::Sigmoid,
        "LeakyRelu" => Activation::LeakyRelu { alpha: parameter(0, 0.01) },
        "Clip" => Activation::Clip {
            low: Some(parameter(0, f32::MIN)).filter(|&low| low > f32::MIN),
            high: Some(parameter(1, f32::MAX)).filter(|&high| high < f32::MAX),
        },
        "HardSigmoid" => Activation::HardSigmoid { alpha: parameter(0, 0.2), beta: parameter(1, 0.5) },
        other => return unsupported(format!("activation {other}")),
    };
    // The fourth input is added before the activation, as a residual is.
    node.finish_with_all_inputs(Operator::Conv(conv))
}

pub(super) fn dynamic_quantize_matmul(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let op = DynamicQuantizedMatMul { fusion: Fusion::default() };
    node.finish_with_all_inputs(Operator::DynamicQuantizedMatMul(op))
}

/// Inputs: x, skip, scale, bias of the normalization or none, bias of the sum or none.
pub(super) fn skip_layer_normalization(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let epsilon = node.attributes.float_or("epsilon", 1e-12)?;
    let (scale, bias) = (node.input(2), node.input(3));
    let op = Operator::LayerNormalization(LayerNormalization { axis: -1, epsilon });
    let sum_bias = node.input(4);
    finish_skip(node, op, vec![scale, bias], sum_bias)
}

/// Inputs: x, skip, scale, bias of the sum or none.
pub(super) fn skip_simplified_layer_normalization(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let epsilon = node.attributes.float_or("epsilon", 1e-12)?;
    let scale = node.input(2);
    let op = Operator::RmsNormalization(RmsNormalization { axis: -1, epsilon });
    let sum_bias = node.input(3);
    finish_skip(node, op, vec![scale], sum_bias)
}

/// Normalizes `x + skip + bias`, which is the node's fourth output.
fn finish_skip(
    node: &mut NodeReader<'_, '_>,
    op: Operator,
    parameters: Vec<Option<ValueId>>,
    bias: Option<ValueId>,
) -> Result<()> {
    support(node.output(1).is_none() && node.output(2).is_none(), "outputs of training")?;
    let (x, skip) = (node.required(0)?, node.required(1)?);
    let add = || Operator::Binary { function: Binary::Add };
    let mut sum = node.binary(Binary::Add, x, skip);
    if let Some(bias) = bias {
        sum = node.step(add(), [Some(sum), Some(bias)]);
    }
    if let Some(output) = node.output(3) {
        node.add_node(Operator::Identity, vec![Some(sum)], vec![Some(output)]);
    }
    node.outputs.truncate(1);
    let inputs: Vec<_> = std::iter::once(Some(sum)).chain(parameters).collect();
    node.finish(op, inputs)
}
