//! From one graph to several, one for each stage of a pipeline.
//!
//! A graph's nodes stand in an order in which each comes behind those that it depends on. A partition is a run of that order:
//! [`cost`] estimates what each node takes, [`cuts`] finds where to cut so that no run takes much longer than another, and here the
//! runs become graphs of their own. A constant goes with those who use it. A value that is computed in one partition and used
//! in a later one *crosses*: it is an output of the first and an input of the others.

mod cost;
mod cuts;

use std::collections::HashMap;
use std::ops::Range;

use optimium_graph::{Graph, ValueId};

/// Where an input of a partition comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The whole graph's input of that index.
    Input(usize),
    /// The crossing value of that index.
    Crossing(usize),
}

/// Where an output of a partition goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// The whole graph's output of that index.
    Output(usize),
    /// The crossing value of that index.
    Crossing(usize),
}

/// A part of a graph that can be compiled on its own.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Its nodes and values, under the names that they have in the whole graph.
    pub(crate) graph: Graph,
    /// For each of its inputs.
    pub(crate) inputs: Vec<Source>,
    /// For each of its outputs.
    pub(crate) outputs: Vec<Destination>,
}

/// A graph in parts.
#[derive(Debug)]
pub(crate) struct Partitions {
    /// In the order in which they run.
    pub(crate) parts: Vec<Partition>,
    /// The values of the whole graph that cross.
    pub(crate) crossings: Vec<ValueId>,
}

/// `graph`, whose nodes are sorted and whose shapes are inferred, in at most `count` parts of similar cost. There are fewer where it
/// cannot be cut so often.
pub(crate) fn partition(graph: &Graph, count: usize) -> Partitions {
    let ranges = cuts::balanced(&cost::of_nodes(graph), &cost::of_cuts(graph), count);
    let mut stage_of_node = vec![0; graph.nodes().len()];
    for (stage, range) in ranges.iter().enumerate() {
        stage_of_node[range.clone()].fill(stage);
    }
    let mut producer = vec![None; graph.values().len()];
    for (node, &stage) in graph.nodes().iter().zip(&stage_of_node) {
        for output in node.outputs.iter().flatten() {
            producer[output.index()] = Some(stage);
        }
    }
    let crossings = crossings(graph, &stage_of_node, &producer);
    let extraction = Extraction { graph, producer, crossings: &crossings };
    let parts = ranges.into_iter().enumerate().map(|(stage, range)| extraction.part(stage, range)).collect();
    Partitions { parts, crossings }
}

/// The values that are used in a later stage than the one that computes them, in the order of the graph.
fn crossings(graph: &Graph, stage_of_node: &[usize], producer: &[Option<usize>]) -> Vec<ValueId> {
    let mut crosses = vec![false; graph.values().len()];
    for (node, &stage) in graph.nodes().iter().zip(stage_of_node) {
        for input in node.inputs.iter().flatten() {
            crosses[input.index()] |= producer[input.index()].is_some_and(|producer| producer < stage);
        }
    }
    (0..crosses.len()).filter(|&index| crosses[index]).map(ValueId::from_index).collect()
}

/// What parts are made of.
struct Extraction<'a> {
    graph: &'a Graph,
    /// For each value the stage that computes it.
    producer: Vec<Option<usize>>,
    crossings: &'a [ValueId],
}

/// A part under construction.
struct Builder {
    part: Partition,
    /// The new number of each value that is in it.
    numbers: HashMap<ValueId, ValueId>,
}

impl Extraction<'_> {
    fn part(&self, stage: usize, nodes: Range<usize>) -> Partition {
        let graph = Graph::new(self.graph.name.clone());
        let part = Partition { graph, inputs: Vec::new(), outputs: Vec::new() };
        let mut builder = Builder { part, numbers: HashMap::new() };
        let outputs = self.outputs(stage);
        self.add_inputs(&mut builder, nodes.clone(), &outputs);
        for node in &self.graph.nodes()[nodes] {
            let mut copy = node.clone();
            for value in copy.inputs.iter_mut().chain(&mut copy.outputs).flatten() {
                *value = builder.add(self.graph, *value);
            }
            builder.part.graph.add_node(copy);
        }
        for (value, destination) in outputs {
            let number = builder.add(self.graph, value);
            builder.part.graph.outputs.push(number);
            builder.part.outputs.push(destination);
        }
        builder.part
    }

    /// What the stage gives. An output of the graph that nobody computes is given by the first stage.
    fn outputs(&self, stage: usize) -> Vec<(ValueId, Destination)> {
        let outputs = self.graph.outputs.iter().enumerate();
        let own = outputs.filter(|(_, value)| self.producer[value.index()].unwrap_or(0) == stage);
        let crossings = self.crossings.iter().enumerate();
        let crossing = crossings.filter(|(_, value)| self.producer[value.index()] == Some(stage));
        own.map(|(index, &value)| (value, Destination::Output(index)))
            .chain(crossing.map(|(index, &value)| (value, Destination::Crossing(index))))
            .collect()
    }

    /// Adds the inputs and crossing values that the stage uses. Where it has dynamic shapes it gets all dynamic inputs of the graph:
    /// they show the values of the symbols.
    fn add_inputs(&self, builder: &mut Builder, nodes: Range<usize>, outputs: &[(ValueId, Destination)]) {
        let nodes = &self.graph.nodes()[nodes];
        let is_dynamic = |id: ValueId| self.graph.value(id).shape().is_none_or(|shape| shape.is_dynamic());
        let read = nodes.iter().flat_map(|node| node.inputs.iter().flatten());
        let used: Vec<ValueId> = read.chain(outputs.iter().map(|(value, _)| value)).copied().collect();
        let written = nodes.iter().flat_map(|node| node.outputs.iter().flatten());
        let has_symbols = used.iter().chain(written).any(|&id| is_dynamic(id));
        for (index, &id) in self.graph.inputs.iter().enumerate() {
            if used.contains(&id) || (has_symbols && is_dynamic(id)) {
                builder.add_input(self.graph, id, Source::Input(index));
            }
        }
        let own = |id: ValueId| outputs.iter().any(|&(output, _)| output == id);
        for (index, &id) in self.crossings.iter().enumerate() {
            if used.contains(&id) && !own(id) {
                builder.add_input(self.graph, id, Source::Crossing(index));
            }
        }
    }
}

