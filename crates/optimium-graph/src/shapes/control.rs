//! Rules of loops.

use optimium_tensor::{ElementType, Error, Expr, Result, TensorShape};

use super::arithmetic::normalize_axis;
use super::body::{Given, Produced, check_outputs, infer_body, set_produced, symbols};
use super::context::Context;
use crate::Graph;
use crate::ops::{Loop, Scan};

/// Inputs: trip count or none, condition or none, carried values, captured values.
///
/// A dimension of a carried value that an iteration changes is a symbol of the body.
pub(super) fn loop_(op: &mut Loop, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::I64])?;
    cx.expect_type(1, &[ElementType::Bool])?;
    let (count, carried) = (cx.input_count(), op.carried);
    let first_captured = carried.checked_add(2).filter(|&first| first <= count);
    let first_captured = first_captured
        .ok_or_else(|| Error::model(format!("{count} inputs are too few for {carried} carried values")))?;
    check_outputs(&op.body.graph, cx.output_count() + 1)?;
    let initial: Result<Vec<Given>> = (2..first_captured).map(|i| Given::outer(cx, i)).collect();
    let captured: Result<Vec<Given>> = (first_captured..count).map(|i| Given::outer(cx, i)).collect();
    let (initial, captured) = (initial?, captured?);
    let outer = symbols(initial.iter().chain(&captured));
    let mut stable: Vec<Vec<bool>> =
        initial.iter().map(|given| vec![true; given.shape().map_or(0, TensorShape::rank)]).collect();
    let mut last_attempt = false;
    let produced = loop {
        let mut body = Graph::clone(&op.body.graph);
        let mut inputs =
            vec![Given::counter(&body, 0, ElementType::I64), Given::counter(&body, 1, ElementType::Bool)];
        inputs.extend((0..carried).map(|i| carried_input(&body, i, &initial[i], &stable[i])));
        inputs.extend(captured.iter().cloned());
        let produced = infer_body(&mut body, &inputs, &outer, cx.depth())?;
        if !widen(&initial, &produced, &mut stable)? {
            *op.body.graph = body;
            break produced;
        }
        // What changes may make more change; the third attempt then assumes nothing.
        if last_attempt {
            stable.iter_mut().for_each(|axes| axes.fill(false));
        }
        last_attempt = true;
    };
    for (index, value) in produced.into_iter().skip(1).enumerate() {
        set_loop_output(index, value, &initial, &stable, cx)?;
    }
    Ok(())
}

/// A carried value as an iteration gets it: the dimensions that change are symbols.
fn carried_input(body: &Graph, index: usize, initial: &Given, stable: &[bool]) -> Given {
    let Ok((element_type, dims)) = initial.parts() else {
        return Given { known: None, ..initial.clone() };
    };
    let name = body.inputs.get(index + 2).and_then(|id| body.values().get(id.index()));
    let name = name.map_or("carried", |value| value.name.as_str());
    let dims = dims.into_iter().enumerate().map(|(axis, dim)| match stable[axis] {
        true => dim,
        false => Expr::symbol(&format!("{name}.{axis}")),
    });
    Given { scheme: initial.scheme.clone(), ..Given::tensor(element_type, dims.collect()) }
}

/// Finds the dimensions that an iteration changes; whether there are new ones.
fn widen(initial: &[Given], produced: &[Produced], stable: &mut [Vec<bool>]) -> Result<bool> {
    let mut changed = false;
    for ((given, produced), stable) in initial.iter().zip(&produced[1..]).zip(stable) {
        if given.shape().is_none() {
            continue;
        }
        let ((before, dims), (after, result)) = (given.parts()?, produced.parts()?);
        if before != after {
            return Err(Error::model(format!(
                "a carried value is {before} before an iteration and {after} after"
            )));
        }
        if dims.len() != result.len() {
            return Err(Error::not_implemented(
                "an iteration changes the number of dimensions of a carried value",
            ));
        }
        for (axis, dim) in dims.iter().enumerate() {
            if stable[axis] && result[axis].as_ref() != Some(dim) {
                stable[axis] = false;
                changed = true;
            }
        }
    }
    Ok(changed)
}

fn set_loop_output(
    index: usize,
    mut value: Produced,
    initial: &[Given],
    stable: &[Vec<bool>],
    cx: &mut Context<'_>,
) -> Result<()> {
    value.known = None;
    if let Some(stable) = stable.get(index) {
        let dims = initial[index].shape().map(|shape| shape.dims().iter().zip(stable));
        value.dims = dims.map(|dims| dims.map(|(dim, &stable)| stable.then(|| dim.clone())).collect());
        return set_produced(index, value, cx);
    }
    let (element_type, dims) = value.parts()?;
    cx.set_partial(index, element_type, [vec![None], dims].concat())
}

