//! Factors and offsets of channels move into the weights and the bias of the convolution behind them, where none in front took
//! them up: what lies between is then not scaled. Offsets cannot pass padding, which knows nothing of them; a factor
//! in front of one does, and the offset is divided by it.

use optimium_tensor::Result;

use super::channels::channel_values;
use super::editor::Editor;
use super::matching::operands;
use crate::ops::{Binary, Conv, Padding};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(offset) + editor.visit(factor) + editor.visit(factor_before_offset))
}

/// A convolution with constant weights that nobody else has.
struct Product {
    conv: Conv,
    x: ValueId,
    dims: Vec<usize>,
    weights: Vec<f32>,
}

fn product(editor: &Editor, node: NodeId) -> Option<Product> {
    let Operator::Conv(conv) = editor.op(node) else { return None };
    let (x, weights) = (editor.input(node, 0)?, editor.input(node, 1)?);
    editor.sole_consumer(weights)?;
    let dims = editor.fixed(weights)?;
    Some(Product { conv: conv.clone(), x, dims, weights: editor.f32s(weights)? })
}

impl Product {
    /// The axis of the channels of its operand.
    fn axis(&self, editor: &Editor) -> Option<usize> {
        Some(self.conv.layout.channel_axis(editor.rank(self.x)?))
    }

    /// How many weights one input channel has in one output channel.
    fn window(&self) -> usize {
        self.dims[2..].iter().product()
    }

    /// The input channel of a weight.
    fn channel(&self, index: usize) -> usize {
        let (per_group, window) = (self.dims[1], self.window());
        let outputs_per_group = (self.dims[0] / self.conv.groups.max(1)).max(1);
        let output = index / (per_group * window);
        output / outputs_per_group * per_group + index / window % per_group
    }

    /// The weights with every input channel multiplied.
    fn scaled(&self, factors: &[f32]) -> Option<Vec<f32>> {
        let scaled = self.weights.iter().enumerate();
        scaled.map(|(index, &weight)| Some(weight * factors.get(self.channel(index))?)).collect()
    }

    /// What the offsets of the input channels add to each output channel.
    fn sums(&self, offsets: &[f32]) -> Option<Vec<f32>> {
        let mut sums = vec![0f64; self.dims[0]];
        let per_output = self.dims[1] * self.window();
        for (index, &weight) in self.weights.iter().enumerate() {
            sums[index / per_output] += f64::from(weight) * f64::from(*offsets.get(self.channel(index))?);
        }
        Some(sums.into_iter().map(|sum| sum as f32).collect())
    }
}

/// What a sum or product with a constant for each channel is computed of, for that one reader, and the constant.
fn affine(editor: &Editor, value: ValueId, axis: usize, function: Binary) -> Option<(ValueId, Vec<f32>)> {
    let node = editor.inner(value)?;
    let [x, constant] = operands(editor, node, function)?;
    let values = channel_values(editor, value, axis, constant)?;
    editor.same_shape(x, value).then_some((x, values))
}

fn set_weights(editor: &mut Editor, node: NodeId, x: ValueId, dims: &[usize], weights: &[f32]) -> Option<()> {
    let name = editor.value(editor.input(node, 1)?).name.clone();
    let weights = editor.add_f32s(&name, dims, weights)?;
    let mut inputs = editor.node(node).inputs.clone();
    (inputs[0], inputs[1]) = (Some(x), Some(weights));
    let op = editor.op(node).clone();
    editor.replace(node, op, inputs);
    Some(())
}

fn factor(editor: &mut Editor, node: NodeId) -> Option<()> {
    let product = product(editor, node)?;
    let (x, factors) = affine(editor, product.x, product.axis(editor)?, Binary::Mul)?;
    let weights = product.scaled(&factors)?;
    set_weights(editor, node, x, &product.dims, &weights)
}

fn offset(editor: &mut Editor, node: NodeId) -> Option<()> {
    let product = product(editor, node)?;
    let (x, offsets) = affine(editor, product.x, product.axis(editor)?, Binary::Add)?;
    let Padding::Explicit { begin, end } = &product.conv.padding else { return None };
    if begin.iter().chain(end).any(|&count| count != 0) {
        return None;
    }
    let mut bias = product.sums(&offsets)?;
    if let Some(old) = editor.input(node, 2) {
        let old = editor.f32s(old)?;
        bias.iter_mut().zip(old).for_each(|(new, old)| *new += old);
    }
    let base = format!("{}.bias", editor.node(node).name);
    let bias = editor.add_f32s(&base, &[bias.len()], &bias)?;
    editor.set_input(node, 2, Some(bias));
    editor.set_input(node, 0, Some(x));
    Some(())
}

