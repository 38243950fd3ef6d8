//! Sequences and optionals: lists of values, which have no nodes of their own.

use optimium_graph::ValueId;
use optimium_graph::ops::{Operator, Split, Squeeze};
use optimium_tensor::{ElementType, Error, Expr, Result, Tensor};

use super::super::level::Structure;
use super::super::node::{NodeReader, support, unsupported};

/// More parts come from damaged or hostile models only.
const MAX_PARTS: i64 = 1 << 16;

pub(super) fn construct(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let values = (0..node.inputs.len()).map(|index| node.required(index)).collect::<Result<_>>()?;
    node.finish_structure(0, Structure::Sequence(values));
    Ok(())
}

pub(super) fn empty(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.attributes.ignore(&["dtype"]);
    node.finish_structure(0, Structure::Sequence(Vec::new()));
    Ok(())
}

pub(super) fn length(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let values = node.sequence(0)?;
    node.finish_constant(Tensor::scalar(values.len() as i64)?);
    Ok(())
}

/// One of the values; where its position is computed, all of them have to be of one shape.
pub(super) fn at(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (values, position) = (node.sequence(0)?, node.required(1)?);
    if let Some(position) = position_of(node, 1, values.len())? {
        let value =
            values.get(position).ok_or_else(|| Error::model(beyond(position as i64, values.len())))?;
        node.give(0, *value);
        return Ok(());
    }
    if values.is_empty() {
        return Err(Error::model("it reads an empty sequence"));
    }
    let stacked = stack(node, &values, 0);
    let value = node.gather(stacked, position, 0);
    node.give(0, value);
    Ok(())
}

pub(super) fn insert(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (mut values, value) = (node.sequence(0)?, node.required(1)?);
    let position = match node.input(2) {
        Some(_) => fixed_position(node, 2, values.len())?,
        None => values.len(),
    };
    if position > values.len() {
        return Err(Error::model(beyond(position as i64, values.len())));
    }
    values.insert(position, value);
    node.finish_structure(0, Structure::Sequence(values));
    Ok(())
}

pub(super) fn erase(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let mut values = node.sequence(0)?;
    let position = match node.input(1) {
        Some(_) => fixed_position(node, 1, values.len())?,
        None => values.len().wrapping_sub(1),
    };
    if position >= values.len() {
        return Err(Error::model(beyond(position as i64, values.len())));
    }
    values.remove(position);
    node.finish_structure(0, Structure::Sequence(values));
    Ok(())
}

/// The position that input `index` says, counted from the beginning; `None` where it is computed.
fn position_of(node: &mut NodeReader<'_, '_>, index: usize, length: usize) -> Result<Option<usize>> {
    let position = node.required(index)?;
    let Some(position) = node.known(position) else { return Ok(None) };
    let &[position] = position.to_i64s()?.as_slice() else {
        return Err(Error::model("a position that is not one number"));
    };
    let from_start = if position < 0 { position.saturating_add(length as i64) } else { position };
    let from_start = usize::try_from(from_start).map_err(|_| Error::model(beyond(position, length)))?;
    Ok(Some(from_start))
}

fn fixed_position(node: &mut NodeReader<'_, '_>, index: usize, length: usize) -> Result<usize> {
    match position_of(node, index, length)? {
        Some(position) => Ok(position),
        None => unsupported("a computed position"),
    }
}

fn beyond(position: i64, length: usize) -> String {
    format!("the position {position} of a sequence of {length}")
}

/// The values side by side along a new axis.
pub(super) fn stack(node: &mut NodeReader<'_, '_>, values: &[ValueId], axis: i64) -> ValueId {
    let rows: Vec<_> = values.iter().map(|&value| node.unsqueeze(value, &[axis])).collect();
    node.concat(&rows, axis)
}

