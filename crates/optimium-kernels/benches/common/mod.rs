//! What the benchmarks share: their arguments, a clock, what rates are compared with, and the gate.
//!
//! `cargo bench -p optimium-kernels -- [LEVEL…] [--quick] [--gate] [--only TEXT]`
//!
//! Every case is reported as a fraction of what the machine was measured to reach a moment before: of its multiply-adds, its
//! products of bytes, its reads, or a copy. With `--gate` only the cases of [`floors`] run, and the program fails where one is
//! slower than its recorded fraction: a compiler that no longer unrolls a kernel is noticed. `--quick` measures for a shorter
//! time, `--only` leaves out the cases whose names lack the text.

// Every benchmark takes what it needs.
#![allow(dead_code)]

mod floors;
pub(crate) mod layers;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use optimium_kernels::{AlignedVec, machine};
use optimium_simd::Level;

use floors::floors;

/// Seconds of the fastest call of `work`, over calls of at least `time` in all.
fn fastest(time: Duration, mut work: impl FnMut()) -> f64 {
    work();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed() < time {
        let call = Instant::now();
        work();
        best = best.min(call.elapsed().as_secs_f64());
    }
    best
}

/// A benchmark program at one level.
pub(crate) struct Bench {
    /// The instruction set to measure.
    pub(crate) level: Level,
    program: &'static str,
    options: Options,
    /// `f32` operations in a second.
    multiply_adds: f64,
    /// 8-bit operations in a second.
    byte_products: f64,
    /// Names of cases that were slower than recorded.
    slow: Vec<String>,
    /// Names of cases that have a floor.
    gated: Vec<String>,
}

#[derive(Clone, Default)]
struct Options {
    levels: Vec<Level>,
    quick: bool,
    gate: bool,
    only: Option<String>,
}

impl Options {
    fn read() -> Options {
        let mut options = Options::default();
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--gate" => options.gate = true,
                "--only" => options.only = arguments.next(),
                // Cargo adds `--bench`; others are not ours either.
                name => options.levels.extend(Level::from_name(name)),
            }
        }
        options.levels.retain(|level| level.is_available());
        if options.levels.is_empty() {
            options.levels = vec![Level::best()];
            if options.gate && Level::best() != Level::Avx2 && Level::Avx2.is_available() {
                options.levels.push(Level::Avx2);
            }
        }
        options
    }
}

