//! Convolutions of 3×3 taps by Winograd's minimal filtering.
//!
//! A tile of `M × M` output pixels is computed from the `N × N` patch of the image under it, `N = M + 2`: the patch
//! is transformed into `N²` points, each point is multiplied by the weights' matrix of that point, and the
//! products are transformed back. With dilated taps, the pixels that lie so far apart make images of their own.
//! That takes `(N / M)²` multiplications an output instead of 9. The images' tiles are worked off in blocks, whose
//! points stay in the second-level cache.
//!
//! | file | |
//! |---|---|
//! | `transform` | the transforms of one axis |
//! | `weights` | the matrices of all points |
//! | `tiles` | how images are cut into tiles |
//! | `block` | how the points of a block lie |
//! | `estimate` | what it costs |
//! | `input`, `output` | the transforms of tiles |

mod block;
mod estimate;
mod input;
mod output;
mod tiles;
mod transform;
mod weights;

use std::marker::PhantomData;
use std::ops::Range;

use optimium_simd::Level;

use super::choice::Images;
use super::parameters::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::gemm::run::Product;
use crate::gemm::{self, Layout, Lines, Problem, Run};
use crate::{Packed, Packing, Part, SharedSlice};
use block::Points;
use estimate::Estimate;
pub(super) use estimate::blocks_of;
pub(super) use estimate::cost;
use input::InputTransform;
use output::OutputTransform;
use tiles::Tiles;
use transform::{Four, Transform, Two};

/// How large the tiles are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Edge {
    /// 2×2 output pixels, F(2×2, 3×3).
    Two,
    /// 4×4 output pixels, F(4×4, 3×3).
    Four,
}

impl Edge {
    /// Output pixels of an edge of a tile.
    fn outputs(self) -> usize {
        match self {
            Edge::Two => 2,
            Edge::Four => 4,
        }
    }

    /// Points of a tile.
    pub(super) fn points(self) -> usize {
        (self.outputs() + 2).pow(2)
    }
}

/// A convolution of 3×3 taps, stride one, without groups.
#[derive(Clone, Debug)]
pub(super) struct Winograd {
    level: Level,
    edge: Edge,
    dilation: [usize; 2],
    layout: Layout,
    /// The packed matrices of all points.
    weights: Packed<f32>,
    estimate: Estimate,
}

/// One call of [`Winograd::run`].
struct Job<'a> {
    geometry: &'a Geometry,
    x: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    y: SharedSlice<'a, f32>,
    tiles: Tiles,
    panels: Range<usize>,
    /// The output channels of the panels.
    channels: Range<usize>,
}

/// The scratch memory of one call.
struct Scratch<'a> {
    zeros: &'a [f32],
    inputs: &'a mut [f32],
    products: &'a mut [f32],
}

/// Bytes of a block's points that stay in the second-level cache.
const BLOCK_BYTES: usize = 640 << 10;
/// Tiles of a block that make reading the weights worth while, at least.
const BLOCK_TILES: usize = 24;

impl Winograd {
    /// Transforms and packs `weights`, `[output channels, input channels, 3, 3]`, for images of about that size,
    /// where `packing` says, by `layout` or else by the cheapest one.
    pub(super) fn new(
        level: Level,
        parameters: &Parameters,
        edge: Edge,
        weights: &[f32],
        images: &Images,
        layout: Option<Layout>,
        packing: &Packing,
    ) -> Winograd {
        let (tiles, blocks) = blocks_of(parameters, edge, images);
        let block = tiles.div_ceil(blocks);
        let (n, k) = (parameters.output_channels, parameters.input_channels);
        let layout = layout.unwrap_or_else(|| gemm::pick(level, &Problem { m: block, n, k }));
        assert!((layout.n, layout.k) == (n, k), "{layout} for {k} to {n} channels");
        let form = format_args!("winograd {edge:?}, {layout}");
        let weights = packing.block(form, edge.points() * layout.len(), |out| match edge {
            Edge::Two => weights::pack::<Two, 4, 2>(level, &layout, weights, out),
            Edge::Four => weights::pack::<Four, 6, 4>(level, &layout, weights, out),
        });
        let estimate = Estimate::new(level, parameters, edge, block);
        Winograd { level, edge, dilation: parameters.dilation, layout, weights, estimate }
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub(super) fn scratch_len(&self, geometry: &Geometry) -> usize {
        let tiles = self.tiles(geometry).count();
        if tiles == 0 {
            return 0;
        }
        let [inputs, products] = self.points(tiles.min(self.block_tiles()));
        let points = self.edge.points();
        self.zeros_len() + inputs.len(points) + products.len(points)
    }

    /// See [`Convolution::run`](super::Convolution::run); sizes are checked, and there is an output.
    pub(super) fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        let tiles = self.tiles(geometry);
        let (range, panels) = self.share(part, tiles.count());
        if range.is_empty() || panels.is_empty() {
            return;
        }
        let last = self.layout.panel(panels.end - 1);
        let channels = self.layout.panel(panels.start).column..last.column + last.columns;
        let job = Job { geometry, x, epilogue, y, tiles, panels, channels };
        match self.edge {
            Edge::Two => self.run_tiles::<Two, 4, 2>(&job, range, scratch),
            Edge::Four => self.run_tiles::<Four, 6, 4>(&job, range, scratch),
        }
    }

