//! Graphs whose numbers of dimensions follow only from the sizes that an inference has.
//!
//! `if x.shape[0] == 1 then squeeze(x) else x` gives a tensor of one rank or another, which symbols cannot say. A graph with such a
//! choice becomes the body of one [`Deferred`] node: nothing is inferred in it before an inference comes with its sizes. So does a
//! branch with an error in its shapes: it may never be taken.

use std::collections::HashMap;
use std::fmt;

use optimium_tensor::{Error, ErrorKind, Result};

use super::body::{Given, Produced, check_body, check_outputs, infer_body, set_produced, symbols};
use super::context::Context;
use crate::ops::{Body, Deferred};
use crate::{Graph, Node, Operator, Value, ValueId, deciders};

/// The cause of an error that the sizes of an inference may take away.
#[derive(Debug)]
pub(super) struct DecidedBySizes;

impl fmt::Display for DecidedBySizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the sizes of the inputs decide it: a model with fixed sizes, or with declared outputs, can be run")
    }
}

impl std::error::Error for DecidedBySizes {}

/// Whether the sizes of an inference may take the error away.
pub(super) fn is_decided_by_sizes(error: &Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<DecidedBySizes>())
}

/// Whether the error is one of shapes, not of what is unknown to the rules.
pub(super) fn is_deferrable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Model | ErrorKind::Shape) || is_decided_by_sizes(error)
}

/// Whether an If may be in the graph: nothing else makes ranks depend on sizes.
pub(super) fn may_have_to_be(graph: &Graph) -> bool {
    graph.nodes().iter().any(|node| !deciders::bodies(&node.op).is_empty())
}

/// Whether the values of `id` follow from sizes and constants alone. What a body is given may, for all that is known.
pub(super) fn follows_sizes(graph: &Graph, id: ValueId, depth: usize) -> bool {
    let producers = graph.producers();
    let mut seen = vec![false; graph.values().len()];
    let mut open = vec![id];
    while let Some(id) = open.pop() {
        if std::mem::replace(&mut seen[id.index()], true) || graph.constant(id).is_some() {
            continue;
        }
        let Some(node) = producers[id.index()].map(|node| graph.node(node)) else {
            if depth == 0 {
                return false;
            }
            continue;
        };
        match node.op {
            Operator::Shape(_) | Operator::Size => {}
            Operator::Random(_) => return false,
            _ => open.extend(node.inputs.iter().flatten()),
        }
    }
    true
}

/// A graph of one node, which does what `body` does. The ids in `body` must be its own.
pub(super) fn wrapped(body: Box<Graph>) -> Graph {
    let mut graph = Graph::new(body.name.clone());
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let mut copy = |graph: &mut Graph, id: ValueId| {
        let is_new = !copies.contains_key(&id);
        let copied = *copies.entry(id).or_insert_with(|| graph.add_value(Value::clone(body.value(id))));
        (copied, is_new && body.constant(id).is_none())
    };
    graph.inputs = body.inputs.iter().map(|&id| copy(&mut graph, id).0).collect();
    let inputs = graph.inputs.iter().copied().map(Some).collect();
    let mut outputs = Vec::with_capacity(body.outputs.len());
    for &id in &body.outputs {
        let (copied, is_computed) = copy(&mut graph, id);
        graph.outputs.push(copied);
        outputs.push(Some(copied).filter(|_| is_computed));
    }
    let name = body.name.clone();
    let op = Operator::Deferred(Deferred { body: Body { graph: body } });
    graph.add_node(Node { name, op, inputs, outputs });
    graph
}

/// Inputs and outputs: those of the body. What is known already may say the shapes; what is not, is taken as declared.
pub(super) fn deferred(op: &mut Deferred, cx: &mut Context<'_>) -> Result<()> {
    let given: Result<Vec<Given>> = (0..cx.input_count()).map(|i| Given::outer(cx, i)).collect();
    let given = given?;
    check_outputs(&op.body.graph, cx.output_count())?;
    check_body(&mut op.body.graph, given.len())?;
    let mut body = Graph::clone(&op.body.graph);
    let produced = match infer_body(&mut body, &given, &symbols(&given), cx.depth()) {
        Ok(produced) => produced,
        Err(error) if !is_deferrable(&error) => return Err(error),
        Err(_) => (0..cx.output_count())
            .map(|index| cx.output(index).map_or_else(Produced::nothing, Produced::declared))
            .collect(),
    };
    produced.into_iter().enumerate().try_for_each(|(index, value)| set_produced(index, value, cx))
}

#[cfg(test)]
mod tests {
    use optimium_tensor::{ElementType, TensorShape};

    use super::*;
    use crate::ValueType;
    use crate::ops::{Comparison, Gather, If, Shape, Squeeze};
    use crate::shapes::testing::Input::{Data, Scalar, Typed};
    use crate::shapes::testing::{add, body, described, dims, graph};
    use crate::shapes::{infer, infer_now};

