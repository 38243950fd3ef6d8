//! From the run-time size of a tile to the kernel compiled for it.

use std::marker::PhantomData;

use optimium_simd::{Level, SimdTask};

use super::arithmetic::{Arithmetic, BrainPairs, Multiply, Single};
use super::grouped::GroupedStrips;
use super::kernel::{AnyStrips, Strips};
use super::layout::Layout;
use super::lines::Walk;

/// Strips of one height: what they have in common, and how many.
pub(super) struct Height<'a> {
    pub(super) strips: &'a AnyStrips<'a>,
    /// The first row as the carried sums count them.
    pub(super) first: usize,
    /// Rows of a strip.
    pub(super) rows: usize,
    /// Number of strips.
    pub(super) count: usize,
    /// Whether the one row of a strip may be summed in several chains.
    pub(super) chained: bool,
}

/// Runs strips that are `vectors` wide, in the arithmetic of the layout.
///
/// # Safety
/// As for [`Product::run`](super::run::Product::run).
pub(super) unsafe fn run(
    layout: &Layout,
    vectors: usize,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    match layout.arithmetic {
        Arithmetic::Single => with_arithmetic(Single, layout.level, vectors, height, left, result),
        Arithmetic::Pairs => pairs(layout.level, vectors, height, left, result),
        Arithmetic::Fours => with_groups::<1, 1, 4>(layout.level, height, left, result),
        Arithmetic::BrainPairs => with_arithmetic(BrainPairs, layout.level, vectors, height, left, result),
    }
}

fn with_arithmetic<A: Enter>(
    arithmetic: A,
    level: Level,
    vectors: usize,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    match vectors {
        1 => with_width::<A, 1>(arithmetic, level, height, left, result),
        2 => with_width::<A, 2>(arithmetic, level, height, left, result),
        3 => with_width::<A, 3>(arithmetic, level, height, left, result),
        4 => with_width::<A, 4>(arithmetic, level, height, left, result),
        _ => unreachable!("no tile is {vectors} vectors wide"),
    }
}

fn with_width<A: Enter, const VECTORS: usize>(
    arithmetic: A,
    level: Level,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    match height.rows {
        1 if height.chained => with_size::<A, 1, VECTORS, 4>(arithmetic, level, height, left, result),
        1 => with_size::<A, 1, VECTORS, 1>(arithmetic, level, height, left, result),
        2 => with_size::<A, 2, VECTORS, 1>(arithmetic, level, height, left, result),
        3 => with_size::<A, 3, VECTORS, 1>(arithmetic, level, height, left, result),
        4 => with_size::<A, 4, VECTORS, 1>(arithmetic, level, height, left, result),
        5 => with_size::<A, 5, VECTORS, 1>(arithmetic, level, height, left, result),
        6 => with_size::<A, 6, VECTORS, 1>(arithmetic, level, height, left, result),
        7 => with_size::<A, 7, VECTORS, 1>(arithmetic, level, height, left, result),
        8 => with_size::<A, 8, VECTORS, 1>(arithmetic, level, height, left, result),
        9 => with_size::<A, 9, VECTORS, 1>(arithmetic, level, height, left, result),
        10 => with_size::<A, 10, VECTORS, 1>(arithmetic, level, height, left, result),
        11 => with_size::<A, 11, VECTORS, 1>(arithmetic, level, height, left, result),
        12 => with_size::<A, 12, VECTORS, 1>(arithmetic, level, height, left, result),
        rows => unreachable!("no tile is {rows} rows high"),
    }
}

fn with_size<A: Enter, const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(
    arithmetic: A,
    level: Level,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    let Height { strips, first, count, .. } = height;
    let strips =
        Strips::<A, ROWS, VECTORS, CHAINS> { arithmetic: PhantomData, strips, first, count, left, result };
    arithmetic.enter(level, strips);
}

/// As [`with_arithmetic`], for [`Arithmetic::Pairs`].
fn pairs(level: Level, vectors: usize, height: Height, left: &mut Walk, result: &mut Walk) {
    match vectors {
        1 => with_groups::<1, 1, 2>(level, height, left, result),
        2 => with_groups::<2, 1, 2>(level, height, left, result),
        3 => with_groups::<3, 2, 2>(level, height, left, result),
        5 => with_groups::<5, 3, 2>(level, height, left, result),
        7 => with_groups::<7, 4, 2>(level, height, left, result),
        _ => unreachable!("no tile is {vectors} vectors of pairs wide"),
    }
}

/// As [`with_width`], for `VECTORS` vectors of groups of `COLUMNS` vectors of columns.
fn with_groups<const VECTORS: usize, const COLUMNS: usize, const GROUP: usize>(
    level: Level,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    match height.rows {
        1 => with_rows::<1, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        2 => with_rows::<2, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        3 => with_rows::<3, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        4 => with_rows::<4, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        5 => with_rows::<5, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        6 => with_rows::<6, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        7 => with_rows::<7, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        8 => with_rows::<8, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        9 => with_rows::<9, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        10 => with_rows::<10, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        11 => with_rows::<11, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        12 => with_rows::<12, VECTORS, COLUMNS, GROUP>(level, height, left, result),
        rows => unreachable!("no tile is {rows} rows high"),
    }
}

fn with_rows<const ROWS: usize, const VECTORS: usize, const COLUMNS: usize, const GROUP: usize>(
    level: Level,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    let Height { strips, count, .. } = height;
    level.run(GroupedStrips::<ROWS, VECTORS, COLUMNS, GROUP> { strips, count, left, result });
}

/// How the work in an arithmetic gets the instructions that it needs.
trait Enter: Multiply {
    /// Runs `task` at `level`.
    fn enter<T: SimdTask>(self, level: Level, task: T) -> T::Output;
}

impl Enter for Single {
    fn enter<T: SimdTask>(self, level: Level, task: T) -> T::Output {
        level.run(task)
    }
}

impl Enter for BrainPairs {
    fn enter<T: SimdTask>(self, level: Level, task: T) -> T::Output {
        level.run_bf16(task)
    }
}
