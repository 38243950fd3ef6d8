//! Elements picked, joined and rearranged.

use optimium_graph::ops::{
    Concat, DepthToSpace, Gather, GatherElements, GatherNd, ImageLayout, OneHot, ReverseSequence,
    ScatterElements, ScatterNd, ScatterReduction, Slice, SpaceToDepth, Split, Trilu,
};
use optimium_kernels::movement::{self, BlockOrder, IndexOutOfRange, StridedCopy};
use optimium_kernels::{Part, SharedSlice};
use optimium_tensor::{ElementType, Error, Result};

use super::elementwise::with_bytes;
use super::shaping::check_bytes;
use super::view::{NodeView, normalize_axis, unsupported_type};
use crate::layer::{Bound, Layer, Step};
use crate::memory::Operand;

/// Evaluates `$body` with `$I` as the Rust type of an index tensor.
macro_rules! with_index {
    ($element_type:expr, $I:ident => $body:expr) => {
        match $element_type {
            ElementType::I64 => {
                type $I = i64;
                $body
            }
            ElementType::I32 => {
                type $I = i32;
                $body
            }
            other => return Err(unsupported_type(other)),
        }
    };
}

fn out_of_range(error: IndexOutOfRange) -> Error {
    Error::infer(error.to_string())
}

/// A copy of a box of `source` into a box of `destination`.
struct BoxCopy {
    copy: StridedCopy,
    source: Operand,
    source_offset: usize,
    destination: Operand,
    destination_offset: usize,
}

impl BoxCopy {
    fn step(copies: Vec<BoxCopy>) -> Step {
        if copies.is_empty() {
            return Step::nothing();
        }
        Step::parallel(move |memory, part| {
            for c in &copies {
                let (from, to) = (memory.read_columns(c.source), memory.write(c.destination));
                c.copy.run_between(from, c.source_offset, to, c.destination_offset, part);
            }
            Ok(())
        })
    }
}

/// Whether `part`, which begins at byte `offset` of `whole` and spans some of its `axis`, lies there already.
fn lies_in(part: &Bound, whole: &Bound, axis: usize, offset: usize) -> bool {
    let one_run = whole.dims[..axis].iter().all(|&n| n == 1);
    let same_rows = part.row_stride == whole.row_stride;
    let last = axis + 1 == whole.dims.len();
    part.operand.base == whole.operand.base
        && part.operand.offset == whole.operand.offset + offset
        && if last { one_run || same_rows } else { one_run && same_rows }
}

/// Reads and writes of columns: layers of strided copies can do all of it.
fn copies_columns(layer: Layer, inputs: usize) -> Layer {
    let all: Vec<usize> = (0..inputs).collect();
    layer.reads_columns(&all).writes_columns().interleaves(&all)
}

pub(super) fn concat(view: &NodeView, concat: &Concat) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let size = view.output_type(0)?.size();
    let axis = normalize_axis(concat.axis, view.output_shape(0)?.rank())?;
    let layer = Layer::new(format!("concat axis {axis}"), move |b| {
        let y = b.output(0)?;
        let strides = y.strides();
        let (mut at, mut copies) = (0, Vec::new());
        for index in 0..b.inputs.len() {
            let Some(x) = b.optional_input(index) else { continue };
            let offset = at * strides[axis] as usize;
            at += x.dims[axis];
            let fits = x.dims.len() == y.dims.len()
                && at <= y.dims[axis]
                && (0..y.dims.len()).all(|i| i == axis || x.dims[i] == y.dims[i]);
            if !fits {
                return Err(Error::shape(format!(
                    "{:?} does not fit {:?} along axis {axis}",
                    x.dims, y.dims
                )));
            }
            if x.len() > 0 && !lies_in(&x, &y, axis, offset * size) {
                copies.push(BoxCopy {
                    copy: StridedCopy::new(&x.dims, &x.strides(), &strides, size),
                    source: x.operand,
                    source_offset: 0,
                    destination: y.operand,
                    destination_offset: offset,
                });
            }
        }
        Ok(BoxCopy::step(copies))
    });
    Ok(copies_columns(layer, view.node.inputs.len()))
}

