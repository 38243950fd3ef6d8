//! Rules of operators that pick and rearrange elements by index.

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::arithmetic::normalize_axis;
use super::broadcast::{check_broadcasts_to, shown};
use super::context::Context;
use super::facts::SymbolicTensor;
use crate::ops::{Gather, GatherElements, GatherNd, OneHot, ReverseSequence, ScatterElements, TopK, Trilu};

const INDICES: [ElementType; 2] = [ElementType::I32, ElementType::I64];

/// Inputs: x, indices.
pub(super) fn gather(op: &Gather, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(1, &INDICES)?;
    let (dims, indices, element_type) = (cx.dims(0)?, cx.dims(1)?, cx.element_type(0)?);
    let axis = normalize_axis(op.axis, dims.len())?;
    check_indices(&dims[axis], cx)?;
    cx.set(0, element_type, [&dims[..axis], &indices, &dims[axis + 1..]].concat())?;
    let added = indices.len();
    cx.pass_scheme(0, 0, |from| match from {
        _ if from < axis => Some(from),
        _ if from == axis => None,
        _ => (from + added).checked_sub(1),
    });
    follow_gather(axis, added, cx);
    Ok(())
}

/// Constant indices must lie inside of an axis of constant size.
fn check_indices(size: &Expr, cx: &mut Context<'_>) -> Result<()> {
    let (Some(size), Some(indices)) = (size.as_const(), cx.constants(1)) else { return Ok(()) };
    match indices.iter().find(|&&index| index >= size || index < -size) {
        Some(index) => {
            Err(Error::model(format!("the index {index} is outside of an axis of {size} elements")))
        }
        None => Ok(()),
    }
}

fn follow_gather(axis: usize, index_rank: usize, cx: &mut Context<'_>) {
    let (Some(known), Some(indices)) = (cx.known(0), cx.known(1)) else { return };
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return };
    let picked = SymbolicTensor::from_fn(&dims, |at| {
        let index = indices.get(&at[axis..axis + index_rank])?.as_const()?;
        let position = normalize_axis(index, known.dims()[axis]).ok()?;
        known.get(&[&at[..axis], &[position], &at[axis + index_rank..]].concat())
    });
    cx.set_known(0, picked);
}

/// Inputs: x, indices of the same rank.
pub(super) fn gather_elements(op: &GatherElements, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(1, &INDICES)?;
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let indices = cx.dims_of_rank(1, dims.len())?;
    normalize_axis(op.axis, dims.len())?;
    cx.set(0, element_type, indices)?;
    cx.pass_scheme(0, 0, |_| None);
    Ok(())
}

/// Inputs: x, indices whose last dimension addresses leading axes of x.
pub(super) fn gather_nd(op: &GatherNd, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(1, &[ElementType::I64, ElementType::I32])?;
    let (dims, indices, element_type) = (cx.dims(0)?, cx.dims(1)?, cx.element_type(0)?);
    let addressed = addressed_axes(&dims, &indices, op.batch_dims)?;
    let picked = &dims[op.batch_dims + addressed..];
    cx.set(0, element_type, [&indices[..indices.len() - 1], picked].concat())?;
    cx.pass_scheme(0, 0, |_| None);
    Ok(())
}

/// How many axes after those of the batch the indices address.
fn addressed_axes(dims: &[Expr], indices: &[Expr], batch_dims: usize) -> Result<usize> {
    let wrong = || {
        Error::model(format!(
            "indices of shape {} with {batch_dims} batch dimensions do not address {}",
            shown(indices),
            shown(dims)
        ))
    };
    let Some(last) = indices.last() else { return Err(wrong()) };
    let addressed = last
        .as_const()
        .ok_or_else(|| Error::not_implemented("the number of addressed axes depends on data"))?;
    let addressed = usize::try_from(addressed).map_err(|_| wrong())?;
    let needed = batch_dims.checked_add(addressed).ok_or_else(wrong)?;
    if needed > dims.len() || batch_dims >= indices.len() {
        return Err(wrong());
    }
    Ok(addressed)
}

/// Inputs: x, indices, updates shaped as the indices.
pub(super) fn scatter_elements(op: &ScatterElements, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(1, &INDICES)?;
    cx.same_types(&[0, 2])?;
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let indices = cx.dims_of_rank(1, dims.len())?;
    normalize_axis(op.axis, dims.len())?;
    check_updates(&cx.dims(2)?, &indices)?;
    cx.set(0, element_type, dims)?;
    cx.pass_scheme(0, 0, |_| None);
    Ok(())
}

fn check_updates(updates: &[Expr], expected: &[Expr]) -> Result<()> {
    if shown(updates).is_compatible(&shown(expected)) {
        return Ok(());
    }
    Err(Error::model(format!("updates of shape {}, expected {}", shown(updates), shown(expected))))
}

