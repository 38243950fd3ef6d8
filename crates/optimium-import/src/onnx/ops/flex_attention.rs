//! Attention whose scores and probabilities other graphs change.

use optimium_graph::ValueId;
use optimium_graph::ops::{Attention, AttentionScores, Binary, Operator, Softmax, Tile, Transpose, Unary};
use optimium_tensor::{ElementType, Error, Result};

use super::super::node::{NodeReader, unsupported};
use super::super::proto::GraphProto;
use super::super::types::element_type_of_attribute;

/// Inputs: q, k, v `[batch, heads, length, size]`.
pub(super) fn flex_attention(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let scale = node.attributes.float("scale")?;
    let (of_scores, of_probabilities) =
        (node.attributes.optional_graph("score_mod")?, node.attributes.optional_graph("prob_mod")?);
    let precision = node.attributes.int("softmax_precision")?;
    let double = node.input(0).and_then(|q| node.element_type(q)) == Some(ElementType::F64);
    if of_scores.is_none() && of_probabilities.is_none() && !double {
        let op = Attention {
            query_heads: None,
            key_heads: None,
            value_heads: None,
            scale,
            softcap: 0.0,
            causal: false,
            merged: None,
            scores: AttentionScores::Product,
            masked_score: None,
        };
        return node.finish_with_all_inputs(Operator::Attention(op));
    }
    let (q, k, v) = (node.required(0)?, node.required(1)?, node.required(2)?);
    let Some(own) = node.element_type(q) else { return unsupported("unknown element type") };
    let inside = match precision {
        Some(precision) => element_type_of_attribute(precision)?,
        None if matches!(own, ElementType::F16 | ElementType::BF16) => ElementType::F32,
        None => own,
    };
    let convert = |node: &mut NodeReader<'_, '_>, x, from, to| if from == to { x } else { node.cast(x, to) };
    let repeats = repeats(node, q, k)?;
    let (k, v) = (for_every_head(node, q, k, repeats)?, for_every_head(node, q, v, repeats)?);
    let q = scaled(node, q, scale)?;
    let k = node.step(Operator::Transpose(Transpose { permutation: vec![0, 1, 3, 2] }), [Some(k)]);
    let scores = node.matmul(q, k);
    let mut scores = convert(node, scores, own, inside);
    if let Some(change) = of_scores {
        scores = changed(node, change, scores)?;
    }
    let softmax = Softmax { axis: -1, log: false, flatten: false };
    let mut probabilities = node.step(Operator::Softmax(softmax), [Some(scores)]);
    if let Some(change) = of_probabilities {
        probabilities = changed(node, change, probabilities)?;
    }
    let v = convert(node, v, own, inside);
    let y = node.matmul(probabilities, v);
    let y = convert(node, y, inside, own);
    node.give(0, y);
    Ok(())
}

/// What a graph of one input and one output makes of `x`.
fn changed<'m>(node: &mut NodeReader<'_, 'm>, graph: &'m GraphProto, x: ValueId) -> Result<ValueId> {
    match node.inline(graph, &[x])?.as_slice() {
        &[y] => Ok(y),
        other => Err(Error::model(format!("its graph {:?} has {} outputs", graph.name, other.len()))),
    }
}

/// q times the scale, which is `1 / √size` where the node has none.
fn scaled(node: &mut NodeReader<'_, '_>, q: ValueId, scale: Option<f32>) -> Result<ValueId> {
    if let Some(scale) = scale {
        return node.times(q, scale);
    }
    let size = node.size(q, -1);
    let size = node.cast(size, ElementType::F32);
    let root = node.unary(Unary::Sqrt, size);
    let root = node.cast_from(root, ElementType::F32, q);
    Ok(node.binary(Binary::Div, q, root))
}

/// Query heads for each head of the keys: a vector of one.
fn repeats(node: &mut NodeReader<'_, '_>, q: ValueId, k: ValueId) -> Result<ValueId> {
    let (of_queries, of_keys) = (node.size(q, 1), node.size(k, 1));
    Ok(node.binary(Binary::Div, of_queries, of_keys))
}

/// Keys or values with a head for every one of the queries.
fn for_every_head(
    node: &mut NodeReader<'_, '_>,
    q: ValueId,
    x: ValueId,
    repeats: ValueId,
) -> Result<ValueId> {
    let one = node.add_i64s("once", &[1, 1])?;
    let counts = node.concat(&[one, repeats, one], 0);
    let split = node.unsqueeze(x, &[2]);
    let tiled = node.step(Operator::Tile(Tile { repeats: None }), [Some(split), Some(counts)]);
    let (heads, rest) = (node.sizes(q, 0, Some(2)), node.sizes(x, 2, None));
    let shape = node.concat(&[heads, rest], 0);
    Ok(node.reshape_to(tiled, shape))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{graph, node, read_graph, value};

    #[test]
    fn graphs_are_read_in_place() {
        let inputs = || ["q", "k", "v"].map(|name| value(name, &["2", "4", "6", "8"])).to_vec();
        let flex = || {
            let mut flex = node("FlexAttention", &["q", "k", "v"], &["y"]);
            flex.domain = "ai.onnx.preview".to_owned();
            flex
        };
        let change = graph(vec![value("s", &[])], vec![], vec![node("Tanh", &["s"], &["t"])]);
        let two = graph(vec![value("s", &[]), value("r", &[])], vec![], vec![node("Tanh", &["s"], &["t"])]);
        let names = |node| {
            let mut model = super::super::super::testing::model(26, graph(inputs(), vec![], vec![node]));
            model.opset_import.push(super::super::super::proto::OperatorSetId {
                domain: "ai.onnx.preview".to_owned(),
                version: 1,
            });
            let read = super::super::super::testing::read(&model).map_err(|error| error.to_string())?;
            Ok::<_, String>(read.nodes().iter().map(|node| node.op.name()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(names(flex()).unwrap(), "Attention");
        let changed = names(flex().graph("score_mod", change.clone())).unwrap();
        assert!(changed.ends_with("MatMul Tanh Softmax MatMul Identity"), "{changed}");
        let changed = names(flex().graph("prob_mod", change)).unwrap();
        assert!(changed.ends_with("MatMul Softmax Tanh MatMul Identity"), "{changed}");
        assert!(names(flex().graph("prob_mod", two)).is_err());
        let plain = read_graph(26, graph(inputs(), vec![], vec![flex()]));
        assert!(plain.is_err(), "the domain is not imported");
    }
}