/// Runs `cases` at every level that the arguments name, or at the best one; with `--gate`, also at AVX2.
pub(crate) fn run(program: &'static str, cases: impl Fn(&mut Bench)) -> ExitCode {
    let options = Options::read();
    let mut failures = 0;
    for &level in &options.levels {
        let mut bench = Bench::new(program, level, options.clone());
        if !(options.gate && bench.floors().next().is_none()) {
            cases(&mut bench);
        }
        failures += bench.finish();
    }
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Bench {
    fn new(program: &'static str, level: Level, options: Options) -> Bench {
        let (multiply_adds, byte_products) = (machine::multiply_adds(level), machine::byte_products(level));
        let (floats, bytes) = (multiply_adds / 1e9, byte_products / 1e9);
        println!("{program} at {level}: {floats:.0} GFLOP/s in f32, {bytes:.0} GOP/s in bytes");
        Bench { level, program, options, multiply_adds, byte_products, slow: Vec::new(), gated: Vec::new() }
    }

    /// Whether `--quick` asks for a small selection.
    pub(crate) fn is_quick(&self) -> bool {
        self.options.quick
    }

    /// Whether the case of that name is wanted: a benchmark need not prepare others.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let named = self.options.only.as_ref().is_none_or(|text| name.contains(text));
        named && (!self.options.gate || self.floor(name).is_some())
    }

    /// `operations` in `f32` (a multiply-add is two), beside the machine's multiply-adds.
    pub(crate) fn operations(&mut self, name: &str, operations: f64, work: impl FnMut()) {
        let peak = self.multiply_adds;
        self.case(name, work, |seconds| {
            (operations / seconds / peak, "peak", operations / seconds / 1e9, "GFLOP/s")
        });
    }

    /// `operations` in 8 bits (a multiply-add is two), beside the machine's products of bytes.
    pub(crate) fn byte_operations(&mut self, name: &str, operations: f64, work: impl FnMut()) {
        let peak = self.byte_products;
        self.case(name, work, |seconds| {
            (operations / seconds / peak, "peak", operations / seconds / 1e9, "GOP/s")
        });
    }

    /// Work that reads and writes `bytes` bytes, beside a copy that moves as many.
    pub(crate) fn bytes(&mut self, name: &str, bytes: usize, work: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        // In lines of the cache, as tensors are, and in pages that are there.
        let [from, mut to] = [1, 0].map(|value| {
            let mut bytes = AlignedVec::<u8>::zeroed(bytes.div_ceil(2));
            bytes.fill(value);
            bytes
        });
        let copy = fastest(self.time() / 4, || black_box(&mut to[..]).copy_from_slice(black_box(&from)));
        self.case(name, work, |seconds| (copy / seconds, "a copy", bytes as f64 / seconds / 1e9, "GB/s"));
    }

    /// Work that is bound by reading `bytes` bytes `times` times, beside a loop that only reads them.
    pub(crate) fn reads(&mut self, name: &str, bytes: usize, times: usize, work: impl FnMut()) {
        if !self.wants(name) {
            return;
        }
        let (rate, all) = (machine::reads(self.level, bytes), (bytes * times) as f64);
        self.case(name, work, |seconds| (all / seconds / rate, "reads", all / seconds / 1e9, "GB/s"));
    }

    /// Measures `work`, prints the rate that `rate` makes of its seconds, and checks the fraction.
    fn case(
        &mut self,
        name: &str,
        mut work: impl FnMut(),
        rate: impl Fn(f64) -> (f64, &'static str, f64, &'static str),
    ) {
        if !self.wants(name) {
            return;
        }
        let floor = self.floor(name).filter(|_| self.options.gate);
        let mut seconds = fastest(self.time(), &mut work);
        // A moment in which the machine was busy is not a slow kernel.
        for _ in 0..3 {
            if floor.is_some_and(|floor| rate(seconds).0 < floor) {
                std::thread::sleep(Duration::from_millis(100));
                seconds = seconds.min(fastest(self.time(), &mut work));
            }
        }
        let (fraction, of, rate, unit) = rate(seconds);
        let told = floor.map(|floor| format!(", at least {floor:.2} wanted")).unwrap_or_default();
        println!("{name:52} {:9.1} µs {rate:8.1} {unit:8} {fraction:6.3} of {of}{told}", seconds * 1e6);
        if let Some(floor) = floor {
            self.gated.push(name.into());
            if fraction < floor {
                self.slow.push(name.into());
            }
        }
    }

    fn time(&self) -> Duration {
        Duration::from_millis(if self.options.quick || self.options.gate { 40 } else { 200 })
    }

    /// The recorded cases of this program at this level.
    fn floors(&self) -> impl Iterator<Item = (&'static str, f64)> + use<> {
        let (program, level) = (self.program, self.level);
        // What has VNNI is measured beside what has it: the floors of AVX-512 count for both.
        let level = if level == Level::Avx512Vnni { Level::Avx512 } else { level };
        floors()
            .filter(move |floor| floor.program == program && floor.level == level)
            .map(|floor| (floor.case, floor.fraction))
    }

    fn floor(&self, name: &str) -> Option<f64> {
        self.floors().find(|(case, _)| *case == name).map(|(_, fraction)| fraction)
    }

    /// Prints what was slow or missing, and how many there are.
    fn finish(&self) -> usize {
        if !self.options.gate {
            return 0;
        }
        let filtered = |case: &str| self.options.only.as_ref().is_some_and(|text| !case.contains(text));
        let missing: Vec<&str> = self
            .floors()
            .map(|(case, _)| case)
            .filter(|case| !filtered(case) && !self.gated.iter().any(|name| name == case))
            .collect();
        for case in &missing {
            println!("{}: no case is called {case:?}", self.program);
        }
        for case in &self.slow {
            println!("{}: {case} is slower than recorded", self.program);
        }
        missing.len() + self.slow.len()
    }
}
