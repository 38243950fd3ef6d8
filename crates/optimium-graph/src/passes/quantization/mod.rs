//! Operators on integers, out of models that spell quantization as QuantizeLinear and DequantizeLinear around real operators.
//!
//! First, [`schemes`] gives integer tensors with constant scales a quantized type and drops the scales. Then an operator
//! between DequantizeLinear and QuantizeLinear reads and writes the integers itself ([`regions`]). What is left
//! of neighbouring pairs cancels or becomes Requantize.

mod parameters;
mod regions;
mod schemes;
mod simple;

use optimium_tensor::Result;

use super::editor::Editor;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(schemes::type_constant)
        + editor.visit(schemes::type_activation)
        + editor.visit(simple::drop_implied_bound)
        + editor.visit(simple::sink_dequantize)
        + editor.visit(regions::quantize_operator)
        + editor.visit(simple::cancel_pair))
}

/// Products whose result stays real read integers too; only what did not become an operator on integers whole.
pub(super) fn run_real_results(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(regions::quantize_inputs))
}
