//! Convolutions of bytes whose result are the integer sums.

use optimium_graph::ops::{ConvInteger, ImageLayout};
use optimium_kernels::quantized::{QuantizedElement, general};
use optimium_tensor::{ElementType, Error, Result};

use super::quantization::zero_points;
use super::spatial::{convolution_geometry, convolution_parameters, extent, padding_begin, weight_dims};
use super::view::{NodeView, unsupported_type};
use crate::layer::{Layer, Step};

pub(super) fn conv_integer(view: &NodeView, op: &ConvInteger) -> Result<Layer> {
    match (view.input_type(0)?, view.input_type(1)?) {
        (ElementType::U8, ElementType::U8) => of::<u8, u8>(view, op),
        (ElementType::U8, ElementType::I8) => of::<u8, i8>(view, op),
        (ElementType::I8, ElementType::U8) => of::<i8, u8>(view, op),
        (ElementType::I8, ElementType::I8) => of::<i8, i8>(view, op),
        (ElementType::U8 | ElementType::I8, other) | (other, _) => Err(unsupported_type(other)),
    }
}

fn of<A, B>(view: &NodeView, op: &ConvInteger) -> Result<Layer>
where
    A: bytemuck::Pod + QuantizedElement,
    B: bytemuck::Pod + QuantizedElement,
{
    let (dims, op) = (weight_dims(view)?, op.conv.clone());
    let spatial = dims.len().saturating_sub(2);
    if !(1..=2).contains(&spatial) || op.layout != ImageLayout::ChannelsLast {
        return Err(Error::not_implemented("integer convolution of more than two dimensions"));
    }
    if op.strides.len() != spatial || op.dilations.len() != spatial || op.groups == 0 {
        return Err(Error::model(format!(
            "weights of {dims:?} do not fit the attributes of the convolution"
        )));
    }
    let channels = [dims[1] * op.groups, dims[0]];
    let parameters = convolution_parameters(&dims, channels, &op.strides, &op.dilations, op.groups)?;
    let signed = [view.input_type(0)? == ElementType::I8, view.input_type(1)? == ElementType::I8];
    Ok(Layer::new("general integer convolution", move |b| {
        let (x, w, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let extent = extent(&dims[2..], &op.dilations);
        let begin = padding_begin(&op.padding, input, output, &extent, &op.strides);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let (x_zero, w_zero) = (b.optional_input(2), b.optional_input(3));
        let one = |len: usize| len == 1;
        if x_zero.as_ref().is_some_and(|zero| !one(zero.len()))
            || w_zero.as_ref().is_some_and(|zero| !one(zero.len()) && zero.len() != channels[1])
        {
            return Err(Error::shape(format!("zero points that do not fit {} channels", channels[1])));
        }
        Ok(Step::parallel(move |memory, part| {
            let x_zero = zero_points(memory, x_zero.as_ref(), signed[0])[0];
            let w_zeros = zero_points(memory, w_zero.as_ref(), signed[1]);
            let (x, w) = (memory.read::<A>(x.operand), memory.read::<B>(w.operand));
            let out = memory.write(y.operand);
            general::convolution::<A, B>(&parameters, &geometry, x, x_zero, w, &w_zeros, out, part);
            Ok(())
        }))
    }))
}
