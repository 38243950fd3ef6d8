//! Attention: where heads lie, masks, caches, and scores.

use optimium_graph::Operator;
use optimium_graph::ops::{Attention, AttentionScores, Slice, SliceRange};
use optimium_tensor::{ElementType, Expr, Tensor};

use super::harness::{APPROXIMATE, Builder, Expected, check, indices, place};

fn plain() -> Attention {
    Attention {
        query_heads: None,
        key_heads: None,
        value_heads: None,
        scale: None,
        softcap: 0.0,
        causal: false,
        merged: None,
        scores: AttentionScores::Product,
        masked_score: None,
    }
}

/// A tensor of `[batch, heads, length, size]`.
#[derive(Clone)]
struct Heads {
    dims: [usize; 4],
    data: Vec<f32>,
}

impl Heads {
    fn at(&self, index: [usize; 4]) -> f32 {
        self.data[place(&index, &self.dims)]
    }

    /// As `[batch, length, heads · size]`.
    fn merged(&self) -> Vec<f32> {
        let [batch, heads, length, size] = self.dims;
        let indices = indices(&[batch, length, heads, size]);
        indices.iter().map(|i| self.at([i[0], i[2], i[1], i[3]])).collect()
    }
}

fn random(b: &mut Builder, dims: [usize; 4]) -> Heads {
    Heads { dims, data: b.floats(&dims) }
}

