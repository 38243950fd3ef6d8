//! The ways to compute a convolution.

use optimium_simd::Level;

use super::parameters::Parameters;
use crate::gemm;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// One matrix product over the pixels: kernels of one tap.
    Pointwise,
    /// Products over the contiguous lines of taps under the kernel: no groups, no dilation across.
    Rows,
    /// Products over the channels of each tap: everything.
    Taps,
}

impl Algorithm {
    /// Whether it can compute that convolution.
    pub fn serves(self, parameters: &Parameters) -> bool {
        match self {
            Algorithm::Pointwise => parameters.kernel == [1, 1],
            Algorithm::Rows => parameters.groups == 1 && parameters.dilation[1] == 1,
            Algorithm::Taps => true,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Algorithm::Pointwise => "pointwise",
            Algorithm::Rows => "rows",
            Algorithm::Taps => "taps",
        })
    }
}

/// One way to compute a convolution.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The way.
    pub algorithm: Algorithm,
    /// Estimated cost of an output pixel in cycles of one core; only the order means anything.
    pub cost: f64,
}

impl std::fmt::Display for Candidate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, cost {:.1} a pixel", self.algorithm, self.cost)
    }
}

/// The pixels that are assumed where nothing is known of the images.
pub(super) const TYPICAL_PIXELS: usize = 196;
/// Cycles to go from one piece of a left row to the next, for a whole register tile.
const RUN_OVERHEAD: f64 = 6.0;
/// Cycles to copy one vector of the image.
const COPY: f64 = 1.0;

/// The ways to compute that convolution at `level`, the cheapest first.
pub fn candidates(level: Level, parameters: &Parameters) -> Vec<Candidate> {
    let taps = parameters.kernel[0] * parameters.kernel[1];
    let problem = gemm::Problem {
        m: TYPICAL_PIXELS,
        n: parameters.group_outputs(),
        k: taps * parameters.group_inputs(),
    };
    let best = gemm::candidates(level, &problem)[0];
    let product = parameters.groups as f64 * best.cost / TYPICAL_PIXELS as f64;
    let tiles = (parameters.groups * best.layout.panels()) as f64 / best.layout.tile.rows as f64;
    let copied =
        parameters.input_channels.div_ceil(best.layout.lanes()) * parameters.stride.iter().product::<usize>();
    let cost = |algorithm| match algorithm {
        Algorithm::Pointwise => product,
        Algorithm::Rows => {
            product + parameters.kernel[0] as f64 * tiles * RUN_OVERHEAD + copied as f64 * COPY
        }
        Algorithm::Taps => product + taps as f64 * tiles * RUN_OVERHEAD + copied as f64 * COPY,
    };
    let mut all: Vec<Candidate> = [Algorithm::Pointwise, Algorithm::Rows, Algorithm::Taps]
        .into_iter()
        .filter(|algorithm| algorithm.serves(parameters))
        .map(|algorithm| Candidate { algorithm, cost: cost(algorithm) })
        .collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}

/// The cheapest way to compute that convolution at `level`.
pub fn pick(level: Level, parameters: &Parameters) -> Algorithm {
    candidates(level, parameters)[0].algorithm
}
