//! Which rows and columns may be summed with each other.
//!
//! A sum of two quarters is as exact as its larger term is large, so that the smaller one's results lose what the larger one has
//! in digits. The largest elements of what is summed may therefore differ by a limited ratio only.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

/// How many times larger the largest element of a row of the left matrix may be than that of its neighbour.
///
/// The relative error of a result grows by this ratio times [`WEIGHTS`] at most: by 256, which leaves the errors of one level, some
/// 1e-7 of a row's results, below the 1e-4 that are allowed. Neighbours in images and texts differ by less, as a rule.
pub(super) const ROWS: f32 = 8.0;

/// How many times larger the largest element of a column of the right matrix may be than that of the column half the matrix away,
/// and that of a row likewise. Columns of trained weights differ more than rows of activations do, with biases and
/// normalizations folded into them.
pub(super) const WEIGHTS: f32 = 32.0;

/// Elements from here on may have sums of quarters that are not finite.
const LARGEST: f32 = 1.329_228e36;

/// The bits of an absolute value, in the order of the values; NaN is larger than all.
const MAGNITUDE: u32 = 0x7fff_ffff;

/// Whether rows or columns with those largest magnitudes may be summed.
fn similar(a: f32, b: f32, ratio: f32) -> bool {
    a < LARGEST && b < LARGEST && a.max(b) <= ratio * a.min(b)
}

/// Whether all pairs among `rows` may be computed as such.
pub(super) struct BalancedPairs {
    /// The left matrix: elements of a row, and from one to the next.
    pub(super) a: *const f32,
    pub(super) length: usize,
    pub(super) stride: usize,
    /// Rows from the first one of a pair on.
    pub(super) rows: Range<usize>,
}

impl SimdTask for BalancedPairs {
    type Output = bool;

    /// The caller promises that all rows are readable.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> bool {
        for first in self.rows.clone().step_by(2) {
            let second = (first + 1).min(self.rows.end - 1);
            let rows = [first, second].map(|row| self.a.wrapping_add(row * self.stride));
            // SAFETY: by the caller's promise.
            let [first, second] = unsafe { magnitudes(simd, rows, self.length) };
            if !similar(first, second, ROWS) {
                return false;
            }
        }
        true
    }
}

/// The largest magnitude of each of two rows: infinite for one with NaN.
///
/// # Safety
/// `length` elements are readable of both.
#[inline(always)]
unsafe fn magnitudes<S: Simd>(simd: S, rows: [*const f32; 2], length: usize) -> [f32; 2] {
    let mask = simd.splat_i32(MAGNITUDE as i32);
    let mut largest = [simd.splat_i32(0); 2];
    let whole = length - length % S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        for r in 0..2 {
            // SAFETY: a whole vector lies in the row.
            let bits = simd.to_bits(unsafe { simd.load(rows[r].add(at)) });
            largest[r] = simd.max_i32(largest[r], simd.and_i32(bits, mask));
        }
    }
    // The comparison of floats knows no NaN.
    let infinity = simd.splat_i32(f32::INFINITY.to_bits() as i32);
    let mut magnitudes = [0.0; 2];
    for r in 0..2 {
        if whole < length {
            // SAFETY: the mask selects the elements that exist.
            let last = unsafe { simd.load_masked(rows[r].add(whole), simd.first(length - whole)) };
            largest[r] = simd.max_i32(largest[r], simd.and_i32(simd.to_bits(last), mask));
        }
        magnitudes[r] = simd.reduce_max(simd.from_bits(simd.min_i32(largest[r], infinity)));
    }
    magnitudes
}

