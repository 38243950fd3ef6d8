//! Between floats and quantized integers.

use optimium_simd::{Level, Simd, SimdTask};

use super::output::to_byte_values;
use super::{Quantization, load_values, store_values};
use crate::{Part, SharedSlice};

/// Elements that a part's share is a multiple of.
const GRANULE: usize = 64;

/// An integer type that floats are quantized to.
pub trait QuantizedElement: Copy + Send + Sync + 'static {
    /// The smallest value.
    const LOW: i32;
    /// The largest value.
    const HIGH: i32;
    /// The value.
    fn to_i32(self) -> i32;
    /// Of a value within the bounds.
    fn from_i32(value: i32) -> Self;
    /// Reads `n` elements; the other lanes are zero.
    ///
    /// # Safety
    /// `n <= LANES` elements are readable at `p`.
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const Self, n: usize) -> S::I32 {
        let mut lanes = [0i32; 16];
        for (i, lane) in lanes.iter_mut().enumerate().take(n.min(S::LANES)) {
            // SAFETY: the caller's promise.
            *lane = unsafe { *p.add(i) }.to_i32();
        }
        // SAFETY: a vector has at most sixteen lanes.
        unsafe { simd.load_i32(lanes.as_ptr()) }
    }
    /// Stores four vectors of values that may lie outside the bounds, saturated; gives false where it cannot.
    ///
    /// # Safety
    /// `4 * LANES` elements are writable at `p`.
    #[inline(always)]
    unsafe fn store_saturated<S: Simd>(simd: S, p: *mut Self, v: [S::I32; 4]) -> bool {
        let _ = (simd, p, v);
        false
    }
    /// Stores `n` values, which lie within the bounds.
    ///
    /// # Safety
    /// `n <= LANES` elements are writable at `p`.
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut Self, v: S::I32, n: usize) {
        let mut lanes = [0i32; 16];
        // SAFETY: a vector has at most sixteen lanes.
        unsafe { simd.store_i32(lanes.as_mut_ptr(), v) };
        for (i, &lane) in lanes.iter().enumerate().take(n.min(S::LANES)) {
            // SAFETY: the caller's promise.
            unsafe { *p.add(i) = Self::from_i32(lane) };
        }
    }
}

impl QuantizedElement for u8 {
    const LOW: i32 = 0;
    const HIGH: i32 = 255;
    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn from_i32(value: i32) -> u8 {
        value as u8
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const u8, n: usize) -> S::I32 {
        // SAFETY: the caller's promise.
        unsafe { simd.load_u8(p, n) }
    }
    #[inline(always)]
    unsafe fn store_saturated<S: Simd>(simd: S, p: *mut u8, v: [S::I32; 4]) -> bool {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bytes(p.cast(), simd.order_packed(simd.pack_u8(v)), 4 * S::LANES) };
        true
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut u8, v: S::I32, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_u8(p, v, n) }
    }
}

impl QuantizedElement for i8 {
    const LOW: i32 = -128;
    const HIGH: i32 = 127;
    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn from_i32(value: i32) -> i8 {
        value as i8
    }
    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, p: *const i8, n: usize) -> S::I32 {
        // SAFETY: the caller's promise.
        unsafe { simd.load_i8(p, n) }
    }
    #[inline(always)]
    unsafe fn store_saturated<S: Simd>(simd: S, p: *mut i8, v: [S::I32; 4]) -> bool {
        // SAFETY: the caller's promise.
        unsafe { simd.store_bytes(p.cast(), simd.order_packed(simd.pack_i8(v)), 4 * S::LANES) };
        true
    }
    #[inline(always)]
    unsafe fn store<S: Simd>(simd: S, p: *mut i8, v: S::I32, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { simd.store_i8(p, v, n) }
    }
}

impl QuantizedElement for u16 {
    const LOW: i32 = 0;
    const HIGH: i32 = 65535;
    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn from_i32(value: i32) -> u16 {
        value as u16
    }
}

impl QuantizedElement for i16 {
    const LOW: i32 = -32768;
    const HIGH: i32 = 32767;
    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }
    #[inline(always)]
    fn from_i32(value: i32) -> i16 {
        value as i16
    }
}

