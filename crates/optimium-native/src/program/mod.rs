//! Graphs whose data decide sizes, axes, or which nodes run.
//!
//! A [`Program`] is a list of *stages*. A region is a run of nodes whose sizes follow from those of the tensors that it reads and from
//! symbols that earlier stages gave values: it is a [`Plan`] of its own, bound when its inputs are there. Between regions stand
//! *dynamic operators*, which are called with tensors and give tensors of sizes that they find:
//!
//! | operator | what it does | module |
//! |---|---|---|
//! | NonZero, Unique, NonMaxSuppression | searches | `selection` |
//! | Slice, TopK, Pad, Reshape, … with computed amounts or axes | is compiled for these, as a plan of one node | `specialized` |
//! | If | runs a branch, a program | `branch` |
//! | Deferred | is compiled for the sizes of its inputs, as a program | `deferred` |
//! | Loop, Scan | runs its body, a program, again and again | `repetition`, `scan` |
//!
//! `cut` makes the stages, `run` walks them. Nodes that do not depend on each other by way of a dynamic operator are in one region,
//! wherever they stand in the graph. A graph without dynamic operators is a plain [`Plan`].

mod branch;
mod cut;
mod deferred;
mod details;
mod kept;
mod repetition;
mod run;
mod scan;
mod selection;
mod specialized;
mod stack;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use optimium_device::{
    Cancellation, CompileOptions, Executable, ExecutionState, KernelChoice, Observer, OperationInfo,
    PackedBlock,
};
use optimium_graph::{Graph, Node, Operator, ValueId, deciders};
use optimium_tensor::{Error, Result, SymbolValues, Tensor};

use crate::plan::Plan;
use crate::team::Team;

pub(crate) use cut::unsupported;
use run::ProgramState;

/// What a compiled part of a model is compiled with.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) options: CompileOptions,
    pub(crate) team: Arc<Team>,
    /// The symbols that have values where the part runs.
    pub(crate) symbols: HashSet<Arc<str>>,
}

/// A graph in stages.
pub(crate) struct Program {
    pub(crate) graph: Graph,
    pub(crate) stages: Vec<Stage>,
    /// For each stage the values that nobody reads behind it.
    released: Vec<Vec<ValueId>>,
    /// Symbols that get values outside of the program.
    scope: Vec<Arc<str>>,
    memory_optimization: bool,
}

/// One stage.
pub(crate) enum Stage {
    Region(Region),
    Dynamic(Box<Dynamic>),
}

/// Nodes that are bound together.
pub(crate) struct Region {
    pub(crate) plan: Arc<Plan>,
    /// The values of the program that are the plan's inputs and outputs.
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
}

/// A node whose operator gives what it finds.
pub(crate) struct Dynamic {
    pub(crate) node: Node,
    pub(crate) operator: Box<dyn DynamicOperator>,
}

/// What a dynamic operator is compiled to.
pub(crate) trait DynamicOperator: Send + Sync {
    /// How it is computed, for people.
    fn kernel(&self) -> String;

    /// The graphs inside of it.
    fn bodies(&self) -> Vec<&Arc<Program>> {
        Vec::new()
    }

    /// What one request needs to run it.
    fn start(&self) -> Box<dyn Running>;
}

/// A dynamic operator of one request.
pub(crate) trait Running: Send {
    /// Its outputs, in order; none for those that nobody wants.
    fn run(&mut self, call: &Call) -> Result<Vec<Option<Tensor>>>;
}

/// What a dynamic operator is called with.
pub(crate) struct Call<'a> {
    pub(crate) inputs: &'a [Option<Tensor>],
    /// The symbols that have values around it.
    pub(crate) symbols: &'a SymbolValues,
    pub(crate) cancellation: &'a Cancellation,
    /// Who watches, and the number of the first operation of its bodies.
    pub(crate) observer: Option<(&'a dyn Observer, usize)>,
}

impl Call<'_> {
    /// Input `index`.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where it is left out.
    pub(crate) fn input(&self, index: usize) -> Result<&Tensor> {
        self.optional(index).ok_or_else(|| Error::model(format!("input {index} is missing")))
    }

    /// Input `index`, where it is there.
    pub(crate) fn optional(&self, index: usize) -> Option<&Tensor> {
        self.inputs.get(index)?.as_ref()
    }
}

