//! Convolutions of bytes whose result are the integer sums.

use std::sync::Arc;

use optimium_graph::ops::{Conv, ConvInteger, ImageLayout};
use optimium_kernels::conv::{Geometry, Parameters};
use optimium_kernels::quantized::{Output, QuantizedElement, general};
use optimium_tensor::{ElementType, Error, Result};

use super::quantization::zero_points;
use super::quantized::Kernel;
use super::spatial::{convolution_geometry, convolution_parameters, extent, padding_begin, weight_dims};
use super::view::{NodeView, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};

pub(super) fn conv_integer(view: &NodeView, op: &ConvInteger) -> Result<Layer> {
    let form = Form::of(view, op)?;
    if let Some(zero_points) = form.known_weights(view)? {
        return packed(view, form, &zero_points);
    }
    match form.signed {
        [false, false] => plain::<u8, u8>(form),
        [false, true] => plain::<u8, i8>(form),
        [true, false] => plain::<i8, u8>(form),
        [true, true] => plain::<i8, i8>(form),
    }
}

/// What is known of the convolution before it is bound.
struct Form {
    conv: Conv,
    /// The sizes of the weights behind the channels.
    kernel: Vec<usize>,
    parameters: Parameters,
    /// Whether the bytes of the image and of the weights are signed.
    signed: [bool; 2],
}

impl Form {
    fn of(view: &NodeView, op: &ConvInteger) -> Result<Form> {
        let signed = |index: usize| match view.input_type(index)? {
            ElementType::I8 => Ok(true),
            ElementType::U8 => Ok(false),
            other => Err(unsupported_type(other)),
        };
        let signed = [signed(0)?, signed(1)?];
        let (dims, conv) = (weight_dims(view)?, op.conv.clone());
        let spatial = dims.len().saturating_sub(2);
        if !(1..=2).contains(&spatial) || conv.layout != ImageLayout::ChannelsLast {
            return Err(Error::not_implemented("integer convolution of more than two dimensions"));
        }
        if conv.strides.len() != spatial || conv.dilations.len() != spatial || conv.groups == 0 {
            return Err(Error::model(format!(
                "weights of {dims:?} do not fit the attributes of the convolution"
            )));
        }
        let channels = [dims[1] * conv.groups, dims[0]];
        let parameters =
            convolution_parameters(&dims, channels, &conv.strides, &conv.dilations, conv.groups)?;
        Ok(Form { conv, kernel: dims[2..].to_vec(), parameters, signed })
    }

    /// The zero points of the weights, where both are constants.
    fn known_weights(&self, view: &NodeView) -> Result<Option<Vec<i32>>> {
        if view.constant(1).is_none() {
            return Ok(None);
        }
        let zero_points: Vec<i32> = match view.constant(3) {
            Some(zero) => zero.to_i64s()?.into_iter().map(|zero| zero as i32).collect(),
            None if view.has_input(3) => return Ok(None),
            None => Vec::new(),
        };
        self.check_zero_points(zero_points.len().max(1))?;
        Ok(Some(zero_points))
    }

    /// Refuses a number of zero points of the weights that is neither one nor one an output channel.
    fn check_zero_points(&self, count: usize) -> Result<()> {
        let channels = self.parameters.output_channels;
        if count == 1 || count == channels {
            return Ok(());
        }
        Err(Error::shape(format!("{count} zero points for {channels} channels")))
    }

    fn geometry(&self, b: &Binding) -> Result<Geometry> {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let extent = extent(&self.kernel, &self.conv.dilations);
        let begin = padding_begin(&self.conv.padding, input, output, &extent, &self.conv.strides);
        convolution_geometry(&x, &y, &self.parameters, &begin)
    }
}

/// The zero point of the image, which may be computed.
fn image_zero_point(b: &Binding) -> Result<Option<Bound>> {
    let zero = b.optional_input(2);
    if zero.as_ref().is_some_and(|zero| zero.len() != 1) {
        return Err(Error::shape("an image with several zero points"));
    }
    Ok(zero)
}

/// Constant weights, packed for the kernels of quantized convolutions.
fn packed(view: &NodeView, form: Form, zero_points_of_weights: &[i32]) -> Result<Layer> {
    let tensor = view.constant(1).ok_or_else(|| Error::not_implemented("weights that are computed"))?;
    let [signed, weights_signed] = form.signed;
    let weights = tensor.read_bytes()?;
    let kernel = Kernel::new(view, &form.parameters, &weights, weights_signed, zero_points_of_weights);
    let kernel = Arc::new(kernel);
    let [kh, kw] = form.parameters.kernel;
    Ok(Layer::new(format!("integer {} {kh}x{kw}", kernel.name()), move |b| {
        let (zero, geometry) = (image_zero_point(b)?, form.geometry(b)?);
        let (x, y, kernel) = (b.input(0)?.operand, b.output(0)?.operand, kernel.clone());
        let scratch = kernel.scratch_len(&geometry);
        b.need_scratch::<u8>(scratch);
        Ok(Step::parallel(move |memory, part| {
            let zero_point = zero_points(memory, zero.as_ref(), signed)[0];
            let (data, space) = (memory.read::<u8>(x), memory.scratch::<u8>(part.index, scratch));
            let output = Output::I32(memory.write(y));
            kernel.run(&geometry, data, signed, zero_point, &output, space, part);
            Ok(())
        }))
    }))
}

/// Weights or their zero points are computed.
fn plain<A, B>(form: Form) -> Result<Layer>
where
    A: bytemuck::Pod + QuantizedElement,
    B: bytemuck::Pod + QuantizedElement,
{
    Ok(Layer::new("general integer convolution", move |b| {
        let (x, w, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let (geometry, parameters, signed) = (form.geometry(b)?, form.parameters, form.signed);
        let (x_zero, w_zero) = (image_zero_point(b)?, b.optional_input(3));
        form.check_zero_points(w_zero.as_ref().map_or(1, Bound::len))?;
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
