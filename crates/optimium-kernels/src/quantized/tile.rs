//! The register tile of the integer product: a few rows by a few vectors of columns, over all of K.

use optimium_simd::{Level, Simd};

/// Accumulators that a tile may have, in lanes of the widest vectors, and three vectors beyond, because the
/// sums of a row are read as four vectors.
const CAPACITY: usize = 27 * 16;

/// The sums of one tile, row by row.
#[repr(align(64))]
pub(super) struct Sums(pub(super) [i32; CAPACITY]);

impl Sums {
    pub(super) fn new() -> Sums {
        Sums([0; CAPACITY])
    }
}

/// How a row of activations is made of runs of bytes: `outer × inner` of them, at steps from its start.
#[derive(Clone, Copy)]
pub(super) struct Runs {
    /// Number of runs, outer loop.
    pub(super) outer: usize,
    /// Bytes from one to the next.
    pub(super) outer_step: usize,
    /// Number of runs, inner loop.
    pub(super) inner: usize,
    /// Bytes from one to the next.
    pub(super) inner_step: usize,
    /// Full groups of four in each run.
    pub(super) groups: usize,
    /// Bytes after them.
    pub(super) rest: usize,
    /// What each four bytes are flipped by: the sign bits, for signed bytes.
    pub(super) flip: i32,
}

/// Rows of the tile of a level for a panel of `vectors`.
pub(super) const fn rows_of(level: Level, vectors: usize) -> usize {
    match (level, vectors) {
        (Level::Avx512Vnni, 1 | 2) => 12,
        (Level::Avx512Vnni, 3) => 8,
        (Level::Avx512Vnni, _) => 6,
        (_, 1) => 8,
        _ => 4,
    }
}

/// Most rows of any tile.
pub(super) const MAX_ROWS: usize = 12;

/// Computes the sums of `rows.len()` rows, no more than [`rows_of`] says.
///
/// # Safety
/// The runs of all rows are readable, and `panel` holds their groups by `vectors` vectors.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd>(
    simd: S,
    rows: &[*const u8],
    runs: Runs,
    vectors: usize,
    panel: *const i8,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match vectors {
            1 if rows.len() > 8 => many::<S, 1>(simd, rows, runs, panel, sums),
            1 => few::<S, 1>(simd, rows, runs, panel, sums),
            2 if rows.len() > 8 => many::<S, 2>(simd, rows, runs, panel, sums),
            2 => few::<S, 2>(simd, rows, runs, panel, sums),
            3 => few::<S, 3>(simd, rows, runs, panel, sums),
            _ => fewest::<S, 4>(simd, rows, runs, panel, sums),
        }
    }
}

/// Up to 6 rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn fewest<S: Simd, const V: usize>(
    simd: S,
    rows: &[*const u8],
    runs: Runs,
    panel: *const i8,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match rows.len() {
            1 => fixed::<S, 1, V>(simd, rows, runs, panel, sums),
            2 => fixed::<S, 2, V>(simd, rows, runs, panel, sums),
            3 => fixed::<S, 3, V>(simd, rows, runs, panel, sums),
            4 => fixed::<S, 4, V>(simd, rows, runs, panel, sums),
            5 => fixed::<S, 5, V>(simd, rows, runs, panel, sums),
            6 => fixed::<S, 6, V>(simd, rows, runs, panel, sums),
            n => unreachable!("a tile of {n} rows"),
        }
    }
}

/// Up to 8 rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn few<S: Simd, const V: usize>(
    simd: S,
    rows: &[*const u8],
    runs: Runs,
    panel: *const i8,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match rows.len() {
            7 => fixed::<S, 7, V>(simd, rows, runs, panel, sums),
            8 => fixed::<S, 8, V>(simd, rows, runs, panel, sums),
            _ => fewest::<S, V>(simd, rows, runs, panel, sums),
        }
    }
}

/// 9 to 12 rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn many<S: Simd, const V: usize>(
    simd: S,
    rows: &[*const u8],
    runs: Runs,
    panel: *const i8,
    sums: &mut Sums,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match rows.len() {
            9 => fixed::<S, 9, V>(simd, rows, runs, panel, sums),
            10 => fixed::<S, 10, V>(simd, rows, runs, panel, sums),
            11 => fixed::<S, 11, V>(simd, rows, runs, panel, sums),
            12 => fixed::<S, 12, V>(simd, rows, runs, panel, sums),
            n => unreachable!("a tile of {n} rows"),
        }
    }
}

