//! Softmax and normalizations, of `f32`.

use optimium_graph::ops::{
    BatchNormalization, GroupNormalization, ImageLayout, InstanceNormalization, LayerNormalization,
    LocalResponseNormalization, LpNormalization, RmsNormalization, Softmax,
};
use optimium_kernels::normalization::{self as kernels, GroupNorm, LocalResponse, RowNorm, RowStatistic};
use optimium_kernels::softmax::{self, softmax_axis};
use optimium_tensor::{ElementType, Error, Result};

use super::elementwise::source;
use super::view::{NodeView, normalize_axis, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};

fn check_f32(view: &NodeView) -> Result<()> {
    match view.input_type(0)?.storage() {
        ElementType::F32 => Ok(()),
        other => Err(unsupported_type(other)),
    }
}

/// Elements before an axis, of it, and after it.
pub(super) fn around(dims: &[usize], axis: usize) -> [usize; 3] {
    [dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()]
}

pub(super) fn softmax(view: &NodeView, op: &Softmax) -> Result<Layer> {
    check_f32(view)?;
    let level = view.level;
    let rank = view.input_shape(0)?.rank();
    let axis = if rank == 0 { 0 } else { view.axis(op.axis)? };
    let kind = if op.log { softmax::Softmax::Logarithm } else { softmax::Softmax::Probability };
    let flatten = op.flatten;
    Ok(Layer::new(format!("softmax axis {axis}"), move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let sizes = match (rank, flatten) {
            (0, _) => [1, 1, 1],
            (_, true) => [x.dims[..axis].iter().product(), x.dims[axis..].iter().product(), 1],
            (_, false) => around(&x.dims, axis),
        };
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let out = memory.write::<f32>(y);
            softmax_axis(level, kind, source::<f32, f32>(memory, x, y, out), sizes, out, part);
            Ok(())
        }))
    })
    .in_place(&[0]))
}

pub(super) fn layer(view: &NodeView, op: &LayerNormalization) -> Result<Layer> {
    rows(view, op.axis, op.epsilon, RowStatistic::MeanAndVariance)
}

pub(super) fn rms(view: &NodeView, op: &RmsNormalization) -> Result<Layer> {
    rows(view, op.axis, op.epsilon, RowStatistic::RootMeanSquare)
}

fn rows(view: &NodeView, axis: i64, epsilon: f32, statistic: RowStatistic) -> Result<Layer> {
    check_f32(view)?;
    let (level, axis) = (view.level, view.axis(axis)?);
    let name = if statistic == RowStatistic::MeanAndVariance { "layer norm" } else { "rms norm" };
    Ok(Layer::new(name, move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let columns: usize = x.dims[axis..].iter().product();
        let rows: usize = x.dims[..axis].iter().product();
        let (scale, bias) = (columns_of(b, 1, columns)?, columns_of(b, 2, columns)?);
        let statistics = [b.optional_output(1), b.optional_output(2)];
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let read =
                |column: &Option<Bound>| column.as_ref().map(|bound| memory.read::<f32>(bound.operand));
            let norm = RowNorm { statistic, scale: read(&scale), bias: read(&bias), epsilon };
            let out = memory.write::<f32>(y);
            let from = source::<f32, f32>(memory, x, y, out);
            // Before the rows are normalized, perhaps in place.
            if statistics.iter().any(Option::is_some) {
                let [mean, inverse] = [&statistics[0], &statistics[1]]
                    .map(|bound| bound.as_ref().map(|bound| memory.write::<f32>(bound.operand)));
                kernels::row_statistics(from, [rows, columns], epsilon, mean, inverse, part);
            }
            kernels::normalize_rows(level, norm, from, None, [rows, columns], out, part);
            Ok(())
        }))
    })
    .in_place(&[0]))
}

/// An optional input with one value a column.
fn columns_of(b: &Binding, index: usize, columns: usize) -> Result<Option<Bound>> {
    match b.optional_input(index) {
        Some(bound) if bound.len() != columns => {
            Err(Error::shape(format!("input {index} has shape {:?}, expected {columns} values", bound.dims)))
        }
        other => Ok(other),
    }
}

fn required_columns(b: &Binding, index: usize, columns: usize) -> Result<Bound> {
    columns_of(b, index, columns)?.ok_or_else(|| Error::model(format!("input {index} is missing")))
}

