//! Factors and offsets of channels move into the weights and the bias of the convolution or matrix product in front of
//! them: batch normalization, products and sums with constants. Scalar factors of matrix products become their alpha.

use optimium_tensor::Result;

use super::channels::{channel_axis, channel_values};
use super::editor::Editor;
use super::matching::{either, operands, with_scalar};
use crate::ops::{Activation, Binary, Fusion};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(fold_affine) + editor.visit(scale_after) + editor.visit(scale_before))
}

/// `x · factor + offset`, one of each a channel.
pub(super) struct Affine {
    pub(super) factor: Option<Vec<f32>>,
    pub(super) offset: Option<Vec<f32>>,
}

fn fold_affine(editor: &mut Editor, node: NodeId) -> Option<()> {
    let x = product_operand(editor, node)?;
    let producer = editor.inner(x)?;
    let op = editor.op(producer).clone();
    if !is_plain(&op) || !editor.same_shape(x, editor.output(node)?) {
        return None;
    }
    let axis = channel_axis(&op, editor.rank(x)?)?;
    let affine = affine(editor, node, x, axis)?;
    let mut inputs = editor.node(producer).inputs.clone();
    inputs.resize(inputs.len().max(3), None);
    let bias_index =
        if matches!(op, Operator::DynamicQuantizedMatMul(_) | Operator::CompressedMatMul(_)) { 4 } else { 2 };
    inputs.resize(inputs.len().max(bias_index + 1), None);
    let bias = folded_bias(editor, x, axis, inputs[bias_index], &affine)?;
    if let Some(factor) = &affine.factor {
        inputs[1] = Some(scaled_weights(editor, &op, inputs[1]?, factor)?);
    }
    if let Some(values) = bias {
        let base = format!("{}.bias", editor.node(producer).name);
        inputs[bias_index] = Some(editor.add_f32s(&base, &[values.len()], &values)?);
    }
    editor.replace(node, op, inputs);
    Some(())
}

/// The operand of a candidate that a product might compute.
fn product_operand(editor: &Editor, node: NodeId) -> Option<ValueId> {
    match editor.op(node) {
        Operator::BatchNormalization(_) => editor.input(node, 0),
        Operator::Binary { function: Binary::Add | Binary::Mul } => {
            let pair = [editor.input(node, 0)?, editor.input(node, 1)?];
            either(pair, |a, b| (editor.is_constant(b) && !editor.is_constant(a)).then_some(a))
        }
        _ => None,
    }
}

/// Nothing is fused yet: factors would apply to the wrong thing.
fn is_plain(op: &Operator) -> bool {
    let plain = Fusion { activation: Activation::None, residual_after_activation: false };
    match op {
        Operator::Conv(conv) => conv.fusion == plain,
        Operator::ConvTranspose(conv) => conv.fusion == plain,
        Operator::MatMul(matmul) => matmul.fusion == plain,
        Operator::DynamicQuantizedMatMul(matmul) => matmul.fusion == plain,
        Operator::CompressedMatMul(matmul) => matmul.fusion == plain,
        _ => false,
    }
}

