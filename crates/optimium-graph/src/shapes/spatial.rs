//! Rules of operators on images.

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::arithmetic::{Number, constant, divide_up, larger, normalize_axes, product, smaller};
use super::broadcast::{check_broadcasts_to, shown};
use super::context::Context;
use crate::ops::{
    Conv, ConvInteger, ConvTranspose, DepthToSpace, GlobalPool, ImageLayout, MaxPool, Padding, PoolWindow,
    Resize, SpaceToDepth,
};

/// A size of the model as a signed number.
fn signed(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Larger steps and windows come from damaged or hostile models only, and would overflow the arithmetic of offsets.
const LARGEST_STEP: i64 = 1 << 31;

/// Requires that the numbers of an attribute can be calculated with.
fn check_limit(what: &str, numbers: impl IntoIterator<Item = i64>) -> Result<()> {
    match numbers.into_iter().find(|&n| n > LARGEST_STEP) {
        Some(n) => Err(Error::model(format!("{what} of {n} is more than {LARGEST_STEP}"))),
        None => Ok(()),
    }
}

/// One spatial axis of a window that moves over an image.
struct Window {
    kernel: Expr,
    stride: i64,
    dilation: i64,
    /// Before and after; `None` for the kinds that follow from the sizes.
    padding: Option<(i64, i64)>,
}

impl Window {
    /// The image's extent under a window.
    fn extent(&self) -> Expr {
        (self.kernel.clone() - constant(1)) * constant(self.dilation) + constant(1)
    }

    /// The number of windows in an image of that size.
    fn count(&self, size: &Expr, padding: &Padding, ceil_mode: bool) -> Result<Expr> {
        let (begin, end) = match (padding, self.padding) {
            (Padding::SameUpper | Padding::SameLower, _) => return Ok(divide_up(size.clone(), self.stride)),
            (_, padding) => padding.unwrap_or((0, 0)),
        };
        let last_start = size.clone() + constant(begin) + constant(end) - self.extent();
        if last_start.as_const().is_some_and(|n| n < 0) {
            return Err(Error::model(format!(
                "a window of {} elements does not fit into {size} elements padded by {begin} and {end}",
                self.extent()
            )));
        }
        if !ceil_mode {
            return Ok(last_start / constant(self.stride) + constant(1));
        }
        // The last window must begin inside of the image or its left padding.
        let beginning_inside = divide_up(size.clone() + constant(begin), self.stride);
        Ok(smaller(divide_up(last_start, self.stride) + constant(1), beginning_inside))
    }
}

/// The windows of every spatial axis, the lists checked.
fn windows(
    kernel: &[Expr],
    strides: &[usize],
    dilations: &[usize],
    padding: &Padding,
) -> Result<Vec<Window>> {
    let rank = kernel.len();
    let pads = match padding {
        Padding::Explicit { begin, end } => Some((begin, end)),
        _ => None,
    };
    let lengths = [strides.len(), dilations.len()];
    let pad_lengths = pads.map_or([rank, rank], |(begin, end)| [begin.len(), end.len()]);
    if lengths.iter().chain(&pad_lengths).any(|&length| length != rank) {
        return Err(Error::model(format!("strides, dilations and pads must have {rank} entries each")));
    }
    let steps = strides.iter().chain(dilations);
    if steps.clone().any(|&n| n == 0) || kernel.iter().any(|dim| dim.as_const().is_some_and(|n| n <= 0)) {
        return Err(Error::model("kernel, strides and dilations must be positive"));
    }
    check_limit("a stride", strides.iter().map(|&n| signed(n)))?;
    check_limit("a dilation", dilations.iter().map(|&n| signed(n)))?;
    check_limit("a kernel size", kernel.iter().filter_map(Expr::as_const))?;
    if let Some((begin, end)) = pads {
        check_limit("padding", begin.iter().chain(end).map(|&n| signed(n)))?;
    }
    let window = |i: usize| Window {
        kernel: kernel[i].clone(),
        stride: signed(strides[i]),
        dilation: signed(dilations[i]),
        padding: pads.map(|(begin, end)| (signed(begin[i]), signed(end[i]))),
    };
    Ok((0..rank).map(window).collect())
}

/// The dimensions of images: batch and channels, and then the spatial ones.
fn image(cx: &Context<'_>, layout: ImageLayout) -> Result<(Expr, Expr, Vec<Expr>)> {
    let dims = cx.dims(0)?;
    let rank = dims.len();
    if rank < 2 {
        return Err(Error::model(format!("{} is not the shape of images", shown(&dims))));
    }
    let spatial = (0..rank - 2).map(|i| dims[layout.spatial_axis(i)].clone()).collect();
    Ok((dims[0].clone(), dims[layout.channel_axis(rank)].clone(), spatial))
}

/// The shape of images.
fn image_dims(layout: ImageLayout, batch: Expr, channels: Expr, spatial: Vec<Expr>) -> Vec<Expr> {
    match layout {
        ImageLayout::ChannelsFirst => [vec![batch, channels], spatial].concat(),
        ImageLayout::ChannelsLast => [vec![batch], spatial, vec![channels]].concat(),
    }
}

/// Inputs: x, weights, bias or none, residual or none, slope or none.
pub(super) fn conv(conv: &Conv, cx: &mut Context<'_>) -> Result<()> {
    let dims = conv_dims(conv, cx)?;
    if !cx.element_type(0)?.is_quantized() {
        cx.same_types(&[0, 1, 2, 3, 4])?;
    }
    check_fused(conv.layout, &dims, cx)?;
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims)
}

