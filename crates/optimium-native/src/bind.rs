//! A plan with concrete shapes: steps, and the layout of the arena.

use optimium_graph::{ValueId, shapes};
use optimium_tensor::{Buffer, Error, Result, SymbolValues};

use crate::arena::{Block, lay_out};
use crate::layer::{Binding, Bound, Step};
use crate::memory::Operand;
use crate::plan::{Place, Plan, describe};

/// Bytes of an arena that is tried for before anything else is done.
const LARGE_ARENA: usize = 1 << 30;

/// A plan for one combination of input shapes.
pub(crate) struct BoundPlan {
    pub(crate) steps: Vec<BoundStep>,
    /// Where each value lies, and its shape.
    pub(crate) operands: Vec<Option<Bound>>,
    pub(crate) arena_bytes: usize,
    /// Bytes of scratch memory for each worker.
    pub(crate) scratch_each: usize,
}

/// A step, and what its neighbours ask of it.
pub(crate) struct BoundStep {
    pub(crate) step: Step,
    /// The node that it does.
    pub(crate) node: usize,
    /// Whether all workers must have finished it before the next one begins.
    pub(crate) barrier: bool,
}

impl BoundPlan {
    /// Binds `plan` for inputs of those dimensions.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) where they do not fit the graph.
    pub(crate) fn bind(plan: &Plan, input_dims: &[&[usize]]) -> Result<BoundPlan> {
        let symbols = shapes::bind(&plan.graph, input_dims)?;
        let (offsets, arena_bytes) = arena(plan, &symbols)?;
        // What layers prepare grows with their operands: memory that is not to be had must be known before.
        if arena_bytes > LARGE_ARENA {
            drop(Buffer::allocate(arena_bytes)?);
        }
        let operands = operands(plan, &symbols, &offsets)?;
        let mut steps = Vec::with_capacity(plan.layers.len());
        let mut scratch_each = 0;
        for index in plan.region.nodes.clone() {
            let (node, layer) = (&plan.graph.nodes()[index], &plan.layers[index]);
            let bound = |ids: &[Option<ValueId>]| -> Vec<Option<Bound>> {
                ids.iter().map(|id| id.and_then(|id| operands[id.index()].clone())).collect()
            };
            let (inputs, outputs) = (bound(&node.inputs), bound(&node.outputs));
            let mut binding =
                Binding { inputs: &inputs, outputs: &outputs, symbols: &symbols, scratch: scratch_each };
            let step = layer.bind(&mut binding).map_err(|error| error.context(describe(node)))?;
            scratch_each = binding.scratch;
            if !step.is_nothing() {
                steps.push(BoundStep { step, node: index, barrier: true });
            }
        }
        // One worker does serial steps: it need not wait between them.
        for index in 1..steps.len() {
            steps[index - 1].barrier = steps[index - 1].step.parallel || steps[index].step.parallel;
        }
        Ok(BoundPlan { steps, operands, arena_bytes, scratch_each })
    }
}

/// The offset of each root in the arena, by value, and the arena's size.
fn arena(plan: &Plan, symbols: &SymbolValues) -> Result<(Vec<usize>, usize)> {
    let mut blocks = Vec::with_capacity(plan.lifetimes.len());
    for lifetime in &plan.lifetimes {
        let bytes = lifetime.bytes.evaluate(symbols)?;
        let bytes = usize::try_from(bytes).map_err(|_| {
            Error::shape(format!("{:?} would have {bytes} bytes", plan.graph.value(lifetime.root).name))
        })?;
        blocks.push(Block { bytes, first: lifetime.first, last: lifetime.last });
    }
    let (block_offsets, total) = lay_out(&blocks, plan.options.memory_optimization);
    let mut offsets = vec![0; plan.graph.values().len()];
    for (lifetime, offset) in plan.lifetimes.iter().zip(block_offsets) {
        offsets[lifetime.root.index()] = offset;
    }
    Ok((offsets, total))
}

fn operands(plan: &Plan, symbols: &SymbolValues, offsets: &[usize]) -> Result<Vec<Option<Bound>>> {
    let (inputs, outputs) = (plan.graph.inputs.len(), plan.graph.outputs.len());
    let mut operands = Vec::with_capacity(plan.graph.values().len());
    for (value, (root, distance)) in plan.graph.values().iter().zip(&plan.roots) {
        let (Some(shape), Some(element_type)) = (value.shape(), value.element_type()) else {
            operands.push(None);
            continue;
        };
        let dims =
            shape.evaluate(symbols).map_err(|error| error.context(format!("tensor {:?}", value.name)))?;
        let distance = usize::try_from(distance.evaluate(symbols)?)
            .map_err(|_| Error::shape(format!("tensor {:?} begins outside of its memory", value.name)))?;
        let base = match plan.places[root.index()] {
            Place::Arena => 0,
            Place::Input(index) => 1 + index,
            Place::Output(index) => 1 + inputs + index,
            Place::Constant(index) => 1 + inputs + outputs + index,
        };
        let bytes = dims
            .iter()
            .try_fold(element_type.size(), |bytes, &dim| bytes.checked_mul(dim))
            .ok_or_else(|| Error::shape(format!("tensor {:?} of shape {dims:?} is too large", value.name)))?;
        let operand = Operand { base: base as u32, offset: offsets[root.index()] + distance, bytes };
        operands.push(Some(Bound { operand, dims, element_type }));
    }
    Ok(operands)
}
