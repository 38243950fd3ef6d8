//! What a matrix product or a convolution does to its result before it is stored.
//!
//! Kernels start their sums from the bias and apply the frequent and cheap activations to the registers of a
//! tile (`TileActivation`); the others are too long to be inlined for every tile and are called. Where sums lie in
//! memory, `finish` does all that remains, vector by vector.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use crate::activation::{Activation, apply, apply_prelu};
use crate::elementwise::Source;
use crate::{Real, SharedSlice};

/// `activation(sum + bias + residual)`, or `activation(sum + bias) + residual`.
///
/// A result has rows (pixels, tokens) and columns (channels). Its elements are `T`, and those of the residual as well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a, T = f32> {
    /// One value a column.
    pub bias: Option<&'a [f32]>,
    /// A tensor of the result's shape to be added.
    pub residual: Option<Residual<'a, T>>,
    /// The function of each element.
    pub activation: Activation,
    /// The negative slope of [`Activation::PRelu`], one value a column.
    pub slope: Option<&'a [f32]>,
    /// Weights that this worker reads next, as elements of any type, where they are known: they are brought nearer while the last
    /// sums are computed.
    pub following: &'a [f32],
}

/// The second operand of a fused addition.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a, T = f32> {
    /// Row-major, one row a row of the result. It may lie between the rows of the result.
    pub data: Source<'a, T>,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Whether it is added after the activation instead of before.
    pub after_activation: bool,
}

impl<T: Copy> Epilogue<'_, T> {
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
            let needed = (rows - 1).saturating_mul(residual.stride).saturating_add(columns);
            assert!(
                residual.data.len() >= needed,
                "a residual of {} for {needed} elements",
                residual.data.len()
            );
        }
    }

    /// The activation as tiles apply it to the columns from `column` on.
    pub(crate) fn of_tile(&self, column: usize) -> TileActivation<'_> {
        match (self.activation, self.slope) {
            (Activation::None, _) => TileActivation::Clamp { low: f32::NEG_INFINITY, high: f32::INFINITY },
            (Activation::Relu, _) => TileActivation::Clamp { low: 0.0, high: f32::INFINITY },
            (Activation::Clip { low, high }, _) => TileActivation::Clamp { low, high },
            (Activation::LeakyRelu { alpha }, _) => TileActivation::Slope(alpha),
            (Activation::PRelu, Some(slopes)) => TileActivation::Slopes(&slopes[column..]),
            (Activation::HardSwish, _) => TileActivation::HardSwish,
            (other, _) => TileActivation::Called(other),
        }
    }
}

/// An activation by how the registers of a tile go through it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum TileActivation<'a> {
    /// Between bounds, infinite where a side is left alone. `max(low, x)` and `min(high, ·)`, bounds first, let
    /// NaN through.
    Clamp { low: f32, high: f32 },
    /// [`Activation::LeakyRelu`]
    Slope(f32),
    /// [`Activation::PRelu`], one slope a column.
    Slopes(&'a [f32]),
    /// [`Activation::HardSwish`]
    HardSwish,
    /// A function of many instructions, which is not inlined.
    Called(Activation),
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
    let slope = match epilogue.slope {
        // SAFETY: as above.
        Some(slope) => unsafe { simd.load_masked(slope.as_ptr().add(column), mask) },
        None => simd.splat(0.0),
    };
    apply_all(simd, epilogue, sums, residual, slope)
}

/// As [`finish`], for a vector all of whose columns exist.
///
/// # Safety
/// As there.
#[inline(always)]
pub(crate) unsafe fn finish_whole<S: Simd, T: Real>(
    simd: S,
    epilogue: &Epilogue<T>,
    row: usize,
    column: usize,
    sums: S::F32,
) -> S::F32 {
    let zero = simd.splat(0.0);
    // SAFETY: the caller promises that the row and the columns exist.
    let (residual, slope) = unsafe {
        let residual = |residual: &Residual<T>| {
            T::load(simd, residual.data.as_ptr().add(row * residual.stride + column))
        };
        let slope = |slope: &[f32]| simd.load(slope.as_ptr().add(column));
        (epilogue.residual.as_ref().map_or(zero, residual), epilogue.slope.map_or(zero, slope))
    };
    apply_all(simd, epilogue, sums, residual, slope)
}

/// Residual and activation in their order. Where there is none of one, its vector may be any.
#[inline(always)]
fn apply_all<S: Simd, T>(
    simd: S,
    epilogue: &Epilogue<T>,
    sums: S::F32,
    residual: S::F32,
    slope: S::F32,
) -> S::F32 {
    let late = epilogue.residual.as_ref().is_some_and(|residual| residual.after_activation);
    // Adding a zero would turn a negative zero positive.
    let early = epilogue.residual.is_some() && !late;
    let x = if early { simd.add(sums, residual) } else { sums };
    let x = match epilogue.activation {
        Activation::PRelu if epilogue.slope.is_some() => apply_prelu(simd, x, slope),
        activation => apply(simd, activation, x),
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
    for column in columns.clone().step_by(S::LANES) {
        let rest = columns.end - column;
        let mask = simd.first(rest);
        // Masked loads and stores are slow on some processors that have AVX2 only.
        let whole = rest >= S::LANES;
        // SAFETY: the mask selects columns of the range, which the caller promises to exist.
        unsafe {
            let at = c.add(column);
            let sums = if whole { simd.load(at) } else { simd.load_masked(at, mask) };
            let finished = finish(simd, epilogue, row, column, mask, sums);
            if whole { simd.store(at, finished) } else { simd.store_masked(at, finished, mask) }
        }
    }
}

/// Adds the residual to `rows × columns` stored sums (bias included) and applies the activation, in place; rows
/// begin `stride` elements apart.
///
/// # Panics
/// Where a slice is too short for the sizes.
pub fn finish_rows(
    level: Level,
    epilogue: &Epilogue,
    [rows, columns]: [usize; 2],
    c: SharedSlice<f32>,
    stride: usize,
) {
    epilogue.check(rows, columns);
    let needed = if rows == 0 { 0 } else { (rows - 1).saturating_mul(stride).saturating_add(columns) };
    assert!(c.len() >= needed, "{} sums for {rows} rows of {columns}", c.len());
    level.run(FinishRows { epilogue, rows, columns, c, stride });
}

struct FinishRows<'a> {
    epilogue: &'a Epilogue<'a>,
    rows: usize,
    columns: usize,
    c: SharedSlice<'a, f32>,
    stride: usize,
}

impl SimdTask for FinishRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in 0..self.rows {
            // SAFETY: `finish_rows` checked the epilogue and the length of the sums.
            unsafe {
                let c = self.c.as_mut_ptr().add(row * self.stride);
                finish_row(simd, self.epilogue, row, 0..self.columns, c);
            }
        }
    }
}
