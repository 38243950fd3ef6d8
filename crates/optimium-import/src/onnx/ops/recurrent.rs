//! Recurrent layers.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Binary, Cast, Direction, Operator, Recurrent, RecurrentActivation, RecurrentKind, Transpose,
};
use optimium_tensor::{ElementType, Error, Result};

use super::super::attributes::missing;
use super::super::node::NodeReader;

pub(super) fn recurrent(node: &mut NodeReader<'_, '_>, kind: RecurrentKind) -> Result<()> {
    let recurrent_weights = node.required(2)?;
    let hidden_size = hidden_size(node, recurrent_weights, 2)?;
    let op = layer(node, kind, hidden_size)?;
    node.finish_with_all_inputs(Operator::Recurrent(op))
}

/// An LSTM with weights of bytes, which become real. So do its activations, which ONNX Runtime rounds before each product.
///
/// Inputs: those of an LSTM, but for weights of `[directions, from, to]`; scale and zero point of the first weights, of
/// `[directions]` or `[directions, to]`; those of the recurrent ones.
pub(super) fn dynamic_quantize_lstm(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let stored = node.required(2)?;
    let hidden_size = hidden_size(node, stored, 1)?;
    let op = layer(node, RecurrentKind::Lstm, hidden_size)?;
    let mut inputs: Vec<Option<ValueId>> = (0..8).map(|index| node.input(index)).collect();
    inputs[1] = Some(real_weights(node, 1, 8)?);
    inputs[2] = Some(real_weights(node, 2, 10)?);
    node.finish(Operator::Recurrent(op), inputs)
}

/// Input `index` as the weights of an LSTM, `[directions, to, from]`, with the scale and zero point that follow at `parameters`.
fn real_weights(node: &mut NodeReader<'_, '_>, index: usize, parameters: usize) -> Result<ValueId> {
    let real = || Operator::Cast(Cast { to: ElementType::F32 });
    let stored = node.required(index)?;
    let mut weights = node.step(real(), [Some(stored)]);
    if let Some(zero) = per_column(node, parameters + 1, "zero_point")? {
        let zero = node.step(real(), [Some(zero)]);
        weights = node.binary(Binary::Sub, weights, zero);
    }
    let scale = per_column(node, parameters, "scale")?;
    let scale = scale.ok_or_else(|| Error::model("the scale of its weights is missing"))?;
    let scaled = node.binary(Binary::Mul, weights, scale);
    let transpose = Transpose { permutation: vec![0, 2, 1] };
    Ok(node.step(Operator::Transpose(transpose), [Some(scaled)]))
}

/// The constant input `index` of `[directions]` or `[directions, columns]` as `[directions, 1, columns]`.
fn per_column(node: &mut NodeReader<'_, '_>, index: usize, what: &str) -> Result<Option<ValueId>> {
    let Some(value) = node.input(index) else { return Ok(None) };
    let tensor = node
        .constant(value)
        .ok_or_else(|| Error::not_implemented(format!("a computed {what} of weights")))?;
    let dims = match *tensor.dims() {
        [directions] => [directions, 1, 1],
        [directions, columns] => [directions, 1, columns],
        _ => return Err(Error::model(format!("a {what} of weights of shape {:?}", tensor.dims()))),
    };
    let tensor = tensor.reshaped(&dims)?;
    Ok(Some(node.add_constant(&format!("input_{index}.{what}"), tensor)))
}

/// What the attributes say of the layer.
fn layer(node: &mut NodeReader<'_, '_>, kind: RecurrentKind, hidden_size: usize) -> Result<Recurrent> {
    let direction = match node.attributes.string_or("direction", "forward")? {
        "forward" => Direction::Forward,
        "reverse" => Direction::Reverse,
        "bidirectional" => Direction::Bidirectional,
        other => return Err(Error::model(format!("the direction {other:?}"))),
    };
    let functions = match kind {
        RecurrentKind::Rnn => 1,
        RecurrentKind::Gru => 2,
        RecurrentKind::Lstm => 3,
    };
    let activations = activations(node, functions * direction.count())?;
    Ok(Recurrent {
        kind,
        hidden_size,
        direction,
        activations,
        clip: node.attributes.float("clip")?,
        linear_before_reset: kind == RecurrentKind::Gru
            && node.attributes.flag("linear_before_reset", false)?,
        input_forget: kind == RecurrentKind::Lstm && node.attributes.flag("input_forget", false)?,
        batch_first: node.attributes.flag("layout", false)?,
    })
}

/// From the attribute, or that axis of the recurrent weights.
fn hidden_size(node: &mut NodeReader<'_, '_>, weights: ValueId, axis: usize) -> Result<usize> {
    if let Some(size) = node.attributes.count("hidden_size")? {
        return Ok(size);
    }
    let dims = node.constant_dims(weights);
    dims.and_then(|dims| dims.get(axis).copied()).ok_or_else(|| missing("hidden_size"))
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
    use super::super::super::proto::TensorProto;
    use super::super::super::testing::{case, check, graph, node, read_graph, value, zeros};
    use super::*;

    #[test]
    fn weights_of_bytes_become_real() {
        let bytes = |name: &str, dims: &[i64]| {
            let count: i64 = dims.iter().product();
            TensorProto {
                name: name.to_owned(),
                dims: dims.to_vec(),
                data_type: 3,
                raw_data: Some(vec![1; count as usize].into()),
                ..TensorProto::default()
            }
        };
        let read = |parameters: &[i64]| {
            let names = ["x", "w", "r", "", "", "", "", "", "ws", "wz", "rs", "rz"];
            let mut lstm = node("DynamicQuantizeLSTM", &names, &["y"]);
            lstm.domain = "com.microsoft".to_owned();
            let mut constants = vec![bytes("w", &[1, 3, 8]), bytes("r", &[1, 2, 8])];
            constants.extend(["ws", "rs"].map(|name| zeros(name, parameters)));
            constants.extend(["wz", "rz"].map(|name| bytes(name, parameters)));
            read_graph(17, graph(vec![value("x", &["s", "n", "3"])], constants, vec![lstm]))
        };
        for parameters in [&[1][..], &[1, 8]] {
            let graph = read(parameters).unwrap();
            let last = graph.nodes().last().unwrap();
            let Operator::Recurrent(op) = &last.op else { panic!("{:?}", last.op) };
            assert_eq!((op.kind, op.hidden_size), (RecurrentKind::Lstm, 2));
            assert_eq!(last.inputs.iter().flatten().count(), 3);
            let names: Vec<&str> = graph.nodes().iter().map(|node| node.op.name()).collect();
            let of_weights = ["Cast", "Cast", "Sub", "Mul", "Transpose"];
            assert_eq!(names, [&of_weights[..], &of_weights[..], &["LSTM"][..]].concat());
        }
        assert!(read(&[1, 1, 8]).is_err());
    }

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