    /// How such images are cut.
    fn tiles(&self, geometry: &Geometry) -> Tiles {
        Tiles::new(geometry, self.dilation, self.edge.outputs())
    }

    /// This part's tiles and panels. Where each part has all tiles and some of the panels, it transforms all inputs itself,
    /// but reads its own weights only.
    fn share(&self, part: Part, tiles: usize) -> (Range<usize>, Range<usize>) {
        let panels = self.layout.panels();
        let cycles = |tiles: usize, columns: f64| {
            self.estimate.cycles(tiles, tiles.div_ceil(self.block_tiles()), columns)
        };
        let by_tiles = cycles(tiles.div_ceil(part.count), 1.0);
        let by_panels = cycles(tiles, panels.div_ceil(part.count) as f64 / panels as f64);
        if by_panels < by_tiles { (0..tiles, part.range(panels)) } else { (part.range(tiles), 0..panels) }
    }

    /// The tiles of `range` in balanced blocks.
    fn run_tiles<T: Transform<N, M>, const N: usize, const M: usize>(
        &self,
        job: &Job,
        range: Range<usize>,
        scratch: &mut [f32],
    ) {
        let blocks = Part { index: 0, count: range.len().div_ceil(self.block_tiles()) };
        let layouts = self.points(blocks.range(range.len()).len());
        let (zeros, points) = scratch.split_at_mut(self.zeros_len());
        zeros.fill(0.0);
        let (inputs, products) = points.split_at_mut(layouts[0].len(N * N));
        let mut scratch = Scratch { zeros, inputs, products };
        for index in 0..blocks.count {
            let block = Part { index, ..blocks }.range(range.len());
            let block = range.start + block.start..range.start + block.end;
            let last = index + 1 == blocks.count;
            self.run_block::<T, N, M>(job, block, layouts, &mut scratch, last);
        }
    }

    /// The tiles of one block, which may be the last one.
    fn run_block<T: Transform<N, M>, const N: usize, const M: usize>(
        &self,
        job: &Job,
        block: Range<usize>,
        [inputs, products]: [Points; 2],
        scratch: &mut Scratch,
        last: bool,
    ) {
        self.level.run(InputTransform::<T, N, M> {
            transform: PhantomData,
            tiles: &job.tiles,
            range: block.clone(),
            channels: self.layout.k,
            x: job.x,
            stride: job.geometry.input_stride,
            zeros: scratch.zeros,
            points: scratch.inputs,
            layout: inputs,
        });
        for point in 0..N * N {
            let following: &[f32] = match point + 1 {
                next if next < N * N => self.panel(next, job.panels.start),
                // The next layer's weights would replace the products, which are read once more.
                _ if last => &[],
                _ => self.panel(0, job.panels.start),
            };
            self.multiply(job, point, block.len(), [inputs, products], scratch, following);
        }
        self.level.run(OutputTransform::<T, N, M> {
            transform: PhantomData,
            tiles: &job.tiles,
            range: block,
            channels: job.channels.clone(),
            points: scratch.products,
            layout: products,
            epilogue: job.epilogue,
            y: job.y,
            stride: job.geometry.output_stride,
        });
    }

    /// The packed matrix of one point.
    fn matrix(&self, point: usize) -> &[f32] {
        &self.weights[point * self.layout.len()..][..self.layout.len()]
    }