/// Inputs: x, indices, updates.
pub(super) fn scatter_nd(cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(1, &[ElementType::I64, ElementType::I32])?;
    cx.same_types(&[0, 2])?;
    let (dims, indices, element_type) = (cx.dims(0)?, cx.dims(1)?, cx.element_type(0)?);
    let addressed = addressed_axes(&dims, &indices, 0)?;
    check_updates(&cx.dims(2)?, &[&indices[..indices.len() - 1], &dims[addressed..]].concat())?;
    cx.set(0, element_type, dims)?;
    cx.pass_scheme(0, 0, |_| None);
    Ok(())
}

/// Inputs: indices, depth, values.
pub(super) fn one_hot(op: &mut OneHot, cx: &mut Context<'_>) -> Result<()> {
    let (mut dims, element_type) = (cx.dims(0)?, cx.element_type(2)?);
    let axis = normalize_axis(op.axis, dims.len() + 1)?;
    if op.depth.is_none() {
        op.depth = match cx.known(1).map(|known| known.integers()).as_deref() {
            Some([single]) => single.clone(),
            _ => None,
        };
    }
    let depth = op.depth.clone();
    if depth.as_ref().is_some_and(|depth| depth.as_const().is_some_and(|n| n <= 0)) {
        return Err(Error::model(format!("the depth is {}", depth.unwrap_or_else(|| 0i64.into()))));
    }
    let mut dims: Vec<Option<Expr>> = dims.drain(..).map(Some).collect();
    dims.insert(axis, depth);
    cx.set_partial(0, element_type, dims)
}

/// Inputs: x, k where the operator does not say it. Outputs: values, indices.
pub(super) fn top_k(op: &mut TopK, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let axis = normalize_axis(op.axis, dims.len())?;
    if op.k.is_none() {
        op.k = match cx.integers(1)?.as_slice() {
            [single] => single.clone(),
            _ => return Err(Error::model("k must be one number")),
        };
    }
    if op.k.is_some() {
        cx.drop_inputs_from(1);
    }
    if let Some(k) = op.k.as_ref().and_then(Expr::as_const)
        && (k < 0 || dims[axis].as_const().is_some_and(|size| k > size))
    {
        return Err(Error::model(format!("{k} of {} elements are wanted", dims[axis])));
    }
    let mut dims: Vec<Option<Expr>> = dims.into_iter().map(Some).collect();
    dims[axis] = op.k.clone();
    cx.set_partial(0, element_type, dims.clone())?;
    cx.pass_scheme(0, 0, |from| (from != axis).then_some(from));
    // Where the size is not known, both outputs have the one symbol of the first.
    if op.k.is_none() {
        dims[axis] = cx.output(0).and_then(|value| Some(value.shape()?[axis].clone()));
    }
    cx.set_partial(1, ElementType::I64, dims)
}

/// Inputs: x, k or none.
pub(super) fn trilu(op: &mut Trilu, cx: &mut Context<'_>) -> Result<()> {
    if cx.dims(0)?.len() < 2 {
        return Err(Error::model(format!("{} is not the shape of matrices", shown(&cx.dims(0)?))));
    }
    if op.k.is_none() && cx.has(1) {
        op.k = cx.constant(1);
    } else if op.k.is_none() {
        op.k = Some(0);
    }
    if op.k.is_some() {
        cx.drop_inputs_from(1);
    }
    cx.set_as(0, 0)?;
    cx.pass_scheme(0, 0, Some);
    Ok(())
}

