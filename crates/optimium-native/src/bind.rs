//! A plan with concrete shapes: steps, and the layout of the arena.
//!
//! Where a model is run with one combination of shapes after the other, as decoders do whose cache grows, most of a bound plan
//! stays the same from one to the next. [`BoundPlan::bind`] therefore leaves blocks of the arena whose size varies some room to
//! grow, and [`BoundPlan::rebind`] keeps the layout, and each step that does not depend on the symbols whose values changed.

use std::sync::Arc;

use optimium_graph::ValueId;
use optimium_kernels::Part;
use optimium_tensor::{Buffer, Error, Result, SymbolValues};

use crate::arena::{Block, lay_out};
use crate::chain;
use crate::layer::{Binding, Bound, FirstWeights, Nodes, Scratch, Step};
use crate::memory::Operand;
use crate::plan::{Lifetime, Place, Plan, describe};
use crate::symbols::{SymbolOrder, SymbolSet};
use crate::work;

/// Bytes of an arena that is tried for before anything else is done.
const LARGE_ARENA: usize = 1 << 30;

/// Blocks of varying size grow in steps of this part of the next power of two: at most an eighth is left unused, and a growing
/// block moves the others eight times while it doubles.
const GROWTH: usize = 16;

/// A plan for one combination of input shapes.
pub(crate) struct BoundPlan {
    pub(crate) steps: Vec<BoundStep>,
    /// Where each value lies, and its shape.
    pub(crate) operands: Vec<Option<Arc<Bound>>>,
    pub(crate) arena_bytes: usize,
    /// What workers need beside it.
    pub(crate) scratch: Scratch,
    /// Whether one worker does all of it.
    pub(crate) is_serial: bool,
    /// For each node its step, those that are nothing to do included.
    nodes: Vec<Step>,
    layout: Arc<Layout>,
    symbols: SymbolValues,
}

/// What stays when only sizes change that had room to grow.
struct Layout {
    symbols: SymbolOrder,
    /// The offset of each root in the arena, by value.
    offsets: Vec<usize>,
    /// For each lifetime the bytes that it may grow to.
    capacities: Vec<usize>,
    /// For each lifetime the symbols that its size depends on.
    lifetimes: Vec<SymbolSet>,
    /// For each value the symbols that its shape and its place depend on.
    values: Vec<SymbolSet>,
    /// For each node the symbols that its operands and its step depend on.
    nodes: Vec<SymbolSet>,
}

/// A step, and what its neighbours ask of it.
pub(crate) struct BoundStep {
    pub(crate) step: Step,
    /// The node that it does.
    pub(crate) node: usize,
    /// Who waits for whom before the next one begins.
    pub(crate) then: Then,
    /// The weights that are read next.
    following: Option<Following>,
}

/// The weights that a later step begins with.
struct Following {
    weights: Arc<dyn FirstWeights>,
    /// Whether all workers read some.
    parallel: bool,
}

/// Steps without weights that may lie between one that fetches weights and the one that reads them: longer ways replace them in
/// the cache.
const STEPS_BETWEEN: usize = 2;

/// Elements that are fetched ahead, at most: what a second cache has room for beside what is at work.
const FETCHED_AHEAD: usize = 64 << 10;

impl BoundStep {
    fn new(node: usize, step: Step) -> BoundStep {
        BoundStep { step, node, then: Then::GoOn, following: None }
    }

    /// The weights that the worker of that part reads after this step, if they are known and worth to be fetched.
    pub(crate) fn following(&self, part: Part) -> &[f32] {
        let Some(Following { weights, parallel }) = &self.following else { return &[] };
        let weights = match (parallel, part.index) {
            (true, _) => weights.of(part),
            (false, 0) => weights.of(Part::WHOLE),
            (false, _) => &[],
        };
        &weights[..weights.len().min(FETCHED_AHEAD)]
    }
}

/// What workers do between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// They go on: the first worker does both steps alone, or the last step is done.
    GoOn,
    /// All wait for each other.
    All,
    /// The first worker, who does the next step alone, waits for all.
    First,
    /// All wait for the first worker, who did this step alone.
    Others,
}

impl Then {
    fn between(before: &Step, after: &Step) -> Then {
        match (before.parallel, after.parallel) {
            (true, true) => Then::All,
            (true, false) => Then::First,
            (false, true) => Then::Others,
            (false, false) => Then::GoOn,
        }
    }
}

