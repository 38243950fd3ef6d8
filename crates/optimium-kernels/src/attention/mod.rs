//! Scaled dot-product attention: `softmax(scale · q · kᵀ + mask) · v`, head by head.
//!
//! The operands are read and written where they lie, with strides: heads need not be brought together before, nor merged
//! after. Several heads of queries may share one of keys and values.
//!
//! | file | |
//! |---|---|
//! | `operands` | what there is, and where |
//! | `blocks` | many queries: products of packed matrices, the scores in the cache |
//! | `rounded` | their packing in bfloat16 |
//! | `decode` | few queries: keys and values read once, unpacked |
//! | `rows` | what both do to rows of scores |
//! | `general` | with the scores as a result |
//! | `rotary` | positions as angles of queries and keys |

mod blocks;
mod decode;
mod general;
mod operands;
mod rotary;
mod rounded;
mod rows;

use std::ops::Range;

use optimium_simd::Level;

use crate::Part;
use blocks::Blocks;
use decode::Decode;
pub use general::{Wanted, attention_with_scores};
pub use operands::{Cache, Heads, Mask, MaskValues, Operands, Parameters, SharedHeads, Sizes};
pub use rotary::{Angles, Rotary, rotate};

/// Attention on one set of sizes.
#[derive(Clone, Debug)]
pub struct Attention {
    sizes: Sizes,
    parameters: Parameters,
    method: Method,
}

#[derive(Clone, Debug)]
enum Method {
    Blocks(Blocks),
    Decode(Decode),
}

impl Attention {
    /// Decides how the work is cut.
    ///
    /// # Panics
    /// Where the heads of queries do not divide into those of keys, or more keys are past than there are.
    pub fn new(level: Level, sizes: Sizes, parameters: Parameters) -> Attention {
        Attention::with_factors(level, sizes, parameters, false)
    }

    /// As [`new`](Attention::new), with the factors of products rounded to bfloat16 where there are many queries.
    ///
    /// # Panics
    /// As there.
    pub fn new_bf16(level: Level, sizes: Sizes, parameters: Parameters) -> Attention {
        Attention::with_factors(level, sizes, parameters, true)
    }

    fn with_factors(level: Level, sizes: Sizes, parameters: Parameters, rounded: bool) -> Attention {
        let shared = sizes.key_heads == 0 && sizes.query_heads == 0;
        assert!(
            shared || sizes.query_heads.is_multiple_of(sizes.key_heads),
            "{} heads for {}",
            sizes.query_heads,
            sizes.key_heads
        );
        let method = match Decode::serves(&sizes) {
            true => Method::Decode(Decode { level, sizes, parameters }),
            false => Method::Blocks(Blocks::new(level, sizes, parameters, rounded)),
        };
        Attention { sizes, parameters, method }
    }

    /// Elements of scratch memory that each part needs.
    pub fn scratch_len(&self) -> usize {
        match &self.method {
            Method::Blocks(blocks) => blocks.scratch_len(),
            Method::Decode(decode) => decode.scratch_len(),
        }
    }

    /// Computes this part's share of `y`, and with a cache of that.
    ///
    /// # Panics
    /// Where an operand is too short for the sizes, or `scratch` is shorter than [`scratch_len`](Self::scratch_len).
    pub fn run(&self, operands: &Operands, y: &SharedHeads, scratch: &mut [f32], part: Part) {
        let sizes = &self.sizes;
        operands.check_with_cache(sizes, self.parameters.past);
        y.check([sizes.batch, sizes.query_heads, sizes.queries], sizes.value_size);
        assert!(scratch.len() >= self.scratch_len(), "{} elements of scratch", scratch.len());
        let heads = sizes.batch * sizes.key_heads;
        let each = match &self.method {
            Method::Blocks(blocks) => blocks.units(),
            Method::Decode(_) => 1,
        };
        // What is computed from a cache must be there: one part does all of a head.
        let units = if operands.cache.is_some() {
            let heads = part.range(heads);
            heads.start * each..heads.end * each
        } else {
            part.range(heads * each)
        };
        let mut next = units.start;
        while next < units.end {
            let index = next / each;
            let end = units.end.min((index + 1) * each);
            let head = [index / sizes.key_heads, index % sizes.key_heads];
            self.head(operands, y, head, next - index * each..end - index * each, scratch);
            next = end;
        }
    }

