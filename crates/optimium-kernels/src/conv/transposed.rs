//! The transposed convolution.
//!
//! Output pixels that lie a multiple of the stride apart see the same taps of the kernel: they are a *phase*.
//! Each phase is an ordinary convolution of stride one of the input, with the taps that it sees, in reverse
//! order. Where no two taps reach one output pixel, [`Patches`] may be faster.

use std::ops::Range;

use optimium_simd::Level;

use super::band::{BAND_LEN, Band};
use super::choice::TYPICAL_PIXELS;
use super::parameters::{Geometry, Parameters};
use super::patches::{self, Patches};
use super::taps::{Stretch, Taps, View};
use crate::epilogue::Epilogue;
use crate::gemm::run::Division;
use crate::gemm::{self, Lines, PackedMatrix, Problem};
use crate::{Packing, Part, SharedSlice};

/// A transposed convolution with its weights packed.
///
/// The output pixel at `position · stride - padding + tap · dilation` receives what the tap gives for the
/// input pixel at `position`; output padding shows in the [`Geometry`]'s output size alone.
#[derive(Clone, Debug)]
pub struct TransposedConvolution {
    parameters: Parameters,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Phases(Phases),
    Patches(Patches),
}

/// A convolution in phases.
#[derive(Clone, Debug)]
struct Phases {
    parameters: Parameters,
    phases: Vec<Phase>,
}

/// The output pixels of one remainder of their position by the stride.
#[derive(Clone, Debug)]
struct Phase {
    /// The remainders of padded output positions, down and across.
    remainder: [usize; 2],
    /// How many pixels before a pixel's own position its first tap lies.
    back: [usize; 2],
    taps: Taps,
    groups: Vec<PackedMatrix>,
}

/// The taps of one axis of a phase.
#[derive(Clone, Copy, Debug)]
struct AxisTaps {
    /// The kernel's taps: the last one, how far apart, how many.
    last: usize,
    apart: usize,
    count: usize,
    /// How many pixels back the last tap lies, and how far the others come nearer.
    back: usize,
    step: usize,
}

impl AxisTaps {
    fn of(parameters: &Parameters, axis: usize, remainder: usize) -> AxisTaps {
        let (stride, dilation) = (parameters.stride[axis], parameters.dilation[axis]);
        let seen = |tap: &usize| tap * dilation % stride == remainder;
        let taps: Vec<usize> = (0..parameters.kernel[axis]).filter(seen).collect();
        let last = taps.last().copied().unwrap_or(0);
        let apart = if taps.len() > 1 { taps[1] - taps[0] } else { 1 };
        // The remainder is that of the tap's distance, so none is below it.
        let back = if taps.is_empty() { 0 } else { (last * dilation - remainder) / stride };
        AxisTaps { last, apart, count: taps.len(), back, step: (apart * dilation / stride).max(1) }
    }
}

/// One call of [`TransposedConvolution::run`].
struct Job<'a> {
    geometry: &'a Geometry,
    x: &'a [f32],
    epilogue: &'a Epilogue<'a>,
    y: SharedSlice<'a, f32>,
}

