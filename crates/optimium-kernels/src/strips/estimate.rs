//! What a chain costs.

use optimium_simd::Level;

use super::walk::lines_at_once;
use crate::conv::{Images, Parameters};
use crate::gemm::{self, Problem, candidates_bf16};

/// A chain as it is to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The depthwise convolution.
    pub depthwise: Parameters,
    /// Input channels of the convolution before it, where there is one.
    pub expanded_from: Option<usize>,
    /// Output channels of the convolution behind it, where there is one.
    pub projected_to: Option<usize>,
    /// The output of the depthwise convolution.
    pub images: Images,
    /// Whether all tensors are bfloat16.
    pub rounded: bool,
}

/// What of a chain is computed by strips.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// Nothing: one convolution after the other.
    Apart,
    /// The first convolution and the depthwise one.
    First,
    /// The depthwise convolution and the last one.
    Last,
    /// All three.
    All,
}

impl Form {
    /// Whether the convolution before the depthwise one is computed with it.
    pub fn expands(self) -> bool {
        matches!(self, Form::First | Form::All)
    }

    /// Whether the convolution behind the depthwise one is computed with it.
    pub fn projects(self) -> bool {
        matches!(self, Form::Last | Form::All)
    }
}

impl std::fmt::Display for Form {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Form::Apart => "one by one",
            Form::First => "strips of the first two",
            Form::Last => "strips of the last two",
            Form::All => "strips of all",
        })
    }
}

/// Bytes of a core's share of a tensor that are written and read again at no cost worth counting, since caches hold most of them
/// and the rest is prefetched; and from where on all of them cost.
const KEPT_BYTES: f64 = (3 << 19) as f64;
const LOST_BYTES: f64 = (9 << 19) as f64;
/// Bytes of lines between that stay in the second-level cache.
const ROOM_BYTES: f64 = (768 << 10) as f64;
/// Bytes that a cycle brings to the cache that cores share, and back.
const SHARED_CACHE_BYTES: f64 = 10.0;
/// Bytes of weights that a cycle brings from the second-level cache, as far as it is not hidden behind products.
const WEIGHT_BYTES: f64 = 48.0;
/// Cycles to begin a strip of a product, and what its multiply-adds cost more than those of all pixels at once.
const STRIP: f64 = 1000.0;
const IN_STRIPS: f64 = 1.02;
/// Share of the multiply-adds of a processor that a depthwise convolution reaches.
const DEPTHWISE: f64 = 0.5;

impl Chain {
    /// Cycles that each of `parts` workers takes, with [`candidates`](crate::conv::candidates) on the same scale.
    pub fn cost(&self, level: Level, form: Form, parts: usize) -> f64 {
        let parts = parts.max(1);
        let share = 1.0 / parts as f64;
        let strip = self.strip(parts);
        let expand = match self.expanded_from {
            Some(_) if form.expands() => strip.expand(self, level),
            Some(from) => {
                self.product(level, [from, self.depthwise.input_channels], self.input_pixels()) * share
            }
            None => 0.0,
        };
        let project = match self.projected_to {
            Some(_) if form.projects() => strip.project(self, level),
            Some(to) => {
                self.product(level, [self.depthwise.output_channels, to], self.output_pixels()) * share
            }
            None => 0.0,
        };
        let moved = |pixels: usize, apart: bool| {
            let bytes = (pixels * self.depthwise.input_channels * self.element()) as f64 * share;
            let lost = ((bytes - KEPT_BYTES) / (LOST_BYTES - KEPT_BYTES)).clamp(0.0, 1.0);
            if apart { lost * bytes / SHARED_CACHE_BYTES } else { 0.0 }
        };
        let before = moved(self.input_pixels(), self.expanded_from.is_some() && !form.expands());
        let behind = moved(self.output_pixels(), self.projected_to.is_some() && !form.projects());
        let depthwise = self.depthwise_cycles(level) * share;
        let around = if form == Form::Apart { 0.0 } else { strip.outgrown(self, form) };
        expand + project + before + behind + depthwise + around
    }

