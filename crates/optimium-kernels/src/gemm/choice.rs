//! Which tile a product is packed for.

use optimium_simd::Level;

use super::arithmetic::Arithmetic;
use super::layout::{Layout, Panel};
use super::tile::{Tile, effective};

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

/// The ways to compute `problem` at `level`, the cheapest first. With AVX-512 those with the shorter vectors of
/// AVX2 are among them, and for few columns those by groups of k.
pub fn candidates(level: Level, problem: &Problem) -> Vec<Candidate> {
    candidates_with_groups(executes_in_halves(), effective(level), problem)
}

/// Those of [`candidates`] that serve products whose left rows consist of pieces of any length.
pub(crate) fn plain_candidates(level: Level, problem: &Problem) -> Vec<Candidate> {
    candidates_of(Arithmetic::Single, effective(level), problem)
}

/// As [`candidates`], for a processor that executes AVX-512 in halves or not.
fn candidates_with_groups(in_halves: bool, level: Level, problem: &Problem) -> Vec<Candidate> {
    let mut all = candidates_on(in_halves, Arithmetic::Single, level, problem);
    all.extend(Layout::grouped(level, problem.k, problem.n).map(|layout| {
        let cost = cost(&layout, problem.m.max(1), in_halves);
        Candidate { layout, cost }
    }));
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}

/// The ways to compute `problem`, in elements of `arithmetic`, at a level that has kernels for it.
pub(super) fn candidates_of(arithmetic: Arithmetic, level: Level, problem: &Problem) -> Vec<Candidate> {
    candidates_on(executes_in_halves(), arithmetic, level, problem)
}

/// The cheapest of the layouts for `problem` at `level` that serve all products.
pub fn pick(level: Level, problem: &Problem) -> Layout {
    plain_candidates(level, problem)[0].layout
}

/// As [`candidates_of`], for a processor that executes AVX-512 in halves or not.
fn candidates_on(in_halves: bool, arithmetic: Arithmetic, level: Level, problem: &Problem) -> Vec<Candidate> {
    let has_shorter =
        level == Level::Avx512 && arithmetic == Arithmetic::Single && Level::Avx2.is_available();
    let shorter = has_shorter.then_some(Level::Avx2);
    let layout = |level, tile| Layout { arithmetic, ..Layout::new(level, tile, problem.k, problem.n) };
    let tiles = |level| Tile::all(level).map(move |tile| layout(level, tile));
    let layouts = tiles(level).chain(shorter.into_iter().flat_map(tiles));
    let candidate = |layout| Candidate { layout, cost: cost(&layout, problem.m.max(1), in_halves) };
    let mut all: Vec<Candidate> = layouts.map(candidate).collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}

/// Whether this processor executes an AVX-512 instruction as two of 256 bits, so that vectors of AVX2 lose
/// nothing: the fourth generation of AMD's Zen, which is family 19h as far as it has AVX-512.
pub(crate) fn executes_in_halves() -> bool {
    #[cfg(target_arch = "x86_64")]
    if Level::Avx512.is_available() {
        let vendor = std::arch::x86_64::__cpuid(0);
        let version = std::arch::x86_64::__cpuid(1).eax;
        let family = (version >> 8 & 0xf) + (version >> 20 & 0xff);
        return vendor.ebx.to_le_bytes() == *b"Auth" && family == 0x19;
    }
    false
}

/// Cycles to start a tile, and to find and store each of its rows, besides those for each of its vectors.
const TILE_OVERHEAD: f64 = 12.0;
const ROW_OVERHEAD: f64 = 3.0;
/// Rows whose addresses stay in registers, and what each further one costs.
const EASY_ROWS: usize = 6;
const HARD_ROW: f64 = 5.0;
/// Cycles of a row's load that are not hidden behind arithmetic.
const ROW_LOAD: f64 = 0.02;
/// Cycles in which a dependent multiply-add can follow another.
const LATENCY: f64 = 4.0;
/// Chains that a single row is summed in.
const SINGLE_ROW_CHAINS: f64 = 4.0;
/// Bytes of a panel that stay in the second-level cache beside everything else.
const PANEL_BYTES: usize = 768 << 10;
/// What a panel costs that does not.
const OUTGROWN: f64 = 1.06;
/// Instructions that make sums of a vector of columns of those of twice as many.
const HALVING: f64 = 3.0;
/// Cycles to load a left element into all lanes, and a group of them where vectors are not executed in halves.
const SPLAT: f64 = 0.5;
const SPREAD: f64 = 0.63;
/// Cycles to store part of a vector with AVX2, in each row.
const PARTIAL_STORE: f64 = 12.0;
/// What it costs to need more instructions for the same arithmetic.
const SHORTER_VECTORS: f64 = 1.03;

