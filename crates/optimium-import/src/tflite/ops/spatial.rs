//! Convolutions, pools, resizing.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Activation, AveragePool, Conv, ConvTranspose, CoordinateMode, DepthToSpace, Fusion, ImageLayout, MaxPool,
    NearestMode, Operator, Padding, PoolWindow, Resize, ResizeMode, SpaceToDepth, Unary,
};
use optimium_tensor::{Error, Result};

use super::super::operator::{OperatorReader, Options, unsupported};

const LAYOUT: ImageLayout = ImageLayout::ChannelsLast;

fn padding(options: Options<'_>) -> Result<Padding> {
    match options.i8(0)? {
        0 => Ok(Padding::SameUpper),
        1 => Ok(Padding::Valid),
        other => Err(Error::model(format!("the padding {other}"))),
    }
}

/// Adds a convolution with an optional bias and its activation.
fn finish_conv(
    node: &mut OperatorReader<'_, '_>,
    conv: Conv,
    weights: ValueId,
    activation: Activation,
) -> Result<()> {
    let x = node.required(0)?;
    let bias = match node.input(2) {
        Some(bias) => Some(node.real_for(bias, x)?),
        None => None,
    };
    node.finish_fused(Operator::Conv(conv), [Some(x), Some(weights), bias], activation)
}

/// Weights: `[output channels, height, width, input channels / groups]`.
pub(super) fn conv(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (x, weights) = (node.required(0)?, node.required(1)?);
    let options = node.options;
    let conv = Conv {
        layout: LAYOUT,
        strides: vec![options.positive(2)?, options.positive(1)?],
        dilations: vec![options.positive(5)?, options.positive(4)?],
        groups: groups(node, x, weights)?,
        padding: padding(options)?,
        fusion: Fusion::default(),
    };
    let weights = node.weights(weights, &[0, 3, 1, 2], x)?;
    finish_conv(node, conv, weights, options.activation(3)?)
}

/// The channels of the image over those that one filter sees.
fn groups(node: &OperatorReader<'_, '_>, x: ValueId, weights: ValueId) -> Result<usize> {
    match (node.dim(x, 3), node.dim(weights, 3)) {
        (Some(channels), Some(seen)) if seen > 0 && channels > 0 && channels % seen == 0 => {
            Ok(channels / seen)
        }
        (Some(channels), Some(seen)) => {
            Err(Error::model(format!("filters of {seen} channels for an image of {channels}")))
        }
        // An image without declared shape: grouped convolutions are rare, and shape inference tells.
        _ => Ok(1),
    }
}

/// Weights: `[1, height, width, channels · multiplier]`.
pub(super) fn depthwise_conv(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (x, weights) = (node.required(0)?, node.required(1)?);
    let options = node.options;
    let multiplier = options.positive(3)?;
    let outputs = node.dim(weights, 3);
    let Some(groups) = node.dim(x, 3).or_else(|| outputs.map(|outputs| outputs / multiplier)) else {
        return unsupported("unknown number of channels");
    };
    if groups == 0 || outputs.is_some_and(|outputs| outputs % groups != 0) {
        return Err(Error::model(format!("{outputs:?} filters for an image of {groups} channels")));
    }
    let conv = Conv {
        layout: LAYOUT,
        strides: vec![options.positive(2)?, options.positive(1)?],
        dilations: vec![options.positive(6)?, options.positive(5)?],
        groups,
        padding: padding(options)?,
        fusion: Fusion::default(),
    };
    let weights = node.weights(weights, &[3, 0, 1, 2], x)?;
    finish_conv(node, conv, weights, options.activation(4)?)
}

/// Weights: `[depth, height, width, input channels, output channels]`.
pub(super) fn conv_3d(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (x, weights) = (node.required(0)?, node.required(1)?);
    let options = node.options;
    let conv = Conv {
        layout: LAYOUT,
        strides: vec![options.positive(1)?, options.positive(3)?, options.positive(2)?],
        dilations: vec![options.positive(5)?, options.positive(7)?, options.positive(6)?],
        groups: 1,
        padding: padding(options)?,
        fusion: Fusion::default(),
    };
    let weights = node.weights(weights, &[4, 3, 0, 1, 2], x)?;
    finish_conv(node, conv, weights, options.activation(4)?)
}

