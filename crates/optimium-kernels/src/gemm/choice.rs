//! Which tile a product is packed for.

use optimium_simd::Level;

use super::layout::Layout;
use super::tile::{Tile, effective, strip};

/// The sizes of a product `C[m,n] = A[m,k] · B[k,n]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// Rows of the result. A hint: a layout serves every number of rows.
    pub m: usize,
    /// Columns of the result.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
}

/// One way to compute a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The layout to pack for.
    pub layout: Layout,
    /// Estimated cost in cycles of one core; only the order means anything.
    pub cost: f64,
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, cost {:.0}", self.layout, self.cost)
    }
}

/// The ways to compute `problem` at `level`, the cheapest first.
pub fn candidates(level: Level, problem: &Problem) -> Vec<Candidate> {
    let level = effective(level);
    let mut all: Vec<Candidate> = Tile::all(level)
        .map(|tile| {
            let layout = Layout::new(level, tile, problem.k, problem.n);
            Candidate { layout, cost: cost(&layout, problem.m.max(1)) }
        })
        .collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}

/// The cheapest layout for `problem` at `level`.
pub fn pick(level: Level, problem: &Problem) -> Layout {
    candidates(level, problem)[0].layout
}

/// Cycles to start a tile and to store it, besides those for each of its vectors.
const TILE_OVERHEAD: f64 = 24.0;
/// Cycles in which a dependent multiply-add can follow another.
const LATENCY: f64 = 4.0;
/// Bytes of a panel that stay in the second-level cache beside everything else.
const PANEL_BYTES: usize = 768 << 10;

/// Cycles for a result of `m` rows.
fn cost(layout: &Layout, m: usize) -> f64 {
    (0..layout.panels())
        .map(|index| {
            let vectors = layout.panel(index).vectors;
            let tile = Tile::of_vectors(layout.level, vectors);
            let strips = m.div_ceil(tile.rows);
            let (_, tallest) = strip(m, strips, 0);
            let tall = if m.is_multiple_of(strips) { strips } else { m % strips };
            let outgrown = layout.k * vectors * layout.lanes() * size_of::<f32>() > PANEL_BYTES;
            let penalty = if outgrown { 1.06 } else { 1.0 };
            let of_height = |count: usize, rows: usize| count as f64 * tile_cost(rows, vectors, layout.k) * penalty;
            of_height(tall, tallest) + of_height(strips - tall, tallest.saturating_sub(1).max(1))
        })
        .sum()
}

/// Cycles for one tile: multiply-adds, loads or latency, whichever bounds it, and the store.
fn tile_cost(rows: usize, vectors: usize, k: usize) -> f64 {
    let arithmetic = (rows * vectors) as f64;
    let loads = vectors as f64 + 0.5 * rows as f64;
    k as f64 * arithmetic.max(loads).max(LATENCY) + 2.0 * arithmetic + TILE_OVERHEAD
}
