//! Rates of convolutions on one core. A rate above the peak is Winograd's, which multiplies less.

mod common;

use std::process::ExitCode;

use optimium_kernels::activation::Activation;
use optimium_kernels::conv::{Convolution, Geometry, Images, Parameters, TransposedConvolution, candidates};
use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice};
use optimium_testing::Random;

use common::{Bench, layers};

/// Layers of the usual networks: `[input size, inputs, outputs, kernel, stride, groups]`.
const LAYERS: [[usize; 6]; 21] = [
    [56, 64, 64, 3, 1, 1],
    [28, 128, 128, 3, 1, 1],
    [14, 256, 256, 3, 1, 1],
    [7, 512, 512, 3, 1, 1],
    [56, 64, 128, 3, 2, 1],
    [14, 256, 512, 3, 2, 1],
    [80, 64, 64, 3, 1, 1],
    [256, 24, 24, 3, 1, 1],
    [56, 64, 256, 1, 1, 1],
    [56, 256, 512, 1, 2, 1],
    [14, 1024, 256, 1, 1, 1],
    [224, 3, 64, 7, 2, 1],
    [224, 3, 32, 3, 2, 1],
    [256, 3, 16, 3, 2, 1],
    [112, 16, 96, 1, 1, 1],
    [56, 128, 128, 3, 1, 32],
    [14, 512, 512, 3, 1, 32],
    [28, 512, 512, 3, 2, 32],
    [28, 240, 240, 1, 1, 3],
    [256, 8, 1, 3, 1, 1],
    [256, 64, 1, 1, 1, 1],
];

/// Transposed convolutions that double the size of an image: `[input size, inputs, outputs, kernel]`.
const TRANSPOSED: [[usize; 4]; 3] = [[64, 96, 48, 2], [128, 48, 24, 2], [32, 128, 64, 4]];

fn main() -> ExitCode {
    common::run("conv", |bench| {
        for layer in LAYERS {
            run(bench, layer);
        }
        for layer in TRANSPOSED {
            transposed(bench, layer);
        }
    })
}

fn transposed(bench: &mut Bench, [size, inputs, outputs, kernel]: [usize; 4]) {
    let name = format!("{size}², {inputs} to {outputs}, {kernel}x{kernel} to twice the size");
    if !bench.wants(&name) {
        return;
    }
    let parameters = Parameters {
        input_channels: inputs,
        output_channels: outputs,
        kernel: [kernel; 2],
        stride: [2; 2],
        dilation: [1; 2],
        groups: 1,
    };
    let geometry = Geometry {
        batch: 1,
        input: [size; 2],
        output: [2 * size; 2],
        padding: [(kernel - 2) / 2; 2],
        input_stride: inputs,
        output_stride: outputs,
    };
    let mut random = Random::new(1);
    let (x, weights) =
        (random.floats(size * size * inputs), random.floats(inputs * outputs * kernel * kernel));
    let bias = random.floats(outputs);
    let epilogue = Epilogue { bias: Some(&bias), ..Epilogue::default() };
    let packing = Packing::default();
    let convolution = TransposedConvolution::new(bench.level, &parameters, &weights, false, &packing);
    let mut y = AlignedVec::zeroed(4 * size * size * outputs);
    let y = SharedSlice::new(&mut y);
    let mut scratch = AlignedVec::zeroed(convolution.scratch_len(&geometry));
    bench.operations(&name, 2.0 * (x.len() * outputs * kernel * kernel) as f64, || {
        convolution.run(&geometry, &x, &epilogue, y, &mut scratch, Part::WHOLE);
    });
}

/// The algorithm that is chosen for a layer and, without `--quick`, all others.
fn run(bench: &mut Bench, layer: [usize; 6]) {
    let level = bench.level;
    let (parameters, geometry) = layers::layer(layer);
    let [x, weights, y] = layers::lengths(&parameters, &geometry);
    let mut random = Random::new(1);
    let (x, weights, bias) =
        (random.floats(x), random.floats(weights), random.floats(parameters.output_channels));
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    let mut y = AlignedVec::zeroed(y);
    let y = SharedSlice::new(&mut y);
    let images = Images { batch: 1, output: geometry.output };
    let [size, inputs, outputs, kernel, stride, groups] = layer;
    let in_groups = if groups == 1 { String::new() } else { format!(" in {groups} groups") };
    let layer = format!("{size}², {inputs} to {outputs}, {kernel}x{kernel} by {stride}{in_groups}");
    for (index, candidate) in candidates(level, &parameters, &images).into_iter().enumerate() {
        let (algorithm, packing) = (candidate.algorithm, Packing::default());
        let name = if index == 0 { layer.clone() } else { format!("{layer}, {algorithm}") };
        if !bench.wants(&name) || (index > 0 && bench.is_quick()) {
            continue;
        }
        let convolution = Convolution::new(level, &parameters, algorithm, &weights, &images, &packing);
        let mut scratch = AlignedVec::zeroed(convolution.scratch_len(&geometry));
        bench.operations(&name, layers::operations(&parameters, &geometry), || {
            convolution.run(&geometry, &x, &epilogue, y, &mut scratch, Part::WHOLE);
        });
    }
}
