//! Normalization of groups of channels over all positions: group and instance normalization.

use std::ops::Range;

use optimium_simd::{Level, Simd, SimdTask};

use super::rows::map_columns;
use crate::elementwise::Source;
use crate::reduce::fold::{Add, CentredSquare, Identity, Term, fold_columns, fold_row};
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
        let task = self.0;
        let together = (SPAN / task.width).max(1);
        let spans = task.norm.groups.div_ceil(together);
        for index in task.part.range(task.batch * spans) {
            let first = index % spans * together;
            let groups = first..task.norm.groups.min(first + together);
            // SAFETY: the groups lie in both tensors and the parameters, and are this part's own.
            unsafe { task.span(simd, index / spans, groups) }
        }
    }
}

/// Channels whose groups are normalized together, as far as groups are not larger; at least [`VECTORS`] of any level.
const SPAN: usize = 64;
/// Vectors of channels that go down the positions side by side.
const VECTORS: usize = 4;

/// One value for each group of a span.
type OfGroups = [f32; SPAN];

impl GroupTask<'_, '_> {
    /// Channels last, neighbouring groups of one image.
    ///
    /// # Safety
    /// They exist, and nobody else writes them.
    #[inline(always)]
    unsafe fn span<S: Simd>(&self, simd: S, image: usize, groups: Range<usize>) {
        let (first, channels) = (groups.start * self.width, groups.len() * self.width);
        let start = image * self.positions * self.channels + first;
        let count = (self.width * self.positions) as f32;
        // SAFETY: the channels lie in both tensors and the parameters.
        unsafe {
            let (x, y) = (self.x.as_ptr().add(start), self.y.as_mut_ptr().add(start));
            let mut means = self.totals(simd, x, channels, Identity, &[0.0; SPAN]);
            means.iter_mut().for_each(|mean| *mean /= count);
            let mut factors = self.totals(simd, x, channels, CentredSquare, &means);
            factors.iter_mut().for_each(|squares| *squares = self.factor(*squares));
            let mut channel = 0;
            while channel < channels {
                let rest = channels - channel;
                let at = Columns { x: x.add(channel), y: y.add(channel), first: first + channel, rest };
                let of_channels =
                    [self.spread(&means, channel, S::LANES), self.spread(&factors, channel, S::LANES)];
                channel += if rest > (VECTORS - 1) * S::LANES {
                    self.normalize::<S, VECTORS>(simd, at, &of_channels)
                } else {
                    self.normalize::<S, 1>(simd, at, &of_channels)
                };
            }
        }
    }

    /// For each group the sum of the terms of its channels at all positions.
    ///
    /// # Safety
    /// The channels are readable.
    #[inline(always)]
    unsafe fn totals<S: Simd>(
        &self,
        simd: S,
        x: *const f32,
        channels: usize,
        term: impl Term,
        shifts: &OfGroups,
    ) -> OfGroups {
        let mut totals = [0.0; SPAN];
        let mut channel = 0;
        while channel < channels {
            let rest = channels - channel;
            let shifts = self.spread(shifts, channel, S::LANES);
            // SAFETY: so many channels are left.
            let (count, sums) = unsafe {
                let x = x.add(channel);
                if rest > (VECTORS - 1) * S::LANES {
                    self.sums::<S, VECTORS>(simd, x, rest, term, &shifts)
                } else {
                    self.sums::<S, 1>(simd, x, rest, term, &shifts)
                }
            };
            for (i, sum) in sums[..count].iter().enumerate() {
                totals[(channel + i) / self.width] += sum;
            }
            channel += count;
        }
        totals
    }

    /// For the channels at `x`, of which `rest` are left, the sums over all positions, and how many channels those are.
    ///
    /// # Safety
    /// They are readable, and fill all vectors but the last.
    #[inline(always)]
    unsafe fn sums<S: Simd, const V: usize>(
        &self,
        simd: S,
        x: *const f32,
        rest: usize,
        term: impl Term,
        shifts: &OfGroups,
    ) -> (usize, OfGroups) {
        let (mut sums, mut shift) = ([simd.splat(0.0); V], [simd.splat(0.0); V]);
        let mut of_channels = [0.0; SPAN];
        let last = simd.first(rest - (V - 1) * S::LANES);
        // SAFETY: by the caller's promise; the arrays hold all vectors.
        unsafe {
            for (j, shift) in shift.iter_mut().enumerate() {
                *shift = simd.load(shifts.as_ptr().add(j * S::LANES));
            }
            fold_columns::<S, Add, V>(simd, x, self.positions, self.channels, last, &mut sums, term, &shift);
            for (j, &sum) in sums.iter().enumerate() {
                simd.store(of_channels.as_mut_ptr().add(j * S::LANES), sum);
            }
        }
        (rest.min(V * S::LANES), of_channels)
    }

    /// Each channel's value of those of its group, for the vectors from `channel` of the span on.
    #[inline(always)]
    fn spread(&self, of_groups: &OfGroups, channel: usize, lanes: usize) -> OfGroups {
        let mut of_channels = [0.0; SPAN];
        let (mut group, mut within) = (channel / self.width, channel % self.width);
        for value in &mut of_channels[..VECTORS * lanes] {
            // Lanes beyond the last channel hold anything.
            *value = of_groups[group.min(SPAN - 1)];
            within += 1;
            if within == self.width {
                (group, within) = (group + 1, 0);
            }
        }
        of_channels
    }

    /// Normalizes `V` vectors of channels, given their means and factors, and returns how many channels those are.
    ///
    /// # Safety
    /// They fill all vectors but the last, and nobody else writes them.
    #[inline(always)]
    unsafe fn normalize<S: Simd, const V: usize>(
        &self,
        simd: S,
        at: Columns,
        [means, factors]: &[OfGroups; 2],
    ) -> usize {
        let zero = simd.splat(0.0);
        let (mut mean, mut scale, mut bias) = ([zero; V], [zero; V], [zero; V]);
        let last = simd.first(at.rest - (V - 1) * S::LANES);
        let whole = simd.first(S::LANES);
        // SAFETY: by the caller's promise; masks end with the channels.
        unsafe {
            for j in 0..V {
                let (i, mask) = (j * S::LANES, if j + 1 < V { whole } else { last });
                mean[j] = simd.load(means.as_ptr().add(i));
                let factor = simd.load(factors.as_ptr().add(i));
                let parameter = |values: &[f32]| values.as_ptr().wrapping_add(at.first + i);
                scale[j] = simd.mul(factor, simd.load_masked(parameter(self.norm.scale), mask));
                bias[j] = simd.load_masked(parameter(self.norm.bias), mask);
            }
            for position in 0..self.positions {
                let (x, y) = (at.x.add(position * self.channels), at.y.add(position * self.channels));
                for j in 0..V - 1 {
                    let v = simd.sub(simd.load(x.add(j * S::LANES)), mean[j]);
                    simd.store(y.add(j * S::LANES), simd.fma(v, scale[j], bias[j]));
                }
                let (j, i) = (V - 1, (V - 1) * S::LANES);
                let v = simd.sub(simd.load_masked(x.add(i), last), mean[j]);
                simd.store_masked(y.add(i), simd.fma(v, scale[j], bias[j]), last);
            }
        }
        at.rest.min(V * S::LANES)
    }
}

/// Channels from one on, down all positions.
#[derive(Clone, Copy)]
struct Columns {
    x: *const f32,
    y: *mut f32,
    /// The first one, counted through all channels.
    first: usize,
    /// How many there are.
    rest: usize,
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
            ([1, 150, 20], 15),
            ([2, 200, 7], 2),
            ([1, 96, 33], 96),
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
