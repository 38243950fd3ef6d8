//! The integer product: rows of bytes times packed weights.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::output::{Output, Rows, Store, StoreBytes, StoreF32, StoreI32};
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
    assert!(b.runs == 1 && needed <= a.data.len(), "{m} rows, stride {}, in {} bytes", a.stride, a.data.len());
    let (rows, panels) = share(level, m, b, part);
    let runs = Runs { outer: 1, outer_step: 0, inner: 1, inner_step: 0, groups: b.run / 4, rest: b.run % 4, flip: flip(a.signed) };
    let grid = Grid { base: a.data.as_ptr(), width: m, line_step: 0, pixel_step: a.stride };
    let product =
        Product { grid, first_row: 0, runs, matrix: b, zero_point: a.zero_point, signed: a.signed, column: 0, rows, panels };
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
        let (mut y, mut x) = if first < self.width { (0, first) } else { (first / self.width, first % self.width) };
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
        match *output {
            Output::I32(c) => level.run(ProductTask { product: self, store: StoreI32 { c, stride } }),
            Output::F32(output) => level.run(ProductTask { product: self, store: StoreF32 { output, stride } }),
            Output::Bytes(output) => level.run(ProductTask { product: self, store: StoreBytes { output, stride } }),
        }
    }
}

struct ProductTask<'a, T> {
    product: Product<'a>,
    store: T,
}

impl<T: Store> SimdTask for ProductTask<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // SAFETY: `Product::run` passes on its caller's promises.
        unsafe { compute(simd, &self.product, self.store) }
    }
}

/// Computes a product tile by tile; a panel stays in the cache while the rows pass.
///
/// # Safety
/// As [`Product::run`].
#[inline(always)]
unsafe fn compute<S: Simd, T: Store>(simd: S, product: &Product<'_>, store: T) {
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
                finish(simd, product, store, &sums, addresses, first, index, vectors);
            }
        }
    }
}

/// Takes the zero points out of the sums of a tile and stores them.
///
/// # Safety
/// As [`Product::run`], for the rows from `first` on and the columns of the panel.
#[inline(always)]
unsafe fn finish<S: Simd, T: Store>(
    simd: S,
    product: &Product<'_>,
    store: T,
    sums: &Sums,
    addresses: &[*const u8],
    first: usize,
    panel: usize,
    vectors: usize,
) {
    let matrix = product.matrix;
    let shift = if product.signed { 128 } else { 0 };
    let first_row = product.first_row + first;
    for v in 0..vectors {
        let start = panel * matrix.layout.columns() + v * S::LANES;
        let n = S::LANES.min(matrix.n - start);
        let column = product.column + start;
        // SAFETY: the caller's promise; `sums` of the matrix is filled to whole vectors.
        unsafe {
            let of = store.column(simd, column, n);
            let bias = store.bias(simd, column, n);
            let weight_sums = simd.load_i32(matrix.sums.as_ptr().add(start));
            let take_out = |z: i32| simd.sub_i32(bias, simd.mul_i32(simd.splat_i32(z + shift), weight_sums));
            match (product.zero_point, &matrix.zero_points) {
                (Rows::Same(z), None) => {
                    let base = take_out(z);
                    for i in 0..addresses.len() {
                        let sum = simd.load_i32(sums.0.as_ptr().add((i * vectors + v) * S::LANES));
                        store.store(simd, of, first_row + i, column, n, simd.add_i32(sum, base));
                    }
                }
                (zero_point, weight_zero_points) => {
                    for (i, &address) in addresses.iter().enumerate() {
                        let sum = simd.load_i32(sums.0.as_ptr().add((i * vectors + v) * S::LANES));
                        let mut sum = simd.add_i32(sum, take_out(zero_point.get(first_row + i)));
                        if let Some(zero_points) = weight_zero_points {
                            let total = simd.splat_i32(row_sum(address, product.runs, matrix.run));
                            let y = simd.load_i32(zero_points.as_ptr().add(start));
                            sum = simd.sub_i32(sum, simd.mul_i32(total, y));
                        }
                        store.store(simd, of, first_row + i, column, n, sum);
                    }
                }
            }
        }
    }
}
