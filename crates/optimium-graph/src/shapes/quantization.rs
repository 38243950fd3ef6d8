//! Rules of operators between real and quantized tensors: the output is shaped as x.

use optimium_tensor::{ElementType, Error, Result};

use super::arithmetic::normalize_axis;
use super::context::Context;
use crate::ops::{DequantizeLinear, QuantizeLinear};

/// Inputs: x, scale, zero point or none; the last two are dropped where the output carries a scheme.
pub(super) fn quantize(op: &QuantizeLinear, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    check_scale(op.axis, op.block_size, dims.len(), cx)?;
    let declared = cx.output(0).and_then(|value| value.element_type()).filter(|t| t.is_quantized());
    let element_type = match (declared, op.output_type) {
        (Some(declared), _) => declared,
        _ if cx.has(2) => cx.element_type(2)?,
        (None, output_type) => output_type.unwrap_or(ElementType::U8),
    };
    cx.set(0, element_type, dims)
}

/// Inputs: x, scale, zero point or none; the last two are dropped where the input carries a scheme.
pub(super) fn dequantize(op: &DequantizeLinear, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    check_scale(op.axis, op.block_size, dims.len(), cx)?;
    let declared = cx.output(0).and_then(|value| value.element_type());
    let element_type = if cx.has(1) { cx.element_type(1)? } else { declared.unwrap_or(ElementType::F32) };
    if !cx.has(1) && cx.input(0)?.scheme.is_none() {
        return Err(Error::model("there is neither a scale nor a quantization scheme"));
    }
    cx.set(0, element_type, dims)
}

fn check_scale(axis: i64, block_size: usize, rank: usize, cx: &Context<'_>) -> Result<()> {
    let per_axis = cx.has(1) && !cx.dims(1)?.is_empty();
    let single = cx.has(1) && cx.dims(1)?.iter().all(|dim| dim.as_const() == Some(1));
    if (per_axis && !single) || block_size > 0 {
        normalize_axis(axis, rank)?;
    }
    Ok(())
}

/// Outputs: y (U8), scale, zero point.
pub(super) fn dynamic_quantize(cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::F32])?;
    let dims = cx.dims(0)?;
    cx.set(0, ElementType::U8, dims)?;
    cx.set(1, ElementType::F32, vec![])?;
    cx.set(2, ElementType::U8, vec![])
}

/// Another scheme for quantized values: the output says which.
pub(super) fn requantize(cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let declared = cx.output(0).and_then(|value| value.element_type());
    match declared {
        Some(element_type) if element_type.is_quantized() => cx.set(0, element_type, dims),
        _ => Err(Error::model("the output has no quantized element type")),
    }
}
