//! A compiled graph: its layers in order, and where every value lies.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use optimium_device::{
    Append, CompileOptions, Executable, ExecutionState, KernelChoice, OperationInfo, PackedBlock,
};
use optimium_graph::ops::Operator;
use optimium_graph::{Graph, Node, ValueId, shapes};
use optimium_simd::Level;
use optimium_tensor::{Error, Expr, Result};

use crate::alias::{self, Aliases};
use crate::bind::BoundPlan;
use crate::chain::operands;
use crate::layer::{Layer, Nodes};
use crate::memory::Base;
use crate::packing::PackedNodes;
use crate::state::State;
use crate::team::Team;
use crate::{lower, promote, sizes, storage};

/// Bound plans that are kept: a model with dynamic shapes mostly sees a few.
const KEPT_BOUND_PLANS: usize = 16;

/// Where a root's memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the caller's input of that index.
    Input(usize),
    /// In the caller's output of that index.
    Output(usize),
    /// In the constant of that index.
    Constant(usize),
    /// In the arena.
    Arena,
}

/// A root in the arena: who writes it first, who reads it last.
#[derive(Clone, Debug)]
pub(crate) struct Lifetime {
    pub(crate) root: ValueId,
    pub(crate) bytes: Expr,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

/// Everything that was decided before shapes are known.
pub(crate) struct Plan {
    pub(crate) graph: Graph,
    pub(crate) layers: Vec<Layer>,
    packed: PackedNodes,
    /// Symbols that sizes depend on and that no input has: those around the plan give them values.
    pub(crate) scope: Vec<Arc<str>>,
    /// For each value its root and its byte offset in it.
    pub(crate) roots: Vec<(ValueId, Expr)>,
    /// For each value that lies in its root as columns the distance from row to row, in elements.
    pub(crate) row_strides: Vec<Option<usize>>,
    /// For each root where its memory is.
    pub(crate) places: Vec<Place>,
    pub(crate) lifetimes: Vec<Lifetime>,
    /// The outputs that may be written behind an input.
    pub(crate) appends: Vec<Append>,
    /// The constants' memory, which the graph keeps alive.
    pub(crate) constants: Vec<Base>,
    pub(crate) team: Arc<Team>,
    pub(crate) options: CompileOptions,
    bound: Mutex<HashMap<Vec<Vec<usize>>, Arc<BoundPlan>>>,
}

impl Plan {
    /// Compiles a graph whose shapes are inferred and whose nodes are sorted.
    ///
    /// # Errors
    /// As [`Backend::compile`](optimium_device::Backend::compile).
    pub(crate) fn compile(graph: &Graph, options: &CompileOptions) -> Result<Plan> {
        let team = Team::new(options.threads, options.cores.as_deref())?;
        Plan::compile_within(graph, options, Arc::new(team), Vec::new())
    }

    /// As [`compile`](Plan::compile), for a part of a model that has a team, and symbols that get values elsewhere.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn compile_within(
        graph: &Graph,
        options: &CompileOptions,
        team: Arc<Team>,
        scope: Vec<Arc<str>>,
    ) -> Result<Plan> {
        let level = level_of(options)?;
        let mut graph = separate_outputs(promote::promote(graph)?)?;
        storage::decide(&mut graph, level, options);
        let (layers, packed) = lower::lower_all(&graph, level, options)?;
        sizes::check(&graph, &scope)?;
        let aliases = alias::decide(&graph, &layers, options.memory_optimization);
        let roots: Vec<(ValueId, Expr)> =
            (0..graph.values().len()).map(|index| aliases.root(ValueId::from_index(index))).collect();
        let row_strides =
            (0..graph.values().len()).map(|index| aliases.row_stride(ValueId::from_index(index))).collect();
        let (places, constants) = places(&graph)?;
        let lifetimes = lifetimes(&graph, &layers, &aliases, &places)?;
        let appends = appends(&graph, &layers, &roots);
        tracing::debug!(model = graph.name, layers = layers.len(), level = level.name(), "compiled");
        Ok(Plan {
            graph,
            layers,
            packed,
            scope,
            roots,
            row_strides,
            places,
            lifetimes,
            appends,
            constants,
            team,
            options: options.clone(),
            bound: Mutex::default(),
        })
    }