/// Only to be read: [`quantize_linear`] has no such result.
impl QuantizedElement for i32 {
    const LOW: i32 = i32::MIN;
    const HIGH: i32 = i32::MAX;
    #[inline(always)]
    fn to_i32(self) -> i32 {
        self
    }
    #[inline(always)]
    fn from_i32(value: i32) -> i32 {
        value
    }
}

/// A tensor seen from its quantized axis: `outer × channels × inner` elements, one scale a channel. With
/// one channel the whole tensor has one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Elements before the axis.
    pub outer: usize,
    /// Elements of the axis.
    pub channels: usize,
    /// Elements after it.
    pub inner: usize,
}

impl Channels {
    /// One scale for `n` elements.
    pub fn per_tensor(n: usize) -> Channels {
        Channels { outer: 1, channels: 1, inner: n }
    }

    fn len(self) -> usize {
        self.outer * self.channels * self.inner
    }

    /// The stretch that begins at element `i`: its first channel, its length, and whether each element has
    /// its own channel.
    #[inline(always)]
    fn stretch(self, i: usize, end: usize) -> (usize, usize, bool) {
        if self.inner == 1 && self.channels > 1 {
            let channel = i % self.channels;
            (channel, (self.channels - channel).min(end - i), true)
        } else {
            (i / self.inner % self.channels, (self.inner - i % self.inner).min(end - i), false)
        }
    }

    fn check(self, x: usize, y: usize, scales: usize, zero_points: usize) {
        let n = self.len();
        assert!(x == n && y == n, "{x} elements to {y}, for {self:?}");
        let complete = scales == self.channels && (zero_points == 0 || zero_points == self.channels);
        assert!(n == 0 || complete, "{scales} scales, {zero_points} zero points for {self:?}");
    }
}

/// `y = saturate(round(x / scale) + zero_point)`, with one scale and one zero point a channel; no zero
/// points are zeros.
///
/// # Panics
/// Where the lengths do not fit.
pub fn quantize_linear<T: QuantizedElement>(
    level: Level,
    x: &[f32],
    channels: Channels,
    scale: &[f32],
    zero_point: &[i32],
    y: SharedSlice<'_, T>,
    part: Part,
) {
    channels.check(x.len(), y.len(), scale.len(), zero_point.len());
    level.run(Quantize { x, channels, scale, zero_point, y, part });
}

struct Quantize<'a, T> {
    x: &'a [f32],
    channels: Channels,
    scale: &'a [f32],
    zero_point: &'a [i32],
    y: SharedSlice<'a, T>,
    part: Part,
}

/// Scale and zero point of the `n` elements from channel `channel` on: their own, or one for all.
///
/// # Safety
/// The channels exist.
#[inline(always)]
unsafe fn parameters<S: Simd>(
    simd: S,
    scale: &[f32],
    zero_point: &[i32],
    channel: usize,
    n: usize,
    each: bool,
) -> (S::F32, S::I32) {
    if !each {
        let zero = zero_point.get(channel).copied().unwrap_or(0);
        return (simd.splat(scale[channel]), simd.splat_i32(zero));
    }
    let mask = simd.first(n);
    // SAFETY: the caller's promise.
    unsafe {
        let scale = simd.load_masked(scale.as_ptr().add(channel), mask);
        if zero_point.is_empty() {
            (scale, simd.splat_i32(0))
        } else {
            (scale, simd.load_i32_masked(zero_point.as_ptr().add(channel), mask))
        }
    }
}

