//! Builds a graph, runs it in every way, and compares.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use optimium_device::{
    Backend, Cancellation, Choices, CompileOptions, Executable, ExecutionState, KernelChoice, Observer,
    PackedWeights, Precision,
};
use optimium_graph::ops::{Binary, Unary};
use optimium_graph::{Graph, Node, Operator, ValueId, shapes};
use optimium_native::Native;
use optimium_simd::Level;
use optimium_tensor::{Buffer, Element, ElementType, Error, Tensor, TensorShape};
use optimium_testing::{Random, Tolerance, compare, each_case};

/// Sums and products of a few numbers.
pub(crate) const ROUNDED: Tolerance = Tolerance::Relative(1e-5);
/// Functions by approximation.
pub(crate) const APPROXIMATE: Tolerance = Tolerance::Relative(2e-5);
/// What is rounded to half precision on the way.
pub(crate) const HALF: Tolerance = Tolerance::Relative(2e-3);

/// An output, and what it must be.
pub(crate) type Expected = (ValueId, Vec<f32>);

/// What makes a graph and says what it gives.
pub(crate) type Build = fn(&mut Builder) -> Vec<Expected>;

/// A graph in the making, with the tensors that it is run on.
pub(crate) struct Builder {
    pub(crate) graph: Graph,
    inputs: Vec<Tensor>,
    random: Random,
}

impl Builder {
    pub(crate) fn new() -> Builder {
        Builder { graph: Graph::new("test"), inputs: Vec::new(), random: Random::new(3) }
    }

    /// An input that is run on `tensor`.
    pub(crate) fn given(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("x{}", self.inputs.len());
        let shape = TensorShape::fixed(tensor.dims());
        let id = self.graph.add_tensor(name, tensor.element_type(), Some(shape));
        self.graph.value_mut(id).scheme = tensor.scheme().cloned();
        self.graph.inputs.push(id);
        self.inputs.push(tensor);
        id
    }

    /// An input with these elements.
    pub(crate) fn input<T: Element>(&mut self, dims: &[usize], values: &[T]) -> ValueId {
        self.given(Tensor::from_slice(dims, values).expect("values fit"))
    }

    /// What the inputs are run on.
    pub(crate) fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// Random elements.
    pub(crate) fn floats(&mut self, dims: &[usize]) -> Vec<f32> {
        self.random.floats(dims.iter().product())
    }

    /// An input with random elements.
    pub(crate) fn random(&mut self, dims: &[usize]) -> (ValueId, Vec<f32>) {
        let values = self.floats(dims);
        (self.input(dims, &values), values)
    }

    /// A constant with these elements.
    pub(crate) fn constant<T: Element>(&mut self, dims: &[usize], values: &[T]) -> ValueId {
        self.known(Tensor::from_slice(dims, values).expect("values fit"))
    }

    /// A constant.
    pub(crate) fn known(&mut self, tensor: Tensor) -> ValueId {
        let name = format!("c{}", self.graph.values().len());
        self.graph.add_constant(name, tensor)
    }

    /// A constant with random elements.
    pub(crate) fn weights(&mut self, dims: &[usize]) -> (ValueId, Vec<f32>) {
        let values = self.floats(dims);
        (self.constant(dims, &values), values)
    }

    /// A node with one output.
    pub(crate) fn node(&mut self, op: Operator, inputs: &[ValueId]) -> ValueId {
        self.nodes(op, inputs.iter().copied().map(Some).collect(), 1)[0]
    }

    /// A node with any number of outputs, some inputs left out.
    pub(crate) fn nodes(
        &mut self,
        op: Operator,
        inputs: Vec<Option<ValueId>>,
        outputs: usize,
    ) -> Vec<ValueId> {
        let name = format!("node{}", self.graph.nodes().len());
        let outputs: Vec<ValueId> =
            (0..outputs).map(|i| self.graph.add_unknown(format!("{name}.{i}"))).collect();
        let results = outputs.iter().copied().map(Some).collect();
        self.graph.add_node(Node { name, op, inputs, outputs: results });
        outputs
    }

    pub(crate) fn unary(&mut self, function: Unary, x: ValueId) -> ValueId {
        self.node(Operator::Unary { function }, &[x])
    }

    pub(crate) fn binary(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.node(Operator::Binary { function }, &[a, b])
    }

    /// The outputs, the same ones with the packed weights of another compilation.
    fn run(&self, graph: &Arc<Graph>, options: &CompileOptions) -> Result<Vec<Tensor>, Error> {
        let plan = Native::new().compile(graph, options)?;
        let outputs = self.run_plan(graph, plan.clone())?;
        let kept = CompileOptions { packed: Some(kept(&*plan)?), ..options.clone() };
        let again = Native::new().compile(graph, &kept)?;
        if let Some(block) = again.packed().iter().find(|block| !block.kept) {
            return Err(Error::model(format!("{} was packed anew", block.key)));
        }
        for (first, second) in outputs.iter().zip(self.run_plan(graph, again)?) {
            if first.read_bytes()?[..] != second.read_bytes()?[..] {
                return Err(Error::model("kept weights give another result"));
            }
        }
        Ok(outputs)
    }

