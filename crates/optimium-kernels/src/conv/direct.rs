//! Convolutions as products over what the kernel covers.

use std::ops::Range;

use optimium_simd::Level;

use super::band::Band;
use super::parameters::{Geometry, Parameters};
use super::taps::{Stretch, Taps, View};
use super::visible::{self, Span};
use crate::epilogue::Epilogue;
use crate::gemm::run::Division;
use crate::gemm::{self, Layout, Lines, PackedMatrix, Problem};
use crate::{Packing, Part, SharedSlice};

/// A convolution whose weights are packed as a matrix for each group.
#[derive(Clone, Debug)]
pub(super) struct Direct {
    parameters: Parameters,
    /// Whether the pieces of neighbouring taps are joined.
    joined: bool,
    groups: Vec<PackedMatrix>,
}

/// One call of [`Direct::run`].
struct Job<'a> {
    geometry: &'a Geometry,
    x: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    y: SharedSlice<'a, f32>,
    panels: Range<usize>,
}

impl Direct {
    /// Packs `weights`, `[output channels, input channels / groups, kernel height, kernel width]`, for about so
    /// many output pixels a call, where `packing` says, by `layout` or else by the cheapest one.
    pub(super) fn new(
        level: Level,
        parameters: &Parameters,
        joined: bool,
        weights: &[f32],
        pixels: usize,
        layout: Option<Layout>,
        packing: &Packing,
    ) -> Direct {
        let pack = |group| pack(level, parameters, weights, group, (pixels, layout), packing);
        let groups = (0..parameters.groups).map(pack).collect();
        Direct { parameters: *parameters, joined, groups }
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub(super) fn scratch_len(&self, geometry: &Geometry) -> usize {
        let lines = geometry.output[0];
        let in_place = || Band::under(&self.parameters, geometry, 0..lines).lies_in(geometry.input);
        if lines == 0 || geometry.output[1] == 0 || in_place() || self.visible(geometry).is_some() {
            return 0;
        }
        Band::longest(&self.parameters, geometry)
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
        let (rows, panels) = self.division(geometry).share(part);
        let job = Job { geometry, x, epilogue, y, panels };
        if self.is_one_product(geometry) {
            let view = View { data: x, pixel: geometry.input_stride, line: 0 };
            let left = Lines::straight(geometry.input_stride);
            // SAFETY: the slices are checked; parts have rows or panels of their own.
            unsafe { self.stretch(&job, view, left, 0).run(rows, job.panels.clone()) };
            return;
        }
        let spans = self.visible(geometry);
        let image = geometry.output[0] * geometry.output[1];
        for index in rows.start / image..rows.end.div_ceil(image) {
            let start = index * image;
            let of_image = rows.start.max(start) - start..rows.end.min(start + image) - start;
            match &spans {
                Some(spans) => self.run_visible(&job, spans, index, of_image),
                None => self.run_image(&job, index, of_image, scratch),
            }
        }
    }

    fn division(&self, geometry: &Geometry) -> Division<'_> {
        Division { m: geometry.output_pixels(), layout: &self.groups[0].layout, groups: self.groups.len() }
    }

    /// The panel that a part reads first.
    pub(super) fn first_panel(&self, geometry: &Geometry, part: Part) -> &[f32] {
        let each = self.groups[0].layout.panels();
        let (rows, panels) = self.division(geometry).share(part);
        if rows.is_empty() || panels.is_empty() {
            return &[];
        }
        self.groups[panels.start / each].panel(panels.start % each)
    }

    /// Whether the left rows are simply the input's pixels.
    fn is_one_product(&self, geometry: &Geometry) -> bool {
        self.parameters.kernel == [1, 1] && self.parameters.stride == [1, 1] && geometry.is_pixel_by_pixel()
    }

    /// The output `pixels` of one image.
    fn run_image(&self, job: &Job, image: usize, pixels: Range<usize>, scratch: &mut [f32]) {
        let geometry = job.geometry;
        let [height, width] = geometry.output;
        let input = geometry.input[0] * geometry.input[1] * geometry.input_stride;
        let x = &job.x[(image * input).min(job.x.len())..];
        let in_place = Band::under(&self.parameters, geometry, 0..height).lies_in(geometry.input);
        let lines_at_once = if in_place { height } else { Band::lines_at_once(&self.parameters, geometry) };
        let mut pixel = pixels.start;
        while pixel < pixels.end {
            let first = pixel / width;
            let end = pixels.end.min((first + lines_at_once) * width);
            let band = Band::under(&self.parameters, geometry, first..end.div_ceil(width));
            let view = View::of(&band, x, geometry, self.parameters.input_channels, scratch);
            let [down, across] = self.parameters.stride;
            let left =
                Lines { start: 0, rows: width, stride: across * view.pixel, line_stride: down * view.line };
            let stretch = self.stretch(job, view, left, image * height * width + first * width);
            // SAFETY: the slices are checked; parts have rows or panels of their own.
            unsafe { stretch.run(pixel - first * width..end - first * width, job.panels.clone()) };
            pixel = end;
        }
    }

