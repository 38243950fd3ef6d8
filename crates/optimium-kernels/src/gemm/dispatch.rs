//! From the run-time size of a tile to the kernel compiled for it.

use optimium_simd::Level;

use super::kernel::{AnyStrips, Strips};
use super::lines::Walk;

/// Strips of one height: what they have in common, and how many.
pub(super) struct Height<'a> {
    pub(super) strips: &'a AnyStrips<'a>,
    /// Rows of a strip.
    pub(super) rows: usize,
    /// Number of strips.
    pub(super) count: usize,
    /// Whether the one row of a strip may be summed in several chains.
    pub(super) chained: bool,
}

/// Runs strips that are `vectors` wide.
///
/// # Safety
/// As for [`Product::run`](super::run::Product::run).
pub(super) unsafe fn run(level: Level, vectors: usize, height: Height, left: &mut Walk, result: &mut Walk) {
    match vectors {
        1 => with_width::<1>(level, height, left, result),
        2 => with_width::<2>(level, height, left, result),
        3 => with_width::<3>(level, height, left, result),
        4 => with_width::<4>(level, height, left, result),
        _ => unreachable!("no tile is {vectors} vectors wide"),
    }
}

fn with_width<const VECTORS: usize>(level: Level, height: Height, left: &mut Walk, result: &mut Walk) {
    match height.rows {
        1 if height.chained => with_size::<1, VECTORS, 4>(level, height, left, result),
        1 => with_size::<1, VECTORS, 1>(level, height, left, result),
        2 => with_size::<2, VECTORS, 1>(level, height, left, result),
        3 => with_size::<3, VECTORS, 1>(level, height, left, result),
        4 => with_size::<4, VECTORS, 1>(level, height, left, result),
        5 => with_size::<5, VECTORS, 1>(level, height, left, result),
        6 => with_size::<6, VECTORS, 1>(level, height, left, result),
        7 => with_size::<7, VECTORS, 1>(level, height, left, result),
        8 => with_size::<8, VECTORS, 1>(level, height, left, result),
        9 => with_size::<9, VECTORS, 1>(level, height, left, result),
        10 => with_size::<10, VECTORS, 1>(level, height, left, result),
        11 => with_size::<11, VECTORS, 1>(level, height, left, result),
        12 => with_size::<12, VECTORS, 1>(level, height, left, result),
        rows => unreachable!("no tile is {rows} rows high"),
    }
}

fn with_size<const ROWS: usize, const VECTORS: usize, const CHAINS: usize>(
    level: Level,
    height: Height,
    left: &mut Walk,
    result: &mut Walk,
) {
    level.run(Strips::<ROWS, VECTORS, CHAINS> { strips: height.strips, count: height.count, left, result });
}