/// Whether `factor` times the right matrix of `k` rows and `n` columns may be computed by
/// [`gemm_strassen`](super::gemm_strassen()), within the errors that the module states. Element `i, j` is
/// `b[i * row_stride + j * column_stride]`, where one stride is 1. All of it is read.
///
/// # Panics
/// Where neither stride is 1, or `b` is too short for them.
pub fn suits_strassen(
    level: Level,
    [k, n]: [usize; 2],
    b: &[f32],
    [row_stride, column_stride]: [usize; 2],
    factor: f32,
) -> bool {
    let strides = [row_stride, column_stride];
    let [rows, columns] = all_magnitudes(level, [k, n], b, strides);
    let small = columns.iter().all(|magnitude| magnitude * factor.abs() < LARGEST);
    if !small || halves_are_similar(&rows) && halves_are_similar(&columns) {
        return small;
    }
    let Some(factors) = column_factors(&columns) else { return false };
    let [rows, columns] = all_magnitudes(level, [k, n], &scaled(b, [k, n], strides, &factors), strides);
    // What a column of zeros is left of its neighbour is made very small.
    let (first, second) = columns.split_at(columns.len() / 2);
    let alike = |(&a, &b): (&f32, &f32)| a == 0.0 || b == 0.0 || similar(a, b, WEIGHTS);
    halves_are_similar(&rows) && first.iter().zip(second).all(alike)
}

/// Powers of two that make all columns with these largest magnitudes similar; none where they are.
pub(super) fn column_factors(magnitudes: &[f32]) -> Option<Vec<f32>> {
    (!halves_are_similar(magnitudes))
        .then(|| magnitudes.iter().map(|&magnitude| column_factor(magnitude)).collect())
}

/// The power of two that makes the largest magnitude of a column one between 1 and 2, where it is not too far from that.
fn column_factor(magnitude: f32) -> f32 {
    let exponent = (magnitude.to_bits() >> 23) as i32 - 127;
    f32::from_bits(((127 - exponent.clamp(-FARTHEST, FARTHEST)) as u32) << 23)
}

/// The exponents of factors, and of what they are taken from, are no farther from zero.
const FARTHEST: i32 = 40;

/// The matrix with its columns times `factors`; elements lie as for [`suits_strassen`].
pub(super) fn scaled(
    b: &[f32],
    [k, n]: [usize; 2],
    [row_stride, column_stride]: [usize; 2],
    factors: &[f32],
) -> Vec<f32> {
    let mut scaled = b.to_vec();
    for (row, column) in (0..k).flat_map(|row| (0..n).map(move |column| (row, column))) {
        scaled[row * row_stride + column * column_stride] *= factors[column];
    }
    scaled
}

/// Whether each row or column with those largest magnitudes may be summed with that half the matrix away.
fn halves_are_similar(magnitudes: &[f32]) -> bool {
    let (first, second) = magnitudes.split_at(magnitudes.len() / 2);
    first.iter().zip(second).all(|(&a, &b)| similar(a, b, WEIGHTS))
}

/// The largest magnitudes of all rows, and of all columns, of a matrix whose elements lie as for [`suits_strassen`].
pub(super) fn all_magnitudes(
    level: Level,
    [k, n]: [usize; 2],
    b: &[f32],
    [row_stride, column_stride]: [usize; 2],
) -> [Vec<f32>; 2] {
    let by_rows = column_stride == 1;
    assert!(by_rows || row_stride == 1, "strides of {row_stride} and {column_stride}");
    let (lines, length, stride) = if by_rows { (k, n, row_stride) } else { (n, k, column_stride) };
    let (mut along, mut across) = (vec![0; lines], vec![0; length]);
    level.run(Magnitudes { b, stride, along: &mut along, across: &mut across });
    let both = if by_rows { [along, across] } else { [across, along] };
    both.map(|bits| bits.into_iter().map(f32::from_bits).collect())
}

/// Finds the bits of the largest magnitudes along lines, which start `stride` elements apart, and across them.
struct Magnitudes<'a> {
    b: &'a [f32],
    stride: usize,
    along: &'a mut [u32],
    across: &'a mut [u32],
}

