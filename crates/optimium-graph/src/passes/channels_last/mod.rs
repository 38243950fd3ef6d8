//! Puts the channels of images last, through the whole graph, with the least movement of data.
//!
//! Every value of three dimensions or more is stored either as the model says, or with its second axis last.
//! Operators on images want the latter, operators that mix or flatten axes the former, and most do as well with
//! either: their attributes are remapped. Where a producer and a reader disagree, a Transpose stands between them; it
//! costs the bytes that it moves, and next to nothing where only axes of size one move. Transposes of the model itself
//! are the other way round: they are free where their two sides disagree.
//!
//! The assignment of least cost is a minimum cut between the operators that want channels last and those that don't
//! ([`min_cut`]), found exactly and at once. [`roles`] says what every operator allows, [`rewrite`](mod@rewrite) carries
//! the assignment out.

mod attributes;
mod min_cut;
mod operands;
mod rewrite;
mod roles;

use optimium_tensor::{Expr, Result};

use super::editor::Editor;
use super::permutation::{channels_last, moves_nothing};
use crate::{NodeId, ValueId};
use min_cut::{Cut, SINK, SOURCE};
use roles::Role;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    let plan = Plan::new(editor);
    Ok(rewrite::rewrite(editor, &plan))
}

/// For every node whether it reads and writes images with channels last.
struct Plan {
    roles: Vec<Role>,
    reads_last: Vec<bool>,
    writes_last: Vec<bool>,
}

impl Plan {
    fn new(editor: &Editor) -> Plan {
        let roles: Vec<Role> = editor.nodes().into_iter().map(|node| Role::of(editor, node)).collect();
        let mut cut = Cut::default();
        let variables: Vec<(usize, usize)> = roles.iter().map(|role| variables(&mut cut, role)).collect();
        for (index, role) in roles.iter().enumerate() {
            add_transpose_costs(editor, &mut cut, NodeId::from_index(index), role, variables[index]);
        }
        for index in 0..editor.graph().values().len() {
            add_value_costs(editor, &mut cut, ValueId::from_index(index), &roles, &variables);
        }
        let source_side = cut.solve();
        Plan {
            reads_last: variables.iter().map(|&(reads, _)| source_side[reads]).collect(),
            writes_last: variables.iter().map(|&(_, writes)| source_side[writes]).collect(),
            roles,
        }
    }

    fn reads_last(&self, node: NodeId) -> bool {
        self.reads_last.get(node.index()).copied().unwrap_or(false)
    }

    fn writes_last(&self, node: NodeId) -> bool {
        self.writes_last.get(node.index()).copied().unwrap_or(false)
    }

    fn role(&self, node: NodeId) -> &Role {
        &self.roles[node.index()]
    }
}

/// The variables of a node's reading and writing; the source side is channels last.
fn variables(cut: &mut Cut, role: &Role) -> (usize, usize) {
    match role {
        Role::Fixed => (SINK, SINK),
        Role::ChannelsLast => (SOURCE, SOURCE),
        Role::Either => {
            let both = cut.variable();
            (both, both)
        }
        Role::Transpose { .. } => (cut.variable(), cut.variable()),
        Role::EitherInput => (cut.variable(), SINK),
    }
}

/// A Transpose to channels last moves nothing where it reads images stored so and writes them as they come; every
/// deviation moves the tensor once.
fn add_transpose_costs(
    editor: &Editor,
    cut: &mut Cut,
    node: NodeId,
    role: &Role,
    (reads, writes): (usize, usize),
) {
    let (Role::Transpose { to_last }, Some(x)) = (role, editor.input(node, 0)) else { return };
    let cost = cost(editor, x);
    let (wants_source, wants_sink) = if *to_last { (reads, writes) } else { (writes, reads) };
    cut.edge(SOURCE, wants_source, cost);
    cut.edge(wants_sink, SINK, cost);
}

/// A value is transposed once where any reader wants it other than it is written.
fn add_value_costs(
    editor: &Editor,
    cut: &mut Cut,
    value: ValueId,
    roles: &[Role],
    variables: &[(usize, usize)],
) {
    if !is_image(editor, value) || !editor.is_read(value) {
        return;
    }
    let written = editor.producer(value).map_or(SINK, |node| variables[node.index()].1);
    let mut readers: Vec<usize> = editor
        .consumers(value)
        .iter()
        .map(|&node| {
            if operands::is_image_operand(editor, node, &roles[node.index()], value) {
                variables[node.index()].0
            } else {
                SINK
            }
        })
        .collect();
    if editor.is_output(value) {
        readers.push(SINK);
    }
    readers.sort_unstable();
    readers.dedup();
    if readers == [written] {
        return;
    }
    let cost = cost(editor, value);
    let (to_first, to_last) = (cut.variable(), cut.variable());
    cut.edge(written, to_first, cost);
    cut.edge(to_last, written, cost);
    for reader in readers {
        cut.edge(to_first, reader, min_cut::INFINITE);
        cut.edge(reader, to_last, min_cut::INFINITE);
    }
}