    /// The plan for inputs of those dimensions and values of the symbols around it: kept from an earlier time, as `previous` with other sizes where that will do, or
    /// bound anew.
    ///
    /// # Errors
    /// [`Shape`](optimium_tensor::ErrorKind::Shape) where they do not fit the graph.
    pub(crate) fn bound(
        &self,
        input_dims: &[&[usize]],
        scope: &[i64],
        previous: Option<&BoundPlan>,
    ) -> Result<Arc<BoundPlan>> {
        let mut key: Vec<Vec<usize>> = input_dims.iter().map(|dims| dims.to_vec()).collect();
        key.push(scope.iter().map(|&size| size as usize).collect());
        if let Some(bound) = self.kept().get(&key) {
            return Ok(bound.clone());
        }
        let around = self.scope.iter().cloned().zip(scope.iter().copied()).collect();
        let symbols = shapes::bind_within(&self.graph, input_dims, around)?;
        let similar = previous.map(|previous| previous.rebind(self, &symbols)).transpose()?.flatten();
        let bound = Arc::new(similar.map_or_else(|| BoundPlan::bind(self, symbols), Ok)?);
        let mut kept = self.kept();
        if kept.len() >= KEPT_BOUND_PLANS {
            kept.clear();
        }
        kept.insert(key, bound.clone());
        Ok(bound)
    }

