//! A tree of multiplications as one product: in whatever order and nesting a model spells it.

use super::super::editor::Editor;
use crate::ops::{Binary, Unary};
use crate::{NodeId, Operator, ValueId};

/// `scale · Π factors`
#[derive(Clone, Debug)]
pub(super) struct Product {
    pub(super) scale: f32,
    pub(super) factors: Vec<ValueId>,
}

/// More factors than this are in no pattern.
const MAX_FACTORS: usize = 6;

impl Product {
    /// The product that a multiplication computes.
    pub(super) fn of_node(editor: &Editor, node: NodeId) -> Option<Product> {
        let Operator::Binary { function: Binary::Mul } = editor.op(node) else { return None };
        let mut product = Product { scale: 1.0, factors: Vec::new() };
        product.multiply(editor, editor.input(node, 0)?);
        product.multiply(editor, editor.input(node, 1)?);
        (product.factors.len() <= MAX_FACTORS).then_some(product)
    }

    /// A value as a product; of itself alone, where nothing is multiplied.
    pub(super) fn of(editor: &Editor, value: ValueId) -> Product {
        let whole = editor.inner(value).and_then(|node| Product::of_node(editor, node));
        whole.unwrap_or(Product { scale: 1.0, factors: vec![value] })
    }

    fn multiply(&mut self, editor: &Editor, value: ValueId) {
        if let Some(number) = editor.scalar_f32(value) {
            self.scale *= number;
            return;
        }
        let inner = editor.inner(value).filter(|_| self.factors.len() <= MAX_FACTORS);
        match inner.map(|node| (editor.op(node), node)) {
            Some((Operator::Binary { function: Binary::Mul }, node)) => {
                let operands = [editor.input(node, 0), editor.input(node, 1)];
                operands.into_iter().flatten().for_each(|operand| self.multiply(editor, operand));
            }
            Some((Operator::Unary { function: Unary::Square }, node)) => {
                self.factors.extend(editor.input(node, 0).into_iter().flat_map(|x| [x, x]));
            }
            Some((Operator::Binary { function: Binary::Pow }, node)) if is_cube(editor, node) => {
                self.factors.extend(editor.input(node, 0).into_iter().flat_map(|x| [x, x, x]));
            }
            _ => self.factors.push(value),
        }
    }

    /// Takes out the one factor for which `find` finds something.
    pub(super) fn take<T>(&mut self, find: impl Fn(ValueId) -> Option<T>) -> Option<T> {
        let (place, found) =
            self.factors.iter().enumerate().find_map(|(place, &value)| Some((place, find(value)?)))?;
        self.factors.remove(place);
        Some(found)
    }
}

fn is_cube(editor: &Editor, node: NodeId) -> bool {
    editor.input(node, 1).is_some_and(|exponent| {
        let integer = || editor.constant(exponent).and_then(|tensor| tensor.to_i64s().ok());
        editor.scalar_f32(exponent) == Some(3.0) || integer().is_some_and(|values| values == [3])
    })
}
