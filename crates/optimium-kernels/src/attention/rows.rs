//! From products to weights: scale, cap, mask, and the exponentials of a softmax whose division is left to the end.

use optimium_simd::{Simd, SimdTask};

use super::operands::{Mask, MaskValues, Operands, Parameters, Sizes};
use crate::{SharedSlice, math};

/// A row of products: query `query` of head `head` of sequence `sequence`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) sequence: usize,
    pub(super) head: usize,
    pub(super) query: usize,
}

/// How far the softmax of a row has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// The largest score so far.
    pub(super) largest: f32,
    /// The sum of the exponentials relative to it.
    pub(super) sum: f32,
    /// What earlier weights have to be multiplied with since the last block of keys.
    pub(super) factor: f32,
}

impl Progress {
    /// Before the first key.
    pub(super) const START: Progress = Progress { largest: f32::NEG_INFINITY, sum: 0.0, factor: 0.0 };

    /// What the weights are to be multiplied with in the end: zero where no key took part.
    pub(super) fn normalizer(&self) -> f32 {
        if self.sum == 0.0 { 0.0 } else { 1.0 / self.sum }
    }
}

/// Turns a block of products into weights.
pub(super) struct Weigh<'a> {
    pub(super) sizes: &'a Sizes,
    pub(super) parameters: &'a Parameters,
    pub(super) operands: &'a Operands<'a>,
    /// The rows of products; row `i` is that of `places(i)`.
    pub(super) products: &'a mut [f32],
    /// Elements from one row to the next.
    pub(super) stride: usize,
    /// The first key.
    pub(super) first: usize,
    /// Number of keys.
    pub(super) count: usize,
    pub(super) places: &'a [Place],
    pub(super) progress: &'a mut [Progress],
}

impl SimdTask for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Weigh { sizes, parameters, operands, products, stride, first, count, places, progress } = self;
        assert!(count <= stride && products.len() >= places.len() * stride);
        for ((&place, progress), row) in places.iter().zip(progress).zip(products.chunks_exact_mut(stride)) {
            let limit = operands.limit(sizes, parameters, place.sequence, place.query);
            let seen = limit.saturating_sub(first).min(count);
            let (row, rest) = row[..count].split_at_mut(seen);
            rest.fill(0.0);
            let scale = parameters.scale;
            // A maximum of products is one of scores only where the order stays.
            let (scale, largest) = if parameters.softcap == 0.0 && operands.mask.is_none() && scale > 0.0 {
                (scale, scale * largest(simd, row))
            } else {
                (1.0, prepare(simd, parameters, operands.mask.as_ref(), place, first, row))
            };
            let old = *progress;
            let largest = largest.max(old.largest);
            if largest == f32::NEG_INFINITY {
                // Nothing takes part so far: exponentials relative to it would be those of NaN.
                row.fill(0.0);
                continue;
            }
            let sum = exponentials(simd, row, scale, largest);
            let factor = (old.largest - largest).exp();
            *progress = Progress { largest, sum: old.sum * factor + sum, factor };
        }
    }
}

/// Makes scores of products with the keys from `first` on, and gives the largest.
#[inline(always)]
fn prepare<S: Simd>(
    simd: S,
    parameters: &Parameters,
    mask: Option<&Mask>,
    place: Place,
    first: usize,
    row: &mut [f32],
) -> f32 {
    let Parameters { scale, softcap, .. } = *parameters;
    let lowest = simd.splat(f32::NEG_INFINITY);
    let mut largest = lowest;
    for at in (0..row.len()).step_by(S::LANES) {
        let count = (row.len() - at).min(S::LANES);
        // SAFETY: the row has these elements, and the mask was checked to have them.
        unsafe {
            let p = row.as_mut_ptr().add(at);
            let mut v = simd.mul(load(simd, p, count), simd.splat(scale));
            if softcap != 0.0 {
                let capped = math::tanh(simd, simd.div(v, simd.splat(softcap)));
                v = simd.mul(capped, simd.splat(softcap));
            }
            if let Some(mask) = mask {
                v = masked(simd, mask, place, first + at, count, v);
            }
            store(simd, p, v, count);
            let v = simd.select(simd.first(count), v, lowest);
            largest = simd.max(v, largest);
        }
    }
    simd.reduce_max(largest)
}

/// Scores with the mask's values for `count` keys from `key` on.
///
/// # Safety
/// The mask has values for them.
#[inline(always)]
unsafe fn masked<S: Simd>(
    simd: S,
    mask: &Mask,
    place: Place,
    key: usize,
    count: usize,
    scores: S::F32,
) -> S::F32 {
    let each = mask.strides[3];
    let at = mask.row(place.sequence, place.head, place.query) + key * each;
    let shared = each == 0;
    match mask.values {
        MaskValues::Added(values) => {
            // SAFETY: by the caller's promise.
            let added = unsafe {
                if shared { simd.splat(values[at]) } else { load(simd, values.as_ptr().add(at), count) }
            };
            simd.add(scores, added)
        }
        MaskValues::Allowed(values) => {
            let allowed = if shared {
                simd.splat_i32(i32::from(values[at]))
            } else {
                // SAFETY: by the caller's promise.
                unsafe { simd.load_u8(values.as_ptr().add(at), count) }
            };
            let out = simd.eq(simd.to_f32(allowed), simd.splat(0.0));
            simd.select(out, simd.splat(f32::NEG_INFINITY), scores)
        }
    }
}

