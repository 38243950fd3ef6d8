//! From products to weights: scale, cap, mask, and the exponentials of a softmax whose division is left to the end.

use half::bf16;
use optimium_simd::{Simd, SimdTask};

use super::operands::{Mask, MaskValues, Operands, Parameters, Sizes};
use crate::{Real, SharedSlice, math};

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
    /// The largest score so far, as an exponent of two.
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

/// What a score is multiplied by to be an exponent of two.
const OF_TWO: f32 = std::f32::consts::LOG2_E;

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
    /// Where weights go in pairs of bfloat16, row behind row, if not in the place of the products.
    pub(super) rounded: Option<&'a mut [u32]>,
}

impl SimdTask for Weigh<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Weigh { sizes, parameters, operands, products, stride, first, count, places, progress, rounded } =
            self;
        assert!(count <= stride && products.len() >= places.len() * stride);
        let length = count.next_multiple_of(2);
        let mut rounded = rounded.map(|pairs| {
            let all: &mut [bf16] = bytemuck::cast_slice_mut(pairs);
            all[..places.len() * length].chunks_exact_mut(length.max(1))
        });
        for ((&place, progress), row) in places.iter().zip(progress).zip(products.chunks_exact_mut(stride)) {
            let mut target = rounded.as_mut().and_then(|rows| rows.next());
            let limit = operands.limit(sizes, parameters, place.sequence, place.query);
            let seen = limit.saturating_sub(first).min(count);
            let (row, rest) = row[..count].split_at_mut(seen);
            match &mut target {
                Some(target) => target[seen..].fill(bf16::ZERO),
                None => rest.fill(0.0),
            }
            let scale = parameters.scale;
            // A maximum of products is one of scores only where the order stays.
            let (scale, largest) = if parameters.softcap == 0.0 && operands.mask.is_none() && scale > 0.0 {
                (scale * OF_TWO, largest(simd, row))
            } else {
                (1.0, prepare(simd, parameters, operands.mask.as_ref(), place, first, row))
            };
            let old = *progress;
            let largest = (scale * largest).max(old.largest);
            if largest == f32::NEG_INFINITY {
                // Nothing takes part so far: exponentials relative to it would be those of NaN.
                match target {
                    Some(target) => target.fill(bf16::ZERO),
                    None => row.fill(0.0),
                }
                continue;
            }
            let products: *mut [f32] = row;
            // SAFETY: the row has `seen` elements, and so has what it is rounded to.
            let sum = unsafe {
                match target {
                    Some(target) => {
                        exponentials(simd, products.cast(), &raw mut target[..seen], scale, largest)
                    }
                    None => exponentials(simd, products.cast(), products, scale, largest),
                }
            };
            let factor = (old.largest - largest).exp2();
            *progress = Progress { largest, sum: old.sum * factor + sum, factor };
        }
    }
}

/// Makes scores of products with the keys from `first` on, times [`OF_TWO`], and gives the largest. Of the lowest numbers, which
/// masks like to use, no factor makes minus infinity, nor is one taken from another after a factor: their digits are too large.
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
            let of_two = simd.max(simd.splat(f32::MIN), simd.mul(v, simd.splat(OF_TWO)));
            v = simd.select(simd.eq(v, lowest), lowest, of_two);
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
        MaskValues::Allowed { values, otherwise } => {
            let allowed = if shared {
                simd.splat_i32(i32::from(values[at]))
            } else {
                // SAFETY: by the caller's promise.
                unsafe { simd.load_u8(values.as_ptr().add(at), count) }
            };
            let out = simd.eq(simd.to_f32(allowed), simd.splat(0.0));
            simd.select(out, simd.splat(otherwise), scores)
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

/// `weights = exp2(scale · products - largest)`, and the sum before they are rounded; no exponent is above zero but for roundings.
///
/// # Safety
/// As many products are readable as weights are writable. They may lie in the same place.
#[inline(always)]
unsafe fn exponentials<S: Simd, T: Real>(
    simd: S,
    products: *const f32,
    weights: *mut [T],
    scale: f32,
    largest: f32,
) -> f32 {
    let (scale, shift) = (simd.splat(scale), simd.splat(-largest));
    let (count, weights) = (weights.len(), weights.cast::<T>());
    let mut sum = simd.splat(0.0);
    let whole = count / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: the vector is whole.
        unsafe {
            let exponent = simd.fma(simd.load(products.add(at)), scale, shift);
            let weight = math::exp2_up_to_one(simd, exponent);
            T::store(simd, weights.add(at), weight);
            sum = simd.add(sum, weight);
        }
    }
    if whole < count {
        let mask = simd.first(count - whole);
        // SAFETY: the mask and the count select the elements that are there.
        unsafe {
            let exponent = simd.fma(simd.load_masked(products.add(whole), mask), scale, shift);
            let weight = math::exp2_up_to_one(simd, exponent);
            T::store_first(simd, weights.add(whole), weight, count - whole);
            sum = simd.add(sum, simd.select(mask, weight, simd.splat(0.0)));
        }
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
