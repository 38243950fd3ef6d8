//! Quantized and half-precision tensors, and recurrent layers.

use std::sync::Arc;

use half::f16;
use optimium_graph::ops::{
    Activation, Binary, Conv, ConvInteger, Direction, Fusion, ImageLayout, MatMul, Padding, Recurrent,
    RecurrentKind, Unary,
};
use optimium_graph::{Operator, ValueId, ValueType};
use optimium_tensor::{ElementType, QuantScheme, Tensor, TensorShape};
use optimium_testing::Tolerance;

use super::harness::{APPROXIMATE, Builder, Expected, HALF, check, map};

fn scheme(scale: f32, zero_point: i32) -> Option<Arc<QuantScheme>> {
    Some(Arc::new(QuantScheme::per_tensor(scale, zero_point)))
}

fn bytes(dims: &[usize], values: &[u8], scale: f32, zero_point: i32) -> Tensor {
    Tensor::from_bytes(ElementType::QU8, dims, values)
        .expect("values fit")
        .with_scheme(scheme(scale, zero_point))
}

fn signed(dims: &[usize], values: &[i8], scale: f32) -> Tensor {
    let values: Vec<u8> = values.iter().map(|&x| x as u8).collect();
    Tensor::from_bytes(ElementType::QS8, dims, &values).expect("values fit").with_scheme(scheme(scale, 0))
}

/// A node with one quantized output.
fn quantized(
    b: &mut Builder,
    op: Operator,
    inputs: &[ValueId],
    dims: &[usize],
    scale: f32,
    zero: i32,
) -> ValueId {
    let y = b.node(op, inputs);
    let value = b.graph.value_mut(y);
    value.value_type =
        ValueType::Tensor { element_type: ElementType::QU8, shape: Some(TensorShape::fixed(dims)) };
    value.scheme = scheme(scale, zero);
    y
}

fn image_conv(groups: usize) -> Conv {
    Conv {
        layout: ImageLayout::ChannelsLast,
        strides: vec![1, 1],
        dilations: vec![1, 1],
        groups,
        padding: Padding::Explicit { begin: vec![0, 1], end: vec![0, 0] },
        fusion: Fusion { activation: Activation::Relu, residual_after_activation: false },
    }
}

#[test]
fn quantized_tensors() {
    check(
        Tolerance::Exact,
        [
            ("sum", |b| {
                let x = b.given(bytes(&[4], &[0, 10, 20, 255], 0.5, 10));
                let z = b.given(bytes(&[4], &[5, 6, 7, 8], 1.0, 5));
                let add = Operator::Binary { function: Binary::Add };
                // Reals -5, 0, 5, 122.5 and 0, 1, 2, 3; the last sum is beyond the largest byte.
                let y = quantized(b, add, &[x, z], &[4], 0.5, 20);
                vec![(y, vec![10.0, 22.0, 34.0, 255.0])]
            }),
            ("product of matrices", |b| {
                let x = b.given(bytes(&[2, 2], &[10, 12, 8, 14], 0.5, 10));
                let w = b.known(signed(&[2, 2], &[1, -2, 3, 4], 2.0));
                let op =
                    MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
                // Reals [0, 1; -1, 2] · [2, -4; 6, 8] = [6, 8; 10, 20].
                let y = quantized(b, Operator::MatMul(op), &[x, w], &[2, 2], 2.0, 100);
                vec![(y, vec![103.0, 104.0, 105.0, 110.0])]
            }),
            ("convolution", |b| {
                let x = b.given(bytes(&[1, 1, 3, 1], &[11, 12, 9], 1.0, 10));
                let w = b.known(signed(&[2, 1, 1, 2], &[1, 2, -1, 3], 1.0));
                // Reals 0 | 1, 2, -1: 2, 5, 0 and 3, 5, -5, of which Relu leaves 0.
                let y = quantized(b, Operator::Conv(image_conv(1)), &[x, w], &[1, 1, 3, 2], 1.0, 7);
                vec![(y, vec![9.0, 10.0, 12.0, 12.0, 7.0, 7.0])]
            }),
            ("depthwise convolution", |b| {
                let x = b.given(bytes(&[1, 1, 2, 2], &[11, 12, 9, 20], 1.0, 10));
                let w = b.known(signed(&[2, 1, 1, 2], &[1, 2, -1, 3], 1.0));
                let y = quantized(b, Operator::Conv(image_conv(2)), &[x, w], &[1, 1, 2, 2], 1.0, 0);
                vec![(y, vec![2.0, 6.0, 0.0, 28.0])]
            }),
            ("without an integer kernel", |b| {
                let x = b.given(bytes(&[3], &[10, 12, 8], 0.5, 10));
                let y = quantized(b, Operator::Unary { function: Unary::Square }, &[x], &[3], 0.5, 1);
                vec![(y, vec![1.0, 3.0, 3.0])]
            }),
            ("integer convolution", |b| {
                let (x, w) = (b.input(&[1, 1, 3, 1], &[11u8, 12, 9]), b.input(&[1, 1, 1, 2], &[1i8, 2]));
                let zero = b.input(&[], &[10u8]);
                let conv = Conv { fusion: Fusion::default(), ..image_conv(1) };
                let y = b.node(Operator::ConvInteger(ConvInteger { conv }), &[x, w, zero]);
                vec![(y, vec![2.0, 5.0, 0.0])]
            }),
        ],
    );
}

