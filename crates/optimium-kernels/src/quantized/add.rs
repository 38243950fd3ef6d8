//! Sums and products of two quantized tensors.

use optimium_simd::{Level, Simd, SimdTask};

use super::output::{SmallBytes, lanes, to_byte_values};
use super::{Quantization, load_values};
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
    /// No result for operands up to `operand` is larger.
    fn largest(self, operand: f32) -> f32;
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32;
    /// As [`apply`](Function::apply), of bytes from which those zero points have not been taken.
    #[inline(always)]
    fn apply_to_bytes<S: Simd>(self, simd: S, a: S::F32, b: S::F32, zero_points: [f32; 2]) -> S::F32 {
        let [a_zero, b_zero] = zero_points.map(
            #[inline(always)]
            |zero| simd.splat(zero),
        );
        self.apply(simd, simd.sub(a, a_zero), simd.sub(b, b_zero))
    }
}

#[derive(Clone, Copy)]
struct Sum {
    factors: [f32; 2],
}

impl Function for Sum {
    fn largest(self, operand: f32) -> f32 {
        operand * (self.factors[0].abs() + self.factors[1].abs())
    }

    #[inline(always)]
    fn apply<S: Simd>(self, simd: S, a: S::F32, b: S::F32) -> S::F32 {
        simd.fma(a, simd.splat(self.factors[0]), simd.mul(b, simd.splat(self.factors[1])))
    }

    #[inline(always)]
    fn apply_to_bytes<S: Simd>(self, simd: S, a: S::F32, b: S::F32, zero_points: [f32; 2]) -> S::F32 {
        let [p, q] = self.factors;
        let offset = -p.mul_add(zero_points[0], q * zero_points[1]);
        simd.fma(a, simd.splat(p), simd.fma(b, simd.splat(q), simd.splat(offset)))
    }
}

#[derive(Clone, Copy)]
struct Product {
    factor: f32,
}

impl Function for Product {
    fn largest(self, operand: f32) -> f32 {
        operand * operand * self.factor.abs()
    }

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
        assert!(
            !self.b.is_empty() && n.is_multiple_of(self.b.len()),
            "{} elements repeated to {n}",
            self.b.len()
        );
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
    /// How the results become bytes without bounds while they are floats, where nothing can overflow.
    fn small(&self) -> Option<SmallBytes> {
        let [qa, qb, qy] = self.quantizations;
        let of_bytes = [qa, qb, qy].iter().all(|q| (-255..=255).contains(&q.zero_point));
        let small = of_bytes && self.function.largest(510.0) <= 1e9;
        small.then(|| SmallBytes::bounded(qy.signed, qy.zero_point, self.clamp.0, self.clamp.1))
    }

    /// # Safety
    /// `n` bytes are readable at `a` and `b` and writable at `y`.
    #[inline(always)]
    unsafe fn stretch<S: Simd>(&self, simd: S, a: *const u8, b: *const u8, y: *mut u8, n: usize) {
        let [qa, qb, _] = self.quantizations;
        // SAFETY: the caller's promise.
        unsafe {
            match (self.small(), qa.signed, qb.signed) {
                (Some(bytes), false, false) => self.alike::<S, false>(simd, a, b, y, n, bytes),
                (Some(bytes), true, true) => self.alike::<S, true>(simd, a, b, y, n, bytes),
                _ => self.any(simd, a, b, y, n),
            }
        }
    }

    /// As [`stretch`](Binary::stretch), where both are `SIGNED` or not and the results are small.
    ///
    /// # Safety
    /// As [`stretch`](Binary::stretch).
    #[inline(always)]
    unsafe fn alike<S: Simd, const SIGNED: bool>(
        &self,
        simd: S,
        a: *const u8,
        b: *const u8,
        y: *mut u8,
        n: usize,
        bytes: SmallBytes,
    ) {
        let whole = 4 * S::LANES;
        let done = n / whole * whole;
        for start in (0..done).step_by(whole) {
            // SAFETY: the caller's promise.
            unsafe {
                self.few::<S, SIGNED>(simd, a.add(start), b.add(start), y.add(start), whole, bytes);
            }
        }
        if done < n {
            // SAFETY: the caller's promise.
            unsafe { self.few::<S, SIGNED>(simd, a.add(done), b.add(done), y.add(done), n - done, bytes) }
        }
    }

