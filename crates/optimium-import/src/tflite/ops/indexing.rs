//! Operators that pick, join and rearrange elements.

use optimium_graph::ops::{
    Cast, Concat, ConstantOfShape, Gather, GatherNd, OneHot, Operator, ReverseSequence, ScatterNd,
    ScatterReduction, Split, Squeeze, TopK, Unsqueeze,
};
use optimium_tensor::{ElementType, Error, Expr, Result};

use super::super::operator::{OperatorReader, support, unsupported};

pub(super) fn concatenation(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axis = i64::from(node.options.i32(0)?);
    let activation = node.options.activation(1)?;
    let parts = parts(node)?;
    node.finish_fused(Operator::Concat(Concat { axis }), parts, activation)
}

fn parts(node: &OperatorReader<'_, '_>) -> Result<Vec<Option<optimium_graph::ValueId>>> {
    if node.inputs.is_empty() {
        return Err(Error::model("it has no inputs"));
    }
    (0..node.inputs.len()).map(|index| node.required(index).map(Some)).collect()
}

/// Joins along a new axis.
pub(super) fn pack(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axis = i64::from(node.options.i32(1)?);
    let mut rows = Vec::new();
    for part in parts(node)?.into_iter().flatten() {
        let op = Operator::Unsqueeze(Unsqueeze { axes: Some(vec![axis]) });
        rows.push(Some(node.step(op, [Some(part)], part)));
    }
    node.finish(Operator::Concat(Concat { axis }), rows)
}

/// Splits along an axis, and drops it.
pub(super) fn unpack(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let axis = i64::from(node.options.i32(1)?);
    let wanted = std::mem::take(&mut node.outputs);
    let mut rows = Vec::new();
    for output in wanted {
        let output = output.ok_or_else(|| Error::model("an output is missing"))?;
        let row = node.intermediate_like("row", x);
        let squeeze = Operator::Squeeze(Squeeze { axes: Some(vec![axis]) });
        node.add_node(squeeze, vec![Some(row)], vec![Some(output)]);
        rows.push(Some(row));
    }
    let sizes = Some(vec![Expr::from(1usize); rows.len()]);
    node.add_node(Operator::Split(Split { axis, sizes }), vec![Some(x)], rows);
    Ok(())
}

/// Inputs: axis, x.
pub(super) fn split(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axis = node.i64(0)?;
    let x = node.required(1)?;
    node.finish(Operator::Split(Split { axis, sizes: None }), [Some(x)])
}

/// Inputs: x, sizes, axis.
pub(super) fn split_v(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let axis = node.i64(2)?;
    let sizes = node.i64s(1)?;
    if sizes.len() != node.outputs.len() {
        return Err(Error::model(format!("{} sizes for {} outputs", sizes.len(), node.outputs.len())));
    }
    support(sizes.iter().all(|&size| size >= 0), "a size that takes what is left")?;
    let sizes = Some(sizes.into_iter().map(Expr::from).collect());
    node.finish(Operator::Split(Split { axis, sizes }), [Some(x)])
}

pub(super) fn gather(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (x, indices) = (node.required(0)?, node.required(1)?);
    let axis = i64::from(node.options.i32(0)?);
    support(node.options.i32(1)? == 0, "dimensions that both share")?;
    node.finish(Operator::Gather(Gather { axis }), [Some(x), Some(indices)])
}

/// Inputs: indices, rows.
pub(super) fn embedding_lookup(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let (indices, rows) = (node.required(0)?, node.required(1)?);
    let output = node.output(0)?;
    let rows = node.real_for(rows, output)?;
    node.finish(Operator::Gather(Gather { axis: 0 }), [Some(rows), Some(indices)])
}

pub(super) fn gather_nd(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let indices = node.as_i64(1)?;
    node.finish(Operator::GatherNd(GatherNd { batch_dims: 0 }), [Some(x), Some(indices)])
}

/// Inputs: indices, updates, shape. Updates of one place are added.
pub(super) fn scatter_nd(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let updates = node.required(1)?;
    let element_type = node.element_type(updates)?;
    support(!element_type.is_quantized() && element_type != ElementType::String, "the element type")?;
    let indices = node.as_i64(0)?;
    let shape = node.as_i64(2)?;
    let zeros = ConstantOfShape { dims: None, element_type, value: vec![0; element_type.size()] };
    let zeros = node.step(Operator::ConstantOfShape(zeros), [Some(shape)], updates);
    let op = ScatterNd { reduction: ScatterReduction::Add };
    node.finish(Operator::ScatterNd(op), [Some(zeros), Some(indices), Some(updates)])
}

/// Inputs: indices, depth, value at them, value elsewhere.
pub(super) fn one_hot(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let axis = i64::from(node.options.i32(0)?);
    let indices = node.required(0)?;
    let depth = node.as_i64(1)?;
    let (on, off) = (node.required(2)?, node.required(3)?);
    let off = node.reshape(off, &[1])?;
    let on = node.reshape(on, &[1])?;
    let values = node.step(Operator::Concat(Concat { axis: 0 }), [Some(off), Some(on)], on);
    let op = Operator::OneHot(OneHot { axis, depth: None });
    node.finish(op, [Some(indices), Some(depth), Some(values)])
}

/// The largest of the last axis; their indices are I32 where the model wants that.
pub(super) fn top_k(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let k = Some(Expr::from(node.i64(1)?));
    let op = Operator::TopK(TopK { axis: -1, largest: true, sorted: true, k });
    let wanted = node.output(1)?;
    let to = node.element_type(wanted)?;
    if to == ElementType::I64 {
        return node.finish(op, [Some(x)]);
    }
    let indices = node.intermediate_of_type("indices", ElementType::I64);
    let values = node.output(0)?;
    node.add_node(op, vec![Some(x)], vec![Some(values), Some(indices)]);
    node.add_node(Operator::Cast(Cast { to }), vec![Some(indices)], vec![Some(wanted)]);
    Ok(())
}

pub(super) fn reverse_sequence(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let lengths = node.as_i64(1)?;
    let axis = |number: i32| match usize::try_from(number) {
        Ok(axis) => Ok(axis),
        Err(_) => unsupported("negative axes"),
    };
    let op =
        ReverseSequence { batch_axis: axis(node.options.i32(1)?)?, time_axis: axis(node.options.i32(0)?)? };
    node.finish(Operator::ReverseSequence(op), [Some(x), Some(lengths)])
}
