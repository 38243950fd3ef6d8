//! The operators, as data. One struct for each, in a file for each family.
//!
//! Their meaning is ONNX's, in its newest form: what older versions give as attributes and newer ones as
//! inputs is an input here, so that shape inference and constant folding treat both alike. Where a later stage
//! knows such an input as numbers or expressions, it moves into the struct as `Some`, and the input is dropped:
//! see each field.
//!
//! Spatial operators say where their channels are ([`ImageLayout`]); weights are always in ONNX's order
//! (output channels, input channels per group, kernel). On quantized tensors (`QS8`, `QU8`, … with a scheme
//! on each value) an operator means: what it means on the real numbers they stand for, rounded to the output's
//! scheme.

mod attention;
mod compressed;
mod control;
mod elementwise;
mod indexing;
mod linear_attention;
mod matrix;
mod normalization;
mod quantization;
mod random;
mod recurrent;
mod reduction;
mod sampling;
mod selection;
mod shaping;
mod spatial;

use optimium_tensor::ElementType;
use serde::{Deserialize, Serialize};

pub use attention::{Attention, AttentionScores, RotaryEmbedding};
pub use compressed::{CompressedGather, CompressedMatMul, CompressedWeights, WeightEncoding};
pub use control::{Body, Deferred, If, Loop, Scan};
pub use elementwise::{
    Activation, Binary, Cast, CastLike, Comparison, Fusion, NarrowCast, PowerRounding, Unary,
};
pub use indexing::{
    Concat, DepthToSpace, Gather, GatherElements, GatherNd, OneHot, ReverseSequence, ScatterElements,
    ScatterNd, ScatterReduction, Slice, SliceRange, SpaceToDepth, Split, TopK, Trilu,
};
pub use linear_attention::LinearAttention;
pub use matrix::{Einsum, Gemm, MatMul, MatMulInteger};
pub use normalization::{
    BatchNormalization, GroupNormalization, InstanceNormalization, LayerNormalization,
    LocalResponseNormalization, LpNormalization, RmsNormalization, Softmax,
};
pub use quantization::{DequantizeLinear, DynamicQuantizedMatMul, QuantizeLinear};
pub use random::{Distribution, Random};
pub use recurrent::{Direction, Recurrent, RecurrentActivation, RecurrentKind};
pub use reduction::{ArgReduce, CumSum, Reduce, Reduction};
pub use sampling::{DeformableColumns, GridSample, RoiAlign, SampleMode, SamplePadding};
pub use selection::{NonMaxSuppression, Unique};
pub use shaping::{
    ConstantOfShape, Expand, Flatten, Pad, PadMode, Range, Reshape, Shape, Squeeze, Tile, Transpose,
    Unsqueeze,
};
pub use spatial::{
    AveragePool, Conv, ConvInteger, ConvTranspose, CoordinateMode, GlobalPool, ImageLayout, LpPool, MaxPool,
    NearestMode, Padding, PoolWindow, Resize, ResizeMode,
};