/// Inputs: shape of y, weights `[output channels, height, width, input channels]`, x, bias or none.
pub(super) fn transpose_conv(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (weights, x) = (node.required(1)?, node.required(2)?);
    let options = node.options;
    let shape = node.i64s(0)?;
    let strides = vec![options.positive(2)?, options.positive(1)?];
    let mut output_shape = Vec::new();
    let mut output_padding = Vec::new();
    for (axis, &stride) in strides.iter().enumerate() {
        let kernel = node.dim(weights, axis + 1);
        let Some(kernel) = kernel else { return unsupported("weights of unknown shape") };
        let size = shape.get(axis + 1).and_then(|&size| usize::try_from(size).ok());
        output_shape.push(size.ok_or_else(|| Error::model(format!("the output shape {shape:?}")))?);
        // Windows that do not touch each other leave rows behind the last one.
        output_padding.push(stride.saturating_sub(kernel));
    }
    let gaps = output_padding.iter().any(|&rows| rows > 0);
    let valid = padding(options)? == Padding::Valid;
    let conv = ConvTranspose {
        layout: LAYOUT,
        strides,
        dilations: vec![1, 1],
        groups: 1,
        padding: if valid || gaps { Padding::Valid } else { Padding::SameUpper },
        output_padding,
        output_shape: if valid || gaps { None } else { Some(output_shape) },
        fusion: Fusion::default(),
    };
    let weights = node.weights(weights, &[3, 0, 1, 2], x)?;
    let bias = match node.input(3) {
        Some(bias) => Some(node.real_for(bias, x)?),
        None => None,
    };
    let activation = options.activation(3)?;
    node.finish_fused(Operator::ConvTranspose(conv), [Some(x), Some(weights), bias], activation)
}

fn window(options: Options<'_>) -> Result<PoolWindow> {
    Ok(PoolWindow {
        layout: LAYOUT,
        kernel: vec![options.positive(4)?, options.positive(3)?],
        strides: vec![options.positive(2)?, options.positive(1)?],
        dilations: vec![1, 1],
        padding: padding(options)?,
        ceil_mode: false,
    })
}

pub(super) fn average_pool(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let op = AveragePool { window: window(node.options)?, count_include_pad: false };
    let x = node.required(0)?;
    let activation = node.options.activation(5)?;
    node.finish_fused(Operator::AveragePool(op), [Some(x)], activation)
}

pub(super) fn max_pool(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let op = MaxPool { window: window(node.options)?, column_major: false };
    let x = node.required(0)?;
    let activation = node.options.activation(5)?;
    node.finish_fused(Operator::MaxPool(op), [Some(x)], activation)
}

/// The root of the mean of squares.
pub(super) fn l2_pool(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let op = AveragePool { window: window(node.options)?, count_include_pad: false };
    let x = node.required(0)?;
    let activation = node.options.activation(5)?;
    let square = node.unary(Unary::Square, x);
    let mean = node.step(Operator::AveragePool(op), [Some(square)], x);
    node.finish_fused(Operator::Unary { function: Unary::Sqrt }, [Some(mean)], activation)
}

pub(super) fn depth_to_space(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let block = node.options.positive(0)?;
    let x = node.required(0)?;
    let op = DepthToSpace { layout: LAYOUT, block, column_row_depth: false };
    node.finish(Operator::DepthToSpace(op), [Some(x)])
}

pub(super) fn space_to_depth(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let block = node.options.positive(0)?;
    let x = node.required(0)?;
    node.finish(Operator::SpaceToDepth(SpaceToDepth { layout: LAYOUT, block }), [Some(x)])
}

pub(super) fn resize_bilinear(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let coordinates = match (node.options.bool(2)?, node.options.bool(3)?) {
        (true, _) => CoordinateMode::AlignCorners,
        (_, true) => CoordinateMode::HalfPixel,
        _ => CoordinateMode::Asymmetric,
    };
    finish_resize(node, ResizeMode::Linear, coordinates)
}

pub(super) fn resize_nearest(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (nearest, coordinates) = match (node.options.bool(0)?, node.options.bool(1)?) {
        (true, _) => (NearestMode::RoundPreferCeil, CoordinateMode::AlignCorners),
        (_, true) => (NearestMode::Floor, CoordinateMode::TfHalfPixelForNn),
        _ => (NearestMode::Floor, CoordinateMode::Asymmetric),
    };
    finish_resize(node, ResizeMode::Nearest(nearest), coordinates)
}

/// Inputs: x, height and width.
fn finish_resize(
    node: &mut OperatorReader<'_, '_>,
    mode: ResizeMode,
    coordinates: CoordinateMode,
) -> Result<()> {
    let x = node.required(0)?;
    let sizes = node.as_i64(1)?;
    let op = Resize {
        axes: Some(vec![1, 2]),
        mode,
        coordinates,
        exclude_outside: false,
        extrapolation_value: 0.0,
        antialias: false,
        keep_aspect_ratio: 0,
    };
    node.finish(Operator::Resize(op), [Some(x), None, None, Some(sizes)])
}
