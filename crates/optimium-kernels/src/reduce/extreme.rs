//! The position of the largest or smallest element.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::plan::runs;
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
    level: Level,
    extreme: Extreme,
    select_last: bool,
    x: &[T],
    [outer, axis, inner]: [usize; 3],
    y: SharedSlice<'_, i64>,
    part: Part,
) {
    let fits = x.len() == outer * axis * inner && y.len() == outer * inner && (axis > 0 || y.is_empty());
    assert!(fits, "{} elements as {outer}, {axis}, {inner} to {} positions", x.len(), y.len());
    level.run(Search { extreme, select_last, x, axis, inner, y, part });
}

struct Search<'a, T> {
    extreme: Extreme,
    select_last: bool,
    x: &'a [T],
    axis: usize,
    inner: usize,
    y: SharedSlice<'a, i64>,
    part: Part,
}

impl<T: Number> SimdTask for Search<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        match (self.extreme, self.select_last) {
            (Extreme::Largest, false) => self.each(
                #[inline(always)]
                |x, best| x > best,
            ),
            (Extreme::Largest, true) => self.each(
                #[inline(always)]
                |x, best| x >= best,
            ),
            (Extreme::Smallest, false) => self.each(
                #[inline(always)]
                |x, best| x < best,
            ),
            (Extreme::Smallest, true) => self.each(
                #[inline(always)]
                |x, best| x <= best,
            ),
        }
    }
}

/// Neighbouring results that are searched side by side, in loops that compilers vectorise by themselves.
const SIDE_BY_SIDE: usize = 64;

impl<T: Number> Search<'_, T> {
    #[inline(always)]
    fn each(&self, wins: impl Fn(T, T) -> bool) {
        for (outer, columns) in runs(self.part.range_of_granules(self.y.len(), 16), self.inner) {
            let mut first = columns.start;
            while first + SIDE_BY_SIDE <= columns.end && u32::try_from(self.axis).is_ok() {
                self.side_by_side(outer, first, &wins);
                first += SIDE_BY_SIDE;
            }
            self.one_by_one(outer, first..columns.end, &wins);
        }
    }

    /// The results of `columns` of an outer position.
    #[inline(always)]
    fn one_by_one(&self, outer: usize, columns: Range<usize>, wins: &impl Fn(T, T) -> bool) {
        for column in columns {
            let base = outer * self.axis * self.inner + column;
            let mut best = (0, self.x[base]);
            for j in 1..self.axis {
                let value = self.x[base + j * self.inner];
                if wins(value, best.1) || (is_nan(value) && !is_nan(best.1)) {
                    best = (j, value);
                }
            }
            self.write(outer, column, best.0 as i64);
        }
    }

    /// The results of the columns from `first` on.
    #[inline(always)]
    fn side_by_side(&self, outer: usize, first: usize, wins: &impl Fn(T, T) -> bool) {
        let row = |j: usize| &self.x[(outer * self.axis + j) * self.inner + first..][..SIDE_BY_SIDE];
        let mut best = [row(0)[0]; SIDE_BY_SIDE];
        best.copy_from_slice(row(0));
        let mut positions = [0u32; SIDE_BY_SIDE];
        for j in 1..self.axis {
            for ((best, position), &value) in best.iter_mut().zip(&mut positions).zip(row(j)) {
                let won = wins(value, *best) | (is_nan(value) & !is_nan(*best));
                *best = if won { value } else { *best };
                *position = if won { j as u32 } else { *position };
            }
        }
        for (i, &position) in positions.iter().enumerate() {
            self.write(outer, first + i, position.into());
        }
    }

    #[inline(always)]
    fn write(&self, outer: usize, column: usize, position: i64) {
        // SAFETY: the position is this part's own, and the length was checked.
        unsafe { self.y.as_mut_ptr().add(outer * self.inner + column).write(position) };
    }
}

#[inline(always)]
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
                    let (level, part) = (Level::best(), Part { index, count });
                    extreme_index(level, extreme, last, x, shape, SharedSlice::new(&mut y), part);
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
            let level = Level::best();
            extreme_index(level, extreme, false, &x, [1, 3, 1], SharedSlice::new(&mut y), Part::WHOLE);
            assert_eq!(y, [1]);
        }
    }

    #[test]
    fn many_results_beside_each_other() {
        let [outer, axis, inner] = [3, 7, 150];
        let value = |i: usize| if i % 41 == 5 { f32::NAN } else { (i * 7919 % 13) as f32 };
        let x: Vec<f32> = (0..outer * axis * inner).map(value).collect();
        let better = |extreme, last, a: f32, b: f32| match (extreme, last) {
            _ if a.is_nan() || b.is_nan() => a.is_nan() && !b.is_nan(),
            (Extreme::Largest, false) => a > b,
            (Extreme::Largest, true) => a >= b,
            (Extreme::Smallest, false) => a < b,
            (Extreme::Smallest, true) => a <= b,
        };
        let kinds = [Extreme::Largest, Extreme::Smallest];
        let cases = Level::available().flat_map(|level| kinds.map(|extreme| (level, extreme)));
        for ((level, extreme), last) in cases.flat_map(|case| [(case, false), (case, true)]) {
            let expected: Vec<i64> = (0..outer * inner)
                .map(|i| {
                    let at = |j: usize| x[(i / inner * axis + j) * inner + i % inner];
                    let next = |best, j| if better(extreme, last, at(j), at(best)) { j } else { best };
                    (1..axis).fold(0, next) as i64
                })
                .collect();
            for count in 1..4 {
                let mut y = vec![-1; expected.len()];
                for index in 0..count {
                    let (y, part) = (SharedSlice::new(&mut y), Part { index, count });
                    extreme_index(level, extreme, last, &x, [outer, axis, inner], y, part);
                }
                assert_eq!(y, expected, "{level} {extreme:?} {last}, {count} parts");
            }
        }
    }
}