impl BoundPlan {
    /// Binds `plan` for those sizes.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) where they do not fit the graph.
    pub(crate) fn bind(plan: &Plan, symbols: SymbolValues) -> Result<BoundPlan> {
        let (offsets, capacities, arena_bytes) = arena(plan, &symbols)?;
        // What layers prepare grows with their operands: memory that is not to be had must be known before.
        if arena_bytes > LARGE_ARENA {
            drop(Buffer::allocate(arena_bytes)?);
        }
        let values = 0..plan.graph.values().len();
        let operands = values
            .clone()
            .map(|value| Ok(operand(plan, value, &symbols, &offsets)?.map(Arc::new)))
            .collect::<Result<Vec<_>>>()?;
        let order = SymbolOrder::new(&symbols);
        let values: Vec<SymbolSet> = values.map(|value| dependence(plan, value, &order)).collect();
        let (mut steps, mut nodes, mut scratch) = (Vec::new(), Vec::new(), Scratch::default());
        for index in 0..plan.layers.len() {
            let (step, evaluated) = bind_node(plan, index, &operands, &symbols, &order, &mut scratch)?;
            let operands = chain::operands(&plan.graph, &plan.layers, index);
            nodes.push(operands.values().fold(evaluated, |set, id| set.with(values[id.index()])));
            steps.push(step);
        }
        let lifetimes = plan.lifetimes.iter().map(|lifetime| order.set_of(&lifetime.bytes)).collect();
        let layout = Layout { symbols: order, offsets, capacities, lifetimes, values, nodes };
        Ok(BoundPlan::of(steps, operands, (Arc::new(layout), symbols), arena_bytes, scratch))
    }

    /// Binds `plan` for other sizes, where this plan's layout has room for them; otherwise `None`.
    ///
    /// # Errors
    /// As [`bind`](BoundPlan::bind).
    pub(crate) fn rebind(&self, plan: &Plan, symbols: &SymbolValues) -> Result<Option<BoundPlan>> {
        let layout = &self.layout;
        let changed = layout.symbols.changes(&self.symbols, symbols);
        let depending = |sets: &[SymbolSet]| -> Vec<usize> {
            (0..sets.len()).filter(|&index| sets[index].meets(changed)).collect()
        };
        for index in depending(&layout.lifetimes) {
            if block_bytes(plan, &plan.lifetimes[index], symbols)? > layout.capacities[index] {
                return Ok(None);
            }
        }
        let mut operands = self.operands.clone();
        for value in depending(&layout.values) {
            operands[value] = operand(plan, value, symbols, &layout.offsets)?.map(Arc::new);
        }
        let (mut nodes, mut scratch) = (self.nodes.clone(), self.scratch);
        for index in depending(&layout.nodes) {
            nodes[index] = bind_node(plan, index, &operands, symbols, &layout.symbols, &mut scratch)?.0;
        }
        let kept = (layout.clone(), symbols.clone());
        Ok(Some(BoundPlan::of(nodes, operands, kept, self.arena_bytes, scratch)))
    }

    fn of(
        nodes: Vec<Step>,
        operands: Vec<Option<Arc<Bound>>>,
        (layout, symbols): (Arc<Layout>, SymbolValues),
        arena_bytes: usize,
        scratch: Scratch,
    ) -> BoundPlan {
        let to_do = nodes.iter().enumerate().filter(|(_, step)| !step.is_nothing());
        let mut steps: Vec<BoundStep> =
            to_do.map(|(node, step)| BoundStep::new(node, step.clone())).collect();
        for index in 1..steps.len() {
            steps[index - 1].then = Then::between(&steps[index - 1].step, &steps[index].step);
        }
        for index in 0..steps.len() {
            steps[index].following = following(&steps[index + 1..]);
        }
        let is_serial = steps.iter().all(|step| !step.step.parallel);
        BoundPlan { steps, operands, arena_bytes, scratch, is_serial, nodes, layout, symbols }
    }
}

/// The weights that the first of `steps` to read some begins with.
fn following(steps: &[BoundStep]) -> Option<Following> {
    let step =
        steps.iter().take(STEPS_BETWEEN + 1).map(|step| &step.step).find(|step| step.first.is_some())?;
    Some(Following { weights: step.first.clone()?, parallel: step.parallel })
}

/// The step of node `index`, and the symbols of the expressions that it was made with.
fn bind_node(
    plan: &Plan,
    index: usize,
    operands: &[Option<Arc<Bound>>],
    symbols: &SymbolValues,
    order: &SymbolOrder,
    scratch: &mut Scratch,
) -> Result<(Step, SymbolSet)> {
    let (node, layer) = (&plan.graph.nodes()[index], &plan.layers[index]);
    let bound = |ids: &[Option<ValueId>]| -> Vec<Option<Arc<Bound>>> {
        ids.iter().map(|id| id.and_then(|id| operands[id.index()].clone())).collect()
    };
    let of_layer = chain::operands(&plan.graph, &plan.layers, index);
    let (inputs, outputs) = (bound(&of_layer.inputs), bound(of_layer.outputs));
    let mut binding = Binding::new(&inputs, &outputs, (symbols, order), *scratch);
    let mut step = layer.bind(&mut binding).map_err(|error| error.context(describe(node)))?;
    *scratch = binding.scratch;
    let evaluated = binding.evaluated();
    // A plan that keeps every tensor readable is there to be looked into: what it does depends on less.
    let may_be_alone = plan.options.memory_optimization;
    let is_one = layer.nodes == Nodes::Own;
    if step.parallel && may_be_alone && is_one && !work::is_worth_sharing(&node.op, &inputs, &outputs) {
        step.parallel = false;
    }
    Ok((step, evaluated))
}

