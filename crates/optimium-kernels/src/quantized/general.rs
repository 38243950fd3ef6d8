//! Integer products of any types, plainly written: for the combinations that no fast kernel serves.

use super::{QuantizedElement, Rows};
use crate::conv::{Geometry, Parameters};
use crate::{Part, SharedSlice};

/// `c = (a - zero points) · (b - zero points)`, row-major: `m × k` times `k × n`. The zero points of `b` are
/// none (0), one, or one a column. Sums wrap.
///
/// # Panics
/// Where a slice is shorter than the sizes say.
pub fn matmul<A: QuantizedElement, B: QuantizedElement>(
    [m, k, n]: [usize; 3],
    a: &[A],
    a_zero_point: Rows<'_, i32>,
    b: &[B],
    b_zero_point: &[i32],
    c: SharedSlice<'_, i32>,
    part: Part,
) {
    assert!(a.len() >= m * k && b.len() >= k * n && c.len() >= m * n, "{m}×{k} times {k}×{n}");
    for row in part.range(m) {
        // SAFETY: the rows of the parts are disjoint.
        let c = unsafe { c.slice(row * n..(row + 1) * n) };
        c.fill(0);
        let zero = a_zero_point.get(row);
        for i in 0..k {
            let x = a[row * k + i].to_i32().wrapping_sub(zero);
            for (column, sum) in c.iter_mut().enumerate() {
                let y = b[i * n + column].to_i32().wrapping_sub(zero_of(b_zero_point, column));
                *sum = sum.wrapping_add(x.wrapping_mul(y));
            }
        }
    }
}

/// The convolution of `x`, channels last, with `weights`: output channels × input channels of a group ×
/// kernel height × kernel width. The zero points of the weights are none (0), one, or one an output
/// channel. Sums wrap.
///
/// # Panics
/// Where a slice is shorter than the sizes say.
pub fn convolution<A: QuantizedElement, B: QuantizedElement>(
    parameters: &Parameters,
    geometry: &Geometry,
    x: &[A],
    x_zero_point: i32,
    weights: &[B],
    weights_zero_point: &[i32],
    c: SharedSlice<'_, i32>,
    part: Part,
) {
    let Geometry { batch, output: [height, width], output_stride, .. } = *geometry;
    let channels = parameters.output_channels;
    for pixel in part.range(batch * height * width) {
        let at = [pixel / (height * width), pixel / width % height, pixel % width];
        // SAFETY: the pixels of the parts are disjoint.
        let c = unsafe { c.slice(pixel * output_stride..pixel * output_stride + channels) };
        for (channel, sum) in c.iter_mut().enumerate() {
            let zero = zero_of(weights_zero_point, channel);
            *sum = tap_sum(parameters, geometry, x, x_zero_point, weights, zero, at, channel);
        }
    }
}

/// The sum over the taps of one output element.
fn tap_sum<A: QuantizedElement, B: QuantizedElement>(
    parameters: &Parameters,
    geometry: &Geometry,
    x: &[A],
    x_zero_point: i32,
    weights: &[B],
    weight_zero_point: i32,
    [image, oy, ox]: [usize; 3],
    channel: usize,
) -> i32 {
    let Parameters { input_channels, output_channels, kernel, stride, dilation, groups } = *parameters;
    let Geometry { input: [height, width], padding, input_stride, .. } = *geometry;
    let inputs = input_channels / groups;
    let first = channel / (output_channels / groups) * inputs;
    let mut sum = 0i32;
    for (ky, kx) in (0..kernel[0] * kernel[1]).map(|t| (t / kernel[1], t % kernel[1])) {
        let y = (oy * stride[0] + ky * dilation[0]).wrapping_sub(padding[0]);
        let column = (ox * stride[1] + kx * dilation[1]).wrapping_sub(padding[1]);
        if y >= height || column >= width {
            continue;
        }
        let pixel = ((image * height + y) * width + column) * input_stride;
        for i in 0..inputs {
            let a = x[pixel + first + i].to_i32().wrapping_sub(x_zero_point);
            let w = weights[((channel * inputs + i) * kernel[0] + ky) * kernel[1] + kx].to_i32();
            sum = sum.wrapping_add(a.wrapping_mul(w.wrapping_sub(weight_zero_point)));
        }
    }
    sum
}

/// The zero point of a column.
fn zero_of(zero_points: &[i32], column: usize) -> i32 {
    match zero_points {
        [] => 0,
        [one] => *one,
        many => many[column],
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::Random;

    use super::*;

    #[test]
    fn products_match_their_definition() {
        let [m, k, n] = [5, 7, 6];
        let mut random = Random::new(1);
        let a: Vec<i16> = (0..m * k).map(|_| random.bits() as i16).collect();
        let b: Vec<u8> = (0..k * n).map(|_| random.bits() as u8).collect();
        let (rows, columns): (Vec<i32>, Vec<i32>) = ((0..5).collect(), (100..106).collect());
        let expected: Vec<i32> = (0..m * n)
            .map(|i| {
                let (row, column) = (i / n, i % n);
                let term = |j: usize| {
                    (i32::from(a[row * k + j]) - rows[row]) * (i32::from(b[j * n + column]) - columns[column])
                };
                (0..k).map(term).sum()
            })
            .collect();
        for count in 1..=3 {
            let mut c = vec![-1; m * n];
            let shared = SharedSlice::new(&mut c);
            for index in 0..count {
                matmul([m, k, n], &a, Rows::Each(&rows), &b, &columns, shared, Part { index, count });
            }
            assert_eq!(c, expected);
        }
    }

    #[test]
    fn convolutions_sum_the_taps_inside() {
        // Two groups of one channel; a 2×2 kernel over a 2×2 image with a border above and to the left.
        let parameters = Parameters {
            input_channels: 2,
            output_channels: 2,
            kernel: [2, 2],
            stride: [1, 1],
            dilation: [1, 1],
            groups: 2,
        };
        let geometry = Geometry {
            batch: 1,
            input: [2, 2],
            output: [2, 2],
            padding: [1, 1],
            input_stride: 2,
            output_stride: 2,
        };
        let x: [i16; 8] = [1, 10, 2, 20, 3, 30, 4, 40];
        let w: [i8; 8] = [1, 2, 3, 4, 1, 1, 1, 1];
        for count in 1..=3 {
            let mut c = [0; 8];
            let shared = SharedSlice::new(&mut c);
            for index in 0..count {
                convolution(&parameters, &geometry, &x, 0, &w, &[], shared, Part { index, count });
            }
            assert_eq!(c, [4, 10, 11, 30, 14, 40, 30, 100]);
        }
    }
}
