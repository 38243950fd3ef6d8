//! Resampling, by the rules of ONNX's Resize.
//!
//! Every axis has an [`AxisTable`], made when the shapes are known: which input positions each output
//! position reads, with which weights. A [`Resize`] runs the tables of all axes at once: outputs are sums
//! over the products of the axes' taps. A last axis that stays as it is (the channels of an NHWC image) makes
//! pixels, which are copied or blended as vectors, and may lie apart from each other.

mod axis;
mod blend;
mod coordinates;
mod nearest;
mod windows;

use optimium_simd::Level;

pub use axis::AxisTable;
pub use blend::ResizeElement;

use crate::depthwise::narrowed;
use crate::{Part, SharedSlice};
use windows::Windows;

/// How an output element comes from its neighbours in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The nearest one.
    #[default]
    Nearest,
    /// Two along each axis, by distance.
    Linear,
    /// Four along each axis, by the cubic convolution of Keys.
    Cubic,
}

/// Which neighbour is the nearest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NearestMode {
    /// Rounded, halves down.
    #[default]
    RoundPreferFloor,
    /// Rounded, halves up.
    RoundPreferCeil,
    /// The one below.
    Floor,
    /// The one above.
    Ceil,
}

/// Where an output position lies in the input, as ONNX's `coordinate_transformation_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coordinates {
    /// `(x + 1/2) / scale - 1/2`
    #[default]
    HalfPixel,
    /// The same, centred where the scaled size is not the output's.
    HalfPixelSymmetric,
    /// As half pixel, but 0 where the output has one element.
    PytorchHalfPixel,
    /// First on first, last on last.
    AlignCorners,
    /// `x / scale`
    Asymmetric,
    /// `(x + 1/2) / scale`
    TfHalfPixelForNn,
    /// From a region of interest, which may exceed the input.
    TfCropAndResize,
}

/// The attributes of a resize.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizeOptions {
    /// The interpolation.
    pub mode: Mode,
    /// The rounding of [`Mode::Nearest`].
    pub nearest_mode: NearestMode,
    /// The coordinates.
    pub coordinates: Coordinates,
    /// The coefficient of [`Mode::Cubic`].
    pub cubic_coefficient: f32,
    /// Whether neighbours outside of the input have no weight, instead of the value at the border.
    pub exclude_outside: bool,
    /// Whether the filter widens when it shrinks the input.
    pub antialias: bool,
    /// What [`Coordinates::TfCropAndResize`] gives outside of the input.
    pub extrapolation_value: f32,
}

impl Default for ResizeOptions {
    fn default() -> ResizeOptions {
        ResizeOptions {
            mode: Mode::default(),
            nearest_mode: NearestMode::default(),
            coordinates: Coordinates::default(),
            cubic_coefficient: -0.75,
            exclude_outside: false,
            antialias: false,
            extrapolation_value: 0.0,
        }
    }
}

/// A resize of row-major tensors of given shapes.
#[derive(Clone, Debug)]
pub struct Resize {
    level: Level,
    mode: Mode,
    extrapolation_value: f32,
    /// Product of the first axes, which stay as they are.
    outer: usize,
    /// The axes in between.
    axes: Vec<AxisTable>,
    /// The last axis, where it stays as it is: elements of a pixel.
    inner: usize,
    /// For pixels of one element, where the last of the axes reads.
    windows: Option<Windows>,
    /// Elements from pixel to pixel.
    input_stride: usize,
    /// See `input_stride`.
    output_stride: usize,
}

