//! The integer product: rows of bytes times packed weights.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::output::{Output, Rows, Store, StoreBytes, StoreF32, StoreI32, lanes};
use super::packed::{Layout, PackedMatrix};
use super::tile::{MAX_ROWS, Runs, Sums, row_sum, rows_of, tile};
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
fn share(level: Level, m: usize, b: &PackedMatrix, part: Part) -> (Range<usize>, Range<usize>) {
    let tile = rows_of(level, b.layout.vectors);
    if m.div_ceil(tile) >= 4 * part.count || m.div_ceil(tile) >= b.panels() {
        (part.range_of_granules(m, tile), 0..b.panels())
    } else {
        (0..m, part.range(b.panels()))
    }
}

/// Where the rows of a product lie: those of an image, line by line.
#[derive(Clone, Copy)]
pub(super) struct Grid {
    pub(super) base: *const u8,
    /// Rows of the product in a line.
    pub(super) width: usize,
    /// Bytes from one line to the next.
    pub(super) line_step: usize,
    /// Bytes from one row of the product to the next.
    pub(super) pixel_step: usize,
}

impl Grid {
    /// The addresses of rows `first..first + rows.len()`.
    ///
    /// # Safety
    /// These rows exist.
    #[inline(always)]
    unsafe fn fill(self, first: usize, rows: &mut [*const u8]) {
        let (mut y, mut x) =
            if first < self.width { (0, first) } else { (first / self.width, first % self.width) };
        for row in rows {
            if x == self.width {
                (y, x) = (y + 1, 0);
            }
            // SAFETY: the caller's promise.
            *row = unsafe { self.base.add(y * self.line_step + x * self.pixel_step) };
            x += 1;
        }
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
        level.run(ProductTask { product: self, output: *output, stride });
    }
}

struct ProductTask<'a> {
    product: Product<'a>,
    output: Output<'a>,
    stride: usize,
}

impl SimdTask for ProductTask<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: `Product::run` passes on its caller's promises.
        unsafe { compute(simd, &self.product, self.output, self.stride) }
    }
}

/// Computes a product tile by tile; a panel stays in the cache while the rows pass.
///
/// # Safety
/// As [`Product::run`].
#[inline(always)]
unsafe fn compute<S: Simd>(simd: S, product: &Product<'_>, output: Output<'_>, stride: usize) {
    let Product { matrix, rows, panels, .. } = product;
    let mut sums = Sums::new();
    let mut addresses = [std::ptr::null(); MAX_ROWS];
    for index in panels.clone() {
        let (vectors, panel) = matrix.panel(index);
        let strips = rows.len().div_ceil(rows_of(S::LEVEL, vectors));
        for strip in 0..strips {
            let strip = Part { index: strip, count: strips }.range(rows.len());
            let first = rows.start + strip.start;
            let addresses = &mut addresses[..strip.len()];
            // SAFETY: the caller's promise; the strip has no more rows than a tile of this width.
            unsafe {
                product.grid.fill(first, addresses);
                tile(simd, addresses, product.runs, vectors, panel.as_ptr(), &mut sums);
                let tile = TileSums { sums: &sums, addresses, first, panel: index, vectors };
                match output {
                    Output::I32(c) => finish_any(simd, product, StoreI32 { c, stride }, tile),
                    Output::F32(output) => finish_any(simd, product, StoreF32 { output, stride }, tile),
                    Output::Bytes(output) => finish_any(simd, product, StoreBytes { output, stride }, tile),
                }
            }
        }
    }
}

/// A tile that has been computed.
#[derive(Clone, Copy)]
struct TileSums<'a> {
    sums: &'a Sums,
    /// Where its rows were read.
    addresses: &'a [*const u8],
    /// Its first row in the grid.
    first: usize,
    panel: usize,
    /// Vectors of the panel.
    vectors: usize,
}

/// Takes the zero points out of the sums of a tile and stores them.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_any<S: Simd, T: Store>(simd: S, product: &Product<'_>, store: T, tile: TileSums<'_>) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.vectors {
            1 => finish::<S, T, 1>(simd, product, store, tile),
            2 => finish::<S, T, 2>(simd, product, store, tile),
            _ => finish::<S, T, 4>(simd, product, store, tile),
        }
    }
}

