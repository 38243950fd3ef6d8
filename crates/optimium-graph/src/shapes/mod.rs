//! Types and symbolic shapes of every value.
//!
//! [`infer`] walks the nodes once, producers first. For every node the rule of its operator reads what is known
//! of the inputs (element types, shapes as [`Expr`](optimium_tensor::Expr)essions, and, for small integer tensors, the *values*
//! as expressions too) and says what the outputs are. Following values is what makes shapes that a model computes
//! from other shapes come out as plain expressions: `Shape → Gather → Mul → Concat → Reshape` ends in
//! `Reshape.dims`, and the nodes that computed the target have no reader any more.
//!
//! What a rule found is written into the operator (`Reshape.dims`, `Slice.ranges`, `Pad.pads`, …), and the inputs that
//! said it are dropped, so that later stages never look at tensors to learn a shape. Running inference again
//! on its own result changes nothing.
//!
//! Three sources make a dimension, in this order: the rule; the shape that the model declares for the value; a
//! fresh symbol, `<tensor name>.<axis>`, for a size that depends on data. A declaration that contradicts the
//! rule with another number is an error.
//!
//! # Assumption
//! Where an expression simplifies only if its symbols are at least one (`max(T - 1, 0)` to `T - 1`; two different
//! symbols that are broadcast to their maximum), it is simplified. A dynamic dimension of size zero is
//! therefore not covered everywhere: the affected shape evaluates to a negative number, which is reported when
//! shapes are bound, or to the other operand's size.
//!
//! The files: `arithmetic` and `facts` hold the numbers and tensors that are followed, `context` is what a rule sees of
//! its node, `body` infers the graphs inside of operators, `deferred` puts off what symbols cannot say, [`bind`](fn@bind) gives
//! symbols their values, and the others hold the rules by family.

mod arithmetic;
mod attention;
mod bind;
mod body;
mod branches;
mod broadcast;
mod compressed;
mod context;
mod control;
mod deferred;
mod elementwise;
mod facts;
#[cfg(test)]
mod hostile;
mod indexing;
mod linear_attention;
mod matrix;
mod normalization;
mod quantization;
mod recurrent;
mod reduction;
mod sampling;
mod selection;
mod shaping;
mod slicing;
mod spatial;
#[cfg(test)]
mod testing;

use optimium_tensor::{Error, Result};

use self::context::{Context, Known};
use crate::{Graph, Operator, ValueId};

pub use self::bind::{bind, bind_within};

/// Bodies of control flow nested deeper than this are given up: they come from damaged or hostile models only.
const MAX_DEPTH: usize = 8;

/// Gives every value its type and shape, and every operator the numbers and expressions that its shape-like inputs
/// turn out to be. Sorts the graph. Where ranks follow only from the sizes that an inference has, the graph becomes that of one
/// [`Deferred`](crate::ops::Deferred) node.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where operands do not fit each other, the operator or the declared
/// shapes; [`NotImplemented`](optimium_tensor::ErrorKind::NotImplemented) where even the rank of a tensor
/// depends on data. The message names the node and its tensors.
pub fn infer(graph: &mut Graph) -> Result<()> {
    let original = deferred::may_have_to_be(graph).then(|| Box::new(graph.clone()));
    match (infer_now(graph), original) {
        (Err(error), Some(original)) if deferred::is_decided_by_sizes(&error) => {
            *graph = deferred::wrapped(original);
            infer_now(graph)
        }
        (result, _) => result,
    }
}

/// As [`infer`], of a graph whose sizes are all that they will ever be: nothing is deferred but branches.
///
/// # Errors
/// As there, and where ranks do not follow from the sizes.
pub fn infer_now(graph: &mut Graph) -> Result<()> {
    infer_graph(graph, &[], 0).map(|_| ())
}

/// [`infer`] for a graph at some depth of control flow, of some of whose inputs the values are known. Returns the
/// values that it followed.
fn infer_graph(graph: &mut Graph, inputs: &[Known], depth: usize) -> Result<Vec<Known>> {
    if depth > MAX_DEPTH {
        return Err(Error::not_implemented(format!("control flow is nested deeper than {MAX_DEPTH} times")));
    }
    settle(graph)?;
    let mut known: Vec<Known> = vec![None; graph.values().len()];
    for (id, value) in graph.inputs.iter().zip(inputs) {
        known[id.index()] = value.clone();
    }
    for index in 0..graph.nodes().len() {
        infer_node(graph, &mut known, index, depth)?;
    }
    Ok(known)
}

