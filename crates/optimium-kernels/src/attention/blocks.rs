//! Attention of many queries: products of packed keys and values, block by block.
//!
//! The keys and values of a head are packed once for all of its queries. A block of queries goes through the keys in
//! blocks of which the scores stay in the second-level cache; with more than one, what was summed so far is brought to the new
//! maximum each time, as in an online softmax (Milakov and Gimelshein, 2018).

use std::ops::Range;

use optimium_simd::Level;

use super::operands::{Operands, Parameters, SharedHeads, Sizes};
use super::rounded::{pack_keys, pack_values};
use super::rows::{Place, Progress, ScaleRows, Weigh};
use crate::epilogue::Epilogue;
use crate::gemm::{Layout, Problem, candidates_bf16, gemm, gemm_pairs, multiply_pairs, pick};
use crate::{Part, SharedSlice};

/// Queries of a block, at most.
const BLOCK_QUERIES: usize = 64;
/// Keys of a block, at most.
const BLOCK_KEYS: usize = 1024;

/// How the work on one set of sizes is cut.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    level: Level,
    sizes: Sizes,
    parameters: Parameters,
    /// Whether factors are rounded to bfloat16.
    rounded: bool,
    query_blocks: usize,
    key_blocks: Vec<KeyBlock>,
}

/// Some keys, and where and how they and their values are packed.
#[derive(Clone, Debug)]
struct KeyBlock {
    keys: Range<usize>,
    key_layout: Layout,
    value_layout: Layout,
    packed_keys: usize,
    packed_values: usize,
}

/// The `index`-th of `count` balanced pieces of `0..n`.
fn piece(n: usize, count: usize, index: usize) -> Range<usize> {
    Part { index, count }.range(n)
}

impl Blocks {
    pub(super) fn new(level: Level, sizes: Sizes, parameters: Parameters, rounded: bool) -> Blocks {
        let query_blocks = sizes.queries.div_ceil(BLOCK_QUERIES);
        let rows = sizes.queries.div_ceil(query_blocks.max(1));
        let count = sizes.keys.div_ceil(BLOCK_KEYS);
        let mut packed = 0;
        let layout = |problem: &Problem| {
            if rounded { candidates_bf16(level, problem)[0].layout } else { pick(level, problem) }
        };
        let key_blocks = (0..count)
            .map(|index| {
                let keys = piece(sizes.keys, count, index);
                let key_layout = layout(&Problem { m: rows, n: keys.len(), k: sizes.size });
                let value_layout = layout(&Problem { m: rows, n: sizes.value_size, k: keys.len() });
                let packed_keys = packed;
                let packed_values = (packed_keys + key_layout.len()).next_multiple_of(16);
                packed = (packed_values + value_layout.len()).next_multiple_of(16);
                KeyBlock { keys, key_layout, value_layout, packed_keys, packed_values }
            })
            .collect();
        Blocks { level, sizes, parameters, rounded, query_blocks, key_blocks }
    }

    /// Pieces of work for each head of keys: its query heads' blocks.
    pub(super) fn units(&self) -> usize {
        self.sizes.group() * self.query_blocks
    }

    fn packed_len(&self) -> usize {
        let end = |block: &KeyBlock| block.packed_values + block.value_layout.len();
        self.key_blocks.last().map_or(0, end).next_multiple_of(16)
    }

    /// Elements from row to row of a block's scores.
    fn stride(&self) -> usize {
        let longest = self.key_blocks.iter().map(|block| block.keys.len()).max().unwrap_or(0);
        longest.next_multiple_of(16)
    }

    /// Elements of a block's addition to the result.
    fn addition_len(&self) -> usize {
        if self.key_blocks.len() > 1 { BLOCK_QUERIES * self.sizes.value_size } else { 0 }
    }

    /// Elements of factors that are rounded: a block's queries or weights, or its keys or values.
    fn rounding_len(&self) -> usize {
        if !self.rounded {
            return 0;
        }
        let (keys, size) = (self.stride(), self.sizes.size.max(self.sizes.value_size));
        let left = BLOCK_QUERIES * keys.max(size).div_ceil(2);
        let right = (keys * size.div_ceil(2)).max(keys.div_ceil(2) * size);
        left.max(right)
    }