pub(super) fn split(view: &NodeView, split: &Split) -> Result<Layer> {
    check_bytes(view.input_type(0)?)?;
    let size = view.input_type(0)?.size();
    let axis = view.axis(split.axis)?;
    let sizes = split.sizes.clone();
    let count = view.node.outputs.len().max(1);
    // Sizes that data decide are those that the model declares for the results.
    let declared = sizes.is_none() && view.has_input(1);
    if declared && view.node.outputs.contains(&None) {
        return Err(Error::not_implemented("sizes that data decide, of parts that nobody wants"));
    }
    let layer = Layer::new(format!("split axis {axis}"), move |b| {
        let x = b.input(0)?;
        let strides = x.strides();
        let equal = x.dims[axis].div_ceil(count);
        let (mut at, mut copies) = (0, Vec::new());
        for index in 0..count {
            let part = match &sizes {
                Some(sizes) => {
                    b.evaluate_size(sizes.get(index).ok_or_else(|| Error::model("too few split sizes"))?)?
                }
                None if declared => b.output(index)?.dims[axis],
                None => equal.min(x.dims[axis] - at),
            };
            let offset = at * strides[axis] as usize;
            at += part;
            if at > x.dims[axis] {
                return Err(Error::shape(format!("the parts are larger than axis {axis} of {:?}", x.dims)));
            }
            let Some(y) = b.optional_output(index) else { continue };
            if y.dims[axis] != part {
                return Err(Error::shape(format!("part {index} has {part} elements, expected {:?}", y.dims)));
            }
            if y.len() > 0 && !lies_in(&y, &x, axis, offset * size) {
                copies.push(BoxCopy {
                    copy: StridedCopy::new(&y.dims, &strides, &y.strides(), size),
                    source: x.operand,
                    source_offset: offset,
                    destination: y.operand,
                    destination_offset: 0,
                });
            }
        }
        Ok(BoxCopy::step(copies))
    });
    Ok(copies_columns(layer, 1))
}

pub(super) fn slice(view: &NodeView, slice: &Slice) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let size = view.output_type(0)?.size();
    let ranges = slice.ranges.clone().ok_or_else(|| Error::not_implemented("bounds that data decide"))?;
    let layer = Layer::new("slice", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (mut starts, mut steps) = (vec![0; x.dims.len()], vec![1isize; x.dims.len()]);
        for range in &ranges {
            let (axis, count) = (range.axis, b.evaluate_size(&range.count)?);
            let start = if count == 0 { 0 } else { b.evaluate_size(&range.start)? };
            let last = start as i128 + (count.max(1) - 1) as i128 * i128::from(range.step);
            let inside = count == 0 || (start < x.dims[axis] && (0..x.dims[axis] as i128).contains(&last));
            if !inside || y.dims[axis] != count {
                return Err(Error::shape(format!(
                    "{count} elements from {start} in steps of {} are not those of axis {axis} of {:?}",
                    range.step, x.dims
                )));
            }
            (starts[axis], steps[axis]) = (start, range.step as isize);
        }
        let strides = x.strides();
        let offset =
            starts.iter().zip(&strides).map(|(&start, &stride)| start * stride as usize).sum::<usize>();
        let is_view = one_cut(&steps, &x, &y).is_some_and(|axis| lies_in(&y, &x, axis, offset * size));
        if y.len() == 0 || is_view {
            return Ok(Step::nothing());
        }
        let stepped: Vec<isize> = steps.iter().zip(&strides).map(|(&step, &stride)| step * stride).collect();
        let copy = StridedCopy::new(&y.dims, &stepped, &y.strides(), size);
        let copies = vec![BoxCopy {
            copy,
            source: x.operand,
            source_offset: offset,
            destination: y.operand,
            destination_offset: 0,
        }];
        Ok(BoxCopy::step(copies))
    });
    Ok(copies_columns(layer, 1))
}

