//! Pools over any number of axes, channels first.

use super::window::{Taps, WindowGeometry};
use crate::{Part, SharedSlice};

/// An element type that has maxima.
pub trait MaxElement: Copy + PartialOrd + Send + Sync {
    /// What a window of padding alone gives.
    const LOWEST: Self;
}

impl MaxElement for f32 {
    const LOWEST: f32 = f32::NEG_INFINITY;
}
impl MaxElement for f64 {
    const LOWEST: f64 = f64::NEG_INFINITY;
}
impl MaxElement for i8 {
    const LOWEST: i8 = i8::MIN;
}
impl MaxElement for u8 {
    const LOWEST: u8 = u8::MIN;
}

/// An element type that has means and norms.
pub trait AverageElement: Copy + Send + Sync {
    /// As a wide number.
    fn wide(self) -> f64;
    /// The nearest element.
    fn narrow(wide: f64) -> Self;
}

impl AverageElement for f32 {
    fn wide(self) -> f64 {
        self.into()
    }
    fn narrow(wide: f64) -> f32 {
        wide as f32
    }
}
impl AverageElement for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn narrow(wide: f64) -> f64 {
        wide
    }
}
impl AverageElement for i8 {
    fn wide(self) -> f64 {
        self.into()
    }
    fn narrow(wide: f64) -> i8 {
        wide.round_ties_even() as i8
    }
}
impl AverageElement for u8 {
    fn wide(self) -> f64 {
        self.into()
    }
    fn narrow(wide: f64) -> u8 {
        wide.round_ties_even() as u8
    }
}

/// How the positions of maxima are counted within a plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndexOrder {
    /// The last axis is the fastest.
    #[default]
    RowMajor,
    /// The first axis is the fastest.
    ColumnMajor,
}

/// The largest element of each window, and, if asked for, its position in the whole tensor (of equal
/// elements the first). Padding does not take part; NaN never wins. A window of padding alone has
/// position -1.
///
/// # Panics
/// Where a slice does not have the size that the geometry says.
pub fn max_pool_nd<T: MaxElement>(
    geometry: &WindowGeometry,
    x: &[T],
    y: SharedSlice<'_, T>,
    indices: Option<(SharedSlice<'_, i64>, IndexOrder)>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    assert!(indices.is_none_or(|(indices, _)| indices.len() == y.len()), "one position an output");
    each_window(geometry, part, |window| {
        let mut best = (T::LOWEST, None);
        window.each_element(|at| {
            let value = x[window.plane + at];
            if value > best.0 || (best.1.is_none() && value == best.0) {
                best = (value, Some(at));
            }
        });
        let index = best.1.map_or(-1, |at| {
            let at = match indices {
                Some((_, IndexOrder::ColumnMajor)) => column_major(&geometry.input, at),
                _ => at,
            };
            (window.plane + at) as i64
        });
        // SAFETY: each output is visited by one part, once; sizes were checked.
        unsafe {
            *y.as_mut_ptr().add(window.output) = best.0;
            if let Some((indices, _)) = indices {
                *indices.as_mut_ptr().add(window.output) = index;
            }
        }
    });
}

/// The mean of each window: over the elements that lie in the tensor, or, with `count_include_pad`, over
/// those that lie in it or its padding.
///
/// # Panics
/// Where a slice does not have the size that the geometry says.
pub fn average_pool_nd<T: AverageElement>(
    geometry: &WindowGeometry,
    count_include_pad: bool,
    x: &[T],
    y: SharedSlice<'_, T>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    each_window(geometry, part, |window| {
        let (mut sum, mut count) = (0.0, 0usize);
        window.each_element(|at| {
            sum += x[window.plane + at].wide();
            count += 1;
        });
        if count_include_pad {
            count = window.taps.iter().map(|taps| taps.padded).product();
        }
        // SAFETY: each output is visited by one part, once; sizes were checked.
        unsafe { *y.as_mut_ptr().add(window.output) = T::narrow(sum / count.max(1) as f64) };
    });
}

/// The `p`-norm of each window, `(Σ |x|ᵖ)^(1/p)`.
///
/// # Panics
/// Where a slice does not have the size that the geometry says.
pub fn lp_pool_nd<T: AverageElement>(
    geometry: &WindowGeometry,
    p: f64,
    x: &[T],
    y: SharedSlice<'_, T>,
    part: Part,
) {
    geometry.check(x.len(), y.len());
    each_window(geometry, part, |window| {
        let mut sum = 0.0;
        window.each_element(|at| sum += x[window.plane + at].wide().abs().powf(p));
        // SAFETY: each output is visited by one part, once; sizes were checked.
        unsafe { *y.as_mut_ptr().add(window.output) = T::narrow(sum.powf(1.0 / p)) };
    });
}

/// One window of one plane.
struct Window<'a> {
    geometry: &'a WindowGeometry,
    taps: &'a [Taps],
    /// Where the plane begins in the input.
    plane: usize,
    /// The window's output.
    output: usize,
}

