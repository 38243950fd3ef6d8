//! Blocks of numbers to small integers with a scale.

use half::f16;

/// What integers of some bits can be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Integers {
    /// The stored value of zero.
    pub(super) zero: f32,
    /// Candidates for the scale, as the integer that the largest number of the block becomes.
    largest: &'static [f32],
}

impl Integers {
    /// Unsigned bytes around 128.
    pub(super) const EIGHT: Integers = Integers { zero: 128.0, largest: &[127.0] };
    /// Unsigned halves of bytes around 8. The largest number may lie outside of what they reach, where all others gain by it.
    pub(super) const FOUR: Integers =
        Integers { zero: 8.0, largest: &[-8.0, -8.5, -9.0, -9.5, -10.0, -7.5, -7.0, 7.0, 7.5] };

    /// The stored integer nearest to `x`, an integer that may be too large.
    fn clamp(self, x: f32) -> f32 {
        nearest(x).clamp(-self.zero, self.zero - 1.0)
    }
}

/// The nearest integer of a number below a million.
fn nearest(x: f32) -> f32 {
    // The sum has no bits for fractions.
    const SHIFT: f32 = 1.5 * (1 << 23) as f32;
    (x + SHIFT) - SHIFT
}

/// How scales are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ScaleForm {
    /// In half precision: those that are neither subnormal nor infinite in it.
    Half,
    /// In single precision. Numbers so small that their scale would be subnormal in it count as zeros.
    Single,
}

impl ScaleForm {
    /// `scale` as it is stored, where it can be with all its digits.
    fn rounded(self, scale: f32) -> Option<f32> {
        let (rounded, normal) = match self {
            ScaleForm::Half => {
                let half = f16::from_f32(scale);
                (half.to_f32(), half.is_normal())
            }
            ScaleForm::Single => (scale, scale.is_normal() && scale.abs() <= f16::MAX.to_f32()),
        };
        normal.then_some(rounded)
    }
}

/// The scale that gives the block the smallest squared error, as `form` holds it, and the block's integers by it.
///
/// `None` where the numbers are not finite, or too large or too small for such a scale.
pub(super) fn quantize(block: &[f32], integers: Integers, form: ScaleForm, stored: &mut [u8]) -> Option<f32> {
    let largest = block.iter().copied().fold(0.0, |a: f32, b| if b.abs() > a.abs() { b } else { a });
    if !block.iter().all(|x| x.is_finite()) {
        return None;
    }
    // No candidate divides by so much more than this that its scale could be subnormal.
    let vanishes = form == ScaleForm::Single && (largest / integers.zero).abs() < 2.0 * f32::MIN_POSITIVE;
    if largest == 0.0 || vanishes {
        stored.fill(integers.zero as u8);
        return Some(0.0);
    }
    let mut best = (f64::INFINITY, 0.0);
    for &target in integers.largest {
        for scale in refined(block, integers, form, form.rounded(largest / target)?) {
            let error = squared_error(block, integers, scale);
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    let inverse = 1.0 / best.1;
    for (stored, &x) in stored.iter_mut().zip(block) {
        *stored = (integers.clamp(x * inverse) + integers.zero) as u8;
    }
    Some(best.1)
}

/// A scale, and the one that fits the integers best that it leads to.
fn refined(block: &[f32], integers: Integers, form: ScaleForm, scale: f32) -> impl Iterator<Item = f32> {
    let inverse = 1.0 / scale;
    let (mut products, mut squares) = (0.0, 0.0);
    for &x in block {
        let integer = integers.clamp(x * inverse);
        products += x * integer;
        squares += integer * integer;
    }
    let fitted = if squares > 0.0 { form.rounded(products / squares) } else { None };
    [Some(scale), fitted].into_iter().flatten()
}

/// In units of the scale the squares of small numbers do not vanish.
fn squared_error(block: &[f32], integers: Integers, scale: f32) -> f64 {
    let inverse = 1.0 / scale;
    let error = |x: f32| integers.clamp(x * inverse) - x * inverse;
    let sum: f32 = block.iter().map(|&x| error(x) * error(x)).sum();
    f64::from(sum) * f64::from(scale) * f64::from(scale)
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, each_case};

    use super::*;

    const FORMS: [ScaleForm; 2] = [ScaleForm::Half, ScaleForm::Single];

    fn restored(block: &[f32], integers: Integers, form: ScaleForm) -> Vec<f32> {
        let mut stored = vec![0; block.len()];
        let scale = quantize(block, integers, form, &mut stored).unwrap();
        stored.iter().map(|&q| (f32::from(q) - integers.zero) * scale).collect()
    }

    /// The root of the mean squared error, of numbers that `factor` makes some size.
    fn error(integers: Integers, form: ScaleForm, seed: u64, factor: f32) -> f64 {
        let block: Vec<f32> = Random::new(seed).floats(64).iter().map(|x| x * factor).collect();
        let squared = |(&x, y): (&f32, f32)| (f64::from(x - y) / f64::from(factor)).powi(2);
        let sum: f64 = block.iter().zip(restored(&block, integers, form)).map(squared).sum();
        (sum / 64.0).sqrt()
    }

    #[test]
    fn numbers_that_integers_hold_are_kept() {
        for form in FORMS {
            let of = |values: &[f32], integers| assert_eq!(restored(values, integers, form), values);
            of(&[0.0; 32], Integers::FOUR);
            of(&[-8.0, 7.0, 0.0, 1.0, -1.0], Integers::FOUR);
            of(&[8.0, -7.0, 0.0, 1.0, -1.0], Integers::FOUR);
            of(&[-4.0, 3.5, 0.5], Integers::FOUR);
            of(&[127.0, -127.0, 1.0, 0.0], Integers::EIGHT);
        }
    }

    #[test]
    fn errors_are_small_whatever_the_size_of_the_numbers() {
        // Of numbers that are spread evenly, to steps that divide their range.
        let tolerances = [(Integers::FOUR, 0.05), (Integers::EIGHT, 0.003)];
        let sizes = [
            (ScaleForm::Half, 1.0),
            (ScaleForm::Half, 1000.0),
            (ScaleForm::Half, 0.02),
            (ScaleForm::Single, 1.0),
            (ScaleForm::Single, 1e-3),
            (ScaleForm::Single, 1e-7),
            (ScaleForm::Single, 1e-30),
        ];
        let cases = tolerances.into_iter().flat_map(|of| sizes.map(|size| (of, size)));
        each_case(cases, |&((integers, tolerance), (form, factor))| {
            let worst = (0..20).map(|seed| error(integers, form, seed, factor)).fold(0.0, f64::max);
            if worst <= tolerance { Ok(()) } else { Err(format!("{worst}")) }
        });
    }

    #[test]
    fn what_cannot_be_scaled_is_refused() {
        let stored = &mut [0; 2];
        for form in FORMS {
            for block in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [1e9, 0.0]] {
                assert!(quantize(&block, Integers::FOUR, form, stored).is_none(), "{block:?}");
            }
        }
        assert!(quantize(&[1e-7, -1e-7], Integers::EIGHT, ScaleForm::Half, stored).is_none());
        assert_eq!(restored(&[1e-38, -1e-44], Integers::FOUR, ScaleForm::Single), [0.0; 2]);
    }
}