impl TransposedConvolution {
    /// Packs `weights`, `[input channels, output channels / groups, kernel height, kernel width]`, where `packing` says. A
    /// residual is added in [`run`](TransposedConvolution::run) only if it `has_residual`.
    ///
    /// # Panics
    /// Where the numbers do not make a convolution.
    pub fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        has_residual: bool,
        packing: &Packing,
    ) -> TransposedConvolution {
        parameters.check(weights.len());
        let form = if !has_residual && Patches::suit(level, parameters, TYPICAL_PIXELS) {
            Form::Patches(Patches::new(level, parameters, weights, TYPICAL_PIXELS, packing))
        } else {
            Form::Phases(Phases::new(level, parameters, weights, packing))
        };
        TransposedConvolution { parameters: *parameters, form }
    }

    /// What was asked for.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// `f32` elements of scratch memory that each part needs for such images.
    pub fn scratch_len(&self, geometry: &Geometry) -> usize {
        match &self.form {
            Form::Phases(phases) => phases.scratch_len(geometry),
            Form::Patches(patches) => patches.scratch_len(positions(&self.parameters, geometry, 1).len()),
        }
    }

    /// Computes this part's share of `y = epilogue(transposed convolution(x))`; rows of the epilogue are output
    /// pixels, batch outermost.
    ///
    /// # Panics
    /// Where a slice is too short for the sizes; `scratch` has
    /// [`scratch_len`](TransposedConvolution::scratch_len) elements of this part's own, with any content. Where there is a
    /// residual that was not announced.
    pub fn run(
        &self,
        geometry: &Geometry,
        x: &[f32],
        epilogue: &Epilogue,
        y: SharedSlice<f32>,
        scratch: &mut [f32],
        part: Part,
    ) {
        let parameters = &self.parameters;
        geometry.check(parameters, x.len(), y.len());
        epilogue.check(geometry.output_pixels(), parameters.output_channels);
        if geometry.output_pixels() == 0 || parameters.output_channels == 0 {
            return;
        }
        let [down, across] = [0, 1].map(|axis| positions(parameters, geometry, axis));
        let patches = match &self.form {
            Form::Phases(phases) => return phases.run(&Job { geometry, x, epilogue, y }, scratch, part),
            Form::Patches(patches) => patches,
        };
        assert!(epilogue.residual.is_none(), "a residual that was not announced");
        let lines = patches::Lines { parameters, geometry, x, epilogue, y };
        each_image(part.range(geometry.batch * down.len()), &down, |image, of_image| {
            patches.run(&lines, image, of_image, across.clone(), scratch);
        });
    }
}

/// The positions of one axis that have output pixels in any phase.
fn positions(parameters: &Parameters, geometry: &Geometry, axis: usize) -> Range<usize> {
    let (stride, padding) = (parameters.stride[axis], geometry.padding[axis]);
    padding / stride..(padding + geometry.output[axis]).div_ceil(stride)
}

/// Calls `work` with each image that `lines` of all images have a part of, and that part; `positions` are the lines of one.
fn each_image(lines: Range<usize>, positions: &Range<usize>, mut work: impl FnMut(usize, Range<usize>)) {
    for image in lines.start / positions.len()..lines.end.div_ceil(positions.len()) {
        let start = image * positions.len();
        let of_image = lines.start.max(start) - start..lines.end.min(start + positions.len()) - start;
        work(image, of_image.start + positions.start..of_image.end + positions.start);
    }
}

impl Phases {
    fn new(level: Level, parameters: &Parameters, weights: &[f32], packing: &Packing) -> Phases {
        let [down, across] = parameters.stride;
        let phases = (0..down * across)
            .map(|i| Phase::new(level, parameters, weights, [i / across, i % across], packing))
            .collect();
        Phases { parameters: *parameters, phases }
    }

    /// See [`TransposedConvolution::scratch_len`].
    fn scratch_len(&self, geometry: &Geometry) -> usize {
        let lines = self.positions(geometry, 0);
        if lines.is_empty() || self.band(geometry, lines.clone()).lies_in(geometry.input) {
            return 0;
        }
        let first = lines.start..lines.start + self.band_lines(geometry);
        self.band(geometry, first).len(self.parameters.input_channels)
    }

    /// See [`TransposedConvolution::run`]; sizes are checked, and there is an output.
    fn run(&self, job: &Job, scratch: &mut [f32], part: Part) {
        let geometry = job.geometry;
        let positions = self.positions(geometry, 0);
        let pixels = geometry.batch * positions.len() * self.positions(geometry, 1).len();
        let (groups, layout) = (self.parameters.groups, &self.phases[0].groups[0].layout);
        let by_panels = Division { m: pixels, layout, groups }.is_by_panels(part.count);
        let (lines, panels) = (geometry.batch * positions.len(), groups * layout.panels());
        let (lines, panels) =
            if by_panels { (0..lines, part.range(panels)) } else { (part.range(lines), 0..panels) };
        each_image(lines, &positions, |image, of_image| {
            self.run_image(job, image, of_image, panels.clone(), scratch);
        });
    }

