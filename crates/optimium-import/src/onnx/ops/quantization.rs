//! Operators between real and quantized tensors.
//!
//! Operators on quantized tensors that carry scales as inputs (QLinear…) become the operator on real numbers
//! between DequantizeLinear and QuantizeLinear, the form that simplification turns into integer arithmetic.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Activation, AveragePool, Binary, Concat, DequantizeLinear, GlobalPool, ImageLayout, Operator,
    QuantizeLinear, Reduction,
};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::node::{NodeReader, support, unsupported};
use super::super::types::element_type_of_attribute;
use super::matrix::plain_matmul;
use super::narrow::{self, Sharing};
use super::spatial;

pub(super) fn quantize(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let saturate = node.attributes.flag("saturate", true)?;
    let axis = node.attributes.int_or("axis", 1)?;
    let block_size = node.attributes.count_or("block_size", 0)?;
    let named = node.attributes.int_or("output_dtype", 0)?;
    let precision = node.attributes.int_or("precision", 0)?;
    support(precision == 0 || precision == 1, "attribute precision")?;
    let output_type = match (node.input(2), named) {
        (Some(_), _) => None,
        (None, 0) => Some(ElementType::U8),
        (None, named) => Some(element_type_of_attribute(named)?),
    };
    let zero_type = node.input(2).and_then(|zero| node.element_type(zero));
    if let Some(to) = output_type.or(zero_type).filter(|to| to.is_narrow()) {
        return narrow::quantize(node, to, Sharing { axis, block_size }, saturate);
    }
    node.finish_with_all_inputs(Operator::QuantizeLinear(QuantizeLinear { axis, block_size, output_type }))
}

pub(super) fn dequantize(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 1)?;
    let block_size = node.attributes.count_or("block_size", 0)?;
    let named = node.attributes.int_or("output_dtype", 0)?;
    if named != 0 {
        // The output's type is that of the scale, unless it is named.
        let named = element_type_of_attribute(named)?;
        let scale = node.required(1)?;
        support(node.element_type(scale) == Some(named), "attribute output_dtype")?;
    }
    node.inputs[0] = narrow::widened(node, node.input(0))?;
    let zero_point = narrow::widened(node, node.input(2))?;
    if let Some(input) = node.inputs.get_mut(2) {
        *input = zero_point;
    }
    let (x, scale) = (node.required(0)?, node.required(1)?);
    if let Some(from) = node.element_type(x).filter(|from| from.is_narrow()) {
        let Some(to) = node.element_type(scale) else { return unsupported("unknown element type") };
        return narrow::dequantize(node, from, to, Sharing { axis, block_size });
    }
    node.finish_with_all_inputs(Operator::DequantizeLinear(DequantizeLinear { axis, block_size }))
}

pub(super) fn dynamic_quantize(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::DynamicQuantizeLinear)
}

/// The real numbers of inputs `index` (integers), `index + 1` (scale) and `index + 2` (zero point or none).
fn real(node: &mut NodeReader<'_, '_>, index: usize, axis: i64) -> Result<ValueId> {
    let x = node.required(index)?;
    let scale = node.required(index + 1)?;
    let zero_point = node.input(index + 2);
    Ok(real_of(node, x, scale, zero_point, axis))
}

fn real_of(
    node: &mut NodeReader<'_, '_>,
    x: ValueId,
    scale: ValueId,
    zero_point: Option<ValueId>,
    axis: i64,
) -> ValueId {
    let op = DequantizeLinear { axis, block_size: 0 };
    node.step(Operator::DequantizeLinear(op), [Some(x), Some(scale), zero_point])
}

/// Quantizes `y` with input `index` (scale) and `index + 1` (zero point or none).
fn finish(node: &mut NodeReader<'_, '_>, y: ValueId, index: usize) -> Result<()> {
    let scale = node.required(index)?;
    let zero_point = node.input(index + 1);
    let output_type = zero_point.is_none().then_some(ElementType::U8);
    let op = QuantizeLinear { axis: 1, block_size: 0, output_type };
    node.finish(Operator::QuantizeLinear(op), [Some(y), Some(scale), zero_point])
}

pub(super) fn linear_conv(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let weights = node.required(3)?;
    let conv = spatial::read_conv(node, weights)?;
    let x = real(node, 0, 1)?;
    let w = real(node, 3, 0)?;
    let bias = match node.input(8) {
        None => None,
        Some(bias) => {
            let scale = bias_scale(node)?;
            Some(real_of(node, bias, scale, None, 0))
        }
    };
    let y = node.step(Operator::Conv(conv), [Some(x), Some(w), bias]);
    finish(node, y, 6)
}

