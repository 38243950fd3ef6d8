//! The rule of If.

use std::collections::HashSet;
use std::sync::Arc;

use optimium_tensor::{ElementType, Error, ErrorKind, Result, Tensor, TensorShape};

use super::body::{Given, Produced, check_body, check_outputs, infer_body, set_produced, symbols};
use super::context::Context;
use super::deferred::{self, DecidedBySizes};
use crate::ValueType;
use crate::ops::{Body, If};

/// Inputs: condition, captured values. Where the condition is known, only the branch that is taken is inferred, and the
/// condition becomes a constant. A branch whose shapes contradict each other, or follow only from sizes that an inference has, is
/// deferred: it counts when it is taken.
pub(super) fn if_(op: &mut If, cx: &mut Context<'_>) -> Result<()> {
    cx.expect_type(0, &[ElementType::Bool])?;
    let captured: Result<Vec<Given>> = (1..cx.input_count()).map(|i| Given::outer(cx, i)).collect();
    let captured = captured?;
    let (outer, depth, count) = (symbols(&captured), cx.depth(), cx.output_count());
    if let Some(condition) = cx.constant(0) {
        let branch = if condition != 0 { &mut op.then_branch } else { &mut op.else_branch };
        check_outputs(&branch.graph, count)?;
        let produced = infer_body(&mut branch.graph, &captured, &outer, depth)?;
        produced.into_iter().enumerate().try_for_each(|(index, value)| set_produced(index, value, cx))?;
        return decide(condition != 0, cx);
    }
    for branch in [&op.then_branch, &op.else_branch] {
        check_outputs(&branch.graph, count)?;
    }
    let taken = infer_branch(&mut op.then_branch, &captured, &outer, depth)?;
    let other = infer_branch(&mut op.else_branch, &captured, &outer, depth)?;
    if let (Err(error), Err(also)) = (&taken, &other)
        && ![error, also].into_iter().any(deferred::is_decided_by_sizes)
    {
        return taken.map(|_| ());
    }
    let taken = taken.or_else(|error| defer(&mut op.then_branch, error))?;
    let other = other.or_else(|error| defer(&mut op.else_branch, error))?;
    for (index, (a, b)) in taken.into_iter().zip(other).enumerate() {
        let merged = merged(a, b).map_err(|error| {
            let is_by_sizes = error.kind() == ErrorKind::NotImplemented && cx.is_decided_by_sizes(0);
            if is_by_sizes { error.with_cause(DecidedBySizes) } else { error }
        })?;
        set_produced(index, merged, cx)?;
    }
    Ok(())
}

/// What a branch gives, or why that cannot be said; the branch is then as it was.
///
/// # Errors
/// Where the branch cannot be deferred either.
fn infer_branch(
    branch: &mut Body,
    captured: &[Given],
    outer: &HashSet<Arc<str>>,
    depth: usize,
) -> Result<Result<Vec<Produced>>> {
    check_body(&mut branch.graph, captured.len())?;
    let original = branch.graph.clone();
    let produced = infer_body(&mut branch.graph, captured, outer, depth);
    match produced {
        Err(error) if deferred::is_deferrable(&error) => {
            branch.graph = original;
            Ok(Err(error))
        }
        other => other.map(Ok),
    }
}

/// Defers a branch, and says what it gives as far as that is declared. A branch that fails whatever the sizes are says nothing.
///
/// # Errors
/// `error` where sizes decide the number of dimensions of an output, and none is declared: what is around the branch depends on it.
fn defer(branch: &mut Body, error: Error) -> Result<Vec<Produced>> {
    let is_by_sizes = deferred::is_decided_by_sizes(&error);
    let declared = branch.graph.outputs.iter().map(|&id| branch.graph.value(id));
    let produced: Vec<Produced> = declared
        .map(|value| match is_by_sizes {
            true => Produced::declared(value),
            false => Produced::nothing(),
        })
        .collect();
    if is_by_sizes && produced.iter().any(|produced| !produced.has_rank()) {
        return Err(error);
    }
    *branch.graph = deferred::wrapped(std::mem::take(&mut branch.graph));
    Ok(produced)
}

/// Makes the condition a constant.
fn decide(condition: bool, cx: &mut Context<'_>) -> Result<()> {
    let value = cx.input(0)?;
    if value.constant.is_some() {
        return Ok(());
    }
    let dims = value.shape().and_then(TensorShape::as_fixed).unwrap_or_default();
    let name = format!("{}.decided", value.name);
    let constant = Tensor::from_bytes(ElementType::Bool, &dims, &[u8::from(condition)])?;
    cx.replace_input(0, name, constant);
    Ok(())
}

