//! Updates written to where index tensors say.

use super::gather::{ElementLines, block_position};
use super::index::{Index, IndexOutOfRange, position};
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
    assert_eq!(destination.len(), shape.iter().product::<usize>(), "destination of {shape:?}");
    assert_eq!(indices.len(), index_shape.iter().product::<usize>(), "indices of {index_shape:?}");
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
    assert_eq!(destination.len(), blocks * block, "destination of {shape:?}");
    assert_eq!(indices.len(), rows * length, "indices of {index_shape:?}");
    assert_eq!(updates.len(), rows * block, "updates of a scatter");
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
