//! Convolutions of square images that keep their size, apart from the stride.

use optimium_kernels::conv::{Geometry, Parameters};

/// A layer of an image of `size` by `size` pixels and its geometry; the kernel is of odd size.
pub(crate) fn layer([size, inputs, outputs, kernel, stride, groups]: [usize; 6]) -> (Parameters, Geometry) {
    let parameters = Parameters {
        input_channels: inputs,
        output_channels: outputs,
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [1; 2],
        groups,
    };
    let geometry = Geometry {
        batch: 1,
        input: [size; 2],
        output: [size.div_ceil(stride); 2],
        padding: [(kernel - 1) / 2; 2],
        input_stride: inputs,
        output_stride: outputs,
    };
    (parameters, geometry)
}

/// Elements of its input, its weights and its output.
pub(crate) fn lengths(parameters: &Parameters, geometry: &Geometry) -> [usize; 3] {
    let depth = parameters.input_channels / parameters.groups * parameters.kernel.iter().product::<usize>();
    [
        geometry.input.iter().product::<usize>() * parameters.input_channels,
        depth * parameters.output_channels,
        geometry.output.iter().product::<usize>() * parameters.output_channels,
    ]
}

/// Its operations: a multiply-add is two.
pub(crate) fn operations(parameters: &Parameters, geometry: &Geometry) -> f64 {
    let [_, weights, _] = lengths(parameters, geometry);
    2.0 * (geometry.output.iter().product::<usize>() * weights) as f64
}
