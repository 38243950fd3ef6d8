//! Attention without softmax: a matrix of state for each head, which every position changes and reads.

use optimium_simd::{Level, Simd, SimdTask};

use crate::{Part, SharedSlice};

/// Sizes of a linear attention, and which of its terms it has.
#[derive(Clone, Copy, Debug)]
pub struct LinearAttention {
    /// Number of sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub length: usize,
    /// Heads of the queries.
    pub query_heads: usize,
    /// Heads of keys and values, each with a state.
    pub heads: usize,
    /// Elements of a key.
    pub key_size: usize,
    /// Elements of a value.
    pub value_size: usize,
    /// What results are multiplied with.
    pub scale: f32,
    /// Logarithms of decays of a head: none, one, or one for every element of a key.
    pub decays: usize,
    /// Learning rates of a position: none, one, or one for every head. With any, what the state says of a key already is taken off its
    /// value first.
    pub rates: usize,
}

/// The tensors of a linear attention, `[batch, length, heads · size]` each.
#[derive(Clone, Copy, Debug)]
pub struct LinearOperands<'a> {
    /// Queries.
    pub q: &'a [f32],
    /// Keys.
    pub k: &'a [f32],
    /// Values.
    pub v: &'a [f32],
    /// States before the first position, `[batch, heads, key size, value size]`; zeros where none.
    pub past: Option<&'a [f32]>,
    /// Logarithms of decays; empty where there are none.
    pub decay: &'a [f32],
    /// Learning rates; empty where there are none.
    pub rate: &'a [f32],
}

/// For every position `S = exp(decay) · S + k · (rate · (v - Sᵀ · k))ᵀ`, or without rates `+ k · vᵀ`, and `y = scale · Sᵀ · q`. The last
/// states go to `state`; `scratch` has an element for each of a value.
///
/// # Panics
/// Where lengths do not fit.
pub fn linear_attention(
    level: Level,
    sizes: &LinearAttention,
    operands: LinearOperands<'_>,
    y: SharedSlice<'_, f32>,
    state: SharedSlice<'_, f32>,
    scratch: &mut [f32],
    part: Part,
) {
    let &LinearAttention { batch, length, query_heads, heads, key_size, value_size, .. } = sizes;
    let rows = batch * length;
    assert!(heads > 0 && query_heads % heads == 0, "{query_heads} heads of {heads}");
    assert_eq!(operands.q.len(), rows * query_heads * key_size, "the queries' length");
    assert_eq!(operands.k.len(), rows * heads * key_size, "the keys' length");
    assert_eq!(operands.v.len(), rows * heads * value_size, "the values' length");
    assert_eq!(operands.decay.len(), rows * heads * sizes.decays, "the decays' length");
    assert_eq!(operands.rate.len(), rows * sizes.rates, "the rates' length");
    let states = batch * heads * key_size * value_size;
    assert!(operands.past.is_none_or(|past| past.len() == states), "the past's length");
    assert_eq!(state.len(), states, "the states' length");
    assert_eq!(y.len(), rows * query_heads * value_size, "the result's length");
    assert!([0, 1, key_size].contains(&sizes.decays), "{} decays", sizes.decays);
    assert!([0, 1, heads].contains(&sizes.rates), "{} rates", sizes.rates);
    let scratch = &mut scratch[..value_size];
    level.run(Task { sizes, operands, y, state, scratch, part });
}

struct Task<'a> {
    sizes: &'a LinearAttention,
    operands: LinearOperands<'a>,
    y: SharedSlice<'a, f32>,
    state: SharedSlice<'a, f32>,
    scratch: &'a mut [f32],
    part: Part,
}

impl SimdTask for Task<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Task { sizes, operands, y, state, scratch, part } = self;
        let each = sizes.key_size * sizes.value_size;
        for item in part.range(sizes.batch * sizes.heads) {
            let own = item * each..(item + 1) * each;
            // SAFETY: the state of the head is this part's own.
            let state = unsafe { state.slice(own.clone()) };
            match operands.past {
                Some(past) => state.copy_from_slice(&past[own]),
                None => state.fill(0.0),
            }
            let (sequence, head) = (item / sizes.heads, item % sizes.heads);
            for position in 0..sizes.length {
                let row = sequence * sizes.length + position;
                update(sizes, &operands, row, head, state, scratch);
                // SAFETY: the results of the head's queries are this part's own.
                unsafe { read(sizes, &operands, row, head, state, y) };
            }
        }
    }
}

/// Lets position `row` change the state.
#[inline(always)]
fn update(
    sizes: &LinearAttention,
    operands: &LinearOperands<'_>,
    row: usize,
    head: usize,
    state: &mut [f32],
    value: &mut [f32],
) {
    let (keys, width) = (sizes.key_size, sizes.value_size);
    let place = row * sizes.heads + head;
    let k = &operands.k[place * keys..][..keys];
    if sizes.decays > 0 {
        let decay = &operands.decay[place * sizes.decays..][..sizes.decays];
        for (i, line) in state.chunks_exact_mut(width.max(1)).enumerate() {
            let factor = decay[if sizes.decays == 1 { 0 } else { i }].exp();
            line.iter_mut().for_each(|element| *element *= factor);
        }
    }
    value.copy_from_slice(&operands.v[place * width..][..width]);
    if sizes.rates > 0 {
        for (line, &k) in state.chunks_exact(width.max(1)).zip(k) {
            value.iter_mut().zip(line).for_each(|(value, &element)| *value -= element * k);
        }
        let rate = operands.rate[row * sizes.rates + if sizes.rates == 1 { 0 } else { head }];
        value.iter_mut().for_each(|value| *value *= rate);
    }
    for (line, &k) in state.chunks_exact_mut(width.max(1)).zip(k) {
        line.iter_mut().zip(&*value).for_each(|(element, &value)| *element += k * value);
    }
}

