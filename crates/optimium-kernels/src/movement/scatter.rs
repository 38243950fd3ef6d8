//! Updates written to where index tensors say.

use super::gather::{ElementLines, block_position};
use super::index::{Index, IndexOutOfRange, has_size, position};
use crate::{Part, SharedSlice};

/// How an update meets the element that is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// It replaces it; of several updates the last one stays.
    #[default]
    None,
    /// Their sum.
    Add,
    /// Their product.
    Mul,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

/// An element type that can be scattered with a reduction. Plain words serve other types without one.
pub trait ScatterElement: Copy + Send + Sync {
    /// `reduction` of what is there and the update.
    fn reduce(reduction: Reduction, old: Self, update: Self) -> Self;
}

macro_rules! scatter_element {
    ($($type:ty: $add:expr, $mul:expr;)*) => {$(
        impl ScatterElement for $type {
            #[inline(always)]
            fn reduce(reduction: Reduction, old: Self, update: Self) -> Self {
                match reduction {
                    Reduction::None => update,
                    Reduction::Add => $add(old, update),
                    Reduction::Mul => $mul(old, update),
                    Reduction::Max => if update > old { update } else { old },
                    Reduction::Min => if update < old { update } else { old },
                }
            }
        }
    )*};
}

scatter_element! {
    f32: std::ops::Add::add, std::ops::Mul::mul;
    f64: std::ops::Add::add, std::ops::Mul::mul;
    i8: i8::wrapping_add, i8::wrapping_mul;
    i16: i16::wrapping_add, i16::wrapping_mul;
    i32: i32::wrapping_add, i32::wrapping_mul;
    i64: i64::wrapping_add, i64::wrapping_mul;
    u8: u8::wrapping_add, u8::wrapping_mul;
    u16: u16::wrapping_add, u16::wrapping_mul;
    u32: u32::wrapping_add, u32::wrapping_mul;
    u64: u64::wrapping_add, u64::wrapping_mul;
}

/// Every update `u` at position `i..` goes to `destination[i.. with indices[i..] along axis]`.
///
/// The destination holds the data already. Updates have the shape of the indices, and are applied in
/// row-major order.
///
/// # Errors
/// The first index of this part that is out of range; what is written by then is unspecified.
///
/// # Panics
/// Where a slice does not have the size that its shape says, or the shapes do not fit.
pub fn scatter_elements<T: ScatterElement, I: Index>(
    shape: &[usize],
    axis: usize,
    indices: &[I],
    index_shape: &[usize],
    updates: &[T],
    reduction: Reduction,
    destination: SharedSlice<'_, T>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    let lines = ElementLines::new(shape, index_shape, axis);
    assert!(has_size(destination.len(), shape, 1), "destination of {shape:?}");
    assert!(has_size(indices.len(), index_shape, 1), "indices of {index_shape:?}");
    assert_eq!(indices.len(), updates.len(), "one update an index");
    let inner: usize = index_shape[axis + 1..].iter().product();
    let outer: usize = index_shape[..axis].iter().product();
    let length = index_shape[axis];
    // Updates meet only within a line along the axis: each part takes whole lines.
    for line in part.range(outer * inner) {
        let first = line / inner * length * inner + line % inner;
        for i in (0..length).map(|step| first + step * inner) {
            let at = lines.element(i, position(indices[i], shape[axis])?);
            // SAFETY: `at` is a position of the destination on this part's line.
            unsafe {
                let element = destination.as_mut_ptr().add(at);
                *element = T::reduce(reduction, *element, updates[i]);
            }
        }
    }
    Ok(())
}

