//! Recurrent layers.

use optimium_graph::ops::{Direction, Operator, Recurrent, RecurrentActivation, RecurrentKind};
use optimium_tensor::{Error, Result};

use super::super::attributes::missing;
use super::super::node::NodeReader;

pub(super) fn recurrent(node: &mut NodeReader<'_, '_>, kind: RecurrentKind) -> Result<()> {
    let direction = match node.attributes.string_or("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => return Err(Error::model(format!("the direction {other:?}"))),
    };
    let hidden_size = hidden_size(node)?;
    let functions = match kind {
        RecurrentKind::Rnn => 1,
        RecurrentKind::Gru => 2,
        RecurrentKind::Lstm => 3,
    };
    let activations = activations(node, functions * direction.count())?;
    let op = Recurrent {
        kind,
        hidden_size,
        direction,
        activations,
        clip: node.attributes.float("clip")?,
        linear_before_reset: kind == RecurrentKind::Gru
            && node.attributes.flag("linear_before_reset", false)?,
        input_forget: kind == RecurrentKind::Lstm && node.attributes.flag("input_forget", false)?,
        batch_first: node.attributes.flag("layout", false)?,
    };
    node.finish_with_all_inputs(Operator::Recurrent(op))
}

/// From the attribute, or the last dimension of the recurrent weights.
fn hidden_size(node: &mut NodeReader<'_, '_>) -> Result<usize> {
    if let Some(size) = node.attributes.count("hidden_size")? {
        return Ok(size);
    }
    let weights = node.required(2)?;
    let dims = node.constant_dims(weights);
    dims.and_then(|dims| dims.last().copied()).ok_or_else(|| missing("hidden_size"))
}

/// Parameters are listed for the functions that have them only, in the order of the functions.
fn activations(node: &mut NodeReader<'_, '_>, count: usize) -> Result<Vec<RecurrentActivation>> {
    let names = node.attributes.strings("activations")?.unwrap_or_default();
    let mut alphas = node.attributes.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = node.attributes.floats("activation_beta")?.unwrap_or_default().into_iter();
    if !names.is_empty() && names.len() != count {
        return Err(Error::model(format!("{} activations where there should be {count}", names.len())));
    }
    let mut read = Vec::with_capacity(names.len());
    for name in names {
        let known = CANONICAL.iter().find(|known| known.0.eq_ignore_ascii_case(name));
        let &(name, has_alpha, has_beta) =
            known.ok_or_else(|| Error::model(format!("the activation {name:?}")))?;
        let alpha = if has_alpha { alphas.next() } else { None };
        let beta = if has_beta { betas.next() } else { None };
        read.push(RecurrentActivation { name: name.to_owned(), alpha, beta });
    }
    Ok(read)
}

/// Names of functions, and whether they have an alpha and a beta.
const CANONICAL: &[(&str, bool, bool)] = &[
    ("Relu", false, false),
    ("Tanh", false, false),
    ("Sigmoid", false, false),
    ("Affine", true, true),
    ("LeakyRelu", true, false),
    ("ThresholdedRelu", true, false),
    ("ScaledTanh", true, true),
    ("HardSigmoid", true, true),
    ("Elu", true, false),
    ("Softsign", false, false),
    ("Softplus", false, false),
];

#[cfg(test)]
mod tests {
    use super::super::super::testing::{case, check, node};
    use super::*;

    #[test]
    fn become_what_they_mean() {
        let layer = |kind| Recurrent {
            kind,
            hidden_size: 4,
            direction: Direction::Forward,
            activations: Vec::new(),
            clip: None,
            linear_before_reset: false,
            input_forget: false,
            batch_first: false,
        };
        let read = |name: &str| node(name, &["x", "w", "r"], &["y"]).int("hidden_size", 4);
        let gru = Recurrent { linear_before_reset: true, ..layer(RecurrentKind::Gru) };
        let lstm = Recurrent { direction: Direction::Reverse, clip: Some(3.0), ..layer(RecurrentKind::Lstm) };
        check([
            case(14, read("RNN"), Operator::Recurrent(layer(RecurrentKind::Rnn))),
            case(14, read("GRU").int("linear_before_reset", 1), Operator::Recurrent(gru)),
            case(14, read("LSTM").text("direction", "reverse").float("clip", 3.0), Operator::Recurrent(lstm)),
        ]);
    }
}
