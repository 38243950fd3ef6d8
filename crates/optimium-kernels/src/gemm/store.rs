//! What is done to the sums of a tile, and where they go.

use half::bf16;
use optimium_simd::Simd;

use super::arithmetic::Multiply;
use super::kernel::AnyStrips;
use super::lines::Walk;
use crate::Real;
use crate::activation::{ActivateInPlace, Activation, apply, apply_prelu};
use crate::epilogue::TileActivation;

/// What is done to the sums of one panel before they are stored. Columns count from the panel's first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish<'a> {
    /// What the sums start from; null for zeros.
    pub(super) bias: *const f32,
    /// What is added to them, or null, and its row stride.
    pub(super) residual: *const f32,
    pub(super) residual_stride: usize,
    /// Whether it is added after the activation.
    pub(super) residual_last: bool,
    pub(super) activation: TileActivation<'a>,
    /// Whether the result and the residual are bfloat16: their addresses are of such then.
    pub(super) rounded: bool,
}

/// The values of a panel's columns, of which the last vector has `last_columns`.
///
/// # Safety
/// They are readable at `values`.
#[inline(always)]
pub(super) unsafe fn of_columns<S: Simd, const VECTORS: usize>(
    simd: S,
    values: *const f32,
    last_columns: usize,
) -> [S::F32; VECTORS] {
    let mut vectors = [simd.splat(0.0); VECTORS];
    for (v, vector) in vectors[..VECTORS - 1].iter_mut().enumerate() {
        // SAFETY: all vectors but the last one are whole.
        *vector = unsafe { simd.load(values.add(v * S::LANES)) };
    }
    let last = (VECTORS - 1) * S::LANES;
    // SAFETY: the mask selects the columns that exist.
    vectors[VECTORS - 1] = unsafe { simd.load_masked(values.add(last), simd.first(last_columns)) };
    vectors
}

/// Finishes the sums of one tile and stores them.
///
/// # Safety
/// The result is writable and the residual readable at the next `ROWS` rows of `result`.
#[inline(always)]
pub(super) unsafe fn store<S: Simd, A: Multiply, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    sums: [[S::F32; VECTORS]; ROWS],
    result: &mut Walk,
) {
    let mut at = [0; ROWS];
    for row in &mut at {
        *row = result.step();
    }
    // SAFETY: forwarded.
    unsafe {
        if A::ROUNDS && all.finish.rounded {
            store_rows::<S, bf16, ROWS, VECTORS>(simd, all, sums, at);
        } else {
            store_rows::<S, f32, ROWS, VECTORS>(simd, all, sums, at);
        }
    }
}

/// Finishes the sums of the result's rows `at`, whose elements are `T`, and stores them.
///
/// # Safety
/// They are writable, and readable of the residual.
#[inline(always)]
unsafe fn store_rows<S: Simd, T: Real, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    mut sums: [[S::F32; VECTORS]; ROWS],
    at: [usize; ROWS],
) {
    let finish = &all.finish;
    let has_residual = !finish.residual.is_null();
    if has_residual && !finish.residual_last {
        // SAFETY: forwarded.
        unsafe { add_residual::<S, T, ROWS, VECTORS>(simd, all, &mut sums, at) };
    }
    // SAFETY: forwarded.
    unsafe { activate(simd, all, &mut sums) };
    if has_residual && finish.residual_last {
        // SAFETY: forwarded.
        unsafe { add_residual::<S, T, ROWS, VECTORS>(simd, all, &mut sums, at) };
    }
    // SAFETY: forwarded.
    unsafe { write::<S, T, ROWS, VECTORS>(simd, all, sums, at) };
}

/// Applies the activation.
///
/// # Safety
/// Its slopes are readable for the panel's columns, where it has some.
#[inline(always)]
unsafe fn activate<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    sums: &mut [[S::F32; VECTORS]; ROWS],
) {
    match all.finish.activation {
        TileActivation::Clamp { low, high } => {
            if low > f32::NEG_INFINITY {
                let low = simd.splat(low);
                for sum in sums.as_flattened_mut() {
                    *sum = simd.max(low, *sum);
                }
            }
            if high < f32::INFINITY {
                let high = simd.splat(high);
                for sum in sums.as_flattened_mut() {
                    *sum = simd.min(high, *sum);
                }
            }
        }
        TileActivation::Slope(alpha) => {
            let slope = simd.splat(alpha);
            for sum in sums.as_flattened_mut() {
                *sum = apply_prelu(simd, *sum, slope);
            }
        }
        TileActivation::Slopes(slopes) => {
            // SAFETY: forwarded.
            let slopes = unsafe { of_columns::<S, VECTORS>(simd, slopes.as_ptr(), all.last_columns) };
            for row in sums {
                for (sum, &slope) in row.iter_mut().zip(&slopes) {
                    *sum = apply_prelu(simd, *sum, slope);
                }
            }
        }
        TileActivation::HardSwish => {
            for sum in sums.as_flattened_mut() {
                *sum = apply(simd, Activation::HardSwish, *sum);
            }
        }
        TileActivation::Called(activation) => {
            // A copy: what has an address does not stay in registers.
            let mut buffer = *sums;
            let vectors = buffer.as_flattened_mut();
            let (start, length) = (vectors.as_mut_ptr().cast(), vectors.len() * S::LANES);
            // SAFETY: vectors are arrays of LANES elements.
            simd.call(unsafe { ActivateInPlace::new(activation, start, length) });
            *sums = buffer;
        }
    }
}

/// Adds the residual's rows `at`.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn add_residual<S: Simd, T: Real, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    at: [usize; ROWS],
) {
    let last = (VECTORS - 1) * S::LANES;
    for r in 0..ROWS {
        // SAFETY: the caller promises that the row exists; the last vector has so many columns.
        unsafe {
            let row = all.finish.residual.cast::<T>().add(at[r] * all.finish.residual_stride);
            for (v, sum) in sums[r][..VECTORS - 1].iter_mut().enumerate() {
                *sum = simd.add(*sum, T::load(simd, row.add(v * S::LANES)));
            }
            let residual = T::load_first(simd, row.add(last), all.last_columns);
            sums[r][VECTORS - 1] = simd.add(sums[r][VECTORS - 1], residual);
        }
    }
}

/// Writes the result's rows `at`.
///
/// # Safety
/// They are writable.
#[inline(always)]
unsafe fn write<S: Simd, T: Real, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    sums: [[S::F32; VECTORS]; ROWS],
    at: [usize; ROWS],
) {
    let last = (VECTORS - 1) * S::LANES;
    for r in 0..ROWS {
        // SAFETY: the caller promises that the row exists; the last vector has so many columns.
        unsafe {
            let row = all.c.cast::<T>().add(at[r] * all.c_stride);
            for (v, &sum) in sums[r][..VECTORS - 1].iter().enumerate() {
                T::store(simd, row.add(v * S::LANES), sum);
            }
            T::store_first(simd, row.add(last), sums[r][VECTORS - 1], all.last_columns);
        }
    }
}
