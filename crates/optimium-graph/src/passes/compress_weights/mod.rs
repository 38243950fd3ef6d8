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
use quantize::{Integers, quantize};

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
            let data: Vec<bf16> = (0..n).flat_map(vector).map(bf16::from_f32).collect();
            let weights = CompressedWeights { encoding, k, block_size: 0 };
            return Some((weights, Tensor::from_slice(&[n, k], &data).ok()?, None));
        }
        WeightEncoding::Int8 => (BLOCK_OF_INT8, Integers::EIGHT),
        WeightEncoding::Int4 => (BLOCK_OF_INT4, Integers::FOUR),
    };
    let weights = CompressedWeights { encoding, k, block_size };
    let (blocks, stored_len) = (weights.blocks(), weights.stored_len()?);
    let (mut data, mut scales) = (Vec::with_capacity(n * stored_len), Vec::with_capacity(n * blocks));
    for j in 0..n {
        for block in vector(j).chunks(block_size) {
            let mut stored = vec![integers.zero as u8; block_size];
            scales.push(quantize(block, integers, &mut stored)?);
            match encoding {
                WeightEncoding::Int4 => data.extend(stored.chunks(2).map(|pair| pair[0] | pair[1] << 4)),
                _ => data.extend(stored),
            }
        }
    }
    let data = Tensor::from_slice::<u8>(&[n, stored_len], &data).ok()?;
    let scales = Tensor::from_slice::<f16>(&[n, blocks], &scales).ok()?;
    Some((weights, data, Some(scales)))
}
