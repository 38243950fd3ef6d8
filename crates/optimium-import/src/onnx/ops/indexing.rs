//! Operators that pick, join and rearrange elements.

use optimium_graph::ops::{
    Concat, Gather, GatherElements, GatherNd, OneHot, Operator, ReverseSequence, ScatterElements, ScatterNd,
    ScatterReduction, Slice, Split, TopK, Trilu,
};
use optimium_tensor::{Error, Expr, Result};

use super::super::attributes::missing;
use super::super::node::NodeReader;

pub(super) fn concat(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.required_int("axis")?;
    for index in 0..node.inputs.len() {
        node.required(index)?;
    }
    node.finish_with_all_inputs(Operator::Concat(Concat { axis }))
}

pub(super) fn split(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 0)?;
    let sizes = node.attributes.counts("split")?;
    let parts = sizes.as_ref().map(Vec::len).or(node.attributes.count("num_outputs")?);
    if let Some(parts) = parts
        && parts != node.outputs.len()
    {
        let outputs = node.outputs.len();
        return Err(Error::model(format!("it has {outputs} outputs, but splits into {parts} parts")));
    }
    let sizes = sizes.map(|sizes| sizes.into_iter().map(Expr::from).collect());
    node.finish_with_all_inputs(Operator::Split(Split { axis, sizes }))
}

pub(super) fn slice(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let op = Operator::Slice(Slice { ranges: None });
    if node.opset >= 10 {
        node.required(1)?;
        node.required(2)?;
        return node.finish_with_all_inputs(op);
    }
    let x = node.input(0);
    let starts = node.attributes.ints("starts")?.ok_or_else(|| missing("starts"))?;
    let ends = node.attributes.ints("ends")?.ok_or_else(|| missing("ends"))?;
    let axes = node.attributes.ints("axes")?;
    if starts.len() != ends.len() || axes.as_ref().is_some_and(|axes| axes.len() != starts.len()) {
        return Err(Error::model("starts, ends and axes of different lengths"));
    }
    let starts = node.add_i64s("starts", &starts)?;
    let ends = node.add_i64s("ends", &ends)?;
    let axes = axes.map(|axes| node.add_i64s("axes", &axes)).transpose()?;
    node.finish(op, [x, Some(starts), Some(ends), axes])
}

pub(super) fn gather(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 0)?;
    node.finish_with_all_inputs(Operator::Gather(Gather { axis }))
}

pub(super) fn gather_elements(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 0)?;
    node.finish_with_all_inputs(Operator::GatherElements(GatherElements { axis }))
}

pub(super) fn gather_nd(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let batch_dims = node.attributes.count_or("batch_dims", 0)?;
    node.finish_with_all_inputs(Operator::GatherNd(GatherNd { batch_dims }))
}

fn scatter_reduction(node: &mut NodeReader<'_, '_>) -> Result<ScatterReduction> {
    Ok(match node.attributes.string_or("reduction", "none")? {
        "none" => ScatterReduction::None,
        "add" => ScatterReduction::Add,
        "mul" => ScatterReduction::Mul,
        "max" => ScatterReduction::Max,
        "min" => ScatterReduction::Min,
        other => return Err(Error::model(format!("the reduction {other:?}"))),
    })
}

pub(super) fn scatter_elements(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 0)?;
    let reduction = scatter_reduction(node)?;
    node.finish_with_all_inputs(Operator::ScatterElements(ScatterElements { axis, reduction }))
}

pub(super) fn scatter_nd(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let reduction = scatter_reduction(node)?;
    node.finish_with_all_inputs(Operator::ScatterNd(ScatterNd { reduction }))
}

pub(super) fn one_hot(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", -1)?;
    node.finish_with_all_inputs(Operator::OneHot(OneHot { axis, depth: None }))
}

pub(super) fn top_k(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", -1)?;
    let largest = node.attributes.flag("largest", true)?;
    let sorted = node.attributes.flag("sorted", true)?;
    let k = node.attributes.count("k")?.map(Expr::from);
    if k.is_none() {
        node.required(1)?;
    }
    node.finish_with_all_inputs(Operator::TopK(TopK { axis, largest, sorted, k }))
}

pub(super) fn trilu(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let upper = node.attributes.flag("upper", true)?;
    let k = if node.input(1).is_none() { Some(0) } else { None };
    node.finish_with_all_inputs(Operator::Trilu(Trilu { upper, k }))
}

pub(super) fn reverse_sequence(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let batch_axis = node.attributes.count_or("batch_axis", 1)?;
    let time_axis = node.attributes.count_or("time_axis", 0)?;
    node.finish_with_all_inputs(Operator::ReverseSequence(ReverseSequence { batch_axis, time_axis }))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node, operators};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let x = |name: &str| node(name, &["x"], &["y"]);
        let top = |k| Operator::TopK(TopK { axis: -1, largest: true, sorted: true, k });
        let sizes = |sizes: [usize; 2]| Some(sizes.map(Expr::from).to_vec());
        let slice = || Operator::Slice(Slice { ranges: None });
        check([
            case(9, x("Slice").ints("starts", &[1]).ints("ends", &[2]), slice()),
            case(13, node("Slice", &["x", "s", "e", "", "t"], &["y"]), slice()),
            case(
                11,
                node("Split", &["x"], &["a", "b"]).ints("split", &[1, 1]),
                Operator::Split(Split { axis: 0, sizes: sizes([1, 1]) }),
            ),
            case(
                18,
                node("Split", &["x"], &["a", "b"]).int("num_outputs", 2),
                Operator::Split(Split { axis: 0, sizes: None }),
            ),
            case(9, node("TopK", &["x"], &["v", "i"]).int("k", 3), top(Some(Expr::from(3usize)))),
            case(11, node("TopK", &["x", "k"], &["v", "i"]), top(None)),
            case(14, x("Trilu").int("upper", 0), Operator::Trilu(Trilu { upper: false, k: Some(0) })),
            case(
                16,
                node("ScatterElements", &["x", "i", "u"], &["y"]).text("reduction", "mul"),
                Operator::ScatterElements(ScatterElements { axis: 0, reduction: ScatterReduction::Mul }),
            ),
        ]);
    }

    #[test]
    fn a_split_has_an_output_for_each_part() {
        let split = || node("Split", &["x"], &["a", "b"]);
        let cases = [
            (split().int("num_outputs", 0), "it has 2 outputs, but splits into 0 parts"),
            (split().ints("split", &[1, 1, 1]), "it has 2 outputs, but splits into 3 parts"),
        ];
        optimium_testing::each_case(cases, |(node, expected)| {
            let error = operators(18, node.clone(), Vec::new()).expect_err("not as many parts");
            if error.message().contains(expected) { Ok(()) } else { Err(format!("{error:?}")) }
        });
    }
}
