//! Names for the packed weights of a plan, by which they are found again when the same graph is compiled once more.
//!
//! A key says what a node does to operands of which types, the names of those that are constants, which of its blocks it is and in
//! which form, and the version of the kernels' orders: all that the bytes depend on besides the content of the constants. Where a node
//! stands does not matter: a part of a graph finds what was packed for the whole, since values keep their names. Who keeps packed
//! weights sees to it that a name stands for the same constant.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::{Arc, OnceLock};

use optimium_device::{PackedBlock, PackedWeights};
use optimium_graph::{Graph, Node, ValueId};
use optimium_kernels::{PACKING_VERSION, PackedBlock as Block, StoredBlocks};
use optimium_tensor::{Buffer, Error, ErrorKind, Result};
use rayon::ThreadPoolBuilder;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// About how many bytes the packed weights of `graph` have: those of its constants.
pub(crate) fn expected_bytes(graph: &Graph) -> usize {
    let constants = graph.values().iter().filter_map(|value| value.constant.as_ref());
    constants.map(|tensor| tensor.byte_len()).fold(0, usize::saturating_add)
}

/// Fewer bytes are packed faster than threads are started.
const WORTH_THREADS: usize = 1 << 20;

/// `work` of every node of `graph`, in order: by so many threads where there is much to be packed.
///
/// # Errors
/// [`OutOfResource`](ErrorKind::OutOfResource) where threads cannot be started.
pub(crate) fn for_all_nodes<T: Send>(
    graph: &Graph,
    kept: Option<&PackedWeights>,
    threads: usize,
    work: impl Fn(usize) -> T + Sync + Send,
) -> Result<Vec<T>> {
    let nodes = 0..graph.nodes().len();
    if threads == 1 || kept.is_some() || expected_bytes(graph) < WORTH_THREADS {
        return Ok(nodes.map(work).collect());
    }
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().map_err(|error| {
        Error::new(ErrorKind::OutOfResource, format!("{threads} threads could not be started"))
            .with_cause(error)
    })?;
    Ok(pool.install(|| nodes.into_par_iter().with_max_len(1).map(work).collect()))
}

/// What the keys of all blocks of a node begin with.
fn node_key(graph: &Graph, node: &Node) -> String {
    let mut key = format!("{PACKING_VERSION} {:?}", node.op);
    let mut operand = |id: &Option<ValueId>| match id.map(|id| graph.value(id)) {
        None => key.push_str(" -"),
        Some(value) => {
            if value.constant.is_some() {
                // Writing to a string cannot fail.
                let _ = write!(key, " {:?}", value.name);
            }
            let _ = write!(key, " {:?}", value.value_type);
        }
    };
    node.inputs.iter().for_each(&mut operand);
    node.outputs.iter().for_each(&mut operand);
    key
}

fn block_key(node: &str, index: usize, form: &str) -> String {
    format!("{node} / {index} {form}")
}

/// What is kept of one node.
pub(crate) struct KeptNode<'a> {
    graph: &'a Graph,
    node: &'a Node,
    key: OnceLock<String>,
    kept: &'a PackedWeights,
}

impl<'a> KeptNode<'a> {
    /// Of a node of `graph`.
    pub(crate) fn new(graph: &'a Graph, node: &'a Node, kept: &'a PackedWeights) -> KeptNode<'a> {
        KeptNode { graph, node, key: OnceLock::new(), kept }
    }
}

impl StoredBlocks for KeptNode<'_> {
    fn find(&self, index: usize, form: &str, bytes: usize) -> Option<(Arc<Buffer>, usize)> {
        let node = self.key.get_or_init(|| node_key(self.graph, self.node));
        let (buffer, offset) = self.kept.find(&block_key(node, index, form), bytes)?;
        Some((buffer.clone(), offset))
    }
}

/// The packed weights of all nodes that have some.
#[derive(Default)]
pub(crate) struct PackedNodes(Vec<(usize, Vec<Block>)>);

impl PackedNodes {
    /// Adds the blocks of node `index`.
    pub(crate) fn add(&mut self, index: usize, blocks: Vec<Block>) {
        if !blocks.is_empty() {
            self.0.push((index, blocks));
        }
    }

    /// All blocks with their keys. Nodes that do the same with the same constants have the same blocks, which come once.
    pub(crate) fn export(&self, graph: &Graph) -> Vec<PackedBlock<'_>> {
        let (mut all, mut seen) = (Vec::new(), HashSet::new());
        for (index, blocks) in &self.0 {
            let node = node_key(graph, &graph.nodes()[*index]);
            for (place, block) in blocks.iter().enumerate() {
                let key = block_key(&node, place, &block.form);
                if seen.insert(key.clone()) {
                    all.push(PackedBlock { key, bytes: &block.bytes, kept: block.stored });
                }
            }
        }
        all
    }
}
