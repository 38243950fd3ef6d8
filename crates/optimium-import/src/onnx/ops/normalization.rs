//! Operators that bring values to a scale.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    ArgReduce, BatchNormalization, Binary, GroupNormalization, ImageLayout, InstanceNormalization,
    LayerNormalization, LocalResponseNormalization, LpNormalization, OneHot, Operator, Reduce, Reduction,
    Reshape, RmsNormalization, Shape, Softmax, Unary,
};
use optimium_tensor::{Error, Result};

use super::super::node::{NodeReader, support, unsupported};

const LAYOUT: ImageLayout = ImageLayout::ChannelsFirst;

pub(super) fn softmax(node: &mut NodeReader<'_, '_>, log: bool) -> Result<()> {
    let old = node.opset < 13;
    let axis = node.attributes.int_or("axis", if old { 1 } else { -1 })?;
    // From the last axis on there is only that axis.
    let flatten = old && axis != -1;
    node.finish_with_all_inputs(Operator::Softmax(Softmax { axis, log, flatten }))
}

/// One where an element is the first of the largest ones, else 0.
pub(super) fn hardmax(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let old = node.opset < 13;
    let axis = node.attributes.int_or("axis", if old { 1 } else { -1 })?;
    support(!old || axis == -1, "an axis that is not the last one, before version 13")?;
    let x = node.required(0)?;
    let largest = ArgReduce { max: true, axis, keep_dims: false, select_last_index: false };
    let indices = node.step(Operator::ArgReduce(largest), [Some(x)]);
    let end = if axis == -1 { None } else { Some(axis + 1) };
    let depth = node.step(Operator::Shape(Shape { start: axis, end }), [Some(x)]);
    let zero = node.scalar_like("off", x, 0.0)?;
    let one = node.scalar_like("on", x, 1.0)?;
    let values = [zero, one].map(|value| node.constant(value));
    let [Some(zero), Some(one)] = values else { return unsupported("the element type") };
    let bytes = [&zero.read_bytes()?[..], &one.read_bytes()?[..]].concat();
    let values = optimium_tensor::Tensor::from_bytes(zero.element_type(), &[2], &bytes)?;
    let values = node.add_constant("values", values);
    node.finish(Operator::OneHot(OneHot { axis, depth: None }), [Some(indices), Some(depth), Some(values)])
}

pub(super) fn batch(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let momentum = node.attributes.float_or("momentum", 0.9)?;
    let epsilon = node.attributes.float_or("epsilon", 1e-5)?;
    if node.attributes.flag("training_mode", false)? {
        return batch_in_training(node, momentum, epsilon);
    }
    support(node.attributes.flag("spatial", true)?, "attribute spatial")?;
    support((1..node.outputs.len()).all(|index| node.output(index).is_none()), "outputs of training")?;
    node.outputs.truncate(1);
    node.finish_with_all_inputs(Operator::BatchNormalization(BatchNormalization { layout: LAYOUT, epsilon }))
}

/// Normalizes by the statistics of the batch. Outputs: y, and where wanted the running mean and variance.
fn batch_in_training(node: &mut NodeReader<'_, '_>, momentum: f32, epsilon: f32) -> Result<()> {
    let x = node.required(0)?;
    let Some(rank) = node.rank(x).map(|rank| rank as i64) else { return unsupported("unknown rank") };
    let axes: Vec<i64> = (0..rank).filter(|&axis| axis != 1).collect();
    let mean = node.reduce(Reduction::Mean, x, Some(&axes), true);
    let centred = node.binary(Binary::Sub, x, mean);
    let squares = node.unary(Unary::Square, centred);
    let variance = node.reduce(Reduction::Mean, squares, Some(&axes), true);
    let spread = node.plus(variance, epsilon)?;
    let spread = node.unary(Unary::Sqrt, spread);
    let scaled = node.binary(Binary::Div, centred, spread);
    let behind: Vec<i64> = (1..rank - 1).collect();
    let per_channel = |node: &mut NodeReader<'_, '_>, index: usize| -> Result<ValueId> {
        let value = node.required(index)?;
        Ok(if behind.is_empty() { value } else { node.unsqueeze(value, &behind) })
    };
    let (scale, bias) = (per_channel(node, 1)?, per_channel(node, 2)?);
    let scaled = node.binary(Binary::Mul, scaled, scale);
    let y = node.binary(Binary::Add, scaled, bias);
    node.give(0, y);
    for (index, own) in [(1, mean), (2, variance)] {
        if node.output(index).is_some() {
            let (before, own) = (node.required(index + 2)?, node.reshape(own, &[-1])?);
            let (kept, new) = (node.times(before, momentum)?, node.times(own, 1.0 - momentum)?);
            let running = node.binary(Binary::Add, kept, new);
            node.give(index, running);
        }
    }
    support((3..node.outputs.len()).all(|index| node.output(index).is_none()), "outputs of training")
}

pub(super) fn instance(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let epsilon = node.attributes.float_or("epsilon", 1e-5)?;
    let op = InstanceNormalization { layout: LAYOUT, epsilon };
    node.finish_with_all_inputs(Operator::InstanceNormalization(op))
}