    /// `if x.shape[1] == 1 then squeeze(x, 1) else x`, its result declared to have the shape `declared`.
    fn choice(shape: &'static str, declared: Option<&str>) -> Graph {
        let squeeze = Operator::Squeeze(Squeeze { axes: Some(vec![1]) });
        let then_branch = body(&[Data("A B")], |graph, x| add(graph, squeeze, vec![Some(x[0])], 1));
        let else_branch =
            body(&[Data("A B")], |graph, x| add(graph, Operator::Identity, vec![Some(x[0])], 1));
        let (mut graph, ids) = graph(&[Data(shape), Scalar(1), Scalar(1)]);
        let sizes = add(&mut graph, Operator::Shape(Shape { start: 0, end: None }), vec![ids[0]], 1);
        let size = add(&mut graph, Operator::Gather(Gather { axis: 0 }), vec![Some(sizes[0]), ids[1]], 1);
        let equal = Operator::Comparison { function: Comparison::Equal };
        let condition = add(&mut graph, equal, vec![Some(size[0]), ids[2]], 1);
        let op = Operator::If(If { then_branch, else_branch });
        let y = add(&mut graph, op, vec![Some(condition[0]), ids[0]], 1)[0];
        let y = add(&mut graph, Operator::Identity, vec![Some(y)], 1)[0];
        let shape = declared.map(|declared| TensorShape::new(dims(declared)));
        graph.value_mut(y).value_type = ValueType::Tensor { element_type: ElementType::F32, shape };
        graph.outputs = vec![y];
        graph
    }

    fn is_deferred(graph: &Graph) -> bool {
        matches!(graph.nodes(), [Node { op: Operator::Deferred(_), .. }])
    }

    #[test]
    fn graphs_wait_for_the_sizes_that_decide_ranks() {
        let cases = [
            ("N 1", None, false, "F32 [N]"),
            ("N 3", None, false, "F32 [N, 3]"),
            ("N M", Some("N K"), true, "F32 [N, K]"),
            ("N M", Some("7"), true, "F32 [7]"),
            ("N M", None, true, "F32 ?"),
        ];
        for (shape, declared, deferred, expected) in cases {
            let mut graph = choice(shape, declared);
            for _ in 0..2 {
                infer(&mut graph).unwrap();
                assert_eq!(is_deferred(&graph), deferred, "{shape}");
            }
            assert_eq!(described(&graph, graph.outputs[0]), expected);
        }
        let error = infer_now(&mut choice("N M", None)).unwrap_err();
        assert!(
            is_decided_by_sizes(&error) && error.message().contains("different numbers of dimensions"),
            "{error}"
        );
    }

    #[test]
    fn deferred_graphs_are_inferred_when_more_is_known() {
        let mut graph = choice("N M", Some("K"));
        infer(&mut graph).unwrap();
        assert_eq!(described(&graph, graph.outputs[0]), "F32 [K]");
        // Two dimensions contradict the declaration: inferences with those sizes fail.
        for (sizes, expected) in [([5, 1], "F32 [5]"), ([5, 2], "F32 [K]")] {
            let mut graph = graph.clone();
            let shape = Some(TensorShape::fixed(&sizes));
            let input = graph.inputs[0];
            graph.value_mut(input).value_type = ValueType::Tensor { element_type: ElementType::F32, shape };
            infer(&mut graph).unwrap();
            assert_eq!(described(&graph, graph.outputs[0]), expected);
        }
    }

    #[test]
    fn what_passes_through_stays_what_it_is() {
        let (mut body, ids) = graph(&[Data("N"), Scalar(3)]);
        let ids: Vec<ValueId> = ids.into_iter().flatten().collect();
        let y = add(&mut body, Operator::Identity, vec![Some(ids[0])], 1)[0];
        body.outputs = vec![ids[0], y, ids[1], y];
        let mut graph = wrapped(Box::new(body));
        infer(&mut graph).unwrap();
        let outputs = &graph.outputs;
        assert!(outputs[0] == graph.inputs[0] && outputs[1] == outputs[3]);
        assert!(graph.constant(outputs[2]).is_some());
        assert_eq!(graph.nodes()[0].outputs, [None, Some(outputs[1]), None, None]);
        assert_eq!(described(&graph, outputs[1]), "F32 [N]");
    }

    #[test]
    fn damaged_branches_are_errors_at_once() {
        let leaf = || body(&[Data("A")], |graph, x| add(graph, Operator::Identity, vec![Some(x[0])], 1));
        let mut unknown = leaf();
        unknown.graph.outputs = vec![ValueId::from_index(1000)];
        let mut nobody = leaf();
        let lost = nobody.graph.add_unknown("lost");
        add(&mut nobody.graph, Operator::Identity, vec![Some(lost)], 1);
        let mut more = leaf();
        let again = more.graph.inputs[0];
        more.graph.inputs.push(again);
        for damaged in [unknown, nobody, more] {
            let op = Operator::If(If { then_branch: leaf(), else_branch: damaged.clone() });
            let inputs = [Typed(ElementType::Bool, ""), Data("N")];
            let result = crate::shapes::testing::infer_one(op, &inputs, 1);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Model);
            let op = Operator::Deferred(Deferred { body: damaged });
            let result = crate::shapes::testing::infer_one(op, &inputs[1..], 1);
            assert_eq!(result.unwrap_err().kind(), ErrorKind::Model);
        }
    }
}
