//! Depthwise convolution of channels-last images: every channel has a window of its own.
//!
//! [`Depthwise`] holds the weights in blocks of one vector of channels. A step is one block of channels and
//! a band of output rows; along the band it goes from tile to tile. Tiles of the usual windows keep their
//! sums in registers and load every pixel once (`tile`); windows of any other size and dilation, and
//! channel multipliers, take the general path (`general`). Rows outside of the image are skipped before a
//! tile, columns by guarded tiles at the border, so that inner tiles have no condition at all. What the
//! tiles' stores do not do of the epilogue is done to the band while it is in the first cache (`finish`).

mod band;
mod finish;
mod general;
mod pixels;
mod strip;
mod tile;

pub(crate) use band::{Bands, valid_columns};
pub(crate) use strip::Strip;
pub(crate) use tile::{repeat, tap_output};

use optimium_simd::Level;

use crate::conv::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::{Packed, Packing, Part, Real, SharedSlice};

/// A depthwise convolution with its weights packed for one instruction set.
#[derive(Clone, Debug)]
pub struct Depthwise {
    level: Level,
    parameters: Parameters,
    /// `[channel block][row][column][lane]`, zeros in the lanes beyond the last channel.
    weights: Packed<f32>,
    path: Path,
}

/// The kernel that suits the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// Tiles that load every pixel once, for this width of the window and this horizontal stride.
    Window { columns: usize, stride: usize },
    /// Any window.
    General,
}

impl Depthwise {
    /// Packs `weights`, of shape `[output channels, 1, kernel rows, kernel columns]`, where `packing` says.
    ///
    /// # Panics
    /// Where the groups are not the input channels, the output channels not a multiple of them, or the
    /// weights not of that shape.
    pub fn new(level: Level, parameters: &Parameters, weights: &[f32], packing: &Packing) -> Depthwise {
        let level = if level.is_available() { level } else { Level::Portable };
        Depthwise::at(narrowed(level, parameters.output_channels), parameters, weights, packing)
    }

    /// As [`new`](Depthwise::new), for images of bfloat16.
    ///
    /// # Panics
    /// As there.
    pub fn new_bf16(level: Level, parameters: &Parameters, weights: &[f32], packing: &Packing) -> Depthwise {
        let level = if level.has_bf16() { Level::Avx512 } else { Level::Portable };
        Depthwise::at(level, parameters, weights, packing)
    }

    fn at(level: Level, p: &Parameters, weights: &[f32], packing: &Packing) -> Depthwise {
        let [rows, columns] = p.kernel;
        assert!(
            p.groups == p.input_channels && p.output_channels.is_multiple_of(p.groups.max(1)),
            "not a depthwise convolution: {p:?}"
        );
        assert!(
            p.stride.iter().chain(&p.dilation).chain(&p.kernel).all(|&n| n > 0),
            "a kernel, stride or dilation of zero: {p:?}"
        );
        let taps = rows * columns;
        assert_eq!(weights.len(), p.output_channels * taps, "weights of {p:?}");
        let weights = pack(packing, level.lanes(), taps, weights);
        Depthwise { level, parameters: *p, weights, path: Path::of(p) }
    }

    /// What was asked for.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The instruction set that the weights are packed for.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Computes this part of the output.
    ///
    /// `x` has `batch · height · width` pixels of `input_channels`, `y` likewise; the epilogue's columns are
    /// the output channels and its rows the output pixels of all images. Results of bfloat16 are rounded once where there is
    /// neither a residual nor a PRelu, and twice otherwise.
    ///
    /// # Panics
    /// Where a slice is shorter than the geometry says, or the weights are packed for the other type of images.
    pub fn run<E: Real>(
        &self,
        geometry: &Geometry,
        x: &[E],
        epilogue: &Epilogue<'_, E>,
        y: SharedSlice<'_, E>,
        part: Part,
    ) {
        self.check(geometry, x, epilogue, y);
        let (images, rows) = (0..geometry.batch, 0..geometry.output[0]);
        E::run_bands(Bands {
            depthwise: self,
            geometry,
            x,
            epilogue,
            y,
            part,
            images,
            rows,
            ring: 0,
            first_pixel: 0,
        });
    }

