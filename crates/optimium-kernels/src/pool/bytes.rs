//! Maxima of channels-last images of bytes.

use optimium_simd::{Level, Simd, SimdTask};

use super::window::{PoolGeometry, Taps};
use crate::elementwise::Source;
use crate::{Part, SharedSlice};

/// The largest element of each window; padding does not take part, and a window of padding alone gives 0. The
/// input's pixels may lie between those of the output.
///
/// # Panics
/// Where a slice is shorter than the geometry says.
pub fn max_pool_u8(
    level: Level,
    geometry: &PoolGeometry,
    x: Source<'_, u8>,
    y: SharedSlice<'_, u8>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    level.run(Pool { geometry, x, y, part, lowest: u8::MIN });
}

/// As [`max_pool_u8`], signed; a window of padding alone gives -128.
///
/// # Panics
/// Where a slice is shorter than the geometry says.
pub fn max_pool_i8(
    level: Level,
    geometry: &PoolGeometry,
    x: Source<'_, i8>,
    y: SharedSlice<'_, i8>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    level.run(Pool { geometry, x, y, part, lowest: i8::MIN });
}

struct Pool<'a, T> {
    geometry: &'a PoolGeometry,
    x: Source<'a, T>,
    y: SharedSlice<'a, T>,
    part: Part,
    lowest: T,
}

impl<T: Ord + Copy> SimdTask for Pool<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let g = self.geometry;
        let [height, width] = g.output;
        for row in self.part.range(g.batch * height) {
            let rows = g.axis(0).taps(row % height);
            let image = row / height * g.input[0];
            for column in 0..width {
                let columns = g.axis(1).taps(column);
                let window = Window { pool: &self, image, rows: &rows, columns: &columns };
                let to = (row * width + column) * g.output_stride;
                // SAFETY: each output row belongs to one part.
                let y = unsafe { self.y.slice(to..to + g.channels) };
                let (blocks, rest) = y.as_chunks_mut::<BLOCK>();
                let mut channel = 0;
                for block in blocks {
                    *block = window.maxima(channel);
                    channel += BLOCK;
                }
                for y in rest {
                    [*y] = window.maxima(channel);
                    channel += 1;
                }
            }
        }
    }
}

/// Channels whose maxima stay in registers.
const BLOCK: usize = 64;

/// What an output pixel is the maximum of.
struct Window<'a, T> {
    pool: &'a Pool<'a, T>,
    /// The first line of the image.
    image: usize,
    rows: &'a Taps,
    columns: &'a Taps,
}

impl<T: Ord + Copy> Window<'_, T> {
    /// Those of `N` channels, which exist. Compilers vectorise the loop over an array by themselves.
    #[inline(always)]
    fn maxima<const N: usize>(&self, channel: usize) -> [T; N] {
        let g = self.pool.geometry;
        let mut maxima = [self.pool.lowest; N];
        for i in self.rows.valid.clone() {
            let line = (self.image + self.rows.position(i)) * g.input[1];
            for j in self.columns.valid.clone() {
                let pixel = line + self.columns.position(j);
                // SAFETY: a pixel of the image, and the sizes were checked.
                let x = unsafe {
                    self.pool
                        .x
                        .as_ptr()
                        .add(pixel * g.input_stride + channel)
                        .cast::<[T; N]>()
                        .read_unaligned()
                };
                for (maximum, &x) in maxima.iter_mut().zip(&x) {
                    *maximum = (*maximum).max(x);
                }
            }
        }
        maxima
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::{WindowGeometry, max_pool_nd};
    use optimium_testing::{Random, each_case};

    /// Against the plain loops, with the channels moved.
    #[test]
    fn maxima() {
        each_case([1, 3, 16, 33, 64, 100], |&channels| {
            let g = PoolGeometry {
                batch: 1,
                channels,
                input: [5, 6],
                output: [3, 3],
                kernel: [3, 2],
                stride: [2, 2],
                dilation: [1, 1],
                padding: [1, 0],
                padding_end: [1, 0],
                input_stride: channels,
                output_stride: channels,
            };
            let plain = WindowGeometry {
                planes: channels,
                input: g.input.to_vec(),
                output: g.output.to_vec(),
                kernel: g.kernel.to_vec(),
                stride: g.stride.to_vec(),
                dilation: g.dilation.to_vec(),
                padding: g.padding.to_vec(),
                padding_end: g.padding_end.to_vec(),
            };
            let mut random = Random::new(2);
            let x: Vec<i8> = (0..30 * channels).map(|_| random.bits() as i8).collect();
            let planes: Vec<i8> = (0..30 * channels).map(|i| x[i % 30 * channels + i / 30]).collect();
            let mut expected = vec![0i8; 9 * channels];
            max_pool_nd(&plain, &planes, SharedSlice::new(&mut expected), None, Part::WHOLE);
            for level in Level::available() {
                for count in 1..4 {
                    let (mut y, mut flipped) = (vec![0i8; 9 * channels], vec![0u8; 9 * channels]);
                    // The same order as unsigned numbers.
                    let unsigned: Vec<u8> = x.iter().map(|&x| x as u8 ^ 0x80).collect();
                    for index in 0..count {
                        let part = Part { index, count };
                        max_pool_i8(level, &g, (&x).into(), SharedSlice::new(&mut y), part);
                        max_pool_u8(level, &g, (&unsigned).into(), SharedSlice::new(&mut flipped), part);
                    }
                    for i in 0..y.len() {
                        let value = expected[i % channels * 9 + i / channels];
                        if y[i] != value || flipped[i] != value as u8 ^ 0x80 {
                            return Err(format!("{level}, {count} parts: {} instead of {value}", y[i]));
                        }
                    }
                }
            }
            Ok(())
        });
    }
}
