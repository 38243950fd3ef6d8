//! Cumulative sums and products.

use crate::elementwise::Number;
use crate::{Part, SharedSlice};

/// The sum of the elements up to each along the axis, of a tensor of `outer`, `axis`, `inner` dimensions;
/// without the element itself where `exclusive`, from the end where `reverse`.
///
/// # Panics
/// Where the lengths do not fit.
pub fn cumulative_sum<T: Number>(
    x: &[T],
    sizes: [usize; 3],
    exclusive: bool,
    reverse: bool,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    accumulate(x, sizes, [exclusive, reverse], T::ZERO, T::add, y, part);
}

/// As [`cumulative_sum`], of products.
///
/// # Panics
/// Where the lengths do not fit.
pub fn cumulative_product<T: Number>(
    x: &[T],
    sizes: [usize; 3],
    exclusive: bool,
    reverse: bool,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    accumulate(x, sizes, [exclusive, reverse], T::ONE, T::mul, y, part);
}

#[inline(always)]
fn accumulate<T: Number>(
    x: &[T],
    [outer, axis, inner]: [usize; 3],
    [exclusive, reverse]: [bool; 2],
    first: T,
    combine: impl Fn(T, T) -> T,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    let fits = x.len() == outer * axis * inner && y.len() == x.len();
    assert!(fits, "{} elements as {outer}, {axis}, {inner} to {} sums", x.len(), y.len());
    for line in part.range(outer * inner) {
        let base = line / inner * axis * inner + line % inner;
        let mut sum = first;
        for step in 0..axis {
            let i = base + if reverse { axis - 1 - step } else { step } * inner;
            let next = combine(sum, x[i]);
            // SAFETY: the line is this part's own, and the length was checked.
            unsafe { y.as_mut_ptr().add(i).write(if exclusive { sum } else { next }) };
            sum = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_direction() {
        let x = [1i64, 2, 3, 4, 5, 6];
        let cases = [
            ([2, 3, 1], false, false, [1, 3, 6, 4, 9, 15]),
            ([2, 3, 1], true, false, [0, 1, 3, 0, 4, 9]),
            ([2, 3, 1], false, true, [6, 5, 3, 15, 11, 6]),
            ([1, 2, 3], false, false, [1, 2, 3, 5, 7, 9]),
            ([1, 3, 2], true, true, [8, 10, 5, 6, 0, 0]),
        ];
        for (shape, exclusive, reverse, expected) in cases {
            for count in 1..4 {
                let mut y = [-1; 6];
                for index in 0..count {
                    let part = Part { index, count };
                    cumulative_sum(&x, shape, exclusive, reverse, SharedSlice::new(&mut y), part);
                }
                assert_eq!(y, expected, "{shape:?} {exclusive} {reverse}");
            }
        }
    }

    #[test]
    fn products() {
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let cases = [
            ([2, 3, 1], false, false, [1.0, 2.0, 6.0, 4.0, 20.0, 120.0]),
            ([2, 3, 1], true, false, [1.0, 1.0, 2.0, 1.0, 4.0, 20.0]),
            ([1, 3, 2], true, true, [15.0, 24.0, 5.0, 6.0, 1.0, 1.0]),
        ];
        for (shape, exclusive, reverse, expected) in cases {
            let mut y = [0.0; 6];
            cumulative_product(&x, shape, exclusive, reverse, SharedSlice::new(&mut y), Part::WHOLE);
            assert_eq!(y, expected, "{shape:?} {exclusive} {reverse}");
        }
    }
}
