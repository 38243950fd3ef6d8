//! A loaded model: immutable, shared by its requests.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use optimium_device::{Append, Backend, Choices, CompileOptions, DeviceId, PackedWeights};
use optimium_graph::{Graph, shapes};
use optimium_tensor::{Error, Expr, Result, SymbolValues, Tensor, TensorShape};

use crate::info::{self, OpInfo, TensorInfo};
use crate::lifecycle::{self, Runtime};
use crate::names;
use crate::options::{LoadOptions, SchedulerType};
use crate::request::InferRequest;
use crate::scheduler::{Scheduler, Simple, Staged};
use crate::staging;

/// A loaded model. Cloning shares it.
#[derive(Clone)]
pub struct Model(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) graph: Arc<Graph>,
    pub(crate) scheduler: Scheduler,
    pub(crate) inputs: Vec<TensorInfo>,
    pub(crate) outputs: Vec<TensorInfo>,
    pub(crate) save_path: Option<PathBuf>,
    /// Whether intermediate tensors can be read after an inference.
    pub(crate) keeps_intermediates: bool,
    /// Whether its threads are bound to cores.
    pub(crate) is_pinned: bool,
    /// For each output whether its size depends on more than the sizes of the inputs; none where no output's does.
    pub(crate) open_outputs: Option<Vec<bool>>,
    /// The inputs and outputs that can share memory.
    pub(crate) appends: Vec<Append>,
    tensors: Vec<TensorInfo>,
    by_name: HashMap<String, usize>,
    /// Tensors of the model that are not in the list, because another one holds the same.
    aliases: HashMap<String, TensorInfo>,
    operations: Vec<OpInfo>,
}