/// The only axis that a slice with steps of one cuts, if any; none where there are others.
fn one_cut(steps: &[isize], x: &Bound, y: &Bound) -> Option<usize> {
    let first_cut = (0..x.dims.len()).find(|&axis| x.dims[axis] != y.dims[axis]).unwrap_or(0);
    let alone = first_cut < x.dims.len()
        && steps.iter().all(|&step| step == 1)
        && (first_cut + 1..x.dims.len()).all(|axis| x.dims[axis] == y.dims[axis]);
    alone.then_some(first_cut)
}

pub(super) fn gather(view: &NodeView, gather: &Gather) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, axis) = (view.output_type(0)?.size(), view.axis(gather.axis)?);
    with_index!(view.input_type(1)?, I => Ok(Layer::new(format!("gather axis {axis}"), move |b| {
        let (x, indices, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let (source, indices, y, dims) = (x.operand, indices.operand, y.operand, x.dims);
        Ok(Step::parallel(move |memory, part| {
            let (source, indices) = (memory.read(source), memory.read::<I>(indices));
            movement::gather(source, &dims, axis, indices, size, memory.write(y), part).map_err(out_of_range)
        }))
    })))
}

pub(super) fn gather_elements(view: &NodeView, gather: &GatherElements) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, axis) = (view.output_type(0)?.size(), view.axis(gather.axis)?);
    with_index!(view.input_type(1)?, I => Ok(Layer::new("gather elements", move |b| {
        let (x, indices, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        let fits = x.dims.len() == indices.dims.len()
            && (0..x.dims.len()).all(|i| i == axis || indices.dims[i] <= x.dims[i]);
        if !fits {
            return Err(Error::shape(format!("indices of {:?} do not fit {:?}", indices.dims, x.dims)));
        }
        Ok(Step::parallel(move |memory, part| {
            let (source, picks) = (memory.read(x.operand), memory.read::<I>(indices.operand));
            let out = memory.write(y.operand);
            movement::gather_elements(source, &x.dims, axis, picks, &indices.dims, size, out, part)
                .map_err(out_of_range)
        }))
    })))
}

pub(super) fn gather_nd(view: &NodeView, gather: &GatherNd) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, batch_dims) = (view.output_type(0)?.size(), gather.batch_dims);
    with_index!(view.input_type(1)?, I => Ok(Layer::new("gather nd", move |b| {
        let (x, indices, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        Ok(Step::parallel(move |memory, part| {
            let (source, picks) = (memory.read(x.operand), memory.read::<I>(indices.operand));
            let out = memory.write(y.operand);
            movement::gather_nd(source, &x.dims, batch_dims, picks, &indices.dims, size, out, part)
                .map_err(out_of_range)
        }))
    })))
}

fn reduction_of(reduction: ScatterReduction) -> movement::Reduction {
    match reduction {
        ScatterReduction::None => movement::Reduction::None,
        ScatterReduction::Add => movement::Reduction::Add,
        ScatterReduction::Mul => movement::Reduction::Mul,
        ScatterReduction::Max => movement::Reduction::Max,
        ScatterReduction::Min => movement::Reduction::Min,
    }
}

/// Copies `x` to `y` where they are not one, then lets `scatter` work on `y`: alone, because updates may meet.
fn scatter_step(
    x: Operand,
    y: Operand,
    scatter: impl Fn(&crate::memory::Memory) -> Result<(), IndexOutOfRange> + Send + Sync + 'static,
) -> Step {
    let copy = StridedCopy::new(&[y.bytes], &[1], &[1], 1);
    Step::serial(move |memory| {
        if x != y {
            copy.run(memory.read(x), 0, memory.write(y), 0, Part::WHOLE);
        }
        scatter(memory).map_err(out_of_range)
    })
}

/// As `with_bytes` for a plain replacement, as numbers where updates are combined.
macro_rules! with_scattered {
    ($element_type:expr, $reduction:expr, $T:ident => $body:expr) => {
        match ($element_type.storage(), $reduction) {
            (ElementType::F32, _) => {
                type $T = f32;
                $body
            }
            (ElementType::F64, _) => {
                type $T = f64;
                $body
            }
            (ElementType::I32, _) => {
                type $T = i32;
                $body
            }
            (ElementType::I64, _) => {
                type $T = i64;
                $body
            }
            (other, ScatterReduction::None) if other.size() == 4 => {
                type $T = i32;
                $body
            }
            (other, ScatterReduction::None) if other.size() == 8 => {
                type $T = i64;
                $body
            }
            (other, _) => return Err(unsupported_type(other)),
        }
    };
}

