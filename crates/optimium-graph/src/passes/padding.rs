//! Padding in numbers: of windows that are told to keep sizes, and of Pad operators in front of windows.

use optimium_tensor::Result;

use super::editor::Editor;
use crate::ops::{ImageLayout, PadMode, Padding};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(explicit) + editor.visit(absorb_pad))
}

/// The geometry of an operator with windows over images.
struct Window {
    layout: ImageLayout,
    kernel: Vec<usize>,
    strides: Vec<usize>,
    dilations: Vec<usize>,
    padding: Padding,
}

fn window(editor: &Editor, node: NodeId) -> Option<Window> {
    let window = match editor.op(node) {
        Operator::Conv(conv) => Window {
            layout: conv.layout,
            kernel: editor.fixed(editor.input(node, 1)?)?.get(2..)?.to_vec(),
            strides: conv.strides.clone(),
            dilations: conv.dilations.clone(),
            padding: conv.padding.clone(),
        },
        Operator::MaxPool(pool) => of_pool(&pool.window),
        Operator::AveragePool(pool) => of_pool(&pool.window),
        Operator::LpPool(pool) => of_pool(&pool.window),
        _ => return None,
    };
    let rank = window.kernel.len();
    (window.strides.len() == rank && window.dilations.len() == rank).then_some(window)
}

fn of_pool(window: &crate::ops::PoolWindow) -> Window {
    Window {
        layout: window.layout,
        kernel: window.kernel.clone(),
        strides: window.strides.clone(),
        dilations: window.dilations.clone(),
        padding: window.padding.clone(),
    }
}

fn set_padding(editor: &mut Editor, node: NodeId, padding: Padding) {
    let mut op = editor.op(node).clone();
    match &mut op {
        Operator::Conv(conv) => conv.padding = padding,
        Operator::MaxPool(pool) => pool.window.padding = padding,
        Operator::AveragePool(pool) => pool.window.padding = padding,
        Operator::LpPool(pool) => pool.window.padding = padding,
        _ => {}
    }
    editor.set_op(node, op);
}

/// SAME and VALID in numbers, where the sizes are known.
fn explicit(editor: &mut Editor, node: NodeId) -> Option<()> {
    let window = window(editor, node)?;
    let rank = window.kernel.len();
    let upper = match window.padding {
        Padding::Explicit { .. } => return None,
        Padding::Valid => {
            set_padding(editor, node, Padding::Explicit { begin: vec![0; rank], end: vec![0; rank] });
            return Some(());
        }
        Padding::SameUpper => true,
        Padding::SameLower => false,
    };
    let dims = editor.dims(editor.input(node, 0)?)?;
    let mut total = Vec::with_capacity(rank);
    for axis in 0..rank {
        let size = usize::try_from(dims.get(window.layout.spatial_axis(axis))?.as_const()?).ok()?;
        let stride = window.strides[axis].max(1);
        let extent =
            window.kernel[axis].checked_sub(1)?.checked_mul(window.dilations[axis])?.checked_add(1)?;
        let covered = size.div_ceil(stride).checked_sub(1)?.checked_mul(stride)?.checked_add(extent)?;
        total.push(covered.saturating_sub(size));
    }
    let smaller: Vec<usize> = total.iter().map(|n| n / 2).collect();
    let larger: Vec<usize> = total.iter().map(|n| n - n / 2).collect();
    let (begin, end) = if upper { (smaller, larger) } else { (larger, smaller) };
    set_padding(editor, node, Padding::Explicit { begin, end });
    Some(())
}

/// A Pad in front of a window that pads with the same value.
fn absorb_pad(editor: &mut Editor, node: NodeId) -> Option<()> {
    let window = window(editor, node)?;
    let Padding::Explicit { mut begin, mut end } = window.padding else { return None };
    let padded = editor.input(node, 0)?;
    let producer = editor.inner(padded)?;
    let pads = spatial_pads(editor, producer, window.layout, window.kernel.len())?;
    let is_unpadded = begin.iter().chain(&end).all(|&n| n == 0);
    let value = pad_value(editor, producer)?;
    let mut op = editor.op(node).clone();
    match &mut op {
        Operator::Conv(_) if value == 0.0 => {}
        Operator::MaxPool(_) if value == f32::NEG_INFINITY || value == f32::MIN => {}
        Operator::AveragePool(pool) if value == 0.0 && !pool.window.ceil_mode => {
            if !is_unpadded && !pool.count_include_pad {
                return None;
            }
            pool.count_include_pad = true;
        }
        _ => return None,
    }
    for (axis, (before, after)) in pads.into_iter().enumerate() {
        begin[axis] = begin[axis].checked_add(before)?;
        end[axis] = end[axis].checked_add(after)?;
    }
    let mut inputs = editor.node(node).inputs.clone();
    inputs[0] = editor.input(producer, 0);
    editor.replace(node, op, inputs);
    set_padding(editor, node, Padding::Explicit { begin, end });
    Some(())
}

