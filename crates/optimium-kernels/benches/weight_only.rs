//! Rates of products with compressed weights on one core.

mod common;

use std::process::ExitCode;

use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::weight_only::{CompactMatrix, Encoding, Scales, StoredMatrix, multiply};
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice};
use optimium_testing::Random;

use common::Bench;

/// Products of the layers of language models, `[m, n, k]`: of one token, of a few, and of a prompt.
const SIZES: [[usize; 3]; 5] =
    [[1, 4096, 4096], [1, 1536, 384], [4, 4096, 1024], [16, 1536, 384], [128, 1536, 384]];

/// Elements that share a scale.
const BLOCK: usize = 32;

fn product(bench: &mut Bench, encoding: Encoding, [m, n, k]: [usize; 3]) {
    let name = format!("{m}x{n}x{k} of {encoding:?}");
    if !bench.wants(&name) {
        return;
    }
    let bytes = n * k * encoding.bits() / 8;
    let mut random = Random::new(1);
    let data: Vec<u8> = (0..bytes).map(|i| (i * 31 % 61) as u8).collect();
    let scales = vec![0.01; n * k / BLOCK];
    let stored = match encoding {
        Encoding::Bf16 => StoredMatrix::bf16(k, n, &data),
        _ => StoredMatrix::blocks(encoding, [k, n, BLOCK], &data, Scales::F32(&scales), None),
    };
    let level = bench.level;
    let b = CompactMatrix::prepare(level, &stored.expect("the sizes fit"), &Packing::default());
    let (a, bias) = (random.floats(m * k), random.floats(n));
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let (mut c, mut scratch) = (AlignedVec::zeroed(m * n), AlignedVec::zeroed(b.scratch_len(m)));
    let c = SharedSlice::new(&mut c);
    let work = || multiply(level, m, &a, &b, &epilogue, c, &mut scratch, Part::WHOLE);
    // A vector times a matrix reads the matrix once.
    match m {
        1 => bench.reads(&name, bytes, 1, work),
        _ => bench.operations(&name, 2.0 * (m * n * k) as f64, work),
    }
}

fn main() -> ExitCode {
    common::run("weight_only", |bench| {
        for encoding in [Encoding::Bf16, Encoding::Int8, Encoding::Int4] {
            for sizes in SIZES {
                product(bench, encoding, sizes);
            }
        }
    })
}