/// Writes what the queries of position `row` read from the state.
///
/// # Safety
/// Nobody else uses the results of the head's queries.
#[inline(always)]
unsafe fn read(
    sizes: &LinearAttention,
    operands: &LinearOperands<'_>,
    row: usize,
    head: usize,
    state: &[f32],
    y: SharedSlice<'_, f32>,
) {
    let (keys, width, group) = (sizes.key_size, sizes.value_size, sizes.query_heads / sizes.heads);
    for query in head * group..(head + 1) * group {
        let place = row * sizes.query_heads + query;
        let q = &operands.q[place * keys..][..keys];
        // SAFETY: by the caller's promise.
        let y = unsafe { y.slice(place * width..(place + 1) * width) };
        y.fill(0.0);
        for (line, &q) in state.chunks_exact(width.max(1)).zip(q) {
            let factor = sizes.scale * q;
            y.iter_mut().zip(line).for_each(|(y, &element)| *y += factor * element);
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    /// The definition, element by element in double precision.
    fn naive(sizes: &LinearAttention, operands: LinearOperands<'_>) -> (Vec<f32>, Vec<f32>) {
        let LinearAttention { batch, length, query_heads, heads, key_size, value_size, .. } = *sizes;
        let mut y = vec![0.0; batch * length * query_heads * value_size];
        let mut states = Vec::new();
        for b in 0..batch {
            for h in 0..heads {
                let start = (b * heads + h) * key_size * value_size;
                let mut state: Vec<f64> = (0..key_size * value_size)
                    .map(|i| operands.past.map_or(0.0, |past| past[start + i].into()))
                    .collect();
                for t in 0..length {
                    let row = b * length + t;
                    let k = |i: usize| f64::from(operands.k[(row * heads + h) * key_size + i]);
                    if sizes.decays > 0 {
                        for (i, element) in state.iter_mut().enumerate() {
                            let index = if sizes.decays == 1 { 0 } else { i / value_size };
                            let decay = operands.decay[(row * heads + h) * sizes.decays + index];
                            *element *= f64::from(decay).exp();
                        }
                    }
                    for m in 0..value_size {
                        let mut value = f64::from(operands.v[(row * heads + h) * value_size + m]);
                        if sizes.rates > 0 {
                            let said: f64 = (0..key_size).map(|i| state[i * value_size + m] * k(i)).sum();
                            let rate = row * sizes.rates + if sizes.rates == 1 { 0 } else { h };
                            value = f64::from(operands.rate[rate]) * (value - said);
                        }
                        (0..key_size).for_each(|i| state[i * value_size + m] += k(i) * value);
                    }
                    for q in 0..query_heads / heads {
                        let place = row * query_heads + h * (query_heads / heads) + q;
                        for m in 0..value_size {
                            let sum: f64 = (0..key_size)
                                .map(|i| {
                                    f64::from(operands.q[place * key_size + i]) * state[i * value_size + m]
                                })
                                .sum();
                            y[place * value_size + m] = (sum * f64::from(sizes.scale)) as f32;
                        }
                    }
                }
                states.extend(state.into_iter().map(|element| element as f32));
            }
        }
        (y, states)
    }

    #[test]
    fn every_rule() {
        // Query heads, heads, decays (9 for one a key's element), rates (9 for one a head), whether there is a past.
        let cases = [
            (2, 2, 0, 0, false),
            (4, 2, 1, 0, true),
            (4, 2, 9, 0, false),
            (3, 3, 0, 1, true),
            (6, 3, 0, 9, false),
            (8, 1, 9, 9, true),
        ];
        each_case(cases, |&(query_heads, heads, decays, rates, with_past)| {
            let (batch, length, key_size, value_size) = (2, 5, 7, 19);
            let sizes = LinearAttention {
                batch,
                length,
                query_heads,
                heads,
                key_size,
                value_size,
                scale: 0.5,
                decays: if decays == 9 { key_size } else { decays },
                rates: if rates == 9 { heads } else { rates },
            };
            let mut random = Random::new(3);
            let rows = batch * length;
            let mut some = |count: usize| random.floats(count);
            let (q, k) = (some(rows * query_heads * key_size), some(rows * heads * key_size));
            let (v, past) = (some(rows * heads * value_size), some(batch * heads * key_size * value_size));
            let decay: Vec<f32> = some(rows * heads * sizes.decays).iter().map(|x| -x.abs()).collect();
            let rate: Vec<f32> = some(rows * sizes.rates).iter().map(|x| x.abs() / 4.0).collect();
            let past = with_past.then_some(&past[..]);
            let operands = LinearOperands { q: &q, k: &k, v: &v, past, decay: &decay, rate: &rate };
            let (expected, expected_state) = naive(&sizes, operands);
            for level in Level::available() {
                let (mut y, mut state) =
                    (vec![f32::NAN; expected.len()], vec![f32::NAN; expected_state.len()]);
                for index in 0..3 {
                    let (y, state) = (SharedSlice::new(&mut y), SharedSlice::new(&mut state));
                    let mut scratch = vec![0.0; value_size];
                    linear_attention(
                        level,
                        &sizes,
                        operands,
                        y,
                        state,
                        &mut scratch,
                        Part { index, count: 3 },
                    );
                }
                compare(&y, &expected, Tolerance::Scaled { epsilon: 1e-5, scale: 10.0 })?;
                compare(&state, &expected_state, Tolerance::Scaled { epsilon: 1e-5, scale: 10.0 })?;
            }
            Ok(())
        });
    }
}