impl Resize {
    /// A resize from shape `input` to shape `output`, with one scale an axis (output size by input size
    /// where sizes were asked for), and, for [`Coordinates::TfCropAndResize`], one region `(start, end)` an
    /// axis in units of its size.
    ///
    /// # Panics
    /// Where the numbers of axes differ, or an empty axis should become one that is not.
    pub fn new(
        level: Level,
        options: &ResizeOptions,
        input: &[usize],
        output: &[usize],
        scales: &[f32],
        regions: Option<&[(f32, f32)]>,
    ) -> Resize {
        let rank = input.len();
        assert!(
            output.len() == rank && scales.len() == rank && regions.is_none_or(|r| r.len() == rank),
            "axes of {input:?}, {output:?}, {scales:?}"
        );
        let region = |axis: usize| regions.map_or((0.0, 1.0), |regions| regions[axis]);
        let mut axes: Vec<AxisTable> =
            (0..rank).map(|i| AxisTable::new(options, input[i], output[i], scales[i], region(i))).collect();
        let inner = axes.pop_if(|axis| axis.is_identity()).map_or(1, |axis| axis.output());
        let leading = axes.iter().take_while(|axis| axis.is_identity()).count();
        let outer = axes.drain(..leading).map(|axis| axis.output()).product();
        let extrapolation_value = options.extrapolation_value;
        let (input_stride, output_stride) = (inner, inner);
        let level = narrowed(level, inner);
        let windows = axes.last().filter(|_| inner == 1).and_then(|axis| Windows::new(level, axis));
        Resize {
            level,
            mode: options.mode,
            extrapolation_value,
            outer,
            axes,
            inner,
            windows,
            input_stride,
            output_stride,
        }
    }

    /// Elements of a pixel: those of the last axis where it stays as it is, else one.
    pub fn pixel(&self) -> usize {
        self.inner
    }

    /// The same with pixels that lie that many elements apart.
    ///
    /// # Panics
    /// Where they would overlap.
    #[must_use]
    pub fn with_strides(self, input: usize, output: usize) -> Resize {
        assert!(input >= self.inner && output >= self.inner, "strides {input}, {output} of {}", self.inner);
        Resize { input_stride: input, output_stride: output, ..self }
    }

    /// Resizes this part.
    ///
    /// # Panics
    /// Where a slice does not have the size of its shape.
    pub fn run(&self, x: &[f32], y: SharedSlice<'_, f32>, part: Part) {
        self.check(x.len(), y.len(), 1);
        if self.mode == Mode::Nearest {
            let outside = self.extrapolation_value.to_ne_bytes();
            // SAFETY: the same elements as bytes, which have no alignment and no invalid values.
            let y = unsafe { SharedSlice::from_raw(y.as_mut_ptr().cast(), size_of::<f32>() * y.len()) };
            nearest::run(self, bytemuck::cast_slice(x), &outside, size_of::<f32>(), y, part);
        } else {
            blend::run_floats(self, x, y, part);
        }
    }

