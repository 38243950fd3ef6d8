//! From the text of `graph.json` to a graph.

use std::sync::Arc;

use optimium_graph::{Graph, Node, Operator, Value, ValueId};
use optimium_tensor::{Buffer, Error, ErrorKind, QuantScheme, Result, Tensor};
use serde::Deserialize as _;

use crate::check;
use crate::hex;
use crate::records::{ConstantRecord, Data, GraphFile, GraphRecord, NodeRecord, ValueRecord};
use crate::weights::ALIGNMENT;

/// Tensors of more dimensions are refused.
const MAX_RANK: usize = 64;

/// Reads the text.
///
/// # Errors
/// `Container` where it is not what a graph is written as; it names the operator where that is unknown.
pub(crate) fn parse(text: &[u8]) -> Result<GraphFile<'static>> {
    serde_json::from_slice(text).map_err(|cause| {
        let message = unreadable_operator(text).unwrap_or_else(|| format!("is damaged: {cause}"));
        Error::container(message).with_cause(cause)
    })
}

/// Says which operator cannot be read, where that is what is wrong. Only for messages: it reads the whole text again.
fn unreadable_operator(text: &[u8]) -> Option<String> {
    let whole: serde_json::Value = serde_json::from_slice(text).ok()?;
    let graphs = whole.get("graphs")?.as_array()?;
    let nodes = graphs.iter().filter_map(|graph| graph.get("nodes")?.as_array()).flatten();
    nodes.into_iter().find_map(|node| {
        let operator = node.get("operator")?;
        let cause = Operator::deserialize(operator).err()?.to_string();
        let name = operator.get("op").and_then(|op| op.as_str()).unwrap_or("");
        let node = node.get("name").and_then(|name| name.as_str()).unwrap_or("");
        Some(if cause.starts_with(&format!("unknown variant `{name}`, expected one of `unary`")) {
            format!(
                "the node {node:?} has the unknown operator {name:?}: a newer version of the runtime wrote it"
            )
        } else {
            format!("the operator {name:?} of the node {node:?} cannot be read: {cause}")
        })
    })
}

/// The graph of the records; its large constants share the memory of `weights`, one buffer for each file.
///
/// # Errors
/// `Container` where something in the records lies outside of what it speaks of, or the graph is not sound.
pub(crate) fn decode(file: GraphFile<'_>, weights: &[Arc<Buffer>]) -> Result<Graph> {
    let schemes =
        file.schemes.iter().map(|record| record.scheme().map(Arc::new)).collect::<Result<Vec<_>>>()?;
    let decoder = Decoder { schemes, weights };
    let mut bodies = Bodies { built: Vec::new(), count: file.graphs.len() };
    bodies.built.resize_with(file.graphs.len(), || None);
    // Bodies come after the graphs that hold them, so that from the last to the first every body is there in time.
    for (index, record) in file.graphs.into_iter().enumerate().rev() {
        let name = record.name.to_string();
        let built = decoder.graph(record, index, &mut bodies).map_err(|error| {
            error.context(format_args!("the graph {name:?}")).with_kind(ErrorKind::Container)
        })?;
        bodies.built[index] = Some(built);
    }
    let mut built = bodies.built.into_iter();
    let Some(Some((graph, _))) = built.next() else {
        return Err(Error::container("expected at least one graph"));
    };
    match built.position(|left| left.is_some()) {
        Some(index) => Err(Error::container(format!("the graph {} is the body of no operator", index + 1))),
        None => Ok(graph),
    }
}

/// The graphs that are built, each with the depth of the bodies in it, until an operator takes them.
struct Bodies {
    built: Vec<Option<(Graph, usize)>>,
    count: usize,
}

impl Bodies {
    /// Takes body `index` for an operator of graph `holder`. Each is taken once: else a small file could hold a graph of
    /// exponential size.
    fn take(&mut self, index: usize, holder: usize) -> Result<(Graph, usize)> {
        if index <= holder || index >= self.count {
            return Err(Error::container(format!(
                "expected a body between {holder} and {}, not {index}",
                self.count
            )));
        }
        self.built[index]
            .take()
            .ok_or_else(|| Error::container(format!("the graph {index} is the body of two operators")))
    }
}