pub(super) fn batch(view: &NodeView, op: &BatchNormalization) -> Result<Layer> {
    check_f32(view)?;
    if (1..view.node.outputs.len()).any(|index| view.node.output(index).is_some()) {
        return Err(Error::not_implemented("statistics as outputs"));
    }
    let (level, epsilon, layout) = (view.level, op.epsilon, op.layout);
    Ok(Layer::new("batch norm", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let sizes = around(&x.dims, normalize_axis(layout.channel_axis(x.dims.len()) as i64, x.dims.len())?);
        let parameter = |index| required_columns(b, index, sizes[1]);
        let (scale, bias, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let read = |bound: &Bound| memory.read::<f32>(bound.operand);
            let (factors, offsets) =
                kernels::batch_norm_affine(read(&scale), read(&bias), read(&mean), read(&variance), epsilon);
            let out = memory.write::<f32>(y);
            let from = source::<f32, f32>(memory, x, y, out);
            kernels::channel_affine(level, from, sizes, &factors, &offsets, out, part);
            Ok(())
        }))
    })
    .in_place(&[0]))
}

pub(super) fn instance(view: &NodeView, op: &InstanceNormalization) -> Result<Layer> {
    groups(view, None, op.layout, op.epsilon)
}

pub(super) fn group(view: &NodeView, op: &GroupNormalization) -> Result<Layer> {
    groups(view, Some(op.groups), op.layout, op.epsilon)
}

/// Groups of channels; each channel is one where no number is given.
fn groups(view: &NodeView, groups: Option<usize>, layout: ImageLayout, epsilon: f32) -> Result<Layer> {
    check_f32(view)?;
    let level = view.level;
    let last = layout == ImageLayout::ChannelsLast;
    Ok(Layer::new("group norm", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        if x.dims.len() < 2 {
            return Err(Error::shape(format!("expected a batch of channels, found {:?}", x.dims)));
        }
        let channels = x.dims[layout.channel_axis(x.dims.len())];
        let positions = x.len() / (x.dims[0] * channels).max(1);
        let groups = groups.unwrap_or(channels);
        if groups == 0 || channels % groups != 0 {
            return Err(Error::shape(format!("{channels} channels do not make {groups} groups")));
        }
        let (scale, bias) = (required_columns(b, 1, channels)?, required_columns(b, 2, channels)?);
        let sizes = [x.dims[0], channels, positions];
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let norm = GroupNorm {
                groups,
                scale: memory.read(scale.operand),
                bias: memory.read(bias.operand),
                epsilon,
            };
            let out = memory.write::<f32>(y);
            let from = source::<f32, f32>(memory, x, y, out);
            kernels::group_norm(level, norm, last, from, sizes, out, part);
            Ok(())
        }))
    })
    .in_place(&[0]))
}

pub(super) fn local_response(view: &NodeView, op: &LocalResponseNormalization) -> Result<Layer> {
    check_f32(view)?;
    if op.size == 0 {
        return Err(Error::model("a size of zero"));
    }
    let norm = LocalResponse { size: op.size, alpha: op.alpha, beta: op.beta, bias: op.bias };
    let layout = op.layout;
    Ok(Layer::new("local response norm", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        if x.dims.len() < 2 {
            return Err(Error::shape(format!("expected a batch of channels, found {:?}", x.dims)));
        }
        let sizes = around(&x.dims, layout.channel_axis(x.dims.len()));
        Ok(Step::parallel(move |memory, part| {
            let (from, to) = (memory.read(x.operand), memory.write(y.operand));
            kernels::local_response_norm(norm, from, sizes, to, part);
            Ok(())
        }))
    }))
}

pub(super) fn lp(view: &NodeView, op: &LpNormalization) -> Result<Layer> {
    check_f32(view)?;
    let (level, axis) = (view.level, view.axis(op.axis)?);
    let squared = match op.p {
        1 => false,
        2 => true,
        p => return Err(Error::not_implemented(format!("norm {p}"))),
    };
    Ok(Layer::new("lp norm", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let sizes = around(&x.dims, axis);
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            let out = memory.write::<f32>(y);
            kernels::lp_normalize(level, squared, source::<f32, f32>(memory, x, y, out), sizes, out, part);
            Ok(())
        }))
    })
    .in_place(&[0]))
}
