//! What one request keeps between inferences: its arena, and the plan bound for its shapes.

use std::sync::Arc;

use optimium_device::{Cancellation, ExecutionState, Observer, RunDetails};
use optimium_graph::ValueId;
use optimium_tensor::{Buffer, Error, ErrorKind, Result, Tensor};

use crate::bind::BoundPlan;
use crate::details;
use crate::execute::{Unwatched, Watch, execute};
use crate::layer::Bound;
use crate::memory::{Base, Memory};
use crate::plan::{Place, Plan};

/// The memory of one inference at a time.
pub(crate) struct State {
    plan: Arc<Plan>,
    bound: Option<(Vec<Vec<usize>>, Arc<BoundPlan>)>,
    /// The values of the symbols around the plan.
    scope: Vec<i64>,
    /// Whether the plan was bound for other values of them.
    is_stale: bool,
    arena: Arc<Buffer>,
    scratch: Buffer,
    /// Arena, inputs, outputs, constants: the order that operands count on.
    bases: Vec<Base>,
    has_run: bool,
}

impl State {
    /// A state without memory yet, or bound at once where the shapes are known.
    pub(crate) fn new(plan: Arc<Plan>) -> Result<State> {
        let none = Base::new(std::ptr::null_mut(), 0);
        let mut bases = vec![none; 1 + plan.graph.inputs.len() + plan.graph.outputs.len()];
        bases.extend(&plan.constants);
        let mut state = State {
            plan,
            bound: None,
            scope: Vec::new(),
            is_stale: false,
            arena: Arc::new(Buffer::allocate(0)?),
            scratch: Buffer::allocate(0)?,
            bases,
            has_run: false,
        };
        let fixed: Option<Vec<Vec<usize>>> = state
            .plan
            .graph
            .inputs
            .iter()
            .map(|&id| state.plan.graph.value(id).shape()?.as_fixed())
            .collect();
        if let Some(dims) = fixed.filter(|_| state.plan.scope.is_empty()) {
            state.rebind(dims)?;
        }
        Ok(state)
    }

    /// Sets the values of the symbols around the plan, in the order of its scope.
    pub(crate) fn enter(&mut self, scope: Vec<i64>) {
        if scope != self.scope {
            self.scope = scope;
            self.is_stale = true;
        }
    }

    fn rebind(&mut self, dims: Vec<Vec<usize>>) -> Result<()> {
        let slices: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        let previous = self.bound.as_ref().map(|(_, bound)| &**bound);
        let bound = self.plan.bound(&slices, &self.scope, previous)?;
        if bound.arena_bytes > self.arena.len() {
            self.arena = Arc::new(Buffer::zeroed(bound.arena_bytes)?);
        }
        let scratch = (bound.scratch.each * self.plan.team.threads()).max(bound.scratch.shared);
        if scratch > self.scratch.len() {
            self.scratch = Buffer::zeroed(scratch)?;
        }
        self.bases[0] = Base::new(self.arena.as_ptr(), self.arena.len());
        self.bound = Some((dims, bound));
        self.is_stale = false;
        self.has_run = false;
        Ok(())
    }

    fn is_bound_for(&self, inputs: &[Tensor]) -> bool {
        !self.is_stale
            && self
                .bound
                .as_ref()
                .is_some_and(|(dims, _)| inputs.iter().map(Tensor::dims).eq(dims.iter().map(Vec::as_slice)))
    }

    fn point_at(&mut self, inputs: &[Tensor], outputs: &[Tensor]) -> Result<()> {
        for (base, tensor) in self.bases[1..].iter_mut().zip(inputs.iter().chain(outputs)) {
            let (buffer, span) = tensor
                .span()
                .ok_or_else(|| Error::not_implemented("tensors of strings are not supported"))?;
            let stride = tensor.blocks().map(|blocks| blocks.stride);
            *base = Base { pointer: buffer.as_ptr().wrapping_add(span.start), bytes: span.len(), stride };
        }
        Ok(())
    }

    /// Where the value of that name lay in the last run, and what it was: for values that lie in inputs and outputs.
    pub(crate) fn find(&self, name: &str) -> Option<(Place, &Bound)> {
        let id = self.plan.graph.find_value(name)?;
        let (_, bound) = self.bound.as_ref().filter(|_| self.has_run)?;
        let place = self.plan.places[self.plan.roots[id.index()].0.index()];
        Some((place, bound.operands[id.index()].as_deref()?))
    }

    fn readable(&self, id: ValueId) -> bool {
        matches!(self.plan.places[self.plan.roots[id.index()].0.index()], Place::Arena)
    }
}

impl State {
    fn run_watched(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
        watch: impl Watch,
    ) -> Result<()> {
        if !self.is_bound_for(inputs) {
            self.rebind(inputs.iter().map(|tensor| tensor.dims().to_vec()).collect())?;
        }
        self.point_at(inputs, outputs)?;
        let Some((_, bound)) = &self.bound else { return Err(Error::infer("the state has no bound plan")) };
        let scratch = Base::new(self.scratch.as_ptr(), self.scratch.len());
        // SAFETY: arena and scratch memory are this state's, which is borrowed exclusively; the caller holds access to its
        // tensors; the plan keeps constants alive. The steps are those of the bound plan that laid the arena out.
        let memory = unsafe { Memory::new(&self.bases, scratch, bound.scratch.each) };
        let result = execute(&self.plan, bound, &memory, cancellation, watch);
        self.has_run = result.is_ok();
        result
    }
}

impl ExecutionState for State {
    fn run_observed(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<()> {
        match observer {
            None => self.run_watched(inputs, outputs, cancellation, Unwatched),
            Some(observer) => self.run_watched(inputs, outputs, cancellation, observer),
        }
    }

    fn details(&self) -> Option<RunDetails> {
        let (_, bound) = self.bound.as_ref().filter(|_| self.has_run)?;
        Some(details::of(&self.plan, bound))
    }

    fn intermediate_names(&self) -> Vec<String> {
        if self.plan.options.memory_optimization {
            return Vec::new();
        }
        let graph = &self.plan.graph;
        let computed = graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten());
        computed.filter(|id| self.readable(**id)).map(|&id| graph.value(id).name.clone()).collect()
    }

    fn intermediate(&self, name: &str) -> Result<Tensor> {
        let wrong_state = |message: &str| {
            Error::new(ErrorKind::InvalidOperation, format!("{name:?} cannot be read: {message}"))
        };
        let id = self.plan.graph.find_value(name).ok_or_else(|| {
            Error::invalid_argument(format!(
                "there is no tensor {name:?} in the compiled model; it may have been fused into its successor"
            ))
        })?;
        if let Some(constant) = self.plan.graph.constant(id) {
            return Ok(constant.clone());
        }
        if self.plan.options.memory_optimization {
            return Err(wrong_state("tensors share memory; load the model with memory_optimization=False"));
        }
        let bound = self.bound.as_ref().filter(|_| self.has_run);
        let (_, bound) = bound.ok_or_else(|| wrong_state("no inference has finished yet"))?;
        match &bound.operands[id.index()] {
            Some(operand) if self.readable(id) => {
                let whole = Tensor::from_buffer(
                    operand.element_type,
                    &operand.dims,
                    self.arena.clone(),
                    operand.operand.offset,
                )?;
                Ok(whole.to_owned_copy()?.with_scheme(self.plan.graph.value(id).scheme.clone()))
            }
            _ => Err(wrong_state("it is an input or an output of the model")),
        }
    }
}
