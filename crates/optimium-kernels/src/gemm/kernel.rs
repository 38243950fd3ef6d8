//! The inner loop: strips of a register tile's height down one panel.

use std::marker::PhantomData;
use std::ptr::{null, null_mut};

use optimium_simd::{Level, Simd, SimdTask};

use super::arithmetic::Multiply;
use super::lines::{Run, Walk};
use super::store::{Finish, of_columns, store};
use super::tile::PORTABLE_ROWS;

/// `count` strips of `ROWS` rows of one panel that is `VECTORS` wide.
///
/// With `CHAINS` above one, neighbours in k are summed apart, which hides the latency of the additions where a
/// tile is too small for it. The order of the sums depends on `CHAINS`, so it has to follow from the problem's
/// sizes and not from how the work is split.
pub(super) struct Strips<'a, A, const ROWS: usize, const VECTORS: usize, const CHAINS: usize> {
    pub(super) arithmetic: PhantomData<A>,
    pub(super) strips: &'a AnyStrips<'a>,
    /// The first row as the carried sums count them.
    pub(super) first: usize,
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
    pub(super) runs: &'a [Run],
    pub(super) run_length: usize,
    /// The panel.
    pub(super) b: *const f32,
    /// Columns of the last vector.
    pub(super) last_columns: usize,
    /// The result's element at row 0 and the panel's first column, whatever its type.
    pub(super) c: *mut f32,
    pub(super) c_stride: usize,
    pub(super) finish: Finish<'a>,
    pub(super) carry: Carry,
    /// What is needed next: fetched [some lines](fetched_lines) per step of k, as many lines as there are.
    pub(super) next: *const f32,
    pub(super) next_lines: usize,
    /// Whether the places of the result are far away, and in pieces that the processor does not foresee.
    pub(super) fetches_places: bool,
}

/// Sums that come from other products, and sums that are left to them. They lie in rows as wide as the panel's vectors, one
/// after the other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carry {
    /// What the sums start from besides the bias, where not null.
    pub(super) initial: [*const f32; 2],
    /// Where unfinished sums go instead of the result; null where they are finished.
    pub(super) kept: *mut f32,
    /// What finished sums are multiplied by, one a column of the panel; null for nothing.
    pub(super) factors: *const f32,
}

impl Carry {
    /// No other products.
    pub(super) const NONE: Carry = Carry { initial: [null(); 2], kept: null_mut(), factors: null() };
}

impl AnyStrips<'_> {
    /// Notes that `count` strips, `columns` wide, have fetched their share of what is needed next.
    pub(super) fn advance_next(&mut self, count: usize, columns: usize) {
        let steps = count * self.runs.len() * self.run_length;
        let lines = (steps * fetched_lines(columns)).min(self.next_lines);
        self.next = self.next.wrapping_add(lines * LINE);
        self.next_lines -= lines;
    }
}

/// Elements of a cache line.
pub(super) const LINE: usize = 16;

/// Lines that a step of k fetches: enough for few strips to fetch a panel like theirs, and none too many for narrow tiles, whose
/// steps are bound by loads.
pub(super) const fn fetched_lines(columns: usize) -> usize {
    if columns >= 2 * LINE { 2 } else { 1 }
}

impl<A: Multiply, const ROWS: usize, const VECTORS: usize, const CHAINS: usize> SimdTask
    for Strips<'_, A, ROWS, VECTORS, CHAINS>
{
    type Output = ();

    /// The caller's promises are those of [`run`](super::run): all positions lie in their buffers.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // The sums, a row of the panel, and a left element.
        let registers = ROWS * VECTORS * CHAINS + VECTORS + 1;
        let portable = S::LEVEL == Level::Portable;
        if registers > S::REGISTERS || (portable && ROWS > PORTABLE_ROWS) {
            unreachable!("a tile of {ROWS} rows and {VECTORS} vectors is not compiled for this level");
        }
        let all = self.strips;
        let steps = all.runs.len() * all.run_length;
        let mut fetched = 0;
        for strip in 0..self.count {
            let carried = (self.first + strip * ROWS) * VECTORS * S::LANES;
            let mut rows = [all.a; ROWS];
            for row in &mut rows {
                *row = row.wrapping_add(self.left.step());
            }
            let stride = if fetched < all.next_lines { LINE } else { 0 };
            let next = all.next.wrapping_add(fetched * stride);
            fetched += steps * fetched_lines(VECTORS * S::LANES);
            if all.fetches_places {
                fetch_places::<S, A, ROWS, VECTORS>(simd, all, *self.result);
            }
            // SAFETY: the rows' runs, the panel and the initial sums are readable, by the promise of the caller.
            let mut sums =
                unsafe { accumulate::<S, A, ROWS, VECTORS, CHAINS>(simd, all, rows, carried, next, stride) };
            if !all.carry.factors.is_null() {
                // SAFETY: there is a factor for each column of the panel.
                let factors: [S::F32; VECTORS] =
                    unsafe { of_columns(simd, all.carry.factors, all.last_columns) };
                for row in &mut sums {
                    for (sum, &factor) in row.iter_mut().zip(&factors) {
                        *sum = simd.mul(*sum, factor);
                    }
                }
            }
            // SAFETY: the result's or the kept rows are writable and the residual's readable, by the same promise.
            unsafe {
                if all.carry.kept.is_null() {
                    store::<S, A, ROWS, VECTORS>(simd, all, sums, self.result);
                } else {
                    keep(simd, all.carry.kept.add(carried), sums);
                }
            }
        }
    }
}

