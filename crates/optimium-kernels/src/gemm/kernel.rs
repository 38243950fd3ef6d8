//! The inner loop: strips of a register tile's height down one panel.

use optimium_simd::{Simd, SimdTask};

/// The positions of rows that lie in equal lines: row `i` of line `j` at
/// `start + i · stride + j · line_stride`. A matrix is one line without end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    /// Where the first line starts.
    pub(crate) start: usize,
    /// Rows of a line.
    pub(crate) rows: usize,
    /// From one row to the next.
    pub(crate) stride: usize,
    /// From one line to the next.
    pub(crate) line_stride: usize,
}

/// A walk along [`Lines`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    lines: Lines,
    line: usize,
    index: usize,
}

impl Lines {
    /// Rows at equal distances.
    pub(crate) fn straight(stride: usize) -> Lines {
        Lines { start: 0, rows: usize::MAX, stride, line_stride: 0 }
    }

    /// The farthest position of those `rows`, which are some.
    pub(crate) fn farthest(self, rows: std::ops::Range<usize>) -> usize {
        let (first, last) = (rows.start / self.rows, (rows.end - 1) / self.rows);
        // The last row, or the end of a line before it.
        let of_last = self.walk(rows.end - 1).step();
        let before = if last > first { self.walk(last * self.rows - 1).step() } else { 0 };
        of_last.max(before)
    }

    /// A walk whose first step gives row `row`, counted through all lines.
    pub(super) fn walk(self, row: usize) -> Walk {
        let line = row / self.rows;
        Walk { lines: self, line: self.start + line * self.line_stride, index: row - line * self.rows }
    }
}

impl Walk {
    /// The position of the next row.
    #[inline(always)]
    pub(super) fn step(&mut self) -> usize {
        let position = self.line + self.index * self.lines.stride;
        let ends = self.index + 1 == self.lines.rows;
        self.line += if ends { self.lines.line_stride } else { 0 };
        self.index = if ends { 0 } else { self.index + 1 };
        position
    }
}

/// What is done to the sums of one panel before they are stored. Columns count from the panel's first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    /// What the sums start from; null for zeros.
    pub(super) bias: *const f32,
    /// What is added to them, or null, and its row stride.
    pub(super) residual: *const f32,
    pub(super) residual_stride: usize,
    /// Whether it is added after the clamp.
    pub(super) residual_last: bool,
    /// The clamp, or infinite.
    pub(super) low: f32,
    pub(super) high: f32,
}

/// `count` strips of `ROWS` rows of one panel that is `VECTORS` wide.
///
/// With `CHAINS` above one, neighbours in k are summed apart, which hides the latency of the additions where a
/// tile is too small for it. The order of the sums depends on `CHAINS`, so it has to follow from the problem's
/// sizes and not from how the work is split.
pub(super) struct Strips<'a, const ROWS: usize, const VECTORS: usize, const CHAINS: usize> {
    pub(super) strips: &'a AnyStrips<'a>,
    pub(super) count: usize,
    /// The left rows' and the result rows' positions; they are left behind the last strip.
    pub(super) left: &'a mut Walk,
    pub(super) result: &'a mut Walk,
}

/// What the strips of a panel have in common, whatever their height.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnyStrips<'a> {
    /// The left matrix: rows at the positions of a walk, each in pieces of `run_length` elements that start at
    /// `runs` after it.
    pub(super) a: *const f32,
    pub(super) runs: &'a [usize],
    pub(super) run_length: usize,
    /// The panel.
    pub(super) b: *const f32,
    /// Columns of the last vector.
    pub(super) last_columns: usize,
    /// The result's element at row 0 and the panel's first column.
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    pub(super) finish: Finish,
    /// What is needed next: fetched a line per step of k, as many lines as there are.
    pub(super) next: *const f32,
    pub(super) next_lines: usize,
}

impl AnyStrips<'_> {
    /// Notes that `count` strips have fetched their share of what is needed next.
    pub(super) fn advance_next(&mut self, count: usize) {
        let lines = (count * self.runs.len() * self.run_length).min(self.next_lines);
        self.next = self.next.wrapping_add(lines * LINE);
        self.next_lines -= lines;
    }
}

/// Elements of a cache line.
pub(super) const LINE: usize = 16;

impl<const ROWS: usize, const VECTORS: usize, const CHAINS: usize> SimdTask for Strips<'_, ROWS, VECTORS, CHAINS> {
    type Output = ();

    /// The caller's promises are those of [`run`](super::run): all positions lie in their buffers.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if ROWS * VECTORS * CHAINS > S::REGISTERS - 4 || S::LEVEL == optimium_simd::Level::Avx512Vnni {
            unreachable!("a tile of {ROWS} rows and {VECTORS} vectors is not compiled for this level");
        }
        let all = self.strips;
        let steps = all.runs.len() * all.run_length;
        let mut fetched = 0;
        for _ in 0..self.count {
            let mut rows = [all.a; ROWS];
            for row in &mut rows {
                *row = row.wrapping_add(self.left.step());
            }
            let stride = if fetched < all.next_lines { LINE } else { 0 };
            let next = all.next.wrapping_add(fetched * stride);
            fetched += steps;
            // SAFETY: the rows' runs and the panel are readable, by the promise of the caller.
            let sums = unsafe { accumulate::<S, ROWS, VECTORS, CHAINS>(simd, all, rows, next, stride) };
            // SAFETY: the result's rows are writable and the residual's readable, by the same promise.
            unsafe { store(simd, all, sums, self.result) };
        }
    }
}

