//! Pools of channels-last images of `f32`.

use optimium_simd::{Level, Simd, SimdTask};

use super::window::{PoolGeometry, Taps};
use crate::elementwise::Source;
use crate::{Part, SharedSlice};

/// The largest element of each window; padding does not take part, and a window of padding alone gives -∞. The
/// input's pixels may lie between those of the output.
///
/// # Panics
/// Where a slice is shorter than the geometry says.
pub fn max_pool(
    level: Level,
    geometry: &PoolGeometry,
    x: Source<'_, f32>,
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    level.run(Pool { geometry, x, y, part, mean: None });
}

/// The mean of each window: over the elements that lie in the image, or, with `count_include_pad`, over
/// those that lie in the image or its padding.
///
/// # Panics
/// Where a slice is shorter than the geometry says.
pub fn average_pool(
    level: Level,
    geometry: &PoolGeometry,
    count_include_pad: bool,
    x: Source<'_, f32>,
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    level.run(Pool { geometry, x, y, part, mean: Some(count_include_pad) });
}

/// Vectors of channels that are reduced together.
const BLOCK: usize = 4;

struct Pool<'a> {
    geometry: &'a PoolGeometry,
    x: Source<'a, f32>,
    y: SharedSlice<'a, f32>,
    part: Part,
    /// The mean, and whether it counts padding; else the maximum.
    mean: Option<bool>,
}

impl SimdTask for Pool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let g = self.geometry;
        for row in self.part.range(g.batch * g.output[0]) {
            let mut first = 0;
            while first < g.channels {
                let rest = g.channels - first;
                let vectors = if S::REGISTERS >= 32 { rest.div_ceil(S::LANES) } else { rest / S::LANES };
                // SAFETY: sizes were checked at entry; each output row belongs to one part; the vectors hold channels from
                // `first` on, and the masks of those that may be partial end with them.
                first += unsafe {
                    match (vectors, rest.is_multiple_of(S::LANES)) {
                        (BLOCK.., _) if rest >= BLOCK * S::LANES => {
                            self.row::<S, BLOCK, false>(simd, row, first)
                        }
                        // Masks are slow in the main loop on some processors that have AVX2 only.
                        (1.., whole) if S::REGISTERS < 32 || (vectors == 1 && whole) => {
                            self.row::<S, 1, false>(simd, row, first)
                        }
                        (2, _) => self.row::<S, 2, true>(simd, row, first),
                        (3, _) => self.row::<S, 3, true>(simd, row, first),
                        (4, _) => self.row::<S, 4, true>(simd, row, first),
                        _ => self.row::<S, 1, true>(simd, row, first),
                    }
                };
            }
        }
    }
}

/// The channels from one on, as vectors.
#[derive(Clone, Copy)]
struct Channels<S: Simd> {
    first: usize,
    /// Those of the last vector that exist.
    last: S::Mask,
}

