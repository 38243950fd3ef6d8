//! Rates of matrix products on one core, at the levels named as arguments or at the best one.

mod common;

use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::gemm::{Layout, PackedMatrix, Problem, candidates, gemm};
use optimium_kernels::{AlignedVec, Part, SharedSlice, activation::Activation};
use optimium_simd::Level;
use optimium_testing::Random;

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

fn run(level: Level, [m, n, k]: [usize; 3], layout: &Layout, activation: Activation) -> f64 {
    let mut random = Random::new(1);
    let (a, b, bias) = (random.floats(m * k), random.floats(k * n), random.floats(n));
    let packed = PackedMatrix::new(*layout, &b, n, 1);
    let mut c = AlignedVec::zeroed(m * n);
    let shared = SharedSlice::new(&mut c);
    let epilogue = Epilogue { bias: Some(&bias), activation, ..Epilogue::default() };
    common::seconds(|| gemm(level, m, &a, k, layout, &packed.data, &epilogue, shared, n, Part::WHOLE))
}

fn main() {
    let named: Vec<Level> = std::env::args().filter_map(|name| Level::from_name(&name)).collect();
    let levels = if named.is_empty() { vec![Level::best()] } else { named };
    for level in levels {
        let peak = common::peak(level);
        println!("{level}: peak {:.1} GFLOP/s", peak / 1e9);
        for sizes in SIZES {
            let [m, n, k] = sizes;
            let operations = 2.0 * (m * n * k) as f64;
            for candidate in candidates(level, &Problem { m, n, k }) {
                let tile = candidate.layout.tile;
                let name = format!("{m}x{n}x{k}, tile {}x{} vectors", tile.rows, tile.vectors);
                let seconds = run(level, sizes, &candidate.layout, Activation::Relu);
                common::report(&name, operations, seconds, peak);
            }
        }
        for activation in [Activation::None, Activation::Relu, Activation::HardSwish, Activation::Silu] {
            for [m, n, k] in [[12544, 96, 16], [128, 1536, 384]] {
                let layout = candidates(level, &Problem { m, n, k })[0].layout;
                let seconds = run(level, [m, n, k], &layout, activation);
                let name = format!("{m}x{n}x{k} with {activation:?}");
                common::report(&name, 2.0 * (m * n * k) as f64, seconds, peak);
            }
        }
    }
}
