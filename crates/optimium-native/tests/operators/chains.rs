//! Chains of convolutions that one layer computes.

use std::sync::Arc;

use optimium_device::{
    Backend, Cancellation, Choices, CompileOptions, Executable, KernelChoice, OperationInfo, Precision,
    RunDetails,
};
use optimium_graph::ops::{Activation, Conv, Fusion, ImageLayout, Padding};
use optimium_graph::{Graph, Operator, ValueId};
use optimium_native::Native;
use optimium_tensor::{ElementType, Tensor};
use optimium_testing::{Tolerance, compare, each_case};

use super::harness::Builder;

const WIDE: usize = 96;
const SIZE: usize = 160;

/// A pointwise convolution, a depthwise one, and a pointwise one that may add the input.
struct Block {
    stride: usize,
    kernel: usize,
    channels: [usize; 2],
    adds_input: bool,
    /// The members that are there.
    expands: bool,
    projects: bool,
}

impl Block {
    fn new(expands: bool, projects: bool, stride: usize) -> Block {
        Block { stride, kernel: 3, channels: [16, 16], adds_input: false, expands, projects }
    }

    fn input(&self) -> [usize; 4] {
        [1, SIZE, SIZE, if self.expands { self.channels[0] } else { WIDE }]
    }

    /// The tensors of the chain, the input first.
    fn build(&self, b: &mut Builder) -> Vec<ValueId> {
        let (x, _) = b.random(&self.input());
        let (clip, none) = (Activation::Clip { low: Some(0.0), high: Some(6.0) }, Activation::None);
        let mut values = vec![x];
        let last = |values: &[ValueId]| values[values.len() - 1];
        if self.expands {
            values.push(pointwise(b, last(&values), [self.channels[0], WIDE], clip, None));
        }
        let (weights, _) = b.weights(&[WIDE, 1, self.kernel, self.kernel]);
        let (bias, _) = b.weights(&[WIDE]);
        let op = convolution(self.kernel, self.stride, WIDE, clip);
        values.push(b.node(op, &[last(&values), weights, bias]));
        if self.projects {
            let added = self.adds_input.then_some(x);
            values.push(pointwise(b, last(&values), [WIDE, self.channels[1]], none, added));
        }
        values
    }
}

fn convolution(kernel: usize, stride: usize, groups: usize, activation: Activation) -> Operator {
    let around = (kernel - 1) / 2;
    Operator::Conv(Conv {
        layout: ImageLayout::ChannelsLast,
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        groups,
        padding: Padding::Explicit { begin: vec![around; 2], end: vec![around; 2] },
        fusion: Fusion { activation, residual_after_activation: false },
    })
}

fn pointwise(
    b: &mut Builder,
    x: ValueId,
    [from, to]: [usize; 2],
    activation: Activation,
    added: Option<ValueId>,
) -> ValueId {
    let (weights, _) = b.weights(&[to, from, 1, 1]);
    let (bias, _) = b.weights(&[to]);
    let inputs = [Some(x), Some(weights), Some(bias)].into_iter().chain(added.map(Some)).collect();
    b.nodes(convolution(1, 1, 1, activation), inputs, 1)[0]
}

/// A graph that was compiled and run.
struct Outcome {
    operations: Vec<OperationInfo>,
    choices: Vec<KernelChoice>,
    details: RunDetails,
    outputs: Vec<Vec<f32>>,
}

impl Outcome {
    fn of(graph: &Arc<Graph>, x: &Tensor, options: &CompileOptions) -> Outcome {
        let plan: Arc<dyn Executable> = Native::new().compile(graph, options).expect("it compiles");
        let dims = |id: &ValueId| graph.value(*id).shape().and_then(|shape| shape.as_fixed()).expect("fixed");
        let blank = |id: &ValueId| Tensor::zeros(ElementType::F32, &dims(id)).expect("memory");
        let outputs: Vec<Tensor> = graph.outputs.iter().map(blank).collect();
        let mut state = plan.clone().create_state().expect("a state");
        state.run(std::slice::from_ref(x), &outputs, &Cancellation::new()).expect("it runs");
        Outcome {
            operations: plan.operations(),
            choices: plan.choices().into_iter().flatten().collect(),
            details: state.details().expect("it ran"),
            outputs: outputs.iter().map(|output| output.to_f32s().expect("floats")).collect(),
        }
    }

    /// Layers that compute several nodes.
    fn chains(&self) -> usize {
        self.operations.iter().filter(|operation| operation.name.contains(" + ")).count()
    }

    /// Choices of the nodes one by one.
    fn one_by_one(&self) -> Choices {
        let of_chains = self.choices.iter().filter(|choice| choice.key.starts_with("chain"));
        of_chains.map(|choice| (choice.key.clone(), "one by one".to_owned())).collect()
    }
}

fn options(threads: usize, precision: Precision) -> CompileOptions {
    CompileOptions { threads, precision, ..CompileOptions::default() }
}

/// The graph of a block with the last of its tensors, or all but the first, for its outputs.
fn graph(block: &Block, keeps_all: bool) -> (Arc<Graph>, Tensor) {
    let mut builder = Builder::new();
    let values = block.build(&mut builder);
    let outputs = if keeps_all { &values[1..] } else { &values[values.len() - 1..] };
    let x = builder.inputs()[0].clone();
    (builder.finished(outputs).expect("a graph"), x)
}