impl Window<'_> {
    /// Visits the positions within the plane that lie in the window, in row-major order.
    fn each_element(&self, mut visit: impl FnMut(usize)) {
        let count: usize = self.taps.iter().map(|taps| taps.valid.len()).product();
        for element in 0..count {
            let (mut rest, mut at, mut stride) = (element, 0, 1);
            for (taps, &size) in self.taps.iter().zip(&self.geometry.input).rev() {
                let tap = taps.valid.start + rest % taps.valid.len();
                rest /= taps.valid.len();
                at += taps.position(tap) * stride;
                stride *= size;
            }
            visit(at);
        }
    }
}

fn each_window(geometry: &WindowGeometry, part: Part, mut visit: impl FnMut(&Window<'_>)) {
    let (input, outputs) = geometry.sizes();
    let mut taps = vec![Taps::default(); geometry.input.len()];
    for output in part.range(geometry.planes * outputs) {
        let mut rest = output % outputs;
        for axis in (0..taps.len()).rev() {
            taps[axis] = geometry.axis(axis).taps(rest % geometry.output[axis]);
            rest /= geometry.output[axis];
        }
        visit(&Window { geometry, taps: &taps, plane: output / outputs * input, output });
    }
}

fn column_major(shape: &[usize], mut at: usize) -> usize {
    let mut stride: usize = shape.iter().product();
    let mut result = 0;
    for &size in shape.iter().rev() {
        stride /= size;
        result += at % size * stride;
        at /= size;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(input: usize, output: usize, kernel: usize, stride: usize, padding: usize) -> WindowGeometry {
        WindowGeometry {
            planes: 2,
            input: vec![input],
            output: vec![output],
            kernel: vec![kernel],
            stride: vec![stride],
            dilation: vec![1],
            padding: vec![padding],
            padding_end: vec![padding],
        }
    }

    /// The result of `work` with one to three parts, which must agree.
    fn parts<T: Copy + Default + PartialEq>(
        length: usize,
        work: impl Fn(SharedSlice<'_, T>, Part),
    ) -> Vec<T> {
        let results = [1, 2, 3].map(|count| {
            let mut y = vec![T::default(); length];
            for index in 0..count {
                work(SharedSlice::new(&mut y), Part { index, count });
            }
            y
        });
        assert!(results[0] == results[1] && results[0] == results[2]);
        results[0].clone()
    }

    #[test]
    fn lines() {
        let g = line(4, 4, 3, 1, 1);
        let x = [1.0f64, 3.0, -2.0, 5.0, -1.0, -4.0, -4.0, -3.0];
        let maxima = parts(8, |y, part| max_pool_nd(&g, &x, y, None, part));
        assert_eq!(maxima, [3.0, 3.0, 5.0, 5.0, -1.0, -1.0, -3.0, -3.0]);
        let means = parts(8, |y, part| average_pool_nd(&g, false, &x[..], y, part));
        assert_eq!(means[..2], [2.0, 2.0 / 3.0]);
        let padded = parts(8, |y, part| average_pool_nd(&g, true, &x[..], y, part));
        assert_eq!(padded[..2], [4.0 / 3.0, 2.0 / 3.0]);
        let norms = parts(8, |y, part| lp_pool_nd(&g, 2.0, &x[..], y, part));
        assert!((norms[0] - 10f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn the_first_of_equal_maxima_is_named() {
        let g = line(5, 3, 3, 1, 0);
        let x = [1u8, 1, 0, 0, 0, 2, 3, 3, 3, 0];
        let run = |order| {
            parts(6, |indices, part| {
                let mut y = [0u8; 6];
                max_pool_nd(&g, &x, SharedSlice::new(&mut y), Some((indices, order)), part);
            })
        };
        assert_eq!(run(IndexOrder::RowMajor), [0, 1, 2, 6, 6, 7]);
        assert_eq!(run(IndexOrder::ColumnMajor), [0, 1, 2, 6, 6, 7]);
    }

    #[test]
    fn positions_in_both_orders() {
        let mut g = line(3, 1, 3, 1, 0);
        for (list, value) in [
            (&mut g.input, 2),
            (&mut g.output, 1),
            (&mut g.kernel, 2),
            (&mut g.stride, 1),
            (&mut g.dilation, 1),
            (&mut g.padding, 0),
            (&mut g.padding_end, 0),
        ] {
            list.insert(0, value);
        }
        let x = [0i8, 0, 7, 0, 0, 0, 0, 0, 0, 9, 0, 0];
        let run = |order| {
            parts(2, |indices, part| {
                let mut y = [0i8; 2];
                max_pool_nd(&g, &x, SharedSlice::new(&mut y), Some((indices, order)), part);
            })
        };
        assert_eq!(run(IndexOrder::RowMajor), [2, 9]);
        assert_eq!(run(IndexOrder::ColumnMajor), [4, 7]);
    }

    #[test]
    fn windows_of_padding_alone() {
        let g = line(1, 3, 1, 1, 1);
        let mut indices = [0; 6];
        let mut y = [0.0f32; 6];
        let order = IndexOrder::RowMajor;
        let (shared, positions) = (SharedSlice::new(&mut y), SharedSlice::new(&mut indices));
        max_pool_nd(&g, &[4.0, f32::NEG_INFINITY], shared, Some((positions, order)), Part::WHOLE);
        assert_eq!(y[..3], [f32::NEG_INFINITY, 4.0, f32::NEG_INFINITY]);
        assert_eq!(indices, [-1, 0, -1, -1, 1, -1]);
    }
}