pub(super) fn concat(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.required_int("axis")?;
    let is_new = node.attributes.flag("new_axis", false)?;
    let values = node.sequence(0)?;
    if values.is_empty() {
        return Err(Error::model("it joins an empty sequence"));
    }
    let joined = if is_new { stack(node, &values, axis) } else { node.concat(&values, axis) };
    node.give(0, joined);
    Ok(())
}

/// Parts of a tensor along an axis: of sizes that a vector says, of one size but for the last, or of one index each.
pub(super) fn split(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let axis = node.attributes.int_or("axis", 0)?;
    let keep_dims = node.attributes.flag("keepdims", true)?;
    let x = node.required(0)?;
    let (sizes, computed) = part_sizes(node, x, axis)?;
    let parts: Vec<ValueId> =
        (0..sizes.len()).map(|index| node.intermediate(&format!("part_{index}"))).collect();
    let inputs = std::iter::once(Some(x)).chain(computed.map(Some)).collect();
    let known = computed.is_none().then(|| sizes.iter().map(|&size| Expr::from(size)).collect());
    let op = Operator::Split(Split { axis, sizes: known });
    node.add_node(op, inputs, parts.iter().copied().map(Some).collect());
    let parts = match keep_dims || node.input(1).is_some() {
        true => parts,
        false => {
            let squeeze =
                |part| node.step(Operator::Squeeze(Squeeze { axes: Some(vec![axis]) }), [Some(part)]);
            parts.into_iter().map(squeeze).collect()
        }
    };
    node.finish_structure(0, Structure::Sequence(parts));
    Ok(())
}

/// The sizes of the parts, and the vector that computes them where only their number is known.
fn part_sizes(node: &mut NodeReader<'_, '_>, x: ValueId, axis: i64) -> Result<(Vec<i64>, Option<ValueId>)> {
    let size = match node.input(1) {
        None => 1,
        Some(split) => match node.known(split) {
            Some(sizes) if sizes.dims().len() == 1 => {
                let sizes = sizes.to_i64s()?;
                let fits = sizes.iter().all(|&size| size >= 0) && sizes.len() as i64 <= MAX_PARTS;
                return if fits {
                    Ok((sizes, None))
                } else {
                    Err(Error::model(format!("parts of {sizes:?}")))
                };
            }
            Some(size) => size.to_i64s()?.first().copied().unwrap_or(0),
            None => {
                let dims = node.inferred_dims(split);
                let Some(&[Some(count)]) = dims.as_deref() else {
                    return unsupported("a computed number of parts");
                };
                support(count <= MAX_PARTS, "so many parts")?;
                return Ok((vec![0; count as usize], Some(split)));
            }
        },
    };
    let dims = node.inferred_dims(x).unwrap_or_default();
    let place = if axis < 0 { axis + dims.len() as i64 } else { axis };
    let whole = usize::try_from(place).ok().and_then(|place| dims.get(place).copied().flatten());
    let Some(whole) = whole else { return unsupported("a number of parts that the model does not say") };
    if size <= 0 {
        return Err(Error::model(format!("parts of size {size}")));
    }
    support(whole / size <= MAX_PARTS, "so many parts")?;
    Ok(((0..whole).step_by(size as usize).map(|start| size.min(whole - start)).collect(), None))
}

/// A body for each element of the first sequence, with the elements of other sequences, and other inputs, which are tensors.
pub(super) fn map(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let body = node.attributes.graph("body")?;
    let length = node.sequence(0)?.len();
    let mut results = vec![Vec::with_capacity(length); node.outputs.len()];
    for index in 0..length {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for position in 0..node.inputs.len() {
            let input = node.required(position)?;
            inputs.push(match node.structure(input) {
                Some(Structure::Sequence(values)) => *values
                    .get(index)
                    .ok_or_else(|| Error::model(format!("its input {position} is shorter than the first")))?,
                _ => input,
            });
        }
        let outputs = node.inline(body, &inputs)?;
        if outputs.len() < results.len() {
            return Err(Error::model("its body has fewer outputs than the node"));
        }
        results.iter_mut().zip(outputs).for_each(|(result, output)| result.push(output));
    }
    for (index, values) in results.into_iter().enumerate() {
        node.finish_structure(index, Structure::Sequence(values));
    }
    Ok(())
}

