//! The loop of a vector function over contiguous memory.

use std::ops::Range;

use optimium_simd::Simd;

use super::Source;
use crate::SharedSlice;

/// A function of one vector.
///
/// A trait and no closure: a closure cannot be forced to be inlined, and what is not inlined into the
/// task has none of its instruction set's features.
pub(crate) trait VectorFunction: Copy {
    /// Lane by lane.
    fn apply<S: Simd>(self, simd: S, x: S::F32) -> S::F32;
}

/// A run of elements to be mapped; both may be the same memory.
#[derive(Clone, Copy)]
pub(crate) struct Map {
    x: *const f32,
    y: *mut f32,
    length: usize,
}

impl Map {
    /// The elements of `range` of `x` and `y`.
    ///
    /// # Safety
    /// The range lies in both, no other thread touches its elements of `y`, and `x` is the same memory
    /// as `y` or apart from it.
    pub(crate) unsafe fn new(x: Source<'_, f32>, y: SharedSlice<'_, f32>, range: Range<usize>) -> Map {
        // SAFETY: in bounds by the caller's promise.
        let (x, y) = unsafe { (x.as_ptr().add(range.start), y.as_mut_ptr().add(range.start)) };
        Map { x, y, length: range.len() }
    }

    /// The `length` elements at `x`, in place.
    ///
    /// # Safety
    /// They are readable and writable, and no other thread touches them.
    #[inline(always)]
    pub(crate) unsafe fn in_place(x: *mut f32, length: usize) -> Map {
        Map { x, y: x, length }
    }

    /// `y = function(x)`
    #[inline(always)]
    pub(crate) fn run<S: Simd>(self, simd: S, function: impl VectorFunction) {
        let Map { x, y, length } = self;
        let mut i = 0;
        while i + S::LANES <= length {
            // SAFETY: LANES elements from i on are in bounds, by the promise at `new`.
            unsafe { simd.store(y.add(i), function.apply(simd, simd.load(x.add(i)))) };
            i += S::LANES;
        }
        if i < length {
            let mask = simd.first(length - i);
            // SAFETY: the mask selects the elements that are left.
            unsafe {
                let last = function.apply(simd, simd.load_masked(x.add(i), mask));
                simd.store_masked(y.add(i), last, mask);
            }
        }
    }
}
