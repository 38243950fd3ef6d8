//! Layers that compute several nodes: which operands they have.
//!
//! Most layers compute one node. The layer of the last node of a chain computes all of them, and the others have nothing to do:
//! what lies between them has no memory. Everything that looks at what layers read and write asks here.

use std::borrow::Cow;

use optimium_graph::{Graph, ValueId};

use crate::layer::{Layer, Nodes};

/// What a layer reads and writes.
pub(crate) struct Operands<'a> {
    pub(crate) inputs: Cow<'a, [Option<ValueId>]>,
    pub(crate) outputs: &'a [Option<ValueId>],
}

impl Operands<'_> {
    /// All of them.
    pub(crate) fn values(&self) -> impl Iterator<Item = ValueId> {
        self.inputs.iter().chain(self.outputs).flatten().copied()
    }
}

/// The operands of the layer of node `index`: those of the node; for a chain all inputs of its first node, those of the others but
/// for the first one, and the outputs of the last.
pub(crate) fn operands<'a>(graph: &'a Graph, layers: &[Layer], index: usize) -> Operands<'a> {
    let node = &graph.nodes()[index];
    match &layers[index].nodes {
        Nodes::Own => Operands { inputs: Cow::Borrowed(&node.inputs), outputs: &node.outputs },
        Nodes::None => Operands { inputs: Cow::Borrowed(&[]), outputs: &[] },
        Nodes::Chain(nodes) => {
            let of = |(place, &node): (usize, &usize)| {
                graph.nodes()[node].inputs.iter().skip(usize::from(place > 0)).copied()
            };
            let inputs = nodes.iter().enumerate().flat_map(of).collect();
            Operands { inputs: Cow::Owned(inputs), outputs: &node.outputs }
        }
    }
}
