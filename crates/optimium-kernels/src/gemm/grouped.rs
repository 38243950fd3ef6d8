//! The inner loop for few columns: neighbours in k lie side by side.
//!
//! A vector of the panel holds groups of rows of the right matrix, pairs or fours, for as many columns fewer than it has lanes, and
//! a group of left elements is spread over it. The sums of the places in a group are put together behind the last one. Where the
//! columns would fill little of their last vector, this wastes less of it.

use optimium_simd::{Level, MAX_LANES, Simd, SimdTask};

use super::arithmetic::Single;
use super::kernel::{AnyStrips, LINE, fetched_lines};
use super::lines::Walk;
use super::store::{of_columns, store};

/// `count` strips of `ROWS` rows of one panel of `VECTORS` vectors of groups of `GROUP`, whose columns are `COLUMNS` vectors.
pub(super) struct GroupedStrips<
    'a,
    const ROWS: usize,
    const VECTORS: usize,
    const COLUMNS: usize,
    const GROUP: usize,
> {
    pub(super) strips: &'a AnyStrips<'a>,
    pub(super) count: usize,
    /// The left rows' and the result rows' positions; they are left behind the last strip.
    pub(super) left: &'a mut Walk,
    pub(super) result: &'a mut Walk,
}

impl<const ROWS: usize, const VECTORS: usize, const COLUMNS: usize, const GROUP: usize> SimdTask
    for GroupedStrips<'_, ROWS, VECTORS, COLUMNS, GROUP>
{
    type Output = ();

    /// The caller's promises are those of [`run`](super::run): all positions lie in their buffers.
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        // The sums of the groups, a row of the panel, and a group of left elements.
        let registers = ROWS * VECTORS + VECTORS + 1;
        if S::LEVEL != Level::Avx512 || registers > S::REGISTERS {
            unreachable!("grouped products are not compiled for this level");
        }
        let all = self.strips;
        debug_assert!(all.carry.kept.is_null() && all.carry.initial.iter().all(|kept| kept.is_null()));
        let steps = all.runs.len() * all.run_length;
        let mut fetched = 0;
        for _ in 0..self.count {
            let mut rows = [all.a; ROWS];
            for row in &mut rows {
                *row = row.wrapping_add(self.left.step());
            }
            let stride = if fetched < all.next_lines { LINE } else { 0 };
            let next = all.next.wrapping_add(fetched * stride);
            fetched += steps * fetched_lines(VECTORS * S::LANES);
            // SAFETY: the rows' runs, the panel and the bias are readable, the result's rows writable and the residual's
            // readable, by the promise of the caller.
            unsafe {
                let groups = accumulate::<S, ROWS, VECTORS, GROUP>(simd, all, rows, next, stride);
                let sums = put_together::<S, ROWS, VECTORS, COLUMNS, GROUP>(simd, all, groups);
                store::<S, Single, ROWS, COLUMNS>(simd, all, sums, self.result);
            }
        }
    }
}

/// The sums of the groups of one tile.
///
/// # Safety
/// All of `all.runs` at all of `rows`, and the panel, are readable.
#[inline(always)]
unsafe fn accumulate<S: Simd, const ROWS: usize, const VECTORS: usize, const GROUP: usize>(
    simd: S,
    all: &AnyStrips,
    rows: [*const f32; ROWS],
    mut next: *const f32,
    next_stride: usize,
) -> [[S::F32; VECTORS]; ROWS] {
    let mut sums = [[simd.splat(0.0); VECTORS]; ROWS];
    for run in all.runs {
        let mut starts = rows;
        for start in &mut starts {
            *start = start.wrapping_add(run.left);
        }
        // SAFETY: the panel has vectors for each group of steps.
        let mut b = unsafe { all.b.add(run.right / GROUP * VECTORS * S::LANES) };
        for step in 0..all.run_length / GROUP {
            // SAFETY: the steps lie in the run, and the panel has their vectors.
            unsafe {
                let columns = load::<S, VECTORS>(simd, b);
                for r in 0..ROWS {
                    let group = spread::<S, GROUP>(simd, starts[r].add(GROUP * step));
                    add_products(simd, &mut sums[r], group, columns);
                }
                b = b.add(VECTORS * S::LANES);
            }
            for _ in 0..GROUP * fetched_lines(VECTORS * S::LANES) {
                simd.prefetch(next);
                next = next.wrapping_add(next_stride);
            }
        }
        let rest = all.run_length % GROUP;
        if rest > 0 {
            // SAFETY: the last steps lie in the run, and the panel has their vectors, whose further rows are zeros.
            unsafe {
                let columns = load::<S, VECTORS>(simd, b);
                for r in 0..ROWS {
                    let mut group = [0.0; GROUP];
                    for (step, element) in group.iter_mut().enumerate().take(rest) {
                        *element = *starts[r].add(all.run_length - rest + step);
                    }
                    add_products(simd, &mut sums[r], spread::<S, GROUP>(simd, group.as_ptr()), columns);
                }
            }
        }
    }
    sums
}

