//! Normalization of groups of channels over all positions: group and instance normalization.

use optimium_simd::{Level, Simd, SimdTask};

use super::rows::map_columns;
use crate::elementwise::Source;
use crate::reduce::fold::{Add, CentredSquare, Fold, Identity, Term, fold_columns, fold_row};
use crate::{Part, SharedSlice};

/// How groups of channels are normalized: `scale · (x - mean) / √(variance + ε) + bias`.
///
/// Instance normalization has as many groups as channels.
#[derive(Clone, Copy, Debug)]
pub struct GroupNorm<'a> {
    /// Number of groups; divides that of the channels.
    pub groups: usize,
    /// The factor of each channel.
    pub scale: &'a [f32],
    /// The offset of each channel.
    pub bias: &'a [f32],
    /// Added under the root.
    pub epsilon: f32,
}

/// Normalizes groups of channels, of a tensor of `batch`, `channels`, `positions` dimensions, or of
/// `batch`, `positions`, `channels` where `channels_last`. `x` may be the memory of `y`.
///
/// # Panics
/// Where the lengths do not fit, the groups are not whole, or `x` overlaps `y` without being the same.
pub fn group_norm<'a>(
    level: Level,
    norm: GroupNorm<'_>,
    channels_last: bool,
    x: impl Into<Source<'a, f32>>,
    [batch, channels, positions]: [usize; 3],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    let x = x.into();
    x.assert_elementwise(y);
    assert!(
        x.len() == batch * channels * positions,
        "{} elements as {batch}, {channels}, {positions}",
        x.len()
    );
    assert!([norm.scale.len(), norm.bias.len()] == [channels; 2], "parameters for {channels} channels");
    assert!(norm.groups > 0 && channels % norm.groups == 0, "{channels} channels in {} groups", norm.groups);
    let width = channels / norm.groups;
    let task = GroupTask { norm, x, batch, channels, positions, width, y, part };
    if x.is_empty() {
        return;
    }
    if channels_last { level.run(ChannelsLast(task)) } else { level.run(ChannelsFirst(task)) }
}

struct GroupTask<'a, 'b> {
    norm: GroupNorm<'b>,
    x: Source<'a, f32>,
    batch: usize,
    channels: usize,
    positions: usize,
    /// Channels of a group.
    width: usize,
    y: SharedSlice<'b, f32>,
    part: Part,
}

impl GroupTask<'_, '_> {
    /// `1 / √(variance + ε)` of a group whose centred squares have that sum.
    fn factor(&self, squares: f32) -> f32 {
        1.0 / (squares / (self.width * self.positions) as f32 + self.norm.epsilon).sqrt()
    }
}

/// Groups are contiguous, and their channels' positions within them.
struct ChannelsFirst<'a, 'b>(GroupTask<'a, 'b>);

impl SimdTask for ChannelsFirst<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let task = self.0;
        let n = task.width * task.positions;
        for group in task.part.range(task.batch * task.norm.groups) {
            // SAFETY: the group lies in both tensors and is this part's own.
            unsafe {
                let (x, y) = (task.x.as_ptr().add(group * n), task.y.as_mut_ptr().add(group * n));
                let mean = simd.splat(fold_row::<S, Add>(simd, x, n, Identity, simd.splat(0.0)) / n as f32);
                let squares = fold_row::<S, Add>(simd, x, n, CentredSquare, mean);
                let factor = task.factor(squares);
                let first = group % task.norm.groups * task.width;
                for j in 0..task.width {
                    let start = j * task.positions;
                    let scale = simd.splat(factor * task.norm.scale[first + j]);
                    let bias = simd.splat(task.norm.bias[first + j]);
                    map_columns(simd, task.positions, x.add(start), y.add(start), |x, _, _| {
                        simd.fma(simd.sub(x, mean), scale, bias)
                    });
                }
            }
        }
    }
}

