//! Rules of operators that bring values to a scale: the output is shaped as x.

use std::ops::Range;

use optimium_tensor::{ElementType, Error, Expr, Result};

use super::arithmetic::{constant, normalize_axis, product};
use super::broadcast::{check_broadcasts_to, shown};
use super::context::Context;
use crate::ops::{GroupNormalization, ImageLayout, LayerNormalization, RmsNormalization};

/// Softmax and others along one axis.
pub(super) fn along_axis(axis: i64, cx: &mut Context<'_>) -> Result<()> {
    let (element_type, dims) = (cx.arithmetic_type(0)?, cx.dims(0)?);
    // A scalar counts as one element along its only axis.
    normalize_axis(axis, dims.len().max(1))?;
    cx.set(0, element_type, dims)
}

/// LayerNormalization, whose second and third outputs have size one in the normalized axes.
pub(super) fn layer(norm: &LayerNormalization, cx: &mut Context<'_>) -> Result<()> {
    let (element_type, dims) = (cx.arithmetic_type(0)?, cx.dims(0)?);
    let axis = normalize_axis(norm.axis, dims.len())?;
    check_parameters(1..3, &dims[axis..], cx)?;
    let statistics: Vec<Expr> =
        dims.iter().enumerate().map(|(i, dim)| if i < axis { dim.clone() } else { constant(1) }).collect();
    cx.set(0, element_type, dims)?;
    let precise = if element_type == ElementType::F64 { ElementType::F64 } else { ElementType::F32 };
    for index in 1..3 {
        let declared = cx.output(index).and_then(|value| value.element_type());
        cx.set(index, declared.unwrap_or(precise), statistics.clone())?;
    }
    Ok(())
}

/// RMSNormalization.
pub(super) fn rms(norm: &RmsNormalization, cx: &mut Context<'_>) -> Result<()> {
    let (element_type, dims) = (cx.arithmetic_type(0)?, cx.dims(0)?);
    let axis = normalize_axis(norm.axis, dims.len())?;
    check_parameters(1..2, &dims[axis..], cx)?;
    cx.set(0, element_type, dims)
}

/// Parameters have one element for each normalized one.
fn check_parameters(inputs: Range<usize>, normalized: &[Expr], cx: &Context<'_>) -> Result<()> {
    check_types(inputs.clone(), cx)?;
    for index in inputs.filter(|&index| cx.has(index)) {
        let dims = cx.dims(index)?;
        check_broadcasts_to(&dims, normalized)?;
        let (found, expected) = (product(&dims).as_const(), product(normalized).as_const());
        if let (Some(found), Some(expected)) = (found, expected)
            && found != expected
        {
            let name = &cx.input(index)?.name;
            return Err(Error::not_implemented(format!(
                "the input {name:?} has {found} elements for {expected} normalized ones"
            )));
        }
    }
    Ok(())
}

/// Parameters have the element type of x; with x of half precision they may be of any float type up to F32. Quantized
/// tensors stand for real numbers in their own ways, and are not looked at.
fn check_types(parameters: Range<usize>, cx: &Context<'_>) -> Result<()> {
    const FLOATS: [ElementType; 3] = [ElementType::F32, ElementType::F16, ElementType::BF16];
    let own = cx.element_type(0)?;
    let allowed = if FLOATS[1..].contains(&own) { &FLOATS[..] } else { std::slice::from_ref(&own) };
    for index in parameters.filter(|&index| cx.has(index)) {
        let found = cx.element_type(index)?;
        if own.is_quantized() || found.is_quantized() || allowed.contains(&found) {
            continue;
        }
        let (name, x) = (&cx.input(index)?.name, &cx.input(0)?.name);
        return Err(Error::model(format!(
            "the input {name:?} has the element type {found}, which does not go with {own} of {x:?}"
        )));
    }
    Ok(())
}

/// Normalizations of images; the inputs in `parameters` have one element a channel.
pub(super) fn per_channel(layout: ImageLayout, parameters: Range<usize>, cx: &mut Context<'_>) -> Result<()> {
    let (element_type, dims) = (cx.arithmetic_type(0)?, cx.dims(0)?);
    let channels = channels(layout, &dims)?;
    check_types(parameters.clone(), cx)?;
    for index in parameters {
        let found = cx.dims_of_rank(index, 1)?;
        if let (Some(found), Some(expected)) = (found[0].as_const(), channels.as_const())
            && found != expected
        {
            let name = &cx.input(index)?.name;
            return Err(Error::model(format!(
                "the input {name:?} has {found} elements, expected {expected}"
            )));
        }
    }
    cx.set(0, element_type, dims)
}

/// GroupNormalization.
pub(super) fn group(norm: &GroupNormalization, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let channels = channels(norm.layout, &dims)?;
    let groups = i64::try_from(norm.groups).unwrap_or(i64::MAX);
    if groups == 0 || channels.as_const().is_some_and(|channels| channels % groups != 0) {
        return Err(Error::model(format!("{channels} channels cannot be cut into {groups} groups")));
    }
    per_channel(norm.layout, 1..3, cx)
}

