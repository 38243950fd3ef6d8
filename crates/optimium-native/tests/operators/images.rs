//! Convolutions, pools and resizing, in all their forms.

use optimium_graph::ops::{
    Activation, AveragePool, Conv, ConvTranspose, CoordinateMode, DepthToSpace, Fusion, ImageLayout, LpPool,
    MaxPool, NearestMode, Padding, PoolWindow, Resize, ResizeMode, SpaceToDepth,
};
use optimium_graph::{Operator, ValueId};
use optimium_testing::{Random, Tolerance};

use super::harness::{Builder, Expected, ROUNDED, check, indices, map, place};

/// A convolution over any number of dimensions, channels last, and its operands.
struct Case {
    batch: usize,
    input: Vec<usize>,
    channels: [usize; 2],
    kernel: Vec<usize>,
    stride: usize,
    dilation: usize,
    groups: usize,
    padding: Padding,
}

impl Case {
    fn new(input: &[usize], channels: [usize; 2], kernel: &[usize]) -> Case {
        let (input, kernel) = (input.to_vec(), kernel.to_vec());
        Case { batch: 2, input, channels, kernel, stride: 1, dilation: 1, groups: 1, padding: Padding::Valid }
    }

    fn extent(&self, axis: usize) -> usize {
        (self.kernel[axis] - 1) * self.dilation + 1
    }

    fn output(&self) -> Vec<usize> {
        let size = |axis: usize| match &self.padding {
            Padding::SameUpper | Padding::SameLower => self.input[axis].div_ceil(self.stride),
            Padding::Explicit { begin, end } => {
                (self.input[axis] + begin[axis] + end[axis] - self.extent(axis)) / self.stride + 1
            }
            Padding::Valid => (self.input[axis] - self.extent(axis)) / self.stride + 1,
        };
        (0..self.input.len()).map(size).collect()
    }

    fn begin(&self, axis: usize) -> usize {
        let needed = (self.output()[axis] - 1) * self.stride + self.extent(axis);
        let total = needed.saturating_sub(self.input[axis]);
        match &self.padding {
            Padding::Explicit { begin, .. } => begin[axis],
            Padding::Valid => 0,
            Padding::SameUpper => total / 2,
            Padding::SameLower => total.div_ceil(2),
        }
    }

    fn dims(&self, sizes: &[usize], channels: usize) -> Vec<usize> {
        [&[self.batch], sizes, &[channels]].concat()
    }

    fn weight_dims(&self) -> Vec<usize> {
        [&[self.channels[1], self.channels[0] / self.groups], self.kernel.as_slice()].concat()
    }

    fn expected(&self, x: &[f32], w: &[f32], bias: &[f32]) -> Vec<f32> {
        let (output, groups) = (self.output(), self.groups);
        let [inputs, outputs] = self.channels.map(|channels| channels / groups);
        let x_dims = self.dims(&self.input, self.channels[0]);
        let at = |index: &Vec<usize>| {
            let (image, channel) = (index[0], index[index.len() - 1]);
            let mut sum = bias[channel];
            for tap in indices(&self.kernel) {
                let source: Option<Vec<usize>> = (0..tap.len())
                    .map(|axis| {
                        let at = index[axis + 1] * self.stride + tap[axis] * self.dilation;
                        at.checked_sub(self.begin(axis)).filter(|&at| at < self.input[axis])
                    })
                    .collect();
                let Some(source) = source else { continue };
                for i in 0..inputs {
                    let from = [&[image], source.as_slice(), &[channel / outputs * inputs + i]].concat();
                    let weight = [&[channel, i], tap.as_slice()].concat();
                    sum += x[place(&from, &x_dims)] * w[place(&weight, &self.weight_dims())];
                }
            }
            sum
        };
        indices(&self.dims(&output, self.channels[1])).iter().map(at).collect()
    }

