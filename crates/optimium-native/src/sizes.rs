//! Whether a graph can be one plan: every size in it follows from the sizes of its inputs and from symbols that have values before. A
//! [`Program`](crate::program::Program) makes several plans of a graph whose data decide sizes.

use std::collections::HashSet;
use std::sync::Arc;

use optimium_graph::{Graph, Node, Unsupported, ValueId};
use optimium_tensor::Result;

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

/// Checks that all sizes of a graph follow from its inputs' and from the symbols of `scope`.
///
/// # Errors
/// [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) with every node whose data decide a size.
pub(crate) fn check(graph: &Graph, scope: &[Arc<str>]) -> Result<()> {
    let deciders = deciders(graph, scope);
    let unsupported: Vec<Unsupported> = deciders
        .iter()
        .map(|&index| &graph.nodes()[index])
        .map(|node| Unsupported {
            operation: format!("{} (its data decide the size of its result)", node.op.name()),
            node: node.name.clone(),
        })
        .collect();
    if unsupported.is_empty() { Ok(()) } else { Err(Unsupported::error(&graph.name, &unsupported)) }
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
        let message = check(&graph, &[]).unwrap_err().to_string();
        assert!(message.contains("\"NonZero\"") && !message.contains("\"Identity\""), "{message}");
    }

    #[test]
    fn symbols_around_the_graph_have_values() {
        assert!(check(&positions(), &["found.1".into()]).is_ok());
    }

    #[test]
    fn expressions_of_the_inputs_have_values() {
        let mut graph = positions();
        let n = TensorShape::new(vec![1i64.into(), Expr::symbol("n") * 2i64.into()]);
        for name in ["found", "y"] {
            let id = graph.find_value(name).unwrap();
            graph.value_mut(id).value_type =
                optimium_graph::ValueType::Tensor { element_type: ElementType::I64, shape: Some(n.clone()) };
        }
        assert!(check(&graph, &[]).is_ok());
    }
}
