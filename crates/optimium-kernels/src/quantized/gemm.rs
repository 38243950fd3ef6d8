//! The integer product: rows of bytes times packed weights.

use std::ops::Range;

use optimium_simd::{Level, MAX_LANES, Simd, SimdTask};

use super::finish::{Buffered, Columns, DirectBytes, DirectFloats, Finish, Sums};
use super::output::{Output, Rows};
use super::packed::{Layout, PackedMatrix};
use super::tile::{Grid, Runs, Strip, TALLEST, most_rows, rows_of, tile};
use crate::Part;

/// The left operand of a product: `m` rows of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// The bytes.
    pub data: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Whether the bytes are signed.
    pub signed: bool,
    /// The bytes that stand for zero.
    pub zero_point: Rows<'a, i32>,
}

/// `output = (a - zero points) · (b - zero points)` for the `m` rows of `a`; rows of the result lie
/// `c_stride` elements apart.
///
/// # Panics
/// Where a slice is shorter than the sizes say, or `b` was packed for another vector width.
pub fn gemm(
    level: Level,
    m: usize,
    a: &Activations<'_>,
    b: &PackedMatrix,
    output: &Output<'_>,
    c_stride: usize,
    part: Part,
) {
    output.check(m, b.n, c_stride);
    assert!(a.zero_point.covers(m), "zero points are missing for {m} rows");
    if m == 0 || b.n == 0 {
        return;
    }
    let needed = (m - 1) * a.stride + b.k();
    assert!(
        b.runs == 1 && needed <= a.data.len(),
        "{m} rows, stride {}, in {} bytes",
        a.stride,
        a.data.len()
    );
    let (rows, panels) = share(level, m, b, part);
    let runs = Runs {
        outer: 1,
        outer_step: 0,
        inner: 1,
        inner_step: 0,
        groups: b.run / 4,
        rest: b.run % 4,
        flip: flip(a.signed),
    };
    let grid = Grid { base: a.data.as_ptr(), width: m, line_step: 0, pixel_step: a.stride };
    let product = Product {
        grid,
        first_row: 0,
        runs,
        matrix: b,
        zero_point: a.zero_point,
        signed: a.signed,
        column: 0,
        rows,
        panels,
    };
    // SAFETY: the assertions above are what a product demands.
    unsafe { product.run(level, output, c_stride) }
}

/// What four bytes are flipped by to become unsigned.
pub(super) fn flip(signed: bool) -> i32 {
    if signed { i32::from_ne_bytes([0x80; 4]) } else { 0 }
}

/// The rows and the panels of a part: rows are shared out where there are tiles enough for all.
pub(super) fn share(level: Level, m: usize, b: &PackedMatrix, part: Part) -> (Range<usize>, Range<usize>) {
    let tiles = m.div_ceil(rows_of(level, b.layout.vectors));
    if tiles >= 4 * part.count || tiles >= b.panels() {
        (part.range(m), 0..b.panels())
    } else {
        (0..m, part.range(b.panels()))
    }
}

/// A share of a product.
#[derive(Clone)]
pub(super) struct Product<'a> {
    pub(super) grid: Grid,
    /// The row of the output that row 0 of the grid is.
    pub(super) first_row: usize,
    pub(super) runs: Runs,
    pub(super) matrix: &'a PackedMatrix,
    /// In the values of the type; by rows of the output.
    pub(super) zero_point: Rows<'a, i32>,
    pub(super) signed: bool,
    /// The column of the output that column 0 of the matrix is.
    pub(super) column: usize,
    /// Rows of the grid to be computed.
    pub(super) rows: Range<usize>,
    /// Panels to be computed.
    pub(super) panels: Range<usize>,
}

impl Product<'_> {
    /// Computes the share.
    ///
    /// # Safety
    /// The runs of all rows of the grid are readable; the output has the rows and columns of the share,
    /// which no other part writes; the zero points cover its rows.
    ///
    /// # Panics
    /// Where the matrix was packed for another vector width.
    pub(super) unsafe fn run(self, level: Level, output: &Output<'_>, stride: usize) {
        let layout = self.matrix.layout;
        assert!(layout == Layout::of(level), "weights packed as {layout:?} do not fit {level}");
        let product = &self;
        if let Some(finish) = DirectBytes::of(product, output, stride) {
            return level.run_vnni(ProductTask { product, finish });
        }
        if let Some(finish) = DirectFloats::of(product, output, stride) {
            return level.run_vnni(ProductTask { product, finish });
        }
        let mut sums = Sums::new();
        let finish = Buffered { product, output: *output, stride, sums: &raw mut sums };
        level.run_vnni(ProductTask { product, finish });
    }
}

struct ProductTask<'a, F> {
    product: &'a Product<'a>,
    finish: F,
}