/// A row of the panel.
///
/// # Safety
/// It is readable at `b`.
#[inline(always)]
unsafe fn load<S: Simd, const VECTORS: usize>(simd: S, b: *const f32) -> [S::F32; VECTORS] {
    let mut columns = [simd.splat(0.0); VECTORS];
    for (v, column) in columns.iter_mut().enumerate() {
        // SAFETY: forwarded.
        *column = unsafe { simd.load(b.add(v * S::LANES)) };
    }
    columns
}

/// A group of left elements, over and over.
///
/// # Safety
/// They are readable at `p`.
#[inline(always)]
unsafe fn spread<S: Simd, const GROUP: usize>(simd: S, p: *const f32) -> S::F32 {
    // SAFETY: forwarded.
    unsafe { if GROUP == 2 { simd.splat_pair(p) } else { simd.splat_four(p) } }
}

#[inline(always)]
fn add_products<S: Simd, const VECTORS: usize>(
    simd: S,
    sums: &mut [S::F32; VECTORS],
    group: S::F32,
    columns: [S::F32; VECTORS],
) {
    for v in 0..VECTORS {
        sums[v] = simd.fma(group, columns[v], sums[v]);
    }
}

/// The numbers of the even lanes of two vectors, and of the odd ones.
#[derive(Clone, Copy)]
pub(crate) struct EvenAndOdd<S: Simd>([S::I32; 2]);

static EVEN_AND_ODD: [[i32; MAX_LANES]; 2] = {
    let mut lanes = [[0; MAX_LANES]; 2];
    let mut lane = 0;
    while lane < MAX_LANES {
        lanes[0][lane] = 2 * lane as i32;
        lanes[1][lane] = 2 * lane as i32 + 1;
        lane += 1;
    }
    lanes
};

impl<S: Simd> EvenAndOdd<S> {
    #[inline(always)]
    pub(crate) fn new(simd: S) -> EvenAndOdd<S> {
        // SAFETY: there are as many as lanes.
        EvenAndOdd([0, 1].map(|which| unsafe { simd.load_i32(EVEN_AND_ODD[which].as_ptr()) }))
    }
}

/// The sums of neighbouring lanes, those of `a` before those of `b`.
#[inline(always)]
pub(crate) fn add_neighbours<S: Simd>(
    simd: S,
    EvenAndOdd([even, odd]): EvenAndOdd<S>,
    a: S::F32,
    b: S::F32,
) -> S::F32 {
    simd.add(simd.permute_pair(a, b, even), simd.permute_pair(a, b, odd))
}

/// The sums of the columns with their bias, of those of groups.
///
/// # Safety
/// The bias is readable.
#[inline(always)]
unsafe fn put_together<
    S: Simd,
    const ROWS: usize,
    const VECTORS: usize,
    const COLUMNS: usize,
    const GROUP: usize,
>(
    simd: S,
    all: &AnyStrips,
    groups: [[S::F32; VECTORS]; ROWS],
) -> [[S::F32; COLUMNS]; ROWS] {
    let neighbours = EvenAndOdd::new(simd);
    let mut bias = [simd.splat(0.0); COLUMNS];
    if !all.finish.bias.is_null() {
        // SAFETY: forwarded.
        bias = unsafe { of_columns(simd, all.finish.bias, all.last_columns) };
    }
    let mut sums = [bias; ROWS];
    for r in 0..ROWS {
        for c in 0..COLUMNS {
            // Behind an odd number of vectors there are no columns.
            let (a, b) = (groups[r][2 * c], groups[r][(2 * c + 1).min(VECTORS - 1)]);
            let mut both = add_neighbours(simd, neighbours, a, b);
            if GROUP == 4 {
                both = add_neighbours(simd, neighbours, both, both);
            }
            sums[r][c] = simd.add(sums[r][c], both);
        }
    }
    sums
}