pub(super) fn scatter_elements(view: &NodeView, scatter: &ScatterElements) -> Result<Layer> {
    let (axis, reduction) = (view.axis(scatter.axis)?, scatter.reduction);
    let element_type = view.output_type(0)?;
    with_scattered!(element_type, reduction, T => with_index!(view.input_type(1)?, I => {
        Ok(Layer::new("scatter elements", move |b| {
            let (x, indices, updates, y) = (b.input(0)?, b.input(1)?, b.input(2)?, b.output(0)?);
            let fits = x.dims.len() == indices.dims.len()
                && indices.dims == updates.dims
                && (0..x.dims.len()).all(|i| i == axis || indices.dims[i] <= x.dims[i]);
            if !fits {
                let (i, u) = (&indices.dims, &updates.dims);
                return Err(Error::shape(format!("indices of {i:?} and updates of {u:?} do not fit {:?}", x.dims)));
            }
            Ok(scatter_step(x.operand, y.operand, move |memory| {
                let (picks, values) = (memory.read::<I>(indices.operand), memory.read::<T>(updates.operand));
                let out = memory.write::<T>(y.operand);
                let reduction = reduction_of(reduction);
                let all = Part::WHOLE;
                movement::scatter_elements(&x.dims, axis, picks, &indices.dims, values, reduction, out, all)
            }))
        })
        .in_place(&[0]))
    }))
}

pub(super) fn scatter_nd(view: &NodeView, scatter: &ScatterNd) -> Result<Layer> {
    let reduction = scatter.reduction;
    let element_type = view.output_type(0)?;
    with_scattered!(element_type, reduction, T => with_index!(view.input_type(1)?, I => {
        Ok(Layer::new("scatter nd", move |b| {
            let (x, indices, updates, y) = (b.input(0)?, b.input(1)?, b.input(2)?, b.output(0)?);
            Ok(scatter_step(x.operand, y.operand, move |memory| {
                let (picks, values) = (memory.read::<I>(indices.operand), memory.read::<T>(updates.operand));
                let out = memory.write::<T>(y.operand);
                let reduction = reduction_of(reduction);
                movement::scatter_nd(&x.dims, picks, &indices.dims, values, reduction, out, Part::WHOLE)
            }))
        })
        .in_place(&[0]))
    }))
}

pub(super) fn one_hot(view: &NodeView, one_hot: &OneHot) -> Result<Layer> {
    let axis = normalize_axis(one_hot.axis, view.output_shape(0)?.rank())?;
    with_bytes!(view.output_type(0)?.size(), T => with_index!(view.input_type(0)?, I => {
        Ok(Layer::new("one hot", move |b| {
            let (indices, values, y) = (b.input(0)?, b.input(2)?, b.output(0)?);
            let outer: usize = y.dims[..axis].iter().product();
            let inner: usize = y.dims[axis + 1..].iter().product();
            let depth = y.dims[axis];
            if values.len() != 2 {
                return Err(Error::shape(format!("values of shape {:?}, expected [2]", values.dims)));
            }
            Ok(Step::parallel(move |memory, part| {
                let values = memory.read::<T>(values.operand);
                let indices = memory.read::<I>(indices.operand);
                let out: SharedSlice<T> = memory.write(y.operand);
                movement::one_hot(indices, outer, depth, inner, values[0], values[1], out, part);
                Ok(())
            }))
        }))
    }))
}

pub(super) fn trilu(view: &NodeView, trilu: &Trilu) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, upper, diagonal) = (view.output_type(0)?.size(), trilu.upper, trilu.k);
    if view.input_shape(0)?.rank() < 2 {
        return Err(Error::model("Trilu needs at least two dimensions"));
    }
    Ok(Layer::new("trilu", move |b| {
        let (x, k, y) = (b.input(0)?, b.optional_input(1), b.output(0)?);
        Ok(Step::parallel(move |memory, part| {
            let given = k.as_ref().and_then(|k| memory.read::<i64>(k.operand).first().copied());
            let diagonal = diagonal.or(given).unwrap_or(0);
            let (from, to) = (memory.read(x.operand), memory.write(y.operand));
            movement::trilu(from, &x.dims, diagonal, upper, size, to, part);
            Ok(())
        }))
    }))
}