/// Inputs: x, weights, zero points or none. Output: I32.
pub(super) fn conv_integer(op: &ConvInteger, cx: &mut Context<'_>) -> Result<()> {
    for index in 0..2 {
        cx.expect_type(index, &[ElementType::I8, ElementType::U8])?;
    }
    let dims = conv_dims(&op.conv, cx)?;
    cx.set(0, ElementType::I32, dims)
}

fn conv_dims(conv: &Conv, cx: &Context<'_>) -> Result<Vec<Expr>> {
    let (batch, channels, spatial) = image(cx, conv.layout)?;
    let weights = cx.dims_of_rank(1, spatial.len() + 2)?;
    let expected = weights[1].clone() * constant(signed(conv.groups));
    check_groups(conv.groups, &channels, &expected, &weights[0])?;
    let windows = windows(&weights[2..], &conv.strides, &conv.dilations, &conv.padding)?;
    let sizes: Result<Vec<Expr>> =
        windows.iter().zip(&spatial).map(|(w, size)| w.count(size, &conv.padding, false)).collect();
    Ok(image_dims(conv.layout, batch, weights[0].clone(), sizes?))
}

/// The image must have as many channels as the weights expect, and `divisible` must be cut evenly.
fn check_groups(groups: usize, channels: &Expr, expected: &Expr, divisible: &Expr) -> Result<()> {
    if groups == 0 {
        return Err(Error::model("there are no groups"));
    }
    if let (Some(found), Some(expected)) = (channels.as_const(), expected.as_const())
        && found != expected
    {
        return Err(Error::model(format!(
            "the input has {found} channels, but the weights expect {expected} ({groups} groups)"
        )));
    }
    if divisible.as_const().is_some_and(|n| n % signed(groups) != 0) {
        return Err(Error::model(format!("{divisible} channels cannot be cut into {groups} groups")));
    }
    Ok(())
}

/// Bias and slope have one element a channel, the residual the output's shape.
fn check_fused(layout: ImageLayout, dims: &[Expr], cx: &Context<'_>) -> Result<()> {
    let channels = &dims[layout.channel_axis(dims.len())];
    for index in [2, 4].into_iter().filter(|&index| cx.has(index)) {
        check_broadcasts_to(&[product(&cx.dims(index)?)], std::slice::from_ref(channels))?;
    }
    if cx.has(3) {
        check_broadcasts_to(&cx.dims(3)?, dims)?;
    }
    Ok(())
}

/// Inputs as [`conv`], the weights with input channels first.
pub(super) fn conv_transpose(conv: &ConvTranspose, cx: &mut Context<'_>) -> Result<()> {
    let (batch, channels, spatial) = image(cx, conv.layout)?;
    let weights = cx.dims_of_rank(1, spatial.len() + 2)?;
    check_groups(conv.groups, &channels, &weights[0], &weights[0])?;
    let sizes = transposed_sizes(conv, &weights[2..], &spatial)?;
    let out_channels = weights[1].clone() * constant(signed(conv.groups));
    let dims = image_dims(conv.layout, batch, out_channels, sizes);
    if !cx.element_type(0)?.is_quantized() {
        cx.same_types(&[0, 1, 2, 3, 4])?;
    }
    check_fused(conv.layout, &dims, cx)?;
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims)
}