/// What the node does to the channels of its operand `x`, where it is known.
pub(super) fn affine(editor: &Editor, node: NodeId, x: ValueId, axis: usize) -> Option<Affine> {
    match editor.op(node) {
        Operator::BatchNormalization(norm) => {
            if norm.layout.channel_axis(editor.rank(x)?) != axis {
                return None;
            }
            let parameter = |index| editor.f32s(editor.input(node, index)?);
            let (scale, bias, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
            let root = |v: f32| (f64::from(v) + f64::from(norm.epsilon)).sqrt();
            let factors = scale.iter().zip(&variance).map(|(&s, &v)| f64::from(s) / root(v));
            let factor: Vec<f64> = factors.collect();
            let terms = bias.iter().zip(&mean).zip(&factor);
            let offset = terms.map(|((&b, &m), &f)| (f64::from(b) - f64::from(m) * f) as f32).collect();
            Some(Affine {
                factor: Some(factor.into_iter().map(|f| f as f32).collect()),
                offset: Some(offset),
            })
        }
        Operator::Binary { function } => {
            let pair = operands(editor, node, *function)?;
            let constant = either(pair, |a, b| (a == x).then_some(b))?;
            let values = Some(channel_values(editor, x, axis, constant)?);
            match function {
                Binary::Mul => Some(Affine { factor: values, offset: None }),
                _ => Some(Affine { factor: None, offset: values }),
            }
        }
        _ => None,
    }
}

/// The new bias, where there is one; `None` where the old one is not known.
fn folded_bias(
    editor: &Editor,
    x: ValueId,
    axis: usize,
    bias: Option<ValueId>,
    affine: &Affine,
) -> Option<Option<Vec<f32>>> {
    let mut values = match bias {
        None if affine.offset.is_none() => return Some(None),
        None => vec![0.0; usize::try_from(editor.dims(x)?.get(axis)?.as_const()?).ok()?],
        Some(bias) => editor.f32s(bias)?,
    };
    if let Some(factor) = &affine.factor {
        values.iter_mut().zip(factor).for_each(|(value, factor)| *value *= factor);
    }
    if let Some(offset) = &affine.offset {
        values.iter_mut().zip(offset).for_each(|(value, offset)| *value += offset);
    }
    Some(Some(values))
}

/// Weights whose output channels are multiplied.
fn scaled_weights(editor: &mut Editor, op: &Operator, weights: ValueId, factor: &[f32]) -> Option<ValueId> {
    let dims = editor.fixed(weights)?;
    let mut values = editor.f32s(weights)?;
    let channel: Box<dyn Fn(usize) -> usize> = match op {
        Operator::Conv(_) => {
            let stride: usize = dims[1..].iter().product();
            Box::new(move |index| index / stride)
        }
        Operator::ConvTranspose(conv) => {
            let (per_group, window) = (*dims.get(1)?, dims[2..].iter().product::<usize>());
            let inputs_per_group = dims[0] / conv.groups.max(1);
            Box::new(move |index| {
                let (input, rest) = (index / (per_group * window), index / window % per_group);
                input / inputs_per_group * per_group + rest
            })
        }
        Operator::MatMul(matmul) if dims.len() == 2 => {
            let columns = dims[1];
            let transposed = matmul.transpose_b;
            Box::new(move |index| if transposed { index / columns } else { index % columns })
        }
        _ => return None,
    };
    for (index, value) in values.iter_mut().enumerate() {
        *value *= factor.get(channel(index))?;
    }
    let name = editor.value(weights).name.clone();
    editor.add_f32s(&name, &dims, &values)
}

/// A number times a matrix product.
fn scale_after(editor: &mut Editor, node: NodeId) -> Option<()> {
    let (x, number) = with_scalar(editor, operands(editor, node, Binary::Mul)?)?;
    let producer = editor.inner(x)?;
    let op = editor.op(producer).clone();
    let Operator::MatMul(mut matmul) = op.clone() else { return None };
    let has_bias = editor.input(producer, 2).is_some();
    if !is_plain(&op) || has_bias || !editor.same_shape(x, editor.output(node)?) {
        return None;
    }
    matmul.alpha = finite(matmul.alpha * number)?;
    let inputs = editor.node(producer).inputs.clone();
    editor.replace(node, Operator::MatMul(matmul), inputs);
    Some(())
}

/// A matrix product of an operand times a number.
fn scale_before(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::MatMul(mut matmul) = editor.op(node).clone() else { return None };
    let mut inputs = editor.node(node).inputs.clone();
    let mut changed = false;
    for input in inputs.iter_mut().take(2) {
        let scaled = |value: ValueId| {
            let producer = editor.inner(value)?;
            let (x, number) = with_scalar(editor, operands(editor, producer, Binary::Mul)?)?;
            let alpha = finite(matmul.alpha * number).filter(|_| editor.same_shape(x, value))?;
            Some((x, alpha))
        };
        if let Some((x, alpha)) = input.and_then(scaled) {
            (*input, matmul.alpha, changed) = (Some(x), alpha, true);
        }
    }
    if changed {
        editor.replace(node, Operator::MatMul(matmul), inputs);
    }
    changed.then_some(())
}

/// A factor that did not leave the range of numbers.
fn finite(alpha: f32) -> Option<f32> {
    alpha.is_normal().then_some(alpha)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect, plain_matmul};
    use super::*;
    use crate::ops::{BatchNormalization, ImageLayout};
    use optimium_testing::each_case;

    type Build = fn(&mut Builder, ValueId) -> ValueId;

    fn batch_normalization(b: &mut Builder, x: ValueId, channels: usize) -> ValueId {
        let (scale, bias, mean) = (b.weights(&[channels]), b.weights(&[channels]), b.weights(&[channels]));
        let variance = b.constant(&[channels], &vec![0.7; channels]);
        let norm = BatchNormalization { layout: ImageLayout::ChannelsFirst, epsilon: 1e-3 };
        b.node(Operator::BatchNormalization(norm), &[x, scale, bias, mean, variance])
    }

    #[test]
    fn factors_and_offsets_move_into_convolutions() {
        let cases: [(&str, Build, &[&str]); 6] = [
            ("batch normalization", |b, x| batch_normalization(b, x, 4), &["Conv"]),
            (
                "product",
                |b, x| {
                    let c = b.weights(&[4, 1, 1]);
                    b.binary(Binary::Mul, x, c)
                },
                &["Conv"],
            ),
            (
                "sum",
                |b, x| {
                    let c = b.weights(&[1, 4, 1, 1]);
                    b.binary(Binary::Add, c, x)
                },
                &["Conv"],
            ),
            (
                "number",
                |b, x| {
                    let c = b.number(0.3);
                    b.binary(Binary::Mul, x, c)
                },
                &["Conv"],
            ),
            (
                "along another axis",
                |b, x| {
                    let c = b.weights(&[5]);
                    b.binary(Binary::Mul, x, c)
                },
                &["Conv", "Mul"],
            ),
            (
                "not constant",
                |b, x| {
                    let c = b.input(&[4, 1, 1]);
                    b.binary(Binary::Mul, x, c)
                },
                &["Conv", "Mul"],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[1, 3, 5, 5]);
            let x = builder.conv(x, 4, 3);
            let y = build(&mut builder, x);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }

    #[test]
    fn factors_and_offsets_move_into_matrix_products() {
        let transposed = || Operator::MatMul(crate::ops::MatMul { transpose_b: true, ..plain_matmul() });
        let cases: [(&str, Build, &[&str]); 5] = [
            (
                "sum",
                |b, x| {
                    let c = b.weights(&[4]);
                    b.binary(Binary::Add, x, c)
                },
                &["MatMul"],
            ),
            (
                "sum of a matrix",
                |b, x| {
                    let c = b.weights(&[2, 4]);
                    b.binary(Binary::Add, x, c)
                },
                &["MatMul", "Add"],
            ),
            (
                "product",
                |b, x| {
                    let c = b.weights(&[4]);
                    b.binary(Binary::Mul, x, c)
                },
                &["MatMul"],
            ),
            (
                "number behind",
                |b, x| {
                    let c = b.number(0.3);
                    b.binary(Binary::Mul, x, c)
                },
                &["MatMul"],
            ),
            (
                "product and sum",
                |b, x| {
                    let (c, d) = (b.weights(&[4]), b.weights(&[1, 4]));
                    let x = b.binary(Binary::Mul, x, c);
                    b.binary(Binary::Add, x, d)
                },
                &["MatMul"],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 3]);
            let c = builder.number(1.5);
            let x = builder.binary(Binary::Mul, x, c);
            let weights = builder.weights(&[4, 3]);
            let x = builder.node(transposed(), &[x, weights]);
            let y = build(&mut builder, x);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }
}
