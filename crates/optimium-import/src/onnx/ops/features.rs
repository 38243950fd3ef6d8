//! Operators of the domain `ai.onnx.ml` that are arithmetic on tensors.

use optimium_graph::ops::{Cast, Comparison, Operator};
use optimium_tensor::Result;

use super::super::node::{NodeReader, unsupported};

/// One where an element is larger than the threshold, else zero.
pub(super) fn binarizer(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let threshold = node.attributes.float_or("threshold", 0.0)?;
    let x = node.required(0)?;
    let Some(to) = node.element_type(x) else { return unsupported("unknown element type") };
    let threshold = node.scalar_like("threshold", x, threshold)?;
    let above = node.compare(Comparison::Greater, x, threshold);
    node.finish(Operator::Cast(Cast { to }), [Some(above)])
}

/// The elements of the last axis at indices; a vector is a row.
pub(super) fn extractor(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let (mut x, indices) = (node.required(0)?, node.required(1)?);
    match node.rank(x) {
        None => return unsupported("unknown rank"),
        Some(1) => x = node.unsqueeze(x, &[0]),
        Some(_) => {}
    }
    let indices = node.reshape(indices, &[-1])?;
    let y = node.gather(x, indices, -1);
    node.give(0, y);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::OperatorSetId;
    use super::super::super::testing::{graph, model, node, read, value};

    #[test]
    fn become_steps() {
        let names = |op_type: &str, inputs: &[&str]| {
            let mut node = node(op_type, inputs, &["y"]);
            node.domain = "ai.onnx.ml".to_owned();
            let given = inputs.iter().map(|name| value(name, &["2", "3"])).collect();
            let mut model = model(13, graph(given, vec![], vec![node]));
            model.opset_import.push(OperatorSetId { domain: "ai.onnx.ml".to_owned(), version: 1 });
            let names: Vec<_> = read(&model).unwrap().nodes().iter().map(|node| node.op.name()).collect();
            names.join(" ")
        };
        assert_eq!(names("Binarizer", &["x"]), "Greater Cast");
        assert_eq!(names("ArrayFeatureExtractor", &["x", "i"]), "Reshape Gather Identity");
    }
}
