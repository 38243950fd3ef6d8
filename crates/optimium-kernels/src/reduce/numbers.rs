//! Reductions of any type of number, one element after the other.

use super::Reduction;
use super::plan::{Reduce, offset_of, size_of_all};
use crate::elementwise::Number;
use crate::{Part, SharedSlice};

/// The reduction of each result's elements.
///
/// Integers wrap in sums and products; what has a quotient, a root or a logarithm is computed in `f64`,
/// truncated and saturated.
///
/// # Panics
/// Where `x` or `y` has another length than `plan` says.
pub fn reduce<T: Number>(reduction: Reduction, plan: &Reduce, x: &[T], y: SharedSlice<'_, T>, part: Part) {
    plan.check(x.len(), y.len());
    match reduction {
        Reduction::Sum => each(plan, x, y, part, T::ZERO, T::add, |sum| sum),
        Reduction::Prod => each(plan, x, y, part, T::ONE, T::mul, |product| product),
        Reduction::Max => each(plan, x, y, part, T::LOWEST, T::max_or_nan, |largest| largest),
        Reduction::Min => each(plan, x, y, part, T::HIGHEST, T::min_or_nan, |smallest| smallest),
        Reduction::L1 => each(plan, x, y, part, T::ZERO, |sum, x| sum.add(x.absolute()), |sum| sum),
        Reduction::SumSquare => each(plan, x, y, part, T::ZERO, |sum, x| sum.add(x.mul(x)), |sum| sum),
        Reduction::Mean => {
            let count = plan.count() as f64;
            each(plan, x, y, part, 0.0, |sum, x| sum + x.to_f64(), |sum| T::from_f64(sum / count));
        }
        Reduction::L2 => {
            let square = |x: T| x.to_f64() * x.to_f64();
            each(plan, x, y, part, 0.0, |sum, x| sum + square(x), |sum| T::from_f64(sum.sqrt()));
        }
        Reduction::LogSum => {
            each(plan, x, y, part, 0.0, |sum, x| sum + x.to_f64(), |sum| T::from_f64(sum.ln()));
        }
        Reduction::LogSumExp => each(plan, x, y, part, LogSumExp::EMPTY, LogSumExp::with, LogSumExp::value),
    }
}

/// `Σ eˣ`, held as `sum · e^largest`.
#[derive(Clone, Copy)]
struct LogSumExp {
    largest: f64,
    sum: f64,
}

impl LogSumExp {
    const EMPTY: LogSumExp = LogSumExp { largest: f64::NEG_INFINITY, sum: 0.0 };

    fn with<T: Number>(self, x: T) -> LogSumExp {
        let x = x.to_f64();
        if x > self.largest {
            LogSumExp { largest: x, sum: self.sum * (self.largest - x).exp() + 1.0 }
        } else if x == self.largest {
            LogSumExp { sum: self.sum + 1.0, ..self }
        } else {
            LogSumExp { sum: self.sum + (x - self.largest).exp(), ..self }
        }
    }

    fn value<T: Number>(self) -> T {
        let value = if self.largest == f64::NEG_INFINITY && !self.sum.is_nan() {
            self.largest
        } else {
            self.largest + self.sum.ln()
        };
        T::from_f64(value)
    }
}

/// Every result of this part.
fn each<T: Number, A: Copy>(
    plan: &Reduce,
    x: &[T],
    y: SharedSlice<'_, T>,
    part: Part,
    start: A,
    combine: impl Fn(A, T) -> A,
    finish: impl Fn(A) -> T,
) {
    for i in part.range_of_granules(y.len(), 16) {
        let base = offset_of(&plan.kept, i);
        let mut value = start;
        for j in 0..size_of_all(&plan.reduced) {
            value = combine(value, x[base + offset_of(&plan.reduced, j)]);
        }
        // SAFETY: the result is this part's own, and the length was checked.
        unsafe { y.as_mut_ptr().add(i).write(finish(value)) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run<T: Number>(reduction: Reduction, shape: &[usize], axes: &[usize], x: &[T]) -> Vec<T> {
        let plan = Reduce::new(shape, axes);
        let mut y = vec![T::ZERO; plan.output_len()];
        for index in 0..2 {
            reduce(reduction, &plan, x, SharedSlice::new(&mut y), Part { index, count: 2 });
        }
        y
    }

    #[test]
    fn integers() {
        let x = [1i32, -2, 3, 4, 5, -6];
        assert_eq!(run(Reduction::Sum, &[2, 3], &[1], &x), [2, 3]);
        assert_eq!(run(Reduction::Sum, &[2, 3], &[0], &x), [5, 3, -3]);
        assert_eq!(run(Reduction::Prod, &[2, 3], &[1], &x), [-6, -120]);
        assert_eq!(run(Reduction::Max, &[2, 3], &[0, 1], &x), [5]);
        assert_eq!(run(Reduction::Min, &[2, 3], &[0], &x), [1, -2, -6]);
        assert_eq!(run(Reduction::L1, &[2, 3], &[1], &x), [6, 15]);
        assert_eq!(run(Reduction::L2, &[2, 1], &[0], &[3u64, 4]), [5]);
        assert_eq!(run(Reduction::Mean, &[2, 3], &[1], &[250u8, 251, 252, 1, 2, 4]), [251, 2]);
        assert_eq!(run(Reduction::Max, &[2, 2], &[1], &[0u8, 1, 0, 0]), [1, 0]);
        assert_eq!(run(Reduction::SumSquare, &[3], &[0], &[1i8, 2, 3]), [14]);
    }

    #[test]
    fn doubles() {
        let x = [1000.0f64, 1000.0, f64::NEG_INFINITY, f64::NEG_INFINITY];
        let y = run(Reduction::LogSumExp, &[2, 2], &[1], &x);
        assert!((y[0] - 1000.0 - 2f64.ln()).abs() < 1e-10 && y[1] == f64::NEG_INFINITY);
        assert!(run(Reduction::LogSumExp, &[2], &[0], &[f64::NAN, 1.0])[0].is_nan());
        assert_eq!(run(Reduction::LogSumExp, &[2], &[0], &[f64::INFINITY, 1.0]), [f64::INFINITY]);
        assert!(run(Reduction::Max, &[2], &[0], &[f64::NAN, 1.0])[0].is_nan());
    }
}
