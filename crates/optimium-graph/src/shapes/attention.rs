//! Rules of attention and of rotary embeddings.

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::arithmetic::constant;
use super::broadcast::{check_broadcasts_to, shown};
use super::context::Context;
use crate::ops::{Attention, RotaryEmbedding};

/// Inputs: q, k, v, mask or none, past k or none, past v or none, numbers of keys that count or none.
/// Outputs: y, present k, present v, scores.
pub(super) fn attention(op: &Attention, cx: &mut Context<'_>) -> Result<()> {
    let q = heads(cx, 0, op.query_heads)?;
    let k = heads(cx, 1, op.key_heads)?;
    let v = heads(cx, 2, op.value_heads)?;
    check_types(cx)?;
    compatible(cx, 1, &k, &[q[0].clone(), k[1].clone(), k[2].clone(), q[3].clone()])?;
    compatible(cx, 2, &v, &[q[0].clone(), k[1].clone(), k[2].clone(), v[3].clone()])?;
    if let (Some(queries), Some(keys)) = (q[1].as_const(), k[1].as_const())
        && (keys == 0 || queries % keys != 0)
    {
        return Err(Error::model(format!("{queries} heads of queries cannot share {keys} heads of keys")));
    }
    let past = past_length(cx, &k, &v)?;
    let keys = past.map_or(k[2].clone(), |past| past + k[2].clone());
    let scores = vec![q[0].clone(), q[1].clone(), q[2].clone(), keys.clone()];
    check_mask(cx, &scores)?;
    if cx.has(6) {
        cx.expect_type(6, &[ElementType::I64])?;
        compatible(cx, 6, &cx.dims(6)?, &q[..1])?;
    }
    let element_type = cx.arithmetic_type(0)?;
    let merged = op.merged.unwrap_or(cx.dims(0)?.len() == 3);
    let [batch, query_heads, length, _] = q;
    let y = match merged {
        true => vec![batch.clone(), length, query_heads * v[3].clone()],
        false => vec![batch.clone(), query_heads, length, v[3].clone()],
    };
    cx.set(0, element_type, y)?;
    let (of_k, of_v) = (cx.element_type(1)?, cx.element_type(2)?);
    cx.set(1, of_k, vec![batch.clone(), k[1].clone(), keys.clone(), k[3].clone()])?;
    cx.set(2, of_v, vec![batch, k[1].clone(), keys, v[3].clone()])?;
    cx.set(3, element_type, scores)
}

/// Inputs: x, cos, sin, positions or none. Output: as x.
pub(super) fn rotary(op: &RotaryEmbedding, cx: &mut Context<'_>) -> Result<()> {
    let [batch, _, length, size] = heads(cx, 0, op.heads)?;
    cx.same_types(&[0, 1, 2])?;
    let turned = op.size.map_or(size.as_const(), |size| i64::try_from(size).ok());
    let wrong = || Error::model(format!("{turned:?} elements of {size} cannot be turned in pairs"));
    if turned.is_some_and(|turned| turned % 2 != 0 || size.as_const().is_some_and(|size| turned > size)) {
        return Err(wrong());
    }
    for index in [1, 2] {
        let dims = cx.dims_of_rank(index, if cx.has(3) { 2 } else { 3 })?;
        let numbers = dims.last().and_then(Expr::as_const);
        let fits = |turned: i64, found: i64| found == turned || (found == turned / 2 && found > 0);
        if let (Some(turned), Some(found)) = (turned, numbers)
            && !fits(turned, found)
        {
            return Err(wrong());
        }
        if !cx.has(3) {
            check_broadcasts_to(&dims[..2], &[batch.clone(), length.clone()])?;
            compatible(cx, index, &dims[1..2], std::slice::from_ref(&length))?;
        }
    }
    if cx.has(3) {
        cx.expect_type(3, &[ElementType::I64])?;
        compatible(cx, 3, &cx.dims(3)?, &[batch, length])?;
    }
    cx.set_as(0, 0)
}