    /// As [`alike`](Binary::alike), no more elements than four vectors have.
    ///
    /// # Safety
    /// As [`stretch`](Binary::stretch).
    #[inline(always)]
    unsafe fn few<S: Simd, const SIGNED: bool>(
        &self,
        simd: S,
        a: *const u8,
        b: *const u8,
        y: *mut u8,
        n: usize,
        bytes: SmallBytes,
    ) {
        let [qa, qb, _] = self.quantizations;
        let zero_points = [qa.zero_point as f32, qb.zero_point as f32];
        let mut values = [simd.splat_i32(0); 4];
        for (v, value) in values.iter_mut().enumerate() {
            let count = lanes::<S>(n, v);
            // SAFETY: the caller's promise; with no elements left nothing is loaded.
            let [x, z] = unsafe {
                [
                    load_values(simd, a.wrapping_add(v * S::LANES), count, SIGNED),
                    load_values(simd, b.wrapping_add(v * S::LANES), count, SIGNED),
                ]
            };
            let (x, z) = (simd.to_f32(x), simd.to_f32(z));
            *value = bytes.rounded(simd, self.function.apply_to_bytes(simd, x, z, zero_points));
        }
        // SAFETY: the caller's promise.
        unsafe { simd.store_bytes(y, simd.order_packed(bytes.pack(simd, values)), n) }
    }

    /// As [`stretch`](Binary::stretch), whatever the numbers are.
    ///
    /// # Safety
    /// As [`stretch`](Binary::stretch).
    #[inline(always)]
    unsafe fn any<S: Simd>(&self, simd: S, a: *const u8, b: *const u8, y: *mut u8, n: usize) {
        let [qa, qb, qy] = self.quantizations;
        let (low, high) = self.clamp;
        for start in (0..n).step_by(4 * S::LANES) {
            let rest = n - start;
            let mut values = [simd.splat_i32(0); 4];
            for (v, value) in values.iter_mut().enumerate() {
                let count = lanes::<S>(rest, v);
                let i = start + v * S::LANES;
                // SAFETY: the caller's promise; with no elements left nothing is loaded.
                let (x, z) = unsafe {
                    let x = load_values(simd, a.wrapping_add(i), count, qa.signed);
                    (x, load_values(simd, b.wrapping_add(i), count, qb.signed))
                };
                let x = simd.to_f32(simd.sub_i32(x, simd.splat_i32(qa.zero_point)));
                let z = simd.to_f32(simd.sub_i32(z, simd.splat_i32(qb.zero_point)));
                *value = to_byte_values(simd, self.function.apply(simd, x, z), qy.zero_point, low, high);
            }
            let packed = if qy.signed { simd.pack_i8(values) } else { simd.pack_u8(values) };
            // SAFETY: the caller's promise.
            unsafe { simd.store_bytes(y.add(start), simd.order_packed(packed), rest.min(4 * S::LANES)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use optimium_testing::{Random, each_case};

    use super::*;
    use crate::quantized::byte_value;
    use crate::quantized::testing::{bytes, compare_bytes};

    #[test]
    fn sums_and_products_match_their_definition() {
        let quantization = |scale, zero_point, signed| Quantization { scale, zero_point, signed };
        // Powers of two, so that the order of the factors does not matter.
        let unsigned =
            [quantization(0.5, 130, false), quantization(0.25, 3, false), quantization(1.0, 10, false)];
        let signed = [quantization(0.25, -4, true), quantization(0.5, 8, false), quantization(2.0, -9, true)];
        let alike = [quantization(0.25, -4, true), quantization(0.5, 8, true), quantization(1.0, 0, true)];
        let lengths =
            [(0, 1), (1, 1), (5, 5), (63, 21), (64, 64), (65, 1), (200, 40), (257, 257), (390, 130)];
        let cases = Level::available().flat_map(|level| {
            lengths.into_iter().flat_map(move |l| {
                [(unsigned, (10, 200)), (signed, (-128, 90)), (alike, (-128, 127))].map(|q| (level, l, q))
            })
        });
        each_case(cases, |&(level, (n, period), (quantizations, clamp))| {
            let mut random = Random::new(n as u64);
            let (a, b) = (bytes(&mut random, n), bytes(&mut random, period));
            let [qa, qb, qy] = quantizations;
            for product in [false, true] {
                let expected: Vec<u8> = (0..n)
                    .map(|i| {
                        let x = (byte_value(a[i], qa.signed) - qa.zero_point) as f32 * qa.scale;
                        let z = (byte_value(b[i % period], qb.signed) - qb.zero_point) as f32 * qb.scale;
                        let value = if product { x * z } else { x + z } / qy.scale;
                        (value.round_ties_even() as i32 + qy.zero_point).clamp(clamp.0, clamp.1) as u8
                    })
                    .collect();
                for count in 1..=3 {
                    let mut y = vec![0x55; n];
                    let shared = SharedSlice::new(&mut y);
                    for index in 0..count {
                        let function = if product { mul } else { add };
                        function(level, &a, qa, &b, qb, shared, qy, clamp, Part { index, count });
                    }
                    compare_bytes(&y, &expected, qy.signed).map_err(|e| format!("{count} parts: {e}"))?;
                }
            }
            Ok(())
        });
    }
}
