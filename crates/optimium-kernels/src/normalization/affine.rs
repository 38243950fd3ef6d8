//! A factor and an offset for each channel: batch normalization at inference.

use optimium_simd::{Level, Simd, SimdTask};

use super::rows::map_columns;
use crate::elementwise::Source;
use crate::{Part, SharedSlice};

/// The factor and the offset of each channel that batch normalization comes to:
/// `scale / √(variance + ε)`, and `bias - mean · factor`.
///
/// # Panics
/// Where the parameters have different lengths.
pub fn batch_norm_affine(
    scale: &[f32],
    bias: &[f32],
    mean: &[f32],
    variance: &[f32],
    epsilon: f32,
) -> (Vec<f32>, Vec<f32>) {
    let n = scale.len();
    assert!([bias.len(), mean.len(), variance.len()] == [n; 3], "parameters of different lengths");
    let factors: Vec<f32> =
        scale.iter().zip(variance).map(|(scale, variance)| scale / (variance + epsilon).sqrt()).collect();
    let offsets = (0..n).map(|i| bias[i] - mean[i] * factors[i]).collect();
    (factors, offsets)
}

/// `y = factor · x + offset` by channel, of a tensor of `outer`, `channels`, `inner` dimensions (`inner`
/// is 1 where channels are last). `x` may be the memory of `y`.
///
/// # Panics
/// Where the lengths do not fit, or `x` overlaps `y` without being the same.
pub fn channel_affine<'a>(
    level: Level,
    x: impl Into<Source<'a, f32>>,
    [outer, channels, inner]: [usize; 3],
    factors: &[f32],
    offsets: &[f32],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    x.assert_elementwise(y);
    let fits = x.len() == outer * channels * inner && [factors.len(), offsets.len()] == [channels; 2];
    assert!(fits, "{} elements as {outer}, {channels}, {inner}", x.len());
    level.run(AffineTask { x, outer, channels, inner, factors, offsets, y, part });
}

struct AffineTask<'a, 'b> {
    x: Source<'a, f32>,
    outer: usize,
    channels: usize,
    inner: usize,
    factors: &'b [f32],
    offsets: &'b [f32],
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl SimdTask for AffineTask<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (x, y) = (self.x.as_ptr(), self.y.as_mut_ptr());
        if self.inner == 1 {
            let (factors, offsets) = (self.factors.as_ptr(), self.offsets.as_ptr());
            for row in self.part.range(self.outer) {
                let start = row * self.channels;
                // SAFETY: the row lies in both tensors, the parameters have as many elements as it,
                // and it is this part's own.
                unsafe {
                    map_columns(simd, self.channels, x.add(start), y.add(start), |x, i, lanes| {
                        let factor = simd.load_masked(factors.add(i), lanes);
                        simd.fma(x, factor, simd.load_masked(offsets.add(i), lanes))
                    });
                }
            }
            return;
        }
        for plane in self.part.range(self.outer * self.channels) {
            let channel = plane % self.channels;
            let (factor, offset) = (simd.splat(self.factors[channel]), simd.splat(self.offsets[channel]));
            let start = plane * self.inner;
            // SAFETY: the plane lies in both tensors and is this part's own.
            unsafe {
                map_columns(simd, self.inner, x.add(start), y.add(start), |x, _, _| {
                    simd.fma(x, factor, offset)
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    #[test]
    fn batch_normalization_in_both_layouts() {
        let mut random = Random::new(8);
        let values = random.floats(4000);
        let shapes =
            [[1, 1, 1], [7, 3, 1], [5, 16, 1], [3, 37, 1], [2, 3, 49], [2, 5, 16], [0, 3, 2], [2, 0, 2]];
        let cases = Level::available().flat_map(|level| shapes.map(|shape| (level, shape)));
        each_case(cases.collect::<Vec<_>>(), |&(level, shape)| {
            let [outer, channels, inner] = shape;
            let x = &values[..outer * channels * inner];
            let parameter = |k: usize| &values[2000 + 100 * k..][..channels];
            let variance: Vec<f32> = parameter(3).iter().map(|v| v.abs()).collect();
            let expected: Vec<f32> = (0..x.len())
                .map(|i| {
                    let c = i / inner % channels;
                    let normal = (x[i] - parameter(2)[c]) / (variance[c] + 1e-3).sqrt();
                    normal * parameter(0)[c] + parameter(1)[c]
                })
                .collect();
            let (factors, offsets) =
                batch_norm_affine(parameter(0), parameter(1), parameter(2), &variance, 1e-3);
            for count in 1..4 {
                let mut y = x.to_vec();
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    channel_affine(level, shared, shape, &factors, &offsets, shared, Part { index, count });
                }
                compare(&y, &expected, Tolerance::Relative(1e-5))?;
            }
            Ok(())
        });
    }
}
