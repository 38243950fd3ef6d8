//! Indices that come from data.

use std::fmt;

/// An index that points outside of its axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexOutOfRange {
    /// The index, as given.
    pub index: i64,
    /// Number of elements along the axis.
    pub size: usize,
}

impl fmt::Display for IndexOutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "index {} is outside of an axis of {} elements", self.index, self.size)
    }
}

impl std::error::Error for IndexOutOfRange {}

/// An element type of index tensors.
pub trait Index: Copy + Send + Sync {
    /// The index as a wide integer.
    fn wide(self) -> i64;
}

impl Index for i64 {
    #[inline(always)]
    fn wide(self) -> i64 {
        self
    }
}

impl Index for i32 {
    #[inline(always)]
    fn wide(self) -> i64 {
        self.into()
    }
}

/// Whether a tensor of that shape, its elements counted `each`, has `length`; never where the product
/// overflows.
pub(super) fn has_size(length: usize, shape: &[usize], each: usize) -> bool {
    let zero = each == 0 || shape.contains(&0);
    let product = shape.iter().try_fold(each, |product, &size| product.checked_mul(size));
    if zero { length == 0 } else { product == Some(length) }
}

/// The position that `index` means on an axis of `size` elements; negative ones count from the end.
#[inline(always)]
pub(crate) fn position<I: Index>(index: I, size: usize) -> Result<usize, IndexOutOfRange> {
    let index = index.wide();
    let wrapped = if index < 0 { index.wrapping_add(size as i64) } else { index };
    if (wrapped as u64) < size as u64 { Ok(wrapped as usize) } else { Err(IndexOutOfRange { index, size }) }
}
