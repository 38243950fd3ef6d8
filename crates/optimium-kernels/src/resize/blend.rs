//! Weighted sums of neighbours.

use optimium_simd::{Simd, SimdTask};

use super::windows::Windows;
use super::{AxisTable, Resize};
use crate::{Part, SharedSlice};

/// An element type that can be blended.
pub trait ResizeElement: Copy + Send + Sync {
    /// As a number for sums.
    fn to_f32(self) -> f32;
    /// The nearest element, saturating.
    fn from_f32(x: f32) -> Self;
}

impl ResizeElement for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(x: f32) -> f32 {
        x
    }
}
impl ResizeElement for u8 {
    fn to_f32(self) -> f32 {
        self.into()
    }
    fn from_f32(x: f32) -> u8 {
        x.round_ties_even() as u8
    }
}
impl ResizeElement for i8 {
    fn to_f32(self) -> f32 {
        self.into()
    }
    fn from_f32(x: f32) -> i8 {
        x.round_ties_even() as i8
    }
}

/// Where one row of outputs reads: rows of the input, by number, with their weights.
#[derive(Clone, Debug, Default)]
struct RowTaps(Vec<(usize, f32)>);

impl RowTaps {
    /// Sets the taps of an output row: all combinations of the axes' taps. Returns whether the row lies within
    /// the input.
    fn set(&mut self, axes: &[AxisTable], row: usize) -> bool {
        let (mut rest, mut stride) = (row, 1);
        self.0.clear();
        self.0.push((0, 1.0));
        for axis in axes.iter().rev() {
            let index = rest % axis.output();
            rest /= axis.output();
            if axis.is_outside(index) {
                return false;
            }
            let known = self.0.len();
            for tap in 1..axis.taps() {
                for i in 0..known {
                    let (at, weight) = self.0[i];
                    let step = axis.indices(index)[tap] * stride;
                    self.0.push((at + step, weight * axis.weights(index)[tap]));
                }
            }
            for (at, weight) in &mut self.0[..known] {
                *at += axis.indices(index)[0] * stride;
                *weight *= axis.weights(index)[0];
            }
            stride *= axis.input();
        }
        self.0.iter_mut().for_each(|(at, _)| *at += rest * stride);
        true
    }
}

/// Runs a resize of checked sizes on any element type.
pub(super) fn run_elements<T: ResizeElement>(resize: &Resize, x: &[T], y: SharedSlice<'_, T>, part: Part) {
    each_row(resize, y, part, |rows, to| {
        let (_, last) = resize.rows();
        let input_columns = last.map_or(1, AxisTable::input);
        for (column, to) in to.chunks_mut(resize.output_stride).enumerate() {
            let to = &mut to[..resize.inner];
            let outside = last.is_some_and(|axis| axis.is_outside(column));
            let Some(rows) = rows.filter(|_| !outside) else {
                to.fill(T::from_f32(resize.extrapolation_value));
                continue;
            };
            let (indices, weights) = column_taps(last, column);
            for (i, to) in to.iter_mut().enumerate() {
                let mut sum = 0.0;
                for &(row, row_weight) in rows {
                    for (&index, &weight) in indices.iter().zip(weights) {
                        let at = (row * input_columns + index) * resize.input_stride + i;
                        sum += row_weight * weight * x[at].to_f32();
                    }
                }
                *to = T::from_f32(sum);
            }
        }
    });
}

/// Runs a resize of checked sizes on vectors.
pub(super) fn run_floats(resize: &Resize, x: &[f32], y: SharedSlice<'_, f32>, part: Part) {
    resize.level.run(Blend { resize, x, y, part });
}

/// Calls `write` with every output row of this part, and its taps where it lies within the input.
#[inline(always)]
fn each_row<T>(
    resize: &Resize,
    y: SharedSlice<'_, T>,
    part: Part,
    mut write: impl FnMut(Option<&[(usize, f32)]>, &mut [T]),
) {
    let (before, last) = resize.rows();
    let columns = last.map_or(1, AxisTable::output);
    let (length, step) = (resize.span(columns, resize.output_stride), columns * resize.output_stride);
    let rows: usize = before.iter().map(AxisTable::output).product();
    if length == 0 {
        return;
    }
    let mut taps = RowTaps::default();
    for row in part.range(resize.outer * rows) {
        let within = taps.set(before, row);
        // SAFETY: each row belongs to one part.
        let to = unsafe { y.slice(row * step..row * step + length) };
        write(within.then_some(&taps.0), to);
    }
}

