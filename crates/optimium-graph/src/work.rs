//! How much a node has to compute.

use std::collections::BTreeMap;

use crate::ops::{Operator, Recurrent};

/// The concrete dimensions of a node's operands, by their position; none for those that are left out.
#[derive(Clone, Copy)]
pub struct OperandDims<'a> {
    /// Of inputs.
    pub input: &'a dyn Fn(usize) -> Option<&'a [usize]>,
    /// Of outputs.
    pub output: &'a dyn Fn(usize) -> Option<&'a [usize]>,
}

/// Multiply-adds of a product, a convolution, an attention or a recurrent layer, as its definition counts them: whatever
/// algorithm computes it. 0 for all other operators, and where dimensions are missing.
pub fn multiply_adds(operator: &Operator, dims: OperandDims<'_>) -> u64 {
    let OperandDims { input, output } = dims;
    let count = match operator {
        // Weights are [outputs, inputs of a group, kernel…].
        Operator::Conv(_) | Operator::ConvInteger(_) => {
            output(0).zip(input(1)).map(|(y, w)| product(y) * product(tail(w)))
        }
        // Weights are [inputs, outputs of a group, kernel…].
        Operator::ConvTranspose(_) => input(0).zip(input(1)).map(|(x, w)| product(x) * product(tail(w))),
        Operator::MatMul(_)
        | Operator::CompressedMatMul(_)
        | Operator::MatMulInteger(_)
        | Operator::DynamicQuantizedMatMul(_) => {
            output(0).zip(input(0)).map(|(y, a)| product(y) * a.last().map_or(0, |&depth| depth as u64))
        }
        Operator::Gemm(gemm) => output(0).zip(input(0)).map(|(y, a)| {
            let depth = if gemm.transpose_a { a.first() } else { a.last() };
            product(y) * depth.map_or(0, |&depth| depth as u64)
        }),
        Operator::Einsum(einsum) => contraction(&einsum.equation, dims),
        Operator::Recurrent(recurrent) => of_recurrent(recurrent, dims),
        Operator::Attention(_) => of_attention(dims),
        Operator::LinearAttention(op) => of_linear_attention(op.heads as u64, dims),
        _ => None,
    };
    count.unwrap_or(0)
}

fn product(dims: &[usize]) -> u64 {
    dims.iter().map(|&dim| dim as u64).fold(1, u64::saturating_mul)
}

fn tail(dims: &[usize]) -> &[usize] {
    dims.get(1..).unwrap_or_default()
}

/// The sizes of all indices of an equation, multiplied; nothing where it has an ellipsis.
fn contraction(equation: &str, dims: OperandDims<'_>) -> Option<u64> {
    let operands = equation.split("->").next()?;
    let mut sizes: BTreeMap<char, u64> = BTreeMap::new();
    for (index, labels) in operands.split(',').enumerate() {
        let labels: Vec<char> = labels.chars().filter(|label| !label.is_whitespace()).collect();
        let dims = (dims.input)(index).filter(|dims| dims.len() == labels.len())?;
        for (&label, &dim) in labels.iter().zip(dims) {
            let size = sizes.entry(label).or_insert(1);
            *size = (*size).max(dim as u64);
        }
    }
    Some(sizes.into_values().fold(1, u64::saturating_mul))
}

/// Weights of the inputs and of the state, for every step of every sequence.
fn of_recurrent(recurrent: &Recurrent, dims: OperandDims<'_>) -> Option<u64> {
    let (x, weights) = ((dims.input)(0)?, (dims.input)(1)?);
    let &[directions, columns, size] = weights else { return None };
    let depth = (size + recurrent.hidden_size) as u64;
    Some(product(x.get(..2)?) * product(&[directions, columns]) * depth)
}

/// Queries by keys, and weights by values: every query meets every key.
fn of_attention(dims: OperandDims<'_>) -> Option<u64> {
    let (queries, keys, result) = ((dims.input)(0)?, (dims.input)(1)?, (dims.output)(0)?);
    let length = |dims: &[usize]| dims.len().checked_sub(2).map_or(0, |axis| dims[axis] as u64);
    // Without heads of their own, k is [batch, length, heads · size]: its length is next to last either way.
    let past = (dims.input)(4).map_or(0, length);
    let total = (dims.output)(1).map_or(length(keys) + past, length);
    Some((product(queries) + product(result)) * total)
}

/// A position writes and reads a state of `key size · value size`, for every head of its own.
fn of_linear_attention(heads: u64, dims: OperandDims<'_>) -> Option<u64> {
    let (q, k, v) = ((dims.input)(0)?, (dims.input)(1)?, (dims.input)(2)?);
    let width = *v.last()? as u64 / heads.max(1);
    Some((product(q) + product(k)) * width)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Binary, Einsum, Fusion, Gemm, MatMul};

    type Dims = &'static [usize];

    fn count(operator: &Operator, inputs: &'static [Dims], outputs: &'static [Dims]) -> u64 {
        let input = |index: usize| inputs.get(index).copied();
        let output = |index: usize| outputs.get(index).copied();
        multiply_adds(operator, OperandDims { input: &input, output: &output })
    }

    #[test]
    fn work_is_counted_from_dimensions() {
        let product =
            MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
        let product = Operator::MatMul(product);
        assert_eq!(count(&product, &[&[2, 3, 5], &[5, 7]], &[&[2, 3, 7]]), 2 * 3 * 5 * 7);
        assert_eq!(count(&product, &[], &[]), 0);
        let gemm = Gemm { transpose_a: true, transpose_b: false, alpha: 1.0, beta: 1.0 };
        assert_eq!(count(&Operator::Gemm(gemm), &[&[5, 3], &[5, 7]], &[&[3, 7]]), 3 * 5 * 7);
        let einsum = |equation: &str| Operator::Einsum(Einsum { equation: equation.into() });
        assert_eq!(
            count(&einsum("bij, bjk -> bik"), &[&[2, 3, 4], &[2, 4, 5]], &[&[2, 3, 5]]),
            2 * 3 * 4 * 5
        );
        assert_eq!(count(&einsum("...i,i->..."), &[&[2, 3], &[3]], &[&[2]]), 0);
        assert_eq!(count(&Operator::Binary { function: Binary::Add }, &[&[9], &[9]], &[&[9]]), 0);
    }
}
