//! Reductions of `f32`, by vectors along the rows or across the columns.

use optimium_simd::{Level, Simd, SimdTask};

use super::fold::{
    Absolute, Add, Fold, Identity, Largest, Multiply, ShiftedExp, Smallest, Square, Term, fold_columns,
    fold_row,
};
use super::plan::{Dimension, offset_of, runs, size_of_all, split_innermost};
use super::{Reduce, Reduction};
use crate::{Part, SharedSlice, math};

/// Vectors of a column tile.
const TILE: usize = 4;

/// The reduction of each result's elements.
///
/// # Panics
/// Where `x` or `y` has another length than `plan` says.
pub fn reduce_f32(
    level: Level,
    reduction: Reduction,
    plan: &Reduce,
    x: &[f32],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    plan.check(x.len(), y.len());
    level.run(ReduceTask { reduction, plan, x, y, part });
}

struct ReduceTask<'a> {
    reduction: Reduction,
    plan: &'a Reduce,
    x: &'a [f32],
    y: SharedSlice<'a, f32>,
    part: Part,
}

impl SimdTask for ReduceTask<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.reduction {
            Reduction::Sum | Reduction::Mean | Reduction::LogSum => self.all::<S, Add>(simd, Identity),
            Reduction::L1 => self.all::<S, Add>(simd, Absolute),
            Reduction::L2 | Reduction::SumSquare => self.all::<S, Add>(simd, Square),
            Reduction::Prod => self.all::<S, Multiply>(simd, Identity),
            Reduction::Max => self.all::<S, Largest>(simd, Identity),
            Reduction::Min => self.all::<S, Smallest>(simd, Identity),
            Reduction::LogSumExp => {
                let largest = ReduceTask { reduction: Reduction::Max, ..self };
                largest.all::<S, Largest>(simd, Identity);
                self.all::<S, Add>(simd, ShiftedExp);
            }
        }
    }
}

impl ReduceTask<'_> {
    /// Every result of this part. The amount that a result's elements are shifted by is, of
    /// [`Reduction::LogSumExp`], the maximum, which the output holds then; else 0.
    #[inline(always)]
    fn all<S: Simd, F: Fold>(&self, simd: S, term: impl Term) {
        let range = self.part.range_of_granules(self.y.len(), 16);
        if !self.plan.inner_is_kept() {
            for i in range {
                self.row::<S, F>(simd, i, term);
            }
            return;
        }
        let (_, inner) = split_innermost(&self.plan.kept);
        for (outer, columns) in runs(range, inner.size) {
            let mut column = columns.start;
            while column + TILE * S::LANES <= columns.end {
                self.columns::<S, F, TILE>(simd, outer, column, TILE * S::LANES, term);
                column += TILE * S::LANES;
            }
            while column < columns.end {
                let n = S::LANES.min(columns.end - column);
                self.columns::<S, F, 1>(simd, outer, column, n, term);
                column += n;
            }
        }
    }

    /// Result `i`, whose elements lie in rows.
    #[inline(always)]
    fn row<S: Simd, F: Fold>(&self, simd: S, i: usize, term: impl Term) {
        let (outer, inner) = split_innermost(&self.plan.reduced);
        let base = offset_of(&self.plan.kept, i);
        // SAFETY: the result is this part's own, and its length was checked.
        let result = unsafe { &mut *self.y.as_mut_ptr().add(i) };
        let is_shifted = self.reduction == Reduction::LogSumExp;
        let shift = if is_shifted { finite_or_zero(*result) } else { 0.0 };
        let mut total = simd.splat(F::IDENTITY);
        for j in 0..self.runs(outer) {
            let row = &self.x[base + offset_of(outer, j)..][..inner.size];
            // SAFETY: the row is a slice.
            let value = unsafe { fold_row::<S, F>(simd, row.as_ptr(), row.len(), term, simd.splat(shift)) };
            total = F::combine(simd, total, simd.splat(value));
        }
        let mut lanes = [0.0; 16];
        const { assert!(S::LANES <= 16) };
        // SAFETY: the array has at least LANES elements.
        unsafe { simd.store(lanes.as_mut_ptr(), total) };
        *result = self.finish(lanes[0], shift);
    }

    /// The `n` results from `column` on in row `outer` of the results, of `V` vectors.
    #[inline(always)]
    fn columns<S: Simd, F: Fold, const V: usize>(
        &self,
        simd: S,
        outer: usize,
        column: usize,
        n: usize,
        term: impl Term,
    ) {
        let (outer_kept, inner_kept) = split_innermost(&self.plan.kept);
        let (outer_reduced, inner_reduced) = split_innermost(&self.plan.reduced);
        let base = offset_of(outer_kept, outer) + column;
        let last = simd.first(n - (V - 1) * S::LANES);
        let mask = |j: usize| if j + 1 < V { simd.first(S::LANES) } else { last };
        // SAFETY: the results are this part's own, and their length was checked.
        let y = unsafe { self.y.as_mut_ptr().add(outer * inner_kept.size + column) };
        let is_shifted = self.reduction == Reduction::LogSumExp;
        let mut shifts = [simd.splat(0.0); V];
        if is_shifted {
            for (j, shift) in shifts.iter_mut().enumerate() {
                // SAFETY: the mask selects results of this tile.
                let largest = unsafe { simd.load_masked(y.add(j * S::LANES), mask(j)) };
                let is_finite = simd.lt(simd.abs(largest), simd.splat(f32::INFINITY));
                *shift = simd.select(is_finite, largest, simd.splat(0.0));
            }
        }
        let mut totals = [simd.splat(F::IDENTITY); V];
        for j in 0..self.runs(outer_reduced) {
            let rows = &self.x[base + offset_of(outer_reduced, j)..];
            let reach = (inner_reduced.size - 1) * inner_reduced.stride + n;
            assert!(reach <= rows.len());
            // SAFETY: the rows reach as far as was asserted.
            unsafe {
                fold_columns::<S, F, V>(
                    simd,
                    rows.as_ptr(),
                    inner_reduced.size,
                    inner_reduced.stride,
                    last,
                    &mut totals,
                    term,
                    &shifts,
                );
            }
        }
        for j in 0..V {
            let result = self.finish_vector(simd, totals[j], shifts[j]);
            // SAFETY: the mask selects results of this tile.
            unsafe { simd.store_masked(y.add(j * S::LANES), result, mask(j)) };
        }
    }

    /// How often the innermost reduced dimension is gone through; never where there is nothing to reduce.
    #[inline(always)]
    fn runs(&self, outer: &[Dimension]) -> usize {
        if self.plan.count() == 0 { 0 } else { size_of_all(outer) }
    }

    #[inline(always)]
    fn finish(&self, x: f32, shift: f32) -> f32 {
        match self.reduction {
            Reduction::Mean => x / self.plan.count() as f32,
            Reduction::L2 => x.sqrt(),
            Reduction::LogSum => x.ln(),
            Reduction::LogSumExp => x.ln() + shift,
            _ => x,
        }
    }

    #[inline(always)]
    fn finish_vector<S: Simd>(&self, simd: S, x: S::F32, shift: S::F32) -> S::F32 {
        match self.reduction {
            Reduction::Mean => simd.div(x, simd.splat(self.plan.count() as f32)),
            Reduction::L2 => simd.sqrt(x),
            Reduction::LogSum => math::log(simd, x),
            Reduction::LogSumExp => simd.add(math::log(simd, x), shift),
            _ => x,
        }
    }
}

