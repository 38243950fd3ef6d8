//! Nodes to layers: which kernel does what, and what can be prepared before shapes are known.
//!
//! One function for each operator, in a file for each family. A function looks at types, attributes and
//! constants, chooses the kernel, packs weights, and returns a [`Layer`] whose closure makes the step once the
//! sizes are known. What no kernel does is an error of kind
//! [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) that says what about the node it is; a graph
//! is lowered to its end even so, so that users see all of it at once.

mod attention;
mod chains;
mod choice;
mod elementwise;
mod epilogue;
mod general_conv;
mod indexing;
mod integer_conv;
mod linear_attention;
mod matrix;
mod narrow;
mod normalization;
mod pooling;
mod quantization;
mod quantized;
mod random;
mod recurrent;
mod reduction;
mod resizing;
mod right;
mod sampling;
mod shaping;
mod spatial;
mod storage;
mod strips;
mod view;
mod weight_only;

use optimium_device::{CompileOptions, Precision};
use optimium_graph::{Graph, Node, Operator, Unsupported};
use optimium_kernels::{PackedBlock, Packing, PackingArena};
use optimium_simd::Level;
use optimium_tensor::{Error, ErrorKind, Result};

use crate::layer::Layer;
use crate::packing::{self, PackedNodes};
use crate::plan::describe;
use chains::Chains;
pub(crate) use choice::{ChoiceRecord, Chooser};
pub(crate) use quantized::is_supported as is_supported_quantized;
pub(crate) use storage::{Storage, storage_of};
pub(crate) use view::NodeView;

/// The layers of all nodes for `level`, and the packed weights that they hold.
///
/// # Errors
/// [`NotImplemented`](ErrorKind::NotImplemented) with everything that no kernel does; others as they occur.
pub(crate) fn lower_all(
    graph: &Graph,
    level: Level,
    options: &CompileOptions,
) -> Result<(Vec<Layer>, PackedNodes)> {
    let arena = PackingArena::new(packing::expected_bytes(graph));
    let kept = options.packed.as_ref();
    let chains = Chains::find(graph, level, options);
    let lower_one = |index: usize| -> Result<(Lowered, Vec<PackedBlock>)> {
        let stored = kept.map(|kept| packing::KeptNode::new(graph, &graph.nodes()[index], kept));
        let packing = Packing::new(stored.as_ref().map(|stored| stored as _), &arena);
        let chooser = Chooser::new(options);
        let node = &graph.nodes()[index];
        let view = NodeView {
            graph,
            node,
            level,
            precision: options.precision,
            packing: &packing,
            chooser: &chooser,
        };
        if let Some((chain, role)) = chains.role(index) {
            let member = strips::member(&view, role, chain)?;
            return Ok((Lowered::Member(member), packing.into_blocks()));
        }
        let layer = lower(&view)?;
        Ok((Lowered::Layer(layer.chosen(chooser.into_record())), packing.into_blocks()))
    };
    let lowered = packing::for_all_nodes(graph, kept, options.threads, lower_one)?;
    let (mut layers, mut packed, mut unsupported) = (Vec::new(), PackedNodes::default(), Vec::new());
    let mut members = chains.no_members();
    for (index, (node, lowered)) in graph.nodes().iter().zip(lowered).enumerate() {
        match lowered {
            Ok((lowered, blocks)) => {
                packed.add(index, blocks);
                layers.push(match lowered {
                    Lowered::Layer(layer) => layer,
                    Lowered::Member(member) => chains.layer(index, member, &mut members)?,
                });
            }
            Err(error) if error.kind() == ErrorKind::NotImplemented => {
                let operation = format!("{} ({})", node.op.name(), error.message());
                unsupported.push(Unsupported { operation, node: node.name.clone() });
            }
            Err(error) => return Err(error.context(describe(node))),
        }
    }
    if unsupported.is_empty() {
        Ok((layers, packed))
    } else {
        Err(Unsupported::error(&graph.name, &unsupported))
    }
}

/// A node that was lowered.
enum Lowered {
    Layer(Layer),
    /// A part of a chain, whose layer comes with its last node.
    Member(strips::Member),
}

/// What of `graph`, whose element types kernels know, no kernel does.
pub(crate) fn unsupported(graph: &Graph) -> Vec<Unsupported> {
    let reason = |node: &Node| {
        let (packing, chooser) = (Packing::default(), Chooser::default());
        let (level, precision) = (Level::best(), Precision::F32);
        match lower(&NodeView { graph, node, level, precision, packing: &packing, chooser: &chooser }) {
            Err(error) if error.kind() == ErrorKind::NotImplemented => Some(error.message().to_owned()),
            _ => None,
        }
    };
    let item = |node: &Node| {
        let operation = format!("{} ({})", node.op.name(), reason(node)?);
        Some(Unsupported { operation, node: node.name.clone() })
    };
    graph.nodes().iter().filter_map(item).collect()
}