impl<F: Finish> SimdTask for ProductTask<'_, F> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let flips = [self.product.runs.flip; MAX_LANES];
        // SAFETY: `Product::run` passes on its caller's promises.
        unsafe { blocks(simd, self.product, self.finish, std::hint::black_box(&flips)) }
    }
}

/// Bytes of weights that stay in the cache of a core while rows pass.
const CACHED_WEIGHTS: usize = 256 * 1024;

/// Bytes of rows that stay in the nearest cache while panels pass.
const CACHED_ROWS: usize = 12 * 1024;

/// Bytes of a cache line.
const CACHE_LINE: usize = 64;

/// Rows of a block are a multiple of those of every tile.
const BLOCK_ROWS: usize = 48;

/// Computes a product block of rows by block of rows, so that what is read and written again stays near.
///
/// # Safety
/// As [`Product::run`], and what the finish demands.
#[inline(always)]
unsafe fn blocks<S: Simd, F: Finish>(simd: S, product: &Product<'_>, finish: F, flips: &[i32; MAX_LANES]) {
    let Product { matrix, rows, panels, .. } = product;
    let block = if matrix.bytes() > CACHED_WEIGHTS {
        rows.len()
    } else {
        (CACHED_ROWS / matrix.k().max(matrix.n).max(1)).max(BLOCK_ROWS) / BLOCK_ROWS * BLOCK_ROWS
    };
    let mut start = rows.start;
    while start < rows.end {
        // What is left over goes with the last block.
        let end = if rows.end - start < 2 * block { rows.end } else { start + block };
        for index in panels.clone() {
            // SAFETY: the caller's promise.
            unsafe {
                match matrix.panel(index).0 {
                    1 => strips::<S, F, 1>(simd, product, finish, flips, start..end, index),
                    2 => strips::<S, F, 2>(simd, product, finish, flips, start..end, index),
                    // Panels that a level does not have are not compiled.
                    vectors if const { Layout::vectors_of(S::LEVEL) > 2 } => match vectors {
                        3 => strips::<S, F, 3>(simd, product, finish, flips, start..end, index),
                        _ => strips::<S, F, 4>(simd, product, finish, flips, start..end, index),
                    },
                    vectors => unreachable!("a panel of {vectors} vectors"),
                }
            }
        }
        start = end;
    }
}