/// The shift of a maximum: where that is infinite, or the maximum of nothing, none.
fn finite_or_zero(x: f32) -> f32 {
    if x.is_finite() { x } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    const ALL: [Reduction; 10] = [
        Reduction::Sum,
        Reduction::Mean,
        Reduction::Max,
        Reduction::Min,
        Reduction::Prod,
        Reduction::L1,
        Reduction::L2,
        Reduction::SumSquare,
        Reduction::LogSum,
        Reduction::LogSumExp,
    ];

    fn naive(reduction: Reduction, shape: &[usize], axes: &[usize], x: &[f32]) -> Vec<f32> {
        let kept: Vec<usize> = (0..shape.len()).filter(|axis| !axes.contains(axis)).collect();
        let outputs: usize = kept.iter().map(|&axis| shape[axis]).product();
        let mut groups = vec![Vec::new(); outputs];
        for (i, &value) in x.iter().enumerate() {
            let index = |axis: usize| i / shape[axis + 1..].iter().product::<usize>() % shape[axis];
            groups[kept.iter().fold(0, |o, &axis| o * shape[axis] + index(axis))].push(f64::from(value));
        }
        groups.iter().map(|group| naive_group(reduction, group) as f32).collect()
    }

    fn naive_group(reduction: Reduction, x: &[f64]) -> f64 {
        let has_nan = x.iter().any(|x| x.is_nan());
        let largest = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match reduction {
            Reduction::Max | Reduction::Min if has_nan => f64::NAN,
            Reduction::Sum => x.iter().sum(),
            Reduction::Mean => x.iter().sum::<f64>() / x.len() as f64,
            Reduction::Max => largest,
            Reduction::Min => x.iter().copied().fold(f64::INFINITY, f64::min),
            Reduction::Prod => x.iter().product(),
            Reduction::L1 => x.iter().map(|x| x.abs()).sum(),
            Reduction::L2 => x.iter().map(|x| x * x).sum::<f64>().sqrt(),
            Reduction::SumSquare => x.iter().map(|x| x * x).sum(),
            Reduction::LogSum => x.iter().sum::<f64>().ln(),
            Reduction::LogSumExp => x.iter().map(|x| x.exp()).sum::<f64>().ln(),
        }
    }

    #[test]
    fn every_reduction_over_every_kind_of_axes() {
        let shapes: [(&[usize], &[usize]); 20] = [
            (&[1], &[0]),
            (&[5, 1], &[1]),
            (&[3, 15], &[1]),
            (&[3, 16], &[1]),
            (&[2, 63], &[1]),
            (&[2, 129], &[1]),
            (&[1, 5000], &[1]),
            (&[300, 3], &[0]),
            (&[49, 64], &[0]),
            (&[2, 49, 77], &[1]),
            (&[2, 7, 5, 200], &[1, 2]),
            (&[4, 3, 5, 6], &[0, 2]),
            (&[4, 3, 5, 6], &[1, 3]),
            (&[4, 3, 5, 6], &[0, 1, 2, 3]),
            (&[4, 3], &[]),
            (&[0, 3], &[0]),
            (&[3, 0], &[1]),
            (&[0, 3], &[1]),
            (&[0, 300], &[0]),
            (&[0, 3, 4], &[0, 2]),
        ];
        let mut random = Random::new(2);
        // Positive, so that logarithms are defined; near one, so that products are.
        let x: Vec<f32> = random.floats(20_000).iter().map(|x| 1.0 + x * 0.01).collect();
        let cases = Level::available()
            .flat_map(|level| shapes.into_iter().flat_map(move |shape| ALL.map(|op| (level, shape, op))));
        each_case(cases.collect::<Vec<_>>(), |&(level, (shape, axes), op)| {
            let x = &x[..shape.iter().product()];
            let expected = naive(op, shape, axes, x);
            let plan = Reduce::new(shape, axes);
            let mut whole = Vec::new();
            for count in 1..4 {
                let mut y = vec![0.5; expected.len()];
                for index in 0..count {
                    reduce_f32(level, op, &plan, x, SharedSlice::new(&mut y), Part { index, count });
                }
                compare(&y, &expected, Tolerance::Relative(3e-6))?;
                if count == 1 {
                    whole = y.clone();
                }
                compare(&y, &whole, Tolerance::Exact)?;
            }
            Ok(())
        });
    }

    #[test]
    fn extremes_and_infinities() {
        let rows = [
            [1.0, f32::NAN, 3.0],
            [f32::NEG_INFINITY, f32::NEG_INFINITY, f32::NEG_INFINITY],
            [100.0, 1000.0, 1000.0],
            [f32::INFINITY, 1.0, -1.0],
        ];
        let rows_flat = rows.concat();
        let columns: Vec<f32> = (0..12).map(|i| rows[i % 4][i / 4]).collect();
        let cases = [
            (Reduction::Max, [f32::NAN, f32::NEG_INFINITY, 1000.0, f32::INFINITY]),
            (Reduction::Min, [f32::NAN, f32::NEG_INFINITY, 100.0, -1.0]),
            (Reduction::LogSumExp, [f32::NAN, f32::NEG_INFINITY, 1000.6931, f32::INFINITY]),
        ];
        for level in Level::available() {
            each_case(cases, |&(reduction, expected)| {
                let mut y = [0.0; 4];
                let shared = SharedSlice::new(&mut y);
                reduce_f32(level, reduction, &Reduce::new(&[4, 3], &[1]), &rows_flat, shared, Part::WHOLE);
                compare(&y, &expected, Tolerance::Relative(1e-6))?;
                let shared = SharedSlice::new(&mut y);
                reduce_f32(level, reduction, &Reduce::new(&[3, 4], &[0]), &columns, shared, Part::WHOLE);
                compare(&y, &expected, Tolerance::Relative(1e-6))
            });
        }
    }

    #[test]
    fn long_sums_stay_accurate() {
        let mut random = Random::new(3);
        let x: Vec<f32> = random.floats(1 << 20).iter().map(|x| x + 1.0).collect();
        let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
        for level in Level::available() {
            for shape in [[1 << 20, 1], [1, 1 << 20], [1 << 16, 16]] {
                let plan = Reduce::new(&shape, &[usize::from(shape[0] == 1)]);
                let mut y = vec![0.0; plan.output_len()];
                reduce_f32(level, Reduction::Sum, &plan, &x, SharedSlice::new(&mut y), Part::WHOLE);
                let sum: f64 = y.iter().map(|&y| f64::from(y)).sum();
                assert!((sum / exact - 1.0).abs() < 2e-7, "{level} {shape:?}: {sum} instead of {exact}");
            }
        }
    }
}