/// The sums of one tile.
///
/// # Safety
/// All of `all.runs` at all of `rows`, the panel and the bias are readable.
#[inline(always)]
unsafe fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(
    simd: S,
    all: &AnyStrips,
    rows: [*const f32; ROWS],
    mut next: *const f32,
    next_stride: usize,
) -> [[S::F32; VECTORS]; ROWS] {
    let mut chains = [[[simd.splat(0.0); VECTORS]; ROWS]; CHAINS];
    if !all.finish.bias.is_null() {
        // SAFETY: forwarded.
        chains[0] = [unsafe { bias(simd, all) }; ROWS];
    }
    let mut b = all.b;
    for &run in all.runs {
        let mut starts = rows;
        for start in &mut starts {
            *start = start.wrapping_add(run);
        }
        let mut k = 0;
        while k + CHAINS <= all.run_length {
            for (c, chain) in chains.iter_mut().enumerate() {
                // SAFETY: k + c lies in the run, and the panel has a row for each step.
                unsafe { step(simd, chain, starts, k + c, b.add(c * VECTORS * S::LANES)) };
            }
            simd.prefetch(next);
            next = next.wrapping_add(next_stride);
            // SAFETY: the panel has a row for each step.
            b = unsafe { b.add(CHAINS * VECTORS * S::LANES) };
            k += CHAINS;
        }
        while k < all.run_length {
            // SAFETY: as above.
            unsafe { step(simd, &mut chains[0], starts, k, b) };
            // SAFETY: as above.
            b = unsafe { b.add(VECTORS * S::LANES) };
            k += 1;
        }
    }
    let mut sums = chains[0];
    for chain in &chains[1..] {
        for r in 0..ROWS {
            for v in 0..VECTORS {
                sums[r][v] = simd.add(sums[r][v], chain[r][v]);
            }
        }
    }
    sums
}

/// The panel's bias.
///
/// # Safety
/// It is readable for the panel's columns.
#[inline(always)]
unsafe fn bias<S: Simd, const VECTORS: usize>(simd: S, all: &AnyStrips) -> [S::F32; VECTORS] {
    let mut bias = [simd.splat(0.0); VECTORS];
    for (v, vector) in bias[..VECTORS - 1].iter_mut().enumerate() {
        // SAFETY: all vectors but the last one are whole.
        *vector = unsafe { simd.load(all.finish.bias.add(v * S::LANES)) };
    }
    let last = (VECTORS - 1) * S::LANES;
    // SAFETY: the mask selects the columns that exist.
    bias[VECTORS - 1] =
        unsafe { simd.load_masked(all.finish.bias.add(last), simd.first(all.last_columns)) };
    bias
}

/// Adds the products of step `k`.
///
/// # Safety
/// `rows` are readable at `k`, and a row of the panel at `b`.
#[inline(always)]
unsafe fn step<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    rows: [*const f32; ROWS],
    k: usize,
    b: *const f32,
) {
    let mut columns = [simd.splat(0.0); VECTORS];
    for (v, column) in columns.iter_mut().enumerate() {
        // SAFETY: forwarded.
        *column = unsafe { simd.load(b.add(v * S::LANES)) };
    }
    for r in 0..ROWS {
        // SAFETY: forwarded.
        let a = simd.splat(unsafe { *rows[r].add(k) });
        for v in 0..VECTORS {
            sums[r][v] = simd.fma(a, columns[v], sums[r][v]);
        }
    }
}

/// Finishes the sums of one tile and stores them.
///
/// # Safety
/// The result is writable and the residual readable at the next `ROWS` rows of `result`.
#[inline(always)]
unsafe fn store<S: Simd, const ROWS: usize, const VECTORS: usize>(
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
    if finish.low > f32::NEG_INFINITY {
        let low = simd.splat(finish.low);
        for row in &mut sums {
            for sum in row {
                *sum = simd.max(low, *sum);
            }
        }
    }
    if finish.high < f32::INFINITY {
        let high = simd.splat(finish.high);
        for row in &mut sums {
            for sum in row {
                *sum = simd.min(high, *sum);
            }
        }
    }
    if has_residual && finish.residual_last {
        // SAFETY: forwarded.
        unsafe { add_residual(simd, all, &mut sums, at) };
    }
    // SAFETY: forwarded.
    unsafe { write(simd, all, sums, at) };
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
            for v in 0..VECTORS - 1 {
                sums[r][v] = simd.add(sums[r][v], simd.load(row.add(v * S::LANES)));
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
            for v in 0..VECTORS - 1 {
                simd.store(row.add(v * S::LANES), sums[r][v]);
            }
            if whole {
                simd.store(row.add(last), sums[r][VECTORS - 1]);
            } else {
                simd.store_masked(row.add(last), sums[r][VECTORS - 1], mask);
            }
        }
    }
}
