//! Attention and rotary embeddings.

use optimium_graph::ops::{Attention, AttentionScores, RotaryEmbedding};
use optimium_kernels::Part;
use optimium_kernels::attention::{
    self as kernels, Angles, Cache, Heads, Mask, MaskValues, Operands, Parameters, Rotary, SharedHeads,
    Sizes, Wanted,
};
use optimium_tensor::{ElementType, Error, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Binding, Bound, Layer, Step};
use crate::memory::{BlockSlice, Memory, Operand};

pub(super) fn attention(view: &NodeView, op: &Attention) -> Result<Layer> {
    for index in [0, 1, 2] {
        if view.input_type(index)?.storage() != ElementType::F32 {
            return Err(unsupported_type(view.input_type(index)?));
        }
    }
    if view.has_input(3) && ![ElementType::F32, ElementType::Bool].contains(&view.input_type(3)?) {
        return Err(unsupported_type(view.input_type(3)?));
    }
    let (level, op, rounded) = (view.level, op.clone(), view.prefers_bf16());
    let name = if rounded { "attention of bf16" } else { "attention" };
    let layer = Layer::new(name, move |b| {
        let call = Call::of(b, &op)?;
        let (sizes, parameters) = (call.sizes, call.parameters);
        if let Some(scores) = b.optional_output(3) {
            let wanted = wanted(op.scores);
            return Ok(Step::serial(move |memory| {
                let whole = Part::WHOLE;
                let mut operands = call.operands(memory);
                if let Some(cache) = operands.cache.take() {
                    let cached = Operands { cache: Some(cache), ..operands };
                    kernels::extend_cache(&sizes, parameters.past, &cached, whole);
                    [operands.k, operands.v] = call.cached(memory);
                }
                let scores = (wanted, memory.write::<f32>(scores.operand));
                kernels::attention_with_scores(
                    &sizes,
                    &parameters,
                    &operands,
                    &call.result(memory),
                    scores,
                    whole,
                );
                Ok(())
            }));
        }
        let attention = if rounded {
            kernels::Attention::new_bf16(level, sizes, parameters)
        } else {
            kernels::Attention::new(level, sizes, parameters)
        };
        let scratch = attention.scratch_len();
        b.need_scratch::<f32>(scratch);
        Ok(Step::parallel(move |memory, part| {
            let scratch = memory.scratch(part.index, scratch);
            attention.run(&call.operands(memory), &call.result(memory), scratch, part);
            Ok(())
        }))
    });
    Ok(layer.reads_columns(&[0, 1, 2]).appends(&[(4, 1, 2), (5, 2, 2)]))
}

fn wanted(scores: AttentionScores) -> Wanted {
    match scores {
        AttentionScores::Product => Wanted::Product,
        AttentionScores::Capped => Wanted::Capped,
        AttentionScores::Masked => Wanted::Masked,
        AttentionScores::Probabilities => Wanted::Probabilities,
    }
}

/// The operands of a run, with their places.
struct Call {
    sizes: Sizes,
    parameters: Parameters,
    q: Placed,
    k: Placed,
    v: Placed,
    y: Placed,
    mask: Option<PlacedMask>,
    counts: Option<Operand>,
    cache: Option<PlacedCache>,
}

/// Heads somewhere in memory.
#[derive(Clone, Copy)]
struct Placed {
    operand: Operand,
    strides: [usize; 3],
    /// Batch, heads, length, size.
    dims: [usize; 4],
}

struct PlacedMask {
    operand: Operand,
    /// What scores become that a mask of Bool leaves out; none where it is added.
    otherwise: Option<f32>,
    strides: [usize; 4],
    keys: usize,
}

struct PlacedCache {
    past: [Operand; 2],
    all: [Operand; 2],
}