/// The shapes that go with the names or the order of a model's inputs.
#[derive(Clone, Debug)]
pub enum InputShapes<'a> {
    /// By name.
    Named(Vec<(&'a str, TensorShape)>),
    /// In the order of the model's inputs.
    Ordered(Vec<TensorShape>),
}

impl Model {
    /// Compiles `graph`, whose shapes are inferred, for a `device` that `backend` serves.
    ///
    /// # Errors
    /// [`InvalidState`](optimium_tensor::ErrorKind::InvalidState) outside the life of the runtime; what
    /// [`LoadOptions::compile_options`] and [`Backend::compile`] report.
    pub fn compile(
        graph: Graph,
        device: DeviceId,
        backend: &dyn Backend,
        options: &LoadOptions,
    ) -> Result<Model> {
        Model::compile_stored(graph, device, backend, options, None, Choices::default())
    }

    /// As [`compile`](Model::compile), with weights of this very graph that were packed before, and kernels that were chosen before.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn compile_stored(
        graph: Graph,
        device: DeviceId,
        backend: &dyn Backend,
        options: &LoadOptions,
        packed: Option<PackedWeights>,
        choices: Choices,
    ) -> Result<Model> {
        let runtime = lifecycle::current()?;
        let mut compile_options = options.compile_options(runtime.environment.instruction_set.clone())?;
        compile_options.packed = packed;
        compile_options.choices = choices;
        let graph = Arc::new(graph);
        let scheduler = scheduler(&runtime, &graph, device, backend, options, &compile_options)?;
        let operations = scheduler.executables().into_iter().flat_map(|executable| executable.operations());
        let operations: Vec<OpInfo> = operations.map(|operation| OpInfo::on(device, operation)).collect();
        let tensors = info::tensors(&graph, &operations);
        let by_name: HashMap<String, usize> =
            tensors.iter().enumerate().map(|(index, info)| (info.name.clone(), index)).collect();
        let of = |ids: &[optimium_graph::ValueId]| -> Result<Vec<TensorInfo>> {
            ids.iter()
                .map(|&id| {
                    let name = &graph.value(id).name;
                    by_name.get(name).map(|&index| tensors[index].clone()).ok_or_else(|| {
                        Error::model(format!(
                            "{name:?} of the model {:?} is not a tensor of known rank: where sizes of inputs decide \
                             that, the model must declare its shape, or have inputs of fixed sizes",
                            graph.name
                        ))
                    })
                })
                .collect()
        };
        let (inputs, outputs) = (of(&graph.inputs)?, of(&graph.outputs)?);
        tracing::info!("loaded {:?}: {} operations on {device}", graph.name, operations.len());
        Ok(Model(Arc::new(Inner {
            inputs,
            outputs,
            save_path: options.intermediate_save_path.clone(),
            keeps_intermediates: options.keeps_intermediates(),
            is_pinned: options.cores.is_some(),
            open_outputs: open_outputs(&graph),
            appends: scheduler.appends().to_vec(),
            tensors,
            by_name,
            aliases: info::aliases(&graph),
            operations,
            graph,
            scheduler,
        })))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.graph.name
    }

    /// What the caller gives, in order.
    pub fn inputs(&self) -> &[TensorInfo] {
        &self.0.inputs
    }

    /// What the caller gets, in order.
    pub fn outputs(&self) -> &[TensorInfo] {
        &self.0.outputs
    }

    /// Every tensor, constants included.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.0.tensors
    }

    /// The tensor of that name.
    ///
    /// # Errors
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) where there is none;
    /// [`InvalidOperation`](optimium_tensor::ErrorKind::InvalidOperation) where it was fused away.
    pub fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        self.0.tensor(name)
    }

    /// The steps that an inference takes.
    pub fn operations(&self) -> &[OpInfo] {
        &self.0.operations
    }

    /// Whether an input or output has a symbolic shape.
    pub fn is_dynamic(&self) -> bool {
        self.0.inputs.iter().chain(&self.0.outputs).any(|info| info.shape.is_dynamic())
    }

    /// The shape that the tensor `name` gets from inputs of those shapes. Dimensions that only the values of
    /// tensors show stay symbolic.
    ///
    /// # Errors
    /// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) for names and numbers of inputs that
    /// the model does not have; [`Shape`](optimium_tensor::ErrorKind::Shape) for shapes that do not fit.
    pub fn infer_shape(&self, name: &str, inputs: &InputShapes<'_>) -> Result<TensorShape> {
        let shapes = self.0.in_order(inputs)?;
        let mut dims = Vec::with_capacity(shapes.len());
        for (info, shape) in self.0.inputs.iter().zip(shapes) {
            let fixed = shape.as_fixed().ok_or_else(|| {
                Error::shape(format!("the input {:?} needs a shape of numbers, not {shape}", info.name))
            })?;
            check_dims(info, &fixed)?;
            dims.push(fixed);
        }
        let values = self.0.bind(&dims)?;
        let evaluated = |dim: &Expr| dim.evaluate(&values).map_or_else(|_| dim.clone(), Expr::from);
        Ok(self.0.tensor(name)?.shape.dims().iter().map(evaluated).collect())
    }

    /// Room for one inference at a time. Requests of one model run independently of each other.
    ///
    /// # Errors
    /// [`InvalidState`](optimium_tensor::ErrorKind::InvalidState) where the runtime that the model was loaded in was finalized, or
    /// lived before a fork.
    pub fn create_request(&self) -> Result<InferRequest> {
        let workers = lifecycle::current().map(|runtime| runtime.workers.clone()).ok();
        self.0.scheduler.check_runs_on(workers.as_ref())?;
        Ok(InferRequest::new(self.clone()))
    }
}

impl Inner {
    pub(crate) fn tensor(&self, name: &str) -> Result<&TensorInfo> {
        let listed = self.by_name.get(name).map(|&index| &self.tensors[index]);
        listed.or_else(|| self.aliases.get(name)).ok_or_else(|| match names::find(&self.graph, name) {
            Err(error) => error,
            Ok(_) => Error::invalid_argument(format!("{name:?} is not a tensor of known rank")),
        })
    }

    /// The content of the constant `name`.
    pub(crate) fn constant(&self, name: &str) -> Option<&Tensor> {
        self.graph.find_value(name).and_then(|id| self.graph.constant(id))
    }

    /// The values of the symbols for inputs of those dimensions.
    pub(crate) fn bind(&self, dims: &[Vec<usize>]) -> Result<SymbolValues> {
        let dims: Vec<&[usize]> = dims.iter().map(Vec::as_slice).collect();
        shapes::bind(&self.graph, &dims)
    }

