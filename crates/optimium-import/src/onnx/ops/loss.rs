//! Losses: of interest behind a model that is trained elsewhere, and in its evaluation.

use optimium_graph::ValueId;
use optimium_graph::ops::{Comparison, GatherElements, Operator, Reduction, Softmax, Unary};
use optimium_tensor::{Error, Result};

use super::super::node::NodeReader;

/// Inputs: logarithms of probabilities `[n, classes, …]`, targets `[n, …]`, weights `[classes]` or none.
pub(super) fn negative_log_likelihood(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let x = node.required(0)?;
    likelihood(node, x)
}

/// Inputs: scores, targets and weights as [`negative_log_likelihood`]. Outputs: the loss, the logarithms of probabilities.
pub(super) fn softmax_cross_entropy(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let scores = node.required(0)?;
    let softmax = Softmax { axis: 1, log: true, flatten: false };
    let logarithms = node.step(Operator::Softmax(softmax), [Some(scores)]);
    likelihood(node, logarithms)?;
    node.give(1, logarithms);
    Ok(())
}

/// `-weight[target] · x[target]` as the first output, reduced as the node says.
fn likelihood(node: &mut NodeReader<'_, '_>, x: ValueId) -> Result<()> {
    let reduction = node.attributes.string_or("reduction", "mean")?;
    if !["none", "sum", "mean"].contains(&reduction) {
        return Err(Error::model(format!("the reduction {reduction:?}")));
    }
    let ignored = node.attributes.int("ignore_index")?;
    let Targets { indices, counted } = targets(node, ignored)?;
    let columns = node.unsqueeze(indices, &[1]);
    let picked = node.step(Operator::GatherElements(GatherElements { axis: 1 }), [Some(x), Some(columns)]);
    let picked = node.squeeze(picked, &[1]);
    let mut loss = node.unary(Unary::Neg, picked);
    let weights = weights_of(node, x, indices, counted)?;
    if let Some(weights) = weights {
        loss = node.binary(optimium_graph::ops::Binary::Mul, loss, weights);
    }
    let result = match (reduction, weights) {
        ("none", _) => loss,
        ("sum", _) => node.reduce(Reduction::Sum, loss, None, false),
        (_, None) => node.reduce(Reduction::Mean, loss, None, false),
        (_, Some(weights)) => {
            let sum = node.reduce(Reduction::Sum, loss, None, false);
            let total = node.reduce(Reduction::Sum, weights, None, false);
            node.binary(optimium_graph::ops::Binary::Div, sum, total)
        }
    };
    node.give(0, result);
    Ok(())
}

/// The classes wanted.
struct Targets {
    /// One that exists for each element.
    indices: ValueId,
    /// Whether the element counts, where some do not.
    counted: Option<ValueId>,
}

fn targets(node: &mut NodeReader<'_, '_>, ignored: Option<i64>) -> Result<Targets> {
    let indices = node.required(1)?;
    let Some(ignored) = ignored else { return Ok(Targets { indices, counted: None }) };
    // As integers of 64 bits the number that is ignored is what the model says, whatever the type of the targets.
    let wide = node.cast(indices, optimium_tensor::ElementType::I64);
    let (ignored, zero) = (node.scalar("ignored", ignored)?, node.scalar("zero", 0)?);
    let left_out = node.compare(Comparison::Equal, wide, ignored);
    let indices = node.select(left_out, zero, wide);
    Ok(Targets { indices, counted: Some(node.unary(Unary::Not, left_out)) })
}

/// What each element counts, where that is not one.
fn weights_of(
    node: &mut NodeReader<'_, '_>,
    x: ValueId,
    indices: ValueId,
    counted: Option<ValueId>,
) -> Result<Option<ValueId>> {
    let given = node.input(2).map(|weights| node.gather(weights, indices, 0));
    let Some(counted) = counted else { return Ok(given) };
    let zero = node.scalar_like("none", x, 0.0)?;
    let one = match given {
        Some(weights) => weights,
        None => node.scalar_like("one", x, 1.0)?,
    };
    Ok(Some(node.select(counted, one, zero)))
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{node, operators};

    #[test]
    fn become_steps() {
        let nll = || node("NegativeLogLikelihoodLoss", &["x", "t", "w"], &["y"]);
        let names = |node| {
            let read = operators(13, node, Vec::new())?;
            Ok::<_, optimium_tensor::Error>(read.iter().map(|op| op.name()).collect::<Vec<_>>().join(" "))
        };
        let picked = "Unsqueeze GatherElements Squeeze Neg Gather Mul";
        assert_eq!(names(nll().text("reduction", "none")).unwrap(), format!("{picked} Identity"));
        assert_eq!(names(nll().text("reduction", "sum")).unwrap(), format!("{picked} ReduceSum Identity"));
        let mean = "ReduceSum ReduceSum Div Identity";
        assert_eq!(names(nll()).unwrap(), format!("{picked} {mean}"));
        let ignoring = names(nll().int("ignore_index", 1)).unwrap();
        assert!(ignoring.starts_with("Cast Equal Where Not "), "{ignoring}");
        assert!(names(nll().text("reduction", "product")).is_err());
        let softmax = node("SoftmaxCrossEntropyLoss", &["x", "t"], &["y", "p"]);
        let expected = "LogSoftmax Unsqueeze GatherElements Squeeze Neg ReduceMean Identity Identity";
        assert_eq!(names(softmax).unwrap(), expected);
    }
}
