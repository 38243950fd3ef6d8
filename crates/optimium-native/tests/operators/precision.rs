//! Products and convolutions with bfloat16 factors. Factors that are bfloat16 already lose nothing, whatever a level has.

use optimium_device::Precision;
use optimium_graph::Operator;
use optimium_graph::ops::{Conv, Fusion, ImageLayout, MatMul, Padding};
use optimium_testing::{Tolerance, each_case};

use super::harness::{Builder, Expected, map};

/// The nearest bfloat16 towards zero.
fn cut(x: f32) -> f32 {
    f32::from_bits(x.to_bits() & 0xffff_0000)
}

fn product(b: &mut Builder, [m, k, n]: [usize; 3]) -> Vec<Expected> {
    let (left, right) = (map(&b.floats(&[m, k]), cut), map(&b.floats(&[k, n]), cut));
    let (x, w) = (b.input(&[m, k], &left), b.constant(&[k, n], &right));
    let op = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
    let element = |at: usize| (0..k).map(|j| left[at / n * k + j] * right[j * n + at % n]).sum();
    vec![(b.node(Operator::MatMul(op), &[x, w]), (0..m * n).map(element).collect())]
}

/// A convolution of a 9×9 image without padding, with a kernel of that size and that stride.
fn convolution(
    b: &mut Builder,
    [inputs, outputs]: [usize; 2],
    kernel: usize,
    stride: usize,
) -> Vec<Expected> {
    let (size, taps) = (9, kernel * kernel);
    let image = map(&b.floats(&[size, size, inputs]), cut);
    let weights = map(&b.floats(&[outputs, inputs, kernel, kernel]), cut);
    let x = b.input(&[1, size, size, inputs], &image);
    let w = b.constant(&[outputs, inputs, kernel, kernel], &weights);
    let op = Conv {
        strides: vec![stride; 2],
        dilations: vec![1; 2],
        groups: 1,
        padding: Padding::Valid,
        layout: ImageLayout::ChannelsLast,
        fusion: Fusion::default(),
    };
    let side = (size - kernel) / stride + 1;
    let element = |at: usize| {
        let (output, pixel) = (at % outputs, at / outputs);
        let (down, across) = (pixel / side * stride, pixel % side * stride);
        let factor = |tap: usize, input: usize| {
            let (y, x) = (down + tap / kernel, across + tap % kernel);
            image[(y * size + x) * inputs + input] * weights[(output * inputs + input) * taps + tap]
        };
        (0..taps * inputs).map(|i| factor(i / inputs, i % inputs)).sum()
    };
    let expected = (0..side * side * outputs).map(element).collect();
    vec![(b.node(Operator::Conv(op), &[x, w]), expected)]
}

#[test]
fn factors_of_bfloat16_lose_nothing() {
    let cases: [(&str, fn(&mut Builder) -> Vec<Expected>); 6] = [
        ("a product", |b| product(b, [37, 70, 33])),
        ("a product with one row", |b| product(b, [1, 130, 64])),
        ("a large product", |b| product(b, [300, 65, 100])),
        ("a convolution of one tap", |b| convolution(b, [40, 70], 1, 1)),
        ("a convolution", |b| convolution(b, [24, 70], 3, 1)),
        ("a convolution with a stride", |b| convolution(b, [33, 64], 3, 2)),
    ];
    each_case(cases, |(_, build)| {
        let mut builder = Builder::new();
        let expected = build(&mut builder);
        builder.check_at(Precision::Bf16, &expected, Tolerance::dot(300))
    });
}