    /// The name of layer `index`: of all nodes that it computes.
    fn name_of(&self, index: usize) -> String {
        let name = |index: usize| self.graph.nodes()[index].name.as_str();
        match &self.layers[index].nodes {
            Nodes::Chain(nodes) => nodes.iter().map(|&index| name(index)).collect::<Vec<_>>().join(" + "),
            Nodes::Own | Nodes::None => name(index).to_owned(),
        }
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<Vec<Vec<usize>>, Arc<BoundPlan>>> {
        self.bound.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Executable for Plan {
    fn operations(&self) -> Vec<OperationInfo> {
        let name = |id: &Option<ValueId>| id.map(|id| self.graph.value(id).name.clone());
        let info = |(index, node): (usize, &Node)| {
            let operands = operands(&self.graph, &self.layers, index);
            OperationInfo {
                name: self.name_of(index),
                operator: node.op.name().to_owned(),
                kernel: self.layers[index].kernel.clone(),
                inputs: operands.inputs.iter().filter_map(name).collect(),
                outputs: operands.outputs.iter().filter_map(name).collect(),
            }
        };
        self.graph.nodes().iter().enumerate().map(info).collect()
    }

    fn choices(&self) -> Vec<Option<KernelChoice>> {
        self.layers.iter().map(|layer| layer.choice.as_ref().map(|describe| describe())).collect()
    }

    fn packed(&self) -> Vec<PackedBlock<'_>> {
        self.packed.export(&self.graph)
    }

    fn appends(&self) -> &[Append] {
        &self.appends
    }

    fn create_state(self: Arc<Self>) -> Result<Box<dyn ExecutionState>> {
        Ok(Box::new(State::new(self)?))
    }
}

/// How errors name a node.
pub(crate) fn describe(node: &Node) -> String {
    format!("{} {:?}", node.op.name(), node.name)
}

pub(crate) fn level_of(options: &CompileOptions) -> Result<Level> {
    let Some(name) = &options.instruction_set else { return Ok(Level::best()) };
    let known = || Level::available().map(Level::name).collect::<Vec<_>>().join(", ");
    Level::from_name(name).filter(|level| level.is_available()).ok_or_else(|| {
        Error::invalid_argument(format!(
            "the instruction set {name:?} is not available here; there are: {}",
            known()
        ))
    })
}

/// Gives every output of the graph a value of its own that a node computes, so that each has one place to be written.
pub(crate) fn separate_outputs(mut graph: Graph) -> Result<Graph> {
    let producers = graph.producers();
    let mut seen = Vec::new();
    for index in 0..graph.outputs.len() {
        let output = graph.outputs[index];
        if producers[output.index()].is_some() && !seen.contains(&output) {
            seen.push(output);
            continue;
        }
        let value = graph.value(output).clone();
        let name = format!("{}.output_{index}", value.name);
        let copy = graph.add_value(optimium_graph::Value { name: name.clone(), constant: None, ..value });
        graph.add_node(Node {
            name,
            op: Operator::Identity,
            inputs: vec![Some(output)],
            outputs: vec![Some(copy)],
        });
        graph.outputs[index] = copy;
    }
    graph.sort()?;
    Ok(graph)
}

/// For each value the place of its memory were it a root, and the constants' memory.
fn places(graph: &Graph) -> Result<(Vec<Place>, Vec<Base>)> {
    let mut constants = Vec::new();
    let mut places = Vec::with_capacity(graph.values().len());
    for value in graph.values() {
        let Some(tensor) = &value.constant else {
            places.push(Place::Arena);
            continue;
        };
        let (buffer, offset) = tensor
            .buffer()
            .ok_or_else(|| Error::not_implemented(format!("the constant {:?} is of strings", value.name)))?;
        places.push(Place::Constant(constants.len()));
        constants.push(Base::new(buffer.as_ptr().wrapping_add(offset), tensor.byte_len()));
    }
    for (index, input) in graph.inputs.iter().enumerate() {
        places[input.index()] = Place::Input(index);
    }
    for (index, output) in graph.outputs.iter().enumerate() {
        places[output.index()] = Place::Output(index);
    }
    Ok((places, constants))
}

/// The inputs that one layer alone reads, and continues in an output that nobody else touches.
fn appends(graph: &Graph, layers: &[Layer], roots: &[(ValueId, Expr)]) -> Vec<Append> {
    let uses = |value: ValueId| -> usize {
        let nodes = graph.nodes().iter().map(|node| node.inputs.iter().chain(&node.outputs));
        let in_nodes = nodes.flatten().flatten().filter(|&&other| other == value).count();
        in_nodes + graph.inputs.iter().chain(&graph.outputs).filter(|&&other| other == value).count()
    };
    // One node and the caller.
    let is_free = |value: ValueId| {
        let members = roots.iter().filter(|(root, _)| *root == value).count();
        uses(value) == 2 && members == 1 && roots[value.index()].0 == value
    };
    let position = |all: &[ValueId], value: ValueId| all.iter().position(|&other| other == value);
    let mut appends = Vec::new();
    for (node, layer) in graph.nodes().iter().zip(layers) {
        for &(input, output, axis) in &layer.appends {
            let (Some(before), Some(after)) = (node.input(input), node.output(output)) else { continue };
            let (input, output) = (position(&graph.inputs, before), position(&graph.outputs, after));
            if let (Some(input), Some(output), true) = (input, output, is_free(before) && is_free(after)) {
                appends.push(Append { input, output, axis });
            }
        }
    }
    appends
}

/// When the memory of each root in the arena is in use.
fn lifetimes(graph: &Graph, layers: &[Layer], aliases: &Aliases, places: &[Place]) -> Result<Vec<Lifetime>> {
    let mut spans: Vec<Option<(usize, usize)>> = vec![None; graph.values().len()];
    for index in 0..graph.nodes().len() {
        for value in operands(graph, layers, index).values() {
            let span = spans[aliases.root(value).0.index()].get_or_insert((index, index));
            span.1 = index;
        }
    }
    let mut lifetimes = Vec::new();
    for (index, span) in spans.iter().enumerate() {
        let root = ValueId::from_index(index);
        if let (Some((first, last)), Place::Arena) = (*span, places[index]) {
            let bytes = alias::byte_count(graph, root).ok_or_else(|| {
                Error::model(format!("the shape of {:?} is not known", graph.value(root).name))
            })?;
            lifetimes.push(Lifetime { root, bytes, first, last });
        }
    }
    Ok(lifetimes)
}
