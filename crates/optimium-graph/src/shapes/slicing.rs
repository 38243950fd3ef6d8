//! Rules of operators that cut tensors along axes and join them.

use optimium_tensor::{Error, Expr, Result};

use super::arithmetic::{
    constant, divide_up, is_non_negative, larger, normalize_axes, normalize_axis, smaller,
};
use super::broadcast::shown;
use super::context::Context;
use super::facts::SymbolicTensor;
use crate::ops::{Concat, Slice, SliceRange, Split};

/// Indices of at least this magnitude mean "to the end": exporters write the largest 32-bit or 64-bit number.
const BEYOND: i64 = i32::MAX as i64 - 1;

/// Inputs: one or more.
pub(super) fn concat(op: &Concat, cx: &mut Context<'_>) -> Result<()> {
    let inputs: Vec<usize> = (0..cx.input_count()).collect();
    cx.same_types(&inputs)?;
    let mut dims = cx.dims(0)?;
    let axis = normalize_axis(op.axis, dims.len())?;
    for &index in &inputs[1..] {
        join(&mut dims, &cx.dims(index)?, axis)?;
    }
    let scheme = cx.input(0)?.scheme.clone();
    let same = inputs.iter().all(|&index| cx.input(index).is_ok_and(|value| value.scheme == scheme));
    let element_type = if same { cx.element_type(0)? } else { cx.arithmetic_type(0)? };
    cx.set(0, element_type, dims)?;
    if same {
        cx.pass_scheme(0, 0, |from| (from != axis).then_some(from));
    }
    follow_concat(axis, &inputs, cx);
    Ok(())
}

/// Adds another part's dimensions to those of the parts before it.
fn join(dims: &mut [Expr], part: &[Expr], axis: usize) -> Result<()> {
    let fits = |i: usize| match (dims[i].as_const(), part[i].as_const()) {
        (Some(a), Some(b)) => a == b || i == axis,
        _ => true,
    };
    if dims.len() != part.len() || !(0..dims.len()).all(fits) {
        return Err(Error::model(format!(
            "{} and {} cannot be joined along axis {axis}",
            shown(dims),
            shown(part)
        )));
    }
    for (i, (dim, other)) in dims.iter_mut().zip(part).enumerate() {
        if i == axis {
            *dim = dim.clone() + other.clone();
        } else if other.as_const().is_some() {
            *dim = other.clone();
        }
    }
    Ok(())
}

fn follow_concat(axis: usize, inputs: &[usize], cx: &mut Context<'_>) {
    if !inputs.iter().any(|&index| cx.known(index).is_some()) {
        return;
    }
    let parts: Option<Vec<_>> = inputs.iter().map(|&index| cx.known_or_unknown(index)).collect();
    let Some(parts) = parts else { return };
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return };
    let joined = SymbolicTensor::from_fn(&dims, |at| {
        let mut at = at.to_vec();
        for part in &parts {
            let size = *part.dims().get(axis)?;
            if at[axis] < size {
                return part.get(&at);
            }
            at[axis] -= size;
        }
        None
    });
    cx.set_known(0, joined);
}

/// Inputs: x, sizes or none.
pub(super) fn split(op: &mut Split, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let axis = normalize_axis(op.axis, dims.len())?;
    let count = cx.output_count();
    let sizes: Vec<Option<Expr>> = match &op.sizes {
        Some(sizes) => sizes.iter().cloned().map(Some).collect(),
        None if cx.has(1) => cx.integers(1)?,
        None => equal_parts(&dims[axis], count)?.into_iter().map(Some).collect(),
    };
    if sizes.len() != count {
        return Err(Error::model(format!("{} sizes for {count} outputs", sizes.len())));
    }
    let total = sizes.iter().cloned().reduce(|a, b| Some(a? + b?)).flatten();
    if let (Some(total), Some(size)) = (total.and_then(|total| total.as_const()), dims[axis].as_const())
        && total != size
    {
        return Err(Error::model(format!("parts of {total} elements together, but axis {axis} has {size}")));
    }
    let mut start = Some(constant(0));
    for (index, size) in sizes.iter().enumerate() {
        let mut part: Vec<Option<Expr>> = dims.iter().cloned().map(Some).collect();
        part[axis] = size.clone();
        cx.set_partial(index, element_type, part)?;
        cx.pass_scheme(0, index, |from| (from != axis).then_some(from));
        follow_part(index, axis, start.as_ref(), cx);
        start = start.zip(size.clone()).map(|(start, size)| start + size);
    }
    if op.sizes.is_none() && cx.has(1) {
        op.sizes = sizes.into_iter().collect();
    }
    if op.sizes.is_some() {
        cx.drop_inputs_from(1);
    }
    Ok(())
}