/// Groups lie beside each other at each position.
struct ChannelsLast<'a, 'b>(GroupTask<'a, 'b>);

impl SimdTask for ChannelsLast<'_, '_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if S::LANES.is_multiple_of(self.0.width) { self.0.in_lanes(simd) } else { self.0.one_by_one(simd) }
    }
}

impl GroupTask<'_, '_> {
    /// Channels last, vectors of whole groups: a lane for each channel.
    #[inline(always)]
    fn in_lanes<S: Simd>(&self, simd: S) {
        let blocks = self.channels.div_ceil(S::LANES);
        let count = simd.splat((self.width * self.positions) as f32);
        for block in self.part.range(self.batch * blocks) {
            let first = block % blocks * S::LANES;
            let lanes = simd.first(self.channels - first);
            let start = block / blocks * self.positions * self.channels + first;
            // SAFETY: the channels of the selected lanes lie in both tensors and the parameters, and
            // are this part's own.
            unsafe {
                let (x, y) = (self.x.as_ptr().add(start), self.y.as_mut_ptr().add(start));
                let mut sum = [simd.splat(0.0)];
                fold_columns::<S, Add, 1>(
                    simd,
                    x,
                    self.positions,
                    self.channels,
                    lanes,
                    &mut sum,
                    Identity,
                    &[simd.splat(0.0)],
                );
                let mean = simd.div(sum_of_groups(simd, sum[0], self.width), count);
                let mut squares = [simd.splat(0.0)];
                fold_columns::<S, Add, 1>(
                    simd,
                    x,
                    self.positions,
                    self.channels,
                    lanes,
                    &mut squares,
                    CentredSquare,
                    &[mean],
                );
                let squares = sum_of_groups(simd, squares[0], self.width);
                let variance = simd.add(simd.div(squares, count), simd.splat(self.norm.epsilon));
                let scale = simd.load_masked(self.norm.scale.as_ptr().add(first), lanes);
                let scale = simd.div(scale, simd.sqrt(variance));
                let bias = simd.load_masked(self.norm.bias.as_ptr().add(first), lanes);
                for position in 0..self.positions {
                    let offset = position * self.channels;
                    let v = simd.sub(simd.load_masked(x.add(offset), lanes), mean);
                    simd.store_masked(y.add(offset), simd.fma(v, scale, bias), lanes);
                }
            }
        }
    }

    /// Channels last, a group after the other.
    #[inline(always)]
    fn one_by_one<S: Simd>(&self, simd: S) {
        for group in self.part.range(self.batch * self.norm.groups) {
            let first = group % self.norm.groups * self.width;
            let start = group / self.norm.groups * self.positions * self.channels + first;
            // SAFETY: the group's channels lie in both tensors and the parameters, and are this part's
            // own.
            unsafe {
                let (x, y) = (self.x.as_ptr().add(start), self.y.as_mut_ptr().add(start));
                let sum = self.fold_group(simd, x, Identity, simd.splat(0.0));
                let mean = simd.splat(sum / (self.width * self.positions) as f32);
                let squares = self.fold_group(simd, x, CentredSquare, mean);
                let factor = simd.splat(self.factor(squares));
                let (scale, bias) = (self.norm.scale.as_ptr().add(first), self.norm.bias.as_ptr().add(first));
                for position in 0..self.positions {
                    let offset = position * self.channels;
                    map_columns(simd, self.width, x.add(offset), y.add(offset), |x, i, lanes| {
                        let scale = simd.mul(factor, simd.load_masked(scale.add(i), lanes));
                        simd.fma(simd.sub(x, mean), scale, simd.load_masked(bias.add(i), lanes))
                    });
                }
            }
        }
    }