impl Builder {
    /// The number of the whole graph's `value`, which is added where it is not there yet.
    fn add(&mut self, whole: &Graph, value: ValueId) -> ValueId {
        let graph = &mut self.part.graph;
        *self.numbers.entry(value).or_insert_with(|| graph.add_value(whole.value(value).clone()))
    }

    fn add_input(&mut self, whole: &Graph, value: ValueId, source: Source) {
        let number = self.add(whole, value);
        self.part.graph.inputs.push(number);
        self.part.inputs.push(source);
    }
}

#[cfg(test)]
mod tests {
    use optimium_graph::ops::{Operator, Unary};
    use optimium_graph::{Node, shapes};
    use optimium_tensor::{ElementType, Expr, Tensor, TensorShape};

    use super::*;

    fn node(name: &str, op: Operator, inputs: &[ValueId], output: ValueId) -> Node {
        let inputs = inputs.iter().copied().map(Some).collect();
        Node { name: name.into(), op, inputs, outputs: vec![Some(output)] }
    }

    /// x → a → b → c → y, with the output a, and the input x used by c's sum once more.
    fn graph() -> Graph {
        let add = || Operator::Binary { function: optimium_graph::ops::Binary::Add };
        let exp = || Operator::Unary { function: Unary::Exp };
        let mut graph = Graph::new("g");
        let shape = || Some(TensorShape::new(vec![Expr::symbol("n"), 4usize.into()]));
        let x = graph.add_tensor("x", ElementType::F32, shape());
        let one = graph.add_constant("one", Tensor::scalar(1f32).unwrap());
        let [a, b, c, y] = ["a", "b", "c", "y"].map(|name| graph.add_tensor(name, ElementType::F32, shape()));
        graph.inputs = vec![x];
        graph.outputs = vec![y, a];
        graph.add_node(node("first", add(), &[x, one], a));
        graph.add_node(node("second", exp(), &[a], b));
        graph.add_node(node("third", add(), &[b, x], c));
        graph.add_node(node("fourth", add(), &[c, one], y));
        shapes::infer(&mut graph).unwrap();
        graph
    }

    fn names(graph: &Graph, ids: &[ValueId]) -> Vec<String> {
        ids.iter().map(|&id| graph.value(id).name.clone()).collect()
    }

    #[test]
    fn parts_say_what_they_take_and_give() {
        let whole = graph();
        let Partitions { parts, crossings } = partition(&whole, 4);
        assert_eq!(names(&whole, &crossings), ["a", "b", "c"]);
        assert_eq!(parts.len(), 4);
        let (crossing, input) = (Source::Crossing, Source::Input(0));
        assert_eq!(parts[0].inputs, [input]);
        assert_eq!(parts[0].outputs, [Destination::Output(1), Destination::Crossing(0)]);
        assert_eq!(parts[2].inputs, [input, crossing(1)]);
        // The second uses x for the sake of n alone.
        assert_eq!(parts[1].inputs, [input, crossing(0)]);
        assert_eq!(names(&parts[3].graph, &parts[3].graph.outputs), ["y"]);
        let constants =
            |part: &Partition| part.graph.values().iter().filter(|v| v.constant.is_some()).count();
        assert_eq!(parts.iter().map(constants).collect::<Vec<_>>(), [1, 0, 0, 1]);
        for part in parts {
            let mut again = part.graph.clone();
            again.sort().unwrap();
            shapes::infer(&mut again).unwrap();
        }
    }

    #[test]
    fn one_part_is_the_whole() {
        let whole = graph();
        let Partitions { parts, crossings } = partition(&whole, 1);
        assert!(crossings.is_empty());
        assert_eq!((parts.len(), parts[0].graph.nodes().len()), (1, 4));
        assert_eq!(parts[0].outputs, [Destination::Output(0), Destination::Output(1)]);
        assert_eq!(partition(&Graph::new("empty"), 3).parts.len(), 1);
    }
}
