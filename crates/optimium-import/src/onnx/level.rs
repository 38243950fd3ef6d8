//! A graph under construction: the main graph, or the body of a control-flow operator in it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use optimium_graph::ops::{Operator, Unary};
use optimium_graph::{Graph, Node, ValueId, shapes};
use optimium_tensor::{ElementType, Expr, Tensor, TensorShape};

use super::attributes::FunctionAttributes;
use crate::names::Names;

/// Versions of operator sets by domain.
pub(super) type Opsets<'m> = Rc<HashMap<&'m str, i64>>;

/// The names that nodes can use: those of a graph, or of a function that is being inlined into it.
#[derive(Default)]
pub(super) struct Scope<'m> {
    /// Values by name.
    pub(super) values: HashMap<String, ValueId>,
    /// The operator sets that nodes are written in.
    pub(super) opsets: Opsets<'m>,
    /// What the function's caller gave; empty outside of functions.
    pub(super) attributes: Rc<FunctionAttributes<'m>>,
    /// In front of the names of nodes and values.
    pub(super) prefix: String,
}

/// A value of a graph around, read by a body.
#[derive(Clone, Copy)]
pub(super) struct Capture {
    /// The value, in the graph around.
    pub(super) outer: ValueId,
    /// The body's input for it.
    pub(super) inner: ValueId,
}

/// What a value that is no tensor stands for. The importer follows these values; the graph has none.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Structure {
    /// A sequence of tensors.
    Sequence(Vec<ValueId>),
    /// An optional without a value. One with a value stands for that.
    Absent,
}

/// How many tensors an output of a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// A tensor.
    Tensor,
    /// A sequence of so many.
    Sequence(usize),
    /// An optional without a value.
    Absent,
}

/// A graph that was read, with a tensor for each one in its outputs.
pub(super) struct Body {
    pub(super) graph: Graph,
    /// What it reads of the graph around; not yet among its inputs.
    pub(super) captures: Vec<Capture>,
    /// What its outputs are in the model.
    pub(super) outputs: Vec<Layout>,
}

impl Body {
    /// The graph and its captures, where all outputs are tensors.
    pub(super) fn of_tensors(self) -> Option<(Graph, Vec<Capture>)> {
        let all = self.outputs.iter().all(|&layout| layout == Layout::Tensor);
        all.then_some((self.graph, self.captures))
    }
}

/// A graph under construction.
#[derive(Default)]
pub(super) struct Level<'m> {
    pub(super) graph: Graph,
    /// The graph's own names, then those of the functions being inlined.
    pub(super) scopes: Vec<Scope<'m>>,
    pub(super) captures: Vec<Capture>,
    pub(super) value_names: Names,
    pub(super) node_names: Names,
    /// Symbols of the dimensions of the graph's inputs.
    pub(super) symbols: HashSet<String>,
    /// What values that are no tensors stand for.
    pub(super) structures: HashMap<ValueId, Structure>,
    ranks: HashMap<ValueId, usize>,
    producers: HashMap<ValueId, (usize, usize)>,
}

/// How far types are followed back.
const STEPS: usize = 10_000;

impl<'m> Level<'m> {
    /// An empty graph.
    pub(super) fn new(name: &str, scope: Scope<'m>) -> Level<'m> {
        Level { graph: Graph::new(name), scopes: vec![scope], ..Level::default() }
    }

    /// The names in force.
    pub(super) fn scope(&self) -> &Scope<'m> {
        self.scopes.last().expect("a level keeps its first scope until it is done")
    }

