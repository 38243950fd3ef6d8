//! Operators that change shapes, or make tensors of shapes.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    ConstantOfShape, Expand, Operator, Pad, PadMode, Range, Reshape, Shape, Squeeze, Tile, Transpose,
    Unsqueeze,
};
use optimium_tensor::{Error, Expr, Result, Tensor};

use super::super::operator::{OperatorReader, unsupported};
use super::reduction::finish_indices;

/// The shape is an input or an option.
pub(super) fn reshape(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let shape = match node.input(1) {
        Some(_) => node.as_i64(1)?,
        None => {
            let dims: Vec<i64> = node.options.i32s(0)?.into_iter().map(i64::from).collect();
            node.add_i64s("shape", &dims)?
        }
    };
    node.finish(Operator::Reshape(Reshape { dims: None, allow_zero: true }), [Some(x), Some(shape)])
}

pub(super) fn transpose(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let axes = node.i64s(1)?;
    let rank = axes.len() as i64;
    let mut permutation = Vec::with_capacity(axes.len());
    for axis in axes {
        let axis = if axis < 0 { axis + rank } else { axis };
        match usize::try_from(axis) {
            Ok(axis) if axis < rank as usize && !permutation.contains(&axis) => permutation.push(axis),
            _ => return Err(Error::model("its axes are no permutation")),
        }
    }
    node.finish(Operator::Transpose(Transpose { permutation }), [Some(x)])
}

pub(super) fn squeeze(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let axes: Vec<i64> = node.options.i32s(0)?.into_iter().map(i64::from).collect();
    let axes = (!axes.is_empty()).then_some(axes);
    node.finish(Operator::Squeeze(Squeeze { axes }), [Some(x)])
}

pub(super) fn expand_dims(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let axes = Some(vec![node.i64(1)?]);
    node.finish(Operator::Unsqueeze(Unsqueeze { axes }), [Some(x)])
}

pub(super) fn tile(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let repeats = node.as_i64(1)?;
    node.finish(Operator::Tile(Tile { repeats: None }), [Some(x), Some(repeats)])
}

pub(super) fn broadcast_to(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let shape = node.as_i64(1)?;
    node.finish(Operator::Expand(Expand { dims: None }), [Some(x), Some(shape)])
}

/// Inputs: dimensions, value.
pub(super) fn fill(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let shape = node.as_i64(0)?;
    let value = node.required(1)?;
    node.finish(Operator::Expand(Expand { dims: None }), [Some(value), Some(shape)])
}

pub(super) fn zeros_like(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let element_type = node.element_type(x)?;
    let shape = Operator::Shape(Shape { start: 0, end: None });
    let shape = node.step_of_type(shape, [Some(x)], optimium_tensor::ElementType::I64);
    let value = vec![0; element_type.size()];
    let op = ConstantOfShape { dims: None, element_type, value };
    node.finish(Operator::ConstantOfShape(op), [Some(shape)])
}

/// Inputs: x, elements before and after each axis `[rank, 2]`, value or none.
pub(super) fn pad(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let value = node.input(2);
    finish_pad(node, PadMode::Constant, value)
}

pub(super) fn mirror_pad(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let mode = match node.options.i8(0)? {
        0 => PadMode::Reflect,
        // A mirror that repeats the border, one element deep, repeats the border.
        1 if node.i64s(1)?.iter().all(|&pad| pad <= 1) => PadMode::Edge,
        1 => return unsupported("symmetric mode"),
        other => return Err(Error::model(format!("the mode {other}"))),
    };
    finish_pad(node, mode, None)
}

fn finish_pad(node: &mut OperatorReader<'_, '_>, mode: PadMode, value: Option<ValueId>) -> Result<()> {
    let x = node.required(0)?;
    if let Some(pads) = node.constant_i64s(1)? {
        let (pairs, rest) = pads.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Error::model("an odd number of pads"));
        }
        let pads = pairs.iter().map(|&[before, after]| (Expr::from(before), Expr::from(after))).collect();
        return node.finish(Operator::Pad(Pad { mode, pads: Some(pads) }), [Some(x), None, value]);
    }
    // All that is before comes first, then all that is after.
    let pads = node.as_i64(1)?;
    let columns = Operator::Transpose(Transpose { permutation: vec![1, 0] });
    let columns = node.step(columns, [Some(pads)], pads);
    let pads = node.reshape(columns, &[-1])?;
    node.finish(Operator::Pad(Pad { mode, pads: None }), [Some(x), Some(pads), value])
}

pub(super) fn shape(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    finish_indices(node, Operator::Shape(Shape { start: 0, end: None }), [Some(x)])
}

pub(super) fn rank(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let rank = node.rank(x)?;
    node.finish_constant(Tensor::scalar(rank as i32)?)
}

pub(super) fn range(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let inputs = [node.required(0)?, node.required(1)?, node.required(2)?];
    let output = node.output(0)?;
    let op = Range { element_type: node.element_type(output)?, bounds: None };
    node.finish(Operator::Range(op), inputs.map(Some))
}
