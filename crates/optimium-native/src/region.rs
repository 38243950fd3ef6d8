//! Where a plan is cut: sizes that data decide.
//!
//! A region is a run of nodes that can be bound together, because every size in it follows from the sizes of the graph's
//! inputs and from what earlier regions computed. A graph whose shapes are expressions of its inputs' sizes is one region.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use optimium_graph::{Graph, Node, Unsupported, ValueId};
use optimium_tensor::Result;

/// Nodes that are bound together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    pub(crate) nodes: Range<usize>,
}

/// The nodes of a sorted graph whose data decide a size: those behind which a symbol occurs that nothing before them has.
fn deciders(graph: &Graph) -> Vec<usize> {
    let mut known: HashSet<Arc<str>> = HashSet::new();
    for &input in &graph.inputs {
        add_symbols(graph, input, &mut known);
    }
    let mut introduces = |node: &Node| {
        let before = known.len();
        node.outputs.iter().flatten().for_each(|&output| add_symbols(graph, output, &mut known));
        known.len() > before
    };
    (0..graph.nodes().len()).filter(|&index| introduces(&graph.nodes()[index])).collect()
}

fn add_symbols(graph: &Graph, value: ValueId, known: &mut HashSet<Arc<str>>) {
    for dim in graph.value(value).shape().into_iter().flat_map(|shape| shape.dims()) {
        dim.visit_symbols(&mut |symbol| {
            known.insert(symbol.clone());
        });
    }
}

/// The regions of a graph, in order: each but the last ends with a node whose data decide sizes behind it.
fn cut(graph: &Graph, deciders: &[usize]) -> Vec<Region> {
    let count = graph.nodes().len();
    let inner = deciders.iter().map(|&index| index + 1).filter(|&end| end < count);
    let mut start = 0;
    inner.chain([count]).map(|end| Region { nodes: std::mem::replace(&mut start, end)..end }).collect()
}

/// The one region of a graph all of whose sizes follow from its inputs'.
///
/// # Errors
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) with every node whose data decide a size.
pub(crate) fn only(graph: &Graph) -> Result<Region> {
    let deciders = deciders(graph);
    let unsupported: Vec<Unsupported> = deciders
        .iter()
        .map(|&index| &graph.nodes()[index])
        .map(|node| Unsupported {
            operation: format!("{} (its data decide the size of its result)", node.op.name()),
            node: node.name.clone(),
        })
        .collect();
    match cut(graph, &deciders).pop() {
        Some(region) if unsupported.is_empty() => Ok(region),
        _ => Err(Unsupported::error(&graph.name, &unsupported)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_graph::Operator;
    use optimium_tensor::{ElementType, Expr, TensorShape};

    /// x → NonZero → Identity, the number of positions being a symbol of its own.
    fn positions() -> Graph {
        let mut graph = Graph::new("positions");
        let x = graph.add_tensor("x", ElementType::F32, Some(TensorShape::new(vec![Expr::symbol("n")])));
        let shape = TensorShape::new(vec![1i64.into(), Expr::symbol("found.1")]);
        let found = graph.add_tensor("found", ElementType::I64, Some(shape.clone()));
        let y = graph.add_tensor("y", ElementType::I64, Some(shape));
        for (op, input, output) in [(Operator::NonZero, x, found), (Operator::Identity, found, y)] {
            let name = op.name().to_owned();
            graph.add_node(Node { name, op, inputs: vec![Some(input)], outputs: vec![Some(output)] });
        }
        graph.inputs = vec![x];
        graph.outputs = vec![y];
        graph
    }

    #[test]
    fn sizes_that_data_decide_cut_the_plan_and_are_named() {
        let graph = positions();
        assert_eq!(cut(&graph, &deciders(&graph)), [Region { nodes: 0..1 }, Region { nodes: 1..2 }]);
        let message = only(&graph).unwrap_err().to_string();
        assert!(message.contains("\"NonZero\"") && !message.contains("\"Identity\""), "{message}");
    }

    #[test]
    fn expressions_of_the_inputs_are_one_region() {
        let mut graph = positions();
        let n = TensorShape::new(vec![1i64.into(), Expr::symbol("n") * 2i64.into()]);
        for name in ["found", "y"] {
            let id = graph.find_value(name).unwrap();
            graph.value_mut(id).value_type =
                optimium_graph::ValueType::Tensor { element_type: ElementType::I64, shape: Some(n.clone()) };
        }
        assert_eq!(only(&graph).unwrap(), Region { nodes: 0..2 });
    }
}