impl<T: QuantizedElement> SimdTask for Quantize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let range = self.part.range_of_granules(self.x.len(), GRANULE);
        let (low, high) = (simd.splat(T::LOW as f32), simd.splat(T::HIGH as f32));
        let mut start = range.start;
        while start < range.end {
            let (channel, length, each) = self.channels.stretch(start, range.end);
            let reciprocal = if each { None } else { self.reciprocal(channel) };
            let mut i = 0;
            while i < length {
                if let Some(reciprocal) = reciprocal
                    && length - i >= 4 * S::LANES
                    // SAFETY: the stretch lies in the tensor, and the range is this part's.
                    && unsafe { self.by_reciprocal(simd, start + i, channel, reciprocal) }
                {
                    i += 4 * S::LANES;
                    continue;
                }
                let n = S::LANES.min(length - i);
                let first = if each { channel + i } else { channel };
                // SAFETY: the stretch lies in the tensor, its channels exist, and the range is this part's.
                unsafe {
                    let (scale, zero) = parameters(simd, self.scale, self.zero_point, first, n, each);
                    let x = simd.load_masked(self.x.as_ptr().add(start + i), simd.first(n));
                    let zero = simd.to_f32(zero);
                    let steps = simd.round(simd.div(x, scale));
                    let value = simd.min(simd.max(simd.add(steps, zero), low), high);
                    T::store(simd, self.y.as_mut_ptr().add(start + i), simd.round_to_i32(value), n);
                }
                i += n;
            }
            start += length;
        }
    }
}

impl<T: QuantizedElement> Quantize<'_, T> {
    /// The reciprocal of a scale, where it tells of most elements what the quotient rounds to.
    fn reciprocal(&self, channel: usize) -> Option<f32> {
        let scale = self.scale[channel];
        let zero = self.zero_point.get(channel).copied().unwrap_or(0);
        let usable = T::HIGH <= 255 && (T::LOW..=T::HIGH).contains(&zero);
        (usable && scale.is_normal() && scale.recip().is_normal()).then(|| scale.recip())
    }

    /// Quantizes four vectors from element `start` on; false where it cannot tell what an element rounds to.
    ///
    /// # Safety
    /// The elements exist, and are this part's.
    #[inline(always)]
    unsafe fn by_reciprocal<S: Simd>(&self, simd: S, start: usize, channel: usize, reciprocal: f32) -> bool {
        // Far beyond what any byte stands for; products up to it are less than a thousandth away from the quotient.
        let bound = 1000.0;
        let zero = simd.splat_i32(self.zero_point.get(channel).copied().unwrap_or(0));
        let mut bytes = [zero; 4];
        let mut farthest = simd.splat(0.0);
        for (v, bytes) in bytes.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let x = unsafe { simd.load(self.x.as_ptr().add(start + v * S::LANES)) };
            let product = simd.mul(x, simd.splat(reciprocal));
            let product = simd.min(simd.max(product, simd.splat(-bound)), simd.splat(bound));
            let rounded = simd.round_to_i32(product);
            *bytes = simd.add_i32(rounded, zero);
            farthest = simd.max(farthest, simd.abs(simd.sub(product, simd.to_f32(rounded))));
        }
        if simd.any(simd.lt(simd.splat(0.499), farthest)) {
            return false;
        }
        // SAFETY: the caller's promise.
        unsafe { T::store_saturated(simd, self.y.as_mut_ptr().add(start), bytes) }
    }
}

/// `y = (x - zero_point) · scale`, with one scale and one zero point a channel; no zero points are zeros.
///
/// # Panics
/// Where the lengths do not fit.
pub fn dequantize_linear<T: QuantizedElement>(
    level: Level,
    x: &[T],
    channels: Channels,
    scale: &[f32],
    zero_point: &[i32],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    channels.check(x.len(), y.len(), scale.len(), zero_point.len());
    level.run(DequantizeTask { x, channels, scale, zero_point, y, part });
}

struct DequantizeTask<'a, T> {
    x: &'a [T],
    channels: Channels,
    scale: &'a [f32],
    zero_point: &'a [i32],
    y: SharedSlice<'a, f32>,
    part: Part,
}

impl<T: QuantizedElement> SimdTask for DequantizeTask<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let range = self.part.range_of_granules(self.x.len(), GRANULE);
        let mut start = range.start;
        while start < range.end {
            let (channel, length, each) = self.channels.stretch(start, range.end);
            let mut i = 0;
            while i < length {
                let n = S::LANES.min(length - i);
                let first = if each { channel + i } else { channel };
                // SAFETY: the stretch lies in the tensor, its channels exist, and the range is this part's.
                unsafe {
                    let (scale, zero) = parameters(simd, self.scale, self.zero_point, first, n, each);
                    let steps = simd.sub_i32(T::load(simd, self.x.as_ptr().add(start + i), n), zero);
                    let value = simd.mul(simd.to_f32(steps), scale);
                    simd.store_masked(self.y.as_mut_ptr().add(start + i), value, simd.first(n));
                }
                i += n;
            }
            start += length;
        }
    }
}

