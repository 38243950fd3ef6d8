//! Operators that treat every element alone.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Cast, CastLike, Comparison, NarrowCast, Operator, PowerRounding, Unary};
use optimium_tensor::{ElementType, Error, Result};

use super::super::node::NodeReader;
use super::super::types::element_type_of_attribute;

pub(super) fn unary(node: &mut NodeReader<'_, '_>, function: Unary) -> Result<()> {
    node.finish_with_all_inputs(Operator::Unary { function })
}

pub(super) fn binary(node: &mut NodeReader<'_, '_>, function: Binary) -> Result<()> {
    node.finish_with_all_inputs(Operator::Binary { function })
}

pub(super) fn comparison(node: &mut NodeReader<'_, '_>, function: Comparison) -> Result<()> {
    node.finish_with_all_inputs(Operator::Comparison { function })
}

pub(super) fn where_(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::Where)
}

pub(super) fn identity(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    node.give(0, x);
    Ok(())
}

/// Any number of operands, one after the other.
pub(super) fn chain(node: &mut NodeReader<'_, '_>, function: Binary) -> Result<()> {
    let (last, inner) = folded(node, function)?;
    match last {
        Some(last) => node.finish(Operator::Binary { function }, [Some(inner), Some(last)]),
        None => node.finish(Operator::Identity, [Some(inner)]),
    }
}

/// The last operand, and all before it combined.
fn folded(node: &mut NodeReader<'_, '_>, function: Binary) -> Result<(Option<ValueId>, ValueId)> {
    let mut operands = Vec::with_capacity(node.inputs.len());
    for index in 0..node.inputs.len() {
        operands.push(node.required(index)?);
    }
    let last = (operands.len() > 1).then(|| operands.pop()).flatten();
    let combined = operands.into_iter().reduce(|a, b| node.binary(function, a, b));
    Ok((last, combined.ok_or_else(|| Error::model("it has no inputs"))?))
}

pub(super) fn mean(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let count = node.inputs.len();
    let (last, inner) = folded(node, Binary::Add)?;
    let sum = match last {
        Some(last) => node.binary(Binary::Add, inner, last),
        None => inner,
    };
    let count = node.scalar_like("count", sum, count as f32)?;
    node.finish(Operator::Binary { function: Binary::Div }, [Some(sum), Some(count)])
}

pub(super) fn bit_shift(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let function = match node.attributes.string_or("direction", "")? {
        "LEFT" => Binary::ShiftLeft,
        "RIGHT" => Binary::ShiftRight,
        other => return Err(Error::model(format!("it shifts into the direction {other:?}"))),
    };
    binary(node, function)
}

pub(super) fn modulo(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let function = if node.attributes.flag("fmod", false)? { Binary::Fmod } else { Binary::Mod };
    binary(node, function)
}

pub(super) fn is_inf(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let negative = node.attributes.flag("detect_negative", true)?;
    let positive = node.attributes.flag("detect_positive", true)?;
    if negative && positive {
        return unary(node, Unary::IsInf);
    }
    let x = node.required(0)?;
    let infinite = node.unary(Unary::IsInf, x);
    let zero = node.scalar_like("zero", x, 0.0)?;
    // Where neither is wanted, nothing that is infinite equals zero.
    let function = match (negative, positive) {
        (true, _) => Comparison::Less,
        (_, true) => Comparison::Greater,
        _ => Comparison::Equal,
    };
    let wanted = node.compare(function, x, zero);
    node.finish(Operator::Binary { function: Binary::And }, [Some(infinite), Some(wanted)])
}

pub(super) fn cast(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let to = element_type_of_attribute(node.attributes.required_int("to")?)?;
    let op = cast_to(node, to)?;
    node.finish_with_all_inputs(op)
}

pub(super) fn cast_like(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (x, like) = (node.required(0)?, node.required(1)?);
    if let Some(to) = node.element_type(like) {
        let op = cast_to(node, to)?;
        return node.finish(op, [Some(x)]);
    }
    let (saturate, rounding) = narrowing(node)?;
    node.finish(Operator::CastLike(CastLike { saturate, rounding }), [Some(x), Some(like)])
}

