//! Constant matrices to few bits, on request: what reads weights more than it computes is then faster, and a model smaller.
//!
//! Only the weights are rounded. Products of constant matrices become [`CompressedMatMul`], and look-ups in constant tables
//! [`CompressedGather`]. Small matrices stay as they are, and so do those that anything else reads, too.

mod quantize;

use std::collections::HashMap;

use half::{bf16, f16};
use optimium_tensor::{ElementType, Result, Tensor};

use super::Evaluate;
use super::editor::Editor;
use crate::ops::{CompressedGather, CompressedMatMul, CompressedWeights, WeightEncoding};
use crate::{Graph, NodeId, Operator, ValueId, shapes};
use quantize::{Integers, ScaleForm, quantize};

/// Matrices of fewer elements stay as they are.
const LEAST_ELEMENTS: usize = 1 << 14;
/// Matrices with shorter vectors, or fewer of them, stay as they are.
const LEAST_SIDE: usize = 32;
/// Elements that share a scale.
const BLOCK_OF_INT8: usize = 64;
const BLOCK_OF_INT4: usize = 32;

/// What [`compress_weights`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Compression {
    /// Matrices that were compressed.
    pub matrices: usize,
    /// Bytes of them before.
    pub bytes_before: u64,
    /// Bytes of them after, scales included.
    pub bytes_after: u64,
}

/// Stores the constant matrices of a [simplified](super::simplify) graph in few bits.
///
/// # Errors
/// As [`shapes::infer`].
pub fn compress_weights(
    graph: &mut Graph,
    encoding: WeightEncoding,
    evaluator: &dyn Evaluate,
) -> Result<Compression> {
    let mut editor = Editor::new(graph, evaluator);
    let mut work = Work { encoding, compressed: HashMap::new(), done: Compression::default() };
    for node in editor.nodes() {
        if let Some(user) = user_of(&editor, node) {
            work.compress(&mut editor, node, &user);
        }
    }
    let done = work.done;
    editor.finish()?;
    graph.drop_unused_values();
    shapes::infer(graph)?;
    Ok(done)
}

/// A node that can read a compressed matrix.
struct User {
    matrix: ValueId,
    /// `n` vectors of `k` elements, from one vector to the next, and from one element to the next.
    n: usize,
    k: usize,
    strides: [usize; 2],
    factor: f32,
}

/// `node` as a user of a matrix that may be compressed.
fn user_of(editor: &Editor, node: NodeId) -> Option<User> {
    let (matrix, transposed, factor) = match editor.op(node) {
        Operator::MatMul(op) if !op.transpose_a && editor.rank(editor.input(node, 0)?)? > 0 => {
            (editor.input(node, 1)?, !op.transpose_b, op.alpha)
        }
        Operator::Gather(op) if op.axis == 0 => (editor.input(node, 0)?, false, 1.0),
        _ => return None,
    };
    let dims = editor.fixed(matrix)?;
    let [rows, columns] = dims[..] else { return None };
    let large = rows.min(columns) >= LEAST_SIDE && rows.checked_mul(columns)? >= LEAST_ELEMENTS;
    let real = editor.element_type(matrix) == Some(ElementType::F32) && editor.is_constant(matrix);
    if !large || !real || editor.is_output(matrix) {
        return None;
    }
    Some(match transposed {
        true => User { matrix, n: columns, k: rows, strides: [1, columns], factor },
        false => User { matrix, n: rows, k: columns, strides: [columns, 1], factor },
    })
}

/// A matrix in few bits: its attributes, and the values of data and scales.
#[derive(Clone, Copy)]
struct Compressed {
    weights: CompressedWeights,
    data: ValueId,
    scales: Option<ValueId>,
}

struct Work {
    encoding: WeightEncoding,
    /// By matrix, whether it is transposed, and the bits of the factor; `None` where it cannot be.
    compressed: HashMap<(ValueId, bool, u32), Option<Compressed>>,
    done: Compression,
}

impl Work {
    fn compress(&mut self, editor: &mut Editor, node: NodeId, user: &User) -> Option<()> {
        let key = (user.matrix, user.strides[0] == 1, user.factor.to_bits());
        let all_can = || editor.consumers(user.matrix).iter().all(|&other| user_of(editor, other).is_some());
        let compressed = match self.compressed.get(&key) {
            Some(known) => *known,
            None => {
                let made = if all_can() { self.make(editor, user) } else { None };
                self.compressed.insert(key, made);
                made
            }
        }?;
        let Compressed { weights, data, scales } = compressed;
        let inputs = editor.node(node).inputs.clone();
        match editor.op(node) {
            Operator::MatMul(op) => {
                let op = CompressedMatMul { weights, fusion: op.fusion };
                let fused = inputs.iter().skip(2).copied();
                let inputs = [inputs[0], Some(data), scales, None].into_iter().chain(fused).collect();
                editor.replace(node, Operator::CompressedMatMul(op), inputs);
            }
            _ => {
                let op = Operator::CompressedGather(CompressedGather { weights });
                editor.replace(node, op, vec![Some(data), scales, None, inputs[1]]);
            }
        }
        Some(())
    }

