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

/// The scale that gives the block the smallest squared error, as half precision holds it, and the block's integers by it.
///
/// `None` where the numbers are not finite, or too large for such a scale.
pub(super) fn quantize(block: &[f32], integers: Integers, stored: &mut [u8]) -> Option<f16> {
    let largest = block.iter().copied().fold(0.0, |a: f32, b| if b.abs() > a.abs() { b } else { a });
    if !block.iter().all(|x| x.is_finite()) {
        return None;
    }
    let mut best = (f32::INFINITY, f16::ZERO);
    for &target in integers.largest {
        for scale in refined(block, integers, rounded(largest / target)?) {
            let error = squared_error(block, integers, scale.to_f32());
            if error < best.0 {
                best = (error, scale);
            }
        }
    }
    let inverse = inverse(best.1.to_f32());
    for (stored, &x) in stored.iter_mut().zip(block) {
        *stored = (integers.clamp(x * inverse) + integers.zero) as u8;
    }
    Some(best.1)
}

/// The scale in half precision, where that is finite.
fn rounded(scale: f32) -> Option<f16> {
    Some(f16::from_f32(scale)).filter(|scale| scale.is_finite())
}

/// Zero for a scale that is too small to be held: all integers are then zero, too.
fn inverse(scale: f32) -> f32 {
    if scale == 0.0 { 0.0 } else { 1.0 / scale }
}

/// A scale, and the one that fits the integers best that it leads to.
fn refined(block: &[f32], integers: Integers, scale: f16) -> impl Iterator<Item = f16> {
    let inverse = inverse(scale.to_f32());
    let (mut products, mut squares) = (0.0, 0.0);
    for &x in block {
        let integer = integers.clamp(x * inverse);
        products += x * integer;
        squares += integer * integer;
    }
    let fitted = if squares > 0.0 { rounded(products / squares) } else { None };
    [Some(scale), fitted].into_iter().flatten()
}

fn squared_error(block: &[f32], integers: Integers, scale: f32) -> f32 {
    let inverse = inverse(scale);
    let error = |x: f32| integers.clamp(x * inverse) * scale - x;
    block.iter().map(|&x| error(x) * error(x)).sum()
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, each_case};

    use super::*;

    fn restored(block: &[f32], integers: Integers) -> Vec<f32> {
        let mut stored = vec![0; block.len()];
        let scale = quantize(block, integers, &mut stored).unwrap().to_f32();
        stored.iter().map(|&q| (f32::from(q) - integers.zero) * scale).collect()
    }

    #[test]
    fn numbers_that_integers_hold_are_kept() {
        let of = |values: &[f32], integers| assert_eq!(restored(values, integers), values);
        of(&[0.0; 32], Integers::FOUR);
        of(&[-8.0, 7.0, 0.0, 1.0, -1.0], Integers::FOUR);
        of(&[8.0, -7.0, 0.0, 1.0, -1.0], Integers::FOUR);
        of(&[-4.0, 3.5, 0.5], Integers::FOUR);
        of(&[127.0, -127.0, 1.0, 0.0], Integers::EIGHT);
    }

    #[test]
    fn errors_are_small() {
        // Of numbers that are spread evenly, to steps that divide their range.
        each_case([(Integers::FOUR, 0.05), (Integers::EIGHT, 0.003)], |&(integers, tolerance)| {
            for seed in 0..20 {
                let block = Random::new(seed).floats(64);
                let error = |x: f32, y: f32| f64::from((x - y) * (x - y));
                let sum: f64 = block.iter().zip(restored(&block, integers)).map(|(&x, y)| error(x, y)).sum();
                let root = (sum / 64.0).sqrt();
                if root > tolerance {
                    return Err(format!("{root}"));
                }
            }
            Ok(())
        });
    }

    #[test]
    fn what_cannot_be_scaled_is_refused() {
        for block in [[f32::NAN, 0.0], [f32::INFINITY, 0.0], [1e9, 0.0]] {
            assert!(quantize(&block, Integers::FOUR, &mut [0; 2]).is_none(), "{block:?}");
        }
        assert_eq!(restored(&[1e-12, -1e-12], Integers::FOUR), [0.0; 2]);
    }
}
