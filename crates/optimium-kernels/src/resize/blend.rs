//! Weighted sums of neighbours.

use optimium_simd::{Simd, SimdTask};

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
        let inner = resize.inner;
        let input_columns = last.map_or(1, AxisTable::input);
        for (column, to) in to.chunks_exact_mut(inner).enumerate() {
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
                        sum += row_weight * weight * x[(row * input_columns + index) * inner + i].to_f32();
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
    let length = last.map_or(1, AxisTable::output) * resize.inner;
    let rows: usize = before.iter().map(AxisTable::output).product();
    if length == 0 {
        return;
    }
    let mut taps = RowTaps::default();
    for row in part.range(resize.outer * rows) {
        let within = taps.set(before, row);
        // SAFETY: each row belongs to one part.
        let to = unsafe { y.slice(row * length..(row + 1) * length) };
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

impl SimdTask for Blend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let resize = self.resize;
        let (_, last) = resize.rows();
        let input_columns = last.map_or(1, AxisTable::input);
        let inner = resize.inner;
        each_row(
            resize,
            self.y,
            self.part,
            #[inline(always)]
            |rows, to| {
                for (column, to) in to.chunks_exact_mut(inner).enumerate() {
                    let outside = last.is_some_and(|axis| axis.is_outside(column));
                    match rows.filter(|_| !outside) {
                        None => to.fill(resize.extrapolation_value),
                        Some(rows) => {
                            let (indices, weights) = column_taps(last, column);
                            let pixel = Pixel { x: self.x, rows, input_columns, indices, weights };
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
        if let ([(upper, upper_weight), (lower, lower_weight)], [left, right], [left_weight, right_weight]) =
            (self.rows, self.indices, self.weights)
        {
            let at = |row: usize, column: usize| {
                &self.x[(row * self.input_columns + column) * to.len()..][..to.len()]
            };
            let pixels = [at(*upper, *left), at(*upper, *right), at(*lower, *left), at(*lower, *right)];
            let weights = [
                upper_weight * left_weight,
                upper_weight * right_weight,
                lower_weight * left_weight,
                lower_weight * right_weight,
            ];
            return write_four(simd, pixels, weights, to);
        }
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
                let x = &self.x[(row * self.input_columns + index) * channels..][first..channels];
                let weight = simd.splat(row_weight * weight);
                for (k, sum) in sums.iter_mut().enumerate() {
                    *sum = simd.fma(load(x, k), weight, *sum);
                }
            }
        }
        sums
    }
}

/// The sum of four pixels of equal length: bilinear interpolation.
#[inline(always)]
fn write_four<S: Simd>(simd: S, pixels: [&[f32]; 4], weights: [f32; 4], to: &mut [f32]) {
    assert!(pixels.iter().all(|pixel| pixel.len() == to.len()), "pixels of different lengths");
    let weights = weights.map(
        #[inline(always)]
        |weight| simd.splat(weight),
    );
    let [a, b, c, d] = pixels.map(<[f32]>::as_ptr);
    let mut first = 0;
    // SAFETY: all pixels have the length of the output by the assertion, and the mask ends with them.
    unsafe {
        while first + S::LANES <= to.len() {
            let values = [
                simd.load(a.add(first)),
                simd.load(b.add(first)),
                simd.load(c.add(first)),
                simd.load(d.add(first)),
            ];
            simd.store(to.as_mut_ptr().add(first), weighted(simd, values, weights));
            first += S::LANES;
        }
        if first < to.len() {
            let mask = simd.first(to.len() - first);
            let values = [
                simd.load_masked(a.add(first), mask),
                simd.load_masked(b.add(first), mask),
                simd.load_masked(c.add(first), mask),
                simd.load_masked(d.add(first), mask),
            ];
            simd.store_masked(to.as_mut_ptr().add(first), weighted(simd, values, weights), mask);
        }
    }
}

#[inline(always)]
fn weighted<S: Simd>(simd: S, [a, b, c, d]: [S::F32; 4], weights: [S::F32; 4]) -> S::F32 {
    let upper = simd.fma(b, weights[1], simd.mul(a, weights[0]));
    simd.add(upper, simd.fma(d, weights[3], simd.mul(c, weights[2])))
}
