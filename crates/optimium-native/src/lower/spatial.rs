//! Convolutions.

use std::sync::Arc;

use optimium_graph::ops::{Conv, ConvTranspose, ImageLayout, Padding};
use optimium_kernels::conv::{
    self, Convolution, GeneralImages, GeneralParameters, Geometry, Parameters, TransposedConvolution,
};
use optimium_kernels::depthwise::Depthwise;
use optimium_tensor::{ElementType, Error, Result};

use super::epilogue::EpilogueSource;
use super::view::{NodeView, unsupported_type};
use crate::layer::{Bound, Layer, Step};

/// The padding before each of the dimensions.
pub(super) fn padding_begin(
    padding: &Padding,
    input: &[usize],
    output: &[usize],
    extent: &[usize],
    strides: &[usize],
) -> Vec<usize> {
    let total = |i: usize| (output[i].saturating_sub(1) * strides[i] + extent[i]).saturating_sub(input[i]);
    match padding {
        Padding::Explicit { begin, .. } => begin.clone(),
        Padding::Valid => vec![0; input.len()],
        Padding::SameUpper => (0..input.len()).map(|i| total(i) / 2).collect(),
        Padding::SameLower => (0..input.len()).map(|i| total(i).div_ceil(2)).collect(),
    }
}

/// What a kernel covers of the image, dilation included.
pub(super) fn extent(kernel: &[usize], dilations: &[usize]) -> Vec<usize> {
    kernel.iter().zip(dilations).map(|(&k, &d)| k.saturating_sub(1) * d + 1).collect()
}

/// The weights' shape, which kernels are chosen by.
fn weight_dims(view: &NodeView) -> Result<Vec<usize>> {
    view.input_shape(1)?.as_fixed().ok_or_else(|| Error::not_implemented("weights of a dynamic shape"))
}

fn two<T: Copy>(list: &[T]) -> Result<[T; 2]> {
    list.try_into().map_err(|_| Error::model(format!("{} entries for two dimensions", list.len())))
}

pub(super) fn conv(view: &NodeView, conv: &Conv) -> Result<Layer> {
    let dims = weight_dims(view)?;
    let rank = dims.len();
    if rank < 3 || conv.strides.len() != rank - 2 || conv.dilations.len() != rank - 2 || conv.groups == 0 {
        return Err(Error::model(format!(
            "weights of {dims:?} do not fit the attributes of the convolution"
        )));
    }
    let images =
        rank <= 4 && conv.layout == ImageLayout::ChannelsLast && view.input_type(0)? == ElementType::F32;
    match view.floats(1) {
        Ok(Some(weights)) if images => conv_2d(view, conv, &dims, &weights),
        _ => conv_general(view, conv, &dims),
    }
}

/// Parameters over two dimensions; a one-dimensional convolution gets a height of one.
pub(super) fn convolution_parameters(
    dims: &[usize],
    channels: [usize; 2],
    strides: &[usize],
    dilations: &[usize],
    groups: usize,
) -> Result<Parameters> {
    let two_dimensional = |list: &[usize]| if list.len() == 1 { [1, list[0]] } else { [list[0], list[1]] };
    let parameters = Parameters {
        input_channels: channels[0],
        output_channels: channels[1],
        kernel: two_dimensional(&dims[2..]),
        stride: two_dimensional(strides),
        dilation: two_dimensional(dilations),
        groups,
    };
    let zero = [parameters.kernel, parameters.stride, parameters.dilation].concat().contains(&0);
    let divided = channels.iter().all(|c| c.is_multiple_of(groups));
    if zero || !divided {
        return Err(Error::model(format!("impossible sizes of a convolution: {parameters:?}")));
    }
    Ok(parameters)
}

/// The geometry of channels-last images of one or two dimensions.
pub(super) fn convolution_geometry(
    x: &Bound,
    y: &Bound,
    parameters: &Parameters,
    begin: &[usize],
) -> Result<Geometry> {
    let size = |dims: &[usize]| if dims.len() == 3 { [1, dims[1]] } else { [dims[1], dims[2]] };
    let (Some(&input_channels), Some(&output_channels)) = (x.dims.last(), y.dims.last()) else {
        return Err(Error::shape("a convolution of a scalar"));
    };
    if input_channels != parameters.input_channels || output_channels != parameters.output_channels {
        return Err(Error::shape(format!(
            "an image of {:?} and a result of {:?} for {} to {} channels",
            x.dims, y.dims, parameters.input_channels, parameters.output_channels
        )));
    }
    Ok(Geometry {
        batch: x.dims[0],
        input: size(&x.dims),
        output: size(&y.dims),
        padding: if begin.len() == 1 { [0, begin[0]] } else { two(begin)? },
        input_stride: input_channels,
        output_stride: output_channels,
    })
}

