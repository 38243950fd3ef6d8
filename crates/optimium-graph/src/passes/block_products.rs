//! Products with weights in integers that share a scale block by block keep them in integers.
//!
//! Such models quantize their weights alone: the operators around are real, and would read the weights as reals.

use optimium_tensor::{ElementType, Result, Tensor};

use super::editor::Editor;
use crate::ops::{CompressedMatMul, CompressedWeights, DequantizeLinear, MatMul, WeightEncoding};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(compress))
}

fn compress(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::MatMul(matmul) = editor.op(node).clone() else { return None };
    let (a, b) = (editor.input(node, 0)?, editor.input(node, 1)?);
    let producer = editor.producer(b)?;
    let Operator::DequantizeLinear(dequantize) = editor.op(producer).clone() else { return None };
    let single = |value| editor.element_type(value) == Some(ElementType::F32);
    if matmul.transpose_a || !single(a) || !single(b) || editor.rank(a)? == 0 {
        return None;
    }
    let blocks = Blocks::of(editor, producer, &dequantize, &matmul)?;
    let (weights, [data, scales], zeros) = blocks.stored(matmul.alpha)?;
    let name = editor.value(b).name.clone();
    let data = editor.add_constant(&name, data);
    let scales = editor.add_constant(&format!("{name}.scales"), scales);
    let zeros = zeros.map(|zeros| editor.add_constant(&format!("{name}.zero_points"), zeros));
    let fused = editor.node(node).inputs.iter().skip(2).copied();
    let inputs = [Some(a), Some(data), Some(scales), zeros].into_iter().chain(fused).collect();
    let op = CompressedMatMul { weights, fusion: matmul.fusion };
    editor.replace(node, Operator::CompressedMatMul(op), inputs);
    Some(())
}

/// Integers with one scale and zero point for each block of a vector. Both lie in memory as the model has them.
struct Blocks {
    n: usize,
    k: usize,
    block_size: usize,
    /// Whether vectors are columns.
    columns: bool,
    data: Vec<i16>,
    scales: Vec<f32>,
    zeros: Vec<i16>,
}

impl Blocks {
    /// The constants that `node` dequantizes, as the right matrix of a product.
    fn of(editor: &Editor, node: NodeId, op: &DequantizeLinear, matmul: &MatMul) -> Option<Blocks> {
        let (data, scales) = (editor.input(node, 0)?, editor.input(node, 1)?);
        let dims = editor.fixed(data)?;
        let [rows, columns] = dims[..] else { return None };
        let (n, k) = if matmul.transpose_b { (rows, columns) } else { (columns, rows) };
        let axis = if op.axis < 0 { op.axis + 2 } else { op.axis };
        let along_k = axis == i64::from(matmul.transpose_b);
        let plain = editor.value(data).scheme.is_none();
        if !along_k || !plain || op.block_size == 0 || !op.block_size.is_multiple_of(16) {
            return None;
        }
        let count = n.checked_mul(k.div_ceil(op.block_size))?;
        let scales = editor.f32s(scales).filter(|scales| scales.len() == count)?;
        let zeros = match editor.input(node, 2) {
            Some(zeros) => bytes(editor, zeros).filter(|zeros| zeros.len() == count)?,
            None => vec![0; count],
        };
        let (block_size, columns) = (op.block_size, !matmul.transpose_b);
        Some(Blocks { n, k, block_size, columns, data: bytes(editor, data)?, scales, zeros })
    }