/// The symbols that the shape and the place of value `value` depend on.
fn dependence(plan: &Plan, value: usize, order: &SymbolOrder) -> SymbolSet {
    let dims = plan.graph.values()[value].shape().map_or(&[][..], |shape| shape.dims());
    dims.iter().fold(order.set_of(&plan.roots[value].1), |set, dim| set.with(order.set_of(dim)))
}

/// The offset of each root in the arena, by value; the capacity of each lifetime; the arena's size.
fn arena(plan: &Plan, symbols: &SymbolValues) -> Result<(Vec<usize>, Vec<usize>, usize)> {
    let mut blocks = Vec::with_capacity(plan.lifetimes.len());
    for lifetime in &plan.lifetimes {
        let mut bytes = block_bytes(plan, lifetime, symbols)?;
        if lifetime.bytes.as_const().is_none() {
            bytes = with_room(bytes);
        }
        blocks.push(Block { bytes, first: lifetime.first, last: lifetime.last });
    }
    let (block_offsets, total) = lay_out(&blocks, plan.options.memory_optimization);
    let mut offsets = vec![0; plan.graph.values().len()];
    for (lifetime, offset) in plan.lifetimes.iter().zip(block_offsets) {
        offsets[lifetime.root.index()] = offset;
    }
    Ok((offsets, blocks.iter().map(|block| block.bytes).collect(), total))
}

fn block_bytes(plan: &Plan, lifetime: &Lifetime, symbols: &SymbolValues) -> Result<usize> {
    let bytes = lifetime.bytes.evaluate(symbols)?;
    usize::try_from(bytes).map_err(|_| {
        Error::shape(format!("{:?} would have {bytes} bytes", plan.graph.value(lifetime.root).name))
    })
}

/// `bytes` and some more to grow; as they are where there can be no more.
fn with_room(bytes: usize) -> usize {
    let granule = bytes.checked_next_power_of_two().map_or(1, |power| (power / GROWTH).max(1));
    bytes.checked_next_multiple_of(granule).unwrap_or(bytes)
}

/// Where value `value` lies, and its shape.
fn operand(plan: &Plan, value: usize, symbols: &SymbolValues, offsets: &[usize]) -> Result<Option<Bound>> {
    let (inputs, outputs) = (plan.graph.inputs.len(), plan.graph.outputs.len());
    let ((root, distance), row_stride) = (&plan.roots[value], &plan.row_strides[value]);
    let value = &plan.graph.values()[value];
    let (Some(shape), Some(element_type)) = (value.shape(), value.element_type()) else { return Ok(None) };
    let dims = shape.evaluate(symbols).map_err(|error| error.context(format!("tensor {:?}", value.name)))?;
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
    let length = dims.last().copied().unwrap_or(1);
    let row_stride = row_stride.unwrap_or(length);
    // Columns end with their last row, not with what lies beside it.
    let beside = (row_stride - length) * element_type.size();
    let rows = bytes / (length * element_type.size()).max(1);
    let bytes = bytes.saturating_add(beside.saturating_mul(rows.saturating_sub(1)));
    let operand = Operand { base: base as u32, offset: offsets[root.index()] + distance, bytes };
    Ok(Some(Bound { operand, dims, element_type, row_stride }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weights of which each part reads its own.
    struct Halves(Vec<f32>);

    impl FirstWeights for Halves {
        fn of(&self, part: Part) -> &[f32] {
            &self.0[part.range(self.0.len())]
        }
    }

    #[test]
    fn the_weights_that_follow_are_those_of_the_next_step_that_has_some() {
        let weights = || Halves(vec![0.0; 2000]);
        let parallel = || Step::parallel(|_, _| Ok(()));
        let serial = || Step::serial(|_| Ok(()));
        let halves = [Part { index: 0, count: 2 }, Part { index: 1, count: 2 }];
        // The steps behind one, and how many elements its two workers fetch.
        let cases: [(Vec<Step>, [usize; 2]); 6] = [
            (vec![], [0, 0]),
            (vec![parallel().reads_first(weights()), parallel()], [1000, 1000]),
            (vec![serial().reads_first(weights())], [2000, 0]),
            (vec![parallel(), serial(), parallel().reads_first(weights())], [1000, 1000]),
            (vec![parallel(), serial(), serial(), parallel().reads_first(weights())], [0, 0]),
            (vec![parallel().reads_first(Halves(vec![0.0; 3 * FETCHED_AHEAD]))], [FETCHED_AHEAD; 2]),
        ];
        for (number, (steps, expected)) in cases.into_iter().enumerate() {
            let steps: Vec<BoundStep> = steps.into_iter().map(|step| BoundStep::new(0, step)).collect();
            let step = BoundStep { following: following(&steps), ..BoundStep::new(0, parallel()) };
            assert_eq!(halves.map(|part| step.following(part).len()), expected, "case {number}");
        }
    }

    #[test]
    fn room_is_enough_and_not_too_much() {
        for bytes in (0..3000).chain([1 << 20, (1 << 20) + 4, 3 << 40, usize::MAX - 1, usize::MAX]) {
            let room = with_room(bytes);
            assert!(bytes <= room && room - bytes <= bytes / 8, "{bytes}: {room}");
        }
    }
}
