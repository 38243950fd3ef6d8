//! Functions that the standard library lacks.

/// The error function, to about 15 digits.
pub(crate) fn erf_f64(x: f64) -> f64 {
    let t = x.abs();
    if t.is_nan() {
        return x;
    }
    let value = if t < 2.5 {
        erf_series(t)
    } else if t < 6.0 {
        1.0 - erfc_fraction(t)
    } else {
        1.0
    };
    value.copysign(x)
}

/// `2/√π · exp(-t²) · Σ 2ⁿ·t²ⁿ⁺¹ / (1·3·…·(2n+1))`: all terms positive, so nothing cancels.
fn erf_series(t: f64) -> f64 {
    let mut term = t;
    let mut sum = t;
    let mut n = 1.0;
    while term > sum * 1e-17 {
        term *= 2.0 * t * t / (2.0 * n + 1.0);
        sum += term;
        n += 1.0;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-t * t).exp() * sum
}

/// `1 - erf(t)` by its continued fraction, for `t >= 2`.
fn erfc_fraction(t: f64) -> f64 {
    let mut fraction = t;
    for k in (1..80).rev() {
        fraction = t + f64::from(k) / 2.0 / fraction;
    }
    (-t * t).exp() / (std::f64::consts::PI.sqrt() * fraction)
}
