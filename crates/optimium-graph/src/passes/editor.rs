//! Looking at a graph and changing it: the tool that every pass works with.
//!
//! Who computes and who reads a value stays known through every change, and nodes whose results nobody reads any
//! more disappear at once, so that "read once" always means what it says. Identifiers stay valid as long as an editor
//! lives; [`finish`](Editor::finish) closes the gaps.

use std::collections::HashSet;

use optimium_tensor::{ElementType, Expr, Result, Tensor, TensorShape};

use super::Evaluate;
use crate::{Graph, Node, NodeId, Operator, Origin, Value, ValueId, ValueType};

/// A graph that is being changed.
pub(super) struct Editor<'a> {
    graph: &'a mut Graph,
    evaluator: &'a dyn Evaluate,
    producers: Vec<Option<NodeId>>,
    consumers: Vec<Vec<NodeId>>,
    outputs: Vec<bool>,
    alive: Vec<bool>,
    /// Where a node belongs among the others; new ones share the place of the node that they were made for.
    positions: Vec<usize>,
    names: HashSet<String>,
}

impl<'a> Editor<'a> {
    pub(super) fn new(graph: &'a mut Graph, evaluator: &'a dyn Evaluate) -> Editor<'a> {
        let mut consumers = vec![Vec::new(); graph.values().len()];
        for (index, node) in graph.nodes().iter().enumerate() {
            for input in node.inputs.iter().flatten() {
                consumers[input.index()].push(NodeId::from_index(index));
            }
        }
        let mut outputs = vec![false; graph.values().len()];
        for output in &graph.outputs {
            outputs[output.index()] = true;
        }
        let value_names = graph.values().iter().map(|value| value.name.clone());
        let names = value_names.chain(graph.nodes().iter().map(|node| node.name.clone())).collect();
        Editor {
            producers: graph.producers(),
            consumers,
            outputs,
            alive: vec![true; graph.nodes().len()],
            positions: (0..graph.nodes().len()).collect(),
            names,
            graph,
            evaluator,
        }
    }

    /// Drops the removed nodes and puts the rest in order.
    pub(super) fn finish(self) -> Result<()> {
        let mut nodes: Vec<Option<Node>> = self.graph.nodes_mut().drain(..).map(Some).collect();
        let mut order: Vec<usize> = (0..nodes.len()).filter(|&index| self.alive[index]).collect();
        order.sort_by_key(|&index| self.positions[index]);
        *self.graph.nodes_mut() = order.into_iter().filter_map(|index| nodes[index].take()).collect();
        self.graph.sort()
    }

    /// Applies `rule` once to every node there is, in order; a rule gives `Some` where it changed something.
    pub(super) fn visit(&mut self, rule: impl Fn(&mut Editor, NodeId) -> Option<()>) -> usize {
        let ids = self.nodes();
        ids.into_iter().filter(|&id| self.is_alive(id) && rule(self, id).is_some()).count()
    }

    pub(super) fn graph(&self) -> &Graph {
        self.graph
    }

    pub(super) fn evaluator(&self) -> &'a dyn Evaluate {
        self.evaluator
    }

    /// The nodes that are not removed, in order.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        (0..self.alive.len()).filter(|&index| self.alive[index]).map(NodeId::from_index).collect()
    }

    pub(super) fn is_alive(&self, node: NodeId) -> bool {
        self.alive[node.index()]
    }

    pub(super) fn node(&self, node: NodeId) -> &Node {
        self.graph.node(node)
    }

    pub(super) fn op(&self, node: NodeId) -> &Operator {
        &self.graph.node(node).op
    }

    pub(super) fn input(&self, node: NodeId, index: usize) -> Option<ValueId> {
        self.graph.node(node).input(index)
    }

    /// The only output of a node; `None` for a node with several that somebody wants.
    pub(super) fn output(&self, node: NodeId) -> Option<ValueId> {
        let node = self.graph.node(node);
        let others = node.outputs.iter().skip(1).flatten();
        if others.into_iter().any(|&other| self.is_read(other)) { None } else { node.output(0) }
    }

    pub(super) fn value(&self, value: ValueId) -> &Value {
        self.graph.value(value)
    }

    pub(super) fn value_mut(&mut self, value: ValueId) -> &mut Value {
        self.graph.value_mut(value)
    }

    pub(super) fn producer(&self, value: ValueId) -> Option<NodeId> {
        self.producers[value.index()]
    }

    /// The nodes that read a value, as often as they do.
    pub(super) fn consumers(&self, value: ValueId) -> &[NodeId] {
        &self.consumers[value.index()]
    }

    pub(super) fn is_output(&self, value: ValueId) -> bool {
        self.outputs[value.index()]
    }

    pub(super) fn is_read(&self, value: ValueId) -> bool {
        self.is_output(value) || !self.consumers(value).is_empty()
    }

    /// The only reader of a value, where there is one and the caller does not get it.
    pub(super) fn sole_consumer(&self, value: ValueId) -> Option<NodeId> {
        match self.consumers(value) {
            [only] if !self.is_output(value) => Some(*only),
            _ => None,
        }
    }

    /// The producer of a value that is read once: what a fusion may take in.
    pub(super) fn inner(&self, value: ValueId) -> Option<NodeId> {
        self.sole_consumer(value)?;
        self.producer(value)
    }

    pub(super) fn dims(&self, value: ValueId) -> Option<&[Expr]> {
        self.value(value).shape().map(TensorShape::dims)
    }

    pub(super) fn rank(&self, value: ValueId) -> Option<usize> {
        self.value(value).shape().map(TensorShape::rank)
    }

    /// The dimensions, where all of them are numbers.
    pub(super) fn fixed(&self, value: ValueId) -> Option<Vec<usize>> {
        self.value(value).shape().and_then(TensorShape::as_fixed)
    }

    /// Whether two values surely have one shape.
    pub(super) fn same_shape(&self, a: ValueId, b: ValueId) -> bool {
        self.dims(a).is_some() && self.dims(a) == self.dims(b)
    }

    pub(super) fn element_type(&self, value: ValueId) -> Option<ElementType> {
        self.value(value).element_type()
    }

    pub(super) fn is_float(&self, value: ValueId) -> bool {
        self.element_type(value).is_some_and(ElementType::is_float)
    }

    pub(super) fn constant(&self, value: ValueId) -> Option<&Tensor> {
        self.graph.constant(value)
    }

    pub(super) fn is_constant(&self, value: ValueId) -> bool {
        self.constant(value).is_some()
    }

    /// The number, for a floating-point constant of one element.
    pub(super) fn scalar_f32(&self, value: ValueId) -> Option<f32> {
        let tensor = self.constant(value).filter(|tensor| tensor.len() == 1)?;
        tensor.to_f32s().ok()?.first().copied()
    }

    /// The numbers of an `F32` constant.
    pub(super) fn f32s(&self, value: ValueId) -> Option<Vec<f32>> {
        let tensor = self.constant(value).filter(|tensor| tensor.element_type() == ElementType::F32)?;
        tensor.to_f32s().ok()
    }

    /// A name nobody has, made of `base`.
    fn fresh_name(&mut self, base: &str) -> String {
        let mut name = base.to_owned();
        for number in 1.. {
            if self.names.insert(name.clone()) {
                break;
            }
            name = format!("{base}.{number}");
        }
        name
    }

    /// Adds a constant, named after `base`.
    pub(super) fn add_constant(&mut self, base: &str, tensor: Tensor) -> ValueId {
        let name = self.fresh_name(base);
        let id = self.graph.add_constant(name, tensor);
        self.register(id)
    }

    /// Adds an `F32` constant, named after `base`; `None` where `values` do not fit `dims`.
    pub(super) fn add_f32s(&mut self, base: &str, dims: &[usize], values: &[f32]) -> Option<ValueId> {
        let tensor = Tensor::from_slice(dims, values).ok()?;
        Some(self.add_constant(base, tensor))
    }

    /// Adds a tensor that a node will compute, named after `base`.
    pub(super) fn add_tensor(
        &mut self,
        base: &str,
        element_type: Option<ElementType>,
        shape: Option<TensorShape>,
    ) -> ValueId {
        let name = self.fresh_name(base);
        let value_type = match element_type {
            Some(element_type) => ValueType::Tensor { element_type, shape },
            None => ValueType::Unknown,
        };
        let id = self.graph.add_value(Value { name, value_type, scheme: None, constant: None });
        self.register(id)
    }

    /// Adds a tensor of the type of `like` in another shape.
    pub(super) fn add_like(&mut self, like: ValueId, shape: Option<TensorShape>) -> ValueId {
        let (base, element_type) = (self.value(like).name.clone(), self.element_type(like));
        let scheme = self.value(like).scheme.clone();
        let id = self.add_tensor(&base, element_type, shape);
        self.value_mut(id).scheme = scheme;
        id
    }

    /// Notes that what `old` was is in `new` from now on, its axes permuted; an empty permutation leaves them.
    pub(super) fn note_move(&mut self, old: ValueId, new: ValueId, permutation: Vec<usize>) {
        let name = self.value(old).name.clone();
        let value = self.value(new).name.clone();
        self.graph.origins.insert(name, Origin::Held { value, permutation });
    }

    fn register(&mut self, id: ValueId) -> ValueId {
        self.producers.push(None);
        self.consumers.push(Vec::new());
        self.outputs.push(false);
        id
    }

    /// Adds a node that computes `output`, at the place of `near`.
    pub(super) fn insert(
        &mut self,
        near: NodeId,
        op: Operator,
        inputs: Vec<Option<ValueId>>,
        output: ValueId,
    ) -> NodeId {
        let name = self.value(output).name.clone();
        let name = self.fresh_name(&name);
        let id = NodeId::from_index(self.alive.len());
        for input in inputs.iter().flatten() {
            self.consumers[input.index()].push(id);
        }
        self.producers[output.index()] = Some(id);
        self.alive.push(true);
        self.positions.push(self.positions[near.index()]);
        self.graph.add_node(Node { name, op, inputs, outputs: vec![Some(output)] })
    }

    /// Adds a node in front of `near` and gives the new value that it computes, of the type of `like`.
    pub(super) fn compute(
        &mut self,
        near: NodeId,
        op: Operator,
        inputs: &[ValueId],
        like: ValueId,
        shape: Option<TensorShape>,
    ) -> ValueId {
        let output = self.add_like(like, shape);
        self.insert(near, op, inputs.iter().copied().map(Some).collect(), output);
        output
    }

    /// Changes the attributes of a node.
    pub(super) fn set_op(&mut self, node: NodeId, op: Operator) {
        self.graph.nodes_mut()[node.index()].op = op;
    }

    /// Lets a node do something else with other inputs; its outputs stay.
    pub(super) fn replace(&mut self, node: NodeId, op: Operator, mut inputs: Vec<Option<ValueId>>) {
        while inputs.last().is_some_and(Option::is_none) {
            inputs.pop();
        }
        for input in inputs.iter().flatten() {
            self.consumers[input.index()].push(node);
        }
        let target = &mut self.graph.nodes_mut()[node.index()];
        target.op = op;
        let old = std::mem::replace(&mut target.inputs, inputs);
        self.release(node, &old);
    }

    /// Gives a node another input, lengthening its list where needed.
    pub(super) fn set_input(&mut self, node: NodeId, index: usize, value: Option<ValueId>) {
        let mut inputs = self.node(node).inputs.clone();
        inputs.resize(inputs.len().max(index + 1), None);
        inputs[index] = value;
        let op = self.op(node).clone();
        self.replace(node, op, inputs);
    }

    /// Lets the value `to` be computed where `from` was, by the same node; `to` must have no producer that lives.
    pub(super) fn move_output(&mut self, node: NodeId, from: ValueId, to: ValueId) {
        for output in self.graph.nodes_mut()[node.index()].outputs.iter_mut() {
            if *output == Some(from) {
                *output = Some(to);
            }
        }
        self.producers[from.index()] = None;
        self.producers[to.index()] = Some(node);
    }

    /// Lets `node` compute `value` as its output `index`; the node that did disappears with all that only it read.
    pub(super) fn adopt_output(&mut self, node: NodeId, index: usize, value: ValueId) {
        if let Some(old) = self.producers[value.index()].replace(node) {
            self.remove(old);
            self.producers[value.index()] = Some(node);
        }
        let outputs = &mut self.graph.nodes_mut()[node.index()].outputs;
        outputs.resize(outputs.len().max(index + 1), None);
        outputs[index] = Some(value);
    }

    /// Lets every node that reads `old` read `new`.
    pub(super) fn redirect(&mut self, old: ValueId, new: ValueId) {
        let readers = std::mem::take(&mut self.consumers[old.index()]);
        for &reader in &readers {
            for input in self.graph.nodes_mut()[reader.index()].inputs.iter_mut() {
                if *input == Some(old) {
                    *input = Some(new);
                }
            }
        }
        self.consumers[new.index()].extend(readers);
    }

    /// Removes a node that nobody reads any more, and then what only it read.
    pub(super) fn remove(&mut self, node: NodeId) {
        if !std::mem::replace(&mut self.alive[node.index()], false) {
            return;
        }
        let (inputs, outputs) = {
            let node = &mut self.graph.nodes_mut()[node.index()];
            (std::mem::take(&mut node.inputs), node.outputs.clone())
        };
        for output in outputs.iter().flatten() {
            if self.producers[output.index()] == Some(node) {
                self.producers[output.index()] = None;
            }
        }
        self.release(node, &inputs);
    }

    /// Takes `node` out of the readers of `inputs`, once for each, and removes producers that nobody reads any more.
    fn release(&mut self, node: NodeId, inputs: &[Option<ValueId>]) {
        let mut pending: Vec<(NodeId, ValueId)> =
            inputs.iter().flatten().map(|&value| (node, value)).collect();
        while let Some((reader, value)) = pending.pop() {
            let readers = &mut self.consumers[value.index()];
            if let Some(place) = readers.iter().position(|&other| other == reader) {
                readers.swap_remove(place);
            }
            let Some(producer) = self.producers[value.index()] else { continue };
            let wanted = self.node(producer).outputs.iter().flatten().any(|&output| self.is_read(output));
            if wanted || !std::mem::replace(&mut self.alive[producer.index()], false) {
                continue;
            }
            let dead = &mut self.graph.nodes_mut()[producer.index()];
            pending.extend(
                std::mem::take(&mut dead.inputs).into_iter().flatten().map(|input| (producer, input)),
            );
            for output in self.graph.node(producer).outputs.clone().iter().flatten() {
                self.producers[output.index()] = None;
            }
        }
    }

    /// Removes a node whose only output is the same as `to`.
    ///
    /// Where the caller gets that output, the value keeps its name: the producer of `to` computes it. `None`, and
    /// nothing changed but an operator into Identity, where that cannot be: `to` is itself given or gotten.
    pub(super) fn forward(&mut self, node: NodeId, to: ValueId) -> Option<()> {
        let output = self.output(node)?;
        if !self.is_output(output) {
            self.note_move(output, to, Vec::new());
            self.redirect(output, to);
            self.remove(node);
            return Some(());
        }
        let producer = self.producer(to).filter(|_| !self.is_output(to));
        let Some(producer) = producer else {
            let changed = *self.op(node) != Operator::Identity;
            self.replace(node, Operator::Identity, vec![Some(to)]);
            return changed.then_some(());
        };
        self.alive[node.index()] = false;
        let inputs = std::mem::take(&mut self.graph.nodes_mut()[node.index()].inputs);
        for input in inputs.iter().flatten() {
            if let Some(place) = self.consumers[input.index()].iter().position(|&other| other == node) {
                self.consumers[input.index()].swap_remove(place);
            }
        }
        self.note_move(to, output, Vec::new());
        self.move_output(producer, to, output);
        self.redirect(to, output);
        Some(())
    }

    /// Makes a value a constant; its node goes.
    pub(super) fn become_constant(&mut self, value: ValueId, tensor: Tensor) {
        let scheme = tensor.scheme().cloned();
        let target = self.value_mut(value);
        target.value_type =
            ValueType::Tensor { element_type: tensor.element_type(), shape: Some(tensor.shape()) };
        target.scheme = scheme;
        target.constant = Some(tensor);
        let producer = self.producers[value.index()].take();
        if let Some(producer) = producer {
            for output in self.graph.nodes_mut()[producer.index()].outputs.iter_mut() {
                if *output == Some(value) {
                    *output = None;
                }
            }
            if self.node(producer).outputs.iter().flatten().all(|&output| !self.is_read(output)) {
                self.remove(producer);
            }
        }
    }

    /// Lets a node no longer make a result that nobody reads.
    pub(super) fn drop_output(&mut self, node: NodeId, index: usize) {
        let outputs = &mut self.graph.nodes_mut()[node.index()].outputs;
        if let Some(value) = outputs[index].take() {
            self.producers[value.index()] = None;
        }
        while outputs.last().is_some_and(Option::is_none) {
            outputs.pop();
        }
    }
}
