//! The register tiles that the product kernels are compiled for.

use optimium_simd::Level;

use super::arithmetic::Arithmetic;

/// Rows of all tiles at [`Level::Portable`], which is there for its results and not for its speed: few tiles are soon compiled.
pub(super) const PORTABLE_ROWS: usize = 4;

/// The shape of a register tile: rows of the result by vectors of columns.
///
/// The tile of a [`Layout`](super::Layout) is its full one. A last panel of fewer vectors is computed by the
/// tile of [`Tile::of_vectors`] for that width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tile {
    /// Rows of the result that are computed at once, at most.
    pub rows: usize,
    /// Vectors of columns in a panel of the packed matrix.
    pub vectors: usize,
}

impl Tile {
    /// The tallest tile of that width at `level`.
    ///
    /// # Panics
    /// Where no tile is that wide.
    pub fn of_vectors(level: Level, vectors: usize) -> Tile {
        let rows = match (level, vectors) {
            (Level::Avx512 | Level::Avx512Vnni | Level::Neon, 1..=4) => [12, 12, 9, 6][vectors - 1],
            (Level::Avx2, 1..=3) => [10, 6, 4][vectors - 1],
            (Level::Portable, 1..=3) => PORTABLE_ROWS,
            _ => panic!("no tile of {vectors} vectors at level {level}"),
        };
        Tile { rows, vectors }
    }

    /// The tallest tile of so many vectors that hold groups of rows, where there is one at `level`.
    pub(super) fn of_groups(level: Level, arithmetic: Arithmetic, vectors: usize) -> Option<Tile> {
        // Other widths have as few idle lanes without groups.
        let rows = match (level, arithmetic, vectors) {
            (Level::Avx512, Arithmetic::Fours, 1) => 12,
            (Level::Avx512, Arithmetic::Pairs, 1 | 2) => 12,
            (Level::Avx512, Arithmetic::Pairs, 3) => 9,
            (Level::Avx512, Arithmetic::Pairs, 5) => 5,
            (Level::Avx512, Arithmetic::Pairs, 7) => 3,
            _ => return None,
        };
        Some(Tile { rows, vectors })
    }

    /// The tiles of `level`, the usually best first.
    pub fn all(level: Level) -> impl Iterator<Item = Tile> {
        let widths: &[usize] = match level {
            Level::Avx512 | Level::Avx512Vnni | Level::Neon => &[4, 3, 2, 1],
            Level::Avx2 | Level::Portable => &[2, 3, 1],
        };
        widths.iter().map(move |&vectors| Tile::of_vectors(level, vectors))
    }
}

/// The level whose kernels do the work for `level`: one that the machine has, and for the instruction sets
/// that differ in integer arithmetic alone their common base.
pub(crate) fn effective(level: Level) -> Level {
    match level {
        _ if !level.is_available() => Level::Portable,
        Level::Avx512Vnni => Level::Avx512,
        _ => level,
    }
}

/// The `index`-th of the `count` balanced strips that `rows` are cut into: its first row and its height.
pub(crate) fn strip(rows: usize, count: usize, index: usize) -> (usize, usize) {
    let (each, rest) = (rows / count, rows % count);
    (index * each + index.min(rest), each + usize::from(index < rest))
}
