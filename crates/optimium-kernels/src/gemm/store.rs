//! What is done to the sums of a tile, and where they go.

use optimium_simd::Simd;

use super::kernel::AnyStrips;
use super::lines::Walk;
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
pub(super) unsafe fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    mut sums: [[S::F32; VECTORS]; ROWS],
    result: &mut Walk,
) {
    let finish = &all.finish;
    let mut at = [0; ROWS];
    for row in &mut at {
        *row = result.step();
    }
    let has_residual = !finish.residual.is_null();
    if has_residual && !finish.residual_last {
        // SAFETY: forwarded.
        unsafe { add_residual(simd, all, &mut sums, at) };
    }
    // SAFETY: forwarded.
    unsafe { activate(simd, all, &mut sums) };
    if has_residual && finish.residual_last {
        // SAFETY: forwarded.
        unsafe { add_residual(simd, all, &mut sums, at) };
    }
    // SAFETY: forwarded.
    unsafe { write(simd, all, sums, at) };
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
unsafe fn add_residual<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    at: [usize; ROWS],
) {
    let mask = simd.first(all.last_columns);
    let last = (VECTORS - 1) * S::LANES;
    for r in 0..ROWS {
        // SAFETY: the caller promises that the row exists; the mask selects its columns of the last vector.
        unsafe {
            let row = all.finish.residual.add(at[r] * all.finish.residual_stride);
            for (v, sum) in sums[r][..VECTORS - 1].iter_mut().enumerate() {
                *sum = simd.add(*sum, simd.load(row.add(v * S::LANES)));
            }
            sums[r][VECTORS - 1] = simd.add(sums[r][VECTORS - 1], simd.load_masked(row.add(last), mask));
        }
    }
}

/// Writes the result's rows `at`.
///
/// # Safety
/// They are writable.
#[inline(always)]
unsafe fn write<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    sums: [[S::F32; VECTORS]; ROWS],
    at: [usize; ROWS],
) {
    let last = (VECTORS - 1) * S::LANES;
    let mask = simd.first(all.last_columns);
    // Masked stores are slow on some processors that have AVX2 only.
    let whole = all.last_columns == S::LANES;
    for r in 0..ROWS {
        // SAFETY: the caller promises that the row exists; the mask selects its columns of the last vector.
        unsafe {
            let row = all.c.add(at[r] * all.c_stride);
            for (v, &sum) in sums[r][..VECTORS - 1].iter().enumerate() {
                simd.store(row.add(v * S::LANES), sum);
            }
            if whole {
                simd.store(row.add(last), sums[r][VECTORS - 1]);
            } else {
                simd.store_masked(row.add(last), sums[r][VECTORS - 1], mask);
            }
        }
    }
}