/// Parts of one size, the last one taking what is left.
fn equal_parts(size: &Expr, count: usize) -> Result<Vec<Expr>> {
    let parts = i64::try_from(count).unwrap_or(i64::MAX);
    if parts == 0 {
        return Err(Error::model("there are no outputs"));
    }
    if (size.clone() % constant(parts)).as_const() == Some(0) {
        return Ok(vec![size.clone() / constant(parts); count]);
    }
    let part = divide_up(size.clone(), parts);
    let last = size.clone() - part.clone() * constant(parts - 1);
    Ok((1..count).map(|_| part.clone()).chain([last]).collect())
}

/// Follows the part of x that begins at a position of the axis.
fn follow_part(index: usize, axis: usize, start: Option<&Expr>, cx: &mut Context<'_>) {
    let (Some(known), Some(start)) = (cx.known(0), start.and_then(Expr::as_const)) else { return };
    let Some(dims) = cx.output(index).and_then(|value| value.shape()?.as_fixed()) else { return };
    let Ok(start) = usize::try_from(start) else { return };
    let part = SymbolicTensor::from_fn(&dims, |at| {
        let mut at = at.to_vec();
        at[axis] = at[axis].checked_add(start)?;
        known.get(&at)
    });
    cx.set_known(index, part);
}

/// Inputs: x, and starts, ends, axes or none, steps or none where the operator does not say the ranges.
pub(super) fn slice(op: &mut Slice, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let mut result: Vec<Option<Expr>> = dims.iter().cloned().map(Some).collect();
    if op.ranges.is_none() {
        let Some(partial) = partial_ranges(&dims, cx)? else {
            return cx.set_partial(0, element_type, vec![None; dims.len()]);
        };
        for (axis, range) in &partial {
            result[*axis] = range.as_ref().map(|range| range.count.clone());
        }
        op.ranges = partial.into_iter().map(|(_, range)| range).collect();
    }
    if let Some(ranges) = &op.ranges {
        for range in ranges {
            let size = result.get_mut(range.axis).ok_or_else(|| {
                Error::model(format!("the axis {} is outside of {}", range.axis, shown(&dims)))
            })?;
            *size = Some(range.count.clone());
        }
        cx.drop_inputs_from(1);
    }
    cx.set_partial(0, element_type, result)?;
    let sliced = |axis: usize| match &op.ranges {
        Some(ranges) => ranges.iter().any(|range| range.axis == axis),
        None => true,
    };
    cx.pass_scheme(0, 0, |axis| (!sliced(axis)).then_some(axis));
    if let Some(ranges) = &op.ranges {
        follow_slice(ranges, cx);
    }
    Ok(())
}

/// Axes with their ranges, `None` for those that depend on data.
type PartialRanges = Vec<(usize, Option<SliceRange>)>;

/// The ranges by axis; `None` where axes or steps depend on data.
fn partial_ranges(dims: &[Expr], cx: &mut Context<'_>) -> Result<Option<PartialRanges>> {
    let (starts, ends) = (cx.integers(1)?, cx.integers(2)?);
    let axes = match (cx.has(3), cx.constants(3)) {
        (true, None) => return Ok(None),
        (true, Some(axes)) => normalize_axes(&axes, dims.len())?,
        (false, _) => (0..starts.len()).collect(),
    };
    let steps = match (cx.has(4), cx.constants(4)) {
        (true, None) => return Ok(None),
        (true, Some(steps)) => steps,
        (false, _) => vec![1; starts.len()],
    };
    let lengths = [ends.len(), axes.len(), steps.len()];
    if lengths.iter().any(|&length| length != starts.len()) || axes.iter().any(|&axis| axis >= dims.len()) {
        return Err(Error::model(format!(
            "{} starts, {} ends, {} axes and {} steps for the shape {}",
            starts.len(),
            ends.len(),
            axes.len(),
            steps.len(),
            shown(dims)
        )));
    }
    if steps.contains(&0) {
        return Err(Error::model("a step is zero"));
    }
    let range = |i: usize| {
        let (start, end) = (starts[i].as_ref()?, ends[i].as_ref()?);
        slice_range(axes[i], &dims[axes[i]], start, end, steps[i])
    };
    Ok(Some((0..starts.len()).map(|i| (axes[i], range(i))).collect()))
}

/// Where an index lies on an axis.
enum Position {
    /// Before every element, or after every one.
    Before,
    After,
    At(Expr),
}

impl Position {
    /// An index that counts from the end where it is negative; `None` where its sign is not known.
    fn of(index: &Expr, size: &Expr) -> Option<Position> {
        match index.as_const() {
            Some(n) if n >= BEYOND && size.as_const().is_none() => Some(Position::After),
            Some(n) if n <= -BEYOND && size.as_const().is_none() => Some(Position::Before),
            _ if is_non_negative(index) => Some(Position::At(index.clone())),
            _ if is_non_negative(&(-index.clone() - constant(1))) => {
                Some(Position::At(size.clone() + index.clone()))
            }
            _ => None,
        }
    }

