//! Rules of operators that treat every element alone.

use optimium_tensor::{ElementType, Error, Result};

use super::arithmetic::{self, Number};
use super::broadcast::{broadcast, check_broadcasts_to};
use super::context::Context;
use super::facts::SymbolicTensor;
use crate::Operator;
use crate::ops::{Activation, Binary, Cast, CastLike, Comparison, NarrowCast, Unary};

/// A function of one element; predicates give BOOL.
pub(super) fn unary(function: Unary, cx: &mut Context<'_>) -> Result<()> {
    let element_type = match function {
        Unary::IsNan | Unary::IsInf => ElementType::Bool,
        Unary::Not => {
            cx.expect_type(0, &[ElementType::Bool])?;
            ElementType::Bool
        }
        _ => cx.arithmetic_type(0)?,
    };
    let dims = cx.dims(0)?;
    cx.set(0, element_type, dims)?;
    let f: fn(&Number) -> Option<Number> = match function {
        Unary::Abs => |x| Some(x.absolute()),
        Unary::Neg => |x| Some(x.negate()),
        Unary::Floor => |x| Some(x.floor().into()),
        Unary::Ceil => |x| Some(x.ceil().into()),
        Unary::Round => |x| x.as_integer().cloned().map(Into::into),
        Unary::Not => |x| Some((1 - x.as_const()?).into()),
        _ => return Ok(()),
    };
    cx.follow(0, 0, f);
    Ok(())
}

/// An activation function: the output is as x, a slope is broadcast to x.
pub(super) fn activation(function: Activation, cx: &mut Context<'_>) -> Result<()> {
    let (element_type, dims) = (cx.arithmetic_type(0)?, cx.dims(0)?);
    if function == Activation::PRelu {
        cx.same_types(&[0, 1])?;
        check_broadcasts_to(&cx.dims(1)?, &dims)?;
    }
    cx.set(0, element_type, dims)?;
    if function == Activation::None {
        cx.follow(0, 0, |x| Some(x.clone()));
    }
    Ok(())
}

/// A function of two elements.
pub(super) fn binary(function: Binary, cx: &mut Context<'_>) -> Result<()> {
    match function {
        Binary::And | Binary::Or | Binary::Xor => {
            cx.expect_type(0, &[ElementType::Bool])?;
            cx.expect_type(1, &[ElementType::Bool])?;
        }
        Binary::Pow => {}
        _ => cx.same_types(&[0, 1])?,
    }
    let element_type = cx.arithmetic_type(0)?;
    let (a, b) = (cx.dims(0)?, cx.dims(1)?);
    if function == Binary::PRelu {
        check_broadcasts_to(&b, &a)?;
        return cx.set(0, element_type, a);
    }
    cx.set(0, element_type, broadcast(&a, &b)?)?;
    follow_both(cx, |a, b| arithmetic::binary(function, element_type, a, b));
    Ok(())
}

/// A predicate of two elements.
pub(super) fn comparison(function: Comparison, cx: &mut Context<'_>) -> Result<()> {
    cx.same_types(&[0, 1])?;
    let dims = broadcast(&cx.dims(0)?, &cx.dims(1)?)?;
    cx.set(0, ElementType::Bool, dims)?;
    follow_both(cx, |a, b| Some(i64::from(arithmetic::compare(function, a, b)?).into()));
    Ok(())
}

/// Says that the values of the output are `f` of those of inputs 0 and 1, broadcast.
fn follow_both(cx: &mut Context<'_>, f: impl Fn(&Number, &Number) -> Option<Number>) {
    let (Some(a), Some(b)) = (cx.known(0), cx.known(1)) else { return };
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return };
    let result = SymbolicTensor::from_fn(&dims, |at| f(a.broadcast_get(at)?, b.broadcast_get(at)?));
    cx.set_known(0, result);
}

/// Inputs: x, low or none, high or none.
pub(super) fn clip(cx: &mut Context<'_>) -> Result<()> {
    cx.same_types(&[0, 1, 2])?;
    let (element_type, dims) = (cx.arithmetic_type(0)?, cx.dims(0)?);
    for bound in 1..3 {
        if cx.has(bound) {
            check_broadcasts_to(&cx.dims(bound)?, &dims)?;
        }
    }
    cx.set(0, element_type, dims)?;
    let mut bound = |index: usize| match cx.known(index) {
        Some(known) => known.elements().first().cloned().flatten(),
        None => None,
    };
    let (low, high) = (bound(1), bound(2));
    if (cx.has(1) && low.is_none()) || (cx.has(2) && high.is_none()) {
        return Ok(());
    }
    let apply = |function, x: Number, bound: &Option<Number>| match bound {
        Some(bound) => arithmetic::binary(function, element_type, &x, bound),
        None => Some(x),
    };
    cx.follow(0, 0, |x| apply(Binary::Min, apply(Binary::Max, x.clone(), &low)?, &high));
    Ok(())
}

