//! How work and memory are shared between the workers of one step.

use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};

/// One worker's share of a kernel's work: part `index` of `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which part, below `count`.
    pub index: usize,
    /// How many parts there are.
    pub count: usize,
}

impl Part {
    /// All of the work.
    pub const WHOLE: Part = Part { index: 0, count: 1 };

    /// This part's share of `0..n`: contiguous, and balanced to one element.
    pub fn range(self, n: usize) -> Range<usize> {
        let (each, rest) = (n / self.count, n % self.count);
        let start = self.index * each + self.index.min(rest);
        start..start + each + usize::from(self.index < rest)
    }

    /// This part's share of `0..n`, cut at multiples of `granule` only.
    pub fn range_of_granules(self, n: usize, granule: usize) -> Range<usize> {
        let granules = self.range(n.div_ceil(granule));
        (granules.start * granule).min(n)..(granules.end * granule).min(n)
    }
}

/// A slice that several parts write at once, each its own elements.
#[derive(Debug)]
pub struct SharedSlice<'a, T> {
    pointer: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Clone for SharedSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for SharedSlice<'_, T> {}

// SAFETY: it is a mutable slice whose users promise, at `slice` and `as_mut_ptr`, to touch disjoint elements.
unsafe impl<T: Send> Send for SharedSlice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<'a, T> SharedSlice<'a, T> {
    /// Shares `slice`.
    pub fn new(slice: &'a mut [T]) -> Self {
        Self { pointer: slice.as_mut_ptr(), length: slice.len(), borrow: PhantomData }
    }

    /// Shares the `length` elements at `pointer`.
    ///
    /// # Safety
    /// They are valid for reads and writes, aligned and initialized, and for `'a` reached by the copies
    /// of this value alone.
    pub unsafe fn from_raw(pointer: *mut T, length: usize) -> Self {
        Self { pointer, length, borrow: PhantomData }
    }

    /// Number of elements.
    pub fn len(self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.length == 0
    }

    /// The first element's address. What is done through it must keep to the rule of [`slice`](Self::slice).
    pub fn as_mut_ptr(self) -> *mut T {
        self.pointer
    }

    /// The shared elements of `range`.
    ///
    /// # Panics
    /// Where the range is out of bounds.
    pub fn narrow(self, range: Range<usize>) -> SharedSlice<'a, T> {
        assert!(range.start <= range.end && range.end <= self.length, "range out of bounds");
        let pointer = self.pointer.wrapping_add(range.start);
        SharedSlice { pointer, length: range.end - range.start, borrow: PhantomData }
    }

    /// The elements of `range`.
    ///
    /// # Safety
    /// No other slice of an overlapping range is alive, on this thread or another.
    ///
    /// # Panics
    /// Where the range is out of bounds.
    pub unsafe fn slice(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "range out of bounds");
        // SAFETY: in bounds by the assertion; disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(range.start), range.end - range.start) }
    }
}

/// A vector of plain values that starts at a 64-byte boundary: packed weights, scratch memory.
#[derive(Debug)]
pub struct AlignedVec<T> {
    lines: Vec<Line>,
    length: usize,
    element: PhantomData<T>,
}

/// One cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl<T: bytemuck::Pod> AlignedVec<T> {
    /// `length` zeros.
    pub fn zeroed(length: usize) -> Self {
        let lines = (length * size_of::<T>()).div_ceil(size_of::<Line>());
        Self { lines: vec![Line([0; 64]); lines], length, element: PhantomData }
    }
}

impl<T: bytemuck::Pod> Clone for AlignedVec<T> {
    fn clone(&self) -> Self {
        Self { lines: self.lines.clone(), length: self.length, element: PhantomData }
    }
}

impl<T: bytemuck::Pod> Deref for AlignedVec<T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: the lines hold `length` elements, aligned to 64 bytes, and every bit pattern is a T.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.length) }
    }
}

impl<T: bytemuck::Pod> DerefMut for AlignedVec<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.length) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for n in 0..40 {
            for count in 1..6 {
                for granule in 1..5 {
                    let mut next = 0;
                    for index in 0..count {
                        let range = Part { index, count }.range_of_granules(n, granule);
                        assert_eq!(range.start, next);
                        next = range.end;
                    }
                    assert_eq!(next, n);
                }
            }
        }
    }

    #[test]
    fn aligned_vectors_are_aligned() {
        for n in [0, 1, 15, 16, 17, 1000] {
            let v = AlignedVec::<f32>::zeroed(n);
            assert_eq!(v.len(), n);
            assert!(n == 0 || v.as_ptr().addr().is_multiple_of(64));
        }
    }
}