/// Checks that it is a graph whose nodes can be walked, and sorts it.
fn settle(graph: &mut Graph) -> Result<()> {
    check_ids(graph)?;
    graph.sort()?;
    check_defined(graph)
}

fn check_ids(graph: &Graph) -> Result<()> {
    let count = graph.values().len();
    let of_nodes = graph.nodes().iter().flat_map(|node| node.inputs.iter().chain(&node.outputs).flatten());
    if of_nodes.chain(&graph.inputs).chain(&graph.outputs).any(|id| id.index() >= count) {
        return Err(Error::model(format!("the graph {:?} names a value that it does not have", graph.name)));
    }
    Ok(())
}

/// Every value that is read must be given, constant, or computed.
fn check_defined(graph: &Graph) -> Result<()> {
    let mut defined: Vec<bool> = graph.values().iter().map(|value| value.constant.is_some()).collect();
    let computed = graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten());
    for id in computed.chain(&graph.inputs) {
        defined[id.index()] = true;
    }
    for node in graph.nodes() {
        if let Some(id) = node.inputs.iter().flatten().find(|id| !defined[id.index()]) {
            let name = &graph.value(*id).name;
            return Err(Error::model(format!(
                "the node {:?} reads the tensor {name:?}, which nobody computes",
                node.name
            )));
        }
    }
    Ok(())
}

fn infer_node(graph: &mut Graph, known: &mut Vec<Known>, index: usize, depth: usize) -> Result<()> {
    let node = &mut graph.nodes_mut()[index];
    let mut op = std::mem::replace(&mut node.op, Operator::Identity);
    let (inputs, outputs) = (node.inputs.clone(), node.outputs.clone());
    let mut context = Context::new(graph, known, inputs, outputs, depth);
    let result = apply(&mut op, &mut context);
    let inputs = context.into_inputs();
    known.resize(graph.values().len(), None);
    let error = result.err().map(|error| error.context(describe(graph, index, &op)));
    let node = &mut graph.nodes_mut()[index];
    node.op = op;
    node.inputs = inputs;
    error.map_or(Ok(()), Err)
}

/// The operator, the node, and its operands with their types and shapes.
fn describe(graph: &Graph, index: usize, op: &Operator) -> String {
    let node = &graph.nodes()[index];
    let operand = |id: &ValueId| {
        let value = graph.value(*id);
        let element_type = value.element_type().map_or("?", |t| t.name());
        let shape = value.shape().map_or("of unknown shape".to_owned(), ToString::to_string);
        format!("{:?} {element_type} {shape}", value.name)
    };
    let operands: Vec<String> = node.inputs.iter().flatten().take(8).map(operand).collect();
    let results: Vec<String> =
        node.outputs.iter().flatten().take(4).map(|id| format!("{:?}", graph.value(*id).name)).collect();
    format!("{} {:?} ({} -> {})", op.name(), node.name, operands.join(", "), results.join(", "))
}

