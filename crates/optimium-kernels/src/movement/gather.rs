//! Elements picked by index tensors.

use super::copy_loops::copy_run;
use super::index::{Index, IndexOutOfRange, has_size, position};
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
    assert!(
        has_size(source.len(), shape, element_size),
        "source of {shape:?}, {element_size} bytes an element"
    );
    assert!(has_size(destination.len(), &[outer, indices.len()], bytes), "destination of a gather");
    let rows = part.range(outer * indices.len());
    let mut row = rows.start;
    while row < rows.end {
        let (block, first) = (row / indices.len(), row % indices.len());
        let count = (indices.len() - first).min(rows.end - row);
        // SAFETY: the block and the rows of the destination exist, as was checked; each row belongs to one part.
        unsafe {
            let from = source.as_ptr().add(block * size * bytes);
            let to = destination.as_mut_ptr().add(row * bytes);
            pick(from, size, bytes, &indices[first..first + count], to)?;
        }
        row += count;
    }
    Ok(())
}

/// Copies the elements of `bytes` bytes that the indices name among the `size` at `from`, one behind the other.
///
/// # Errors
/// As [`gather`].
///
/// # Safety
/// The elements at `from` are readable, as many as there are indices writable at `to`, and they do not overlap.
#[inline(always)]
unsafe fn pick<I: Index>(
    from: *const u8,
    size: usize,
    bytes: usize,
    indices: &[I],
    to: *mut u8,
) -> Result<(), IndexOutOfRange> {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        match bytes {
            1 => return pick_units::<u8, I>(from, size, indices, to),
            2 => return pick_units::<u16, I>(from, size, indices, to),
            4 => return pick_units::<u32, I>(from, size, indices, to),
            8 => return pick_units::<u64, I>(from, size, indices, to),
            _ => {}
        }
    }
    for (i, &index) in indices.iter().enumerate() {
        let at = position(index, size)?;
        // SAFETY: the element is one of `size`.
        unsafe { copy_run(from.add(at * bytes), to.add(i * bytes), bytes) }
    }
    Ok(())
}