/// What is true of both branches' outputs.
fn merged(a: Produced, b: Produced) -> Result<Produced> {
    // A branch that is deferred may say nothing.
    match (a.has_rank(), b.has_rank()) {
        (false, true) => return Ok(b),
        (true, false) => return Ok(a),
        _ => {}
    }
    let (ValueType::Tensor { element_type: first, .. }, ValueType::Tensor { element_type: second, .. }) =
        (&a.value_type, &b.value_type)
    else {
        return Ok(a);
    };
    if first != second {
        return Err(Error::model(format!("one branch gives {first}, the other {second}")));
    }
    let dims = match (&a.dims, &b.dims) {
        (Some(a), Some(b)) if a.len() == b.len() => {
            Some(a.iter().zip(b).map(|(a, b)| a.clone().filter(|a| Some(a) == b.as_ref())).collect())
        }
        _ => return Err(Error::not_implemented("the branches give different numbers of dimensions")),
    };
    let known = a.known.filter(|known| Some(known) == b.known.as_ref());
    let scheme = a.scheme.filter(|scheme| Some(scheme) == b.scheme.as_ref());
    Ok(Produced { value_type: a.value_type, scheme, dims, known })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Operator;
    use crate::ops::{Comparison, Concat, Gather, Shape, Slice, Squeeze};
    use crate::shapes::testing::Input::{Data, Scalar, Typed, Vector};
    use crate::shapes::testing::{add, body, described, graph, outcome};

    fn identity() -> Body {
        body(&[Data("A")], |graph, x| add(graph, Operator::Identity, vec![Some(x[0])], 1))
    }

    fn squeezed(axis: i64) -> Body {
        let op = Operator::Squeeze(Squeeze { axes: Some(vec![axis]) });
        body(&[Data("A")], |graph, x| add(graph, op, vec![Some(x[0])], 1))
    }

    #[test]
    fn branches_are_merged() {
        let doubled = body(&[Data("A")], |graph, x| {
            add(graph, Operator::Concat(Concat { axis: 0 }), vec![Some(x[0]), Some(x[0])], 1)
        });
        let condition = Typed(ElementType::Bool, "");
        let op = |then_branch, else_branch| Operator::If(If { then_branch, else_branch });
        let inputs = [condition, Data("N 3")];
        assert_eq!(outcome(op(identity(), identity()), &inputs, 1).unwrap(), "F32 [N, 3]");
        assert_eq!(outcome(op(identity(), doubled), &inputs, 1).unwrap(), "F32 [n0.y0.0, 3]");
        let error = outcome(op(identity(), squeezed(0)), &inputs, 1).unwrap_err();
        assert!(error.contains("different numbers of dimensions"), "{error}");
        // N x 3 has no axis of one element: whoever takes that branch fails.
        assert_eq!(outcome(op(identity(), squeezed(1)), &inputs, 1).unwrap(), "F32 [N, 3]");
        assert_eq!(outcome(op(squeezed(1), identity()), &inputs, 1).unwrap(), "F32 [N, 3]");
        let error = outcome(op(squeezed(1), squeezed(1)), &inputs, 1).unwrap_err();
        assert!(error.contains("in the body"), "{error}");
        assert!(outcome(op(identity(), identity()), &inputs, 2).is_err());
        assert!(outcome(op(identity(), identity()), &inputs[..1], 1).is_err());
    }

    /// `if x.shape[1] == 1 then squeeze(x, 1) else x`, as exporters write it.
    #[test]
    fn a_known_condition_takes_one_branch() {
        for (shape, expected) in [("N 1", "F32 [N]"), ("N 3", "F32 [N, 3]")] {
            let (mut graph, ids) = graph(&[Data(shape), Scalar(1), Scalar(1)]);
            let sizes = add(&mut graph, Operator::Shape(Shape { start: 0, end: None }), vec![ids[0]], 1);
            let size = add(&mut graph, Operator::Gather(Gather { axis: 0 }), vec![Some(sizes[0]), ids[1]], 1);
            let equal = Operator::Comparison { function: Comparison::Equal };
            let condition = add(&mut graph, equal, vec![Some(size[0]), ids[2]], 1);
            let op = Operator::If(If { then_branch: squeezed(1), else_branch: identity() });
            let y = add(&mut graph, op, vec![Some(condition[0]), ids[0]], 1);
            crate::shapes::infer(&mut graph).unwrap();
            assert_eq!(described(&graph, y[0]), expected);
            let decided = graph.nodes()[3].input(0).and_then(|id| graph.constant(id));
            assert_eq!(decided.map(|tensor| tensor.element_type()), Some(ElementType::Bool));
            crate::shapes::infer(&mut graph).unwrap();
        }
    }

    #[test]
    fn symbols_of_a_body_stay_inside() {
        let cut = || {
            body(&[Data("A"), Typed(ElementType::I64, "1")], |graph, x| {
                let zero = graph.add_constant("zero", Tensor::from_slice(&[1], &[0i64]).unwrap());
                let op = Operator::Slice(Slice { ranges: None });
                add(graph, op, vec![Some(x[0]), Some(zero), Some(x[1])], 1)
            })
        };
        let op = Operator::If(If { then_branch: cut(), else_branch: cut() });
        let inputs = [Typed(ElementType::Bool, ""), Data("N 3"), Typed(ElementType::I64, "1")];
        assert_eq!(outcome(op, &inputs, 1).unwrap(), "F32 [n0.y0.0, 3]");
        let known = Operator::If(If { then_branch: cut(), else_branch: cut() });
        let inputs = [Typed(ElementType::Bool, ""), Data("7 3"), Vector(&[2])];
        assert_eq!(outcome(known, &inputs, 1).unwrap(), "F32 [2, 3]");
    }

    #[test]
    fn nesting_is_bounded() {
        let given = [Typed(ElementType::Bool, ""), Data("A")];
        let leaf = || body(&given, |graph, x| add(graph, Operator::Identity, vec![Some(x[1])], 1));
        let nested = |levels: usize| {
            (0..levels).fold(leaf(), |inner, _| {
                body(&given, |graph, x| {
                    let op = Operator::If(If { then_branch: inner, else_branch: leaf() });
                    add(graph, op, vec![Some(x[0]), Some(x[0]), Some(x[1])], 1)
                })
            })
        };
        let run = |levels| {
            let op = Operator::If(If { then_branch: nested(levels), else_branch: leaf() });
            outcome(op, &[given[0].clone(), given[0].clone(), Data("N")], 1)
        };
        assert_eq!(run(4).unwrap(), "F32 [N]");
        assert!(run(40).unwrap_err().contains("nested deeper"));
    }
}