    /// The outputs, after two runs of one state: the second must not see what the first left.
    fn run_plan(&self, graph: &Arc<Graph>, plan: Arc<dyn Executable>) -> Result<Vec<Tensor>, Error> {
        let mut state: Box<dyn ExecutionState> = plan.create_state()?;
        let dims: Vec<&[usize]> = self.inputs.iter().map(Tensor::dims).collect();
        let symbols = shapes::bind(graph, &dims)?;
        let mut outputs = Vec::new();
        for &id in &graph.outputs {
            let value = graph.value(id);
            let (Some(element_type), Some(shape)) = (value.element_type(), value.shape()) else {
                return Err(Error::model(format!("{:?} has no shape", value.name)));
            };
            outputs.push(Tensor::zeros(element_type, &shape.evaluate(&symbols)?)?);
        }
        for _ in 0..2 {
            state.run(&self.inputs, &outputs, &Cancellation::new())?;
        }
        Ok(outputs)
    }

    /// The graph with those outputs, its shapes inferred.
    pub(crate) fn finished(&mut self, outputs: &[ValueId]) -> Result<Arc<Graph>, Error> {
        let mut graph = self.graph.clone();
        graph.outputs = outputs.to_vec();
        graph.sort()?;
        shapes::infer(&mut graph)?;
        Ok(Arc::new(graph))
    }

    /// What the graph gives in every way of running it; all must succeed.
    pub(crate) fn check(&mut self, expected: &[Expected], tolerance: Tolerance) -> Result<(), String> {
        self.check_at(Precision::F32, expected, tolerance)
    }

    /// As [`check`](Builder::check), in that precision.
    pub(crate) fn check_at(
        &mut self,
        precision: Precision,
        expected: &[Expected],
        tolerance: Tolerance,
    ) -> Result<(), String> {
        let ids: Vec<ValueId> = expected.iter().map(|(id, _)| *id).collect();
        let graph = self.finished(&ids).map_err(|error| error.to_string())?;
        for options in ways() {
            let options = CompileOptions { precision, ..options };
            self.check_way(&graph, &options, expected, tolerance)?;
            if options.threads == 1 && options.memory_optimization {
                for choices in other_candidates(&graph, &options).map_err(|error| error.to_string())? {
                    let options = CompileOptions { choices, ..options.clone() };
                    self.check_way(&graph, &options, expected, tolerance)?;
                }
            }
        }
        Ok(())
    }

    fn check_way(
        &self,
        graph: &Arc<Graph>,
        options: &CompileOptions,
        expected: &[Expected],
        tolerance: Tolerance,
    ) -> Result<(), String> {
        let way = format!(
            "{:?}, {} workers, shared memory {}, {:?}",
            options.instruction_set, options.threads, options.memory_optimization, options.choices
        );
        let outputs = self.run(graph, options).map_err(|error| format!("{way}: {error}"))?;
        for (index, (output, (_, expected))) in outputs.iter().zip(expected).enumerate() {
            compare(&numbers(output), expected, tolerance)
                .map_err(|error| format!("{way}: output {index}: {error}"))?;
        }
        Ok(())
    }

    /// The operators whose steps are run, with one worker and memory shared; what needs no step is left out.
    pub(crate) fn operators_run(&mut self, outputs: &[ValueId]) -> Result<Vec<String>, Error> {
        let graph = self.finished(outputs)?;
        let plan: Arc<dyn Executable> = Native::new().compile(&graph, &CompileOptions::default())?;
        let dims: Vec<&[usize]> = self.inputs.iter().map(Tensor::dims).collect();
        let symbols = shapes::bind(&graph, &dims)?;
        let result = |id: &ValueId| {
            let value = graph.value(*id);
            let shape = value.shape().ok_or_else(|| Error::model("an output without a shape"))?;
            Tensor::zeros(value.element_type().unwrap_or(ElementType::F32), &shape.evaluate(&symbols)?)
        };
        let results = graph.outputs.iter().map(result).collect::<Result<Vec<_>, Error>>()?;
        let seen = Seen::default();
        plan.clone().create_state()?.run_observed(
            &self.inputs,
            &results,
            &Cancellation::new(),
            Some(&seen),
        )?;
        let seen = seen.0.into_inner().expect("no panic");
        Ok(seen.into_iter().map(|index| plan.operations()[index].operator.clone()).collect())
    }

    /// The error of running the graph.
    pub(crate) fn failure(&mut self, output: ValueId, options: &CompileOptions) -> Option<Error> {
        let graph = self.finished(&[output]).ok()?;
        self.run(&graph, options).err()
    }
}