/// What a node does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Operator {
    /// Inputs: x. Output of its type and shape (predicates: BOOL).
    Unary {
        /// Which.
        function: Unary,
    },
    /// Inputs: x, and slope for [`Activation::PRelu`]. Output as x.
    Activation {
        /// Which.
        function: Activation,
    },
    /// Inputs: a, b, broadcast as in NumPy. Output of their type.
    Binary {
        /// Which.
        function: Binary,
    },
    /// Inputs: a, b, broadcast. Output: BOOL.
    Comparison {
        /// Which.
        function: Comparison,
    },
    /// Inputs: x, low or none, high or none (scalars).
    Clip,
    /// Inputs: condition (BOOL), a, b, broadcast.
    Where,
    /// Input: x.
    Cast(Cast),
    /// Input: x. Output: the same bits as elements of another type of the same size.
    BitCast {
        /// The type.
        to: ElementType,
    },
    /// See [`CastLike`].
    CastLike(CastLike),
    /// See [`NarrowCast`].
    NarrowCast(NarrowCast),
    /// Input: x; output: the same. Removed by simplification.
    Identity,
    /// Input: x, optional ratio and training mode; inference only: the same as Identity, with an optional all-true mask.
    Dropout,

    /// See [`Conv`].
    Conv(Conv),
    /// See [`ConvTranspose`].
    ConvTranspose(ConvTranspose),
    /// See [`ConvInteger`].
    ConvInteger(ConvInteger),
    /// See [`MaxPool`].
    MaxPool(MaxPool),
    /// See [`AveragePool`].
    AveragePool(AveragePool),
    /// See [`LpPool`].
    LpPool(LpPool),
    /// See [`GlobalPool`].
    GlobalPool(GlobalPool),
    /// See [`Resize`].
    Resize(Resize),
    /// See [`DepthToSpace`].
    DepthToSpace(DepthToSpace),
    /// See [`SpaceToDepth`].
    SpaceToDepth(SpaceToDepth),

    /// See [`GridSample`].
    GridSample(GridSample),
    /// See [`RoiAlign`].
    RoiAlign(RoiAlign),
    /// See [`DeformableColumns`].
    DeformableColumns(DeformableColumns),

    /// See [`MatMul`].
    MatMul(MatMul),
    /// See [`Gemm`].
    Gemm(Gemm),
    /// See [`MatMulInteger`].
    MatMulInteger(MatMulInteger),
    /// See [`Einsum`].
    Einsum(Einsum),

    /// See [`Reduce`].
    Reduce(Reduce),
    /// See [`ArgReduce`].
    ArgReduce(ArgReduce),
    /// See [`CumSum`].
    CumSum(CumSum),
    /// See [`TopK`].
    TopK(TopK),
    /// See [`Softmax`].
    Softmax(Softmax),
    /// See [`LayerNormalization`].
    LayerNormalization(LayerNormalization),
    /// See [`RmsNormalization`].
    RmsNormalization(RmsNormalization),
    /// See [`BatchNormalization`].
    BatchNormalization(BatchNormalization),
    /// See [`InstanceNormalization`].
    InstanceNormalization(InstanceNormalization),
    /// See [`GroupNormalization`].
    GroupNormalization(GroupNormalization),
    /// See [`LpNormalization`].
    LpNormalization(LpNormalization),
    /// See [`LocalResponseNormalization`].
    LocalResponseNormalization(LocalResponseNormalization),

    /// See [`Reshape`].
    Reshape(Reshape),
    /// See [`Flatten`].
    Flatten(Flatten),
    /// See [`Squeeze`].
    Squeeze(Squeeze),
    /// See [`Unsqueeze`].
    Unsqueeze(Unsqueeze),
    /// See [`Transpose`].
    Transpose(Transpose),
    /// See [`Expand`].
    Expand(Expand),
    /// See [`Tile`].
    Tile(Tile),
    /// See [`Pad`].
    Pad(Pad),
    /// See [`Concat`].
    Concat(Concat),
    /// See [`Split`].
    Split(Split),
    /// See [`Slice`].
    Slice(Slice),
    /// See [`Gather`].
    Gather(Gather),
    /// See [`GatherElements`].
    GatherElements(GatherElements),
    /// See [`GatherNd`].
    GatherNd(GatherNd),
    /// See [`ScatterElements`].
    ScatterElements(ScatterElements),
    /// See [`ScatterNd`].
    ScatterNd(ScatterNd),
    /// See [`OneHot`].
    OneHot(OneHot),
    /// See [`Trilu`].
    Trilu(Trilu),
    /// See [`ReverseSequence`].
    ReverseSequence(ReverseSequence),
    /// Input: x; output: I64 `[rank, n]`, n known only at run time.
    NonZero,
    /// See [`Unique`].
    Unique(Unique),
    /// See [`NonMaxSuppression`].
    NonMaxSuppression(NonMaxSuppression),
    /// See [`Shape`].
    Shape(Shape),
    /// Input: x; output: I64 scalar, its number of elements.
    Size,
    /// See [`Range`].
    Range(Range),
    /// See [`ConstantOfShape`].
    ConstantOfShape(ConstantOfShape),
    /// See [`Random`].
    Random(Random),

    /// See [`QuantizeLinear`].
    QuantizeLinear(QuantizeLinear),
    /// See [`DequantizeLinear`].
    DequantizeLinear(DequantizeLinear),
    /// Input: x (F32); outputs: y (U8), scale (F32 scalar), zero point (U8 scalar).
    DynamicQuantizeLinear,
    /// See [`DynamicQuantizedMatMul`].
    DynamicQuantizedMatMul(DynamicQuantizedMatMul),
    /// See [`CompressedMatMul`].
    CompressedMatMul(CompressedMatMul),
    /// See [`CompressedGather`].
    CompressedGather(CompressedGather),
    /// Input: x (quantized); output: its values in the output's scheme.
    Requantize,

    /// See [`Recurrent`].
    Recurrent(Recurrent),
    /// See [`Attention`].
    Attention(Attention),
    /// See [`LinearAttention`].
    LinearAttention(LinearAttention),
    /// See [`RotaryEmbedding`].
    RotaryEmbedding(RotaryEmbedding),

    /// See [`If`].
    If(If),
    /// See [`Loop`].
    Loop(Loop),
    /// See [`Scan`].
    Scan(Scan),
    /// See [`Deferred`].
    Deferred(Deferred),
}