pub(super) fn group(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let epsilon = node.attributes.float_or("epsilon", 1e-5)?;
    stash_type(node)?;
    let groups = node.attributes.required_positive("num_groups")?;
    if node.opset >= 21 {
        let op = GroupNormalization { layout: LAYOUT, groups, epsilon };
        return node.finish_with_all_inputs(Operator::GroupNormalization(op));
    }
    // Before version 21 scale and bias are one a group: with the groups as channels, an instance normalization.
    let (x, scale, bias) = (node.required(0)?, node.required(1)?, node.required(2)?);
    let shape = node.step(Operator::Shape(Shape { start: 0, end: None }), [Some(x)]);
    let grouped = node.add_i64s("grouped", &[0, groups as i64, -1])?;
    let reshape = || Operator::Reshape(Reshape { dims: None, allow_zero: false });
    let x = node.step(reshape(), [Some(x), Some(grouped)]);
    let op = InstanceNormalization { layout: LAYOUT, epsilon };
    let y = node.step(Operator::InstanceNormalization(op), [Some(x), Some(scale), Some(bias)]);
    node.finish(reshape(), [Some(y), Some(shape)])
}

fn stash_type(node: &mut NodeReader<'_, '_>) -> Result<()> {
    // The type of the computation: F32, or F64, which is not less.
    let stash = node.attributes.int_or("stash_type", 1)?;
    support(stash == 1 || stash == 11, "attribute stash_type")
}

pub(super) fn layer(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", -1)?;
    let epsilon = node.attributes.float_or("epsilon", 1e-5)?;
    stash_type(node)?;
    node.finish_with_all_inputs(Operator::LayerNormalization(LayerNormalization { axis, epsilon }))
}

pub(super) fn rms(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", -1)?;
    let epsilon = node.attributes.float_or("epsilon", 1e-5)?;
    stash_type(node)?;
    support(node.output(1).is_none(), "output 1")?;
    node.outputs.truncate(1);
    node.finish_with_all_inputs(Operator::RmsNormalization(RmsNormalization { axis, epsilon }))
}

pub(super) fn lp(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", -1)?;
    let p = match node.attributes.int_or("p", 2)? {
        1 => 1,
        2 => 2,
        p => return Err(Error::model(format!("the norm's exponent is {p}"))),
    };
    node.finish_with_all_inputs(Operator::LpNormalization(LpNormalization { axis, p }))
}

pub(super) fn local_response(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let attributes = &mut node.attributes;
    let op = LocalResponseNormalization {
        layout: LAYOUT,
        size: attributes.required_positive("size")?,
        alpha: attributes.float_or("alpha", 1e-4)?,
        beta: attributes.float_or("beta", 0.75)?,
        bias: attributes.float_or("bias", 1.0)?,
    };
    node.finish_with_all_inputs(Operator::LocalResponseNormalization(op))
}

/// Added to the deviation, as the definition of the operator says.
const DEVIATION_EPSILON: f32 = 1e-9;

/// `(x - mean) / (√mean((x - mean)²) + 1e-9)`
pub(super) fn mean_variance(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axes = node.attributes.ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let x = node.required(0)?;
    let mean = reduce_mean(node, x, &axes);
    let centred = node.binary(Binary::Sub, x, mean);
    let square = node.unary(Unary::Square, centred);
    let variance = reduce_mean(node, square, &axes);
    let deviation = node.unary(Unary::Sqrt, variance);
    let epsilon = node.scalar_like("epsilon", x, DEVIATION_EPSILON)?;
    let divisor = node.binary(Binary::Add, deviation, epsilon);
    node.finish(Operator::Binary { function: Binary::Div }, [Some(centred), Some(divisor)])
}

fn reduce_mean(node: &mut NodeReader<'_, '_>, x: ValueId, axes: &[i64]) -> ValueId {
    let reduce = Reduce {
        reduction: Reduction::Mean,
        axes: Some(axes.to_vec()),
        keep_dims: true,
        noop_with_empty_axes: false,
    };
    node.step(Operator::Reduce(reduce), [Some(x)])
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node, operators};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let softmax = |axis, flatten| Operator::Softmax(Softmax { axis, log: false, flatten });
        let layer = LayerNormalization { axis: -1, epsilon: 1e-5 };
        let batch = BatchNormalization { layout: LAYOUT, epsilon: 1e-3 };
        let batch_inputs = ["x", "s", "b", "m", "v"];
        check([
            case(11, node("Softmax", &["x"], &["y"]), softmax(1, true)),
            case(11, node("Softmax", &["x"], &["y"]).int("axis", -1), softmax(-1, false)),
            case(13, node("Softmax", &["x"], &["y"]), softmax(-1, false)),
            case(17, node("LayerNormalization", &["x", "s"], &["y"]), Operator::LayerNormalization(layer)),
            case(
                7,
                node("BatchNormalization", &batch_inputs, &["y"])
                    .float("epsilon", 1e-3)
                    .float("momentum", 0.9),
                Operator::BatchNormalization(batch),
            ),
        ]);
    }

    #[test]
    fn compositions_have_their_steps() {
        let cases = [
            (18, node("GroupNormalization", &["x", "s", "b"], &["y"]).int("num_groups", 3), 4),
            (21, node("GroupNormalization", &["x", "s", "b"], &["y"]).int("num_groups", 3), 1),
            (13, node("MeanVarianceNormalization", &["x"], &["y"]), 7),
            (13, node("Hardmax", &["x"], &["y"]), 3),
        ];
        optimium_testing::each_case(cases, |(opset, node, steps)| {
            let read = operators(*opset, node.clone(), Vec::new()).map_err(|error| format!("{error:?}"))?;
            if read.len() == *steps { Ok(()) } else { Err(format!("it became {read:?}")) }
        });
    }
}