/// What a Pad of an image adds to each spatial dimension, where it adds nothing else and cuts nothing.
fn spatial_pads(
    editor: &Editor,
    pad: NodeId,
    layout: ImageLayout,
    rank: usize,
) -> Option<Vec<(usize, usize)>> {
    let Operator::Pad(op) = editor.op(pad) else { return None };
    let pads = op.pads.as_ref().filter(|pads| op.mode == PadMode::Constant && pads.len() == rank + 2)?;
    let number = |n: &optimium_tensor::Expr| usize::try_from(n.as_const()?).ok();
    let pads: Option<Vec<(usize, usize)>> =
        pads.iter().map(|(a, b)| Some((number(a)?, number(b)?))).collect();
    let pads = pads?;
    let others_are_none = pads[0] == (0, 0) && pads[layout.channel_axis(rank + 2)] == (0, 0);
    others_are_none.then(|| (0..rank).map(|index| pads[layout.spatial_axis(index)]).collect())
}

fn pad_value(editor: &Editor, pad: NodeId) -> Option<f32> {
    let x: ValueId = editor.input(pad, 0)?;
    match editor.input(pad, 2) {
        None => editor.is_float(x).then_some(0.0),
        Some(value) => editor.scalar_f32(value),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, apply, expect, plain_conv};
    use super::*;
    use crate::ops::{Conv, Pad};
    use optimium_testing::each_case;

    #[test]
    fn a_pad_moves_into_a_convolution() {
        let cases: [(&str, [i64; 4], f32, &[&str]); 3] = [
            ("spatial", [0, 0, 1, 2], 0.0, &["Conv"]),
            ("of channels", [0, 1, 0, 0], 0.0, &["Pad", "Conv"]),
            ("with another number", [0, 0, 1, 1], 0.5, &["Pad", "Conv"]),
        ];
        each_case(cases, |&(_, begins, value, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[1, 3, 5, 5]);
            let value = builder.number(value);
            let pads = Some(begins.iter().map(|&n| (n.into(), n.into())).collect());
            let pad = Operator::Pad(Pad { mode: PadMode::Constant, pads });
            let x = builder.node_with(pad, vec![Some(x), None, Some(value)]);
            let y = builder.conv(x, 4, 3);
            expect(run, builder.finish(&[y]), expected).map(|_| ())
        });
    }

    #[test]
    fn words_become_numbers() {
        let explicit =
            |begin: usize, end: usize| Padding::Explicit { begin: vec![begin; 2], end: vec![end; 2] };
        let cases = [
            (Padding::Valid, 5, 1, explicit(0, 0)),
            (Padding::SameUpper, 5, 1, explicit(1, 1)),
            (Padding::SameUpper, 6, 2, explicit(0, 1)),
            (Padding::SameLower, 6, 2, explicit(1, 0)),
        ];
        each_case(cases, |(padding, size, stride, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[1, 3, *size, *size]);
            let weights = builder.weights(&[4, 3, 3, 3]);
            let conv = Conv { padding: padding.clone(), strides: vec![*stride; 2], ..plain_conv(0) };
            let y = builder.node(Operator::Conv(conv), &[x, weights]);
            let mut graph = builder.finish(&[y]);
            let mut editor = Editor::new(&mut graph, &super::super::testing::Interpreter);
            run(&mut editor).and_then(|_| editor.finish()).map_err(|error| error.to_string())?;
            apply(run, &mut graph)?;
            match &graph.nodes()[0].op {
                Operator::Conv(conv) if conv.padding == *expected => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
    }
}