/// The scale of a convolution's bias: that of x times that of the weights.
fn bias_scale(node: &mut NodeReader<'_, '_>) -> Result<ValueId> {
    let (x, w) = (node.required(1)?, node.required(4)?);
    let (Some(x_scale), Some(w_scale)) = (node.constant(x), node.constant(w)) else {
        return Ok(node.binary(Binary::Mul, x, w));
    };
    let x_scale = match x_scale.to_f32s()?.as_slice() {
        [scale] => *scale,
        _ => return Err(Error::model("the scale of x is no scalar")),
    };
    let scales: Vec<f32> = w_scale.to_f32s()?.into_iter().map(|scale| scale * x_scale).collect();
    Ok(node.add_constant("bias_scale", Tensor::from_slice(w_scale.dims(), &scales)?))
}

pub(super) fn linear_matmul(node: &mut NodeReader<'_, '_>) -> Result<()> {
    // Scales are one for all, one a row of a, or one a column of b.
    let a = real(node, 0, -2)?;
    let b = real(node, 3, -1)?;
    let y = node.step(Operator::MatMul(plain_matmul()), [Some(a), Some(b)]);
    finish(node, y, 6)
}

pub(super) fn linear_binary(node: &mut NodeReader<'_, '_>, function: Binary) -> Result<()> {
    let a = real(node, 0, 1)?;
    let b = real(node, 3, 1)?;
    let y = node.binary(function, a, b);
    finish(node, y, 6)
}

pub(super) fn linear_leaky_relu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 0.01)?;
    let x = real(node, 0, 1)?;
    let y = node.activation(Activation::LeakyRelu { alpha }, x);
    finish(node, y, 3)
}

pub(super) fn linear_sigmoid(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = real(node, 0, 1)?;
    let y = node.activation(Activation::Sigmoid, x);
    finish(node, y, 3)
}

fn layout(node: &mut NodeReader<'_, '_>) -> Result<ImageLayout> {
    let last = node.attributes.flag("channels_last", false)?;
    Ok(if last { ImageLayout::ChannelsLast } else { ImageLayout::ChannelsFirst })
}

pub(super) fn linear_average_pool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let mut window = spatial::window(node)?;
    window.layout = layout(node)?;
    let count_include_pad = node.attributes.flag("count_include_pad", false)?;
    let x = real(node, 0, 1)?;
    let y = node.step(Operator::AveragePool(AveragePool { window, count_include_pad }), [Some(x)]);
    finish(node, y, 3)
}

pub(super) fn linear_global_average_pool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let layout = layout(node)?;
    let x = real(node, 0, 1)?;
    let y = node.step(Operator::GlobalPool(GlobalPool { layout, reduction: Reduction::Mean }), [Some(x)]);
    finish(node, y, 3)
}

/// Inputs: scale and zero point of y, then x, scale and zero point of each part.
pub(super) fn linear_concat(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.required_int("axis")?;
    let mut parts = Vec::new();
    for index in (2..node.inputs.len()).step_by(3) {
        parts.push(Some(real(node, index, 1)?));
    }
    if parts.is_empty() {
        return Err(Error::model("it joins nothing"));
    }
    let y = node.step(Operator::Concat(Concat { axis }), parts);
    finish(node, y, 0)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Case, check, node, zeros};
    use super::*;
    use optimium_graph::ops::{Conv, Fusion, Padding};

    fn real(axis: i64) -> Operator {
        Operator::DequantizeLinear(DequantizeLinear { axis, block_size: 0 })
    }

    fn stored() -> Operator {
        Operator::QuantizeLinear(QuantizeLinear { axis: 1, block_size: 0, output_type: None })
    }

    #[test]
    fn quantized_operators_become_real_ones() {
        let conv = Conv {
            layout: ImageLayout::ChannelsFirst,
            strides: vec![1, 1],
            dilations: vec![1, 1],
            groups: 1,
            padding: Padding::Explicit { begin: vec![0, 0], end: vec![0, 0] },
            fusion: Fusion::default(),
        };
        let mut add = node("QLinearAdd", &["a", "as", "az", "b", "bs", "bz", "ys", "yz"], &["y"]);
        add.domain = "com.microsoft".to_owned();
        check([
            Case {
                opset: 10,
                node: node("QLinearConv", &["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], &["y"]),
                constants: vec![zeros("w", &[4, 3, 3, 3]), zeros("xs", &[]), zeros("ws", &[4])],
                expected: vec![real(1), real(0), real(0), Operator::Conv(conv), stored()],
            },
            Case {
                opset: 10,
                node: node("QLinearMatMul", &["a", "as", "az", "b", "bs", "bz", "ys", "yz"], &["y"]),
                constants: Vec::new(),
                expected: vec![real(-2), real(-1), Operator::MatMul(plain_matmul()), stored()],
            },
            Case {
                opset: 10,
                node: add,
                constants: Vec::new(),
                expected: vec![real(1), real(1), Operator::Binary { function: Binary::Add }, stored()],
            },
        ]);
    }
}