/// `R` rows by `V` vectors.
///
/// # Safety
/// As [`tile`], with `R` rows and `V` vectors.
#[inline(always)]
unsafe fn fixed<S: Simd, const R: usize, const V: usize>(
    simd: S,
    rows: &[*const u8],
    runs: Runs,
    panel: *const i8,
    sums: &mut Sums,
) {
    let rows: &[*const u8; R] = rows.try_into().expect("as many rows as the tile has");
    let flip = simd.splat_i32(runs.flip);
    let mut acc = [[simd.splat_i32(0); V]; R];
    let mut b = panel.cast::<i32>();
    for outer in 0..runs.outer {
        for inner in 0..runs.inner {
            let offset = outer * runs.outer_step + inner * runs.inner_step;
            // SAFETY: the caller promises the runs of all rows and the panel's groups for each.
            unsafe {
                for group in 0..runs.groups {
                    let w: [S::I32; V] = load_weights::<S, V>(simd, b);
                    b = b.add(V * S::LANES);
                    for i in 0..R {
                        let four = rows[i].add(offset + group * 4).cast::<i32>().read_unaligned();
                        let four = simd.xor_i32(simd.splat_i32(four), flip);
                        for v in 0..V {
                            acc[i][v] = simd.dot_u8_i8(acc[i][v], four, w[v]);
                        }
                    }
                }
                if runs.rest > 0 {
                    let w: [S::I32; V] = load_weights::<S, V>(simd, b);
                    b = b.add(V * S::LANES);
                    for i in 0..R {
                        let four = partial(rows[i].add(offset + runs.groups * 4), runs.rest);
                        let four = simd.xor_i32(simd.splat_i32(four), flip);
                        for v in 0..V {
                            acc[i][v] = simd.dot_u8_i8(acc[i][v], four, w[v]);
                        }
                    }
                }
            }
        }
    }
    for (i, row) in acc.iter().enumerate() {
        for (v, &sum) in row.iter().enumerate() {
            // SAFETY: a tile has at most CAPACITY sums.
            unsafe { simd.store_i32(sums.0.as_mut_ptr().add((i * V + v) * S::LANES), sum) }
        }
    }
}

/// One group of the panel.
///
/// # Safety
/// `V` vectors are readable at `b`.
#[inline(always)]
unsafe fn load_weights<S: Simd, const V: usize>(simd: S, b: *const i32) -> [S::I32; V] {
    let mut w = [simd.splat_i32(0); V];
    for (v, w) in w.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *w = unsafe { simd.load_i32(b.add(v * S::LANES)) };
    }
    w
}

/// The `n < 4` bytes at `p`, then zeros.
///
/// # Safety
/// `n` bytes are readable at `p`.
#[inline(always)]
unsafe fn partial(p: *const u8, n: usize) -> i32 {
    let mut bytes = [0u8; 4];
    // SAFETY: the caller's promise, and n is below 4.
    unsafe {
        bytes[0] = *p;
        if n > 1 {
            bytes[1] = *p.add(1);
        }
        if n > 2 {
            bytes[2] = *p.add(2);
        }
    }
    i32::from_ne_bytes(bytes)
}

/// The sum of the bytes of a row, flipped; its runs have `run` bytes.
///
/// # Safety
/// The runs of the row are readable.
#[inline(always)]
pub(super) unsafe fn row_sum(row: *const u8, runs: Runs, run: usize) -> i32 {
    let flip = runs.flip as u8;
    let mut sum = 0i32;
    for outer in 0..runs.outer {
        for inner in 0..runs.inner {
            // SAFETY: the caller's promise.
            let bytes = unsafe {
                std::slice::from_raw_parts(row.add(outer * runs.outer_step + inner * runs.inner_step), run)
            };
            for &byte in bytes {
                sum = sum.wrapping_add(i32::from(byte ^ flip));
            }
        }
    }
    sum
}