impl Placed {
    /// A tensor of `[batch, heads, length, size]` or, with a number of heads, `[batch, length, heads · size]`.
    fn of(bound: &Bound, heads: Option<usize>) -> Result<Placed> {
        let row = bound.row_stride;
        let (strides, dims) = match (<[usize; 4]>::try_from(&bound.dims[..]), heads) {
            (Ok(dims @ [_, heads, length, _]), _) => ([heads * length * row, length * row, row], dims),
            (Err(_), Some(heads)) => {
                let [batch, length, width] = bound.dims[..] else { return Err(wrong(bound)) };
                if heads == 0 || width % heads != 0 {
                    return Err(wrong(bound));
                }
                let size = width / heads;
                ([length * row, size, row], [batch, heads, length, size])
            }
            _ => return Err(wrong(bound)),
        };
        Ok(Placed { operand: bound.operand, strides, dims })
    }

    fn read<'a>(&self, memory: &Memory<'a>) -> Heads<'a> {
        Heads { data: memory.read(self.operand), strides: self.strides }
    }
}

fn wrong(bound: &Bound) -> Error {
    Error::shape(format!("{:?} has no heads, or other ones", bound.dims))
}

impl Call {
    fn of(b: &Binding, op: &Attention) -> Result<Call> {
        let q = Placed::of(&b.input(0)?, op.query_heads)?;
        let k = Placed::of(&b.input(1)?, op.key_heads)?;
        let v = Placed::of(&b.input(2)?, op.value_heads)?;
        let y = Placed::of(&b.output(0)?, Some(q.dims[1]))?;
        let cache = PlacedCache::of(b)?;
        let past = b.optional_input(4).map_or(0, |past| past.dims.get(2).copied().unwrap_or(0));
        let [batch, query_heads, queries, size] = q.dims;
        let [_, key_heads, new, _] = k.dims;
        let keys = past + new;
        let value_size = v.dims[3];
        let fits = k.dims == [batch, key_heads, new, size]
            && v.dims == [batch, key_heads, new, value_size]
            && y.dims == [batch, query_heads, queries, value_size];
        if !fits || (key_heads == 0 && query_heads != 0) || query_heads % key_heads.max(1) != 0 {
            return Err(Error::shape(format!(
                "q {:?}, k {:?}, v {:?}, y {:?}",
                q.dims, k.dims, v.dims, y.dims
            )));
        }
        let sizes = Sizes { batch, query_heads, key_heads, queries, keys, size, value_size };
        if let Some(cache) = &cache {
            cache.check(&sizes, past)?;
        }
        let counts = b.optional_input(6);
        if counts.as_ref().is_some_and(|counts| counts.len() != batch) {
            return Err(Error::shape(format!("numbers of keys for a batch of {batch}")));
        }
        let mask =
            b.optional_input(3).map(|mask| PlacedMask::of(&mask, &sizes, op.masked_score)).transpose()?;
        let scale = op.scale.unwrap_or(1.0 / (size.max(1) as f32).sqrt());
        let parameters = Parameters { scale, softcap: op.softcap, causal: op.causal, past };
        let counts = counts.map(|counts| counts.operand);
        Ok(Call { sizes, parameters, q, k, v, y, mask, counts, cache })
    }

    fn operands<'a>(&self, memory: &Memory<'a>) -> Operands<'a> {
        Operands {
            q: self.q.read(memory),
            k: self.k.read(memory),
            v: self.v.read(memory),
            mask: self.mask.as_ref().map(|mask| mask.read(memory)),
            counts: self.counts.map(|counts| memory.read(counts)),
            cache: self.cache.as_ref().map(|cache| cache.read(memory, &self.sizes)),
        }
    }

    /// All keys and values, when the cache has them.
    fn cached<'a>(&self, memory: &Memory<'a>) -> [Heads<'a>; 2] {
        let Sizes { batch, key_heads: heads, size, value_size, .. } = self.sizes;
        let read = |index: usize, size: usize| {
            let of = |cache: &PlacedCache| memory.read_blocks(cache.all[index], batch * heads);
            let (data, head) = self.cache.as_ref().map_or((&[][..], 0), of);
            Heads { data, strides: [heads * head, head, size] }
        };
        [read(0, size), read(1, value_size)]
    }

    fn result<'a>(&self, memory: &Memory<'a>) -> SharedHeads<'a> {
        SharedHeads { data: memory.write(self.y.operand), strides: self.y.strides }
    }
}

