//! What attention works on, and how it lies in memory.

use crate::SharedSlice;

/// The sizes of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    /// Independent sequences.
    pub batch: usize,
    /// Heads of queries and of the result: a multiple of the others'.
    pub query_heads: usize,
    /// Heads of keys and values.
    pub key_heads: usize,
    /// Queries of a sequence.
    pub queries: usize,
    /// Keys and values of a sequence, past ones included.
    pub keys: usize,
    /// Elements of a query and of a key.
    pub size: usize,
    /// Elements of a value.
    pub value_size: usize,
}

impl Sizes {
    /// Query heads that share one head of keys.
    pub(super) fn group(&self) -> usize {
        self.query_heads / self.key_heads.max(1)
    }
}

/// What is done to the products of queries and keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parameters {
    /// Their factor.
    pub scale: f32,
    /// The bound of their magnitude, `softcap · tanh(s / softcap)`; none where 0.
    pub softcap: f32,
    /// Whether a query sees no later key.
    pub causal: bool,
    /// Keys before the first query, where not [`Operands::counts`] says it.
    pub past: usize,
}

/// The heads of queries, keys or values: rows of contiguous elements.
#[derive(Clone, Copy, Debug)]
pub struct Heads<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Elements from one sequence, one head, one position to the next.
    pub strides: [usize; 3],
}

/// As [`Heads`], to be written.
#[derive(Clone, Copy, Debug)]
pub struct SharedHeads<'a> {
    /// The elements.
    pub data: SharedSlice<'a, f32>,
    /// Elements from one sequence, one head, one position to the next.
    pub strides: [usize; 3],
}

/// The elements that `counts` sequences, heads and positions of `row` elements at those strides reach to.
fn reach(strides: [usize; 3], counts: [usize; 3], row: usize) -> usize {
    if counts.contains(&0) || row == 0 {
        return 0;
    }
    let last = |(stride, count): (usize, usize)| stride.saturating_mul(count - 1);
    strides.into_iter().zip(counts).map(last).fold(row, usize::saturating_add)
}

impl<'a> Heads<'a> {
    /// Asserts that so many sequences, heads and positions of `row` elements are there.
    pub(super) fn check(&self, counts: [usize; 3], row: usize) {
        let needed = reach(self.strides, counts, row);
        assert!(self.data.len() >= needed, "{} elements for {counts:?} rows of {row}", self.data.len());
    }

    /// The elements from a position on.
    pub(super) fn from(&self, sequence: usize, head: usize, position: usize) -> &'a [f32] {
        &self.data[sequence * self.strides[0] + head * self.strides[1] + position * self.strides[2]..]
    }
}

impl<'a> SharedHeads<'a> {
    /// Asserts that so many sequences, heads and positions of `row` elements are there, apart from each other.
    pub(super) fn check(&self, counts: [usize; 3], row: usize) {
        let needed = reach(self.strides, counts, row);
        assert!(self.data.len() >= needed, "{} elements for {counts:?} rows of {row}", self.data.len());
        assert!(self.strides[2] >= row || counts[2] <= 1, "rows of {row} overlap at {:?}", self.strides);
    }

    /// The elements from a position on.
    pub(super) fn from(&self, sequence: usize, head: usize, position: usize) -> SharedSlice<'a, f32> {
        let start = sequence * self.strides[0] + head * self.strides[1] + position * self.strides[2];
        self.data.narrow(start.min(self.data.len())..self.data.len())
    }
}

/// The content of a [`Mask`].
#[derive(Clone, Copy, Debug)]
pub enum MaskValues<'a> {
    /// What is added to the scores.
    Added(&'a [f32]),
    /// Zero where the score of a key is `otherwise`, whatever it was; minus infinity for a key that takes no part.
    Allowed {
        /// One byte a score.
        values: &'a [u8],
        /// What takes the place of scores.
        otherwise: f32,
    },
}

/// Which keys take part for which queries, and how much.
#[derive(Clone, Copy, Debug)]
pub struct Mask<'a> {
    /// The values.
    pub values: MaskValues<'a>,
    /// Elements from one sequence, one query head, one query, one key to the next: 0 where all share one, and for keys 0 or 1.
    pub strides: [usize; 4],
    /// Keys that the mask is given for; no later one takes part.
    pub keys: usize,
}

impl Mask<'_> {
    /// Asserts that it has elements for the sizes.
    pub(super) fn check(&self, sizes: &Sizes) {
        let length = match self.values {
            MaskValues::Added(values) => values.len(),
            MaskValues::Allowed { values, .. } => values.len(),
        };
        let [sequence, head, query, key] = self.strides;
        assert!(key <= 1, "keys of a mask at a stride of {key}");
        let keys = self.keys.min(sizes.keys);
        let row = if key == 0 { keys.min(1) } else { keys };
        let needed = reach([sequence, head, query], [sizes.batch, sizes.query_heads, sizes.queries], row);
        assert!(length >= needed, "a mask of {length} elements for {sizes:?}");
    }

    /// Where the row of a query begins.
    pub(super) fn row(&self, sequence: usize, head: usize, query: usize) -> usize {
        sequence * self.strides[0] + head * self.strides[1] + query * self.strides[2]
    }
}

/// Keys and values of earlier calls, and where all of them go. The rows of a head lie one after the other.
///
/// The past rows of all heads may lie where all rows go: then they stay there, and only the new ones are written. Otherwise they
/// lie elsewhere, and are copied.
#[derive(Clone, Copy, Debug)]
pub struct Cache<'a> {
    /// The past keys, [`Parameters::past`] for each head.
    pub past_k: SharedHeads<'a>,
    /// The past values.
    pub past_v: SharedHeads<'a>,
    /// The past keys, and behind them the new ones.
    pub k: SharedHeads<'a>,
    /// The past values, and behind them the new ones.
    pub v: SharedHeads<'a>,
}

/// The operands of one call.
#[derive(Clone, Copy, Debug)]
pub struct Operands<'a> {
    /// The queries.
    pub q: Heads<'a>,
    /// The keys; with a cache the new ones alone.
    pub k: Heads<'a>,
    /// The values; with a cache the new ones alone.
    pub v: Heads<'a>,
    /// The mask.
    pub mask: Option<Mask<'a>>,
    /// For each sequence how many keys count, the first ones; the last of them is that of the last query.
    pub counts: Option<&'a [i64]>,
    /// The cache.
    pub cache: Option<Cache<'a>>,
}

impl Operands<'_> {
    /// How many of the first keys a query sees, apart from what the mask's values say.
    pub(super) fn limit(
        &self,
        sizes: &Sizes,
        parameters: &Parameters,
        sequence: usize,
        query: usize,
    ) -> usize {
        let count = self
            .counts
            .map_or(sizes.keys, |counts| usize::try_from(counts[sequence]).unwrap_or(0).min(sizes.keys));
        let masked = self.mask.map_or(sizes.keys, |mask| mask.keys);
        let seen = match (parameters.causal, self.counts) {
            (false, _) => sizes.keys,
            (true, None) => parameters.past + query + 1,
            (true, Some(_)) => (count + query + 1).saturating_sub(sizes.queries),
        };
        count.min(masked).min(seen)
    }
}