/// Inputs: x, lengths.
pub(super) fn reverse_sequence(op: &ReverseSequence, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    if op.batch_axis == op.time_axis || op.batch_axis.max(op.time_axis) >= dims.len() {
        return Err(Error::model(format!(
            "{} has no axes {} and {} of batch and time",
            shown(&dims),
            op.batch_axis,
            op.time_axis
        )));
    }
    let lengths = cx.dims_of_rank(1, 1)?;
    check_broadcasts_to(&lengths, std::slice::from_ref(&dims[op.batch_axis]))?;
    cx.set_as(0, 0)?;
    cx.pass_scheme(0, 0, |axis| (axis != op.time_axis).then_some(axis));
    Ok(())
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::{ScatterNd, ScatterReduction};
    use crate::shapes::testing::Input::{self, Data, Floats, Missing, Scalar, Typed, Vector};
    use crate::shapes::testing::{expect, outcome};

    type Case = (Operator, &'static [Input], usize, Result<&'static str, &'static str>);

    fn check(cases: Vec<Case>) {
        each_case(cases, |(op, inputs, outputs, expected)| {
            expect(outcome(op.clone(), inputs, *outputs), *expected)
        });
    }

    #[test]
    fn gathering_and_scattering() {
        const I64: ElementType = ElementType::I64;
        let gather = |axis| Operator::Gather(Gather { axis });
        let elements = Operator::GatherElements(GatherElements { axis: -1 });
        let nd = |batch_dims| Operator::GatherNd(GatherNd { batch_dims });
        let reduction = ScatterReduction::None;
        let scatter = || Operator::ScatterElements(ScatterElements { axis: 0, reduction });
        let scatter_nd = || Operator::ScatterNd(ScatterNd { reduction });
        check(vec![
            (gather(0), &[Data("1000 64"), Typed(I64, "N T")], 1, Ok("F32 [N, T, 64]")),
            (gather(-1), &[Data("N 3"), Scalar(-1)], 1, Ok("F32 [N]")),
            (gather(1), &[Data("N 3"), Scalar(3)], 1, Err("index 3")),
            (gather(1), &[Data("N 3"), Scalar(i64::MIN)], 1, Err("index -9223372036854775808")),
            (gather(2), &[Data("N 3"), Scalar(0)], 1, Err("axis 2")),
            (gather(0), &[Data("N 3"), Data("2")], 1, Err("expected I32 or I64")),
            (elements.clone(), &[Data("N 3"), Typed(I64, "N 2")], 1, Ok("F32 [N, 2]")),
            (elements, &[Data("N 3"), Typed(I64, "2")], 1, Err("expected 2 dimensions")),
            (nd(0), &[Data("2 3 4"), Typed(I64, "N 2")], 1, Ok("F32 [N, 4]")),
            (nd(1), &[Data("2 3 4"), Typed(I64, "2 1")], 1, Ok("F32 [2, 4]")),
            (nd(0), &[Data("2 3"), Typed(I64, "N 3")], 1, Err("do not address")),
            (nd(usize::MAX), &[Data("2 3"), Typed(I64, "N 3")], 1, Err("do not address")),
            (nd(0), &[Data("2 3"), Typed(I64, "N K")], 1, Err("depends on data")),
            (scatter(), &[Data("N 3"), Typed(I64, "2 3"), Data("2 3")], 1, Ok("F32 [N, 3]")),
            (scatter(), &[Data("N 3"), Typed(I64, "2 3"), Data("2 4")], 1, Err("updates of shape")),
            (scatter_nd(), &[Data("N 3"), Typed(I64, "5 1"), Data("5 3")], 1, Ok("F32 [N, 3]")),
            (scatter_nd(), &[Data("N 3"), Typed(I64, "5 1"), Data("5 4")], 1, Err("updates of shape")),
            (scatter_nd(), &[Data("N 3"), Typed(I64, ""), Data("5 4")], 1, Err("do not address")),
        ]);
    }

    #[test]
    fn selections() {
        const I64: ElementType = ElementType::I64;
        let one_hot = |axis| Operator::OneHot(OneHot { axis, depth: None });
        let top_k = |axis| Operator::TopK(TopK { axis, largest: true, sorted: true, k: None });
        let trilu = || Operator::Trilu(Trilu { upper: true, k: None });
        let reverse =
            |batch_axis, time_axis| Operator::ReverseSequence(ReverseSequence { batch_axis, time_axis });
        check(vec![
            (one_hot(-1), &[Typed(I64, "N"), Scalar(5), Floats(&[0.0, 1.0])], 1, Ok("F32 [N, 5]")),
            (one_hot(0), &[Typed(I64, "N"), Typed(I64, ""), Data("2")], 1, Ok("F32 [n0.y0.0, N]")),
            (one_hot(0), &[Typed(I64, "N"), Scalar(-5), Data("2")], 1, Err("depth is -5")),
            (top_k(-1), &[Data("N 10"), Vector(&[3])], 2, Ok("F32 [N, 3]; I64 [N, 3]")),
            (top_k(-1), &[Data("N 10"), Typed(I64, "1")], 2, Ok("F32 [N, n0.y0.1]; I64 [N, n0.y0.1]")),
            (top_k(-1), &[Data("N 10"), Vector(&[11])], 2, Err("11 of 10")),
            (top_k(-1), &[Data("N 10"), Vector(&[1, 1])], 2, Err("one number")),
            (trilu(), &[Data("N 3 3"), Scalar(1)], 1, Ok("F32 [N, 3, 3]")),
            (trilu(), &[Data("N")], 1, Err("not the shape of matrices")),
            (reverse(1, 0), &[Data("T N 3"), Typed(I64, "N")], 1, Ok("F32 [T, N, 3]")),
            (reverse(0, 3), &[Data("T N 3"), Typed(I64, "N")], 1, Err("no axes")),
            (reverse(0, 1), &[Data("2 N"), Missing], 1, Err("input 1 is missing")),
        ]);
    }
}
