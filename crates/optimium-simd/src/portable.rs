//! Vectors of the base architecture, as small arrays that the compiler turns into its registers.

use crate::{Level, Simd, SimdTask};

/// Number of lanes: one 128-bit register.
const LANES: usize = 4;

/// The base architecture of the target; NEON on AArch64.
#[derive(Clone, Copy, Debug)]
pub struct Portable;

/// `f(i)` for each lane.
#[inline(always)]
fn lanes<T>(f: impl FnMut(usize) -> T) -> [T; LANES] {
    std::array::from_fn(f)
}

/// To the nearest integer, ties to even.
#[inline(always)]
fn round(x: f32) -> f32 {
    // Without the instruction `round_ties_even` is a slow library call. From 2²³ on all numbers are
    // integers, so that the sum with that rounds below it.
    const INTEGERS: f32 = (1u32 << 23) as f32;
    if cfg!(target_arch = "aarch64") {
        return x.round_ties_even();
    }
    let rounded = ((x.abs() + INTEGERS) - INTEGERS).copysign(x);
    if x.abs() < INTEGERS { rounded } else { x }
}

impl Simd for Portable {
    type F32 = [f32; LANES];
    type I32 = [i32; LANES];
    type Mask = [bool; LANES];
    const LANES: usize = LANES;
    const REGISTERS: usize = if cfg!(target_arch = "aarch64") { 32 } else { 16 };
    const LEVEL: Level = if cfg!(target_arch = "aarch64") { Level::Neon } else { Level::Portable };

