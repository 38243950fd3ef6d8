//! A graph with every operator.

use optimium_graph::ops::*;
use optimium_graph::{Graph, Operator};
use optimium_tensor::{ElementType, Expr};

use super::{branch, conv, node, shape};

/// One node for each form of each operator. The golden folder holds the first of them: new ones go to the end.
pub(crate) fn operators() -> Graph {
    let all = [
        convolutions(),
        activations(),
        elementwise_and_products(),
        reductions_and_normalizations(),
        shapes(),
        indexing_and_control(),
        attention(),
        compressed(),
        narrow_and_sampling(),
        selections(),
    ]
    .concat();
    let mut graph = Graph::new("operators");
    let x = graph.add_tensor("x", ElementType::F32, shape(vec![Expr::symbol("n")]));
    graph.inputs = vec![x];
    for op in all {
        let y = graph.add_unknown(format!("y{}", graph.nodes().len()));
        let mut added = node(&format!("n{}", graph.nodes().len()), op, &[x], &[y]);
        added.inputs.push(None);
        added.outputs.insert(0, None);
        graph.add_node(added);
    }
    graph
}

fn window() -> PoolWindow {
    PoolWindow {
        layout: ImageLayout::ChannelsFirst,
        kernel: vec![3],
        strides: vec![2],
        dilations: vec![1],
        padding: Padding::SameLower,
        ceil_mode: true,
    }
}

fn convolutions() -> Vec<Operator> {
    let transposed = ConvTranspose {
        layout: ImageLayout::ChannelsFirst,
        strides: vec![2],
        dilations: vec![1],
        groups: 3,
        padding: Padding::Valid,
        output_padding: vec![1],
        output_shape: Some(vec![9]),
        fusion: Fusion::default(),
    };
    let resize = |mode| {
        Operator::Resize(Resize {
            axes: Some(vec![-1]),
            mode,
            coordinates: CoordinateMode::TfHalfPixelForNn,
            exclude_outside: true,
            extrapolation_value: -0.0,
            antialias: false,
            keep_aspect_ratio: 2,
        })
    };
    vec![
        Operator::Conv(conv(Activation::None)),
        Operator::ConvTranspose(transposed),
        Operator::ConvInteger(ConvInteger { conv: conv(Activation::None) }),
        Operator::MaxPool(MaxPool { window: window(), column_major: true }),
        Operator::AveragePool(AveragePool { window: window(), count_include_pad: true }),
        Operator::LpPool(LpPool { window: window(), p: 3 }),
        Operator::GlobalPool(GlobalPool { layout: ImageLayout::ChannelsLast, reduction: Reduction::L2 }),
        resize(ResizeMode::Linear),
        resize(ResizeMode::Nearest(NearestMode::RoundPreferCeil)),
        resize(ResizeMode::Cubic(-0.75)),
        Operator::DepthToSpace(DepthToSpace {
            layout: ImageLayout::ChannelsLast,
            block: 2,
            column_row_depth: true,
        }),
        Operator::SpaceToDepth(SpaceToDepth { layout: ImageLayout::ChannelsFirst, block: 4 }),
    ]
}

fn activations() -> Vec<Operator> {
    [
        Activation::None,
        Activation::Relu,
        Activation::Clip { low: None, high: Some(f32::MAX) },
        Activation::Clip { low: Some(f32::MIN_POSITIVE), high: None },
        Activation::LeakyRelu { alpha: 0.01 },
        Activation::PRelu,
        Activation::Sigmoid,
        Activation::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 },
        Activation::HardSwish,
        Activation::Silu,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::Tanh,
        Activation::Elu { alpha: 1e-30 },
        Activation::Softplus,
        Activation::Mish,
    ]
    .into_iter()
    .flat_map(|function| [Operator::Activation { function }, Operator::Conv(conv(function))])
    .collect()
}

