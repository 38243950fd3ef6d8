//! What a matrix product or a convolution does to its result before it is stored.
//!
//! Kernels start their sums from the bias and clamp in registers ([`Epilogue::clamp`]): those are the cheap
//! cases, and the frequent ones. What remains is [`finish`]ed, vector by vector; as that inlines every
//! activation function, a kernel with an unrolled tile stores the bare sums and lets [`finish_row`] pass over
//! them while they are in the first-level cache.

use std::ops::Range;

use optimium_simd::Simd;

use crate::activation::{Activation, apply, apply_prelu};

/// `activation(sum + bias + residual)`, or `activation(sum + bias) + residual`.
///
/// A result has rows (pixels, tokens) and columns (channels).
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// A tensor of the result's shape to be added.
    pub residual: Option<Residual<'a>>,
    /// The function of each element.
    pub activation: Activation,
    /// The negative slope of [`Activation::PRelu`], one value a column.
    pub slope: Option<&'a [f32]>,
}

/// The second operand of a fused addition.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// Row-major, one row a row of the result.
    pub data: &'a [f32],
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether it is added after the activation instead of before.
    pub after_activation: bool,
}

impl Epilogue<'_> {
    /// Asserts that bias, slope and residual serve a result of `rows × columns`.
    ///
    /// # Panics
    /// Where one is too short, or the slope of a PRelu is missing.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        let length = |values: Option<&[f32]>| values.map_or(columns, <[f32]>::len);
        assert!(length(self.bias) >= columns, "{} biases for {columns} columns", length(self.bias));
        assert!(length(self.slope) >= columns, "{} slopes for {columns} columns", length(self.slope));
        assert!(self.activation != Activation::PRelu || self.slope.is_some(), "PRelu without a slope");
        if let Some(residual) = self.residual.filter(|_| rows > 0) {
            let needed = (rows - 1) * residual.stride + columns;
            assert!(residual.data.len() >= needed, "a residual of {} for {needed} elements", residual.data.len());
        }
    }

    /// The bounds that the activation clamps to, infinite where it leaves a side alone; `None` where it is no
    /// clamp. `max(low, x)` and `min(high, ·)`, bounds first, let NaN through.
    pub(crate) fn clamp(&self) -> Option<(f32, f32)> {
        match self.activation {
            Activation::None => Some((f32::NEG_INFINITY, f32::INFINITY)),
            Activation::Relu => Some((0.0, f32::INFINITY)),
            Activation::Clip { low, high } => Some((low, high)),
            _ => None,
        }
    }
}

/// The finished vector of `row` and the columns from `column` on, of which `mask` selects those that exist,
/// given its sums with the bias already in them: residual and activation in their order.
///
/// # Safety
/// The epilogue has been [checked](Epilogue::check) for a result with that row and the selected columns.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    row: usize,
    column: usize,
    mask: S::Mask,
    sums: S::F32,
) -> S::F32 {
    let residual = match &epilogue.residual {
        // SAFETY: the caller promises that the row and the selected columns exist.
        Some(residual) => unsafe {
            simd.load_masked(residual.data.as_ptr().add(row * residual.stride + column), mask)
        },
        None => simd.splat(0.0),
    };
    let late = epilogue.residual.is_some_and(|residual| residual.after_activation);
    // Adding a zero would turn a negative zero positive.
    let early = epilogue.residual.is_some() && !late;
    let x = if early { simd.add(sums, residual) } else { sums };
    let x = match (epilogue.activation, epilogue.slope) {
        (Activation::PRelu, Some(slope)) => {
            // SAFETY: as above.
            apply_prelu(simd, x, unsafe { simd.load_masked(slope.as_ptr().add(column), mask) })
        }
        (activation, _) => apply(simd, activation, x),
    };
    if late { simd.add(x, residual) } else { x }
}

/// Finishes the `columns` of one stored row of sums (bias included) in place: `c` is the address of the row's
/// column 0.
///
/// # Safety
/// As for [`finish`], and the columns are readable and writable at `c`.
#[inline(always)]
pub(crate) unsafe fn finish_row<S: Simd>(
    simd: S,
    epilogue: &Epilogue,
    row: usize,
    columns: Range<usize>,
    c: *mut f32,
) {
    let mut column = columns.start;
    while column < columns.end {
        let mask = simd.first(columns.end - column);
        // SAFETY: the mask selects columns of the range, which the caller promises to exist.
        unsafe {
            let sums = simd.load_masked(c.add(column), mask);
            simd.store_masked(c.add(column), finish(simd, epilogue, row, column, mask, sums), mask);
        }
        column += S::LANES;
    }
}