    fn in_order<'a>(&self, shapes: &'a InputShapes<'_>) -> Result<Vec<&'a TensorShape>> {
        match shapes {
            InputShapes::Ordered(shapes) => {
                check_count("input", self.inputs.len(), shapes.len())?;
                Ok(shapes.iter().collect())
            }
            InputShapes::Named(shapes) => {
                let named: Vec<(&str, &TensorShape)> =
                    shapes.iter().map(|(name, shape)| (*name, shape)).collect();
                sort_by_name("input", &self.inputs, named)
            }
        }
    }
}

/// Which outputs have sizes that only data show.
fn open_outputs(graph: &Graph) -> Option<Vec<bool>> {
    let mut given = HashSet::new();
    let dims = |id: &optimium_graph::ValueId| graph.value(*id).shape().map_or(&[][..], TensorShape::dims);
    graph
        .inputs
        .iter()
        .flat_map(dims)
        .for_each(|dim| dim.visit_symbols(&mut |symbol| _ = given.insert(symbol.clone())));
    let is_open = |id: &optimium_graph::ValueId| {
        let mut open = false;
        dims(id).iter().for_each(|dim| dim.visit_symbols(&mut |symbol| open |= !given.contains(symbol)));
        open
    };
    let open: Vec<bool> = graph.outputs.iter().map(is_open).collect();
    open.contains(&true).then_some(open)
}

/// Compiles `graph`, and makes what runs it.
fn scheduler(
    runtime: &Runtime,
    graph: &Arc<Graph>,
    device: DeviceId,
    backend: &dyn Backend,
    options: &LoadOptions,
    compile_options: &CompileOptions,
) -> Result<Scheduler> {
    let workers = runtime.workers.clone();
    if options.scheduler_type == SchedulerType::Simple {
        let executable = backend.compile(graph, compile_options)?;
        return Ok(Scheduler::Simple(Simple::new(workers, executable)));
    }
    let model = staging::compile(graph, device, backend, options, compile_options)?;
    let staged = Staged::new(model, options.queue_capacity(), workers);
    runtime.adopt(&staged)?;
    Ok(Scheduler::Staged(staged))
}

/// Checks the number of tensors.
pub(crate) fn check_count(what: &str, expected: usize, given: usize) -> Result<()> {
    if expected == given {
        return Ok(());
    }
    Err(Error::invalid_argument(format!("the model has {expected} {what}s, but {given} were given")))
}

/// The things that are given by name, in the order of `infos`.
///
/// # Errors
/// [`InvalidArgument`](optimium_tensor::ErrorKind::InvalidArgument) naming all that is missing and all that
/// is too much.
pub(crate) fn sort_by_name<T>(what: &str, infos: &[TensorInfo], given: Vec<(&str, T)>) -> Result<Vec<T>> {
    if given.len() == infos.len() && given.iter().zip(infos).all(|((name, _), info)| *name == info.name) {
        return Ok(given.into_iter().map(|(_, item)| item).collect());
    }
    let mut given: HashMap<&str, T> = given.into_iter().collect();
    let mut missing = Vec::new();
    let mut sorted = Vec::with_capacity(infos.len());
    for info in infos {
        match given.remove(info.name.as_str()) {
            Some(item) => sorted.push(item),
            None => missing.push(info.name.as_str()),
        }
    }
    let mut unknown: Vec<&str> = given.into_keys().collect();
    unknown.sort_unstable();
    match (missing.is_empty(), unknown.is_empty()) {
        (true, true) => Ok(sorted),
        (false, true) => Err(Error::invalid_argument(format!("the {what}s {missing:?} are missing"))),
        (true, false) => Err(Error::invalid_argument(format!("the model has no {what}s {unknown:?}"))),
        (false, false) => Err(Error::invalid_argument(format!(
            "the {what}s {missing:?} are missing, and the model has no {what}s {unknown:?}"
        ))),
    }
}

/// Checks concrete dimensions against the rank and the fixed dimensions of a tensor's shape.
pub(crate) fn check_dims(info: &TensorInfo, dims: &[usize]) -> Result<()> {
    if info.shape.is_compatible(&TensorShape::fixed(dims)) {
        return Ok(());
    }
    Err(Error::shape(format!(
        "the tensor {:?} has the shape {}, but {dims:?} was given",
        info.name, info.shape
    )))
}
