//! The register tile of the integer product: a few rows by a few vectors of columns, over all of K.

use optimium_simd::{Level, MAX_LANES, Simd};

use super::finish::Finish;
use crate::depthwise::repeat;

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
    /// Walks over the rows from `first` on.
    pub(super) fn walk(self, first: usize) -> Walk {
        let (y, x) = (first / self.width, first % self.width);
        Walk { grid: self, line: self.base.wrapping_add(y * self.line_step), x }
    }
}

/// The addresses of the rows of a grid, one after the other.
#[derive(Clone, Copy)]
pub(super) struct Walk {
    grid: Grid,
    line: *const u8,
    x: usize,
}

impl Walk {
    /// Writes the addresses of the next rows to `rows`, as many as it holds.
    // Where it is inlined, the compiler follows every address of a tile back to the sizes of the grid, in more registers than there
    // are.
    #[inline(never)]
    pub(super) fn take(&mut self, rows: &mut [*const u8]) {
        for row in rows {
            if self.x == self.grid.width {
                (self.line, self.x) = (self.line.wrapping_add(self.grid.line_step), 0);
            }
            *row = self.line.wrapping_add(self.x * self.grid.pixel_step);
            self.x += 1;
        }
    }
}

/// Words of weights between the group that is multiplied by a single row, and the one that is brought nearer.
const STREAM_AHEAD: usize = 1024;

/// Rows of the tallest tile.
pub(super) const TALLEST: usize = 12;

/// Some rows of a product, and a panel of weights.
#[derive(Clone, Copy)]
pub(super) struct Strip<'a> {
    /// The addresses of the rows.
    pub(super) rows: &'a [*const u8; TALLEST],
    /// The first row, counted in the grid.
    pub(super) first: usize,
    /// Number of rows.
    pub(super) count: usize,
    pub(super) runs: Runs,
    /// What each four bytes are flipped by, in every lane.
    pub(super) flips: &'a [i32; MAX_LANES],
    pub(super) panel: *const i8,
    /// What is brought nearer meanwhile, a cache line for each group of the panel.
    pub(super) ahead: *const i8,
    /// Bytes from one such line to the next.
    pub(super) ahead_step: usize,
}

/// The most rows of a tile: fewer variants where little would be gained by more.
pub(super) const fn most_rows<S: Simd, F: Finish, const V: usize>() -> usize {
    let rows = rows_of(S::LEVEL, V);
    if rows < F::MOST_ROWS { rows } else { F::MOST_ROWS }
}

/// Computes the sums of a strip of no more than [`most_rows`], and finishes them.
///
/// # Safety
/// The runs of all rows are readable, the panel holds their groups by `V` vectors, and what the finish demands.
#[inline(always)]
pub(super) unsafe fn tile<S: Simd, F: Finish, const V: usize>(
    simd: S,
    strip: Strip<'_>,
    finish: F,
    of: &F::Panel<S, V>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match strip.count {
            1 => fixed::<S, F, 1, V>(simd, strip, finish, of),
            2 => fixed::<S, F, 2, V>(simd, strip, finish, of),
            3 => fixed::<S, F, 3, V>(simd, strip, finish, of),
            4 => fixed::<S, F, 4, V>(simd, strip, finish, of),
            _ => {
                // Tiles that are too tall for the registers are not compiled.
                if const { most_rows::<S, F, V>() > 4 } {
                    tall::<S, F, V>(simd, strip, finish, of);
                }
            }
        }
    }
}

/// 5 to 12 rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn tall<S: Simd, F: Finish, const V: usize>(
    simd: S,
    strip: Strip<'_>,
    finish: F,
    of: &F::Panel<S, V>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match strip.count {
            5 => fixed::<S, F, 5, V>(simd, strip, finish, of),
            6 => fixed::<S, F, 6, V>(simd, strip, finish, of),
            _ => {
                if const { most_rows::<S, F, V>() > 6 } {
                    taller::<S, F, V>(simd, strip, finish, of);
                }
            }
        }
    }
}

/// 7 to 12 rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn taller<S: Simd, F: Finish, const V: usize>(
    simd: S,
    strip: Strip<'_>,
    finish: F,
    of: &F::Panel<S, V>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match strip.count {
            7 => fixed::<S, F, 7, V>(simd, strip, finish, of),
            8 => fixed::<S, F, 8, V>(simd, strip, finish, of),
            _ => {
                if const { most_rows::<S, F, V>() > 8 } {
                    tallest::<S, F, V>(simd, strip, finish, of);
                }
            }
        }
    }
}

