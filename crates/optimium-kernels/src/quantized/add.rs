//! Sums and products of two quantized tensors.

use optimium_simd::{Level, Simd, SimdTask};

use super::output::to_byte_values;
use super::{Quantization, load_values, store_values};
use crate::{Part, SharedSlice};

/// Elements that a part's share is a multiple of.
const GRANULE: usize = 64;

/// `y = clamp(quantized(a + b))`, where `b` is repeated as often as needed: it may be a whole tensor, one
/// value a channel, or one value. `clamp` bounds the stored bytes.
///
/// # Panics
/// Where `a` and `y` differ in length, or that of `b` does not divide theirs.
pub fn add(
    level: Level,
    a: &[u8],
    a_quantization: Quantization,
    b: &[u8],
    b_quantization: Quantization,
    y: SharedSlice<'_, u8>,
    y_quantization: Quantization,
    clamp: (i32, i32),
    part: Part,
) {
    let factors = [a_quantization.scale / y_quantization.scale, b_quantization.scale / y_quantization.scale];
    let quantizations = [a_quantization, b_quantization, y_quantization];
    level.run(Binary { a, b, y, quantizations, clamp, part, function: Sum { factors } });
}

/// `y = clamp(quantized(a · b))`, with `b` repeated as in [`add`].
///
/// # Panics
/// As [`add`].
pub fn mul(
    level: Level,
    a: &[u8],
    a_quantization: Quantization,
    b: &[u8],
    b_quantization: Quantization,
    y: SharedSlice<'_, u8>,
    y_quantization: Quantization,
    clamp: (i32, i32),
    part: Part,
) {
    let factor = a_quantization.scale * b_quantization.scale / y_quantization.scale;
    let quantizations = [a_quantization, b_quantization, y_quantization];
    level.run(Binary { a, b, y, quantizations, clamp, part, function: Product { factor } });
}

/// A function of two bytes less their zero points, in steps of the result.
trait Function: Copy {
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32;
}

#[derive(Clone, Copy)]
struct Sum {
    factors: [f32; 2],
}

impl Function for Sum {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.fma(a, simd.splat(self.factors[0]), simd.mul(b, simd.splat(self.factors[1])))
    }
}

#[derive(Clone, Copy)]
struct Product {
    factor: f32,
}

impl Function for Product {
    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.mul(simd.mul(a, b), simd.splat(self.factor))
    }
}

struct Binary<'a, F> {
    a: &'a [u8],
    b: &'a [u8],
    y: SharedSlice<'a, u8>,
    quantizations: [Quantization; 3],
    clamp: (i32, i32),
    part: Part,
    function: F,
}

impl<F: Function> SimdTask for Binary<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let n = self.a.len();
        assert!(self.y.len() == n, "{n} elements into {}", self.y.len());
        if n == 0 {
            return;
        }
        assert!(!self.b.is_empty() && n.is_multiple_of(self.b.len()), "{} elements repeated to {n}", self.b.len());
        // A short operand is repeated in a buffer, so that vectors can be read from it.
        let mut buffer = [0u8; GRANULE];
        let b = if self.b.len() < GRANULE {
            let length = GRANULE / self.b.len() * self.b.len();
            for (i, byte) in buffer[..length].iter_mut().enumerate() {
                *byte = self.b[i % self.b.len()];
            }
            &buffer[..length]
        } else {
            self.b
        };
        let range = self.part.range_of_granules(n, GRANULE);
        let mut start = range.start;
        while start < range.end {
            let offset = start % b.len();
            let length = (b.len() - offset).min(range.end - start);
            // SAFETY: the range lies in both operands and the result, and is this part's alone.
            unsafe {
                let (a, b) = (self.a.as_ptr().add(start), b.as_ptr().add(offset));
                self.stretch(simd, a, b, self.y.as_mut_ptr().add(start), length);
            }
            start += length;
        }
    }
}

impl<F: Function> Binary<'_, F> {
    /// # Safety
    /// `n` bytes are readable at `a` and `b` and writable at `y`.
    #[inline(always)]
    unsafe fn stretch<S: Simd>(&self, simd: S, a: *const u8, b: *const u8, y: *mut u8, n: usize) {
        let [qa, qb, qy] = self.quantizations;
        let (low, high) = self.clamp;
        let mut i = 0;
        while i < n {
            let count = S::LANES.min(n - i);
            // SAFETY: the caller's promise.
            unsafe {
                let x = simd.sub_i32(load_values(simd, a.add(i), count, qa.signed), simd.splat_i32(qa.zero_point));
                let z = simd.sub_i32(load_values(simd, b.add(i), count, qb.signed), simd.splat_i32(qb.zero_point));
                let value = self.function.apply(simd, simd.to_f32(x), simd.to_f32(z));
                let bytes = to_byte_values(simd, value, qy.zero_point, low, high);
                store_values(simd, y.add(i), bytes, count, qy.signed);
            }
            i += count;
        }
    }
}