/// Fetches the places of the next `ROWS` rows of `result`, and what will be added to them: while the tile is summed, they come
/// from afar.
#[inline(always)]
fn fetch_places<S: Simd, A: Multiply, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    all: &AnyStrips,
    mut result: Walk,
) {
    let Finish { residual, residual_stride, rounded, .. } = all.finish;
    let elements = if A::ROUNDS && rounded { 2 } else { 1 };
    for _ in 0..ROWS {
        let row = result.step();
        let c = all.c.wrapping_add(row * all.c_stride / elements);
        let added = residual.wrapping_add(row * residual_stride / elements);
        for line in 0..(VECTORS * S::LANES).div_ceil(LINE * elements) {
            simd.prefetch(c.wrapping_add(line * LINE));
            if !residual.is_null() {
                simd.prefetch(added.wrapping_add(line * LINE));
            }
        }
    }
}

/// The sums of one tile.
///
/// # Safety
/// All of `all.runs` at all of `rows`, the panel, the bias, and the initial sums from element `carried` on are readable.
#[inline(always)]
unsafe fn accumulate<S: Simd, A: Multiply, const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(
    simd: S,
    all: &AnyStrips,
    rows: [*const f32; ROWS],
    carried: usize,
    mut next: *const f32,
    next_stride: usize,
) -> [[S::F32; VECTORS]; ROWS] {
    let mut chains = [[[simd.splat(0.0); VECTORS]; ROWS]; CHAINS];
    if !all.finish.bias.is_null() {
        // SAFETY: forwarded.
        chains[0] = [unsafe { of_columns(simd, all.finish.bias, all.last_columns) }; ROWS];
    }
    for initial in all.carry.initial {
        if !initial.is_null() {
            // SAFETY: forwarded.
            unsafe { add_kept(simd, &mut chains[0], initial.add(carried)) };
        }
    }
    for run in all.runs {
        let mut starts = rows;
        for start in &mut starts {
            *start = start.wrapping_add(run.left);
        }
        // SAFETY: the panel has a row for each step.
        let mut b = unsafe { all.b.add(run.right * VECTORS * S::LANES) };
        // Without chains the second loop does all, and the first one is not compiled.
        let rounds = if CHAINS > 1 { all.run_length / CHAINS } else { 0 };
        for round in 0..rounds {
            for (c, chain) in chains.iter_mut().enumerate() {
                // SAFETY: the step lies in the run, and the panel has a row for each step.
                unsafe {
                    step::<S, A, ROWS, VECTORS>(
                        simd,
                        chain,
                        starts,
                        round * CHAINS + c,
                        b.add(c * VECTORS * S::LANES),
                    )
                };
            }
            for _ in 0..fetched_lines(VECTORS * S::LANES) {
                simd.prefetch(next);
                next = next.wrapping_add(next_stride);
            }
            // SAFETY: the panel has a row for each step.
            b = unsafe { b.add(CHAINS * VECTORS * S::LANES) };
        }
        for k in rounds * CHAINS..all.run_length {
            // SAFETY: as above.
            unsafe { step::<S, A, ROWS, VECTORS>(simd, &mut chains[0], starts, k, b) };
            for _ in 0..fetched_lines(VECTORS * S::LANES) {
                simd.prefetch(next);
                next = next.wrapping_add(next_stride);
            }
            // SAFETY: as above.
            b = unsafe { b.add(VECTORS * S::LANES) };
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

/// Adds the products of step `k`.
///
/// # Safety
/// `rows` are readable at `k`, and a row of the panel at `b`.
#[inline(always)]
unsafe fn step<S: Simd, A: Multiply, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    rows: [*const f32; ROWS],
    k: usize,
    b: *const f32,
) {
    let mut columns = [A::zero(simd); VECTORS];
    for (v, column) in columns.iter_mut().enumerate() {
        // SAFETY: forwarded.
        *column = unsafe { A::load(simd, b.add(v * S::LANES)) };
    }
    for r in 0..ROWS {
        // SAFETY: forwarded.
        let a = unsafe { A::splat(simd, rows[r].add(k)) };
        for v in 0..VECTORS {
            sums[r][v] = A::add_product(simd, sums[r][v], a, columns[v]);
        }
    }
}

/// Adds the sums that lie at `kept`.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn add_kept<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    sums: &mut [[S::F32; VECTORS]; ROWS],
    kept: *const f32,
) {
    for (at, sum) in sums.as_flattened_mut().iter_mut().enumerate() {
        // SAFETY: forwarded.
        *sum = simd.add(*sum, unsafe { simd.load(kept.add(at * S::LANES)) });
    }
}

/// Leaves the sums at `kept`.
///
/// # Safety
/// Room for them is writable there.
#[inline(always)]
unsafe fn keep<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    kept: *mut f32,
    sums: [[S::F32; VECTORS]; ROWS],
) {
    for (at, &sum) in sums.as_flattened().iter().enumerate() {
        // SAFETY: forwarded.
        unsafe { simd.store(kept.add(at * S::LANES), sum) };
    }
}
