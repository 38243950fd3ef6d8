//! Activations and residual sums move into the matrix product or convolution in front of them.
//!
//! A residual goes into the later of the two producers of a sum; the other one is then computed before it in any
//! case. Nothing is fused over a value that somebody else reads.

use optimium_tensor::Result;

use super::channels::{channel_axis, channel_values};
use super::editor::Editor;
use super::matching::operands;
use crate::ops::{Activation, Binary, Fusion};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(fuse_activation) + editor.visit(fuse_slope) + editor.visit(fuse_residual))
}

/// Where the fused inputs of an operator are: the residual, and the slope right after it.
fn residual_index(op: &Operator) -> Option<usize> {
    match op {
        Operator::Conv(_) | Operator::ConvTranspose(_) | Operator::MatMul(_) => Some(3),
        Operator::DynamicQuantizedMatMul(_) | Operator::CompressedMatMul(_) => Some(5),
        _ => None,
    }
}

fn fusion_of(op: &mut Operator) -> Option<&mut Fusion> {
    match op {
        Operator::Conv(conv) => Some(&mut conv.fusion),
        Operator::ConvTranspose(conv) => Some(&mut conv.fusion),
        Operator::MatMul(matmul) => Some(&mut matmul.fusion),
        Operator::DynamicQuantizedMatMul(matmul) => Some(&mut matmul.fusion),
        Operator::CompressedMatMul(matmul) => Some(&mut matmul.fusion),
        _ => None,
    }
}

/// The product that computes `value` for one reader alone, as an operator to be changed, and its inputs.
fn product(editor: &Editor, value: ValueId) -> Option<(Operator, Vec<Option<ValueId>>)> {
    let node = editor.inner(value)?;
    let op = editor.op(node).clone();
    let mut inputs = editor.node(node).inputs.clone();
    inputs.resize(residual_index(&op)? + 2, None);
    Some((op, inputs))
}

fn fuse_activation(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::Activation { function } = *editor.op(node) else { return None };
    let x = editor.input(node, 0)?;
    let (mut op, inputs) = product(editor, x)?;
    let rounds = editor.value(x).scheme.is_some() && !bounds_integers(editor, node, function);
    let fusion = fusion_of(&mut op)?;
    let occupied = fusion.activation != Activation::None || fusion.residual_after_activation;
    if occupied || rounds || matches!(function, Activation::None | Activation::PRelu) {
        return None;
    }
    fusion.activation = function;
    editor.replace(node, op, inputs);
    Some(())
}

/// Whether the function does nothing to quantized numbers but to bound them: then it makes no difference whether that is done
/// before or after they are rounded.
fn bounds_integers(editor: &Editor, node: NodeId, function: Activation) -> bool {
    let (Some(x), Some(y)) = (editor.input(node, 0), editor.output(node)) else { return false };
    matches!(function, Activation::Relu | Activation::Clip { .. })
        && editor.element_type(x) == editor.element_type(y)
        && editor.value(x).scheme == editor.value(y).scheme
}

/// A PRelu with one slope a channel.
fn fuse_slope(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [x, slope] = operands(editor, node, Binary::PRelu)?;
    let (mut op, mut inputs) = product(editor, x)?;
    let slope = channel_vector(editor, &op, x, slope)?;
    let index = residual_index(&op)?;
    let fusion = fusion_of(&mut op)?;
    if fusion.activation != Activation::None || fusion.residual_after_activation {
        return None;
    }
    fusion.activation = Activation::PRelu;
    inputs[index + 1] = Some(slope);
    editor.replace(node, op, inputs);
    Some(())
}

/// The constant as `[channels]`, where it has one value for each channel of `x`, or one for all.
fn channel_vector(editor: &mut Editor, op: &Operator, x: ValueId, constant: ValueId) -> Option<ValueId> {
    let axis = channel_axis(op, editor.rank(x)?)?;
    let values = channel_values(editor, x, axis, constant)?;
    if editor.fixed(constant)? == [values.len()] {
        return Some(constant);
    }
    let name = editor.value(constant).name.clone();
    editor.add_f32s(&name, &[values.len()], &values)
}

