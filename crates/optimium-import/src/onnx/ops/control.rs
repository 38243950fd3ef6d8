//! Operators with bodies.

use optimium_graph::ops::{self, If, Loop, Operator, Scan};
use optimium_graph::{Graph, ValueId};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::level::{Body, Capture, Layout, Structure};
use super::super::node::{NodeReader, support, unsupported};
use super::super::proto::GraphProto;
use super::sequences;

/// Larger batches of the old form of Scan come from damaged or hostile models only.
const MAX_BATCH: i64 = 1 << 12;

/// Both branches get the same inputs: whatever one of them captures.
pub(super) fn if_else(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let then_branch = node.attributes.graph("then_branch")?;
    let else_branch = node.attributes.graph("else_branch")?;
    let condition = node.required(0)?;
    if let Some(taken) = node.truth(condition) {
        let outputs = node.inline(if taken { then_branch } else { else_branch }, &[])?;
        if outputs.len() < node.outputs.len() {
            return Err(Error::model("a branch has fewer outputs than the node"));
        }
        outputs.into_iter().enumerate().for_each(|(index, output)| node.give(index, output));
        return Ok(());
    }
    let then_body = node.read_body(then_branch)?;
    let else_body = node.read_body(else_branch)?;
    for body in [&then_body, &else_body] {
        if !body.graph.inputs.is_empty() || body.outputs.len() < node.outputs.len() {
            return Err(Error::model("a branch has inputs, or fewer outputs than the node"));
        }
    }
    let outputs = expanded_outputs(node, &then_body.outputs, &else_body.outputs)?;
    let Body { graph: mut then_graph, captures: then_captures, .. } = then_body;
    let Body { graph: mut else_graph, captures: else_captures, .. } = else_body;
    let mut captured: Vec<ValueId> = Vec::new();
    for capture in then_captures.iter().chain(&else_captures) {
        if !captured.contains(&capture.outer) {
            captured.push(capture.outer);
        }
    }
    add_inputs(&mut then_graph, &then_captures, &captured);
    add_inputs(&mut else_graph, &else_captures, &captured);
    let inputs: Vec<_> = std::iter::once(Some(condition)).chain(captured.into_iter().map(Some)).collect();
    let op = If {
        then_branch: ops::Body { graph: Box::new(then_graph) },
        else_branch: ops::Body { graph: Box::new(else_graph) },
    };
    node.add_node(Operator::If(op), inputs, outputs);
    Ok(())
}

/// An output for each tensor that the branches give; those of sequences are put together again.
fn expanded_outputs(
    node: &mut NodeReader<'_, '_>,
    of_then: &[Layout],
    of_else: &[Layout],
) -> Result<Vec<Option<ValueId>>> {
    let are_tensors = |layouts: &[Layout]| layouts.iter().all(|&layout| layout == Layout::Tensor);
    if are_tensors(of_then) && are_tensors(of_else) {
        return Ok(node.outputs.clone());
    }
    support(of_then == of_else, "branches with sequences of different lengths")?;
    let mut outputs = Vec::new();
    for (index, &layout) in of_then.iter().enumerate() {
        match layout {
            Layout::Tensor => outputs.push(node.output(index)),
            Layout::Absent => node.finish_structure(index, Structure::Absent),
            Layout::Sequence(length) => {
                let values: Vec<_> =
                    (0..length).map(|_| node.intermediate(&format!("element_{index}"))).collect();
                outputs.extend(values.iter().copied().map(Some));
                node.finish_structure(index, Structure::Sequence(values));
            }
        }
    }
    Ok(outputs)
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
    let states: Vec<ValueId> = node.inputs.iter().skip(2).flatten().copied().collect();
    if states.iter().any(|&state| node.structure(state).is_some()) {
        return unrolled(node, body, states);
    }
    let Some((mut graph, captures)) = node.read_body(body)?.of_tensors() else {
        return unsupported("a body that gives sequences");
    };
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
    node.finish(Operator::Loop(Loop { body: ops::Body { graph: Box::new(graph) }, carried }), inputs)
}

/// A loop that carries sequences, iteration after iteration.
fn unrolled<'m>(node: &mut NodeReader<'_, 'm>, body: &'m GraphProto, mut states: Vec<ValueId>) -> Result<()> {
    let count = node.input(0).map(|count| node.known(count));
    let Some(count) = count.flatten() else {
        return unsupported("sequences, for a computed number of times");
    };
    let count = count.to_i64s()?.first().copied().unwrap_or(0);
    if states.len() + 2 != node.inputs.len().max(2) || body.output.len() < states.len() + 1 {
        return Err(Error::model("its body has another number of loop-carried values"));
    }
    let mut goes_on = match node.input(1) {
        Some(condition) => node.truth(condition),
        None => Some(true),
    };
    let mut collected = vec![Vec::new(); body.output.len() - 1 - states.len()];
    for index in 0..count {
        match goes_on {
            None => return unsupported("sequences, until a computed condition ends it"),
            Some(false) => break,
            Some(true) => {}
        }
        let index = node.scalar("iteration", index)?;
        let condition = node.add_constant("condition", Tensor::from_bytes(ElementType::Bool, &[], &[1])?);
        let inputs: Vec<ValueId> = [index, condition].into_iter().chain(states.iter().copied()).collect();
        let mut outputs = node.inline(body, &inputs)?.into_iter();
        goes_on = outputs.next().and_then(|condition| node.truth(condition));
        states.iter_mut().zip(&mut outputs).for_each(|(state, output)| *state = output);
        collected.iter_mut().zip(outputs).for_each(|(values, output)| values.push(output));
    }
    let carried = states.len();
    states.into_iter().enumerate().for_each(|(index, state)| node.give(index, state));
    for (index, values) in collected.into_iter().enumerate() {
        let index = carried + index;
        if node.output(index).is_some() {
            support(!values.is_empty(), "sequences, and collects nothing")?;
            let stacked = sequences::stack(node, &values, 0);
            node.give(index, stacked);
        }
    }
    Ok(())
}

