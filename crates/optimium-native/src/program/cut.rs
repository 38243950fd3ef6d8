//! From a graph to stages.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use optimium_device::CompileOptions;
use optimium_graph::{Graph, Node, Operator, Unsupported, Value, ValueId, deciders};
use optimium_tensor::{Error, ErrorKind, Result, TensorShape};

use super::{Dynamic, Program, Region, Stage, Surroundings, compile_node};
use crate::plan::{self, Plan};
use crate::promote::promote;

/// What the outputs of a program may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outputs {
    /// Tensors that the caller may give: each is written by a region, and by nobody else.
    Given,
    /// Tensors that the program has anyway, its inputs included.
    Kept,
}

impl Program {
    /// Compiles a graph whose shapes are inferred and whose nodes are sorted.
    ///
    /// # Errors
    /// As [`Backend::compile`](optimium_device::Backend::compile).
    pub(super) fn compile(graph: &Graph, around: &Surroundings, outputs: Outputs) -> Result<Program> {
        let mut graph = promote(graph)?;
        if outputs == Outputs::Given {
            copy_dynamic_outputs(&mut graph);
            graph = plan::separate_outputs(graph)?;
        }
        let cut = Cut::new(&graph, around);
        let stages = cut.parts.iter().map(|part| cut.stage(part, around));
        let stages = stages.collect::<Result<Vec<_>>>().map_err(|error| all_of(&graph, error))?;
        let (released, scope) = (cut.released(), cut.scope(around));
        let memory_optimization = around.options.memory_optimization;
        Ok(Program { released, scope, stages, memory_optimization, graph })
    }
}

/// The error with everything that is not supported, where it is of that kind, and not with what was met first.
fn all_of(graph: &Graph, error: Error) -> Error {
    if error.kind() != ErrorKind::NotImplemented {
        return error;
    }
    match unsupported(graph) {
        all if all.is_empty() => error,
        all => Unsupported::error(&graph.name, &all),
    }
}

/// What of `graph`, whose element types kernels know, cannot be run.
pub(crate) fn unsupported(graph: &Graph) -> Vec<Unsupported> {
    let mut plain = graph.clone();
    plain.nodes_mut().retain(|node| !deciders::is_decided_by_data(graph, node));
    let mut all = crate::lower::unsupported(&plain);
    for body in graph.nodes().iter().flat_map(|node| deciders::bodies(&node.op)) {
        match promote(body) {
            Ok(body) => all.extend(unsupported(&body)),
            Err(error) => tracing::debug!("the body {:?} cannot be looked into: {error}", body.name),
        }
    }
    all
}

/// Lets a node write each output that a dynamic operator makes.
fn copy_dynamic_outputs(graph: &mut Graph) {
    let producers = graph.producers();
    for index in 0..graph.outputs.len() {
        let output = graph.outputs[index];
        let producer = producers[output.index()].map(|id| graph.node(id));
        if !producer.is_some_and(|node| deciders::is_decided_by_data(graph, node)) {
            continue;
        }
        let value = graph.value(output).clone();
        let name = format!("{}.output_{index}", value.name);
        let copy = graph.add_value(Value { name: name.clone(), ..value });
        let (inputs, outputs) = (vec![Some(output)], vec![Some(copy)]);
        graph.add_node(Node { name, op: Operator::Identity, inputs, outputs });
        graph.outputs[index] = copy;
    }
}

/// Nodes of one stage, in order.
struct Part {
    nodes: Vec<usize>,
    is_dynamic: bool,
}

/// A graph on its way to stages.
struct Cut<'a> {
    graph: &'a Graph,
    parts: Vec<Part>,
    /// For each value the last part that reads it, [`usize::MAX`] for outputs.
    last_reads: Vec<Option<usize>>,
    /// For each value the part that computes it.
    producers: Vec<Option<usize>>,
    /// The symbols that have a value before, or get one by inputs and dynamic operators.
    symbols: HashSet<Arc<str>>,
}

