//! Normalization of each row: layer normalization and its variant without a mean.

use optimium_simd::{Level, Simd, SimdTask};

use crate::elementwise::Source;
use crate::reduce::fold::{Add, CentredSquare, Identity, fold_row};
use crate::{Part, SharedSlice};

/// What a row is normalized by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RowStatistic {
    /// `(x - mean) / √(variance + ε)`: layer normalization.
    MeanAndVariance,
    /// `x / √(mean of x² + ε)`: RMS normalization.
    RootMeanSquare,
}

/// How rows are normalized.
#[derive(Clone, Copy, Debug)]
pub struct RowNorm<'a> {
    /// The statistic.
    pub statistic: RowStatistic,
    /// What each column is multiplied with then.
    pub scale: Option<&'a [f32]>,
    /// What is added to each column then.
    pub bias: Option<&'a [f32]>,
    /// Added under the root.
    pub epsilon: f32,
}

/// What is added to the input before it is normalized.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// As many elements as the input.
    pub data: &'a [f32],
    /// Where the sum goes, if it is wanted; apart from the output.
    pub sum: Option<SharedSlice<'a, f32>>,
}

/// Normalizes the rows of `x`, or of `x` with the residual added. `x` may be the memory of `y` or of the
/// residual's sum.
///
/// # Panics
/// Where a tensor is not of `rows · columns` elements or a parameter not of `columns`, or where memory
/// overlaps otherwise.
pub fn normalize_rows<'a>(
    level: Level,
    norm: RowNorm<'_>,
    x: impl Into<Source<'a, f32>>,
    residual: Option<Residual<'_>>,
    [rows, columns]: [usize; 2],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    let length = rows * columns;
    x.assert_elementwise(y);
    assert!(x.len() == length, "{} elements as {rows} rows of {columns}", x.len());
    for parameter in [norm.scale, norm.bias].into_iter().flatten() {
        assert!(parameter.len() == columns, "{} parameters for {columns} columns", parameter.len());
    }
    if let Some(residual) = residual {
        assert!(residual.data.len() == length, "a residual of {} elements", residual.data.len());
        if let Some(sum) = residual.sum {
            x.assert_elementwise(sum);
            let sum: Source<'_, f32> = sum.into();
            assert!(!sum.overlaps(y), "the sum and the output overlap");
        }
    }
    level.run(RowsTask { norm, x, residual, rows, columns, y, part });
}

struct RowsTask<'a, 'b> {
    norm: RowNorm<'b>,
    x: Source<'a, f32>,
    residual: Option<Residual<'b>>,
    rows: usize,
    columns: usize,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for RowsTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n = self.columns;
        for row in self.part.range(self.rows) {
            // SAFETY: the row lies in all tensors, whose lengths were checked, and is this part's own.
            unsafe {
                let x = self.x.as_ptr().add(row * n);
                let y = self.y.as_mut_ptr().add(row * n);
                match self.residual {
                    Some(residual) => {
                        // The output holds the sum until it is normalized in place.
                        let sum = residual.sum.map(|sum| sum.as_mut_ptr().add(row * n));
                        add_rows(simd, n, x, residual.data.as_ptr().add(row * n), y, sum);
                        self.row(simd, y, y);
                    }
                    None => self.row(simd, x, y),
                }
            }
        }
    }
}

impl RowsTask<'_, '_> {
    /// # Safety
    /// A row is readable at `x` and writable at `y`.
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, simd: S, x: *const f32, y: *mut f32) {
        let n = self.columns;
        let count = n as f32;
        let zero = simd.splat(0.0);
        // SAFETY: by the caller's promise; the parameters have n elements.
        unsafe {
            let mean = match self.norm.statistic {
                RowStatistic::MeanAndVariance => fold_row::<S, Add>(simd, x, n, Identity, zero) / count,
                RowStatistic::RootMeanSquare => 0.0,
            };
            let mean = simd.splat(mean);
            let squares = fold_row::<S, Add>(simd, x, n, CentredSquare, mean);
            let factor = simd.splat(1.0 / (squares / count + self.norm.epsilon).sqrt());
            let scale = self.norm.scale.map(<[f32]>::as_ptr);
            let bias = self.norm.bias.map(<[f32]>::as_ptr);
            let normal = |x| simd.mul(simd.sub(x, mean), factor);
            match (scale, bias) {
                (Some(scale), Some(bias)) => map_columns(simd, n, x, y, |x, i, lanes| {
                    simd.fma(
                        normal(x),
                        simd.load_masked(scale.add(i), lanes),
                        simd.load_masked(bias.add(i), lanes),
                    )
                }),
                (Some(scale), None) => map_columns(simd, n, x, y, |x, i, lanes| {
                    simd.mul(normal(x), simd.load_masked(scale.add(i), lanes))
                }),
                (None, Some(bias)) => map_columns(simd, n, x, y, |x, i, lanes| {
                    simd.add(normal(x), simd.load_masked(bias.add(i), lanes))
                }),
                (None, None) => map_columns(simd, n, x, y, |x, _, _| normal(x)),
            }
        }
    }
}

