//! Integers that know what they stand for.

use std::sync::Arc;

use optimium_tensor::{ElementType, QuantParam, QuantScheme};

use super::super::editor::Editor;
use crate::{NodeId, Operator, ValueId, ValueType};

/// The scheme that constant scales and zero points make, for a tensor of `rank` axes.
fn scheme(editor: &Editor, node: NodeId, axis: i64, rank: usize) -> Option<QuantScheme> {
    let scales = editor.constant(editor.input(node, 1)?)?;
    let numbers = scales.to_f32s().ok()?;
    let zeros = match editor.input(node, 2) {
        None => vec![0; numbers.len()],
        Some(zero) => editor.constant(zero)?.to_i64s().ok()?,
    };
    if zeros.len() != numbers.len() || !numbers.iter().all(|scale| scale.is_normal() && *scale > 0.0) {
        return None;
    }
    let pair =
        |(&scale, &zero): (&f32, &i64)| Some(QuantParam { scale, zero_point: i32::try_from(zero).ok()? });
    let params: Vec<QuantParam> = numbers.iter().zip(&zeros).map(pair).collect::<Option<_>>()?;
    if let [only] = params.as_slice() {
        return Some(QuantScheme::per_tensor(only.scale, only.zero_point));
    }
    let axis = usize::try_from(if axis < 0 { axis + rank as i64 } else { axis }).ok()?;
    let one_axis = scales.dims().len() == 1 && axis < rank;
    if one_axis { QuantScheme::per_channel(axis, params).ok() } else { None }
}

/// The scheme of a DequantizeLinear's input.
fn input_scheme(editor: &Editor, node: NodeId) -> Option<QuantScheme> {
    let Operator::DequantizeLinear(dequantize) = editor.op(node) else { return None };
    let rank = editor.rank(editor.input(node, 0)?)?;
    let real = editor.element_type(editor.output(node)?)? == ElementType::F32;
    if dequantize.block_size != 0 || !real {
        return None;
    }
    scheme(editor, node, dequantize.axis, rank)
}

/// A DequantizeLinear of a constant.
pub(super) fn type_constant(editor: &mut Editor, node: NodeId) -> Option<()> {
    let scheme = input_scheme(editor, node)?;
    let x = editor.input(node, 0)?;
    let tensor = editor.constant(x)?.clone();
    let tensor = tensor.reinterpret(editor.element_type(x)?.quantized()?).ok()?;
    let name = editor.value(x).name.clone();
    let typed = editor.add_constant(&name, tensor.with_scheme(Some(Arc::new(scheme))));
    let op = editor.op(node).clone();
    editor.replace(node, op, vec![Some(typed)]);
    Some(())
}

/// A QuantizeLinear whose result is only dequantized again, by the same numbers.
pub(super) fn type_activation(editor: &mut Editor, node: NodeId) -> Option<()> {
    let Operator::QuantizeLinear(quantize) = editor.op(node).clone() else { return None };
    let (x, y) = (editor.input(node, 0)?, editor.output(node)?);
    editor.input(node, 1)?;
    let own = scheme(editor, node, quantize.axis, editor.rank(y)?)?;
    let readers: Vec<NodeId> = editor.consumers(y).to_vec();
    let agree = readers.iter().all(|&reader| input_scheme(editor, reader).as_ref() == Some(&own));
    let real = editor.element_type(x)? == ElementType::F32;
    if quantize.block_size != 0 || readers.is_empty() || editor.is_output(y) || !agree || !real {
        return None;
    }
    let quantized = editor.element_type(y)?.quantized()?;
    let shape = editor.value(y).shape().cloned();
    let value = editor.value_mut(y);
    value.value_type = ValueType::Tensor { element_type: quantized, shape };
    value.scheme = Some(Arc::new(own));
    editor.replace(node, Operator::QuantizeLinear(quantize), vec![Some(x)]);
    for reader in readers {
        let op = editor.op(reader).clone();
        editor.replace(reader, op, vec![Some(y)]);
    }
    Some(())
}

/// The integers behind a real value, where it is the result of DequantizeLinear and they have a scheme.
pub(super) fn integers(editor: &Editor, real: ValueId) -> Option<ValueId> {
    let node = editor.producer(real)?;
    let x = editor.input(node, 0)?;
    let typed = editor.value(x).scheme.is_some() && editor.input(node, 1).is_none();
    (typed && matches!(editor.op(node), Operator::DequantizeLinear(_))).then_some(x)
}

/// As [`integers`], of 8 bits with one scale.
pub(super) fn bytes(editor: &Editor, real: ValueId) -> Option<ValueId> {
    let x = integers(editor, real)?;
    let is_byte = matches!(editor.element_type(x)?, ElementType::QS8 | ElementType::QU8);
    (is_byte && editor.value(x).scheme.as_ref()?.axis().is_none()).then_some(x)
}
