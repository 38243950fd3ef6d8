//! Matrix products.

use optimium_graph::ops::{Fusion, MatMul, Operator};
use optimium_tensor::{Error, Result};

use super::super::operator::{OperatorReader, support, unsupported};

/// Inputs: x, weights `[n, k]`, bias `[n]` or none. Without the option to keep its dimensions, x is a matrix of rows
/// of k elements.
pub(super) fn fully_connected(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let options = node.options;
    support(options.i8(1)? == 0, "shuffled weights")?;
    let (mut x, weights) = (node.required(0)?, node.required(1)?);
    let is_matrix = node.value(x).shape().is_some_and(|shape| shape.rank() == 2);
    if !options.bool(2)? && !is_matrix {
        let Some(k) = node.dim(weights, 1) else { return unsupported("weights of unknown shape") };
        let k = i64::try_from(k).map_err(|_| Error::model(format!("{k} columns of weights")))?;
        x = node.reshape(x, &[-1, k])?;
    }
    let weights = node.weights(weights, &[0, 1], x)?;
    let bias = match node.input(2) {
        Some(bias) => Some(node.real_for(bias, x)?),
        None => None,
    };
    let op = MatMul { transpose_a: false, transpose_b: true, alpha: 1.0, fusion: Fusion::default() };
    node.finish_fused(Operator::MatMul(op), [Some(x), Some(weights), bias], options.activation(0)?)
}

pub(super) fn batch_matmul(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (a, b) = (node.required(0)?, node.required(1)?);
    let b = node.real_for(b, a)?;
    let op = MatMul {
        transpose_a: node.options.bool(0)?,
        transpose_b: node.options.bool(1)?,
        alpha: 1.0,
        fusion: Fusion::default(),
    };
    node.finish(Operator::MatMul(op), [Some(a), Some(b)])
}