    /// As [`scope`](Level::scope), to be changed.
    pub(super) fn scope_mut(&mut self) -> &mut Scope<'m> {
        self.scopes.last_mut().expect("a level keeps its first scope until it is done")
    }

    /// Adds a value that has no name in the model.
    pub(super) fn add_intermediate(&mut self, name: &str) -> ValueId {
        let name = self.value_names.unique(name);
        self.graph.add_unknown(name)
    }

    /// Adds a constant that has no name in the model.
    pub(super) fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let name = self.value_names.unique(name);
        self.graph.add_constant(name, tensor)
    }

    /// Adds a node.
    pub(super) fn add_node(&mut self, node: Node) {
        let index = self.graph.nodes().len();
        for (output, id) in node.outputs.iter().enumerate() {
            if let Some(id) = id {
                self.producers.insert(*id, (index, output));
            }
        }
        self.graph.add_node(node);
    }

    /// The content of a constant, or of a copy of one.
    pub(super) fn known(&self, mut value: ValueId) -> Option<&Tensor> {
        for _ in 0..STEPS {
            if let Some(constant) = self.graph.constant(value) {
                return Some(constant);
            }
            let &(node, _) = self.producers.get(&value)?;
            let node = &self.graph.nodes()[node];
            value = node.input(0).filter(|_| node.op == Operator::Identity)?;
        }
        None
    }

    /// What a condition is, where it is a constant, a copy of one, or the opposite of one.
    pub(super) fn truth(&self, mut condition: ValueId) -> Option<bool> {
        let mut is_opposite = false;
        for _ in 0..STEPS {
            if let Some(constant) = self.graph.constant(condition) {
                let bytes = constant.read_bytes().ok()?;
                return Some((*bytes.first()? != 0) != is_opposite);
            }
            let &(node, _) = self.producers.get(&condition)?;
            let node = &self.graph.nodes()[node];
            is_opposite ^= match node.op {
                Operator::Identity => false,
                Operator::Unary { function: Unary::Not } => true,
                _ => return None,
            };
            condition = node.input(0)?;
        }
        None
    }

    /// The dimensions that follow from the nodes so far, those that are numbers.
    pub(super) fn inferred_dims(&self, value: ValueId) -> Option<Vec<Option<i64>>> {
        let numbers = |shape: &TensorShape| shape.dims().iter().map(Expr::as_const).collect::<Vec<_>>();
        if let Some(declared) = self.graph.value(value).shape().map(numbers)
            && declared.iter().all(Option::is_some)
        {
            return Some(declared);
        }
        let mut graph = self.graph.clone();
        graph.outputs.clear();
        graph.inputs.extend(self.captures.iter().map(|capture| capture.inner));
        shapes::infer_now(&mut graph).ok()?;
        graph.value(value).shape().map(numbers)
    }

    /// What each output is; in its place come the tensors that it stands for.
    pub(super) fn expand_outputs(&mut self) -> Vec<Layout> {
        let mut layouts = Vec::with_capacity(self.graph.outputs.len());
        let mut tensors = Vec::new();
        for output in std::mem::take(&mut self.graph.outputs) {
            layouts.push(match self.structures.get(&output) {
                None => {
                    tensors.push(output);
                    Layout::Tensor
                }
                Some(Structure::Absent) => Layout::Absent,
                Some(Structure::Sequence(values)) => {
                    tensors.extend(values);
                    Layout::Sequence(values.len())
                }
            });
        }
        self.graph.outputs = tensors;
        layouts
    }

    /// Gives the tensors of outputs that are sequences names of their own, the sequence's with their positions.
    pub(super) fn name_outputs(&mut self) {
        for output in self.graph.outputs.clone() {
            let Some(Structure::Sequence(values)) = self.structures.get(&output).cloned() else { continue };
            let name = self.graph.value(output).name.clone();
            let named = |(index, value): (usize, ValueId)| {
                let name = format!("{name}.{index}");
                let copy = self.add_intermediate(&name);
                let name = self.node_names.unique(&name);
                let (inputs, outputs) = (vec![Some(value)], vec![Some(copy)]);
                self.add_node(Node { name, op: Operator::Identity, inputs, outputs });
                copy
            };
            let values = values.into_iter().enumerate().map(named).collect();
            self.structures.insert(output, Structure::Sequence(values));
        }
    }

    /// Remembers the number of dimensions that the model declares, where the dimensions themselves are dropped.
    pub(super) fn declare_rank(&mut self, value: ValueId, rank: usize) {
        self.ranks.insert(value, rank);
    }

    /// The element type, where the model declares it or the nodes before tell.
    pub(super) fn element_type(&self, mut value: ValueId) -> Option<ElementType> {
        for _ in 0..STEPS {
            if let Some(known) = self.graph.value(value).element_type() {
                return Some(known);
            }
            let &(node, output) = self.producers.get(&value)?;
            let node = &self.graph.nodes()[node];
            match result_type(&node.op, output) {
                ResultType::Fixed(element_type) => return Some(element_type),
                ResultType::OfInput(index) => value = node.input(index)?,
                ResultType::Unknown => return None,
            }
        }
        None
    }

    /// The number of dimensions, where the model declares it or the nodes before tell.
    pub(super) fn rank(&self, mut value: ValueId) -> Option<usize> {
        for _ in 0..STEPS {
            if let Some(shape) = self.graph.value(value).shape() {
                return Some(shape.rank());
            }
            if let Some(&rank) = self.ranks.get(&value) {
                return Some(rank);
            }
            let &(node, _) = self.producers.get(&value)?;
            let node = &self.graph.nodes()[node];
            match &node.op {
                Operator::Transpose(transpose) => return Some(transpose.permutation.len()),
                Operator::Conv(conv) => return Some(conv.strides.len() + 2),
                Operator::ConvTranspose(conv) => return Some(conv.strides.len() + 2),
                Operator::MaxPool(pool) => return Some(pool.window.kernel.len() + 2),
                Operator::AveragePool(pool) => return Some(pool.window.kernel.len() + 2),
                Operator::Flatten(_) | Operator::Gemm(_) => return Some(2),
                Operator::Shape(_) | Operator::Range(_) => return Some(1),
                Operator::Reshape(_) => {
                    let shape = self.graph.value(node.input(1)?).shape()?.as_fixed()?;
                    return shape.first().copied();
                }
                op if keeps_rank(op) => value = node.input(0)?,
                _ => return None,
            }
        }
        None
    }
}