/// A convolution kernel with its weights.
enum Kernel {
    Dense(Convolution),
    Depthwise(Depthwise),
}

fn conv_2d(view: &NodeView, op: &Conv, dims: &[usize], weights: &Arc<[f32]>) -> Result<Layer> {
    let channels = [dims[1] * op.groups, dims[0]];
    let parameters = convolution_parameters(dims, channels, &op.strides, &op.dilations, op.groups)?;
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(dims[0]))?;
    let level = view.level;
    let (kernel, name) = if parameters.groups > 1 && parameters.groups == parameters.input_channels {
        (Kernel::Depthwise(Depthwise::new(level, &parameters, weights)), "depthwise".to_owned())
    } else {
        let algorithm = conv::pick(level, &parameters);
        let pixels = output_pixels(view).unwrap_or(196);
        let convolution = Convolution::for_pixels(level, &parameters, algorithm, weights, pixels);
        (Kernel::Dense(convolution), algorithm.to_string())
    };
    let (kernel, op) = (Arc::new(kernel), op.clone());
    let [kh, kw] = parameters.kernel;
    Ok(Layer::new(format!("{name} {kh}x{kw}{}", epilogue.describe()), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let kernel_sizes = if input.len() == 1 { vec![kw] } else { vec![kh, kw] };
        let begin =
            padding_begin(&op.padding, input, output, &extent(&kernel_sizes, &op.dilations), &op.strides);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let epilogue = epilogue.bind(b, parameters.output_channels)?;
        let kernel = kernel.clone();
        let scratch = if let Kernel::Dense(conv) = &*kernel { conv.scratch_len(&geometry) } else { 0 };
        b.need_scratch::<f32>(scratch);
        Ok(Step::parallel(move |memory, part| {
            let (x, out) = (memory.read(x.operand), memory.write(y.operand));
            let epilogue = epilogue.read(memory);
            match &*kernel {
                Kernel::Dense(conv) => {
                    conv.run(&geometry, x, &epilogue, out, memory.scratch(part.index, scratch), part)
                }
                Kernel::Depthwise(depthwise) => depthwise.run(&geometry, x, &epilogue, out, part),
            }
            Ok(())
        }))
    }))
}

/// Output pixels of one image, where they are known.
fn output_pixels(view: &NodeView) -> Option<usize> {
    let dims = view.output_shape(0).ok()?.as_fixed()?;
    Some(dims[1..dims.len() - 1].iter().product())
}

/// Any number of dimensions, layout and floating-point type, and weights that are computed.
fn conv_general(view: &NodeView, op: &Conv, dims: &[usize]) -> Result<Layer> {
    if op.fusion != optimium_graph::ops::Fusion::default() || view.has_input(3) {
        return Err(Error::not_implemented("fusion behind a general convolution"));
    }
    match view.input_type(0)?.storage() {
        ElementType::F32 => general::<f32>(op, dims),
        ElementType::F64 => general::<f64>(op, dims),
        other => Err(unsupported_type(other)),
    }
}

fn general<T: bytemuck::Pod + optimium_kernels::gemm::Number>(op: &Conv, dims: &[usize]) -> Result<Layer> {
    let (op, kernel) = (op.clone(), dims[2..].to_vec());
    let weights_dims = dims.to_vec();
    Ok(Layer::new("general convolution", move |b| {
        let (x, w, y, bias) = (b.input(0)?, b.input(1)?, b.output(0)?, b.optional_input(2));
        let (input, output) = (Images::of(&x, op.layout)?, Images::of(&y, op.layout)?);
        let begin = padding_begin(
            &op.padding,
            &input.sizes,
            &output.sizes,
            &extent(&kernel, &op.dilations),
            &op.strides,
        );
        let fits = input.channels == weights_dims[1] * op.groups && output.channels == weights_dims[0];
        if !fits || op.strides.contains(&0) || bias.as_ref().is_some_and(|bias| bias.len() != output.channels)
        {
            return Err(Error::shape(format!(
                "weights of {weights_dims:?} do not fit {:?} and {:?}",
                x.dims, y.dims
            )));
        }
        let (op, kernel) = (op.clone(), kernel.clone());
        Ok(Step::parallel(move |memory, part| {
            let parameters = GeneralParameters {
                kernel: &kernel,
                stride: &op.strides,
                dilation: &op.dilations,
                padding: &begin,
                groups: op.groups,
            };
            let (source, weights) = (memory.read::<T>(x.operand), memory.read::<T>(w.operand));
            let bias = bias.as_ref().map(|bias| memory.read::<T>(bias.operand));
            let out = memory.write(y.operand);
            conv::convolve_general(
                &parameters,
                source,
                &input.view(),
                weights,
                bias,
                out,
                &output.view(),
                part,
            );
            Ok(())
        }))
    }))
}

