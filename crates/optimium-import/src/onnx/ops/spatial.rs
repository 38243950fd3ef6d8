//! Convolutions, pools, resizing.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    AveragePool, Conv, ConvInteger, ConvTranspose, CoordinateMode, DepthToSpace, Fusion, Gather, GlobalPool,
    ImageLayout, LpPool, MaxPool, NearestMode, Operator, Padding, PoolWindow, Reduction, Resize, ResizeMode,
    SpaceToDepth,
};
use optimium_tensor::{Error, Result, Tensor};

use super::super::attributes::{Attributes, missing};
use super::super::node::{NodeReader, support, unsupported};

/// The attributes that convolutions and pools share.
pub(super) struct Geometry {
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) padding: Padding,
}

/// Reads the geometry of windows over `spatial` dimensions.
pub(super) fn geometry(attributes: &mut Attributes<'_>, spatial: usize) -> Result<Geometry> {
    let strides = per_dimension(attributes, "strides", spatial, 1)?;
    let dilations = per_dimension(attributes, "dilations", spatial, 1)?;
    if strides.contains(&0) || dilations.contains(&0) {
        return Err(Error::model("a stride or dilation is zero"));
    }
    let mode = attributes.string_or("auto_pad", "NOTSET")?;
    let pads = attributes.ints("pads")?;
    let padding = match mode {
        "NOTSET" | "" => explicit(pads, spatial)?,
        "SAME_UPPER" => Padding::SameUpper,
        "SAME_LOWER" => Padding::SameLower,
        "VALID" => Padding::Valid,
        other => return Err(Error::model(format!("it pads as {other:?}"))),
    };
    Ok(Geometry { strides, dilations, padding })
}

fn explicit(pads: Option<Vec<i64>>, spatial: usize) -> Result<Padding> {
    let pads = pads.unwrap_or_else(|| vec![0; 2 * spatial]);
    if pads.len() != 2 * spatial {
        return Err(Error::model(format!("{} pads for {spatial} spatial dimensions", pads.len())));
    }
    support(pads.iter().all(|&pad| pad >= 0), "negative padding")?;
    let counts = |pads: &[i64]| {
        let count = |&pad: &i64| usize::try_from(pad).ok().filter(|&pad| pad <= 1 << 32);
        let counts: Option<Vec<usize>> = pads.iter().map(count).collect();
        counts.ok_or_else(|| Error::model("too much padding"))
    };
    Ok(Padding::Explicit { begin: counts(&pads[..spatial])?, end: counts(&pads[spatial..])? })
}

fn per_dimension(
    attributes: &mut Attributes<'_>,
    name: &str,
    spatial: usize,
    default: usize,
) -> Result<Vec<usize>> {
    let values = attributes.counts(name)?.unwrap_or_else(|| vec![default; spatial]);
    if values.len() != spatial {
        return Err(Error::model(format!("{} {name} for {spatial} spatial dimensions", values.len())));
    }
    Ok(values)
}

/// The spatial dimensions of a convolution's kernel: their number, from the attribute or the weights.
fn kernel_rank(node: &mut NodeReader<'_, '_>, weights: ValueId) -> Result<usize> {
    let kernel = node.attributes.counts("kernel_shape")?;
    let dims = node.constant_dims(weights);
    if let (Some(kernel), Some(dims)) = (&kernel, &dims)
        && dims.get(2..) != Some(kernel.as_slice())
    {
        return Err(Error::model(format!("weights {dims:?} for a kernel of shape {kernel:?}")));
    }
    let rank = kernel.map(|kernel| kernel.len() + 2).or_else(|| node.rank(weights));
    match rank {
        Some(rank) if rank >= 2 => Ok(rank - 2),
        Some(rank) => Err(Error::model(format!("weights of rank {rank}"))),
        None => unsupported("unknown rank of the weights"),
    }
}

/// Reads a convolution's attributes.
pub(super) fn read_conv(node: &mut NodeReader<'_, '_>, weights: ValueId) -> Result<Conv> {
    let spatial = kernel_rank(node, weights)?;
    let Geometry { strides, dilations, padding } = geometry(&mut node.attributes, spatial)?;
    let groups = groups(node)?;
    let layout = ImageLayout::ChannelsFirst;
    Ok(Conv { layout, strides, dilations, groups, padding, fusion: Fusion::default() })
}

fn groups(node: &mut NodeReader<'_, '_>) -> Result<usize> {
    match node.attributes.count_or("group", 1)? {
        0 => Err(Error::model("it has no groups")),
        groups => Ok(groups),
    }
}

