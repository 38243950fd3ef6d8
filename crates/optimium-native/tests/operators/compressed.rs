//! Products and look-ups with weights in few bits.

use half::{bf16, f16};
use optimium_device::CompileOptions;
use optimium_graph::ops::{
    Activation, CompressedGather, CompressedMatMul, CompressedWeights, DequantizeLinear, Fusion, Gather,
    MatMul, WeightEncoding,
};
use optimium_graph::{Operator, ValueId, passes, shapes};
use optimium_native::Native;
use optimium_tensor::Error;
use optimium_testing::{Tolerance, each_case};

use super::harness::{Builder, Expected};

/// Sums whose terms are up to ten times as large as the products, before what they are too large is taken off.
const RAISED: Tolerance = Tolerance::Scaled { epsilon: 1e-5, scale: 10.0 };

/// A matrix of `n` vectors of `k` elements: its constants, and its elements as reals.
struct Matrix {
    weights: CompressedWeights,
    inputs: [Option<ValueId>; 3],
    reals: Vec<f32>,
}

fn matrix(b: &mut Builder, encoding: WeightEncoding, [n, k]: [usize; 2], with_zeros: bool) -> Matrix {
    let floats = b.floats(&[n, k]);
    if encoding == WeightEncoding::Bf16 {
        let stored: Vec<bf16> = floats.iter().map(|&x| bf16::from_f32(x)).collect();
        let weights = CompressedWeights { encoding, k, block_size: 0 };
        let reals = stored.iter().map(|x| x.to_f32()).collect();
        return Matrix { weights, inputs: [Some(b.constant(&[n, k], &stored)), None, None], reals };
    }
    let weights = CompressedWeights { encoding, k, block_size: 16 };
    let (blocks, half) = (weights.blocks(), f32::from(encoding.middle()));
    let bytes = |values: &[f32]| -> Vec<u8> { values.iter().map(|x| ((x + 1.0) * half) as u8).collect() };
    let elements = bytes(&b.floats(&[n, 16 * blocks]));
    let zeros = bytes(&b.floats(&[n, blocks]));
    let scales: Vec<f16> =
        b.floats(&[n, blocks]).iter().map(|x| f16::from_f32((x + 2.0) / 2.0 / half)).collect();
    let real = |at: usize| {
        let (j, i) = (at / k, at % k);
        let block = j * blocks + i / 16;
        let zero = if with_zeros { zeros[block] } else { encoding.middle() };
        (f32::from(elements[j * 16 * blocks + i]) - f32::from(zero)) * scales[block].to_f32()
    };
    let data: Vec<u8> = match encoding {
        WeightEncoding::Int4 => elements.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect(),
        _ => elements.clone(),
    };
    let data = b.constant(&[n, data.len() / n], &data);
    let scales = Some(b.constant(&[n, blocks], &scales));
    let zeros = with_zeros.then(|| b.constant(&[n, blocks], &zeros));
    Matrix { weights, inputs: [Some(data), scales, zeros], reals: (0..n * k).map(real).collect() }
}

fn product(
    b: &mut Builder,
    encoding: WeightEncoding,
    with_zeros: bool,
    [m, n, k]: [usize; 3],
) -> Vec<Expected> {
    let Matrix { weights, inputs, reals } = matrix(b, encoding, [n, k], with_zeros);
    let (a, left) = b.random(&[2, m, k]);
    let (bias, biases) = b.weights(&[n]);
    let (residual, residuals) = b.random(&[2, m, n]);
    let fusion = Fusion { activation: Activation::Relu, residual_after_activation: false };
    let op = Operator::CompressedMatMul(CompressedMatMul { weights, fusion });
    let [data, scales, zeros] = inputs;
    let inputs = vec![Some(a), data, scales, zeros, Some(bias), Some(residual)];
    let element = |at: usize| {
        let (i, j) = (at / n, at % n);
        let sum: f64 = (0..k).map(|p| f64::from(left[i * k + p]) * f64::from(reals[j * k + p])).sum();
        (sum as f32 + biases[j] + residuals[at]).max(0.0)
    };
    vec![(b.nodes(op, inputs, 1)[0], (0..2 * m * n).map(element).collect())]
}