    /// The sum of the terms of the group's channels at all positions.
    ///
    /// # Safety
    /// They are readable.
    #[inline(always)]
    unsafe fn fold_group<S: Simd>(&self, simd: S, x: *const f32, term: impl Term, shift: S::F32) -> f32 {
        let zero = simd.splat(0.0);
        let mut total = zero;
        let mut channel = 0;
        while channel < self.width {
            let lanes = simd.first(self.width - channel);
            let mut sum = [zero];
            // SAFETY: the mask selects channels of the group.
            unsafe {
                let x = x.add(channel);
                fold_columns::<S, Add, 1>(
                    simd,
                    x,
                    self.positions,
                    self.channels,
                    lanes,
                    &mut sum,
                    term,
                    &[shift],
                );
            }
            total = simd.add(total, simd.select(lanes, sum[0], zero));
            channel += S::LANES;
        }
        Add::lanes(simd, total)
    }
}

/// In each lane the sum over the lanes of its group, of which each has `width`.
#[inline(always)]
fn sum_of_groups<S: Simd>(simd: S, v: S::F32, width: usize) -> S::F32 {
    const { assert!(S::LANES <= 16) };
    let mut lanes = [0.0; 16];
    // SAFETY: the array has at least LANES elements.
    unsafe { simd.store(lanes.as_mut_ptr(), v) };
    for group in lanes[..S::LANES].chunks_mut(width) {
        let sum = group.iter().sum();
        group.fill(sum);
    }
    // SAFETY: as above.
    unsafe { simd.load(lanes.as_ptr()) }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    #[test]
    fn groups_and_instances_in_both_layouts() {
        let mut random = Random::new(9);
        let values: Vec<f32> = random.floats(9000).iter().map(|x| x * 2.0 + 3.0).collect();
        let shapes = [
            ([2, 4, 9], 4),
            ([2, 4, 9], 2),
            ([2, 4, 9], 1),
            ([1, 37, 5], 37),
            ([2, 64, 49], 32),
            ([2, 64, 20], 2),
            ([1, 60, 150], 3),
            ([1, 16, 1], 4),
            ([0, 4, 4], 2),
            ([2, 4, 0], 2),
        ];
        let cases = Level::available().flat_map(|level| {
            [false, true].into_iter().flat_map(move |last| shapes.map(|s| (level, last, s)))
        });
        each_case(cases.collect::<Vec<_>>(), |&(level, channels_last, (shape, groups))| {
            let [batch, channels, positions] = shape;
            let x = &values[..batch * channels * positions];
            let (scale, bias) = (&values[8000..8000 + channels], &values[8500..8500 + channels]);
            let norm = GroupNorm { groups, scale, bias, epsilon: 1e-5 };
            let at = |b: usize, c: usize, p: usize| {
                if channels_last {
                    (b * positions + p) * channels + c
                } else {
                    (b * channels + c) * positions + p
                }
            };
            let mut expected = vec![0.0; x.len()];
            let width = channels / groups;
            for group in 0..batch * groups {
                let members: Vec<(usize, usize)> = (0..width)
                    .map(|j| group % groups * width + j)
                    .flat_map(|c| (0..positions).map(move |p| (at(group / groups, c, p), c)))
                    .collect();
                let n = members.len() as f64;
                let mean = members.iter().map(|&(i, _)| f64::from(x[i])).sum::<f64>() / n;
                let variance =
                    members.iter().map(|&(i, _)| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / n;
                for (i, c) in members {
                    let normal = (f64::from(x[i]) - mean) / (variance + 1e-5).sqrt();
                    expected[i] = (normal * f64::from(scale[c]) + f64::from(bias[c])) as f32;
                }
            }
            let mut whole = Vec::new();
            for count in 1..4 {
                let mut y = x.to_vec();
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    group_norm(level, norm, channels_last, shared, shape, shared, Part { index, count });
                }
                compare(&y, &expected, Tolerance::Relative(2e-5))?;
                if count == 1 {
                    whole = y.clone();
                }
                compare(&y, &whole, Tolerance::Exact)?;
            }
            Ok(())
        });
    }
}
