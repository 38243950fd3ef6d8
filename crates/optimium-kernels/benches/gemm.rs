//! Rates of matrix products on one core.

mod common;

use std::borrow::Cow;
use std::process::ExitCode;

use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::gemm::{
    Layout, PackedBf16, PackedMatrix, PackedStrassen, Problem, candidates, candidates_strassen, gemm,
    gemm_bf16, gemm_strassen,
};
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice, activation::Activation};
use optimium_testing::Random;

use common::Bench;

/// Products of the usual networks, `[m, n, k]`.
const SIZES: [[usize; 3]; 22] = [
    [1024, 1024, 1024],
    [3136, 64, 576],
    [3136, 64, 64],
    [784, 128, 1152],
    [196, 256, 2304],
    [49, 512, 4608],
    [49, 2048, 512],
    [784, 512, 128],
    [128, 384, 384],
    [128, 1536, 384],
    [197, 1152, 384],
    [12544, 96, 16],
    [12544, 24, 96],
    [3136, 144, 24],
    [784, 192, 32],
    [49, 960, 160],
    [197, 197, 64],
    [1, 1536, 384],
    [2, 1536, 384],
    [4, 1536, 384],
    [8, 1536, 384],
    [1, 4096, 4096],
];

fn product(bench: &mut Bench, name: &str, [m, n, k]: [usize; 3], layout: &Layout, activation: Activation) {
    if !bench.wants(name) {
        return;
    }
    let mut random = Random::new(1);
    let (a, b, bias) = (random.floats(m * k), random.floats(k * n), random.floats(n));
    let packed = PackedMatrix::new(*layout, &b, n, 1, &Packing::default());
    let mut c = AlignedVec::zeroed(m * n);
    let (level, shared) = (bench.level, SharedSlice::new(&mut c));
    let epilogue = Epilogue { bias: Some(&bias), activation, ..Epilogue::default() };
    let work = || gemm(level, m, &a, k, layout, &packed.data, &epilogue, shared, n, Part::WHOLE);
    // A vector times a matrix reads the matrix once and does nothing else.
    match m {
        1 => bench.reads(name, 4 * k * n, 1, work),
        _ => bench.operations(name, 2.0 * (m * n * k) as f64, work),
    }
}

/// The way that is chosen for each product and, without `--quick`, all others.
fn tiles(bench: &mut Bench) {
    for sizes in SIZES {
        let [m, n, k] = sizes;
        for (index, candidate) in candidates(bench.level, &Problem { m, n, k }).iter().enumerate() {
            let name = match index {
                0 => format!("{m}x{n}x{k}"),
                _ => format!("{m}x{n}x{k} by {}", candidate.layout),
            };
            if index == 0 || !bench.is_quick() {
                product(bench, &name, sizes, &candidate.layout, Activation::Relu);
            }
        }
    }
}

/// Products with each activation behind them.
fn activations(bench: &mut Bench) {
    use Activation::*;
    for activation in [None, Relu, HardSwish, Silu, Sigmoid, Tanh, Gelu, GeluTanh] {
        for [m, n, k] in [[12544, 96, 16], [3136, 384, 96], [197, 768, 192], [128, 1536, 384]] {
            let layout = candidates(bench.level, &Problem { m, n, k })[0].layout;
            product(bench, &format!("{m}x{n}x{k} with {activation:?}"), [m, n, k], &layout, activation);
        }
    }
}

/// Products in bfloat16, beside the peak of `f32`.
fn halves(bench: &mut Bench) {
    for [m, n, k] in SIZES {
        let name = format!("{m}x{n}x{k} of bf16");
        if !bench.wants(&name) {
            continue;
        }
        let mut random = Random::new(1);
        let (a, b, bias) = (random.floats(m * k), random.floats(k * n), random.floats(n));
        let packed = PackedBf16::new(bench.level, &Problem { m, n, k }, &b, n, 1, &Packing::default());
        let (mut c, mut scratch) = (AlignedVec::<f32>::zeroed(m * n), vec![0; packed.scratch_len(m)]);
        let (level, shared) = (bench.level, SharedSlice::new(&mut c));
        let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
        bench.operations(&name, 2.0 * (m * n * k) as f64, || {
            gemm_bf16(level, m, &a, k, &packed, &epilogue, shared, n, &mut scratch, Part::WHOLE);
        });
    }
}

/// Products of fewer multiplications, where they can be offered; the operations are those of plain products.
fn strassen(bench: &mut Bench) {
    for [m, n, k] in SIZES {
        let name = format!("{m}x{n}x{k} by Strassen's algorithm");
        let candidates = candidates_strassen(bench.level, &Problem { m, n, k });
        let Some(best) = candidates.first().filter(|_| bench.wants(&name)) else {
            continue;
        };
        let mut random = Random::new(1);
        let (a, b, bias) = (random.floats(m * k), random.floats(k * n), random.floats(n));
        let matrix = || Cow::Borrowed(&b[..]);
        let packed = PackedStrassen::prepare(best.layout, "as it is", &Packing::default(), matrix, [n, 1]);
        let (mut c, mut scratch) = (AlignedVec::zeroed(m * n), AlignedVec::zeroed(packed.scratch_len(m)));
        let (level, shared) = (bench.level, SharedSlice::new(&mut c));
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
        bench.operations(&name, 2.0 * (m * n * k) as f64, || {
            gemm_strassen(level, m, &a, k, &packed, &epilogue, shared, n, &mut scratch, Part::WHOLE);
        });
    }
}

fn main() -> ExitCode {
    common::run("gemm", |bench| {
        tiles(bench);
        activations(bench);
        strassen(bench);
        if bench.level.has_bf16() {
            halves(bench);
        }
    })
}