    #[inline(never)]
    fn call<T: SimdTask>(self, task: T) -> T::Output {
        task.run(self)
    }
    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load(self, p: *const f32) -> Self::F32 {
        // SAFETY: the caller promises LANES readable elements.
        unsafe { p.cast::<Self::F32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(self, p: *mut f32, v: Self::F32) {
        // SAFETY: the caller promises LANES writable elements.
        unsafe { p.cast::<Self::F32>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_masked(self, p: *const f32, mask: Self::Mask) -> Self::F32 {
        // SAFETY: only selected lanes are read.
        lanes(|i| if mask[i] { unsafe { p.add(i).read_unaligned() } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_masked(self, p: *mut f32, v: Self::F32, mask: Self::Mask) {
        for i in 0..LANES {
            if mask[i] {
                // SAFETY: only selected lanes are written.
                unsafe { p.add(i).write_unaligned(v[i]) }
            }
        }
    }
    #[inline(always)]
    fn first(self, n: usize) -> Self::Mask {
        lanes(|i| i < n)
    }
    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes(|i| a[i] + b[i])
    }
    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes(|i| a[i] - b[i])
    }
    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes(|i| a[i] * b[i])
    }
    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes(|i| a[i] / b[i])
    }
    #[inline(always)]
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // Without the instruction `mul_add` is a slow library call.
        if cfg!(target_arch = "aarch64") {
            lanes(|i| a[i].mul_add(b[i], c[i]))
        } else {
            lanes(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes(|i| if a[i] > b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        lanes(|i| if a[i] < b[i] { a[i] } else { b[i] })
    }
    #[inline(always)]
    fn neg(self, a: Self::F32) -> Self::F32 {
        lanes(|i| -a[i])
    }
    #[inline(always)]
    fn abs(self, a: Self::F32) -> Self::F32 {
        lanes(|i| a[i].abs())
    }
    #[inline(always)]
    fn copysign(self, a: Self::F32, sign: Self::F32) -> Self::F32 {
        lanes(|i| a[i].copysign(sign[i]))
    }
    #[inline(always)]
    fn sqrt(self, a: Self::F32) -> Self::F32 {
        lanes(|i| a[i].sqrt())
    }
    #[inline(always)]
    fn round(self, a: Self::F32) -> Self::F32 {
        lanes(|i| round(a[i]))
    }
    #[inline(always)]
    fn floor(self, a: Self::F32) -> Self::F32 {
        lanes(|i| {
            let nearest = round(a[i]);
            (if nearest > a[i] { nearest - 1.0 } else { nearest }).copysign(a[i])
        })
    }
    #[inline(always)]
    fn scale_by_power_of_two(self, a: Self::F32, n: Self::F32) -> Self::F32 {
        // Three factors, each a normal power of two. The largest comes last: what the ones before it
        // might round is lost in the result anyway.
        lanes(|i| {
            let n = n[i].clamp(-300.0, 300.0) as i32;
            let power = |e: i32| f32::from_bits(((e + 127) as u32) << 23);
            let last = n.clamp(-126, 127);
            let second = (n - last).clamp(-126, 127);
            a[i] * power(n - last - second) * power(second) * power(last)
        })
    }
    #[inline(always)]
    fn lt(self, a: Self::F32, b: Self::F32) -> Self::Mask {
        lanes(|i| a[i] < b[i])
    }
    #[inline(always)]
    fn le(self, a: Self::F32, b: Self::F32) -> Self::Mask {
        lanes(|i| a[i] <= b[i])
    }
    #[inline(always)]
    fn eq(self, a: Self::F32, b: Self::F32) -> Self::Mask {
        lanes(|i| a[i] == b[i])
    }
    #[inline(always)]
    fn any(self, mask: Self::Mask) -> bool {
        mask.into_iter().any(|lane| lane)
    }
    #[inline(always)]
    fn select(self, mask: Self::Mask, on: Self::F32, off: Self::F32) -> Self::F32 {
        lanes(|i| if mask[i] { on[i] } else { off[i] })
    }
    #[inline(always)]
    fn permute_pair(self, a: Self::F32, b: Self::F32, index: Self::I32) -> Self::F32 {
        lanes(|i| {
            let from = index[i] as usize % (2 * LANES);
            if from < LANES { a[from] } else { b[from - LANES] }
        })
    }
    #[inline(always)]
    fn reduce_add(self, a: Self::F32) -> f32 {
        (a[0] + a[2]) + (a[1] + a[3])
    }
    #[inline(always)]
    fn reduce_max(self, a: Self::F32) -> f32 {
        a[0].max(a[1]).max(a[2].max(a[3]))
    }
    #[inline(always)]
    fn reduce_min(self, a: Self::F32) -> f32 {
        a[0].min(a[1]).min(a[2].min(a[3]))
    }
    #[inline(always)]
    fn splat_i32(self, x: i32) -> Self::I32 {
        [x; LANES]
    }
    #[inline(always)]
    unsafe fn load_i32(self, p: *const i32) -> Self::I32 {
        // SAFETY: the caller promises LANES readable elements.
        unsafe { p.cast::<Self::I32>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_i32(self, p: *mut i32, v: Self::I32) {
        // SAFETY: the caller promises LANES writable elements.
        unsafe { p.cast::<Self::I32>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_i32_masked(self, p: *const i32, mask: Self::Mask) -> Self::I32 {
        // SAFETY: only selected lanes are read.
        lanes(|i| if mask[i] { unsafe { p.add(i).read_unaligned() } } else { 0 })
    }
    #[inline(always)]
    unsafe fn store_i32_masked(self, p: *mut i32, v: Self::I32, mask: Self::Mask) {
        for i in 0..LANES {
            if mask[i] {
                // SAFETY: only selected lanes are written.
                unsafe { p.add(i).write_unaligned(v[i]) }
            }
        }
    }
    #[inline(always)]
    fn add_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i].wrapping_add(b[i]))
    }
    #[inline(always)]
    fn sub_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i].wrapping_sub(b[i]))
    }
    #[inline(always)]
    fn mul_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i].wrapping_mul(b[i]))
    }
    #[inline(always)]
    fn max_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i].max(b[i]))
    }
    #[inline(always)]
    fn min_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i].min(b[i]))
    }
    #[inline(always)]
    fn xor_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i] ^ b[i])
    }
    #[inline(always)]
    fn and_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i] & b[i])
    }
    #[inline(always)]
    fn or_i32(self, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| a[i] | b[i])
    }
    #[inline(always)]
    fn shift_left_i32(self, a: Self::I32, n: u32) -> Self::I32 {
        lanes(|i| a[i].wrapping_shl(n))
    }
    #[inline(always)]
    fn shift_right_i32(self, a: Self::I32, n: u32) -> Self::I32 {
        lanes(|i| a[i].wrapping_shr(n))
    }
    #[inline(always)]
    fn to_bits(self, a: Self::F32) -> Self::I32 {
        lanes(|i| a[i].to_bits() as i32)
    }
    #[inline(always)]
    fn from_bits(self, a: Self::I32) -> Self::F32 {
        lanes(|i| f32::from_bits(a[i] as u32))
    }
    #[inline(always)]
    fn round_to_i32(self, a: Self::F32) -> Self::I32 {
        lanes(|i| round(a[i]) as i32)
    }
    #[inline(always)]
    fn to_f32(self, a: Self::I32) -> Self::F32 {
        lanes(|i| a[i] as f32)
    }
    #[inline(always)]
    fn dot_u8_i8(self, acc: Self::I32, a: Self::I32, b: Self::I32) -> Self::I32 {
        lanes(|i| {
            let (a, b) = (a[i].to_ne_bytes(), b[i].to_ne_bytes());
            let mut sum = acc[i];
            for j in 0..4 {
                sum = sum.wrapping_add(i32::from(a[j]) * i32::from(b[j] as i8));
            }
            sum
        })
    }
    #[inline(always)]
    unsafe fn load_u8(self, p: *const u8, n: usize) -> Self::I32 {
        // SAFETY: only the first n lanes are read.
        lanes(|i| if i < n { i32::from(unsafe { *p.add(i) }) } else { 0 })
    }
    #[inline(always)]
    unsafe fn load_i8(self, p: *const i8, n: usize) -> Self::I32 {
        // SAFETY: only the first n lanes are read.
        lanes(|i| if i < n { i32::from(unsafe { *p.add(i) }) } else { 0 })
    }
    #[inline(always)]
    unsafe fn store_u8(self, p: *mut u8, v: Self::I32, n: usize) {
        for (i, &x) in v.iter().enumerate().take(n) {
            // SAFETY: only the first n lanes are written.
            unsafe { *p.add(i) = x.clamp(0, 255) as u8 }
        }
    }
    #[inline(always)]
    unsafe fn store_i8(self, p: *mut i8, v: Self::I32, n: usize) {
        for (i, &x) in v.iter().enumerate().take(n) {
            // SAFETY: only the first n lanes are written.
            unsafe { *p.add(i) = x.clamp(-128, 127) as i8 }
        }
    }
    #[inline(always)]
    unsafe fn load_bytes(self, p: *const u8, n: usize) -> Self::I32 {
        let mut bytes = [[0u8; 4]; LANES];
        // SAFETY: the caller promises n readable elements, and the array holds that many.
        unsafe { std::ptr::copy_nonoverlapping(p, bytes.as_mut_ptr().cast(), n.min(4 * LANES)) };
        bytes.map(i32::from_ne_bytes)
    }
    #[inline(always)]
    unsafe fn store_bytes(self, p: *mut u8, v: Self::I32, n: usize) {
        // SAFETY: the caller promises n writable elements, and the vector holds that many.
        unsafe { std::ptr::copy_nonoverlapping(v.as_ptr().cast(), p, n.min(4 * LANES)) };
    }
    #[inline(always)]
    fn interleave_bytes(self, rows: [Self::I32; 4]) -> [Self::I32; 4] {
        std::array::from_fn(|q| {
            lanes(|i| i32::from_ne_bytes(std::array::from_fn(|j| rows[j][q].to_ne_bytes()[i])))
        })
    }
    #[inline(always)]
    fn pack_u8(self, v: [Self::I32; 4]) -> Self::I32 {
        v.map(|lanes| i32::from_ne_bytes(lanes.map(|x| x.clamp(0, 255) as u8)))
    }
    #[inline(always)]
    fn pack_i8(self, v: [Self::I32; 4]) -> Self::I32 {
        v.map(|lanes| i32::from_ne_bytes(lanes.map(|x| x.clamp(-128, 127) as u8)))
    }
    #[inline(always)]
    fn order_packed(self, packed: Self::I32) -> Self::I32 {
        packed
    }
    #[inline(always)]
    unsafe fn load_f16(self, p: *const u16, n: usize) -> Self::F32 {
        let mut bits = [0; LANES];
        // SAFETY: the caller promises n readable elements, and the array holds that many.
        unsafe { std::ptr::copy_nonoverlapping(p, bits.as_mut_ptr(), n.min(LANES)) };
        lanes(|i| half::f16::from_bits(bits[i]).to_f32())
    }
    #[inline(always)]
    unsafe fn store_f16(self, p: *mut u16, v: Self::F32, n: usize) {
        for (i, &x) in v.iter().enumerate().take(n) {
            // SAFETY: only the first n lanes are written.
            unsafe { p.add(i).write_unaligned(half::f16::from_f32(x).to_bits()) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(self, p: *const u16, n: usize) -> Self::F32 {
        let mut bits = [0; LANES];
        // SAFETY: the caller promises n readable elements, and the array holds that many.
        unsafe { std::ptr::copy_nonoverlapping(p, bits.as_mut_ptr(), n.min(LANES)) };
        lanes(|i| f32::from_bits(u32::from(bits[i]) << 16))
    }
}