/// As [`pick`], of elements that a register holds: nothing is asked of each but its place.
///
/// # Safety
/// As [`pick`].
unsafe fn pick_units<T: Copy, I: Index>(
    from: *const u8,
    size: usize,
    indices: &[I],
    to: *mut u8,
) -> Result<(), IndexOutOfRange> {
    let (from, to) = (from.cast::<T>(), to.cast::<T>());
    for (i, &index) in indices.iter().enumerate() {
        let at = position(index, size)?;
        // SAFETY: the caller's promise; the element is one of `size`.
        unsafe { to.add(i).write_unaligned(from.add(at).read_unaligned()) }
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
    assert!(has_size(source.len(), shape, element_size), "source of {shape:?}");
    assert!(has_size(indices.len(), index_shape, 1), "indices of {index_shape:?}");
    assert!(has_size(destination.len(), index_shape, element_size), "destination of {index_shape:?}");
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
    assert!(has_size(source.len(), shape, element_size), "source of {shape:?}");
    assert!(has_size(indices.len(), index_shape, 1), "indices of {index_shape:?}");
    assert!(has_size(destination.len(), lead, bytes), "destination of a gather");
    let rows = part.range(batch * each);
    let mut row = rows.start;
    while row < rows.end {
        let count = (each - row % each).min(rows.end - row);
        let picks = &indices[row * length..(row + count) * length];
        // SAFETY: the block and the rows of the destination exist, as was checked; each row belongs to one part.
        unsafe {
            let from = source.as_ptr().add(row / each * batch_size * bytes);
            let to = destination.as_mut_ptr().add(row * bytes);
            match named {
                &[size] => pick(from, size, bytes, picks, to)?,
                _ => pick_blocks(from, named, bytes, picks, [length, count], to)?,
            }
        }
        row += count;
    }
    Ok(())
}

/// As [`pick`], where each of `count` elements has `length` indices, one for each axis of `shape`.
///
/// # Errors
/// As [`gather`].
///
/// # Safety
/// As [`pick`]; there are `count * length` indices.
unsafe fn pick_blocks<I: Index>(
    from: *const u8,
    shape: &[usize],
    bytes: usize,
    indices: &[I],
    [length, count]: [usize; 2],
    to: *mut u8,
) -> Result<(), IndexOutOfRange> {
    for i in 0..count {
        let at = block_position(&indices[i * length..][..length], shape)?;
        // SAFETY: the element is one of those of the shape.
        unsafe { copy_run(from.add(at * bytes), to.add(i * bytes), bytes) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs `work` with one to three parts and checks that the results are `expected`.
    fn check(expected: &[u8], work: impl Fn(SharedSlice<'_, u8>, Part) -> Result<(), IndexOutOfRange>) {
        for count in 1..4 {
            let mut y = vec![0; expected.len()];
            for index in 0..count {
                work(SharedSlice::new(&mut y), Part { index, count }).unwrap();
            }
            assert_eq!(y, expected, "{count} parts");
        }
    }

    #[test]
    fn rows_and_columns() {
        let x: Vec<u8> = (0..24).collect();
        for (shape, axis) in [([4, 3, 2], 0), ([4, 3, 2], 1), ([2, 3, 4], 2), ([24, 1, 1], 0)] {
            let indices = [1i64, -1, 0, 0];
            let inner: usize = shape[axis + 1..].iter().product();
            let outer: usize = shape[..axis].iter().product();
            let mut expected = Vec::new();
            for block in 0..outer {
                for index in indices {
                    let at = index.rem_euclid(shape[axis] as i64) as usize;
                    let first = (block * shape[axis] + at.min(shape[axis] - 1)) * inner;
                    expected.extend_from_slice(&x[first..first + inner]);
                }
            }
            if shape[axis] > 1 {
                check(&expected, |y, part| gather(&x, &shape, axis, &indices, 1, y, part));
            }
        }
        check(&[], |y, part| gather(&x, &[4, 6], 0, &[] as &[i32], 1, y, part));
    }

    #[test]
    fn elements_and_blocks() {
        let x: Vec<u8> = (0..12).collect();
        let indices = [2i32, 0, -1, 1];
        check(&[8, 1, 8, 5], |y, part| gather_elements(&x, &[3, 4], 0, &indices, &[2, 2], 1, y, part));
        check(&[2, 0, 7, 5], |y, part| gather_elements(&x, &[3, 4], 1, &indices, &[2, 2], 1, y, part));
        check(&[8, 3], |y, part| gather_nd(&x, &[3, 4], 0, &[2i64, 0, 0, -1], &[2, 2], 1, y, part));
        check(&[4, 5, 6, 7], |y, part| gather_nd(&x, &[3, 4], 0, &[1i64], &[1, 1], 1, y, part));
        check(&[1, 6, 8], |y, part| gather_nd(&x, &[3, 4], 1, &[1i64, 2, 0], &[3, 1], 1, y, part));
        let pairs = [3i32, 0, -1, 1, 1, 0];
        check(&[3, 0, 7, 5, 9, 8], |y, part| gather_nd(&x, &[3, 4], 1, &pairs, &[3, 2, 1], 1, y, part));
    }

    #[test]
    fn wrong_indices_are_errors() {
        let x = [0u8; 12];
        let mut y = [0u8; 12];
        let y = SharedSlice::new(&mut y);
        // SAFETY: only one slice is used at a time.
        let out = |n| SharedSlice::new(unsafe { y.slice(0..n) });
        for index in [3, -4, i64::MIN, i64::MAX] {
            let error = Err(IndexOutOfRange { index, size: 3 });
            assert_eq!(gather(&x, &[3, 4], 0, &[index], 1, out(4), Part::WHOLE), error);
            assert_eq!(gather_elements(&x, &[3, 4], 0, &[index], &[1, 1], 1, out(1), Part::WHOLE), error);
            assert_eq!(gather_nd(&x, &[3, 4], 0, &[index, 0], &[1, 2], 1, out(1), Part::WHOLE), error);
        }
        let error = Err(IndexOutOfRange { index: 0, size: 0 });
        assert_eq!(gather(&[], &[0, 4], 0, &[0i64], 1, out(4), Part::WHOLE), error);
    }
}
