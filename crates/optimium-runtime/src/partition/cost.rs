//! What nodes are estimated to take, and what cutting a graph costs.
//!
//! The unit is about a nanosecond of one core, but only ratios matter.

use std::collections::HashSet;
use std::sync::Arc;

use optimium_graph::ops::Operator;
use optimium_graph::work::{OperandDims, multiply_adds};
use optimium_graph::{Graph, Node, ValueId};
use optimium_tensor::{ElementType, Expr};

/// Stands for every symbolic dimension.
const USUAL_DIM: i64 = 64;
/// Multiply-adds of `f32` in a unit of time, when a kernel does nothing else.
const MULTIPLY_ADDS: f64 = 40.0;
/// As many more fit where a factor has 8 bits.
const BYTES_ADVANTAGE: f64 = 3.0;
/// Bytes that come and go in a unit of time.
const BYTES: f64 = 10.0;
/// What every step takes besides.
const STEP: f64 = 50.0;

/// For each node.
pub(super) fn of_nodes(graph: &Graph) -> Vec<f64> {
    let dims: Vec<Option<Vec<usize>>> =
        (0..graph.values().len()).map(|index| usual_dims(graph, ValueId::from_index(index))).collect();
    graph.nodes().iter().map(|node| of_node(graph, node, &dims)).collect()
}

fn of_node(graph: &Graph, node: &Node, dims: &[Option<Vec<usize>>]) -> f64 {
    if is_view(&node.op) {
        return 0.0;
    }
    let input = |index: usize| node.input(index).and_then(|id| dims[id.index()].as_deref());
    let output = |index: usize| node.output(index).and_then(|id| dims[id.index()].as_deref());
    let products = multiply_adds(&node.op, OperandDims { input: &input, output: &output }) as f64;
    let operands = node.inputs.iter().chain(&node.outputs).flatten();
    let bytes: f64 = operands.map(|&id| bytes(graph, id, dims[id.index()].as_deref())).sum();
    let is_narrow = |id: ValueId| graph.value(id).element_type().is_some_and(|kind| kind.size() == 1);
    let advantage = if node.input(0).is_some_and(is_narrow) { BYTES_ADVANTAGE } else { 1.0 };
    STEP + products / (MULTIPLY_ADDS * advantage) + bytes / BYTES
}

/// Whether its result lies where its operands do, mostly: under another shape, or as parts of a whole.
fn is_view(operator: &Operator) -> bool {
    matches!(
        operator,
        Operator::Identity
            | Operator::Dropout
            | Operator::Reshape(_)
            | Operator::Flatten(_)
            | Operator::Squeeze(_)
            | Operator::Unsqueeze(_)
            | Operator::Concat(_)
            | Operator::Slice(_)
            | Operator::Split(_)
    )
}

fn usual_dims(graph: &Graph, id: ValueId) -> Option<Vec<usize>> {
    let usual = |_: &str| Some(Expr::from(USUAL_DIM));
    let number = |dim: &Expr| dim.substitute(&usual).as_const().and_then(|dim| usize::try_from(dim).ok());
    graph.value(id).shape()?.dims().iter().map(number).collect()
}

fn bytes(graph: &Graph, id: ValueId, dims: Option<&[usize]>) -> f64 {
    let size = graph.value(id).element_type().map_or(0, ElementType::size);
    dims.map_or(0.0, |dims| dims.iter().map(|&dim| dim as f64).product::<f64>() * size as f64)
}

/// For each place to cut, the one before the first node and the one behind the last included, the time to hand over the values
/// that cross it; infinite where one of them cannot be handed over.
pub(super) fn of_cuts(graph: &Graph) -> Vec<f64> {
    let count = graph.nodes().len();
    let mut known = HashSet::new();
    for &input in &graph.inputs {
        visit_symbols(graph, input, &mut |symbol| _ = known.insert(symbol.clone()));
    }
    let mut last_use = vec![0; graph.values().len()];
    for (index, node) in graph.nodes().iter().enumerate() {
        node.inputs.iter().flatten().for_each(|input| last_use[input.index()] = index);
    }
    let mut costs = vec![0.0; count + 1];
    for (index, node) in graph.nodes().iter().enumerate() {
        for &output in node.outputs.iter().flatten() {
            let time = match can_cross(graph, output, &known) {
                true => bytes(graph, output, usual_dims(graph, output).as_deref()) / BYTES,
                false => f64::INFINITY,
            };
            // It crosses the places between the one who computes it and the last one who uses it.
            let places = costs.get_mut(index + 1..=last_use[output.index()]);
            places.into_iter().flatten().for_each(|cost| *cost += time);
        }
    }
    costs
}

/// Whether memory can be laid out for the value when the inputs' dimensions are known.
fn can_cross(graph: &Graph, id: ValueId, known: &HashSet<Arc<str>>) -> bool {
    let value = graph.value(id);
    let has_memory = value.element_type().is_some_and(|kind| kind != ElementType::String);
    let mut is_known = value.shape().is_some();
    visit_symbols(graph, id, &mut |symbol| is_known &= known.contains(symbol));
    has_memory && is_known
}

fn visit_symbols(graph: &Graph, id: ValueId, visit: &mut dyn FnMut(&Arc<str>)) {
    let dims = graph.value(id).shape().into_iter().flat_map(|shape| shape.dims());
    dims.for_each(|dim| dim.visit_symbols(visit));
}
