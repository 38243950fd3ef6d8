//! Walks the stages of a program.

use std::sync::Arc;
use std::time::Instant;

use optimium_device::{Cancellation, ExecutionState, Observer, RunDetails};
use optimium_graph::{ValueId, shapes};
use optimium_tensor::{Buffer, Error, ErrorKind, Expr, Result, SymbolValues, Tensor};

use super::{Call, Dynamic, Program, Region, Running, Stage, details};
use crate::plan::{Place, describe};
use crate::state::State;

/// Buffers that are kept for a value: one may still be read while the next one is written, as the states of a loop are.
const KEPT_BUFFERS: usize = 2;

/// The memory of one inference at a time.
pub(crate) struct ProgramState {
    pub(crate) program: Arc<Program>,
    pub(super) parts: Vec<Part>,
    /// The tensors that are there, by value.
    values: Vec<Option<Tensor>>,
    /// Memory of results of earlier runs, by value.
    buffers: Vec<Vec<Arc<Buffer>>>,
    pub(super) has_run: bool,
}

/// What a stage keeps.
pub(super) enum Part {
    Region(Box<State>),
    Dynamic(Box<dyn Running>),
}

/// Who watches a run, and who may end it.
#[derive(Clone, Copy)]
pub(crate) struct Watched<'a> {
    pub(crate) cancellation: &'a Cancellation,
    /// The observer, and the number that it knows the program's first operation by.
    pub(crate) observer: Option<(&'a dyn Observer, usize)>,
}

/// An observer of a part, whose operations have other numbers in the whole.
struct Shifted<'a> {
    observer: &'a dyn Observer,
    first: usize,
}

impl Observer for Shifted<'_> {
    fn step(&self, worker: usize, operation: usize, start: Instant, end: Instant) {
        self.observer.step(worker, self.first + operation, start, end);
    }
}

impl ProgramState {
    /// A state without memory yet.
    ///
    /// # Errors
    /// [`OutOfResource`](ErrorKind::OutOfResource) where memory ran out.
    pub(crate) fn new(program: Arc<Program>) -> Result<ProgramState> {
        let part = |stage: &Stage| {
            Ok(match stage {
                Stage::Region(region) => Part::Region(Box::new(State::new(region.plan.clone())?)),
                Stage::Dynamic(dynamic) => Part::Dynamic(dynamic.operator.start()),
            })
        };
        let parts = program.stages.iter().map(part).collect::<Result<Vec<_>>>()?;
        let count = program.graph.values().len();
        Ok(ProgramState {
            parts,
            values: vec![None; count],
            buffers: vec![Vec::new(); count],
            has_run: false,
            program,
        })
    }