/// Choices by which every candidate is taken once that the estimate does not take; none where there is one way for everything.
fn other_candidates(graph: &Arc<Graph>, options: &CompileOptions) -> Result<Vec<Choices>, Error> {
    let plan = Native::new().compile(graph, options)?;
    let problems: Vec<_> = plan.choices().into_iter().flatten().collect();
    let ranks = problems.iter().map(|problem| problem.candidates.len()).max().unwrap_or(1);
    let named = |rank: usize| {
        let candidates =
            problems.iter().filter_map(move |problem| Some((problem, problem.candidates.get(rank)?)));
        candidates.map(|(problem, candidate)| (problem.key.clone(), candidate.name.clone())).collect()
    };
    let all: Vec<Choices> = (1..ranks).map(named).collect();
    for (rank, choices) in all.iter().enumerate() {
        let options = CompileOptions { choices: choices.clone(), ..options.clone() };
        let taken = Native::new().compile(graph, &options)?.choices();
        // Nodes of a chain that are computed one by one have choices of their own.
        let wrong = |choice: &KernelChoice| {
            let is_named = choices.get(&choice.key).is_some();
            is_named && choice.candidates.len() > rank + 1 && choice.taken != rank + 1
        };
        if taken.iter().flatten().any(wrong) {
            return Err(Error::model(format!("{choices:?} were not taken: {taken:?}")));
        }
    }
    Ok(all)
}

/// The packed weights of a plan, as they would be found in a file.
fn kept(plan: &dyn Executable) -> Result<PackedWeights, Error> {
    let (mut bytes, mut places) = (Vec::new(), HashMap::new());
    for block in plan.packed() {
        let start = bytes.len();
        bytes.extend_from_slice(block.bytes);
        places.insert(block.key, start..bytes.len());
        bytes.resize(bytes.len().next_multiple_of(64), 0);
    }
    Ok(PackedWeights::new(Arc::new(Buffer::read_only(&bytes)?), places))
}

/// The operations of which steps were run.
#[derive(Default)]
struct Seen(Mutex<Vec<usize>>);

impl Observer for Seen {
    fn step(&self, _worker: usize, operation: usize, _start: Instant, _end: Instant) {
        self.0.lock().expect("no panic").push(operation);
    }
}

/// Every way to run a graph.
pub(crate) fn ways() -> Vec<CompileOptions> {
    let mut ways = Vec::new();
    for level in Level::available() {
        for threads in [1, 2] {
            for memory_optimization in [true, false] {
                let instruction_set = Some(level.name().to_owned());
                ways.push(CompileOptions {
                    threads,
                    memory_optimization,
                    instruction_set,
                    ..Default::default()
                });
            }
        }
    }
    ways
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    if tensor.element_type() == ElementType::Bool {
        return tensor.read_bytes().expect("bytes").iter().map(|&x| f32::from(x)).collect();
    }
    match tensor.to_f32s() {
        Ok(floats) => floats,
        Err(_) => tensor.to_i64s().expect("integers").into_iter().map(|x| x as f32).collect(),
    }
}

/// Runs a table of graphs.
pub(crate) fn check<const N: usize>(tolerance: Tolerance, cases: [(&'static str, Build); N]) {
    each_case(cases, |(_, build)| {
        let mut builder = Builder::new();
        let expected = build(&mut builder);
        builder.check(&expected, tolerance)
    });
}

/// `f` of every element.
pub(crate) fn map(x: &[f32], f: impl Fn(f32) -> f32) -> Vec<f32> {
    x.iter().map(|&x| f(x)).collect()
}

/// `f` of corresponding elements, broadcast.
pub(crate) fn zip(
    (a, a_dims): (&[f32], &[usize]),
    (b, b_dims): (&[f32], &[usize]),
    dims: &[usize],
    f: impl Fn(f32, f32) -> f32,
) -> Vec<f32> {
    let pick = |x: &[f32], x_dims: &[usize], index: &[usize]| {
        let skipped = index.len() - x_dims.len();
        let places = index[skipped..].iter().zip(x_dims);
        x[places.fold(0, |flat, (&i, &dim)| flat * dim + if dim == 1 { 0 } else { i })]
    };
    indices(dims).iter().map(|index| f(pick(a, a_dims, index), pick(b, b_dims, index))).collect()
}

/// All indices of a shape, row by row.
pub(crate) fn indices(dims: &[usize]) -> Vec<Vec<usize>> {
    dims.iter().fold(vec![Vec::new()], |all, &dim| {
        let longer = |index: &Vec<usize>, i| index.iter().copied().chain([i]).collect();
        all.iter().flat_map(|index| (0..dim).map(move |i| longer(index, i))).collect()
    })
}

/// The place of an index in a row-major tensor.
pub(crate) fn place(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |flat, (&i, &dim)| flat * dim + i)
}
