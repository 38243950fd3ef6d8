//! Elements picked by index tensors.

use super::copy_loops::copy_run;
use super::index::{Index, IndexOutOfRange, position};
use crate::{Part, SharedSlice};

/// `destination[a.., i.., b..] = source[a.., indices[i..], b..]`, the picked axis being `axis`.
///
/// Negative indices count from the end. The destination holds the outer axes, the indices, the inner axes.
///
/// # Errors
/// The first index of this part that is out of range; what is written by then is unspecified.
///
/// # Panics
/// Where a slice does not have the size that the shape says.
pub fn gather<I: Index>(
    source: &[u8],
    shape: &[usize],
    axis: usize,
    indices: &[I],
    element_size: usize,
    destination: SharedSlice<'_, u8>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    let outer: usize = shape[..axis].iter().product();
    let size = shape[axis];
    let bytes = shape[axis + 1..].iter().product::<usize>() * element_size;
    assert_eq!(source.len(), outer * size * bytes, "source of {shape:?}, {element_size} bytes an element");
    assert_eq!(destination.len(), outer * indices.len() * bytes, "destination of a gather");
    let rows = part.range(outer * indices.len());
    let mut row = rows.start;
    while row < rows.end {
        let (block, first) = (row / indices.len(), row % indices.len());
        let count = (indices.len() - first).min(rows.end - row);
        for &index in &indices[first..first + count] {
            let at = block * size + position(index, size)?;
            // SAFETY: `at` is below `outer * size` and `row` below the destination's rows, whose sizes were
            // checked; each row belongs to one part.
            unsafe {
                let to = destination.as_mut_ptr().add(row * bytes);
                copy_run(source.as_ptr().add(at * bytes), to, bytes);
            }
            row += 1;
        }
    }
    Ok(())
}

/// `destination[i..] = source[i.. with indices[i..] along axis]`; the destination has the shape of the
/// indices, which is at most the source's along every other axis.
///
/// # Errors
/// As [`gather`].
///
/// # Panics
/// Where a slice does not have the size that its shape says, or the shapes do not fit.
pub fn gather_elements<I: Index>(
    source: &[u8],
    shape: &[usize],
    axis: usize,
    indices: &[I],
    index_shape: &[usize],
    element_size: usize,
    destination: SharedSlice<'_, u8>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    let lines = ElementLines::new(shape, index_shape, axis);
    assert_eq!(source.len(), shape.iter().product::<usize>() * element_size, "source of {shape:?}");
    assert_eq!(indices.len(), index_shape.iter().product::<usize>(), "indices of {index_shape:?}");
    assert_eq!(destination.len(), indices.len() * element_size, "destination of {index_shape:?}");
    for i in part.range(indices.len()) {
        let at = lines.element(i, position(indices[i], shape[axis])?);
        // SAFETY: `element` gives a position of the source, and element `i` is this part's.
        unsafe {
            let to = destination.as_mut_ptr().add(i * element_size);
            copy_run(source.as_ptr().add(at * element_size), to, element_size);
        }
    }
    Ok(())
}

/// `destination[i..] = source[b.., indices[i..], ..]`: each row of `indices`, of length `k`, names the
/// element or block of the source after `batch_axes` shared axes. `index_shape` ends with `k`.
///
/// # Errors
/// As [`gather`].
///
/// # Panics
/// As [`gather_elements`].
pub fn gather_nd<I: Index>(
    source: &[u8],
    shape: &[usize],
    batch_axes: usize,
    indices: &[I],
    index_shape: &[usize],
    element_size: usize,
    destination: SharedSlice<'_, u8>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    let Some((&length, lead)) = index_shape.split_last() else { panic!("indices of a scalar shape") };
    assert!(batch_axes <= lead.len() && batch_axes + length <= shape.len(), "{index_shape:?} into {shape:?}");
    assert_eq!(shape[..batch_axes], lead[..batch_axes], "batch axes of a gather");
    let named = &shape[batch_axes..batch_axes + length];
    let bytes = shape[batch_axes + length..].iter().product::<usize>() * element_size;
    let batch: usize = lead[..batch_axes].iter().product();
    let each: usize = lead[batch_axes..].iter().product();
    let batch_size: usize = named.iter().product();
    assert_eq!(source.len(), batch * batch_size * bytes, "source of {shape:?}");
    assert_eq!(indices.len(), batch * each * length, "indices of {index_shape:?}");
    assert_eq!(destination.len(), batch * each * bytes, "destination of a gather");
    for row in part.range(batch * each) {
        let at = row / each * batch_size + block_position(&indices[row * length..][..length], named)?;
        // SAFETY: `at` is below `batch * batch_size`, `row` below the destination's rows; sizes were checked.
        unsafe {
            let to = destination.as_mut_ptr().add(row * bytes);
            copy_run(source.as_ptr().add(at * bytes), to, bytes);
        }
    }
    Ok(())
}

/// The row-major position that one index per axis names.
#[inline(always)]
pub(super) fn block_position<I: Index>(indices: &[I], shape: &[usize]) -> Result<usize, IndexOutOfRange> {
    let mut at = 0;
    for (&index, &size) in indices.iter().zip(shape) {
        at = at * size + position(index, size)?;
    }
    Ok(at)
}

/// From positions of an index tensor to positions of the data tensor, for the elementwise operations.
pub(super) struct ElementLines<'a> {
    index_shape: &'a [usize],
    strides: Vec<isize>,
    axis: usize,
}

impl<'a> ElementLines<'a> {
    /// # Panics
    /// Where the index tensor is larger than the data along an axis other than `axis`.
    pub(super) fn new(shape: &[usize], index_shape: &'a [usize], axis: usize) -> Self {
        assert!(
            shape.len() == index_shape.len()
                && axis < shape.len()
                && (0..shape.len()).all(|i| i == axis || index_shape[i] <= shape[i]),
            "indices of {index_shape:?} along axis {axis} of {shape:?}"
        );
        ElementLines { index_shape, strides: super::contiguous_strides(shape), axis }
    }

    /// The data's position of index element `i`, with `along` on the axis.
    #[inline(always)]
    pub(super) fn element(&self, mut i: usize, along: usize) -> usize {
        let mut at = along * self.strides[self.axis] as usize;
        for axis in (0..self.index_shape.len()).rev() {
            let index = i % self.index_shape[axis];
            i /= self.index_shape[axis];
            if axis != self.axis {
                at += index * self.strides[axis] as usize;
            }
        }
        at
    }
}
