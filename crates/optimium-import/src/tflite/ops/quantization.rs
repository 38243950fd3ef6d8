//! Operators between real and quantized tensors.

use optimium_graph::ops::{Cast, DequantizeLinear, Operator, QuantizeLinear};
use optimium_tensor::{ElementType, Result, Tensor};

use super::super::operator::{OperatorReader, support};

/// Of quantized tensors, and of weights that are stored in half precision.
pub(super) fn dequantize(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let output = node.output(0)?;
    let to = node.element_type(output)?;
    let from = node.element_type(x)?;
    if from.is_float() {
        if let (Some(tensor), ElementType::F32) = (node.constant(x), to) {
            node.grow(4 * tensor.len())?;
            return node.finish_constant(Tensor::from_slice(tensor.dims(), &tensor.to_f32s()?)?);
        }
        return node.finish(Operator::Cast(Cast { to }), [Some(x)]);
    }
    support(from.is_quantized(), "integers without a scale")?;
    let axis = node.value(x).scheme.as_ref().and_then(|scheme| scheme.axis()).unwrap_or(0);
    let op = DequantizeLinear { axis: axis as i64, block_size: 0 };
    node.finish(Operator::DequantizeLinear(op), [Some(x)])
}

pub(super) fn quantize(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let output = node.output(0)?;
    let to = node.element_type(output)?;
    support(to.is_quantized(), "integers without a scale")?;
    if node.element_type(x)?.is_quantized() {
        return node.finish(Operator::Requantize, [Some(x)]);
    }
    let axis = node.value(output).scheme.as_ref().and_then(|scheme| scheme.axis()).unwrap_or(0);
    let op = QuantizeLinear { axis: axis as i64, block_size: 0, output_type: Some(to) };
    node.finish(Operator::QuantizeLinear(op), [Some(x)])
}
