//! AVX2 with FMA and F16C: eight lanes, sixteen registers, masks in vectors.

use std::arch::x86_64::*;

use super::proven;
use crate::{Level, Simd, SimdTask};

/// AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub struct Avx2(());

impl Avx2 {
    /// The proof that this machine has it.
    #[inline]
    pub fn detect() -> Option<Self> {
        (is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c"))
        .then_some(Self(()))
    }

    /// Runs `task` with the features switched on.
    #[inline]
    pub fn enter<T: SimdTask>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn inner<T: SimdTask>(simd: Avx2, task: T) -> T::Output {
            task.run(simd)
        }
        proven!(inner(self, task))
    }
}

/// Reads `n <= 8` values of a narrow type one by one into an array.
///
/// # Safety
/// `n` elements are readable at `p`.
#[inline(always)]
unsafe fn partial<T: Copy + Default>(p: *const T, n: usize) -> [T; 8] {
    let mut out = [T::default(); 8];
    // SAFETY: the caller promises n readable elements, and the array holds eight.
    unsafe { std::ptr::copy_nonoverlapping(p, out.as_mut_ptr(), n.min(8)) };
    out
}

/// Transposes a block: pairs, then quadruples within the halves, then the halves themselves.
#[inline(always)]
fn transpose_8x8(_: Avx2, rows: [__m256; 8]) -> [__m256; 8] {
    let mut pairs = rows;
    for i in 0..4 {
        pairs[2 * i] = proven!(_mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]));
        pairs[2 * i + 1] = proven!(_mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
    let mut quads = rows;
    for i in 0..2 {
        for half in 0..2 {
            let (a, b) = (pairs[4 * i + half], pairs[4 * i + half + 2]);
            quads[4 * i + 2 * half] = proven!(_mm256_shuffle_ps::<0x44>(a, b));
            quads[4 * i + 2 * half + 1] = proven!(_mm256_shuffle_ps::<0xee>(a, b));
        }
    }
    let mut out = rows;
    for i in 0..4 {
        out[i] = proven!(_mm256_permute2f128_ps::<0x20>(quads[i], quads[4 + i]));
        out[4 + i] = proven!(_mm256_permute2f128_ps::<0x31>(quads[i], quads[4 + i]));
    }
    out
}

/// Clamped to the exponents of normal numbers.
#[inline(always)]
fn normal_exponent(_: Avx2, e: __m256i) -> __m256i {
    proven!(_mm256_min_epi32(_mm256_max_epi32(e, _mm256_set1_epi32(-126)), _mm256_set1_epi32(127)))
}

/// `2ᵉ` for the exponent of a normal number.
#[inline(always)]
fn power_of_two(_: Avx2, e: __m256i) -> __m256 {
    proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(e, _mm256_set1_epi32(127)))))
}

impl Simd for Avx2 {
    type F32 = __m256;
    type I32 = __m256i;
    type Mask = __m256i;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;
    const LEVEL: Level = Level::Avx2;

