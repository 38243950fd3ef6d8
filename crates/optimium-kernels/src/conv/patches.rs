//! Transposed convolutions whose kernel is as large as its stride: every input pixel becomes a patch of output pixels that no other
//! one reaches.
//!
//! All channels of a patch are the columns of one product, so that few channels fill vectors. A line of patches is computed at a
//! time and then taken apart into output lines.

use std::ops::Range;

use optimium_simd::Level;

use super::parameters::{Geometry, Parameters};
use crate::epilogue::Epilogue;
use crate::gemm::{self, Layout, PackedMatrix, Problem};
use crate::movement::StridedCopy;
use crate::{Packing, Part, SharedSlice};

/// The weights of such a convolution: `[input channel] × [row of the patch, its column, output channel]`.
#[derive(Clone, Debug)]
pub(super) struct Patches {
    level: Level,
    weights: PackedMatrix,
}

/// The output lines that a part computes, and what they are made of.
pub(super) struct Lines<'a> {
    pub(super) parameters: &'a Parameters,
    pub(super) geometry: &'a Geometry,
    pub(super) x: &'a [f32],
    pub(super) epilogue: &'a Epilogue<'a>,
    pub(super) y: SharedSlice<'a, f32>,
}

/// Channels of the largest patch that is computed at once.
const MOST_COLUMNS: usize = 64;
/// Cycles to take a line of a patch to its place, and a vector of it.
const PATCH_LINE: f64 = 6.0;
const PATCH_VECTOR: f64 = 2.0;

impl Patches {
    /// Whether these are such patches, and one product of them is faster than one for each of their pixels.
    pub(super) fn suit(level: Level, parameters: &Parameters, pixels: usize) -> bool {
        let [down, across] = parameters.kernel;
        let columns = down * across * parameters.output_channels;
        let apart = parameters.kernel == parameters.stride && parameters.dilation == [1, 1];
        if !apart || parameters.groups != 1 || !(1..=MOST_COLUMNS).contains(&columns) {
            return false;
        }
        let product =
            |n| gemm::candidates(level, &Problem { m: pixels, n, k: parameters.input_channels })[0].cost;
        let vectors = columns.div_ceil(level.lanes()) as f64;
        let moved = down as f64 * PATCH_LINE + vectors * PATCH_VECTOR;
        let of_pixels = (down * across) as f64 * product(parameters.output_channels);
        product(columns) + pixels as f64 * moved < of_pixels
    }

    /// Packs `weights`, `[input channels, output channels, kernel height, kernel width]`.
    pub(super) fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        pixels: usize,
        packing: &Packing,
    ) -> Patches {
        let (outputs, taps) = (parameters.output_channels, parameters.kernel[0] * parameters.kernel[1]);
        let (k, n) = (parameters.input_channels, taps * outputs);
        let layout: Layout = gemm::candidates(level, &Problem { m: pixels, n, k })[0].layout;
        let weights = PackedMatrix::prepare(layout, "patches", packing, |out| {
            let mut rows = Vec::with_capacity(k * n);
            for of_input in weights.chunks_exact(n.max(1)) {
                let element = |tap| (0..outputs).map(move |output| of_input[output * taps + tap]);
                rows.extend((0..taps).flat_map(element));
            }
            layout.pack(&rows, n, 1, out, Part::WHOLE);
        });
        Patches { level, weights }
    }

    /// `f32` elements of scratch memory for lines of so many patches.
    pub(super) fn scratch_len(&self, patches: usize) -> usize {
        patches * self.weights.layout.n
    }

    /// Computes the lines of patches `down` of one image; `across` are the patches that the output has a part of.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes.
    pub(super) fn run(
        &self,
        lines: &Lines,
        image: usize,
        down: Range<usize>,
        across: Range<usize>,
        scratch: &mut [f32],
    ) {
        let geometry = lines.geometry;
        let outputs = lines.parameters.output_channels;
        let taps = self.weights.layout.n / outputs;
        let repeated = |values: Option<&[f32]>| values.map(|values| values[..outputs].repeat(taps));
        let (bias, slope) = (repeated(lines.epilogue.bias), repeated(lines.epilogue.slope));
        let epilogue = Epilogue { bias: bias.as_deref(), slope: slope.as_deref(), ..*lines.epilogue };
        let product = |x: &[f32], stride: usize, patches: usize, to: &mut [f32]| {
            let (layout, weights, n) = (&self.weights.layout, &self.weights.data, self.weights.layout.n);
            let to = SharedSlice::new(to);
            gemm::gemm(self.level, patches, x, stride, layout, weights, &epilogue, to, n, Part::WHOLE);
        };
        let places = Places::of(lines, &across);
        for line in down {
            let scratch = &mut scratch[..self.scratch_len(across.len())];
            // Patches beyond the input have the bias alone.
            let end = if line < geometry.input[0] { across.end.min(geometry.input[1]) } else { 0 };
            let inside = end.saturating_sub(across.start);
            let (found, beyond) = scratch.split_at_mut(self.scratch_len(inside));
            if inside > 0 {
                let first = (image * geometry.input[0] + line) * geometry.input[1] + across.start;
                product(&lines.x[first * geometry.input_stride..], geometry.input_stride, inside, found);
            }
            if !beyond.is_empty() {
                product(&vec![0.0; self.weights.layout.k], 0, across.len() - inside, beyond);
            }
            lines.take_apart(image, line, &places, scratch);
        }
    }
}