pub(super) fn scan(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let has_batch = node.opset < 9;
    if has_batch {
        support(node.input(0).is_none(), "lengths of sequences")?;
        node.inputs = node.inputs.split_off(node.inputs.len().min(1));
    }
    let scan_inputs = node.attributes.required_int("num_scan_inputs")?;
    let scan_inputs = usize::try_from(scan_inputs).ok().filter(|&n| n <= node.inputs.len());
    let scan_inputs = scan_inputs.ok_or_else(|| Error::model("it scans more inputs than it has"))?;
    let body = node.attributes.graph("body")?;
    let Some((mut graph, captures)) = node.read_body(body)?.of_tensors() else {
        return unsupported("a body that gives sequences");
    };
    let states = node.inputs.len() - scan_inputs;
    if graph.inputs.len() != node.inputs.len() || graph.outputs.len() < states.max(node.outputs.len()) {
        return Err(Error::model("its body has another number of inputs or outputs"));
    }
    let scan_outputs = graph.outputs.len() - states;
    let input_axes = list(node, "scan_input_axes", scan_inputs)?;
    let directions = if has_batch { "directions" } else { "scan_input_directions" };
    let input_reversed = list(node, directions, scan_inputs)?;
    let output_axes = list(node, "scan_output_axes", scan_outputs)?;
    let output_reversed = list(node, "scan_output_directions", scan_outputs)?;
    graph.inputs.extend(captures.iter().map(|capture| capture.inner));
    let op = Scan {
        body: ops::Body { graph: Box::new(graph) },
        scan_inputs,
        input_axes,
        input_reversed: input_reversed.into_iter().map(|direction| direction != 0).collect(),
        output_axes,
        output_reversed: output_reversed.into_iter().map(|direction| direction != 0).collect(),
    };
    if has_batch {
        return scan_batch(node, &op, &captures);
    }
    let inputs = with_captures(node, &captures);
    node.finish(Operator::Scan(op), inputs)
}

/// A scan for each index of the first axis of everything.
fn scan_batch(node: &mut NodeReader<'_, '_>, op: &Scan, captures: &[Capture]) -> Result<()> {
    let last = node.required(node.inputs.len().wrapping_sub(1))?;
    let batch = node.inferred_dims(last).and_then(|dims| dims.first().copied().flatten());
    let Some(batch @ 1..=MAX_BATCH) = batch else { return unsupported("a batch of unknown size") };
    let mut results = vec![Vec::new(); node.outputs.len()];
    for index in 0..batch {
        let index = node.scalar("index", index)?;
        let mut inputs = Vec::with_capacity(node.inputs.len() + captures.len());
        for position in 0..node.inputs.len() {
            let input = node.required(position)?;
            inputs.push(Some(node.gather(input, index, 0)));
        }
        inputs.extend(captures.iter().map(|capture| Some(capture.outer)));
        let outputs: Vec<_> = results.iter().map(|_| node.intermediate("of_one")).collect();
        node.add_node(Operator::Scan(op.clone()), inputs, outputs.iter().copied().map(Some).collect());
        results.iter_mut().zip(outputs).for_each(|(values, output)| values.push(output));
    }
    for (index, values) in results.into_iter().enumerate() {
        let stacked = sequences::stack(node, &values, 0);
        node.give(index, stacked);
    }
    Ok(())
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
    fn old_scans_have_a_batch() {
        let body = || {
            let add = node("Add", &["a", "b"], &["c"]);
            let mut body = graph(vec![value("a", &["2"]), value("b", &["2"])], vec![], vec![add]);
            body.output.push(value("c", &[]));
            body
        };
        let scan = |lengths: &str| {
            node("Scan", &[lengths, "s", "x"], &["y", "z"]).int("num_scan_inputs", 1).graph("body", body())
        };
        let read = |lengths: &str, batch: &str| {
            let inputs = vec![value("s", &[batch, "2"]), value("x", &[batch, "5", "2"]), value("n", &["3"])];
            read_graph(8, graph(inputs, vec![], vec![scan(lengths)]))
        };
        let three = read("", "3").unwrap();
        assert_eq!(three.nodes().iter().filter(|node| matches!(node.op, Operator::Scan(_))).count(), 3);
        assert!(read("n", "3").is_err() && read("", "N").is_err());
    }

    #[test]
    fn constant_conditions_leave_one_branch() {
        let branch = |op: &str| graph(vec![], vec![], vec![node(op, &["a"], &["r"])]);
        let choice = node("If", &["c"], &["y"])
            .graph("then_branch", branch("Neg"))
            .graph("else_branch", branch("Abs"));
        let read =
            read_graph(16, graph(vec![value("a", &["2"])], vec![zeros("c", &[])], vec![choice])).unwrap();
        let names: Vec<&str> = read.nodes().iter().map(|node| node.op.name()).collect();
        assert_eq!(names, ["Abs", "Identity"]);
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
