//! What is demanded of a graph that is stored, whether it comes from memory or from a file.

use std::collections::{HashMap, HashSet};

use optimium_graph::ops::Body;
use optimium_graph::{Graph, Node, Operator, Origin, Value, ValueId, ValueType};
use optimium_tensor::{Error, QuantScheme, Result, Tensor, TensorShape};

/// Bodies inside of bodies beyond this are refused.
pub(crate) const MAX_BODY_NESTING: usize = 64;
/// Sequences and optionals around each other beyond this are refused.
pub(crate) const MAX_TYPE_NESTING: usize = 16;

/// The bodies of an operator, in the order in which they are stored.
pub(crate) fn bodies(operator: &Operator) -> Vec<&Body> {
    match operator {
        Operator::If(op) => vec![&op.then_branch, &op.else_branch],
        Operator::Loop(op) => vec![&op.body],
        Operator::Scan(op) => vec![&op.body],
        Operator::Deferred(op) => vec![&op.body],
        _ => Vec::new(),
    }
}

/// As [`bodies`], to be filled.
pub(crate) fn bodies_mut(operator: &mut Operator) -> Vec<&mut Body> {
    match operator {
        Operator::If(op) => vec![&mut op.then_branch, &mut op.else_branch],
        Operator::Loop(op) => vec![&mut op.body],
        Operator::Scan(op) => vec![&mut op.body],
        Operator::Deferred(op) => vec![&mut op.body],
        _ => Vec::new(),
    }
}

/// Whether one graph, without its bodies, is sound: every id lies within it; every value that is read is given,
/// constant, or computed before by exactly one node; constants are what their values say.
///
/// # Errors
/// `Model`, with the value or node that is not.
pub(crate) fn graph(graph: &Graph) -> Result<()> {
    ids(graph)?;
    order(graph)?;
    origins(graph)?;
    graph.values().iter().try_for_each(|item| {
        value(item).map_err(|error| error.context(format_args!("the value {:?}", item.name)))
    })
}

/// Tensors that are said to be somewhere are there, with as many axes.
fn origins(graph: &Graph) -> Result<()> {
    if graph.origins.is_empty() {
        return Ok(());
    }
    let values: HashMap<&str, &Value> =
        graph.values().iter().map(|value| (value.name.as_str(), value)).collect();
    for (name, origin) in &graph.origins {
        let Origin::Held { value, permutation } = origin else { continue };
        let rank = values.get(value.as_str()).and_then(|value| value.shape()).map(TensorShape::rank);
        let axes: HashSet<usize> = permutation.iter().copied().collect();
        let fits = rank.is_some_and(|rank| {
            permutation.is_empty() || (permutation.len() == rank && axes == (0..rank).collect())
        });
        if !fits {
            return Err(Error::model(format!(
                "the tensor {name:?} is not in {value:?} with its axes at {permutation:?}"
            )));
        }
    }
    Ok(())
}

fn ids(graph: &Graph) -> Result<()> {
    let count = graph.values().len();
    let check = |id: ValueId| match id.index() {
        index if index < count => Ok(()),
        index => Err(Error::model(format!("expected a value below {count}, not {index}"))),
    };
    graph.inputs.iter().chain(&graph.outputs).try_for_each(|&id| check(id))?;
    graph.nodes().iter().try_for_each(|node| {
        node.inputs
            .iter()
            .chain(&node.outputs)
            .flatten()
            .try_for_each(|&id| check(id).map_err(|error| error.context(place(node))))
    })
}

/// How messages speak of a node.
pub(crate) fn place(node: &Node) -> String {
    format!("the node {:?} ({})", node.name, node.op.name())
}