    fn make(&mut self, editor: &mut Editor, user: &User) -> Option<Compressed> {
        let values = editor.f32s(user.matrix)?;
        let vector = |j: usize| -> Vec<f32> {
            let start = j * user.strides[0];
            (0..user.k).map(|i| values[start + i * user.strides[1]] * user.factor).collect()
        };
        let (weights, data, scales) = encode(self.encoding, user.n, user.k, vector)?;
        let bytes_of = |tensor: &Tensor| tensor.byte_len() as u64;
        self.done.matrices += 1;
        self.done.bytes_before += (values.len() * size_of::<f32>()) as u64;
        self.done.bytes_after += bytes_of(&data) + scales.as_ref().map_or(0, bytes_of);
        let name = editor.value(user.matrix).name.clone();
        let data = editor.add_constant(&name, data);
        let scales = scales.map(|scales| editor.add_constant(&format!("{name}.scales"), scales));
        Some(Compressed { weights, data, scales })
    }
}

/// `n` vectors of `k` elements in that encoding, with their scales; `None` where they cannot be.
fn encode(
    encoding: WeightEncoding,
    n: usize,
    k: usize,
    vector: impl Fn(usize) -> Vec<f32>,
) -> Option<(CompressedWeights, Tensor, Option<Tensor>)> {
    let (block_size, integers) = match encoding {
        WeightEncoding::Bf16 => {
            let data: Vec<bf16> = (0..n).flat_map(vector).map(nearest_bf16).collect();
            let weights = CompressedWeights { encoding, k, block_size: 0 };
            return Some((weights, Tensor::from_slice(&[n, k], &data).ok()?, None));
        }
        WeightEncoding::Int8 => (BLOCK_OF_INT8, Integers::EIGHT),
        WeightEncoding::Int4 => (BLOCK_OF_INT4, Integers::FOUR),
    };
    let weights = CompressedWeights { encoding, k, block_size };
    // Half precision has no digits left for the scales of very small numbers.
    let (form, data, scales) = [ScaleForm::Half, ScaleForm::Single].into_iter().find_map(|form| {
        let (data, scales) = integers_of(&weights, integers, form, (0..n).map(&vector))?;
        Some((form, data, scales))
    })?;
    let data = Tensor::from_slice::<u8>(&[n, weights.stored_len()?], &data).ok()?;
    let dims = [n, weights.blocks()];
    let scales = match form {
        ScaleForm::Half => {
            let halves: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
            Tensor::from_slice(&dims, &halves)
        }
        ScaleForm::Single => Tensor::from_slice(&dims, &scales),
    };
    Some((weights, data, Some(scales.ok()?)))
}

/// The stored bytes of the blocks of all `vectors`, and their scales.
fn integers_of(
    weights: &CompressedWeights,
    integers: Integers,
    form: ScaleForm,
    vectors: impl Iterator<Item = Vec<f32>>,
) -> Option<(Vec<u8>, Vec<f32>)> {
    let (mut data, mut scales) = (Vec::new(), Vec::new());
    for vector in vectors {
        for block in vector.chunks(weights.block_size) {
            let mut stored = vec![integers.zero as u8; weights.block_size];
            scales.push(quantize(block, integers, form, &mut stored)?);
            match weights.encoding {
                WeightEncoding::Int4 => data.extend(stored.chunks(2).map(|pair| pair[0] | pair[1] << 4)),
                _ => data.extend(stored),
            }
        }
    }
    Some((data, scales))
}

/// The nearest bfloat16 that is finite where `x` is.
fn nearest_bf16(x: f32) -> bf16 {
    let nearest = bf16::from_f32(x);
    if nearest.is_infinite() && x.is_finite() { if x < 0.0 { bf16::MIN } else { bf16::MAX } } else { nearest }
}

#[cfg(test)]
mod tests {
    use optimium_testing::Random;

    use super::*;

    /// The type of the scales of a matrix of numbers of that size, whose first block is of size 1 where it is `mixed`.
    fn scales_of(encoding: WeightEncoding, size: f32, mixed: bool) -> Option<ElementType> {
        let vector = |j: usize| -> Vec<f32> {
            let mut numbers: Vec<f32> = Random::new(j as u64).floats(100).iter().map(|x| x * size).collect();
            if mixed && j == 0 {
                numbers[0] = 1.0;
            }
            numbers
        };
        encode(encoding, 40, 100, vector).map(|(_, _, scales)| scales.unwrap().element_type())
    }

    #[test]
    fn scales_of_small_numbers_are_stored_in_single_precision() {
        for encoding in [WeightEncoding::Int8, WeightEncoding::Int4] {
            assert_eq!(scales_of(encoding, 1.0, false), Some(ElementType::F16));
            assert_eq!(scales_of(encoding, 0.0, true), Some(ElementType::F16));
            assert_eq!(scales_of(encoding, 1e-7, false), Some(ElementType::F32));
            assert_eq!(scales_of(encoding, 1e-7, true), Some(ElementType::F32));
            assert_eq!(scales_of(encoding, 1e9, false), None);
        }
    }

    #[test]
    fn numbers_that_are_finite_stay_so_in_bfloat16() {
        for (x, expected) in [
            (f32::MIN, bf16::MIN),
            (f32::MAX, bf16::MAX),
            (3.39e38, bf16::MAX),
            (-1.0, bf16::NEG_ONE),
            (f32::NEG_INFINITY, bf16::NEG_INFINITY),
        ] {
            assert_eq!(nearest_bf16(x), expected, "{x}");
        }
    }
}