    /// Pixels of the input and of the output.
    pub fn pixels(&self) -> [usize; 2] {
        [self.input_pixels(), self.output_pixels()]
    }

    fn element(&self) -> usize {
        if self.rounded { 2 } else { 4 }
    }

    fn input_size(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.images.output[axis] * self.depthwise.stride[axis])
    }

    fn input_pixels(&self) -> usize {
        self.images.batch * self.input_size().iter().product::<usize>()
    }

    fn output_pixels(&self) -> usize {
        self.images.batch * self.images.output.iter().product::<usize>()
    }

    /// Cycles of a product of so many pixels.
    fn product(&self, level: Level, [k, n]: [usize; 2], m: usize) -> f64 {
        let problem = Problem { m, n, k };
        let all =
            if self.rounded { candidates_bf16(level, &problem) } else { gemm::candidates(level, &problem) };
        all[0].cost
    }

    fn depthwise_cycles(&self, level: Level) -> f64 {
        let vectors = self.depthwise.output_channels.div_ceil(level.lanes()) as f64;
        let halves = level >= Level::Avx512 && gemm::executes_in_halves();
        let unit = if halves { 1.0 } else { 0.5 };
        let taps = self.depthwise.kernel.iter().product::<usize>() as f64;
        self.output_pixels() as f64 * vectors * taps * unit / DEPTHWISE
    }

    /// The strips of a worker's part.
    fn strip(&self, parts: usize) -> StripSizes {
        let [height, width] = self.images.output;
        let (kernel, stride) = (self.depthwise.kernel[0], self.depthwise.stride[0]);
        let lines = (self.images.batch * height).div_ceil(parts);
        let at_once = lines_at_once(self.images.output);
        let count = lines.div_ceil(at_once).max(1);
        // Lines that parts beside each other both compute; the first and the last part have one neighbour.
        let shared = kernel.saturating_sub(stride);
        let edge = [0, 0, shared.div_ceil(2)].get(parts).copied().unwrap_or(shared);
        let [input_lines, input_width] = self.input_size();
        let covered = (lines * stride + edge).min(self.images.batch * input_lines);
        StripSizes {
            count: count as f64,
            input: (covered * input_width).div_ceil(count),
            output: (lines * width).div_ceil(count),
            ring: ((at_once - 1) * stride + kernel) * input_width,
            lines: at_once * width,
        }
    }
}

/// Pixels of a strip, about.
struct StripSizes {
    /// Strips of a worker.
    count: f64,
    /// Pixels that the first product computes anew.
    input: usize,
    /// Pixels of the output.
    output: usize,
    /// Pixels of the ring.
    ring: usize,
    /// Pixels between the depthwise convolution and the last product.
    lines: usize,
}

impl StripSizes {
    fn expand(&self, chain: &Chain, level: Level) -> f64 {
        let from = chain.expanded_from.unwrap_or(0);
        self.products(chain, level, [from, chain.depthwise.input_channels], self.input)
    }

    fn project(&self, chain: &Chain, level: Level) -> f64 {
        let to = chain.projected_to.unwrap_or(0);
        self.products(chain, level, [chain.depthwise.output_channels, to], self.output)
    }

    fn products(&self, chain: &Chain, level: Level, channels: [usize; 2], pixels: usize) -> f64 {
        let weights = (channels[0] * channels[1] * chain.element()) as f64;
        self.count * (STRIP + IN_STRIPS * chain.product(level, channels, pixels) + weights / WEIGHT_BYTES)
    }

    /// Cycles for what of the tensors between does not stay in the cache even so.
    fn outgrown(&self, chain: &Chain, form: Form) -> f64 {
        let ring = if form.expands() { self.ring } else { 0 };
        let lines = if form.projects() { self.lines } else { 0 };
        let channels = chain.depthwise.input_channels;
        let bytes = ((ring + lines) * channels * chain.element()) as f64;
        let lost = (bytes / ROOM_BYTES - 1.0).clamp(0.0, 1.0);
        let moved = self.input.max(self.output) * channels * chain.element();
        lost * self.count * moved as f64 / SHARED_CACHE_BYTES
    }
}
