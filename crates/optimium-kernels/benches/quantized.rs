//! Rates of the integer kernels on one core.

mod common;

use std::process::ExitCode;

use optimium_kernels::quantized::{
    Activations, Channels, LookupTable, Output, PackedMatrix, PoolWindow, Quantization, QuantizedConvolution,
    QuantizedDepthwise, Requantize, Rows, Weights, add, average_pool, dequantize_linear,
    dynamic_quantize_linear, gemm, lookup, mul, quantize_linear,
};
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice};

use common::{Bench, layers};

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

fn products(bench: &mut Bench) {
    let level = bench.level;
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
        (3136, 24, 144),
        (12544, 16, 16),
        (1, 1024, 1024),
    ];
    for (m, n, k) in sizes {
        let (a, b) = (vec![17u8; m * k], vec![3u8; k * n]);
        let weights =
            Weights { data: &b, k, n, row_stride: n, column_stride: 1, signed: true, zero_point: &[] };
        let b = PackedMatrix::new(level, &weights, &Packing::default());
        let (multiplier, bias) = (vec![0.001; n], vec![5; n]);
        let mut c = AlignedVec::zeroed(m * n);
        let a = Activations { data: &a, stride: k, signed: false, zero_point: Rows::Same(2) };
        let output = requantize(&mut c, &multiplier, &bias);
        bench.byte_operations(&format!("product {m} × {n} × {k}"), 2.0 * (m * n * k) as f64, || {
            gemm(level, m, &a, &b, &output, n, Part::WHOLE);
        });
    }
}

fn convolutions(bench: &mut Bench) {
    let level = bench.level;
    let sizes = [
        [56, 64, 64, 3, 1, 1],
        [28, 128, 128, 3, 1, 1],
        [7, 512, 512, 3, 1, 1],
        [224, 3, 32, 3, 2, 1],
        [112, 32, 32, 3, 1, 32],
        [56, 144, 144, 3, 1, 144],
        [56, 144, 144, 3, 2, 144],
        [14, 576, 576, 3, 1, 576],
        [14, 576, 576, 5, 1, 576],
        [28, 120, 120, 5, 1, 120],
        [56, 72, 72, 5, 2, 72],
        [7, 960, 960, 3, 1, 960],
    ];
    for [size, inputs, outputs, kernel, stride, groups] in sizes {
        let (parameters, geometry) = layers::layer([size, inputs, outputs, kernel, stride, groups]);
        let [x, w, y] = layers::lengths(&parameters, &geometry);
        let (x, w, mut y) = (vec![17u8; x], vec![3u8; w], AlignedVec::zeroed(y));
        let (multiplier, bias) = (vec![0.001; outputs], vec![5; outputs]);
        let to = requantize(&mut y, &multiplier, &bias);
        let operations = layers::operations(&parameters, &geometry);
        let kind = if groups == 1 { "convolution" } else { "depthwise" };
        let name = format!("{kind} {size}² {inputs}→{outputs} {kernel}×{kernel}/{stride}");
        let packing = Packing::default();
        if groups == 1 {
            let convolution = QuantizedConvolution::new(level, &parameters, &w, true, &[], &packing);
            let mut scratch = AlignedVec::zeroed(convolution.scratch_len(&geometry));
            bench.byte_operations(&name, operations, || {
                convolution.run(&geometry, &x, false, 2, &to, &mut scratch, Part::WHOLE);
            });
        } else {
            let depthwise = QuantizedDepthwise::new(level, &parameters, &w, true, &[], &packing);
            let mut scratch = AlignedVec::zeroed(depthwise.scratch_len(&geometry));
            bench.byte_operations(&name, operations, || {
                depthwise.run(&geometry, &x, false, 2, &to, &mut scratch, Part::WHOLE);
            });
        }
    }
}

fn elementwise(bench: &mut Bench) {
    let level = bench.level;
    let quantization = Quantization { scale: 0.1, zero_point: 7, signed: false };
    let n = 56 * 56 * 64;
    let (a, b) = (vec![3u8; n], vec![9u8; n]);
    let mut y = vec![0u8; n];
    let y = SharedSlice::new(&mut y);
    let table = LookupTable::new(quantization, quantization, |x| x / (1.0 + (-x).exp()));
    bench.bytes(&format!("a function of {n} bytes"), 2 * n, || lookup(level, &table, &a, y, Part::WHOLE));
    bench.bytes(&format!("product of two tensors of {n}"), 3 * n, || {
        mul(level, &a, quantization, &b, quantization, y, quantization, (0, 255), Part::WHOLE);
    });
    bench.bytes(&format!("sum of two tensors of {n}"), 3 * n, || {
        add(level, &a, quantization, &b, quantization, y, quantization, (0, 255), Part::WHOLE);
    });
}

/// Pools of the usual networks: size, channels, kernel, stride; the whole image where the kernel is as large.
fn pools(bench: &mut Bench) {
    let (level, from) = (bench.level, Quantization { scale: 0.1, zero_point: 7, signed: false });
    let to = Quantization { scale: 0.08, zero_point: 3, signed: false };
    for [size, channels, kernel, stride] in [[7, 1280, 7, 1], [56, 64, 3, 2]] {
        let window = match kernel {
            _ if kernel == size => PoolWindow::global(1, [size; 2], channels),
            _ => PoolWindow {
                batch: 1,
                input: [size; 2],
                output: [size / stride; 2],
                channels,
                kernel: [kernel; 2],
                stride: [stride; 2],
                padding: [(kernel - 1) / 2; 2],
                padding_end: [(kernel - 1) / 2; 2],
                count_include_pad: false,
            },
        };
        let outputs = window.output[0] * window.output[1] * channels;
        let (x, mut y) = (vec![9u8; size * size * channels], vec![0u8; outputs]);
        let y = SharedSlice::new(&mut y);
        bench.bytes(&format!("mean {size}² x {channels}, {kernel} x {kernel}"), x.len() + outputs, || {
            average_pool(level, &window, &x, from, y, to, Part::WHOLE);
        });
    }
}

/// Floats to bytes and back, and the parameters of floats whose range is not known ahead.
fn conversions(bench: &mut Bench) {
    let (level, n) = (bench.level, 128 * 384);
    let floats: Vec<f32> = (0..n).map(|i| (i % 251) as f32 - 125.0).collect();
    let (mut bytes, mut back) = (AlignedVec::<u8>::zeroed(n), AlignedVec::<f32>::zeroed(n));
    let channels = Channels::per_tensor(n);
    bench.bytes(&format!("{n} floats to bytes"), 5 * n, || {
        quantize_linear(
            level,
            &floats,
            channels,
            &[1.0],
            &[128],
            SharedSlice::new(&mut bytes[..]),
            Part::WHOLE,
        );
    });
    bench.bytes(&format!("{n} floats to bytes, range unknown"), 5 * n, || {
        dynamic_quantize_linear(level, &floats, SharedSlice::new(&mut bytes[..]));
    });
    bench.bytes(&format!("{n} bytes to floats"), 5 * n, || {
        dequantize_linear(
            level,
            &bytes[..],
            channels,
            &[1.0],
            &[128],
            SharedSlice::new(&mut back[..]),
            Part::WHOLE,
        );
    });
}

fn main() -> ExitCode {
    common::run("quantized", |bench| {
        products(bench);
        convolutions(bench);
        elementwise(bench);
        pools(bench);
        conversions(bench);
    })
}