    /// Pieces of the work on one head of keys.
    fn head(
        &self,
        operands: &Operands,
        y: &SharedHeads,
        head: [usize; 2],
        units: Range<usize>,
        scratch: &mut [f32],
    ) {
        let operands = &operands.extended(&self.sizes, self.parameters.past, head);
        match &self.method {
            Method::Blocks(blocks) => blocks.run(operands, y, head, units, scratch),
            Method::Decode(decode) => decode.run(operands, y, head, scratch),
        }
    }
}

/// Fills the cache of every head that `part` has.
///
/// # Panics
/// Where an operand is too short for the sizes.
pub fn extend_cache(sizes: &Sizes, past: usize, operands: &Operands, part: Part) {
    operands.check_with_cache(sizes, past);
    for index in part.range(sizes.batch * sizes.key_heads) {
        operands.extended(sizes, past, [index / sizes.key_heads, index % sizes.key_heads]);
    }
}

impl<'a> Operands<'a> {
    /// Asserts that all operands are long enough, for as many keys and values as there are.
    fn check(&self, sizes: &Sizes) {
        self.check_keys(sizes, sizes.keys);
    }

    fn check_keys(&self, sizes: &Sizes, keys: usize) {
        self.q.check([sizes.batch, sizes.query_heads, sizes.queries], sizes.size);
        self.k.check([sizes.batch, sizes.key_heads, keys], sizes.size);
        self.v.check([sizes.batch, sizes.key_heads, keys], sizes.value_size);
        assert!(self.counts.is_none_or(|counts| counts.len() == sizes.batch), "counts of {sizes:?}");
        if let Some(mask) = &self.mask {
            mask.check(sizes);
        }
    }

    fn check_with_cache(&self, sizes: &Sizes, past: usize) {
        let Some(cache) = &self.cache else { return self.check(sizes) };
        assert!(past <= sizes.keys, "{past} past keys of {}", sizes.keys);
        self.check_keys(sizes, sizes.keys - past);
        let is_split = |past: &SharedHeads, all: &SharedHeads| {
            std::ptr::eq(past.data.as_mut_ptr(), all.data.as_mut_ptr()) && past.strides != all.strides
        };
        let split = is_split(&cache.past_k, &cache.k) || is_split(&cache.past_v, &cache.v);
        assert!(!split || past == 0 || sizes.batch * sizes.key_heads == 1, "past rows partly in their place");
        let check = |rows: &SharedHeads, count: usize, size: usize| {
            rows.check([sizes.batch, sizes.key_heads, count], size);
            let [sequence, head, position] = rows.strides;
            let apart = position == size && head >= count * size && sequence >= sizes.key_heads * head;
            assert!(apart, "{count} rows of {size} at {:?}", rows.strides);
        };
        check(&cache.past_k, past, sizes.size);
        check(&cache.past_v, past, sizes.value_size);
        check(&cache.k, sizes.keys, sizes.size);
        check(&cache.v, sizes.keys, sizes.value_size);
    }

    /// Fills the cache of one head, where there is one, and takes keys and values from it.
    fn extended(&self, sizes: &Sizes, past: usize, [sequence, head]: [usize; 2]) -> Operands<'a> {
        let Some(cache) = &self.cache else { return *self };
        let at = [sequence, head];
        let k = extend(&cache.past_k, &self.k, &cache.k, [past, sizes.keys, sizes.size], at);
        let v = extend(&cache.past_v, &self.v, &cache.v, [past, sizes.keys, sizes.value_size], at);
        Operands { k, v, cache: None, ..*self }
    }
}

