//! What becomes of the sums of an integer product.

use optimium_simd::Simd;

use super::{load_values, store_values};
use crate::SharedSlice;
use crate::activation::{self, Activation};

/// One value for all rows, or one each.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a, T> {
    /// The same for all.
    Same(T),
    /// One a row.
    Each(&'a [T]),
}

impl<T: Copy> Rows<'_, T> {
    /// The value of `row`.
    #[inline(always)]
    pub fn get(&self, row: usize) -> T {
        match self {
            Rows::Same(value) => *value,
            Rows::Each(values) => values[row],
        }
    }

    /// Whether there are values for `rows` rows.
    pub(super) fn covers(&self, rows: usize) -> bool {
        match self {
            Rows::Same(_) => true,
            Rows::Each(values) => values.len() >= rows,
        }
    }
}

/// What is stored of the sums, and where.
#[derive(Clone, Copy, Debug)]
pub enum Output<'a> {
    /// The sums, with the zero points taken out.
    I32(SharedSlice<'a, i32>),
    /// Floats.
    F32(Dequantize<'a>),
    /// Bytes of the quantization of the result.
    Bytes(Requantize<'a>),
}

/// `activation(sum · scale[column] · row_scale[row] + bias[column])`
#[derive(Clone, Copy, Debug)]
pub struct Dequantize<'a> {
    /// The result.
    pub c: SharedSlice<'a, f32>,
    /// One factor a column.
    pub scale: &'a [f32],
    /// A factor of the rows.
    pub row_scale: Rows<'a, f32>,
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// The function of each element; [`Activation::PRelu`] is not allowed here.
    pub activation: Activation,
}

/// `clamp(round((sum + bias[column]) · multiplier[column] + residual) + zero_point, low, high)`
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// The result.
    pub c: SharedSlice<'a, u8>,
    /// Whether the bytes of the result are signed.
    pub signed: bool,
    /// One factor a column: scale of a · scale of b / scale of the result.
    pub multiplier: &'a [f32],
    /// One value a column, in units of scale of a · scale of b.
    pub bias: Option<&'a [i32]>,
    /// The byte of the result that stands for zero.
    pub zero_point: i32,
    /// The smallest byte to store: the type's, or the lower bound of a fused activation.
    pub low: i32,
    /// The largest byte to store.
    pub high: i32,
    /// A tensor to be added.
    pub residual: Option<QuantizedResidual<'a>>,
}

/// The second operand of a fused addition: adds `multiplier · (byte - zero_point)`.
#[derive(Clone, Copy, Debug)]
pub struct QuantizedResidual<'a> {
    /// Row-major, one row a row of the result.
    pub data: &'a [u8],
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether the bytes are signed.
    pub signed: bool,
    /// The byte that stands for zero.
    pub zero_point: i32,
    /// Scale of the residual / scale of the result.
    pub multiplier: f32,
}

impl Output<'_> {
    /// Checks that everything is there for `rows × columns` results.
    pub(super) fn check(&self, rows: usize, columns: usize, stride: usize) {
        if rows == 0 || columns == 0 {
            return;
        }
        let last = (rows - 1) * stride + columns;
        let (length, complete) = match self {
            Output::I32(c) => (c.len(), true),
            Output::F32(d) => {
                let bias = d.bias.is_none_or(|bias| bias.len() >= columns);
                (d.c.len(), d.scale.len() >= columns && bias && d.row_scale.covers(rows))
            }
            Output::Bytes(r) => {
                let bias = r.bias.is_none_or(|bias| bias.len() >= columns);
                let residual = r.residual.is_none_or(|x| x.data.len() >= (rows - 1) * x.stride + columns);
                (r.c.len(), r.multiplier.len() >= columns && bias && residual)
            }
        };
        assert!(
            stride >= columns && last <= length,
            "{rows}×{columns} results, stride {stride}, in {length} elements"
        );
        assert!(complete, "scales, biases or residuals are missing for {rows}×{columns} results");
        if let Output::F32(d) = self {
            assert!(d.activation != Activation::PRelu, "PRelu cannot be fused into a dequantizing store");
        }
    }
}

/// How the sums of one vector of columns are stored.
pub(super) trait Store: Copy {
    /// What is the same for all rows.
    type Column<S: Simd>: Copy;
    /// Reads it for `n` columns from `column`, which may be none.
    ///
    /// # Safety
    /// The columns exist.
    unsafe fn column<S: Simd>(self, simd: S, column: usize, n: usize) -> Self::Column<S>;
    /// The integer bias of these columns.
    ///
    /// # Safety
    /// The columns exist.
    unsafe fn bias<S: Simd>(self, simd: S, column: usize, n: usize) -> S::I32;
    /// Stores `n` sums of `row` from `column` on.
    ///
    /// # Safety
    /// The row and the columns exist, and no other part stores them.
    unsafe fn store<S: Simd>(
        self,
        simd: S,
        of: Self::Column<S>,
        row: usize,
        column: usize,
        n: usize,
        sum: S::I32,
    );
    /// Stores `n` sums of `row` from `column` on, in up to `V <= 4` vectors.
    ///
    /// # Safety
    /// As [`store`](Store::store).
    #[inline(always)]
    unsafe fn store_vectors<S: Simd, const V: usize>(
        self,
        simd: S,
        of: [Self::Column<S>; V],
        row: usize,
        column: usize,
        n: usize,
        sums: [S::I32; V],
    ) {
        for v in 0..V {
            let count = lanes::<S>(n, v);
            if count > 0 {
                // SAFETY: the caller's promise.
                unsafe { self.store(simd, of[v], row, column + v * S::LANES, count, sums[v]) }
            }
        }
    }
}

