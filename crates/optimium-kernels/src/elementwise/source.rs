//! An input that may lie in the memory of the output.

use std::marker::PhantomData;

use crate::SharedSlice;

/// The elements that a kernel reads: a slice, or memory that others write in between.
///
/// An elementwise kernel reads each element before it writes the one at the same place, so that it may work in place:
/// give the output's [`SharedSlice`] as input too. A kernel whose rows have a stride may read rows that lie between those that it
/// writes.
#[derive(Debug)]
pub struct Source<'a, T> {
    pointer: *const T,
    length: usize,
    borrow: PhantomData<&'a [T]>,
}

impl<T> Clone for Source<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Source<'_, T> {}

impl<'a, T> From<&'a [T]> for Source<'a, T> {
    fn from(slice: &'a [T]) -> Self {
        Source { pointer: slice.as_ptr(), length: slice.len(), borrow: PhantomData }
    }
}

impl<'a, T> From<&'a Vec<T>> for Source<'a, T> {
    fn from(vec: &'a Vec<T>) -> Self {
        vec.as_slice().into()
    }
}

impl<'a, T> From<SharedSlice<'a, T>> for Source<'a, T> {
    fn from(shared: SharedSlice<'a, T>) -> Self {
        Source { pointer: shared.as_mut_ptr(), length: shared.len(), borrow: PhantomData }
    }
}

impl<T> Source<'_, T> {
    /// Number of elements.
    pub fn len(self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The elements from `first` on.
    ///
    /// # Panics
    /// Where there are fewer.
    pub fn from(self, first: usize) -> Self {
        assert!(first <= self.length, "element {first} of {}", self.length);
        Source { pointer: self.pointer.wrapping_add(first), length: self.length - first, ..self }
    }

    /// The first element's address.
    pub fn as_ptr(self) -> *const T {
        self.pointer
    }

    /// Whether a byte of these elements is a byte of `y` too.
    pub(crate) fn overlaps<U>(self, y: SharedSlice<'_, U>) -> bool {
        let (start, y_start) = (self.pointer.addr(), y.as_mut_ptr().addr());
        let end = start + self.length * size_of::<T>();
        let y_end = y_start + y.len() * size_of::<U>();
        start < y_end && y_start < end
    }

    /// Checks that element `i` of this may be read before element `i` of `y` is written.
    ///
    /// # Panics
    /// Where the lengths differ, or the memory overlaps otherwise than element by element.
    pub(crate) fn assert_elementwise<U>(self, y: SharedSlice<'_, U>) {
        assert!(self.length == y.len(), "{} elements for an output of {}", self.length, y.len());
        let same = self.pointer.addr() == y.as_mut_ptr().addr() && size_of::<T>() == size_of::<U>();
        assert!(same || !self.overlaps(y), "the input overlaps the output without being the same");
    }
}