/// Applies the rule of the operator.
fn apply(op: &mut Operator, cx: &mut Context<'_>) -> Result<()> {
    match op {
        Operator::Unary { function } => elementwise::unary(*function, cx),
        Operator::Activation { function } => elementwise::activation(*function, cx),
        Operator::Binary { function } => elementwise::binary(*function, cx),
        Operator::Comparison { function } => elementwise::comparison(*function, cx),
        Operator::Clip => elementwise::clip(cx),
        Operator::Where => elementwise::where_(cx),
        Operator::Cast(cast) => elementwise::cast(cast, cx),
        Operator::BitCast { to } => elementwise::bit_cast(*to, cx),
        Operator::NarrowCast(cast) => elementwise::narrow_cast(cast, cx),
        Operator::CastLike(cast) => {
            *op = elementwise::cast_like(cast, cx)?;
            apply(op, cx)
        }
        Operator::Identity => elementwise::identity(cx),
        Operator::Dropout => elementwise::dropout(cx),
        Operator::Conv(conv) => spatial::conv(conv, cx),
        Operator::ConvTranspose(conv) => spatial::conv_transpose(conv, cx),
        Operator::ConvInteger(integer) => spatial::conv_integer(integer, cx),
        Operator::MaxPool(pool) => spatial::max_pool(pool, cx),
        Operator::AveragePool(pool) => spatial::pool(&pool.window, cx),
        Operator::LpPool(pool) => spatial::pool(&pool.window, cx),
        Operator::GlobalPool(pool) => spatial::global_pool(pool, cx),
        Operator::Resize(resize) => spatial::resize(resize, cx),
        Operator::DepthToSpace(op) => spatial::depth_to_space(op, cx),
        Operator::SpaceToDepth(op) => spatial::space_to_depth(op, cx),
        Operator::GridSample(_) => sampling::grid_sample(cx),
        Operator::RoiAlign(op) => sampling::roi_align(op, cx),
        Operator::DeformableColumns(op) => sampling::deformable_columns(op, cx),
        Operator::LinearAttention(op) => linear_attention::linear_attention(op, cx),
        Operator::MatMul(matmul) => matrix::matmul(matmul, cx),
        Operator::Gemm(gemm) => matrix::gemm(gemm, cx),
        Operator::MatMulInteger(_) => matrix::matmul_integer(cx),
        Operator::Einsum(einsum) => matrix::einsum(einsum, cx),
        Operator::DynamicQuantizedMatMul(_) => matrix::dynamic_quantized_matmul(cx),
        Operator::CompressedMatMul(matmul) => compressed::matmul(matmul, cx),
        Operator::CompressedGather(gather) => compressed::gather(gather, cx),
        Operator::Reduce(reduce) => reduction::reduce(reduce, cx),
        Operator::ArgReduce(reduce) => reduction::arg_reduce(reduce, cx),
        Operator::CumSum(sum) => reduction::cumulative_sum(sum, cx),
        Operator::Recurrent(recurrent) => recurrent::recurrent(recurrent, cx),
        Operator::Attention(attention) => attention::attention(attention, cx),
        Operator::RotaryEmbedding(rotary) => attention::rotary(rotary, cx),
        Operator::If(op) => branches::if_(op, cx),
        Operator::Loop(op) => control::loop_(op, cx),
        Operator::Scan(op) => control::scan(op, cx),
        Operator::Deferred(op) => deferred::deferred(op, cx),
        _ => apply_more(op, cx),
    }
}

/// [`apply`] for normalizations, quantization and the operators that move elements.
fn apply_more(op: &mut Operator, cx: &mut Context<'_>) -> Result<()> {
    match op {
        Operator::Softmax(softmax) => normalization::along_axis(softmax.axis, cx),
        Operator::LpNormalization(norm) => normalization::along_axis(norm.axis, cx),
        Operator::LayerNormalization(norm) => normalization::layer(norm, cx),
        Operator::RmsNormalization(norm) => normalization::rms(norm, cx),
        Operator::BatchNormalization(norm) => normalization::per_channel(norm.layout, 1..5, cx),
        Operator::InstanceNormalization(norm) => normalization::per_channel(norm.layout, 1..3, cx),
        Operator::GroupNormalization(norm) => normalization::group(norm, cx),
        Operator::LocalResponseNormalization(norm) => normalization::per_channel(norm.layout, 1..1, cx),
        Operator::Reshape(reshape) => shaping::reshape(reshape, cx),
        Operator::Flatten(flatten) => shaping::flatten(flatten, cx),
        Operator::Squeeze(squeeze) => shaping::squeeze(squeeze, cx),
        Operator::Unsqueeze(unsqueeze) => shaping::unsqueeze(unsqueeze, cx),
        Operator::Transpose(transpose) => shaping::transpose(transpose, cx),
        Operator::Expand(expand) => shaping::expand(expand, cx),
        Operator::Tile(tile) => shaping::tile(tile, cx),
        Operator::Pad(pad) => shaping::pad(pad, cx),
        Operator::Shape(shape) => shaping::shape(shape, cx),
        Operator::Size => shaping::size(cx),
        Operator::Range(range) => shaping::range(range, cx),
        Operator::ConstantOfShape(fill) => shaping::constant_of_shape(fill, cx),
        Operator::Random(random) => shaping::random(random, cx),
        Operator::Concat(concat) => slicing::concat(concat, cx),
        Operator::Split(split) => slicing::split(split, cx),
        Operator::Slice(slice) => slicing::slice(slice, cx),
        Operator::Gather(gather) => indexing::gather(gather, cx),
        Operator::GatherElements(gather) => indexing::gather_elements(gather, cx),
        Operator::GatherNd(gather) => indexing::gather_nd(gather, cx),
        Operator::ScatterElements(scatter) => indexing::scatter_elements(scatter, cx),
        Operator::ScatterNd(_) => indexing::scatter_nd(cx),
        Operator::OneHot(one_hot) => indexing::one_hot(one_hot, cx),
        Operator::TopK(top_k) => indexing::top_k(top_k, cx),
        Operator::Trilu(trilu) => indexing::trilu(trilu, cx),
        Operator::ReverseSequence(reverse) => indexing::reverse_sequence(reverse, cx),
        Operator::NonZero => selection::non_zero(cx),
        Operator::Unique(unique) => selection::unique(unique, cx),
        Operator::NonMaxSuppression(_) => selection::non_max_suppression(cx),
        Operator::QuantizeLinear(quantize) => quantization::quantize(quantize, cx),
        Operator::DequantizeLinear(dequantize) => quantization::dequantize(dequantize, cx),
        Operator::DynamicQuantizeLinear => quantization::dynamic_quantize(cx),
        Operator::Requantize => quantization::requantize(cx),
        other => Err(Error::not_implemented(format!("{} has no shape rule", other.name()))),
    }
}