/// A tensor whose axis is quantized in blocks: `outer × axis × inner` elements, and
/// `outer × ⌈axis / block⌉ × inner` scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Elements before the axis.
    pub outer: usize,
    /// Elements of the axis.
    pub axis: usize,
    /// Elements after it.
    pub inner: usize,
    /// Elements of the axis that share a scale.
    pub block: usize,
}

impl Blocks {
    /// The index of the scale of element `i`.
    fn scale_of(self, i: usize) -> usize {
        let (outer, axis, inner) = (i / (self.axis * self.inner), i / self.inner % self.axis, i % self.inner);
        (outer * self.axis.div_ceil(self.block) + axis / self.block) * self.inner + inner
    }

    fn check(self, x: usize, y: usize, scales: usize, zero_points: usize) {
        assert!(self.block > 0, "blocks of no elements");
        let n = self.outer * self.axis * self.inner;
        let blocks = self.outer * self.axis.div_ceil(self.block) * self.inner;
        assert!(x == n && y == n, "{x} elements to {y}, for {self:?}");
        assert!(
            scales == blocks && (zero_points == 0 || zero_points == blocks),
            "{scales} scales for {self:?}"
        );
    }
}

/// As [`quantize_linear`], with a scale and a zero point for each block of the axis.
///
/// # Panics
/// Where the lengths do not fit.
pub fn quantize_linear_blocked<T: QuantizedElement>(
    x: &[f32],
    blocks: Blocks,
    scale: &[f32],
    zero_point: &[i32],
    y: SharedSlice<'_, T>,
    part: Part,
) {
    blocks.check(x.len(), y.len(), scale.len(), zero_point.len());
    let range = part.range_of_granules(x.len(), GRANULE);
    // SAFETY: the ranges of the parts are disjoint.
    let y = unsafe { y.slice(range.clone()) };
    for (i, y) in range.zip(y) {
        let block = blocks.scale_of(i);
        let zero = zero_point.get(block).copied().unwrap_or(0);
        let steps = (x[i] / scale[block]).round_ties_even() + zero as f32;
        *y = T::from_i32(steps.clamp(T::LOW as f32, T::HIGH as f32) as i32);
    }
}

/// As [`dequantize_linear`], with a scale and a zero point for each block of the axis.
///
/// # Panics
/// Where the lengths do not fit.
pub fn dequantize_linear_blocked<T: QuantizedElement>(
    x: &[T],
    blocks: Blocks,
    scale: &[f32],
    zero_point: &[i32],
    y: SharedSlice<'_, f32>,
    part: Part,
) {
    blocks.check(x.len(), y.len(), scale.len(), zero_point.len());
    let range = part.range_of_granules(x.len(), GRANULE);
    // SAFETY: the ranges of the parts are disjoint.
    let y = unsafe { y.slice(range.clone()) };
    for (i, y) in range.zip(y) {
        let block = blocks.scale_of(i);
        let zero = zero_point.get(block).copied().unwrap_or(0);
        *y = x[i].to_i32().wrapping_sub(zero) as f32 * scale[block];
    }
}

/// The smallest and the largest of this part's elements and zero.
pub fn dynamic_range_part(level: Level, x: &[f32], part: Part) -> (f32, f32) {
    level.run(MinMax(&x[part.range_of_granules(x.len(), GRANULE)]))
}

struct MinMax<'a>(&'a [f32]);

impl SimdTask for MinMax<'_> {
    type Output = (f32, f32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, f32) {
        let mut low = [simd.splat(0.0); 4];
        let mut high = [simd.splat(0.0); 4];
        let mut chunks = self.0.chunks_exact(4 * S::LANES);
        for chunk in &mut chunks {
            for v in 0..4 {
                // SAFETY: the chunk has four vectors.
                let x = unsafe { simd.load(chunk.as_ptr().add(v * S::LANES)) };
                low[v] = simd.min(x, low[v]);
                high[v] = simd.max(x, high[v]);
            }
        }
        for rest in chunks.remainder().chunks(S::LANES) {
            // SAFETY: no more than the rest's elements are read; the zeros beside them change nothing.
            let x = unsafe { simd.load_masked(rest.as_ptr(), simd.first(rest.len())) };
            low[0] = simd.min(x, low[0]);
            high[0] = simd.max(x, high[0]);
        }
        let low = simd.min(simd.min(low[0], low[1]), simd.min(low[2], low[3]));
        let high = simd.max(simd.max(high[0], high[1]), simd.max(high[2], high[3]));
        (simd.reduce_min(low), simd.reduce_max(high))
    }
}

