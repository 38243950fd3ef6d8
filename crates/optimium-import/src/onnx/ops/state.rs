//! Operators that carry state from call to call: short convolutions over time, caches written in place.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Activation, Binary, Conv, Fusion, ImageLayout, Operator, Pad, PadMode, Padding, ScatterElements,
    ScatterReduction,
};
use optimium_tensor::{Error, Expr, Result};

use super::super::node::{NodeReader, support, unsupported};

/// Inputs: x `[batch, channels, length]`, weights `[channels, 1, k]`, bias or none, the `k - 1` elements before x or none.
/// Outputs: y, the last `k - 1` elements.
pub(super) fn causal_conv(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let activation = match node.attributes.string_or("activation", "none")? {
        "none" => Activation::None,
        "silu" | "swish" => Activation::Silu,
        other => return Err(Error::model(format!("the activation {other:?}"))),
    };
    let (x, weights) = (node.required(0)?, node.required(1)?);
    let Some(&[channels, per_group, taps]) = node.constant_dims(weights).as_deref() else {
        return unsupported("weights of unknown shape");
    };
    if per_group != 1 || taps == 0 || channels == 0 {
        return Err(Error::model(format!("weights of shape [{channels}, {per_group}, {taps}]")));
    }
    let before = taps as i64 - 1;
    let padded = match node.input(3) {
        Some(past) => node.concat(&[past, x], 2),
        None => {
            let none = || (Expr::from(0i64), Expr::from(0i64));
            let pads = Some(vec![none(), none(), (Expr::from(before), Expr::from(0i64))]);
            node.step(Operator::Pad(Pad { mode: PadMode::Constant, pads }), [Some(x)])
        }
    };
    let conv = Conv {
        layout: ImageLayout::ChannelsFirst,
        strides: vec![1],
        dilations: vec![1],
        groups: channels,
        padding: Padding::Explicit { begin: vec![0], end: vec![0] },
        fusion: Fusion { activation, ..Fusion::default() },
    };
    let bias = node.input(2);
    let y = node.step(Operator::Conv(conv), [Some(padded), Some(weights), bias]);
    node.give(0, y);
    if node.output(1).is_some() {
        // With one tap there is no state: what lies behind the end is nothing.
        let start = if before == 0 { i64::MAX } else { -before };
        let state = node.slice(padded, 2, start, i64::MAX)?;
        node.give(1, state);
    }
    Ok(())
}

/// Inputs: cache, update (shaped as the cache but for the axis), the position of each batch element or none. Output: the cache
/// with the update written.
pub(super) fn tensor_scatter(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", -2)?;
    let circular = match node.attributes.string_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Error::model(format!("the mode {other:?}"))),
    };
    let (cache, update) = (node.required(0)?, node.required(1)?);
    let Some(rank) = node.rank(cache).or_else(|| node.rank(update)).map(|rank| rank as i64) else {
        return unsupported("unknown rank");
    };
    let along = if axis < 0 { axis + rank } else { axis };
    support((1..rank).contains(&along), "an axis that is that of the batch")?;
    let mut positions = positions(node, update, along, rank)?;
    if circular {
        let size = node.size(cache, along);
        positions = node.binary(Binary::Mod, positions, size);
    }
    let shape = node.sizes(update, 0, None);
    let positions = node.expand(positions, shape);
    let op = ScatterElements { axis: along, reduction: ScatterReduction::None };
    node.finish(Operator::ScatterElements(op), [cache, positions, update].map(Some))
}

/// Where the elements of the update go along the axis, to be broadcast to it.
fn positions(node: &mut NodeReader<'_, '_>, update: ValueId, along: i64, rank: i64) -> Result<ValueId> {
    let length = node.size(update, along);
    let steps = node.count_to(length)?;
    let behind: Vec<i64> = (1..rank - along).collect();
    let steps = if behind.is_empty() { steps } else { node.unsqueeze(steps, &behind) };
    match node.input(2) {
        None => Ok(steps),
        Some(starts) => {
            let starts = node.unsqueeze(starts, &(1..rank).collect::<Vec<i64>>());
            Ok(node.binary(Binary::Add, starts, steps))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{node, operators, zeros};

    #[test]
    fn become_steps() {
        let weights = |name: &str| vec![zeros(name, &[3, 1, 4])];
        let conv = |inputs: &[&str]| node("CausalConvWithState", inputs, &["y", "s"]);
        let names = |node, constants| {
            let read = operators(27, node, constants)?;
            Ok::<_, optimium_tensor::Error>(read.iter().map(|op| op.name()).collect::<Vec<_>>().join(" "))
        };
        let behind = "Conv Identity Slice Identity";
        assert_eq!(names(conv(&["x", "w"]), weights("w")).unwrap(), format!("Pad {behind}"));
        assert_eq!(names(conv(&["x", "w", "", "p"]), weights("w")).unwrap(), format!("Concat {behind}"));
        assert!(names(conv(&["x", "w"]).text("activation", "tanh"), weights("w")).is_err());
        assert!(names(conv(&["x", "w"]), vec![zeros("w", &[3, 2, 4])]).is_err());
        let scatter = |inputs: &[&str]| node("TensorScatter", inputs, &["y"]);
        let written = names(scatter(&["c", "u", "w"]).text("mode", "circular"), vec![]).unwrap();
        assert!(written.contains("Mod") && written.ends_with("Expand ScatterElements"), "{written}");
        assert!(names(scatter(&["c", "u"]).int("axis", 0), vec![]).is_err());
        assert!(names(scatter(&["c", "u"]).text("mode", "random"), vec![]).is_err());
    }
}
