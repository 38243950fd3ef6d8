//! Operators that change shapes, or make tensors of shapes.

use optimium_graph::ValueId;
use optimium_graph::ops::Binary;
use optimium_graph::ops::{
    Cast, Comparison, ConstantOfShape, Expand, Flatten, Gather, Operator, Pad, PadMode, Range, Reshape,
    Shape, Squeeze, Tile, Transpose, Unsqueeze,
};
use optimium_tensor::{ElementType, Error, Expr, Result, Tensor};

use super::super::node::{NodeReader, unsupported};
use super::super::types::element_type_of_attribute;

pub(super) fn reshape(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let allow_zero = node.attributes.flag("allowzero", false)?;
    node.finish_with_all_inputs(Operator::Reshape(Reshape { dims: None, allow_zero }))
}

pub(super) fn flatten(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 1)?;
    node.finish_with_all_inputs(Operator::Flatten(Flatten { axis }))
}

pub(super) fn squeeze(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axes = node.attributes.ints("axes")?;
    node.finish_with_all_inputs(Operator::Squeeze(Squeeze { axes }))
}

pub(super) fn unsqueeze(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axes = node.attributes.ints("axes")?;
    if axes.is_none() {
        node.required(1)?;
    }
    node.finish_with_all_inputs(Operator::Unsqueeze(Unsqueeze { axes }))
}

pub(super) fn transpose(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let permutation = match node.attributes.counts("perm")? {
        Some(permutation) => permutation,
        None => {
            let x = node.required(0)?;
            match node.rank(x) {
                Some(rank) => (0..rank).rev().collect(),
                None => return unsupported("no permutation and unknown rank"),
            }
        }
    };
    let mut seen = vec![false; permutation.len()];
    for &axis in &permutation {
        match seen.get_mut(axis) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err(Error::model(format!("{permutation:?} is no permutation"))),
        }
    }
    node.finish_with_all_inputs(Operator::Transpose(Transpose { permutation }))
}

pub(super) fn expand(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::Expand(Expand { dims: None }))
}

pub(super) fn tile(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::Tile(Tile { repeats: None }))
}

pub(super) fn pad(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let mode = match node.attributes.string_or("mode", "constant")? {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return Err(Error::model(format!("the mode {other:?}"))),
    };
    if node.opset >= 11 {
        node.required(1)?;
        return node.finish_with_all_inputs(Operator::Pad(Pad { mode, pads: None }));
    }
    let x = node.required(0)?;
    let pads = node.attributes.ints("pads")?.unwrap_or_default();
    if pads.len() % 2 != 0 {
        return Err(Error::model("an odd number of pads"));
    }
    let (begin, end) = pads.split_at(pads.len() / 2);
    let pads = begin.iter().zip(end).map(|(&b, &e)| (Expr::from(b), Expr::from(e))).collect();
    let value = node.attributes.float_or("value", 0.0)?;
    let value = node.scalar_like("value", x, value)?;
    node.finish(Operator::Pad(Pad { mode, pads: Some(pads) }), [Some(x), None, Some(value)])
}

pub(super) fn shape(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let start = node.attributes.int_or("start", 0)?;
    let end = node.attributes.int("end")?;
    node.finish_with_all_inputs(Operator::Shape(Shape { start, end }))
}

pub(super) fn size(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::Size)
}

pub(super) fn range(node: &mut NodeReader<'_, '_>) -> Result<()> {
    // Version 27 may name a type of the computation.
    node.attributes.ignore(&["stash_type"]);
    let known = (0..3).find_map(|index| node.input(index).and_then(|value| node.element_type(value)));
    let Some(element_type) = known else {
        return unsupported("unknown element type");
    };
    node.finish_with_all_inputs(Operator::Range(Range { element_type, bounds: None }))
}

pub(super) fn constant_of_shape(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (element_type, value) = match node.attributes.tensor("value")? {
        None => (ElementType::F32, vec![0; ElementType::F32.size()]),
        Some(proto) => {
            let tensor = node.tensor(proto)?;
            if tensor.len() != 1 {
                return Err(Error::model(format!("its value has {} elements", tensor.len())));
            }
            if tensor.element_type() == ElementType::String {
                return unsupported("element type STRING");
            }
            let value = tensor.read_bytes()?.to_vec();
            (tensor.element_type(), value)
        }
    };
    node.finish_with_all_inputs(Operator::ConstantOfShape(ConstantOfShape {
        dims: None,
        element_type,
        value,
    }))
}

pub(super) fn constant(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let tensor = constant_tensor(node)?;
    node.finish_constant(tensor);
    Ok(())
}

