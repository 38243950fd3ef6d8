//! Rates of depthwise convolutions on one core.

mod common;

use std::process::ExitCode;

use optimium_kernels::depthwise::Depthwise;
use optimium_kernels::epilogue::Epilogue;
use optimium_kernels::{AlignedVec, Packing, Part, SharedSlice, activation::Activation};
use optimium_testing::Random;

use common::{Bench, layers};

/// Layers of the usual networks: height and width, channels, kernel, stride.
const LAYERS: [[usize; 4]; 16] = [
    [112, 32, 3, 1],
    [56, 144, 3, 1],
    [28, 192, 3, 1],
    [14, 576, 3, 1],
    [7, 960, 3, 1],
    [80, 64, 3, 1],
    [16, 88, 3, 1],
    [112, 96, 3, 2],
    [56, 144, 3, 2],
    [14, 576, 3, 2],
    [28, 240, 5, 1],
    [14, 480, 5, 1],
    [28, 120, 5, 2],
    [56, 96, 7, 1],
    [14, 384, 7, 1],
    [7, 768, 7, 1],
];

fn measure(bench: &mut Bench, [size, channels, kernel, stride]: [usize; 4]) {
    let (parameters, geometry) = layers::layer([size, channels, channels, kernel, stride, channels]);
    let [inputs, weights, outputs] = layers::lengths(&parameters, &geometry);
    let mut random = Random::new(1);
    let weights = random.floats(weights);
    let bias = random.floats(channels);
    let mut x = AlignedVec::zeroed(inputs);
    x.copy_from_slice(&random.floats(inputs));
    let mut y = AlignedVec::zeroed(outputs);
    let y = SharedSlice::new(&mut y);
    let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Relu, ..Epilogue::default() };
    let depthwise = Depthwise::new(bench.level, &parameters, &weights, &Packing::default());
    let name = format!("{size}² x {channels}, {kernel} x {kernel}, stride {stride}");
    bench.operations(&name, layers::operations(&parameters, &geometry), || {
        depthwise.run(&geometry, &x, &epilogue, y, Part::WHOLE);
    });
}

fn main() -> ExitCode {
    common::run("depthwise", |bench| {
        for layer in LAYERS {
            measure(bench, layer);
        }
    })
}