fn transposed_sizes(conv: &ConvTranspose, kernel: &[Expr], spatial: &[Expr]) -> Result<Vec<Expr>> {
    let windows = windows(kernel, &conv.strides, &conv.dilations, &conv.padding)?;
    if conv.output_padding.len() != spatial.len() {
        return Err(Error::model(format!("output_padding must have {} entries", spatial.len())));
    }
    check_limit("output padding", conv.output_padding.iter().map(|&n| signed(n)))?;
    if let Some(sizes) = &conv.output_shape {
        check_limit("an output size", sizes.iter().map(|&n| signed(n)))?;
        return match sizes.len() == spatial.len() {
            true => Ok(sizes.iter().map(|&size| size.into()).collect()),
            false => Err(Error::model(format!("output_shape must have {} entries", spatial.len()))),
        };
    }
    let size = |i: usize| {
        let (window, stride) = (&windows[i], constant(windows[i].stride));
        if matches!(conv.padding, Padding::SameUpper | Padding::SameLower) {
            return spatial[i].clone() * stride;
        }
        let (begin, end) = window.padding.unwrap_or((0, 0));
        let full = stride * (spatial[i].clone() - constant(1)) + window.extent();
        full + constant(signed(conv.output_padding[i])) - constant(begin) - constant(end)
    };
    Ok((0..spatial.len()).map(size).collect())
}

/// Pools that give one output.
pub(super) fn pool(window: &PoolWindow, cx: &mut Context<'_>) -> Result<()> {
    let dims = pool_dims(window, cx)?;
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims)
}

/// Outputs: maxima, and their indices (I64). The maxima of quantized values keep their scheme.
pub(super) fn max_pool(pool: &MaxPool, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (pool_dims(&pool.window, cx)?, cx.element_type(0)?);
    cx.set(0, element_type, dims.clone())?;
    cx.pass_scheme(0, 0, Some);
    cx.set(1, ElementType::I64, dims)
}

fn pool_dims(pool: &PoolWindow, cx: &Context<'_>) -> Result<Vec<Expr>> {
    let (batch, channels, spatial) = image(cx, pool.layout)?;
    if pool.kernel.len() != spatial.len() {
        return Err(Error::model(format!(
            "a kernel of {} dimensions for {} spatial ones",
            pool.kernel.len(),
            spatial.len()
        )));
    }
    let kernel: Vec<Expr> = pool.kernel.iter().map(|&n| n.into()).collect();
    let windows = windows(&kernel, &pool.strides, &pool.dilations, &pool.padding)?;
    let sizes: Result<Vec<Expr>> = windows
        .iter()
        .zip(&spatial)
        .map(|(window, size)| window.count(size, &pool.padding, pool.ceil_mode))
        .collect();
    Ok(image_dims(pool.layout, batch, channels, sizes?))
}

/// Every spatial dimension becomes one.
pub(super) fn global_pool(pool: &GlobalPool, cx: &mut Context<'_>) -> Result<()> {
    let (batch, channels, spatial) = image(cx, pool.layout)?;
    let dims = image_dims(pool.layout, batch, channels, vec![constant(1); spatial.len()]);
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims)
}

/// Inputs: x, roi or none, scales or none, sizes or none.
pub(super) fn resize(resize: &Resize, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.arithmetic_type(0)?);
    let axes = match &resize.axes {
        Some(axes) => normalize_axes(axes, dims.len())?,
        None => (0..dims.len()).collect(),
    };
    // Models write an empty tensor for what they leave out.
    let given = |index: usize| -> Result<bool> {
        Ok(cx.has(index) && product(&cx.dims(index)?).as_const() != Some(0))
    };
    let (with_scales, with_sizes) = (given(2)?, given(3)?);
    if with_scales == with_sizes {
        return Err(Error::model("either scales or sizes must be given"));
    }
    if with_scales {
        check_scales(cx.input(2)?)?;
    }
    let input = if with_scales { 2 } else { 3 };
    let length = cx.dims_of_rank(input, 1)?[0].as_const();
    if length.is_some_and(|length| length != signed(axes.len())) {
        return Err(Error::model(format!(
            "the input {:?} has {} elements for {} axes",
            cx.input(input)?.name,
            length.unwrap_or_default(),
            axes.len()
        )));
    }
    let numbers = cx.known(input).map_or(vec![], |known| known.elements().to_vec());
    let sizes: Vec<Option<Expr>> =
        if with_scales { scaled(&dims, &axes, &numbers)? } else { sized(resize, &dims, &axes, &numbers) };
    let mut result: Vec<Option<Expr>> = dims.into_iter().map(Some).collect();
    for (&axis, size) in axes.iter().zip(sizes) {
        result[axis] = size;
    }
    cx.set_partial(0, element_type, result)?;
    cx.pass_scheme(0, 0, Some);
    Ok(())
}

