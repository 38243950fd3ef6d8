//! The ways to compute a convolution.

use optimium_simd::Level;

use super::one_output::OneOutput;
use super::parameters::Parameters;
use super::sliding::Sliding;
use super::strassen;
use super::visible::visible_taps;
use super::winograd::{self, Edge};
use crate::gemm;

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// One matrix product over the pixels: kernels of one tap.
    Pointwise,
    /// The same with [seven multiplications of quarters](gemm::gemm_strassen()): stride one, no groups, even numbers of channels.
    Strassen,
    /// Products over the contiguous lines of taps under the kernel: no groups, no dilation across.
    Rows,
    /// Products over the channels of each tap: everything.
    Taps,
    /// A line of sums that the kernel slides along: few input channels in every group.
    Sliding,
    /// Sums of neighbouring pixels, each over the lanes of a vector: one output channel.
    OneOutput,
    /// Winograd's F(2×2, 3×3): 3×3 taps, stride one, no groups.
    Winograd2,
    /// Winograd's F(4×4, 3×3): the same.
    Winograd4,
}

impl Algorithm {
    /// Whether the weights are transformed ahead, which takes longer than to use them for a few images.
    pub fn transforms_weights(self) -> bool {
        matches!(self, Algorithm::Strassen | Algorithm::Winograd2 | Algorithm::Winograd4)
    }

