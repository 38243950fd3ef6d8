//! AVX-512: sixteen lanes, thirty-two registers, masks of their own.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::proven;
use crate::{Level, Simd, SimdTask, dot_bf16_by_parts, round_to_bf16};

/// AVX-512 F, BW, DQ, VL (with AVX2, FMA and F16C); with `VNNI` its byte dot product too, with `BF16` that of bfloat16.
#[derive(Clone, Copy, Debug)]
pub struct Avx512<const VNNI: bool, const BF16: bool = false>(());

impl<const VNNI: bool, const BF16: bool> Avx512<VNNI, BF16> {
    /// The proof that this machine has it.
    #[inline]
    pub fn detect() -> Option<Self> {
        let base = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        let vnni = !VNNI || is_x86_feature_detected!("avx512vnni");
        let bf16 = !BF16 || is_x86_feature_detected!("avx512bf16");
        (base && vnni && bf16).then_some(Self(()))
    }

    /// Runs `task` with the features switched on.
    #[inline]
    pub fn enter<T: SimdTask>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")]
        fn base<T: SimdTask, S: Simd>(simd: S, task: T) -> T::Output {
            task.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma,f16c")]
        fn vnni<T: SimdTask, S: Simd>(simd: S, task: T) -> T::Output {
            task.run(simd)
        }
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")]
        fn bf16<T: SimdTask, S: Simd>(simd: S, task: T) -> T::Output {
            task.run(simd)
        }
        const { assert!(!(VNNI && BF16), "no function has both switched on") };
        match (VNNI, BF16) {
            (false, false) => proven!(base(self, task)),
            (true, _) => proven!(vnni(self, task)),
            (false, true) => proven!(bf16(self, task)),
        }
    }
}

/// The mask of the first `n` of sixteen lanes.
#[inline(always)]
fn first_lanes(n: usize) -> __mmask16 {
    if n >= 16 { !0 } else { (1u16 << n) - 1 }
}

/// The mask of the first `n` of sixty-four bytes.
#[inline(always)]
fn first_bytes(n: usize) -> __mmask64 {
    if n >= 64 { !0 } else { (1u64 << n) - 1 }
}

/// Transposes a block: pairs, then quadruples within the 128-bit quarters, then the quarters themselves.
#[inline(always)]
fn transpose_16x16<const VNNI: bool, const BF16: bool>(
    _: Avx512<VNNI, BF16>,
    rows: [__m512; 16],
) -> [__m512; 16] {
    let mut pairs = rows;
    for i in 0..8 {
        pairs[2 * i] = proven!(_mm512_unpacklo_ps(rows[2 * i], rows[2 * i + 1]));
        pairs[2 * i + 1] = proven!(_mm512_unpackhi_ps(rows[2 * i], rows[2 * i + 1]));
    }
    let mut quads = rows;
    for i in 0..4 {
        for half in 0..2 {
            let (a, b) = (pairs[4 * i + half], pairs[4 * i + half + 2]);
            quads[4 * i + 2 * half] = proven!(_mm512_shuffle_ps::<0x44>(a, b));
            quads[4 * i + 2 * half + 1] = proven!(_mm512_shuffle_ps::<0xee>(a, b));
        }
    }
    let mut out = rows;
    for i in 0..4 {
        let (a, b, c, d) = (quads[i], quads[4 + i], quads[8 + i], quads[12 + i]);
        let even_low = proven!(_mm512_shuffle_f32x4::<0x88>(a, b));
        let odd_low = proven!(_mm512_shuffle_f32x4::<0xdd>(a, b));
        let even_high = proven!(_mm512_shuffle_f32x4::<0x88>(c, d));
        let odd_high = proven!(_mm512_shuffle_f32x4::<0xdd>(c, d));
        out[i] = proven!(_mm512_shuffle_f32x4::<0x88>(even_low, even_high));
        out[4 + i] = proven!(_mm512_shuffle_f32x4::<0x88>(odd_low, odd_high));
        out[8 + i] = proven!(_mm512_shuffle_f32x4::<0xdd>(even_low, even_high));
        out[12 + i] = proven!(_mm512_shuffle_f32x4::<0xdd>(odd_low, odd_high));
    }
    out
}