#[cfg(test)]
mod tests {
    use optimium_tensor::{ElementType, ErrorKind, Expr, Tensor, TensorShape};
    use optimium_testing::each_case;

    use super::testing::Input::{self, Data, Floats, Scalar, Typed, Vector};
    use super::testing::{add, described, dims, graph};
    use super::*;
    use crate::Node;
    use crate::ops::{
        Binary, Cast, Comparison, Concat, ConstantOfShape, CoordinateMode, Expand, Gather, Range, Reduce,
        Reduction, Reshape, Resize, ResizeMode, Shape, Slice, Split, Transpose, Unary, Unsqueeze,
    };

    const I64: ElementType = ElementType::I64;

    /// A graph that grows by nodes of one output.
    struct Builder {
        graph: Graph,
        inputs: Vec<Option<ValueId>>,
    }

    impl Builder {
        fn new(inputs: &[Input]) -> Builder {
            let (graph, inputs) = graph(inputs);
            Builder { graph, inputs }
        }

        fn input(&self, index: usize) -> ValueId {
            self.inputs[index].unwrap()
        }

        fn add(&mut self, op: Operator, inputs: &[ValueId]) -> ValueId {
            add(&mut self.graph, op, inputs.iter().copied().map(Some).collect(), 1)[0]
        }

        fn shape_of(&mut self, value: ValueId) -> ValueId {
            self.add(Operator::Shape(Shape { start: 0, end: None }), &[value])
        }

        fn vector(&mut self, values: &[i64]) -> ValueId {
            let name = format!("c{}", self.graph.values().len());
            self.graph.add_constant(name, Tensor::from_slice(&[values.len()], values).unwrap())
        }

        fn scalar(&mut self, value: i64) -> ValueId {
            let name = format!("c{}", self.graph.values().len());
            self.graph.add_constant(name, Tensor::scalar(value).unwrap())
        }

        /// One dimension of a value, as a vector of one.
        fn dim(&mut self, value: ValueId, axis: i64) -> ValueId {
            let (shape, index) = (self.shape_of(value), self.scalar(axis));
            let dim = self.add(Operator::Gather(Gather { axis: 0 }), &[shape, index]);
            let axes = self.vector(&[0]);
            self.add(Operator::Unsqueeze(Unsqueeze { axes: None }), &[dim, axes])
        }

        fn binary(&mut self, function: Binary, a: ValueId, b: ValueId) -> ValueId {
            self.add(Operator::Binary { function }, &[a, b])
        }

        fn concat(&mut self, parts: &[ValueId]) -> ValueId {
            self.add(Operator::Concat(Concat { axis: 0 }), parts)
        }

