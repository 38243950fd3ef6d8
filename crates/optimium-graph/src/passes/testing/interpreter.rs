//! Naive operators on `f32`, element by element: what passes are checked against.

use std::collections::HashMap;

use optimium_tensor::TensorShape;

use crate::ops::{
    Activation, Attention, Binary, Conv, Fusion, ImageLayout, MatMul, Padding, Reduce, Reduction,
    RotaryEmbedding, Softmax, Unary,
};
use crate::{Graph, Node, Operator, ValueId};

type Outcome<T> = Result<T, String>;

/// Runs graphs of the operators it knows.
pub(in super::super) struct Interpreter;

/// Numbers in a row-major shape.
#[derive(Clone, Debug)]
struct Array {
    dims: Vec<usize>,
    data: Vec<f32>,
}

impl Array {
    fn from_fn(dims: &[usize], f: impl Fn(&[usize]) -> f32) -> Array {
        let count: usize = dims.iter().product();
        let data = (0..count).map(|flat| f(&unravel(flat, dims))).collect();
        Array { dims: dims.to_vec(), data }
    }

    /// The element at an index, axes of size one broadcast and missing leading ones ignored.
    fn at(&self, index: &[usize]) -> f32 {
        let skipped = index.len() - self.dims.len();
        let place = |flat: usize, (&i, &dim): (&usize, &usize)| flat * dim + if dim == 1 { 0 } else { i };
        self.data[index[skipped..].iter().zip(&self.dims).fold(0, place)]
    }

