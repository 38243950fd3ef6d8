//! Attention of few queries: keys and values are read once, where they lie.
//!
//! All queries that share a head of keys go through it together.

use optimium_simd::{Level, Simd, SimdTask};

use super::operands::{Heads, Operands, Parameters, SharedHeads, Sizes};
use super::rows::{Place, Progress, ScaleRows, Weigh};

/// Queries that share a head of keys, at most: for more, packing pays.
pub(super) const MOST_ROWS: usize = 8;
/// Rows and keys of a register tile of products.
const PRODUCT_ROWS: usize = 2;
const PRODUCT_KEYS: usize = 4;
/// Rows and vectors of a register tile of the result.
const RESULT_ROWS: usize = 2;
const RESULT_VECTORS: usize = 4;

/// The work on one set of sizes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decode {
    pub(super) level: Level,
    pub(super) sizes: Sizes,
    pub(super) parameters: Parameters,
}

impl Decode {
    /// Whether it is for these sizes.
    pub(super) fn serves(sizes: &Sizes) -> bool {
        sizes.group() * sizes.queries <= MOST_ROWS
    }

    fn rows(&self) -> usize {
        self.sizes.group() * self.sizes.queries
    }

    fn stride(&self) -> usize {
        self.sizes.keys.max(1).next_multiple_of(16)
    }

    pub(super) fn scratch_len(&self) -> usize {
        self.rows() * self.stride()
    }

    /// Computes the results of all queries of head `head` of the keys of one sequence.
    pub(super) fn run(
        &self,
        operands: &Operands,
        y: &SharedHeads,
        [sequence, head]: [usize; 2],
        scratch: &mut [f32],
    ) {
        if self.rows() == 0 {
            return;
        }
        let (rows, stride) = (self.rows(), self.stride());
        let place = |row: usize| Place {
            sequence,
            head: head * self.sizes.group() + row / self.sizes.queries,
            query: row % self.sizes.queries,
        };
        let places: [Place; MOST_ROWS] = std::array::from_fn(place);
        let limit = |query| operands.limit(&self.sizes, &self.parameters, sequence, query);
        let seen = (0..self.sizes.queries).map(limit).max().unwrap_or(0);
        let scores = &mut scratch[..rows * stride];
        let keys = operands.k.rows(sequence, head, seen, self.sizes.size);
        let query =
            |place: &Place| &operands.q.from(place.sequence, place.head, place.query)[..self.sizes.size];
        let mut queries: [&[f32]; MOST_ROWS] = [&[]; MOST_ROWS];
        for (query_row, place) in queries.iter_mut().zip(&places[..rows]) {
            *query_row = query(place);
        }
        self.level.run(Products { queries: &queries[..rows], keys, size: self.sizes.size, scores, stride });
        let mut progress = [Progress::START; MOST_ROWS];
        self.level.run(Weigh {
            sizes: &self.sizes,
            parameters: &self.parameters,
            operands,
            products: scores,
            stride,
            first: 0,
            count: seen,
            places: &places[..rows],
            progress: &mut progress[..rows],
            rounded: None,
        });
        let values = operands.v.rows(sequence, head, seen, self.sizes.value_size);
        self.level.run(Results {
            weights: scores,
            stride,
            values,
            places: &places[..rows],
            y,
            columns: self.sizes.value_size,
        });
        for (place, progress) in places[..rows].iter().zip(&progress) {
            self.level.run(ScaleRows {
                rows: y.from(place.sequence, place.head, place.query),
                stride: self.sizes.value_size,
                columns: self.sizes.value_size,
                added: None,
                factors: &[progress.normalizer()],
            });
        }
    }
}

/// Rows at equal distances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    count: usize,
}

impl<'a> Heads<'a> {
    /// The first `count` rows of a head, each of `size` elements.
    fn rows(&self, sequence: usize, head: usize, count: usize, size: usize) -> Rows<'a> {
        if count == 0 {
            return Rows { data: &[], stride: 0, count };
        }
        let (data, stride) = (self.from(sequence, head, 0), self.strides[2]);
        assert!(data.len() >= (count - 1) * stride + size, "{count} rows of {size} at {stride}");
        Rows { data, stride, count }
    }
}

/// Dot products of queries and keys.
struct Products<'a> {
    queries: &'a [&'a [f32]],
    keys: Rows<'a>,
    size: usize,
    scores: &'a mut [f32],
    stride: usize,
}

impl SimdTask for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.scores.len() >= self.queries.len() * self.stride && self.stride >= self.keys.count);
        assert!(self.queries.iter().all(|query| query.len() == self.size), "queries of {}", self.size);
        for first in (0..self.queries.len()).step_by(PRODUCT_ROWS) {
            let rows = (self.queries.len() - first).min(PRODUCT_ROWS);
            let mut queries = [self.queries[first].as_ptr(); PRODUCT_ROWS];
            for (pointer, query) in queries.iter_mut().zip(&self.queries[first..]) {
                *pointer = query.as_ptr();
            }
            for key in (0..self.keys.count).step_by(PRODUCT_KEYS) {
                // The last tile repeats the last key.
                let mut keys = [self.keys.data.as_ptr(); PRODUCT_KEYS];
                for (i, pointer) in keys.iter_mut().enumerate() {
                    let key = (key + i).min(self.keys.count - 1);
                    *pointer = pointer.wrapping_add(key * self.keys.stride);
                }
                // SAFETY: queries and keys have `size` elements, as was asserted here and in `Heads::rows`.
                let sums = unsafe { products(simd, queries, keys, self.size) };
                for (i, sums) in sums[..rows].iter().enumerate() {
                    for (j, &sum) in sums.iter().take(self.keys.count - key).enumerate() {
                        self.scores[(first + i) * self.stride + key + j] = sum;
                    }
                }
            }
        }
    }
}