    /// The output positions by the taps that they see, along both axes, where the others are left out: taps that lie
    /// apart reach far past the edges.
    fn visible(&self, geometry: &Geometry) -> Option<[Vec<Span>; 2]> {
        if self.parameters.dilation == [1, 1] {
            return None;
        }
        let [rows, columns] = [0, 1].map(|axis| visible::spans(&self.parameters, geometry, axis));
        let taps = self.parameters.kernel[0] * self.parameters.kernel[1];
        visible::pays(&rows, &columns, taps).then_some([rows, columns])
    }

    /// The output `pixels` of one image, with the taps that lie in it alone.
    fn run_visible(&self, job: &Job, [rows, columns]: &[Vec<Span>; 2], image: usize, pixels: Range<usize>) {
        for [lines, across] in visible::rectangles(pixels, job.geometry.output[1]) {
            for row in visible::between(rows, &lines) {
                for column in visible::between(columns, &across) {
                    self.run_rectangle(job, image, &row, &column);
                }
            }
        }
    }

    /// The output pixels of one image that see the same taps.
    fn run_rectangle(&self, job: &Job, image: usize, row: &Span, column: &Span) {
        let geometry = job.geometry;
        let line = geometry.input[1] * geometry.input_stride;
        let data = &job.x[(image * geometry.input[0] * line).min(job.x.len())..];
        let view = View { data, pixel: geometry.input_stride, line };
        let spans = [row, column];
        // Positions that see no tap read nothing.
        let start = [0, 1].map(|axis| {
            let Parameters { stride, dilation, .. } = self.parameters;
            let position = spans[axis].outputs.start * stride[axis] + spans[axis].taps.start * dilation[axis];
            position.saturating_sub(geometry.padding[axis])
        });
        let width = column.outputs.len();
        let [down, across] = self.parameters.stride;
        let left = Lines {
            start: start[0] * view.line + start[1] * view.pixel,
            rows: width,
            stride: across * view.pixel,
            line_stride: down * view.line,
        };
        let first =
            (image * geometry.output[0] + row.outputs.start) * geometry.output[1] + column.outputs.start;
        let mut stretch = self.stretch(job, view, left, first);
        stretch.result.rows = width;
        stretch.result.line_stride = geometry.output[1];
        // Where one axis sees no tap, there is none.
        let sees = spans.iter().all(|span| !span.taps.is_empty());
        stretch.taps.grid = if sees { spans.map(|span| span.taps.len()) } else { [0, 0] };
        stretch.taps.first = spans.map(|span| span.taps.start);
        // SAFETY: the slices are checked; parts have lines or panels of their own, rectangles other pixels.
        unsafe { stretch.run(0..row.outputs.len() * width, job.panels.clone()) };
    }

    /// The work on the rows from output pixel `first` on, whose inputs lie in `view`.
    fn stretch<'a>(&'a self, job: &'a Job, view: View<'a>, left: Lines, first: usize) -> Stretch<'a> {
        let [down, across] = self.parameters.stride;
        Stretch {
            groups: &self.groups,
            view,
            taps: Taps::of(&self.parameters, self.joined),
            left,
            result: Lines { start: first, ..Lines::straight(1) },
            c: job.y.as_mut_ptr(),
            c_stride: job.geometry.output_stride,
            epilogue: job.epilogue,
            single_row: job.geometry.output_pixels() == 1,
            row_len: view.pixel * down * across,
        }
    }
}

/// The matrix `[tap, input channel] × [output channel]` of a group.
fn pack(
    level: Level,
    parameters: &Parameters,
    weights: &[f32],
    group: usize,
    (pixels, layout): (usize, Option<Layout>),
    packing: &Packing,
) -> PackedMatrix {
    let (inputs, outputs) = (parameters.group_inputs(), parameters.group_outputs());
    let taps = parameters.kernel[0] * parameters.kernel[1];
    let k = taps * inputs;
    let layout = layout.unwrap_or_else(|| gemm::pick(level, &Problem { m: pixels, n: outputs, k }));
    assert!((layout.n, layout.k) == (outputs, k), "{layout} for {parameters:?}");
    let weights = &weights[group * outputs * k..][..outputs * k];
    if taps == 1 {
        return PackedMatrix::new(layout, weights, 1, k, packing);
    }
    PackedMatrix::prepare(layout, "taps before channels", packing, |out| {
        let mut columns = vec![0.0; outputs * k];
        for (column, weights) in columns.chunks_exact_mut(k.max(1)).zip(weights.chunks_exact(k.max(1))) {
            for (tap, column) in column.chunks_exact_mut(inputs).enumerate() {
                for (weight, of_input) in column.iter_mut().zip(weights.chunks_exact(taps)) {
                    *weight = of_input[tap];
                }
            }
        }
        layout.pack(&columns, 1, k, out, Part::WHOLE);
    })
}
