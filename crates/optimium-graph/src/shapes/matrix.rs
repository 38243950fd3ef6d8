//! Rules of matrix products.

use std::collections::BTreeMap;

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::arithmetic::product;
use super::broadcast::{broadcast, broadcast_dim, check_broadcasts_to, shown};
use super::context::Context;
use crate::ops::{Einsum, Gemm, MatMul};

const EIGHT_BITS: [ElementType; 4] = [ElementType::I8, ElementType::U8, ElementType::QS8, ElementType::QU8];

/// Inputs: a, b, bias or none, residual or none, slope or none.
pub(super) fn matmul(op: &MatMul, cx: &mut Context<'_>) -> Result<()> {
    let dims = product_dims(op.transpose_a, op.transpose_b, cx)?;
    if !cx.element_type(0)?.is_quantized() {
        cx.same_types(&[0, 1, 2, 3, 4])?;
    }
    check_fused([2, 3, 4], &dims, cx)?;
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims)
}

/// Inputs: a, b, zero points or none. Output: I32.
pub(super) fn matmul_integer(cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &EIGHT_BITS)?;
    cx.expect_type(1, &EIGHT_BITS)?;
    let dims = product_dims(false, false, cx)?;
    cx.set(0, ElementType::I32, dims)
}

/// Inputs: a, b, b scale, b zero point or none, bias or none, residual or none, slope or none. Output: F32.
pub(super) fn dynamic_quantized_matmul(cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::F32])?;
    cx.expect_type(1, &EIGHT_BITS)?;
    let dims = product_dims(false, false, cx)?;
    check_fused([4, 5, 6], &dims, cx)?;
    cx.set(0, ElementType::F32, dims)
}

/// Bias and slope have one element a column, the residual the output's shape: `inputs` are bias, residual and slope.
pub(super) fn check_fused(inputs: [usize; 3], dims: &[Expr], cx: &Context<'_>) -> Result<()> {
    let [bias, residual, slope] = inputs;
    for index in [bias, slope].into_iter().filter(|&index| cx.has(index)) {
        let columns = dims.last().map_or(&[][..], std::slice::from_ref);
        check_broadcasts_to(&[product(&cx.dims(index)?)], columns)?;
    }
    if cx.has(residual) {
        check_broadcasts_to(&cx.dims(residual)?, dims)?;
    }
    Ok(())
}

/// As NumPy's matmul: a vector is a row or a column that the result does not have.
fn product_dims(transpose_a: bool, transpose_b: bool, cx: &Context<'_>) -> Result<Vec<Expr>> {
    let (mut a, mut b) = (cx.dims(0)?, cx.dims(1)?);
    let mismatch = || Error::model(format!("{} and {} cannot be multiplied", shown(&a), shown(&b)));
    if a.is_empty() || b.is_empty() {
        return Err(mismatch());
    }
    for (dims, transposed) in [(&mut a, transpose_a), (&mut b, transpose_b)] {
        if let (true, [.., rows, columns]) = (transposed, dims.as_mut_slice()) {
            std::mem::swap(rows, columns);
        }
    }
    let mismatch = || Error::model(format!("{} and {} cannot be multiplied", shown(&a), shown(&b)));
    let depth_of_b = &b[b.len().saturating_sub(2)];
    if let (Some(x), Some(y)) = (a[a.len() - 1].as_const(), depth_of_b.as_const())
        && x != y
    {
        return Err(mismatch());
    }
    let batch = |dims: &[Expr]| dims[..dims.len().saturating_sub(2)].to_vec();
    let mut dims = broadcast(&batch(&a), &batch(&b)).map_err(|_| mismatch())?;
    if let [.., rows, _] = a.as_slice() {
        dims.push(rows.clone());
    }
    if let [.., _, columns] = b.as_slice() {
        dims.push(columns.clone());
    }
    Ok(dims)
}

