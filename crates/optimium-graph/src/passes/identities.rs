//! Removes operators that give back what they were given.

use optimium_tensor::{ElementType, Result};

use super::editor::Editor;
use crate::ops::{Activation, Binary, SliceRange};
use crate::{NodeId, Operator, ValueId};

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(|editor, node| {
        let same = equal_value(editor, node)?;
        editor.forward(node, same)
    }))
}

/// The input that the only output of a node is equal to.
fn equal_value(editor: &Editor, node: NodeId) -> Option<ValueId> {
    let (x, y) = (editor.input(node, 0)?, editor.output(node)?);
    let is_same = match editor.op(node) {
        Operator::Identity | Operator::Dropout => true,
        Operator::Activation { function } => *function == Activation::None,
        Operator::Clip => editor.input(node, 1).is_none() && editor.input(node, 2).is_none(),
        Operator::Cast(cast) => editor.element_type(x) == Some(cast.to),
        Operator::Transpose(transpose) => {
            transpose.permutation.iter().enumerate().all(|(i, &axis)| i == axis)
        }
        Operator::Reshape(_)
        | Operator::Expand(_)
        | Operator::Flatten(_)
        | Operator::Squeeze(_)
        | Operator::Unsqueeze(_) => editor.same_shape(x, y),
        Operator::Concat(_) => editor.node(node).inputs.len() == 1,
        Operator::Tile(tile) => {
            tile.repeats.as_ref().is_some_and(|repeats| repeats.iter().all(|n| n.as_const() == Some(1)))
        }
        Operator::Slice(slice) => {
            slice.ranges.as_ref().is_some_and(|ranges| ranges.iter().all(|range| is_whole(editor, x, range)))
        }
        Operator::Pad(pad) => pad.pads.as_ref().is_some_and(|pads| {
            pads.iter().all(|(begin, end)| begin.as_const() == Some(0) && end.as_const() == Some(0))
        }),
        Operator::Requantize => {
            editor.element_type(x) == editor.element_type(y)
                && editor.value(x).scheme == editor.value(y).scheme
        }
        Operator::Binary { function } => return neutral(editor, node, *function),
        _ => false,
    };
    is_same.then_some(x)
}

fn is_whole(editor: &Editor, x: ValueId, range: &SliceRange) -> bool {
    let dim = editor.dims(x).and_then(|dims| dims.get(range.axis));
    range.start.as_const() == Some(0) && range.step == 1 && dim == Some(&range.count)
}

/// The operand that an arithmetic operator with a neutral constant does not change.
fn neutral(editor: &Editor, node: NodeId, function: Binary) -> Option<ValueId> {
    let (a, b, y) = (editor.input(node, 0)?, editor.input(node, 1)?, editor.output(node)?);
    let (neutral, commutative) = match function {
        Binary::Add => (0.0, true),
        Binary::Sub => (0.0, false),
        Binary::Mul => (1.0, true),
        Binary::Div | Binary::Pow => (1.0, false),
        _ => return None,
    };
    let unchanged = |x: ValueId, constant: ValueId| {
        editor.same_shape(x, y)
            && editor.element_type(x) == editor.element_type(y)
            && editor.value(x).scheme.is_none()
            && is_uniform(editor, constant, neutral)
    };
    if unchanged(a, b) {
        return Some(a);
    }
    (commutative && unchanged(b, a)).then_some(b)
}

/// Whether every element of a small constant is that number.
fn is_uniform(editor: &Editor, value: ValueId, number: f32) -> bool {
    let Some(tensor) = editor.constant(value).filter(|tensor| tensor.len() <= 1 << 16) else { return false };
    match tensor.element_type() {
        ElementType::F32 | ElementType::F64 | ElementType::F16 | ElementType::BF16 => {
            tensor.to_f32s().is_ok_and(|values| values.iter().all(|&x| x == number))
        }
        ElementType::I32 | ElementType::I64 => {
            tensor.to_i64s().is_ok_and(|values| values.iter().all(|&x| x == number as i64))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Builder, expect};
    use super::*;
    use crate::ops::{Concat, Pad, PadMode};
    use optimium_testing::each_case;

    #[test]
    fn what_changes_nothing_is_removed() {
        type Build = fn(&mut Builder, ValueId) -> ValueId;
        let cases: [(&str, Build, &[&str]); 10] = [
            ("identity", |b, x| b.node(Operator::Identity, &[x]), &[]),
            ("transpose", |b, x| b.transpose(x, &[0, 1]), &[]),
            ("a real transpose", |b, x| b.transpose(x, &[1, 0]), &["Transpose"]),
            ("reshape", |b, x| b.reshape(x, &[2, 3]), &[]),
            ("concat", |b, x| b.node(Operator::Concat(Concat { axis: 0 }), &[x]), &[]),
            (
                "pad",
                |b, x| {
                    let pads = Some(vec![(0i64.into(), 0i64.into()); 2]);
                    b.node(Operator::Pad(Pad { mode: PadMode::Constant, pads }), &[x])
                },
                &[],
            ),
            (
                "add zero",
                |b, x| {
                    let c = b.number(0.0);
                    b.binary(Binary::Add, c, x)
                },
                &[],
            ),
            (
                "subtract from zero",
                |b, x| {
                    let c = b.number(0.0);
                    b.binary(Binary::Sub, c, x)
                },
                &["Sub"],
            ),
            (
                "multiply by one",
                |b, x| {
                    let c = b.constant(&[3], &[1.0; 3]);
                    b.binary(Binary::Mul, x, c)
                },
                &[],
            ),
            (
                "broadcast by one",
                |b, x| {
                    let c = b.constant(&[2, 1, 1], &[1.0; 2]);
                    b.binary(Binary::Mul, x, c)
                },
                &["Mul"],
            ),
        ];
        each_case(cases.map(|case| (case.0, case.1, case.2)), |(_, build, expected)| {
            let mut builder = Builder::new();
            let x = builder.input(&[2, 3]);
            let x = builder.unary(crate::ops::Unary::Neg, x);
            let y = build(&mut builder, x);
            let expected = [&["Neg"], *expected].concat();
            expect(run, builder.finish(&[y]), &expected).map(|_| ())
        });
    }

    #[test]
    fn an_output_that_is_an_input_keeps_its_identity() {
        let mut builder = Builder::new();
        let x = builder.input(&[2, 3]);
        let y = builder.node(Operator::Identity, &[x]);
        expect(run, builder.finish(&[y]), &["Identity"]).unwrap();
    }
}
