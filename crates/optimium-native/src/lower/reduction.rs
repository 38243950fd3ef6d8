//! Reductions, positions of extremes, sums along an axis, largest elements.

use optimium_graph::ops::{ArgReduce, CumSum, Reduce, Reduction, TopK};
use optimium_kernels::reduce::{self as kernels, Extreme};
use optimium_tensor::{ElementType, Error, Result};

use super::elementwise::{with_integer, with_number};
use super::normalization::around;
use super::view::{NodeView, normalize_axis, unsupported_type};
use crate::layer::{Layer, Step};

pub(super) fn kernel_reduction(reduction: Reduction) -> kernels::Reduction {
    match reduction {
        Reduction::Sum => kernels::Reduction::Sum,
        Reduction::Mean => kernels::Reduction::Mean,
        Reduction::Max => kernels::Reduction::Max,
        Reduction::Min => kernels::Reduction::Min,
        Reduction::Prod => kernels::Reduction::Prod,
        Reduction::L1 => kernels::Reduction::L1,
        Reduction::L2 => kernels::Reduction::L2,
        Reduction::SumSquare => kernels::Reduction::SumSquare,
        Reduction::LogSum => kernels::Reduction::LogSum,
        Reduction::LogSumExp => kernels::Reduction::LogSumExp,
    }
}

/// The axes that a reduction of `rank` dimensions takes away.
///
/// # Errors
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) where data decide them.
pub(super) fn reduced_axes(view: &NodeView, op: &Reduce) -> Result<Vec<usize>> {
    let rank = view.input_shape(0)?.rank();
    match &op.axes {
        None if view.has_input(1) => Err(Error::not_implemented("axes that data decide")),
        Some(axes) if !axes.is_empty() => axes.iter().map(|&axis| normalize_axis(axis, rank)).collect(),
        _ if op.noop_with_empty_axes => Ok(Vec::new()),
        _ => Ok((0..rank).collect()),
    }
}

pub(super) fn reduce(view: &NodeView, op: &Reduce) -> Result<Layer> {
    let (axes, level) = (reduced_axes(view, op)?, view.level);
    let reduction = kernel_reduction(op.reduction);
    let name = format!("{} axes {axes:?}", op.reduction.name().to_lowercase());
    let element_type = view.input_type(0)?;
    if element_type.storage() == ElementType::F32 {
        return Ok(Layer::new(name, move |b| {
            let (x, y) = (b.input(0)?, b.output(0)?.operand);
            let plan = kernels::Reduce::new(&x.dims, &axes);
            let x = x.operand;
            if let Some(segmented) = kernels::SegmentedReduce::of(reduction, &plan) {
                let length = segmented.scratch_len();
                b.need_shared_scratch::<f32>(length);
                return Ok(Step::in_rounds(kernels::SegmentedReduce::ROUNDS, move |memory, part, round| {
                    let between = memory.shared_scratch::<f32>(length);
                    segmented.run(level, memory.read(x), between, memory.write(y), part, round);
                    Ok(())
                }));
            }
            Ok(Step::parallel(move |memory, part| {
                kernels::reduce_f32(level, reduction, &plan, memory.read(x), memory.write(y), part);
                Ok(())
            }))
        }));
    }
    let number = if element_type == ElementType::Bool { ElementType::U8 } else { element_type };
    with_number!(number, T => Ok(Layer::new(name, move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?.operand);
        let plan = kernels::Reduce::new(&x.dims, &axes);
        let x = x.operand;
        Ok(Step::parallel(move |memory, part| {
            kernels::reduce::<T>(reduction, &plan, memory.read(x), memory.write(y), part);
            Ok(())
        }))
    })))
}

fn extreme(largest: bool) -> Extreme {
    if largest { Extreme::Largest } else { Extreme::Smallest }
}

pub(super) fn arg_reduce(view: &NodeView, op: &ArgReduce) -> Result<Layer> {
    let (axis, extreme, last) = (view.axis(op.axis)?, extreme(op.max), op.select_last_index);
    let level = view.level;
    with_number!(view.input_type(0)?, T => Ok(Layer::new("arg reduce", move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?);
        let sizes = around(&x.dims, axis);
        if sizes[1] == 0 && y.len() > 0 {
            return Err(Error::shape(format!("axis {axis} of {:?} is empty", x.dims)));
        }
        let (x, y) = (x.operand, y.operand);
        Ok(Step::parallel(move |memory, part| {
            kernels::extreme_index::<T>(level, extreme, last, memory.read(x), sizes, memory.write(y), part);
            Ok(())
        }))
    })))
}

pub(super) fn cumulative_sum(view: &NodeView, op: &CumSum) -> Result<Layer> {
    let axis = op.axis.ok_or_else(|| Error::not_implemented("an axis that data decide"))?;
    let (axis, exclusive, reverse, product) = (view.axis(axis)?, op.exclusive, op.reverse, op.product);
    let name = if product { "cumulative product" } else { "cumulative sum" };
    with_number!(view.input_type(0)?, T => Ok(Layer::new(name, move |b| {
        let (x, y) = (b.input(0)?, b.output(0)?.operand);
        let sizes = around(&x.dims, axis);
        let x = x.operand;
        Ok(Step::parallel(move |memory, part| {
            let run = if product { kernels::cumulative_product::<T> } else { kernels::cumulative_sum::<T> };
            run(memory.read(x), sizes, exclusive, reverse, memory.write(y), part);
            Ok(())
        }))
    })))
}

pub(super) fn top_k(view: &NodeView, op: &TopK) -> Result<Layer> {
    let k = op.k.clone().ok_or_else(|| Error::not_implemented("a number that data decide"))?;
    let (axis, extreme) = (view.axis(op.axis)?, extreme(op.largest));
    if view.node.output(0).is_none() || view.node.output(1).is_none() {
        return Err(Error::not_implemented("one output alone"));
    }
    with_number!(view.input_type(0)?, T => Ok(Layer::new("top k", move |b| {
        let (x, values, positions) = (b.input(0)?, b.output(0)?.operand, b.output(1)?.operand);
        let (sizes, k) = (around(&x.dims, axis), b.evaluate_size(&k)?);
        if k > sizes[1] {
            return Err(Error::shape(format!("{k} of the {} elements of axis {axis}", sizes[1])));
        }
        let x = x.operand;
        Ok(Step::parallel(move |memory, part| {
            let (values, positions) = (memory.write(values), memory.write(positions));
            kernels::top_k::<T>(extreme, memory.read(x), sizes, k, values, positions, part);
            Ok(())
        }))
    })))
}