impl<const VNNI: bool, const BF16: bool> Simd for Avx512<VNNI, BF16> {
    type F32 = __m512;
    type I32 = __m512i;
    type Mask = __mmask16;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const LEVEL: Level = if VNNI { Level::Avx512Vnni } else { Level::Avx512 };

    #[inline(always)]
    fn call<T: SimdTask>(self, task: T) -> T::Output {
        self.enter(task)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        proven!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> __m512 {
        proven!(_mm512_loadu_ps(p))
    }
    #[inline(always)]
    unsafe fn splat_pair(self, p: *const f32) -> __m512 {
        proven!(_mm512_castpd_ps(_mm512_broadcastsd_pd(_mm_load_sd(p.cast()))))
    }
    #[inline(always)]
    unsafe fn splat_four(self, p: *const f32) -> __m512 {
        proven!(_mm512_broadcast_f32x4(_mm_loadu_ps(p)))
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: __m512) {
        proven!(_mm512_storeu_ps(p, v))
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: __mmask16) -> __m512 {
        proven!(_mm512_maskz_loadu_ps(mask, p))
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: __m512, mask: __mmask16) {
        proven!(_mm512_mask_storeu_ps(p, mask, v))
    }
    #[inline(always)]
    fn first(self, n: usize) -> __mmask16 {
        first_lanes(n)
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
        let mut rows = [self.splat(0.0); 16];
        for (i, row) in rows.iter_mut().enumerate() {
            // SAFETY: the caller promises sixteen rows of sixteen elements.
            *row = unsafe { self.load(source.add(i * source_stride)) };
        }
        for (i, row) in transpose_16x16(self, rows).into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { self.store(target.add(i * target_stride), row) };
        }
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_add_ps(a, b))
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_sub_ps(a, b))
    }
    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_mul_ps(a, b))
    }
    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_div_ps(a, b))
    }
    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        proven!(_mm512_fmadd_ps(a, b, c))
    }
    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_max_ps(a, b))
    }
    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        proven!(_mm512_min_ps(a, b))
    }
    #[inline(always)]
    fn neg(self, a: __m512) -> __m512 {
        proven!(_mm512_xor_ps(a, _mm512_set1_ps(-0.0)))
    }
    #[inline(always)]
    fn abs(self, a: __m512) -> __m512 {
        proven!(_mm512_abs_ps(a))
    }
    #[inline(always)]
    fn copysign(self, a: __m512, sign: __m512) -> __m512 {
        let bit = proven!(_mm512_set1_ps(-0.0));
        proven!(_mm512_or_ps(_mm512_andnot_ps(bit, a), _mm512_and_ps(bit, sign)))
    }
    #[inline(always)]
    fn sqrt(self, a: __m512) -> __m512 {
        proven!(_mm512_sqrt_ps(a))
    }
    #[inline(always)]
    fn round(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn floor(self, a: __m512) -> __m512 {
        proven!(_mm512_roundscale_ps::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(a))
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        proven!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn scale_by_small_power_of_two(self, a: __m512, n: __m512) -> __m512 {
        proven!(_mm512_scalef_ps(a, n))
    }
    #[inline(always)]
    fn lt(self, a: __m512, b: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b))
    }
    #[inline(always)]
    fn le(self, a: __m512, b: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_LE_OQ>(a, b))
    }
    #[inline(always)]
    fn eq(self, a: __m512, b: __m512) -> __mmask16 {
        proven!(_mm512_cmp_ps_mask::<_CMP_EQ_OQ>(a, b))
    }
    #[inline(always)]
    fn any(self, mask: __mmask16) -> bool {
        mask != 0
    }
    #[inline(always)]
    fn select(self, mask: __mmask16, on: __m512, off: __m512) -> __m512 {
        proven!(_mm512_mask_blend_ps(mask, off, on))
    }
    #[inline(always)]
    fn permute_pair(self, a: __m512, b: __m512, index: __m512i) -> __m512 {
        proven!(_mm512_permutex2var_ps(a, index, b))
    }
    #[inline(always)]
    fn permute(self, a: __m512, lanes: __m512i) -> __m512 {
        proven!(_mm512_permutexvar_ps(lanes, a))
    }
    #[inline(always)]
    fn reduce_add(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_add_ps(a))
    }
    #[inline(always)]
    fn reduce_max(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_max_ps(a))
    }
    #[inline(always)]
    fn reduce_min(self, a: __m512) -> f32 {
        proven!(_mm512_reduce_min_ps(a))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> __m512i {
        proven!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> __m512i {
        proven!(_mm512_loadu_epi32(p))
    }
    #[inline(always)]
    unsafe fn store_i32(self, p: *mut i32, v: __m512i) {
        proven!(_mm512_storeu_epi32(p, v))
    }
    #[inline(always)]
    unsafe fn load_i32_masked(self, p: *const i32, mask: __mmask16) -> __m512i {
        proven!(_mm512_maskz_loadu_epi32(mask, p))
    }
    #[inline(always)]
    unsafe fn store_i32_masked(self, p: *mut i32, v: __m512i, mask: __mmask16) {
        proven!(_mm512_mask_storeu_epi32(p, mask, v))
    }
    #[inline(always)]
    fn add_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_add_epi32(a, b))
    }
    #[inline(always)]
    fn sub_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_sub_epi32(a, b))
    }
    #[inline(always)]
    fn mul_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_mullo_epi32(a, b))
    }
    #[inline(always)]
    fn max_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_max_epi32(a, b))
    }
    #[inline(always)]
    fn min_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_min_epi32(a, b))
    }
    #[inline(always)]
    fn xor_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_xor_si512(a, b))
    }
    #[inline(always)]
    fn and_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_and_si512(a, b))
    }
    #[inline(always)]
    fn or_i32(self, a: __m512i, b: __m512i) -> __m512i {
        proven!(_mm512_or_si512(a, b))
    }
    #[inline(always)]
    fn shift_left_i32(self, a: __m512i, n: u32) -> __m512i {
        proven!(_mm512_sllv_epi32(a, _mm512_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn shift_right_i32(self, a: __m512i, n: u32) -> __m512i {
        proven!(_mm512_srav_epi32(a, _mm512_set1_epi32(n as i32)))
    }
    #[inline(always)]
    fn to_bits(self, a: __m512) -> __m512i {
        proven!(_mm512_castps_si512(a))
    }
    #[inline(always)]
    fn from_bits(self, a: __m512i) -> __m512 {
        proven!(_mm512_castsi512_ps(a))
    }
    #[inline(always)]
    fn round_to_i32(self, a: __m512) -> __m512i {
        proven!(_mm512_cvtps_epi32(a))
    }
    #[inline(always)]
    fn to_f32(self, a: __m512i) -> __m512 {
        proven!(_mm512_cvtepi32_ps(a))
    }
    #[inline(always)]
    fn dot_u8_i8(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        if VNNI {
            return proven!(_mm512_dpbusd_epi32(acc, a, b));
        }
        // Even and odd bytes apart as 16-bit pairs: `vpmaddubsw` would saturate.
        let low = proven!(_mm512_set1_epi16(0x00ff));
        let even = proven!(_mm512_madd_epi16(
            _mm512_and_si512(a, low),
            _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(b))
        ));
        let odd = proven!(_mm512_madd_epi16(_mm512_srli_epi16::<8>(a), _mm512_srai_epi16::<8>(b)));
        proven!(_mm512_add_epi32(acc, _mm512_add_epi32(even, odd)))
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> __m512i {
        proven!(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p.cast())))
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8, n: usize) -> __m512i {
        proven!(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(first_lanes(n), p)))
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: __m512i, n: usize) {
        let positive = proven!(_mm512_max_epi32(v, _mm512_setzero_si512()));
        proven!(_mm512_mask_cvtusepi32_storeu_epi8(p.cast(), first_lanes(n), positive))
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: __m512i, n: usize) {
        proven!(_mm512_mask_cvtsepi32_storeu_epi8(p, first_lanes(n), v))
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> __m512i {
        proven!(_mm512_maskz_loadu_epi8(first_bytes(n), p.cast()))
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: __m512i, n: usize) {
        // Masked stores are slower than plain ones, even where the mask is full.
        if n >= 64 {
            return proven!(_mm512_storeu_si512(p.cast(), v));
        }
        if n == 32 {
            return proven!(_mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(v)));
        }
        if n == 16 {
            return proven!(_mm_storeu_si128(p.cast(), _mm512_castsi512_si128(v)));
        }
        proven!(_mm512_mask_storeu_epi8(p.cast(), first_bytes(n), v))
    }
    #[inline(always)]
    unsafe fn load_byte_halves(self, p: *const u8, q: *const u8, n: usize) -> __m512i {
        let mask = first_bytes(n) as __mmask32;
        let (low, high) =
            proven!((_mm256_maskz_loadu_epi8(mask, p.cast()), _mm256_maskz_loadu_epi8(mask, q.cast())));
        proven!(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high))
    }
    #[inline(always)]
    unsafe fn store_byte_halves(self, p: *mut u8, q: *mut u8, v: __m512i, n: usize) {
        let (low, high) = proven!((_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v)));
        if n >= 32 {
            proven!(_mm256_storeu_si256(p.cast(), low));
            return proven!(_mm256_storeu_si256(q.cast(), high));
        }
        if n == 16 {
            proven!(_mm_storeu_si128(p.cast(), _mm256_castsi256_si128(low)));
            return proven!(_mm_storeu_si128(q.cast(), _mm256_castsi256_si128(high)));
        }
        let mask = first_bytes(n) as __mmask32;
        proven!(_mm256_mask_storeu_epi8(p.cast(), mask, low));
        proven!(_mm256_mask_storeu_epi8(q.cast(), mask, high));
    }
    #[inline(always)]
    fn interleave_bytes(self, rows: [__m512i; 4]) -> [__m512i; 4] {
        let [a, b, c, d] = rows;
        let (low_ab, high_ab) = proven!((_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b)));
        let (low_cd, high_cd) = proven!((_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d)));
        proven!([
            _mm512_unpacklo_epi16(low_ab, low_cd),
            _mm512_unpackhi_epi16(low_ab, low_cd),
            _mm512_unpacklo_epi16(high_ab, high_cd),
            _mm512_unpackhi_epi16(high_ab, high_cd),
        ])
    }
    #[inline(always)]
    fn pack_u8(self, v: [__m512i; 4]) -> __m512i {
        let [a, b, c, d] = v;
        proven!(_mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)))
    }
    #[inline(always)]
    fn pack_i8(self, v: [__m512i; 4]) -> __m512i {
        let [a, b, c, d] = v;
        proven!(_mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d)))
    }
    #[inline(always)]
    fn order_packed(self, packed: __m512i) -> __m512i {
        let order = proven!(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
        proven!(_mm512_permutexvar_epi32(order, packed))
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16, n: usize) -> __m512 {
        proven!(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p.cast())))
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: __m512, n: usize) {
        let halves = proven!(_mm512_cvtps_ph::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(v));
        proven!(_mm256_mask_storeu_epi16(p.cast(), first_lanes(n), halves))
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16, n: usize) -> __m512 {
        let bits = proven!(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(first_lanes(n), p.cast())));
        proven!(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)))
    }
    #[inline(always)]
    unsafe fn store_bf16(self, p: *mut u16, v: __m512, n: usize) {
        let halves = if BF16 {
            proven!(transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)))
        } else {
            let rounded = round_to_bf16(self, v);
            proven!(_mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded)))
        };
        if n >= 16 {
            return proven!(_mm256_storeu_si256(p.cast(), halves));
        }
        proven!(_mm256_mask_storeu_epi16(p.cast(), first_lanes(n), halves))
    }
    #[inline(always)]
    fn dot_bf16(self, sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        if BF16 {
            return proven!(_mm512_dpbf16_ps(
                sum,
                transmute::<__m512i, __m512bh>(a),
                transmute::<__m512i, __m512bh>(b)
            ));
        }
        dot_bf16_by_parts(self, sum, a, b)
    }
}
