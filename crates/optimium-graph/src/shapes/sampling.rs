//! Rules of operators that read images between their pixels.

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::context::Context;
use crate::ops::{DeformableColumns, RoiAlign};

/// Inputs: x, grid.
pub(super) fn grid_sample(cx: &mut Context<'_>) -> Result<()> {
    let x = cx.dims(0)?;
    if !(3..=5).contains(&x.len()) {
        return Err(Error::model(format!("images of {} dimensions", x.len())));
    }
    let grid = cx.dims_of_rank(1, x.len())?;
    same(cx, 1, &grid[0], &x[0])?;
    same(cx, 1, &grid[x.len() - 1], &Expr::from(x.len() - 2))?;
    let element_type = cx.arithmetic_type(0)?;
    let dims = x[..2].iter().chain(&grid[1..x.len() - 1]).cloned().collect();
    cx.set(0, element_type, dims)
}

/// Inputs: x, regions, their images.
pub(super) fn roi_align(op: &RoiAlign, cx: &mut Context<'_>) -> Result<()> {
    let x = cx.dims_of_rank(0, 4)?;
    let regions = cx.dims_of_rank(1, 2)?;
    let images = cx.dims_of_rank(2, 1)?;
    cx.expect_type(2, &[ElementType::I64])?;
    same(cx, 1, &regions[1], &Expr::from(4usize))?;
    same(cx, 2, &images[0], &regions[0])?;
    if op.rows == 0 || op.columns == 0 {
        return Err(Error::model("regions of no bins"));
    }
    let element_type = cx.arithmetic_type(0)?;
    let dims = vec![regions[0].clone(), x[1].clone(), op.rows.into(), op.columns.into()];
    cx.set(0, element_type, dims)
}

/// Inputs: x, offsets, mask or none.
pub(super) fn deformable_columns(op: &DeformableColumns, cx: &mut Context<'_>) -> Result<()> {
    let x = cx.dims_of_rank(0, 4)?;
    let offsets = cx.dims_of_rank(1, 4)?;
    let taps = op.kernel[0].checked_mul(op.kernel[1]).filter(|&taps| taps > 0);
    let places = taps.and_then(|taps| taps.checked_mul(op.groups)).filter(|&places| places <= 1 << 40);
    let (Some(taps), Some(places)) = (taps, places) else {
        return Err(Error::model(format!("{:?} taps of {} groups", op.kernel, op.groups)));
    };
    let channels = x[1].as_const();
    if op.groups == 0 || channels.is_some_and(|channels| channels % op.groups as i64 != 0) {
        return Err(Error::model(format!("{} channels in {} groups", x[1], op.groups)));
    }
    same(cx, 1, &offsets[0], &x[0])?;
    same(cx, 1, &offsets[1], &Expr::from(2 * places))?;
    if cx.has(2) {
        let mask = cx.dims_of_rank(2, 4)?;
        let expected = [&x[0], &Expr::from(places), &offsets[2], &offsets[3]];
        for (found, expected) in mask.iter().zip(expected) {
            same(cx, 2, found, expected)?;
        }
    }
    let element_type = cx.arithmetic_type(0)?;
    let columns = offsets[2].clone() * offsets[3].clone();
    cx.set(0, element_type, vec![x[0].clone(), x[1].clone() * Expr::from(taps), columns])
}

/// Two sizes that are known have to be one.
fn same(cx: &Context<'_>, index: usize, found: &Expr, expected: &Expr) -> Result<()> {
    match (found.as_const(), expected.as_const()) {
        (Some(a), Some(b)) if a != b => {
            let name = &cx.input(index)?.name;
            Err(Error::model(format!("the input {name:?} has the size {a} where {b} is expected")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::{GridSample, SampleMode, SamplePadding};
    use crate::shapes::testing::Input::{self, Data, Typed};
    use crate::shapes::testing::{expect, outcome};

    #[test]
    fn shapes() {
        let (mode, padding) = (SampleMode::Linear, SamplePadding::Zeros);
        let grid = || Operator::GridSample(GridSample { mode, padding, align_corners: false });
        let roi = |rows| {
            let (max, half_pixel) = (false, true);
            Operator::RoiAlign(RoiAlign { max, half_pixel, rows, columns: 7, samples: 0, scale: 1.0 })
        };
        let columns = |groups| {
            let (kernel, one) = ([3, 3], [1, 1]);
            let op = DeformableColumns { kernel, strides: one, dilations: one, padding: [0, 0], groups };
            Operator::DeformableColumns(op)
        };
        let images = |shape| Typed(ElementType::I64, shape);
        type Case = (Operator, Vec<Input>, Result<&'static str, &'static str>);
        let cases: Vec<Case> = vec![
            (grid(), vec![Data("N 3 H W"), Data("N 5 6 2")], Ok("F32 [N, 3, 5, 6]")),
            (grid(), vec![Data("2 3 4 5 6"), Data("2 7 8 9 3")], Ok("F32 [2, 3, 7, 8, 9]")),
            (grid(), vec![Data("N 3 H W"), Data("N 5 6 3")], Err("has the size 3")),
            (grid(), vec![Data("2 3 H W"), Data("3 5 6 2")], Err("has the size 3")),
            (grid(), vec![Data("2 3"), Data("3 5")], Err("images of 2")),
            (roi(7), vec![Data("2 8 H W"), Data("R 4"), images("R")], Ok("F32 [R, 8, 7, 7]")),
            (roi(7), vec![Data("2 8 H W"), Data("5 4"), images("4")], Err("has the size 4")),
            (roi(0), vec![Data("2 8 H W"), Data("5 4"), images("5")], Err("no bins")),
            (columns(2), vec![Data("1 6 9 9"), Data("1 36 7 7")], Ok("F32 [1, 54, 49]")),
            (columns(2), vec![Data("1 6 9 9"), Data("1 36 7 7"), Data("1 18 7 6")], Err("has the size 6")),
            (columns(4), vec![Data("1 6 9 9"), Data("1 72 7 7")], Err("in 4 groups")),
            (columns(0), vec![Data("1 6 9 9"), Data("1 72 7 7")], Err("in 0 groups")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }
}