/// Inputs: initial states, scanned tensors, captured values.
pub(super) fn scan(op: &mut Scan, cx: &mut Context<'_>) -> Result<()> {
    let (count, scanned, results) = (cx.input_count(), op.scan_inputs, op.output_axes.len());
    check_outputs(&op.body.graph, cx.output_count())?;
    let states = cx.output_count().checked_sub(results);
    let states = states.filter(|&states| {
        op.input_axes.len() == scanned
            && scanned > 0
            && states.checked_add(scanned).is_some_and(|n| n <= count)
    });
    let states =
        states.ok_or_else(|| Error::model("axes, scanned tensors and outputs do not match in number"))?;
    let given: Result<Vec<Given>> = (0..count).map(|i| Given::outer(cx, i)).collect();
    let mut given = given?;
    let outer = symbols(&given);
    given[..states].iter_mut().for_each(|state| state.known = None);
    let mut length = None;
    for (given, &axis) in given[states..states + scanned].iter_mut().zip(&op.input_axes) {
        let (element_type, mut dims) = given.parts()?;
        length = Some(dims.remove(normalize_axis(axis, dims.len())?));
        *given = Given::tensor(element_type, TensorShape::new(dims));
    }
    let produced = infer_body(&mut op.body.graph, &given, &outer, cx.depth())?;
    for (index, value) in produced.into_iter().enumerate() {
        if index < states {
            let (element_type, dims) = given[index].parts()?;
            cx.set(index, element_type, dims)?;
            continue;
        }
        let (element_type, mut dims) = value.parts()?;
        let axis = normalize_axis(op.output_axes[index - states], dims.len() + 1)?;
        dims.insert(axis, length.clone());
        cx.set_partial(index, element_type, dims)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Binary, Concat, Squeeze};
    use crate::shapes::testing::Input::{Data, Missing, Typed};
    use crate::shapes::testing::{add, body, outcome};
    use crate::{Operator, ValueId};

    fn joined_with(other: usize) -> impl FnOnce(&mut Graph, &[ValueId]) -> Vec<ValueId> {
        move |graph, x| {
            let op = Operator::Concat(Concat { axis: 0 });
            let longer = add(graph, op, vec![Some(x[2]), Some(x[other])], 1);
            vec![x[1], longer[0], x[2]]
        }
    }

    #[test]
    fn loops_widen_what_changes() {
        let given = [Typed(ElementType::I64, ""), Typed(ElementType::Bool, ""), Data("A 4"), Data("B 4")];
        let inputs = [Typed(ElementType::I64, ""), Missing, Data("N 4"), Data("1 4")];
        let grows = Operator::Loop(Loop { body: body(&given, joined_with(3)), carried: 1 });
        let shapes = "F32 [n0.y0.0, 4]; F32 [n0.y1.0, n0.y1.1, 4]";
        assert_eq!(outcome(grows, &inputs, 2).unwrap(), shapes);
        let keeps = body(&given, |graph, x| {
            let op = Operator::Binary { function: Binary::Add };
            let sum = add(graph, op, vec![Some(x[2]), Some(x[3])], 1);
            vec![x[1], sum[0], x[3]]
        });
        let keeps = Operator::Loop(Loop { body: keeps, carried: 1 });
        assert_eq!(outcome(keeps, &inputs, 2).unwrap(), "F32 [N, 4]; F32 [n0.y1.0, 1, 4]");
        let too_many = Operator::Loop(Loop { body: body(&given, joined_with(3)), carried: usize::MAX });
        assert!(outcome(too_many, &inputs, 2).unwrap_err().contains("too few"));
        let flatter = body(&given[..3], |graph, x| {
            let op = Operator::Squeeze(Squeeze { axes: Some(vec![0]) });
            let less = add(graph, op, vec![Some(x[2])], 1);
            vec![x[1], less[0]]
        });
        let flatter = Operator::Loop(Loop { body: flatter, carried: 1 });
        let error = outcome(flatter, &[inputs[0].clone(), Missing, Data("1 4")], 1).unwrap_err();
        assert!(error.contains("number of dimensions"), "{error}");
    }

    #[test]
    fn scans_cut_and_stack_axes() {
        let step = || {
            body(&[Data("A"), Data("B")], |graph, x| {
                let op = Operator::Binary { function: Binary::Add };
                let sum = add(graph, op, vec![Some(x[0]), Some(x[1])], 1)[0];
                vec![sum, sum]
            })
        };
        let op = |input_axes: Vec<i64>, output_axes: Vec<i64>| {
            Operator::Scan(Scan {
                body: step(),
                scan_inputs: 1,
                input_reversed: vec![false],
                output_reversed: vec![false],
                input_axes,
                output_axes,
            })
        };
        let inputs = [Data("N 4"), Data("N T 4")];
        assert_eq!(outcome(op(vec![1], vec![-1]), &inputs, 2).unwrap(), "F32 [N, 4]; F32 [N, 4, T]");
        assert!(outcome(op(vec![3], vec![0]), &inputs, 2).unwrap_err().contains("axis 3"));
        assert!(outcome(op(vec![], vec![0]), &inputs, 2).unwrap_err().contains("do not match"));
        assert!(outcome(op(vec![1], vec![0, 0, 0]), &inputs, 2).unwrap_err().contains("do not match"));
    }
}
