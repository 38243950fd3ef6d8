//! Attention whose scores somebody wants to see: element by element.

use super::operands::{MaskValues, Operands, Parameters, SharedHeads, Sizes};
use crate::{Part, SharedSlice};

/// What of the scores is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The scaled products.
    Product,
    /// These after the cap.
    Capped,
    /// These after the mask.
    Masked,
    /// The weights of the values.
    Probabilities,
}

/// Attention, and its scores of `[batch, query heads, queries, keys]`. There is no cache.
///
/// # Panics
/// Where an operand is too short for the sizes, or there is a cache.
pub fn attention_with_scores(
    sizes: &Sizes,
    parameters: &Parameters,
    operands: &Operands,
    y: &SharedHeads,
    (wanted, scores): (Wanted, SharedSlice<f32>),
    part: Part,
) {
    assert!(operands.cache.is_none(), "the cache is filled before");
    operands.check(sizes);
    y.check([sizes.batch, sizes.query_heads, sizes.queries], sizes.value_size);
    let rows = sizes.batch * sizes.query_heads * sizes.queries;
    assert!(scores.len() == rows * sizes.keys, "{} scores for {rows} rows of {}", scores.len(), sizes.keys);
    for row in part.range(rows) {
        let (query, head) = (row % sizes.queries, row / sizes.queries % sizes.query_heads);
        let sequence = row / sizes.queries / sizes.query_heads;
        // SAFETY: each row is one part's.
        let out = unsafe { scores.slice(row * sizes.keys..(row + 1) * sizes.keys) };
        let weights = score_row(sizes, parameters, operands, wanted, [sequence, head, query], out);
        // SAFETY: as above.
        let y = unsafe { y.from(sequence, head, query).slice(0..sizes.value_size) };
        for (column, y) in y.iter_mut().enumerate() {
            let value = |key| operands.v.from(sequence, head / sizes.group(), key)[column];
            let product = |(key, weight): (usize, &f64)| weight * f64::from(value(key));
            *y = weights.iter().enumerate().map(product).sum::<f64>() as f32;
        }
    }
}

/// The weights of a row, whose scores go to `out`.
fn score_row(
    sizes: &Sizes,
    parameters: &Parameters,
    operands: &Operands,
    wanted: Wanted,
    [sequence, head, query]: [usize; 3],
    out: &mut [f32],
) -> Vec<f64> {
    let mut scores = vec![0.0; sizes.keys];
    let limit = operands.limit(sizes, parameters, sequence, query);
    let q = &operands.q.from(sequence, head, query)[..sizes.size];
    for (key, (score, out)) in scores.iter_mut().zip(&mut *out).enumerate() {
        let k = &operands.k.from(sequence, head / sizes.group(), key)[..sizes.size];
        let dot: f64 = q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum();
        let product = dot * f64::from(parameters.scale);
        let cap = f64::from(parameters.softcap);
        let capped = if cap == 0.0 { product } else { cap * (product / cap).tanh() };
        let masked = if key < limit {
            masked(operands, [sequence, head, query, key], capped)
        } else {
            f64::NEG_INFINITY
        };
        *score = masked;
        *out = match wanted {
            Wanted::Product => product,
            Wanted::Capped => capped,
            Wanted::Masked | Wanted::Probabilities => masked,
        } as f32;
    }
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        scores.fill(0.0);
    } else {
        scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
        let sum: f64 = scores.iter().sum();
        scores.iter_mut().for_each(|score| *score /= sum);
    }
    if wanted == Wanted::Probabilities {
        out.iter_mut().zip(&scores).for_each(|(out, &score)| *out = score as f32);
    }
    scores
}

/// What the mask makes of a score.
fn masked(operands: &Operands, [sequence, head, query, key]: [usize; 4], score: f64) -> f64 {
    let Some(mask) = &operands.mask else { return score };
    let at = mask.row(sequence, head, query) + key * mask.strides[3];
    match mask.values {
        MaskValues::Added(values) => score + f64::from(values[at]),
        MaskValues::Allowed { values, otherwise } if values[at] == 0 => otherwise.into(),
        MaskValues::Allowed { .. } => score,
    }
}