/// Refuses scales that are no numbers, or make images that no memory holds.
fn check_scales(scales: &crate::Value) -> Result<()> {
    const LARGEST: f32 = (1u64 << 31) as f32;
    let Some(constant) = &scales.constant else { return Ok(()) };
    match constant.to_f32s()?.into_iter().find(|scale| !(0.0..=LARGEST).contains(scale) || *scale == 0.0) {
        None => Ok(()),
        Some(scale) => Err(Error::model(format!("an axis is scaled by {scale} in {:?}", scales.name))),
    }
}

/// `⌊dimension · scale⌋`, in single precision where both are numbers, because that is how models mean it.
fn scaled(dims: &[Expr], axes: &[usize], scales: &[Option<Number>]) -> Result<Vec<Option<Expr>>> {
    let mut sizes = Vec::with_capacity(axes.len());
    for (i, &axis) in axes.iter().enumerate() {
        let Some(scale) = scales.get(i).cloned().flatten() else {
            sizes.push(None);
            continue;
        };
        if scale.as_float().is_some_and(|scale| scale <= 0.0) {
            return Err(Error::model(format!(
                "axis {axis} is scaled by {}",
                scale.as_float().unwrap_or(0.0)
            )));
        }
        sizes.push(match (dims[axis].as_const(), scale.as_float()) {
            (Some(dim), Some(factor)) => Some(constant((dim as f32 * factor as f32).floor() as i64)),
            _ => Number::from(dims[axis].clone()).multiply(&scale).map(|size| size.floor()),
        });
    }
    Ok(sizes)
}

/// The sizes as they are given, or as far as the aspect ratio allows.
fn sized(resize: &Resize, dims: &[Expr], axes: &[usize], sizes: &[Option<Number>]) -> Vec<Option<Expr>> {
    let size = |i: usize| sizes.get(i)?.as_ref()?.as_integer().cloned();
    if resize.keep_aspect_ratio == 0 {
        return (0..axes.len()).map(size).collect();
    }
    let ratio = |i: usize| Some(size(i)?.as_const()? as f64 / dims[axes[i]].as_const()? as f64);
    let ratios: Option<Vec<f64>> = (0..axes.len()).map(ratio).collect();
    let Some(ratios) = ratios.filter(|ratios| !ratios.is_empty()) else { return vec![None; axes.len()] };
    let pick: fn(f64, f64) -> f64 = if resize.keep_aspect_ratio == 1 { f64::min } else { f64::max };
    let scale = ratios.iter().copied().reduce(pick).unwrap_or(1.0);
    let rounded =
        |&axis: &usize| Some(constant((dims[axis].as_const()? as f64 * scale + 0.5).floor() as i64));
    axes.iter().map(rounded).collect()
}

/// Blocks of channels laid out in space.
pub(super) fn depth_to_space(op: &DepthToSpace, cx: &mut Context<'_>) -> Result<()> {
    let (batch, channels, spatial) = image_of_two_dimensions(op.layout, op.block, cx)?;
    let block = constant(signed(op.block));
    let channels = exact_quotient(&channels, block.clone() * block.clone())?;
    let spatial = spatial.into_iter().map(|size| size * block.clone()).collect();
    set_moved(image_dims(op.layout, batch, channels, spatial), cx)
}

/// Blocks of space gathered into channels.
pub(super) fn space_to_depth(op: &SpaceToDepth, cx: &mut Context<'_>) -> Result<()> {
    let (batch, channels, spatial) = image_of_two_dimensions(op.layout, op.block, cx)?;
    let block = constant(signed(op.block));
    let spatial: Result<Vec<Expr>> = spatial.iter().map(|size| exact_quotient(size, block.clone())).collect();
    let channels = channels * block.clone() * block;
    set_moved(image_dims(op.layout, batch, channels, spatial?), cx)
}

