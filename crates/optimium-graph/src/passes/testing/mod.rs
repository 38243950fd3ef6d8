//! What the tests of passes share: a small language for graphs, an evaluator, and the check that a graph still computes
//! what it computed before.

mod interpreter;

use std::collections::HashMap;

use optimium_tensor::{ElementType, Expr, Result, Tensor, TensorShape};
use optimium_testing::{Random, Tolerance, compare};

use super::{Evaluate, Pass, editor::Editor};
use crate::ops::{
    Activation, Binary, Conv, Fusion, ImageLayout, MatMul, Padding, Reduce, Reduction, Reshape, Transpose,
    Unary,
};
use crate::{Graph, Node, Operator, ValueId};
pub(super) use interpreter::Interpreter;

/// Sums of a few products, in another order.
pub(super) const REORDERED: Tolerance = Tolerance::Relative(2e-5);

/// Builds a graph, step by step.
pub(super) struct Builder {
    pub(super) graph: Graph,
    random: Random,
}

impl Builder {
    pub(super) fn new() -> Builder {
        Builder { graph: Graph::new("test"), random: Random::new(7) }
    }

    /// A real input.
    pub(super) fn input(&mut self, dims: &[usize]) -> ValueId {
        let name = format!("x{}", self.graph.inputs.len());
        let id = self.graph.add_tensor(name, ElementType::F32, Some(TensorShape::fixed(dims)));
        self.graph.inputs.push(id);
        id
    }

    /// An input of truth values.
    pub(super) fn flags(&mut self, dims: &[usize]) -> ValueId {
        let id = self.input(dims);
        let shape = Some(TensorShape::fixed(dims));
        self.graph.value_mut(id).value_type =
            crate::ValueType::Tensor { element_type: ElementType::Bool, shape };
        id
    }

    /// A real constant.
    pub(super) fn constant(&mut self, dims: &[usize], values: &[f32]) -> ValueId {
        let name = format!("c{}", self.graph.values().len());
        self.graph.add_constant(name, Tensor::from_slice(dims, values).expect("values fit"))
    }

    /// A constant of one number, without dimensions.
    pub(super) fn number(&mut self, value: f32) -> ValueId {
        self.constant(&[], &[value])
    }

    /// A constant of random numbers.
    pub(super) fn weights(&mut self, dims: &[usize]) -> ValueId {
        let values = self.random.floats(dims.iter().product());
        self.constant(dims, &values)
    }

    /// A node with one output.
    pub(super) fn node(&mut self, op: Operator, inputs: &[ValueId]) -> ValueId {
        let inputs: Vec<Option<ValueId>> = inputs.iter().copied().map(Some).collect();
        self.node_with(op, inputs)
    }

    /// As [`node`](Builder::node), some inputs left out.
    pub(super) fn node_with(&mut self, op: Operator, inputs: Vec<Option<ValueId>>) -> ValueId {
        let name = format!("v{}", self.graph.values().len());
        let output = self.graph.add_unknown(name.clone());
        self.graph.add_node(Node { name, op, inputs, outputs: vec![Some(output)] });
        crate::shapes::infer(&mut self.graph).expect("the test's graph is right");
        output
    }

    pub(super) fn binary(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
        self.node(Operator::Binary { function }, &[a, b])
    }

    pub(super) fn unary(&mut self, function: Unary, x: ValueId) -> ValueId {
        self.node(Operator::Unary { function }, &[x])
    }

    pub(super) fn activation(&mut self, function: Activation, x: ValueId) -> ValueId {
        self.node(Operator::Activation { function }, &[x])
    }

    pub(super) fn transpose(&mut self, x: ValueId, permutation: &[usize]) -> ValueId {
        self.node(Operator::Transpose(Transpose { permutation: permutation.to_vec() }), &[x])
    }

    pub(super) fn reshape(&mut self, x: ValueId, dims: &[usize]) -> ValueId {
        let dims = Some(dims.iter().map(|&dim| Expr::from(dim)).collect());
        self.node(Operator::Reshape(Reshape { dims, allow_zero: true }), &[x])
    }

    pub(super) fn reduce(
        &mut self,
        reduction: Reduction,
        x: ValueId,
        axes: &[i64],
        keep_dims: bool,
    ) -> ValueId {
        let reduce = Reduce { reduction, axes: Some(axes.to_vec()), keep_dims, noop_with_empty_axes: false };
        self.node(Operator::Reduce(reduce), &[x])
    }

    pub(super) fn matmul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.node(Operator::MatMul(plain_matmul()), &[a, b])
    }

    /// A convolution with random weights, a square kernel, and padding that keeps the size at stride 1.
    pub(super) fn conv(&mut self, x: ValueId, channels: usize, kernel: usize) -> ValueId {
        let dims = self.graph.value(x).shape().and_then(TensorShape::as_fixed).expect("known");
        let weights = self.weights(&[channels, dims[1], kernel, kernel]);
        let bias = self.weights(&[channels]);
        self.node(Operator::Conv(plain_conv(kernel / 2)), &[x, weights, bias])
    }

    pub(super) fn finish(mut self, outputs: &[ValueId]) -> Graph {
        self.graph.outputs = outputs.to_vec();
        self.graph
    }
}