fn fuse_residual(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [a, b] = operands(editor, node, Binary::Add)?;
    let place = |value: ValueId| editor.producer(value);
    // Nodes are in order: the larger one comes later.
    let order = if place(a) > place(b) { [(a, b), (b, a)] } else { [(b, a), (a, b)] };
    order.into_iter().find_map(|(x, residual)| fuse_residual_into(editor, node, x, residual))
}

fn fuse_residual_into(editor: &mut Editor, node: NodeId, x: ValueId, residual: ValueId) -> Option<()> {
    let y = editor.output(node)?;
    let whole = editor.same_shape(x, y) && editor.same_shape(residual, y);
    if !whole || x == residual || editor.is_constant(residual) || !editor.is_float(y) {
        return None;
    }
    let (mut op, mut inputs) = product(editor, x)?;
    let index = residual_index(&op)?;
    let fusion = fusion_of(&mut op)?;
    if inputs[index].is_some() || fusion.residual_after_activation {
        return None;
    }
    fusion.residual_after_activation = fusion.activation != Activation::None;
    inputs[index] = Some(residual);
    editor.replace(node, op, inputs);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect};
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn what_stands_behind_a_product_moves_into_it() {
        type Build = fn(&mut Builder, ValueId) -> Vec<ValueId>;
        let cases: [(&str, Build, &[&str]); 7] = [
            (
                "activation",
                |b, x| {
                    let y = b.conv(x, 4, 3);
                    vec![b.activation(Activation::Relu, y)]
                },
                &["Conv"],
            ),
            (
                "two",
                |b, x| {
                    let y = b.conv(x, 4, 1);
                    let y = b.activation(Activation::Silu, y);
                    vec![b.activation(Activation::Relu, y)]
                },
                &["Conv", "Relu"],
            ),
            (
                "residual then activation",
                |b, x| {
                    let y = b.conv(x, 4, 3);
                    let sum = b.binary(Binary::Add, y, x);
                    vec![b.activation(Activation::Relu, sum)]
                },
                &["Conv"],
            ),
            (
                "activation then residual",
                |b, x| {
                    let y = b.conv(x, 4, 3);
                    let y = b.activation(Activation::HardSwish, y);
                    vec![b.binary(Binary::Add, x, y)]
                },
                &["Conv"],
            ),
            (
                "slope of each channel",
                |b, x| {
                    let y = b.conv(x, 4, 1);
                    let slope = b.weights(&[4, 1, 1]);
                    vec![b.binary(Binary::PRelu, y, slope)]
                },
                &["Conv"],
            ),
            (
                "read twice",
                |b, x| {
                    let y = b.conv(x, 4, 1);
                    vec![b.activation(Activation::Relu, y), b.unary(crate::ops::Unary::Neg, y)]
                },
                &["Conv", "Relu", "Neg"],
            ),
            (
                "an output",
                |b, x| {
                    let y = b.conv(x, 4, 1);
                    vec![b.activation(Activation::Relu, y), y]
                },
                &["Conv", "Relu"],
            ),
        ];
        each_case(cases.map(|case| (case.0, case.1, case.2)), |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[1, 4, 5, 5]);
            let outputs = build(&mut builder, x);
            expect(run, builder.finish(&outputs), expected).map(|_| ())
        });
    }

    #[test]
    fn a_sum_of_two_products_goes_into_the_later() {
        let mut builder = Builder::new();
        let x = builder.input(&[1, 4, 5, 5]);
        let first = builder.conv(x, 6, 1);
        let inner = builder.conv(x, 3, 3);
        let second = builder.conv(inner, 6, 1);
        let sum = builder.binary(Binary::Add, second, first);
        let graph = expect(run, builder.finish(&[sum]), &["Conv", "Conv", "Conv"]).unwrap();
        assert_eq!(graph.nodes()[2].input(3), graph.nodes()[0].output(0));
    }
}