/// The element type stays, and a scheme that speaks of no axis that changes.
fn set_moved(dims: Vec<Expr>, cx: &mut Context<'_>) -> Result<()> {
    let element_type = cx.element_type(0)?;
    cx.set(0, element_type, dims)?;
    cx.pass_scheme(0, 0, |axis| (axis == 0).then_some(0));
    Ok(())
}

fn image_of_two_dimensions(
    layout: ImageLayout,
    block: usize,
    cx: &Context<'_>,
) -> Result<(Expr, Expr, Vec<Expr>)> {
    cx.dims_of_rank(0, 4)?;
    if block == 0 {
        return Err(Error::model("blocks must have a positive size"));
    }
    image(cx, layout)
}

fn exact_quotient(size: &Expr, divisor: Expr) -> Result<Expr> {
    match (size.as_const(), divisor.as_const()) {
        (Some(n), Some(d)) if d == 0 || n % d != 0 => {
            Err(Error::model(format!("{n} elements cannot be cut into blocks of {d}")))
        }
        _ => Ok(larger(size.clone(), constant(0)) / divisor),
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::{AveragePool, CoordinateMode, Fusion, Reduction, ResizeMode};
    use crate::shapes::testing::Input::{self, Data, Floats, Missing, Typed, Vector};
    use crate::shapes::testing::{expect, outcome};

    type Case = (Operator, &'static [Input], Result<&'static str, &'static str>);

    fn check(cases: Vec<Case>) {
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }

    fn pads(begin: usize, end: usize) -> Padding {
        Padding::Explicit { begin: vec![begin; 2], end: vec![end; 2] }
    }

    fn conv(layout: ImageLayout, stride: usize, groups: usize, padding: Padding) -> Conv {
        let fusion = Fusion::default();
        Conv { layout, strides: vec![stride; 2], dilations: vec![1; 2], groups, padding, fusion }
    }

    #[test]
    fn convolutions() {
        use ImageLayout::{ChannelsFirst as First, ChannelsLast as Last};
        let of = |layout, stride, groups, padding| Operator::Conv(conv(layout, stride, groups, padding));
        let dilated = Operator::Conv(Conv { dilations: vec![3, 3], ..conv(First, 1, 1, pads(0, 0)) });
        let short = Operator::Conv(Conv { strides: vec![1], ..conv(First, 1, 1, pads(0, 0)) });
        check(vec![
            (of(First, 1, 1, pads(1, 1)), &[Data("1 3 8 9"), Data("16 3 3 3")], Ok("F32 [1, 16, 8, 9]")),
            (of(Last, 2, 1, pads(0, 1)), &[Data("1 8 9 3"), Data("16 3 3 3")], Ok("F32 [1, 4, 4, 16]")),
            (
                of(First, 2, 1, pads(1, 1)),
                &[Data("N 3 H W"), Data("16 3 3 3")],
                Ok("F32 [N, 16, floor((H + 1) / (2)), floor((W + 1) / (2))]"),
            ),
            (
                of(First, 2, 1, Padding::SameUpper),
                &[Data("1 3 9 8"), Data("4 3 3 3")],
                Ok("F32 [1, 4, 5, 4]"),
            ),
            (of(First, 2, 1, Padding::Valid), &[Data("1 3 9 8"), Data("4 3 3 3")], Ok("F32 [1, 4, 4, 3]")),
            (of(First, 1, 3, pads(1, 1)), &[Data("1 3 8 8"), Data("3 1 3 3")], Ok("F32 [1, 3, 8, 8]")),
            (dilated, &[Data("1 3 9 9"), Data("4 3 3 3")], Ok("F32 [1, 4, 3, 3]")),
            (of(First, 1, 1, pads(0, 0)), &[Data("1 3 2 8"), Data("4 3 3 3")], Err("does not fit into 2")),
            (of(First, 0, 1, pads(0, 0)), &[Data("1 3 8 8"), Data("4 3 3 3")], Err("must be positive")),
            (of(First, 1, 0, pads(0, 0)), &[Data("1 3 8 8"), Data("4 3 3 3")], Err("no groups")),
            (of(First, 1, 3, pads(0, 0)), &[Data("1 3 8 8"), Data("4 1 3 3")], Err("3 groups")),
            (of(First, 1, 1, pads(0, 0)), &[Data("1 5 8 8"), Data("4 3 3 3")], Err("has 5 channels")),
            (of(First, 1, 1, pads(0, 0)), &[Data("8"), Data("4 3 3 3")], Err("not the shape of images")),
            (of(First, 1, 1, pads(0, 0)), &[Data("1 3 8 8"), Data("4 3 3")], Err("expected 4 dimensions")),
            (
                of(First, 1, 1, pads(usize::MAX, 0)),
                &[Data("1 3 8 8"), Data("4 3 3 3")],
                Err("padding of 9223372036854775807 is more"),
            ),
            (short, &[Data("1 3 8 8"), Data("4 3 3 3")], Err("2 entries each")),
            (
                of(First, 1, 1, pads(1, 1)),
                &[Data("1 3 8 8"), Data("4 3 3 3"), Data("5")],
                Err("cannot be broadcast"),
            ),
            (
                Operator::ConvInteger(ConvInteger { conv: conv(First, 1, 1, pads(1, 1)) }),
                &[Typed(ElementType::U8, "1 3 8 8"), Typed(ElementType::I8, "4 3 3 3")],
                Ok("I32 [1, 4, 8, 8]"),
            ),
        ]);
    }

    #[test]
    fn absurd_windows_are_refused() {
        use Padding::{SameUpper, Valid};
        const LARGE: usize = 1 << 40;
        let layout = ImageLayout::ChannelsFirst;
        let ones = || [1; 2];
        let conv = |strides: [usize; 2], dilations: [usize; 2], padding| {
            let (strides, dilations) = (strides.to_vec(), dilations.to_vec());
            Operator::Conv(Conv { strides, dilations, ..conv(layout, 1, 1, padding) })
        };
        let images: &[Input] = &[Data("1 3 8 8"), Data("3 3 3 3")];
        let huge: &[Input] = &[Data("1 3 8 8"), Data("3 3 1099511627776 3")];
        check(vec![
            (conv([LARGE, 1], ones(), SameUpper), images, Err("a stride of")),
            (conv([1 << 31, 1], ones(), SameUpper), images, Ok("F32 [1, 3, 1, 8]")),
            (conv(ones(), [1, LARGE], SameUpper), images, Err("a dilation of")),
            (conv(ones(), ones(), pads(0, LARGE)), images, Err("padding of")),
            (conv(ones(), ones(), SameUpper), huge, Err("a kernel size of")),
            (pooled(LARGE, 1, SameUpper, false), &[Data("1 3 8 8")], Err("a kernel size of")),
            (pooled(2, LARGE, Valid, true), &[Data("1 3 8 8")], Err("a stride of")),
            (transposed(pads(LARGE, 0), 0, None), images, Err("padding of")),
            (transposed(pads(0, 0), LARGE, None), images, Err("output padding of")),
            (transposed(pads(0, 0), 0, Some(vec![LARGE; 2])), images, Err("an output size of")),
        ]);
    }

    fn transposed(padding: Padding, output_padding: usize, shape: Option<Vec<usize>>) -> Operator {
        Operator::ConvTranspose(ConvTranspose {
            layout: ImageLayout::ChannelsFirst,
            strides: vec![2, 2],
            dilations: vec![1, 1],
            groups: 1,
            padding,
            output_padding: vec![output_padding; 2],
            output_shape: shape,
            fusion: Fusion::default(),
        })
    }

    #[test]
    fn transposed_convolutions() {
        let inputs: &[Input] = &[Data("1 3 H 5"), Data("3 4 3 3")];
        check(vec![
            (transposed(pads(1, 1), 1, None), inputs, Ok("F32 [1, 4, 2*H, 10]")),
            (transposed(pads(1, 1), 0, None), inputs, Ok("F32 [1, 4, 2*H - 1, 9]")),
            (transposed(Padding::SameUpper, 0, None), inputs, Ok("F32 [1, 4, 2*H, 10]")),
            (transposed(Padding::Valid, 0, None), inputs, Ok("F32 [1, 4, 2*H + 1, 11]")),
            (transposed(pads(0, 0), 0, Some(vec![7, 10])), inputs, Ok("F32 [1, 4, 7, 10]")),
            (transposed(pads(0, 0), 0, Some(vec![7])), inputs, Err("2 entries")),
            (transposed(pads(9, 9), 0, None), inputs, Err("would be -7")),
        ]);
    }

    fn pooled(kernel: usize, stride: usize, padding: Padding, ceil_mode: bool) -> Operator {
        let window = PoolWindow {
            layout: ImageLayout::ChannelsFirst,
            kernel: vec![kernel; 2],
            strides: vec![stride; 2],
            dilations: vec![1; 2],
            padding,
            ceil_mode,
        };
        Operator::AveragePool(AveragePool { window, count_include_pad: false })
    }

    #[test]
    fn pools() {
        let square: &[Input] = &[Data("1 3 7 8")];
        check(vec![
            (pooled(2, 2, pads(0, 0), false), square, Ok("F32 [1, 3, 3, 4]")),
            (pooled(2, 2, pads(0, 0), true), square, Ok("F32 [1, 3, 4, 4]")),
            (pooled(1, 2, pads(0, 0), true), &[Data("1 3 1 2")], Ok("F32 [1, 3, 1, 1]")),
            (pooled(3, 2, pads(1, 1), true), &[Data("1 3 H 6")], Ok("F32 [1, 3, floor((H) / (2)) + 1, 4]")),
            (pooled(2, 2, Padding::SameLower, false), square, Ok("F32 [1, 3, 4, 4]")),
            (pooled(9, 1, pads(0, 0), false), square, Err("does not fit")),
            (pooled(0, 1, pads(0, 0), false), square, Err("must be positive")),
            (pooled(2, 1, pads(0, 0), false), &[Data("1 3 8")], Err("1 spatial")),
            (
                Operator::GlobalPool(GlobalPool {
                    layout: ImageLayout::ChannelsLast,
                    reduction: Reduction::Mean,
                }),
                &[Data("N H W 3")],
                Ok("F32 [N, 1, 1, 3]"),
            ),
        ]);
    }

    fn resized(axes: Option<Vec<i64>>, keep_aspect_ratio: u8) -> Operator {
        Operator::Resize(Resize {
            axes,
            mode: ResizeMode::Linear,
            coordinates: CoordinateMode::HalfPixel,
            exclude_outside: false,
            extrapolation_value: 0.0,
            antialias: false,
            keep_aspect_ratio,
        })
    }

    #[test]
    fn resizing() {
        check(vec![
            (
                resized(None, 0),
                &[Data("1 3 H 5"), Missing, Floats(&[1.0, 1.0, 2.0, 0.7])],
                Ok("F32 [1, 3, 2*H, 3]"),
            ),
            (resized(None, 0), &[Data("1 10"), Missing, Floats(&[1.0, 0.7])], Ok("F32 [1, 7]")),
            (
                resized(Some(vec![-1]), 0),
                &[Data("1 H"), Floats(&[]), Floats(&[]), Vector(&[9])],
                Ok("F32 [1, 9]"),
            ),
            (
                resized(Some(vec![0, 1]), 1),
                &[Data("4 8"), Missing, Missing, Vector(&[8, 8])],
                Ok("F32 [4, 8]"),
            ),
            (
                resized(Some(vec![0, 1]), 2),
                &[Data("4 8"), Missing, Missing, Vector(&[8, 8])],
                Ok("F32 [8, 16]"),
            ),
            (resized(None, 0), &[Data("4"), Missing, Data("1")], Ok("F32 [n0.y0.0]")),
            (resized(None, 0), &[Data("4"), Missing, Floats(&[-1.0])], Err("scaled by -1")),
            (resized(None, 0), &[Data("4"), Missing, Floats(&[1.0, 1.0])], Err("2 elements for 1 axes")),
            (resized(None, 0), &[Data("4")], Err("either scales or sizes")),
            (resized(Some(vec![3]), 0), &[Data("4"), Missing, Floats(&[1.0])], Err("axis 3")),
        ]);
    }

    #[test]
    fn blocks() {
        let layout = ImageLayout::ChannelsFirst;
        let depth = |block| Operator::DepthToSpace(DepthToSpace { layout, block, column_row_depth: false });
        let space = |block| Operator::SpaceToDepth(SpaceToDepth { layout, block });
        check(vec![
            (depth(2), &[Data("1 8 H 5")], Ok("F32 [1, 2, 2*H, 10]")),
            (depth(2), &[Data("1 6 4 5")], Err("blocks of 4")),
            (depth(0), &[Data("1 6 4 5")], Err("positive size")),
            (depth(usize::MAX), &[Data("1 6 4 5")], Err("blocks of")),
            (space(2), &[Data("1 2 4 H")], Ok("F32 [1, 8, 2, floor((H) / (2))]")),
            (space(3), &[Data("1 2 4 4")], Err("blocks of 3")),
        ]);
    }
}
