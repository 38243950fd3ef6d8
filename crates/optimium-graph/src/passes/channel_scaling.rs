//! What of batch normalization no weights took up becomes a convolution of every channel alone, by one pixel: it can take a
//! fused activation and residual, and reads and writes parts of larger images.

use optimium_tensor::Result;

use super::editor::Editor;
use super::folding::affine;
use crate::ops::{Conv, Fusion, Padding};
use crate::{NodeId, Operator};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(as_convolution))
}

fn as_convolution(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::BatchNormalization(norm) = editor.op(node) else { return None };
    let (layout, x) = (norm.layout, editor.input(node, 0)?);
    let rank = editor.rank(x)?;
    let axis = layout.channel_axis(rank);
    if !(3..=4).contains(&rank) || axis + 1 != rank || !editor.is_float(x) {
        return None;
    }
    let affine = affine(editor, node, x, axis)?;
    let (factor, offset) = (affine.factor?, affine.offset?);
    let channels = factor.len();
    if editor.dims(x)?[axis].as_const() != i64::try_from(channels).ok() {
        return None;
    }
    let ones = vec![1; rank - 2];
    let base = editor.node(node).name.clone();
    let weights = editor.add_f32s(&base, &[&[channels, 1], ones.as_slice()].concat(), &factor)?;
    let bias = editor.add_f32s(&base, &[channels], &offset)?;
    let conv = Conv {
        layout,
        strides: ones.clone(),
        dilations: ones,
        groups: channels,
        padding: Padding::Explicit { begin: vec![0; rank - 2], end: vec![0; rank - 2] },
        fusion: Fusion::default(),
    };
    editor.replace(node, Operator::Conv(conv), vec![Some(x), Some(weights), Some(bias)]);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect};
    use super::*;
    use crate::ops::{BatchNormalization, ImageLayout};
    use optimium_testing::each_case;

    #[test]
    fn normalization_becomes_a_convolution() {
        let cases = [
            (ImageLayout::ChannelsLast, vec![2, 3, 4, 5], "Conv"),
            (ImageLayout::ChannelsLast, vec![2, 3, 5], "Conv"),
            (ImageLayout::ChannelsFirst, vec![2, 5, 3, 4], "BatchNormalization"),
            (ImageLayout::ChannelsLast, vec![2, 5], "BatchNormalization"),
        ];
        each_case(cases, |(layout, dims, expected)| {
            let mut b = Builder::new();
            let x = b.input(dims);
            let [scale, bias, mean] = [0; 3].map(|_| b.weights(&[5]));
            let variance = b.constant(&[5], &[0.7; 5]);
            let op = Operator::BatchNormalization(BatchNormalization { layout: *layout, epsilon: 1e-3 });
            let y = b.node(op, &[x, scale, bias, mean, variance]);
            expect(run, b.finish(&[y]), &[expected]).map(|_| ())
        });
    }
}
