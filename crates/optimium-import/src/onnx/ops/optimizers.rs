//! Steps of training: optimizers, which give new parameters for gradients.

use optimium_graph::ValueId;
use optimium_graph::ops::{Binary, Comparison, Unary};
use optimium_tensor::{ElementType, Error, Result, Tensor};

use super::super::node::NodeReader;

/// What all parameters share.
struct Update {
    rate: ValueId,
    /// How many updates there were before.
    count: ValueId,
    norm: f32,
}

impl Update {
    /// Runs `update` for each parameter: its value, its gradient and its states come in, its new value and states come out.
    fn each(
        &self,
        node: &mut NodeReader<'_, '_>,
        states: usize,
        mut update: impl FnMut(&mut NodeReader<'_, '_>, &[ValueId]) -> Result<Vec<ValueId>>,
    ) -> Result<()> {
        let (operands, results) = (states + 2, states + 1);
        let given = node.inputs.len().saturating_sub(2);
        let parameters = given / operands;
        if !given.is_multiple_of(operands) || node.outputs.len() > parameters * results {
            return Err(Error::model("its inputs and outputs are not those of whole parameters"));
        }
        for parameter in 0..parameters {
            let operand = |index: usize| node.required(2 + index * parameters + parameter);
            let given = (0..operands).map(operand).collect::<Result<Vec<_>>>()?;
            for (index, result) in update(node, &given)?.into_iter().enumerate() {
                node.give(index * parameters + parameter, result);
            }
        }
        Ok(())
    }

    /// The gradient with that of the norm of the parameter.
    fn gradient(&self, node: &mut NodeReader<'_, '_>, x: ValueId, gradient: ValueId) -> Result<ValueId> {
        let of_norm = node.times(x, self.norm)?;
        Ok(node.binary(Binary::Add, of_norm, gradient))
    }
}

fn shared(node: &mut NodeReader<'_, '_>) -> Result<Update> {
    let norm = node.attributes.float_or("norm_coefficient", 0.0)?;
    Ok(Update { rate: node.required(0)?, count: node.required(1)?, norm })
}

/// A constant of one number.
fn number(node: &mut NodeReader<'_, '_>, what: &str, value: f32) -> Result<ValueId> {
    Ok(node.add_constant(what, Tensor::scalar(value)?))
}

/// `a` from the second update on, `b` in the first.
fn later(node: &mut NodeReader<'_, '_>, count: ValueId, a: ValueId, b: ValueId) -> Result<ValueId> {
    let zero = node.scalar("zero", 0)?;
    let is_later = node.compare(Comparison::Greater, count, zero);
    Ok(node.select(is_later, a, b))
}

pub(super) fn adagrad(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let decay = node.attributes.float_or("decay_factor", 0.0)?;
    let epsilon = node.attributes.float_or("epsilon", 1e-6)?;
    let shared = shared(node)?;
    let count = node.cast(shared.count, ElementType::F32);
    let decayed = node.times(count, decay)?;
    let decayed = node.plus(decayed, 1.0)?;
    let rate = node.binary(Binary::Div, shared.rate, decayed);
    shared.each(node, 1, |node, given| {
        let gradient = shared.gradient(node, given[0], given[1])?;
        let square = node.binary(Binary::Mul, gradient, gradient);
        let squares = node.binary(Binary::Add, given[2], square);
        let root = node.unary(Unary::Sqrt, squares);
        let root = node.plus(root, epsilon)?;
        let step = node.binary(Binary::Mul, rate, gradient);
        let step = node.binary(Binary::Div, step, root);
        Ok(vec![node.binary(Binary::Sub, given[0], step), squares])
    })
}

