//! Naive convolutions for the tests.

use super::parameters::{Geometry, Parameters};
use crate::activation::{Activation, apply_scalar};
use crate::epilogue::Epilogue;
use optimium_testing::Random;

/// A convolution and its operands; the output is filled with ones between the pixels.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) parameters: Parameters,
    pub(super) geometry: Geometry,
    pub(super) x: Vec<f32>,
    pub(super) weights: Vec<f32>,
    pub(super) bias: Vec<f32>,
}

impl Case {
    /// Pixels of input and output have that many elements more than channels.
    pub(super) fn new(parameters: Parameters, mut geometry: Geometry, gaps: [usize; 2]) -> Case {
        geometry.input_stride = parameters.input_channels + gaps[0];
        geometry.output_stride = parameters.output_channels + gaps[1];
        let mut random = Random::new(5);
        let taps = parameters.kernel[0] * parameters.kernel[1];
        Case {
            parameters,
            geometry,
            x: random.floats(geometry.input_pixels() * geometry.input_stride),
            weights: random.floats(taps * parameters.group_inputs() * parameters.output_channels),
            bias: random.floats(parameters.output_channels),
        }
    }

    /// The output before anything is written.
    pub(super) fn blank(&self) -> Vec<f32> {
        vec![1.0; self.geometry.output_pixels() * self.geometry.output_stride]
    }

    /// Products of one output.
    pub(super) fn depth(&self) -> usize {
        self.parameters.kernel[0] * self.parameters.kernel[1] * self.parameters.group_inputs()
    }

    /// `convolution(x) + bias`
    pub(super) fn expected(&self) -> Vec<f32> {
        self.expected_of(
            |tap, output, axis| {
                let (p, g) = (&self.parameters, &self.geometry);
                (output * p.stride[axis] + tap * p.dilation[axis]).checked_sub(g.padding[axis])
            },
            |i, o, tap| (o * self.parameters.group_inputs() + i) * self.taps() + tap,
        )
    }

    /// `transposed convolution(x) + bias`
    pub(super) fn expected_transposed(&self) -> Vec<f32> {
        let (p, g) = (self.parameters, self.geometry);
        self.expected_of(
            |tap, output, axis| {
                let distance = (output + g.padding[axis]).checked_sub(tap * p.dilation[axis])?;
                distance.is_multiple_of(p.stride[axis]).then_some(distance / p.stride[axis])
            },
            |i, o, tap| {
                let group = o / p.group_outputs();
                ((group * p.group_inputs() + i) * p.group_outputs() + o % p.group_outputs()) * self.taps()
                    + tap
            },
        )
    }

    /// Applies the residual, whose elements are `added`, and the activation to sums with the bias in them.
    pub(super) fn finish(&self, sums: &mut [f32], epilogue: &Epilogue, added: &[f32]) {
        for (row, values) in sums.chunks_exact_mut(self.geometry.output_stride).enumerate() {
            for (column, value) in values[..self.parameters.output_channels].iter_mut().enumerate() {
                let residual = epilogue.residual.map(|residual| added[row * residual.stride + column]);
                let late = epilogue.residual.is_some_and(|residual| residual.after_activation);
                let [early, late] = [!late, late].map(|here| residual.filter(|_| here).unwrap_or(0.0));
                let x = *value + early;
                let x = match (epilogue.activation, epilogue.slope) {
                    (Activation::PRelu, Some(slope)) if x < 0.0 => x * slope[column],
                    (activation, _) => apply_scalar(activation, x),
                };
                *value = x + late;
            }
        }
    }

    fn taps(&self) -> usize {
        self.parameters.kernel[0] * self.parameters.kernel[1]
    }

    /// The output where `source` tells which input a tap meets at an output position, and `weight` where the
    /// weight of an input channel of the group, an output channel and a tap lies.
    fn expected_of(
        &self,
        source: impl Fn(usize, usize, usize) -> Option<usize>,
        weight: impl Fn(usize, usize, usize) -> usize,
    ) -> Vec<f32> {
        let (p, g) = (&self.parameters, &self.geometry);
        let mut y = self.blank();
        for pixel in 0..g.output_pixels() {
            let (image, position) =
                (pixel / (g.output[0] * g.output[1]), pixel % (g.output[0] * g.output[1]));
            let at = [position / g.output[1], position % g.output[1]];
            for o in 0..p.output_channels {
                let mut sum = f64::from(self.bias[o]);
                for tap in 0..self.taps() {
                    let meets = |axis: usize, tap| source(tap, at[axis], axis).filter(|&i| i < g.input[axis]);
                    let (down, across) = (meets(0, tap / p.kernel[1]), meets(1, tap % p.kernel[1]));
                    let (Some(down), Some(across)) = (down, across) else { continue };
                    let input = ((image * g.input[0] + down) * g.input[1] + across) * g.input_stride;
                    for i in 0..p.group_inputs() {
                        let channel = o / p.group_outputs() * p.group_inputs() + i;
                        sum +=
                            f64::from(self.x[input + channel]) * f64::from(self.weights[weight(i, o, tap)]);
                    }
                }
                y[pixel * g.output_stride + o] = sum as f32;
            }
        }
        y
    }
}