        fn reshape(&mut self, x: ValueId, target: ValueId) -> ValueId {
            self.add(Operator::Reshape(Reshape { dims: None, allow_zero: false }), &[x, target])
        }

        fn infer(mut self, value: ValueId) -> String {
            self.graph.outputs = vec![value];
            infer(&mut self.graph).unwrap_or_else(|error| panic!("{error}"));
            let result = described(&self.graph, value);
            let (nodes, types) = (self.graph.nodes().to_vec(), self.types());
            infer(&mut self.graph).unwrap();
            assert!(nodes.iter().zip(self.graph.nodes()).all(|(a, b)| a.op == b.op && a.inputs == b.inputs));
            assert_eq!(types, self.types(), "a second run changes nothing");
            result
        }

        fn types(&self) -> Vec<crate::ValueType> {
            self.graph.values().iter().map(|value| value.value_type.clone()).collect()
        }
    }

    fn attention_heads() -> String {
        let mut b = Builder::new(&[Data("N T 384")]);
        let x = b.input(0);
        let (batch, time) = (b.dim(x, 0), b.dim(x, -2));
        let (heads, size) = (b.vector(&[12]), b.vector(&[32]));
        let target = b.concat(&[batch, time, heads, size]);
        let split = b.reshape(x, target);
        let turned = b.add(Operator::Transpose(Transpose { permutation: vec![0, 2, 1, 3] }), &[split]);
        let rest = b.vector(&[-1]);
        let target = b.concat(&[batch, heads, rest]);
        let y = b.reshape(turned, target);
        b.infer(y)
    }

    fn expand_with_minus_one() -> String {
        let mut b = Builder::new(&[Data("N 1 4"), Data("N T")]);
        let (x, other) = (b.input(0), b.input(1));
        let time = b.dim(other, 1);
        let keep = b.vector(&[-1]);
        let wanted = b.concat(&[keep, time, keep]);
        let count = b.vector(&[3]);
        let fill = ConstantOfShape { dims: None, element_type: I64, value: 1i64.to_ne_bytes().to_vec() };
        let ones = b.add(Operator::ConstantOfShape(fill), &[count]);
        let unset = b.scalar(-1);
        let is_unset = b.add(Operator::Comparison { function: Comparison::Equal }, &[wanted, unset]);
        let target = b.add(Operator::Where, &[is_unset, ones, wanted]);
        let y = b.add(Operator::Expand(Expand { dims: None }), &[x, target]);
        b.infer(y)
    }

    fn causal_range() -> String {
        let mut b = Builder::new(&[Typed(I64, "N T"), Data("N H P 64")]);
        let (ids, past) = (b.input(0), b.input(1));
        let index = [b.scalar(1), b.scalar(2)];
        let shapes = [b.shape_of(ids), b.shape_of(past)];
        let gather =
            |b: &mut Builder, i: usize| b.add(Operator::Gather(Gather { axis: 0 }), &[shapes[i], index[i]]);
        let (time, past) = (gather(&mut b, 0), gather(&mut b, 1));
        let total = b.binary(Binary::Add, time, past);
        let one = b.scalar(1);
        let y = b.add(Operator::Range(Range { element_type: I64, bounds: None }), &[past, total, one]);
        b.infer(y)
    }

    fn scaled_by_floats() -> String {
        let mut b = Builder::new(&[Data("1 3 H W"), Floats(&[1.5])]);
        let (x, factor) = (b.input(0), b.input(1));
        let (start, end) = (b.vector(&[2]), b.vector(&[4]));
        let shape = b.shape_of(x);
        let size = b.add(Operator::Slice(Slice { ranges: None }), &[shape, start, end]);
        let real = b.add(Operator::Cast(Cast { to: ElementType::F32 }), &[size]);
        let scaled = b.binary(Binary::Mul, real, factor);
        let floor = b.add(Operator::Unary { function: Unary::Floor }, &[scaled]);
        let size = b.add(Operator::Cast(Cast { to: I64 }), &[floor]);
        let front = b.vector(&[0]);
        let two = b.vector(&[2]);
        let front = b.add(Operator::Slice(Slice { ranges: None }), &[shape, front, two]);
        let sizes = b.concat(&[front, size]);
        let op = Operator::Resize(Resize {
            axes: None,
            mode: ResizeMode::Linear,
            coordinates: CoordinateMode::Asymmetric,
            exclude_outside: false,
            extrapolation_value: 0.0,
            antialias: false,
            keep_aspect_ratio: 0,
        });
        let y = add(&mut b.graph, op, vec![Some(x), None, None, Some(sizes)], 1)[0];
        b.infer(y)
    }