    pub(super) fn scratch_len(&self) -> usize {
        self.packed_len() + BLOCK_QUERIES * self.stride() + self.addition_len() + self.rounding_len()
    }

    /// Computes pieces of work of head `head` of the keys of one sequence.
    pub(super) fn run(
        &self,
        operands: &Operands,
        y: &SharedHeads,
        [sequence, head]: [usize; 2],
        units: Range<usize>,
        scratch: &mut [f32],
    ) {
        let (packed, rest) = scratch.split_at_mut(self.packed_len());
        let (scores, rest) = rest.split_at_mut(BLOCK_QUERIES * self.stride());
        let (addition, rest) = rest.split_at_mut(self.addition_len());
        let rounding = bytemuck::cast_slice_mut(&mut rest[..self.rounding_len()]);
        self.pack(operands, [sequence, head], packed, rounding);
        for unit in units {
            let query_head = head * self.sizes.group() + unit / self.query_blocks;
            let queries = piece(self.sizes.queries, self.query_blocks, unit % self.query_blocks);
            let block = Block { blocks: self, operands, y, sequence, head: query_head, queries, packed };
            block.run(scores, addition, rounding);
        }
    }

    fn pack(
        &self,
        operands: &Operands,
        [sequence, head]: [usize; 2],
        packed: &mut [f32],
        rounding: &mut [u32],
    ) {
        for block in &self.key_blocks {
            let k = operands.k.from(sequence, head, block.keys.start);
            let v = operands.v.from(sequence, head, block.keys.start);
            let (k_stride, v_stride) = (operands.k.strides[2], operands.v.strides[2]);
            let (keys, values) = (&block.key_layout, &block.value_layout);
            let out = &mut packed[block.packed_keys..][..keys.len()];
            if self.rounded {
                let sizes = [block.keys.len(), self.sizes.size];
                pack_keys(self.level, k, k_stride, sizes, keys, rounding, out);
            } else {
                keys.pack(k, 1, k_stride, SharedSlice::new(out), Part::WHOLE);
            }
            let out = &mut packed[block.packed_values..][..values.len()];
            if self.rounded {
                let sizes = [block.keys.len(), self.sizes.value_size];
                pack_values(self.level, v, v_stride, sizes, values, rounding, out);
            } else {
                values.pack(v, v_stride, 1, SharedSlice::new(out), Part::WHOLE);
            }
        }
    }
}

/// Some queries of one head.
struct Block<'a> {
    blocks: &'a Blocks,
    operands: &'a Operands<'a>,
    y: &'a SharedHeads<'a>,
    sequence: usize,
    head: usize,
    queries: Range<usize>,
    packed: &'a [f32],
}