    fn op(&self, fusion: Fusion) -> Operator {
        Operator::Conv(Conv {
            layout: ImageLayout::ChannelsLast,
            strides: vec![self.stride; self.input.len()],
            dilations: vec![self.dilation; self.input.len()],
            groups: self.groups,
            padding: self.padding.clone(),
            fusion,
        })
    }
}

fn operand(b: &mut Builder, dims: &[usize], constant: bool) -> (ValueId, Vec<f32>) {
    if constant { b.weights(dims) } else { b.random(dims) }
}

/// Constant weights, and weights that are computed.
fn convolution(b: &mut Builder, case: &Case) -> Vec<Expected> {
    let (x, v) = b.random(&case.dims(&case.input, case.channels[0]));
    [true, false]
        .map(|constant| {
            let (weights, w) = operand(b, &case.weight_dims(), constant);
            let (bias, c) = operand(b, &[case.channels[1]], constant);
            let y = b.node(case.op(Fusion::default()), &[x, weights, bias]);
            (y, case.expected(&v, &w, &c))
        })
        .to_vec()
}

#[test]
fn convolutions() {
    check(
        Tolerance::dot(60),
        [
            ("3x3", |b| convolution(b, &Case::new(&[7, 6], [5, 9], &[3, 3]))),
            ("1x1", |b| convolution(b, &Case::new(&[5, 4], [6, 17], &[1, 1]))),
            ("strided, same size upper", |b| {
                let case = Case::new(&[8, 7], [3, 4], &[3, 2]);
                convolution(b, &Case { stride: 2, padding: Padding::SameUpper, ..case })
            }),
            ("same size lower", |b| {
                convolution(b, &Case { padding: Padding::SameLower, ..Case::new(&[5, 5], [2, 3], &[2, 4]) })
            }),
            ("dilated, padded", |b| {
                let padding = Padding::Explicit { begin: vec![2, 1], end: vec![0, 3] };
                convolution(b, &Case { dilation: 2, padding, ..Case::new(&[7, 8], [4, 3], &[3, 3]) })
            }),
            ("grouped", |b| convolution(b, &Case { groups: 2, ..Case::new(&[5, 6], [4, 6], &[3, 3]) })),
            ("depthwise", |b| {
                let case =
                    Case { groups: 7, padding: Padding::SameUpper, ..Case::new(&[6, 6], [7, 7], &[3, 3]) };
                convolution(b, &case)
            }),
            ("one dimension", |b| convolution(b, &Case { stride: 2, ..Case::new(&[11], [3, 4], &[4]) })),
            ("three dimensions", |b| {
                convolution(
                    b,
                    &Case { padding: Padding::SameUpper, ..Case::new(&[3, 4, 5], [2, 3], &[2, 3, 1]) },
                )
            }),
            ("no image", |b| convolution(b, &Case { batch: 0, ..Case::new(&[5, 4], [2, 3], &[3, 3]) })),
        ],
    );
}

/// A convolution with bias, activation and residual.
fn fused(b: &mut Builder, case: &Case, after: bool, constant: bool) -> Vec<Expected> {
    let (x, v) = b.random(&case.dims(&case.input, case.channels[0]));
    let (weights, w) = operand(b, &case.weight_dims(), constant);
    let (bias, c) = operand(b, &[case.channels[1]], constant);
    let (residual, r) = b.random(&case.dims(&case.output(), case.channels[1]));
    let fusion = Fusion { activation: Activation::Relu, residual_after_activation: after };
    let y = b.node(case.op(fusion), &[x, weights, bias, residual]);
    let finish = |(x, r): (f32, f32)| if after { x.max(0.0) + r } else { (x + r).max(0.0) };
    vec![(y, case.expected(&v, &w, &c).into_iter().zip(r).map(finish).collect())]
}