    /// Whether it can compute that convolution.
    pub fn serves(self, parameters: &Parameters) -> bool {
        match self {
            Algorithm::Pointwise => parameters.kernel == [1, 1],
            Algorithm::Strassen => strassen::serves(parameters),
            Algorithm::Rows => parameters.groups == 1 && parameters.dilation[1] == 1,
            Algorithm::Taps => true,
            Algorithm::Sliding => Sliding::serves(parameters),
            Algorithm::OneOutput => OneOutput::serves(parameters),
            Algorithm::Winograd2 | Algorithm::Winograd4 => {
                parameters.kernel == [3, 3] && parameters.stride == [1, 1] && parameters.groups == 1
            }
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Algorithm::Pointwise => "pointwise",
            Algorithm::Strassen => "strassen",
            Algorithm::Rows => "rows",
            Algorithm::Taps => "taps",
            Algorithm::Sliding => "sliding",
            Algorithm::OneOutput => "one output",
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
    pub(crate) fn pixels(&self) -> usize {
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
    let all = [
        Algorithm::Pointwise,
        Algorithm::Strassen,
        Algorithm::Rows,
        Algorithm::Taps,
        Algorithm::Sliding,
        Algorithm::OneOutput,
        Algorithm::Winograd2,
        Algorithm::Winograd4,
    ];
    let pixels = images.pixels().max(1);
    let cost = |algorithm| match algorithm {
        Algorithm::Strassen => strassen_products(level, parameters, images).first().map(|one| one.cost),
        Algorithm::Winograd2 => Some(winograd::cost(level, parameters, Edge::Two, images)),
        Algorithm::Winograd4 => Some(winograd::cost(level, parameters, Edge::Four, images)),
        Algorithm::Sliding => Some(pixels as f64 * Sliding::cost(level, parameters)),
        Algorithm::OneOutput => {
            let lines = images.batch.saturating_mul(images.output[0]).max(1);
            Some(lines as f64 * OneOutput::cost(level, parameters, images.output[1].max(1)))
        }
        _ => Some(direct_cost(level, parameters, algorithm, images)),
    };
    let candidate = |algorithm| Some(Candidate { algorithm, cost: cost(algorithm)? / pixels as f64 });
    let mut all: Vec<Candidate> =
        all.into_iter().filter(|algorithm| algorithm.serves(parameters)).filter_map(candidate).collect();
    all.sort_by(|a, b| a.cost.total_cmp(&b.cost));
    all
}

/// The cheapest way to compute that convolution at `level` for such images.
pub fn pick(level: Level, parameters: &Parameters, images: &Images) -> Algorithm {
    candidates(level, parameters, images)[0].algorithm
}

/// The layouts that the products of `candidate` could take, each with the estimated cost of an output pixel, the cheapest first;
/// none where the algorithm has one form.
pub fn layouts(
    level: Level,
    parameters: &Parameters,
    candidate: &Candidate,
    images: &Images,
) -> Vec<(gemm::Layout, f64)> {
    let pixels = images.pixels().max(1);
    let winograd = |edge: Edge| {
        let (tiles, blocks) = winograd::blocks_of(parameters, edge, images);
        let (n, k) = (parameters.output_channels, parameters.input_channels);
        let problem = gemm::Problem { m: tiles.div_ceil(blocks), n, k };
        (problem, (edge.points() * blocks) as f64)
    };
    let (problem, times) = match candidate.algorithm {
        Algorithm::Sliding | Algorithm::OneOutput => return Vec::new(),
        Algorithm::Strassen => {
            let all = strassen_products(level, parameters, images).into_iter();
            return all.map(|one| (one.layout, one.cost / pixels as f64)).collect();
        }
        Algorithm::Winograd2 => winograd(Edge::Two),
        Algorithm::Winograd4 => winograd(Edge::Four),
        _ => {
            let k = parameters.kernel[0] * parameters.kernel[1] * parameters.group_inputs();
            let problem = gemm::Problem { m: pixels, n: parameters.group_outputs(), k };
            (problem, parameters.groups as f64 * visible_share(parameters, images))
        }
    };
    let all = match candidate.algorithm {
        Algorithm::Winograd2 | Algorithm::Winograd4 => gemm::plain_candidates(level, &problem),
        _ => products(level, parameters, &problem),
    };
    let further = |one: &gemm::Candidate| (one.cost - all[0].cost) * times / pixels as f64;
    all.iter().map(|one| (one.layout, candidate.cost + further(one))).collect()
}

/// Pixels for which weights that are larger by three quarters are worth their memory.
const STRASSEN_PIXELS: usize = 128;
/// Bytes of pixels that a cycle brings or takes while no products are computed: their sums are formed before, block by block.
const PIXEL_BYTES_PER_CYCLE: f64 = 15.0;

/// The products of [`Algorithm::Strassen`], the cheapest first; none for few pixels.
fn strassen_products(level: Level, parameters: &Parameters, images: &Images) -> Vec<gemm::Candidate> {
    let (m, n, k) = (images.pixels(), parameters.output_channels, parameters.input_channels);
    if m < STRASSEN_PIXELS {
        return Vec::new();
    }
    let mut all = gemm::candidates_strassen(level, &gemm::Problem { m, n, k });
    let moved = (m as f64 * (n + k) as f64 * size_of::<f32>() as f64) / PIXEL_BYTES_PER_CYCLE;
    all.iter_mut().for_each(|candidate| candidate.cost += moved);
    all
}

/// The ways to compute a product of the convolution, the cheapest first.
fn products(level: Level, parameters: &Parameters, problem: &gemm::Problem) -> Vec<gemm::Candidate> {
    let mut all = gemm::candidates(level, problem);
    // Rows of one tap are one piece, others begin at every tap.
    if parameters.kernel != [1, 1] {
        all.retain(|candidate| parameters.group_inputs().is_multiple_of(candidate.layout.group()));
    }
    all
}

/// Cycles for so many output pixels.
fn direct_cost(level: Level, parameters: &Parameters, algorithm: Algorithm, images: &Images) -> f64 {
    let pixels = images.pixels().max(1);
    let taps = parameters.kernel[0] * parameters.kernel[1];
    let (n, k) = (parameters.group_outputs(), taps * parameters.group_inputs());
    let best = products(level, parameters, &gemm::Problem { m: pixels, n, k })[0];
    let product = parameters.groups as f64 * best.cost * visible_share(parameters, images);
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

/// The share of the taps that are computed, of those of dilated kernels that lie outside of the images.
pub(super) fn visible_share(parameters: &Parameters, images: &Images) -> f64 {
    if parameters.dilation == [1, 1] {
        return 1.0;
    }
    let share =
        |axis: usize| visible_taps(parameters, images.output[axis], axis) / parameters.kernel[axis] as f64;
    share(0) * share(1)
}