impl Block<'_> {
    fn run(&self, scores: &mut [f32], addition: &mut [f32], rounding: &mut [u32]) {
        let rows = self.queries.len();
        let first = self.queries.start;
        let place = |query| Place { sequence: self.sequence, head: self.head, query };
        let places: [Place; BLOCK_QUERIES] = std::array::from_fn(|i| place(first + i));
        let mut progress = [Progress::START; BLOCK_QUERIES];
        let limit =
            |query| self.operands.limit(&self.blocks.sizes, &self.blocks.parameters, self.sequence, query);
        let seen = self.queries.clone().map(limit).max().unwrap_or(0);
        if self.blocks.key_blocks.is_empty() {
            return self.clear();
        }
        for (index, block) in self.blocks.key_blocks.iter().enumerate() {
            if index > 0 && block.keys.start >= seen {
                break;
            }
            let count = self.multiply_keys(block, seen, scores, rounding);
            let weigh = Weigh {
                sizes: &self.blocks.sizes,
                parameters: &self.blocks.parameters,
                operands: self.operands,
                products: &mut scores[..rows * self.blocks.stride()],
                stride: self.blocks.stride(),
                first: block.keys.start,
                count,
                places: &places[..rows],
                progress: &mut progress[..rows],
                rounded: self.blocks.rounded.then_some(&mut *rounding),
            };
            if self.blocks.rounded {
                self.blocks.level.run_bf16(weigh);
            } else {
                self.blocks.level.run(weigh);
            }
            if index == 0 {
                let y = self.y.from(self.sequence, self.head, first);
                self.multiply_values(block, count, scores, y, self.y.strides[2], rounding);
            } else {
                let columns = self.blocks.sizes.value_size;
                self.multiply_values(block, count, scores, SharedSlice::new(addition), columns, rounding);
                self.scale(Some(addition), &progress.map(|progress| progress.factor));
            }
        }
        self.scale(None, &progress.map(|progress| progress.normalizer()));
    }

    /// The products of the queries and a block of keys, of which `seen` are needed at most; gives how many there are.
    fn multiply_keys(
        &self,
        block: &KeyBlock,
        seen: usize,
        scores: &mut [f32],
        rounding: &mut [u32],
    ) -> usize {
        let mut layout = block.key_layout;
        // Whole panels that no query sees are left out. A prefix of the packed rows of values must be a packed matrix too.
        if block.value_layout.panels() == 1 {
            let width = layout.tile.vectors * layout.lanes();
            layout.n = layout.n.min(seen.saturating_sub(block.keys.start).max(1).next_multiple_of(width));
        }
        let q = self.operands.q.from(self.sequence, self.head, self.queries.start);
        let (rows, size, stride) = (self.queries.len(), self.blocks.sizes.size, self.operands.q.strides[2]);
        let (packed, out) = (&self.packed[block.packed_keys..], SharedSlice::new(scores));
        self.multiply([rows, size], (q, stride), (&layout, packed), (out, self.blocks.stride()), rounding);
        layout.n
    }

    /// The products of the first `count` weights and a block of values.
    fn multiply_values(
        &self,
        block: &KeyBlock,
        count: usize,
        weights: &[f32],
        out: SharedSlice<f32>,
        stride: usize,
        rounding: &mut [u32],
    ) {
        let (rows, packed) = (self.queries.len(), &self.packed[block.packed_values..]);
        if self.blocks.rounded {
            let layout = Layout { k: count.div_ceil(2), ..block.value_layout };
            return multiply_pairs(rows, rounding, &layout, packed, out, stride);
        }
        let layout = Layout { k: count, ..block.value_layout };
        self.multiply(
            [rows, count],
            (weights, self.blocks.stride()),
            (&layout, packed),
            (out, stride),
            rounding,
        );
    }

    /// The product of `m` left rows of `k` elements and a packed matrix; rows come with the distance from one to the next.
    fn multiply(
        &self,
        [m, k]: [usize; 2],
        (a, a_stride): (&[f32], usize),
        (layout, packed): (&Layout, &[f32]),
        (c, c_stride): (SharedSlice<f32>, usize),
        rounding: &mut [u32],
    ) {
        let level = self.blocks.level;
        if self.blocks.rounded {
            gemm_pairs(level, [m, k], a, a_stride, layout, packed, c, c_stride, rounding);
        } else {
            let (epilogue, part) = (Epilogue::default(), Part::WHOLE);
            gemm(level, m, a, a_stride, layout, packed, &epilogue, c, c_stride, part);
        }
    }

    /// The result without keys.
    fn clear(&self) {
        for query in self.queries.clone() {
            let row = self.y.from(self.sequence, self.head, query);
            // SAFETY: the row is written by this call alone.
            unsafe { row.slice(0..self.blocks.sizes.value_size) }.fill(0.0);
        }
    }

    /// Multiplies the rows of the result, and adds to them.
    fn scale(&self, added: Option<&[f32]>, factors: &[f32; BLOCK_QUERIES]) {
        let rows = self.y.from(self.sequence, self.head, self.queries.start);
        self.blocks.level.run(ScaleRows {
            rows,
            stride: self.y.strides[2],
            columns: self.blocks.sizes.value_size,
            added,
            factors: &factors[..self.queries.len()],
        });
    }
}
