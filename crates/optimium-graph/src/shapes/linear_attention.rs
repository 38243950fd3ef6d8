//! The rule of linear attention.

use optimium_tensor::{Error, Expr, Result};

use super::context::Context;
use crate::ops::LinearAttention;

/// Inputs: q, k, v, past or none, decays or none, rates or none. Outputs: y, state.
pub(super) fn linear_attention(op: &LinearAttention, cx: &mut Context<'_>) -> Result<()> {
    if op.heads == 0 || op.query_heads == 0 || !op.query_heads.is_multiple_of(op.heads) {
        return Err(Error::model(format!("{} heads of queries of {} heads", op.query_heads, op.heads)));
    }
    let q = cx.dims_of_rank(0, 3)?;
    let (keys, values) = (size(cx, 1, op.heads)?, size(cx, 2, op.heads)?);
    if size(cx, 0, op.query_heads)? != keys {
        return Err(Error::model(format!("queries {} and keys of {keys} elements a head", q[2])));
    }
    let state = vec![q[0].clone(), op.heads.into(), keys.clone(), values.clone()];
    for index in [1, 2] {
        fits(cx, index, &q[..2])?;
    }
    if cx.has(3) {
        fits(cx, 3, &state)?;
    }
    let per_head = [Expr::from(op.heads), Expr::from(1usize), keys * Expr::from(op.heads)];
    for (index, allowed) in [(4, [0, 2]), (5, [0, 1])] {
        if cx.has(index) {
            let dims = cx.dims_of_rank(index, 3)?;
            fits(cx, index, &q[..2])?;
            let last = dims[2].as_const();
            if !allowed
                .iter()
                .any(|&i| last.is_none() || per_head[i].as_const().is_none_or(|n| last == Some(n)))
            {
                return Err(Error::model(format!(
                    "the input {:?} has {} columns",
                    cx.input(index)?.name,
                    dims[2]
                )));
            }
        }
    }
    let element_type = cx.arithmetic_type(0)?;
    let state_type = if cx.has(3) { cx.element_type(3)? } else { element_type };
    let width = values * Expr::from(op.query_heads);
    cx.set(0, element_type, vec![q[0].clone(), q[1].clone(), width])?;
    cx.set(1, state_type, state)
}

/// Elements of a head of input `index`.
fn size(cx: &Context<'_>, index: usize, heads: usize) -> Result<Expr> {
    let all = &cx.dims_of_rank(index, 3)?[2];
    match all.as_const() {
        Some(all) if all % heads as i64 == 0 => Ok((all / heads as i64).into()),
        Some(all) => Err(Error::model(format!("{heads} heads of {all} elements"))),
        None => Err(Error::not_implemented(format!("heads of {all} elements, which is not known"))),
    }
}

/// The first dimensions of input `index` are those, where both are known.
fn fits(cx: &Context<'_>, index: usize, expected: &[Expr]) -> Result<()> {
    let dims = cx.dims(index)?;
    let differs = |(a, b): (&Expr, &Expr)| a.as_const().zip(b.as_const()).is_some_and(|(a, b)| a != b);
    if dims.len() < expected.len() || dims.iter().zip(expected).any(differs) {
        let name = &cx.input(index)?.name;
        return Err(Error::model(format!("the input {name:?} does not fit the queries")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::shapes::testing::Input::{self, Data, Missing};
    use crate::shapes::testing::{expect, outcome};

    #[test]
    fn shapes() {
        let op = |query_heads, heads| {
            Operator::LinearAttention(LinearAttention { query_heads, heads, scale: None })
        };
        let tensors = || vec![Data("b t 64"), Data("b t 32"), Data("b t 24")];
        let with = |more: &[Input]| tensors().into_iter().chain(more.iter().cloned()).collect::<Vec<_>>();
        let y = "F32 [b, t, 48]; F32 [b, 4, 8, 6]";
        let cases: Vec<(Operator, Vec<Input>, Result<&str, &str>)> = vec![
            (op(8, 4), tensors(), Ok(y)),
            (op(8, 4), with(&[Data("b 4 8 6"), Data("b t 4"), Data("b t 1")]), Ok(y)),
            (op(8, 4), with(&[Missing, Data("b t 32"), Data("b t 4")]), Ok(y)),
            (op(8, 4), with(&[Missing, Data("b t 8")]), Err("8 columns")),
            (op(8, 4), with(&[Data("b 4 8 7")]), Err("does not fit")),
            (op(8, 3), tensors(), Err("8 heads")),
            (op(8, 0), tensors(), Err("of 0 heads")),
            (op(4, 4), tensors(), Err("elements a head")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 2), *expected));
    }
}
