//! What becomes of the sums of a tile: bytes or floats straight from the registers, or anything by way of a buffer.

use optimium_simd::Simd;

use super::gemm::Product;
use super::output::{
    Dequantize, Output, Requantize, Rows, SmallBytes, Store, StoreBytes, StoreF32, StoreI32, lanes,
};
use super::tile::row_sum;
use crate::activation::Activation;

/// The columns of a panel.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    /// The first one, counted in the matrix.
    pub(super) start: usize,
    /// How many there are.
    pub(super) n: usize,
}

/// Takes the sums of tiles.
pub(super) trait Finish: Copy {
    /// No tile has more rows.
    const MOST_ROWS: usize = usize::MAX;
    /// What is the same for all rows of a panel of `V` vectors.
    type Panel<S: Simd, const V: usize>: Copy;
    /// Reads it.
    ///
    /// # Safety
    /// The columns exist.
    unsafe fn panel<S: Simd, const V: usize>(self, simd: S, columns: Columns) -> Self::Panel<S, V>;
    /// What the sums of every row begin with.
    fn start<S: Simd, const V: usize>(simd: S, of: &Self::Panel<S, V>) -> [S::I32; V];
    /// Takes the sums of row `i` of the tile that begins at row `first` of the grid.
    ///
    /// # Safety
    /// The output has the row and the columns, and no other part writes them.
    unsafe fn row<S: Simd, const V: usize>(
        self,
        simd: S,
        of: &Self::Panel<S, V>,
        first: usize,
        i: usize,
        sums: [S::I32; V],
    );
    /// Whether narrow rows are taken together.
    const JOINS: bool = false;

    /// Takes rows from `i` on as [`row`](Finish::row) does, as many of `sums` as four vectors hold; only where it
    /// [joins](Finish::JOINS) rows of one vector or two.
    ///
    /// # Safety
    /// As [`row`](Finish::row), for all of them.
    #[inline(always)]
    unsafe fn joined_rows<S: Simd, const V: usize>(
        self,
        simd: S,
        of: &Self::Panel<S, V>,
        first: usize,
        i: usize,
        sums: [[S::I32; V]; 4],
    ) {
        for (r, &sums) in sums.iter().enumerate().take(4 / V) {
            // SAFETY: the caller's promise.
            unsafe { self.row(simd, of, first, i + r, sums) };
        }
    }

    /// Called behind the last row of the tile, with the addresses of its rows.
    ///
    /// # Safety
    /// As [`row`](Finish::row), for all rows; their runs are readable.
    #[inline(always)]
    unsafe fn tile<S: Simd, const V: usize>(
        self,
        simd: S,
        of: &Self::Panel<S, V>,
        first: usize,
        rows: &[*const u8],
    ) {
        let _ = (simd, of, first, rows);
    }
}

/// `f(v)` for each vector of a panel.
#[inline(always)]
fn each<T, const V: usize>(f: impl FnMut(usize) -> T) -> [T; V] {
    std::array::from_fn(f)
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

/// The values of `n` columns from `start` on, as `V` vectors.
///
/// # Safety
/// `values` has these columns.
#[inline(always)]
unsafe fn load_columns<S: Simd, const V: usize>(
    simd: S,
    values: &[i32],
    Columns { start, n }: Columns,
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

/// As [`load_columns`].
///
/// # Safety
/// As [`load_columns`].
#[inline(always)]
unsafe fn load_floats<S: Simd, const V: usize>(
    simd: S,
    values: &[f32],
    Columns { start, n }: Columns,
) -> [S::F32; V] {
    // SAFETY: the caller's promise; vectors without columns load nothing.
    each(
        #[inline(always)]
        |v| unsafe {
            let p = values.as_ptr().wrapping_add(start + v * S::LANES);
            simd.load_masked(p, simd.first(lanes::<S>(n, v)))
        },
    )
}

/// What takes the zero points of rows and columns out of the sums, where it is the same for all rows: the zero point of the rows,
/// in the domain of the products.
fn common_zero_point(product: &Product<'_>) -> Option<i32> {
    match (product.zero_point, &product.matrix.zero_points) {
        (Rows::Same(zero), None) => Some(zero + if product.signed { 128 } else { 0 }),
        _ => None,
    }
}

/// Bytes, where rows differ in nothing but their sums.
#[derive(Clone, Copy)]
pub(super) struct DirectBytes<'a> {
    product: &'a Product<'a>,
    output: Requantize<'a>,
    bytes: SmallBytes,
    zero_point: i32,
    stride: usize,
}

impl<'a> DirectBytes<'a> {
    /// Where it serves the output of the product.
    pub(super) fn of(
        product: &'a Product<'a>,
        output: &Output<'a>,
        stride: usize,
    ) -> Option<DirectBytes<'a>> {
        let Output::Bytes(output) = *output else { return None };
        let multiplier = &output.multiplier[product.column..][..product.matrix.n];
        let bytes = SmallBytes::of(&output, multiplier)?;
        Some(DirectBytes { product, output, bytes, zero_point: common_zero_point(product)?, stride })
    }
}

