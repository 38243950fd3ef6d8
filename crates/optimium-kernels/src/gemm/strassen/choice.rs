//! Where seven products of quarters are cheaper than one plain product.

use optimium_simd::Level;

use super::super::arithmetic::Arithmetic;
use super::super::choice::{Candidate, Problem, candidates_of};
use super::super::tile::effective;
use super::right::PRODUCTS;
use super::{BLOCK_PAIRS, PAIRED_ROWS};

/// Cycles to form and to store the left sums of one vector of a pair's half rows.
const LEFT_SUMS: f64 = 8.0;
/// Cycles to load or store a vector of kept sums.
const KEPT_VECTOR: f64 = 1.0;
/// Loads and stores of kept sums, of each pair and vector of columns.
const KEPT_ACCESSES: f64 = 12.0;
/// Bytes of right sums, beyond those of the matrix itself, that a cycle brings from memory.
const BYTES_PER_CYCLE: f64 = 8.0;

/// The ways to compute `problem` by [`gemm_strassen`](super::gemm_strassen()) at `level`, the cheapest first: none where the
/// matrices cannot be halved, or rows are too few. A layout is that of a quarter of the right matrix. Costs compare with those of
/// [`candidates`](super::super::candidates).
pub fn candidates_strassen(level: Level, problem: &Problem) -> Vec<Candidate> {
    let &Problem { m, n, k } = problem;
    if !n.is_multiple_of(2) || !k.is_multiple_of(2) || m < PAIRED_ROWS || n == 0 || k == 0 {
        return Vec::new();
    }
    let pairs = m.div_ceil(2);
    let quarter = Problem { m: pairs, n: n / 2, k: k / 2 };
    let mut all = candidates_of(Arithmetic::Single, effective(level), &quarter);
    for candidate in &mut all {
        let lanes = candidate.layout.lanes();
        let left = (pairs * quarter.k.div_ceil(lanes)) as f64 * LEFT_SUMS;
        let kept = (pairs * quarter.n.div_ceil(lanes)) as f64 * KEPT_VECTOR * KEPT_ACCESSES;
        let more_bytes = (PRODUCTS - 4) * quarter.n * quarter.k * size_of::<f32>();
        let read = (pairs.div_ceil(BLOCK_PAIRS) * more_bytes) as f64 / BYTES_PER_CYCLE;
        candidate.cost = PRODUCTS as f64 * candidate.cost + left + kept + read;
    }
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}