    fn check<E: Real>(
        &self,
        geometry: &Geometry,
        x: &[E],
        epilogue: &Epilogue<'_, E>,
        y: SharedSlice<'_, E>,
    ) {
        let p = &self.parameters;
        // Wide numbers: sizes whose product overflows must not pass.
        let pixels =
            |size: [usize; 2]| (geometry.batch as u128 * size[0] as u128).saturating_mul(size[1] as u128);
        let needed = |pixels: u128, stride: usize, channels: usize| {
            let before = pixels.saturating_sub(1).saturating_mul(stride as u128);
            if pixels == 0 || channels == 0 { 0 } else { before.saturating_add(channels as u128) }
        };
        let (inputs, outputs) = (pixels(geometry.input), pixels(geometry.output));
        assert!(
            x.len() as u128 >= needed(inputs, geometry.input_stride, p.input_channels),
            "input of {geometry:?}"
        );
        assert!(
            y.len() as u128 >= needed(outputs, geometry.output_stride, p.output_channels),
            "output of {geometry:?}"
        );
        assert!(
            geometry.input_stride >= p.input_channels && geometry.output_stride >= p.output_channels,
            "pixels overlap: {geometry:?} of {p:?}"
        );
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == p.output_channels), "one bias a channel");
        assert!(epilogue.slope.is_none_or(|slope| slope.len() == p.output_channels), "one slope a channel");
        assert!(
            epilogue
                .residual
                .is_none_or(|r| r.data.len() as u128 >= needed(outputs, r.stride, p.output_channels)),
            "residual of {geometry:?}"
        );
    }
}

/// An instruction set whose vectors the channels fill, where they fill half of one.
pub(crate) fn narrowed(level: Level, channels: usize) -> Level {
    let narrow = Level::Avx2;
    let fits = channels == narrow.lanes() && 2 * narrow.lanes() == level.lanes();
    if fits && narrow.is_available() { narrow } else { level }
}

/// Weights of whole channels in blocks of `lanes`.
fn pack(packing: &Packing, lanes: usize, taps: usize, weights: &[f32]) -> Packed<f32> {
    let channels = weights.len() / taps;
    let length = channels.next_multiple_of(lanes) * taps;
    packing.block(format_args!("blocks of {lanes} channels"), length, |packed| {
        for (channel, window) in weights.chunks_exact(taps).enumerate() {
            let (block, lane) = (channel / lanes, channel % lanes);
            for (tap, &weight) in window.iter().enumerate() {
                packed[(block * taps + tap) * lanes + lane] = weight;
            }
        }
    })
}