struct Decoder<'a> {
    schemes: Vec<Arc<QuantScheme>>,
    weights: &'a [Arc<Buffer>],
}

impl Decoder<'_> {
    fn graph(&self, record: GraphRecord<'_>, index: usize, bodies: &mut Bodies) -> Result<(Graph, usize)> {
        let mut graph = Graph::new(record.name);
        let count = record.values.len();
        for value in record.values {
            graph.add_value(self.value(value)?);
        }
        let id = |place: usize| value_id(place, count);
        graph.inputs = record.inputs.into_iter().map(id).collect::<Result<_>>()?;
        graph.outputs = record.outputs.into_iter().map(id).collect::<Result<_>>()?;
        let mut depth = 0;
        for node in record.nodes {
            let name = node.name.to_string();
            let (node, below) = decode_node(node, count, index, bodies)
                .map_err(|error| error.context(format_args!("the node {name:?}")))?;
            graph.add_node(node);
            depth = depth.max(below);
        }
        if depth > check::MAX_BODY_NESTING {
            return Err(Error::container(format!("bodies are nested {depth} times")));
        }
        graph.origins = record.origins.into_owned();
        check::graph(&graph)?;
        Ok((graph, depth))
    }

    fn value(&self, record: ValueRecord<'_>) -> Result<Value> {
        let name = record.name.into_owned();
        let read = || {
            if record.value_type.nesting() > check::MAX_TYPE_NESTING {
                return Err(Error::container("its type is nested too deeply"));
            }
            let scheme = self.scheme(record.scheme)?;
            let constant = record.constant.map(|constant| self.constant(constant)).transpose()?;
            Ok(Value { name: String::new(), value_type: record.value_type.value_type(), scheme, constant })
        };
        match read() {
            Ok(value) => Ok(Value { name, ..value }),
            Err(error) => Err(Error::context(error, format_args!("the value {name:?}"))),
        }
    }

    fn scheme(&self, place: Option<usize>) -> Result<Option<Arc<QuantScheme>>> {
        let Some(place) = place else { return Ok(None) };
        match self.schemes.get(place) {
            Some(scheme) => Ok(Some(scheme.clone())),
            None => {
                Err(Error::container(format!("expected a scheme below {}, not {place}", self.schemes.len())))
            }
        }
    }

    fn constant(&self, record: ConstantRecord) -> Result<Tensor> {
        let ConstantRecord { element_type, dims, scheme, data } = record;
        let expected = byte_count(&dims, element_type.size())?;
        let tensor = match data {
            Data::Strings(strings) if element_type == optimium_tensor::ElementType::String => {
                Tensor::from_strings(&dims, strings)?
            }
            Data::Strings(_) => return Err(Error::container(format!("strings cannot be {element_type}"))),
            Data::Inline(text) => {
                let bytes = hex::decode(&text)
                    .ok_or_else(|| Error::container("expected hexadecimal digits, two for each byte"))?;
                Tensor::from_bytes(element_type, &dims, &bytes)?
            }
            Data::Stored { bytes, .. } if bytes != expected => {
                return Err(Error::container(format!(
                    "a {element_type} tensor of shape {dims:?} holds {expected} bytes, not {bytes}"
                )));
            }
            Data::Stored { file, offset, bytes } => {
                let buffer = self.weights.get(file).ok_or_else(|| {
                    let count = self.weights.len();
                    Error::container(format!("expected a file of weights below {count}, not {file}"))
                })?;
                let offset = range(offset, bytes, buffer.len() as u64)?;
                Tensor::from_buffer(element_type, &dims, buffer.clone(), offset)?
            }
        };
        Ok(tensor.with_scheme(self.scheme(scheme)?))
    }
}

