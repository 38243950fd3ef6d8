//! Which operands a node's kernels take and give in bfloat16.

use optimium_graph::Operator;
use optimium_tensor::ElementType;

use super::view::NodeView;
use super::{matrix, spatial};

/// The operands of a node that may be bfloat16 where the graph has `f32`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Storage {
    /// Inputs that may.
    pub(crate) reads: Vec<usize>,
    /// Whether the outputs may.
    pub(crate) writes: bool,
    /// Inputs that are so if and only if the outputs are.
    pub(crate) like_outputs: Vec<usize>,
}

impl Storage {
    /// Inputs and outputs that all are bfloat16 or none.
    pub(super) fn alike(inputs: &[usize]) -> Storage {
        Storage { reads: inputs.to_vec(), writes: true, like_outputs: inputs.to_vec() }
    }
}

/// What the kernels of `view` can do.
pub(crate) fn storage_of(view: &NodeView) -> Storage {
    match &view.node.op {
        Operator::Conv(conv) => spatial::conv_storage(view, conv),
        Operator::MatMul(matmul) => matrix::matmul_storage(view, matmul),
        Operator::Identity
        | Operator::Reshape(_)
        | Operator::Flatten(_)
        | Operator::Squeeze(_)
        | Operator::Unsqueeze(_)
        | Operator::Transpose(_)
        | Operator::Split(_)
        | Operator::Slice(_) => Storage::alike(&[0]),
        Operator::Concat(_) => Storage::alike(&(0..view.node.inputs.len()).collect::<Vec<_>>()),
        _ => Storage::default(),
    }
}

/// Whether input `index` is stored in bfloat16.
pub(super) fn reads_rounded(view: &NodeView, index: usize) -> bool {
    view.has_input(index) && view.input_type(index).is_ok_and(|found| found == ElementType::BF16)
}

/// Whether output 0 is stored in bfloat16.
pub(super) fn writes_rounded(view: &NodeView) -> bool {
    view.output_type(0).is_ok_and(|found| found == ElementType::BF16)
}
