//! The ways to compute a convolution.

use optimium_simd::Level;

use super::parameters::Parameters;
use super::winograd::{self, Edge};
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
    /// Winograd's F(2×2, 3×3): 3×3 taps, stride one, no dilation, no groups.
    Winograd2,
    /// Winograd's F(4×4, 3×3): the same.
    Winograd4,
}

impl Algorithm {
    /// Whether the weights are transformed ahead, which takes longer than to use them for a few images.
    pub fn transforms_weights(self) -> bool {
        matches!(self, Algorithm::Winograd2 | Algorithm::Winograd4)
    }

    /// Whether it can compute that convolution.
    pub fn serves(self, parameters: &Parameters) -> bool {
        match self {
            Algorithm::Pointwise => parameters.kernel == [1, 1],
            Algorithm::Rows => parameters.groups == 1 && parameters.dilation[1] == 1,
            Algorithm::Taps => true,
            Algorithm::Winograd2 | Algorithm::Winograd4 => {
                let ones = [parameters.stride, parameters.dilation].concat().iter().all(|&one| one == 1);
                parameters.kernel == [3, 3] && ones && parameters.groups == 1
            }
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Algorithm::Pointwise => "pointwise",
            Algorithm::Rows => "rows",
            Algorithm::Taps => "taps",
            Algorithm::Winograd2 => "winograd F(2x2)",
            Algorithm::Winograd4 => "winograd F(4x4)",
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

/// The images that a convolution is chosen for; it serves all others as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Images {
    /// Number of images.
    pub batch: usize,
    /// Height and width of the output.
    pub output: [usize; 2],
}

impl Images {
    /// Output pixels of all images.
    pub(super) fn pixels(&self) -> usize {
        self.batch.saturating_mul(self.output[0]).saturating_mul(self.output[1])
    }
}

impl Default for Images {
    /// What is assumed where nothing is known.
    fn default() -> Images {
        Images { batch: 1, output: [14, 14] }
    }
}

/// The pixels of [`Images::default`].
pub(super) const TYPICAL_PIXELS: usize = 196;
/// Cycles to go from one piece of a left row to the next, for a whole register tile.
const RUN_OVERHEAD: f64 = 6.0;
/// Cycles to copy one vector of the image.
const COPY: f64 = 1.0;

/// The ways to compute that convolution at `level` for such images, the cheapest first.
pub fn candidates(level: Level, parameters: &Parameters, images: &Images) -> Vec<Candidate> {
    let all =
        [Algorithm::Pointwise, Algorithm::Rows, Algorithm::Taps, Algorithm::Winograd2, Algorithm::Winograd4];
    let pixels = images.pixels().max(1);
    let cost = |algorithm| match algorithm {
        Algorithm::Winograd2 => winograd::cost(level, parameters, Edge::Two, images),
        Algorithm::Winograd4 => winograd::cost(level, parameters, Edge::Four, images),
        _ => direct_cost(level, parameters, algorithm, pixels),
    };
    let mut all: Vec<Candidate> = all
        .into_iter()
        .filter(|algorithm| algorithm.serves(parameters))
        .map(|algorithm| Candidate { algorithm, cost: cost(algorithm) / pixels as f64 })
        .collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}

/// The cheapest way to compute that convolution at `level` for such images.
pub fn pick(level: Level, parameters: &Parameters, images: &Images) -> Algorithm {
    candidates(level, parameters, images)[0].algorithm
}

/// Cycles for so many output pixels.
fn direct_cost(level: Level, parameters: &Parameters, algorithm: Algorithm, pixels: usize) -> f64 {
    let taps = parameters.kernel[0] * parameters.kernel[1];
    let (n, k) = (parameters.group_outputs(), taps * parameters.group_inputs());
    let best = gemm::candidates(level, &gemm::Problem { m: pixels, n, k })[0];
    let product = parameters.groups as f64 * best.cost;
    let tiles =
        (parameters.groups * best.layout.panels()) as f64 * pixels.div_ceil(best.layout.tile.rows) as f64;
    let copied = parameters.input_channels.div_ceil(best.layout.lanes()) as f64
        * pixels as f64
        * parameters.stride.iter().product::<usize>() as f64;
    let pieces = match algorithm {
        Algorithm::Pointwise => return product,
        Algorithm::Rows => parameters.kernel[0],
        _ => taps,
    };
    product + pieces as f64 * tiles * RUN_OVERHEAD + copied * COPY
}