    /// Attributes, data, scales times `factor`, and zero points, unless they are the usual ones, of a compressed matrix.
    fn stored(&self, factor: f32) -> Option<(CompressedWeights, [Tensor; 2], Option<Tensor>)> {
        let both = || self.data.iter().chain(&self.zeros).copied();
        let (low, high) = (both().min()?, both().max()?);
        // What makes the integers unsigned.
        let (encoding, shift) = match (low, high) {
            (0.., ..=15) => (WeightEncoding::Int4, 0),
            (-8.., ..=7) => (WeightEncoding::Int4, 8),
            (0.., _) => (WeightEncoding::Int8, 0),
            (_, ..=127) => (WeightEncoding::Int8, 128),
            _ => return None,
        };
        let weights = CompressedWeights { encoding, k: self.k, block_size: self.block_size };
        let (blocks, stored_len) = (weights.blocks(), weights.stored_len()?);
        let at = |j: usize, i: usize, of_vector: usize| {
            if self.columns { i * self.n + j } else { j * of_vector + i }
        };
        let byte = |value: i16| (value + shift) as u8;
        let element = |j: usize, i: usize| if i < self.k { byte(self.data[at(j, i, self.k)]) } else { 0 };
        let mut data = Vec::with_capacity(self.n.checked_mul(stored_len)?);
        let places = || (0..self.n).flat_map(|j| (0..blocks).map(move |i| at(j, i, blocks)));
        for j in 0..self.n {
            data.extend((0..stored_len).map(|i| match encoding {
                WeightEncoding::Int4 => element(j, 2 * i) | element(j, 2 * i + 1) << 4,
                _ => element(j, i),
            }));
        }
        let scales: Vec<f32> = places().map(|at| self.scales[at] * factor).collect();
        let zeros: Vec<u8> = places().map(|at| byte(self.zeros[at])).collect();
        let data = Tensor::from_slice(&[self.n, stored_len], &data).ok()?;
        let scales = Tensor::from_slice(&[self.n, blocks], &scales).ok()?;
        let usual = zeros.iter().all(|&zero| zero == encoding.middle());
        let zeros = if usual { None } else { Some(Tensor::from_slice(&[self.n, blocks], &zeros).ok()?) };
        Some((weights, [data, scales], zeros))
    }
}

/// The elements of a constant of 8-bit integers.
fn bytes(editor: &Editor, value: ValueId) -> Option<Vec<i16>> {
    let tensor = editor.constant(value)?;
    let bytes = tensor.read_bytes().ok()?;
    match tensor.element_type() {
        ElementType::I8 => Some(bytes.iter().map(|&byte| i16::from(byte as i8)).collect()),
        ElementType::U8 => Some(bytes.iter().map(|&byte| i16::from(byte)).collect()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::super::testing::{Builder, expect_simplified, plain_matmul};
    use super::*;

    /// The product of an input with weights of that type in blocks along `axis`.
    fn product(axis: i64, block_size: usize, transpose_b: bool, values: [i8; 2]) -> (Builder, ValueId) {
        let mut b = Builder::new();
        let x = b.input(&[3, 40]);
        let dims = if transpose_b { [2, 40] } else { [40, 2] };
        let scales =
            if transpose_b { [2, 40 / block_size.max(1) + 1] } else { [40 / block_size.max(1) + 1, 2] };
        let data: Vec<i8> = (0..80).map(|i| values[i % 2]).collect();
        let data = b.graph.add_constant("data", Tensor::from_slice(&dims, &data).unwrap());
        let scales = b.constant(&scales, &vec![0.5; scales.iter().product()]);
        let weights =
            b.node(Operator::DequantizeLinear(DequantizeLinear { axis, block_size }), &[data, scales]);
        let y = b.node(Operator::MatMul(MatMul { transpose_b, ..plain_matmul() }), &[x, weights]);
        (b, y)
    }

    #[test]
    fn weights_in_blocks_stay_integers() {
        let cases = [
            (0, 16, false, [-8, 7], Some(WeightEncoding::Int4)),
            (-2, 32, false, [0, 15], Some(WeightEncoding::Int4)),
            (1, 16, true, [-9, 7], Some(WeightEncoding::Int8)),
            (-1, 32, true, [0, 127], Some(WeightEncoding::Int8)),
            (0, 16, true, [0, 1], None),
            (0, 24, false, [0, 1], None),
        ];
        each_case(cases, |&(axis, block_size, transpose_b, values, expected)| {
            let (b, y) = product(axis, block_size, transpose_b, values);
            let mut graph = b.finish(&[y]);
            let mut editor = Editor::new(&mut graph, &super::super::testing::Interpreter);
            let changes = run(&mut editor).map_err(|error| error.to_string())?;
            let found = editor.nodes().into_iter().find_map(|node| match editor.op(node) {
                Operator::CompressedMatMul(op) => Some(op.weights.encoding),
                _ => None,
            });
            if found == expected && (changes == 1) == expected.is_some() {
                Ok(())
            } else {
                Err(format!("{found:?}, {changes}"))
            }
        });
    }

    #[test]
    fn biases_and_activations_are_fused() {
        use crate::ops::{Activation, Binary};
        let (mut b, y) = product(0, 16, false, [-8, 7]);
        let bias = b.constant(&[2], &[1.0, 2.0]);
        let y = b.binary(Binary::Add, y, bias);
        let y = b.activation(Activation::Relu, y);
        let graph = expect_simplified(b.finish(&[y]), &["CompressedMatMul"]).unwrap();
        assert_eq!(graph.nodes()[0].inputs.iter().flatten().count(), 4);
    }
}