fn channels(layout: ImageLayout, dims: &[Expr]) -> Result<Expr> {
    if dims.len() < 2 {
        return Err(Error::model(format!("{} is not the shape of images", shown(dims))));
    }
    Ok(dims[layout.channel_axis(dims.len())].clone())
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;
    use crate::Operator;
    use crate::ops::{BatchNormalization, InstanceNormalization, Softmax};
    use crate::shapes::testing::Input::{self, Data, Typed};
    use crate::shapes::testing::{expect, outcome};

    #[test]
    fn parameters_have_the_type_of_x() {
        use ElementType::{BF16, F16, F32, F64, I32};
        let layout = ImageLayout::ChannelsFirst;
        let norms = [
            (Operator::LayerNormalization(LayerNormalization { axis: 1, epsilon: 1e-5 }), 2),
            (Operator::RmsNormalization(RmsNormalization { axis: 1, epsilon: 1e-5 }), 1),
            (Operator::BatchNormalization(BatchNormalization { layout, epsilon: 1e-5 }), 4),
            (Operator::InstanceNormalization(InstanceNormalization { layout, epsilon: 1e-5 }), 2),
            (Operator::GroupNormalization(GroupNormalization { layout, groups: 1, epsilon: 1e-5 }), 2),
        ];
        let types = [
            (F32, F32, true),
            (F64, F64, true),
            (F16, F32, true),
            (BF16, F16, true),
            (F32, F16, false),
            (F32, F64, false),
            (F32, I32, false),
            (F16, F64, false),
            (F16, I32, false),
        ];
        let cases = norms.iter().flat_map(|(op, count)| {
            let places = 1..=*count;
            places.flat_map(move |place| types.map(|types| (op.clone(), *count, place, types)))
        });
        each_case(cases, |&(ref op, count, place, (own, other, allowed))| {
            let mut inputs = vec![Typed(own, "N 4")];
            inputs.extend((1..=count).map(|index| Typed(if index == place { other } else { own }, "4")));
            match outcome(op.clone(), &inputs, 1) {
                Ok(_) if allowed => Ok(()),
                Err(message) if !allowed && message.contains(&format!("the input \"x{place}\"")) => Ok(()),
                unexpected => Err(format!("{unexpected:?}")),
            }
        });
    }

    #[test]
    fn outputs_are_shaped_as_x() {
        let softmax = |axis| Operator::Softmax(Softmax { axis, log: false, flatten: false });
        let layer = |axis| Operator::LayerNormalization(LayerNormalization { axis, epsilon: 1e-5 });
        let rms = Operator::RmsNormalization(RmsNormalization { axis: -1, epsilon: 1e-5 });
        let layout = ImageLayout::ChannelsFirst;
        let batch = || Operator::BatchNormalization(BatchNormalization { layout, epsilon: 1e-5 });
        let group =
            |groups| Operator::GroupNormalization(GroupNormalization { layout, groups, epsilon: 1e-5 });
        let cases: Vec<(Operator, &[Input], usize, Result<&str, &str>)> = vec![
            (softmax(-1), &[Data("N 4")], 1, Ok("F32 [N, 4]")),
            (softmax(0), &[Data("")], 1, Ok("F32 []")),
            (softmax(2), &[Data("N 4")], 1, Err("axis 2")),
            (layer(-1), &[Data("N T 4"), Data("4"), Data("4")], 2, Ok("F32 [N, T, 4]; F32 [N, T, 1]")),
            (layer(-1), &[Data("N T 4"), Data("5")], 1, Err("cannot be broadcast")),
            (layer(-1), &[Data("N T 4"), Data("1")], 1, Err("1 elements for 4 normalized")),
            (layer(-2), &[Data("N 3 4"), Data("3 4"), Data("4")], 1, Err("4 elements for 12 normalized")),
            (layer(-2), &[Data("N 3 4"), Data("3 4"), Data("3 4")], 1, Ok("F32 [N, 3, 4]")),
            (layer(-9), &[Data("N T 4"), Data("4")], 1, Err("axis -9")),
            (rms, &[Data("N 4"), Data("4")], 1, Ok("F32 [N, 4]")),
            (
                batch(),
                &[Data("N 3 H W"), Data("3"), Data("3"), Data("3"), Data("3")],
                1,
                Ok("F32 [N, 3, H, W]"),
            ),
            (
                batch(),
                &[Data("N 3"), Data("3"), Data("4"), Data("3"), Data("3")],
                1,
                Err("4 elements, expected 3"),
            ),
            (batch(), &[Data("3"), Data("3"), Data("3"), Data("3"), Data("3")], 1, Err("shape of images")),
            (group(2), &[Data("N 4 H"), Data("4"), Data("4")], 1, Ok("F32 [N, 4, H]")),
            (group(3), &[Data("N 4 H"), Data("4"), Data("4")], 1, Err("3 groups")),
            (group(0), &[Data("N 4 H"), Data("4"), Data("4")], 1, Err("0 groups")),
        ];
        each_case(cases, |(op, inputs, outputs, expected)| {
            expect(outcome(op.clone(), inputs, *outputs), *expected)
        });
    }
}
