//! Keys and values as right matrices of bfloat16.

use optimium_simd::{Level, Simd, SimdTask};

use crate::gemm::{Layout, round_rows};
use crate::{Part, Real, SharedSlice};

/// Packs `count` keys of `size` elements, `stride` apart, as the columns of a matrix. `pairs` has room for all of them.
pub(super) fn pack_keys(
    level: Level,
    keys: &[f32],
    stride: usize,
    [count, size]: [usize; 2],
    layout: &Layout,
    pairs: &mut [u32],
    out: &mut [f32],
) {
    let row = size.div_ceil(2);
    let pairs = &mut pairs[..count * row];
    round_rows(level, keys, stride, size, pairs);
    layout.pack(bytemuck::cast_slice(pairs), 1, row, SharedSlice::new(out), Part::WHOLE);
}

/// Packs `count` values of `size` elements, `stride` apart, as the rows of a matrix. `pairs` has room for all of them.
pub(super) fn pack_values(
    level: Level,
    values: &[f32],
    stride: usize,
    [count, size]: [usize; 2],
    layout: &Layout,
    pairs: &mut [u32],
    out: &mut [f32],
) {
    let pairs = &mut pairs[..count.div_ceil(2) * size];
    level.run_bf16(PairRows { values, stride, count, size, pairs });
    layout.pack(bytemuck::cast_slice(pairs), size, 1, SharedSlice::new(out), Part::WHOLE);
}

/// Rounds two neighbouring rows each to one row of pairs; an odd last one gets zeros for a neighbour.
struct PairRows<'a> {
    values: &'a [f32],
    stride: usize,
    count: usize,
    size: usize,
    pairs: &'a mut [u32],
}

impl SimdTask for PairRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let low_half = simd.splat_i32(0xffff);
        for (i, pairs) in self.pairs.chunks_exact_mut(self.size.max(1)).enumerate() {
            let first = &self.values[2 * i * self.stride..][..self.size];
            let has_second = 2 * i + 1 < self.count;
            let second =
                if has_second { &self.values[(2 * i + 1) * self.stride..][..self.size] } else { &[] };
            for (at, pairs) in pairs.chunks_mut(S::LANES).enumerate() {
                let at = at * S::LANES;
                let low = simd.shift_right_i32(rounded(simd, first, at), 16);
                let high = if has_second { rounded(simd, second, at) } else { simd.splat_i32(0) };
                let both = simd.or_i32(simd.and_i32(low, low_half), high);
                let mask = simd.first(pairs.len());
                // SAFETY: the mask selects the elements of the chunk.
                unsafe { simd.store_i32_masked(pairs.as_mut_ptr().cast(), both, mask) };
            }
        }
    }
}

/// The vector at `at` of a row as bfloat16, in the high halves; zeros behind the row's end.
#[inline(always)]
fn rounded<S: Simd>(simd: S, row: &[f32], at: usize) -> S::I32 {
    const MOST_LANES: usize = 64;
    let row = &row[at..];
    let mut bits = [0u16; MOST_LANES];
    let length = row.len().min(S::LANES);
    // SAFETY: the row has so many elements, and the array room for a vector.
    unsafe {
        simd.store_bf16(bits.as_mut_ptr(), f32::load_first(simd, row.as_ptr(), length), S::LANES);
        simd.to_bits(simd.load_bf16(bits.as_ptr(), S::LANES))
    }
}