/// What the sums of a panel begin with, the factors of its columns, and where these lie in the output.
#[derive(Clone, Copy)]
pub(super) struct Scaled<S: Simd, const V: usize> {
    start: [S::I32; V],
    scale: [S::F32; V],
    bias: [S::F32; V],
    column: usize,
    n: usize,
}

impl Finish for DirectBytes<'_> {
    type Panel<S: Simd, const V: usize> = Scaled<S, V>;

    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize>(self, simd: S, columns: Columns) -> Scaled<S, V> {
        let (column, n) = (self.product.column + columns.start, columns.n);
        let of = Columns { start: column, n };
        // SAFETY: the caller's promise, and `Output::check`.
        unsafe {
            let bias = match self.output.bias {
                Some(bias) => load_columns(simd, bias, of),
                None => [simd.splat_i32(0); V],
            };
            let sums = load_columns(simd, &self.product.matrix.sums, columns);
            let start = take_out(simd, bias, self.zero_point, sums);
            let scale = load_floats(simd, self.output.multiplier, of);
            Scaled { start, scale, bias: [simd.splat(0.0); V], column, n }
        }
    }

    #[inline(always)]
    fn start<S: Simd, const V: usize>(_: S, of: &Scaled<S, V>) -> [S::I32; V] {
        of.start
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const V: usize>(
        self,
        simd: S,
        of: &Scaled<S, V>,
        first: usize,
        i: usize,
        sums: [S::I32; V],
    ) {
        let mut values = [simd.splat_i32(0); 4];
        for v in 0..V {
            values[v] = self.bytes.value(simd, sums[v], of.scale[v]);
        }
        let packed = simd.order_packed(self.bytes.pack(simd, values));
        let row = self.product.first_row + first + i;
        // SAFETY: the caller's promise.
        unsafe {
            simd.store_bytes(self.output.c.as_mut_ptr().add(row * self.stride + of.column), packed, of.n)
        }
    }

    const JOINS: bool = true;

    #[inline(always)]
    unsafe fn joined_rows<S: Simd, const V: usize>(
        self,
        simd: S,
        of: &Scaled<S, V>,
        first: usize,
        i: usize,
        sums: [[S::I32; V]; 4],
    ) {
        let (rows, width) = (4 / V, V * S::LANES);
        let dense = of.n == width && self.stride == width;
        if V == 1 && !dense {
            for (r, &sums) in sums.iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { self.row(simd, of, first, i + r, sums) };
            }
            return;
        }
        let mut values = [simd.splat_i32(0); 4];
        for k in 0..4 {
            values[k] = self.bytes.value(simd, sums[k / V % 4][k % V], of.scale[k % V]);
        }
        let packed = simd.order_packed(self.bytes.pack(simd, values));
        let row = self.product.first_row + first + i;
        // SAFETY: the caller's promise; a vector holds the bytes of these rows.
        unsafe {
            let c = self.output.c.as_mut_ptr().add(row * self.stride + of.column);
            if dense {
                simd.store_bytes(c, packed, rows * width);
            } else {
                simd.store_byte_halves(c, c.add(self.stride), packed, of.n);
            }
        }
    }
}

/// Floats, where rows differ in nothing but their sums.
#[derive(Clone, Copy)]
pub(super) struct DirectFloats<'a> {
    product: &'a Product<'a>,
    output: Dequantize<'a>,
    row_scale: f32,
    zero_point: i32,
    stride: usize,
}

impl<'a> DirectFloats<'a> {
    /// Where it serves the output of the product.
    pub(super) fn of(
        product: &'a Product<'a>,
        output: &Output<'a>,
        stride: usize,
    ) -> Option<DirectFloats<'a>> {
        match *output {
            Output::F32(
                output @ Dequantize { row_scale: Rows::Same(row_scale), activation: Activation::None, .. },
            ) => {
                let zero_point = common_zero_point(product)?;
                Some(DirectFloats { product, output, row_scale, zero_point, stride })
            }
            _ => None,
        }
    }
}

impl Finish for DirectFloats<'_> {
    const MOST_ROWS: usize = 6;
    type Panel<S: Simd, const V: usize> = Scaled<S, V>;

    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize>(self, simd: S, columns: Columns) -> Scaled<S, V> {
        let (column, n) = (self.product.column + columns.start, columns.n);
        let of = Columns { start: column, n };
        // SAFETY: the caller's promise, and `Output::check`.
        unsafe {
            let sums = load_columns(simd, &self.product.matrix.sums, columns);
            let start = take_out(simd, [simd.splat_i32(0); V], self.zero_point, sums);
            let mut scale: [S::F32; V] = load_floats(simd, self.output.scale, of);
            for scale in &mut scale {
                *scale = simd.mul(*scale, simd.splat(self.row_scale));
            }
            let bias = match self.output.bias {
                Some(bias) => load_floats(simd, bias, of),
                None => [simd.splat(0.0); V],
            };
            Scaled { start, scale, bias, column, n }
        }
    }

    #[inline(always)]
    fn start<S: Simd, const V: usize>(_: S, of: &Scaled<S, V>) -> [S::I32; V] {
        of.start
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const V: usize>(
        self,
        simd: S,
        of: &Scaled<S, V>,
        first: usize,
        i: usize,
        sums: [S::I32; V],
    ) {
        let row = self.product.first_row + first + i;
        // SAFETY: the caller's promise.
        unsafe {
            let c = self.output.c.as_mut_ptr().add(row * self.stride + of.column);
            if of.n == V * S::LANES {
                for (v, &sum) in sums.iter().enumerate() {
                    simd.store(c.add(v * S::LANES), simd.fma(simd.to_f32(sum), of.scale[v], of.bias[v]));
                }
                return;
            }
            for (v, &sum) in sums.iter().enumerate() {
                let value = simd.fma(simd.to_f32(sum), of.scale[v], of.bias[v]);
                let mask = simd.first(lanes::<S>(of.n, v));
                simd.store_masked(c.wrapping_add(v * S::LANES), value, mask);
            }
        }
    }
}