/// The products of a tile.
///
/// # Safety
/// `size` elements are readable at each query and key.
#[inline(always)]
unsafe fn products<S: Simd>(
    simd: S,
    queries: [*const f32; PRODUCT_ROWS],
    keys: [*const f32; PRODUCT_KEYS],
    size: usize,
) -> [[f32; PRODUCT_KEYS]; PRODUCT_ROWS] {
    let mut sums = [[simd.splat(0.0); PRODUCT_KEYS]; PRODUCT_ROWS];
    let whole = size - size % S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        for (query, sums) in queries.iter().zip(&mut sums) {
            for (key, sum) in keys.iter().zip(sums) {
                // SAFETY: the vector is a whole one of both.
                *sum = unsafe { simd.fma(simd.load(query.add(at)), simd.load(key.add(at)), *sum) };
            }
        }
    }
    if whole < size {
        let mask = simd.first(size - whole);
        for (query, sums) in queries.iter().zip(&mut sums) {
            for (key, sum) in keys.iter().zip(sums) {
                // SAFETY: the mask selects what is left of both.
                let (q, k) = unsafe {
                    (simd.load_masked(query.add(whole), mask), simd.load_masked(key.add(whole), mask))
                };
                *sum = simd.fma(q, k, *sum);
            }
        }
    }
    let mut results = [[0.0; PRODUCT_KEYS]; PRODUCT_ROWS];
    for (results, sums) in results.iter_mut().zip(sums) {
        for (result, sum) in results.iter_mut().zip(sums) {
            *result = simd.reduce_add(sum);
        }
    }
    results
}

/// Sums of values by weights.
struct Results<'a> {
    weights: &'a [f32],
    stride: usize,
    values: Rows<'a>,
    places: &'a [Place],
    y: &'a SharedHeads<'a>,
    columns: usize,
}

impl SimdTask for Results<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        assert!(self.weights.len() >= self.places.len() * self.stride && self.stride >= self.values.count);
        for first in (0..self.places.len()).step_by(RESULT_ROWS) {
            let rows = (self.places.len() - first).min(RESULT_ROWS);
            // A tile of too many rows repeats the last one.
            let row = |i: usize| first + i.min(rows - 1);
            let weights: [*const f32; RESULT_ROWS] =
                std::array::from_fn(|i| self.weights[row(i) * self.stride..].as_ptr());
            for column in (0..self.columns).step_by(RESULT_VECTORS * S::LANES) {
                let count = (self.columns - column).min(RESULT_VECTORS * S::LANES);
                // SAFETY: each row has a weight for every value, and the values have these columns.
                let sums = unsafe { self.sums(simd, weights, column, count) };
                for (place, sums) in self.places[first..][..rows].iter().zip(&sums) {
                    let out = self.y.from(place.sequence, place.head, place.query);
                    // SAFETY: the results of this head of keys are written by this call alone.
                    let out = unsafe { out.slice(column..column + count) };
                    for (v, chunk) in out.chunks_mut(S::LANES).enumerate() {
                        let mask = simd.first(chunk.len());
                        // SAFETY: the mask selects the elements of the chunk.
                        unsafe { simd.store_masked(chunk.as_mut_ptr(), sums[v], mask) };
                    }
                }
            }
        }
    }
}

impl Results<'_> {
    /// The sums of `count` columns from `column` on.
    ///
    /// # Safety
    /// The weights are readable for every value, and the values have these columns.
    #[inline(always)]
    unsafe fn sums<S: Simd>(
        &self,
        simd: S,
        weights: [*const f32; RESULT_ROWS],
        column: usize,
        count: usize,
    ) -> [[S::F32; RESULT_VECTORS]; RESULT_ROWS] {
        let mut sums = [[simd.splat(0.0); RESULT_VECTORS]; RESULT_ROWS];
        let whole = count == RESULT_VECTORS * S::LANES;
        for key in 0..self.values.count {
            let mut value = [simd.splat(0.0); RESULT_VECTORS];
            // SAFETY: by the caller's promise; the masks select the columns that exist.
            unsafe {
                let row = self.values.data.as_ptr().add(key * self.values.stride + column);
                for (v, value) in value.iter_mut().enumerate() {
                    let at = v * S::LANES;
                    *value = match whole {
                        true => simd.load(row.add(at)),
                        false => simd.load_masked(row.wrapping_add(at), simd.first(count.saturating_sub(at))),
                    };
                }
                for (weights, sums) in weights.iter().zip(&mut sums) {
                    let weight = simd.splat(*weights.add(key));
                    for (sum, &value) in sums.iter_mut().zip(&value) {
                        *sum = simd.fma(weight, value, *sum);
                    }
                }
            }
        }
        sums
    }
}
