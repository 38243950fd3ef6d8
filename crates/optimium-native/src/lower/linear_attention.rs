//! Attention without softmax.

use optimium_graph::ops::LinearAttention;
use optimium_kernels::linear_attention::{self as kernels, LinearOperands};
use optimium_tensor::{ElementType, Error, Result};

use super::view::{NodeView, unsupported_type};
use crate::layer::{Bound, Layer, Step};

pub(super) fn linear_attention(view: &NodeView, op: &LinearAttention) -> Result<Layer> {
    for index in (0..6).filter(|&index| view.has_input(index)) {
        if view.input_type(index)?.storage() != ElementType::F32 {
            return Err(unsupported_type(view.input_type(index)?));
        }
    }
    let (op, level) = (op.clone(), view.level);
    Ok(Layer::new("linear attention", move |b| {
        let operands: Vec<Bound> = (0..3).map(|index| b.input(index)).collect::<Result<_>>()?;
        let [past, decay, rate] = [3, 4, 5].map(|index| b.optional_input(index));
        let sizes = sizes(&op, &operands, decay.as_ref(), rate.as_ref())?;
        let states = sizes.batch * sizes.heads * sizes.key_size * sizes.value_size;
        if past.as_ref().is_some_and(|past| past.len() != states) {
            return Err(Error::shape("a past state that does not fit the queries"));
        }
        b.need_scratch::<f32>(sizes.value_size);
        let [q, k, v] = [0, 1, 2].map(|index: usize| operands[index].operand);
        let [past, decay, rate] = [past, decay, rate].map(|bound| bound.map(|bound| bound.operand));
        let (y, state) = (b.output(0)?.operand, b.output(1)?.operand);
        Ok(Step::parallel(move |memory, part| {
            let operands = LinearOperands {
                q: memory.read(q),
                k: memory.read(k),
                v: memory.read(v),
                past: past.map(|past| memory.read(past)),
                decay: decay.map_or(&[], |decay| memory.read(decay)),
                rate: rate.map_or(&[], |rate| memory.read(rate)),
            };
            let scratch = memory.scratch(part.index, sizes.value_size);
            let (y, state) = (memory.write(y), memory.write(state));
            kernels::linear_attention(level, &sizes, operands, y, state, scratch, part);
            Ok(())
        }))
    }))
}

fn sizes(
    op: &LinearAttention,
    operands: &[Bound],
    decay: Option<&Bound>,
    rate: Option<&Bound>,
) -> Result<kernels::LinearAttention> {
    let [q, k, v] = [0, 1, 2].map(|index: usize| &operands[index].dims);
    let whole = |dims: &[usize], heads: usize| {
        dims.len() == 3 && dims[..2] == q[..2] && dims[2].is_multiple_of(heads)
    };
    if !(whole(q, op.query_heads) && whole(k, op.heads) && whole(v, op.heads)) {
        return Err(Error::shape(format!("queries {q:?}, keys {k:?} and values {v:?}")));
    }
    let (key_size, value_size) = (k[2] / op.heads, v[2] / op.heads);
    let columns = |bound: Option<&Bound>| bound.map_or(0, |bound| bound.dims.last().copied().unwrap_or(0));
    let (decays, rates) = (columns(decay) / op.heads, columns(rate));
    let rows = q[0] * q[1];
    let fits = q[2] / op.query_heads == key_size
        && decay
            .is_none_or(|decay| [1, key_size].contains(&decays) && decay.len() == rows * op.heads * decays)
        && rate.is_none_or(|rate| [1, op.heads].contains(&rates) && rate.len() == rows * rates);
    if !fits {
        return Err(Error::shape(format!("{decays} decays and {rates} rates for keys {k:?}")));
    }
    Ok(kernels::LinearAttention {
        batch: q[0],
        length: q[1],
        query_heads: op.query_heads,
        heads: op.heads,
        key_size,
        value_size,
        scale: op.scale.unwrap_or(1.0 / (key_size as f32).sqrt()),
        decays,
        rates,
    })
}
