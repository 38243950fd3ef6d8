//! Rules of operators that change shapes, or make tensors of shapes.

use optimium_tensor::{ElementType, Error, Expr, Result, Tensor};

use super::arithmetic::{self, Number, constant, larger, normalize_axes, normalize_axis, product, quotient};
use super::broadcast::{broadcast_dim, check_broadcasts_to, shown};
use super::context::{Context, MAX_RANK};
use super::facts::SymbolicTensor;
use super::selection::axis_count;
use crate::ops::{
    Binary, ConstantOfShape, Expand, Flatten, Pad, Random, Range, Reshape, Shape, Squeeze, Tile, Transpose,
    Unsqueeze,
};

/// The dimensions, where all of them are known; else those of the output, where they are numbers after all because
/// the model declares them.
fn all_known(dims: Vec<Option<Expr>>, cx: &Context<'_>) -> Option<Vec<Expr>> {
    let known: Option<Vec<Expr>> = dims.into_iter().collect();
    known.or_else(|| {
        let shape = cx.output(0)?.shape()?;
        (!shape.is_dynamic()).then(|| shape.dims().to_vec())
    })
}

/// Says that the output has the elements of x in another shape.
fn set_reshaped(dims: Vec<Option<Expr>>, cx: &mut Context<'_>) -> Result<()> {
    let (from, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    cx.set_partial(0, element_type, dims)?;
    let to = cx.output(0).and_then(|value| value.shape()).map_or(vec![], |shape| shape.dims().to_vec());
    cx.pass_scheme(0, 0, |axis| {
        let size = from.get(axis)?;
        let before = product(&from[..axis]);
        (0..to.len()).find(|&other| to[other] == *size && product(&to[..other]) == before)
    });
    cx.follow_reshaped(0, 0);
    Ok(())
}

/// Inputs: x, shape where the operator does not say it.
pub(super) fn reshape(op: &mut Reshape, cx: &mut Context<'_>) -> Result<()> {
    let from = cx.dims(0)?;
    if let Some(dims) = &op.dims {
        check_counts(&from, dims)?;
        return set_reshaped(dims.iter().cloned().map(Some).collect(), cx);
    }
    let target = cx.integers(1)?;
    let dims = reshaped_dims(&from, &target, op.allow_zero)?;
    set_reshaped(dims.clone(), cx)?;
    if let Some(dims) = all_known(dims, cx) {
        op.dims = Some(dims);
        cx.drop_inputs_from(1);
    }
    Ok(())
}

/// The target with 0 and -1 replaced.
fn reshaped_dims(from: &[Expr], target: &[Option<Expr>], allow_zero: bool) -> Result<Vec<Option<Expr>>> {
    let mut rest = None;
    let mut dims = Vec::with_capacity(target.len());
    for (axis, size) in target.iter().enumerate() {
        dims.push(match size.as_ref().and_then(Expr::as_const) {
            Some(0) if !allow_zero => Some(from.get(axis).cloned().ok_or_else(|| {
                Error::model(format!("axis {axis} copies a dimension that {} does not have", shown(from)))
            })?),
            Some(-1) if rest.replace(axis).is_none() => None,
            Some(n) if n < 0 => {
                return Err(Error::model(format!("{n} in axis {axis} of the new shape is not allowed")));
            }
            _ => size.clone(),
        });
    }
    let unknown: Vec<usize> = (0..dims.len()).filter(|&axis| dims[axis].is_none()).collect();
    let others: Vec<Expr> = dims.iter().flatten().cloned().collect();
    match unknown.as_slice() {
        [] => check_counts(from, &others)?,
        // Whatever the model says in a single place that is not known, only the rest fits there.
        [axis] => dims[*axis] = divided(from, &others, rest.is_some())?,
        _ => {}
    }
    Ok(dims)
}

/// The size of the axis that takes all the elements that are left.
fn divided(from: &[Expr], others: &[Expr], required: bool) -> Result<Option<Expr>> {
    let (total, divisor) = (product(from), product(others));
    let fits = match (total.as_const(), divisor.as_const()) {
        (Some(total), Some(divisor)) => divisor > 0 && total % divisor == 0,
        (None, Some(divisor)) => divisor > 0,
        _ => true,
    };
    let size = quotient(from, others).filter(|_| fits);
    if size.is_none() && required {
        return Err(Error::model(format!(
            "{total} elements of {} cannot be cut into {divisor} parts",
            shown(from)
        )));
    }
    Ok(size)
}

fn check_counts(from: &[Expr], to: &[Expr]) -> Result<()> {
    match (product(from).as_const(), product(to).as_const()) {
        (Some(a), Some(b)) if a != b => {
            Err(Error::model(format!("{} has {a} elements, {} has {b}", shown(from), shown(to))))
        }
        _ => Ok(()),
    }
}

/// Input: x. Output: a matrix.
pub(super) fn flatten(op: &Flatten, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let rank = dims.len();
    let axis = if op.axis == rank as i64 { rank } else { normalize_axis(op.axis, rank)? };
    set_reshaped(vec![Some(product(&dims[..axis])), Some(product(&dims[axis..]))], cx)
}

/// Moves a constant input 1 into the operator's axes. How many axes there are where data decide which.
fn take_axes(axes: &mut Option<Vec<i64>>, cx: &mut Context<'_>) -> Result<Option<usize>> {
    if axes.is_none() && cx.has(1) {
        *axes = cx.constants(1);
        if axes.is_none() {
            return axis_count(cx, 1).map(Some);
        }
    }
    if axes.is_some() {
        cx.drop_inputs_from(1);
    }
    Ok(None)
}

/// Inputs: x, axes or none. Without axes a symbolic dimension counts as larger than one.
pub(super) fn squeeze(op: &mut Squeeze, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    if let Some(count) = take_axes(&mut op.axes, cx)? {
        return set_reshaped(vec![None; dims.len().saturating_sub(count)], cx);
    }
    let axes = match &op.axes {
        Some(axes) => normalize_axes(axes, dims.len())?,
        None => (0..dims.len()).filter(|&axis| dims[axis].as_const() == Some(1)).collect(),
    };
    if let Some(&axis) = axes.iter().find(|&&axis| dims[axis].as_const().is_some_and(|n| n != 1)) {
        return Err(Error::model(format!("axis {axis} of {} cannot be squeezed", shown(&dims))));
    }
    op.axes = Some(axes.iter().map(|&axis| axis as i64).collect());
    let kept = (0..dims.len()).filter(|axis| !axes.contains(axis));
    set_reshaped(kept.map(|axis| Some(dims[axis].clone())).collect(), cx)
}

/// Inputs: x, axes where the operator does not say them.
pub(super) fn unsqueeze(op: &mut Unsqueeze, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    if let Some(count) = take_axes(&mut op.axes, cx)? {
        return set_reshaped(vec![None; dims.len() + count], cx);
    }
    let axes = op.axes.as_mut().ok_or_else(|| Error::model("there are no axes"))?;
    let rank = dims.len() + axes.len();
    if rank > MAX_RANK {
        return Err(Error::model(format!("the output would have {rank} dimensions")));
    }
    let inserted = normalize_axes(axes, rank)?;
    *axes = inserted.iter().map(|&axis| axis as i64).collect();
    let mut rest = dims.into_iter();
    let size = |axis| if inserted.contains(&axis) { Some(constant(1)) } else { rest.next() };
    let result = (0..rank).map(size).collect();
    set_reshaped(result, cx)
}

/// Input: x.
pub(super) fn transpose(op: &Transpose, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let permutation = op.permutation.as_slice();
    let mut sorted = op.permutation.clone();
    sorted.sort_unstable();
    if sorted.len() != dims.len() || sorted.iter().enumerate().any(|(i, &axis)| i != axis) {
        return Err(Error::model(format!("{permutation:?} does not permute the axes of {}", shown(&dims))));
    }
    let result: Vec<Expr> = permutation.iter().map(|&axis| dims[axis].clone()).collect();
    cx.set(0, element_type, result)?;
    cx.pass_scheme(0, 0, |axis| permutation.iter().position(|&from| from == axis));
    let Some(known) = cx.known(0) else { return Ok(()) };
    let result: Vec<usize> = permutation.iter().map(|&axis| known.dims()[axis]).collect();
    let moved = SymbolicTensor::from_fn(&result, |at| {
        let mut from = vec![0; at.len()];
        permutation.iter().zip(at).for_each(|(&axis, &position)| from[axis] = position);
        known.get(&from)
    });
    cx.set_known(0, moved);
    Ok(())
}

/// Follows a broadcast of x to the output's shape.
fn follow_broadcast(cx: &mut Context<'_>) {
    let Some(known) = cx.known(0) else { return };
    let dims = cx.output(0).and_then(|value| value.shape()?.as_fixed());
    let result = dims.and_then(|dims| SymbolicTensor::from_fn(&dims, |at| known.broadcast_get(at).cloned()));
    cx.set_known(0, result);
}

/// Inputs: x, shape where the operator does not say the output's.
pub(super) fn expand(op: &mut Expand, cx: &mut Context<'_>) -> Result<()> {
    let (from, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    if let Some(dims) = &op.dims {
        check_broadcasts_to(&from, dims)?;
        cx.set(0, element_type, dims.clone())?;
    } else {
        let target = cx.integers(1)?;
        let rank = from.len().max(target.len());
        let mut dims = Vec::with_capacity(rank);
        for axis in 0..rank {
            let own = axis.checked_sub(rank - from.len()).map(|axis| &from[axis]);
            let wanted = axis.checked_sub(rank - target.len()).map(|axis| &target[axis]);
            dims.push(expanded(own, wanted).map_err(|error| error.context(format!("axis {axis}")))?);
        }
        cx.set_partial(0, element_type, dims.clone())?;
        if let Some(dims) = all_known(dims, cx) {
            op.dims = Some(dims);
            cx.drop_inputs_from(1);
        }
    }
    let rank = cx.output(0).and_then(|value| value.shape()).map_or(0, |shape| shape.rank());
    cx.pass_scheme(0, 0, |axis| Some(axis + rank.checked_sub(from.len())?));
    follow_broadcast(cx);
    Ok(())
}

/// The size of an axis that has the size `own` and is wanted with `wanted`, where each has the axis; `wanted` holds
/// `None` where it depends on data.
fn expanded(own: Option<&Expr>, wanted: Option<&Option<Expr>>) -> Result<Option<Expr>> {
    match (own, wanted) {
        (Some(own), Some(Some(wanted))) => broadcast_dim(own, wanted)
            .map(Some)
            .ok_or_else(|| Error::model(format!("{own} elements cannot be expanded to {wanted}"))),
        (Some(own), Some(None)) => Ok(own.as_const().filter(|&n| n != 1).map(constant)),
        (Some(own), None) => Ok(Some(own.clone())),
        (None, Some(wanted)) => Ok(wanted.clone()),
        (None, None) => Ok(None),
    }
}

/// Inputs: x, repeats where the operator does not say them.
pub(super) fn tile(op: &mut Tile, cx: &mut Context<'_>) -> Result<()> {
    let (from, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let repeats: Vec<Option<Expr>> = match &op.repeats {
        Some(repeats) => repeats.iter().cloned().map(Some).collect(),
        None => cx.integers(1)?,
    };
    if repeats.len() != from.len() {
        return Err(Error::model(format!("{} repeats for the shape {}", repeats.len(), shown(&from))));
    }
    if repeats.iter().flatten().any(|n| n.as_const().is_some_and(|n| n < 0)) {
        return Err(Error::model("repeats must not be negative"));
    }
    let dims = from.iter().zip(&repeats).map(|(dim, n)| Some(dim.clone() * n.clone()?)).collect();
    cx.set_partial(0, element_type, dims)?;
    if let Some(repeats) = repeats.into_iter().collect() {
        op.repeats = Some(repeats);
        cx.drop_inputs_from(1);
    }
    cx.pass_scheme(0, 0, |axis| {
        let once = op.repeats.as_ref()?.get(axis)?.as_const() == Some(1);
        once.then_some(axis)
    });
    let Some(known) = cx.known(0) else { return Ok(()) };
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return Ok(()) };
    let sizes = known.dims().to_vec();
    let tiled = SymbolicTensor::from_fn(&dims, |at| {
        let from: Vec<usize> = at.iter().zip(&sizes).map(|(&at, &size)| at % size.max(1)).collect();
        known.get(&from)
    });
    cx.set_known(0, tiled);
    Ok(())
}

/// Inputs: x, pads or none, value or none, axes or none.
pub(super) fn pad(op: &mut Pad, cx: &mut Context<'_>) -> Result<()> {
    let (from, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    if op.pads.is_none() {
        cx.input(1)?;
    }
    let Some(pads) = pads(op, &from, cx)? else {
        return cx.set_partial(0, element_type, vec![None; from.len()]);
    };
    let dims =
        from.iter().zip(&pads).map(|(dim, (begin, end))| Some(dim.clone() + begin.clone()? + end.clone()?));
    cx.set_partial(0, element_type, dims.collect())?;
    cx.pass_scheme(0, 0, |axis| {
        let is_zero = |n: &Option<Expr>| n.as_ref().is_some_and(|n| n.as_const() == Some(0));
        pads.get(axis).filter(|(begin, end)| is_zero(begin) && is_zero(end)).map(|_| axis)
    });
    if let Some(pads) = pads.into_iter().map(|(begin, end)| Some((begin?, end?))).collect() {
        op.pads = Some(pads);
        cx.drop_input(3);
        cx.drop_input(1);
    }
    Ok(())
}

type PartialPads = Vec<(Option<Expr>, Option<Expr>)>;

/// The pads of every axis; `None` where not even the axes are known.
fn pads(op: &Pad, from: &[Expr], cx: &mut Context<'_>) -> Result<Option<PartialPads>> {
    if let Some(pads) = &op.pads {
        if pads.len() != from.len() {
            return Err(Error::model(format!("{} pads for the shape {}", pads.len(), shown(from))));
        }
        return Ok(Some(pads.iter().map(|(b, e)| (Some(b.clone()), Some(e.clone()))).collect()));
    }
    let axes = match (cx.has(3), cx.constants(3)) {
        (true, None) => return Ok(None),
        (true, Some(axes)) => normalize_axes(&axes, from.len())?,
        (false, _) => (0..from.len()).collect(),
    };
    let given = cx.integers(1)?;
    if given.len() != 2 * axes.len() {
        return Err(Error::model(format!("{} pads for {} axes", given.len(), axes.len())));
    }
    let mut pads = vec![(Some(constant(0)), Some(constant(0))); from.len()];
    for (i, &axis) in axes.iter().enumerate() {
        pads[axis] = (given[i].clone(), given[axes.len() + i].clone());
    }
    Ok(Some(pads))
}

/// Input: x. Output: sizes of a range of its axes.
pub(super) fn shape(op: &Shape, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let rank = dims.len() as i64;
    let clamp = |n: i64| (if n < 0 { n.saturating_add(rank) } else { n }).clamp(0, rank) as usize;
    let (start, end) = (clamp(op.start), clamp(op.end.unwrap_or(rank)));
    let sizes = dims[start..end.max(start)].to_vec();
    cx.set(0, ElementType::I64, vec![sizes.len().into()])?;
    cx.set_known(0, Some(SymbolicTensor::vector(sizes)));
    Ok(())
}

/// Input: x. Output: its number of elements.
pub(super) fn size(cx: &mut Context<'_>) -> Result<()> {
    let count = product(&cx.dims(0)?);
    cx.set(0, ElementType::I64, vec![])?;
    cx.set_known(0, Some(SymbolicTensor::scalar(count.into())));
    Ok(())
}

/// Inputs: start, limit, delta where the operator does not say them.
pub(super) fn range(op: &mut Range, cx: &mut Context<'_>) -> Result<()> {
    if op.bounds.is_none() {
        (0..3).try_for_each(|index| cx.expect_type(index, &[op.element_type]))?;
        (0..3).try_for_each(|index| cx.input(index).map(|_| ()))?;
    }
    let mut bound = |index: usize| match &op.bounds {
        Some(bounds) => Some(bounds[index].clone().into()),
        None => match cx.known(index)?.elements() {
            [single] => single.clone(),
            _ => None,
        },
    };
    let bounds: [Option<Number>; 3] = [bound(0), bound(1), bound(2)];
    let [Some(start), Some(limit), Some(delta)] = bounds else {
        return cx.set_partial(0, op.element_type, vec![None]);
    };
    if delta.as_float() == Some(0.0) {
        return Err(Error::model("the distance of elements is zero"));
    }
    let count = range_count(&start, &limit, &delta);
    cx.set_partial(0, op.element_type, vec![count])?;
    if let (Some(start), Some(limit), Some(delta)) =
        (start.as_integer(), limit.as_integer(), delta.as_integer())
    {
        op.bounds = Some([start.clone(), limit.clone(), delta.clone()]);
        cx.drop_inputs_from(0);
    }
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return Ok(()) };
    let element_type = op.element_type;
    let values = SymbolicTensor::from_fn(&dims, |at| {
        let step = arithmetic::binary(Binary::Mul, element_type, &delta, &(at[0] as i64).into())?;
        arithmetic::binary(Binary::Add, element_type, &start, &step)
    });
    cx.set_known(0, values.filter(|_| element_type.is_integer()));
    Ok(())
}

/// `max(⌈(limit - start) / delta⌉, 0)`
fn range_count(start: &Number, limit: &Number, delta: &Number) -> Option<Expr> {
    let exact = ElementType::F64;
    let distance = arithmetic::binary(Binary::Sub, exact, limit, start)?;
    let steps = arithmetic::binary(Binary::Div, exact, &distance, delta)?;
    Some(larger(steps.ceil(), constant(0)))
}

/// Input: shape where the operator does not say it.
pub(super) fn constant_of_shape(op: &mut ConstantOfShape, cx: &mut Context<'_>) -> Result<()> {
    set_dims(&mut op.dims, op.element_type, cx)?;
    if op.element_type == ElementType::String {
        return Ok(());
    }
    let value = Tensor::from_bytes(op.element_type, &[], &op.value)
        .map_err(|error| error.with_kind(optimium_tensor::ErrorKind::Model).context("the value"))?;
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return Ok(()) };
    if let Some(value) = SymbolicTensor::of_constant(&value).filter(|_| !op.element_type.is_float()) {
        let number = value.elements().first().cloned().flatten();
        cx.set_known(0, SymbolicTensor::from_fn(&dims, |_| number.clone()));
    }
    Ok(())
}

/// Input: shape where the operator does not say it.
pub(super) fn random(op: &mut Random, cx: &mut Context<'_>) -> Result<()> {
    if !matches!(op.element_type, ElementType::F32 | ElementType::F64) {
        return Err(Error::model(format!("random numbers of the element type {}", op.element_type)));
    }
    set_dims(&mut op.dims, op.element_type, cx)
}

/// Says that the output has the shape that the operator says, or else input 0, which is dropped where it is known.
fn set_dims(known: &mut Option<Vec<Expr>>, element_type: ElementType, cx: &mut Context<'_>) -> Result<()> {
    let dims: Vec<Option<Expr>> = match known {
        Some(dims) => dims.iter().cloned().map(Some).collect(),
        None => cx.integers(0)?,
    };
    cx.set_partial(0, element_type, dims.clone())?;
    if known.is_none()
        && let Some(dims) = all_known(dims, cx)
    {
        *known = Some(dims);
        cx.drop_inputs_from(0);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::{Distribution, PadMode};
    use crate::shapes::testing::Input::{self, Data, Missing, Scalar, Typed, Vector};
    use crate::shapes::testing::{dims, expect, infer_one, outcome};

    type Case = (Operator, &'static [Input], Result<&'static str, &'static str>);

    #[test]
    fn random_numbers() {
        let op = |element_type| {
            let distribution = Distribution::Uniform { low: 0.0, high: 1.0 };
            Operator::Random(Random { dims: None, element_type, distribution, seed: None })
        };
        check(vec![
            (op(ElementType::F32), &[Vector(&[2, 3])], Ok("F32 [2, 3]")),
            (op(ElementType::F64), &[Vector(&[])], Ok("F64 []")),
            (op(ElementType::F32), &[Typed(ElementType::I64, "2")], Ok("F32 [n0.y0.0, n0.y0.1]")),
            (op(ElementType::I64), &[Vector(&[2])], Err("element type I64")),
        ]);
    }

    fn check(cases: Vec<Case>) {
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }

    fn reshape_op(allow_zero: bool) -> Operator {
        Operator::Reshape(Reshape { dims: None, allow_zero })
    }

    #[test]
    fn reshaping() {
        let plain = || reshape_op(false);
        let known = Operator::Reshape(Reshape { dims: Some(dims("6 N")), allow_zero: false });
        check(vec![
            (plain(), &[Data("N 3 4"), Vector(&[0, -1])], Ok("F32 [N, 12]")),
            (plain(), &[Data("N T 384"), Vector(&[0, 0, 12, 32])], Ok("F32 [N, T, 12, 32]")),
            (plain(), &[Data("N T 384"), Vector(&[-1, 384])], Ok("F32 [N*T, 384]")),
            (plain(), &[Data("N T 384"), Vector(&[1, -1, 12, 32])], Ok("F32 [1, N*T, 12, 32]")),
            (plain(), &[Data("N 5"), Vector(&[-1, 2])], Ok("F32 [floor((5*N) / (2)), 2]")),
            (plain(), &[Data("1"), Vector(&[])], Ok("F32 []")),
            (plain(), &[Data("4"), Typed(ElementType::I64, "2")], Ok("F32 [n0.y0.0, n0.y0.1]")),
            (plain(), &[Data("4"), Typed(ElementType::I64, "1")], Ok("F32 [4]")),
            (plain(), &[Data("4"), Typed(ElementType::I64, "K")], Err("depends on data")),
            (plain(), &[Data("4"), Typed(ElementType::I64, "99999999999")], Err("more than a tensor has")),
            (plain(), &[Data("4"), Typed(ElementType::I64, "2 2")], Err("must be a vector")),
            (plain(), &[Data("2 3"), Vector(&[4, -1])], Err("6 elements of [2, 3]")),
            (plain(), &[Data("2 3"), Vector(&[5])], Err("[2, 3] has 6 elements, [5] has 5")),
            (plain(), &[Data("2 3"), Vector(&[-1, -1])], Err("not allowed")),
            (plain(), &[Data("2 3"), Vector(&[-2, 3])], Err("not allowed")),
            (plain(), &[Data("2 3"), Vector(&[2, 3, 0])], Err("does not have")),
            (plain(), &[Data("0 3"), Vector(&[0, -1])], Err("cannot be cut")),
            (reshape_op(true), &[Data("0 3"), Vector(&[3, 0])], Ok("F32 [3, 0]")),
            (known.clone(), &[Data("2 3 N")], Ok("F32 [6, N]")),
            (known, &[Data("2 3")], Ok("F32 [6, N]")),
        ]);
    }

    #[test]
    fn axes_of_size_one() {
        let flatten = |axis| Operator::Flatten(Flatten { axis });
        let squeeze = |axes| Operator::Squeeze(Squeeze { axes });
        let unsqueeze = |axes| Operator::Unsqueeze(Unsqueeze { axes });
        check(vec![
            (flatten(1), &[Data("N 3 4")], Ok("F32 [N, 12]")),
            (flatten(0), &[Data("N 3")], Ok("F32 [1, 3*N]")),
            (flatten(2), &[Data("N 3")], Ok("F32 [3*N, 1]")),
            (flatten(-3), &[Data("N 3")], Err("axis -3")),
            (squeeze(None), &[Data("1 N 1"), Vector(&[0])], Ok("F32 [N, 1]")),
            (squeeze(None), &[Data("1 N 1")], Ok("F32 [N]")),
            (squeeze(Some(vec![-2])), &[Data("1 N 1")], Ok("F32 [1, 1]")),
            (squeeze(Some(vec![0])), &[Data("2 N 1")], Err("cannot be squeezed")),
            (squeeze(None), &[Data("1"), Typed(ElementType::I64, "1")], Ok("F32 []")),
            (squeeze(None), &[Data("1"), Typed(ElementType::I64, "N")], Err("depends on data")),
            (unsqueeze(None), &[Data("N"), Vector(&[0, -1])], Ok("F32 [1, N, 1]")),
            (unsqueeze(None), &[Data("N"), Scalar(1)], Ok("F32 [N, 1]")),
            (unsqueeze(Some(vec![3])), &[Data("N")], Err("axis 3")),
            (unsqueeze(Some(vec![0, -3])), &[Data("N")], Err("named twice")),
            (unsqueeze(Some(vec![0; 100])), &[Data("N")], Err("101 dimensions")),
            (unsqueeze(None), &[Data("N")], Err("no axes")),
            (
                Operator::Transpose(Transpose { permutation: vec![2, 0, 1] }),
                &[Data("N T 4")],
                Ok("F32 [4, N, T]"),
            ),
            (
                Operator::Transpose(Transpose { permutation: vec![0, 0] }),
                &[Data("N T")],
                Err("does not permute"),
            ),
            (
                Operator::Transpose(Transpose { permutation: vec![0] }),
                &[Data("N T")],
                Err("does not permute"),
            ),
        ]);
    }

    #[test]
    fn repeating_and_padding() {
        let expand = || Operator::Expand(Expand { dims: None });
        let tile = || Operator::Tile(Tile { repeats: None });
        let pad = || Operator::Pad(Pad { mode: PadMode::Constant, pads: None });
        check(vec![
            (expand(), &[Data("N 1"), Vector(&[2, 1, 4])], Ok("F32 [2, N, 4]")),
            (expand(), &[Data("3 1"), Typed(ElementType::I64, "2")], Ok("F32 [3, n0.y0.1]")),
            (expand(), &[Data("3"), Vector(&[2])], Err("cannot be expanded")),
            (tile(), &[Data("N 2"), Vector(&[1, 3])], Ok("F32 [N, 6]")),
            (tile(), &[Data("N 2"), Vector(&[1])], Err("1 repeats")),
            (tile(), &[Data("N 2"), Vector(&[1, -1])], Err("not be negative")),
            (tile(), &[Data("N 2"), Typed(ElementType::I64, "2")], Ok("F32 [n0.y0.0, n0.y0.1]")),
            (pad(), &[Data("N 2"), Vector(&[1, 0, 0, 3])], Ok("F32 [N + 1, 5]")),
            (pad(), &[Data("N 2"), Vector(&[1, 3]), Missing, Vector(&[-1])], Ok("F32 [N, 6]")),
            (pad(), &[Data("N 2"), Vector(&[0, -3, 0, 0])], Err("would be -1")),
            (pad(), &[Data("N 2"), Vector(&[1, 0])], Err("2 pads for 2 axes")),
            (pad(), &[Data("N 2")], Err("input 1 is missing")),
            (pad(), &[Data("N 2"), Typed(ElementType::I64, "4")], Ok("F32 [n0.y0.0, n0.y0.1]")),
            (pad(), &[Data("2"), Vector(&[i64::MAX, i64::MAX])], Ok("F32 [9223372036854775807]")),
        ]);
    }

    #[test]
    fn dropped_inputs() {
        let pad = Operator::Pad(Pad { mode: PadMode::Constant, pads: None });
        let graph = infer_one(pad, &[Data("N"), Vector(&[1, 2]), Data(""), Vector(&[0])], 1).unwrap();
        let node = &graph.nodes()[0];
        let pads = Some(vec![(constant(1), constant(2))]);
        assert_eq!(node.op, Operator::Pad(Pad { mode: PadMode::Constant, pads }));
        assert_eq!((node.inputs.len(), node.input(1).is_none(), node.input(2).is_some()), (3, true, true));
    }

    #[test]
    fn tensors_of_shapes() {
        let shape = |start, end| Operator::Shape(Shape { start, end });
        let range = || Operator::Range(Range { element_type: ElementType::I64, bounds: None });
        let fill = || {
            let value = vec![1, 0, 0, 0, 0, 0, 0, 0];
            Operator::ConstantOfShape(ConstantOfShape { dims: None, element_type: ElementType::I64, value })
        };
        let damaged = ConstantOfShape { dims: None, element_type: ElementType::I64, value: vec![1] };
        let bounds = Some(["A", "B", "C"].map(Expr::symbol));
        let symbolic = Operator::Range(Range { element_type: ElementType::I64, bounds });
        check(vec![
            (shape(0, None), &[Data("N 3")], Ok("I64 [2]")),
            (shape(-1, Some(i64::MAX)), &[Data("N 3")], Ok("I64 [1]")),
            (shape(5, Some(i64::MIN)), &[Data("N 3")], Ok("I64 [0]")),
            (Operator::Size, &[Data("N 3")], Ok("I64 []")),
            (range(), &[Scalar(0), Scalar(7), Scalar(2)], Ok("I64 [4]")),
            (range(), &[Scalar(7), Scalar(0), Scalar(-2)], Ok("I64 [4]")),
            (range(), &[Scalar(7), Scalar(0), Scalar(1)], Ok("I64 [0]")),
            (range(), &[Scalar(0), Scalar(7), Scalar(0)], Err("distance of elements is zero")),
            (range(), &[Scalar(0), Typed(ElementType::I64, ""), Scalar(1)], Ok("I64 [n0.y0.0]")),
            (range(), &[Scalar(i64::MIN), Scalar(i64::MAX), Scalar(1)], Ok("I64 [n0.y0.0]")),
            (range(), &[Scalar(0), Data(""), Scalar(1)], Err("expected I64")),
            (range(), &[Scalar(0)], Err("input 1 is missing")),
            (symbolic, &[], Ok("I64 [max(0, floor((-A + B - 1) / (C)) + 1)]")),
            (fill(), &[Vector(&[2, 3])], Ok("I64 [2, 3]")),
            (fill(), &[Vector(&[2, -3])], Err("would be -3")),
            (fill(), &[Typed(ElementType::I64, "1")], Ok("I64 [n0.y0.0]")),
            (fill(), &[Vector(&[i64::MAX, i64::MAX])], Ok("I64 [9223372036854775807, 9223372036854775807]")),
            (Operator::ConstantOfShape(damaged), &[Vector(&[2])], Err("the value")),
        ]);
    }
}
