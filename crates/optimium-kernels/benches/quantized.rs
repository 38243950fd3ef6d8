//! Speed of the integer kernels, in GOP/s and as a fraction of what a loop of byte dot products reaches.
//!
//! `cargo bench -p optimium-kernels --bench quantized [-- level]`

use std::hint::black_box;
use std::time::Instant;

use optimium_kernels::conv::{Geometry, Parameters};
use optimium_kernels::quantized::{
    Activations, Output, PackedMatrix, Quantization, QuantizedConvolution, QuantizedDepthwise, Requantize,
    Rows, Weights, add, gemm,
};
use optimium_kernels::{AlignedVec, Part, SharedSlice};
use optimium_simd::{Level, Simd, SimdTask};

/// Seconds of the fastest of many calls.
fn fastest(mut call: impl FnMut()) -> f64 {
    call();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut calls = 0;
    while calls < 5 || start.elapsed().as_secs_f64() < 0.2 {
        let start = Instant::now();
        call();
        best = best.min(start.elapsed().as_secs_f64());
        calls += 1;
    }
    best
}

/// A loop of independent byte dot products: the peak that everything is compared with.
struct Probe(usize);

impl SimdTask for Probe {
    type Output = f64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> f64 {
        let mut sums = [simd.splat_i32(0); 12];
        let (a, b) = (simd.splat_i32(black_box(0x0102_0304)), simd.splat_i32(black_box(0x0101_0101)));
        for _ in 0..self.0 {
            for sum in &mut sums {
                *sum = simd.dot_u8_i8(*sum, a, b);
            }
        }
        let mut lanes = [0i32; 16];
        for sum in sums {
            // SAFETY: a vector has at most sixteen lanes.
            unsafe { simd.store_i32(lanes.as_mut_ptr(), sum) };
            black_box(&lanes);
        }
        (self.0 * 12 * S::LANES * 8) as f64
    }
}

fn report(name: &str, operations: f64, seconds: f64, peak: f64) {
    let rate = operations / seconds * 1e-9;
    println!("{name:<44} {:>9.1} µs {rate:>8.1} GOP/s {:>6.3} of peak", seconds * 1e6, rate / peak);
}

fn requantize<'a>(c: &'a mut [u8], multiplier: &'a [f32], bias: &'a [i32]) -> Output<'a> {
    let c = SharedSlice::new(c);
    let (signed, zero_point, low, high) = (false, 3, 3, 255);
    Output::Bytes(Requantize {
        c,
        signed,
        multiplier,
        bias: Some(bias),
        zero_point,
        low,
        high,
        residual: None,
    })
}

fn products(level: Level, peak: f64) {
    let sizes = [
        (3136, 64, 64),
        (3136, 64, 576),
        (784, 512, 128),
        (196, 1024, 256),
        (49, 512, 4608),
        (128, 1536, 384),
        (1024, 1024, 1024),
        (12544, 96, 16),
        (12544, 16, 96),
        (3136, 144, 24),
        (1, 1024, 1024),
    ];
    for (m, n, k) in sizes {
        let (a, b) = (vec![17u8; m * k], vec![3u8; k * n]);
        let weights =
            Weights { data: &b, k, n, row_stride: n, column_stride: 1, signed: true, zero_point: &[] };
        let b = PackedMatrix::new(level, &weights);
        let (multiplier, bias) = (vec![0.001; n], vec![5; n]);
        let mut c = AlignedVec::zeroed(m * n);
        let a = Activations { data: &a, stride: k, signed: false, zero_point: Rows::Same(2) };
        let output = requantize(&mut c, &multiplier, &bias);
        let seconds = fastest(|| gemm(level, m, &a, &b, &output, n, Part::WHOLE));
        report(&format!("product {m} × {n} × {k}"), 2.0 * (m * n * k) as f64, seconds, peak);
    }
}

fn convolutions(level: Level, peak: f64) {
    let sizes = [
        (56usize, 64, 64, 3, 1, 1),
        (28, 128, 128, 3, 1, 1),
        (7, 512, 512, 3, 1, 1),
        (224, 3, 32, 3, 2, 1),
        (112, 32, 32, 3, 1, 32),
        (56, 144, 144, 3, 1, 144),
        (56, 144, 144, 3, 2, 144),
        (14, 576, 576, 3, 1, 576),
        (14, 576, 576, 5, 1, 576),
        (7, 960, 960, 3, 1, 960),
    ];
    for (size, inputs, outputs, kernel, stride, groups) in sizes {
        let parameters = Parameters {
            input_channels: inputs,
            output_channels: outputs,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [1; 2],
            groups,
        };
        let output = size.div_ceil(stride);
        let geometry = Geometry {
            batch: 1,
            input: [size; 2],
            output: [output; 2],
            padding: [kernel / 2; 2],
            input_stride: inputs,
            output_stride: outputs,
        };
        let x = vec![17u8; size * size * inputs];
        let w = vec![3u8; outputs * inputs / groups * kernel * kernel];
        let (multiplier, bias) = (vec![0.001; outputs], vec![5; outputs]);
        let mut c = AlignedVec::zeroed(output * output * outputs);
        let to = requantize(&mut c, &multiplier, &bias);
        let seconds = if groups == 1 {
            let convolution = QuantizedConvolution::new(level, &parameters, &w, true, &[]);
            let mut scratch = AlignedVec::zeroed(convolution.scratch_len(&geometry));
            fastest(|| convolution.run(&geometry, &x, false, 2, &to, &mut scratch, Part::WHOLE))
        } else {
            let depthwise = QuantizedDepthwise::new(level, &parameters, &w, true, &[]);
            let mut scratch = AlignedVec::zeroed(depthwise.scratch_len(&geometry));
            fastest(|| depthwise.run(&geometry, &x, false, 2, &to, &mut scratch, Part::WHOLE))
        };
        let operations = (2 * output * output * outputs * inputs / groups * kernel * kernel) as f64;
        let bytes = (x.len() + output * output * outputs) as f64 / seconds * 1e-9;
        let kind = if groups == 1 { "convolution" } else { "depthwise" };
        let name = format!("{kind} {size}² {inputs}→{outputs} {kernel}×{kernel}/{stride} {bytes:.0} GB/s");
        report(&name, operations, seconds, peak);
    }
}

fn sums(level: Level, peak: f64) {
    let quantization = Quantization { scale: 0.1, zero_point: 7, signed: false };
    let n = 56 * 56 * 64;
    let (a, b) = (vec![3u8; n], vec![9u8; n]);
    let mut y = vec![0u8; n];
    let y = SharedSlice::new(&mut y);
    let seconds = fastest(|| {
        add(level, &a, quantization, &b, quantization, y, quantization, (0, 255), Part::WHOLE);
    });
    report(&format!("sum of two tensors of {n}"), n as f64, seconds, peak);
}

fn main() {
    let named = std::env::args().skip(1).find_map(|name| Level::from_name(&name));
    let level = named.unwrap_or(Level::best());
    let rounds = 200_000;
    let seconds = fastest(|| {
        black_box(level.run(Probe(rounds)));
    });
    let peak = level.run(Probe(rounds)) / seconds * 1e-9;
    println!("{level}: a loop of dot products reaches {peak:.0} GOP/s");
    products(level, peak);
    convolutions(level, peak);
    sums(level, peak);
}
