//! Element types that kernels do not know become ones that they do.
//!
//! Half-precision tensors are computed in `f32`, and quantized ones whose operator has no integer kernel in reals; casts are put
//! around such nodes, and pairs of casts that cancel are left out: between two promoted nodes values stay in
//! `f32`, which is more exact than the model asked for.

use std::collections::HashMap;

use optimium_device::Precision;
use optimium_graph::ops::{Binary, Cast, DequantizeLinear, QuantizeLinear};
use optimium_graph::{Graph, Node, Operator, Value, ValueId, ValueType};
use optimium_kernels::Packing;
use optimium_simd::Level;
use optimium_tensor::{ElementType, Result};

use crate::decompose::decompose;
use crate::lower::{Chooser, NodeView, is_supported_quantized};

/// The graph with conversions where kernels need them.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model) where the nodes form a cycle; others as [`decompose`].
pub(crate) fn promote(graph: &Graph) -> Result<Graph> {
    let graph = &decompose(graph)?;
    let mut promoted = Promotion { graph: graph.clone(), reals: HashMap::new(), nodes: Vec::new() };
    for node in graph.nodes() {
        promoted.node(node.clone());
    }
    let Promotion { mut graph, nodes, .. } = promoted;
    *graph.nodes_mut() = nodes;
    drop_unread_conversions(&mut graph);
    graph.sort()?;
    Ok(graph)
}

struct Promotion {
    graph: Graph,
    /// For a half-precision or quantized value the same in `f32`.
    reals: HashMap<ValueId, ValueId>,
    nodes: Vec<Node>,
}

/// How a type is brought to `f32` and back.
#[derive(Clone, Copy, PartialEq)]
enum Conversion {
    Cast,
    Quantization,
}

impl Promotion {
    fn node(&mut self, node: Node) {
        if let Some(node) = self.match_exponent(&node) {
            return self.nodes.push(node);
        }
        let (packing, chooser) = (Packing::default(), Chooser::default());
        let view = NodeView {
            graph: &self.graph,
            node: &node,
            level: Level::Portable,
            precision: Precision::F32,
            packing: &packing,
            chooser: &chooser,
        };
        let needs_reals =
            if view.is_quantized() { !is_supported_quantized(&view) } else { self.computes_in_halves(&node) };
        if needs_reals { self.in_reals(node) } else { self.nodes.push(node) }
    }

    /// Whether the node does arithmetic on half-precision numbers that its kernel does not know.
    fn computes_in_halves(&self, node: &Node) -> bool {
        use Operator::*;
        let moves = matches!(
            node.op,
            Identity
                | Reshape(_)
                | Flatten(_)
                | Squeeze(_)
                | Unsqueeze(_)
                | Transpose(_)
                | Expand(_)
                | Tile(_)
                | Pad(_)
                | Concat(_)
                | Split(_)
                | Slice(_)
                | Gather(_)
                | GatherElements(_)
                | GatherNd(_)
                | Where
                | Cast(_)
                | BitCast { .. }
                | CastLike(_)
                | Shape(_)
                | Size
                | ConstantOfShape(_)
                | DepthToSpace(_)
                | SpaceToDepth(_)
                | OneHot(_)
                | Trilu(_)
                | ReverseSequence(_)
                | CompressedMatMul(_)
                | CompressedGather(_)
                | If(_)
                | Loop(_)
                | Scan(_)
                | Deferred(_)
        );
        let half = |id: &ValueId| matches!(self.type_of(*id), Some(ElementType::F16 | ElementType::BF16));
        !moves && node.inputs.iter().chain(&node.outputs).flatten().any(half)
    }

    fn type_of(&self, id: ValueId) -> Option<ElementType> {
        self.graph.value(id).element_type()
    }

    fn conversion(&self, id: ValueId) -> Option<Conversion> {
        match self.type_of(id)? {
            ElementType::F16 | ElementType::BF16 => Some(Conversion::Cast),
            quantized if quantized.is_quantized() => Some(Conversion::Quantization),
            _ => None,
        }
    }