/// The cast to that type.
fn cast_to(node: &mut NodeReader<'_, '_>, to: ElementType) -> Result<Operator> {
    let (saturate, rounding) = narrowing(node)?;
    Ok(match to.is_narrow() {
        true => Operator::NarrowCast(NarrowCast { to, saturate, rounding }),
        false => Operator::Cast(Cast { to }),
    })
}

/// The attributes of a cast about narrow types.
fn narrowing(node: &mut NodeReader<'_, '_>) -> Result<(bool, PowerRounding)> {
    let saturate = node.attributes.flag("saturate", true)?;
    let rounding = match node.attributes.string_or("round_mode", "up")? {
        "up" => PowerRounding::Up,
        "down" => PowerRounding::Down,
        "nearest" => PowerRounding::Nearest,
        other => return Err(Error::model(format!("the rounding {other:?}"))),
    };
    Ok((saturate, rounding))
}

pub(super) fn clip(node: &mut NodeReader<'_, '_>) -> Result<()> {
    if node.opset >= 11 {
        return node.finish_with_all_inputs(Operator::Clip);
    }
    let x = node.required(0)?;
    let low = node.attributes.float("min")?.filter(|&low| low > f32::MIN);
    let high = node.attributes.float("max")?.filter(|&high| high < f32::MAX);
    let low = low.map(|low| node.scalar_like("min", x, low)).transpose()?;
    let high = high.map(|high| node.scalar_like("max", x, high)).transpose()?;
    node.finish(Operator::Clip, [Some(x), low, high])
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node, operators};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let binary = |function| Operator::Binary { function };
        let unary = |function| Operator::Unary { function };
        let compare = |function| Operator::Comparison { function };
        let mut max = case(13, node("Max", &["a", "b", "c"], &["y"]), binary(Binary::Max));
        max.expected.push(binary(Binary::Max));
        let mut mean = case(13, node("Mean", &["a", "b"], &["y"]), binary(Binary::Add));
        mean.expected.push(binary(Binary::Div));
        let mut below =
            case(13, node("IsInf", &["x"], &["y"]).int("detect_positive", 0), unary(Unary::IsInf));
        below.expected.extend([compare(Comparison::Less), binary(Binary::And)]);
        check([
            case(7, node("Add", &["a", "b"], &["y"]), binary(Binary::Add)),
            case(7, node("Erf", &["x"], &["y"]), unary(Unary::Erf)),
            case(16, node("LessOrEqual", &["a", "b"], &["y"]), compare(Comparison::LessOrEqual)),
            case(13, node("Sum", &["x"], &["y"]), Operator::Identity),
            case(
                11,
                node("BitShift", &["a", "b"], &["y"]).text("direction", "LEFT"),
                binary(Binary::ShiftLeft),
            ),
            case(13, node("Mod", &["a", "b"], &["y"]).int("fmod", 1), binary(Binary::Fmod)),
            case(9, node("Cast", &["x"], &["y"]).int("to", 7), Operator::Cast(Cast { to: ElementType::I64 })),
            case(
                24,
                node("Cast", &["x"], &["y"]).int("to", 24).int("saturate", 0).text("round_mode", "down"),
                Operator::NarrowCast(NarrowCast {
                    to: ElementType::F8E8M0,
                    saturate: false,
                    rounding: PowerRounding::Down,
                }),
            ),
            case(15, node("CastLike", &["x", "l"], &["y"]), Operator::Cast(Cast { to: ElementType::F32 })),
            case(7, node("Clip", &["x"], &["y"]).float("min", 0.0), Operator::Clip),
            case(13, node("Clip", &["x", "", "h"], &["y"]), Operator::Clip),
            case(16, node("Where", &["c", "a", "b"], &["y"]), Operator::Where),
            max,
            mean,
            below,
        ]);
    }

    #[test]
    fn attributes_that_nobody_knows_are_refused() {
        let error = operators(13, node("Add", &["a", "b"], &["y"]).int("axis", 1), Vec::new()).unwrap_err();
        assert!(error.message().contains("attribute axis"), "{error:?}");
    }
}