    /// Runs all stages. `outputs` may hold tensors for outputs; the others get theirs here. `around` has values of symbols.
    ///
    /// # Errors
    /// As [`ExecutionState::run`], and [`Shape`](ErrorKind::Shape) for a tensor in `outputs` that has not the size that data decide.
    pub(crate) fn run_within(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Option<Tensor>],
        around: &SymbolValues,
        watched: Watched<'_>,
    ) -> Result<Vec<Tensor>> {
        self.has_run = false;
        self.forget();
        let results = self.run_stages(inputs, outputs, around, watched);
        self.has_run = results.is_ok();
        // Nobody's tensors are held longer than the run takes.
        if self.program.memory_optimization || results.is_err() {
            self.forget();
        } else {
            self.program.graph.inputs.iter().for_each(|id| self.values[id.index()] = None);
        }
        results
    }

    fn run_stages(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Option<Tensor>],
        around: &SymbolValues,
        watched: Watched<'_>,
    ) -> Result<Vec<Tensor>> {
        let program = self.program.clone();
        let graph = &program.graph;
        let scope = program.scope.iter().filter_map(|name| Some((name.clone(), *around.get(name)?)));
        let dims: Vec<&[usize]> = inputs.iter().map(Tensor::dims).collect();
        let mut symbols = shapes::bind_within(graph, &dims, scope.collect())?;
        for (&id, input) in graph.inputs.iter().zip(inputs) {
            self.values[id.index()] = Some(input.clone());
        }
        let mut first = watched.observer.map_or(0, |(_, first)| first);
        for (index, stage) in program.stages.iter().enumerate() {
            if watched.cancellation.is_cancelled() {
                return Err(Error::new(ErrorKind::InferCanceled, "the inference was cancelled"));
            }
            let watched =
                Watched { observer: watched.observer.map(|(observer, _)| (observer, first)), ..watched };
            match stage {
                Stage::Region(region) => self.run_region(index, region, outputs, &symbols, watched)?,
                Stage::Dynamic(dynamic) => self.run_dynamic(index, dynamic, &mut symbols, watched)?,
            }
            first += stage.operation_count();
            if program.memory_optimization {
                program.released[index].iter().for_each(|id| self.values[id.index()] = None);
            }
        }
        graph.outputs.iter().map(|&id| self.tensor(id)).collect()
    }

    fn forget(&mut self) {
        self.values.iter_mut().for_each(|value| *value = None);
    }

    /// A copy of a value that lies in what a region reads or writes, as parts and reshaped forms of tensors do.
    fn inside(&self, region: &Region, state: &State, name: &str) -> Result<Option<Tensor>> {
        let Some((place, bound)) = state.find(name) else { return Ok(None) };
        let id = match place {
            Place::Input(index) => region.inputs[index],
            Place::Output(index) => region.outputs[index],
            Place::Arena | Place::Constant(_) => return Ok(None),
        };
        let Some((buffer, start)) = self.values[id.index()].as_ref().and_then(Tensor::buffer) else {
            return Ok(None);
        };
        let offset = start + bound.operand.offset;
        Tensor::from_buffer(bound.element_type, &bound.dims, buffer.clone(), offset)?
            .to_owned_copy()
            .map(Some)
    }

    /// A value that is there by now.
    fn tensor(&self, id: ValueId) -> Result<Tensor> {
        let graph = &self.program.graph;
        let found = self.values[id.index()].clone().or_else(|| graph.constant(id).cloned());
        found.ok_or_else(|| Error::infer(format!("{:?} was not computed", graph.value(id).name)))
    }

    fn run_region(
        &mut self,
        index: usize,
        region: &Region,
        outputs: &[Option<Tensor>],
        symbols: &SymbolValues,
        watched: Watched<'_>,
    ) -> Result<()> {
        let inputs = region.inputs.iter().map(|&id| self.tensor(id)).collect::<Result<Vec<_>>>()?;
        let results =
            region.outputs.iter().map(|&id| self.result(id, outputs, symbols)).collect::<Result<Vec<_>>>()?;
        let scope = &region.plan.scope;
        let scope = scope.iter().map(|name| symbols.get(name).copied().ok_or_else(|| unknown(name)));
        let scope = scope.collect::<Result<Vec<_>>>()?;
        let Part::Region(state) = &mut self.parts[index] else { return Err(Error::infer("not a region")) };
        state.enter(scope);
        let shifted = watched.observer.map(|(observer, first)| Shifted { observer, first });
        let observer = shifted.as_ref().map(|shifted| shifted as &dyn Observer);
        state.run_observed(&inputs, &results, watched.cancellation, observer)?;
        for (&id, result) in region.outputs.iter().zip(results) {
            self.values[id.index()] = Some(result);
        }
        Ok(())
    }

    /// The tensor that a region writes `id` to: the caller's, or one in memory of its own.
    fn result(&mut self, id: ValueId, outputs: &[Option<Tensor>], symbols: &SymbolValues) -> Result<Tensor> {
        let program = &self.program;
        let value = program.graph.value(id);
        let (Some(shape), Some(element_type)) = (value.shape(), value.element_type()) else {
            return Err(Error::model(format!("the shape of {:?} is not known", value.name)));
        };
        let dims =
            shape.evaluate(symbols).map_err(|error| error.context(format!("tensor {:?}", value.name)))?;
        let position = program.graph.outputs.iter().position(|&output| output == id);
        if let Some(given) = position.and_then(|position| outputs.get(position)?.as_ref()) {
            if given.dims() != dims {
                return Err(Error::shape(format!(
                    "the output {:?} has the shape {dims:?}, which data decide, but a tensor of shape {:?} was given",
                    value.name.trim_end_matches(&format!(".output_{}", position.unwrap_or(0))),
                    given.dims()
                )));
            }
            return Ok(given.clone());
        }
        let bytes = dims.iter().try_fold(element_type.size(), |bytes, &dim| bytes.checked_mul(dim));
        let bytes = bytes
            .ok_or_else(|| Error::shape(format!("tensor {:?} of shape {dims:?} is too large", value.name)))?;
        let buffer = take_buffer(&mut self.buffers[id.index()], bytes).map_err(|error| {
            error.context(format!("tensor {:?} of shape {dims:?}", program.graph.value(id).name))
        })?;
        Ok(Tensor::from_buffer(element_type, &dims, buffer, 0)?.with_scheme(value.scheme.clone()))
    }

    fn run_dynamic(
        &mut self,
        index: usize,
        dynamic: &Dynamic,
        symbols: &mut SymbolValues,
        watched: Watched<'_>,
    ) -> Result<()> {
        let node = &dynamic.node;
        let inputs = node.inputs.iter().map(|id| id.map(|id| self.tensor(id)).transpose());
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let Part::Dynamic(running) = &mut self.parts[index] else {
            return Err(Error::infer("not an operator"));
        };
        let observer = watched.observer.map(|(observer, first)| (observer, first + 1));
        let call = Call { inputs: &inputs, symbols, cancellation: watched.cancellation, observer };
        let start = watched.observer.map(|_| Instant::now());
        let results = running.run(&call).map_err(|error| error.context(describe(node)))?;
        // What has bodies is seen by what they do.
        if let (Some((observer, first)), Some(start), true) =
            (watched.observer, start, dynamic.operator.bodies().is_empty())
        {
            observer.step(0, first, start, Instant::now());
        }
        for (&id, result) in node.outputs.iter().zip(results) {
            let (Some(id), Some(result)) = (id, result) else { continue };
            let value = self.program.graph.value(id);
            let dims = value.shape().map_or(&[][..], |shape| shape.dims());
            learn(dims, result.dims(), symbols).map_err(|error| {
                error.context(format!("the output {:?}", value.name)).context(describe(node))
            })?;
            self.values[id.index()] = Some(result.with_scheme(value.scheme.clone()));
        }
        Ok(())
    }
}