fn order(graph: &Graph) -> Result<()> {
    let name = |id: ValueId| &graph.value(id).name;
    let mut known: Vec<bool> = graph.values().iter().map(|value| value.constant.is_some()).collect();
    for &id in &graph.inputs {
        if std::mem::replace(&mut known[id.index()], true) {
            return Err(Error::model(format!(
                "the input {:?} is constant, or given more than once",
                name(id)
            )));
        }
    }
    for node in graph.nodes() {
        if let Some(&id) = node.inputs.iter().flatten().find(|id| !known[id.index()]) {
            let message = format!("reads {:?}, which nothing before it computes", name(id));
            return Err(Error::model(message).context(place(node)));
        }
        for &id in node.outputs.iter().flatten() {
            if std::mem::replace(&mut known[id.index()], true) {
                let message = format!("computes {:?}, which something else gives already", name(id));
                return Err(Error::model(message).context(place(node)));
            }
        }
    }
    match graph.outputs.iter().find(|id| !known[id.index()]) {
        Some(&id) => Err(Error::model(format!("nothing computes the output {:?}", name(id)))),
        None => Ok(()),
    }
}

fn value(value: &Value) -> Result<()> {
    nesting(&value.value_type)?;
    if let Some(scheme) = &value.scheme {
        let rank = value.shape().map(|shape| shape.rank());
        self::scheme(scheme, rank)?;
    }
    value.constant.as_ref().map_or(Ok(()), |tensor| constant(value, tensor))
}

fn nesting(value_type: &ValueType) -> Result<()> {
    let mut inner = value_type;
    for _ in 0..=MAX_TYPE_NESTING {
        match inner {
            ValueType::Sequence(next) | ValueType::Optional(next) => inner = next,
            ValueType::Tensor { .. } | ValueType::Unknown => return Ok(()),
        }
    }
    Err(Error::model(format!("its type is nested more than {MAX_TYPE_NESTING} times")))
}

fn constant(value: &Value, tensor: &Tensor) -> Result<()> {
    let ValueType::Tensor { element_type, shape } = &value.value_type else {
        return Err(Error::model("a constant is a tensor"));
    };
    if *element_type != tensor.element_type()
        || shape.as_ref().is_some_and(|shape| !shape.is_compatible(&tensor.shape()))
    {
        return Err(Error::model(format!(
            "is said to be {element_type} of shape {}, but its content is {} of shape {}",
            shape.as_ref().map_or("unknown".into(), |shape| shape.to_string()),
            tensor.element_type(),
            tensor.shape()
        )));
    }
    let Some(scheme) = tensor.scheme() else { return Ok(()) };
    self::scheme(scheme, Some(tensor.dims().len()))?;
    match scheme.axis() {
        Some(axis) if scheme.params().len() != tensor.dims()[axis] => Err(Error::model(format!(
            "its scheme has {} channels, but axis {axis} of {} has {}",
            scheme.params().len(),
            tensor.shape(),
            tensor.dims()[axis]
        ))),
        _ => Ok(()),
    }
}

