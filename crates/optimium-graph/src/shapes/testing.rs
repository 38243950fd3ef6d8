//! What the tests of the rules share: one-node graphs, written shortly.

use optimium_tensor::{ElementType, Expr, Result, Tensor, TensorShape};

use super::infer;
use crate::ops::Body;
use crate::{Graph, Node, Operator, ValueId};

/// Dimensions from words: numbers and symbols.
pub(super) fn dims(text: &str) -> Vec<Expr> {
    let word = |word: &str| word.parse::<i64>().map_or_else(|_| Expr::symbol(word), Expr::from);
    text.split_whitespace().map(word).collect()
}

/// An input of a test graph.
#[derive(Clone, Debug)]
pub(super) enum Input {
    /// A tensor of F32 that the caller gives.
    Data(&'static str),
    /// A tensor of another type.
    Typed(ElementType, &'static str),
    /// A constant vector of I64.
    Vector(&'static [i64]),
    /// A constant scalar of I64.
    Scalar(i64),
    /// A constant vector of F32.
    Floats(&'static [f32]),
    /// Left out.
    Missing,
}

/// A graph with the inputs `x0`, `x1`, …
pub(super) fn graph(inputs: &[Input]) -> (Graph, Vec<Option<ValueId>>) {
    let mut graph = Graph::new("test");
    let mut ids = Vec::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = format!("x{i}");
        let mut given = |element_type, shape: &str| {
            let id = graph.add_tensor(name.clone(), element_type, Some(TensorShape::new(dims(shape))));
            graph.inputs.push(id);
            id
        };
        ids.push(match input {
            Input::Data(shape) => Some(given(ElementType::F32, shape)),
            Input::Typed(element_type, shape) => Some(given(*element_type, shape)),
            Input::Vector(v) => Some(graph.add_constant(name, Tensor::from_slice(&[v.len()], v).unwrap())),
            Input::Scalar(n) => Some(graph.add_constant(name, Tensor::scalar(*n).unwrap())),
            Input::Floats(v) => Some(graph.add_constant(name, Tensor::from_slice(&[v.len()], v).unwrap())),
            Input::Missing => None,
        });
    }
    (graph, ids)
}

/// Appends a node with so many outputs, named `y0`, `y1`, … behind the node's number.
pub(super) fn add(
    graph: &mut Graph,
    op: Operator,
    inputs: Vec<Option<ValueId>>,
    outputs: usize,
) -> Vec<ValueId> {
    let number = graph.nodes().len();
    let ids: Vec<ValueId> = (0..outputs).map(|i| graph.add_unknown(format!("n{number}.y{i}"))).collect();
    let outputs = ids.iter().copied().map(Some).collect();
    graph.add_node(Node { name: format!("n{number}"), op, inputs, outputs });
    ids
}

/// The graph after inference of one node with so many outputs.
pub(super) fn infer_one(op: Operator, inputs: &[Input], outputs: usize) -> Result<Graph> {
    let (mut graph, ids) = graph(inputs);
    graph.outputs = add(&mut graph, op, ids, outputs);
    infer(&mut graph)?;
    Ok(graph)
}

/// The outputs of one node: `F32 [2, N]` for each, joined with commas, or the error's kind and message.
pub(super) fn outcome(op: Operator, inputs: &[Input], outputs: usize) -> Result<String, String> {
    let graph = infer_one(op, inputs, outputs).map_err(|error| error.to_string())?;
    Ok(graph.outputs.iter().map(|&id| described(&graph, id)).collect::<Vec<_>>().join("; "))
}

/// A value's type and shape.
pub(super) fn described(graph: &Graph, id: ValueId) -> String {
    let value = graph.value(id);
    let element_type = value.element_type().map_or("?", |t| t.name());
    format!("{element_type} {}", value.shape().map_or("?".to_owned(), ToString::to_string))
}

/// Checks an outcome: a description, or a part of an error's message.
pub(super) fn expect(actual: Result<String, String>, expected: Result<&str, &str>) -> Result<(), String> {
    match (&actual, expected) {
        (Ok(actual), Ok(expected)) if actual == expected => Ok(()),
        (Err(message), Err(part)) if message.contains(part) => Ok(()),
        _ => Err(format!("{actual:?}, expected {expected:?}")),
    }
}

/// A body with those inputs whose outputs `build` makes.
pub(super) fn body(inputs: &[Input], build: impl FnOnce(&mut Graph, &[ValueId]) -> Vec<ValueId>) -> Body {
    let (mut graph, ids) = graph(inputs);
    let ids: Vec<ValueId> = ids.into_iter().flatten().collect();
    graph.outputs = build(&mut graph, &ids);
    Body { graph: Box::new(graph) }
}