/// The result, where `mask` says what is added to each score.
fn expected(q: &Heads, k: &Heads, v: &Heads, mask: impl Fn([usize; 4]) -> f32) -> Heads {
    let [batch, heads, length, size] = q.dims;
    let (group, keys) = (heads / k.dims[1], k.dims[2]);
    let dims = [batch, heads, length, v.dims[3]];
    let weights = |b: usize, h: usize, i: usize| -> Vec<f32> {
        let dot = |j: usize| (0..size).map(|e| q.at([b, h, i, e]) * k.at([b, h / group, j, e])).sum::<f32>();
        let scores: Vec<f32> =
            (0..keys).map(|j| dot(j) / (size as f32).sqrt() + mask([b, h, i, j])).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|s| (s - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        weights.iter().map(|w| w / sum).collect()
    };
    let element = |i: &Vec<usize>| {
        let weights = weights(i[0], i[1], i[2]);
        (0..keys).map(|j| weights[j] * v.at([i[0], i[1] / group, j, i[3]])).sum()
    };
    Heads { dims, data: indices(&dims).iter().map(element).collect() }
}

/// q, k and v as columns of one tensor.
fn packed(b: &mut Builder) -> Vec<Expected> {
    let (q, k, v) = (random(b, [2, 3, 9, 8]), random(b, [2, 3, 9, 8]), random(b, [2, 3, 9, 8]));
    let parts = [q.merged(), k.merged(), v.merged()];
    let rows = (0..18).flat_map(|row| parts.iter().flat_map(move |part| part[row * 24..][..24].to_vec()));
    let rows: Vec<f32> = rows.collect();
    let x = b.input(&[2, 9, 72], &rows);
    let x = b.unary(optimium_graph::ops::Unary::Neg, x);
    let x = b.unary(optimium_graph::ops::Unary::Neg, x);
    let [q_part, k_part, v_part] = [0usize, 24, 48].map(|start| {
        let range = SliceRange { axis: 2, start: Expr::from(start), count: Expr::from(24usize), step: 1 };
        b.node(Operator::Slice(Slice { ranges: Some(vec![range]) }), &[x])
    });
    let op = Attention { query_heads: Some(3), key_heads: Some(3), value_heads: Some(3), ..plain() };
    let y = b.node(Operator::Attention(op), &[q_part, k_part, v_part]);
    vec![(y, expected(&q, &k, &v, |_| 0.0).merged())]
}

/// Separate heads of queries, merged ones of keys and values that several share, merged ones as the result.
fn grouped(b: &mut Builder, queries: usize) -> Vec<Expected> {
    let (q, k, v) = (random(b, [1, 4, queries, 5]), random(b, [1, 2, 7, 5]), random(b, [1, 2, 7, 3]));
    let (x, w, z) =
        (b.input(&q.dims, &q.data), b.input(&[1, 7, 10], &k.merged()), b.input(&[1, 7, 6], &v.merged()));
    let (mask_values, masked) = (b.floats(&[queries, 7]), plain());
    let mask = b.input(&[queries, 7], &mask_values);
    let op = Attention { key_heads: Some(2), value_heads: Some(2), merged: Some(true), ..masked };
    let y = b.node(Operator::Attention(op), &[x, w, z, mask]);
    vec![(y, expected(&q, &k, &v, |i| mask_values[i[2] * 7 + i[3]]).merged())]
}

/// A query sees what was before it.
fn cached(b: &mut Builder, queries: usize) -> Vec<Expected> {
    let past = 6;
    let q = random(b, [2, 4, queries, 8]);
    let (k, v) = (random(b, [2, 2, past + queries, 8]), random(b, [2, 2, past + queries, 8]));
    let part = |all: &Heads, first: usize, count: usize| -> Vec<f32> {
        indices(&[2, 2, count, 8]).iter().map(|i| all.at([i[0], i[1], first + i[2], i[3]])).collect()
    };
    let x = b.input(&q.dims, &q.data);
    let [new_k, new_v] = [&k, &v].map(|all| b.input(&[2, 2, queries, 8], &part(all, past, queries)));
    let [past_k, past_v] = [&k, &v].map(|all| b.input(&[2, 2, past, 8], &part(all, 0, past)));
    let inputs = vec![Some(x), Some(new_k), Some(new_v), None, Some(past_k), Some(past_v)];
    let outputs = b.nodes(Operator::Attention(Attention { causal: true, ..plain() }), inputs, 3);
    let late = |i: [usize; 4]| if i[3] > i[2] + past { f32::NEG_INFINITY } else { 0.0 };
    let y = expected(&q, &k, &v, late);
    vec![(outputs[0], y.data), (outputs[1], k.data), (outputs[2], v.data)]
}

/// A mask that replaces scores, all of them for the first query.
fn replaced(b: &mut Builder) -> Vec<Expected> {
    let (q, k, v) = (random(b, [1, 2, 3, 4]), random(b, [1, 2, 5, 4]), random(b, [1, 2, 5, 4]));
    let ids = [&q, &k, &v].map(|x| b.input(&x.dims, &x.data));
    let allowed: Vec<u8> = (0..15).map(|i| u8::from(i >= 5 && i % 3 != 0)).collect();
    let mask = b.given(Tensor::from_bytes(ElementType::Bool, &[3, 5], &allowed).expect("one byte each"));
    let op = Attention { masked_score: Some(f32::MIN), ..plain() };
    let y = b.node(Operator::Attention(op), &[ids[0], ids[1], ids[2], mask]);
    // So low that what is added to it is lost.
    let added = |i: [usize; 4]| if allowed[i[2] * 5 + i[3]] == 0 { f32::MIN } else { 0.0 };
    vec![(y, expected(&q, &k, &v, added).data)]
}

/// Scores before the softmax, with the mask.
fn with_scores(b: &mut Builder) -> Vec<Expected> {
    let (q, k, v) = (random(b, [1, 1, 2, 4]), random(b, [1, 1, 3, 4]), random(b, [1, 1, 3, 4]));
    let ids = [&q, &k, &v].map(|x| Some(b.input(&x.dims, &x.data)));
    let allowed = b.given(Tensor::from_bytes(ElementType::Bool, &[1, 3], &[1, 0, 1]).expect("one byte each"));
    let op = Attention { scores: AttentionScores::Masked, ..plain() };
    let inputs = ids.into_iter().chain([Some(allowed)]).collect();
    let outputs = b.nodes(Operator::Attention(op), inputs, 4);
    let mask = |i: [usize; 4]| if i[3] == 1 { f32::NEG_INFINITY } else { 0.0 };
    let dot = |i: usize, j: usize| (0..4).map(|e| q.at([0, 0, i, e]) * k.at([0, 0, j, e])).sum::<f32>();
    let scores = indices(&[2, 3]).iter().map(|i| dot(i[0], i[1]) / 2.0 + mask([0, 0, i[0], i[1]])).collect();
    vec![(outputs[0], expected(&q, &k, &v, mask).data), (outputs[3], scores)]
}

#[test]
fn of_all_forms() {
    check(
        APPROXIMATE,
        [
            ("columns of one tensor", packed),
            ("shared heads", |b| grouped(b, 11)),
            ("shared heads of one query", |b| grouped(b, 1)),
            ("with a cache", |b| cached(b, 5)),
            ("with a cache, one query", |b| cached(b, 1)),
            ("scores that are replaced", replaced),
            ("with scores", with_scores),
        ],
    );
}
