//! One spelling for what can be spelled in several ways, so that every later pass looks for that one.

mod arithmetic;
mod bounds;
mod gemm;
mod shaping;

use optimium_tensor::Result;

use super::editor::Editor;

pub(super) fn run(editor: &mut Editor) -> Result<usize> {
    Ok(editor.visit(gemm::gemm_to_matmul)
        + editor.visit(gemm::sides_to_flags)
        + editor.visit(shaping::to_reshape)
        + editor.visit(shaping::merge_reshapes)
        + editor.visit(shaping::global_pool_to_reduce)
        + editor.visit(shaping::plain_softmax)
        + editor.visit(bounds::constant_bounds)
        + editor.visit(bounds::merge_bounds)
        + editor.visit(arithmetic::simpler_function))
}