impl Pool<'_> {
    /// One row of outputs, `N` vectors of channels from `first`, of which the last may be partial where `MASKED`: the rows under it
    /// stay in the first cache. Returns how many channels those are.
    ///
    /// # Safety
    /// The row is one of the outputs', and so many channels exist.
    #[inline(always)]
    unsafe fn row<S: Simd, const N: usize, const MASKED: bool>(
        &self,
        simd: S,
        row: usize,
        first: usize,
    ) -> usize {
        let g = self.geometry;
        let [height, width] = g.output;
        let rows = g.axis(0).taps(row % height);
        let image = row / height * g.input[0] * g.input[1];
        let count = (g.channels - first).min(N * S::LANES);
        let channels = Channels::<S> { first, last: simd.first(count - (N - 1) * S::LANES) };
        for column in 0..width {
            let columns = g.axis(1).taps(column);
            // SAFETY: the taps lie in the image, and the output is one of the row's.
            unsafe {
                let sums = match self.mean {
                    None => self.window::<S, true, N, MASKED>(simd, image, &rows, &columns, channels),
                    Some(padded) => {
                        let mut sums =
                            self.window::<S, false, N, MASKED>(simd, image, &rows, &columns, channels);
                        let counts = if padded {
                            [rows.padded, columns.padded]
                        } else {
                            [rows.valid.len(), columns.valid.len()]
                        };
                        let count = simd.splat((counts[0] * counts[1]).max(1) as f32);
                        for sum in &mut sums {
                            *sum = simd.div(*sum, count);
                        }
                        sums
                    }
                };
                let y = self.y.as_mut_ptr().add((row * width + column) * g.output_stride + first);
                for (k, sum) in sums.into_iter().enumerate() {
                    let y = y.wrapping_add(k * S::LANES);
                    if MASKED && k == N - 1 {
                        simd.store_masked(y, sum, channels.last);
                    } else {
                        simd.store(y, sum);
                    }
                }
            }
        }
        count
    }

    /// The maxima or sums of one window.
    ///
    /// # Safety
    /// The taps lie in the image that starts at pixel `image`, and the channels exist.
    #[inline(always)]
    unsafe fn window<S: Simd, const MAX: bool, const N: usize, const MASKED: bool>(
        &self,
        simd: S,
        image: usize,
        rows: &Taps,
        columns: &Taps,
        channels: Channels<S>,
    ) -> [S::F32; N] {
        let g = self.geometry;
        let mut sums = [simd.splat(if MAX { f32::NEG_INFINITY } else { 0.0 }); N];
        let step = g.dilation[1] * g.input_stride;
        let row_step = g.dilation[0] * g.input[1] * g.input_stride;
        // A window without elements may begin before the image: the address wraps, and is not read.
        let pixel = rows
            .position(rows.valid.start)
            .wrapping_mul(g.input[1])
            .wrapping_add(image)
            .wrapping_add(columns.position(columns.valid.start));
        let mut x =
            self.x.as_ptr().wrapping_add(pixel.wrapping_mul(g.input_stride)).wrapping_add(channels.first);
        // SAFETY: forwarded; the elements follow each other at those steps.
        unsafe {
            match (rows.valid.len(), columns.valid.len()) {
                // Loops of known length have no branch to predict.
                (2, 2) => {
                    for _ in 0..2 {
                        for j in 0..2 {
                            let x = x.wrapping_add(j * step);
                            take::<S, MAX, N, MASKED>(simd, &mut sums, x, channels.last);
                        }
                        x = x.wrapping_add(row_step);
                    }
                }
                (3, 3) => {
                    for _ in 0..3 {
                        for j in 0..3 {
                            let x = x.wrapping_add(j * step);
                            take::<S, MAX, N, MASKED>(simd, &mut sums, x, channels.last);
                        }
                        x = x.wrapping_add(row_step);
                    }
                }
                (height, width) => {
                    for _ in 0..height {
                        for j in 0..width {
                            let x = x.wrapping_add(j * step);
                            take::<S, MAX, N, MASKED>(simd, &mut sums, x, channels.last);
                        }
                        x = x.wrapping_add(row_step);
                    }
                }
            }
        }
        sums
    }
}