    /// A panel of that matrix.
    fn panel(&self, point: usize, index: usize) -> &[f32] {
        let panel = self.layout.panel(index);
        &self.matrix(point)[panel.offset..][..self.layout.panel_len(panel)]
    }

    /// The panel that a part reads first.
    pub(super) fn first_panel(&self, geometry: &Geometry, part: Part) -> &[f32] {
        let (tiles, panels) = self.share(part, self.tiles(geometry).count());
        if tiles.is_empty() || panels.is_empty() { &[] } else { self.panel(0, panels.start) }
    }

    /// The products of one point of `tiles` tiles, while what follows is fetched.
    fn multiply(
        &self,
        job: &Job,
        point: usize,
        tiles: usize,
        [inputs, products]: [Points; 2],
        scratch: &mut Scratch,
        following: &[f32],
    ) {
        let left = &scratch.inputs[point * inputs.point_stride..][..inputs.point_stride];
        let result = &mut scratch.products[point * products.point_stride..][..products.point_stride];
        let product = Product {
            layout: &self.layout,
            packed: self.matrix(point),
            following,
            a: left.as_ptr(),
            left: Lines::straight(inputs.tile_stride),
            runs: &[Run::default()],
            run_length: self.layout.k,
            row_len: self.layout.k,
            result: Lines::straight(1),
            c: result.as_mut_ptr(),
            c_stride: products.tile_stride,
            column: 0,
            epilogue: &Epilogue::default(),
            single_row: false,
        };
        // SAFETY: a point has a row of all channels for each tile of the block, on both sides.
        unsafe { product.run(0..tiles, job.panels.clone()) };
    }

    /// Elements of zeros for the pixels outside of the image.
    fn zeros_len(&self) -> usize {
        Points::new(1, self.layout.k).channels
    }

    /// How the points of that many tiles lie, before and after the products.
    fn points(&self, tiles: usize) -> [Points; 2] {
        [self.layout.k, self.layout.n].map(|channels| Points::new(tiles, channels))
    }

    /// Tiles of a block, at most.
    fn block_tiles(&self) -> usize {
        block_tiles(self.edge, self.layout.k, self.layout.n)
    }
}

/// Tiles of a block, at most, for so many channels.
fn block_tiles(edge: Edge, inputs: usize, outputs: usize) -> usize {
    let tile = edge.points() * (inputs + outputs) * size_of::<f32>();
    (BLOCK_BYTES / tile.max(1)).max(BLOCK_TILES)
}

#[cfg(test)]
mod tests {
    use super::super::convolution::Convolution;
    use super::super::reference::Case;
    use super::super::{Algorithm, Images};
    use super::*;
    use crate::activation::Activation;
    use crate::epilogue::Residual;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    const BOTH: [Algorithm; 2] = [Algorithm::Winograd2, Algorithm::Winograd4];

    /// A convolution of images with `padding` zeros on all sides.
    fn case(batch: usize, input: [usize; 2], padding: usize, channels: [usize; 2], gaps: [usize; 2]) -> Case {
        let parameters = Parameters {
            input_channels: channels[0],
            output_channels: channels[1],
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 1,
        };
        let output = input.map(|size| size + 2 * padding - 2);
        let geometry =
            Geometry { batch, input, output, padding: [padding; 2], input_stride: 0, output_stride: 0 };
        Case::new(parameters, geometry, gaps)
    }

    fn prepared(level: Level, case: &Case, algorithm: Algorithm) -> Convolution {
        let (images, packing) = (Images::default(), Packing::default());
        Convolution::new(level, &case.parameters, algorithm, &case.weights, &images, &packing)
    }

    fn run(convolution: &Convolution, case: &Case, epilogue: &Epilogue, parts: usize) -> Vec<f32> {
        let mut y = case.blank();
        let shared = SharedSlice::new(&mut y);
        for index in 0..parts {
            let mut scratch = vec![f32::NAN; convolution.scratch_len(&case.geometry)];
            let part = Part { index, count: parts };
            convolution.run(&case.geometry, &case.x, epilogue, shared, &mut scratch, part);
        }
        y
    }