pub(super) fn conv(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let weights = node.required(1)?;
    let conv = read_conv(node, weights)?;
    node.finish_with_all_inputs(Operator::Conv(conv))
}

pub(super) fn conv_integer(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let weights = node.required(1)?;
    let conv = read_conv(node, weights)?;
    node.finish_with_all_inputs(Operator::ConvInteger(ConvInteger { conv }))
}

pub(super) fn conv_transpose(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let weights = node.required(1)?;
    let spatial = kernel_rank(node, weights)?;
    let Geometry { strides, dilations, padding } = geometry(&mut node.attributes, spatial)?;
    let output_padding = per_dimension(&mut node.attributes, "output_padding", spatial, 0)?;
    let output_shape = match node.attributes.counts("output_shape")? {
        // Some exporters write the batch and the channels too.
        Some(shape) if shape.len() == spatial + 2 => Some(shape[2..].to_vec()),
        Some(shape) if shape.len() == spatial => Some(shape),
        Some(shape) => return Err(Error::model(format!("the output shape {shape:?}"))),
        None => None,
    };
    let conv = ConvTranspose {
        layout: ImageLayout::ChannelsFirst,
        strides,
        dilations,
        groups: groups(node)?,
        padding,
        output_padding,
        output_shape,
        fusion: Fusion::default(),
    };
    node.finish_with_all_inputs(Operator::ConvTranspose(conv))
}

/// Reads the windows of a pool.
pub(super) fn window(node: &mut NodeReader<'_, '_>) -> Result<PoolWindow> {
    let kernel = node.attributes.counts("kernel_shape")?.ok_or_else(|| missing("kernel_shape"))?;
    if kernel.contains(&0) {
        return Err(Error::model("a window without elements"));
    }
    let Geometry { strides, dilations, padding } = geometry(&mut node.attributes, kernel.len())?;
    let ceil_mode = node.attributes.flag("ceil_mode", false)?;
    Ok(PoolWindow { layout: ImageLayout::ChannelsFirst, kernel, strides, dilations, padding, ceil_mode })
}

pub(super) fn max_pool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let window = window(node)?;
    let column_major = node.attributes.flag("storage_order", false)?;
    node.finish_with_all_inputs(Operator::MaxPool(MaxPool { window, column_major }))
}

pub(super) fn average_pool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let window = window(node)?;
    let count_include_pad = node.attributes.flag("count_include_pad", false)?;
    node.finish_with_all_inputs(Operator::AveragePool(AveragePool { window, count_include_pad }))
}

pub(super) fn lp_pool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let window = window(node)?;
    let p = node.attributes.int_or("p", 2)?;
    let p = u32::try_from(p).map_err(|_| Error::model(format!("the norm's exponent is {p}")))?;
    node.finish_with_all_inputs(Operator::LpPool(LpPool { window, p }))
}

pub(super) fn global_pool(node: &mut NodeReader<'_, '_>, reduction: Reduction) -> Result<()> {
    let layout = ImageLayout::ChannelsFirst;
    node.finish_with_all_inputs(Operator::GlobalPool(GlobalPool { layout, reduction }))
}

pub(super) fn global_lp_pool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    match node.attributes.int_or("p", 2)? {
        1 => global_pool(node, Reduction::L1),
        2 => global_pool(node, Reduction::L2),
        p => unsupported(format!("the norm's exponent {p}")),
    }
}

pub(super) fn depth_to_space(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let block = node.attributes.required_positive("blocksize")?;
    let column_row_depth = match node.attributes.string_or("mode", "DCR")? {
        "DCR" => false,
        "CRD" => true,
        other => return Err(Error::model(format!("the mode {other:?}"))),
    };
    let layout = ImageLayout::ChannelsFirst;
    node.finish_with_all_inputs(Operator::DepthToSpace(DepthToSpace { layout, block, column_row_depth }))
}

pub(super) fn space_to_depth(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let block = node.attributes.required_positive("blocksize")?;
    let op = Operator::SpaceToDepth(SpaceToDepth { layout: ImageLayout::ChannelsFirst, block });
    match node.attributes.string_or("mode", "DCR")? {
        "DCR" => node.finish_with_all_inputs(op),
        "CRD" => {
            let x = node.required(0)?;
            let y = node.step(op, [Some(x)]);
            depth_first(node, x, y, block)
        }
        other => Err(Error::model(format!("the mode {other:?}"))),
    }
}