/// Takes the vectors of one pixel into the maxima or sums.
///
/// # Safety
/// `N` vectors are readable at `x`, the last of them where `last` says if `MASKED`.
#[inline(always)]
unsafe fn take<S: Simd, const MAX: bool, const N: usize, const MASKED: bool>(
    simd: S,
    sums: &mut [S::F32; N],
    x: *const f32,
    last: S::Mask,
) {
    for (k, sum) in sums.iter_mut().enumerate() {
        let x = x.wrapping_add(k * S::LANES);
        // SAFETY: forwarded.
        let value = unsafe { if MASKED && k == N - 1 { simd.load_masked(x, last) } else { simd.load(x) } };
        *sum = if MAX { simd.max(*sum, value) } else { simd.add(*sum, value) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use optimium_testing::{Random, Tolerance, compare, each_case};

    /// Input, kernel, stride, dilation, padding at both ends, channels.
    type Case = ([usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2], usize);

    fn geometry((input, kernel, stride, dilation, padding, channels): Case) -> PoolGeometry {
        let output = [0, 1].map(|i| {
            let reach = dilation[i] * (kernel[i] - 1) + 1;
            (input[i] + 2 * padding[i] + stride[i]).saturating_sub(reach) / stride[i]
        });
        PoolGeometry {
            batch: 2,
            channels,
            input,
            output,
            kernel,
            stride,
            dilation,
            padding,
            padding_end: padding,
            input_stride: channels + 1,
            output_stride: channels + 2,
        }
    }

    /// Maximum, mean over the image, mean over the padding too.
    fn reference(g: &PoolGeometry, x: &[f32], y: [&mut [f32]; 3]) {
        let [maxima, means, padded] = y;
        for pixel in 0..g.batch * g.output[0] * g.output[1] {
            let (image, row, column) =
                (pixel / g.output[1] / g.output[0], pixel / g.output[1] % g.output[0], pixel % g.output[1]);
            for channel in 0..g.channels {
                let (mut best, mut sum, mut count, mut all) = (f32::NEG_INFINITY, 0.0, 0, 0);
                for (i, j) in (0..g.kernel[0]).flat_map(|i| (0..g.kernel[1]).map(move |j| (i, j))) {
                    let at =
                        [row * g.stride[0] + i * g.dilation[0], column * g.stride[1] + j * g.dilation[1]];
                    let within = |k: usize| at[k] < g.padding[k] + g.input[k] + g.padding_end[k];
                    all += usize::from(within(0) && within(1));
                    let [row, column] = [0, 1].map(|k| at[k].wrapping_sub(g.padding[k]));
                    if row < g.input[0] && column < g.input[1] {
                        let pixel = (image * g.input[0] + row) * g.input[1] + column;
                        let value = x[pixel * g.input_stride + channel];
                        (best, sum, count) = (best.max(value), sum + value, count + 1);
                    }
                }
                let to = pixel * g.output_stride + channel;
                (maxima[to], means[to]) = (best, sum / count.max(1) as f32);
                padded[to] = sum / all.max(1) as f32;
            }
        }
    }

    #[test]
    fn maxima_and_means() {
        let cases: Vec<Case> = vec![
            ([6, 7], [2, 2], [2, 2], [1, 1], [0, 0], 5),
            ([6, 7], [3, 3], [2, 2], [1, 1], [1, 1], 16),
            ([6, 7], [3, 3], [1, 1], [1, 1], [1, 1], 70),
            ([5, 9], [5, 5], [1, 1], [1, 1], [2, 2], 100),
            ([3, 4], [7, 3], [1, 1], [1, 1], [5, 0], 33),
            ([1, 300], [3, 3], [1, 1], [1, 1], [1, 1], 3),
            ([9, 9], [3, 2], [1, 2], [2, 3], [1, 2], 17),
            ([1, 1], [1, 1], [1, 1], [1, 1], [0, 0], 1),
            ([2, 2], [3, 3], [3, 3], [1, 1], [4, 4], 3),
            ([4, 4], [2, 2], [1, 1], [1, 1], [0, 0], 0),
        ];
        each_case(cases, |&case| {
            let g = geometry(case);
            let x = Random::new(5).floats(g.batch * g.input[0] * g.input[1] * g.input_stride);
            let length = g.batch * g.output[0] * g.output[1] * g.output_stride;
            let mut expected = [0; 3].map(|_| vec![9.0; length]);
            let [a, b, c] = &mut expected;
            reference(&g, &x, [a, b, c]);
            for level in Level::available() {
                for count in 1..4 {
                    let mut y = [0; 3].map(|_| vec![9.0; length]);
                    for index in 0..count {
                        let part = Part { index, count };
                        max_pool(level, &g, (&x).into(), SharedSlice::new(&mut y[0]), part);
                        average_pool(level, &g, false, (&x).into(), SharedSlice::new(&mut y[1]), part);
                        average_pool(level, &g, true, (&x).into(), SharedSlice::new(&mut y[2]), part);
                    }
                    for (y, expected) in y.iter().zip(&expected) {
                        compare(y, expected, Tolerance::Relative(1e-6))
                            .map_err(|e| format!("{level}, {count} parts: {e}"))?;
                    }
                }
            }
            Ok(())
        });
    }
}
