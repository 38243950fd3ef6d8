//! Which nodes' data decide sizes or structure, and which symbols a graph speaks of.

use std::collections::HashSet;
use std::sync::Arc;

use optimium_tensor::{Expr, TensorShape};

use crate::{Graph, Node, Operator};

/// The inputs of a node whose values, not their shapes, say what the node does: the amounts and axes that the operator does not know
/// itself.
pub fn deciding_inputs(op: &Operator) -> &'static [usize] {
    match op {
        Operator::Reshape(reshape) if reshape.dims.is_none() => &[1],
        Operator::Expand(expand) if expand.dims.is_none() => &[1],
        Operator::Tile(tile) if tile.repeats.is_none() => &[1],
        Operator::Pad(pad) if pad.pads.is_none() => &[1, 3],
        Operator::Slice(slice) if slice.ranges.is_none() => &[1, 2, 3, 4],
        Operator::Split(split) if split.sizes.is_none() => &[1],
        Operator::Squeeze(squeeze) if squeeze.axes.is_none() => &[1],
        Operator::Unsqueeze(unsqueeze) if unsqueeze.axes.is_none() => &[1],
        Operator::Reduce(reduce) if reduce.axes.is_none() => &[1],
        Operator::CumSum(sum) if sum.axis.is_none() => &[1],
        Operator::Trilu(trilu) if trilu.k.is_none() => &[1],
        Operator::TopK(top) if top.k.is_none() => &[1],
        Operator::OneHot(one_hot) if one_hot.depth.is_none() => &[1],
        Operator::Range(range) if range.bounds.is_none() => &[0, 1, 2],
        Operator::ConstantOfShape(constant) if constant.dims.is_none() => &[0],
        Operator::Random(random) if random.dims.is_none() => &[0],
        Operator::Resize(_) => &[1, 2, 3],
        _ => &[],
    }
}

/// Whether data decide what sizes `node` of `graph` gives, which axes it works along, or which nodes inside of it run.
pub fn is_decided_by_data(graph: &Graph, node: &Node) -> bool {
    let gives_what_it_finds = matches!(
        node.op,
        Operator::NonZero | Operator::Unique(_) | Operator::NonMaxSuppression(_) | Operator::Deferred(_)
    ) || !bodies(&node.op).is_empty();
    let computed = |index: &usize| node.input(*index).is_some_and(|id| graph.constant(id).is_none());
    gives_what_it_finds || deciding_inputs(&node.op).iter().any(computed)
}

/// The graphs inside of an operator, whose shapes are inferred with those around it.
pub fn bodies(op: &Operator) -> Vec<&Graph> {
    match op {
        Operator::If(op) => vec![&op.then_branch.graph, &op.else_branch.graph],
        Operator::Loop(op) => vec![&op.body.graph],
        Operator::Scan(op) => vec![&op.body.graph],
        _ => Vec::new(),
    }
}

/// All symbols in the shapes of a node's values and in its operator, bodies included.
pub fn symbols_of(graph: &Graph, node: &Node) -> HashSet<Arc<str>> {
    let mut symbols = HashSet::new();
    add_symbols(graph, node, &mut symbols);
    symbols
}

fn add_symbols(graph: &Graph, node: &Node, symbols: &mut HashSet<Arc<str>>) {
    let mut visit = |symbol: &Arc<str>| {
        symbols.insert(symbol.clone());
    };
    let values = node.inputs.iter().chain(&node.outputs).flatten();
    let shapes = values.filter_map(|&id| graph.value(id).shape());
    shapes.flat_map(TensorShape::dims).chain(expressions(&node.op)).for_each(|e| e.visit_symbols(&mut visit));
    for body in bodies(&node.op) {
        body.nodes().iter().for_each(|node| add_symbols(body, node, symbols));
    }
}

/// The expressions that an operator holds.
fn expressions(op: &Operator) -> Vec<&Expr> {
    match op {
        Operator::Reshape(op) => op.dims.iter().flatten().collect(),
        Operator::Expand(op) => op.dims.iter().flatten().collect(),
        Operator::Tile(op) => op.repeats.iter().flatten().collect(),
        Operator::Pad(op) => op.pads.iter().flatten().flat_map(|(begin, end)| [begin, end]).collect(),
        Operator::Slice(op) => {
            op.ranges.iter().flatten().flat_map(|range| [&range.start, &range.count]).collect()
        }
        Operator::Split(op) => op.sizes.iter().flatten().collect(),
        Operator::TopK(op) => op.k.iter().collect(),
        Operator::OneHot(op) => op.depth.iter().collect(),
        Operator::Range(op) => op.bounds.iter().flatten().collect(),
        Operator::ConstantOfShape(op) => op.dims.iter().flatten().collect(),
        Operator::Random(op) => op.dims.iter().flatten().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use optimium_tensor::{ElementType, Tensor};

    use super::*;
    use crate::ops::{Reshape, Slice, SliceRange, TopK};

    #[test]
    fn computed_amounts_decide_and_constant_ones_do_not() {
        let mut graph = Graph::new("g");
        let x = graph.add_tensor("x", ElementType::F32, Some(TensorShape::fixed(&[4])));
        let k = graph.add_tensor("k", ElementType::I64, Some(TensorShape::fixed(&[1])));
        let three = graph.add_constant("three", Tensor::from_slice(&[1], &[3i64]).unwrap());
        let node = |op: Operator, second| Node {
            name: "n".into(),
            op,
            inputs: vec![Some(x), Some(second)],
            outputs: vec![],
        };
        let top = |k| Operator::TopK(TopK { axis: 0, largest: true, sorted: true, k });
        let reshape = |dims| Operator::Reshape(Reshape { dims, allow_zero: false });
        let cases = [
            (node(top(None), k), true),
            (node(top(None), three), false),
            (node(top(Some(3i64.into())), k), false),
            (node(reshape(None), k), true),
            (node(reshape(Some(vec![2i64.into()])), k), false),
            (node(Operator::NonZero, three), true),
            (node(Operator::Identity, k), false),
        ];
        for (node, expected) in cases {
            assert_eq!(is_decided_by_data(&graph, &node), expected, "{node:?}");
        }
    }

    #[test]
    fn symbols_of_shapes_and_operators_are_found() {
        let mut graph = Graph::new("g");
        let x = graph.add_tensor("x", ElementType::F32, Some(TensorShape::new(vec![Expr::symbol("n")])));
        let range = SliceRange { axis: 0, start: Expr::symbol("m"), count: 1i64.into(), step: 1 };
        let op = Operator::Slice(Slice { ranges: Some(vec![range]) });
        let node = Node { name: "n".into(), op, inputs: vec![Some(x)], outputs: vec![] };
        let found = symbols_of(&graph, &node);
        assert!(found.len() == 2 && found.contains("n") && found.contains("m"), "{found:?}");
    }
}