fn blocks() -> Vec<Block> {
    let mut blocks: Vec<Block> = [(true, true), (true, false), (false, true)]
        .into_iter()
        .map(|(expands, projects)| Block::new(expands, projects, 1))
        .collect();
    blocks.push(Block::new(true, true, 2));
    blocks.push(Block::new(true, false, 2));
    blocks.push(Block { adds_input: true, ..Block::new(true, true, 1) });
    blocks.push(Block { kernel: 5, channels: [24, 40], ..Block::new(true, true, 2) });
    blocks
}

#[test]
fn one_layer_gives_what_the_nodes_give() {
    each_case(0..blocks().len(), |&index| {
        let (graph, x) = graph(&blocks()[index], false);
        for threads in [1, 2] {
            let together = Outcome::of(&graph, &x, &options(threads, Precision::F32));
            let choices = together.one_by_one();
            let apart =
                Outcome::of(&graph, &x, &CompileOptions { choices, ..options(threads, Precision::F32) });
            let kept = CompileOptions { memory_optimization: false, ..options(threads, Precision::F32) };
            let kept = Outcome::of(&graph, &x, &kept);
            if [&together, &apart, &kept].map(Outcome::chains) != [1, 0, 0] {
                return Err(format!("{:?}", together.operations));
            }
            compare(&together.outputs[0], &apart.outputs[0], Tolerance::Exact)?;
            compare(&together.outputs[0], &kept.outputs[0], Tolerance::Exact)?;
        }
        Ok(())
    });
}

#[test]
fn layers_of_bfloat16_are_joined_as_well() {
    if !optimium_simd::Level::best().has_bf16() {
        return;
    }
    // Values between layers of bfloat16 lie in bfloat16: those before and behind the chain are results of products too.
    let mut builder = Builder::new();
    let (x, _) = builder.random(&[1, SIZE, SIZE, 64]);
    let before = pointwise(&mut builder, x, [64, 64], Activation::None, None);
    let expanded = pointwise(&mut builder, before, [64, WIDE], Activation::Relu, None);
    let (weights, _) = builder.weights(&[WIDE, 1, 3, 3]);
    let wide = builder.node(convolution(3, 1, WIDE, Activation::Relu), &[expanded, weights]);
    let narrow = pointwise(&mut builder, wide, [WIDE, 64], Activation::None, Some(before));
    let behind = pointwise(&mut builder, narrow, [64, 32], Activation::None, None);
    let x = builder.inputs()[0].clone();
    let graph = builder.finished(&[behind]).expect("a graph");
    let together = Outcome::of(&graph, &x, &options(1, Precision::Bf16));
    assert_eq!(together.chains(), 1, "{:?}", together.operations);
    let choices = together.one_by_one();
    let apart = Outcome::of(&graph, &x, &CompileOptions { choices, ..options(1, Precision::Bf16) });
    assert_eq!(apart.chains(), 0);
    compare(&together.outputs[0], &apart.outputs[0], Tolerance::Exact).expect("the same");
}

#[test]
fn tensors_that_are_wanted_are_computed() {
    let (graph, x) = graph(&Block::new(true, true, 1), true);
    let outcome = Outcome::of(&graph, &x, &options(1, Precision::F32));
    assert_eq!(outcome.chains(), 0, "{:?}", outcome.operations);
}

#[test]
fn the_layer_is_told_of_as_all_its_nodes() {
    let block = Block { adds_input: true, ..Block::new(true, true, 1) };
    let (graph, x) = graph(&block, false);
    let names: Vec<&str> = graph.nodes().iter().map(|node| node.name.as_str()).collect();
    let together = Outcome::of(&graph, &x, &options(1, Precision::F32));
    let choices = together.one_by_one();
    let apart = Outcome::of(&graph, &x, &CompileOptions { choices, ..options(1, Precision::F32) });
    let [first, middle, last] = &together.operations[..] else { panic!("{:?}", together.operations) };
    assert_eq!(last.name, names.join(" + "));
    assert_eq!((first.name.as_str(), middle.name.as_str()), (names[0], names[1]));
    assert!(first.inputs.is_empty() && middle.outputs.is_empty());
    let work =
        |outcome: &Outcome| -> u64 { outcome.details.operations.iter().map(|one| one.multiply_adds).sum() };
    assert_eq!(work(&together), work(&apart));
    assert_eq!(together.details.operations[2].multiply_adds, work(&apart));
    let is_run: Vec<bool> = together.details.operations.iter().map(|one| one.is_run).collect();
    assert_eq!(is_run, [false, false, true]);
    // The tensors between have no memory.
    assert!(together.details.memory.arena < apart.details.memory.arena / 4);
}

#[test]
fn every_way_of_running_chains() {
    each_case(blocks().into_iter().enumerate().skip(6).map(|(index, _)| index), |&index| {
        let mut builder = Builder::new();
        let values = blocks()[index].build(&mut builder);
        let result = values[values.len() - 1];
        let graph = builder.finished(&[result]).map_err(|error| error.to_string())?;
        let reference = CompileOptions { memory_optimization: false, ..options(1, Precision::F32) };
        let expected = Outcome::of(&graph, &builder.inputs()[0].clone(), &reference).outputs;
        builder.check(&[(result, expected[0].clone())], Tolerance::dot(9 * WIDE))
    });
}