    /// The index, those before and after all elements being the given ones.
    fn or(self, before: Expr, after: Expr) -> Expr {
        match self {
            Position::Before => before,
            Position::After => after,
            Position::At(index) => index,
        }
    }
}

/// The normalized range, clamped as ONNX says.
fn slice_range(axis: usize, size: &Expr, start: &Expr, end: &Expr, step: i64) -> Option<SliceRange> {
    let zero = || constant(0);
    let stride = i64::try_from(step.unsigned_abs()).unwrap_or(i64::MAX);
    let (start, end) = (Position::of(start, size)?, Position::of(end, size)?);
    let (start, count) = if step > 0 {
        let start = start.or(zero(), size.clone());
        let end = smaller(end.or(zero(), size.clone()), size.clone());
        // `end - max(start, 0)`, in the form that keeps a constant length of the end of an axis.
        let length = smaller(end.clone(), end - start.clone());
        (smaller(larger(start, zero()), size.clone()), divide_up(length, stride))
    } else {
        let last = size.clone() - constant(1);
        let start = larger(smaller(start.or(zero(), last.clone()), last.clone()), zero());
        let end = larger(smaller(end.or(constant(-1), last.clone()), last), constant(-1));
        (start.clone(), divide_up(start - end, stride))
    };
    let count = larger(count, zero());
    let empty = size.as_const() == Some(0) || count.as_const() == Some(0);
    let (start, count) = if empty { (zero(), zero()) } else { (start, count) };
    Some(SliceRange { axis, start, count, step })
}

fn follow_slice(ranges: &[SliceRange], cx: &mut Context<'_>) {
    let Some(known) = cx.known(0) else { return };
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return };
    let sliced = SymbolicTensor::from_fn(&dims, |at| {
        let mut at = at.to_vec();
        for range in ranges {
            let steps = i64::try_from(at[range.axis]).ok()?.checked_mul(range.step)?;
            at[range.axis] = usize::try_from(range.start.as_const()?.checked_add(steps)?).ok()?;
        }
        known.get(&at)
    });
    cx.set_known(0, sliced);
}

#[cfg(test)]
mod tests {
    use optimium_tensor::ElementType;
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::shapes::testing::Input::{self, Data, Scalar, Typed, Vector};
    use crate::shapes::testing::{expect, infer_one, outcome};

    #[test]
    fn joining_and_splitting() {
        let concat = |axis| Operator::Concat(Concat { axis });
        let split = |axis| Operator::Split(Split { axis, sizes: None });
        let cases: Vec<(Operator, &[Input], usize, Result<&str, &str>)> = vec![
            (concat(1), &[Data("N 3"), Data("2 T")], 1, Ok("F32 [2, T + 3]")),
            (concat(-2), &[Data("P 4"), Data("T 4")], 1, Ok("F32 [P + T, 4]")),
            (concat(0), &[Data("2 3"), Data("2 4")], 1, Err("cannot be joined")),
            (concat(0), &[Data("2 3"), Data("2")], 1, Err("cannot be joined")),
            (concat(0), &[Data("2"), Scalar(1)], 1, Err("element type I64")),
            (concat(2), &[Data("2 3")], 1, Err("axis 2")),
            (concat(0), &[], 1, Err("missing")),
            (split(1), &[Data("N 6"), Vector(&[2, 4])], 2, Ok("F32 [N, 2]; F32 [N, 4]")),
            (split(1), &[Data("N 6")], 3, Ok("F32 [N, 2]; F32 [N, 2]; F32 [N, 2]")),
            (split(0), &[Data("7")], 2, Ok("F32 [4]; F32 [3]")),
            (split(0), &[Data("2")], 4, Err("would be -1")),
            (split(0), &[Data("6"), Vector(&[2, 3])], 2, Err("5 elements together")),
            (split(0), &[Data("6"), Vector(&[6])], 2, Err("1 sizes for 2")),
            (split(0), &[Data("6"), Vector(&[8, -2])], 2, Err("would be -2")),
            (split(0), &[Data("6"), Typed(ElementType::I64, "2")], 2, Ok("F32 [n0.y0.0]; F32 [n0.y1.0]")),
            (split(0), &[Data("6")], 0, Err("no outputs")),
        ];
        each_case(cases, |(op, inputs, outputs, expected)| {
            expect(outcome(op.clone(), inputs, *outputs), *expected)
        });
    }