/// Scale and zero point of unsigned bytes that cover `low..=high`, which includes zero, as ONNX's
/// `DynamicQuantizeLinear` defines them; a range of zero alone has scale 1.
pub fn dynamic_parameters(low: f32, high: f32) -> (f32, u8) {
    let scale = if low == high { 1.0 } else { (high - low) / 255.0 };
    let zero_point = (-low / scale).clamp(0.0, 255.0).round_ties_even();
    (scale, zero_point as u8)
}

/// Scale and zero point of unsigned bytes for `x`, as ONNX's `DynamicQuantizeLinear` defines them.
pub fn dynamic_range(level: Level, x: &[f32]) -> (f32, u8) {
    let (low, high) = dynamic_range_part(level, x, Part::WHOLE);
    dynamic_parameters(low, high)
}

/// ONNX's `DynamicQuantizeLinear`: quantizes `x` to unsigned bytes and gives the scale and the zero point.
///
/// # Panics
/// Where the lengths differ.
pub fn dynamic_quantize_linear(level: Level, x: &[f32], y: SharedSlice<'_, u8>) -> (f32, u8) {
    let (scale, zero_point) = dynamic_range(level, x);
    let channels = Channels::per_tensor(x.len());
    quantize_linear(level, x, channels, &[scale], &[i32::from(zero_point)], y, Part::WHOLE);
    (scale, zero_point)
}

/// Bytes of one quantization as bytes of another.
///
/// # Panics
/// Where the lengths differ.
pub fn requantize(
    level: Level,
    x: &[u8],
    from: Quantization,
    y: SharedSlice<'_, u8>,
    to: Quantization,
    part: Part,
) {
    assert!(x.len() == y.len(), "{} elements into {}", x.len(), y.len());
    level.run(RequantizeTask { x, from, y, to, part });
}

struct RequantizeTask<'a> {
    x: &'a [u8],
    from: Quantization,
    y: SharedSlice<'a, u8>,
    to: Quantization,
    part: Part,
}