/// Batch, heads, length and size of input `index`.
fn heads(cx: &Context<'_>, index: usize, heads: Option<usize>) -> Result<[Expr; 4]> {
    let dims = cx.dims(index)?;
    let wrong = |what: &str| {
        let name = cx.input(index).map_or("", |value| &value.name);
        Err(Error::model(format!("the input {name:?} of shape {} {what}", shown(&dims))))
    };
    let [batch, length, width] = &dims[..] else {
        return <[Expr; 4]>::try_from(dims.clone()).or_else(|_| wrong("has no heads"));
    };
    let Some(heads) = heads.and_then(|heads| i64::try_from(heads).ok()).filter(|&heads| heads > 0) else {
        return wrong("needs a number of heads");
    };
    if width.as_const().is_some_and(|width| width % heads != 0) {
        return wrong("does not divide into its heads");
    }
    Ok([batch.clone(), constant(heads), length.clone(), width.clone() / constant(heads)])
}

/// Queries, keys and values are real numbers, past ones as the new ones.
fn check_types(cx: &Context<'_>) -> Result<()> {
    cx.same_types(&[0, 1])?;
    cx.same_types(&[1, 4])?;
    cx.same_types(&[2, 5])?;
    for index in [0, 2].into_iter().chain(cx.has(3).then_some(3)) {
        let found = cx.element_type(index)?;
        if !(found.is_float() || found.is_quantized() || (index == 3 && found == ElementType::Bool)) {
            let name = &cx.input(index)?.name;
            return Err(Error::model(format!("the input {name:?} has the element type {found}")));
        }
    }
    Ok(())
}

/// The number of past keys, where there are some.
fn past_length(cx: &Context<'_>, k: &[Expr; 4], v: &[Expr; 4]) -> Result<Option<Expr>> {
    if cx.has(4) != cx.has(5) {
        return Err(Error::model("past keys and values are given together or not at all"));
    }
    if !cx.has(4) {
        return Ok(None);
    }
    let (past_k, past_v) = (cx.dims_of_rank(4, 4)?, cx.dims_of_rank(5, 4)?);
    let length = past_k[2].clone();
    let expected = |like: &[Expr; 4]| [like[0].clone(), like[1].clone(), length.clone(), like[3].clone()];
    compatible(cx, 4, &past_k, &expected(k))?;
    compatible(cx, 5, &past_v, &expected(v))?;
    Ok(Some(length))
}

/// The mask is broadcast to the scores; its rows may be shorter.
fn check_mask(cx: &Context<'_>, scores: &[Expr]) -> Result<()> {
    if !cx.has(3) {
        return Ok(());
    }
    let mask = cx.dims(3)?;
    let (Some((_, outer)), Some((columns, rows))) = (mask.split_last(), scores.split_last()) else {
        return Err(Error::model("a mask without dimensions"));
    };
    check_broadcasts_to(outer, rows)?;
    match (mask[mask.len() - 1].as_const(), columns.as_const()) {
        (Some(found), Some(most)) if found > most => {
            Err(Error::model(format!("a mask of {found} columns for {most} keys")))
        }
        _ => Ok(()),
    }
}