    /// The output of one image at the positions of `lines`.
    fn run_image(
        &self,
        job: &Job,
        image: usize,
        lines: Range<usize>,
        panels: Range<usize>,
        scratch: &mut [f32],
    ) {
        let geometry = job.geometry;
        let input = geometry.input[0] * geometry.input[1] * geometry.input_stride;
        let x = &job.x[(image * input).min(job.x.len())..];
        let in_place = self.band(geometry, self.positions(geometry, 0)).lies_in(geometry.input);
        let lines_at_once = if in_place { lines.len() } else { self.band_lines(geometry) };
        let mut first = lines.start;
        while first < lines.end {
            let lines = first..lines.end.min(first + lines_at_once);
            let band = self.band(geometry, lines.clone());
            let view = View::of(&band, x, geometry, self.parameters.input_channels, scratch);
            for phase in &self.phases {
                self.run_phase(job, phase, image, (lines.clone(), panels.clone()), view);
            }
            first = lines.end;
        }
    }

    /// The pixels of one phase at the positions of `lines`, whose inputs lie in `view`.
    fn run_phase(
        &self,
        job: &Job,
        phase: &Phase,
        image: usize,
        (lines, panels): (Range<usize>, Range<usize>),
        view: View,
    ) {
        let geometry = job.geometry;
        let [height, width] = geometry.output;
        let own = [0, 1].map(|axis| phase.positions(&self.parameters, geometry, axis));
        let down = lines.start.max(own[0].start)..lines.end.min(own[0].end);
        let across = own[1].clone();
        if down.is_empty() || across.is_empty() {
            return;
        }
        let reach = self.reach();
        let line = down.start - lines.start + reach[0] - phase.back[0];
        let pixel = across.start - self.positions(geometry, 1).start + reach[1] - phase.back[1];
        let at = |axis: usize, position: usize| {
            position * self.parameters.stride[axis] + phase.remainder[axis] - geometry.padding[axis]
        };
        let stretch = Stretch {
            groups: &phase.groups,
            view,
            taps: phase.taps,
            left: Lines {
                start: line * view.line + pixel * view.pixel,
                rows: across.len(),
                stride: view.pixel,
                line_stride: view.line,
            },
            result: Lines {
                start: (image * height + at(0, down.start)) * width + at(1, across.start),
                rows: across.len(),
                stride: self.parameters.stride[1],
                line_stride: self.parameters.stride[0] * width,
            },
            c: job.y.as_mut_ptr(),
            c_stride: geometry.output_stride,
            epilogue: job.epilogue,
            single_row: false,
            row_len: view.pixel,
        };
        // SAFETY: the slices are checked; parts have positions or panels of their own, phases other pixels.
        unsafe { stretch.run(0..down.len() * across.len(), panels) };
    }

    /// See [`positions`].
    fn positions(&self, geometry: &Geometry, axis: usize) -> Range<usize> {
        positions(&self.parameters, geometry, axis)
    }

    /// How many pixels back the farthest tap of any phase lies.
    fn reach(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.phases.iter().map(|phase| phase.back[axis]).max().unwrap_or(0))
    }

    /// The input that the positions of `lines` need.
    fn band(&self, geometry: &Geometry, lines: Range<usize>) -> Band {
        let (reach, across) = (self.reach(), self.positions(geometry, 1));
        Band {
            origin: [lines.start as isize - reach[0] as isize, across.start as isize - reach[1] as isize],
            size: [lines.len() + reach[0], across.len() + reach[1]],
        }
    }

    /// Lines of positions whose input is copied at once.
    fn band_lines(&self, geometry: &Geometry) -> usize {
        let positions = self.positions(geometry, 0);
        let line = self.band(geometry, 0..1).size[1] * self.parameters.input_channels;
        let lines = (BAND_LEN / line.max(1)).saturating_sub(self.reach()[0]).max(1);
        lines.min(positions.len())
    }
}

