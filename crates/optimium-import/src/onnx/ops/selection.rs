//! Operators whose data decide how much they give.

use optimium_graph::ops::{Gather, NonMaxSuppression, Operator, Reshape, Squeeze, Unique};
use optimium_tensor::Result;

use super::super::node::NodeReader;

pub(super) fn non_zero(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.finish_with_all_inputs(Operator::NonZero)
}

/// The elements where a vector of conditions holds: gathered at the indices that are not zero.
pub(super) fn compress(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (mut x, condition) = (node.required(0)?, node.required(1)?);
    let axis = match node.attributes.int("axis")? {
        Some(axis) => axis,
        None => {
            let flat = node.add_i64s("flat", &[-1])?;
            let reshape = Reshape { dims: None, allow_zero: false };
            x = node.step(Operator::Reshape(reshape), [Some(x), Some(flat)]);
            0
        }
    };
    let matrix = node.step(Operator::NonZero, [Some(condition)]);
    let indices = node.step(Operator::Squeeze(Squeeze { axes: Some(vec![0]) }), [Some(matrix)]);
    node.finish(Operator::Gather(Gather { axis }), [Some(x), Some(indices)])
}

pub(super) fn unique(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int("axis")?;
    let sorted = node.attributes.flag("sorted", true)?;
    node.finish_with_all_inputs(Operator::Unique(Unique { axis, sorted }))
}

pub(super) fn non_max_suppression(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.required(0)?;
    node.required(1)?;
    let center_point_box = node.attributes.flag("center_point_box", false)?;
    node.finish_with_all_inputs(Operator::NonMaxSuppression(NonMaxSuppression { center_point_box }))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Case, case, check, node};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let compress = Case {
            opset: 11,
            node: node("Compress", &["x", "c"], &["y"]).int("axis", 1),
            constants: Vec::new(),
            expected: vec![
                Operator::NonZero,
                Operator::Squeeze(Squeeze { axes: Some(vec![0]) }),
                Operator::Gather(Gather { axis: 1 }),
            ],
        };
        let unique = node("Unique", &["x"], &["y", "", "i"]).int("axis", -1).int("sorted", 0);
        let suppress = node("NonMaxSuppression", &["b", "s", "", "t"], &["y"]).int("center_point_box", 1);
        check([
            compress,
            case(13, node("NonZero", &["x"], &["y"]), Operator::NonZero),
            case(11, unique, Operator::Unique(Unique { axis: Some(-1), sorted: false })),
            case(11, suppress, Operator::NonMaxSuppression(NonMaxSuppression { center_point_box: true })),
        ]);
    }
}
