//! What a convolution costs by its steps.

use optimium_simd::Level;

use super::super::choice::Images;
use super::super::parameters::Parameters;
use super::{Edge, block_tiles};
use crate::gemm::{self, Problem};

/// Cycles of one core that the steps take for one tile, and the weights for a pass over them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Estimate {
    /// Transforming a tile's inputs.
    input: f64,
    /// Multiplying all points by all columns.
    products: f64,
    /// Transforming a tile's products back, and storing the outputs.
    output: f64,
    /// Reading the weights of all points from memory.
    weights: f64,
    /// Reading them again from the shared cache, for the tiles of another block.
    weights_again: f64,
}

/// Cycles to transform a vector of inputs, to and from the second-level cache, and a vector of outputs, on a processor that
/// executes two vector operations in a cycle.
const INPUT_TWO: f64 = 55.0;
const OUTPUT_TWO: f64 = 45.0;
const INPUT_FOUR: f64 = 180.0;
const OUTPUT_FOUR: f64 = 110.0;
/// Bytes that a core reads in a cycle from memory and from the cache that all cores share. Networks have more weights than the
/// caches hold, so that those of a layer are gone when it runs again.
const MEMORY_BYTES: f64 = 8.0;
const SHARED_CACHE_BYTES: f64 = 24.0;

impl Estimate {
    /// For blocks of so many tiles.
    pub(super) fn new(level: Level, parameters: &Parameters, edge: Edge, block: usize) -> Estimate {
        let (k, n) = (parameters.input_channels, parameters.output_channels);
        let product = gemm::plain_candidates(level, &Problem { m: block, n, k })[0];
        let halves = level >= Level::Avx512 && gemm::executes_in_halves();
        let vectors =
            |channels: usize| channels.div_ceil(level.lanes()) as f64 * if halves { 2.0 } else { 1.0 };
        let (input, output) = match edge {
            Edge::Two => (INPUT_TWO, OUTPUT_TWO),
            Edge::Four => (INPUT_FOUR, OUTPUT_FOUR),
        };
        let bytes = (edge.points() * product.layout.len() * size_of::<f32>()) as f64;
        Estimate {
            input: input * vectors(k),
            products: edge.points() as f64 * product.cost / block.max(1) as f64,
            output: output * vectors(n),
            weights: bytes / MEMORY_BYTES,
            weights_again: bytes / SHARED_CACHE_BYTES,
        }
    }

    /// Cycles for `tiles` tiles in `blocks` blocks, and that part of the columns.
    pub(super) fn cycles(&self, tiles: usize, blocks: usize, columns: f64) -> f64 {
        let count = tiles as f64;
        let weights = self.weights + self.weights_again * blocks.saturating_sub(1) as f64;
        let products = (self.products * count).max(weights) * columns;
        products + (self.input + self.output * columns) * count
    }
}

/// Cycles for all of such images.
pub(in super::super) fn cost(level: Level, parameters: &Parameters, edge: Edge, images: &Images) -> f64 {
    let (tiles, blocks) = blocks_of(parameters, edge, images);
    Estimate::new(level, parameters, edge, tiles.div_ceil(blocks)).cycles(tiles, blocks, 1.0)
}

/// The tiles of such images, of which there is one at least, and the blocks that they are worked off in.
pub(in super::super) fn blocks_of(parameters: &Parameters, edge: Edge, images: &Images) -> (usize, usize) {
    let tiles_of = |axis: usize| {
        let phases = parameters.dilation[axis].min(images.output[axis].max(1));
        images.output[axis].div_ceil(phases).div_ceil(edge.outputs()).max(1).saturating_mul(phases)
    };
    let [down, across] = [0, 1].map(tiles_of);
    let tiles = images.batch.max(1).saturating_mul(down).saturating_mul(across);
    (tiles, tiles.div_ceil(block_tiles(edge, parameters.input_channels, parameters.output_channels)))
}