/// `y = f(x, i, lanes)` for the vectors that start at elements `i`, of which the first `lanes` count.
///
/// # Safety
/// `n` elements are readable at `x` and writable at `y`.
#[inline(always)]
pub(super) unsafe fn map_columns<S: Simd>(
    simd: S,
    n: usize,
    x: *const f32,
    y: *mut f32,
    f: impl Fn(S::F32, usize, S::Mask) -> S::F32,
) {
    let all = simd.first(S::LANES);
    let mut i = 0;
    while i + S::LANES <= n {
        // SAFETY: in bounds by the loop's condition.
        unsafe { simd.store(y.add(i), f(simd.load(x.add(i)), i, all)) };
        i += S::LANES;
    }
    if i < n {
        let lanes = simd.first(n - i);
        // SAFETY: the mask selects the elements that are left.
        unsafe { simd.store_masked(y.add(i), f(simd.load_masked(x.add(i), lanes), i, lanes), lanes) };
    }
}

/// `y = a + b`, and `sum` likewise.
///
/// # Safety
/// `n` elements are readable at `a` and `b`, and writable at the others.
#[inline(always)]
unsafe fn add_rows<S: Simd>(
    simd: S,
    n: usize,
    a: *const f32,
    b: *const f32,
    y: *mut f32,
    sum: Option<*mut f32>,
) {
    // SAFETY: by the caller's promise.
    unsafe {
        match sum {
            Some(sum) => map_columns(simd, n, a, y, |a, i, lanes| {
                let v = simd.add(a, simd.load_masked(b.add(i), lanes));
                simd.store_masked(sum.add(i), v, lanes);
                v
            }),
            None => map_columns(simd, n, a, y, |a, i, lanes| simd.add(a, simd.load_masked(b.add(i), lanes))),
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    fn naive(norm: RowNorm, x: &[f32]) -> Vec<f32> {
        let n = x.len() as f64;
        let mean = match norm.statistic {
            RowStatistic::MeanAndVariance => x.iter().map(|&x| f64::from(x)).sum::<f64>() / n,
            RowStatistic::RootMeanSquare => 0.0,
        };
        let variance = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
        let root = (variance + f64::from(norm.epsilon)).sqrt();
        x.iter()
            .enumerate()
            .map(|(i, &x)| {
                let scale = norm.scale.map_or(1.0, |scale| f64::from(scale[i]));
                let bias = norm.bias.map_or(0.0, |bias| f64::from(bias[i]));
                ((f64::from(x) - mean) / root * scale + bias) as f32
            })
            .collect()
    }

    #[test]
    fn every_form_at_every_width() {
        let mut random = Random::new(7);
        let values: Vec<f32> = random.floats(4000).iter().map(|x| x * 3.0 + 5.0).collect();
        let statistics = [RowStatistic::MeanAndVariance, RowStatistic::RootMeanSquare];
        let widths = [1, 2, 7, 8, 15, 16, 17, 64, 100, 384];
        let cases = Level::available().flat_map(|level| {
            let forms = statistics.into_iter().flat_map(|s| (0..4).map(move |form| (s, form)));
            forms.flat_map(move |(statistic, form)| widths.map(|n| (level, statistic, form, n)))
        });
        each_case(cases.collect::<Vec<_>>(), |&(level, statistic, form, n)| {
            let rows = 5;
            let norm = RowNorm {
                statistic,
                scale: (form & 1 != 0).then_some(&values[3000..3000 + n]),
                bias: (form & 2 != 0).then_some(&values[3500..3500 + n]),
                epsilon: 1e-5,
            };
            let (x, r) = (&values[..rows * n], &values[1000..1000 + rows * n]);
            let expected: Vec<f32> = x.chunks(n).flat_map(|row| naive(norm, row)).collect();
            let sums: Vec<f32> = x.iter().zip(r).map(|(x, r)| x + r).collect();
            let expected_of_sums: Vec<f32> = sums.chunks(n).flat_map(|row| naive(norm, row)).collect();
            for count in 1..4 {
                let (mut y, mut z, mut sum) = (x.to_vec(), vec![0.0; rows * n], vec![0.0; rows * n]);
                for index in 0..count {
                    let part = Part { index, count };
                    let y = SharedSlice::new(&mut y);
                    normalize_rows(level, norm, y, None, [rows, n], y, part);
                    let residual = Residual { data: r, sum: Some(SharedSlice::new(&mut sum)) };
                    normalize_rows(level, norm, x, Some(residual), [rows, n], SharedSlice::new(&mut z), part);
                }
                compare(&y, &expected, Tolerance::Relative(1e-5))?;
                compare(&z, &expected_of_sums, Tolerance::Relative(1e-5))?;
                compare(&sum, &sums, Tolerance::Exact)?;
            }
            Ok(())
        });
    }

    #[test]
    fn a_large_mean_does_not_cancel() {
        let x: Vec<f32> = (0..512).map(|i| 10_000.0 + (i % 7) as f32).collect();
        let norm =
            RowNorm { statistic: RowStatistic::MeanAndVariance, scale: None, bias: None, epsilon: 0.0 };
        let expected = naive(norm, &x);
        for level in Level::available() {
            let mut y = vec![0.0; 512];
            normalize_rows(level, norm, &x, None, [1, 512], SharedSlice::new(&mut y), Part::WHOLE);
            assert!(compare(&y, &expected, Tolerance::Relative(1e-3)).is_ok());
        }
    }
}