impl PlacedCache {
    /// Where all keys and values go, if that is wanted; and the past ones.
    fn of(b: &Binding) -> Result<Option<PlacedCache>> {
        let operand = |bound: Option<Bound>| bound.map(|bound| bound.operand);
        let past = [operand(b.optional_input(4)), operand(b.optional_input(5))];
        let all = [operand(b.optional_output(1)), operand(b.optional_output(2))];
        match (past, all) {
            ([None, None], [None, None]) => Ok(None),
            (past, [Some(k), Some(v)]) => {
                let nothing = |operand| Operand { bytes: 0, ..operand };
                let past = [past[0].unwrap_or(nothing(k)), past[1].unwrap_or(nothing(v))];
                Ok(Some(PlacedCache { past, all: [k, v] }))
            }
            _ => Err(Error::not_implemented("past keys and values whose continuation nobody wants")),
        }
    }

    fn check(&self, sizes: &Sizes, past: usize) -> Result<()> {
        let heads = sizes.batch * sizes.key_heads;
        let lengths = [(0, sizes.size), (1, sizes.value_size)];
        let fits = lengths.into_iter().all(|(index, size)| {
            let bytes = |rows: usize| heads * rows * size * size_of::<f32>();
            self.past[index].bytes == bytes(past) && self.all[index].bytes == bytes(sizes.keys)
        });
        if fits { Ok(()) } else { Err(Error::shape(format!("a cache of {past} keys for {sizes:?}"))) }
    }

    fn read<'a>(&self, memory: &Memory<'a>, sizes: &Sizes) -> Cache<'a> {
        let heads = sizes.key_heads;
        let rows = |operand: Operand, size: usize| {
            let BlockSlice { data, stride } = memory.blocks(operand, sizes.batch * heads);
            SharedHeads { data, strides: [heads * stride, stride, size] }
        };
        Cache {
            past_k: rows(self.past[0], sizes.size),
            past_v: rows(self.past[1], sizes.value_size),
            k: rows(self.all[0], sizes.size),
            v: rows(self.all[1], sizes.value_size),
        }
    }
}

impl PlacedMask {
    fn of(mask: &Bound, sizes: &Sizes, masked_score: Option<f32>) -> Result<PlacedMask> {
        let wrong = || Error::shape(format!("a mask of shape {:?} for {sizes:?}", mask.dims));
        let keys = *mask.dims.last().ok_or_else(wrong)?;
        if mask.dims.len() > 4 || keys > sizes.keys {
            return Err(wrong());
        }
        let mut dims = [1; 4];
        dims[4 - mask.dims.len()..].copy_from_slice(&mask.dims);
        let mut strides = [0, 0, 0, 1];
        let mut stride = keys;
        let full = [sizes.batch, sizes.query_heads, sizes.queries];
        for axis in (0..3).rev() {
            if dims[axis] != 1 {
                if dims[axis] != full[axis] {
                    return Err(wrong());
                }
                strides[axis] = stride;
            }
            stride *= dims[axis];
        }
        // A single column is for all keys.
        let shared = keys == 1 && sizes.keys > 1;
        strides[3] = usize::from(!shared);
        let keys = if shared { sizes.keys } else { keys };
        let is_bool = mask.element_type == ElementType::Bool;
        let otherwise = is_bool.then(|| masked_score.unwrap_or(f32::NEG_INFINITY));
        Ok(PlacedMask { operand: mask.operand, otherwise, strides, keys })
    }

    fn read<'a>(&self, memory: &Memory<'a>) -> Mask<'a> {
        let values = match self.otherwise {
            Some(otherwise) => MaskValues::Allowed { values: memory.read(self.operand), otherwise },
            None => MaskValues::Added(memory.read(self.operand)),
        };
        Mask { values, strides: self.strides, keys: self.keys }
    }
}

