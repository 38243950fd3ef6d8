//! The choice between two numbers, spelled as arithmetic, as it comes from TensorFlow.

use optimium_tensor::ElementType;

use super::super::editor::Editor;
use super::super::matching::{binary, either, operands, unary};
use crate::ops::{Binary, Unary};
use crate::{NodeId, Operator, ValueId};

/// `x · mask + z · ¬mask`
pub(super) fn by_arithmetic(editor: &mut Editor, node: NodeId) -> Option<()> {
    let pair = operands(editor, node, Binary::Add)?;
    let (condition, on, off) = either(pair, |a, b| {
        let (on, condition) = where_true(editor, a)?;
        let (off, contrary) = where_true(editor, b)?;
        (unary(editor, contrary, Unary::Not)? == condition).then_some((condition, on, off))
    })?;
    editor.replace(node, Operator::Where, vec![Some(condition), Some(on), Some(off)]);
    Some(())
}

/// The factor beside a truth value in numbers, and that value.
fn where_true(editor: &Editor, product: ValueId) -> Option<(ValueId, ValueId)> {
    either(binary(editor, product, Binary::Mul)?, |x, number| {
        let cast = editor.producer(number)?;
        let condition = editor.input(cast, 0)?;
        let is_truth = matches!(editor.op(cast), Operator::Cast(_))
            && editor.element_type(condition) == Some(ElementType::Bool);
        is_truth.then_some((x, condition))
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{Builder, same_operators, simplified};
    use super::*;
    use crate::ops::Cast;

    /// `x · condition + lowest · other`, where `other` is the contrary of `condition`, or of something else.
    fn spelled(of_same: bool) -> crate::Graph {
        let mut b = Builder::new();
        let (x, condition, something) = (b.input(&[2, 3, 4]), b.flags(&[3, 4]), b.flags(&[3, 4]));
        let other = b.unary(Unary::Not, if of_same { condition } else { something });
        let number =
            |b: &mut Builder, value: ValueId| b.node(Operator::Cast(Cast { to: ElementType::F32 }), &[value]);
        let (on, off) = (number(&mut b, condition), number(&mut b, other));
        let lowest = b.number(-1e9);
        let (on, off) = (b.binary(Binary::Mul, x, on), b.binary(Binary::Mul, off, lowest));
        let y = b.binary(Binary::Add, off, on);
        b.finish(&[y])
    }

    #[test]
    fn one_operator_chooses() {
        let apart: &[&str] = &["Not", "Cast", "Cast", "Mul", "Mul", "Add"];
        for (of_same, expected) in [(true, &["Where"][..]), (false, apart)] {
            let mut graph = spelled(of_same);
            simplified(&mut graph).unwrap();
            same_operators(&graph, expected).unwrap();
        }
    }
}