impl Operator {
    /// Its name as users know it, that of ONNX where there is one.
    pub fn name(&self) -> &'static str {
        match self {
            Operator::Unary { function } => function.name(),
            Operator::Activation { function } => function.name(),
            Operator::Binary { function } => function.name(),
            Operator::Comparison { function } => function.name(),
            Operator::Clip => "Clip",
            Operator::Where => "Where",
            Operator::Cast(_) | Operator::NarrowCast(_) => "Cast",
            Operator::CastLike(_) => "CastLike",
            Operator::Identity => "Identity",
            Operator::Dropout => "Dropout",
            Operator::Conv(_) => "Conv",
            Operator::ConvTranspose(_) => "ConvTranspose",
            Operator::ConvInteger(_) => "ConvInteger",
            Operator::MaxPool(_) => "MaxPool",
            Operator::AveragePool(_) => "AveragePool",
            Operator::LpPool(_) => "LpPool",
            Operator::GlobalPool(pool) => pool.name(),
            Operator::Resize(_) => "Resize",
            Operator::DepthToSpace(_) => "DepthToSpace",
            Operator::SpaceToDepth(_) => "SpaceToDepth",
            Operator::GridSample(_) => "GridSample",
            Operator::RoiAlign(_) => "RoiAlign",
            Operator::DeformableColumns(_) => "DeformConv",
            Operator::BitCast { .. } => "BitCast",
            Operator::LinearAttention(_) => "LinearAttention",
            Operator::MatMul(_) => "MatMul",
            Operator::Gemm(_) => "Gemm",
            Operator::MatMulInteger(_) => "MatMulInteger",
            Operator::Einsum(_) => "Einsum",
            Operator::Reduce(reduce) => reduce.reduction.name(),
            Operator::ArgReduce(reduce) => {
                if reduce.max {
                    "ArgMax"
                } else {
                    "ArgMin"
                }
            }
            Operator::CumSum(sum) => {
                if sum.product {
                    "CumProd"
                } else {
                    "CumSum"
                }
            }
            Operator::TopK(_) => "TopK",
            Operator::Softmax(softmax) => {
                if softmax.log {
                    "LogSoftmax"
                } else {
                    "Softmax"
                }
            }
            Operator::LayerNormalization(_) => "LayerNormalization",
            Operator::RmsNormalization(_) => "RMSNormalization",
            Operator::BatchNormalization(_) => "BatchNormalization",
            Operator::InstanceNormalization(_) => "InstanceNormalization",
            Operator::GroupNormalization(_) => "GroupNormalization",
            Operator::LpNormalization(_) => "LpNormalization",
            Operator::LocalResponseNormalization(_) => "LRN",
            Operator::Reshape(_) => "Reshape",
            Operator::Flatten(_) => "Flatten",
            Operator::Squeeze(_) => "Squeeze",
            Operator::Unsqueeze(_) => "Unsqueeze",
            Operator::Transpose(_) => "Transpose",
            Operator::Expand(_) => "Expand",
            Operator::Tile(_) => "Tile",
            Operator::Pad(_) => "Pad",
            Operator::Concat(_) => "Concat",
            Operator::Split(_) => "Split",
            Operator::Slice(_) => "Slice",
            Operator::Gather(_) => "Gather",
            Operator::GatherElements(_) => "GatherElements",
            Operator::GatherNd(_) => "GatherND",
            Operator::ScatterElements(_) => "ScatterElements",
            Operator::ScatterNd(_) => "ScatterND",
            Operator::OneHot(_) => "OneHot",
            Operator::Trilu(_) => "Trilu",
            Operator::ReverseSequence(_) => "ReverseSequence",
            Operator::NonZero => "NonZero",
            Operator::Unique(_) => "Unique",
            Operator::NonMaxSuppression(_) => "NonMaxSuppression",
            Operator::Shape(_) => "Shape",
            Operator::Size => "Size",
            Operator::Range(_) => "Range",
            Operator::ConstantOfShape(_) => "ConstantOfShape",
            Operator::Random(random) => random.distribution.name(),
            Operator::QuantizeLinear(_) => "QuantizeLinear",
            Operator::DequantizeLinear(_) => "DequantizeLinear",
            Operator::DynamicQuantizeLinear => "DynamicQuantizeLinear",
            Operator::DynamicQuantizedMatMul(_) => "DynamicQuantizedMatMul",
            Operator::CompressedMatMul(_) => "CompressedMatMul",
            Operator::CompressedGather(_) => "CompressedGather",
            Operator::Requantize => "Requantize",
            Operator::Recurrent(recurrent) => recurrent.kind.name(),
            Operator::Attention(_) => "Attention",
            Operator::RotaryEmbedding(_) => "RotaryEmbedding",
            Operator::If(_) => "If",
            Operator::Loop(_) => "Loop",
            Operator::Scan(_) => "Scan",
            Operator::Deferred(_) => "Deferred",
        }
    }
}
