//! Computes ahead what depends on constants alone.
//!
//! All such nodes are one graph, which the evaluator computes at once; where it cannot, they are tried one by one.
//! Results that would bloat the model stay computed. Weights in integers stay integers: a DequantizeLinear is
//! folded only by [`run_dequantizing`], when quantized operators have taken what they can use.

use std::collections::HashMap;

use optimium_tensor::{ElementType, Result, Tensor};

use super::editor::Editor;
use crate::{Graph, Node, NodeId, Operator, ValueId};

/// Results up to this many bytes are kept in any case.
const SMALL_RESULT: usize = 16 << 20;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    fold(editor, false)
}

/// As [`run`], DequantizeLinear too.
pub(super) fn run_dequantizing(editor: &mut Editor) -> Result<usize> {
    fold(editor, true)
}

fn fold(editor: &mut Editor, dequantizing: bool) -> Result<usize> {
    let mut changes = editor.visit(fold_shape);
    let region = constant_region(editor, dequantizing);
    changes += match evaluate(editor, &region) {
        Some(count) => count,
        None => region.iter().filter_map(|&node| evaluate(editor, &[node])).sum(),
    };
    Ok(changes)
}

/// Shape and Size of a tensor whose dimensions are numbers.
fn fold_shape(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (x, y) = (editor.input(node, 0)?, editor.output(node)?);
    let dims = || Some(editor.fixed(x)?.into_iter().map(|dim| dim as i64).collect::<Vec<i64>>());
    let tensor = match editor.op(node) {
        Operator::Shape(shape) => {
            let dims = dims()?;
            let rank = dims.len() as i64;
            let clamp = |axis: i64| (if axis < 0 { axis + rank } else { axis }).clamp(0, rank) as usize;
            let (start, end) = (clamp(shape.start), clamp(shape.end.unwrap_or(rank)));
            let part = dims.get(start..end).unwrap_or(&[]);
            Tensor::from_slice(&[part.len()], part)
        }
        Operator::Size => Tensor::scalar(dims()?.iter().product::<i64>()),
        _ => return None,
    };
    if editor.is_output(y) {
        return None;
    }
    editor.become_constant(y, tensor.ok()?);
    Some(())
}

/// The nodes that read constants and each other alone, in order.
fn constant_region(editor: &Editor, dequantizing: bool) -> Vec<NodeId> {
    let mut known = vec![false; editor.graph().values().len()];
    let mut region = Vec::new();
    for id in editor.nodes() {
        let node = editor.node(id);
        let inputs: Vec<ValueId> = node.inputs.iter().flatten().copied().collect();
        let outputs: Vec<ValueId> = node.outputs.iter().flatten().copied().collect();
        let foldable = is_foldable(&node.op, dequantizing)
            && inputs.iter().all(|&input| known[input.index()] || editor.is_constant(input))
            && outputs.iter().all(|&output| !editor.is_output(output))
            && is_small(editor, &inputs, &outputs);
        if foldable {
            outputs.iter().for_each(|output| known[output.index()] = true);
            region.push(id);
        }
    }
    region
}

fn is_foldable(op: &Operator, dequantizing: bool) -> bool {
    match op {
        Operator::If(_)
        | Operator::Loop(_)
        | Operator::Scan(_)
        | Operator::Deferred(_)
        | Operator::Random(_)
        | Operator::Requantize => false,
        Operator::DequantizeLinear(_) | Operator::QuantizeLinear(_) => dequantizing,
        _ => true,
    }
}

/// Whether the results, of known size, are small, or at most twice as large as what they are made of.
fn is_small(editor: &Editor, inputs: &[ValueId], outputs: &[ValueId]) -> bool {
    let bytes = |value: &ValueId| {
        let elements = editor.fixed(*value)?.into_iter().try_fold(1usize, usize::checked_mul)?;
        elements.checked_mul(editor.element_type(*value)?.size())
    };
    let plain = |value: &ValueId| editor.element_type(*value).is_some_and(|t| t != ElementType::String);
    let total =
        |values: &[ValueId]| values.iter().map(bytes).try_fold(0usize, |sum, bytes| sum.checked_add(bytes?));
    let limit = total(inputs).map_or(SMALL_RESULT, |bytes| bytes.saturating_mul(2).max(SMALL_RESULT));
    outputs.iter().all(plain) && total(outputs).is_some_and(|bytes| bytes <= limit)
}