/// Elements that are not worth dividing between workers.
const FEW_ELEMENTS: usize = 1 << 14;

pub(super) fn rotary(view: &NodeView, op: &RotaryEmbedding) -> Result<Layer> {
    if view.input_type(0)?.storage() != ElementType::F32 {
        return Err(unsupported_type(view.input_type(0)?));
    }
    let (level, op) = (view.level, op.clone());
    let layer = Layer::new("rotary embedding", move |b| {
        let x = Placed::of(&b.input(0)?, op.heads)?;
        let y = Placed::of(&b.output(0)?, op.heads)?;
        let [batch, heads, length, size] = x.dims;
        let turned = op.size.unwrap_or(size);
        if y.dims != x.dims || turned > size || turned % 2 != 0 {
            return Err(Error::shape(format!("{turned} turned elements of {:?}", x.dims)));
        }
        let rotary = Rotary { batch, heads, length, size, turned, interleaved: op.interleaved };
        let angles = PlacedAngles::of(b, &rotary)?;
        let run = move |memory: &Memory, part: Part| {
            let to = SharedHeads { data: memory.write(y.operand), strides: y.strides };
            kernels::rotate(level, &rotary, &angles.read(memory)?, &x.read(memory), &to, part);
            Ok(())
        };
        let few = x.dims.iter().product::<usize>() < FEW_ELEMENTS;
        Ok(if few { Step::serial(move |memory| run(memory, Part::WHOLE)) } else { Step::parallel(run) })
    });
    Ok(layer.reads_columns(&[0]))
}

/// Cosines, sines and positions somewhere in memory.
struct PlacedAngles {
    numbers: [Operand; 2],
    of_row: [usize; 2],
    sequence: [usize; 2],
    rows: Option<Operand>,
    /// Rows of both tables.
    count: usize,
}

impl PlacedAngles {
    fn of(b: &Binding, rotary: &Rotary) -> Result<PlacedAngles> {
        let tables = [b.input(1)?, b.input(2)?];
        let rows = b.optional_input(3);
        let wrong =
            || Error::shape(format!("angles of {:?} for {rotary:?}", tables.each_ref().map(|t| &t.dims)));
        let mut of_row = [0; 2];
        let mut sequence = [0; 2];
        let mut count = usize::MAX;
        for (i, table) in tables.iter().enumerate() {
            let (numbers, fits) = match table.dims[..] {
                [all, numbers] if rows.is_some() => {
                    count = count.min(all);
                    (numbers, true)
                }
                [batch, length, numbers] if rows.is_none() => {
                    sequence[i] = if batch == 1 { 0 } else { length };
                    (numbers, length == rotary.length && (batch == 1 || batch == rotary.batch))
                }
                _ => return Err(wrong()),
            };
            if !fits || (numbers != rotary.turned && numbers != rotary.turned / 2) {
                return Err(wrong());
            }
            of_row[i] = numbers;
        }
        if rows.as_ref().is_some_and(|rows| rows.len() != rotary.batch * rotary.length) {
            return Err(wrong());
        }
        let rows = rows.map(|rows| rows.operand);
        Ok(PlacedAngles { numbers: tables.map(|table| table.operand), of_row, sequence, rows, count })
    }

    fn read<'a>(&self, memory: &Memory<'a>) -> Result<Angles<'a>> {
        let rows = self.rows.map(|rows| memory.read::<i64>(rows));
        let exists = |row: &i64| usize::try_from(*row).is_ok_and(|row| row < self.count);
        if let Some(row) = rows.and_then(|rows| rows.iter().find(|row| !exists(row))) {
            return Err(Error::infer(format!("the position {row} is not within 0..{}", self.count)));
        }
        let [cos, sin] = self.numbers.map(|operand| memory.read(operand));
        Ok(Angles { cos, sin, numbers: self.of_row, sequence: self.sequence, rows })
    }
}
