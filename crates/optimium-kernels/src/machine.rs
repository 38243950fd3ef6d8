//! What a core of this machine reaches, measured in a few milliseconds: the rates that kernels are compared with.
//!
//! Every rate is the best of several short loops, so that a moment in which the core was busy does not count.

use std::hint::black_box;
use std::time::Instant;

use optimium_simd::{Level, Simd, SimdTask};

use crate::AlignedVec;

/// Loops of which the fastest counts.
const LOOPS: usize = 24;
/// Rounds of one loop of arithmetic: some tens of microseconds.
const ROUNDS: usize = 10_000;
/// Independent sums: more than the latency times the units of any machine, and no more than the registers hold.
const CHAINS: usize = 12;
/// Places that are read at the same time: prefetchers follow several, and one alone does not fill a memory's latency.
const STREAMS: usize = 4;
/// Neighbouring vectors that are read in one round at each place.
const VECTORS: usize = 2;

/// The rates of one core, with the same work done by nobody else.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// As [`multiply_adds`].
    pub multiply_adds: f64,
    /// As [`byte_products`].
    pub byte_products: f64,
    /// [`reads`] out of the second cache.
    pub second_cache: f64,
    /// [`reads`] out of the third cache.
    pub third_cache: f64,
    /// [`reads`] out of memory.
    pub memory: f64,
}

impl Rates {
    /// Measures all of them on a machine whose second and third caches have these sizes in bytes, 0 where unknown.
    pub fn measure(level: Level, second_cache: usize, third_cache: usize) -> Rates {
        let second_cache = if second_cache == 0 { 512 << 10 } else { second_cache };
        // Small enough to stay in its cache beside what others keep there, and too large for the one before.
        let within_third = (third_cache / 4).max(2 * second_cache);
        let beyond = (3 * third_cache).clamp(64 << 20, 256 << 20);
        Rates {
            multiply_adds: multiply_adds(level),
            byte_products: byte_products(level),
            second_cache: reads(level, second_cache / 2),
            third_cache: reads(level, within_third),
            memory: reads(level, beyond),
        }
    }
}

/// `f32` operations in a second of multiply-adds that wait neither for each other nor for memory; a multiply-add is two.
pub fn multiply_adds(level: Level) -> f64 {
    let seconds = fastest(LOOPS, || {
        black_box(level.run(MultiplyAdds));
    });
    (2 * ROUNDS * CHAINS * level.lanes()) as f64 / seconds
}

/// Operations in a second of products of `u8` and `i8` summed in `i32`; a multiply-add is two.
pub fn byte_products(level: Level) -> f64 {
    let seconds = fastest(LOOPS, || {
        black_box(level.run_vnni(ByteProducts));
    });
    (8 * ROUNDS * CHAINS * level.lanes()) as f64 / seconds
}

/// Bytes in a second of a loop that reads `bytes` bytes again and again: the bandwidth of the smallest cache that holds them, or
/// of memory.
pub fn reads(level: Level, bytes: usize) -> f64 {
    let mut data = AlignedVec::<f32>::zeroed(bytes.div_ceil(size_of::<f32>()));
    // Memory that was never written may be one shared page of zeros.
    data.fill(1.0);
    // As many passes as a few milliseconds have room for.
    let passes = (32 << 20) / bytes.max(1);
    let seconds = fastest(passes.clamp(3, 200), || {
        black_box(level.run(Reads(&data)));
    });
    // A clock may not see a loop over nothing.
    size_of_val(&data[..]) as f64 / seconds.max(1e-9)
}

/// Seconds of the fastest of `count` calls, after one that is not measured.
fn fastest(count: usize, mut work: impl FnMut()) -> f64 {
    work();
    (0..count).fold(f64::INFINITY, |best, _| {
        let start = Instant::now();
        work();
        best.min(start.elapsed().as_secs_f64())
    })
}

struct MultiplyAdds;

impl SimdTask for MultiplyAdds {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (factor, offset) = (simd.splat(black_box(0.5)), simd.splat(black_box(1.0)));
        let mut sums = [offset; CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = simd.fma(*sum, factor, offset);
            }
        }
        let total = sums.into_iter().fold(offset, |total, sum| simd.add(total, sum));
        simd.reduce_add(total)
    }
}

struct ByteProducts;

impl SimdTask for ByteProducts {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (offset, factor) =
            (simd.splat_i32(black_box(0x0102_0304)), simd.splat_i32(black_box(0x0101_0101)));
        let mut sums = [offset; CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                // The sum is a factor of the next product: of constant ones, several instructions long on some machines, the
                // compiler would take the products once.
                *sum = simd.dot_u8_i8(offset, *sum, factor);
            }
        }
        let total = sums.into_iter().fold(offset, |total, sum| simd.add_i32(total, sum));
        simd.reduce_add(simd.to_f32(total))
    }
}

struct Reads<'a>(&'a [f32]);

impl SimdTask for Reads<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let width = VECTORS * S::LANES;
        let rows = self.0.len() / (STREAMS * width);
        let mut sums = [[simd.splat(0.0); VECTORS]; STREAMS];
        for row in 0..rows {
            for (stream, sums) in sums.iter_mut().enumerate() {
                for (vector, sum) in sums.iter_mut().enumerate() {
                    let at = (stream * rows + row) * width + vector * S::LANES;
                    // SAFETY: there are STREAMS × rows × VECTORS vectors.
                    *sum = simd.add(*sum, unsafe { simd.load(self.0.as_ptr().add(at)) });
                }
            }
        }
        let total = sums.into_iter().flatten().fold(simd.splat(0.0), |total, sum| simd.add(total, sum));
        simd.reduce_add(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_rates() {
        for level in Level::available() {
            for rate in [multiply_adds(level), byte_products(level), reads(level, 1 << 16), reads(level, 0)] {
                assert!(rate.is_finite() && rate >= 0.0, "{level}: {rate}");
            }
        }
    }

    #[test]
    fn every_element_is_read() {
        for level in Level::available() {
            let data = vec![1.0; 16 * STREAMS * VECTORS * 16];
            assert_eq!(level.run(Reads(&data)), data.len() as f32);
        }
    }
}