/// Makes constants of what the nodes compute for others; `None` where there is nothing or the evaluator fails.
fn evaluate(editor: &mut Editor, region: &[NodeId]) -> Option<usize> {
    let inside = |node: &NodeId| region.binary_search(node).is_ok();
    let is_wanted = |&value: &ValueId| !editor.consumers(value).iter().all(inside);
    let all_outputs = region.iter().flat_map(|&node| editor.node(node).outputs.iter().flatten().copied());
    let wanted: Vec<ValueId> = all_outputs.filter(is_wanted).collect();
    if wanted.is_empty() {
        return None;
    }
    let graph = extract(editor, region, &wanted)?;
    let results = match editor.evaluator().evaluate(graph) {
        Ok(results) if results.len() == wanted.len() => results,
        Ok(_) => return None,
        Err(error) => {
            tracing::debug!(%error, "constants stay computed");
            return None;
        }
    };
    let fits = |(&value, tensor): (&ValueId, &Tensor)| {
        editor.element_type(value) == Some(tensor.element_type())
            && editor.fixed(value).is_none_or(|dims| dims == tensor.dims())
    };
    if !wanted.iter().zip(&results).all(fits) {
        return None;
    }
    let count = wanted.len();
    wanted.into_iter().zip(results).for_each(|(value, tensor)| editor.become_constant(value, tensor));
    Some(count)
}

/// The nodes as a graph of their own.
fn extract(editor: &Editor, region: &[NodeId], wanted: &[ValueId]) -> Option<Graph> {
    let mut graph = Graph::new("constants");
    let mut copies: HashMap<ValueId, ValueId> = HashMap::new();
    let mut copy = |graph: &mut Graph, value: ValueId| {
        *copies.entry(value).or_insert_with(|| graph.add_value(editor.value(value).clone()))
    };
    for &id in region {
        let node = editor.node(id);
        let inputs = node.inputs.iter().map(|input| input.map(|value| copy(&mut graph, value))).collect();
        let outputs = node.outputs.iter().map(|output| output.map(|value| copy(&mut graph, value))).collect();
        graph.add_node(Node { name: node.name.clone(), op: node.op.clone(), inputs, outputs });
    }
    graph.outputs = wanted.iter().map(|&value| copy(&mut graph, value)).collect();
    graph.sort().ok()?;
    Some(graph)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect};
    use super::*;
    use crate::ops::{Binary, Expand, Shape, Unary};
    use optimium_testing::each_case;

    type Build = fn(&mut Builder) -> ValueId;

    #[test]
    fn constants_are_computed_ahead() {
        let cases: [(&str, Build, &[&str]); 4] = [
            (
                "chain",
                |b| {
                    let c = b.weights(&[3]);
                    let c = b.unary(Unary::Neg, c);
                    b.unary(Unary::Exp, c)
                },
                &["Add"],
            ),
            (
                "of an input",
                |b| {
                    let x = b.input(&[3]);
                    b.unary(Unary::Exp, x)
                },
                &["Exp", "Add"],
            ),
            (
                "fixed shape",
                |b| {
                    let x = b.input(&[3]);
                    let shape = b.node(Operator::Shape(Shape { start: 0, end: None }), &[x]);
                    b.node(Operator::Cast(crate::ops::Cast { to: ElementType::F32 }), &[shape])
                },
                &["Add"],
            ),
            (
                "what would bloat the model",
                |b| {
                    let c = b.weights(&[1]);
                    let dims = Some(vec![(5i64 << 20).into(), 1i64.into()]);
                    let large = b.node(Operator::Expand(Expand { dims }), &[c]);
                    b.reduce(crate::ops::Reduction::Max, large, &[0, 1], false)
                },
                &["Expand", "ReduceMax", "Add"],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let y = builder.input(&[1]);
            let c = build(&mut builder);
            let sum = builder.binary(Binary::Add, y, c);
            expect(run, builder.finish(&[sum]), expected).map(|_| ())
        });
    }
}
