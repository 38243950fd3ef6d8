//! Operators with bodies.

use optimium_graph::ops::{Body, If, Loop, Operator, Scan};
use optimium_graph::{Graph, ValueId};
use optimium_tensor::{Error, Result};

use super::super::level::Capture;
use super::super::node::{NodeReader, support};

/// Both branches get the same inputs: whatever one of them captures.
pub(super) fn if_else(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let then_branch = node.attributes.graph("then_branch")?;
    let else_branch = node.attributes.graph("else_branch")?;
    let (mut then_graph, then_captures) = node.read_body(then_branch)?;
    let (mut else_graph, else_captures) = node.read_body(else_branch)?;
    for graph in [&then_graph, &else_graph] {
        if !graph.inputs.is_empty() || graph.outputs.len() < node.outputs.len() {
            return Err(Error::model("a branch has inputs, or fewer outputs than the node"));
        }
    }
    let mut captured: Vec<ValueId> = Vec::new();
    for capture in then_captures.iter().chain(&else_captures) {
        if !captured.contains(&capture.outer) {
            captured.push(capture.outer);
        }
    }
    add_inputs(&mut then_graph, &then_captures, &captured);
    add_inputs(&mut else_graph, &else_captures, &captured);
    let condition = node.input(0);
    let inputs: Vec<_> = std::iter::once(condition).chain(captured.into_iter().map(Some)).collect();
    let op = If {
        then_branch: Body { graph: Box::new(then_graph) },
        else_branch: Body { graph: Box::new(else_graph) },
    };
    node.finish(Operator::If(op), inputs)
}

/// Appends an input for every captured value, one that nobody reads where the body does not need it.
fn add_inputs(graph: &mut Graph, captures: &[Capture], captured: &[ValueId]) {
    for (index, &outer) in captured.iter().enumerate() {
        let inner = match captures.iter().find(|capture| capture.outer == outer) {
            Some(capture) => capture.inner,
            None => {
                let mut name = format!("captured_{index}");
                while graph.find_value(&name).is_some() {
                    name.push('_');
                }
                graph.add_unknown(name)
            }
        };
        graph.inputs.push(inner);
    }
}

/// The node's inputs with the captured values behind them.
fn with_captures(node: &NodeReader<'_, '_>, captures: &[Capture]) -> Vec<Option<ValueId>> {
    node.inputs.iter().copied().chain(captures.iter().map(|capture| Some(capture.outer))).collect()
}

pub(super) fn loop_(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let body = node.attributes.graph("body")?;
    let (mut graph, captures) = node.read_body(body)?;
    // The trip count and the condition may be left out, but keep their places.
    let carried = node.inputs.len().saturating_sub(2);
    if graph.inputs.len() != carried + 2 || graph.outputs.len() < carried + 1 {
        return Err(Error::model("its body has another number of loop-carried values"));
    }
    if node.outputs.len() > graph.outputs.len() - 1 {
        return Err(Error::model("its body has fewer outputs than the node"));
    }
    graph.inputs.extend(captures.iter().map(|capture| capture.inner));
    let inputs = with_captures(node, &captures);
    node.finish(Operator::Loop(Loop { body: Body { graph: Box::new(graph) }, carried }), inputs)
}

pub(super) fn scan(node: &mut NodeReader<'_, '_>) -> Result<()> {
    support(node.opset >= 9, "the form with a batch")?;
    let scan_inputs = node.attributes.required_int("num_scan_inputs")?;
    let scan_inputs = usize::try_from(scan_inputs).ok().filter(|&n| n <= node.inputs.len());
    let scan_inputs = scan_inputs.ok_or_else(|| Error::model("it scans more inputs than it has"))?;
    let body = node.attributes.graph("body")?;
    let (mut graph, captures) = node.read_body(body)?;
    let states = node.inputs.len() - scan_inputs;
    if graph.inputs.len() != node.inputs.len() || graph.outputs.len() < states.max(node.outputs.len()) {
        return Err(Error::model("its body has another number of inputs or outputs"));
    }
    let scan_outputs = graph.outputs.len() - states;
    let input_axes = list(node, "scan_input_axes", scan_inputs)?;
    let input_reversed = list(node, "scan_input_directions", scan_inputs)?;
    let output_axes = list(node, "scan_output_axes", scan_outputs)?;
    let output_reversed = list(node, "scan_output_directions", scan_outputs)?;
    graph.inputs.extend(captures.iter().map(|capture| capture.inner));
    let inputs = with_captures(node, &captures);
    let op = Scan {
        body: Body { graph: Box::new(graph) },
        scan_inputs,
        input_axes,
        input_reversed: input_reversed.into_iter().map(|direction| direction != 0).collect(),
        output_axes,
        output_reversed: output_reversed.into_iter().map(|direction| direction != 0).collect(),
    };
    node.finish(Operator::Scan(op), inputs)
}

/// A list of so many integers; zeros where it is left out.
fn list(node: &mut NodeReader<'_, '_>, name: &str, length: usize) -> Result<Vec<i64>> {
    let values = node.attributes.ints(name)?.unwrap_or_else(|| vec![0; length]);
    if values.len() != length {
        return Err(Error::model(format!("the attribute {name:?} has not {length} entries")));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{graph, node, read_graph, value, zeros};
    use super::*;

    #[test]
    fn branches_capture_alike() {
        let branch = |op: &str, input: &str| graph(vec![], vec![], vec![node(op, &[input], &["r"])]);
        let branches = node("If", &["c"], &["y"])
            .graph("then_branch", branch("Neg", "a"))
            .graph("else_branch", branch("Abs", "b"));
        let inputs = vec![value("c", &[]), value("a", &["2"]), value("b", &["2"])];
        let read = read_graph(16, graph(inputs, vec![], vec![branches])).unwrap();
        let node = &read.nodes()[0];
        let names: Vec<&str> = node.inputs.iter().flatten().map(|&id| read.value(id).name.as_str()).collect();
        assert_eq!(names, ["c", "a", "b"]);
        let Operator::If(op) = &node.op else { panic!("{:?}", node.op) };
        assert_eq!(op.then_branch.graph.inputs.len(), 2);
        assert_eq!(op.else_branch.graph.inputs.len(), 2);
        let read_by_else = op.else_branch.graph.nodes()[0].inputs[0];
        assert_eq!(read_by_else, Some(op.else_branch.graph.inputs[1]));
    }

    #[test]
    fn loops_share_constants_and_capture_through_bodies() {
        let inner = graph(vec![], vec![], vec![node("Add", &["outer", "k"], &["s"])]);
        let choose =
            node("If", &["keep"], &["next"]).graph("then_branch", inner.clone()).graph("else_branch", inner);
        let again = node("Identity", &["keep"], &["again"]);
        let mut body = graph(
            vec![value("i", &[]), value("keep", &[]), value("state", &["2"])],
            vec![],
            vec![again, choose],
        );
        body.output.insert(0, value("again", &[]));
        let repeat = node("Loop", &["", "go", "x"], &["y"]).graph("body", body);
        let inputs = vec![value("go", &[]), value("x", &["2"]), value("outer", &["2"])];
        let read = read_graph(16, graph(inputs, vec![zeros("k", &[2])], vec![repeat])).unwrap();
        let node = &read.nodes()[0];
        assert_eq!(node.inputs.len(), 4);
        assert_eq!(node.inputs[0], None);
        assert_eq!(node.inputs[3], read.find_value("outer"));
        let Operator::Loop(op) = &node.op else { panic!("{:?}", node.op) };
        assert_eq!((op.carried, op.body.graph.inputs.len()), (1, 4));
    }
}