fn decode_node(
    record: NodeRecord<'_>,
    values: usize,
    holder: usize,
    built: &mut Bodies,
) -> Result<(Node, usize)> {
    let ids = |places: Vec<Option<usize>>| -> Result<Vec<Option<ValueId>>> {
        places.into_iter().map(|place| place.map(|place| value_id(place, values)).transpose()).collect()
    };
    let mut op = record.operator.into_owned();
    let bodies = check::bodies_mut(&mut op);
    if bodies.len() != record.bodies.len() {
        return Err(Error::container(format!(
            "expected {} bodies, not {}",
            bodies.len(),
            record.bodies.len()
        )));
    }
    let mut depth = 0;
    for (body, index) in bodies.into_iter().zip(record.bodies) {
        let (graph, below) = built.take(index, holder)?;
        *body.graph = graph;
        depth = depth.max(below + 1);
    }
    let node = Node {
        name: record.name.into_owned(),
        op,
        inputs: ids(record.inputs)?,
        outputs: ids(record.outputs)?,
    };
    Ok((node, depth))
}

fn value_id(place: usize, count: usize) -> Result<ValueId> {
    if place >= count || u32::try_from(place).is_err() {
        return Err(Error::container(format!("expected a value below {count}, not {place}")));
    }
    Ok(ValueId::from_index(place))
}

/// The offset of a tensor in memory, where its bytes lie within a file of `size` bytes, behind the header and aligned.
fn range(offset: u64, bytes: u64, size: u64) -> Result<usize> {
    let inside = offset.checked_add(bytes).is_some_and(|end| end <= size);
    if !inside || offset < ALIGNMENT || !offset.is_multiple_of(ALIGNMENT) {
        return Err(Error::container(format!(
            "expected {bytes} bytes within a file of {size}, from a multiple of {ALIGNMENT} on, not from {offset}"
        )));
    }
    usize::try_from(offset).map_err(|_| Error::container("the weights are larger than memory"))
}

/// The size of a tensor. No product of its dimensions overflows, even without those that are zero.
fn byte_count(dims: &[usize], element_size: usize) -> Result<u64> {
    let fits = dims.len() <= MAX_RANK
        && dims
            .iter()
            .filter(|&&dim| dim > 0)
            .try_fold(element_size.max(1), |bytes, &dim| bytes.checked_mul(dim))
            .is_some_and(|bytes| isize::try_from(bytes).is_ok());
    if !fits {
        return Err(Error::container(format!("no memory can hold a tensor of shape {dims:?}")));
    }
    Ok((dims.iter().product::<usize>() * element_size) as u64)
}

#[cfg(test)]
mod tests {
    use optimium_testing::each_case;

    use super::*;

    #[test]
    fn ranges_lie_within_the_file_and_are_aligned() {
        let cases = [
            (64, 64, 128, true),
            (64, 0, 64, true),
            (64, 65, 128, false),
            (0, 8, 128, false),
            (65, 8, 128, false),
            (128, 1, 128, false),
            (u64::MAX - 63, 64, 128, false),
            (u64::MAX, u64::MAX, u64::MAX, false),
            (64, u64::MAX, 128, false),
        ];
        each_case(cases, |&(offset, bytes, size, allowed)| {
            let result = range(offset, bytes, size);
            if result.is_ok() == allowed { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }

    #[test]
    fn sizes_that_no_memory_holds_are_refused() {
        let half = 1usize << 32;
        let cases: [(Vec<usize>, Option<u64>); 8] = [
            (vec![], Some(4)),
            (vec![2, 3], Some(24)),
            (vec![0, 3], Some(0)),
            (vec![half, half], None),
            (vec![0, half, half], None),
            (vec![1 << 61], None),
            (vec![usize::MAX, 0], None),
            (vec![1; 65], None),
        ];
        each_case(cases, |(dims, expected)| {
            let result = byte_count(dims, 4).ok();
            if result == *expected { Ok(()) } else { Err(format!("{result:?}")) }
        });
    }
}