#[test]
fn half_precision() {
    check(
        HALF,
        [
            ("product and function", |b| {
                let halves = |values: &[f32]| values.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>();
                let x = b.input(&[1, 2], &halves(&[0.5, -1.5]));
                let w = b.constant(&[2, 2], &halves(&[1.0, 2.0, 0.25, -1.0]));
                let op =
                    MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
                let y = b.node(Operator::MatMul(op), &[x, w]);
                let z = b.unary(Unary::Exp, y);
                let sum = b.binary(Binary::Add, y, z);
                let (p, q) = (0.125f32, 2.5f32);
                vec![(y, vec![p, q]), (sum, vec![p + p.exp(), q + q.exp()])]
            }),
            ("moved alone", |b| {
                let x = b.input(&[2], &[f16::from_f32(0.5), f16::from_f32(2.0)]);
                let op = Operator::Concat(optimium_graph::ops::Concat { axis: 0 });
                vec![(b.node(op, &[x, x]), vec![0.5, 2.0, 0.5, 2.0])]
            }),
        ],
    );
}

/// A recurrent layer of one input and one unit over three steps, in one direction.
fn recurrent(b: &mut Builder, kind: RecurrentKind, constant: bool) -> Vec<Expected> {
    let values = [0.5f32, -1.0, 2.0];
    let x = b.input(&[3, 1, 1], &values);
    let gates = kind.gates();
    let mut weights = |dims: &[usize]| if constant { b.weights(dims) } else { b.random(dims) };
    let ((w, u), (r, s)) = (weights(&[1, gates, 1]), weights(&[1, gates, 1]));
    let (bias, c) = weights(&[1, 2 * gates]);
    let op = Recurrent {
        kind,
        hidden_size: 1,
        direction: Direction::Forward,
        activations: vec![],
        clip: None,
        linear_before_reset: false,
        input_forget: false,
        batch_first: false,
    };
    let results = b.nodes(Operator::Recurrent(op), vec![Some(x), Some(w), Some(r), Some(bias)], 2);
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    let (mut h, mut cell, mut all) = (0.0f32, 0.0f32, Vec::new());
    for x in values {
        let gate = |i: usize, h: f32| u[i] * x + s[i] * h + c[i] + c[gates + i];
        h = match kind {
            RecurrentKind::Rnn => gate(0, h).tanh(),
            RecurrentKind::Gru => {
                let (z, r) = (sigmoid(gate(0, h)), sigmoid(gate(1, h)));
                (1.0 - z) * gate(2, r * h).tanh() + z * h
            }
            RecurrentKind::Lstm => {
                cell = sigmoid(gate(2, h)) * cell + sigmoid(gate(0, h)) * gate(3, h).tanh();
                sigmoid(gate(1, h)) * cell.tanh()
            }
        };
        all.push(h);
    }
    vec![(results[0], map(&all, |x| x)), (results[1], vec![h])]
}

#[test]
fn recurrent_layers() {
    check(
        APPROXIMATE,
        [
            ("RNN", |b| recurrent(b, RecurrentKind::Rnn, true)),
            ("GRU", |b| recurrent(b, RecurrentKind::Gru, true)),
            ("LSTM", |b| recurrent(b, RecurrentKind::Lstm, true)),
            ("RNN, computed weights", |b| recurrent(b, RecurrentKind::Rnn, false)),
            ("GRU, computed weights", |b| recurrent(b, RecurrentKind::Gru, false)),
            ("LSTM, computed weights", |b| recurrent(b, RecurrentKind::Lstm, false)),
        ],
    );
}