    #[inline(always)]
    fn call<T: SimdTask>(self, task: T) -> T::Output {
        self.enter(task)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m256 {
        proven!(_mm256_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m256 {
        proven!(_mm256_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m256) {
        proven!(_mm256_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __m256i) -> __m256 {
        proven!(_mm256_maskload_ps(p, mask))
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: __m256, mask: __m256i) {
        proven!(_mm256_maskstore_ps(p, mask, v))
    }
    #[inline(always)]
    fn first(self, n: usize) -> __m256i {
        let count = n.min(8) as i32;
        proven!(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)))
    }
    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        proven!(_mm_prefetch::<_MM_HINT_T1>(p.cast()))
    }
    #[inline(always)]
    unsafe fn transpose(
        self,
        source: *const f32,
        source_stride: usize,
        target: *mut f32,
        target_stride: usize,
    ) {
        let mut rows = [self.splat(0.0); 8];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: the caller promises eight rows of eight elements.
            *row = unsafe { self.load(source.add(i * source_stride)) };
        }
        for (i, row) in transpose_8x8(self, rows).into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { self.store(target.add(i * target_stride), row) };
        }
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        proven!(_mm256_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        proven!(_mm256_min_ps(a, b))
    }
    #[inline(always)]
    fn neg(self, a: __m256) -> __m256 {
        proven!(_mm256_xor_ps(a, _mm256_set1_ps(-0.0)))
    }
    #[inline(always)]
    fn abs(self, a: __m256) -> __m256 {
        proven!(_mm256_andnot_ps(_mm256_set1_ps(-0.0), a))
    }
    #[inline(always)]
    fn copysign(self, a: __m256, sign: __m256) -> __m256 {
        let bit = proven!(_mm256_set1_ps(-0.0));
        proven!(_mm256_or_ps(_mm256_andnot_ps(bit, a), _mm256_and_ps(bit, sign)))
    }
    #[inline(always)]
    fn sqrt(self, a: __m256) -> __m256 {
        proven!(_mm256_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m256) -> __m256 {
        proven!(_mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn floor(self, a: __m256) -> __m256 {
        proven!(_mm256_floor_ps(a))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: __m256, n: __m256) -> __m256 {
        // Three factors, each a normal power of two. The largest comes last: what the ones before it
        // might round is lost in the result anyway.
        let clamped = proven!(_mm256_min_ps(_mm256_max_ps(n, _mm256_set1_ps(-300.0)), _mm256_set1_ps(300.0)));
        let exponent = proven!(_mm256_cvtps_epi32(clamped));
        let last = normal_exponent(self, exponent);
        let rest = proven!(_mm256_sub_epi32(exponent, last));
        let second = normal_exponent(self, rest);
        let first = proven!(_mm256_sub_epi32(rest, second));
        self.mul(
            self.mul(self.mul(a, power_of_two(self, first)), power_of_two(self, second)),
            power_of_two(self, last),
        )
    }
    #[inline(always)]
    fn lt(self, a: __m256, b: __m256) -> __m256i {
        proven!(_mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b)))
    }
    #[inline(always)]
    fn le(self, a: __m256, b: __m256) -> __m256i {
        proven!(_mm256_castps_si256(_mm256_cmp_ps::<_CMP_LE_OQ>(a, b)))
    }
    #[inline(always)]
    fn eq(self, a: __m256, b: __m256) -> __m256i {
        proven!(_mm256_castps_si256(_mm256_cmp_ps::<_CMP_EQ_OQ>(a, b)))
    }
    #[inline(always)]
    fn any(self, mask: __m256i) -> bool {
        proven!(_mm256_testz_si256(mask, mask)) == 0
    }
    #[inline(always)]
    fn select(self, mask: __m256i, on: __m256, off: __m256) -> __m256 {
        proven!(_mm256_blendv_ps(off, on, _mm256_castsi256_ps(mask)))
    }
    #[inline(always)]
    fn permute_pair(self, a: __m256, b: __m256, index: __m256i) -> __m256 {
        // The bit that tells the vectors apart, as the sign that blends look at.
        let of_b = proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<28>(index)));
        proven!(_mm256_blendv_ps(
            _mm256_permutevar8x32_ps(a, index),
            _mm256_permutevar8x32_ps(b, index),
            of_b
        ))
    }
    #[inline(always)]
    fn permute(self, a: __m256, lanes: __m256i) -> __m256 {
        proven!(_mm256_permutevar8x32_ps(a, lanes))
    }
    #[inline(always)]
    fn reduce_add(self, a: __m256) -> f32 {
        let half = proven!(_mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)));
        let pair = proven!(_mm_add_ps(half, _mm_movehl_ps(half, half)));
        proven!(_mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair))))
    }
    #[inline(always)]
    fn reduce_max(self, a: __m256) -> f32 {
        let half = proven!(_mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)));
        let pair = proven!(_mm_max_ps(half, _mm_movehl_ps(half, half)));
        proven!(_mm_cvtss_f32(_mm_max_ss(pair, _mm_movehdup_ps(pair))))
    }
    #[inline(always)]
    fn reduce_min(self, a: __m256) -> f32 {
        let half = proven!(_mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a)));
        let pair = proven!(_mm_min_ps(half, _mm_movehl_ps(half, half)));
        proven!(_mm_cvtss_f32(_mm_min_ss(pair, _mm_movehdup_ps(pair))))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m256i {
        proven!(_mm256_set1_epi32(x))
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> __m256i {
        proven!(_mm256_loadu_si256(p.cast()))
    }
    #[inline(always)]
    unsafe fn store_i32(self, p: *mut i32, v: __m256i) {
        proven!(_mm256_storeu_si256(p.cast(), v))
    }
    #[inline(always)]
    unsafe fn load_i32_masked(self, p: *const i32, mask: __m256i) -> __m256i {
        proven!(_mm256_maskload_epi32(p, mask))
    }
    #[inline(always)]
    unsafe fn store_i32_masked(self, p: *mut i32, v: __m256i, mask: __m256i) {
        proven!(_mm256_maskstore_epi32(p, mask, v))
    }
    #[inline(always)]
    fn add_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_sub_epi32(a, b))
    }
    #[inline(always)]
    fn mul_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn max_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_max_epi32(a, b))
    }
    #[inline(always)]
    fn min_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_min_epi32(a, b))
    }
    #[inline(always)]
    fn xor_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_xor_si256(a, b))
    }
    #[inline(always)]
    fn and_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_and_si256(a, b))
    }
    #[inline(always)]
    fn or_i32(self, a: __m256i, b: __m256i) -> __m256i {
        proven!(_mm256_or_si256(a, b))
    }
    #[inline(always)]
    fn shift_left_i32(self, a: __m256i, n: u32) -> __m256i {
        proven!(_mm256_sllv_epi32(a, _mm256_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn shift_right_i32(self, a: __m256i, n: u32) -> __m256i {
        proven!(_mm256_srav_epi32(a, _mm256_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn to_bits(self, a: __m256) -> __m256i {
        proven!(_mm256_castps_si256(a))
    }
    #[inline(always)]
    fn from_bits(self, a: __m256i) -> __m256 {
        proven!(_mm256_castsi256_ps(a))
    }
    #[inline(always)]
    fn round_to_i32(self, a: __m256) -> __m256i {
        proven!(_mm256_cvtps_epi32(a))
    }
    #[inline(always)]
    fn to_f32(self, a: __m256i) -> __m256 {
        proven!(_mm256_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn dot_u8_i8(self, acc: __m256i, a: __m256i, b: __m256i) -> __m256i {
        // Even and odd bytes apart as 16-bit pairs: `vpmaddubsw` would saturate.
        let low = proven!(_mm256_set1_epi16(0x00ff));
        let even = proven!(_mm256_madd_epi16(
            _mm256_and_si256(a, low),
            _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(b))
        ));
        let odd = proven!(_mm256_madd_epi16(_mm256_srli_epi16::<8>(a), _mm256_srai_epi16::<8>(b)));
        proven!(_mm256_add_epi32(acc, _mm256_add_epi32(even, odd)))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> __m256i {
        let bytes: u64 = if n >= 8 {
            proven!(p.cast::<u64>().read_unaligned())
        } else {
            u64::from_le_bytes(proven!(partial(p, n)))
        };
        proven!(_mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes as i64)))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8, n: usize) -> __m256i {
        let bytes: u64 = if n >= 8 {
            proven!(p.cast::<u64>().read_unaligned())
        } else {
            u64::from_le_bytes(proven!(partial(p.cast::<u8>(), n)))
        };
        proven!(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(bytes as i64)))
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: __m256i, n: usize) {
        let words = proven!(_mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)));
        let bytes = proven!(_mm_cvtsi128_si64(_mm_packus_epi16(words, words))).to_le_bytes();
        proven!(std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n.min(8)))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: __m256i, n: usize) {
        let words = proven!(_mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)));
        let bytes = proven!(_mm_cvtsi128_si64(_mm_packs_epi16(words, words))).to_le_bytes();
        proven!(std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), p, n.min(8)))
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m256i {
        if n >= 32 {
            return proven!(_mm256_loadu_si256(p.cast()));
        }
        let mut bytes = [0u8; 32];
        proven!(std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n));
        proven!(_mm256_loadu_si256(bytes.as_ptr().cast()))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m256i, n: usize) {
        if n >= 32 {
            return proven!(_mm256_storeu_si256(p.cast(), v));
        }
        let mut bytes = [0u8; 32];
        proven!(_mm256_storeu_si256(bytes.as_mut_ptr().cast(), v));
        proven!(std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n));
    }
    #[inline(always)]
    unsafe fn load_byte_halves(self, p: *const u8, q: *const u8, n: usize) -> __m256i {
        if n >= 16 {
            return proven!(_mm256_loadu2_m128i(q.cast(), p.cast()));
        }
        let mut bytes = [0u8; 32];
        proven!(std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr(), n));
        proven!(std::ptr::copy_nonoverlapping(q, bytes.as_mut_ptr().add(16), n));
        proven!(_mm256_loadu_si256(bytes.as_ptr().cast()))
    }
    #[inline(always)]
    unsafe fn store_byte_halves(self, p: *mut u8, q: *mut u8, v: __m256i, n: usize) {
        if n >= 16 {
            return proven!(_mm256_storeu2_m128i(q.cast(), p.cast(), v));
        }
        let mut bytes = [0u8; 32];
        proven!(_mm256_storeu_si256(bytes.as_mut_ptr().cast(), v));
        proven!(std::ptr::copy_nonoverlapping(bytes.as_ptr(), p, n));
        proven!(std::ptr::copy_nonoverlapping(bytes.as_ptr().add(16), q, n));
    }
    #[inline(always)]
    fn interleave_bytes(self, rows: [__m256i; 4]) -> [__m256i; 4] {
        let [a, b, c, d] = rows;
        let (low_ab, high_ab) = proven!((_mm256_unpacklo_epi8(a, b), _mm256_unpackhi_epi8(a, b)));
        let (low_cd, high_cd) = proven!((_mm256_unpacklo_epi8(c, d), _mm256_unpackhi_epi8(c, d)));
        proven!([
            _mm256_unpacklo_epi16(low_ab, low_cd),
            _mm256_unpackhi_epi16(low_ab, low_cd),
            _mm256_unpacklo_epi16(high_ab, high_cd),
            _mm256_unpackhi_epi16(high_ab, high_cd),
        ])
    }
    #[inline(always)]
    fn pack_u8(self, v: [__m256i; 4]) -> __m256i {
        let [a, b, c, d] = v;
        proven!(_mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)))
    }
    #[inline(always)]
    fn pack_i8(self, v: [__m256i; 4]) -> __m256i {
        let [a, b, c, d] = v;
        proven!(_mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)))
    }
    #[inline(always)]
    fn order_packed(self, packed: __m256i) -> __m256i {
        proven!(_mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16, n: usize) -> __m256 {
        let halves = proven!(partial(p, n));
        proven!(_mm256_cvtph_ps(_mm_loadu_si128(halves.as_ptr().cast())))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: __m256, n: usize) {
        let halves = proven!(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(v));
        let mut out = [0u16; 8];
        proven!(_mm_storeu_si128(out.as_mut_ptr().cast(), halves));
        proven!(std::ptr::copy_nonoverlapping(out.as_ptr(), p, n.min(8)))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16, n: usize) -> __m256 {
        let halves = proven!(partial(p, n));
        let bits = proven!(_mm256_cvtepu16_epi32(_mm_loadu_si128(halves.as_ptr().cast())));
        proven!(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)))
    }
}