/// Inputs: a, b, c or none.
pub(super) fn gemm(op: &Gemm, cx: &mut Context<'_>) -> Result<()> {
    cx.dims_of_rank(0, 2)?;
    cx.dims_of_rank(1, 2)?;
    if !cx.element_type(0)?.is_quantized() {
        cx.same_types(&[0, 1, 2])?;
    }
    let dims = product_dims(op.transpose_a, op.transpose_b, cx)?;
    if cx.has(2) {
        check_broadcasts_to(&cx.dims(2)?, &dims)?;
    }
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims)
}

/// Any number of inputs.
pub(super) fn einsum(op: &Einsum, cx: &mut Context<'_>) -> Result<()> {
    let indices: Vec<usize> = (0..cx.input_count()).collect();
    cx.same_types(&indices)?;
    let equation: String = op.equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    let wrong = || Error::model(format!("the equation {:?} does not fit the inputs", op.equation));
    if terms.len() != cx.input_count() {
        return Err(wrong());
    }
    let mut labels = Labels::default();
    for (index, term) in terms.iter().enumerate() {
        labels.read(term, &cx.dims(index)?).ok_or_else(wrong)?;
    }
    let dims = match right {
        Some(term) => labels.output(term),
        None => labels.output(&labels.implicit_output(left)),
    };
    let element_type = cx.arithmetic_type(0)?;
    cx.set(0, element_type, dims.ok_or_else(wrong)?)
}

/// The sizes that an equation's labels stand for.
#[derive(Default)]
struct Labels {
    sizes: BTreeMap<char, Expr>,
    /// Those of the ellipsis.
    others: Vec<Expr>,
}

impl Labels {
    /// Matches one operand's term with its dimensions.
    fn read(&mut self, term: &str, dims: &[Expr]) -> Option<()> {
        let (before, after) = match term.split_once("...") {
            Some((before, after)) => (before, Some(after)),
            None => (term, None),
        };
        let (first, last) = (before.chars().count(), after.map_or(0, |after| after.chars().count()));
        let middle = dims.len().checked_sub(first + last)?;
        if after.is_none() && middle > 0 {
            return None;
        }
        let labels = before.chars().chain(after.unwrap_or("").chars());
        for (label, size) in labels.zip(dims[..first].iter().chain(&dims[first + middle..])) {
            if !label.is_ascii_alphabetic() {
                return None;
            }
            let merged = match self.sizes.get(&label) {
                Some(other) => broadcast_dim(other, size)?,
                None => size.clone(),
            };
            self.sizes.insert(label, merged);
        }
        self.others = broadcast(&self.others, &dims[first..first + middle]).ok()?;
        Some(())
    }

    /// The ellipsis, and every label that occurs once, in alphabetic order.
    fn implicit_output(&self, left: &str) -> String {
        let once = self.sizes.keys().filter(|&&label| left.chars().filter(|&c| c == label).count() == 1);
        let ellipsis = if left.contains("...") { "..." } else { "" };
        ellipsis.chars().chain(once.copied()).collect()
    }