/// The taps of one column, or the only element's where no axis changes.
#[inline(always)]
fn column_taps(axis: Option<&AxisTable>, column: usize) -> (&[usize], &[f32]) {
    match axis {
        Some(axis) => (axis.indices(column), axis.weights(column)),
        None => (&[0], &[1.0]),
    }
}

struct Blend<'a> {
    resize: &'a Resize,
    x: &'a [f32],
    y: SharedSlice<'a, f32>,
    part: Part,
}

impl Blend<'_> {
    /// Where vectors of single elements read, if they lie side by side.
    fn windows(&self) -> Option<&Windows> {
        let dense = self.resize.input_stride == 1 && self.resize.output_stride == 1;
        self.resize.windows.as_ref().filter(|_| dense)
    }
}

impl SimdTask for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let resize = self.resize;
        let (_, last) = resize.rows();
        let input_columns = last.map_or(1, AxisTable::input);
        each_row(
            resize,
            self.y,
            self.part,
            #[inline(always)]
            |rows, to| {
                if let (Some(&[upper, lower]), Some(windows)) = (rows, self.windows()) {
                    let row = |(index, _): (usize, f32)| &self.x[index * input_columns..][..input_columns];
                    return windows.blend(simd, [row(upper), row(lower)], [upper.1, lower.1], to);
                }
                if let (Some(&[upper, lower]), Some(axis)) = (rows, last.filter(|axis| axis.is_linear())) {
                    return Line { resize, x: self.x, rows: [upper, lower], axis }.write(simd, to);
                }
                for (column, to) in to.chunks_mut(resize.output_stride).enumerate() {
                    let to = &mut to[..resize.inner];
                    let outside = last.is_some_and(|axis| axis.is_outside(column));
                    match rows.filter(|_| !outside) {
                        None => to.fill(resize.extrapolation_value),
                        Some(rows) => {
                            let (indices, weights) = column_taps(last, column);
                            let stride = resize.input_stride;
                            let pixel = Pixel { x: self.x, stride, rows, input_columns, indices, weights };
                            pixel.write(simd, to);
                        }
                    }
                }
            },
        );
    }
}

/// The taps of one output pixel.
struct Pixel<'a> {
    x: &'a [f32],
    stride: usize,
    rows: &'a [(usize, f32)],
    input_columns: usize,
    indices: &'a [usize],
    weights: &'a [f32],
}

/// Vectors of channels that are summed together.
const BLOCK: usize = 4;

impl Pixel<'_> {
    /// Blends all channels of the pixel.
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, to: &mut [f32]) {
        let mut first = 0;
        while first + BLOCK * S::LANES <= to.len() {
            let sums = self.sums::<S, BLOCK>(
                simd,
                first,
                to.len(),
                #[inline(always)]
                |x: &[f32], k| {
                    // SAFETY: `BLOCK` vectors follow `first` in every pixel.
                    unsafe { simd.load(x.as_ptr().add(k * S::LANES)) }
                },
            );
            for (k, sum) in sums.into_iter().enumerate() {
                // SAFETY: as above.
                unsafe { simd.store(to.as_mut_ptr().add(first + k * S::LANES), sum) };
            }
            first += BLOCK * S::LANES;
        }
        while first < to.len() {
            let mask = simd.first(to.len() - first);
            let [sum] = self.sums::<S, 1>(
                simd,
                first,
                to.len(),
                #[inline(always)]
                |x: &[f32], _| {
                    // SAFETY: the mask ends with the pixel.
                    unsafe { simd.load_masked(x.as_ptr(), mask) }
                },
            );
            // SAFETY: as above.
            unsafe { simd.store_masked(to.as_mut_ptr().add(first), sum, mask) };
            first += S::LANES;
        }
    }

    /// `N` vectors of sums over all taps; `load` is given the rest of a pixel from channel `first`, and which
    /// vector.
    #[inline(always)]
    fn sums<S: Simd, const N: usize>(
        &self,
        simd: S,
        first: usize,
        channels: usize,
        load: impl Fn(&[f32], usize) -> S::F32,
    ) -> [S::F32; N] {
        let mut sums = [simd.splat(0.0); N];
        for &(row, row_weight) in self.rows {
            for (&index, &weight) in self.indices.iter().zip(self.weights) {
                let x = &self.x[(row * self.input_columns + index) * self.stride..][first..channels];
                let weight = simd.splat(row_weight * weight);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.fma(load(x, k), weight, *sum);
                }
            }
        }
        sums
    }
}