impl Phase {
    fn new(
        level: Level,
        parameters: &Parameters,
        weights: &[f32],
        remainder: [usize; 2],
        packing: &Packing,
    ) -> Phase {
        let axes = [0, 1].map(|axis| AxisTaps::of(parameters, axis, remainder[axis]));
        let taps = Taps {
            grid: axes.map(|axis| axis.count),
            first: [0, 0],
            line: axes[1].count,
            step: axes.map(|axis| axis.step),
            channels: parameters.group_inputs(),
            joined: parameters.groups == 1,
        };
        let pack = |group| pack(level, parameters, weights, group, axes, packing);
        let groups = (0..parameters.groups).map(pack).collect();
        Phase { remainder, back: axes.map(|axis| axis.back), taps, groups }
    }

    /// The positions of one axis where this phase has output pixels.
    fn positions(&self, parameters: &Parameters, geometry: &Geometry, axis: usize) -> Range<usize> {
        let (stride, padding) = (parameters.stride[axis], geometry.padding[axis]);
        let until = |end: usize| end.saturating_sub(self.remainder[axis]).div_ceil(stride);
        until(padding)..until(padding + geometry.output[axis])
    }
}

/// The matrix `[tap, input channel] × [output channel]` of a group of a phase.
fn pack(
    level: Level,
    parameters: &Parameters,
    weights: &[f32],
    group: usize,
    axes: [AxisTaps; 2],
    packing: &Packing,
) -> PackedMatrix {
    let (inputs, outputs) = (parameters.group_inputs(), parameters.group_outputs());
    let (down, across) = (axes[0].count, axes[1].count);
    let k = down * across * inputs;
    let all = gemm::candidates(level, &Problem { m: TYPICAL_PIXELS, n: outputs, k }).into_iter();
    // Pieces of left rows begin at every tap.
    let layout =
        all.map(|one| one.layout).find(|layout| k == inputs || inputs.is_multiple_of(layout.group()));
    let layout = layout.unwrap_or_else(|| gemm::pick(level, &Problem { m: TYPICAL_PIXELS, n: outputs, k }));
    PackedMatrix::prepare(layout, "taps of a phase, reversed", packing, |out| {
        let mut rows = Vec::with_capacity(k * outputs);
        for tap in 0..down * across {
            let at = |axis: AxisTaps, index: usize| axis.last - index * axis.apart;
            let (y, x) = (at(axes[0], tap / across), at(axes[1], tap % across));
            for input in group * inputs..(group + 1) * inputs {
                rows.extend((0..outputs).map(|output| {
                    let plane = (input * outputs + output) * parameters.kernel[0];
                    weights[(plane + y) * parameters.kernel[1] + x]
                }));
            }
        }
        layout.pack(&rows, outputs, 1, out, Part::WHOLE);
    })
}

#[cfg(test)]
mod tests {
    use super::super::reference::Case;
    use super::*;
    use crate::activation::Activation;
    use optimium_testing::{Tolerance, compare, each_case};

    /// `[batch, height, width, inputs, outputs, groups, kernel, kernel, stride, stride, dilation, dilation,
    /// padding on all sides, output padding]`
    const CASES: [[usize; 14]; 18] = [
        [1, 4, 5, 8, 16, 1, 2, 2, 2, 2, 1, 1, 0, 0],
        [2, 4, 5, 8, 33, 1, 2, 2, 2, 2, 1, 1, 0, 0],
        [2, 4, 5, 3, 7, 1, 3, 3, 2, 2, 1, 1, 1, 1],
        [1, 4, 5, 3, 7, 1, 3, 3, 2, 2, 1, 1, 0, 0],
        [1, 7, 6, 5, 9, 1, 4, 4, 2, 2, 1, 1, 1, 0],
        [1, 7, 6, 5, 9, 1, 3, 3, 1, 1, 1, 1, 1, 0],
        [1, 5, 6, 4, 6, 2, 3, 2, 2, 3, 1, 1, 0, 1],
        [1, 5, 6, 4, 6, 1, 3, 3, 2, 2, 2, 2, 1, 0],
        [1, 5, 6, 4, 6, 1, 3, 3, 3, 2, 2, 3, 1, 1],
        [1, 5, 6, 4, 6, 1, 2, 2, 4, 4, 1, 1, 0, 2],
        [1, 1, 20, 8, 4, 1, 1, 4, 1, 2, 1, 1, 0, 0],
        [1, 60, 70, 32, 8, 1, 4, 4, 2, 2, 1, 1, 1, 0],
        [0, 4, 5, 8, 16, 1, 2, 2, 2, 2, 1, 1, 0, 0],
        [1, 4, 5, 24, 1, 1, 2, 2, 2, 2, 1, 1, 0, 0],
        [2, 3, 7, 6, 3, 1, 2, 3, 2, 3, 1, 1, 1, 2],
        [1, 3, 2, 7, 2, 1, 4, 4, 4, 4, 1, 1, 3, 0],
        [1, 2, 9, 8, 4, 1, 1, 5, 1, 5, 1, 1, 0, 1],
        [2, 5, 3, 4, 6, 1, 3, 1, 3, 1, 1, 1, 0, 5],
    ];

