//! Checks that every importer makes before it hands a graph over.

use optimium_graph::{Graph, ValueId};
use optimium_tensor::{Error, Result};

/// Checks that whatever is read is given or computed, and that what is given is not computed as well. `given` are
/// values that come from elsewhere than the graph's inputs and constants.
///
/// # Errors
/// [`Model`](optimium_tensor::ErrorKind::Model), with the name of the first value that is wrong.
pub(crate) fn producers(graph: &Graph, given: impl Iterator<Item = ValueId>) -> Result<()> {
    let mut available: Vec<bool> = graph.values().iter().map(|value| value.constant.is_some()).collect();
    for input in graph.inputs.iter().copied().chain(given) {
        available[input.index()] = true;
    }
    for output in graph.nodes().iter().flat_map(|node| node.outputs.iter().flatten()) {
        if std::mem::replace(&mut available[output.index()], true) {
            let name = &graph.value(*output).name;
            return Err(Error::model(format!(
                "the tensor {name:?} is computed, but given or computed before"
            )));
        }
    }
    let read = graph.nodes().iter().flat_map(|node| node.inputs.iter().flatten());
    match read.chain(&graph.outputs).find(|value| !available[value.index()]) {
        Some(&value) => {
            Err(Error::model(format!("the tensor {:?} is computed by no node", graph.value(value).name)))
        }
        None => Ok(()),
    }
}
