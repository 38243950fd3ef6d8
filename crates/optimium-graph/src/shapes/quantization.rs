//! Rules of operators between real and quantized tensors: the output is shaped as x.

use optimium_tensor::{ElementType, Error, Result};

use super::arithmetic::{normalize_axis, product};
use super::context::Context;
use crate::ops::{DequantizeLinear, QuantizeLinear};

/// Inputs: x, scale, zero point or none; the last two are dropped where the output carries a scheme.
pub(super) fn quantize(op: &QuantizeLinear, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    check_scale(op.axis, op.block_size, dims.len(), cx)?;
    if let Some(output_type) = op.output_type {
        check_zero_point_type(output_type, "the output", cx)?;
    }
    let declared = cx.output(0).and_then(|value| value.element_type()).filter(|t| t.is_quantized());
    if let Some(declared) = declared {
        check_zero_point_type(declared, "the output", cx)?;
    }
    let element_type = match (declared, op.output_type) {
        (Some(declared), _) => declared,
        _ if cx.has(2) => cx.element_type(2)?,
        (None, output_type) => output_type.unwrap_or(ElementType::U8),
    };
    cx.set(0, element_type, dims)
}

/// Inputs: x, scale, zero point or none; the last two are dropped where the input carries a scheme.
pub(super) fn dequantize(op: &DequantizeLinear, cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    check_scale(op.axis, op.block_size, dims.len(), cx)?;
    let x = cx.input(0)?;
    check_zero_point_type(cx.element_type(0)?, &format!("{:?}", x.name), cx)?;
    let declared = cx.output(0).and_then(|value| value.element_type());
    let element_type = if cx.has(1) { cx.element_type(1)? } else { declared.unwrap_or(ElementType::F32) };
    if !cx.has(1) && cx.input(0)?.scheme.is_none() {
        return Err(Error::model("there is neither a scale nor a quantization scheme"));
    }
    cx.set(0, element_type, dims)
}

fn check_scale(axis: i64, block_size: usize, rank: usize, cx: &Context<'_>) -> Result<()> {
    let per_axis = cx.has(1) && !cx.dims(1)?.is_empty();
    let single = cx.has(1) && cx.dims(1)?.iter().all(|dim| dim.as_const() == Some(1));
    if (per_axis && !single) || block_size > 0 {
        normalize_axis(axis, rank)?;
    }
    check_zero_point_count(cx)
}

/// There is one zero point for each scale.
fn check_zero_point_count(cx: &Context<'_>) -> Result<()> {
    if !cx.has(1) || !cx.has(2) {
        return Ok(());
    }
    let (scales, zero_points) = (product(&cx.dims(1)?).as_const(), product(&cx.dims(2)?).as_const());
    match (scales, zero_points) {
        (Some(scales), Some(zero_points)) if scales != zero_points => Err(Error::model(format!(
            "the zero point {:?} has {zero_points} elements, but the scale {:?} has {scales}",
            cx.input(2)?.name,
            cx.input(1)?.name
        ))),
        _ => Ok(()),
    }
}

/// The zero point is an element of the quantized tensor, which messages call `owner`.
fn check_zero_point_type(expected: ElementType, owner: &str, cx: &Context<'_>) -> Result<()> {
    if !cx.has(2) {
        return Ok(());
    }
    let found = cx.element_type(2)?;
    if found.storage() == expected.storage() {
        return Ok(());
    }
    let name = &cx.input(2)?.name;
    Err(Error::model(format!(
        "the zero point {name:?} has the element type {found}, but {owner} has {expected}"
    )))
}

/// Outputs: y (U8), scale, zero point.
pub(super) fn dynamic_quantize(cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::F32])?;
    let dims = cx.dims(0)?;
    cx.set(0, ElementType::U8, dims)?;
    cx.set(1, ElementType::F32, vec![])?;
    cx.set(2, ElementType::U8, vec![])
}