    /// Checks both algorithms at all levels, in one and several parts.
    fn check(case: &Case, epilogue: &Epilogue, expected: &[f32]) -> Result<(), String> {
        for level in Level::available() {
            for algorithm in BOTH {
                let convolution = prepared(level, case, algorithm);
                let whole = run(&convolution, case, epilogue, 1);
                compare(&whole, expected, Tolerance::dot(case.depth()))
                    .map_err(|e| format!("{level}, {algorithm}: {e}"))?;
                for parts in [2, 3, 7] {
                    compare(&run(&convolution, case, epilogue, parts), &whole, Tolerance::Exact)
                        .map_err(|e| format!("{level}, {algorithm}, {parts} parts: {e}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn images_of_all_sizes_around_the_tiles() {
        let sizes = (1..=9).flat_map(|height| (1..=9).map(move |width| [height, width]));
        let cases = sizes.map(|size| (1, size, 1, [5, 17]));
        let more = [
            (2, [5, 7], 1, [16, 16]),
            (3, [4, 4], 1, [33, 24]),
            (2, [6, 9], 0, [3, 40]),
            (2, [3, 3], 2, [20, 130]),
            (1, [40, 75], 1, [19, 21]),
            (1, [7, 7], 1, [64, 200]),
            (3, [14, 13], 1, [48, 96]),
        ];
        let gaps = [[0, 0], [3, 2]];
        each_case(cases.chain(more).flat_map(|case| gaps.map(|gaps| (case, gaps))), |&(sizes, gaps)| {
            let (batch, input, padding, channels) = sizes;
            let case = case(batch, input, padding, channels, gaps);
            let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
            check(&case, &epilogue, &case.expected())
        });
    }

    #[test]
    fn epilogues_of_all_kinds() {
        let activations = [
            Activation::None,
            Activation::Relu,
            Activation::Clip { low: -0.5, high: 0.75 },
            Activation::LeakyRelu { alpha: 0.1 },
            Activation::PRelu,
            Activation::Sigmoid,
            Activation::Silu,
            Activation::HardSwish,
            Activation::Gelu,
        ];
        let cases = activations.into_iter().flat_map(|activation| (0..3).map(move |add| (activation, add)));
        each_case(cases, |&(activation, add)| {
            let case = case(2, [7, 5], 1, [6, 37], [0, 2]);
            let (columns, stride) = (37, 41);
            let mut random = Random::new(8);
            let added = random.floats(case.geometry.output_pixels() * stride);
            let slope = random.floats(columns);
            let residual = Residual { data: (&added).into(), stride, after_activation: add == 2 };
            let epilogue = Epilogue {
                bias: Some(&case.bias),
                residual: (add > 0).then_some(residual),
                activation,
                slope: (activation == Activation::PRelu).then_some(&slope[..]),
                following: &slope,
            };
            let mut expected = case.expected();
            case.finish(&mut expected, &epilogue, &added);
            check(&case, &epilogue, &expected)
        });
    }

    /// The largest error relative to the largest output, and the root of the mean squares of both likewise.
    fn errors(actual: &[f32], expected: &[f32]) -> [f64; 2] {
        let pairs =
            || actual.iter().zip(expected).map(|(&a, &b)| (f64::from(a) - f64::from(b), f64::from(b)));
        let largest = |of: fn((f64, f64)) -> f64| pairs().map(|pair| of(pair).abs()).fold(0.0, f64::max);
        let squares = |of: fn((f64, f64)) -> f64| pairs().map(|pair| of(pair).powi(2)).sum::<f64>();
        [largest(|p| p.0) / largest(|p| p.1), (squares(|p| p.0) / squares(|p| p.1)).sqrt()]
    }

    /// Errors that sums of `f32` without any transform have as well, largest and root of mean squares.
    const AS_DIRECT: [f64; 2] = [6e-6, 3e-6];

    #[test]
    fn errors_are_those_of_plain_sums() {
        each_case([[64, 64], [256, 32]], |&channels| {
            let case = case(1, [14, 14], 1, channels, [0, 0]);
            let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
            let expected = case.expected();
            for level in Level::available() {
                for algorithm in BOTH {
                    let y = run(&prepared(level, &case, algorithm), &case, &epilogue, 1);
                    let errors = errors(&y, &expected);
                    if errors[0] > AS_DIRECT[0] || errors[1] > AS_DIRECT[1] {
                        return Err(format!("{level}, {algorithm}: {errors:?}"));
                    }
                }
            }
            Ok(())
        });
    }
}
