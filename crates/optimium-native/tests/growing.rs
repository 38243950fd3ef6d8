//! One state that sees one length after the other, as a decoder's does.

use std::sync::Arc;

use optimium_device::{Append, Backend, Cancellation, CompileOptions, Executable};
use optimium_graph::ops::{
    Attention, AttentionScores, Binary, Concat, Fusion, MatMul, Slice, SliceRange, Transpose, Unary,
};
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

/// One head of attention to a cache: q, k, v, past k, past v to y, present k, present v. `also` may read one of the seven.
fn attention(also: Option<usize>) -> Arc<Graph> {
    let mut graph = Graph::new("attention");
    let rows = |rows: Expr| Some(TensorShape::new(vec![1i64.into(), 1i64.into(), rows, WIDTH.into()]));
    let lengths = [1i64.into(), 1i64.into(), 1i64.into(), Expr::symbol("p"), Expr::symbol("p")];
    let inputs = lengths.map(|length| graph.add_tensor("", ElementType::F32, rows(length)));
    let outputs = ["y", "k", "v"].map(|name| graph.add_unknown(name));
    let op = Attention {
        query_heads: None,
        key_heads: None,
        value_heads: None,
        scale: None,
        softcap: 0.0,
        causal: false,
        merged: None,
        scores: AttentionScores::Product,
        masked_score: None,
    };
    let [q, k, v, past_k, past_v] = inputs.map(Some);
    graph.add_node(Node {
        name: "attention".into(),
        op: Operator::Attention(op),
        inputs: vec![q, k, v, None, past_k, past_v],
        outputs: outputs.map(Some).to_vec(),
    });
    graph.inputs = inputs.to_vec();
    graph.outputs = outputs.to_vec();
    if let Some(value) = also.and_then(|index| inputs.iter().chain(&outputs).nth(index)) {
        let negative = node(&mut graph, Operator::Unary { function: Unary::Neg }, &[*value]);
        graph.outputs.push(negative);
    }
    graph.sort().unwrap();
    shapes::infer(&mut graph).unwrap();
    Arc::new(graph)
}

#[test]
fn a_cache_that_nobody_else_touches_may_grow_in_its_place() {
    let keys = Append { input: 3, output: 1, axis: 2 };
    let values = Append { input: 4, output: 2, axis: 2 };
    let both = vec![keys, values];
    let cases = [
        (None, both.clone()),
        (Some(0), both.clone()),
        (Some(3), vec![values]),
        (Some(4), vec![keys]),
        (Some(5), both),
        (Some(6), vec![values]),
        (Some(7), vec![keys]),
    ];
    for (also, expected) in cases {
        for memory_optimization in [true, false] {
            let options = CompileOptions { memory_optimization, ..CompileOptions::default() };
            let plan = Native::new().compile(&attention(also), &options).unwrap();
            assert_eq!(plan.appends(), expected, "{also:?}");
        }
    }
}