#[test]
fn fused_behind_convolutions() {
    check(
        Tolerance::dot(60),
        [
            ("before, dense", |b| fused(b, &Case::new(&[5, 6], [4, 9], &[3, 3]), false, true)),
            ("after, dense", |b| fused(b, &Case::new(&[5, 6], [4, 9], &[3, 3]), true, true)),
            ("before, computed weights", |b| fused(b, &Case::new(&[5, 6], [4, 9], &[3, 3]), false, false)),
            ("after, depthwise", |b| {
                fused(b, &Case { groups: 5, ..Case::new(&[5, 6], [5, 5], &[3, 3]) }, true, true)
            }),
            ("before, three dimensions", |b| {
                fused(b, &Case::new(&[3, 4, 3], [2, 5], &[2, 2, 2]), false, true)
            }),
            ("after, three dimensions", |b| {
                fused(b, &Case::new(&[3, 4, 3], [2, 5], &[2, 2, 2]), true, false)
            }),
        ],
    );
}

/// A transposed convolution over that many dimensions of size 3, kernel 2, with gaps between the windows or not.
fn transposed(b: &mut Builder, dimensions: usize, stride: usize) -> Vec<Expected> {
    let (inputs, outputs, size) = (2, 3, 2 * stride + 2);
    let (input, output) = (vec![3; dimensions], vec![size; dimensions]);
    let x_dims = [&[1], input.as_slice(), &[inputs]].concat();
    let y_dims = [&[1], output.as_slice(), &[outputs]].concat();
    let w_dims = [&[inputs, outputs], vec![2; dimensions].as_slice()].concat();
    let (x, v) = b.random(&x_dims);
    let op = Operator::ConvTranspose(ConvTranspose {
        layout: ImageLayout::ChannelsLast,
        strides: vec![stride; dimensions],
        dilations: vec![1; dimensions],
        groups: 1,
        padding: Padding::Valid,
        output_padding: vec![0; dimensions],
        output_shape: None,
        fusion: Fusion::default(),
    });
    [true, false]
        .map(|constant| {
            let (weights, w) = operand(b, &w_dims, constant);
            let mut expected = vec![0.0; y_dims.iter().product()];
            for (from, tap) in
                indices(&x_dims).iter().flat_map(|x| indices(&w_dims[2..]).into_iter().map(move |t| (x, t)))
            {
                let i = from[dimensions + 1];
                for o in 0..outputs {
                    let at: Vec<usize> = (0..dimensions).map(|d| from[d + 1] * stride + tap[d]).collect();
                    let weight = w[place(&[&[i, o], tap.as_slice()].concat(), &w_dims)];
                    expected[place(&[&[0], at.as_slice(), &[o]].concat(), &y_dims)] +=
                        v[place(from, &x_dims)] * weight;
                }
            }
            (b.node(op.clone(), &[x, weights]), expected)
        })
        .to_vec()
}

#[test]
fn transposed_convolutions() {
    check(
        ROUNDED,
        [
            ("one dimension", |b| transposed(b, 1, 2)),
            ("two dimensions", |b| transposed(b, 2, 1)),
            ("two dimensions, wide", |b| transposed(b, 2, 3)),
            ("three dimensions", |b| transposed(b, 3, 2)),
        ],
    );
}

fn window(layout: ImageLayout, dimensions: usize) -> PoolWindow {
    PoolWindow {
        layout,
        kernel: vec![2; dimensions],
        strides: vec![1; dimensions],
        dilations: vec![1; dimensions],
        padding: Padding::Explicit { begin: vec![1; dimensions], end: vec![0; dimensions] },
        ceil_mode: false,
    }
}

/// Folds the windows of images over `sizes` with channels first, of one channel.
fn pooled(x: &[f32], sizes: &[usize], fold: impl Fn(&[f32]) -> f32) -> Vec<f32> {
    let of_window = |at: &Vec<usize>| {
        let taps = indices(&vec![2; sizes.len()]);
        let from = |tap: &Vec<usize>| {
            let index: Option<Vec<usize>> = at.iter().zip(tap).map(|(a, t)| (a + t).checked_sub(1)).collect();
            index.map(|index| x[place(&index, sizes)])
        };
        fold(&taps.iter().filter_map(from).collect::<Vec<_>>())
    };
    indices(sizes).iter().map(of_window).collect()
}

