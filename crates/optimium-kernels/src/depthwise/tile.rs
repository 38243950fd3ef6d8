//! Tiles of output pixels by one vector of channels, for windows without dilation.
//!
//! A tile walks the input rows under it. Each pixel of a row is loaded once and goes into all the sums it
//! belongs to, which stay in registers. Two output rows share the input rows between them.

use optimium_simd::Simd;

use crate::Real;

/// Where a tile reads. Addresses of skipped rows and columns may lie outside of the image.
#[derive(Clone, Copy)]
pub(super) struct Source<E> {
    /// The tile's first window's first pixel, at the block's first channel.
    pub(super) x: *const E,
    /// Elements from one image row to the next.
    pub(super) row_step: usize,
    /// In a ring, the first row that lies `back` elements before where it would.
    pub(super) wrap: usize,
    /// See `wrap`.
    pub(super) back: usize,
    /// Elements from one pixel to the next.
    pub(super) pixel_step: usize,
    /// The block's weights.
    pub(super) weights: *const f32,
    /// Rows of the window.
    pub(super) window: usize,
    /// The rows under the tile that lie in the image: `first..end`, counted from `x`.
    pub(super) first_row: usize,
    /// See `first_row`.
    pub(super) end_row: usize,
    /// One bit for each column under the tile that is needed and lies in the image.
    pub(super) columns: u32,
    /// Channels of the block.
    pub(super) channels: usize,
}

/// Repeats a block with a constant in place of the index; conditions on it vanish at compile time.
macro_rules! repeat {
    ($index:ident in [$($value:literal)*] $body:block) => {
        $({ const $index: usize = $value; $body })*
    };
}
pub(crate) use repeat;

/// The sums of `T` neighbouring outputs over a window of `K` columns and stride `STRIDE`; one row of them,
/// or two neighbouring rows where `TWO` (the vertical stride is one then). All sums begin with `start`.
///
/// Without `GUARDED` all columns lie in the image, without `MASKED` the block is full; only with `RING` the rows may wrap.
///
/// # Safety
/// The weights are of the window's size, and all pixels that `source` does not exclude are readable.
#[inline(always)]
pub(super) unsafe fn sums<
    S: Simd,
    E: Real,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const TWO: bool,
    const GUARDED: bool,
    const MASKED: bool,
    const RING: bool,
>(
    simd: S,
    start: S::F32,
    source: &Source<E>,
) -> [[S::F32; T]; 2] {
    let mut upper = [start; T];
    let mut lower = [start; T];
    let weights = |row: usize| {
        let mut taps = [start; K];
        for (j, tap) in taps.iter_mut().enumerate() {
            // SAFETY: the weights of a row below the window's rows.
            *tap = unsafe { simd.load(source.weights.add((row * K + j) * S::LANES)) };
        }
        taps
    };
    let row = |r: usize| {
        let back = if RING && r >= source.wrap { source.back } else { 0 };
        source.x.wrapping_add(r * source.row_step).wrapping_sub(back)
    };
    // SAFETY: only rows of the image are visited, with weights of rows of the window.
    unsafe {
        if !TWO {
            for r in source.first_row..source.end_row {
                add_row::<S, E, K, STRIDE, T, GUARDED, MASKED>(simd, &mut upper, &weights(r), row(r), source);
            }
            return [upper, lower];
        }
        if source.first_row == 0 && source.end_row > 0 {
            add_row::<S, E, K, STRIDE, T, GUARDED, MASKED>(simd, &mut upper, &weights(0), row(0), source);
        }
        for r in source.first_row.max(1)..source.end_row.min(source.window) {
            add_row_to_two::<S, E, K, T, GUARDED, MASKED>(
                simd,
                (&mut upper, &mut lower),
                (&weights(r), &weights(r - 1)),
                row(r),
                source,
            );
        }
        if source.first_row <= source.window && source.end_row > source.window {
            let last = source.window;
            add_row::<S, E, K, STRIDE, T, GUARDED, MASKED>(
                simd,
                &mut lower,
                &weights(last - 1),
                row(last),
                source,
            );
        }
    }
    [upper, lower]
}

/// The output to which a column under the tile belongs by that tap; beyond all tiles where there is none.
#[inline(always)]
pub(crate) fn tap_output(column: usize, tap: usize, stride: usize) -> usize {
    match column.checked_sub(tap) {
        Some(first) if first.is_multiple_of(stride) => first / stride,
        _ => usize::MAX,
    }
}

/// Adds one input row to one row of sums.
///
/// # Safety
/// The row's pixels that `source` does not exclude are readable.
#[inline(always)]
unsafe fn add_row<
    S: Simd,
    E: Real,
    const K: usize,
    const STRIDE: usize,
    const T: usize,
    const GUARDED: bool,
    const MASKED: bool,
>(
    simd: S,
    sums: &mut [S::F32; T],
    taps: &[S::F32; K],
    row: *const E,
    source: &Source<E>,
) {
    repeat!(COLUMN in [0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16] {
        if COLUMN < (T - 1) * STRIDE + K && (!GUARDED || source.columns >> COLUMN & 1 == 1) {
            // SAFETY: by the caller's promise.
            let x = unsafe { load::<S, E, MASKED>(simd, row.wrapping_add(COLUMN * source.pixel_step), source) };
            repeat!(J in [0 1 2 3 4 5 6] {
                let to = tap_output(COLUMN, J, STRIDE);
                if J < K && to < T {
                    sums[to] = simd.fma(x, taps[J], sums[to]);
                }
            });
        }
    });
}

/// Adds one input row to two rows of sums, with the weights of the window's row for each.
///
/// # Safety
/// As [`add_row`].
#[inline(always)]
unsafe fn add_row_to_two<
    S: Simd,
    E: Real,
    const K: usize,
    const T: usize,
    const GUARDED: bool,
    const MASKED: bool,
>(
    simd: S,
    (upper, lower): (&mut [S::F32; T], &mut [S::F32; T]),
    (upper_taps, lower_taps): (&[S::F32; K], &[S::F32; K]),
    row: *const E,
    source: &Source<E>,
) {
    repeat!(COLUMN in [0 1 2 3 4 5 6 7 8 9 10 11 12] {
        if COLUMN < T - 1 + K && (!GUARDED || source.columns >> COLUMN & 1 == 1) {
            // SAFETY: by the caller's promise.
            let x = unsafe { load::<S, E, MASKED>(simd, row.wrapping_add(COLUMN * source.pixel_step), source) };
            repeat!(J in [0 1 2 3 4 5 6] {
                let to = tap_output(COLUMN, J, 1);
                if J < K && to < T {
                    upper[to] = simd.fma(x, upper_taps[J], upper[to]);
                    lower[to] = simd.fma(x, lower_taps[J], lower[to]);
                }
            });
        }
    });
}

/// # Safety
/// The block's channels are readable at `p`.
#[inline(always)]
unsafe fn load<S: Simd, E: Real, const MASKED: bool>(simd: S, p: *const E, source: &Source<E>) -> S::F32 {
    // SAFETY: by the caller's promise; without a mask the block is full.
    unsafe { if MASKED { E::load_first(simd, p, source.channels) } else { E::load(simd, p) } }
}
