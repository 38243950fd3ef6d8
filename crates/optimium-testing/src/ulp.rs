//! Distances in units in the last place.

/// How far `actual` lies from the exact value `expected`, in units in the last place of an `f32` of that
/// magnitude; infinite where only one of them is NaN or infinite after rounding.
pub fn ulp_error(actual: f32, expected: f64) -> f64 {
    let rounded = expected as f32;
    if actual == rounded || (actual.is_nan() && rounded.is_nan()) {
        return 0.0;
    }
    if actual.is_infinite() && rounded.abs() >= f32::MAX {
        return if actual.is_sign_positive() == (expected > 0.0) { 1.0 } else { f64::INFINITY };
    }
    if !actual.is_finite() || !rounded.is_finite() {
        return if rounded.is_infinite() && actual.abs() == f32::MAX { 1.0 } else { f64::INFINITY };
    }
    (f64::from(actual) - expected).abs() / unit(rounded)
}

/// The distance of neighbouring numbers at `x`; of subnormal numbers, where `x` is one.
fn unit(x: f32) -> f64 {
    let exponent = (x.to_bits() >> 23 & 0xff).clamp(1, 254);
    (f64::from(exponent) - 127.0 - 23.0).exp2()
}

/// Every `step`-th `f32` of all, both signs, with the special values: a dense sample of the whole range.
pub fn floats_of_all_magnitudes(step: usize) -> Vec<f32> {
    let special = [0.0, 1.0, f32::MIN_POSITIVE, f32::MAX, f32::INFINITY, f32::NAN, f32::from_bits(1)];
    let positive = (0..0x7f80_0000u32).step_by(step).map(f32::from_bits).chain(special);
    positive.flat_map(|x| [x, -x]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_one_unit_apart() {
        for x in [1.0f32, 1.5, -3.25, 1e-40, 1e30, f32::MIN_POSITIVE] {
            let next = f32::from_bits(x.to_bits() + 1);
            assert_eq!(ulp_error(next, f64::from(x)), 1.0);
            assert_eq!(ulp_error(x, f64::from(x)), 0.0);
        }
        assert_eq!(ulp_error(f32::NAN, 1.0), f64::INFINITY);
        assert_eq!(ulp_error(f32::INFINITY, 1.0), f64::INFINITY);
        assert_eq!(ulp_error(f32::INFINITY, 1e300), 0.0);
    }
}