fn mean(window: &[f32]) -> f32 {
    window.iter().sum::<f32>() / window.len() as f32
}

fn largest(window: &[f32]) -> f32 {
    window.iter().copied().fold(f32::NEG_INFINITY, f32::max)
}

#[test]
fn pools() {
    use ImageLayout::{ChannelsFirst, ChannelsLast};
    fn with<const N: usize>(b: &mut Builder, layout: ImageLayout, sizes: [usize; N]) -> Vec<Expected> {
        let dims = match layout {
            ChannelsFirst => [&[1, 1], sizes.as_slice()].concat(),
            ChannelsLast => [&[1], sizes.as_slice(), &[1]].concat(),
        };
        let (x, v) = b.random(&dims);
        let window = window(layout, N);
        let max = b.node(Operator::MaxPool(MaxPool { window: window.clone(), column_major: false }), &[x]);
        let average = Operator::AveragePool(AveragePool { window, count_include_pad: false });
        let average = b.node(average, &[x]);
        vec![(max, pooled(&v, &sizes, largest)), (average, pooled(&v, &sizes, mean))]
    }
    check(
        ROUNDED,
        [
            ("one dimension", |b| with(b, ChannelsLast, [9])),
            ("two dimensions", |b| with(b, ChannelsLast, [4, 5])),
            ("three dimensions", |b| with(b, ChannelsFirst, [3, 4, 5])),
            ("with indices", |b| {
                let x = b.input(&[1, 1, 1, 4], &[1.0f32, 5.0, 2.0, 3.0]);
                let window =
                    PoolWindow { kernel: vec![1, 2], padding: Padding::Valid, ..window(ChannelsFirst, 2) };
                let op = Operator::MaxPool(MaxPool { window, column_major: false });
                let results = b.nodes(op, vec![Some(x)], 2);
                vec![(results[0], vec![5.0, 5.0, 3.0]), (results[1], vec![1.0, 1.0, 3.0])]
            }),
            ("norms", |b| {
                let (x, v) = b.random(&[1, 1, 3, 4]);
                let op = Operator::LpPool(LpPool { window: window(ChannelsFirst, 2), p: 2 });
                let norm = |window: &[f32]| window.iter().map(|x| x * x).sum::<f32>().sqrt();
                vec![(b.node(op, &[x]), pooled(&v, &[3, 4], norm))]
            }),
            ("bytes", |b| {
                let x = b.input(&[1, 3, 1], &[1i8, -5, -2]);
                let op = MaxPool { window: window(ChannelsLast, 1), column_major: false };
                vec![(b.node(Operator::MaxPool(op), &[x]), vec![1.0, 1.0, -2.0])]
            }),
        ],
    );
}

fn resize(mode: ResizeMode, coordinates: CoordinateMode) -> Operator {
    Operator::Resize(Resize {
        axes: Some(vec![1]),
        mode,
        coordinates,
        exclude_outside: false,
        extrapolation_value: 9.0,
        antialias: false,
        keep_aspect_ratio: 0,
    })
}