    fn case(sizes: &[usize; 14], gaps: [usize; 2]) -> Case {
        let &[batch, h, w, inputs, outputs, groups, kh, kw, sh, sw, dh, dw, padding, more] = sizes;
        let parameters = Parameters {
            input_channels: inputs,
            output_channels: outputs,
            kernel: [kh, kw],
            stride: [sh, sw],
            dilation: [dh, dw],
            groups,
        };
        let [eh, ew] = parameters.extent();
        let output = [(h - 1) * sh + eh + more - 2 * padding, (w - 1) * sw + ew + more - 2 * padding];
        let padding = [padding; 2];
        let geometry = Geometry { batch, input: [h, w], output, padding, input_stride: 0, output_stride: 0 };
        Case::new(parameters, geometry, gaps)
    }

    fn run(convolution: &TransposedConvolution, case: &Case, epilogue: &Epilogue, parts: usize) -> Vec<f32> {
        let mut y = case.blank();
        let shared = SharedSlice::new(&mut y);
        for index in 0..parts {
            let mut scratch = vec![f32::NAN; convolution.scratch_len(&case.geometry)];
            let part = Part { index, count: parts };
            convolution.run(&case.geometry, &case.x, epilogue, shared, &mut scratch, part);
        }
        y
    }

    fn packed(level: Level, case: &Case, has_residual: bool) -> TransposedConvolution {
        TransposedConvolution::new(level, &case.parameters, &case.weights, has_residual, &Packing::default())
    }

    #[test]
    fn transposed_convolutions_of_all_kinds() {
        let cases = CASES.iter().flat_map(|sizes| [[0, 0], [3, 2]].map(|gaps| (sizes, gaps)));
        let cases =
            cases.flat_map(|(sizes, gaps)| [false, true].map(|has_residual| (sizes, gaps, has_residual)));
        each_case(cases, |&(sizes, gaps, has_residual)| {
            let case = case(sizes, gaps);
            let expected = case.expected_transposed();
            let epilogue = Epilogue { bias: Some(&case.bias), ..Epilogue::default() };
            for level in Level::available() {
                let convolution = packed(level, &case, has_residual);
                let whole = run(&convolution, &case, &epilogue, 1);
                compare(&whole, &expected, Tolerance::dot(case.depth()))
                    .map_err(|e| format!("{level}: {e}"))?;
                for parts in [2, 3] {
                    compare(&run(&convolution, &case, &epilogue, parts), &whole, Tolerance::Exact)
                        .map_err(|e| format!("{level}, {parts} parts: {e}"))?;
                }
            }
            Ok(())
        });
    }

    #[test]
    fn patches_are_what_phases_are() {
        let case = case(&[1, 4, 5, 24, 3, 1, 2, 2, 2, 2, 1, 1, 0, 0], [0, 1]);
        let (bias, slope) = (Some(&case.bias[..]), Some(&[0.1, -0.2, 0.3][..]));
        let epilogue = Epilogue { bias, slope, activation: Activation::PRelu, ..Epilogue::default() };
        for level in Level::available() {
            let [patches, phases] = [false, true].map(|has_residual| packed(level, &case, has_residual));
            assert!(matches!((&patches.form, &phases.form), (Form::Patches(_), Form::Phases(_))), "{level}");
            let [patches, phases] = [patches, phases].map(|form| run(&form, &case, &epilogue, 1));
            compare(&patches, &phases, Tolerance::dot(case.depth())).unwrap();
        }
    }
}