/// How many of `n` columns vector `v` has.
#[inline(always)]
pub(super) fn lanes<S: Simd>(n: usize, v: usize) -> usize {
    n.saturating_sub(v * S::LANES).min(S::LANES)
}

/// Stores the sums themselves.
#[derive(Clone, Copy)]
pub(super) struct StoreI32<'a> {
    pub(super) c: SharedSlice<'a, i32>,
    pub(super) stride: usize,
}

impl Store for StoreI32<'_> {
    type Column<S: Simd> = ();

    #[inline(always)]
    unsafe fn column<S: Simd>(self, _: S, _: usize, _: usize) {}

    #[inline(always)]
    unsafe fn bias<S: Simd>(self, simd: S, _: usize, _: usize) -> S::I32 {
        simd.splat_i32(0)
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(self, simd: S, (): (), row: usize, column: usize, n: usize, sum: S::I32) {
        // SAFETY: the caller's promise.
        unsafe {
            simd.store_i32_masked(self.c.as_mut_ptr().add(row * self.stride + column), sum, simd.first(n))
        }
    }
}

/// Stores floats.
#[derive(Clone, Copy)]
pub(super) struct StoreF32<'a> {
    pub(super) output: Dequantize<'a>,
    pub(super) stride: usize,
}

impl Store for StoreF32<'_> {
    /// Scale and bias.
    type Column<S: Simd> = (S::F32, S::F32);

    #[inline(always)]
    unsafe fn column<S: Simd>(self, simd: S, column: usize, n: usize) -> Self::Column<S> {
        let mask = simd.first(n);
        // SAFETY: the caller's promise.
        unsafe {
            let scale = simd.load_masked(self.output.scale.as_ptr().wrapping_add(column), mask);
            let bias = match self.output.bias {
                Some(bias) => simd.load_masked(bias.as_ptr().wrapping_add(column), mask),
                None => simd.splat(0.0),
            };
            (scale, bias)
        }
    }

    #[inline(always)]
    unsafe fn bias<S: Simd>(self, simd: S, _: usize, _: usize) -> S::I32 {
        simd.splat_i32(0)
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(
        self,
        simd: S,
        of: Self::Column<S>,
        row: usize,
        column: usize,
        n: usize,
        sum: S::I32,
    ) {
        let (scale, bias) = of;
        let scale = simd.mul(scale, simd.splat(self.output.row_scale.get(row)));
        let value = simd.fma(simd.to_f32(sum), scale, bias);
        let value = activation::apply(simd, self.output.activation, value);
        // SAFETY: the caller's promise.
        unsafe {
            simd.store_masked(
                self.output.c.as_mut_ptr().add(row * self.stride + column),
                value,
                simd.first(n),
            )
        }
    }
}

/// Stores bytes.
#[derive(Clone, Copy)]
pub(super) struct StoreBytes<'a> {
    pub(super) output: Requantize<'a>,
    pub(super) stride: usize,
}

impl Store for StoreBytes<'_> {
    type Column<S: Simd> = S::F32;

    #[inline(always)]
    unsafe fn column<S: Simd>(self, simd: S, column: usize, n: usize) -> S::F32 {
        // SAFETY: the caller's promise.
        unsafe { simd.load_masked(self.output.multiplier.as_ptr().wrapping_add(column), simd.first(n)) }
    }

    #[inline(always)]
    unsafe fn bias<S: Simd>(self, simd: S, column: usize, n: usize) -> S::I32 {
        match self.output.bias {
            // SAFETY: the caller's promise.
            Some(bias) => unsafe { simd.load_i32_masked(bias.as_ptr().wrapping_add(column), simd.first(n)) },
            None => simd.splat_i32(0),
        }
    }

    #[inline(always)]
    unsafe fn store<S: Simd>(
        self,
        simd: S,
        multiplier: S::F32,
        row: usize,
        column: usize,
        n: usize,
        sum: S::I32,
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = self.byte_values(simd, multiplier, row, column, n, sum);
            store_values(simd, self.address(row, column), bytes, n, self.output.signed)
        }
    }

    #[inline(always)]
    unsafe fn store_vectors<S: Simd, const V: usize>(
        self,
        simd: S,
        multiplier: [S::F32; V],
        row: usize,
        column: usize,
        n: usize,
        sums: [S::I32; V],
    ) {
        let mut values = [simd.splat_i32(0); 4];
        // SAFETY: the caller's promise.
        unsafe {
            for v in 0..V {
                let column = column + v * S::LANES;
                values[v] = self.byte_values(simd, multiplier[v], row, column, lanes::<S>(n, v), sums[v]);
            }
            let packed = if self.output.signed { simd.pack_i8(values) } else { simd.pack_u8(values) };
            simd.store_bytes(self.address(row, column), simd.order_packed(packed), n)
        }
    }
}