/// A resize to a declared shape, whose operands are constants or inputs.
fn resized(b: &mut Builder, constant: bool) -> Vec<Expected> {
    let x = b.input(&[1, 4], &[1.0f32, 2.0, 3.0, 4.0]);
    let operand = |b: &mut Builder, values: &[f32]| {
        if constant { b.constant(&[values.len()], values) } else { b.input(&[values.len()], values) }
    };
    let (scales, region) = (operand(b, &[0.6]), operand(b, &[0.0, 2.0]));
    let sizes = b.constant(&[1], &[3i64]);
    let linear = resize(ResizeMode::Linear, CoordinateMode::HalfPixel);
    let smaller = b.nodes(linear, vec![Some(x), None, Some(scales)], 1)[0];
    if !constant {
        let declared = optimium_graph::ValueType::Tensor {
            element_type: optimium_tensor::ElementType::F32,
            shape: Some(optimium_tensor::TensorShape::fixed(&[1, 2])),
        };
        b.graph.value_mut(smaller).value_type = declared;
    }
    let crop = resize(ResizeMode::Linear, CoordinateMode::TfCropAndResize);
    let cropped = b.nodes(crop, vec![Some(x), Some(region), None, Some(sizes)], 1)[0];
    // (i + 1/2) / 0.6 - 1/2 = 1/3, 2; i · 2 · 3 / 2 = 0, 3, 6, of which 6 lies outside.
    vec![(smaller, vec![4.0 / 3.0, 3.0]), (cropped, vec![1.0, 4.0, 9.0])]
}

#[test]
fn resizing() {
    check(
        ROUNDED,
        [
            ("by constants", |b| resized(b, true)),
            ("by data", |b| resized(b, false)),
            ("nearest, bytes", |b| {
                let x = b.input(&[1, 2], &[7u8, 9]);
                let sizes = b.constant(&[1], &[5i64]);
                let nearest = ResizeMode::Nearest(NearestMode::Floor);
                let op = resize(nearest, CoordinateMode::Asymmetric);
                let y = b.nodes(op, vec![Some(x), None, None, Some(sizes)], 1)[0];
                vec![(y, vec![7.0, 7.0, 7.0, 9.0, 9.0])]
            }),
        ],
    );
}

#[test]
fn depth_and_space() {
    fn both(b: &mut Builder, layout: ImageLayout, column_row_depth: bool) -> Vec<Expected> {
        let (n, depth, h, w, k) = (2, 3, 2, 3, 2);
        let channels = depth * k * k;
        let ends = |c: usize, h: usize, w: usize| match layout {
            ImageLayout::ChannelsFirst => [n, c, h, w],
            ImageLayout::ChannelsLast => [n, h, w, c],
        };
        let at = |i: usize, c: usize, y: usize, x: usize, dims: [usize; 4]| match layout {
            ImageLayout::ChannelsFirst => place(&[i, c, y, x], &dims),
            ImageLayout::ChannelsLast => place(&[i, y, x, c], &dims),
        };
        let (deep, wide) = (ends(channels, h, w), ends(depth, h * k, w * k));
        let values = Random::new(1).floats(n * channels * h * w);
        let mut expected = vec![0.0; values.len()];
        for index in indices(&[n, k, k, depth, h, w]) {
            let [i, p, q, c, y, x] = index[..] else { continue };
            let channel = if column_row_depth { (c * k + p) * k + q } else { (p * k + q) * depth + c };
            expected[at(i, c, y * k + p, x * k + q, wide)] = values[at(i, channel, y, x, deep)];
        }
        let x = b.input(&deep, &values);
        let op = DepthToSpace { layout, block: k, column_row_depth };
        let spread = b.node(Operator::DepthToSpace(op), &[x]);
        let mut results = vec![(spread, expected)];
        if !column_row_depth {
            let back = b.node(Operator::SpaceToDepth(SpaceToDepth { layout, block: k }), &[spread]);
            results.push((back, map(&values, |x| x)));
        }
        results
    }
    check(
        Tolerance::Exact,
        [
            ("channels first", |b| both(b, ImageLayout::ChannelsFirst, false)),
            ("channels first, columns first", |b| both(b, ImageLayout::ChannelsFirst, true)),
            ("channels last", |b| both(b, ImageLayout::ChannelsLast, false)),
            ("channels last, columns first", |b| both(b, ImageLayout::ChannelsLast, true)),
        ],
    );
}
