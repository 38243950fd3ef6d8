//! Operators that bring values to a scale.

use optimium_graph::ops::{
    Binary, ImageLayout, LocalResponseNormalization, LpNormalization, Operator, Softmax,
};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::operator::{OperatorReader, support};

pub(super) fn softmax(node: &mut OperatorReader<'_, '_>, log: bool) -> Result<()> {
    let mut x = node.required(0)?;
    let beta = if log { 1.0 } else { node.options.f32(0)? };
    if beta != 1.0 {
        support(node.element_type(x)? == ElementType::F32, "a factor other than 1")?;
        let beta = node.add_constant("beta", Tensor::scalar(beta)?);
        x = node.binary(Binary::Mul, x, beta);
    }
    node.finish(Operator::Softmax(Softmax { axis: -1, log, flatten: false }), [Some(x)])
}

pub(super) fn l2(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let activation = node.options.activation(0)?;
    let op = LpNormalization { axis: -1, p: 2 };
    node.finish_fused(Operator::LpNormalization(op), [Some(x)], activation)
}

/// The sum runs over `2 · radius + 1` channels, and its factor is not divided by their number.
pub(super) fn local_response(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let radius = node.options.i32(0)?;
    let radius = usize::try_from(radius).map_err(|_| Error::model(format!("the radius {radius}")))?;
    let size = 2 * radius + 1;
    let op = LocalResponseNormalization {
        layout: ImageLayout::ChannelsLast,
        size,
        alpha: node.options.f32(2)? * size as f32,
        beta: node.options.f32(3)?,
        bias: node.options.f32(1)?,
    };
    node.finish(Operator::LocalResponseNormalization(op), [Some(x)])
}