/// Whether a value can be stored in two ways.
fn is_image(editor: &Editor, value: ValueId) -> bool {
    editor.rank(value).is_some_and(|rank| rank >= 3) && !editor.is_constant(value)
}

/// Symbolic sizes are taken for this.
const TYPICAL_SIZE: i64 = 16;

/// What it costs to transpose a value: its bytes, and a little for the step itself; next to nothing where no element
/// moves.
fn cost(editor: &Editor, value: ValueId) -> u64 {
    const STEP: u64 = 256;
    let Some(dims) = editor.dims(value) else { return STEP };
    if moves_nothing(dims, &channels_last(dims.len())) {
        return 1;
    }
    let size = |dim: &Expr| {
        let number = dim.substitute(&|_| Some(TYPICAL_SIZE.into())).as_const();
        number.and_then(|n| u64::try_from(n).ok()).unwrap_or(TYPICAL_SIZE as u64)
    };
    let bytes = editor.element_type(value).map_or(4, |element_type| element_type.size() as u64);
    dims.iter().map(size).fold(bytes, u64::saturating_mul).saturating_add(STEP).min(min_cut::INFINITE / 4096)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{
        Builder, Interpreter, expect_simplified, plain_conv, same_operators, simplified,
    };
    use super::*;
    use crate::Operator;
    use crate::ops::{
        Activation, AveragePool, Binary, Cast, Concat, Conv, ConvInteger, ConvTranspose, Expand, Fusion,
        ImageLayout, LpPool, MaxPool, Pad, PadMode, Padding, PoolWindow, Reduce, Reduction, Reshape, Tile,
        Unary,
    };
    use optimium_tensor::{ElementType, Tensor};
    use optimium_testing::each_case;

    type Build = fn(&mut Builder, ValueId) -> Vec<ValueId>;

    fn check<const N: usize>(cases: [(&str, Build, &[&str]); N]) {
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 4, 5, 6]);
            let outputs = build(&mut builder, x);
            let mut graph = builder.finish(&outputs);
            simplified(&mut graph)?;
            same_operators(&graph, expected)
        });
    }

    #[test]
    fn images_are_transposed_at_the_ends_alone() {
        check([
            (
                "chain",
                |b, x| {
                    let y = b.conv(x, 3, 3);
                    let y = b.unary(Unary::Exp, y);
                    vec![b.conv(y, 4, 1)]
                },
                &["Transpose", "Conv", "Exp", "Conv", "Transpose"],
            ),
            (
                "pool and product at the end",
                |b, x| {
                    let y = b.conv(x, 3, 3);
                    let y = b.reduce(Reduction::Mean, y, &[2, 3], true);
                    let y = b.reshape(y, &[2, 3]);
                    let w = b.weights(&[3, 7]);
                    vec![b.matmul(y, w)]
                },
                &["Transpose", "Conv", "ReduceMean", "Reshape", "MatMul"],
            ),
            (
                "pool without kept axes",
                |b, x| {
                    let y = b.conv(x, 3, 3);
                    vec![b.reduce(Reduction::Mean, y, &[2, 3], false)]
                },
                &["Transpose", "Conv", "ReduceMean"],
            ),
            (
                "flattened",
                |b, x| {
                    let y = b.conv(x, 3, 1);
                    let y = b.reshape(y, &[2, 90]);
                    let w = b.weights(&[90, 7]);
                    vec![b.matmul(y, w)]
                },
                &["Transpose", "Conv", "Reshape", "MatMul"],
            ),
            (
                "squeeze and excitation",
                |b, x| {
                    let y = b.conv(x, 4, 3);
                    let s = b.reduce(Reduction::Mean, y, &[2, 3], true);
                    let s = b.conv(s, 2, 1);
                    let s = b.activation(Activation::Relu, s);
                    let s = b.conv(s, 4, 1);
                    let s = b.activation(Activation::Sigmoid, s);
                    let y = b.binary(Binary::Mul, y, s);
                    vec![b.conv(y, 4, 1)]
                },
                &["Transpose", "Conv", "ReduceMean", "Conv", "Conv", "Mul", "Conv", "Transpose"],
            ),
            (
                "joined channels and a constant",
                |b, x| {
                    let (p, q) = (b.conv(x, 3, 1), b.conv(x, 2, 3));
                    let y = b.node(Operator::Concat(Concat { axis: 1 }), &[p, q]);
                    let c = b.weights(&[5, 1, 6]);
                    let y = b.binary(Binary::Pow, y, c);
                    let y = b.binary(Binary::Mul, y, c);
                    vec![b.conv(y, 4, 1)]
                },
                &["Transpose", "Conv", "Conv", "Concat", "Pow", "Mul", "Conv", "Transpose"],
            ),
            (
                "a smaller operand",
                |b, x| {
                    let y = b.conv(x, 4, 1);
                    let other = b.input(&[5, 6]);
                    let y = b.binary(Binary::Mul, y, other);
                    vec![b.conv(y, 4, 1)]
                },
                &["Transpose", "Conv", "Reshape", "Mul", "Conv", "Transpose"],
            ),
            ("no image operators", |b, x| vec![b.unary(Unary::Exp, x)], &["Exp"]),
        ]);
    }

    #[test]
    fn images_are_quantized_either_way() {
        let mut b = Builder::new();
        let x = b.input(&[2, 4, 5, 6]);
        let x = b.conv(x, 4, 1);
        let outputs = ["q", "scale", "zero"].map(|name| Some(b.graph.add_unknown(name)));
        b.graph.add_node(crate::Node {
            name: "quantize".into(),
            op: Operator::DynamicQuantizeLinear,
            inputs: vec![Some(x)],
            outputs: outputs.to_vec(),
        });
        let [q, scale, zero] = outputs.map(|output| output.expect("named"));
        let weights = Tensor::from_slice(&[3, 4, 1, 1], &[5i8; 12]).expect("values fit");
        let weights = b.graph.add_constant("w", weights);
        let op = ConvInteger { conv: plain_conv(0) };
        let y = b.node(Operator::ConvInteger(op), &[q, weights, zero]);
        let y = b.node(Operator::Cast(Cast { to: ElementType::F32 }), &[y]);
        let y = b.binary(Binary::Mul, y, scale);
        let y = b.conv(y, 2, 1);
        let expected =
            ["Transpose", "Conv", "DynamicQuantizeLinear", "ConvInteger", "Cast", "Mul", "Conv", "Transpose"];
        expect_simplified(b.finish(&[y]), &expected).unwrap();
    }

    #[test]
    fn the_transposes_of_a_model_vanish() {
        check([
            (
                "normalized channels",
                |b, x| {
                    let y = b.conv(x, 4, 3);
                    let y = b.transpose(y, &[0, 2, 3, 1]);
                    let w = b.weights(&[4, 4]);
                    let y = b.matmul(y, w);
                    let y = b.transpose(y, &[0, 3, 1, 2]);
                    let y = b.binary(Binary::Add, x, y);
                    vec![b.conv(y, 2, 1)]
                },
                &["Transpose", "Conv", "MatMul", "Conv", "Transpose"],
            ),
            (
                "patches",
                |b, x| {
                    let y = b.conv(x, 3, 1);
                    let y = b.reshape(y, &[2, 3, 30]);
                    let y = b.transpose(y, &[0, 2, 1]);
                    let w = b.weights(&[3, 5]);
                    vec![b.matmul(y, w)]
                },
                &["Transpose", "Conv", "Reshape", "MatMul"],
            ),
        ]);
    }

    fn window(dimensions: usize) -> PoolWindow {
        PoolWindow {
            layout: ImageLayout::ChannelsFirst,
            kernel: vec![2; dimensions],
            strides: vec![1; dimensions],
            dilations: vec![1; dimensions],
            padding: Padding::Valid,
            ceil_mode: false,
        }
    }

    fn transposed_line() -> Operator {
        Operator::ConvTranspose(ConvTranspose {
            layout: ImageLayout::ChannelsFirst,
            strides: vec![1],
            dilations: vec![1],
            groups: 1,
            padding: Padding::Valid,
            output_padding: vec![0],
            output_shape: None,
            fusion: Fusion::default(),
        })
    }

    #[test]
    fn operators_are_moved_once_whatever_axes_have_size_one() {
        type Case = (&'static [usize], &'static [usize], Operator, &'static [&'static str]);
        let line = Conv { strides: vec![1], dilations: vec![1], padding: Padding::Valid, ..plain_conv(0) };
        let pool = |dimensions| AveragePool { window: window(dimensions), count_include_pad: false };
        let cases: [Case; 7] = [
            (&[1, 1, 3], &[1, 2, 3], transposed_line(), &["Reshape", "ConvTranspose", "Transpose"]),
            (&[1, 1, 3], &[1, 1, 3], transposed_line(), &["Reshape", "ConvTranspose", "Reshape"]),
            (&[1, 1, 3], &[2, 1, 2], Operator::Conv(line.clone()), &["Reshape", "Conv", "Transpose"]),
            (&[1, 3, 1], &[2, 3, 1], Operator::Conv(line), &["Reshape", "Conv", "Reshape"]),
            (&[1, 1, 1, 4], &[2, 1, 1, 1], Operator::Conv(plain_conv(0)), &["Reshape", "Conv", "Transpose"]),
            (&[1, 1, 3], &[], Operator::AveragePool(pool(1)), &["Reshape", "AveragePool", "Reshape"]),
            (&[1, 2, 2, 2], &[], Operator::AveragePool(pool(2)), &["Transpose", "AveragePool", "Reshape"]),
        ];
        each_case(cases, |(dims, weights, op, expected)| {
            let mut b = Builder::new();
            let x = b.input(dims);
            let mut inputs = vec![x];
            if !weights.is_empty() {
                inputs.push(b.weights(weights));
            }
            let y = b.node(op.clone(), &inputs);
            expect_simplified(b.finish(&[y]), expected).map(|_| ())
        });
    }

    #[test]
    fn vectors_and_numbers_are_no_images() {
        let numbers = |n: &[i64]| n.iter().map(|&n| Expr::from(n)).collect::<Vec<_>>();
        let pads = |n: &[(i64, i64)]| n.iter().map(|&(a, b)| (a.into(), b.into())).collect();
        let expand = |dims: &[i64]| Operator::Expand(Expand { dims: Some(numbers(dims)) });
        let pad = |n: &[(i64, i64)]| Operator::Pad(Pad { mode: PadMode::Constant, pads: Some(pads(n)) });
        let tile = |n: &[i64]| Operator::Tile(Tile { repeats: Some(numbers(n)) });
        let reshape =
            |dims: &[i64]| Operator::Reshape(Reshape { dims: Some(numbers(dims)), allow_zero: true });
        let transpose = |permutation: &[usize]| {
            Operator::Transpose(crate::ops::Transpose { permutation: permutation.to_vec() })
        };
        let reduce = Operator::Reduce(Reduce {
            reduction: Reduction::Sum,
            axes: Some(vec![0]),
            keep_dims: true,
            noop_with_empty_axes: false,
        });
        let concat = Operator::Concat(Concat { axis: 0 });
        let cases: Vec<(&'static [usize], Operator)> = vec![
            (&[], expand(&[5])),
            (&[1], expand(&[5])),
            (&[1], expand(&[3, 5])),
            (&[2], pad(&[(1, 1)])),
            (&[2, 3], pad(&[(1, 1), (0, 2)])),
            (&[2], tile(&[3])),
            (&[], reshape(&[1])),
            (&[1], reshape(&[])),
            (&[1, 1], reshape(&[1])),
            (&[], transpose(&[])),
            (&[2], transpose(&[0])),
            (&[1, 2], transpose(&[1, 0])),
            (&[3], reduce),
            (&[3], concat),
        ];
        each_case(cases, |(dims, op)| {
            let mut b = Builder::new();
            let x = b.input(dims);
            let y = b.node(op.clone(), &[x]);
            let y = b.unary(Unary::Exp, y);
            let mut graph = b.finish(&[y]);
            let mut editor = Editor::new(&mut graph, &Interpreter);
            super::super::transposes::run(&mut editor)
                .and_then(|_| run(&mut editor))
                .and_then(|_| editor.finish())
                .map_err(|error| error.to_string())?;
            crate::shapes::infer(&mut graph).map_err(|error| error.to_string())
        });
    }

    #[test]
    fn pools_without_a_kernel_for_channels_last_stay() {
        let average = |dimensions| AveragePool { window: window(dimensions), count_include_pad: false };
        let max = |dimensions| MaxPool { window: window(dimensions), column_major: false };
        let cases: [(&[usize], Operator, bool, &[&str]); 4] = [
            (&[2, 4, 5, 6, 7], Operator::AveragePool(average(3)), false, &["AveragePool"]),
            (&[2, 4, 5, 6, 7], Operator::MaxPool(max(3)), false, &["MaxPool"]),
            (&[2, 4, 5, 6], Operator::MaxPool(max(2)), true, &["MaxPool"]),
            (&[2, 4, 5, 6], Operator::LpPool(LpPool { window: window(2), p: 2 }), false, &["LpPool"]),
        ];
        each_case(cases, |(dims, op, with_indices, expected)| {
            let mut b = Builder::new();
            let x = b.input(dims);
            let mut outputs = vec![b.node(op.clone(), &[x])];
            if *with_indices {
                let indices = b.graph.add_unknown("indices");
                b.graph.nodes_mut()[0].outputs.push(Some(indices));
                outputs.push(indices);
            }
            let graph = expect_simplified(b.finish(&outputs), expected)?;
            let first = match &graph.nodes()[0].op {
                Operator::MaxPool(MaxPool { window, .. })
                | Operator::AveragePool(AveragePool { window, .. })
                | Operator::LpPool(LpPool { window, .. }) => window.layout == ImageLayout::ChannelsFirst,
                _ => false,
            };
            if first { Ok(()) } else { Err("the channels were moved".into()) }
        });
    }
}
