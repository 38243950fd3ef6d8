//! Operators that make one value of many.

use optimium_graph::ops::{ArgReduce, CumSum, Operator, Reduce, Reduction};
use optimium_tensor::Result;

use super::super::node::NodeReader;

/// The axes are an attribute or, in newer versions, an input.
pub(super) fn reduce(node: &mut NodeReader<'_, '_>, reduction: Reduction) -> Result<()> {
    let axes = node.attributes.ints("axes")?;
    let keep_dims = node.attributes.flag("keepdims", true)?;
    let noop_with_empty_axes = node.attributes.flag("noop_with_empty_axes", false)?;
    let op = Reduce { reduction, axes, keep_dims, noop_with_empty_axes };
    node.finish_with_all_inputs(Operator::Reduce(op))
}

pub(super) fn arg(node: &mut NodeReader<'_, '_>, max: bool) -> Result<()> {
    let axis = node.attributes.int_or("axis", 0)?;
    let keep_dims = node.attributes.flag("keepdims", true)?;
    let select_last_index = node.attributes.flag("select_last_index", false)?;
    node.finish_with_all_inputs(Operator::ArgReduce(ArgReduce { max, axis, keep_dims, select_last_index }))
}

/// Sums of all elements up to each, or products.
pub(super) fn cumulative(node: &mut NodeReader<'_, '_>, product: bool) -> Result<()> {
    let exclusive = node.attributes.flag("exclusive", false)?;
    let reverse = node.attributes.flag("reverse", false)?;
    node.finish_with_all_inputs(Operator::CumSum(CumSum { axis: None, exclusive, reverse, product }))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let reduce = |axes, keep_dims| {
            let reduction = Reduction::Mean;
            Operator::Reduce(Reduce { reduction, axes, keep_dims, noop_with_empty_axes: false })
        };
        let arg = ArgReduce { max: true, axis: -1, keep_dims: true, select_last_index: false };
        let sum = CumSum { axis: None, exclusive: false, reverse: true, product: false };
        check([
            case(13, node("ReduceMean", &["x"], &["y"]).ints("axes", &[-1]), reduce(Some(vec![-1]), true)),
            case(18, node("ReduceMean", &["x", "a"], &["y"]).int("keepdims", 0), reduce(None, false)),
            case(13, node("ArgMax", &["x"], &["y"]).int("axis", -1), Operator::ArgReduce(arg)),
            case(14, node("CumSum", &["x", "a"], &["y"]).int("reverse", 1), Operator::CumSum(sum)),
        ]);
    }
}
