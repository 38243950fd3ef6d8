//! One state that sees one length after the other, as a decoder's does.

use std::sync::Arc;

use optimium_device::{Backend, Cancellation, CompileOptions, Executable};
use optimium_graph::ops::{Binary, Concat, Fusion, MatMul, Slice, SliceRange, Transpose, Unary};
use optimium_graph::{Graph, Node, Operator, ValueId, shapes};
use optimium_native::Native;
use optimium_tensor::{ElementType, Expr, Tensor, TensorShape};
use optimium_testing::{Random, Tolerance, compare};

/// Sums of four products.
const ROUNDED: Tolerance = Tolerance::Relative(1e-5);
const WIDTH: usize = 4;

fn node(graph: &mut Graph, op: Operator, inputs: &[ValueId]) -> ValueId {
    let name = format!("node{}", graph.nodes().len());
    let output = graph.add_unknown(format!("{name}.0"));
    let inputs = inputs.iter().copied().map(Some).collect();
    graph.add_node(Node { name, op, inputs, outputs: vec![Some(output)] });
    output
}

/// From a cache of `p` rows and one more: the longer cache, the products of its last row with all, and what does not depend on
/// the length.
fn decoder() -> Arc<Graph> {
    let mut graph = Graph::new("decoder");
    let past = || Expr::symbol("p");
    let shape = |rows: Expr| Some(TensorShape::new(vec![1i64.into(), rows, WIDTH.into()]));
    let cache = graph.add_tensor("past", ElementType::F32, shape(past()));
    let new = graph.add_tensor("new", ElementType::F32, shape(1i64.into()));
    graph.inputs = vec![cache, new];
    let negative = node(&mut graph, Operator::Unary { function: Unary::Neg }, &[new]);
    let longer = node(&mut graph, Operator::Concat(Concat { axis: 1 }), &[cache, negative]);
    let range = SliceRange { axis: 1, start: past(), count: 1i64.into(), step: 1 };
    let last = node(&mut graph, Operator::Slice(Slice { ranges: Some(vec![range]) }), &[longer]);
    let doubled = node(&mut graph, Operator::Binary { function: Binary::Add }, &[longer, longer]);
    let keys = node(&mut graph, Operator::Transpose(Transpose { permutation: vec![0, 2, 1] }), &[doubled]);
    let product = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
    let scores = node(&mut graph, Operator::MatMul(product), &[last, keys]);
    let still = node(&mut graph, Operator::Unary { function: Unary::Abs }, &[negative]);
    graph.outputs = vec![longer, scores, still];
    graph.sort().unwrap();
    shapes::infer(&mut graph).unwrap();
    Arc::new(graph)
}

fn expected(cache: &[f32], new: &[f32]) -> [Vec<f32>; 3] {
    let negative: Vec<f32> = new.iter().map(|x| -x).collect();
    let longer = [cache, &negative].concat();
    let scores = longer.chunks(WIDTH).map(|row| row.iter().zip(&negative).map(|(a, b)| 2.0 * a * b).sum());
    let scores = scores.collect();
    (longer, scores, new.iter().map(|x| x.abs()).collect()).into()
}

#[test]
fn every_length_gives_what_it_gives_alone() {
    let graph = decoder();
    let lengths = (0..70).chain([400, 5, 6, 399, 400, 401, 0, 1]);
    for (threads, memory_optimization) in [(1, true), (1, false), (2, true), (2, false)] {
        let options = CompileOptions { threads, memory_optimization, ..CompileOptions::default() };
        let plan: Arc<dyn Executable> = Native::new().compile(&graph, &options).unwrap();
        let mut state = plan.create_state().unwrap();
        let mut random = Random::new(1);
        for length in lengths.clone() {
            let (cache, new) = (random.floats(length * WIDTH), random.floats(WIDTH));
            let tensor = |rows: usize, values: &[f32]| Tensor::from_slice(&[1, rows, WIDTH], values).unwrap();
            let zeros = |dims: &[usize]| Tensor::zeros(ElementType::F32, dims).unwrap();
            let outputs = [zeros(&[1, length + 1, WIDTH]), zeros(&[1, 1, length + 1]), zeros(&[1, 1, WIDTH])];
            let inputs = [tensor(length, &cache), tensor(1, &new)];
            state.run(&inputs, &outputs, &Cancellation::new()).unwrap();
            for (output, expected) in outputs.iter().zip(expected(&cache, &new)) {
                compare(&output.to_f32s().unwrap(), &expected, ROUNDED)
                    .unwrap_or_else(|error| panic!("length {length}, {threads} threads: {error}"));
            }
        }
    }
}
