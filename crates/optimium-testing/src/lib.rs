//! What the tests of every crate share: seeded values, named tolerances, and case tables that report
//! every failing case and not the first alone.

mod ulp;

pub use ulp::{floats_of_all_magnitudes, ulp_error};

/// How far a result may lie from its reference.
#[derive(Clone, Copy, Debug)]
pub enum Tolerance {
    /// Bit for bit, NaN equal to NaN.
    Exact,
    /// `|a - b| <= epsilon · max(1, |b|)`: sums of a few products in `f32`.
    Relative(f32),
    /// `|a - b| <= epsilon · scale`: sums of `n` products of order one, with `scale` = √n or so.
    Scaled {
        /// Relative error.
        epsilon: f32,
        /// The magnitude that it is relative to.
        scale: f32,
    },
}

impl Tolerance {
    /// The tolerance of a dot product of `k` products of order one in `f32`.
    pub fn dot(k: usize) -> Tolerance {
        Tolerance::Scaled { epsilon: 2e-6, scale: (k.max(1) as f32).sqrt().max(1.0) }
    }

    fn admits(self, actual: f32, expected: f32) -> bool {
        if actual.is_nan() || expected.is_nan() {
            return actual.is_nan() && expected.is_nan();
        }
        if actual == expected {
            return true;
        }
        match self {
            Tolerance::Exact => false,
            Tolerance::Relative(epsilon) => (actual - expected).abs() <= epsilon * expected.abs().max(1.0),
            Tolerance::Scaled { epsilon, scale } => {
                (actual - expected).abs() <= epsilon * scale * expected.abs().max(1.0)
            }
        }
    }
}

/// Compares element by element; the error names the worst element.
pub fn compare(actual: &[f32], expected: &[f32], tolerance: Tolerance) -> Result<(), String> {
    if actual.len() != expected.len() {
        return Err(format!("{} elements, expected {}", actual.len(), expected.len()));
    }
    let wrong = |i: &usize| !tolerance.admits(actual[*i], expected[*i]);
    let count = (0..actual.len()).filter(wrong).count();
    let worst = (0..actual.len()).filter(wrong).max_by(|&a, &b| {
        let error = |i: usize| (actual[i] - expected[i]).abs();
        error(a).total_cmp(&error(b))
    });
    match worst {
        None => Ok(()),
        Some(i) => Err(format!(
            "{count} of {} elements differ, the worst at {i}: {} instead of {} ({tolerance:?})",
            actual.len(),
            actual[i],
            expected[i]
        )),
    }
}

/// Runs `check` for every case and fails once, with all the cases that failed.
///
/// # Panics
/// Where a case fails: this is the assertion of a table test.
pub fn each_case<C: std::fmt::Debug>(
    cases: impl IntoIterator<Item = C>,
    mut check: impl FnMut(&C) -> Result<(), String>,
) {
    let mut failures = Vec::new();
    let mut count = 0;
    for case in cases {
        count += 1;
        if let Err(message) = check(&case) {
            failures.push(format!("{case:?}: {message}"));
        }
    }
    assert!(count > 0, "the table has no case");
    assert!(failures.is_empty(), "{} of {count} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// A small seeded generator (SplitMix64): the same seed gives the same values everywhere.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator for that seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `-1..1`.
    pub fn f32(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Uniform in `low..high`.
    pub fn range(&mut self, low: i64, high: i64) -> i64 {
        low + (self.bits() % (high - low).max(1) as u64) as i64
    }

    /// `n` values uniform in `-1..1`.
    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.f32()).collect()
    }
}
