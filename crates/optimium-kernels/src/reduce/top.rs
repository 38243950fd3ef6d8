//! The largest or smallest elements.

use std::cmp::Ordering;

use super::Extreme;
use crate::elementwise::Number;
use crate::{Part, SharedSlice};

/// The `k` largest or smallest elements along the axis and their positions, of a tensor of `outer`,
/// `axis`, `inner` dimensions, in order from the most extreme; of equal ones those of lower positions,
/// first. NaN counts as larger than all. The results have `outer`, `k`, `inner` dimensions.
///
/// # Panics
/// Where the lengths do not fit, or `k` is larger than the axis.
pub fn top_k<T: Number>(
    extreme: Extreme,
    x: &[T],
    [outer, axis, inner]: [usize; 3],
    k: usize,
    values: SharedSlice<'_, T>,
    positions: SharedSlice<'_, i64>,
    part: Part,
) {
    let results = outer * k * inner;
    let fits =
        x.len() == outer * axis * inner && k <= axis && [values.len(), positions.len()] == [results; 2];
    assert!(fits, "{k} of {} elements as {outer}, {axis}, {inner} to {}", x.len(), values.len());
    if k == 0 {
        return;
    }
    let mut order: Vec<usize> = Vec::with_capacity(axis);
    for line in part.range(outer * inner) {
        let value = |j: usize| x[line / inner * axis * inner + j * inner + line % inner];
        let compare = |&i: &usize, &j: &usize| {
            let by_value = match extreme {
                Extreme::Largest => compare_numbers(value(j), value(i)),
                Extreme::Smallest => compare_numbers(value(i), value(j)),
            };
            by_value.then(i.cmp(&j))
        };
        order.clear();
        order.extend(0..axis);
        if k < axis {
            order.select_nth_unstable_by(k - 1, compare);
            order.truncate(k);
        }
        order.sort_unstable_by(compare);
        for (rank, &j) in order.iter().enumerate() {
            let i = line / inner * k * inner + rank * inner + line % inner;
            // SAFETY: the line is this part's own, and the lengths were checked.
            unsafe {
                values.as_mut_ptr().add(i).write(value(j));
                positions.as_mut_ptr().add(i).write(j as i64);
            }
        }
    }
}

/// The order of numbers, with NaN last.
#[allow(clippy::eq_op, reason = "NaN alone differs from itself, in a type that may be an integer")]
fn compare_numbers<T: Number>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

#[cfg(test)]
mod tests {
    use optimium_testing::Random;

    use super::*;

    #[test]
    fn against_sorting() {
        let mut random = Random::new(4);
        for shape in [[1, 1, 1], [3, 17, 1], [2, 9, 5], [1, 300, 2], [0, 3, 1]] {
            let [outer, axis, inner] = shape;
            let x: Vec<i32> = (0..outer * axis * inner).map(|_| random.range(-20, 20) as i32).collect();
            for (extreme, k) in [
                (Extreme::Largest, 1),
                (Extreme::Smallest, axis.min(4)),
                (Extreme::Largest, axis),
                (Extreme::Smallest, 0),
            ] {
                let n = outer * k * inner;
                let (mut values, mut positions) = (vec![0; n], vec![0; n]);
                for index in 0..2 {
                    let (values, positions) =
                        (SharedSlice::new(&mut values), SharedSlice::new(&mut positions));
                    top_k(extreme, &x, shape, k, values, positions, Part { index, count: 2 });
                }
                for line in 0..outer * inner {
                    let at = |j: usize, size: usize| line / inner * size * inner + j * inner + line % inner;
                    let mut sorted: Vec<(i32, usize)> = (0..axis).map(|j| (x[at(j, axis)], j)).collect();
                    sorted.sort_by_key(|&(v, j)| (if extreme == Extreme::Largest { -v } else { v }, j));
                    for (rank, &(value, j)) in sorted[..k].iter().enumerate() {
                        let i = at(rank, k);
                        assert_eq!((values[i], positions[i]), (value, j as i64), "{shape:?} {extreme:?} {k}");
                    }
                }
            }
        }
    }

    #[test]
    fn nan_is_largest() {
        let (mut values, mut positions) = ([0.0; 2], [0; 2]);
        let x = [1.0f32, f32::NAN, 3.0];
        let shared = SharedSlice::new(&mut values);
        top_k(Extreme::Largest, &x, [1, 3, 1], 2, shared, SharedSlice::new(&mut positions), Part::WHOLE);
        assert_eq!(positions, [1, 2]);
        let shared = SharedSlice::new(&mut values);
        top_k(Extreme::Smallest, &x, [1, 3, 1], 2, shared, SharedSlice::new(&mut positions), Part::WHOLE);
        assert_eq!(positions, [0, 2]);
    }
}
