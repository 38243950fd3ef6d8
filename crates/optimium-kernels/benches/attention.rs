//! Rates of attention on one core.

mod common;

use std::process::ExitCode;

use optimium_kernels::attention::{Attention, Heads, Operands, Parameters, SharedHeads, Sizes};
use optimium_kernels::{AlignedVec, Part, SharedSlice};
use optimium_testing::Random;

use common::Bench;

/// Heads of queries and of keys, queries, keys, and elements of each.
const SIZES: [(&str, [usize; 5]); 8] = [
    ("vision transformer, tiny", [3, 3, 197, 197, 64]),
    ("vision transformer, base", [12, 12, 197, 197, 64]),
    ("sentence encoder", [12, 12, 128, 128, 32]),
    ("speech encoder", [6, 6, 1500, 1500, 64]),
    ("prompt", [8, 2, 512, 512, 64]),
    ("one token after 128", [8, 4, 1, 129, 64]),
    ("one token after 2047", [8, 4, 1, 2048, 64]),
    ("one token after 2047, eight heads a group", [32, 4, 1, 2048, 128]),
];

fn case(bench: &mut Bench, name: &str, [query_heads, key_heads, queries, keys, size]: [usize; 5]) {
    if !bench.wants(name) {
        return;
    }
    let sizes = Sizes { batch: 1, query_heads, key_heads, queries, keys, size, value_size: size };
    let parameters = Parameters { scale: 0.125, softcap: 0.0, causal: false, past: 0 };
    let attention = Attention::new(bench.level, sizes, parameters);
    let mut random = Random::new(1);
    let mut floats = |heads: usize, length: usize| random.floats(heads * length * size);
    let (q, k, v) = (floats(query_heads, queries), floats(key_heads, keys), floats(key_heads, keys));
    // Queries as projections write them, keys and values as a cache has them where there is one query.
    let strides = |heads: usize, length: usize| match queries {
        1 => [heads * length * size, length * size, size],
        _ => [heads * length * size, size, heads * size],
    };
    let of = |data, heads, length| Heads { data, strides: strides(heads, length) };
    let operands = Operands {
        q: of(&q, query_heads, queries),
        k: of(&k, key_heads, keys),
        v: of(&v, key_heads, keys),
        mask: None,
        counts: None,
        cache: None,
    };
    let mut y = AlignedVec::zeroed(q.len());
    let y = SharedHeads { data: SharedSlice::new(&mut y), strides: strides(query_heads, queries) };
    let mut scratch = AlignedVec::zeroed(attention.scratch_len());
    let work = || attention.run(&operands, &y, &mut scratch, Part::WHOLE);
    match queries {
        1 => bench.reads(name, 4 * (k.len() + v.len()), 1, work),
        _ => bench.operations(name, 4.0 * (query_heads * queries * keys * size) as f64, work),
    }
}

fn main() -> ExitCode {
    common::run("attention", |bench| {
        for (name, sizes) in SIZES {
            case(bench, name, sizes);
        }
    })
}
