//! What a bound plan consists of, for people who look into it.

use std::collections::HashSet;

use optimium_device::{MemoryBlock, MemoryDetails, OperationDetails, RunDetails};
use optimium_graph::ops::Operator;
use optimium_graph::work::{self, OperandDims};
use optimium_graph::{Node, ValueId};

use crate::bind::BoundPlan;
use crate::chain::{Operands, operands};
use crate::layer::Nodes;
use crate::plan::Plan;

/// The work of every layer, and the memory plan.
pub(crate) fn of(plan: &Plan, bound: &BoundPlan) -> RunDetails {
    let mut operations: Vec<OperationDetails> =
        (0..plan.graph.nodes().len()).map(|index| operation(plan, bound, index)).collect();
    for step in &bound.steps {
        operations[step.node].is_run = true;
        operations[step.node].is_shared = step.step.parallel && plan.team.threads() > 1;
    }
    for unused in operations.iter_mut().filter(|operation| !operation.is_run) {
        (unused.bytes_read, unused.constant_bytes, unused.bytes_written) = (0, 0, 0);
    }
    RunDetails { operations, memory: memory(plan, bound) }
}

fn operation(plan: &Plan, bound: &BoundPlan, index: usize) -> OperationDetails {
    let node = &plan.graph.nodes()[index];
    let of_layer = operands(&plan.graph, &plan.layers, index);
    let dims = |id: ValueId| bound.operands[id.index()].as_ref().map(|operand| operand.dims.as_slice());
    let all = |ids: &[Option<ValueId>]| -> Vec<Vec<usize>> {
        ids.iter().flatten().map(|&id| dims(id).map_or_else(Vec::new, <[usize]>::to_vec)).collect()
    };
    let (bytes_read, constant_bytes, bytes_written) = traffic(plan, bound, &node.op, &of_layer);
    let computed = match &plan.layers[index].nodes {
        Nodes::Own => std::slice::from_ref(&index),
        Nodes::Chain(nodes) => nodes,
        Nodes::None => &[],
    };
    OperationDetails {
        inputs: all(&of_layer.inputs),
        outputs: all(of_layer.outputs),
        multiply_adds: computed.iter().map(|&index| multiply_adds(&plan.graph.nodes()[index], dims)).sum(),
        in_integers: is_in_integers(plan, node),
        bytes_read,
        constant_bytes,
        bytes_written,
        is_run: false,
        is_shared: false,
    }
}

fn multiply_adds<'a>(node: &Node, dims: impl Fn(ValueId) -> Option<&'a [usize]>) -> u64 {
    let nth = |ids: &[Option<ValueId>], index: usize| dims(*ids.get(index)?.as_ref()?);
    let (input, output) = (|index| nth(&node.inputs, index), |index| nth(&node.outputs, index));
    work::multiply_adds(&node.op, OperandDims { input: &input, output: &output })
}

fn is_in_integers(plan: &Plan, node: &Node) -> bool {
    let is_quantized = |id: ValueId| plan.graph.value(id).scheme.is_some();
    matches!(
        node.op,
        Operator::ConvInteger(_) | Operator::MatMulInteger(_) | Operator::DynamicQuantizedMatMul(_)
    ) || node.input(0).is_some_and(is_quantized)
}

/// Bytes of tensors that are read, of constants that are read, and that are written.
fn traffic(plan: &Plan, bound: &BoundPlan, op: &Operator, of_layer: &Operands) -> (u64, u64, u64) {
    let bytes = |id: ValueId| -> u64 {
        bound.operands[id.index()]
            .as_ref()
            .map_or(0, |operand| (operand.len() * operand.element_type.size()) as u64)
    };
    let root = |id: ValueId| plan.roots[id.index()].0;
    let mut written: u64 = of_layer.outputs.iter().flatten().map(|&id| bytes(id)).sum();
    let (mut read, mut constants) = (0, 0);
    for (index, &id) in
        of_layer.inputs.iter().enumerate().filter_map(|(index, id)| Some((index, id.as_ref()?)))
    {
        let mut count = bytes(id);
        // Parts that lie in the whole already are not moved.
        let output = of_layer.outputs.first().copied().flatten();
        let is_in_place = is_assembled(op) && output.is_some_and(|output| root(output) == root(id));
        if is_in_place {
            written = written.saturating_sub(count);
            continue;
        }
        if is_picked_from(op, index) {
            count = count.min(written);
        }
        *if plan.graph.constant(id).is_some() { &mut constants } else { &mut read } += count;
    }
    (read, constants, written)
}

/// Whether the result consists of the operands as they are.
fn is_assembled(operator: &Operator) -> bool {
    matches!(operator, Operator::Concat(_) | Operator::Pad(_))
}

/// Whether no more of input `index` is read than the result has.
fn is_picked_from(operator: &Operator, index: usize) -> bool {
    let is_picking = matches!(
        operator,
        Operator::Gather(_)
            | Operator::GatherElements(_)
            | Operator::GatherNd(_)
            | Operator::CompressedGather(_)
            | Operator::Slice(_)
            | Operator::Split(_)
    );
    is_picking && index == 0
}

fn memory(plan: &Plan, bound: &BoundPlan) -> MemoryDetails {
    let block = |lifetime: &crate::plan::Lifetime| {
        let operand = bound.operands[lifetime.root.index()].as_ref()?;
        Some(MemoryBlock {
            tensor: plan.graph.value(lifetime.root).name.clone(),
            offset: operand.operand.offset,
            bytes: operand.operand.bytes,
            first: lifetime.first,
            last: lifetime.last,
        })
    };
    let used: HashSet<ValueId> =
        plan.graph.nodes().iter().flat_map(|node| node.inputs.iter().flatten().copied()).collect();
    let constants =
        used.iter().filter_map(|&id| plan.graph.constant(id)).map(|tensor| tensor.byte_len()).sum();
    MemoryDetails {
        arena: bound.arena_bytes,
        scratch: (bound.scratch.each * plan.team.threads()).max(bound.scratch.shared),
        constants,
        blocks: plan.lifetimes.iter().filter_map(block).collect(),
    }
}