impl<'a> Cut<'a> {
    fn new(graph: &'a Graph, around: &Surroundings) -> Cut<'a> {
        let is_dynamic: Vec<bool> =
            graph.nodes().iter().map(|node| deciders::is_decided_by_data(graph, node)).collect();
        let mut symbols = around.symbols.clone();
        graph.inputs.iter().for_each(|&id| add_symbols(graph, id, &mut symbols));
        let levels = levels(graph, &is_dynamic, &symbols);
        let dynamic = graph.nodes().iter().zip(&is_dynamic).filter(|(_, dynamic)| **dynamic);
        dynamic
            .flat_map(|(node, _)| node.outputs.iter().flatten())
            .for_each(|&id| add_symbols(graph, id, &mut symbols));
        let mut parts: Vec<Part> = Vec::new();
        for level in 0..=levels.iter().copied().max().unwrap_or(0) {
            let of_level = |dynamic: bool| {
                let (levels, is_dynamic) = (&levels, &is_dynamic);
                (0..levels.len()).filter(move |&i| levels[i] == level && is_dynamic[i] == dynamic)
            };
            let plain: Vec<usize> = of_level(false).collect();
            if !plain.is_empty() {
                parts.push(Part { nodes: plain, is_dynamic: false });
            }
            parts.extend(of_level(true).map(|node| Part { nodes: vec![node], is_dynamic: true }));
        }
        let (mut last_reads, mut producers) =
            (vec![None; graph.values().len()], vec![None; graph.values().len()]);
        for (index, part) in parts.iter().enumerate() {
            for node in part.nodes.iter().map(|&node| &graph.nodes()[node]) {
                node.inputs.iter().flatten().for_each(|id| last_reads[id.index()] = Some(index));
                node.outputs.iter().flatten().for_each(|id| producers[id.index()] = Some(index));
            }
        }
        graph.outputs.iter().for_each(|id| last_reads[id.index()] = Some(usize::MAX));
        Cut { graph, parts, last_reads, producers, symbols }
    }

    fn stage(&self, part: &Part, around: &Surroundings) -> Result<Stage> {
        if part.is_dynamic {
            let node = &self.graph.nodes()[part.nodes[0]];
            let around = Surroundings { symbols: self.symbols.clone(), ..around.clone() };
            let operator = compile_node(self.graph, node, &around)
                .map_err(|error| error.context(plan::describe(node)))?;
            return Ok(Stage::Dynamic(Box::new(Dynamic { node: node.clone(), operator })));
        }
        Ok(Stage::Region(self.region(part, around)?))
    }

    fn region(&self, part: &Part, around: &Surroundings) -> Result<Region> {
        let mut copy =
            Extraction { from: self.graph, to: Graph::new(self.graph.name.clone()), ids: HashMap::new() };
        let nodes = || part.nodes.iter().map(|&index| &self.graph.nodes()[index]);
        let computed: HashSet<ValueId> =
            nodes().flat_map(|node| node.outputs.iter().flatten().copied()).collect();
        let (mut inputs, mut seen) = (Vec::new(), HashSet::new());
        for &id in nodes().flat_map(|node| node.inputs.iter().flatten()) {
            if !computed.contains(&id) && self.graph.constant(id).is_none() && seen.insert(id) {
                inputs.push(id);
            }
        }
        let mut outputs: Vec<ValueId> = computed.into_iter().filter(|&id| self.is_read_behind(id)).collect();
        outputs.sort_unstable_by_key(|id| id.index());
        copy.to.inputs = inputs.iter().map(|&id| copy.value(id)).collect();
        nodes().for_each(|node| copy.node(node));
        copy.to.outputs = outputs.iter().map(|&id| copy.value(id)).collect();
        let scope = self.scope_of(nodes(), &inputs);
        let plan = Plan::compile_within(&copy.to, &around.options, around.team.clone(), scope)?;
        Ok(Region { plan: Arc::new(plan), inputs, outputs })
    }

    /// Whether another part, or the caller, reads what a part computes.
    fn is_read_behind(&self, id: ValueId) -> bool {
        self.last_reads[id.index()] > self.producers[id.index()]
    }

    /// The symbols that nodes need and that none of their inputs has as a size of its own.
    fn scope_of<'n>(&self, nodes: impl Iterator<Item = &'n Node>, inputs: &[ValueId]) -> Vec<Arc<str>> {
        let mut needed: HashSet<Arc<str>> =
            nodes.flat_map(|node| deciders::symbols_of(self.graph, node)).collect();
        inputs.iter().for_each(|&id| add_symbols(self.graph, id, &mut needed));
        for dim in inputs.iter().filter_map(|&id| self.graph.value(id).shape()).flat_map(TensorShape::dims) {
            if let Some(symbol) = dim.as_symbol() {
                needed.remove(symbol);
            }
        }
        let mut scope: Vec<Arc<str>> =
            needed.into_iter().filter(|symbol| self.symbols.contains(symbol)).collect();
        scope.sort_unstable();
        scope
    }