pub(super) fn adam(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 0.9)?;
    let beta = node.attributes.float_or("beta", 0.999)?;
    let epsilon = node.attributes.float_or("epsilon", 1e-6)?;
    let norm_behind = node.attributes.float_or("norm_coefficient_post", 0.0)?;
    let shared = shared(node)?;
    let rate = adam_rate(node, &shared, alpha, beta)?;
    shared.each(node, 2, |node, given| {
        let gradient = shared.gradient(node, given[0], given[1])?;
        let (mean, fresh) = (node.times(given[2], alpha)?, node.times(gradient, 1.0 - alpha)?);
        let mean = node.binary(Binary::Add, mean, fresh);
        let square = node.binary(Binary::Mul, gradient, gradient);
        let (squares, fresh) = (node.times(given[3], beta)?, node.times(square, 1.0 - beta)?);
        let squares = node.binary(Binary::Add, squares, fresh);
        let root = node.unary(Unary::Sqrt, squares);
        let root = node.plus(root, epsilon)?;
        let step = node.binary(Binary::Div, mean, root);
        let step = node.binary(Binary::Mul, rate, step);
        let x = node.binary(Binary::Sub, given[0], step);
        Ok(vec![node.times(x, 1.0 - norm_behind)?, mean, squares])
    })
}

/// The rate, corrected for means that began at zero.
fn adam_rate(node: &mut NodeReader<'_, '_>, shared: &Update, alpha: f32, beta: f32) -> Result<ValueId> {
    let count = node.cast(shared.count, ElementType::F32);
    let mut rest = |factor: f32| -> Result<ValueId> {
        let (one, factor) = (number(node, "one", 1.0)?, number(node, "factor", factor)?);
        let power = node.binary(Binary::Pow, factor, count);
        Ok(node.binary(Binary::Sub, one, power))
    };
    let (of_mean, of_squares) = (rest(alpha)?, rest(beta)?);
    let root = node.unary(Unary::Sqrt, of_squares);
    let corrected = node.binary(Binary::Mul, shared.rate, root);
    let corrected = node.binary(Binary::Div, corrected, of_mean);
    later(node, shared.count, corrected, shared.rate)
}

pub(super) fn momentum(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let alpha = node.attributes.float_or("alpha", 0.0)?;
    let beta = node.attributes.float_or("beta", 0.0)?;
    let is_nesterov = match node.attributes.string_or("mode", "standard")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(Error::model(format!("the mode {other:?}"))),
    };
    let shared = shared(node)?;
    let (beta, one) = (number(node, "beta", beta)?, number(node, "one", 1.0)?);
    let beta = later(node, shared.count, beta, one)?;
    shared.each(node, 1, |node, given| {
        let gradient = shared.gradient(node, given[0], given[1])?;
        let (old, fresh) = (node.times(given[2], alpha)?, node.binary(Binary::Mul, beta, gradient));
        let speed = node.binary(Binary::Add, old, fresh);
        let mut step = speed;
        if is_nesterov {
            let ahead = node.times(speed, alpha)?;
            step = node.binary(Binary::Add, gradient, ahead);
        }
        let step = node.binary(Binary::Mul, shared.rate, step);
        Ok(vec![node.binary(Binary::Sub, given[0], step), speed])
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::proto::{NodeProto, OperatorSetId};
    use super::super::super::testing::{graph, model, node, read, value};
    use super::*;

    fn operators(mut node: NodeProto) -> Result<usize> {
        let domain = "ai.onnx.preview.training";
        node.domain = domain.to_owned();
        let inputs = node.input.iter().map(|name| value(name, &["2"])).collect();
        let mut model = model(17, graph(inputs, vec![], vec![node]));
        model.opset_import.push(OperatorSetId { domain: domain.to_owned(), version: 1 });
        Ok(read(&model)?.nodes().iter().filter(|node| node.op.name() == "Identity").count())
    }

    #[test]
    fn every_parameter_is_updated() {
        let two = node("Adagrad", &["r", "t", "x", "y", "g", "h", "s", "u"], &["a", "b", "c", "d"]);
        assert_eq!(operators(two).unwrap(), 4);
        assert_eq!(operators(node("Adam", &["r", "t", "x", "g", "v", "h"], &["a", "b", "c"])).unwrap(), 3);
        let momentum = || node("Momentum", &["r", "t", "x", "g", "v"], &["a", "b"]);
        assert_eq!(operators(momentum().text("mode", "nesterov")).unwrap(), 2);
        assert!(operators(momentum().text("mode", "other")).is_err());
        assert!(operators(node("Momentum", &["r", "t", "x", "g"], &["a", "b"])).is_err());
        assert!(operators(node("Momentum", &["r", "t"], &["a"])).is_err());
    }
}