#[test]
fn products_with_compressed_weights() {
    let encodings = WeightEncoding::ALL.into_iter();
    let forms = encodings.flat_map(|encoding| [(encoding, false), (encoding, true)]);
    let cases = forms
        .filter(|&(encoding, zeros)| !zeros || encoding != WeightEncoding::Bf16)
        .flat_map(|form| [[1, 70, 50], [2, 64, 32], [5, 33, 17], [20, 100, 40]].map(|sizes| (form, sizes)));
    each_case(cases, |&((encoding, zeros), sizes)| {
        let mut builder = Builder::new();
        let expected = product(&mut builder, encoding, zeros, sizes);
        builder.check(&expected, RAISED)
    });
}

#[test]
fn look_ups_in_compressed_tables() {
    each_case(WeightEncoding::ALL, |&encoding| {
        let mut b = Builder::new();
        let Matrix { weights, inputs: [data, scales, zeros], reals } =
            matrix(&mut b, encoding, [5, 19], false);
        let indices = b.input(&[2, 2], &[4i64, 0, -2, 3]);
        let op = Operator::CompressedGather(CompressedGather { weights });
        let y = b.nodes(op, vec![data, scales, zeros, Some(indices)], 1)[0];
        let expected = [4, 0, 3, 3].into_iter().flat_map(|j| reals[j * 19..][..19].to_vec()).collect();
        b.check(&[(y, expected)], Tolerance::Exact)
    });
    let mut b = Builder::new();
    let Matrix { weights, inputs: [data, scales, zeros], .. } =
        matrix(&mut b, WeightEncoding::Int4, [5, 19], false);
    let indices = b.input(&[1], &[5i32]);
    let op = Operator::CompressedGather(CompressedGather { weights });
    let y = b.nodes(op, vec![data, scales, zeros, Some(indices)], 1)[0];
    let message = b.failure(y, &CompileOptions::default()).unwrap().to_string();
    assert!(message.contains("outside of an axis"), "{message}");
}

/// An embedding, and a product with the same matrix transposed; its elements are integers that the encoding holds.
fn tied(b: &mut Builder, encoding: WeightEncoding) -> Vec<Expected> {
    let (n, k) = (300, 64);
    // The first of a block has the largest magnitude, from which the scale follows.
    let (first, range) = if encoding == WeightEncoding::Int4 { (-8.0, 7.5) } else { (127.0, 127.5) };
    let random = b.floats(&[n, k]);
    let integer = |at: usize| if at.is_multiple_of(32) { first } else { (random[at] * range).trunc() };
    let table: Vec<f32> = (0..n * k).map(integer).collect();
    let weights = b.constant(&[n, k], &table);
    let indices = b.input(&[3], &[7i64, 0, 299]);
    let rows = b.node(Operator::Gather(Gather { axis: 0 }), &[weights, indices]);
    let op = MatMul { transpose_a: false, transpose_b: true, alpha: 0.5, fusion: Fusion::default() };
    let product = b.node(Operator::MatMul(op), &[rows, weights]);
    let row = |i: usize| &table[[7, 0, 299][i] * k..][..k];
    let element =
        |at: usize| row(at / n).iter().zip(&table[at % n * k..]).map(|(x, y)| 0.5 * x * y).sum::<f32>();
    let gathered = (0..3).flat_map(|i| row(i).to_vec()).collect();
    vec![(rows, gathered), (product, (0..3 * n).map(element).collect())]
}

