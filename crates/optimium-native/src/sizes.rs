//! What can be one plan: nodes that are bound together, because every size in them follows from the sizes of the graph's inputs and from
//! symbols that have values before. A [`Program`](crate::program::Program) makes several of a graph whose data decide sizes.

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
fn deciders(graph: &Graph, scope: &[Arc<str>]) -> Vec<usize> {
    let mut known: HashSet<Arc<str>> = scope.iter().cloned().collect();
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

/// The one region of a graph all of whose sizes follow from its inputs' and from the symbols of `scope`.
///
/// # Errors
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) with every node whose data decide a size.
pub(crate) fn only(graph: &Graph, scope: &[Arc<str>]) -> Result<Region> {
    let deciders = deciders(graph, scope);
    let unsupported: Vec<Unsupported> = deciders
        .iter()
        .map(|&index| &graph.nodes()[index])
        .map(|node| Unsupported {
            operation: format!("{} (its data decide the size of its result)", node.op.name()),
            node: node.name.clone(),
        })
        .collect();
    if unsupported.is_empty() {
        Ok(Region { nodes: 0..graph.nodes().len() })
    } else {
        Err(Unsupported::error(&graph.name, &unsupported))
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
    fn sizes_that_data_decide_are_named() {
        let graph = positions();
        let message = only(&graph, &[]).unwrap_err().to_string();
        assert!(message.contains("\"NonZero\"") && !message.contains("\"Identity\""), "{message}");
    }

    #[test]
    fn symbols_around_the_graph_have_values() {
        assert!(only(&positions(), &["found.1".into()]).is_ok());
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
        assert_eq!(only(&graph, &[]).unwrap(), Region { nodes: 0..2 });
    }
}