/// Whether a scheme can belong to a tensor of that rank.
fn scheme(scheme: &QuantScheme, rank: Option<usize>) -> Result<()> {
    let sound = match scheme.axis() {
        None => scheme.params().len() == 1,
        Some(axis) => !scheme.params().is_empty() && rank.is_none_or(|rank| axis < rank),
    };
    if !sound {
        return Err(Error::model(format!(
            "a scheme with {} parameters along axis {:?} does not fit its rank {rank:?}",
            scheme.params().len(),
            scheme.axis()
        )));
    }
    match scheme.params().iter().find(|param| !param.scale.is_finite()) {
        Some(param) => Err(Error::model(format!("its scheme has the scale {}", param.scale))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use optimium_graph::ops::Unary;
    use optimium_tensor::{ElementType, QuantParam};
    use optimium_testing::each_case;

    use super::*;

    fn negation(inputs: &[ValueId], outputs: &[ValueId]) -> Node {
        Node {
            name: "neg".into(),
            op: Operator::Unary { function: Unary::Neg },
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: outputs.iter().copied().map(Some).collect(),
        }
    }

    fn sound() -> Graph {
        let mut graph = Graph::new("g");
        let x = graph.add_tensor("x", ElementType::F32, None);
        let y = graph.add_tensor("y", ElementType::F32, None);
        graph.add_constant("c", Tensor::scalar(1f32).unwrap());
        graph.add_node(negation(&[x], &[y]));
        graph.inputs = vec![x];
        graph.outputs = vec![y];
        graph
    }

    #[test]
    fn unsound_graphs_are_refused() {
        let [x, y, c, nowhere] = [0, 1, 2, 3].map(ValueId::from_index);
        let node = |inputs: &'static [usize], outputs: &'static [usize]| {
            let ids = |all: &[usize]| all.iter().map(|&i| ValueId::from_index(i)).collect::<Vec<_>>();
            negation(&ids(inputs), &ids(outputs))
        };
        let constant_type = |element_type| ValueType::Tensor { element_type, shape: None };
        let scheme = |scheme: QuantScheme| Some(Arc::new(scheme));
        let channels = |axis, n| {
            QuantScheme::per_channel(axis, vec![QuantParam { scale: 1.0, zero_point: 0 }; n]).unwrap()
        };
        let cases: Vec<(&str, Box<dyn Fn(&mut Graph)>)> = vec![
            ("input out of range", Box::new(move |g| g.inputs.push(nowhere))),
            ("output out of range", Box::new(move |g| g.outputs.push(nowhere))),
            ("operand out of range", Box::new(move |g| g.nodes_mut().push(node(&[3], &[])))),
            ("result out of range", Box::new(move |g| g.nodes_mut().push(node(&[], &[3])))),
            ("input twice", Box::new(move |g| g.inputs.push(x))),
            ("constant input", Box::new(move |g| g.inputs.push(c))),
            ("two producers", Box::new(move |g| g.nodes_mut().push(node(&[0], &[1])))),
            ("computed input", Box::new(move |g| g.nodes_mut().push(node(&[1], &[0])))),
            ("computed constant", Box::new(move |g| g.nodes_mut().push(node(&[1], &[2])))),
            ("read before computed", Box::new(move |g| g.nodes_mut().insert(0, node(&[1], &[])))),
            ("self loop", Box::new(move |g| g.nodes_mut()[0] = node(&[1], &[1]))),
            ("output that nobody computes", Box::new(|g| g.nodes_mut().clear())),
            (
                "constant of another type",
                Box::new(move |g| {
                    g.value_mut(c).value_type = constant_type(ElementType::F64);
                }),
            ),
            ("constant of no type", Box::new(move |g| g.value_mut(c).value_type = ValueType::Unknown)),
            ("axis beyond the rank", Box::new(move |g| g.value_mut(c).scheme = scheme(channels(0, 1)))),
            (
                "infinite scale",
                Box::new(move |g| {
                    g.value_mut(y).scheme = scheme(QuantScheme::per_tensor(f32::INFINITY, 0));
                }),
            ),
            (
                "deep type",
                Box::new(move |g| {
                    let inner = ValueType::Unknown;
                    let deep = (0..17).fold(inner, |inner, _| ValueType::Sequence(Box::new(inner)));
                    g.value_mut(y).value_type = deep;
                }),
            ),
        ];
        assert!(graph(&sound()).is_ok());
        for (name, change) in cases {
            let mut changed = sound();
            change(&mut changed);
            assert!(graph(&changed).is_err(), "{name}");
        }
        let channels = Tensor::from_slice(&[2, 3], &[0i8; 6]).unwrap();
        each_case([(0, 2, true), (1, 3, true), (0, 3, false), (1, 2, false), (2, 2, false)], |&case| {
            let (axis, count, allowed) = case;
            let params = vec![QuantParam { scale: 1.0, zero_point: 0 }; count];
            let scheme = QuantScheme::per_channel(axis, params).unwrap();
            let mut changed = sound();
            changed.add_constant("q", channels.clone().with_scheme(Some(Arc::new(scheme))));
            if graph(&changed).is_ok() == allowed { Ok(()) } else { Err("wrong".into()) }
        });
    }
}
