//! Convolutions.

use std::sync::Arc;

use optimium_graph::ops::{Conv, ConvTranspose, ImageLayout, Padding};
use optimium_kernels::conv::{
    self, Algorithm, Convolution, ConvolutionBf16, Geometry, Images, Parameters, TransposedConvolution,
};
use optimium_kernels::depthwise::Depthwise;
use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::{Packing, Part, SharedSlice};
use optimium_simd::Level;
use optimium_tensor::{ElementType, Error, Expr, Result, SymbolValues};

use super::epilogue::EpilogueSource;
use super::general_conv::{Form, general};
use super::view::{NodeView, Weights};
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
pub(super) fn weight_dims(view: &NodeView) -> Result<Vec<usize>> {
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
    if images { conv_2d(view, conv, &dims) } else { general(view, Form::Plain(conv.clone()), &dims) }
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
        input_stride: x.row_stride,
        output_stride: y.row_stride,
    })
}

/// A convolution kernel with its weights.
enum Kernel {
    Dense(Convolution),
    Bf16(ConvolutionBf16),
    Depthwise(Depthwise),
}

impl Kernel {
    fn is_depthwise(parameters: &Parameters) -> bool {
        parameters.groups > 1 && parameters.groups == parameters.input_channels
    }

    /// Packs the weights, for images of about that size and the algorithm of a kernel that is not depthwise.
    fn new(
        level: Level,
        parameters: &Parameters,
        algorithm: Option<Algorithm>,
        weights: &[f32],
        images: &Images,
        packing: &Packing,
    ) -> Kernel {
        match algorithm {
            None => Kernel::Depthwise(Depthwise::new(level, parameters, weights, packing)),
            Some(algorithm) => {
                Kernel::Dense(Convolution::new(level, parameters, algorithm, weights, images, packing))
            }
        }
    }

    /// The algorithm of a kernel that is not depthwise. Weights that are computed when it runs are not worth a transform.
    fn algorithm(
        level: Level,
        parameters: &Parameters,
        images: &Images,
        constant_weights: bool,
    ) -> Option<Algorithm> {
        if Kernel::is_depthwise(parameters) {
            return None;
        }
        let mut all = conv::candidates(level, parameters, images).into_iter().map(|all| all.algorithm);
        all.find(|algorithm| constant_weights || !algorithm.transforms_weights())
    }

    /// Whether bfloat16 factors make it faster.
    fn gains_from_bf16(level: Level, parameters: &Parameters, images: &Images) -> bool {
        !Kernel::is_depthwise(parameters)
            && ConvolutionBf16::serves(parameters)
            && ConvolutionBf16::cost(level, parameters, images)
                < conv::candidates(level, parameters, images)[0].cost
    }

    fn scratch_len(&self, geometry: &Geometry) -> usize {
        match self {
            Kernel::Dense(conv) => conv.scratch_len(geometry),
            Kernel::Bf16(conv) => conv.scratch_len(geometry),
            Kernel::Depthwise(_) => 0,
        }
    }

    fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        match self {
            Kernel::Dense(conv) => conv.run(geometry, x, epilogue, y, scratch, part),
            Kernel::Bf16(conv) => {
                conv.run(geometry, x, epilogue, y, bytemuck::cast_slice_mut(scratch), part);
            }
            Kernel::Depthwise(depthwise) => depthwise.run(geometry, x, epilogue, y, part),
        }
    }
}

/// A convolution of one or two dimensions, channels last. Weights that are computed are packed whenever it runs.
fn conv_2d(view: &NodeView, op: &Conv, dims: &[usize]) -> Result<Layer> {
    let channels = [dims[1] * op.groups, dims[0]];
    let parameters = convolution_parameters(dims, channels, &op.strides, &op.dilations, op.groups)?;
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(dims[0]))?;
    let (level, images) = (view.level, typical_images(view).unwrap_or_default());
    let weights = view.weights(1)?;
    let algorithm = Kernel::algorithm(level, &parameters, &images, weights.is_some());
    let rounded =
        weights.is_some() && view.prefers_bf16() && Kernel::gains_from_bf16(level, &parameters, &images);
    let pack = |weights: Weights| {
        Arc::new(if rounded {
            Kernel::Bf16(ConvolutionBf16::new(level, &parameters, &weights, &images, view.packing))
        } else {
            Kernel::new(level, &parameters, algorithm, &weights, &images, view.packing)
        })
    };
    let kernel = weights.map(pack);
    let name = if rounded {
        "bf16".to_owned()
    } else {
        algorithm.map_or("depthwise".to_owned(), |algorithm| algorithm.to_string())
    };
    let op = op.clone();
    let [kh, kw] = parameters.kernel;
    Ok(Layer::new(format!("{name} {kh}x{kw}{}", epilogue.describe()), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let kernel_sizes = if input.len() == 1 { vec![kw] } else { vec![kh, kw] };
        let begin =
            padding_begin(&op.padding, input, output, &extent(&kernel_sizes, &op.dilations), &op.strides);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let epilogue = epilogue.bind(b, parameters.output_channels)?;
        let Some(kernel) = kernel.clone() else {
            let weights = b.input(1)?.operand;
            return Ok(Step::serial(move |memory| {
                let (weights, packing) = (memory.read(weights), Packing::default());
                let kernel = Kernel::new(level, &parameters, algorithm, weights, &images, &packing);
                let mut scratch = vec![0.0; kernel.scratch_len(&geometry)];
                let (x, out) = (memory.read(x.operand), memory.write(y.operand));
                kernel.run(&geometry, x, &epilogue.read(memory), out, &mut scratch, Part::WHOLE);
                Ok(())
            }));
        };
        let scratch = kernel.scratch_len(&geometry);
        b.need_scratch::<f32>(scratch);
        Ok(Step::parallel(move |memory, part| {
            let (x, out) = (memory.read(x.operand), memory.write(y.operand));
            let scratch = memory.scratch(part.index, scratch);
            kernel.run(&geometry, x, &epilogue.read(memory), out, scratch, part);
            Ok(())
        }))
    })
    .reads_columns(&[0, 3])
    .writes_columns()
    .interleaves(&[3]))
}