    #[test]
    fn slices() {
        const MAX: i64 = i64::MAX;
        let cases: Vec<(&[Input], Result<&str, &str>)> = vec![
            (&[Data("N 9"), Vector(&[2]), Vector(&[7]), Vector(&[1])], Ok("F32 [N, 5]")),
            (&[Data("T"), Vector(&[1]), Vector(&[MAX])], Ok("F32 [T - 1]")),
            (&[Data("T"), Vector(&[0]), Vector(&[-1])], Ok("F32 [T - 1]")),
            (&[Data("T"), Vector(&[-1]), Vector(&[MAX])], Ok("F32 [1]")),
            (&[Data("T"), Vector(&[-5]), Vector(&[MAX])], Ok("F32 [min(5, T)]")),
            (&[Data("T"), Vector(&[0]), Vector(&[5])], Ok("F32 [min(5, T)]")),
            (
                &[Data("T"), Vector(&[0]), Vector(&[MAX]), Vector(&[0]), Vector(&[2])],
                Ok("F32 [floor((T + 1) / (2))]"),
            ),
            (&[Data("T"), Vector(&[-1]), Vector(&[-MAX]), Vector(&[0]), Vector(&[-1])], Ok("F32 [T]")),
            (&[Data("9"), Vector(&[-1]), Vector(&[-MAX]), Vector(&[0]), Vector(&[-2])], Ok("F32 [5]")),
            (&[Data("9"), Vector(&[7]), Vector(&[2])], Ok("F32 [0]")),
            (&[Data("9"), Vector(&[-20]), Vector(&[20])], Ok("F32 [9]")),
            (&[Data("0"), Vector(&[-1]), Vector(&[-9]), Vector(&[0]), Vector(&[-1])], Ok("F32 [0]")),
            (&[Data("9"), Vector(&[i64::MIN]), Vector(&[MAX]), Vector(&[0]), Vector(&[MAX])], Ok("F32 [1]")),
            (
                &[Data("9"), Vector(&[MAX]), Vector(&[i64::MIN]), Vector(&[0]), Vector(&[i64::MIN])],
                Ok("F32 [1]"),
            ),
            (&[Data("9"), Vector(&[0]), Vector(&[1]), Vector(&[0]), Vector(&[0])], Err("step is zero")),
            (&[Data("9"), Vector(&[0, 0]), Vector(&[1])], Err("2 starts, 1 ends")),
            (&[Data("9"), Vector(&[0, 0]), Vector(&[1, 1])], Err("2 starts")),
            (&[Data("9 9"), Vector(&[0, 0]), Vector(&[1, 1]), Vector(&[0, -2])], Err("named twice")),
            (&[Data("9"), Vector(&[0]), Typed(ElementType::I64, "1")], Ok("F32 [n0.y0.0]")),
            (
                &[Data("N 9"), Vector(&[0]), Vector(&[2]), Typed(ElementType::I64, "1")],
                Ok("F32 [n0.y0.0, n0.y0.1]"),
            ),
        ];
        let op = || Operator::Slice(Slice { ranges: None });
        each_case(cases, |(inputs, expected)| expect(outcome(op(), inputs, 1), *expected));
    }

    /// What NumPy takes for every start, end and step.
    #[test]
    fn constant_slices_are_those_of_a_naive_walk() {
        let mut cases = Vec::new();
        for size in 0..4i64 {
            for start in -5..5 {
                for end in -5..5 {
                    cases.extend([-2, -1, 1, 2].map(|step| (size, start, end, step)));
                }
            }
        }
        each_case(cases, |&(size, start, end, step)| {
            let range = slice_range(0, &constant(size), &constant(start), &constant(end), step).unwrap();
            let resolve = |n: i64, low, high| (if n < 0 { n + size } else { n }).max(low).min(high);
            let (mut at, stop) = match step > 0 {
                true => (resolve(start, 0, size), resolve(end, 0, size)),
                false => (resolve(start, 0, size.max(1) - 1), resolve(end, -1, size - 1)),
            };
            let mut walked = Vec::new();
            while size > 0 && (if step > 0 { at < stop } else { at > stop }) {
                walked.push(at);
                at += step;
            }
            let (first, count) = (range.start.as_const().unwrap(), range.count.as_const().unwrap());
            let taken: Vec<i64> = (0..count).map(|i| first + i * step).collect();
            if taken == walked { Ok(()) } else { Err(format!("{taken:?} instead of {walked:?}")) }
        });
    }

    #[test]
    fn ranges_move_into_the_operator() {
        let op = Operator::Slice(Slice { ranges: None });
        let graph = infer_one(op, &[Data("N 9"), Vector(&[-3]), Vector(&[20]), Vector(&[1])], 1).unwrap();
        let range = SliceRange { axis: 1, start: constant(6), count: constant(3), step: 1 };
        assert_eq!(graph.nodes()[0].op, Operator::Slice(Slice { ranges: Some(vec![range]) }));
        assert_eq!(graph.nodes()[0].inputs.len(), 1);
    }
}
