//! Products and convolutions with bfloat16 factors. Factors that are bfloat16 already lose nothing, whatever a level has.

use optimium_device::Precision;
use optimium_graph::ops::{Conv, Fusion, ImageLayout, MatMul, Padding};
use optimium_graph::{Operator, ValueId};
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

/// Values between layers that are rounded a few times on their way, relative to ones of order one.
const BETWEEN_LAYERS: Tolerance = Tolerance::Relative(0.02);

/// A convolution of one tap or a depthwise one of nine, with zeros around, of a 9×9 image: the node, and the pixels.
fn layer(
    b: &mut Builder,
    (x, image): (ValueId, &[f32]),
    [inputs, outputs]: [usize; 2],
    depthwise: bool,
    residual: Option<(ValueId, &[f32])>,
) -> (ValueId, Vec<f32>) {
    let (size, groups, kernel) = (9, if depthwise { inputs } else { 1 }, if depthwise { 3 } else { 1 });
    let depth = if depthwise { 9 } else { inputs };
    let weights = map(&b.floats(&[outputs, depth]), |w| w / (depth as f32).sqrt());
    let w = b.constant(&[outputs, inputs / groups, kernel, kernel], &weights);
    let op = Conv {
        strides: vec![1; 2],
        dilations: vec![1; 2],
        groups,
        padding: Padding::SameUpper,
        layout: ImageLayout::ChannelsLast,
        fusion: Fusion::default(),
    };
    let pixel = |y: usize, x: usize, channel: usize| {
        let inside = (1..=size).contains(&y) && (1..=size).contains(&x);
        if inside { image[((y - 1) * size + x - 1) * inputs + channel] } else { 0.0 }
    };
    let element = |at: usize| -> f32 {
        let (output, y, x) = (at % outputs, at / outputs / size, at / outputs % size);
        let sum: f32 = if depthwise {
            (0..9).map(|tap| pixel(y + tap / 3, x + tap % 3, output) * weights[output * 9 + tap]).sum()
        } else {
            (0..inputs).map(|i| pixel(y + 1, x + 1, i) * weights[output * inputs + i]).sum()
        };
        sum + residual.map_or(0.0, |(_, residual)| residual[at])
    };
    let expected = (0..size * size * outputs).map(element).collect();
    let inputs = vec![Some(x), Some(w), None, residual.map(|(id, _)| id)];
    (b.nodes(Operator::Conv(op), inputs, 1)[0], expected)
}

/// Blocks as those of MobileNet, of which the second adds what it reads.
fn blocks(b: &mut Builder, [channels, wide]: [usize; 2]) -> Vec<Expected> {
    let (x, image) = b.random(&[1, 9, 9, channels]);
    let (mut last, mut pixels) = layer(b, (x, &image), [channels, channels], false, None);
    for _ in 0..2 {
        let (inner, inner_pixels) = layer(b, (last, &pixels), [channels, wide], false, None);
        let (deep, deep_pixels) = layer(b, (inner, &inner_pixels), [wide, wide], true, None);
        let residual = Some((last, pixels.as_slice()));
        (last, pixels) = layer(b, (deep, &deep_pixels), [wide, channels], false, residual);
    }
    vec![(last, pixels)]
}

#[test]
fn values_between_layers() {
    let cases: [(&str, fn(&mut Builder) -> Vec<Expected>); 3] = [
        ("pairs of channels", |b| blocks(b, [24, 96])),
        ("channels of one vector", |b| blocks(b, [8, 16])),
        ("an odd number of channels", |b| blocks(b, [21, 65])),
    ];
    each_case(cases, |(_, build)| {
        let mut builder = Builder::new();
        let expected = build(&mut builder);
        builder.check_at(Precision::Bf16, &expected, BETWEEN_LAYERS)
    });
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