impl StoreBytes<'_> {
    /// Where the result of a row and a column goes.
    ///
    /// # Safety
    /// It exists.
    #[inline(always)]
    unsafe fn address(self, row: usize, column: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { self.output.c.as_mut_ptr().add(row * self.stride + column) }
    }

    /// The bytes of `n` sums, as integers.
    ///
    /// # Safety
    /// The row and the columns exist.
    #[inline(always)]
    unsafe fn byte_values<S: Simd>(
        self,
        simd: S,
        multiplier: S::F32,
        row: usize,
        column: usize,
        n: usize,
        sum: S::I32,
    ) -> S::I32 {
        let output = self.output;
        let mut value = simd.mul(simd.to_f32(sum), multiplier);
        if let Some(residual) = output.residual {
            // SAFETY: the caller's promise, and `Output::check`; with no columns nothing is loaded.
            let bytes = unsafe {
                let p = residual.data.as_ptr().wrapping_add(row * residual.stride + column);
                load_values(simd, p, n, residual.signed)
            };
            let centred = simd.to_f32(simd.sub_i32(bytes, simd.splat_i32(residual.zero_point)));
            value = simd.fma(centred, simd.splat(residual.multiplier), value);
        }
        to_byte_values(simd, value, output.zero_point, output.low, output.high)
    }
}

/// `clamp(round(value) + zero_point, low, high)`
#[inline(always)]
pub(super) fn to_byte_values<S: Simd>(
    simd: S,
    value: S::F32,
    zero_point: i32,
    low: i32,
    high: i32,
) -> S::I32 {
    // Bounded while still a float: the conversion is undefined beyond the range of integers.
    let low = simd.splat((low - zero_point) as f32);
    let high = simd.splat((high - zero_point) as f32);
    let bounded = simd.min(simd.max(value, low), high);
    simd.add_i32(simd.round_to_i32(bounded), simd.splat_i32(zero_point))
}

/// Bytes of sums that are so small, once scaled, that no conversion can overflow: the same bytes as those of
/// [`to_byte_values`], which bounds them while they are floats.
#[derive(Clone, Copy)]
pub(super) struct SmallBytes {
    signed: bool,
    zero_point: i32,
    /// Where the type's own bounds do not do.
    bounds: Option<(i32, i32)>,
}

impl SmallBytes {
    /// For columns of those factors; none where there is a residual, or a scaled sum might overflow.
    pub(super) fn of(output: &Requantize<'_>, multiplier: &[f32]) -> Option<SmallBytes> {
        let small = output.residual.is_none()
            && multiplier.iter().fold(true, |small, factor| small & (factor.abs() <= 0.5));
        small.then(|| SmallBytes::bounded(output.signed, output.zero_point, output.low, output.high))
    }

    /// Bytes of a type and a zero point, from `low` to `high`.
    pub(super) fn bounded(signed: bool, zero_point: i32, low: i32, high: i32) -> SmallBytes {
        let bounds = if (low, high) == super::limits(signed) { None } else { Some((low, high)) };
        SmallBytes { signed, zero_point, bounds }
    }

    /// What [`pack`](SmallBytes::pack) makes the byte for `sum · multiplier` of.
    #[inline(always)]
    pub(super) fn value<S: Simd>(self, simd: S, sum: S::I32, multiplier: S::F32) -> S::I32 {
        self.rounded(simd, simd.mul(simd.to_f32(sum), multiplier))
    }

    /// What [`pack`](SmallBytes::pack) makes the byte for `value` steps of.
    #[inline(always)]
    pub(super) fn rounded<S: Simd>(self, simd: S, value: S::F32) -> S::I32 {
        simd.round_to_i32(value)
    }

    /// The bytes, in the order of [`Simd::pack_u8`].
    #[inline(always)]
    pub(super) fn pack<S: Simd>(self, simd: S, mut values: [S::I32; 4]) -> S::I32 {
        if self.zero_point != 0 {
            for value in &mut values {
                *value = simd.add_i32(*value, simd.splat_i32(self.zero_point));
            }
        }
        if let Some((low, high)) = self.bounds {
            for value in &mut values {
                *value = simd.min_i32(simd.max_i32(*value, simd.splat_i32(low)), simd.splat_i32(high));
            }
        }
        if self.signed { simd.pack_i8(values) } else { simd.pack_u8(values) }
    }
}
