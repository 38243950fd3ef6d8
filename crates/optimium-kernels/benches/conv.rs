//! Rates of convolutions on one core, at the levels named as arguments or at the best one.

mod common;

use optimium_kernels::activation::Activation;
use optimium_kernels::conv::{Convolution, Geometry, Parameters, candidates};
use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::{AlignedVec, Part, SharedSlice};
use optimium_simd::Level;
use optimium_testing::Random;

/// Layers of the usual networks: `[input size, inputs, outputs, kernel, stride, padding]`.
const LAYERS: [[usize; 6]; 15] = [
    [56, 64, 64, 3, 1, 1],
    [28, 128, 128, 3, 1, 1],
    [14, 256, 256, 3, 1, 1],
    [7, 512, 512, 3, 1, 1],
    [56, 64, 128, 3, 2, 1],
    [14, 256, 512, 3, 2, 1],
    [80, 64, 64, 3, 1, 1],
    [256, 24, 24, 3, 1, 1],
    [56, 64, 256, 1, 1, 0],
    [56, 256, 512, 1, 2, 0],
    [14, 1024, 256, 1, 1, 0],
    [224, 3, 64, 7, 2, 3],
    [224, 3, 32, 3, 2, 1],
    [256, 3, 16, 3, 2, 1],
    [112, 16, 96, 1, 1, 0],
];

fn main() {
    let named: Vec<Level> = std::env::args().filter_map(|name| Level::from_name(&name)).collect();
    let levels = if named.is_empty() { vec![Level::best()] } else { named };
    for level in levels {
        let peak = common::peak(level);
        println!("{level}: peak {:.1} GFLOP/s", peak / 1e9);
        for layer in LAYERS {
            run(level, layer, peak);
        }
    }
}

/// Reports all algorithms for one layer.
fn run(level: Level, [size, inputs, outputs, kernel, stride, padding]: [usize; 6], peak: f64) {
    let parameters = Parameters {
        input_channels: inputs,
        output_channels: outputs,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let output = (size + 2 * padding - kernel) / stride + 1;
    let geometry = Geometry {
        batch: 1,
        input: [size; 2],
        output: [output; 2],
        padding: [padding; 2],
        input_stride: inputs,
        output_stride: outputs,
    };
    let mut random = Random::new(1);
    let depth = kernel * kernel * inputs;
    let (x, weights) = (random.floats(size * size * inputs), random.floats(depth * outputs));
    let bias = random.floats(outputs);
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    let mut y = AlignedVec::zeroed(output * output * outputs);
    let y = SharedSlice::new(&mut y);
    for candidate in candidates(level, &parameters) {
        let convolution =
            Convolution::for_pixels(level, &parameters, candidate.algorithm, &weights, output * output);
        let mut scratch = AlignedVec::zeroed(convolution.scratch_len(&geometry));
        let seconds =
            common::seconds(|| convolution.run(&geometry, &x, &epilogue, y, &mut scratch, Part::WHOLE));
        let name =
            format!("{size}², {inputs} to {outputs}, {kernel}x{kernel} by {stride}, {}", candidate.algorithm);
        common::report(&name, (2 * output * output * outputs * depth) as f64, seconds, peak);
    }
}
