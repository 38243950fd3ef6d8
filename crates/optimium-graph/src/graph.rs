//! Values, nodes, and the graph that holds them.

use std::sync::Arc;

use optimium_tensor::{ElementType, Error, QuantScheme, Result, Tensor, TensorShape};

use crate::{Operator, Origins};

/// A value of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(u32);

/// A node of one graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(u32);

impl ValueId {
    /// Its place among the graph's values.
    pub fn index(self) -> usize {
        self.0 as usize
    }
    /// The value at that place.
    pub fn from_index(index: usize) -> ValueId {
        ValueId(index as u32)
    }
}

impl NodeId {
    /// Its place among the graph's nodes.
    pub fn index(self) -> usize {
        self.0 as usize
    }
    /// The node at that place.
    pub fn from_index(index: usize) -> NodeId {
        NodeId(index as u32)
    }
}

/// What kind of thing a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum ValueType {
    /// A tensor. `shape` is `None` only before shape inference.
    Tensor {
        /// The type of its elements.
        element_type: ElementType,
        /// Its dimensions.
        shape: Option<TensorShape>,
    },
    /// A sequence of values of one type.
    Sequence(Box<ValueType>),
    /// A value that may be absent.
    Optional(Box<ValueType>),
    /// Not known yet: before shape inference only.
    Unknown,
}

impl ValueType {
    /// The element type, for a tensor.
    pub fn element_type(&self) -> Option<ElementType> {
        match self {
            ValueType::Tensor { element_type, .. } => Some(*element_type),
            _ => None,
        }
    }
}

/// A tensor that flows through the graph, or a constant.
#[derive(Clone, Debug)]
pub struct Value {
    /// Its name, unique in the graph.
    pub name: String,
    /// Its type.
    pub value_type: ValueType,
    /// How its integers stand for reals, for quantized element types.
    pub scheme: Option<Arc<QuantScheme>>,
    /// Its content, for a constant.
    pub constant: Option<Tensor>,
}

impl Value {
    /// The element type, for a tensor.
    pub fn element_type(&self) -> Option<ElementType> {
        self.value_type.element_type()
    }

    /// The shape, for a tensor whose shape is known.
    pub fn shape(&self) -> Option<&TensorShape> {
        match &self.value_type {
            ValueType::Tensor { shape, .. } => shape.as_ref(),
            _ => None,
        }
    }
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name, unique in the graph.
    pub name: String,
    /// What it does.
    pub op: Operator,
    /// Its operands, in the order that the operator documents; `None` for one that is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Its results; `None` for one that nobody wants.
    pub outputs: Vec<Option<ValueId>>,
}

impl Node {
    /// Input `index`, where it is there.
    pub fn input(&self, index: usize) -> Option<ValueId> {
        self.inputs.get(index).copied().flatten()
    }

    /// Output `index`, where it is wanted.
    pub fn output(&self, index: usize) -> Option<ValueId> {
        self.outputs.get(index).copied().flatten()
    }
}

