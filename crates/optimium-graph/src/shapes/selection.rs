//! Rules of operators whose data decide how much they give.

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::arithmetic::{constant, normalize_axis, product};
use super::broadcast::shown;
use super::context::{Context, MAX_RANK};
use crate::ops::Unique;

/// How many axes input `index`, whose values are not known, names.
pub(super) fn axis_count(cx: &Context<'_>, index: usize) -> Result<usize> {
    let dims = cx.dims(index)?;
    let count = match dims.as_slice() {
        [] => Some(1),
        [count] => count.as_const(),
        _ => return Err(Error::model(format!("the axes have the shape {}", shown(&dims)))),
    };
    let count = count.ok_or_else(|| Error::not_implemented("the number of axes depends on data"))?;
    usize::try_from(count)
        .ok()
        .filter(|&count| count <= MAX_RANK)
        .ok_or_else(|| Error::model(format!("there are {count} axes")))
}

/// Input: x. Output: the indices of what is not zero; a scalar counts as a vector of one.
pub(super) fn non_zero(cx: &mut Context<'_>) -> Result<()> {
    let rank = cx.dims(0)?.len().max(1);
    cx.set_partial(0, ElementType::I64, vec![Some(rank.into()), None])
}

/// Input: x. Outputs: items, their first occurrences, the index of each item, how often each occurs.
pub(super) fn unique(op: &Unique, cx: &mut Context<'_>) -> Result<()> {
    let (dims, element_type) = (cx.dims(0)?, cx.element_type(0)?);
    let axis = op.axis.map(|axis| normalize_axis(axis, dims.len())).transpose()?;
    let (items, count) = match axis {
        Some(axis) => {
            let mut items: Vec<Option<Expr>> = dims.iter().cloned().map(Some).collect();
            items[axis] = None;
            (items, dims[axis].clone())
        }
        None => (vec![None], product(&dims)),
    };
    cx.set_partial(0, element_type, items)?;
    let distinct = cx.output(0).and_then(|value| Some(value.shape()?[axis.unwrap_or(0)].clone()));
    cx.set_partial(1, ElementType::I64, vec![distinct.clone()])?;
    cx.set(2, ElementType::I64, vec![count])?;
    cx.set_partial(3, ElementType::I64, vec![distinct])
}

/// Inputs: boxes, scores, most boxes or none, overlap or none, score or none.
pub(super) fn non_max_suppression(cx: &mut Context<'_>) -> Result<()> {
    for (index, element_type) in [(0, ElementType::F32), (1, ElementType::F32), (2, ElementType::I64)] {
        cx.expect_type(index, &[element_type])?;
    }
    let (boxes, scores) = (cx.dims_of_rank(0, 3)?, cx.dims_of_rank(1, 3)?);
    let differ = |a: &Expr, b: &Expr| matches!((a.as_const(), b.as_const()), (Some(a), Some(b)) if a != b);
    if differ(&boxes[0], &scores[0]) || differ(&boxes[1], &scores[2]) || differ(&boxes[2], &constant(4)) {
        return Err(Error::model(format!(
            "{} are not the scores of boxes {}",
            shown(&scores),
            shown(&boxes)
        )));
    }
    cx.set_partial(0, ElementType::I64, vec![None, Some(constant(3))])
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::NonMaxSuppression;
    use crate::shapes::testing::Input::{self, Data, Missing, Typed};
    use crate::shapes::testing::{expect, outcome};

    #[test]
    fn sizes_that_data_decide_are_symbols() {
        let unique = |axis| Operator::Unique(Unique { axis, sorted: true });
        let suppress = || Operator::NonMaxSuppression(NonMaxSuppression { center_point_box: false });
        const F32: ElementType = ElementType::F32;
        let cases: Vec<(Operator, &[Input], usize, Result<&str, &str>)> = vec![
            (Operator::NonZero, &[Data("N 3")], 1, Ok("I64 [2, n0.y0.1]")),
            (Operator::NonZero, &[Data("")], 1, Ok("I64 [1, n0.y0.1]")),
            (unique(None), &[Data("N 3")], 4, Ok("F32 [n0.y0.0]; I64 [n0.y0.0]; I64 [3*N]; I64 [n0.y0.0]")),
            (
                unique(Some(-1)),
                &[Data("N 3")],
                4,
                Ok("F32 [N, n0.y0.1]; I64 [n0.y0.1]; I64 [3]; I64 [n0.y0.1]"),
            ),
            (unique(Some(2)), &[Data("N 3")], 1, Err("axis 2")),
            (suppress(), &[Data("1 N 4"), Data("1 C N")], 1, Ok("I64 [n0.y0.0, 3]")),
            (suppress(), &[Data("1 N 5"), Data("1 C N")], 1, Err("not the scores")),
            (suppress(), &[Data("1 6 4"), Data("1 C 7")], 1, Err("not the scores")),
            (suppress(), &[Data("1 6 4"), Data("6")], 1, Err("3 dimensions")),
            (suppress(), &[Data("1 6 4"), Data("1 1 6"), Typed(F32, "")], 1, Err("expected I64")),
            (suppress(), &[Data("1 6 4"), Missing], 1, Err("missing")),
        ];
        each_case(cases, |(op, inputs, outputs, expected)| {
            expect(outcome(op.clone(), inputs, *outputs), *expected)
        });
    }
}