    fn map(&self, f: impl Fn(f32) -> f32) -> Array {
        Array { dims: self.dims.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    fn zip(&self, other: &Array, f: impl Fn(f32, f32) -> f32) -> Array {
        let rank = self.dims.len().max(other.dims.len());
        let dim = |array: &Array, axis: usize| {
            (axis + array.dims.len()).checked_sub(rank).map_or(1, |axis| array.dims[axis])
        };
        let dims: Vec<usize> = (0..rank).map(|axis| dim(self, axis).max(dim(other, axis))).collect();
        Array::from_fn(&dims, |index| f(self.at(index), other.at(index)))
    }

    fn transposed(&self, permutation: &[usize]) -> Array {
        let dims: Vec<usize> = permutation.iter().map(|&axis| self.dims[axis]).collect();
        Array::from_fn(&dims, |index| {
            let mut source = vec![0; index.len()];
            permutation.iter().zip(index).for_each(|(&axis, &i)| source[axis] = i);
            self.at(&source)
        })
    }
}

fn unravel(mut flat: usize, dims: &[usize]) -> Vec<usize> {
    let mut index = vec![0; dims.len()];
    for axis in (0..dims.len()).rev() {
        index[axis] = flat % dims[axis];
        flat /= dims[axis];
    }
    index
}

impl Interpreter {
    /// The graph's outputs.
    pub(in super::super) fn run(
        graph: &Graph,
        inputs: &HashMap<ValueId, Vec<f32>>,
    ) -> Outcome<Vec<Vec<f32>>> {
        let mut arrays: HashMap<ValueId, Array> = HashMap::new();
        for index in 0..graph.values().len() {
            let id = ValueId::from_index(index);
            let dims = || graph.value(id).shape().and_then(TensorShape::as_fixed);
            if let Some(tensor) = graph.constant(id) {
                let integers =
                    || tensor.to_i64s().map(|values| values.into_iter().map(|x| x as f32).collect());
                let data = tensor.to_f32s().or_else(|_| integers()).map_err(|error| error.to_string())?;
                arrays.insert(id, Array { dims: tensor.dims().to_vec(), data });
            } else if let (Some(data), Some(dims)) = (inputs.get(&id), dims()) {
                arrays.insert(id, Array { dims, data: data.clone() });
            }
        }
        for node in graph.nodes() {
            let output = node.output(0).ok_or("no output")?;
            let result = compute(node, &arrays).map_err(|error| format!("{}: {error}", node.op.name()))?;
            if let Some(dims) = graph.value(output).shape().and_then(TensorShape::as_fixed)
                && dims != result.dims
            {
                return Err(format!("{} gives {:?}, not {dims:?}", node.op.name(), result.dims));
            }
            arrays.insert(output, result);
        }
        graph.outputs.iter().map(|id| Ok(arrays.get(id).ok_or("no result")?.data.clone())).collect()
    }
}

fn compute(node: &Node, arrays: &HashMap<ValueId, Array>) -> Outcome<Array> {
    let given = |index: usize| node.input(index).and_then(|id| arrays.get(&id));
    let need = |index: usize| given(index).ok_or_else(|| format!("no input {index}"));
    let x = need(0)?;
    Ok(match &node.op {
        Operator::Identity | Operator::Cast(_) => x.clone(),
        Operator::Unary { function } => x.map(|x| unary(*function, x)),
        Operator::Clip => {
            let (low, high) = (given(1).map(|low| low.data[0]), given(2).map(|high| high.data[0]));
            x.map(|x| activation(Activation::Clip { low, high }, x, 0.0))
        }
        Operator::Shape(_) => {
            Array { dims: vec![x.dims.len()], data: x.dims.iter().map(|&dim| dim as f32).collect() }
        }
        Operator::Activation { function } => x.map(|x| activation(*function, x, 0.0)),
        Operator::Binary { function } => x.zip(need(1)?, |a, b| binary(*function, a, b)),
        Operator::Where => {
            let on = x.zip(need(1)?, |chosen, on| chosen * on);
            let off = x.zip(need(2)?, |chosen, off| (1.0 - chosen) * off);
            on.zip(&off, |on, off| on + off)
        }
        Operator::Transpose(transpose) => x.transposed(&transpose.permutation),
        Operator::Reshape(_) | Operator::Expand(_) | Operator::Flatten(_) => reshape(node, x)?,
        Operator::Concat(concat) => {
            let parts: Vec<&Array> = (0..node.inputs.len()).map(need).collect::<Outcome<_>>()?;
            concatenate(&parts, place(concat.axis, x.dims.len()))
        }
        Operator::Slice(slice) => {
            let mut result = x.clone();
            for range in slice.ranges.as_ref().ok_or("ranges")? {
                let number = |e: &optimium_tensor::Expr| e.as_const().unwrap_or_default();
                let (start, count) = (number(&range.start), number(&range.count) as usize);
                let mut dims = result.dims.clone();
                dims[range.axis] = count;
                result = Array::from_fn(&dims, |index| {
                    let mut from = index.to_vec();
                    from[range.axis] = (start + range.step * index[range.axis] as i64) as usize;
                    result.at(&from)
                });
            }
            result
        }
        Operator::Reduce(op) => reduce(op, x)?,
        Operator::Softmax(op) => softmax(op, x),
        Operator::RotaryEmbedding(op) => rotary(op, x, [need(1)?, need(2)?])?,
        Operator::Attention(op) => attention(op, [x, need(1)?, need(2)?], given(3)),
        Operator::LayerNormalization(op) => normalize(x, op.axis, op.epsilon, true, given(1), given(2)),
        Operator::RmsNormalization(op) => normalize(x, op.axis, op.epsilon, false, given(1), None),
        Operator::BatchNormalization(op) => {
            batch_normalize(op.layout, op.epsilon, x, &[need(1)?, need(2)?, need(3)?, need(4)?])
        }
        Operator::Gemm(op) => {
            let matmul = MatMul {
                transpose_a: op.transpose_a,
                transpose_b: op.transpose_b,
                alpha: op.alpha,
                fusion: Fusion::default(),
            };
            let product = matrix_product(&matmul, x, need(1)?);
            given(2).map_or(product.clone(), |c| product.zip(c, |p, c| p + op.beta * c))
        }
        Operator::MatMul(op) => {
            let product = matrix_product(op, x, need(1)?);
            let axis = product.dims.len() - 1;
            finish(product, axis, op.fusion, [given(2), given(3), given(4)])
        }
        Operator::Conv(op) => {
            let result = convolution(op, x, need(1)?)?;
            let axis = op.layout.channel_axis(x.dims.len());
            finish(result, axis, op.fusion, [given(2), given(3), given(4)])
        }
        Operator::Pad(op) => pad(op, x, given(2).map_or(0.0, |value| value.data[0]))?,
        other => return Err(format!("{} is not interpreted", other.name())),
    })
}

/// Halves turned by angles given for each element.
fn rotary(op: &RotaryEmbedding, x: &Array, [cos, sin]: [&Array; 2]) -> Outcome<Array> {
    let &[_, _, _, size] = &x.dims[..] else { return Err("heads without an axis".into()) };
    if *op != (RotaryEmbedding { heads: None, size: None, interleaved: false }) || cos.dims[2] != size {
        return Err("another form".into());
    }
    let other = |i: usize| if i < size / 2 { (i + size / 2, -1.0) } else { (i - size / 2, 1.0) };
    Ok(Array::from_fn(&x.dims, |i| {
        let ((partner, sign), at) = (other(i[3]), [i[0], i[2], i[3]]);
        x.at(i) * cos.at(&at) + sign * x.at(&[i[0], i[1], i[2], partner]) * sin.at(&at)
    }))
}

/// Attention without a cache, with a mask of truth values where there is a masked score.
fn attention(op: &Attention, qkv: [&Array; 3], mask: Option<&Array>) -> Array {
    let separated = |x: &Array, heads: Option<usize>| match (heads, &x.dims[..]) {
        (Some(heads), &[batch, length, width]) => {
            let dims = vec![batch, length, heads, width / heads];
            Array { dims, data: x.data.clone() }.transposed(&[0, 2, 1, 3])
        }
        _ => x.clone(),
    };
    let [q, k, v] = qkv;
    let q = separated(q, op.query_heads);
    let (k, v) = (separated(k, op.key_heads), separated(v, op.value_heads));
    let group = q.dims[1] / k.dims[1];
    let repeated = |x: &Array| {
        let dims = [x.dims[0], q.dims[1], x.dims[2], x.dims[3]];
        Array::from_fn(&dims, |i| x.at(&[i[0], i[1] / group, i[2], i[3]]))
    };
    let product = |transpose_b: bool, alpha: f32| MatMul {
        transpose_a: false,
        transpose_b,
        alpha,
        fusion: Fusion::default(),
    };
    let scale = op.scale.unwrap_or(1.0 / (q.dims[3] as f32).sqrt());
    let scores = matrix_product(&product(true, scale), &q, &repeated(&k));
    let seen = |score: f32, mask: f32| match op.masked_score {
        Some(masked) if mask == 0.0 => masked,
        Some(_) => score,
        None => score + mask,
    };
    let scores = mask.map_or(scores.clone(), |mask| scores.zip(mask, seen));
    let weights = softmax(&Softmax { axis: -1, log: false, flatten: false }, &scores);
    let y = matrix_product(&product(false, 1.0), &weights, &repeated(&v));
    if op.merged != Some(true) {
        return y;
    }
    let y = y.transposed(&[0, 2, 1, 3]);
    Array { dims: vec![y.dims[0], y.dims[1], y.dims[2] * y.dims[3]], data: y.data }
}

fn place(axis: i64, rank: usize) -> usize {
    (if axis < 0 { axis + rank as i64 } else { axis }) as usize
}

fn reshape(node: &Node, x: &Array) -> Outcome<Array> {
    let numbers = |dims: &Option<Vec<optimium_tensor::Expr>>| {
        let dims = dims.clone().map(TensorShape::new);
        dims.and_then(|shape| shape.as_fixed()).ok_or("unknown dimensions")
    };
    Ok(match &node.op {
        Operator::Reshape(op) => Array { dims: numbers(&op.dims)?, data: x.data.clone() },
        Operator::Expand(op) => x.zip(&Array::from_fn(&numbers(&op.dims)?, |_| 0.0), |x, _| x),
        Operator::Flatten(op) => {
            let (before, after) = x.dims.split_at(place(op.axis, x.dims.len()));
            Array { dims: vec![before.iter().product(), after.iter().product()], data: x.data.clone() }
        }
        _ => return Err("not a reshape".into()),
    })
}

fn unary(function: Unary, x: f32) -> f32 {
    match function {
        Unary::Neg => -x,
        Unary::Exp => x.exp(),
        Unary::Log => x.ln(),
        Unary::Sqrt => x.sqrt(),
        Unary::Rsqrt => 1.0 / x.sqrt(),
        Unary::Square => x * x,
        Unary::Reciprocal => 1.0 / x,
        Unary::Erf => erf(x),
        Unary::Not => f32::from(u8::from(x == 0.0)),
        other => unreachable!("{other:?} is in no test"),
    }
}

/// The series of the error function, for small arguments.
fn erf(x: f32) -> f32 {
    let x = f64::from(x);
    let mut term = x;
    let mut sum = x;
    for n in 1..60 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    (sum * 2.0 / std::f64::consts::PI.sqrt()) as f32
}

fn activation(function: Activation, x: f32, slope: f32) -> f32 {
    let softplus = |x: f32| (1.0 + x.exp()).ln();
    let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
    match function {
        Activation::None => x,
        Activation::Relu => x.max(0.0),
        Activation::Clip { low, high } => x.max(low.unwrap_or(f32::MIN)).min(high.unwrap_or(f32::MAX)),
        Activation::LeakyRelu { alpha } => {
            if x > 0.0 {
                x
            } else {
                alpha * x
            }
        }
        Activation::PRelu => {
            if x > 0.0 {
                x
            } else {
                slope * x
            }
        }
        Activation::Sigmoid => sigmoid(x),
        Activation::HardSigmoid { alpha, beta } => (alpha * x + beta).clamp(0.0, 1.0),
        Activation::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x / 2.0 * (1.0 + erf(x / 2f32.sqrt())),
        Activation::GeluTanh => {
            let inner = (2.0 / std::f32::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
            x / 2.0 * (1.0 + inner.tanh())
        }
        Activation::Tanh => x.tanh(),
        Activation::Elu { alpha } => {
            if x > 0.0 {
                x
            } else {
                alpha * (x.exp() - 1.0)
            }
        }
        Activation::Softplus => softplus(x),
        Activation::Mish => x * softplus(x).tanh(),
    }
}

fn binary(function: Binary, a: f32, b: f32) -> f32 {
    match function {
        Binary::Add => a + b,
        Binary::Sub => a - b,
        Binary::Mul => a * b,
        Binary::Div => a / b,
        Binary::Pow => a.powf(b),
        Binary::Min => a.min(b),
        Binary::Max => a.max(b),
        Binary::SquaredDifference => (a - b) * (a - b),
        Binary::PRelu => {
            if a > 0.0 {
                a
            } else {
                a * b
            }
        }
        other => unreachable!("{other:?} is in no test"),
    }
}

fn concatenate(parts: &[&Array], axis: usize) -> Array {
    let mut dims = parts[0].dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    Array::from_fn(&dims, |index| {
        let mut index = index.to_vec();
        for part in parts {
            if index[axis] < part.dims[axis] {
                return part.at(&index);
            }
            index[axis] -= part.dims[axis];
        }
        f32::NAN
    })
}

fn reduce(op: &Reduce, x: &Array) -> Outcome<Array> {
    let rank = x.dims.len();
    let axes = op.axes.as_ref().ok_or("axes")?.iter().map(|&axis| place(axis, rank)).collect::<Vec<_>>();
    let kept: Vec<usize> =
        (0..rank).map(|axis| if axes.contains(&axis) { 1 } else { x.dims[axis] }).collect();
    let strides = |axis: usize| kept[axis + 1..].iter().product::<usize>();
    let mut groups: Vec<Vec<f32>> = vec![Vec::new(); kept.iter().product()];
    for (flat, &value) in x.data.iter().enumerate() {
        let index = unravel(flat, &x.dims);
        let target: usize =
            (0..rank).map(|axis| if kept[axis] == 1 { 0 } else { index[axis] * strides(axis) }).sum();
        groups[target].push(value);
    }
    let data = groups
        .iter()
        .map(|group| match op.reduction {
            Reduction::Sum => group.iter().sum::<f32>(),
            Reduction::Mean => group.iter().sum::<f32>() / group.len() as f32,
            _ => group.iter().copied().fold(f32::MIN, f32::max),
        })
        .collect();
    let removed = (0..rank).filter(|axis| !axes.contains(axis)).map(|axis| x.dims[axis]).collect();
    Ok(Array { dims: if op.keep_dims { kept } else { removed }, data })
}

fn softmax(op: &Softmax, x: &Array) -> Array {
    let exponentials = x.map(f32::exp);
    let sum = Reduce {
        reduction: Reduction::Sum,
        axes: Some(vec![op.axis]),
        keep_dims: true,
        noop_with_empty_axes: false,
    };
    let sums = reduce(&sum, &exponentials).unwrap_or_else(|_| exponentials.clone());
    exponentials.zip(&sums, |e, sum| e / sum)
}

fn normalize(
    x: &Array,
    axis: i64,
    epsilon: f32,
    centred: bool,
    scale: Option<&Array>,
    bias: Option<&Array>,
) -> Array {
    let length: usize = x.dims[place(axis, x.dims.len())..].iter().product();
    let mut result = x.clone();
    for row in result.data.chunks_mut(length) {
        let mean = if centred { row.iter().sum::<f32>() / length as f32 } else { 0.0 };
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / length as f32;
        row.iter_mut().for_each(|x| *x = (*x - mean) / (variance + epsilon).sqrt());
    }
    let scaled = scale.map_or(result.clone(), |scale| result.zip(scale, |x, s| x * s));
    bias.map_or(scaled.clone(), |bias| scaled.zip(bias, |x, b| x + b))
}

fn batch_normalize(layout: ImageLayout, epsilon: f32, x: &Array, parameters: &[&Array; 4]) -> Array {
    let axis = layout.channel_axis(x.dims.len());
    Array::from_fn(&x.dims, |index| {
        let [scale, bias, mean, variance] = parameters.map(|parameter| parameter.data[index[axis]]);
        (x.at(index) - mean) / (variance + epsilon).sqrt() * scale + bias
    })
}

fn matrix_product(op: &MatMul, a: &Array, b: &Array) -> Array {
    let swapped = |x: &Array, swap: bool| {
        let rank = x.dims.len();
        let permutation: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        if swap { x.transposed(&permutation) } else { x.clone() }
    };
    let (a, b) = (swapped(a, op.transpose_a), swapped(b, op.transpose_b));
    let rank = a.dims.len().max(b.dims.len());
    let dim = |x: &Array, axis: usize| (axis + x.dims.len()).checked_sub(rank).map_or(1, |axis| x.dims[axis]);
    let mut dims: Vec<usize> = (0..rank).map(|axis| dim(&a, axis).max(dim(&b, axis))).collect();
    dims[rank - 2] = dim(&a, rank - 2);
    dims[rank - 1] = dim(&b, rank - 1);
    Array::from_fn(&dims, |index| {
        let product = |k: usize| {
            let (mut left, mut right) = (index.to_vec(), index.to_vec());
            (left[rank - 1], right[rank - 2]) = (k, k);
            a.at(&left) * b.at(&right)
        };
        op.alpha * (0..dim(&a, rank - 1)).map(product).sum::<f32>()
    })
}

fn convolution(op: &Conv, x: &Array, weights: &Array) -> Outcome<Array> {
    let rank = x.dims.len();
    let Padding::Explicit { begin, end } = &op.padding else { return Err("padding in words".into()) };
    let last: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    let first: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let x = if op.layout == ImageLayout::ChannelsLast { x.transposed(&first) } else { x.clone() };
    let mut dims = vec![x.dims[0], weights.dims[0]];
    for axis in 0..rank - 2 {
        let extent = (weights.dims[axis + 2] - 1) * op.dilations[axis] + 1;
        dims.push((x.dims[axis + 2] + begin[axis] + end[axis] - extent) / op.strides[axis] + 1);
    }
    let (group_in, group_out) = (weights.dims[1], weights.dims[0] / op.groups);
    let result = Array::from_fn(&dims, |index| {
        let taps: usize = weights.dims[1..].iter().product();
        let tap = |flat: usize| {
            let tap = unravel(flat, &weights.dims[1..]);
            let mut from = vec![index[0], index[1] / group_out * group_in + tap[0]];
            for axis in 0..rank - 2 {
                let at = index[axis + 2] * op.strides[axis] + tap[axis + 1] * op.dilations[axis];
                match at.checked_sub(begin[axis]).filter(|&at| at < x.dims[axis + 2]) {
                    Some(at) => from.push(at),
                    None => return 0.0,
                }
            }
            x.at(&from) * weights.data[index[1] * taps + flat]
        };
        (0..taps).map(tap).sum()
    });
    Ok(if op.layout == ImageLayout::ChannelsLast { result.transposed(&last) } else { result })
}

/// Bias, residual and activation.
fn finish(x: Array, axis: usize, fusion: Fusion, [bias, residual, slope]: [Option<&Array>; 3]) -> Array {
    Array::from_fn(&x.dims.clone(), |index| {
        let channel = |vector: Option<&Array>| vector.map_or(0.0, |vector| vector.data[index[axis]]);
        let biased = x.at(index) + channel(bias);
        let other = residual.map_or(0.0, |residual| residual.at(index));
        if fusion.residual_after_activation {
            activation(fusion.activation, biased, channel(slope)) + other
        } else {
            activation(fusion.activation, biased + other, channel(slope))
        }
    })
}

fn pad(op: &crate::ops::Pad, x: &Array, value: f32) -> Outcome<Array> {
    let number = |e: &optimium_tensor::Expr| e.as_const().unwrap_or_default() as usize;
    let pads = op.pads.as_ref().ok_or("pads")?;
    let dims: Vec<usize> =
        x.dims.iter().zip(pads).map(|(&dim, (a, b))| dim + number(a) + number(b)).collect();
    Ok(Array::from_fn(&dims, |index| {
        let from = index
            .iter()
            .zip(pads)
            .zip(&x.dims)
            .map(|((&i, (begin, _)), &dim)| i.checked_sub(number(begin)).filter(|&i| i < dim));
        from.collect::<Option<Vec<usize>>>().map_or(value, |from| x.at(&from))
    }))
}
