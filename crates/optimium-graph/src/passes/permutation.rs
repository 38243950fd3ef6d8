//! Permutations of axes.

use std::sync::Arc;

use optimium_tensor::{Expr, QuantScheme, Tensor, TensorShape};

/// Whether only the last two axes change places.
pub(super) fn swaps_last_two(permutation: &[usize]) -> bool {
    let rank = permutation.len();
    rank >= 2
        && permutation[rank - 2..] == [rank - 1, rank - 2]
        && permutation[..rank - 2].iter().enumerate().all(|(i, &axis)| i == axis)
}

/// From channels second to channels last; with fewer than two axes there are no channels, and nothing moves.
pub(super) fn channels_last(rank: usize) -> Vec<usize> {
    let (batch, channels) = (0..rank.min(1), 1..rank.min(2));
    batch.chain(2..rank).chain(channels).collect()
}

/// The permutation that undoes another.
pub(super) fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    for (to, &from) in permutation.iter().enumerate() {
        inverse[from] = to;
    }
    inverse
}

/// First `first`, then `second`.
pub(super) fn compose(first: &[usize], second: &[usize]) -> Vec<usize> {
    second.iter().map(|&axis| first[axis]).collect()
}

/// The list with its entries in the order of a Transpose's output.
pub(super) fn permuted<T: Clone>(list: &[T], permutation: &[usize]) -> Vec<T> {
    permutation.iter().map(|&axis| list[axis].clone()).collect()
}

/// Whether a Transpose leaves every element where it is in memory: only axes of size one move past others.
pub(super) fn moves_nothing(dims: &[Expr], permutation: &[usize]) -> bool {
    let mut kept = permutation.iter().filter(|&&axis| dims.get(axis).and_then(Expr::as_const) != Some(1));
    let mut last = None;
    kept.all(|&axis| last.replace(axis).is_none_or(|before| before < axis))
}

/// The shape of a Transpose's output.
pub(super) fn permuted_shape(shape: &TensorShape, permutation: &[usize]) -> TensorShape {
    TensorShape::new(permuted(shape.dims(), permutation))
}

/// A tensor with its axes permuted: axis i of the result is axis `permutation[i]`. `None` for strings, and where memory ran out.
pub fn permute_tensor(tensor: &Tensor, permutation: &[usize]) -> Option<Tensor> {
    let (dims, size) = (tensor.dims(), tensor.element_type().size());
    let mut strides = vec![1usize; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    let (dims, strides) = (permuted(dims, permutation), permuted(&strides, permutation));
    let bytes = tensor.read_bytes().ok()?;
    let mut result = Vec::with_capacity(bytes.len());
    let mut index = vec![0usize; dims.len()];
    for _ in 0..tensor.len() {
        let offset: usize = index.iter().zip(&strides).map(|(i, stride)| i * stride).sum();
        result.extend_from_slice(&bytes[offset * size..(offset + 1) * size]);
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    let moved = inverse(permutation);
    let move_axis = |scheme: &Arc<QuantScheme>| match scheme.axis().and_then(|axis| moved.get(axis)) {
        Some(&axis) => Arc::new((**scheme).clone().with_axis(axis)),
        None => scheme.clone(),
    };
    let permuted = Tensor::from_bytes(tensor.element_type(), &dims, &result).ok()?;
    Some(permuted.with_scheme(tensor.scheme().map(move_axis)))
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn every_rank_has_a_permutation_to_channels_last() {
        let cases: [&[usize]; 6] = [&[], &[0], &[0, 1], &[0, 2, 1], &[0, 2, 3, 1], &[0, 2, 3, 4, 1]];
        each_case(cases, |expected| {
            let found = channels_last(expected.len());
            let undone = compose(&found, &inverse(&found));
            let is_identity = undone.into_iter().eq(0..expected.len());
            if found == *expected && is_identity { Ok(()) } else { Err(format!("{found:?}")) }
        });
    }
}