/// The products of some rows and a panel of `V` vectors, tile by tile.
///
/// # Safety
/// As [`blocks`].
#[inline(always)]
unsafe fn strips<S: Simd, F: Finish, const V: usize>(
    simd: S,
    product: &Product<'_>,
    finish: F,
    flips: &[i32; MAX_LANES],
    rows: Range<usize>,
    index: usize,
) {
    let matrix = product.matrix;
    let start = index * matrix.layout.columns();
    let n = (V * S::LANES).min(matrix.n - start);
    // SAFETY: the caller's promise.
    unsafe {
        let of = finish.panel::<S, V>(simd, Columns { start, n });
        let weights = matrix.panel(index).1;
        let panel = weights.as_ptr();
        // The next panel lies behind this one, and is brought nearer where it may be far.
        let mut ahead = panel.wrapping_add(weights.len());
        let mut left = if matrix.bytes() > CACHED_WEIGHTS { weights.len() } else { 0 };
        let count = rows.len().div_ceil(most_rows::<S, F, V>());
        let (each, longer) = (rows.len() / count, rows.len() % count);
        let mut walk = product.grid.walk(rows.start);
        let mut first = rows.start;
        let mut addresses = [std::ptr::null(); TALLEST];
        for i in 0..count {
            let count = each + usize::from(i < longer);
            walk.take(&mut addresses[..count]);
            let ahead_step = if left > 0 { CACHE_LINE } else { 0 };
            let (rows, runs) = (&addresses, product.runs);
            tile(simd, Strip { rows, first, count, runs, flips, panel, ahead, ahead_step }, finish, &of);
            first += count;
            let asked = weights.len() / (4 * V * S::LANES) * ahead_step;
            (ahead, left) = (ahead.wrapping_add(asked), left.saturating_sub(asked));
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;
    use crate::SharedSlice;
    use crate::activation::Activation;
    use crate::quantized::testing::{bytes, check_outputs, compare_bytes, requantized};
    use crate::quantized::{Dequantize, QuantizedResidual, Requantize, Weights, byte_value};

    /// Random operands of a product, and its sums by their definition.
    struct Case {
        a: Vec<u8>,
        a_signed: bool,
        a_zero: Vec<i32>,
        b: PackedMatrix,
        sums: Vec<i32>,
    }

    fn case(level: Level, [m, k, n]: [usize; 3], [a_signed, b_signed]: [bool; 2], zeros: [usize; 2]) -> Case {
        let mut random = Random::new((m * 31 + k * 7 + n) as u64);
        let (a, b) = (bytes(&mut random, m * k), bytes(&mut random, k * n));
        let mut zero_points = |count: usize, signed: bool| -> Vec<i32> {
            bytes(&mut random, count).into_iter().map(|byte| byte_value(byte, signed)).collect()
        };
        let a_zero = zero_points(zeros[0], a_signed);
        let b_zero = zero_points(zeros[1], b_signed);
        let of = |zero: &[i32], i: usize| if zero.is_empty() { 0 } else { zero[i % zero.len()] };
        let mut sums = vec![0; m * n];
        for (i, sum) in sums.iter_mut().enumerate() {
            let (row, column) = (i / n, i % n);
            for j in 0..k {
                let x = byte_value(a[row * k + j], a_signed) - of(&a_zero, row);
                *sum += x * (byte_value(b[j * n + column], b_signed) - of(&b_zero, column));
            }
        }
        let weights = Weights {
            data: &b,
            k,
            n,
            row_stride: n,
            column_stride: 1,
            signed: b_signed,
            zero_point: &b_zero,
        };
        Case { b: PackedMatrix::new(level, &weights, &crate::Packing::default()), a, a_signed, a_zero, sums }
    }

    fn activations(case: &Case, k: usize) -> Activations<'_> {
        let zero_point = match case.a_zero.as_slice() {
            [] => Rows::Same(0),
            [one] => Rows::Same(*one),
            many => Rows::Each(many),
        };
        Activations { data: &case.a, stride: k, signed: case.a_signed, zero_point }
    }

    const SIZES: [[usize; 3]; 14] = [
        [0, 4, 4],
        [1, 0, 5],
        [1, 1, 1],
        [1, 64, 200],
        [2, 3, 17],
        [5, 7, 16],
        [6, 8, 64],
        [7, 30, 65],
        [13, 5, 33],
        [25, 6, 48],
        [12, 9, 100],
        [49, 33, 130],
        [61, 17, 15],
        [9, 300, 23],
    ];

    #[test]
    fn products_match_their_definition() {
        let signs = [[false, true], [true, true], [false, false], [true, false]];
        let cases = Level::available().flat_map(|level| {
            SIZES.into_iter().flat_map(move |size| signs.into_iter().map(move |sign| (level, size, sign)))
        });
        each_case(cases, |&(level, size, signs)| {
            let [m, k, n] = size;
            for zeros in [[0, 0], [1, 0], [1, 1], [m, n]] {
                let case = case(level, size, signs, zeros);
                check_outputs(&case.sums, n, signs[0], |output, part| {
                    gemm(level, m, &activations(&case, k), &case.b, output, n, part);
                })
                .map_err(|e| format!("zero points {zeros:?}: {e}"))?;
            }
            Ok(())
        });
    }

    #[test]
    fn floats_are_scaled_by_row_and_column() {
        each_case(Level::available(), |&level| {
            let [m, k, n] = [11, 40, 70];
            let case = case(level, [m, k, n], [false, true], [1, 0]);
            let mut random = Random::new(3);
            let (scale, row_scale, bias) = (random.floats(n), random.floats(m), random.floats(n));
            let expected: Vec<f32> = (0..m * n)
                .map(|i| (case.sums[i] as f32 * scale[i % n] * row_scale[i / n] + bias[i % n]).max(0.0))
                .collect();
            let mut actual = vec![0.0; m * n];
            let output = Output::F32(Dequantize {
                c: SharedSlice::new(&mut actual),
                scale: &scale,
                row_scale: Rows::Each(&row_scale),
                bias: Some(&bias),
                activation: Activation::Relu,
            });
            gemm(level, m, &activations(&case, k), &case.b, &output, n, Part::WHOLE);
            compare(&actual, &expected, Tolerance::Relative(1e-6))
        });
    }

    #[test]
    fn residuals_are_added_before_rounding() {
        each_case(Level::available(), |&level| {
            let [m, k, n] = [9, 24, 70];
            let case = case(level, [m, k, n], [true, true], [1, 0]);
            let data = bytes(&mut Random::new(4), m * n);
            let residual =
                QuantizedResidual { data: &data, stride: n, signed: true, zero_point: -7, multiplier: 0.75 };
            let multiplier = vec![2f32.powi(-10); n];
            let mut actual = vec![0; m * n];
            let output = Requantize {
                c: SharedSlice::new(&mut actual),
                signed: true,
                multiplier: &multiplier,
                bias: None,
                zero_point: -5,
                low: -128,
                high: 127,
                residual: Some(residual),
            };
            gemm(level, m, &activations(&case, k), &case.b, &Output::Bytes(output), n, Part::WHOLE);
            let expected = requantized(&case.sums, n, &output);
            compare_bytes(&actual, &expected, true)
        });
    }
}