/// Inputs: condition, a, b.
pub(super) fn where_(cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::Bool])?;
    cx.same_types(&[1, 2])?;
    let element_type = cx.arithmetic_type(1)?;
    let dims = broadcast(&broadcast(&cx.dims(0)?, &cx.dims(1)?)?, &cx.dims(2)?)?;
    cx.set(0, element_type, dims)?;
    let Some(dims) = cx.output(0).and_then(|value| value.shape()?.as_fixed()) else { return Ok(()) };
    let Some(condition) = cx.known(0) else { return Ok(()) };
    let (Some(a), Some(b)) = (cx.known_or_unknown(1), cx.known_or_unknown(2)) else { return Ok(()) };
    let result = SymbolicTensor::from_fn(&dims, |at| {
        let chosen = if condition.broadcast_get(at)?.as_const()? != 0 { &a } else { &b };
        chosen.broadcast_get(at).cloned()
    });
    cx.set_known(0, result);
    Ok(())
}

/// Input: x.
pub(super) fn cast(cast: &Cast, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let to = cast.to;
    cx.set(0, to, dims)?;
    cx.follow(0, 0, |x| x.cast(to));
    Ok(())
}

/// Input: x.
pub(super) fn bit_cast(to: ElementType, cx: &mut Context<'_>) -> Result<()> {
    let from = cx.element_type(0)?;
    // Kernels rely on BOOL being 0 or 1.
    if from.bits() != to.bits() || to.bits() == 0 || to == ElementType::Bool || to.is_quantized() {
        return Err(Error::model(format!("the bits of {from} are no {to}")));
    }
    let dims = cx.dims(0)?;
    cx.set(0, to, dims)
}

/// Inputs: x, like. What it becomes, of x alone.
pub(super) fn cast_like(cast: &CastLike, cx: &mut Context<'_>) -> Result<Operator> {
    let to = cx.element_type(1)?;
    cx.drop_input(1);
    let CastLike { saturate, rounding } = *cast;
    Ok(match to.is_narrow() {
        true => Operator::NarrowCast(NarrowCast { to, saturate, rounding }),
        false => Operator::Cast(Cast { to }),
    })
}

/// Input: x.
pub(super) fn narrow_cast(cast: &NarrowCast, cx: &mut Context<'_>) -> Result<()> {
    if !cast.to.is_narrow() {
        return Err(Error::model(format!("{} is no narrow type", cast.to)));
    }
    let dims = cx.dims(0)?;
    cx.set(0, cast.to, dims)
}

/// Input: x, which need not be a tensor.
pub(super) fn identity(cx: &mut Context<'_>) -> Result<()> {
    if cx.input(0)?.shape().is_none() {
        let value_type = cx.input(0)?.value_type.clone();
        cx.set_type(0, value_type);
        return Ok(());
    }
    cx.set_as(0, 0)?;
    cx.pass_scheme(0, 0, Some);
    cx.follow(0, 0, |x| Some(x.clone()));
    Ok(())
}

