//! Bodies of control flow are graphs too.

use optimium_tensor::{Result, Tensor};

use super::{Evaluate, simplify};
use crate::ops::Body;
use crate::{Graph, Operator, ValueType};

/// Simplifies the bodies of all nodes, those that are never taken and those that are deferred excepted. Their types are inferred.
pub(super) fn simplify_bodies(graph: &mut Graph, evaluator: &dyn Evaluate) -> Result<()> {
    for index in 0..graph.nodes().len() {
        give_constants(graph, index);
        let condition = graph.nodes()[index].input(0).and_then(|id| graph.constant(id));
        let condition =
            condition.and_then(|tensor| tensor.read_bytes().ok()?.first().map(|&value| value != 0));
        let bodies: Vec<&mut Body> = match &mut graph.nodes_mut()[index].op {
            Operator::If(op) => match condition {
                Some(true) => vec![&mut op.then_branch],
                Some(false) => vec![&mut op.else_branch],
                None => vec![&mut op.then_branch, &mut op.else_branch],
            },
            Operator::Loop(op) => vec![&mut op.body],
            Operator::Scan(op) => vec![&mut op.body],
            _ => continue,
        };
        for body in bodies {
            let name = body.graph.name.clone();
            simplify(&mut body.graph, evaluator)
                .map_err(|error| error.context(format!("in the body {name:?}")))?;
        }
    }
    Ok(())
}

/// Makes constants that the bodies of a node get from around them constants of their own, which can be folded and packed. They
/// share their memory.
fn give_constants(graph: &mut Graph, index: usize) {
    let node = &graph.nodes()[index];
    // The first input that is captured, and the one of the bodies that it becomes.
    let (first, inner) = match &node.op {
        Operator::If(_) => (1, 0),
        Operator::Deferred(_) => (0, 0),
        Operator::Loop(op) => (op.carried + 2, op.carried + 2),
        Operator::Scan(op) => {
            let states = op.body.graph.outputs.len().saturating_sub(op.output_axes.len());
            (states + op.scan_inputs, states + op.scan_inputs)
        }
        _ => return,
    };
    for place in (first..node.inputs.len()).rev() {
        let constant = graph.nodes()[index].input(place).and_then(|id| graph.constant(id)).cloned();
        let Some(constant) = constant.filter(|constant| constant.buffer().is_some()) else { continue };
        let node = &mut graph.nodes_mut()[index];
        node.inputs.remove(place);
        let bodies: Vec<&mut Body> = match &mut node.op {
            Operator::If(op) => vec![&mut op.then_branch, &mut op.else_branch],
            Operator::Loop(op) => vec![&mut op.body],
            Operator::Scan(op) => vec![&mut op.body],
            Operator::Deferred(op) => vec![&mut op.body],
            _ => Vec::new(),
        };
        bodies.into_iter().for_each(|body| make_constant(&mut body.graph, place - first + inner, &constant));
    }
}

/// Makes an input of a body a constant.
fn make_constant(body: &mut Graph, input: usize, constant: &Tensor) {
    let id = body.inputs.remove(input);
    let value = body.value_mut(id);
    let (element_type, shape) = (constant.element_type(), Some(constant.shape()));
    value.value_type = ValueType::Tensor { element_type, shape };
    value.scheme = constant.scheme().cloned();
    value.constant = Some(constant.clone());
}

#[cfg(test)]
mod tests {
    use optimium_tensor::{ElementType, Error, TensorShape};

    use super::*;
    use crate::Node;
    use crate::ops::{If, Unary};

    struct NoEvaluator;

    impl Evaluate for NoEvaluator {
        fn evaluate(&self, _: Graph) -> Result<Vec<Tensor>> {
            Err(Error::not_implemented("nothing is folded"))
        }
    }

    /// A branch that applies a function to what it captures second.
    fn branch(function: Unary) -> Body {
        let mut graph = Graph::new("branch");
        graph.inputs = vec![graph.add_unknown("first"), graph.add_unknown("second")];
        let (x, y) = (graph.inputs[1], graph.add_unknown("y"));
        let op = Operator::Unary { function };
        graph.add_node(Node { name: "n".into(), op, inputs: vec![Some(x)], outputs: vec![Some(y)] });
        graph.outputs = vec![y];
        Body { graph: Box::new(graph) }
    }

    #[test]
    fn bodies_get_the_constants_around_them() {
        let mut graph = Graph::new("g");
        let condition = graph.add_tensor("c", ElementType::Bool, Some(TensorShape::fixed(&[])));
        let x = graph.add_tensor("x", ElementType::F32, Some(TensorShape::fixed(&[2])));
        let weights = graph.add_constant("w", Tensor::from_slice(&[2], &[1f32, 2.0]).unwrap());
        let y = graph.add_unknown("y");
        let op = If { then_branch: branch(Unary::Abs), else_branch: branch(Unary::Neg) };
        let inputs = vec![Some(condition), Some(x), Some(weights)];
        graph.add_node(Node { name: "if".into(), op: Operator::If(op), inputs, outputs: vec![Some(y)] });
        graph.inputs = vec![condition, x];
        graph.outputs = vec![y];
        simplify(&mut graph, &NoEvaluator).unwrap();
        assert_eq!(graph.nodes()[0].inputs, [Some(condition), Some(x)]);
        let Operator::If(op) = &graph.nodes()[0].op else { panic!("{:?}", graph.nodes()[0].op) };
        for body in [&op.then_branch.graph, &op.else_branch.graph] {
            let read = body.nodes()[0].input(0).and_then(|id| body.constant(id));
            assert_eq!((body.inputs.len(), read.map(|tensor| tensor.len())), (1, Some(2)));
        }
    }
}