fn unknown(name: &str) -> Error {
    Error::infer(format!("the size {name} is not known"))
}

/// Memory for so many bytes that nobody has: kept from an earlier run where there is some.
fn take_buffer(kept: &mut Vec<Arc<Buffer>>, bytes: usize) -> Result<Arc<Buffer>> {
    let is_free = |buffer: &Arc<Buffer>| Arc::strong_count(buffer) == 1 && buffer.len() >= bytes;
    if let Some(free) = kept.iter().find(|buffer| is_free(buffer)) {
        return Ok(free.clone());
    }
    let buffer = Arc::new(Buffer::allocate(bytes)?);
    kept.retain(|buffer| Arc::strong_count(buffer) > 1);
    if kept.len() == KEPT_BUFFERS {
        kept.remove(0);
    }
    kept.push(buffer.clone());
    Ok(buffer)
}

/// Gives symbols their values by a tensor of those dimensions.
fn learn(expected: &[Expr], found: &[usize], symbols: &mut SymbolValues) -> Result<()> {
    let differs =
        || Error::shape(format!("data decide that it has the shape {found:?}, but the model says otherwise"));
    if expected.len() != found.len() {
        return Err(differs());
    }
    for (expr, &size) in expected.iter().zip(found) {
        let size = i64::try_from(size).map_err(|_| differs())?;
        match expr.as_symbol() {
            Some(symbol) if !symbols.contains_key(symbol) => {
                symbols.insert(symbol.into(), size);
            }
            _ if expr.evaluate(symbols).is_ok_and(|expected| expected != size) => return Err(differs()),
            _ => {}
        }
    }
    Ok(())
}

