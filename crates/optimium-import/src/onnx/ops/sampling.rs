//! Images read between their pixels, and pools undone.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Binary, ConstantOfShape, DeformableColumns, GridSample, Operator, Pad, PadMode, Padding, Reduction,
    RoiAlign, SampleMode, SamplePadding, ScatterElements, ScatterReduction,
};
use optimium_tensor::{ElementType, Error, Result};

use super::super::node::{NodeReader, support, unsupported};
use super::spatial;

pub(super) fn grid_sample(node: &mut NodeReader<'_, '_>) -> Result<()> {
    // The modes have other names since version 20.
    let mode = match node.attributes.string_or("mode", "linear")? {
        "linear" | "bilinear" => SampleMode::Linear,
        "nearest" => SampleMode::Nearest,
        "cubic" | "bicubic" => SampleMode::Cubic,
        other => return Err(Error::model(format!("the mode {other:?}"))),
    };
    let padding = match node.attributes.string_or("padding_mode", "zeros")? {
        "zeros" => SamplePadding::Zeros,
        "border" => SamplePadding::Border,
        "reflection" => SamplePadding::Reflection,
        other => return Err(Error::model(format!("it pads with {other:?}"))),
    };
    let align_corners = node.attributes.flag("align_corners", false)?;
    node.finish_with_all_inputs(Operator::GridSample(GridSample { mode, padding, align_corners }))
}

pub(super) fn roi_align(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let max = match node.attributes.string_or("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(Error::model(format!("the mode {other:?}"))),
    };
    let usual = if node.opset >= 16 { "half_pixel" } else { "output_half_pixel" };
    let half_pixel = match node.attributes.string_or("coordinate_transformation_mode", usual)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return Err(Error::model(format!("the coordinates {other:?}"))),
    };
    let op = RoiAlign {
        max,
        half_pixel,
        rows: node.attributes.count_or("output_height", 1)?,
        columns: node.attributes.count_or("output_width", 1)?,
        samples: node.attributes.count_or("sampling_ratio", 0)?,
        scale: node.attributes.float_or("spatial_scale", 1.0)?,
    };
    support(op.rows.max(op.columns).max(op.samples) <= 1 << 12, "bins of so many samples")?;
    node.finish_with_all_inputs(Operator::RoiAlign(op))
}

/// Inputs: x, weights, offsets, bias or none, mask or none. What the taps read is gathered to matrices, and multiplied.
pub(super) fn deform_conv(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (x, weights, offsets) = (node.required(0)?, node.required(1)?, node.required(2)?);
    let conv = spatial::read_conv(node, weights)?;
    let offset_groups = node.attributes.count_or("offset_group", 1)?;
    let Some(dims) = node.constant_dims(weights) else { return unsupported("weights of unknown shape") };
    let &[outputs, inputs, rows, columns] = dims.as_slice() else {
        return unsupported("other than two spatial dimensions");
    };
    let Padding::Explicit { begin, .. } = &conv.padding else { return unsupported("attribute auto_pad") };
    let two = |list: &[usize]| [list[0], list[1]];
    if outputs % conv.groups != 0 {
        return Err(Error::model(format!("{outputs} outputs of {} groups", conv.groups)));
    }
    let op = DeformableColumns {
        kernel: [rows, columns],
        strides: two(&conv.strides),
        dilations: two(&conv.dilations),
        padding: two(begin),
        groups: offset_groups,
    };
    let mask = node.input(4);
    let matrices = node.step(Operator::DeformableColumns(op), [Some(x), Some(offsets), mask]);
    let (groups, depth) = (conv.groups as i64, (inputs * rows * columns) as i64);
    let matrices = node.reshape(matrices, &[0, groups, depth, -1])?;
    let weights = node.reshape(weights, &[groups, outputs as i64 / groups, depth])?;
    let product = node.matmul(weights, matrices);
    let (batch, size) = (node.sizes(x, 0, Some(1)), node.sizes(offsets, 2, None));
    let outputs = node.add_i64s("outputs", &[outputs as i64])?;
    let shape = node.concat(&[batch, outputs, size], 0);
    let mut y = node.reshape_to(product, shape);
    if let Some(bias) = node.input(3) {
        let bias = node.unsqueeze(bias, &[1, 2]);
        y = node.binary(Binary::Add, y, bias);
    }
    node.give(0, y);
    Ok(())
}

/// Inputs: maxima, their flat indices in the image, the size of the output or none: the image with zeros elsewhere.
pub(super) fn max_unpool(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let Some(kernel) = node.attributes.counts("kernel_shape")? else {
        return Err(super::super::attributes::missing("kernel_shape"));
    };
    let geometry = spatial::geometry(&mut node.attributes, kernel.len())?;
    let Padding::Explicit { begin, end } = geometry.padding else { return unsupported("attribute auto_pad") };
    let (x, indices) = (node.required(0)?, node.required(1)?);
    let ints = |list: &[usize]| list.iter().map(|&n| n as i64).collect::<Vec<i64>>();
    // (size - 1) · stride - padding + kernel
    let rest: Vec<i64> = (0..kernel.len())
        .map(|i| kernel[i] as i64 - geometry.strides[i] as i64 - (begin[i] + end[i]) as i64)
        .collect();
    let (strides, rest) =
        (node.add_i64s("strides", &ints(&geometry.strides))?, node.add_i64s("rest", &rest)?);
    let (planes, spatial) = (node.sizes(x, 0, Some(2)), node.sizes(x, 2, None));
    let spatial = node.binary(Binary::Mul, spatial, strides);
    let spatial = node.binary(Binary::Add, spatial, rest);
    let shape = node.concat(&[planes, spatial], 0);
    let y = scattered(node, [x, indices], shape)?;
    let y = match node.input(2) {
        None => y,
        Some(wanted) => grown(node, y, shape, wanted, kernel.len() + 2)?,
    };
    node.give(0, y);
    Ok(())
}