/// One row of outputs between two rows of the input, by number and weight: bilinear interpolation. Pixels are blended down
/// once, and across for every output between them.
struct Line<'a> {
    resize: &'a Resize,
    x: &'a [f32],
    rows: [(usize, f32); 2],
    axis: &'a AxisTable,
}

impl Line<'_> {
    #[inline(always)]
    fn write<S: Simd>(&self, simd: S, to: &mut [f32]) {
        let (channels, wide) = (self.resize.inner, BLOCK * S::LANES);
        let mut first = 0;
        // SAFETY: vectors without a mask end within the channels, and the mask ends with them.
        unsafe {
            while first + wide <= channels {
                self.blocks::<S, BLOCK, false>(simd, first, simd.first(S::LANES), to);
                first += wide;
            }
            while first + S::LANES <= channels {
                self.blocks::<S, 1, false>(simd, first, simd.first(S::LANES), to);
                first += S::LANES;
            }
            if first < channels {
                self.blocks::<S, 1, true>(simd, first, simd.first(channels - first), to);
            }
        }
    }

    /// `N` vectors of channels from `first` of all pixels.
    ///
    /// # Safety
    /// They are channels, where `MASKED` those that `mask` selects.
    #[inline(always)]
    unsafe fn blocks<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        simd: S,
        first: usize,
        mask: S::Mask,
        to: &mut [f32],
    ) {
        let (resize, columns) = (self.resize, self.axis.input());
        let row = |row: usize| {
            let start = row * columns * resize.input_stride;
            &self.x[start..start + resize.span(columns, resize.input_stride)]
        };
        let rows = self.rows.map(|(index, _)| row(index)[first..].as_ptr());
        let down = self.rows.map(
            #[inline(always)]
            |(_, weight)| simd.splat(weight),
        );
        assert!(to.len() == resize.span(self.axis.output(), resize.output_stride), "a row of another length");
        let to = to[first..].as_mut_ptr();
        let at = |index: usize| rows.map(|row| row.wrapping_add(index * resize.input_stride));
        let (mut known_left, mut known_right) = (usize::MAX, usize::MAX);
        let (mut left, mut right) = ([simd.splat(0.0); N], [simd.splat(0.0); N]);
        for column in 0..self.axis.output() {
            let (indices, weights) = (self.axis.indices(column), self.axis.weights(column));
            // SAFETY: indices lie below the columns of the rows.
            unsafe {
                if indices[0] != known_left {
                    let moved = indices[0] == known_right;
                    left = if moved {
                        right
                    } else {
                        blend_down::<S, N, MASKED>(simd, at(indices[0]), down, mask)
                    };
                    known_left = indices[0];
                }
                if indices[1] != known_right {
                    right = blend_down::<S, N, MASKED>(simd, at(indices[1]), down, mask);
                    known_right = indices[1];
                }
            }
            let across = [simd.splat(weights[0]), simd.splat(weights[1])];
            for k in 0..N {
                let y = simd.fma(right[k], across[1], simd.mul(left[k], across[0]));
                // SAFETY: the row of outputs has that many columns.
                unsafe {
                    let to = to.add(column * resize.output_stride + k * S::LANES);
                    if MASKED { simd.store_masked(to, y, mask) } else { simd.store(to, y) }
                }
            }
        }
    }
}

/// The weighted sums of two pixels.
///
/// # Safety
/// `N` vectors are readable at both, of one that is `MASKED` what the mask selects.
#[inline(always)]
unsafe fn blend_down<S: Simd, const N: usize, const MASKED: bool>(
    simd: S,
    pixels: [*const f32; 2],
    weights: [S::F32; 2],
    mask: S::Mask,
) -> [S::F32; N] {
    let mut sums = [simd.splat(0.0); N];
    for (k, sum) in sums.iter_mut().enumerate() {
        // SAFETY: by the caller's promise.
        let [upper, lower] = unsafe {
            let at = [pixels[0].add(k * S::LANES), pixels[1].add(k * S::LANES)];
            if MASKED {
                [simd.load_masked(at[0], mask), simd.load_masked(at[1], mask)]
            } else {
                [simd.load(at[0]), simd.load(at[1])]
            }
        };
        *sum = simd.fma(lower, weights[1], simd.mul(upper, weights[0]));
    }
    sums
}
