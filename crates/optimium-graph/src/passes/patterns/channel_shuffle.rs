//! The shuffle of groups of channels: images of groups, with the first two axes of those swapped.

use optimium_tensor::{Expr, TensorShape};

use super::super::editor::Editor;
use super::super::permutation::{channels_last, inverse, permuted_shape};
use crate::ops::{Reshape, Transpose};
use crate::{NodeId, Operator};

/// Reshape to `[n, groups, channels, h, w]`, Transpose of the two, Reshape back: as the same with the channels last, between
/// Transposes that the layout of images can do without.
pub(super) fn with_channels_last(editor: &mut Editor, node: NodeId) -> Option<()> {
    let reshape =
        |editor: &Editor, node: NodeId| matches!(editor.op(node), Operator::Reshape(_)).then_some(());
    reshape(editor, node)?;
    let swap = editor.inner(editor.input(node, 0)?)?;
    let Operator::Transpose(Transpose { permutation }) = editor.op(swap) else { return None };
    if permutation != &[0, 2, 1, 3, 4] {
        return None;
    }
    let grouping = editor.inner(editor.input(swap, 0)?)?;
    reshape(editor, grouping)?;
    let x = editor.input(grouping, 0)?;
    let y = editor.output(node)?;
    let groups = editor.dims(editor.input(swap, 0)?)?.to_vec();
    if editor.rank(x)? != 4 || !editor.same_shape(x, y) || groups[3..] != editor.dims(x)?[2..] {
        return None;
    }
    let last = channels_last(4);
    let shape = permuted_shape(editor.value(x).shape()?, &last);
    let image = editor.compute(node, transposed(last.clone()), &[x], y, Some(shape.clone()));
    let [n, outer, inner, h, w]: [Expr; 5] = groups.try_into().ok()?;
    let split = TensorShape::new(vec![n.clone(), h.clone(), w.clone(), outer.clone(), inner.clone()]);
    let parts = editor.compute(node, reshaped(&split), &[image], y, Some(split));
    let swapped = TensorShape::new(vec![n, h, w, inner, outer]);
    let parts = editor.compute(node, transposed(vec![0, 1, 2, 4, 3]), &[parts], y, Some(swapped));
    let image = editor.compute(node, reshaped(&shape), &[parts], y, Some(shape));
    editor.replace(node, transposed(inverse(&last)), vec![Some(image)]);
    Some(())
}

fn transposed(permutation: Vec<usize>) -> Operator {
    Operator::Transpose(Transpose { permutation })
}

fn reshaped(shape: &TensorShape) -> Operator {
    Operator::Reshape(Reshape { dims: Some(shape.dims().to_vec()), allow_zero: true })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Builder, expect_simplified};
    use optimium_testing::each_case;

    #[test]
    fn one_transpose_between_images() {
        let expected = ["Transpose", "Conv", "Reshape", "Transpose", "Reshape", "Conv", "Transpose"];
        each_case([2, 3], |&groups| {
            let mut b = Builder::new();
            let x = b.input(&[2, 4, 4, 3]);
            let x = b.conv(x, 6, 1);
            let y = b.reshape(x, &[2, groups, 6 / groups, 4, 3]);
            let y = b.transpose(y, &[0, 2, 1, 3, 4]);
            let y = b.reshape(y, &[2, 6, 4, 3]);
            let y = b.conv(y, 5, 1);
            expect_simplified(b.finish(&[y]), &expected).map(|_| ())
        });
    }
}