/// A tensor of zeros of that shape with values at flat indices.
fn scattered(node: &mut NodeReader<'_, '_>, [x, indices]: [ValueId; 2], shape: ValueId) -> Result<ValueId> {
    let Some(element_type) = node.element_type(x) else { return unsupported("unknown element type") };
    let count = node.reduce(Reduction::Prod, shape, Some(&[0]), true);
    let value = vec![0; element_type.size()];
    let zeros = ConstantOfShape { dims: None, element_type, value };
    let zeros = node.step(Operator::ConstantOfShape(zeros), [Some(count)]);
    let (x, indices) = (node.reshape(x, &[-1])?, node.reshape(indices, &[-1])?);
    let scatter = ScatterElements { axis: 0, reduction: ScatterReduction::None };
    let flat = node.step(Operator::ScatterElements(scatter), [zeros, indices, x].map(Some));
    Ok(node.reshape_to(flat, shape))
}

/// `x` with zeros behind it up to the size wanted.
fn grown(
    node: &mut NodeReader<'_, '_>,
    x: ValueId,
    shape: ValueId,
    wanted: ValueId,
    rank: usize,
) -> Result<ValueId> {
    let missing = node.binary(Binary::Sub, wanted, shape);
    let before = node.add_i64s("before", &vec![0; rank])?;
    let pads = node.concat(&[before, missing], 0);
    Ok(node.step(Operator::Pad(Pad { mode: PadMode::Constant, pads: None }), [Some(x), Some(pads)]))
}

pub(super) fn bit_cast(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let to = super::super::types::element_type_of_attribute(node.attributes.required_int("to")?)?;
    support(to != ElementType::Bool, "bits as BOOL")?;
    node.finish_with_all_inputs(Operator::BitCast { to })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{
        case, check, graph, integers, node, operators, read_graph, value, zeros,
    };
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let grid =
            |mode, padding, align_corners| Operator::GridSample(GridSample { mode, padding, align_corners });
        let roi = RoiAlign { max: true, half_pixel: false, rows: 2, columns: 1, samples: 3, scale: 0.5 };
        check([
            case(
                16,
                node("GridSample", &["x", "g"], &["y"]).text("mode", "bicubic").int("align_corners", 1),
                grid(SampleMode::Cubic, SamplePadding::Zeros, true),
            ),
            case(
                20,
                node("GridSample", &["x", "g"], &["y"]).text("padding_mode", "reflection"),
                grid(SampleMode::Linear, SamplePadding::Reflection, false),
            ),
            case(
                10,
                node("RoiAlign", &["x", "r", "i"], &["y"])
                    .text("mode", "max")
                    .int("output_height", 2)
                    .int("sampling_ratio", 3)
                    .float("spatial_scale", 0.5),
                Operator::RoiAlign(roi),
            ),
            case(
                26,
                node("BitCast", &["x"], &["y"]).int("to", 6),
                Operator::BitCast { to: ElementType::I32 },
            ),
        ]);
        let wrong = node("RoiAlign", &["x", "r", "i"], &["y"]).int("output_height", 1 << 30);
        assert!(operators(10, wrong, vec![]).is_err());
        assert!(operators(20, node("GridSample", &["x", "g"], &["y"]).text("mode", "best"), vec![]).is_err());
    }

    #[test]
    fn compositions_have_their_shapes() {
        let conv = node("DeformConv", &["x", "w", "o"], &["y"]).int("group", 2).ints("pads", &[1, 0, 1, 0]);
        let inputs = vec![value("x", &["N", "4", "9", "9"]), value("o", &["N", "18", "9", "7"])];
        let mut read = read_graph(19, graph(inputs, vec![zeros("w", &[6, 2, 3, 3])], vec![conv])).unwrap();
        optimium_graph::shapes::infer(&mut read).unwrap();
        assert_eq!(read.value(read.outputs[0]).shape().unwrap().to_string(), "[N, 6, 9, 7]");
        let pool = node("MaxUnpool", &["x", "i", "s"], &["y"])
            .ints("kernel_shape", &[2, 2])
            .ints("strides", &[2, 2]);
        let inputs = vec![value("x", &["1", "1", "2", "2"])];
        let indices = zeros("i", &[1, 1, 2, 2]);
        let indices = super::super::super::proto::TensorProto {
            data_type: 7,
            int64_data: vec![5, 7, 13, 15],
            float_data: vec![],
            ..indices
        };
        let constants = vec![indices, integers("s", &[1, 1, 5, 5])];
        let mut read = read_graph(11, graph(inputs, constants, vec![pool])).unwrap();
        optimium_graph::shapes::infer(&mut read).unwrap();
        assert_eq!(read.value(read.outputs[0]).shape().unwrap().to_string(), "[1, 1, 5, 5]");
    }
}