/// Of a value, or of none. One with a value is treated as the value itself.
pub(super) fn optional(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.attributes.ignore(&["type"]);
    match node.input(0) {
        Some(value) => node.give(0, value),
        None => node.finish_structure(0, Structure::Absent),
    }
    Ok(())
}

pub(super) fn has_element(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let found = node.input(0).is_some_and(|value| node.structure(value) != Some(Structure::Absent));
    node.finish_constant(Tensor::from_bytes(ElementType::Bool, &[], &[u8::from(found)])?);
    Ok(())
}

pub(super) fn get_element(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let value = node.required(0)?;
    if node.structure(value) == Some(Structure::Absent) {
        return Err(Error::model("it reads an optional without a value"));
    }
    node.give(0, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use optimium_graph::Graph;
    use optimium_tensor::ErrorKind;

    use super::super::super::proto::{GraphProto, NodeProto};
    use super::super::super::testing::{graph, integers, node, read_graph, value};
    use super::*;

    /// The graph of nodes over inputs `a` `[2, 3]` and `b` `[2, 3]`, and constants `zero`, `minus` and `nine`.
    fn read(nodes: Vec<NodeProto>) -> Result<Graph> {
        let inputs = vec![value("a", &["2", "3"]), value("b", &["2", "3"])];
        let constants = vec![integers("zero", &[0]), integers("minus", &[-1]), integers("nine", &[9])];
        read_graph(17, graph(inputs, constants, nodes))
    }

    fn operators(graph: &Graph) -> String {
        graph.nodes().iter().map(|node| node.op.name()).collect::<Vec<_>>().join(" ")
    }

    fn pair() -> NodeProto {
        node("SequenceConstruct", &["a", "b"], &["s"])
    }

    #[test]
    fn become_the_tensors_in_them() {
        let cases = [
            (vec![pair(), node("SequenceAt", &["s", "minus"], &["y"])], "Identity"),
            (vec![pair(), node("SequenceLength", &["s"], &["y"])], ""),
            (vec![pair(), node("ConcatFromSequence", &["s"], &["y"]).int("axis", 1)], "Concat Identity"),
            (
                vec![pair(), node("ConcatFromSequence", &["s"], &["y"]).int("axis", -1).int("new_axis", 1)],
                "Unsqueeze Unsqueeze Concat Identity",
            ),
            (
                vec![
                    node("SequenceEmpty", &[], &["e"]),
                    node("SequenceInsert", &["e", "a"], &["f"]),
                    node("SequenceInsert", &["f", "b", "zero"], &["g"]),
                    node("SequenceErase", &["g"], &["h"]),
                    node("SequenceAt", &["h", "zero"], &["y"]),
                ],
                "Identity",
            ),
            (
                vec![
                    node("SplitToSequence", &["a"], &["s"]).int("axis", -1).int("keepdims", 0),
                    node("SequenceAt", &["s", "minus"], &["y"]),
                ],
                "Split Squeeze Squeeze Squeeze Identity",
            ),
            (
                vec![node("Optional", &["a"], &["o"]), node("OptionalGetElement", &["o"], &["y"])],
                "Identity Identity",
            ),
            (vec![node("Optional", &[], &["o"]), node("OptionalHasElement", &["o"], &["y"])], ""),
        ];
        for (nodes, expected) in cases {
            let shown = format!("{nodes:?}");
            let mut read = read(nodes).unwrap();
            optimium_graph::shapes::infer(&mut read).unwrap();
            assert_eq!(operators(&read), expected, "{shown}");
        }
    }

    #[test]
    fn positions_may_be_computed_in_equal_tensors() {
        let nodes = vec![pair(), node("Size", &["a"], &["size"]), node("SequenceAt", &["s", "size"], &["y"])];
        assert_eq!(operators(&read(nodes).unwrap()), "Size Unsqueeze Unsqueeze Concat Gather Identity");
    }

    #[test]
    fn outputs_are_their_tensors() {
        let read = read(vec![pair()]).unwrap();
        let names: Vec<&str> = read.outputs.iter().map(|&id| read.value(id).name.as_str()).collect();
        assert_eq!(names, ["s.0", "s.1"]);
    }

    /// A body that adds one to its input.
    fn body(inputs: &[&str], op: &str) -> GraphProto {
        let given = inputs.iter().map(|name| value(name, &["2", "3"])).collect();
        graph(given, vec![], vec![node(op, inputs, &["r"])])
    }

    #[test]
    fn bodies_run_for_each_tensor() {
        let map = node("SequenceMap", &["s", "b"], &["t"]).graph("body", body(&["x", "y"], "Add"));
        let read = read(vec![pair(), map]).unwrap();
        assert_eq!(operators(&read), "Add Add Identity Identity");
        assert_eq!(read.nodes()[1].inputs, [read.find_value("b"); 2]);
    }

    #[test]
    fn branches_and_loops_carry_them() {
        let branch =
            |first: &str| graph(vec![], vec![], vec![node("SequenceConstruct", &[first, "b"], &["r"])]);
        let choose = |condition: &str| {
            node("If", &[condition], &["t"])
                .graph("then_branch", branch("a"))
                .graph("else_branch", branch("b"))
        };
        let size = node("Size", &["a"], &["size"]);
        let computed = read(vec![size, node("Cast", &["size"], &["c"]).int("to", 9), choose("c")]).unwrap();
        assert_eq!(operators(&computed), "Size Cast If Identity Identity");
        assert_eq!(operators(&read(vec![choose("minus")]).unwrap()), "Identity Identity");
        let mut body = graph(
            vec![value("i", &[]), value("go", &[]), value("state", &[])],
            vec![],
            vec![
                node("Identity", &["go"], &["again"]),
                node("Neg", &["a"], &["n"]),
                node("SequenceInsert", &["state", "n"], &["next"]),
            ],
        );
        body.output.insert(0, value("again", &[]));
        let repeat = |count: &str| node("Loop", &[count, "", "s"], &["t"]).graph("body", body.clone());
        let nine = read(vec![pair(), repeat("nine")]).unwrap();
        assert_eq!(nine.outputs.len(), 11);
        let size = node("Size", &["a"], &["size"]);
        assert_eq!(read(vec![pair(), size, repeat("size")]).unwrap_err().kind(), ErrorKind::NotImplemented);
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let cases = [
            (vec![pair(), node("SequenceAt", &["s", "nine"], &["y"])], ErrorKind::Model),
            (vec![pair(), node("SequenceErase", &["s", "nine"], &["t"])], ErrorKind::Model),
            (vec![pair(), node("SequenceInsert", &["s", "a", "nine"], &["t"])], ErrorKind::Model),
            (vec![pair(), node("Neg", &["s"], &["y"])], ErrorKind::NotImplemented),
            (vec![node("SequenceLength", &["a"], &["y"])], ErrorKind::NotImplemented),
            (
                vec![node("Optional", &[], &["o"]), node("OptionalGetElement", &["o"], &["y"])],
                ErrorKind::Model,
            ),
            (
                vec![node("SequenceEmpty", &[], &["e"]), node("SequenceErase", &["e"], &["f"])],
                ErrorKind::Model,
            ),
            (
                vec![
                    node("SequenceEmpty", &[], &["e"]),
                    node("ConcatFromSequence", &["e"], &["y"]).int("axis", 0),
                ],
                ErrorKind::Model,
            ),
        ];
        for (nodes, expected) in cases {
            let shown = format!("{nodes:?}");
            assert_eq!(read(nodes).map(|graph| operators(&graph)).unwrap_err().kind(), expected, "{shown}");
        }
    }
}