/// Gives the channels of `y`, in which those of `x` vary fastest, in the order in which they vary slowest.
fn depth_first(node: &mut NodeReader<'_, '_>, x: ValueId, y: ValueId, block: usize) -> Result<()> {
    let squared = i64::try_from(block).ok().and_then(|block| block.checked_mul(block));
    let squared = squared.ok_or_else(|| Error::model(format!("blocks of side {block}")))?;
    let (channels, blocks) = (node.size(x, 1), node.add_i64s("blocks", &[squared])?);
    let count = node.binary(optimium_graph::ops::Binary::Mul, channels, blocks);
    let order = node.count_to(count)?;
    let order = node.reshape(order, &[squared, -1])?;
    let order = node.transpose(order, &[1, 0]);
    let order = node.reshape(order, &[-1])?;
    node.finish(Operator::Gather(Gather { axis: 1 }), [Some(y), Some(order)])
}

pub(super) fn resize(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = node.input(0);
    if node.opset < 11 {
        let scales = node.input(1);
        let resize = plain_resize(node)?;
        return node.finish(Operator::Resize(resize), [x, None, scales]);
    }
    let attributes = &mut node.attributes;
    let coordinates = coordinates(attributes.string_or("coordinate_transformation_mode", "half_pixel")?)?;
    let nearest = nearest(attributes.string_or("nearest_mode", "round_prefer_floor")?)?;
    let cubic = attributes.float_or("cubic_coeff_a", -0.75)?;
    let keep_aspect_ratio = match attributes.string_or("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => 0,
        "not_larger" => 1,
        "not_smaller" => 2,
        other => return Err(Error::model(format!("the policy of aspect ratios {other:?}"))),
    };
    let resize = Resize {
        axes: attributes.ints("axes")?,
        mode: mode(attributes.string_or("mode", "nearest")?, nearest, cubic)?,
        coordinates,
        exclude_outside: attributes.flag("exclude_outside", false)?,
        extrapolation_value: attributes.float_or("extrapolation_value", 0.0)?,
        antialias: attributes.flag("antialias", false)?,
        keep_aspect_ratio,
    };
    // Version 11 writes what is left out as tensors without elements.
    let roi = node.input(1).filter(|_| coordinates == CoordinateMode::TfCropAndResize);
    let scales = not_empty(node, 2);
    let sizes = not_empty(node, 3);
    node.finish(Operator::Resize(resize), [x, roi, scales, sizes])
}

fn not_empty(node: &mut NodeReader<'_, '_>, index: usize) -> Option<ValueId> {
    let value = node.input(index)?;
    (node.constant_dims(value) != Some(vec![0])).then_some(value)
}

pub(super) fn upsample(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = node.input(0);
    let scales = match node.attributes.floats("scales")? {
        Some(scales) => Some(node.add_constant("scales", Tensor::from_slice(&[scales.len()], &scales)?)),
        None => Some(node.required(1)?),
    };
    let resize = plain_resize(node)?;
    node.finish(Operator::Resize(resize), [x, None, scales])
}

/// What Upsample and the first Resize do.
fn plain_resize(node: &mut NodeReader<'_, '_>) -> Result<Resize> {
    Ok(Resize {
        axes: None,
        mode: mode(node.attributes.string_or("mode", "nearest")?, NearestMode::Floor, -0.75)?,
        coordinates: CoordinateMode::Asymmetric,
        exclude_outside: false,
        extrapolation_value: 0.0,
        antialias: false,
        keep_aspect_ratio: 0,
    })
}

fn mode(name: &str, nearest: NearestMode, cubic: f32) -> Result<ResizeMode> {
    Ok(match name {
        "nearest" => ResizeMode::Nearest(nearest),
        "linear" | "bilinear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic(cubic),
        other => return Err(Error::model(format!("the mode {other:?}"))),
    })
}

fn nearest(name: &str) -> Result<NearestMode> {
    Ok(match name {
        "round_prefer_floor" | "" => NearestMode::RoundPreferFloor,
        "round_prefer_ceil" => NearestMode::RoundPreferCeil,
        "floor" => NearestMode::Floor,
        "ceil" => NearestMode::Ceil,
        other => return Err(Error::model(format!("the mode of nearest elements {other:?}"))),
    })
}

