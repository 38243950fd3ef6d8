//! Arithmetic with constants: quotients and differences become products and sums, powers their functions, and
//! constants stand on the right.

use super::super::editor::Editor;
use super::super::matching::{binary, operands, unary};
use crate::ops::{Binary, Unary};
use crate::{NodeId, Operator, ValueId};

pub(super) fn simpler_function(editor: &mut Editor, node: NodeId) -> Option<()> {
    match *editor.op(node) {
        Operator::Binary { function } if editor.is_float(editor.input(node, 0)?) => {
            constant_right(editor, node, function)
                .or_else(|| quotient(editor, node))
                .or_else(|| difference(editor, node))
                .or_else(|| power(editor, node))
                .or_else(|| square(editor, node))
                .or_else(|| merge_constants(editor, node, function))
        }
        Operator::Unary { function: Unary::Reciprocal } => reciprocal_root(editor, node),
        _ => None,
    }
}

fn set_unary(editor: &mut Editor, node: NodeId, function: Unary, x: ValueId) -> Option<()> {
    editor.replace(node, Operator::Unary { function }, vec![Some(x)]);
    Some(())
}

fn set_binary(editor: &mut Editor, node: NodeId, function: Binary, a: ValueId, b: ValueId) -> Option<()> {
    editor.replace(node, Operator::Binary { function }, vec![Some(a), Some(b)]);
    Some(())
}

fn constant_right(editor: &mut Editor, node: NodeId, function: Binary) -> Option<()> {
    let [a, b] = operands(editor, node, function)?;
    let commutative = matches!(function, Binary::Add | Binary::Mul | Binary::Min | Binary::Max);
    if !commutative || !editor.is_constant(a) || editor.is_constant(b) {
        return None;
    }
    set_binary(editor, node, function, b, a)
}

/// `x / c` to `x · (1 / c)`, `1 / x` to the reciprocal.
fn quotient(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [a, b] = operands(editor, node, Binary::Div)?;
    if editor.scalar_f32(a) == Some(1.0) && editor.rank(a)? <= editor.rank(b)? {
        return set_unary(editor, node, Unary::Reciprocal, b);
    }
    let divisor = editor.scalar_f32(b).filter(|c| c.is_normal() && c.recip().is_normal())?;
    let factor = map_f32s(editor, b, |_| (1.0 / f64::from(divisor)) as f32)?;
    set_binary(editor, node, Binary::Mul, a, factor)
}

/// `x - c` to `x + (-c)`.
fn difference(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [a, b] = operands(editor, node, Binary::Sub)?;
    let negated = map_f32s(editor, b, |c| -c)?;
    set_binary(editor, node, Binary::Add, a, negated)
}

fn map_f32s(editor: &mut Editor, value: ValueId, f: impl Fn(f32) -> f32) -> Option<ValueId> {
    let values: Vec<f32> = editor.f32s(value)?.into_iter().map(f).collect();
    let (name, dims) = (editor.value(value).name.clone(), editor.fixed(value)?);
    editor.add_f32s(&name, &dims, &values)
}

fn power(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [x, exponent] = operands(editor, node, Binary::Pow)?;
    if editor.rank(exponent)? > editor.rank(x)? {
        return None;
    }
    let number = match editor.constant(exponent)? {
        tensor if tensor.len() != 1 => return None,
        tensor if tensor.element_type().is_float() => editor.scalar_f32(exponent)?,
        tensor => *tensor.to_i64s().ok()?.first()? as f32,
    };
    let function = match number {
        2.0 => Unary::Square,
        0.5 => Unary::Sqrt,
        -0.5 => Unary::Rsqrt,
        -1.0 => Unary::Reciprocal,
        _ => return None,
    };
    set_unary(editor, node, function, x)
}

fn square(editor: &mut Editor, node: NodeId) -> Option<()> {
    let [a, b] = operands(editor, node, Binary::Mul)?;
    if a != b {
        return None;
    }
    set_unary(editor, node, Unary::Square, a)
}

/// `1 / √x`
fn reciprocal_root(editor: &mut Editor, node: NodeId) -> Option<()> {
    let root = editor.input(node, 0)?;
    editor.inner(root)?;
    let x = unary(editor, root, Unary::Sqrt)?;
    set_unary(editor, node, Unary::Rsqrt, x)
}

/// `(x ∘ c) ∘ d` to `x ∘ (c ∘ d)` for numbers and sums or products.
fn merge_constants(editor: &mut Editor, node: NodeId, function: Binary) -> Option<()> {
    let combine = match function {
        Binary::Add => |a: f32, b: f32| a + b,
        Binary::Mul => |a: f32, b: f32| a * b,
        _ => return None,
    };
    let [inner, d] = operands(editor, node, function)?;
    editor.inner(inner)?;
    let [x, c] = binary(editor, inner, function)?;
    let (c_number, d_number) = (editor.scalar_f32(c)?, editor.scalar_f32(d)?);
    let merged = combine(c_number, d_number);
    if editor.rank(c)?.max(editor.rank(d)?) > editor.rank(x)? || !(merged.is_normal() || merged == 0.0) {
        return None;
    }
    let constant = map_f32s(editor, d, |_| merged)?;
    set_binary(editor, node, function, x, constant)
}