impl Path {
    fn of(p: &Parameters) -> Path {
        let [_, columns] = p.kernel;
        let [_, stride] = p.stride;
        let usual = matches!((columns, stride), (3 | 5, 1 | 2) | (1 | 7, 1));
        if usual && p.dilation == [1, 1] && p.output_channels == p.input_channels {
            Path::Window { columns, stride }
        } else {
            Path::General
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activation::{Activation, apply_scalar};
    use crate::epilogue::Residual;
    use half::bf16;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    /// A depthwise convolution of random images.
    #[derive(Clone, Debug)]
    struct Case {
        parameters: Parameters,
        geometry: Geometry,
    }

    fn case(
        input: [usize; 2],
        channels: usize,
        kernel: [usize; 2],
        stride: [usize; 2],
        dilation: [usize; 2],
        multiplier: usize,
    ) -> Case {
        let output_channels = channels * multiplier;
        let padding = [kernel[0] / 2 * dilation[0], (kernel[1] - 1) / 2 * dilation[1]];
        let size = |i: usize| input[i].div_ceil(stride[i]);
        Case {
            parameters: Parameters {
                input_channels: channels,
                output_channels,
                kernel,
                stride,
                dilation,
                groups: channels,
            },
            geometry: Geometry {
                batch: 2,
                input,
                output: [size(0), size(1)],
                padding,
                input_stride: channels + 1,
                output_stride: output_channels + 3,
            },
        }
    }

    fn reference(
        case: &Case,
        weights: &[f32],
        x: &[f32],
        epilogue: &Epilogue<'_>,
        residual: &[f32],
        y: &mut [f32],
    ) {
        let (p, g) = (&case.parameters, &case.geometry);
        let multiplier = p.output_channels / p.input_channels;
        for pixel in 0..g.batch * g.output[0] * g.output[1] {
            let (image, row, column) =
                (pixel / g.output[1] / g.output[0], pixel / g.output[1] % g.output[0], pixel % g.output[1]);
            for o in 0..p.output_channels {
                let mut sum = epilogue.bias.map_or(0.0, |bias| f64::from(bias[o]));
                for (i, j) in (0..p.kernel[0]).flat_map(|i| (0..p.kernel[1]).map(move |j| (i, j))) {
                    let y = (row * p.stride[0] + i * p.dilation[0]).wrapping_sub(g.padding[0]);
                    let x_at = (column * p.stride[1] + j * p.dilation[1]).wrapping_sub(g.padding[1]);
                    if y < g.input[0] && x_at < g.input[1] {
                        let at = (image * g.input[0] + y) * g.input[1] + x_at;
                        let weight = weights[(o * p.kernel[0] + i) * p.kernel[1] + j];
                        sum += f64::from(x[at * g.input_stride + o / multiplier]) * f64::from(weight);
                    }
                }
                let residual = epilogue.residual.map_or(0.0, |r| residual[pixel * r.stride + o]);
                let after = epilogue.residual.is_some_and(|r| r.after_activation);
                let before = sum as f32 + if after { 0.0 } else { residual };
                let activated = match epilogue.activation {
                    Activation::PRelu if before < 0.0 => before * epilogue.slope.unwrap()[o],
                    other => apply_scalar(other, before),
                };
                y[pixel * g.output_stride + o] = activated + if after { residual } else { 0.0 };
            }
        }
    }

    fn check(case: &Case, activation: Activation, residual: Option<bool>) -> Result<(), String> {
        let (p, g) = (&case.parameters, &case.geometry);
        let mut random = Random::new(7);
        let outputs = g.batch * g.output[0] * g.output[1];
        let weights = random.floats(p.output_channels * p.kernel[0] * p.kernel[1]);
        let x = random.floats(g.batch * g.input[0] * g.input[1] * g.input_stride);
        let (bias, slope) = (random.floats(p.output_channels), random.floats(p.output_channels));
        let added = random.floats(outputs * p.output_channels);
        let epilogue = Epilogue {
            bias: Some(&bias),
            residual: residual.map(|after_activation| Residual {
                data: (&added).into(),
                stride: p.output_channels,
                after_activation,
            }),
            activation,
            slope: Some(&slope),
            following: &[],
        };
        let mut expected = vec![9.0; outputs * g.output_stride];
        reference(case, &weights, &x, &epilogue, &added, &mut expected);
        for level in Level::available() {
            let depthwise = Depthwise::new(level, p, &weights, &Packing::default());
            let mut whole = Vec::new();
            for count in 1..4 {
                let mut y = vec![9.0; outputs * g.output_stride];
                for index in 0..count {
                    depthwise.run(g, &x, &epilogue, SharedSlice::new(&mut y), Part { index, count });
                }
                compare(&y, &expected, Tolerance::dot(p.kernel[0] * p.kernel[1]))
                    .map_err(|e| format!("{level}, {count} parts: {e}"))?;
                if count == 1 {
                    whole = y;
                } else {
                    compare(&y, &whole, Tolerance::Exact)
                        .map_err(|e| format!("{level}, {count} parts: {e}"))?;
                }
            }
        }
        check_rounded(case, activation, residual.is_some(), [&x, &weights, &bias, &slope])
    }

    /// Images of bfloat16 give what images of such numbers in `f32` do, rounded.
    fn check_rounded(
        case: &Case,
        activation: Activation,
        has_residual: bool,
        [x, weights, bias, slope]: [&[f32]; 4],
    ) -> Result<(), String> {
        if has_residual || activation == Activation::PRelu {
            return Ok(());
        }
        let (p, g) = (&case.parameters, &case.geometry);
        let (bias, slope) = (Some(bias), Some(slope));
        let x: Vec<bf16> = x.iter().map(|&x| bf16::from_f32(x)).collect();
        let widened: Vec<f32> = x.iter().map(|x| x.to_f32()).collect();
        let outputs = g.batch * g.output[0] * g.output[1] * g.output_stride;
        for level in [Level::Portable, Level::best()] {
            let depthwise = Depthwise::new_bf16(level, p, weights, &Packing::default());
            let (mut expected, mut y) = (vec![9.0; outputs], vec![bf16::from_f32(9.0); outputs]);
            let epilogue = Epilogue { bias, activation, slope, ..Epilogue::default() };
            depthwise.run(g, &widened, &epilogue, SharedSlice::new(&mut expected), Part::WHOLE);
            let epilogue = Epilogue { bias, activation, slope, ..Epilogue::default() };
            for index in 0..2 {
                let part = Part { index, count: 2 };
                depthwise.run(g, &x, &epilogue, SharedSlice::new(&mut y), part);
            }
            let found: Vec<f32> = y.iter().map(|y| y.to_f32()).collect();
            let once: Vec<f32> = expected.iter().map(|&y| bf16::from_f32(y).to_f32()).collect();
            compare(&found, &once, Tolerance::Exact).map_err(|e| format!("{level}, rounded: {e}"))?;
        }
        Ok(())
    }

    #[test]
    fn windows_of_every_kind() {
        let mut cases = Vec::new();
        for kernel in [[3, 3], [5, 5], [7, 7], [1, 1], [1, 3], [5, 3], [3, 1], [2, 2], [4, 7], [9, 9]] {
            for stride in [[1, 1], [2, 2], [2, 1], [1, 2], [3, 3]] {
                for input in [[1, 1], [2, 3], [7, 7], [9, 16], [14, 14], [5, 23]] {
                    cases.push(case(input, 19, kernel, stride, [1, 1], 1));
                }
            }
        }
        each_case(cases, |case| check(case, Activation::None, None));
    }

    #[test]
    fn channels_around_the_lanes() {
        let channels = [1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 32, 40];
        each_case(channels.map(|c| case([6, 15], c, [3, 3], [1, 1], [1, 1], 1)), |case| {
            check(case, Activation::Relu, None)
        });
    }

    #[test]
    fn dilations_and_multipliers() {
        let mut cases = Vec::new();
        for dilation in [[1, 1], [2, 2], [1, 3], [6, 5]] {
            for multiplier in [1, 2, 3, 16] {
                for channels in [1, 5] {
                    cases.push(case([9, 17], channels, [3, 3], [1, 2], dilation, multiplier));
                }
            }
        }
        each_case(cases, |case| check(case, Activation::Clip { low: -0.5, high: 1.0 }, None));
    }

    #[test]
    fn padding_beyond_the_window() {
        let mut cases = Vec::new();
        for padding in [[0, 0], [5, 6], [1, 9]] {
            for output in [[3, 4], [14, 20], [0, 5], [5, 0]] {
                let mut case = case([4, 5], 20, [3, 3], [1, 1], [1, 1], 1);
                (case.geometry.padding, case.geometry.output) = (padding, output);
                cases.push(case);
            }
        }
        each_case(cases, |case| check(case, Activation::None, None));
    }

    #[test]
    fn epilogues() {
        let activations = [
            Activation::None,
            Activation::Relu,
            Activation::PRelu,
            Activation::HardSwish,
            Activation::Silu,
            Activation::Gelu,
        ];
        let cases = activations.iter().flat_map(|&a| [None, Some(false), Some(true)].map(|r| (a, r)));
        each_case(cases, |&(activation, residual)| {
            check(&case([5, 9], 19, [3, 3], [1, 1], [1, 1], 1), activation, residual)
        });
    }
}