/// `x · f + b` to `(x + b / f) · f` for a number f, which the weights take.
fn factor_before_offset(editor: &mut Editor, node: NodeId) -> Option<()> {
    let product = product(editor, node)?;
    let axis = product.axis(editor)?;
    let (scaled, offsets) = affine(editor, product.x, axis, Binary::Add)?;
    let (x, factors) = affine(editor, scaled, axis, Binary::Mul)?;
    let number = *factors.first()?;
    if !number.is_normal() || factors.iter().any(|&factor| factor != number) {
        return None;
    }
    let sum = editor.producer(product.x)?;
    let constant = editor.input(sum, 1)?;
    let divided: Vec<f32> = editor.f32s(constant)?.into_iter().map(|offset| offset / number).collect();
    let weights = product.scaled(&factors)?;
    if divided.len() > offsets.len() || divided.iter().chain(&weights).any(|value| !value.is_finite()) {
        return None;
    }
    let (name, dims) = (editor.value(constant).name.clone(), editor.fixed(constant)?);
    let divided = editor.add_f32s(&name, &dims, &divided)?;
    let (op, shape) = (Operator::Binary { function: Binary::Add }, editor.value(product.x).shape().cloned());
    let sum = editor.compute(sum, op, &[x, divided], product.x, shape);
    set_weights(editor, node, sum, &product.dims, &weights)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect, plain_conv};
    use super::*;
    use crate::ops::Activation;
    use optimium_testing::each_case;

    /// A convolution of `x` in groups.
    fn conv(b: &mut Builder, x: ValueId, kernel: usize, groups: usize, padding: usize) -> ValueId {
        let weights = b.weights(&[8, 4 / groups, kernel, kernel]);
        let bias = b.weights(&[8]);
        b.node(Operator::Conv(Conv { groups, ..plain_conv(padding) }), &[x, weights, bias])
    }

    #[test]
    fn factors_and_offsets_move_ahead() {
        type Build = fn(&mut Builder, ValueId) -> ValueId;
        let cases: [(&str, Build, &[&str]); 6] = [
            (
                "product and sum of numbers",
                |b, x| {
                    let (c, d) = (b.number(0.3), b.number(0.7));
                    let x = b.binary(Binary::Mul, x, c);
                    let x = b.binary(Binary::Add, x, d);
                    conv(b, x, 1, 1, 0)
                },
                &["Relu", "Conv"],
            ),
            (
                "of channels, in groups",
                |b, x| {
                    let (c, d) = (b.weights(&[1, 4, 1, 1]), b.weights(&[4, 1, 1]));
                    let x = b.binary(Binary::Mul, x, c);
                    let x = b.binary(Binary::Add, x, d);
                    conv(b, x, 3, 2, 0)
                },
                &["Relu", "Conv"],
            ),
            (
                "a product in front of padding",
                |b, x| {
                    let c = b.weights(&[4, 1, 1]);
                    let x = b.binary(Binary::Mul, x, c);
                    conv(b, x, 3, 4, 1)
                },
                &["Relu", "Conv"],
            ),
            (
                "product and sum in front of padding",
                |b, x| {
                    let (c, d) = (b.number(0.3), b.weights(&[4, 1, 1]));
                    let x = b.binary(Binary::Mul, x, c);
                    let x = b.binary(Binary::Add, x, d);
                    conv(b, x, 3, 1, 1)
                },
                &["Relu", "Add", "Conv"],
            ),
            (
                "along another axis",
                |b, x| {
                    let c = b.weights(&[5]);
                    let x = b.binary(Binary::Mul, x, c);
                    conv(b, x, 1, 1, 0)
                },
                &["Relu", "Mul", "Conv"],
            ),
            (
                "read by another",
                |b, x| {
                    let c = b.number(0.3);
                    let x = b.binary(Binary::Mul, x, c);
                    let y = conv(b, x, 1, 1, 0);
                    let mean = b.reduce(crate::ops::Reduction::Mean, x, &[1], true);
                    b.binary(Binary::Mul, y, mean)
                },
                &["Relu", "Mul", "Conv", "ReduceMean", "Mul"],
            ),
        ];
        each_case(cases, |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[1, 4, 5, 5]);
            let x = builder.activation(Activation::Relu, x);
            let y = build(&mut builder, x);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }
}