    /// The symbols that get their values around the program.
    fn scope(&self, around: &Surroundings) -> Vec<Arc<str>> {
        let mut scope = self.scope_of(self.graph.nodes().iter(), &self.graph.inputs);
        scope.retain(|symbol| around.symbols.contains(symbol));
        scope
    }

    /// For each part the values that nobody reads behind it.
    fn released(&self) -> Vec<Vec<ValueId>> {
        let mut released = vec![Vec::new(); self.parts.len()];
        for (index, (&last, &producer)) in self.last_reads.iter().zip(&self.producers).enumerate() {
            // What a dynamic operator gives and nobody reads goes at once.
            if let Some(part) = last.or(producer).filter(|&part| part < released.len()) {
                released[part].push(ValueId::from_index(index));
            }
        }
        released
    }
}

/// For each node how many dynamic operators stand before it, one behind the other: those that it reads from, or that give values to
/// symbols which it needs. `given` are symbols that have values from the beginning.
fn levels(graph: &Graph, is_dynamic: &[bool], given: &HashSet<Arc<str>>) -> Vec<usize> {
    let mut of_values = vec![0; graph.values().len()];
    let mut of_symbols: HashMap<Arc<str>, usize> = HashMap::new();
    let mut levels = Vec::with_capacity(graph.nodes().len());
    for (node, &is_dynamic) in graph.nodes().iter().zip(is_dynamic) {
        let by_values = node.inputs.iter().flatten().map(|id| of_values[id.index()]);
        let symbols = deciders::symbols_of(graph, node);
        let by_symbols = symbols.iter().filter_map(|symbol| of_symbols.get(symbol).copied());
        let level = by_values.chain(by_symbols).max().unwrap_or(0);
        levels.push(level);
        let behind = level + usize::from(is_dynamic);
        for &output in node.outputs.iter().flatten() {
            of_values[output.index()] = behind;
            if is_dynamic {
                let mut new = HashSet::new();
                add_symbols(graph, output, &mut new);
                for symbol in new.into_iter().filter(|symbol| !given.contains(symbol)) {
                    of_symbols.entry(symbol).or_insert(behind);
                }
            }
        }
    }
    levels
}

fn add_symbols(graph: &Graph, value: ValueId, symbols: &mut HashSet<Arc<str>>) {
    for dim in graph.value(value).shape().into_iter().flat_map(TensorShape::dims) {
        dim.visit_symbols(&mut |symbol| {
            symbols.insert(symbol.clone());
        });
    }
}

/// A graph that gets nodes of another one.
struct Extraction<'a> {
    from: &'a Graph,
    to: Graph,
    ids: HashMap<ValueId, ValueId>,
}

impl Extraction<'_> {
    fn value(&mut self, id: ValueId) -> ValueId {
        *self.ids.entry(id).or_insert_with(|| self.to.add_value(self.from.value(id).clone()))
    }

    fn node(&mut self, node: &Node) {
        let mut node = node.clone();
        for id in node.inputs.iter_mut().chain(&mut node.outputs).flatten() {
            *id = self.value(*id);
        }
        self.to.add_node(node);
    }
}

/// The graph of one node, with its inputs for the caller to say what they are.
pub(super) fn alone(graph: &Graph, node: &Node) -> Graph {
    let mut copy = Extraction { from: graph, to: Graph::new(graph.name.clone()), ids: HashMap::new() };
    copy.node(node);
    copy.to.outputs = copy.to.nodes()[0].outputs.iter().flatten().copied().collect();
    copy.to
}

/// Options for parts that are compiled while a model runs: nothing is stored of them.
pub(super) fn unstored(options: &CompileOptions) -> CompileOptions {
    CompileOptions { packed: None, choices: optimium_device::Choices::default(), ..options.clone() }
}