pub(super) fn plain_matmul() -> MatMul {
    MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() }
}

pub(super) fn plain_conv(padding: usize) -> Conv {
    Conv {
        layout: ImageLayout::ChannelsFirst,
        strides: vec![1, 1],
        dilations: vec![1, 1],
        groups: 1,
        padding: Padding::Explicit { begin: vec![padding; 2], end: vec![padding; 2] },
        fusion: Fusion::default(),
    }
}

/// Applies all passes to a graph that the interpreter does not know, and compares its operators.
pub(super) fn expect_simplified(mut graph: Graph, expected: &[&str]) -> std::result::Result<Graph, String> {
    super::simplify(&mut graph, &Interpreter).map_err(|error| error.to_string())?;
    same_operators(&graph, expected)?;
    Ok(graph)
}

/// The names of a graph's operators, in order.
pub(super) fn operators(graph: &Graph) -> Vec<&'static str> {
    graph.nodes().iter().map(|node| node.op.name()).collect()
}

/// The results for seeded inputs.
fn results(graph: &Graph) -> std::result::Result<Vec<Vec<f32>>, String> {
    let mut random = Random::new(11);
    let mut given = HashMap::new();
    for &input in &graph.inputs {
        let dims =
            graph.value(input).shape().and_then(TensorShape::as_fixed).ok_or("an input of unknown size")?;
        let mut values = random.floats(dims.iter().product());
        if graph.value(input).element_type() == Some(ElementType::Bool) {
            values.iter_mut().for_each(|value| *value = f32::from(u8::from(*value > 0.0)));
        }
        given.insert(input, values);
    }
    Interpreter::run(graph, &given)
}

/// Applies one pass until it changes nothing, and checks that the graph computes the same.
pub(super) fn apply(pass: Pass, graph: &mut Graph) -> std::result::Result<usize, String> {
    changed(graph, |graph| {
        let mut total = 0;
        for _ in 0..4 {
            let mut editor = Editor::new(graph, &Interpreter);
            let count = pass(&mut editor)?;
            editor.finish()?;
            crate::shapes::infer(graph)?;
            total += count;
            if count == 0 {
                break;
            }
        }
        Ok(total)
    })
}

/// Applies all passes and checks that the graph computes the same.
pub(super) fn simplified(graph: &mut Graph) -> std::result::Result<(), String> {
    changed(graph, |graph| super::simplify(graph, &Interpreter))
}

fn changed<T>(
    graph: &mut Graph,
    change: impl FnOnce(&mut Graph) -> Result<T>,
) -> std::result::Result<T, String> {
    let (before, names) = (results(graph)?, names(graph));
    let result = change(graph).map_err(|error| error.to_string())?;
    let after = results(graph).map_err(|error| format!("{error}, in {:?}", operators(graph)))?;
    if names != self::names(graph) {
        return Err("the outputs have other names".into());
    }
    for (a, b) in after.iter().zip(&before) {
        compare(a, b, REORDERED).map_err(|error| format!("{error}, in {:?}", operators(graph)))?;
    }
    Ok(result)
}

fn names(graph: &Graph) -> Vec<String> {
    graph.outputs.iter().map(|&output| graph.value(output).name.clone()).collect()
}

/// A pass applied to a graph, its operators compared to what is expected.
pub(super) fn expect(pass: Pass, mut graph: Graph, expected: &[&str]) -> std::result::Result<Graph, String> {
    apply(pass, &mut graph)?;
    same_operators(&graph, expected)?;
    Ok(graph)
}

pub(super) fn same_operators(graph: &Graph, expected: &[&str]) -> std::result::Result<(), String> {
    let found = operators(graph);
    if found == expected { Ok(()) } else { Err(format!("{found:?} instead of {expected:?}")) }
}

impl Evaluate for Interpreter {
    fn evaluate(&self, graph: Graph) -> Result<Vec<Tensor>> {
        let values = Interpreter::run(&graph, &HashMap::new()).map_err(optimium_tensor::Error::infer)?;
        let tensor = |(&id, values): (&ValueId, &Vec<f32>)| {
            let value = graph.value(id);
            let dims = value.shape().and_then(TensorShape::as_fixed).unwrap_or(vec![values.len()]);
            match value.element_type() {
                Some(ElementType::F32) => Tensor::from_slice(&dims, values),
                Some(ElementType::I64) => {
                    Tensor::from_slice(&dims, &values.iter().map(|&x| x as i64).collect::<Vec<_>>())
                }
                other => Err(optimium_tensor::Error::not_implemented(format!("constants of {other:?}"))),
            }
        };
        graph.outputs.iter().zip(&values).map(tensor).collect()
    }
}