/// Where the elements of images of any number of dimensions lie.
struct Images {
    batch: usize,
    channels: usize,
    sizes: Vec<usize>,
    batch_stride: usize,
    channel_stride: usize,
    strides: Vec<usize>,
}

impl Images {
    fn of(tensor: &Bound, layout: ImageLayout) -> Result<Images> {
        let rank = tensor.dims.len();
        if rank < 3 {
            return Err(Error::shape(format!("expected images, found {:?}", tensor.dims)));
        }
        let all: Vec<usize> = optimium_kernels::movement::contiguous_strides(&tensor.dims)
            .iter()
            .map(|&s| s as usize)
            .collect();
        let channel = layout.channel_axis(rank);
        let spatial =
            |list: &[usize]| -> Vec<usize> { (0..rank - 2).map(|i| list[layout.spatial_axis(i)]).collect() };
        Ok(Images {
            batch: tensor.dims[0],
            channels: tensor.dims[channel],
            sizes: spatial(&tensor.dims),
            batch_stride: all[0],
            channel_stride: all[channel],
            strides: spatial(&all),
        })
    }

    fn view(&self) -> GeneralImages<'_> {
        GeneralImages {
            batch: self.batch,
            channels: self.channels,
            sizes: &self.sizes,
            batch_stride: self.batch_stride,
            channel_stride: self.channel_stride,
            strides: &self.strides,
        }
    }
}

pub(super) fn conv_transpose(view: &NodeView, op: &ConvTranspose) -> Result<Layer> {
    let dims = weight_dims(view)?;
    let spatial = dims.len().saturating_sub(2);
    if !(1..=2).contains(&spatial) || op.layout != ImageLayout::ChannelsLast {
        return Err(Error::not_implemented("transposed convolution of more than two dimensions"));
    }
    if op.strides.len() != spatial || op.dilations.len() != spatial || op.groups == 0 {
        return Err(Error::model(format!(
            "weights of {dims:?} do not fit the attributes of the convolution"
        )));
    }
    let weights = view.floats(1)?.ok_or_else(|| Error::not_implemented("weights that are computed"))?;
    let channels = [dims[0], dims[1] * op.groups];
    let parameters = convolution_parameters(&dims, channels, &op.strides, &op.dilations, op.groups)?;
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(channels[1]))?;
    let kernel = Arc::new(TransposedConvolution::new(view.level, &parameters, &weights));
    let (op, kernel_sizes) = (op.clone(), dims[2..].to_vec());
    let [kh, kw] = parameters.kernel;
    Ok(Layer::new(format!("transposed convolution {kh}x{kw}{}", epilogue.describe()), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let begin = transposed_begin(&op, input, output, &kernel_sizes);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let epilogue = epilogue.bind(b, parameters.output_channels)?;
        let scratch = kernel.scratch_len(&geometry);
        b.need_scratch::<f32>(scratch);
        let kernel = kernel.clone();
        Ok(Step::parallel(move |memory, part| {
            let (x, out) = (memory.read(x.operand), memory.write(y.operand));
            let scratch = memory.scratch(part.index, scratch);
            kernel.run(&geometry, x, &epilogue.read(memory), out, scratch, part);
            Ok(())
        }))
    }))
}

/// What is cut off before each dimension: given, or found from the output's size.
fn transposed_begin(op: &ConvTranspose, input: &[usize], output: &[usize], kernel: &[usize]) -> Vec<usize> {
    let extent = extent(kernel, &op.dilations);
    let total = |i: usize| {
        let full = input[i].saturating_sub(1) * op.strides[i]
            + extent[i]
            + op.output_padding.get(i).copied().unwrap_or(0);
        full.saturating_sub(output[i])
    };
    match &op.padding {
        Padding::Explicit { begin, .. } if op.output_shape.is_none() => begin.clone(),
        Padding::Valid if op.output_shape.is_none() => vec![0; input.len()],
        Padding::SameLower => (0..input.len()).map(|i| total(i).div_ceil(2)).collect(),
        _ => (0..input.len()).map(|i| total(i) / 2).collect(),
    }
}