fn keeps_rank(op: &Operator) -> bool {
    use Operator::*;
    matches!(
        op,
        Unary { .. }
            | Activation { .. }
            | Clip
            | Cast(_)
            | NarrowCast(_)
            | CastLike(_)
            | Identity
            | Dropout
            | Softmax(_)
            | LayerNormalization(_)
            | RmsNormalization(_)
            | BatchNormalization(_)
            | InstanceNormalization(_)
            | GroupNormalization(_)
            | GlobalPool(_)
            | Resize(_)
            | Pad(_)
            | Concat(_)
            | Split(_)
            | Slice(_)
            | CumSum(_)
            | QuantizeLinear(_)
            | DequantizeLinear(_)
    )
}

enum ResultType {
    Fixed(ElementType),
    OfInput(usize),
    Unknown,
}

/// Where the element type of an operator's output comes from.
fn result_type(op: &Operator, output: usize) -> ResultType {
    use ResultType::*;
    match op {
        Operator::Unary { function } => match function.name() {
            "IsNaN" | "IsInf" => Fixed(ElementType::Bool),
            _ => OfInput(0),
        },
        Operator::Comparison { .. } => Fixed(ElementType::Bool),
        Operator::Where => OfInput(1),
        Operator::Cast(cast) => Fixed(cast.to),
        Operator::NarrowCast(cast) => Fixed(cast.to),
        Operator::BitCast { to } => Fixed(*to),
        Operator::CastLike(_) => OfInput(1),
        Operator::Range(range) => Fixed(range.element_type),
        Operator::ConstantOfShape(constant) => Fixed(constant.element_type),
        Operator::Random(random) => Fixed(random.element_type),
        Operator::OneHot(_) => OfInput(2),
        Operator::Shape(_)
        | Operator::Size
        | Operator::NonZero
        | Operator::NonMaxSuppression(_)
        | Operator::ArgReduce(_) => Fixed(ElementType::I64),
        Operator::Unique(_) if output > 0 => Fixed(ElementType::I64),
        Operator::ConvInteger(_) | Operator::MatMulInteger(_) => Fixed(ElementType::I32),
        Operator::TopK(_) | Operator::MaxPool(_) if output == 1 => Fixed(ElementType::I64),
        Operator::Dropout if output == 1 => Fixed(ElementType::Bool),
        Operator::DequantizeLinear(_) => OfInput(1),
        Operator::QuantizeLinear(quantize) => match quantize.output_type {
            Some(element_type) => Fixed(element_type),
            None => OfInput(2),
        },
        Operator::DynamicQuantizeLinear => {
            Fixed(if output == 1 { ElementType::F32 } else { ElementType::U8 })
        }
        Operator::DynamicQuantizedMatMul(_)
        | Operator::CompressedMatMul(_)
        | Operator::CompressedGather(_) => Fixed(ElementType::F32),
        Operator::Attention(_) if output == 1 => OfInput(1),
        Operator::Attention(_) if output == 2 => OfInput(2),
        Operator::If(_) | Operator::Loop(_) | Operator::Scan(_) | Operator::Deferred(_) => Unknown,
        _ => OfInput(0),
    }
}
