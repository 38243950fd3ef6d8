//! The position of the largest or smallest element.

use crate::elementwise::Number;
use crate::{Part, SharedSlice};

/// Which element is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Extreme {
    /// The largest; NaN counts as larger than all.
    Largest,
    /// The smallest; NaN counts as smaller than all.
    Smallest,
}

/// The position along the axis of the extreme element, of a tensor of `outer`, `axis`, `inner`
/// dimensions; of equal ones the first, or the last where `select_last` says so. The result has `outer`,
/// `inner` dimensions.
///
/// # Panics
/// Where the lengths do not fit, or the axis is empty while there are results.
pub fn extreme_index<T: Number>(
    extreme: Extreme,
    select_last: bool,
    x: &[T],
    [outer, axis, inner]: [usize; 3],
    y: SharedSlice<'_, i64>,
    part: Part,
) {
    let fits = x.len() == outer * axis * inner && y.len() == outer * inner && (axis > 0 || y.is_empty());
    assert!(fits, "{} elements as {outer}, {axis}, {inner} to {} positions", x.len(), y.len());
    match (extreme, select_last) {
        (Extreme::Largest, false) => each(x, axis, inner, y, part, |x, best| x > best),
        (Extreme::Largest, true) => each(x, axis, inner, y, part, |x, best| x >= best),
        (Extreme::Smallest, false) => each(x, axis, inner, y, part, |x, best| x < best),
        (Extreme::Smallest, true) => each(x, axis, inner, y, part, |x, best| x <= best),
    }
}

fn each<T: Number>(
    x: &[T],
    axis: usize,
    inner: usize,
    y: SharedSlice<'_, i64>,
    part: Part,
    wins: impl Fn(T, T) -> bool,
) {
    for i in part.range_of_granules(y.len(), 16) {
        let base = i / inner * axis * inner + i % inner;
        let mut best = (0, x[base]);
        for j in 1..axis {
            let value = x[base + j * inner];
            if wins(value, best.1) || (is_nan(value) && !is_nan(best.1)) {
                best = (j, value);
            }
        }
        // SAFETY: the position is this part's own, and the length was checked.
        unsafe { y.as_mut_ptr().add(i).write(best.0 as i64) };
    }
}

#[allow(clippy::eq_op, reason = "NaN alone differs from itself, in a type that may be an integer")]
fn is_nan<T: Number>(x: T) -> bool {
    x != x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_of_first_and_last() {
        let x = [3i32, 1, 7, 7, 2, 1, 5, 7, 0, 4, 4, 1];
        let cases = [
            (Extreme::Largest, false, [3, 4, 1], vec![2, 3, 1]),
            (Extreme::Largest, true, [3, 4, 1], vec![3, 3, 2]),
            (Extreme::Smallest, false, [1, 3, 4], vec![2, 0, 2, 2]),
            (Extreme::Smallest, true, [1, 3, 4], vec![2, 1, 2, 2]),
            (Extreme::Largest, false, [2, 3, 2], vec![1, 1, 0, 0]),
            (Extreme::Largest, false, [0, 3, 2], vec![]),
        ];
        for (extreme, last, shape, expected) in cases {
            for count in 1..3 {
                let mut y = vec![-1; expected.len()];
                for index in 0..count {
                    let x = &x[..shape.iter().product()];
                    extreme_index(extreme, last, x, shape, SharedSlice::new(&mut y), Part { index, count });
                }
                assert_eq!(y, expected, "{extreme:?} {last} {shape:?}");
            }
        }
    }

    #[test]
    fn nan_is_extreme() {
        for extreme in [Extreme::Largest, Extreme::Smallest] {
            let mut y = [0];
            let x = [1.0f32, f32::NAN, 3.0];
            extreme_index(extreme, false, &x, [1, 3, 1], SharedSlice::new(&mut y), Part::WHOLE);
            assert_eq!(y, [1]);
        }
    }
}
