//! Constants with their axes in another order.

use optimium_tensor::{Result, Tensor};

/// `y.dims[i] = x.dims[permutation[i]]`, with the scheme along the axis where it goes. `permutation` is one, of
/// as many entries as `x` has dimensions.
pub(super) fn transposed(x: &Tensor, permutation: &[usize]) -> Result<Tensor> {
    let size = x.element_type().size();
    let mut strides = vec![size; x.dims().len()];
    for axis in (1..strides.len()).rev() {
        strides[axis - 1] = strides[axis] * x.dims()[axis];
    }
    let dims: Vec<usize> = permutation.iter().map(|&axis| x.dims()[axis]).collect();
    let strides: Vec<usize> = permutation.iter().map(|&axis| strides[axis]).collect();
    let y = Tensor::zeros(x.element_type(), &dims)?;
    {
        let from = x.read_bytes()?;
        let mut index = vec![0usize; dims.len()];
        let mut position = 0usize;
        for element in y.write_bytes()?.chunks_exact_mut(size) {
            element.copy_from_slice(&from[position..position + size]);
            for axis in (0..dims.len()).rev() {
                index[axis] += 1;
                position += strides[axis];
                if index[axis] < dims[axis] {
                    break;
                }
                position -= strides[axis] * dims[axis];
                index[axis] = 0;
            }
        }
    }
    let scheme = x.scheme().map(|scheme| {
        let moved = scheme.axis().and_then(|axis| permutation.iter().position(|&from| from == axis));
        match moved {
            Some(axis) => std::sync::Arc::new((**scheme).clone().with_axis(axis)),
            None => std::sync::Arc::clone(scheme),
        }
    });
    Ok(y.with_scheme(scheme))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_places() {
        let x = Tensor::from_slice(&[2, 1, 3], &[1i16, 2, 3, 4, 5, 6]).unwrap();
        let y = transposed(&x, &[2, 0, 1]).unwrap();
        assert_eq!(y.dims(), [3, 2, 1]);
        assert_eq!(&y.read::<i16>().unwrap()[..], [1, 4, 2, 5, 3, 6]);
    }
}
