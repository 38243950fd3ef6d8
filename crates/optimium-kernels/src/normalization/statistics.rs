//! The statistics that layer normalization goes by, as results.

use crate::elementwise::Source;
use crate::{Part, SharedSlice};

/// The mean and the inverse standard deviation `1 / √(variance + epsilon)` of this part's share of `rows`, each where it
/// is wanted.
///
/// # Panics
/// Where a slice does not have the size that rows and columns say.
pub fn row_statistics<'a>(
    x: impl Into<Source<'a, f32>>,
    [rows, columns]: [usize; 2],
    epsilon: f32,
    mean: Option<SharedSlice<'_, f32>>,
    inverse_deviation: Option<SharedSlice<'_, f32>>,
    part: Part,
) {
    let x = x.into();
    assert!(x.len() == rows * columns, "{} elements as {rows} rows of {columns}", x.len());
    for results in [mean, inverse_deviation].into_iter().flatten() {
        assert!(results.len() == rows, "{} results for {rows} rows", results.len());
    }
    let count = columns as f64;
    for row in part.range(rows) {
        // SAFETY: the row lies in x, whose length was checked, and only this part changes it.
        let values = (0..columns).map(|i| unsafe { f64::from(*x.as_ptr().add(row * columns + i)) });
        let average = values.clone().sum::<f64>() / count;
        let variance = values.map(|value| (value - average) * (value - average)).sum::<f64>() / count;
        let deviation = (variance + f64::from(epsilon)).sqrt();
        for (results, value) in [(mean, average), (inverse_deviation, 1.0 / deviation)] {
            if let Some(results) = results {
                // SAFETY: each row is one part's.
                unsafe { results.slice(row..row + 1)[0] = value as f32 };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Tolerance, compare};

    use super::*;

    #[test]
    fn of_two_rows() {
        let x = [1.0f32, 2.0, 3.0, 4.0, -1.0, -1.0, -1.0, -1.0];
        for count in 1..=3 {
            let (mut mean, mut inverse) = ([0.0; 2], [0.0; 2]);
            let (means, inverses) = (SharedSlice::new(&mut mean), SharedSlice::new(&mut inverse));
            for index in 0..count {
                row_statistics(&x[..], [2, 4], 0.25, Some(means), Some(inverses), Part { index, count });
            }
            let found = [mean, inverse].concat();
            let expected = [2.5, -1.0, 1.0 / 1.5f32.sqrt(), 2.0];
            compare(&found, &expected, Tolerance::Relative(1e-6)).unwrap();
        }
    }
}