/// The executable of a graph whose shapes are inferred and whose nodes are sorted.
///
/// # Errors
/// As [`Backend::compile`](optimium_device::Backend::compile).
pub(crate) fn compile(graph: &Graph, options: &CompileOptions) -> Result<Arc<dyn Executable>> {
    if !graph.nodes().iter().any(|node| deciders::is_decided_by_data(graph, node)) {
        return Ok(Arc::new(Plan::compile(graph, options)?));
    }
    let team = Arc::new(Team::new(options.threads, options.cores.as_deref())?);
    let around = Surroundings { options: options.clone(), team, symbols: HashSet::new() };
    Ok(Arc::new(Program::compile(graph, &around, cut::Outputs::Given)?))
}

impl Program {
    /// A body, whose outputs may be what it was given.
    ///
    /// # Errors
    /// As [`Program::compile`].
    pub(crate) fn body(graph: &Graph, around: &Surroundings) -> Result<Arc<Program>> {
        // Bodies have names of their own: what is stored by name could be another body's.
        let around = Surroundings { options: cut::unstored(&around.options), ..around.clone() };
        let program = Program::compile(graph, &around, cut::Outputs::Kept);
        Ok(Arc::new(program.map_err(|error| error.context(format!("in the body {:?}", graph.name)))?))
    }

    /// Everything that it does: for each stage its own operations, then those of its bodies.
    fn listed(&self) -> Vec<OperationInfo> {
        let mut all = Vec::new();
        for stage in &self.stages {
            match stage {
                Stage::Region(region) => all.extend(region.plan.operations()),
                Stage::Dynamic(dynamic) => {
                    all.push(self.operation(dynamic));
                    dynamic.operator.bodies().iter().for_each(|body| all.extend(body.listed()));
                }
            }
        }
        all
    }

    fn operation(&self, dynamic: &Dynamic) -> OperationInfo {
        let name = |id: &Option<ValueId>| id.map(|id| self.graph.value(id).name.clone());
        let node = &dynamic.node;
        OperationInfo {
            name: node.name.clone(),
            operator: node.op.name().to_owned(),
            kernel: dynamic.operator.kernel(),
            inputs: node.inputs.iter().filter_map(name).collect(),
            outputs: node.outputs.iter().filter_map(name).collect(),
        }
    }

    /// The number of entries that [`listed`](Program::listed) has.
    fn operation_count(&self) -> usize {
        self.stages.iter().map(Stage::operation_count).sum()
    }
}

impl Stage {
    fn operation_count(&self) -> usize {
        match self {
            Stage::Region(region) => region.plan.layers.len(),
            Stage::Dynamic(dynamic) => {
                1 + dynamic.operator.bodies().iter().map(|body| body.operation_count()).sum::<usize>()
            }
        }
    }
}

impl Executable for Program {
    fn operations(&self) -> Vec<OperationInfo> {
        self.listed()
    }

    fn choices(&self) -> Vec<Option<KernelChoice>> {
        // Bodies are left to the estimate.
        let choices = |stage: &Stage| match stage {
            Stage::Region(region) => region.plan.choices(),
            Stage::Dynamic(_) => (0..stage.operation_count()).map(|_| None).collect(),
        };
        self.stages.iter().flat_map(choices).collect()
    }

    fn packed(&self) -> Vec<PackedBlock<'_>> {
        let regions = self.stages.iter().filter_map(|stage| match stage {
            Stage::Region(region) => Some(region.plan.packed()),
            Stage::Dynamic(_) => None,
        });
        // Regions may do the same with the same constants.
        let mut seen = HashSet::new();
        regions.flatten().filter(|block| seen.insert(block.key.clone())).collect()
    }

    fn create_state(self: Arc<Self>) -> Result<Box<dyn ExecutionState>> {
        Ok(Box::new(ProgramState::new(self)?))
    }
}

/// The dynamic operator of a node.
///
/// # Errors
/// As its bodies', and [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) for element types that it does not know.
fn compile_node(graph: &Graph, node: &Node, around: &Surroundings) -> Result<Box<dyn DynamicOperator>> {
    // Bodies name their constants as they like: what is packed of them has no name to be found under.
    let options = CompileOptions { packed: None, ..around.options.clone() };
    let inside = &Surroundings { options, team: around.team.clone(), symbols: around.symbols.clone() };
    Ok(match &node.op {
        Operator::NonZero | Operator::Unique(_) | Operator::NonMaxSuppression(_) => {
            Box::new(selection::Selection::compile(graph, node, around)?)
        }
        Operator::If(op) => Box::new(branch::Branch::compile(graph, node, op, inside)?),
        Operator::Loop(op) => Box::new(repetition::Repetition::compile(node, op, inside)?),
        Operator::Scan(op) => Box::new(scan::Scanning::compile(node, op, inside)?),
        Operator::Deferred(op) => Box::new(deferred::Postponed::new(op, inside)),
        _ => Box::new(specialized::Specialized::new(graph, node, around)),
    })
}