fn elementwise_and_products() -> Vec<Operator> {
    vec![
        Operator::Unary { function: Unary::IsNan },
        Operator::Binary { function: Binary::SquaredDifference },
        Operator::Comparison { function: Comparison::GreaterOrEqual },
        Operator::Clip,
        Operator::Where,
        Operator::Cast(Cast { to: ElementType::BF16 }),
        Operator::Identity,
        Operator::Dropout,
        Operator::MatMul(MatMul {
            transpose_a: true,
            transpose_b: false,
            alpha: 0.125,
            fusion: Fusion { activation: Activation::Gelu, residual_after_activation: true },
        }),
        Operator::Gemm(Gemm { transpose_a: true, transpose_b: true, alpha: 0.1, beta: -2.5 }),
        Operator::MatMulInteger(MatMulInteger {}),
        Operator::Einsum(Einsum { equation: "bij,bjk->bik".into() }),
        Operator::QuantizeLinear(QuantizeLinear {
            axis: -1,
            block_size: 32,
            output_type: Some(ElementType::U8),
        }),
        Operator::DequantizeLinear(DequantizeLinear { axis: 1, block_size: 0 }),
        Operator::DynamicQuantizeLinear,
        Operator::DynamicQuantizedMatMul(DynamicQuantizedMatMul { fusion: Fusion::default() }),
        Operator::Requantize,
        Operator::Recurrent(Recurrent {
            kind: RecurrentKind::Lstm,
            hidden_size: 8,
            direction: Direction::Bidirectional,
            activations: vec![RecurrentActivation { name: "Affine".into(), alpha: Some(0.2), beta: None }],
            clip: Some(3.0),
            linear_before_reset: false,
            input_forget: true,
            batch_first: false,
        }),
    ]
}

fn reductions_and_normalizations() -> Vec<Operator> {
    let (axis, epsilon, layout) = (-1, 1e-5, ImageLayout::ChannelsLast);
    vec![
        Operator::Reduce(Reduce {
            reduction: Reduction::LogSumExp,
            axes: Some(vec![-1, 0]),
            keep_dims: true,
            noop_with_empty_axes: true,
        }),
        Operator::ArgReduce(ArgReduce { max: true, axis, keep_dims: false, select_last_index: true }),
        Operator::CumSum(CumSum { axis: Some(1), exclusive: true, reverse: false, product: false }),
        Operator::TopK(TopK { axis, largest: false, sorted: true, k: Some(Expr::symbol("k")) }),
        Operator::Softmax(Softmax { axis, log: true, flatten: true }),
        Operator::LayerNormalization(LayerNormalization { axis, epsilon }),
        Operator::RmsNormalization(RmsNormalization { axis, epsilon }),
        Operator::BatchNormalization(BatchNormalization { layout, epsilon }),
        Operator::InstanceNormalization(InstanceNormalization { layout, epsilon }),
        Operator::GroupNormalization(GroupNormalization { layout, groups: 4, epsilon }),
        Operator::LpNormalization(LpNormalization { axis, p: 2 }),
        Operator::LocalResponseNormalization(LocalResponseNormalization {
            layout,
            size: 5,
            alpha: 1e-4,
            beta: 0.75,
            bias: 1.0,
        }),
    ]
}

fn shapes() -> Vec<Operator> {
    let t = Expr::symbol("past.length") + 3i64.into();
    let dims = Some(vec![t.clone() * t.clone(), (t.clone() - 5i64.into()) / 2i64.into(), 4i64.into()]);
    let range = SliceRange { axis: 1, start: t.clone() % 7i64.into(), count: t.clone(), step: -1 };
    vec![
        Operator::Reshape(Reshape { dims: dims.clone(), allow_zero: true }),
        Operator::Flatten(Flatten { axis: -2 }),
        Operator::Squeeze(Squeeze { axes: None }),
        Operator::Unsqueeze(Unsqueeze { axes: Some(vec![0, -1]) }),
        Operator::Transpose(Transpose { permutation: vec![2, 0, 1] }),
        Operator::Expand(Expand { dims: dims.clone() }),
        Operator::Tile(Tile { repeats: dims.clone() }),
        Operator::Pad(Pad { mode: PadMode::Reflect, pads: Some(vec![(t.clone(), (-1i64).into())]) }),
        Operator::Shape(Shape { start: 0, end: Some(-1) }),
        Operator::Size,
        Operator::Range(Range {
            element_type: ElementType::I64,
            bounds: Some([0i64.into(), t.clone().min(9i64.into()), 1i64.into()]),
        }),
        Operator::ConstantOfShape(ConstantOfShape {
            dims,
            element_type: ElementType::I64,
            value: vec![255; 8],
        }),
        Operator::Slice(Slice { ranges: Some(vec![range]) }),
        Operator::Split(Split { axis: 0, sizes: Some(vec![t.clone(), 1i64.into()]) }),
        Operator::OneHot(OneHot { axis: -1, depth: Some(t.max(Expr::symbol("∞ 1"))) }),
    ]
}