impl SimdTask for RequantizeTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let RequantizeTask { x, from, y, to, part } = self;
        let factor = simd.splat(from.scale / to.scale);
        let (low, high) = to.limits();
        let range = part.range_of_granules(x.len(), GRANULE);
        let mut i = range.start;
        while i < range.end {
            let n = S::LANES.min(range.end - i);
            // SAFETY: the range lies in both slices and is this part's alone.
            unsafe {
                let steps = load_values(simd, x.as_ptr().add(i), n, from.signed);
                let steps = simd.to_f32(simd.sub_i32(steps, simd.splat_i32(from.zero_point)));
                let bytes = to_byte_values(simd, simd.mul(steps, factor), to.zero_point, low, high);
                store_values(simd, y.as_mut_ptr().add(i), bytes, n, to.signed);
            }
            i += n;
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, Tolerance, compare, each_case};

    use super::*;

    const SHAPES: [Channels; 8] = [
        Channels { outer: 1, channels: 1, inner: 0 },
        Channels { outer: 1, channels: 1, inner: 1 },
        Channels { outer: 1, channels: 1, inner: 200 },
        Channels { outer: 3, channels: 5, inner: 1 },
        Channels { outer: 9, channels: 37, inner: 1 },
        Channels { outer: 2, channels: 3, inner: 17 },
        Channels { outer: 1, channels: 7, inner: 64 },
        Channels { outer: 4, channels: 1, inner: 33 },
    ];

    fn check<T: QuantizedElement>(zero_points: bool) {
        let cases = Level::available().flat_map(|level| SHAPES.into_iter().map(move |shape| (level, shape)));
        each_case(cases, |&(level, shape)| {
            let mut random = Random::new(8);
            let n = shape.len();
            let spread = (T::HIGH as f32 - T::LOW as f32) * 0.05;
            let x: Vec<f32> = random.floats(n).into_iter().map(|x| x * spread).collect();
            let scale: Vec<f32> = (0..shape.channels).map(|_| 0.11 + 0.05 * random.f32()).collect();
            let zero: Vec<i32> = if zero_points {
                (0..shape.channels)
                    .map(|_| random.range(i64::from(T::LOW), i64::from(T::HIGH)) as i32)
                    .collect()
            } else {
                vec![]
            };
            let channel = |i: usize| i / shape.inner % shape.channels;
            let zero_of = |i: usize| zero.get(channel(i)).copied().unwrap_or(0);
            let expected: Vec<f32> = (0..n)
                .map(|i| {
                    let steps = (x[i] / scale[channel(i)]).round_ties_even() + zero_of(i) as f32;
                    steps.clamp(T::LOW as f32, T::HIGH as f32)
                })
                .collect();
            let back: Vec<f32> =
                (0..n).map(|i| (expected[i] as i32 - zero_of(i)) as f32 * scale[channel(i)]).collect();
            for count in 1..=3 {
                let mut y = vec![T::from_i32(1); n];
                let shared = SharedSlice::new(&mut y);
                for index in 0..count {
                    quantize_linear(level, &x, shape, &scale, &zero, shared, Part { index, count });
                }
                let values: Vec<f32> = y.iter().map(|y| y.to_i32() as f32).collect();
                compare(&values, &expected, Tolerance::Exact)?;
                let mut z = vec![f32::NAN; n];
                let shared = SharedSlice::new(&mut z);
                for index in 0..count {
                    dequantize_linear(level, &y, shape, &scale, &zero, shared, Part { index, count });
                }
                compare(&z, &back, Tolerance::Exact)?;
            }
            Ok(())
        });
    }

    #[test]
    fn elements_are_quantized_and_back() {
        for zero_points in [false, true] {
            check::<u8>(zero_points);
            check::<i8>(zero_points);
            check::<u16>(zero_points);
            check::<i16>(zero_points);
        }
    }

    #[test]
    fn quotients_near_ties_round_as_they_do_when_divided() {
        each_case(Level::available(), |&level| {
            for scale in [0.1f32, 0.007_843_137, 1.0 / 3.0, 1.7e-5, 2.5] {
                let near = |i: i32, ulps: i32| {
                    let tie = (i as f32 + 0.5) * scale;
                    f32::from_bits(tie.to_bits().wrapping_add_signed(ulps))
                };
                let x: Vec<f32> = (-300..300).flat_map(|i| (-3..=3).map(move |ulps| near(i, ulps))).collect();
                let one = |x: &f32| ((x / scale).round_ties_even() + 3.0).clamp(0.0, 255.0) as u8;
                let expected: Vec<u8> = x.iter().map(one).collect();
                let mut actual = vec![0u8; x.len()];
                let y = SharedSlice::new(&mut actual);
                quantize_linear(level, &x, Channels::per_tensor(x.len()), &[scale], &[3], y, Part::WHOLE);
                if let Some(i) = (0..x.len()).find(|&i| actual[i] != expected[i]) {
                    return Err(format!("{} / {scale} gives {} instead of {}", x[i], actual[i], expected[i]));
                }
            }
            Ok(())
        });
    }

    #[test]
    fn infinities_saturate() {
        each_case(Level::available(), |&level| {
            let x = [f32::INFINITY, f32::NEG_INFINITY, 1e30, -1e30];
            let mut y = [0u8; 4];
            let channels = Channels::per_tensor(4);
            quantize_linear(level, &x, channels, &[0.5], &[9], SharedSlice::new(&mut y), Part::WHOLE);
            if y == [255, 0, 255, 0] { Ok(()) } else { Err(format!("{y:?}")) }
        });
    }

    #[test]
    fn blocks_have_their_own_scales() {
        let blocks = Blocks { outer: 2, axis: 5, inner: 3, block: 2 };
        let mut random = Random::new(2);
        let x: Vec<f32> = random.floats(30).into_iter().map(|x| x * 20.0).collect();
        let scale: Vec<f32> = (0..18).map(|i| 0.1 + 0.02 * i as f32).collect();
        let zero: Vec<i32> = (0..18).map(|i| i - 9).collect();
        let mut expected = vec![];
        for (outer, axis, inner) in (0..30).map(|i| (i / 15, i / 3 % 5, i % 3)) {
            let s = (outer * 3 + axis / 2) * 3 + inner;
            let steps = (x[(outer * 5 + axis) * 3 + inner] / scale[s]).round_ties_even() as i32 + zero[s];
            expected.push(steps.clamp(-128, 127));
        }
        for count in 1..=3 {
            let (mut y, mut z) = (vec![0i8; 30], vec![0.0; 30]);
            let shared = SharedSlice::new(&mut y);
            for index in 0..count {
                quantize_linear_blocked(&x, blocks, &scale, &zero, shared, Part { index, count });
            }
            assert_eq!(y.iter().map(|&y| i32::from(y)).collect::<Vec<_>>(), expected);
            let shared = SharedSlice::new(&mut z);
            for index in 0..count {
                dequantize_linear_blocked(&y, blocks, &scale, &zero, shared, Part { index, count });
            }
            for (i, &z) in z.iter().enumerate() {
                let s = blocks.scale_of(i);
                assert_eq!(z, (expected[i] - zero[s]) as f32 * scale[s]);
            }
        }
    }

    #[test]
    fn dynamic_quantization_follows_onnx() {
        // The examples of the operator's specification.
        let examples: [(&[f32], f32, u8, &[u8]); 4] = [
            (&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5], 0.019_607_844, 153, &[153, 255, 0, 26, 221, 179]),
            (&[-1.0, -2.1, -1.3, -2.5, -3.34, -4.0], 0.015_686_275, 255, &[191, 121, 172, 96, 42, 0]),
            (&[1.0, 2.1, 1.3, 2.5, 3.34, 4.0], 0.015_686_275, 0, &[64, 134, 83, 159, 213, 255]),
            (&[0.0, 0.0], 1.0, 0, &[0, 0]),
        ];
        let cases =
            Level::available().flat_map(|level| examples.into_iter().map(move |example| (level, example)));
        each_case(cases, |&(level, (x, scale, zero_point, expected))| {
            let mut y = vec![1; x.len()];
            let found = dynamic_quantize_linear(level, x, SharedSlice::new(&mut y));
            if found == (scale, zero_point) && y == expected {
                Ok(())
            } else {
                Err(format!("{found:?} {y:?}"))
            }
        });
    }

    #[test]
    fn ranges_include_zero_and_every_part() {
        let cases = Level::available().flat_map(|level| [0, 1, 15, 64, 300].map(|n| (level, n)));
        each_case(cases, |&(level, n)| {
            let x: Vec<f32> = Random::new(n as u64).floats(n).into_iter().map(|x| x + 0.5).collect();
            let expected = x.iter().fold((0f32, 0f32), |(low, high), &x| (low.min(x), high.max(x)));
            for count in 1..=3 {
                let found = (0..count)
                    .map(|index| dynamic_range_part(level, &x, Part { index, count }))
                    .fold((0f32, 0f32), |a, b| (a.0.min(b.0), a.1.max(b.1)));
                if found != expected {
                    return Err(format!("{found:?} instead of {expected:?}"));
                }
            }
            Ok(())
        });
    }

    #[test]
    fn bytes_move_between_quantizations() {
        let from = Quantization { scale: 0.5, zero_point: 100, signed: false };
        let to = Quantization { scale: 1.0, zero_point: -20, signed: true };
        each_case(Level::available(), |&level| {
            let x: Vec<u8> = (0..=255).collect();
            for count in 1..=3 {
                let mut y = vec![0; 256];
                let shared = SharedSlice::new(&mut y);
                (0..count).for_each(|index| requantize(level, &x, from, shared, to, Part { index, count }));
                for (i, &y) in y.iter().enumerate() {
                    let steps = ((i as f32 - 100.0) * 0.5).round_ties_even() - 20.0;
                    if f32::from(y as i8) != steps.clamp(-128.0, 127.0) {
                        return Err(format!("{i}: {}", y as i8));
                    }
                }
            }
            Ok(())
        });
    }
}