/// Requires that input `index` has no other numbers than `expected`.
fn compatible(cx: &Context<'_>, index: usize, found: &[Expr], expected: &[Expr]) -> Result<()> {
    if shown(found).is_compatible(&shown(expected)) {
        return Ok(());
    }
    let name = &cx.input(index)?.name;
    Err(Error::model(format!("the input {name:?} means {}, expected {}", shown(found), shown(expected))))
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::shapes::testing::Input::{self, Data, Missing, Typed};
    use crate::shapes::testing::{expect, outcome};

    fn plain() -> Attention {
        Attention {
            query_heads: None,
            key_heads: None,
            value_heads: None,
            scale: None,
            softcap: 0.0,
            causal: false,
            merged: None,
            scores: Default::default(),
            masked_score: None,
        }
    }

    fn grouped() -> Attention {
        Attention { query_heads: Some(6), key_heads: Some(2), value_heads: Some(2), ..plain() }
    }

    #[test]
    fn outputs_follow_queries_and_values() {
        type Case = (Attention, Vec<Input>, usize, &'static str);
        let cases: [Case; 4] = [
            (
                plain(),
                vec![Data("b 6 s 8"), Data("b 2 t 8"), Data("b 2 t 5")],
                4,
                "F32 [b, 6, s, 5]; F32 [b, 2, t, 8]; F32 [b, 2, t, 5]; F32 [b, 6, s, t]",
            ),
            (
                grouped(),
                vec![Data("b s 48"), Data("b t 16"), Data("b t 10")],
                2,
                "F32 [b, s, 30]; F32 [b, 2, t, 8]",
            ),
            (
                grouped(),
                vec![
                    Data("1 1 48"),
                    Data("1 1 16"),
                    Data("1 1 16"),
                    Typed(ElementType::Bool, "1 9"),
                    Data("1 2 9 8"),
                    Data("1 2 9 8"),
                ],
                4,
                "F32 [1, 1, 48]; F32 [1, 2, 10, 8]; F32 [1, 2, 10, 8]; F32 [1, 6, 1, 10]",
            ),
            (
                Attention { merged: Some(true), ..plain() },
                vec![Data("1 6 s 8"), Data("1 2 t 8"), Data("1 2 t 5"), Missing],
                1,
                "F32 [1, s, 30]",
            ),
        ];
        each_case(cases, |(op, inputs, outputs, expected)| {
            expect(outcome(Operator::Attention(op.clone()), inputs, *outputs), Ok(*expected))
        });
    }

    #[test]
    fn turned_pairs_keep_their_shape() {
        let op = |heads, size| Operator::RotaryEmbedding(RotaryEmbedding { heads, size, interleaved: false });
        let positions = Typed(ElementType::I64, "b s");
        type Case = (Operator, Vec<Input>, Result<&'static str, &'static str>);
        let cases: [Case; 5] = [
            (op(None, None), vec![Data("b 4 s 8"), Data("1 s 8"), Data("b s 4")], Ok("F32 [b, 4, s, 8]")),
            (
                op(Some(4), Some(6)),
                vec![Data("b s 32"), Data("50 3"), Data("50 3"), positions],
                Ok("F32 [b, s, 32]"),
            ),
            (op(None, None), vec![Data("b 4 s 8"), Data("1 s 5"), Data("1 s 5")], Err("in pairs")),
            (op(None, Some(10)), vec![Data("b 4 s 8"), Data("1 s 5"), Data("1 s 5")], Err("in pairs")),
            (op(None, None), vec![Data("2 4 3 8"), Data("1 2 4"), Data("1 3 4")], Err("broadcast")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let cases: [(Attention, Vec<Input>); 6] = [
            (plain(), vec![Data("1 6 3 8"), Data("1 4 3 8"), Data("1 4 3 8")]),
            (plain(), vec![Data("1 6 3 8"), Data("1 2 3 4"), Data("1 2 3 8")]),
            (plain(), vec![Data("1 3 48"), Data("1 3 16"), Data("1 3 16")]),
            (grouped(), vec![Data("1 3 47"), Data("1 3 16"), Data("1 3 16")]),
            (plain(), vec![Data("1 6 3 8"), Data("1 2 3 8"), Data("1 2 3 8"), Data("4")]),
            (plain(), vec![Data("1 6 3 8"), Data("1 2 3 8"), Data("1 2 3 8"), Missing, Data("1 2 3 8")]),
        ];
        each_case(cases, |(op, inputs)| match outcome(Operator::Attention(op.clone()), inputs, 1) {
            Err(_) => Ok(()),
            Ok(_) => Err("no error".into()),
        });
    }
}