    fn split_shape_and_product() -> String {
        let mut b = Builder::new(&[Data("N C H W")]);
        let x = b.input(0);
        let shape = b.shape_of(x);
        let split = Operator::Split(Split { axis: 0, sizes: None });
        let halves = add(&mut b.graph, split, vec![Some(shape)], 2);
        let reduce =
            Reduce { reduction: Reduction::Prod, axes: None, keep_dims: true, noop_with_empty_axes: false };
        let pixels = b.add(Operator::Reduce(reduce), &[halves[1]]);
        let target = b.concat(&[halves[0], pixels]);
        let y = b.reshape(x, target);
        b.infer(y)
    }

    #[test]
    fn shapes_are_followed_through_computations() {
        let cases: [(&str, fn() -> String, &str); 5] = [
            ("heads of attention", attention_heads, "F32 [N, 12, 32*T]"),
            ("expansion where -1 keeps", expand_with_minus_one, "F32 [N, T, 4]"),
            ("positions behind a cache", causal_range, "I64 [T]"),
            (
                "sizes scaled as floats",
                scaled_by_floats,
                "F32 [1, 3, floor((3*H) / (2)), floor((3*W) / (2))]",
            ),
            ("split shapes", split_shape_and_product, "F32 [N, C, H*W]"),
        ];
        each_case(cases.map(|(name, run, expected)| (name, (run(), expected))), |(_, (found, expected))| {
            if found == expected { Ok(()) } else { Err(found.clone()) }
        });
    }

    /// One Identity whose output is declared.
    fn declared(shape: &str, element_type: ElementType) -> Result<String> {
        let (mut graph, inputs) = graph(&[Data("N 3")]);
        let y = graph.add_tensor("y", element_type, Some(TensorShape::new(dims(shape))));
        graph.add_node(Node { name: "n".into(), op: Operator::Identity, inputs, outputs: vec![Some(y)] });
        infer(&mut graph)?;
        Ok(described(&graph, y))
    }

    #[test]
    fn declarations_are_hints() {
        assert_eq!(declared("7 K", ElementType::F32).unwrap(), "F32 [N, 3]");
        for (shape, element_type) in [("N 4", ElementType::F32), ("N", ElementType::F32), ("N 3", I64)] {
            let error = declared(shape, element_type).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Model);
            assert!(
                error.message().contains("Identity \"n\"") && error.message().contains("\"y\""),
                "{error}"
            );
        }
    }

    #[test]
    fn declarations_fill_in_what_depends_on_data() {
        let (mut graph, inputs) = graph(&[Data("N 3")]);
        let y = graph.add_tensor("y", I64, Some(TensorShape::new(vec![2i64.into(), Expr::symbol("found")])));
        graph.add_node(Node { name: "n".into(), op: Operator::NonZero, inputs, outputs: vec![Some(y)] });
        infer(&mut graph).unwrap();
        assert_eq!(described(&graph, y), "I64 [2, found]");
    }

    #[test]
    fn damaged_graphs_are_errors() {
        let (mut unknown_id, _) = graph(&[Data("3")]);
        add(&mut unknown_id, Operator::Identity, vec![Some(ValueId::from_index(1000))], 1);
        let (mut nobody, _) = graph(&[Data("3")]);
        let lost = nobody.add_tensor("lost", ElementType::F32, Some(TensorShape::fixed(&[3])));
        add(&mut nobody, Operator::Identity, vec![Some(lost)], 1);
        let (mut cycle, _) = graph(&[Scalar(1), Vector(&[1])]);
        let y = cycle.add_unknown("y");
        cycle.add_node(Node {
            name: "n".into(),
            op: Operator::Identity,
            inputs: vec![Some(y)],
            outputs: vec![Some(y)],
        });
        for mut graph in [unknown_id, nobody, cycle] {
            assert_eq!(infer(&mut graph).unwrap_err().kind(), ErrorKind::Model);
        }
    }
}
