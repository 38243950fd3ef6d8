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
        let (g, wide) = (self.geometry, BLOCK * S::LANES);
        for row in self.part.range(g.batch * g.output[0]) {
            let mut first = 0;
            // SAFETY: sizes were checked at entry; each output row belongs to one part; blocks of channels stay
            // below their number, and masks end with them.
            unsafe {
                while first + wide <= g.channels {
                    self.row::<S, BLOCK>(
                        simd,
                        row,
                        first,
                        #[inline(always)]
                        |p| simd.load(p),
                        #[inline(always)]
                        |p, y| simd.store(p, y),
                    );
                    first += wide;
                }
                while first + S::LANES <= g.channels {
                    self.row::<S, 1>(
                        simd,
                        row,
                        first,
                        #[inline(always)]
                        |p| simd.load(p),
                        #[inline(always)]
                        |p, y| simd.store(p, y),
                    );
                    first += S::LANES;
                }
                if first < g.channels {
                    let mask = simd.first(g.channels - first);
                    self.row::<S, 1>(
                        simd,
                        row,
                        first,
                        #[inline(always)]
                        |p| simd.load_masked(p, mask),
                        #[inline(always)]
                        |p, y| simd.store_masked(p, y, mask),
                    );
                }
            }
        }
    }
}

impl Pool<'_> {
    /// One row of outputs, `N` vectors of channels from `first`: the rows under it stay in the first cache.
    ///
    /// # Safety
    /// The row is one of the outputs', and `load` and `store` keep to its pixels' channels.
    #[inline(always)]
    unsafe fn row<S: Simd, const N: usize>(
        &self,
        simd: S,
        row: usize,
        first: usize,
        load: impl Fn(*const f32) -> S::F32,
        store: impl Fn(*mut f32, S::F32),
    ) {
        let g = self.geometry;
        let [height, width] = g.output;
        let rows = g.axis(0).taps(row % height);
        let image = row / height * g.input[0] * g.input[1];
        for column in 0..width {
            let columns = g.axis(1).taps(column);
            // SAFETY: the taps lie in the image, and the output is one of the row's.
            unsafe {
                let sums = match self.mean {
                    None => self.window::<S, true, N>(simd, image, &rows, &columns, first, &load),
                    Some(padded) => {
                        let sums = self.window::<S, false, N>(simd, image, &rows, &columns, first, &load);
                        let counts = if padded {
                            [rows.padded, columns.padded]
                        } else {
                            [rows.valid.len(), columns.valid.len()]
                        };
                        let count = simd.splat((counts[0] * counts[1]).max(1) as f32);
                        sums.map(
                            #[inline(always)]
                            |sum| simd.div(sum, count),
                        )
                    }
                };
                let y = self.y.as_mut_ptr().add((row * width + column) * g.output_stride + first);
                for (k, sum) in sums.into_iter().enumerate() {
                    store(y.wrapping_add(k * S::LANES), sum);
                }
            }
        }
    }

    /// The maxima or sums of one window.
    ///
    /// # Safety
    /// The taps lie in the image that starts at pixel `image`, and `load` keeps to the channels.
    #[inline(always)]
    unsafe fn window<S: Simd, const MAX: bool, const N: usize>(
        &self,
        simd: S,
        image: usize,
        rows: &Taps,
        columns: &Taps,
        first: usize,
        load: &impl Fn(*const f32) -> S::F32,
    ) -> [S::F32; N] {
        let g = self.geometry;
        let mut sums = [simd.splat(if MAX { f32::NEG_INFINITY } else { 0.0 }); N];
        let step = g.dilation[1] * g.input_stride;
        let column = columns.position(columns.valid.start);
        for i in rows.valid.clone() {
            let pixel = (image + rows.position(i) * g.input[1]).wrapping_add(column);
            // The address of a window without columns is not read.
            let mut x = self.x.as_ptr().wrapping_add(pixel.wrapping_mul(g.input_stride)).wrapping_add(first);
            for _ in columns.valid.clone() {
                for (k, sum) in sums.iter_mut().enumerate() {
                    let value = load(x.wrapping_add(k * S::LANES));
                    *sum = if MAX { simd.max(*sum, value) } else { simd.add(*sum, value) };
                }
                x = x.wrapping_add(step);
            }
        }
        sums
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