/// Writes past and new rows of one head to `all`, and gives `all`.
fn extend<'a>(
    past: &SharedHeads,
    new: &Heads,
    all: &SharedHeads<'a>,
    [count, total, size]: [usize; 3],
    [sequence, head]: [usize; 2],
) -> Heads<'a> {
    let past = past.from(sequence, head, 0).narrow(0..count * size);
    // SAFETY: one part does all of a head.
    let rows = unsafe { all.from(sequence, head, 0).slice(0..total * size) };
    let (old, rest) = rows.split_at_mut(count * size);
    if !std::ptr::eq(past.as_mut_ptr(), old.as_ptr()) {
        // SAFETY: the past rows of the head are there, and elsewhere.
        unsafe { std::ptr::copy_nonoverlapping(past.as_mut_ptr(), old.as_mut_ptr(), old.len()) };
    }
    for (i, row) in rest.chunks_exact_mut(size.max(1)).enumerate() {
        row.copy_from_slice(&new.from(sequence, head, i)[..size]);
    }
    // These are the rows of one head alone, wherever it is asked for.
    Heads { data: rows, strides: [0, 0, size] }
}

#[cfg(test)]
mod tests {
    use half::bf16;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;
    use crate::SharedSlice;

    /// What exponentials of rounded scores of up to ten or so lose.
    const TOLERANCE: Tolerance = Tolerance::Relative(1e-5);

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Masked {
        No,
        /// Added, one for each score.
        Added,
        /// Added, one row for all queries of a sequence.
        Row,
        /// Which keys take part, for each query, the same for all heads; none for the first query.
        Allowed,
        /// As those, but the scores of the others are the lowest number.
        Lowest,
        /// One value for all keys.
        Shared,
    }

    #[derive(Clone, Copy, Debug)]
    struct Case {
        sizes: Sizes,
        parameters: Parameters,
        masked: Masked,
        /// Whether each sequence has its number of keys.
        counted: bool,
        cached: bool,
        /// Whether the past rows lie where all rows go, with room behind them.
        in_place: bool,
        /// Whether heads lie between each other: `[batch, length, heads, size]`.
        merged: bool,
    }

    fn sizes(batch: usize, heads: [usize; 2], lengths: [usize; 2], elements: [usize; 2]) -> Sizes {
        Sizes {
            batch,
            query_heads: heads[0],
            key_heads: heads[1],
            queries: lengths[0],
            keys: lengths[1],
            size: elements[0],
            value_size: elements[1],
        }
    }

    fn case(sizes: Sizes) -> Case {
        let scale = 1.0 / (sizes.size.max(1) as f32).sqrt();
        let parameters = Parameters { scale, softcap: 0.0, causal: false, past: 0 };
        let masked = Masked::No;
        Case { sizes, parameters, masked, counted: false, cached: false, in_place: false, merged: false }
    }

    /// Rows between the heads of a cache that is extended in its place.
    const ROOM: usize = 2;