/// Which patches of a line there are, and how those whose columns all lie in the output are copied.
struct Places {
    across: Range<usize>,
    whole: Range<usize>,
    copy: StridedCopy,
}

impl Places {
    fn of(lines: &Lines, across: &Range<usize>) -> Places {
        let (geometry, channels) = (lines.geometry, lines.parameters.output_channels);
        let [rows, columns] = lines.parameters.stride;
        let whole =
            geometry.padding[1].div_ceil(columns)..(geometry.padding[1] + geometry.output[1]) / columns;
        let whole = whole.start.clamp(across.start, across.end)..whole.end.clamp(across.start, across.end);
        let from = [rows * columns * channels, channels, 1].map(|step| step as isize);
        let to = [columns * geometry.output_stride, geometry.output_stride, 1].map(|step| step as isize);
        let copy = StridedCopy::new(&[whole.len(), columns, channels], &from, &to, size_of::<f32>());
        Places { across: across.clone(), whole, copy }
    }
}

impl Lines<'_> {
    /// Brings a line of patches to the output lines that they are parts of.
    fn take_apart(&self, image: usize, line: usize, places: &Places, patches: &[f32]) {
        let (geometry, channels) = (self.geometry, self.parameters.output_channels);
        let ([rows, columns], [height, width]) = (self.parameters.stride, geometry.output);
        let (Places { across, whole, copy }, size) = (places, rows * columns * channels);
        let bytes = bytemuck::cast_slice(patches);
        // SAFETY: the output as the bytes that it consists of.
        let y = unsafe { SharedSlice::from_raw(self.y.as_mut_ptr().cast(), size_of::<f32>() * self.y.len()) };
        for row in 0..rows {
            let Some(to_line) =
                (line * rows + row).checked_sub(geometry.padding[0]).filter(|&to| to < height)
            else {
                continue;
            };
            let from = |patch: usize, column: usize| {
                (patch - across.start) * size + (row * columns + column) * channels
            };
            let to = |patch: usize, column: usize| {
                let to_column = (patch * columns + column).checked_sub(geometry.padding[1])?;
                let pixel = (image * height + to_line) * width + to_column;
                (to_column < width).then_some(pixel * geometry.output_stride)
            };
            if let Some(to) = to(whole.start, 0).filter(|_| !whole.is_empty()) {
                copy.run(bytes, from(whole.start, 0), y, to, Part::WHOLE);
            }
            let cut = across.clone().filter(|patch| !whole.contains(patch));
            for (patch, column) in cut.flat_map(|patch| (0..columns).map(move |column| (patch, column))) {
                if let Some(to) = to(patch, column) {
                    // SAFETY: the pixel lies in the output, and this part alone writes it.
                    let pixel = unsafe { self.y.slice(to..to + channels) };
                    pixel.copy_from_slice(&patches[from(patch, column)..][..channels]);
                }
            }
        }
    }
}