/// A length that is assumed for sizes which only requests decide.
const TYPICAL_LENGTH: i64 = 224;

/// The output images, or typical ones where their sizes are not fixed: one image, and all symbols of its height and width
/// alike.
fn typical_images(view: &NodeView) -> Option<Images> {
    let dims = view.output_shape(0).ok()?.dims();
    let typical = |dim: &Expr| {
        let mut values = SymbolValues::new();
        dim.visit_symbols(&mut |symbol| {
            values.insert(symbol.clone(), TYPICAL_LENGTH);
        });
        usize::try_from(dim.evaluate(&values).ok()?).ok()
    };
    let batch = dims.first()?.as_const().map_or(Some(1), |batch| usize::try_from(batch).ok())?;
    let output = match dims {
        [_, width, _] => [1, typical(width)?],
        [_, height, width, _] => [typical(height)?, typical(width)?],
        _ => return None,
    };
    Some(Images { batch, output })
}

pub(super) fn conv_transpose(view: &NodeView, op: &ConvTranspose) -> Result<Layer> {
    let dims = weight_dims(view)?;
    let spatial = dims.len().saturating_sub(2);
    if spatial == 0 || op.strides.len() != spatial || op.dilations.len() != spatial || op.groups == 0 {
        return Err(Error::model(format!(
            "weights of {dims:?} do not fit the attributes of the convolution"
        )));
    }
    let images =
        spatial <= 2 && op.layout == ImageLayout::ChannelsLast && view.input_type(0)? == ElementType::F32;
    if images { transposed_2d(view, op, &dims) } else { general(view, Form::Transposed(op.clone()), &dims) }
}

/// A transposed convolution of one or two dimensions, channels last. Weights that are computed are packed whenever it runs.
fn transposed_2d(view: &NodeView, op: &ConvTranspose, dims: &[usize]) -> Result<Layer> {
    let channels = [dims[0], dims[1] * op.groups];
    let parameters = convolution_parameters(dims, channels, &op.strides, &op.dilations, op.groups)?;
    let epilogue = EpilogueSource::of(view, 2, op.fusion, Some(channels[1]))?;
    let level = view.level;
    let pack =
        |weights: Weights| Arc::new(TransposedConvolution::new(level, &parameters, &weights, view.packing));
    let kernel = view.weights(1)?.map(pack);
    let (op, kernel_sizes) = (op.clone(), dims[2..].to_vec());
    let [kh, kw] = parameters.kernel;
    Ok(Layer::new(format!("transposed convolution {kh}x{kw}{}", epilogue.describe()), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (input, output) = (&x.dims[1..x.dims.len() - 1], &y.dims[1..y.dims.len() - 1]);
        let begin = transposed_begin(&op, input, output, &kernel_sizes);
        let geometry = convolution_geometry(&x, &y, &parameters, &begin)?;
        let epilogue = epilogue.bind(b, parameters.output_channels)?;
        let Some(kernel) = kernel.clone() else {
            let weights = b.input(1)?.operand;
            return Ok(Step::serial(move |memory| {
                let (weights, packing) = (memory.read(weights), Packing::default());
                let kernel = TransposedConvolution::new(level, &parameters, weights, &packing);
                let mut scratch = vec![0.0; kernel.scratch_len(&geometry)];
                let (x, out) = (memory.read(x.operand), memory.write(y.operand));
                kernel.run(&geometry, x, &epilogue.read(memory), out, &mut scratch, Part::WHOLE);
                Ok(())
            }));
        };
        let scratch = kernel.scratch_len(&geometry);
        b.need_scratch::<f32>(scratch);
        Ok(Step::parallel(move |memory, part| {
            let (x, out) = (memory.read(x.operand), memory.write(y.operand));
            let scratch = memory.scratch(part.index, scratch);
            kernel.run(&geometry, x, &epilogue.read(memory), out, scratch, part);
            Ok(())
        }))
    })
    .reads_columns(&[0, 3])
    .writes_columns()
    .interleaves(&[3]))
}

/// What is cut off before each dimension: given, or found from the output's size.
pub(super) fn transposed_begin(
    op: &ConvTranspose,
    input: &[usize],
    output: &[usize],
    kernel: &[usize],
) -> Vec<usize> {
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