fn constant_tensor(node: &mut NodeReader<'_, '_>) -> Result<Tensor> {
    if let Some(proto) = node.attributes.tensor("value")? {
        return node.tensor(proto);
    }
    if let Some(proto) = node.attributes.sparse_tensor("sparse_value")? {
        return node.sparse_tensor(proto);
    }
    let attributes = &mut node.attributes;
    if let Some(value) = attributes.float("value_float")? {
        return Tensor::scalar(value);
    }
    if let Some(values) = attributes.floats("value_floats")? {
        return Tensor::from_slice(&[values.len()], &values);
    }
    if let Some(value) = attributes.int("value_int")? {
        return Tensor::scalar(value);
    }
    if let Some(values) = attributes.ints("value_ints")? {
        return Tensor::from_slice(&[values.len()], &values);
    }
    if let Some(value) = attributes.string("value_string")? {
        return Tensor::from_strings(&[], vec![value.to_owned()]);
    }
    if let Some(values) = attributes.strings("value_strings")? {
        return Tensor::from_strings(&[values.len()], values.into_iter().map(str::to_owned).collect());
    }
    Err(Error::model("it has no value"))
}

/// A matrix with ones on a diagonal: where row + k equals column.
pub(super) fn eye_like(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let diagonal = node.attributes.int_or("k", 0)?;
    let to = match node.attributes.int("dtype")? {
        Some(number) => element_type_of_attribute(number)?,
        None => match node.element_type(x) {
            Some(element_type) => element_type,
            None => return unsupported("unknown element type"),
        },
    };
    let shape = node.step(Operator::Shape(Shape { start: 0, end: None }), [Some(x)]);
    let rows = count_up(node, shape, 0)?;
    let columns = count_up(node, shape, 1)?;
    let diagonal = node.add_constant("k", Tensor::scalar(diagonal)?);
    let rows = node.binary(Binary::Add, rows, diagonal);
    let rows = node.step(Operator::Unsqueeze(Unsqueeze { axes: Some(vec![1]) }), [Some(rows)]);
    let on = node.compare(Comparison::Equal, rows, columns);
    node.finish(Operator::Cast(Cast { to }), [Some(on)])
}

/// 0, 1, 2, … for every index of a dimension.
fn count_up(node: &mut NodeReader<'_, '_>, shape: ValueId, dimension: i64) -> Result<ValueId> {
    let index = node.add_constant("index", Tensor::scalar(dimension)?);
    let limit = node.step(Operator::Gather(Gather { axis: 0 }), [Some(shape), Some(index)]);
    let start = node.add_constant("start", Tensor::scalar(0i64)?);
    let delta = node.add_constant("delta", Tensor::scalar(1i64)?);
    let range = Range { element_type: ElementType::I64, bounds: None };
    Ok(node.step(Operator::Range(range), [Some(start), Some(limit), Some(delta)]))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, graph, integers, node, read_graph, value};
    use super::*;

    #[test]
    fn old_attributes_become_fields() {
        let x = |name: &str| node(name, &["x"], &["y"]);
        let axes = Some(vec![0, 1]);
        let pads =
            |pads: [i64; 4]| Some(vec![(pads[0].into(), pads[2].into()), (pads[1].into(), pads[3].into())]);
        check([
            case(11, x("Squeeze").ints("axes", &[0, 1]), Operator::Squeeze(Squeeze { axes: axes.clone() })),
            case(13, node("Squeeze", &["x", "a"], &["y"]), Operator::Squeeze(Squeeze { axes: None })),
            case(11, x("Unsqueeze").ints("axes", &[0, 1]), Operator::Unsqueeze(Unsqueeze { axes })),
            case(
                7,
                x("Pad").ints("pads", &[1, 2, 3, 4]).text("mode", "edge"),
                Operator::Pad(Pad { mode: PadMode::Edge, pads: pads([1, 2, 3, 4]) }),
            ),
            case(
                19,
                node("Pad", &["x", "p"], &["y"]).text("mode", "wrap"),
                Operator::Pad(Pad { mode: PadMode::Wrap, pads: None }),
            ),
            case(9, x("Flatten"), Operator::Flatten(Flatten { axis: 1 })),
            case(15, x("Shape").int("start", 1), Operator::Shape(Shape { start: 1, end: None })),
            case(13, x("Transpose"), Operator::Transpose(Transpose { permutation: vec![3, 2, 1, 0] })),
            case(
                9,
                node("ConstantOfShape", &["s"], &["y"]).tensor("value", integers("", &[-1])),
                Operator::ConstantOfShape(ConstantOfShape {
                    dims: None,
                    element_type: ElementType::I64,
                    value: vec![0xff; 8],
                }),
            ),
            case(
                11,
                node("Range", &["a", "b", "c"], &["y"]),
                Operator::Range(Range { element_type: ElementType::F32, bounds: None }),
            ),
        ]);
    }

    #[test]
    fn constants_are_values() {
        let constants = [
            node("Constant", &[], &["y"]).tensor("value", integers("", &[5])),
            node("Constant", &[], &["y"]).int("value_int", 5),
            node("Constant", &[], &["y"]).ints("value_ints", &[5]),
        ];
        optimium_testing::each_case(constants, |constant| {
            let nodes = vec![constant.clone(), node("Identity", &["y"], &["z"])];
            let graph = read_graph(13, graph(vec![value("x", &[])], Vec::new(), nodes)).unwrap();
            let y = graph.find_value("y").and_then(|y| graph.constant(y));
            match y.map(|tensor| tensor.to_i64s().unwrap()) {
                Some(values) if values == [5] && graph.nodes().len() == 1 => Ok(()),
                other => Err(format!("it became {other:?}")),
            }
        });
    }
}