/// The largest element; minus infinity where there is none.
#[inline(always)]
fn largest<S: Simd>(simd: S, row: &[f32]) -> f32 {
    let lowest = simd.splat(f32::NEG_INFINITY);
    let mut largest = [lowest; 4];
    let mut chunks = row.chunks_exact(4 * S::LANES);
    for chunk in &mut chunks {
        for (i, largest) in largest.iter_mut().enumerate() {
            // SAFETY: the chunk has four vectors.
            *largest = unsafe { simd.max(simd.load(chunk.as_ptr().add(i * S::LANES)), *largest) };
        }
    }
    for chunk in chunks.remainder().chunks(S::LANES) {
        // SAFETY: the chunk has so many elements.
        let v = unsafe { load(simd, chunk.as_ptr(), chunk.len()) };
        largest[0] = simd.max(simd.select(simd.first(chunk.len()), v, lowest), largest[0]);
    }
    simd.reduce_max(simd.max(simd.max(largest[0], largest[1]), simd.max(largest[2], largest[3])))
}

/// `row = exp(scale · row - largest)`, and the sum.
#[inline(always)]
fn exponentials<S: Simd>(simd: S, row: &mut [f32], scale: f32, largest: f32) -> f32 {
    let (scale, shift) = (simd.splat(scale), simd.splat(-largest));
    let mut sum = simd.splat(0.0);
    let mut chunks = row.chunks_exact_mut(S::LANES);
    for chunk in &mut chunks {
        // SAFETY: the chunk is a whole vector.
        unsafe {
            let e = math::exp(simd, simd.fma(simd.load(chunk.as_ptr()), scale, shift));
            simd.store(chunk.as_mut_ptr(), e);
            sum = simd.add(sum, e);
        }
    }
    let rest = chunks.into_remainder();
    let mask = simd.first(rest.len());
    // SAFETY: the mask selects the elements that are there.
    unsafe {
        let e = math::exp(simd, simd.fma(simd.load_masked(rest.as_ptr(), mask), scale, shift));
        simd.store_masked(rest.as_mut_ptr(), e, mask);
        sum = simd.add(sum, simd.select(mask, e, simd.splat(0.0)));
    }
    simd.reduce_add(sum)
}

/// The first `count` elements at `p`, or as many as there are lanes.
///
/// # Safety
/// They are readable.
#[inline(always)]
unsafe fn load<S: Simd>(simd: S, p: *const f32, count: usize) -> S::F32 {
    // Masks cost much more than the branch where the instruction set has no mask registers.
    // SAFETY: by the caller's promise.
    unsafe { if count >= S::LANES { simd.load(p) } else { simd.load_masked(p, simd.first(count)) } }
}

/// Stores the first `count` lanes at `p`, or all.
///
/// # Safety
/// They are writable.
#[inline(always)]
unsafe fn store<S: Simd>(simd: S, p: *mut f32, v: S::F32, count: usize) {
    // SAFETY: by the caller's promise.
    unsafe { if count >= S::LANES { simd.store(p, v) } else { simd.store_masked(p, v, simd.first(count)) } }
}

/// `row = factor · row + added`, for every row of a result.
pub(super) struct ScaleRows<'a> {
    /// The rows, of which only this task touches these columns.
    pub(super) rows: SharedSlice<'a, f32>,
    /// Elements from one row to the next.
    pub(super) stride: usize,
    pub(super) columns: usize,
    /// What is added, row by row.
    pub(super) added: Option<&'a [f32]>,
    /// One a row.
    pub(super) factors: &'a [f32],
}

impl SimdTask for ScaleRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let columns = self.columns;
        for (i, &factor) in self.factors.iter().enumerate() {
            let start = i * self.stride;
            // SAFETY: nobody else touches the row.
            let row = unsafe { self.rows.slice(start..start + columns) };
            let added = self.added.map(|added| &added[i * columns..][..columns]);
            let factor = simd.splat(factor);
            for at in (0..columns).step_by(S::LANES) {
                let count = columns - at;
                // SAFETY: the rest of the row has `count` elements, and so has what is added.
                unsafe {
                    let p = row.as_mut_ptr().add(at);
                    let v = load(simd, p, count);
                    let v = match added {
                        Some(added) => simd.fma(v, factor, load(simd, added.as_ptr().add(at), count)),
                        None => simd.mul(v, factor),
                    };
                    store(simd, p, v, count);
                }
            }
        }
    }
}
