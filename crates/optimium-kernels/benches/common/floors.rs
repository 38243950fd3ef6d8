//! The fractions under which a hot kernel is taken for broken.

use optimium_simd::Level;

/// A case of a benchmark at a level, and the fraction that it has to reach there.
pub(super) struct Floor {
    pub(super) program: &'static str,
    pub(super) level: Level,
    pub(super) case: &'static str,
    pub(super) fraction: f64,
}

/// The floors of all benchmarks.
pub(super) fn floors() -> impl Iterator<Item = Floor> {
    FLOORS.iter().flat_map(|&(program, case, avx512, avx2)| {
        [(Level::Avx512, avx512), (Level::Avx2, avx2)]
            .into_iter()
            .map(move |(level, fraction)| Floor { program, level, case, fraction })
            .filter(|floor| floor.fraction > 0.0)
    })
}

/// Benchmark, case, and the fractions for AVX-512 and for AVX2, 0 where there is none. Well below what the kernels reach on
/// machines of different widths, well above what is left of them when a loop is not unrolled or a vector operation not inlined.
const FLOORS: &[(&str, &str, f64, f64)] = &[
    ("gemm", "1024x1024x1024", 0.6, 0.5),
    ("gemm", "196x256x2304", 0.6, 0.5),
    ("gemm", "128x1536x384", 0.6, 0.5),
    ("gemm", "12544x96x16", 0.4, 0.4),
    ("gemm", "12544x24x96", 0.5, 0.5),
    ("gemm", "49x960x160", 0.6, 0.5),
    ("gemm", "4x1536x384", 0.5, 0.5),
    ("gemm", "1x1536x384", 0.5, 0.5),
    ("gemm", "128x1536x384 with Gelu", 0.5, 0.45),
    ("gemm", "3136x384x96 with Silu", 0.4, 0.25),
    ("conv", "56², 64 to 64, 3x3 by 1", 0.7, 0.7),
    ("conv", "14², 256 to 256, 3x3 by 1", 0.7, 0.7),
    ("conv", "56², 64 to 128, 3x3 by 2", 0.55, 0.55),
    ("conv", "56², 64 to 256, 1x1 by 1", 0.55, 0.55),
    ("conv", "224², 3 to 64, 7x7 by 2", 0.4, 0.4),
    ("conv", "224², 3 to 32, 3x3 by 2", 0.25, 0.25),
    ("depthwise", "112² x 32, 3 x 3, stride 1", 0.3, 0.15),
    ("depthwise", "14² x 576, 3 x 3, stride 1", 0.35, 0.15),
    ("depthwise", "56² x 144, 3 x 3, stride 2", 0.2, 0.1),
    ("depthwise", "14² x 480, 5 x 5, stride 1", 0.5, 0.25),
    ("depthwise", "56² x 96, 7 x 7, stride 1", 0.5, 0.35),
    ("attention", "vision transformer, tiny", 0.4, 0.3),
    ("attention", "speech encoder", 0.4, 0.3),
    ("attention", "one token after 2047", 0.25, 0.2),
    ("recurrent", "LSTM of 80 steps, 256 to 256", 0.25, 0.2),
    ("recurrent", "GRU of 32 steps, 64 to 192", 0.25, 0.2),
    ("quantized", "product 1024 × 1024 × 1024", 0.6, 0.4),
    ("quantized", "product 3136 × 64 × 64", 0.45, 0.3),
    ("quantized", "convolution 56² 64→64 3×3/1", 0.6, 0.4),
    ("quantized", "depthwise 56² 144→144 3×3/1", 0.12, 0.1),
    ("elementwise", "Relu", 0.4, 0.4),
    ("elementwise", "Silu", 0.15, 0.08),
    ("elementwise", "Gelu", 0.13, 0.1),
    ("elementwise", "Add of equal shapes", 0.4, 0.4),
    ("elementwise", "softmax of rows of 128", 0.1, 0.06),
    ("elementwise", "layer normalization of rows of 512", 0.2, 0.18),
    ("movement", "transpose [1, 64, 3136] by [0, 2, 1], 4 bytes", 0.2, 0.15),
    ("movement", "transpose [1, 3136, 64] by [0, 2, 1], 4 bytes", 0.2, 0.15),
    ("movement", "maximum 112² x 64, 3 x 3, stride 2", 0.2, 0.15),
];