/// Input: x, and what training would need. Outputs: x, and a mask.
pub(super) fn dropout(cx: &mut Context<'_>) -> Result<()> {
    cx.set_as(0, 0)?;
    cx.pass_scheme(0, 0, Some);
    let dims = cx.dims(0)?;
    cx.set(1, ElementType::Bool, dims)
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::ops::PowerRounding;
    use crate::shapes::testing::Input::{self, Data, Floats, Missing, Scalar, Typed, Vector};
    use crate::shapes::testing::{expect, outcome};

    type Case = (Operator, &'static [Input], Result<&'static str, &'static str>);

    fn binary(function: Binary) -> Operator {
        Operator::Binary { function }
    }

    #[test]
    fn types_and_shapes() {
        use ElementType::*;
        let equal = Operator::Comparison { function: Comparison::Equal };
        let cases: Vec<Case> = vec![
            (Operator::Unary { function: Unary::Exp }, &[Data("N 3")], Ok("F32 [N, 3]")),
            (Operator::Unary { function: Unary::IsNan }, &[Data("2")], Ok("BOOL [2]")),
            (Operator::Unary { function: Unary::Not }, &[Data("2")], Err("expected BOOL")),
            (binary(Binary::Add), &[Data("N 1 4"), Data("T 1")], Ok("F32 [N, T, 4]")),
            (binary(Binary::Add), &[Data("2"), Data("3")], Err("\"x0\" F32 [2], \"x1\" F32 [3]")),
            (binary(Binary::Add), &[Data("2"), Scalar(1)], Err("element type I64, expected F32")),
            (binary(Binary::Add), &[Data("2"), Missing], Err("input 1 is missing")),
            (binary(Binary::Add), &[], Err("input 0 is missing")),
            (binary(Binary::Pow), &[Data("2"), Scalar(2)], Ok("F32 [2]")),
            (binary(Binary::And), &[Typed(Bool, "2"), Typed(Bool, "1 1")], Ok("BOOL [1, 2]")),
            (binary(Binary::PRelu), &[Data("1 3 4 4"), Data("3 1 1")], Ok("F32 [1, 3, 4, 4]")),
            (binary(Binary::PRelu), &[Data("3"), Data("1 3 1 1")], Err("cannot be broadcast")),
            (binary(Binary::Add), &[Typed(QS8, "2"), Typed(QS8, "2")], Err("needs an element type")),
            (equal, &[Data("N"), Data("1")], Ok("BOOL [N]")),
            (Operator::Clip, &[Data("N"), Missing, Data("")], Ok("F32 [N]")),
            (Operator::Clip, &[Data("N"), Data("2 3")], Err("cannot be broadcast")),
            (Operator::Where, &[Typed(Bool, "N 1"), Data("4"), Data("")], Ok("F32 [N, 4]")),
            (Operator::Where, &[Data("N 1"), Data("4"), Data("")], Err("expected BOOL")),
            (Operator::Cast(Cast { to: I8 }), &[Data("N")], Ok("I8 [N]")),
            (Operator::Identity, &[Data("N 2")], Ok("F32 [N, 2]")),
            (Operator::Activation { function: Activation::Relu }, &[Data("N 2")], Ok("F32 [N, 2]")),
            (Operator::Activation { function: Activation::PRelu }, &[Data("2 3"), Vector(&[1])], Err("I64")),
            (Operator::Activation { function: Activation::Tanh }, &[Floats(&[1.0])], Ok("F32 [1]")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
    }

    #[test]
    fn dropout_has_a_mask() {
        assert_eq!(outcome(Operator::Dropout, &[Data("N")], 2).unwrap(), "F32 [N]; BOOL [N]");
    }

    #[test]
    fn casts_find_their_types() {
        use ElementType::*;
        let (saturate, rounding) = (true, PowerRounding::Down);
        let narrow = |to| Operator::NarrowCast(NarrowCast { to, saturate, rounding });
        let bits = |to| Operator::BitCast { to };
        let like = || Operator::CastLike(CastLike { saturate, rounding });
        let cases: Vec<Case> = vec![
            (narrow(F4E2M1), &[Data("N")], Ok("F4E2M1 [N]")),
            (narrow(F16), &[Data("N")], Err("F16 is no narrow type")),
            (bits(U32), &[Data("N")], Ok("U32 [N]")),
            (bits(F8E5M2), &[Typed(I8, "N")], Ok("F8E5M2 [N]")),
            (bits(U16), &[Data("N")], Err("bits of F32")),
            (bits(U4), &[Typed(U8, "N")], Err("bits of U8")),
            (bits(Bool), &[Typed(U8, "N")], Err("bits of U8")),
            (bits(String), &[Typed(String, "N")], Err("bits of STRING")),
            (like(), &[Data("N"), Typed(I32, "3")], Ok("I32 [N]")),
            (like(), &[Data("N"), Typed(U2, "3")], Ok("U2 [N]")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
        for (to, expected) in [(I32, Operator::Cast(Cast { to: I32 })), (U2, narrow(U2))] {
            let inputs: [Input; 2] = [Data("N"), Typed(to, "")];
            let graph = crate::shapes::testing::infer_one(like(), &inputs, 1).unwrap();
            assert_eq!((&graph.nodes()[0].op, graph.nodes()[0].inputs.len()), (&expected, 1));
        }
    }
}