fn coordinates(name: &str) -> Result<CoordinateMode> {
    Ok(match name {
        "half_pixel" => CoordinateMode::HalfPixel,
        "half_pixel_symmetric" => CoordinateMode::HalfPixelSymmetric,
        "pytorch_half_pixel" => CoordinateMode::PytorchHalfPixel,
        "align_corners" => CoordinateMode::AlignCorners,
        "asymmetric" => CoordinateMode::Asymmetric,
        "tf_half_pixel_for_nn" => CoordinateMode::TfHalfPixelForNn,
        "tf_crop_and_resize" => CoordinateMode::TfCropAndResize,
        other => return Err(Error::model(format!("the mode of coordinates {other:?}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Case, case, check, node, operators, zeros};
    use super::*;

    fn convolution(strides: &[usize], padding: Padding) -> Conv {
        Conv {
            layout: ImageLayout::ChannelsFirst,
            strides: strides.to_vec(),
            dilations: vec![1; strides.len()],
            groups: 1,
            padding,
            fusion: Fusion::default(),
        }
    }

    fn scaled(mode: ResizeMode, coordinates: CoordinateMode) -> Operator {
        Operator::Resize(Resize {
            axes: None,
            mode,
            coordinates,
            exclude_outside: false,
            extrapolation_value: 0.0,
            antialias: false,
            keep_aspect_ratio: 0,
        })
    }

    #[test]
    fn sizes_are_there_and_positive() {
        let one = |op: &str| node(op, &["x"], &["y"]);
        let cases = [
            (one("DepthToSpace"), "\"blocksize\" is missing"),
            (one("DepthToSpace").int("blocksize", 0), "\"blocksize\" is zero"),
            (one("SpaceToDepth").int("blocksize", 0), "\"blocksize\" is zero"),
            (one("LRN"), "\"size\" is missing"),
            (one("LRN").int("size", 0), "\"size\" is zero"),
            (
                node("GroupNormalization", &["x", "s", "b"], &["y"]).int("num_groups", 0),
                "\"num_groups\" is zero",
            ),
        ];
        optimium_testing::each_case(cases, |(node, expected)| {
            let error = operators(21, node.clone(), Vec::new()).expect_err("no size");
            if error.message().contains(expected) { Ok(()) } else { Err(format!("{error:?}")) }
        });
    }

    #[test]
    fn become_what_they_mean() {
        let explicit =
            |begin: &[usize], end: &[usize]| Padding::Explicit { begin: begin.into(), end: end.into() };
        let conv = node("Conv", &["x", "w"], &["y"]);
        let weights = || vec![zeros("w", &[4, 3, 3, 3])];
        let with_weights =
            |node, conv| Case { opset: 11, node, constants: weights(), expected: vec![Operator::Conv(conv)] };
        let window = PoolWindow {
            layout: ImageLayout::ChannelsFirst,
            kernel: vec![2, 2],
            strides: vec![1, 1],
            dilations: vec![1, 1],
            padding: Padding::Valid,
            ceil_mode: true,
        };
        let pool = node("MaxPool", &["x"], &["y"]).ints("kernel_shape", &[2, 2]).int("ceil_mode", 1);
        let nearest = ResizeMode::Nearest(NearestMode::Floor);
        let upsample = node("Upsample", &["x"], &["y"]).floats("scales", &[1.0, 1.0, 2.0, 2.0]);
        let resize = node("Resize", &["x", "", "scales"], &["y"]).text("mode", "linear");
        check([
            with_weights(conv.clone(), convolution(&[1, 1], explicit(&[0, 0], &[0, 0]))),
            with_weights(
                conv.clone().ints("strides", &[2, 1]).ints("pads", &[1, 2, 3, 4]),
                convolution(&[2, 1], explicit(&[1, 2], &[3, 4])),
            ),
            with_weights(conv.text("auto_pad", "SAME_LOWER"), convolution(&[1, 1], Padding::SameLower)),
            case(
                12,
                pool.text("auto_pad", "VALID"),
                Operator::MaxPool(MaxPool { window, column_major: false }),
            ),
            case(7, upsample, scaled(nearest, CoordinateMode::Asymmetric)),
            case(10, node("Resize", &["x", "s"], &["y"]), scaled(nearest, CoordinateMode::Asymmetric)),
            case(13, resize, scaled(ResizeMode::Linear, CoordinateMode::HalfPixel)),
        ]);
    }

    #[test]
    fn wrong_geometry_is_an_error() {
        let conv = || node("Conv", &["x", "w"], &["y"]);
        let cases = [
            conv().ints("strides", &[1]),
            conv().ints("strides", &[0, 1]),
            conv().ints("pads", &[1, 1]),
            conv().ints("dilations", &[-1, 1]),
            conv().int("group", 0),
            conv().ints("kernel_shape", &[5, 5]),
            conv().text("auto_pad", "SAME"),
        ];
        optimium_testing::each_case(cases, |node| {
            match operators(11, node.clone(), vec![zeros("w", &[4, 3, 3, 3])]) {
                Ok(read) => Err(format!("it became {read:?}")),
                Err(_) => Ok(()),
            }
        });
    }
}