/// A computation: nodes over values.
///
/// Nodes may stand in any order while a graph is built; [`sort`](Graph::sort) puts producers before
/// consumers, and every stage after import relies on that order.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// The model's name.
    pub name: String,
    values: Vec<Value>,
    nodes: Vec<Node>,
    /// The values that the caller gives, in order.
    pub inputs: Vec<ValueId>,
    /// The values that the caller gets, in order.
    pub outputs: Vec<ValueId>,
    /// What became of the model's tensors when the graph was simplified.
    pub origins: Origins,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// Adds a value.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        self.values.push(value);
        ValueId::from_index(self.values.len() - 1)
    }

    /// Adds a tensor that a node computes or the caller gives.
    pub fn add_tensor(
        &mut self,
        name: impl Into<String>,
        element_type: ElementType,
        shape: Option<TensorShape>,
    ) -> ValueId {
        let value_type = ValueType::Tensor { element_type, shape };
        self.add_value(Value { name: name.into(), value_type, scheme: None, constant: None })
    }

    /// Adds a value about which nothing is known yet.
    pub fn add_unknown(&mut self, name: impl Into<String>) -> ValueId {
        self.add_value(Value {
            name: name.into(),
            value_type: ValueType::Unknown,
            scheme: None,
            constant: None,
        })
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, tensor: Tensor) -> ValueId {
        let value_type =
            ValueType::Tensor { element_type: tensor.element_type(), shape: Some(tensor.shape()) };
        let scheme = tensor.scheme().cloned();
        self.add_value(Value { name: name.into(), value_type, scheme, constant: Some(tensor) })
    }

    /// Adds a node.
    pub fn add_node(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        NodeId::from_index(self.nodes.len() - 1)
    }

    /// All values.
    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes, to be changed.
    pub fn nodes_mut(&mut self) -> &mut Vec<Node> {
        &mut self.nodes
    }

    /// One value.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// One value, to be changed.
    pub fn value_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.index()]
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The content of a constant.
    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self.value(id).constant.as_ref()
    }

    /// The value of that name.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|value| value.name == name).map(ValueId::from_index)
    }

    /// For every value the node that computes it.
    pub fn producers(&self) -> Vec<Option<NodeId>> {
        let mut producers = vec![None; self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for output in node.outputs.iter().flatten() {
                producers[output.index()] = Some(NodeId::from_index(index));
            }
        }
        producers
    }

    /// For every value how often nodes read it, and the caller.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.values.len()];
        let read = self.nodes.iter().flat_map(|node| node.inputs.iter().flatten());
        for value in read.chain(&self.outputs) {
            counts[value.index()] += 1;
        }
        counts
    }

    /// Puts every node behind those that it depends on, keeping the given order where it can.
    ///
    /// # Errors
    /// [`Model`](optimium_tensor::ErrorKind::Model) where a value has two producers or the nodes form a cycle.
    pub fn sort(&mut self) -> Result<()> {
        let mut producer = vec![None; self.values.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for output in node.outputs.iter().flatten() {
                if producer[output.index()].replace(index).is_some() {
                    let name = &self.values[output.index()].name;
                    return Err(Error::model(format!("the tensor {name:?} is computed by two nodes")));
                }
            }
        }
        let mut waiting: Vec<usize> = vec![0; self.nodes.len()];
        let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            for from in node.inputs.iter().flatten().filter_map(|input| producer[input.index()]) {
                waiting[index] += 1;
                consumers[from].push(index);
            }
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..self.nodes.len()).filter(|&i| waiting[i] == 0).collect();
        let mut order = Vec::with_capacity(self.nodes.len());
        while let Some(index) = ready.pop_first() {
            order.push(index);
            for &consumer in &consumers[index] {
                waiting[consumer] -= 1;
                if waiting[consumer] == 0 {
                    ready.insert(consumer);
                }
            }
        }
        if order.len() != self.nodes.len() {
            let stuck =
                (0..self.nodes.len()).find(|&i| waiting[i] > 0).map_or("", |i| self.nodes[i].name.as_str());
            return Err(Error::model(format!("the graph has a cycle through the node {stuck:?}")));
        }
        let mut nodes: Vec<Option<Node>> = self.nodes.drain(..).map(Some).collect();
        self.nodes = order.into_iter().filter_map(|index| nodes[index].take()).collect();
        Ok(())
    }

    /// Drops the values that no node and no caller names, and renumbers the rest.
    pub fn drop_unused_values(&mut self) {
        let mut used = vec![false; self.values.len()];
        let named = self.nodes.iter().flat_map(|node| node.inputs.iter().chain(&node.outputs).flatten());
        for value in named.chain(&self.inputs).chain(&self.outputs) {
            used[value.index()] = true;
        }
        let mut new_index = vec![None; self.values.len()];
        let mut kept = Vec::new();
        for (index, value) in self.values.drain(..).enumerate() {
            if used[index] {
                new_index[index] = Some(ValueId::from_index(kept.len()));
                kept.push(value);
            }
        }
        self.values = kept;
        for id in self.nodes.iter_mut().flat_map(|node| node.inputs.iter_mut().chain(&mut node.outputs)) {
            *id = id.and_then(|id| new_index[id.index()]);
        }
        for id in self.inputs.iter_mut().chain(&mut self.outputs) {
            *id = new_index[id.index()].unwrap_or(*id);
        }
    }
}