impl SimdTask for Magnitudes<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (line, largest) in self.along.iter_mut().enumerate() {
            let elements = &self.b[line * self.stride..][..self.across.len()];
            for (across, x) in self.across.iter_mut().zip(elements) {
                let bits = x.to_bits() & MAGNITUDE;
                *across = bits.max(*across);
                *largest = bits.max(*largest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::{Random, each_case};

    /// Scales of an even and the next odd row, and whether they may be summed.
    const PAIRS: [(f32, f32, bool); 12] = [
        (1.0, 1.0, true),
        (1.0, 7.9, true),
        (7.9, 1.0, true),
        (1.0, 8.1, false),
        (8.1, 1.0, false),
        (1e-30, 4e-30, true),
        (1e30, 1e30, true),
        (2e36, 2e36, false),
        (0.0, 0.0, true),
        (0.0, 1e-3, false),
        (f32::NAN, f32::NAN, false),
        (f32::INFINITY, f32::INFINITY, false),
    ];

    #[test]
    fn pairs_of_rows_at_all_levels() {
        let lengths = [1, 7, 16, 33, 100];
        let cases = PAIRS.into_iter().flat_map(|pair| lengths.map(|length| (pair, length)));
        each_case(cases, |&((first, second, expected), length)| {
            let scales = [0.5, -0.5, first, -second, 1.0];
            for at in [0, length - 1] {
                let mut a = vec![0.0; scales.len() * (length + 3)];
                for (row, scale) in a.chunks_exact_mut(length + 3).zip(scales) {
                    row[at] = scale;
                    row[length..].fill(f32::NAN);
                }
                for level in Level::available() {
                    let rows = 0..scales.len();
                    let task = BalancedPairs { a: a.as_ptr(), length, stride: length + 3, rows };
                    if level.run(task) != expected {
                        return Err(format!("{level}, {first} and {second} at {at} of {length}"));
                    }
                }
            }
            Ok(())
        });
    }

    #[test]
    fn factors_of_columns() {
        let cases = [
            (1.0, 1.0),
            (1.9, 1.0),
            (0.75, 2.0),
            (1000.0, 1.0 / 512.0),
            (1e-30, 2f32.powi(FARTHEST)),
            (0.0, 2f32.powi(FARTHEST)),
            (1e30, 2f32.powi(-FARTHEST)),
        ];
        each_case(cases, |&(magnitude, factor)| {
            let found = column_factor(magnitude);
            if found == factor { Ok(()) } else { Err(format!("{found}")) }
        });
        assert_eq!(column_factors(&[1.0, 3.0, 30.0, 0.2]), None);
        assert_eq!(column_factors(&[1.0, 3.0, 33.0, 0.2]), Some(vec![1.0, 0.5, 1.0 / 32.0, 8.0]));
    }

    #[test]
    fn matrices_at_all_levels() {
        let scales = [1.0, 3.0, 1e3, -1e6, 1e30, 0.0, f32::NAN, f32::INFINITY];
        let places = [[0, 0], [0, 5], [9, 0], [9, 5]];
        let cases = scales.into_iter().flat_map(|scale| places.map(|place| (scale, place)));
        each_case(cases, |&(scale, [row, column])| {
            let [k, n] = [18, 10];
            let mut b: Vec<f32> = Random::new(5).floats(k * n).iter().map(|x| x + x.signum()).collect();
            let strides = if row == 0 { [n, 1] } else { [1, k] };
            for other in 0..k {
                b[other * strides[0] + column * strides[1]] *= scale;
            }
            // Columns are scaled to be alike where they are not too different; rows are not.
            let [suits_as_column, suits_as_row] = [scale.abs() <= 1e6, scale == 1.0 || scale == 3.0];
            for level in Level::available() {
                if suits_strassen(level, [k, n], &b, strides, 0.5) != suits_as_column {
                    return Err(format!("{level}, a column"));
                }
                if suits_strassen(level, [n, k], &b, [strides[1], strides[0]], 1.0) != suits_as_row {
                    return Err(format!("{level}, a row"));
                }
                if suits_strassen(level, [k, n], &b, strides, f32::INFINITY) {
                    return Err(format!("{level}, an infinite factor"));
                }
            }
            Ok(())
        });
    }
}