    /// Computes the node in `f32`, with conversions before and behind it.
    fn in_reals(&mut self, mut node: Node) {
        for input in node.inputs.iter_mut().flatten() {
            if let Some(conversion) = self.conversion(*input) {
                *input = self.as_reals(*input, conversion);
            }
        }
        let mut behind = Vec::new();
        for output in node.outputs.iter_mut().flatten() {
            let Some(conversion) = self.conversion(*output) else { continue };
            let real = self.real_twin(*output);
            behind.push(self.converter(real, *output, conversion, false));
            // Readers of half-precision results take the exact ones; quantized results mean their rounding.
            if conversion == Conversion::Cast {
                self.reals.insert(*output, real);
            }
            *output = real;
        }
        if let Operator::Range(range) = &mut node.op {
            range.element_type = ElementType::F32;
        }
        self.nodes.push(node);
        self.nodes.extend(behind);
    }

    /// The value that stands for `id` in `f32`, computed once.
    fn as_reals(&mut self, id: ValueId, conversion: Conversion) -> ValueId {
        if let Some(&real) = self.reals.get(&id) {
            return real;
        }
        let real = self.real_twin(id);
        let node = self.converter(id, real, conversion, true);
        self.nodes.push(node);
        self.reals.insert(id, real);
        real
    }

    fn real_twin(&mut self, id: ValueId) -> ValueId {
        let Value { name, value_type, .. } = self.graph.value(id);
        let shape = if let ValueType::Tensor { shape, .. } = value_type { shape.clone() } else { None };
        let name = format!("{name}.f32_{}", self.graph.values().len());
        self.graph.add_tensor(name, ElementType::F32, shape)
    }

    fn converter(&self, from: ValueId, to: ValueId, conversion: Conversion, to_reals: bool) -> Node {
        let axis = 1;
        let element_type = self.type_of(to).unwrap_or(ElementType::F32);
        let op = match (conversion, to_reals) {
            (Conversion::Cast, _) => Operator::Cast(Cast { to: element_type }),
            (Conversion::Quantization, true) => {
                Operator::DequantizeLinear(DequantizeLinear { axis, block_size: 0 })
            }
            (Conversion::Quantization, false) => Operator::QuantizeLinear(QuantizeLinear {
                axis,
                block_size: 0,
                output_type: Some(element_type),
            }),
        };
        let name = format!("{}.convert", self.graph.value(to).name);
        Node { name, op, inputs: vec![Some(from)], outputs: vec![Some(to)] }
    }

    /// Pow whose exponent has another type: the exponent is cast.
    fn match_exponent(&mut self, node: &Node) -> Option<Node> {
        if !matches!(node.op, Operator::Binary { function: Binary::Pow }) {
            return None;
        }
        let (base, exponent) = (node.input(0)?, node.input(1)?);
        let wanted = self.type_of(base)?;
        if self.type_of(exponent)? == wanted || self.conversion(base).is_some() {
            return None;
        }
        let shape = self.graph.value(exponent).shape().cloned();
        let name = format!("{}.exponent", node.name);
        let cast = self.graph.add_tensor(name.clone(), wanted, shape);
        let op = Operator::Cast(Cast { to: wanted });
        self.nodes.push(Node { name, op, inputs: vec![Some(exponent)], outputs: vec![Some(cast)] });
        Some(Node { inputs: vec![Some(base), Some(cast)], ..node.clone() })
    }
}

/// Takes away conversions whose results nobody reads.
fn drop_unread_conversions(graph: &mut Graph) {
    let uses = graph.use_counts();
    graph.nodes_mut().retain(|node| {
        let converts = node.name.ends_with(".convert");
        !converts || node.outputs.iter().flatten().any(|output| uses[output.index()] > 0)
    });
}