/// Another scheme for quantized values: the output says which.
pub(super) fn requantize(cx: &mut Context<'_>) -> Result<()> {
    let dims = cx.dims(0)?;
    let declared = cx.output(0).and_then(|value| value.element_type());
    match declared {
        Some(element_type) if element_type.is_quantized() => cx.set(0, element_type, dims),
        _ => Err(Error::model("the output has no quantized element type")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use optimium_tensor::{QuantParam, QuantScheme, TensorShape};
    use optimium_testing::each_case;

    use super::*;
    use crate::ops::{
        Binary, Concat, Gather, ImageLayout, MaxPool, Padding, PoolWindow, Reshape, Transpose, Unsqueeze,
    };
    use crate::shapes::testing::Input::{self, Data, Missing, Typed, Vector};
    use crate::shapes::testing::{add, described, expect, graph, outcome};
    use crate::{Graph, Operator, ValueId};

    #[test]
    fn types_come_from_the_zero_point() {
        use ElementType::{F32, I8, U8, U16};
        let to =
            |axis, output_type| Operator::QuantizeLinear(QuantizeLinear { axis, block_size: 0, output_type });
        let from = |axis| Operator::DequantizeLinear(DequantizeLinear { axis, block_size: 0 });
        let cases: Vec<(Operator, &[Input], Result<&str, &str>)> = vec![
            (to(1, None), &[Data("N 3"), Data(""), Typed(I8, "")], Ok("I8 [N, 3]")),
            (to(1, Some(U16)), &[Data("N 3"), Data("")], Ok("U16 [N, 3]")),
            (to(9, None), &[Data("N 3"), Data("")], Ok("U8 [N, 3]")),
            (to(9, None), &[Data("N 3"), Data("3")], Err("axis 9")),
            (from(0), &[Typed(U8, "N"), Typed(F32, "")], Ok("F32 [N]")),
            (from(0), &[Typed(U8, "N"), Missing], Err("neither a scale")),
            (from(1), &[Typed(U8, "N 3"), Data("3"), Typed(U8, "3")], Ok("F32 [N, 3]")),
            (from(1), &[Typed(U8, "N 3"), Data("3"), Typed(U8, "C")], Ok("F32 [N, 3]")),
            (from(1), &[Typed(U8, "N 3"), Data(""), Typed(U8, "1")], Ok("F32 [N, 3]")),
            (from(1), &[Typed(U8, "N 3"), Data("3"), Typed(U8, "2")], Err("\"x2\" has 2 elements")),
            (from(1), &[Typed(U8, "N 3"), Data("3"), Typed(U8, "")], Err("the scale \"x1\" has 3")),
            (from(1), &[Typed(U8, "N 3"), Data("3"), Typed(I8, "3")], Err("but \"x0\" has U8")),
            (to(1, None), &[Data("N 3"), Data("3"), Typed(I8, "")], Err("\"x2\" has 1 elements")),
            (to(1, Some(U8)), &[Data("N 3"), Data("3"), Typed(I8, "3")], Err("but the output has U8")),
            (to(1, Some(I8)), &[Data("N 3"), Data("3"), Typed(I8, "3")], Ok("I8 [N, 3]")),
            (Operator::Requantize, &[Typed(ElementType::QS8, "N")], Err("no quantized element type")),
        ];
        each_case(cases, |(op, inputs, expected)| expect(outcome(op.clone(), inputs, 1), *expected));
        let dynamic = outcome(Operator::DynamicQuantizeLinear, &[Data("N 3")], 3).unwrap();
        assert_eq!(dynamic, "U8 [N, 3]; F32 []; U8 []");
    }

    /// A graph whose first two inputs have the scheme.
    fn quantized(inputs: &[Input], scheme: &QuantScheme) -> (Graph, Vec<Option<ValueId>>) {
        let (mut graph, ids) = graph(inputs);
        for id in ids.iter().take(2).flatten().filter(|id| graph_is_quantized(inputs, id.index())) {
            graph.value_mut(*id).scheme = Some(Arc::new(scheme.clone()));
        }
        (graph, ids)
    }

    fn graph_is_quantized(inputs: &[Input], index: usize) -> bool {
        matches!(inputs[index], Typed(element_type, _) if element_type.is_quantized())
    }

    #[test]
    fn schemes_follow_elements_that_only_move() {
        const Q: ElementType = ElementType::QS8;
        let param = QuantParam { scale: 0.5, zero_point: 0 };
        let channels = |axis| QuantScheme::per_channel(axis, vec![param; 3]).unwrap();
        let whole = QuantScheme::per_tensor(0.5, 3);
        let window = PoolWindow {
            layout: ImageLayout::ChannelsLast,
            kernel: vec![2, 2],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            padding: Padding::Valid,
            ceil_mode: false,
        };
        let pool = Operator::MaxPool(MaxPool { window, column_major: false });
        let turn = || Operator::Transpose(Transpose { permutation: vec![1, 2, 0] });
        let reshape = || Operator::Reshape(Reshape { dims: None, allow_zero: false });
        let unsqueeze = Operator::Unsqueeze(Unsqueeze { axes: Some(vec![0]) });
        let concat = |axis| Operator::Concat(Concat { axis });
        let gather = || Operator::Gather(Gather { axis: 0 });
        type Case = (Operator, &'static [Input], QuantScheme, Option<Option<usize>>);
        let cases: Vec<Case> = vec![
            (Operator::Identity, &[Typed(Q, "N 3")], channels(1), Some(Some(1))),
            (turn(), &[Typed(Q, "3 4 5")], channels(0), Some(Some(2))),
            (turn(), &[Typed(Q, "3 4 5")], whole.clone(), Some(None)),
            (unsqueeze, &[Typed(Q, "N 3")], channels(1), Some(Some(2))),
            (reshape(), &[Typed(Q, "N 3 4"), Vector(&[0, 3, 2, 2])], channels(1), Some(Some(1))),
            (reshape(), &[Typed(Q, "N 3 4"), Vector(&[-1])], channels(1), None),
            (pool, &[Typed(Q, "1 4 4 3")], channels(3), Some(Some(3))),
            (concat(0), &[Typed(Q, "2 3"), Typed(Q, "N 3")], channels(1), Some(Some(1))),
            (concat(1), &[Typed(Q, "2 3"), Typed(Q, "2 3")], channels(1), None),
            (gather(), &[Typed(Q, "9 3"), Vector(&[1])], channels(1), Some(Some(1))),
            (gather(), &[Typed(Q, "3 9"), Vector(&[1])], channels(0), None),
        ];
        each_case(cases, |(op, inputs, scheme, expected)| {
            let (mut graph, ids) = quantized(inputs, scheme);
            let y = add(&mut graph, op.clone(), ids, 1)[0];
            crate::shapes::infer(&mut graph).map_err(|error| error.to_string())?;
            let found = graph.value(y).scheme.as_ref().map(|scheme| scheme.axis());
            let is_quantized = graph.value(y).element_type() == Some(Q);
            if found == *expected && is_quantized { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }

    #[test]
    fn arithmetic_keeps_the_declared_scheme() {
        let inputs = [Typed(ElementType::QU8, "N 3"), Typed(ElementType::QU8, "3")];
        let (mut graph, ids) = quantized(&inputs, &QuantScheme::per_tensor(0.5, 3));
        let y = graph.add_tensor("y", ElementType::QU8, None::<TensorShape>);
        let scheme = Arc::new(QuantScheme::per_tensor(2.0, 1));
        graph.value_mut(y).scheme = Some(scheme.clone());
        let op = Operator::Binary { function: Binary::Add };
        graph.add_node(crate::Node { name: "n".into(), op, inputs: ids, outputs: vec![Some(y)] });
        crate::shapes::infer(&mut graph).unwrap();
        assert_eq!(described(&graph, y), "QU8 [N, 3]");
        assert_eq!(graph.value(y).scheme, Some(scheme));
    }
}