impl ExecutionState for ProgramState {
    fn run_observed(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<()> {
        let outputs: Vec<Option<Tensor>> = outputs.iter().cloned().map(Some).collect();
        self.run_open(inputs, &outputs, cancellation, observer).map(|_| ())
    }

    fn run_open(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Option<Tensor>],
        cancellation: &Cancellation,
        observer: Option<&dyn Observer>,
    ) -> Result<Vec<Tensor>> {
        let watched = Watched { cancellation, observer: observer.map(|observer| (observer, 0)) };
        self.run_within(inputs, outputs, &SymbolValues::new(), watched)
    }

    fn details(&self) -> Option<RunDetails> {
        self.has_run.then(|| details::of(self))
    }

    fn intermediate_names(&self) -> Vec<String> {
        if self.program.memory_optimization {
            return Vec::new();
        }
        let graph = &self.program.graph;
        let is_outer = |id: &&ValueId| !graph.inputs.contains(id) && !graph.outputs.contains(id);
        let computed = graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten());
        computed.filter(is_outer).map(|&id| graph.value(id).name.clone()).collect()
    }

    fn intermediate(&self, name: &str) -> Result<Tensor> {
        let graph = &self.program.graph;
        if let Some(id) = graph.find_value(name)
            && let Some(tensor) = &self.values[id.index()]
            && self.has_run
        {
            return tensor.to_owned_copy();
        }
        let mut missing =
            Error::invalid_argument(format!("there is no tensor {name:?} in the compiled model"));
        for (stage, part) in self.program.stages.iter().zip(&self.parts) {
            let (Stage::Region(region), Part::Region(state)) = (stage, part) else { continue };
            match state.intermediate(name) {
                Ok(tensor) => return Ok(tensor),
                Err(error) if error.kind() != ErrorKind::InvalidArgument => {
                    missing = error;
                    if let Some(tensor) = self.inside(region, state, name)? {
                        return Ok(tensor);
                    }
                }
                Err(_) => {}
            }
        }
        Err(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn symbols_learn_their_values_once() {
        let (n, m) = (Expr::symbol("n"), Expr::symbol("m"));
        let mut symbols = SymbolValues::new();
        learn(&[n.clone(), 3i64.into()], &[5, 3], &mut symbols).unwrap();
        assert_eq!(symbols["n"], 5);
        assert!(learn(std::slice::from_ref(&n), &[6], &mut symbols).is_err());
        assert!(learn(&[n.clone() * 2i64.into()], &[11], &mut symbols).is_err());
        assert!(learn(&[n * 2i64.into(), m], &[10, 0], &mut symbols).is_ok());
        assert!(learn(&[], &[1], &mut symbols).is_err());
        assert_eq!(symbols["m"], 0);
    }

    #[test]
    fn memory_is_used_again_when_nobody_has_it() {
        let mut kept = Vec::new();
        let first = take_buffer(&mut kept, 100).unwrap();
        let second = take_buffer(&mut kept, 100).unwrap();
        assert!(!Arc::ptr_eq(&first, &second));
        let address = Arc::as_ptr(&first);
        drop(first);
        assert_eq!(Arc::as_ptr(&take_buffer(&mut kept, 60).unwrap()), address);
        assert_ne!(Arc::as_ptr(&take_buffer(&mut kept, 200).unwrap()), address);
        assert!(kept.len() <= KEPT_BUFFERS);
    }
}