    /// The dimensions of the output's term.
    fn output(&self, term: &str) -> Option<Vec<Expr>> {
        let sizes = |labels: &str| -> Option<Vec<Expr>> {
            labels.chars().map(|label| self.sizes.get(&label).cloned()).collect()
        };
        match term.split_once("...") {
            Some((before, after)) => Some([sizes(before)?, self.others.clone(), sizes(after)?].concat()),
            None => sizes(term),
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::{DynamicQuantizedMatMul, Fusion, MatMulInteger};
    use crate::shapes::testing::Input::{self, Data, Missing, Typed};
    use crate::shapes::testing::{expect, outcome};

    type Case = (Operator, &'static [Input], Result<&'static str, &'static str>);

    fn check(cases: Vec<Case>) {
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }

    #[test]
    fn products() {
        let of = |transpose_a, transpose_b| {
            Operator::MatMul(MatMul { transpose_a, transpose_b, alpha: 1.0, fusion: Fusion::default() })
        };
        let plain = || of(false, false);
        let dynamic = Operator::DynamicQuantizedMatMul(DynamicQuantizedMatMul { fusion: Fusion::default() });
        check(vec![
            (plain(), &[Data("N T 4"), Data("4 5")], Ok("F32 [N, T, 5]")),
            (plain(), &[Data("2 1 3 4"), Data("N 4 5")], Ok("F32 [2, N, 3, 5]")),
            (plain(), &[Data("4"), Data("4 5")], Ok("F32 [5]")),
            (plain(), &[Data("3 4"), Data("4")], Ok("F32 [3]")),
            (plain(), &[Data("4"), Data("4")], Ok("F32 []")),
            (of(false, true), &[Data("3 4"), Data("5 4")], Ok("F32 [3, 5]")),
            (of(true, false), &[Data("4 3"), Data("4 5")], Ok("F32 [3, 5]")),
            (plain(), &[Data("3 4"), Data("5 6")], Err("[3, 4] and [5, 6] cannot be multiplied")),
            (plain(), &[Data(""), Data("5 6")], Err("cannot be multiplied")),
            (plain(), &[Data("3 4"), Data("4 5"), Data("5"), Data("3 5")], Ok("F32 [3, 5]")),
            (plain(), &[Data("3 4"), Data("4 5"), Data("6")], Err("cannot be broadcast")),
            (plain(), &[Data("3 4"), Data("4 5"), Missing, Data("7 3 5")], Err("cannot be broadcast")),
            (
                Operator::MatMulInteger(MatMulInteger {}),
                &[Typed(ElementType::U8, "N 4"), Typed(ElementType::I8, "4 5")],
                Ok("I32 [N, 5]"),
            ),
            (Operator::MatMulInteger(MatMulInteger {}), &[Data("N 4"), Data("4 5")], Err("expected I8")),
            (dynamic, &[Data("N 4"), Typed(ElementType::I8, "4 5"), Data("5")], Ok("F32 [N, 5]")),
        ]);
    }

    #[test]
    fn gemms() {
        let of = |transpose_a, transpose_b| {
            Operator::Gemm(Gemm { transpose_a, transpose_b, alpha: 1.0, beta: 1.0 })
        };
        check(vec![
            (of(false, true), &[Data("N 4"), Data("5 4"), Data("5")], Ok("F32 [N, 5]")),
            (of(true, false), &[Data("4 N"), Data("4 5"), Data("")], Ok("F32 [N, 5]")),
            (of(false, false), &[Data("2 3 4"), Data("4 5")], Err("expected 2 dimensions")),
            (of(false, false), &[Data("3 4"), Data("4 5"), Data("4")], Err("cannot be broadcast")),
        ]);
    }

    #[test]
    fn equations() {
        let of = |equation: &str| Operator::Einsum(Einsum { equation: equation.to_owned() });
        check(vec![
            (of("bhid, bhjd -> bhij"), &[Data("N 8 T 64"), Data("N 8 S 64")], Ok("F32 [N, 8, T, S]")),
            (of("ij,jk"), &[Data("2 3"), Data("3 4")], Ok("F32 [2, 4]")),
            (of("...ij,...jk->...ik"), &[Data("N 2 3"), Data("5 1 3 4")], Ok("F32 [5, N, 2, 4]")),
            (of("...i->..."), &[Data("N 3")], Ok("F32 [N]")),
            (of("ii->i"), &[Data("3 3")], Ok("F32 [3]")),
            (of("ij,jk->ik"), &[Data("2 3"), Data("4 4")], Err("does not fit")),
            (of("ij->ik"), &[Data("2 3")], Err("does not fit")),
            (of("i1->i"), &[Data("2 3")], Err("does not fit")),
            (of(""), &[Data("2 3")], Err("does not fit")),
        ]);
    }
}
