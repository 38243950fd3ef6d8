//! Operators that take a range of each axis.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Operator, Slice, Squeeze};
use optimium_tensor::Result;

use super::super::operator::{OperatorReader, support, unsupported};

fn op() -> Operator {
    Operator::Slice(Slice { ranges: None })
}

/// Inputs: x, begin, size; a size of -1 takes what is left.
pub(super) fn slice(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let Some(sizes) = node.constant_i64s(2)? else {
        return computed_slice(node, x);
    };
    let starts = node.as_i64(1)?;
    let ends = match node.constant_i64s(1)? {
        Some(begins) => {
            let end =
                |(&begin, &size): (&i64, &i64)| if size < 0 { i64::MAX } else { begin.saturating_add(size) };
            let ends: Vec<i64> = begins.iter().zip(&sizes).map(end).collect();
            node.add_i64s("ends", &ends)?
        }
        None => {
            support(sizes.iter().all(|&size| size >= 0), "what is left from a computed beginning")?;
            let sizes = node.as_i64(2)?;
            node.binary(Binary::Add, starts, sizes)
        }
    };
    node.finish(op(), [Some(x), Some(starts), Some(ends)])
}

fn computed_slice(node: &mut OperatorReader<'_, '_>, x: ValueId) -> Result<()> {
    let starts = node.as_i64(1)?;
    let sizes = node.as_i64(2)?;
    let ends = node.binary(Binary::Add, starts, sizes);
    node.finish(op(), [Some(x), Some(starts), Some(ends)])
}

/// Inputs: x, begin, end, strides; bits of the options change the meaning of single axes.
pub(super) fn strided_slice(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let options = node.options;
    let [begin_mask, end_mask, ellipsis, new_axes, shrink] =
        [options.i32(0)?, options.i32(1)?, options.i32(2)?, options.i32(3)?, options.i32(4)?];
    support(ellipsis == 0 && new_axes == 0, "ellipses and new axes")?;
    support(!options.bool(5)?, "ends that are offsets")?;
    let known = (node.constant_i64s(1)?, node.constant_i64s(2)?, node.constant_i64s(3)?);
    let (Some(mut begins), Some(mut ends), Some(mut steps)) = known else {
        support(begin_mask == 0 && end_mask == 0 && shrink == 0, "masks of computed ranges")?;
        let ranges = [node.as_i64(1)?, node.as_i64(2)?, node.as_i64(3)?];
        return node.finish(op(), [Some(x), Some(ranges[0]), Some(ranges[1]), None, Some(ranges[2])]);
    };
    let rank = begins.len();
    if ends.len() != rank || steps.len() != rank || rank > 32 {
        return unsupported("ranges of different lengths");
    }
    let bit = |mask: i32, axis: usize| mask >> axis & 1 == 1;
    for axis in 0..rank {
        if bit(shrink, axis) {
            // One element; the one behind -1 is not 0.
            ends[axis] = if begins[axis] == -1 { i64::MAX } else { begins[axis].saturating_add(1) };
            steps[axis] = 1;
            continue;
        }
        if bit(begin_mask, axis) {
            begins[axis] = if steps[axis] < 0 { i64::MAX } else { 0 };
        }
        if bit(end_mask, axis) {
            ends[axis] = if steps[axis] < 0 { i64::MIN } else { i64::MAX };
        }
    }
    let starts = node.add_i64s("starts", &begins)?;
    let ends = node.add_i64s("ends", &ends)?;
    let steps = node.add_i64s("steps", &steps)?;
    let inputs = [Some(x), Some(starts), Some(ends), None, Some(steps)];
    let dropped: Vec<i64> = (0..rank).filter(|&axis| bit(shrink, axis)).map(|axis| axis as i64).collect();
    if dropped.is_empty() {
        return node.finish(op(), inputs);
    }
    let sliced = node.step(op(), inputs, x);
    node.finish(Operator::Squeeze(Squeeze { axes: Some(dropped) }), [Some(sliced)])
}

/// Inputs: x, axes.
pub(super) fn reverse(node: &mut OperatorReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    let axes = node.i64s(1)?;
    let starts = node.add_i64s("starts", &vec![i64::MAX; axes.len()])?;
    let ends = node.add_i64s("ends", &vec![i64::MIN; axes.len()])?;
    let steps = node.add_i64s("steps", &vec![-1; axes.len()])?;
    let axes = node.add_i64s("axes", &axes)?;
    node.finish(op(), [Some(x), Some(starts), Some(ends), Some(axes), Some(steps)])
}
