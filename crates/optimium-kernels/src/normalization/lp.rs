//! Division by the norm along an axis.

use optimium_simd::{Level, Simd, SimdTask};

use super::rows::map_columns;
use crate::elementwise::Source;
use crate::reduce::fold::{Absolute, Add, Square, Term, fold_columns, fold_row};
use crate::reduce::runs;
use crate::{Part, SharedSlice};

/// `x / ‖x‖` along the middle one of three dimensions `outer`, `axis`, `inner`, with the norm `Σ|x|` or,
/// where `squared`, `√(Σx²)`; 0 where that is 0. `x` may be the memory of `y`.
///
/// # Panics
/// Where the lengths do not fit, or `x` overlaps `y` without being the same.
pub fn lp_normalize<'a>(
    level: Level,
    squared: bool,
    x: impl Into<Source<'a, f32>>,
    [outer, axis, inner]: [usize; 3],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    x.assert_elementwise(y);
    assert!(x.len() == outer * axis * inner, "{} elements as {outer}, {axis}, {inner}", x.len());
    level.run(LpTask { squared, x, outer, axis, inner, y, part });
}

struct LpTask<'a, 'b> {
    squared: bool,
    x: Source<'a, f32>,
    outer: usize,
    axis: usize,
    inner: usize,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for LpTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.squared {
            self.all(simd, Square, |sum| simd.sqrt(sum));
        } else {
            self.all(simd, Absolute, |sum| sum);
        }
    }
}

impl LpTask<'_, '_> {
    #[inline(always)]
    fn all<S: Simd>(&self, simd: S, term: impl Term, root: impl Fn(S::F32) -> S::F32) {
        let (n, step) = (self.axis, self.inner);
        let (x, y) = (self.x.as_ptr(), self.y.as_mut_ptr());
        let lines = self.part.range_of_granules(self.outer * self.inner, 16);
        for (outer, columns) in runs(lines, self.inner) {
            for column in columns.clone().step_by(S::LANES) {
                let start = outer * n * step + column;
                // SAFETY: the lines lie in both, whose lengths were checked, and are this part's own.
                unsafe {
                    let (x, y) = (x.add(start), y.add(start));
                    if step == 1 {
                        let norm = root(simd.splat(fold_row::<S, Add>(simd, x, n, term, simd.splat(0.0))));
                        map_columns(simd, n, x, y, |x, _, _| quotient(simd, x, norm));
                        continue;
                    }
                    let lanes = simd.first(columns.end - column);
                    let mut sum = [simd.splat(0.0)];
                    fold_columns::<S, Add, 1>(simd, x, n, step, lanes, &mut sum, term, &[simd.splat(0.0)]);
                    let norm = root(sum[0]);
                    for i in 0..n {
                        let v = simd.load_masked(x.add(i * step), lanes);
                        simd.store_masked(y.add(i * step), quotient(simd, v, norm), lanes);
                    }
                }
            }
        }
    }
}

/// `x / norm`, 0 where the norm is 0.
#[inline(always)]
fn quotient<S: Simd>(simd: S, x: S::F32, norm: S::F32) -> S::F32 {
    let zero = simd.splat(0.0);
    simd.select(simd.eq(norm, zero), zero, simd.div(x, norm))
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    #[test]
    fn both_norms_along_every_axis() {
        let mut random = Random::new(10);
        let mut values = random.floats(3000);
        values[..40].fill(0.0);
        let shapes = [[3, 20, 1], [2, 17, 1], [2, 5, 3], [1, 7, 100], [2, 40, 16], [0, 2, 2], [2, 0, 2]];
        let cases = Level::available().flat_map(|level| {
            [false, true].into_iter().flat_map(move |squared| shapes.map(|s| (level, squared, s)))
        });
        each_case(cases.collect::<Vec<_>>(), |&(level, squared, shape)| {
            let [outer, axis, inner] = shape;
            let x = &values[..outer * axis * inner];
            let mut expected = vec![0.0; x.len()];
            for line in 0..outer * inner {
                let at = |i: usize| line / inner * axis * inner + i * inner + line % inner;
                let power = if squared { 2 } else { 1 };
                let sum: f64 = (0..axis).map(|i| f64::from(x[at(i)]).abs().powi(power)).sum();
                let norm = if squared { sum.sqrt() } else { sum };
                for i in 0..axis {
                    expected[at(i)] = if norm == 0.0 { 0.0 } else { (f64::from(x[at(i)]) / norm) as f32 };
                }
            }
            for count in 1..4 {
                let mut y = x.to_vec();
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    lp_normalize(level, squared, shared, shape, shared, Part { index, count });
                }
                compare(&y, &expected, Tolerance::Relative(1e-6))?;
            }
            Ok(())
        });
    }
}