/// Accumulators that a tile may have, in lanes of the widest vectors.
const CAPACITY: usize = 16 * 16;

/// The sums of one tile, row by row.
#[repr(align(64))]
pub(super) struct Sums([i32; CAPACITY]);

impl Sums {
    pub(super) fn new() -> Sums {
        Sums([0; CAPACITY])
    }
}

/// Any output, by way of a buffer.
#[derive(Clone, Copy)]
pub(super) struct Buffered<'a> {
    pub(super) product: &'a Product<'a>,
    pub(super) output: Output<'a>,
    pub(super) stride: usize,
    /// What nothing else points to.
    pub(super) sums: *mut Sums,
}

impl Finish for Buffered<'_> {
    const MOST_ROWS: usize = 4;
    type Panel<S: Simd, const V: usize> = Columns;

    #[inline(always)]
    unsafe fn panel<S: Simd, const V: usize>(self, _: S, columns: Columns) -> Columns {
        columns
    }

    #[inline(always)]
    fn start<S: Simd, const V: usize>(simd: S, _: &Columns) -> [S::I32; V] {
        [simd.splat_i32(0); V]
    }

    #[inline(always)]
    unsafe fn row<S: Simd, const V: usize>(
        self,
        simd: S,
        _: &Columns,
        _: usize,
        i: usize,
        sums: [S::I32; V],
    ) {
        for (v, &sum) in sums.iter().enumerate() {
            // SAFETY: a tile has at most CAPACITY sums.
            unsafe { simd.store_i32((*self.sums).0.as_mut_ptr().add((i * V + v) * S::LANES), sum) }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const V: usize>(
        self,
        simd: S,
        columns: &Columns,
        first: usize,
        rows: &[*const u8],
    ) {
        let stride = self.stride;
        // SAFETY: the caller's promise.
        unsafe {
            match self.output {
                Output::I32(c) => self.store::<S, _, V>(simd, StoreI32 { c, stride }, *columns, first, rows),
                Output::F32(output) => {
                    self.store::<S, _, V>(simd, StoreF32 { output, stride }, *columns, first, rows)
                }
                Output::Bytes(output) => {
                    self.store::<S, _, V>(simd, StoreBytes { output, stride }, *columns, first, rows)
                }
            }
        }
    }
}

impl Buffered<'_> {
    /// Takes the zero points out of the sums of a tile of `V` vectors and stores them.
    ///
    /// # Safety
    /// As [`Finish::tile`].
    #[inline(always)]
    unsafe fn store<S: Simd, T: Store, const V: usize>(
        self,
        simd: S,
        store: T,
        columns: Columns,
        first: usize,
        rows: &[*const u8],
    ) {
        let (product, matrix) = (self.product, self.product.matrix);
        let shift = if product.signed { 128 } else { 0 };
        let first_row = product.first_row + first;
        let (column, n) = (product.column + columns.start, columns.n);
        // SAFETY: the caller's promise; vectors without columns load nothing.
        unsafe {
            let of: [T::Column<S>; V] = each(
                #[inline(always)]
                |v| store.column(simd, column + v * S::LANES, lanes::<S>(n, v)),
            );
            let bias: [S::I32; V] = each(
                #[inline(always)]
                |v| store.bias(simd, column + v * S::LANES, lanes::<S>(n, v)),
            );
            let weight_sums = load_columns(simd, &matrix.sums, columns);
            let y = match &matrix.zero_points {
                Some(zero_points) => load_columns(simd, zero_points, columns),
                None => [simd.splat_i32(0); V],
            };
            for (i, &address) in rows.iter().enumerate() {
                let base = take_out(simd, bias, product.zero_point.get(first_row + i) + shift, weight_sums);
                let mut sums = each(
                    #[inline(always)]
                    |v| {
                        let p = (*self.sums).0.as_ptr().add((i * V + v) * S::LANES);
                        simd.add_i32(simd.load_i32(p), base[v])
                    },
                );
                if matrix.zero_points.is_some() {
                    let total = row_sum(simd, address, product.runs, matrix.run);
                    sums = take_out(simd, sums, total, y);
                }
                store.store_vectors(simd, of, first_row + i, column, n, sums);
            }
        }
    }
}