/// Each row of `indices`, of length `k` (the last of `index_shape`), names an element or a block of the
/// destination, which the matching block of `updates` meets; in order.
///
/// The destination holds the data already.
///
/// # Errors
/// The first index that is out of range; what is written by then is unspecified.
///
/// # Panics
/// As [`scatter_elements`].
pub fn scatter_nd<T: ScatterElement, I: Index>(
    shape: &[usize],
    indices: &[I],
    index_shape: &[usize],
    updates: &[T],
    reduction: Reduction,
    destination: SharedSlice<'_, T>,
    part: Part,
) -> Result<(), IndexOutOfRange> {
    let Some((&length, lead)) = index_shape.split_last() else { panic!("indices of a scalar shape") };
    assert!(length <= shape.len(), "{index_shape:?} into {shape:?}");
    let (named, block) = (&shape[..length], shape[length..].iter().product::<usize>());
    let blocks: usize = named.iter().product();
    let rows: usize = lead.iter().product();
    assert!(has_size(destination.len(), shape, 1), "destination of {shape:?}");
    assert!(has_size(indices.len(), index_shape, 1), "indices of {index_shape:?}");
    assert!(has_size(updates.len(), lead, block), "updates of a scatter");
    // Every part reads all indices and takes those that fall into its own share of the destination, so that
    // updates of one block keep their order.
    let own = part.range(blocks);
    for row in 0..rows {
        let at = block_position(&indices[row * length..][..length], named)?;
        if !own.contains(&at) {
            continue;
        }
        // SAFETY: block `at` is this part's alone.
        let there = unsafe { destination.slice(at * block..(at + 1) * block) };
        for (element, &update) in there.iter_mut().zip(&updates[row * block..]) {
            *element = T::reduce(reduction, *element, update);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDUCTIONS: [Reduction; 5] =
        [Reduction::None, Reduction::Add, Reduction::Mul, Reduction::Max, Reduction::Min];

    fn naive(reduction: Reduction, old: f32, update: f32) -> f32 {
        match reduction {
            Reduction::None => update,
            Reduction::Add => old + update,
            Reduction::Mul => old * update,
            Reduction::Max => old.max(update),
            Reduction::Min => old.min(update),
        }
    }

    #[test]
    fn elements() {
        let data: Vec<f32> = (0..12).map(|i| i as f32 - 5.0).collect();
        let updates = [2.0, -3.0, 4.0, 0.5, 7.0, -1.0];
        // Rows 0 and 2 of the index tensor meet at the same elements along axis 0.
        let indices = [1i64, 0, -2, 2, 1, 0];
        for (axis, reduction) in [0, 1].into_iter().flat_map(|axis| REDUCTIONS.map(|r| (axis, r))) {
            let shape: [usize; 2] = [3, 4];
            let mut expected = data.clone();
            for (i, (&index, &update)) in indices.iter().zip(&updates).enumerate() {
                let mut at = [i / 2, i % 2];
                at[axis] = index.rem_euclid(shape[axis] as i64) as usize;
                let element = &mut expected[at[0] * 4 + at[1]];
                *element = naive(reduction, *element, update);
            }
            for count in 1..4 {
                let mut y = data.clone();
                for index in 0..count {
                    let (y, part) = (SharedSlice::new(&mut y), Part { index, count });
                    scatter_elements(&shape, axis, &indices, &[3, 2], &updates, reduction, y, part).unwrap();
                }
                assert_eq!(y, expected, "axis {axis}, {reduction:?}, {count} parts");
            }
        }
    }

    #[test]
    fn blocks() {
        let data: Vec<f32> = (0..12).map(|i| i as f32 - 5.0).collect();
        let updates = [1.0, 2.0, 3.0, -4.0, 5.0, 6.0];
        for reduction in REDUCTIONS {
            let mut expected = data.clone();
            for (row, at) in [3usize, 1, 3].into_iter().enumerate() {
                for column in 0..2 {
                    let element = &mut expected[at * 2 + column];
                    *element = naive(reduction, *element, updates[row * 2 + column]);
                }
            }
            for count in 1..4 {
                let mut y = data.clone();
                for index in 0..count {
                    let (y, part) = (SharedSlice::new(&mut y), Part { index, count });
                    let indices = [1i32, 1, 0, 1, -2, -1];
                    scatter_nd(&[3, 2, 2], &indices, &[3, 2], &updates, reduction, y, part).unwrap();
                }
                assert_eq!(y, expected, "{reduction:?}, {count} parts");
            }
        }
    }

    #[test]
    fn wrong_indices_are_errors() {
        let mut data = [0i64; 6];
        let error = Err(IndexOutOfRange { index: 3, size: 3 });
        let y = SharedSlice::new(&mut data);
        let reduction = Reduction::Add;
        assert_eq!(scatter_nd(&[3, 2], &[3i64], &[1, 1], &[1, 1], reduction, y, Part::WHOLE), error);
        assert_eq!(scatter_elements(&[3, 2], 0, &[3i64], &[1, 1], &[1], reduction, y, Part::WHOLE), error);
    }
}
