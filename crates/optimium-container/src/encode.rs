//! From a graph to records.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use optimium_graph::{Graph, Node, Value, ValueId};
use optimium_tensor::{Error, QuantScheme, Result, Tensor};

use crate::check;
use crate::hex;
use crate::records::{
    ConstantRecord, Data, GraphFile, GraphRecord, NodeRecord, SchemeRecord, TypeRecord, ValueRecord,
};
use crate::weights::Layout;

/// Constants of at most so many bytes stand in `graph.json`.
const MAX_INLINE: usize = 64;

/// The records of `graph` and its bodies, and the weights that they refer to. The list of weight files is left empty.
///
/// # Errors
/// `Model` where the graph is not sound; `Container` where a file would become too large.
pub(crate) fn encode(graph: &Graph) -> Result<(GraphFile<'_>, Layout)> {
    let mut encoder = Encoder { layout: Layout::new(), schemes: Vec::new(), known: HashMap::new() };
    let mut found: Vec<(&Graph, usize)> = vec![(graph, 0)];
    let mut graphs = Vec::new();
    while let Some(&(graph, depth)) = found.get(graphs.len()) {
        if depth > check::MAX_BODY_NESTING {
            let limit = check::MAX_BODY_NESTING;
            return Err(Error::model(format!("control flow is nested more than {limit} times")));
        }
        check::graph(graph).map_err(|error| error.context(format_args!("the graph {:?}", graph.name)))?;
        let values = graph.values().iter().map(|value| encoder.value(value)).collect::<Result<_>>()?;
        let nodes = graph.nodes().iter().map(|node| record_node(node, depth, &mut found)).collect();
        graphs.push(GraphRecord {
            name: Cow::Borrowed(&graph.name),
            values,
            nodes,
            inputs: graph.inputs.iter().map(|id| id.index()).collect(),
            outputs: graph.outputs.iter().map(|id| id.index()).collect(),
            origins: Cow::Borrowed(&graph.origins),
        });
    }
    let schemes = encoder.schemes.iter().map(|scheme| SchemeRecord::of(scheme)).collect();
    Ok((GraphFile { weights: Vec::new(), schemes, graphs }, encoder.layout))
}

fn record_node<'a>(node: &'a Node, depth: usize, found: &mut Vec<(&'a Graph, usize)>) -> NodeRecord<'a> {
    let places = |ids: &[Option<ValueId>]| ids.iter().map(|id| id.map(ValueId::index)).collect();
    let bodies = check::bodies(&node.op)
        .into_iter()
        .map(|body| {
            found.push((&*body.graph, depth + 1));
            found.len() - 1
        })
        .collect();
    NodeRecord {
        name: Cow::Borrowed(&node.name),
        operator: Cow::Borrowed(&node.op),
        inputs: places(&node.inputs),
        outputs: places(&node.outputs),
        bodies,
    }
}

struct Encoder {
    layout: Layout,
    schemes: Vec<Arc<QuantScheme>>,
    /// The place of every scheme, by its address.
    known: HashMap<*const QuantScheme, usize>,
}

impl Encoder {
    fn value<'a>(&mut self, value: &'a Value) -> Result<ValueRecord<'a>> {
        let constant = match &value.constant {
            None => None,
            Some(tensor) => Some(
                self.constant(tensor)
                    .map_err(|error| error.context(format_args!("the value {:?}", value.name)))?,
            ),
        };
        Ok(ValueRecord {
            name: Cow::Borrowed(&value.name),
            value_type: TypeRecord::of(&value.value_type),
            scheme: value.scheme.as_ref().map(|scheme| self.scheme(scheme)),
            constant,
        })
    }

    fn scheme(&mut self, scheme: &Arc<QuantScheme>) -> usize {
        *self.known.entry(Arc::as_ptr(scheme)).or_insert_with(|| {
            self.schemes.push(scheme.clone());
            self.schemes.len() - 1
        })
    }

    fn constant(&mut self, tensor: &Tensor) -> Result<ConstantRecord> {
        let data = match tensor.strings() {
            Some(strings) => Data::Strings(strings.to_vec()),
            None if tensor.byte_len() <= MAX_INLINE => Data::Inline(hex::encode(&tensor.read_bytes()?)),
            None => {
                Data::Stored { file: 0, offset: self.layout.place(tensor)?, bytes: tensor.byte_len() as u64 }
            }
        };
        Ok(ConstantRecord {
            element_type: tensor.element_type(),
            dims: tensor.dims().to_vec(),
            scheme: tensor.scheme().map(|scheme| self.scheme(scheme)),
            data,
        })
    }
}