/// Takes the zero points out of the sums of a tile of up to `V` vectors and stores them.
///
/// # Safety
/// As [`Product::run`], for the rows from `first` on and the columns of the panel.
#[inline(always)]
unsafe fn finish<S: Simd, T: Store, const V: usize>(
    simd: S,
    product: &Product<'_>,
    store: T,
    tile: TileSums<'_>,
) {
    let TileSums { sums, addresses, first, panel, vectors } = tile;
    let matrix = product.matrix;
    let shift = if product.signed { 128 } else { 0 };
    let first_row = product.first_row + first;
    let start = panel * matrix.layout.columns();
    let n = (vectors * S::LANES).min(matrix.n - start);
    let column = product.column + start;
    // SAFETY: the caller's promise; vectors without columns load nothing.
    unsafe {
        let of: [T::Column<S>; V] = std::array::from_fn(
            #[inline(always)]
            |v| store.column(simd, column + v * S::LANES, lanes::<S>(n, v)),
        );
        let bias: [S::I32; V] = std::array::from_fn(
            #[inline(always)]
            |v| store.bias(simd, column + v * S::LANES, lanes::<S>(n, v)),
        );
        let weight_sums = load_columns(simd, &matrix.sums, start, n);
        match (product.zero_point, &matrix.zero_points) {
            (Rows::Same(z), None) => {
                let base = take_out(simd, bias, z + shift, weight_sums);
                for i in 0..addresses.len() {
                    let sums = row_sums(simd, sums, i * vectors, base);
                    store.store_vectors(simd, of, first_row + i, column, n, sums);
                }
            }
            (zero_point, weight_zero_points) => {
                let y = match weight_zero_points {
                    Some(zero_points) => load_columns(simd, zero_points, start, n),
                    None => [simd.splat_i32(0); V],
                };
                for (i, &address) in addresses.iter().enumerate() {
                    let base = take_out(simd, bias, zero_point.get(first_row + i) + shift, weight_sums);
                    let mut sums = row_sums(simd, sums, i * vectors, base);
                    if weight_zero_points.is_some() {
                        let total = row_sum(address, product.runs, matrix.run);
                        sums = take_out(simd, sums, total, y);
                    }
                    store.store_vectors(simd, of, first_row + i, column, n, sums);
                }
            }
        }
    }
}

/// `sums - factor · of`
#[inline(always)]
fn take_out<S: Simd, const V: usize>(
    simd: S,
    sums: [S::I32; V],
    factor: i32,
    of: [S::I32; V],
) -> [S::I32; V] {
    let factor = simd.splat_i32(factor);
    each(
        #[inline(always)]
        |v| simd.sub_i32(sums[v], simd.mul_i32(factor, of[v])),
    )
}

/// `base` and the sums of a tile's row, of which `first` is the first vector.
///
/// # Safety
/// The row is one of the tile.
#[inline(always)]
unsafe fn row_sums<S: Simd, const V: usize>(
    simd: S,
    sums: &Sums,
    first: usize,
    base: [S::I32; V],
) -> [S::I32; V] {
    // SAFETY: the caller's promise; behind the last row there is room for three vectors.
    each(
        #[inline(always)]
        |v| unsafe { simd.add_i32(simd.load_i32(sums.0.as_ptr().add((first + v) * S::LANES)), base[v]) },
    )
}

/// `f(v)` for each vector of a panel.
#[inline(always)]
fn each<T, const V: usize>(f: impl FnMut(usize) -> T) -> [T; V] {
    std::array::from_fn(f)
}

/// The values of `n` columns from `start` on, as `V` vectors.
///
/// # Safety
/// `values` has these columns.
#[inline(always)]
unsafe fn load_columns<S: Simd, const V: usize>(
    simd: S,
    values: &[i32],
    start: usize,
    n: usize,
) -> [S::I32; V] {
    // SAFETY: the caller's promise; vectors without columns load nothing.
    each(
        #[inline(always)]
        |v| unsafe {
            let p = values.as_ptr().wrapping_add(start + v * S::LANES);
            simd.load_i32_masked(p, simd.first(lanes::<S>(n, v)))
        },
    )
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
        Case { b: PackedMatrix::new(level, &weights), a, a_signed, a_zero, sums }
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
