//! Rules of operators that make one value of many.

use optimium_tensor::{ElementType, Expr, Result};

use super::arithmetic::{self, Number, constant, normalize_axes, normalize_axis};
use super::context::Context;
use super::facts::SymbolicTensor;
use super::selection::axis_count;
use crate::ops::{ArgReduce, Binary, CumSum, Reduce, Reduction};

/// Inputs: x, axes or none.
pub(super) fn reduce(op: &mut Reduce, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.arithmetic_type(0)?);
    if op.axes.is_none() && cx.has(1) {
        match cx.constants(1) {
            Some(axes) => {
                op.axes = Some(axes).filter(|axes| !axes.is_empty());
                cx.drop_input(1);
            }
            None if op.keep_dims => return cx.set_partial(0, element_type, vec![None; dims.len()]),
            None => {
                // Which axes are left depends on data; how many, if they are named once each, does not.
                let reduced = match axis_count(cx, 1)? {
                    0 if op.noop_with_empty_axes => 0,
                    0 => dims.len(),
                    count => count,
                };
                return cx.set_partial(0, element_type, vec![None; dims.len().saturating_sub(reduced)]);
            }
        }
    }
    if let Some(axes) = &mut op.axes {
        *axes = normalize_axes(axes, dims.len())?.into_iter().map(|axis| axis as i64).collect();
        axes.sort_unstable();
    }
    let reduced = |axis: usize| match &op.axes {
        Some(axes) if !axes.is_empty() => axes.contains(&(axis as i64)),
        _ => !op.noop_with_empty_axes,
    };
    let result = without_axes(&dims, reduced, op.keep_dims);
    cx.set(0, element_type, result)?;
    if dims.len() == 1 && reduced(0) {
        follow(op.reduction, element_type, cx);
    }
    Ok(())
}

/// The dimensions, those that `reduced` names being one or gone.
fn without_axes(dims: &[Expr], reduced: impl Fn(usize) -> bool, keep_dims: bool) -> Vec<Expr> {
    let result = dims.iter().enumerate().filter_map(|(axis, dim)| match (reduced(axis), keep_dims) {
        (false, _) => Some(dim.clone()),
        (true, true) => Some(constant(1)),
        (true, false) => None,
    });
    result.collect()
}

/// Follows the reduction of a vector.
fn follow(reduction: Reduction, element_type: ElementType, cx: &mut Context<'_>) {
    let function = match reduction {
        Reduction::Sum => Binary::Add,
        Reduction::Prod => Binary::Mul,
        Reduction::Max => Binary::Max,
        Reduction::Min => Binary::Min,
        _ => return,
    };
    let Some(known) = cx.known(0) else { return };
    let empty: Option<Number> = match reduction {
        Reduction::Sum => Some(0.into()),
        Reduction::Prod => Some(1.into()),
        _ => None,
    };
    let combine = |a: Option<Number>, b: Option<Number>| arithmetic::binary(function, element_type, &a?, &b?);
    let total = known.elements().iter().cloned().reduce(combine).unwrap_or(empty);
    let dims = cx.output(0).and_then(|value| value.shape()?.as_fixed());
    if let (Some(total), Some(dims)) = (total, dims) {
        cx.set_known(0, SymbolicTensor::scalar(total).reshaped(&dims));
    }
}

/// Input: x. Output: I64 indices.
pub(super) fn arg_reduce(op: &ArgReduce, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let axis = normalize_axis(op.axis, dims.len())?;
    cx.set(0, ElementType::I64, without_axes(&dims, |i| i == axis, op.keep_dims))
}

/// Inputs: x, axis.
pub(super) fn cumulative_sum(op: &mut CumSum, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.arithmetic_type(0)?);
    if op.axis.is_none()
        && let Some(axis) = cx.constant(1)
    {
        op.axis = Some(axis);
        cx.drop_input(1);
    }
    if let Some(axis) = &mut op.axis {
        *axis = normalize_axis(*axis, dims.len())? as i64;
    } else {
        cx.input(1)?;
    }
    cx.set(0, element_type, dims)
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::shapes::testing::Input::{self, Data, Scalar, Typed, Vector};
    use crate::shapes::testing::{expect, infer_one, outcome};

    fn of(axes: Option<Vec<i64>>, keep_dims: bool, noop_with_empty_axes: bool) -> Operator {
        Operator::Reduce(Reduce { reduction: Reduction::Mean, axes, keep_dims, noop_with_empty_axes })
    }

    #[test]
    fn reductions() {
        let cases: Vec<(Operator, &[Input], Result<&str, &str>)> = vec![
            (of(Some(vec![-1]), true, false), &[Data("N T 4")], Ok("F32 [N, T, 1]")),
            (of(None, false, false), &[Data("N T 4"), Vector(&[0, -1])], Ok("F32 [T]")),
            (of(None, false, false), &[Data("N 4")], Ok("F32 []")),
            (of(None, true, false), &[Data("N 4"), Vector(&[])], Ok("F32 [1, 1]")),
            (of(None, true, true), &[Data("N 4"), Vector(&[])], Ok("F32 [N, 4]")),
            (of(None, true, false), &[Data("N"), Typed(ElementType::I64, "K")], Ok("F32 [n0.y0.0]")),
            (of(None, false, false), &[Data("N"), Typed(ElementType::I64, "K")], Err("depends on data")),
            (of(None, false, false), &[Data("N 4"), Typed(ElementType::I64, "1")], Ok("F32 [n0.y0.0]")),
            (of(None, false, false), &[Data("N 4"), Typed(ElementType::I64, "0")], Ok("F32 []")),
            (of(Some(vec![2]), true, false), &[Data("N 4")], Err("axis 2")),
            (of(Some(vec![i64::MIN]), true, false), &[Data("N 4")], Err("axis -9223372036854775808")),
            (of(Some(vec![1, -1]), true, false), &[Data("N 4")], Err("named twice")),
            (
                Operator::ArgReduce(ArgReduce {
                    max: true,
                    axis: -1,
                    keep_dims: false,
                    select_last_index: false,
                }),
                &[Data("N 4")],
                Ok("I64 [N]"),
            ),
            (
                Operator::CumSum(CumSum { axis: None, exclusive: false, reverse: false, product: false }),
                &[Data("N 4"), Scalar(-1)],
                Ok("F32 [N, 4]"),
            ),
            (
                Operator::CumSum(CumSum { axis: None, exclusive: false, reverse: false, product: false }),
                &[Data("N 4"), Scalar(7)],
                Err("axis 7"),
            ),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }

    #[test]
    fn axes_move_into_the_operator() {
        let graph = infer_one(of(None, true, false), &[Data("2 3 4"), Vector(&[-1, 0])], 1).unwrap();
        assert_eq!(graph.nodes()[0].op, of(Some(vec![0, 2]), true, false));
        assert_eq!(graph.nodes()[0].inputs.len(), 1);
    }
}
