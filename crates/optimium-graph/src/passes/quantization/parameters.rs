//! Weights and biases of operators on integers.

use std::sync::Arc;

use optimium_tensor::{ElementType, QuantParam, QuantScheme, Tensor};

use super::super::editor::Editor;
use super::schemes::integers;
use crate::ValueId;

/// Constant 8-bit weights behind a real operand, with one scale or one for each index of `axis`.
pub(super) fn weights(editor: &Editor, real: ValueId, axis: usize) -> Option<ValueId> {
    let weights = integers(editor, real).filter(|&weights| editor.is_constant(weights))?;
    let is_byte = matches!(editor.element_type(weights)?, ElementType::QS8 | ElementType::QU8);
    let along = editor.value(weights).scheme.as_ref()?.axis();
    (is_byte && along.is_none_or(|along| along == axis)).then_some(weights)
}

/// The bias as `QS32` whose scales are those of the products of `x` and `weights`; it is rounded where it was not yet.
pub(super) fn bias(editor: &mut Editor, real: ValueId, x: ValueId, weights: ValueId) -> Option<ValueId> {
    let values = real_values(editor, real)?;
    let input = editor.value(x).scheme.as_ref()?.param(0)?;
    let scheme = editor.value(weights).scheme.clone()?;
    let scale = |index: usize| Some(input.scale * scheme.param(index)?.scale);
    let mut stored = Vec::with_capacity(values.len());
    for (index, &value) in values.iter().enumerate() {
        let number = (value / f64::from(scale(index)?)).round_ties_even();
        if number.abs() >= f64::from(i32::MAX) {
            return None;
        }
        stored.push(number as i32);
    }
    let product = match scheme.axis() {
        None => QuantScheme::per_tensor(scale(0)?, 0),
        Some(_) => {
            let param = |index| Some(QuantParam { scale: scale(index)?, zero_point: 0 });
            QuantScheme::per_channel(0, (0..values.len()).map(param).collect::<Option<_>>()?).ok()?
        }
    };
    let tensor = Tensor::from_slice(&[stored.len()], &stored).ok()?.reinterpret(ElementType::QS32).ok()?;
    let name = editor.value(real).name.clone();
    Some(editor.add_constant(&name, tensor.with_scheme(Some(Arc::new(product)))))
}

/// The numbers of a real constant vector, or of one that is dequantized.
fn real_values(editor: &Editor, real: ValueId) -> Option<Vec<f64>> {
    if editor.rank(real)? != 1 {
        return None;
    }
    if let Some(values) = editor.f32s(real) {
        return Some(values.into_iter().map(f64::from).collect());
    }
    let stored = integers(editor, real)?;
    let numbers = editor.constant(stored)?.to_i64s().ok()?;
    let scheme = editor.value(stored).scheme.as_ref()?;
    let real = |(index, &number): (usize, &i64)| {
        let param = scheme.param(index)?;
        Some((number - i64::from(param.zero_point)) as f64 * f64::from(param.scale))
    };
    numbers.iter().enumerate().map(real).collect()
}