pub(super) fn reverse_sequence(view: &NodeView, reverse: &ReverseSequence) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, time_first) = (view.output_type(0)?.size(), reverse.time_axis == 0);
    if reverse.batch_axis + reverse.time_axis != 1 {
        return Err(Error::model("the axes of batch and time must be 0 and 1"));
    }
    if view.input_type(1)? != ElementType::I64 {
        return Err(unsupported_type(view.input_type(1)?));
    }
    Ok(Layer::new("reverse sequence", move |b| {
        let (x, lengths, y) = (b.input(0)?, b.input(1)?, b.output(0)?);
        Ok(Step::parallel(move |memory, part| {
            let (from, lengths) = (memory.read(x.operand), memory.read::<i64>(lengths.operand));
            let to = memory.write(y.operand);
            movement::reverse_sequence(from, &x.dims, time_first, lengths, size, to, part)
                .map_err(out_of_range)
        }))
    }))
}

fn image_dims(dims: &[usize]) -> Result<[usize; 4]> {
    dims.try_into().map_err(|_| Error::shape(format!("expected an image of four dimensions, found {dims:?}")))
}

pub(super) fn depth_to_space(view: &NodeView, op: &DepthToSpace) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, op, level) = (view.output_type(0)?.size(), op.clone(), view.level);
    Ok(Layer::new("depth to space", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let (dims, k) = (image_dims(&x.dims)?, op.block);
        let channels = dims[op.layout.channel_axis(4)];
        if k == 0 || channels % (k * k) != 0 {
            return Err(Error::shape(format!("{channels} channels do not make blocks of {k}")));
        }
        let order = if op.column_row_depth { BlockOrder::ColumnRowDepth } else { BlockOrder::DepthColumnRow };
        let [n, c, h, w] = dims;
        let depth = c / (k * k);
        let copy = match (op.layout, order) {
            (ImageLayout::ChannelsLast, order) => movement::Transpose::depth_to_space(dims, k, order, size),
            (_, BlockOrder::DepthColumnRow) => {
                movement::Transpose::new(&[n, k, k, depth, h, w], &[0, 3, 4, 1, 5, 2], size)
            }
            (_, BlockOrder::ColumnRowDepth) => {
                movement::Transpose::new(&[n, depth, k, k, h, w], &[0, 1, 4, 2, 5, 3], size)
            }
        };
        Ok(transpose_step(copy.with_level(level), x.operand, y.operand))
    }))
}

pub(super) fn space_to_depth(view: &NodeView, op: &SpaceToDepth) -> Result<Layer> {
    check_bytes(view.output_type(0)?)?;
    let (size, k, layout, level) = (view.output_type(0)?.size(), op.block, op.layout, view.level);
    Ok(Layer::new("space to depth", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let dims = image_dims(&x.dims)?;
        let [height, width] = [0, 1].map(|i| dims[layout.spatial_axis(i)]);
        if k == 0 || height % k != 0 || width % k != 0 {
            return Err(Error::shape(format!("{height} x {width} does not divide into blocks of {k}")));
        }
        let copy = match layout {
            ImageLayout::ChannelsLast => {
                movement::Transpose::space_to_depth(dims, k, BlockOrder::DepthColumnRow, size)
            }
            ImageLayout::ChannelsFirst => {
                let split = [dims[0], dims[1], height / k, k, width / k, k];
                movement::Transpose::new(&split, &[0, 3, 5, 1, 2, 4], size)
            }
        };
        Ok(transpose_step(copy.with_level(level), x.operand, y.operand))
    }))
}

fn transpose_step(copy: movement::Transpose, x: Operand, y: Operand) -> Step {
    Step::parallel(move |memory, part| {
        copy.run(memory.read(x), memory.write(y), part);
        Ok(())
    })
}