/// The layer of one node.
fn lower(view: &NodeView) -> Result<Layer> {
    if view.is_quantized() {
        return quantized::lower(view);
    }
    match &view.node.op {
        Operator::Unary { function } => elementwise::unary(view, *function),
        Operator::Activation { function } => elementwise::activation(view, *function),
        Operator::Binary { function } => elementwise::binary(view, *function),
        Operator::Comparison { function } => elementwise::comparison(view, *function),
        Operator::Clip => elementwise::clip(view),
        Operator::Where => elementwise::select(view),
        Operator::Cast(_) if view.input_type(0)?.is_narrow() => narrow::widen(view),
        Operator::Cast(_) => elementwise::cast(view),
        Operator::NarrowCast(op) => narrow::narrow(view, op),
        Operator::BitCast { .. } => shaping::copy(view),
        Operator::GridSample(op) => sampling::grid_sample(view, op),
        Operator::RoiAlign(op) => sampling::roi_align(view, op),
        Operator::DeformableColumns(op) => sampling::deformable_columns(view, op),
        Operator::LinearAttention(op) => linear_attention::linear_attention(view, op),
        Operator::Identity | Operator::Reshape(_) => shaping::copy(view),
        Operator::Dropout => shaping::dropout(view),
        Operator::Flatten(_) | Operator::Squeeze(_) | Operator::Unsqueeze(_) => shaping::copy(view),
        Operator::Transpose(transpose) => shaping::transpose(view, transpose),
        Operator::Expand(_) => shaping::expand(view),
        Operator::Tile(tile) => shaping::tile(view, tile),
        Operator::Pad(pad) => shaping::pad(view, pad),
        Operator::Shape(shape) => shaping::shape(view, shape),
        Operator::Size => shaping::size(view),
        Operator::Range(range) => shaping::range(view, range),
        Operator::ConstantOfShape(constant) => shaping::constant_of_shape(view, constant),
        Operator::Random(op) => random::random(view, op),
        Operator::Concat(concat) => indexing::concat(view, concat),
        Operator::Split(split) => indexing::split(view, split),
        Operator::Slice(slice) => indexing::slice(view, slice),
        Operator::Gather(gather) => indexing::gather(view, gather),
        Operator::GatherElements(gather) => indexing::gather_elements(view, gather),
        Operator::GatherNd(gather) => indexing::gather_nd(view, gather),
        Operator::ScatterElements(scatter) => indexing::scatter_elements(view, scatter),
        Operator::ScatterNd(scatter) => indexing::scatter_nd(view, scatter),
        Operator::OneHot(one_hot) => indexing::one_hot(view, one_hot),
        Operator::Trilu(trilu) => indexing::trilu(view, trilu),
        Operator::ReverseSequence(reverse) => indexing::reverse_sequence(view, reverse),
        Operator::DepthToSpace(op) => indexing::depth_to_space(view, op),
        Operator::SpaceToDepth(op) => indexing::space_to_depth(view, op),
        Operator::MatMul(matmul) => matrix::matmul(view, matmul),
        Operator::Gemm(gemm) => matrix::gemm(view, gemm),
        Operator::ConvInteger(op) => integer_conv::conv_integer(view, op),
        Operator::MatMulInteger(_) => quantization::matmul_integer(view),
        Operator::DynamicQuantizedMatMul(matmul) => quantization::dynamic_matmul(view, matmul),
        Operator::CompressedMatMul(matmul) => weight_only::matmul(view, matmul),
        Operator::CompressedGather(gather) => weight_only::gather(view, gather),
        Operator::Conv(conv) => spatial::conv(view, conv),
        Operator::ConvTranspose(conv) => spatial::conv_transpose(view, conv),
        Operator::MaxPool(pool) => pooling::max_pool(view, pool),
        Operator::AveragePool(pool) => pooling::average_pool(view, pool),
        Operator::LpPool(pool) => pooling::lp_pool(view, pool),
        Operator::Resize(resize) => resizing::resize(view, resize),
        Operator::Reduce(reduce) => reduction::reduce(view, reduce),
        Operator::ArgReduce(reduce) => reduction::arg_reduce(view, reduce),
        Operator::CumSum(sum) => reduction::cumulative_sum(view, sum),
        Operator::TopK(top) => reduction::top_k(view, top),
        Operator::Softmax(softmax) => normalization::softmax(view, softmax),
        Operator::LayerNormalization(norm) => normalization::layer(view, norm),
        Operator::RmsNormalization(norm) => normalization::rms(view, norm),
        Operator::BatchNormalization(norm) => normalization::batch(view, norm),
        Operator::InstanceNormalization(norm) => normalization::instance(view, norm),
        Operator::GroupNormalization(norm) => normalization::group(view, norm),
        Operator::LpNormalization(norm) => normalization::lp(view, norm),
        Operator::LocalResponseNormalization(norm) => normalization::local_response(view, norm),
        Operator::QuantizeLinear(op) => quantization::quantize(view, op),
        Operator::DequantizeLinear(op) => quantization::dequantize(view, op),
        Operator::DynamicQuantizeLinear => quantization::dynamic_quantize(view),
        Operator::Recurrent(op) => recurrent::recurrent(view, op),
        Operator::Attention(op) => attention::attention(view, op),
        Operator::RotaryEmbedding(op) => attention::rotary(view, op),
        Operator::CastLike(_)
        | Operator::GlobalPool(_)
        | Operator::Einsum(_)
        | Operator::NonZero
        | Operator::Unique(_)
        | Operator::NonMaxSuppression(_)
        | Operator::Requantize
        | Operator::If(_)
        | Operator::Loop(_)
        | Operator::Scan(_)
        | Operator::Deferred(_) => Err(Error::not_implemented("no kernel")),
    }
}
