//! Functions that exporters spell out in elementary operators, put together again.

mod activations;
mod dynamic_quantization;
mod layer_normalization;
mod product;
mod rms_normalization;

use optimium_tensor::Result;

use super::editor::Editor;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(activations::softplus)
        + editor.visit(activations::product_of_activation)
        + editor.visit(layer_normalization::core)
        + editor.visit(layer_normalization::scale)
        + editor.visit(layer_normalization::bias)
        + editor.visit(rms_normalization::core)
        + editor.visit(rms_normalization::scale)
        + editor.visit(dynamic_quantization::matmul))
}
