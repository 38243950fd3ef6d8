//! Parts of tensors along an axis.

use optimium_tensor::{Error, Result, Tensor};

/// What of `tensor` is at `index` of `axis`, without that axis.
///
/// # Errors
/// [`OutOfResource`](optimium_tensor::ErrorKind::OutOfResource) where memory ran out.
pub(super) fn pick(tensor: &Tensor, axis: usize, index: usize) -> Result<Tensor> {
    let dims = tensor.dims();
    let rest = [&dims[..axis], &dims[axis + 1..]].concat();
    let inner = dims[axis + 1..].iter().product::<usize>() * tensor.element_type().size();
    if axis == 0
        && let Some((buffer, offset)) = tensor.buffer()
    {
        let start = offset + index * inner;
        return Tensor::from_buffer(tensor.element_type(), &rest, buffer.clone(), start);
    }
    let picked = Tensor::zeros(tensor.element_type(), &rest)?;
    let outer: usize = dims[..axis].iter().product();
    {
        let (from, mut to) = (tensor.read_bytes()?, picked.write_bytes()?);
        for block in 0..outer {
            let start = (block * dims[axis] + index) * inner;
            to[block * inner..][..inner].copy_from_slice(&from[start..][..inner]);
        }
    }
    Ok(picked)
}

/// The tensors side by side along a new `axis`, or nothing of those `dims` where there are none.
///
/// # Errors
/// [`Infer`](optimium_tensor::ErrorKind::Infer) where they have different shapes.
pub(super) fn stack(parts: &[Tensor], axis: usize, none: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
    let Some(first) = parts.first() else { return none() };
    if let Some(other) = parts.iter().find(|part| part.dims() != first.dims()) {
        return Err(Error::infer(format!(
            "iterations give {:?} and {:?}, which cannot be put into one tensor",
            first.dims(),
            other.dims()
        )));
    }
    let mut dims = first.dims().to_vec();
    dims.insert(axis, parts.len());
    let stacked = Tensor::zeros(first.element_type(), &dims)?;
    let outer: usize = dims[..axis].iter().product();
    let inner = dims[axis + 1..].iter().product::<usize>() * first.element_type().size();
    {
        let mut to = stacked.write_bytes()?;
        for (index, part) in parts.iter().enumerate() {
            let from = part.read_bytes()?;
            for block in 0..outer {
                let start = (block * parts.len() + index) * inner;
                to[start..][..inner].copy_from_slice(&from[block * inner..][..inner]);
            }
        }
    }
    Ok(stacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stacked_can_be_picked() {
        let part = |first: i32| Tensor::from_slice(&[2, 3], &[0, 1, 2, 3, 4, 5].map(|n| n + first)).unwrap();
        let parts = [part(0), part(10), part(20), part(30)];
        for axis in 0..3 {
            let stacked = stack(&parts, axis, || unreachable!()).unwrap();
            assert_eq!(stacked.dims()[axis], 4);
            for (index, part) in parts.iter().enumerate() {
                let picked = pick(&stacked, axis, index).unwrap();
                assert_eq!(picked.dims(), part.dims());
                assert_eq!(*picked.read::<i32>().unwrap(), *part.read::<i32>().unwrap(), "{axis} {index}");
            }
        }
        let other = Tensor::zeros(optimium_tensor::ElementType::I32, &[3, 2]).unwrap();
        assert!(stack(&[part(0), other], 0, || unreachable!()).is_err());
    }
}