/// Cycles for a result of `m` rows.
fn cost(layout: &Layout, m: usize, in_halves: bool) -> f64 {
    let wide = layout.level == Level::Avx512;
    // Two multiply-adds and two loads a cycle, but one of those that are executed in halves.
    let unit = if wide && in_halves { 1.0 } else { 0.5 };
    let grouped = layout.group() > 1;
    let splat = if grouped { 2.0 * unit * SPREAD } else { SPLAT };
    let latency = if m == 1 && !grouped { LATENCY / SINGLE_ROW_CHAINS } else { LATENCY };
    // The sums of groups are put together in each row.
    let put_together =
        HALVING * unit * (layout.group().ilog2() as usize * layout.n.div_ceil(layout.lanes())) as f64;
    let partial =
        |panel: &Panel| layout.level == Level::Avx2 && !panel.columns.is_multiple_of(layout.lanes());
    let panel = |index: usize| {
        let panel = layout.panel(index);
        let finish = put_together + if partial(&panel) { PARTIAL_STORE } else { 0.0 };
        let strips = m.div_ceil(layout.tile_of(panel.vectors).rows);
        let bytes = layout.panel_len(panel) * size_of::<f32>();
        let strip_cost = |rows| {
            tile_cost(rows, panel.vectors, layout.steps(), [unit, splat], latency) + rows as f64 * finish
        };
        // Strips are balanced: all have one of two heights.
        let taller = m % strips;
        let strips =
            taller as f64 * strip_cost(m / strips + 1) + (strips - taller) as f64 * strip_cost(m / strips);
        strips * if bytes > PANEL_BYTES { OUTGROWN } else { 1.0 }
    };
    let panels = layout.panels();
    let all_but_last = panels.saturating_sub(1) as f64 * if panels > 1 { panel(0) } else { 0.0 };
    let total = all_but_last + if panels > 0 { panel(panels - 1) } else { 0.0 };
    total * if wide { 1.0 } else { SHORTER_VECTORS }
}

/// Cycles for one tile: multiply-adds, loads or latency, whichever bounds it, and the store.
fn tile_cost(rows: usize, vectors: usize, k: usize, [unit, splat]: [f64; 2], latency: f64) -> f64 {
    let arithmetic = unit * (rows * vectors) as f64;
    let loads = unit * vectors as f64 + splat * rows as f64;
    let step = arithmetic.max(loads).max(latency) + ROW_LOAD * rows as f64;
    let around =
        ROW_OVERHEAD * rows as f64 + HARD_ROW * rows.saturating_sub(EASY_ROWS) as f64 + TILE_OVERHEAD;
    k as f64 * step + 2.0 * arithmetic + around
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::each_case;

    #[test]
    fn usual_products_take_the_expected_tiles() {
        if !Level::Avx512.is_available() {
            return;
        }
        let cases = [
            (false, [3136, 64, 576], [4, 16]),
            (true, [3136, 64, 576], [4, 16]),
            (false, [12544, 96, 16], [4, 16]),
            (false, [12544, 24, 96], [3, 16]),
            (false, [3136, 40, 240], [5, 16]),
            (false, [12544, 32, 96], [2, 16]),
            (true, [12544, 24, 96], [3, 8]),
            (true, [12544, 8, 96], [1, 8]),
            (true, [12544, 32, 96], [2, 16]),
            (false, [1, 1000, 1280], [4, 16]),
            (true, [128, 1536, 384], [4, 16]),
            (true, [25600, 4, 24], [1, 16]),
            (true, [25600, 12, 24], [1, 16]),
            (true, [25600, 20, 64], [3, 16]),
        ];
        each_case(cases, |&(in_halves, [m, n, k], [vectors, lanes])| {
            let all = candidates_with_groups(in_halves, Level::Avx512, &Problem { m, n, k });
            let best = &all[0].layout;
            let width = best.tile.vectors.min(n.div_ceil(best.columns_of_vector()));
            if (width, best.lanes()) == (vectors, lanes) {
                return Ok(());
            }
            Err(all.iter().map(|candidate| format!("{candidate}; ")).collect())
        });
    }
}