    /// A slice that nobody writes.
    fn read_only(values: &[f32]) -> SharedSlice<'_, f32> {
        // SAFETY: nobody writes it.
        unsafe { SharedSlice::from_raw(values.as_ptr().cast_mut(), values.len()) }
    }

    /// Random operands in memory.
    #[derive(Clone)]
    struct Data {
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
        past: [Vec<f32>; 2],
        added: Vec<f32>,
        allowed: Vec<u8>,
        counts: Vec<i64>,
    }

    impl Data {
        fn new(case: &Case) -> Data {
            let Sizes { batch, query_heads, key_heads, queries, keys, size, value_size } = case.sizes;
            let past = if case.cached { case.parameters.past } else { 0 };
            let mut random = Random::new(5);
            let heads = batch * key_heads;
            let mut floats = |n: usize, factor: f32| -> Vec<f32> {
                random.floats(n).into_iter().map(|x| x * factor).collect()
            };
            let q = floats(batch * query_heads * queries * size, 4.0);
            let k = floats(heads * (keys - past) * size, 4.0);
            let v = floats(heads * (keys - past) * value_size, 1.0);
            let past = [floats(heads * past * size, 4.0), floats(heads * past * value_size, 1.0)];
            let added = floats(batch * query_heads * queries * keys, 3.0);
            let allowed = (0..batch * queries * keys).map(|i| u8::from(i >= keys && i * i % 7 < 4)).collect();
            let counts = (0..batch).map(|i| (keys - keys.min(3 * i)) as i64).collect();
            Data { q, k, v, past, added, allowed, counts }
        }

        /// With queries, keys and values of bfloat16.
        fn rounded(&self) -> Data {
            let rounded =
                |values: &[f32]| -> Vec<f32> { values.iter().map(|&x| bf16::from_f32(x).to_f32()).collect() };
            Data {
                q: rounded(&self.q),
                k: rounded(&self.k),
                v: rounded(&self.v),
                past: [rounded(&self.past[0]), rounded(&self.past[1])],
                ..self.clone()
            }
        }

        fn mask(&self, case: &Case) -> Option<Mask<'_>> {
            let Sizes { query_heads, queries, keys, .. } = case.sizes;
            let mask = |values, strides, keys| Some(Mask { values, strides, keys });
            let added = MaskValues::Added(&self.added);
            match case.masked {
                Masked::No => None,
                Masked::Added => mask(added, [query_heads * queries * keys, queries * keys, keys, 1], keys),
                Masked::Row => mask(added, [keys, 0, 0, 1], keys - keys.min(2)),
                Masked::Allowed | Masked::Lowest => {
                    let lowest = if case.masked == Masked::Lowest { f32::MIN } else { f32::NEG_INFINITY };
                    let values = MaskValues::Allowed { values: &self.allowed, otherwise: lowest };
                    mask(values, [queries * keys, 0, keys, 1], keys)
                }
                Masked::Shared => mask(added, [0, queries, 1, 0], keys),
            }
        }

        /// Where the whole cache of keys or values goes.
        fn cache(&self, case: &Case, index: usize) -> Vec<f32> {
            let Sizes { batch, key_heads, keys, size, value_size, .. } = case.sizes;
            let (size, past) = ([size, value_size][index], case.parameters.past);
            if !case.in_place {
                return vec![f32::NAN; batch * key_heads * keys * size];
            }
            let mut cache = vec![f32::NAN; batch * key_heads * (keys + ROOM) * size];
            let rows = self.past[index].chunks_exact((past * size).max(1));
            for (head, rows) in cache.chunks_exact_mut((keys + ROOM) * size).zip(rows) {
                head[..rows.len()].copy_from_slice(rows);
            }
            cache
        }

        fn operands<'a>(&'a self, case: &Case, all: [SharedSlice<'a, f32>; 2]) -> Operands<'a> {
            let Sizes { query_heads, key_heads, queries, keys, size, value_size, .. } = case.sizes;
            let past = if case.cached { case.parameters.past } else { 0 };
            let rows =
                |data, room, size| SharedHeads { data, strides: strides(false, key_heads, room, size) };
            let heads = |data, heads, length, size| Heads {
                data,
                strides: strides(case.merged, heads, length, size),
            };
            let (before, room) = match case.in_place {
                true => (all, [keys + ROOM; 2]),
                false => (self.past.each_ref().map(|past| read_only(past)), [past, keys]),
            };
            let cache = Cache {
                past_k: rows(before[0], room[0], size),
                past_v: rows(before[1], room[0], value_size),
                k: rows(all[0], room[1], size),
                v: rows(all[1], room[1], value_size),
            };
            Operands {
                q: heads(&self.q, query_heads, queries, size),
                k: heads(&self.k, key_heads, keys - past, size),
                v: heads(&self.v, key_heads, keys - past, value_size),
                mask: self.mask(case),
                counts: case.counted.then_some(&self.counts),
                cache: case.cached.then_some(cache),
            }
        }
    }

    fn strides(merged: bool, heads: usize, length: usize, size: usize) -> [usize; 3] {
        if merged {
            [length * heads * size, size, heads * size]
        } else {
            [heads * length * size, length * size, size]
        }
    }

    /// The result by its definition, and the whole cache.
    fn expected(case: &Case, data: &Data) -> [Vec<f32>; 3] {
        let Sizes { batch, query_heads, key_heads, queries, keys, size, value_size } = case.sizes;
        let past = if case.cached { case.parameters.past } else { 0 };
        let heads = batch * key_heads;
        let join = |past_rows: &[f32], new: &[f32], size: usize| {
            let element = |i: usize| {
                let (head, key, j) = (i / size / keys, i / size % keys, i % size);
                if key < past {
                    return past_rows[(head * past + key) * size + j];
                }
                let [sequence, of_head, position] = strides(case.merged, key_heads, keys - past, size);
                new[head / key_heads * sequence + head % key_heads * of_head + (key - past) * position + j]
            };
            (0..heads * keys * size).map(element).collect::<Vec<f32>>()
        };
        let (k, v) = (join(&data.past[0], &data.k, size), join(&data.past[1], &data.v, value_size));
        let mut y = vec![0.0; batch * query_heads * queries * value_size];
        let operands = data.operands(case, [SharedSlice::new(&mut []); 2]);
        for row in 0..batch * query_heads * queries {
            let (b, h, i) = (row / queries / query_heads, row / queries % query_heads, row % queries);
            let head = b * key_heads + h / (query_heads / key_heads);
            let q = operands.q.from(b, h, i);
            let score = |key: usize| -> f64 {
                let k = &k[(head * keys + key) * size..];
                let dot: f64 = (0..size).map(|j| f64::from(q[j]) * f64::from(k[j])).sum();
                let (cap, s) = (f64::from(case.parameters.softcap), dot * f64::from(case.parameters.scale));
                let s = if cap == 0.0 { s } else { cap * (s / cap).tanh() };
                let count = if case.counted { data.counts[b] as usize } else { keys };
                let before =
                    if case.counted { count as i64 - queries as i64 } else { case.parameters.past as i64 };
                let mask = operands.mask;
                let late = case.parameters.causal && key as i64 > i as i64 + before;
                if late || key >= count || mask.is_some_and(|mask| key >= mask.keys) {
                    return f64::NEG_INFINITY;
                }
                let at = |mask: Mask| mask.row(b, h, i) + key * mask.strides[3];
                mask.map_or(s, |mask| match mask.values {
                    MaskValues::Added(values) => s + f64::from(values[at(mask)]),
                    MaskValues::Allowed { values, otherwise } if values[at(mask)] == 0 => otherwise.into(),
                    MaskValues::Allowed { .. } => s,
                })
            };
            let scores: Vec<f64> = (0..keys).map(score).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let [sequence, of_head, position] = strides(case.merged, query_heads, queries, value_size);
            let y = &mut y[b * sequence + h * of_head + i * position..][..value_size];
            for (j, y) in y.iter_mut().enumerate().filter(|_| largest > f64::NEG_INFINITY) {
                let value = |key: usize| weights[key] * f64::from(v[(head * keys + key) * value_size + j]);
                *y = ((0..keys).map(value).sum::<f64>() / sum) as f32;
            }
        }
        [y, k, v]
    }

    /// Weights of bfloat16, relative to values of order one.
    const ROUNDED: Tolerance = Tolerance::Relative(4e-3);

    fn check(case: &Case) -> Result<(), String> {
        let data = Data::new(case);
        let [exactly, of_rounded] = [&data, &data.rounded()].map(|data| expected(case, data));
        let Sizes { query_heads, queries, value_size, .. } = case.sizes;
        let exact = Level::available().map(|level| (level, false));
        for (level, rounded) in exact.chain([(Level::Portable, true), (Level::best(), true)]) {
            let attention = Attention::with_factors(level, case.sizes, case.parameters, rounded);
            let (expected, tolerance) = match attention.method {
                Method::Blocks(_) if rounded => (&of_rounded, ROUNDED),
                _ => (&exactly, TOLERANCE),
            };
            let mut scratch = vec![f32::NAN; attention.scratch_len()];
            let mut whole: Option<Vec<f32>> = None;
            for count in 1..4 {
                let y = vec![f32::NAN; expected[0].len()];
                let mut actual = [y, data.cache(case, 0), data.cache(case, 1)];
                let [y, k, v] = actual.each_mut().map(|values| SharedSlice::new(values));
                let operands = data.operands(case, [k, v]);
                let out =
                    SharedHeads { data: y, strides: strides(case.merged, query_heads, queries, value_size) };
                for index in 0..count {
                    attention.run(&operands, &out, &mut scratch, Part { index, count });
                }
                compare(&actual[0], &expected[0], tolerance)
                    .map_err(|e| format!("{level}, rounded {rounded}: {e}"))?;
                for i in if case.cached { 1..3 } else { 0..0 } {
                    let (rows, between) = split_rows(case, &actual[i]);
                    compare(&rows, &exactly[i], Tolerance::Exact)?;
                    if !between.iter().all(|x| x.is_nan()) {
                        return Err("what lies between the heads was written".into());
                    }
                }
                let whole = whole.get_or_insert_with(|| actual[0].clone());
                compare(&actual[0], whole, Tolerance::Exact).map_err(|e| format!("{count} parts: {e}"))?;
            }
        }
        Ok(())
    }

    /// The rows of all heads of a whole cache, and what lies between them.
    fn split_rows(case: &Case, cache: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let Sizes { batch, key_heads, keys, .. } = case.sizes;
        let room = if case.in_place { ROOM } else { 0 };
        let of_row = cache.len() / (batch * key_heads * (keys + room)).max(1);
        let heads = cache.chunks_exact(((keys + room) * of_row).max(1));
        heads.map(|head| head.split_at(keys * of_row)).fold(
            (Vec::new(), Vec::new()),
            |(mut rows, mut between), (of_head, rest)| {
                rows.extend_from_slice(of_head);
                between.extend_from_slice(rest);
                (rows, between)
            },
        )
    }

    /// Of many and few queries, one and several heads a group, sizes around those of tiles and blocks.
    fn various_sizes() -> Vec<Sizes> {
        vec![
            sizes(2, [3, 3], [7, 5], [16, 16]),
            sizes(1, [2, 2], [65, 67], [20, 70]),
            sizes(1, [4, 2], [130, 130], [64, 64]),
            sizes(1, [4, 1], [9, 40], [5, 3]),
            sizes(1, [2, 1], [70, 2500], [8, 7]),
            sizes(1, [1, 1], [10, 1100], [17, 130]),
            sizes(2, [4, 2], [1, 129], [64, 64]),
            sizes(1, [3, 3], [2, 31], [40, 72]),
            sizes(1, [8, 1], [1, 3], [3, 5]),
            sizes(2, [2, 1], [3, 1], [16, 16]),
        ]
    }

    #[test]
    fn plain_and_capped() {
        let cases = various_sizes().into_iter().flat_map(|sizes| {
            let plain = case(sizes);
            let capped = Case { parameters: Parameters { softcap: 1.5, ..plain.parameters }, ..plain };
            let negative = Case { parameters: Parameters { scale: -0.3, ..plain.parameters }, ..plain };
            [plain, Case { merged: true, ..plain }, capped, negative]
        });
        each_case(cases, check);
    }

    #[test]
    fn masked_in_every_way() {
        let cases = various_sizes().into_iter().flat_map(|sizes| {
            let plain = case(sizes);
            let causal = Case { parameters: Parameters { causal: true, ..plain.parameters }, ..plain };
            let masks = [Masked::Added, Masked::Row, Masked::Allowed, Masked::Lowest, Masked::Shared];
            let masks = masks.into_iter().map(move |masked| Case { masked, ..plain });
            let both = Case { masked: Masked::Allowed, counted: true, ..causal };
            masks.chain([causal, Case { counted: true, ..plain }, Case { counted: true, ..causal }, both])
        });
        each_case(cases, check);
    }

    #[test]
    fn with_a_cache() {
        let cases = various_sizes().into_iter().filter(|sizes| sizes.keys > 1).flat_map(|sizes| {
            let plain = case(sizes);
            [sizes.keys / 2, 0].into_iter().flat_map(move |past| {
                let parameters = Parameters { causal: true, past, ..plain.parameters };
                let cached = Case { parameters, cached: true, ..plain };
                let merged = Case { merged: true, masked: Masked::Row, ..cached };
                [cached, merged, Case { in_place: true, ..cached }, Case { in_place: true, ..merged }]
            })
        });
        each_case(cases, check);
    }

    #[test]
    fn nothing_to_do() {
        let cases = [
            sizes(0, [2, 1], [3, 4], [8, 8]),
            sizes(1, [2, 1], [0, 4], [8, 8]),
            sizes(1, [2, 1], [20, 0], [8, 8]),
            sizes(1, [2, 1], [1, 0], [8, 8]),
            sizes(1, [2, 1], [20, 4], [8, 0]),
            sizes(1, [2, 1], [20, 4], [0, 8]),
        ];
        each_case(cases.map(case), check);
    }

    #[test]
    fn scores_of_every_kind() {
        let cases = various_sizes().into_iter().take(4).flat_map(|sizes| {
            [Masked::No, Masked::Allowed].map(|masked| {
                let plain = case(sizes);
                let parameters = Parameters { softcap: 2.0, causal: true, ..plain.parameters };
                Case { masked, parameters, ..plain }
            })
        });
        each_case(cases, |case| {
            let data = Data::new(case);
            let expected = &expected(case, &data)[0];
            let Sizes { batch, query_heads, queries, keys, value_size, .. } = case.sizes;
            let operands = data.operands(case, [SharedSlice::new(&mut []); 2]);
            let mut kinds = Vec::new();
            for wanted in [Wanted::Product, Wanted::Capped, Wanted::Masked, Wanted::Probabilities] {
                let mut y = vec![f32::NAN; expected.len()];
                let mut scores = vec![f32::NAN; batch * query_heads * queries * keys];
                let out = SharedHeads {
                    data: SharedSlice::new(&mut y),
                    strides: strides(case.merged, query_heads, queries, value_size),
                };
                let shared = SharedSlice::new(&mut scores);
                for index in 0..2 {
                    let part = Part { index, count: 2 };
                    attention_with_scores(
                        &case.sizes,
                        &case.parameters,
                        &operands,
                        &out,
                        (wanted, shared),
                        part,
                    );
                }
                compare(&y, expected, TOLERANCE)?;
                kinds.push(scores);
            }
            let capped: Vec<f32> = kinds[0].iter().map(|s| 2.0 * (s / 2.0).tanh()).collect();
            compare(&kinds[1], &capped, TOLERANCE)?;
            for ((&masked, &capped), &weight) in kinds[2].iter().zip(&kinds[1]).zip(&kinds[3]) {
                let seen = masked != f32::NEG_INFINITY;
                if (seen && masked != capped) || (seen != (weight > 0.0)) {
                    return Err(format!("{masked} and {weight} of {capped}"));
                }
            }
            let sums: Vec<f32> = kinds[3].chunks(keys).map(|row| row.iter().sum()).collect();
            let ones: Vec<f32> = kinds[2]
                .chunks(keys)
                .map(|row| f32::from(u8::from(row.iter().any(|&s| s > f32::NEG_INFINITY))))
                .collect();
            compare(&sums, &ones, TOLERANCE)
        });
    }
}
