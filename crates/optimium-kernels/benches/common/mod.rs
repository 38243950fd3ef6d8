//! What the benchmarks share: a clock, and the multiply-add peak that rates are compared with.

// Every benchmark takes what it needs.
#![allow(dead_code)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use optimium_simd::{Level, Simd, SimdTask};

/// Seconds of the fastest call of `work`, over calls of at least 0.2 seconds in all.
pub(crate) fn seconds(mut work: impl FnMut()) -> f64 {
    work();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < Duration::from_millis(200) {
        let call = Instant::now();
        work();
        best = best.min(call.elapsed().as_secs_f64());
    }
    best
}

/// Multiply-adds that do not wait for each other nor for memory.
struct Probe {
    rounds: usize,
}

/// More than the latency times the units of any machine, and no more than the registers hold.
const CHAINS: usize = 12;

impl SimdTask for Probe {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f32 {
        let (factor, offset) = (simd.splat(black_box(0.5)), simd.splat(black_box(1.0)));
        let mut chains = [offset; CHAINS];
        for _ in 0..self.rounds {
            for chain in &mut chains {
                *chain = simd.fma(*chain, factor, offset);
            }
        }
        let mut total = offset;
        for chain in chains {
            total = simd.add(total, chain);
        }
        simd.reduce_add(total)
    }
}

/// The `f32` operations that one core does in a second at `level`, at most.
pub(crate) fn peak(level: Level) -> f64 {
    let rounds = 100_000;
    let seconds = seconds(|| {
        black_box(level.run(Probe { rounds }));
    });
    (2 * rounds * CHAINS * level.lanes()) as f64 / seconds
}

/// Prints the rate of `operations` in `seconds` beside the peak.
pub(crate) fn report(name: &str, operations: f64, seconds: f64, peak: f64) {
    let rate = operations / seconds;
    println!("{name:44} {:9.1} µs {:8.1} GFLOP/s {:6.3} of peak", seconds * 1e6, rate / 1e9, rate / peak);
}