#[test]
fn weights_are_compressed_on_request() {
    each_case(WeightEncoding::ALL, |&encoding| {
        let mut b = Builder::new();
        let expected = tied(&mut b, encoding);
        b.graph.outputs = expected.iter().map(|(id, _)| *id).collect();
        let compress = |b: &mut Builder| -> Result<passes::Compression, Error> {
            shapes::infer(&mut b.graph)?;
            passes::compress_weights(&mut b.graph, encoding, &Native::new())
        };
        let done = compress(&mut b).map_err(|error| error.to_string())?;
        if done.matrices != 2 || done.bytes_after * 3 > done.bytes_before * 2 {
            return Err(format!("{done:?}"));
        }
        let operators: Vec<&str> = b.graph.nodes().iter().map(|node| node.op.name()).collect();
        if operators != ["CompressedGather", "CompressedMatMul"] {
            return Err(format!("{operators:?}"));
        }
        let values = expected.into_iter().map(|(_, values)| values);
        let expected: Vec<Expected> = b.graph.outputs.clone().into_iter().zip(values).collect();
        b.check(&expected, RAISED)?;
        let again = compress(&mut b).map_err(|error| error.to_string())?;
        if again == passes::Compression::default() {
            Ok(())
        } else {
            Err(format!("compressed again: {again:?}"))
        }
    });
}

#[test]
fn integers_in_blocks_are_multiplied_as_they_are() {
    each_case([false, true], |&transpose_b| {
        let mut b = Builder::new();
        let (m, n, k) = (3, 20, 40);
        let dims = if transpose_b { [n, k] } else { [k, n] };
        let blocks = if transpose_b { [n, 3] } else { [3, n] };
        let integers =
            |values: Vec<f32>| -> Vec<i8> { values.iter().map(|x| (x * 8.0).floor() as i8).collect() };
        let (data, zeros) = (integers(b.floats(&dims)), integers(b.floats(&blocks)));
        let (scales, scale) = b.weights(&blocks);
        let place = |i: usize, j: usize, of_vector: usize| {
            if transpose_b { j * of_vector + i } else { i * n + j }
        };
        let real = |i: usize, j: usize| {
            let block = place(i / 16, j, 3);
            f32::from(data[place(i, j, k)] - zeros[block]) * scale[block]
        };
        let (a, left) = b.random(&[m, k]);
        let stored = b.constant(&dims, &data);
        let zeros_id = b.constant(&blocks, &zeros);
        let op = DequantizeLinear { axis: i64::from(transpose_b), block_size: 16 };
        let right = b.node(Operator::DequantizeLinear(op), &[stored, scales, zeros_id]);
        let op = MatMul { transpose_a: false, transpose_b, alpha: 2.0, fusion: Fusion::default() };
        let y = b.node(Operator::MatMul(op), &[a, right]);
        let element = |at: usize| (0..k).map(|p| 2.0 * left[at / n * k + p] * real(p, at % n)).sum();
        let expected: Vec<f32> = (0..m * n).map(element).collect();
        b.check(&[(y, expected.clone())], RAISED)?;
        b.graph.outputs = vec![y];
        passes::simplify(&mut b.graph, &Native::new()).map_err(|error| error.to_string())?;
        let operators: Vec<&str> = b.graph.nodes().iter().map(|node| node.op.name()).collect();
        if operators != ["CompressedMatMul"] {
            return Err(format!("{operators:?}"));
        }
        let y = b.graph.outputs[0];
        b.check(&[(y, expected)], RAISED)
    });
}

#[test]
fn computed_weights_are_refused() {
    let mut b = Builder::new();
    let data = b.input(&[4, 16], &[0u8; 64]);
    let scales = b.constant(&[4, 1], &[1.0f32; 4]);
    let (a, _) = b.random(&[1, 16]);
    let weights = CompressedWeights { encoding: WeightEncoding::Int8, k: 16, block_size: 16 };
    let op = Operator::CompressedMatMul(CompressedMatMul { weights, fusion: Fusion::default() });
    let y = b.node(op, &[a, data, scales]);
    let message = b.failure(y, &CompileOptions::default()).unwrap().to_string();
    assert!(message.contains("computed weights in few bits"), "{message}");
}