    /// Resizes this part of tensors of another element type.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    pub fn run_elements<T: ResizeElement>(&self, x: &[T], y: SharedSlice<'_, T>, part: Part) {
        self.check(x.len(), y.len(), 1);
        blend::run_elements(self, x, y, part);
    }

    /// Resizes this part of tensors of any element type, in bytes, with [`Mode::Nearest`]; `outside` is the
    /// element beyond the input, of `element_size` bytes.
    ///
    /// # Panics
    /// As [`run`](Self::run), and for another mode.
    pub fn run_bytes(
        &self,
        x: &[u8],
        outside: &[u8],
        element_size: usize,
        y: SharedSlice<'_, u8>,
        part: Part,
    ) {
        assert!(self.mode == Mode::Nearest, "elements of unknown type cannot be blended");
        assert!(element_size > 0 && outside.len() == element_size, "one element of {element_size} bytes");
        self.check(x.len(), y.len(), element_size);
        nearest::run(self, x, outside, element_size, y, part);
    }

    fn check(&self, x: usize, y: usize, element_size: usize) {
        let pixels = |of: fn(&AxisTable) -> usize| self.axes.iter().map(of).product::<usize>() * self.outer;
        let needed = |pixels: usize, stride: usize| {
            if pixels == 0 { 0 } else { ((pixels - 1) * stride + self.inner) * element_size }
        };
        let input = needed(pixels(AxisTable::input), self.input_stride);
        let output = needed(pixels(AxisTable::output), self.output_stride);
        assert!(x == input && y == output, "{x} to {y} elements instead of {input} to {output}");
    }

    /// Elements that a row of `columns` pixels spans.
    fn span(&self, columns: usize, stride: usize) -> usize {
        if columns == 0 { 0 } else { (columns - 1) * stride + self.inner }
    }

    /// Splits off the last axis that changes: the axes before it, and it.
    fn rows(&self) -> (&[AxisTable], Option<&AxisTable>) {
        match self.axes.split_last() {
            Some((last, before)) => (before, Some(last)),
            None => (&[], None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    const COORDINATES: [Coordinates; 7] = [
        Coordinates::HalfPixel,
        Coordinates::HalfPixelSymmetric,
        Coordinates::PytorchHalfPixel,
        Coordinates::AlignCorners,
        Coordinates::Asymmetric,
        Coordinates::TfHalfPixelForNn,
        Coordinates::TfCropAndResize,
    ];

    /// Resizes along one axis, for every position of the other axes, in the words of the definition.
    fn resize_axis(x: &[f32], shape: &mut [usize], axis: usize, table: &AxisTable, outside: f32) -> Vec<f32> {
        let inner: usize = shape[axis + 1..].iter().product();
        let outer: usize = shape[..axis].iter().product();
        let mut y = Vec::new();
        for block in 0..outer {
            for position in 0..table.output() {
                for i in 0..inner {
                    let taps = table.indices(position).iter().zip(table.weights(position));
                    let sum = taps.map(|(&at, &w)| w * x[(block * shape[axis] + at) * inner + i]).sum();
                    y.push(if table.is_outside(position) { outside } else { sum });
                }
            }
        }
        shape[axis] = table.output();
        y
    }

    fn check(options: &ResizeOptions, input: &[usize], output: &[usize]) -> Result<(), String> {
        let scales: Vec<f32> = input.iter().zip(output).map(|(&i, &o)| o as f32 / i as f32).collect();
        let mut regions = vec![(0.0, 1.0); input.len()];
        for axis in 0..input.len() {
            if input[axis] != output[axis] {
                regions[axis] = (-0.1, 0.9);
            }
        }
        let x = Random::new(1).floats(input.iter().product());
        let (mut expected, mut shape) = (x.clone(), input.to_vec());
        for axis in 0..input.len() {
            let table = AxisTable::new(options, input[axis], output[axis], scales[axis], regions[axis]);
            expected = resize_axis(&expected, &mut shape, axis, &table, options.extrapolation_value);
        }
        for level in Level::available() {
            let resize = Resize::new(level, options, input, output, &scales, Some(&regions));
            for count in 1..4 {
                let (mut y, mut elements) = (vec![9.0; expected.len()], vec![9.0; expected.len()]);
                for index in 0..count {
                    let part = Part { index, count };
                    resize.run(&x, SharedSlice::new(&mut y), part);
                    resize.run_elements(&x, SharedSlice::new(&mut elements), part);
                }
                for y in [&y, &elements] {
                    compare(y, &expected, Tolerance::Relative(1e-5))
                        .map_err(|e| format!("{level}, {count} parts: {e}"))?;
                }
            }
        }
        Ok(())
    }

    #[test]
    fn axes_are_resized_together_as_one_by_one() {
        let shapes: [(&[usize], &[usize]); 11] = [
            (&[2, 3, 5, 4], &[2, 3, 7, 50]),
            (&[1, 2, 5, 33], &[1, 2, 9, 264]),
            (&[1, 2, 3, 40], &[1, 2, 2, 43]),
            (&[2, 3, 4, 19], &[2, 6, 8, 19]),
            (&[1, 5, 4, 70], &[1, 3, 9, 70]),
            (&[2, 3, 5, 4], &[2, 3, 7, 2]),
            (&[2, 5, 3], &[2, 5, 8]),
            (&[2, 3, 2, 3, 2], &[2, 5, 3, 2, 2]),
            (&[3, 4], &[3, 4]),
            (&[2, 0, 4], &[2, 0, 8]),
            (&[4], &[1]),
        ];
        let mut cases = Vec::new();
        for (input, output) in shapes {
            for coordinates in COORDINATES {
                for mode in [Mode::Nearest, Mode::Linear, Mode::Cubic] {
                    for antialias in [false, true] {
                        // A value that blends with itself, whichever axis lies outside.
                        let options = ResizeOptions {
                            mode,
                            coordinates,
                            antialias,
                            extrapolation_value: 0.0,
                            ..Default::default()
                        };
                        cases.push((options, input, output));
                    }
                }
            }
        }
        each_case(cases, |&(options, input, output)| check(&options, input, output));
    }

    /// Between pixels that lie apart nothing is read or written.
    #[test]
    fn pixels_apart() {
        let (input, output) = ([2, 3, 4], [2, 6, 7]);
        let cases = [Mode::Nearest, Mode::Linear, Mode::Cubic]
            .into_iter()
            .flat_map(|mode| [5, 8, 16, 70].map(|channels| (mode, channels)));
        each_case(cases.collect::<Vec<_>>(), |&(mode, channels)| {
            let options = ResizeOptions { mode, ..ResizeOptions::default() };
            let dims = |size: [usize; 3]| [&size[..], &[channels]].concat();
            let [pixels, outputs] = [input, output].map(|size| size.iter().product::<usize>());
            let x = Random::new(4).floats(pixels * channels);
            let mut apart = vec![f32::NAN; (pixels - 1) * (channels + 3) + channels];
            for (to, x) in apart.chunks_mut(channels + 3).zip(x.chunks(channels)) {
                to[..channels].copy_from_slice(x);
            }
            for level in Level::available() {
                let scales = [1.0, 2.0, 7.0 / 4.0, 1.0];
                let resize = Resize::new(level, &options, &dims(input), &dims(output), &scales, None);
                let mut expected = vec![0.0; outputs * channels];
                resize.run(&x, SharedSlice::new(&mut expected), Part::WHOLE);
                let resize = resize.with_strides(channels + 3, channels + 2);
                let mut y = vec![9.0; (outputs - 1) * (channels + 2) + channels];
                for index in 0..2 {
                    resize.run(&apart, SharedSlice::new(&mut y), Part { index, count: 2 });
                }
                for (y, expected) in y.chunks(channels + 2).zip(expected.chunks(channels)) {
                    compare(&y[..channels], expected, Tolerance::Exact)?;
                    compare(&y[channels..], &[9.0; 2][..y.len() - channels], Tolerance::Exact)?;
                }
            }
            Ok(())
        });
    }

    #[test]
    fn bytes_of_any_size() {
        let options = ResizeOptions::default();
        let resize = Resize::new(Level::best(), &options, &[2, 2, 1], &[2, 4, 1], &[1.0, 2.0, 1.0], None);
        for size in [1, 2, 3, 4, 8, 12] {
            let x: Vec<u8> = (0..4 * size as u8).collect();
            let expected: Vec<u8> =
                [0, 0, 1, 1, 2, 2, 3, 3].iter().flat_map(|&at| x[at * size..][..size].to_vec()).collect();
            for count in 1..4 {
                let mut y = vec![0; 8 * size];
                for index in 0..count {
                    let part = Part { index, count };
                    resize.run_bytes(&x, &vec![0; size], size, SharedSlice::new(&mut y), part);
                }
                assert_eq!(y, expected, "{size} bytes");
            }
        }
    }

    #[test]
    fn integers_are_rounded() {
        let options = ResizeOptions { mode: Mode::Linear, ..ResizeOptions::default() };
        let resize = Resize::new(Level::best(), &options, &[2], &[4], &[2.0], None);
        let mut y = [0u8; 4];
        resize.run_elements(&[0, 255], SharedSlice::new(&mut y), Part::WHOLE);
        assert_eq!(y, [0, 64, 191, 255]);
    }
}
