//! Operators that make one value of many.

use optimium_graph::ValueId;
use optimium_graph::ops::{ArgReduce, Cast, CumSum, Operator, Reduce, Reduction};
use optimium_tensor::{ElementType, Result};

use super::super::operator::OperatorReader;

pub(super) fn reduce(node: &mut OperatorReader<'_, '_>, reduction: Reduction) -> Result<()> {
    let x = node.required(0)?;
    let (op, axes) = read_reduce(node, reduction)?;
    node.finish(op, [Some(x), axes])
}

/// The operator, and its axes where they are not known.
fn read_reduce(
    node: &mut OperatorReader<'_, '_>,
    reduction: Reduction,
) -> Result<(Operator, Option<ValueId>)> {
    let keep_dims = node.options.bool(0)?;
    let axes = node.constant_i64s(1)?;
    let computed = if axes.is_none() { Some(node.as_i64(1)?) } else { None };
    // A constant without axes reduces nothing.
    Ok((Operator::Reduce(Reduce { reduction, axes, keep_dims, noop_with_empty_axes: true }), computed))
}

/// Whether any (the largest) or all (the smallest) are true.
pub(super) fn reduce_bool(node: &mut OperatorReader<'_, '_>, reduction: Reduction) -> Result<()> {
    let x = node.required(0)?;
    let numbers =
        node.step_of_type(Operator::Cast(Cast { to: ElementType::I32 }), [Some(x)], ElementType::I32);
    let (op, axes) = read_reduce(node, reduction)?;
    let reduced = node.step_of_type(op, [Some(numbers), axes], ElementType::I32);
    node.finish(Operator::Cast(Cast { to: ElementType::Bool }), [Some(reduced)])
}

pub(super) fn arg(node: &mut OperatorReader<'_, '_>, max: bool) -> Result<()> {
    let x = node.required(0)?;
    let op = ArgReduce { max, axis: node.i64(1)?, keep_dims: false, select_last_index: false };
    finish_indices(node, Operator::ArgReduce(op), [Some(x)])
}

/// Adds an operator that gives I64, as what the model wants.
pub(super) fn finish_indices(
    node: &mut OperatorReader<'_, '_>,
    op: Operator,
    inputs: impl Into<Vec<Option<ValueId>>>,
) -> Result<()> {
    let output = node.output(0)?;
    let to = node.element_type(output)?;
    if to == ElementType::I64 {
        return node.finish(op, inputs);
    }
    let indices = node.step_of_type(op, inputs, ElementType::I64);
    node.finish(Operator::Cast(Cast { to }), [Some(indices)])
}

pub(super) fn cumulative_sum(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let (exclusive, reverse) = (node.options.bool(0)?, node.options.bool(1)?);
    let op = CumSum { axis: Some(node.i64(1)?), exclusive, reverse, product: false };
    node.finish(Operator::CumSum(op), [Some(x)])
}