/// 9 to 12 rows.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn tallest<S: Simd, F: Finish, const V: usize>(
    simd: S,
    strip: Strip<'_>,
    finish: F,
    of: &F::Panel<S, V>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        match strip.count {
            9 => fixed::<S, F, 9, V>(simd, strip, finish, of),
            10 => fixed::<S, F, 10, V>(simd, strip, finish, of),
            11 => fixed::<S, F, 11, V>(simd, strip, finish, of),
            12 => fixed::<S, F, 12, V>(simd, strip, finish, of),
            n => unreachable!("a tile of {n} rows"),
        }
    }
}

/// `R` rows by `V` vectors.
///
/// # Safety
/// As [`tile`], with `R` rows.
#[inline(always)]
unsafe fn fixed<S: Simd, F: Finish, const R: usize, const V: usize>(
    simd: S,
    strip: Strip<'_>,
    finish: F,
    of: &F::Panel<S, V>,
) {
    let Strip { first, runs, panel, mut ahead, ahead_step, .. } = strip;
    let mut rows = [std::ptr::null(); R];
    rows.copy_from_slice(&strip.rows[..R]);
    // From memory, where the compiler does not see that all lanes are the same: bytes could not be spread over the lanes by their
    // load if they were flipped before.
    // SAFETY: no vector has more lanes.
    let flip = unsafe { simd.load_i32(strip.flips.as_ptr()) };
    let mut acc = [F::start(simd, of); R];
    let mut b = panel.cast::<i32>();
    let (mut inner, mut line, mut offset) = (0, 0, 0);
    for _ in 0..runs.outer * runs.inner {
        // SAFETY: the caller promises the runs of all rows and the panel's groups for each.
        unsafe {
            for group in 0..runs.groups {
                if R == 1 {
                    // The panel streams by.
                    for v in 0..V {
                        simd.prefetch(b.wrapping_add(STREAM_AHEAD + v * S::LANES).cast());
                    }
                } else {
                    simd.prefetch(ahead.cast());
                    ahead = ahead.wrapping_add(ahead_step);
                }
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
        (inner, offset) = (inner + 1, offset + runs.inner_step);
        if inner == runs.inner {
            line += runs.outer_step;
            (inner, offset) = (0, line);
        }
    }
    // SAFETY: the caller's promise.
    unsafe {
        finish_rows(simd, finish, of, first, acc);
        finish.tile(simd, of, first, &rows);
    }
}

/// Finishes every row of a tile. A loop would not be unrolled, and then the sums would live in memory.
///
/// # Safety
/// As [`Finish::row`], for all rows.
#[inline(always)]
unsafe fn finish_rows<S: Simd, F: Finish, const R: usize, const V: usize>(
    simd: S,
    finish: F,
    of: &F::Panel<S, V>,
    first: usize,
    acc: [[S::I32; V]; R],
) {
    let together = const { if F::JOINS { 4 / V } else { 1 } };
    repeat!(I in [0 1 2 3 4 5 6 7 8 9 10 11] {
        // SAFETY: the caller's promise.
        unsafe {
            let joined = together > 1 && I / together * together + together <= R;
            if joined && I.is_multiple_of(together) {
                let four = [acc[I % R], acc[(I + 1) % R], acc[(I + 2) % R], acc[(I + 3) % R]];
                finish.joined_rows(simd, of, first, I, four);
            } else if !joined && I < R {
                finish.row(simd, of, first, I, acc[I % R]);
            }
        }
    });
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
pub(super) unsafe fn row_sum<S: Simd>(simd: S, row: *const u8, runs: Runs, run: usize) -> i32 {
    let (flip, ones) = (simd.splat_i32(runs.flip), simd.splat_i32(0x0101_0101));
    let width = 4 * S::LANES;
    let mut sums = simd.splat_i32(0);
    for outer in 0..runs.outer {
        for inner in 0..runs.inner {
            let offset = outer * runs.outer_step + inner * runs.inner_step;
            for first in (0..run).step_by(width) {
                // SAFETY: the caller's promise.
                let bytes = unsafe { simd.load_bytes(row.add(offset + first), width.min(run - first)) };
                sums = simd.dot_u8_i8(sums, simd.xor_i32(bytes, flip), ones);
            }
        }
    }
    // The bytes that were not loaded were flipped as well.
    let missing = run.next_multiple_of(width) - run;
    let flipped = if runs.flip == 0 { 0 } else { (missing * runs.outer * runs.inner * 0x80) as i32 };
    let mut lanes = [0; MAX_LANES];
    // SAFETY: no vector has more lanes.
    unsafe { simd.store_i32(lanes.as_mut_ptr(), sums) };
    lanes[..S::LANES].iter().fold(0i32, |total, &lane| total.wrapping_add(lane)).wrapping_sub(flipped)
}