fn indexing_and_control() -> Vec<Operator> {
    let looped = Loop { body: branch(Unary::Exp, 3.0), carried: 1 };
    let scan = Scan {
        body: branch(Unary::Log, 4.0),
        scan_inputs: 1,
        input_axes: vec![0],
        input_reversed: vec![true],
        output_axes: vec![-1],
        output_reversed: vec![false],
    };
    let mut outer = branch(Unary::Sin, 1.0);
    let (x, y) = (outer.graph.inputs[0], outer.graph.add_unknown("looped"));
    outer.graph.add_node(node("inner", Operator::Loop(looped.clone()), &[x], &[y]));
    vec![
        Operator::Concat(Concat { axis: 1 }),
        Operator::Gather(Gather { axis: -1 }),
        Operator::GatherElements(GatherElements { axis: 1 }),
        Operator::GatherNd(GatherNd { batch_dims: 1 }),
        Operator::ScatterElements(ScatterElements { axis: 0, reduction: ScatterReduction::Max }),
        Operator::ScatterNd(ScatterNd { reduction: ScatterReduction::Add }),
        Operator::Trilu(Trilu { upper: true, k: Some(-1) }),
        Operator::ReverseSequence(ReverseSequence { batch_axis: 1, time_axis: 0 }),
        Operator::NonZero,
        Operator::If(If { then_branch: outer, else_branch: branch(Unary::Cos, 2.0) }),
        Operator::Loop(looped),
        Operator::Scan(scan),
        Operator::Deferred(Deferred { body: branch(Unary::Sin, 1.0) }),
    ]
}

fn selections() -> Vec<Operator> {
    vec![
        Operator::Unique(Unique { axis: Some(-1), sorted: false }),
        Operator::NonMaxSuppression(NonMaxSuppression { center_point_box: true }),
        Operator::Random(Random {
            dims: Some(vec![Expr::symbol("t")]),
            element_type: ElementType::F64,
            distribution: Distribution::Normal { mean: 0.5, deviation: 1e-3 },
            seed: Some(u32::MAX),
        }),
        Operator::Random(Random {
            dims: None,
            element_type: ElementType::F32,
            distribution: Distribution::Uniform { low: -1.0, high: 1e-30 },
            seed: None,
        }),
    ]
}

fn attention() -> Vec<Operator> {
    let attention = Attention {
        query_heads: Some(8),
        key_heads: Some(2),
        value_heads: None,
        scale: Some(0.125),
        softcap: 50.0,
        causal: true,
        merged: Some(true),
        scores: AttentionScores::Capped,
        masked_score: None,
    };
    let rotary = RotaryEmbedding { heads: None, size: Some(32), interleaved: true };
    vec![Operator::Attention(attention), Operator::RotaryEmbedding(rotary)]
}

fn compressed() -> Vec<Operator> {
    let weights = |encoding, block_size| CompressedWeights { encoding, k: 40, block_size };
    vec![
        Operator::CompressedMatMul(CompressedMatMul {
            weights: weights(WeightEncoding::Int4, 32),
            fusion: Fusion { activation: Activation::Silu, residual_after_activation: true },
        }),
        Operator::CompressedMatMul(CompressedMatMul {
            weights: weights(WeightEncoding::Bf16, 0),
            fusion: Fusion::default(),
        }),
        Operator::CompressedGather(CompressedGather { weights: weights(WeightEncoding::Int8, 64) }),
    ]
}

fn narrow_and_sampling() -> Vec<Operator> {
    let narrow =
        |rounding| Operator::NarrowCast(NarrowCast { to: ElementType::F8E4M3FN, saturate: false, rounding });
    let roi = RoiAlign { max: true, half_pixel: true, rows: 2, columns: 3, samples: 4, scale: 0.25 };
    let columns =
        DeformableColumns { kernel: [3, 2], strides: [2, 1], dilations: [1, 2], padding: [1, 0], groups: 2 };
    let grid = |mode, padding| Operator::GridSample(GridSample { mode, padding, align_corners: true });
    vec![
        Operator::CumSum(CumSum { axis: Some(1), exclusive: true, reverse: false, product: true }),
        narrow(PowerRounding::Up),
        narrow(PowerRounding::Down),
        narrow(PowerRounding::Nearest),
        Operator::BitCast { to: ElementType::U2 },
        Operator::CastLike(CastLike { saturate: true, rounding: PowerRounding::Nearest }),
        grid(SampleMode::Nearest, SamplePadding::Zeros),
        grid(SampleMode::Linear, SamplePadding::Border),
        grid(SampleMode::Cubic, SamplePadding::Reflection),
        Operator::RoiAlign(roi),
        Operator::DeformableColumns(columns),
        Operator::LinearAttention(LinearAttention { query_heads: 4, heads: 2, scale: Some(0.5) }),
    ]
}
