//! Depthwise convolution of channels-last images: every channel has a window of its own.
//!
//! [`Depthwise`] holds the weights in blocks of one vector of channels. A step is one block of channels and
//! a band of output rows; along the band it goes from tile to tile. Tiles of the usual windows keep their
//! sums in registers and load every pixel once ([`tile`]); windows of any other size and dilation, and
//! channel multipliers, take the general path ([`general`]). Rows outside of the image are skipped before a
//! tile, columns by guarded tiles at the border, so that inner tiles have no condition at all. What the
//! tiles' stores do not do of the epilogue is done to the band while it is in the first cache ([`finish`]).

mod band;
mod finish;
mod general;
mod tile;

use optimium_simd::Level;

use crate::conv::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::{AlignedVec, Part, SharedSlice};

/// A depthwise convolution with its weights packed for one instruction set.
#[derive(Clone, Debug)]
pub struct Depthwise {
    level: Level,
    parameters: Parameters,
    /// `[channel block][row][column][lane]`, zeros in the lanes beyond the last channel.
    weights: AlignedVec<f32>,
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
    /// Packs `weights`, of shape `[output channels, 1, kernel rows, kernel columns]`.
    ///
    /// # Panics
    /// Where the groups are not the input channels, the output channels not a multiple of them, or the
    /// weights not of that shape.
    pub fn new(level: Level, parameters: &Parameters, weights: &[f32]) -> Depthwise {
        let level = if level.is_available() { level } else { Level::Portable };
        let p = parameters;
        let [rows, columns] = p.kernel;
        assert!(
            p.groups == p.input_channels && p.output_channels.is_multiple_of(p.groups.max(1)),
            "not a depthwise convolution: {p:?}"
        );
        assert!(p.stride.iter().chain(&p.dilation).all(|&n| n > 0), "a stride or dilation of zero: {p:?}");
        let taps = rows * columns;
        assert_eq!(weights.len(), p.output_channels * taps, "weights of {p:?}");
        let lanes = level.lanes();
        let mut packed = AlignedVec::zeroed(p.output_channels.next_multiple_of(lanes) * taps);
        for (channel, window) in weights.chunks_exact(taps.max(1)).enumerate() {
            let (block, lane) = (channel / lanes, channel % lanes);
            for (tap, &weight) in window.iter().enumerate() {
                packed[(block * taps + tap) * lanes + lane] = weight;
            }
        }
        Depthwise { level, parameters: p.clone(), weights: packed, path: Path::of(p) }
    }

    /// The instruction set that the weights are packed for.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Computes this part of the output.
    ///
    /// `x` has `batch · height · width` pixels of `input_channels`, `y` likewise; the epilogue's columns are
    /// the output channels and its rows the output pixels of all images.
    ///
    /// # Panics
    /// Where a slice is shorter than the geometry says.
    pub fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue<'_>,
        y: SharedSlice<'_, f32>,
        part: Part,
    ) {
        self.check(geometry, x, epilogue, y);
        self.level.run(band::Bands { depthwise: self, geometry, x, epilogue, y, part });
    }

    fn check(&self, geometry: &Geometry, x: &[f32], epilogue: &Epilogue<'_>, y: SharedSlice<'_, f32>) {
        let p = &self.parameters;
        let pixels = |size: [usize; 2]| geometry.batch * size[0] * size[1];
        let needed = |pixels: usize, stride: usize, channels: usize| {
            if pixels == 0 || channels == 0 { 0 } else { (pixels - 1) * stride + channels }
        };
        let (inputs, outputs) = (pixels(geometry.input), pixels(geometry.output));
        assert!(x.len() >= needed(inputs, geometry.input_stride, p.input_channels), "input of {geometry:?}");
        assert!(y.len() >= needed(outputs, geometry.output_stride, p.output_channels), "output of {geometry:?}");
        assert!(
            geometry.input_stride >= p.input_channels && geometry.output_stride >= p.output_channels,
            "pixels overlap: {geometry:?} of {p:?}"
        );
        assert!(epilogue.bias.is_none_or(|bias| bias.len() == p.output_channels), "one bias a channel");
        assert!(epilogue.slope.is_none_or(|slope| slope.len() == p.output_channels), "one slope a channel");
        assert!(
            epilogue.residual.is_none_or(|r| r.data.len() >= needed(outputs, r.stride, p.output_channels)),
            "residual of {geometry:?}"
        );
    }
}

impl Path {
    fn of(p: &Parameters) -> Path {
        let [_, columns] = p.kernel;
        let [_, stride] = p.stride;
        let usual = matches!((columns, stride), (3 | 5, 1 | 2) | (7, 1));
        if usual && p.dilation == [1, 1] && p.output_channels == p.input_channels {
            Path::Window { columns, stride }
        } else {
            Path::General
        }
    }
}
