//! Cumulative sums.

use crate::elementwise::Number;
use crate::{Part, SharedSlice};

/// The sum of the elements up to each along the axis, of a tensor of `outer`, `axis`, `inner` dimensions;
/// without the element itself where `exclusive`, from the end where `reverse`.
///
/// # Panics
/// Where the lengths do not fit.
pub fn cumulative_sum<T: Number>(
    x: &[T],
    [outer, axis, inner]: [usize; 3],
    exclusive: bool,
    reverse: bool,
    y: SharedSlice<'_, T>,
    part: Part,
) {
    let fits = x.len() == outer * axis * inner && y.len() == x.len();
    assert!(fits, "{} elements as {outer}, {axis}, {inner} to {} sums", x.len(), y.len());
    for line in part.range(outer * inner) {
        let base = line / inner * axis * inner + line % inner;
        let mut sum = T::ZERO;
        for step in 0..axis {
            let i = base + if reverse { axis - 1 - step } else { step } * inner;
            let next = sum.add(x[i]);
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
}
