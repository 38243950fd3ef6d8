//! Operators that draw random numbers.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Binary, Cast, CastLike, Comparison, CumSum, Distribution, Operator, PowerRounding, Random, Reduction,
    Softmax, Unary,
};
use optimium_tensor::{ElementType, Error, Expr, Result, Tensor};

use super::super::node::{NodeReader, unsupported};
use super::super::types::element_type_of_attribute;

/// RandomUniform and RandomNormal, of the attribute "shape" or the shape of the input.
pub(super) fn random(node: &mut NodeReader<'_, '_>, is_uniform: bool) -> Result<()> {
    let distribution = match is_uniform {
        true => Distribution::Uniform {
            low: node.attributes.float_or("low", 0.0)?,
            high: node.attributes.float_or("high", 1.0)?,
        },
        false => Distribution::Normal {
            mean: node.attributes.float_or("mean", 0.0)?,
            deviation: node.attributes.float_or("scale", 1.0)?,
        },
    };
    let seed = seed(node)?;
    let like = node.input(0);
    let to = match (node.attributes.int("dtype")?, like) {
        (Some(number), _) => element_type_of_attribute(number)?,
        (None, None) => ElementType::F32,
        (None, Some(like)) => match node.element_type(like) {
            Some(element_type) => element_type,
            None => return unsupported("unknown element type"),
        },
    };
    let element_type = drawn_type(to);
    let (dims, shape) = match like {
        Some(like) => (None, Some(node.sizes(like, 0, None))),
        None => {
            let sizes = node.attributes.counts("shape")?;
            let sizes = sizes.ok_or_else(|| Error::model("the attribute \"shape\" is missing"))?;
            (Some(sizes.into_iter().map(Expr::from).collect()), None)
        }
    };
    let op = Operator::Random(Random { dims, element_type, distribution, seed });
    if to == element_type {
        return node.finish(op, [shape]);
    }
    let numbers = node.step(op, [shape]);
    node.finish(Operator::Cast(Cast { to }), [Some(numbers)])
}

/// The seed that the attribute means.
fn seed(node: &mut NodeReader<'_, '_>) -> Result<Option<u32>> {
    let seed = node.attributes.float("seed")?.filter(|seed| !seed.is_nan());
    Ok(seed.map(|seed| seed as i64 as u32))
}

/// The type that numbers are drawn in, before they are cast to `to`.
fn drawn_type(to: ElementType) -> ElementType {
    if to == ElementType::F64 { ElementType::F64 } else { ElementType::F32 }
}

/// Numbers from zero on and below one, of a computed shape.
fn uniform(
    node: &mut NodeReader<'_, '_>,
    shape: ValueId,
    element_type: ElementType,
    seed: Option<u32>,
) -> ValueId {
    let distribution = Distribution::Uniform { low: 0.0, high: 1.0 };
    node.step(Operator::Random(Random { dims: None, element_type, distribution, seed }), [Some(shape)])
}

/// One with the probability that the element is, else zero.
pub(super) fn bernoulli(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let mut x = node.required(0)?;
    let given = node.element_type(x);
    let to = match node.attributes.int("dtype")? {
        Some(number) => element_type_of_attribute(number)?,
        None => match given {
            Some(element_type) => element_type,
            None => return unsupported("unknown element type"),
        },
    };
    let seed = seed(node)?;
    let drawn = given.map_or(ElementType::F32, drawn_type);
    if given != Some(drawn) {
        x = node.cast(x, drawn);
    }
    let shape = node.sizes(x, 0, None);
    let numbers = uniform(node, shape, drawn, seed);
    let is_one = node.compare(Comparison::Less, numbers, x);
    node.finish(Operator::Cast(Cast { to }), [Some(is_one)])
}

/// Classes of each row, as likely as the exponentials of their scores are: the first whose share, added to those before it, is
/// larger than a number that is drawn below the sum.
pub(super) fn multinomial(node: &mut NodeReader<'_, '_>) -> Result<()> {
    let to = match node.attributes.int("dtype")? {
        Some(number) => element_type_of_attribute(number)?,
        None => ElementType::I32,
    };
    let samples = node.attributes.int_or("sample_size", 1)?;
    let seed = seed(node)?;
    let scores = node.required(0)?;
    let scores = node.cast(scores, ElementType::F32);
    let softmax = Softmax { axis: 1, log: false, flatten: false };
    let shares = node.step(Operator::Softmax(softmax), [Some(scores)]);
    let sum = CumSum { axis: Some(1), exclusive: false, reverse: false, product: false };
    let sums = node.step(Operator::CumSum(sum), [Some(shares)]);
    let total = node.slice(sums, 1, -1, i64::MAX)?;
    let (rows, samples) = (node.size(scores, 0), node.add_i64s("samples", &[samples])?);
    let shape = node.concat(&[rows, samples], 0);
    let numbers = uniform(node, shape, ElementType::F32, seed);
    let numbers = node.binary(Binary::Mul, numbers, total);
    let (sums, numbers) = (node.unsqueeze(sums, &[1]), node.unsqueeze(numbers, &[2]));
    let is_before = node.compare(Comparison::LessOrEqual, sums, numbers);
    let is_before = node.cast(is_before, ElementType::I64);
    let index = node.reduce(Reduction::Sum, is_before, Some(&[2]), false);
    // A product may be rounded to the sum itself.
    let count = node.size(scores, 1);
    let one = node.scalar("one", 1)?;
    let last = node.binary(Binary::Sub, count, one);
    let index = node.binary(Binary::Min, index, last);
    node.finish(Operator::Cast(Cast { to }), [Some(index)])
}

/// In training, elements become zero with the probability `ratio` and the others larger; else nothing happens.
pub(super) fn dropout(node: &mut NodeReader<'_, '_>) -> Result<()> {
    node.attributes.ignore(&["ratio"]);
    let seed = node.attributes.int("seed")?.map(|seed| seed as u32);
    let x = node.required(0)?;
    let training = node.input(2);
    let known = training.and_then(|training| node.constant(training));
    let known = known.map(|tensor: Tensor| tensor.to_i64s()).transpose()?;
    let is_off = training.is_none() || known.as_ref().is_some_and(|known| known.iter().all(|&x| x == 0));
    let ratio = node.input(1).and_then(|ratio| node.constant(ratio));
    let keeps_all = ratio.is_some_and(|ratio| ratio.to_f32s().is_ok_and(|ratio| ratio == [0.0]));
    let Some(training) = training.filter(|_| !is_off && !keeps_all) else {
        return node.finish(Operator::Dropout, [Some(x)]);
    };
    let ratio = match node.input(1) {
        Some(ratio) => node.cast(ratio, ElementType::F32),
        None => node.add_constant("ratio", Tensor::scalar(0.5f32)?),
    };
    let shape = node.sizes(x, 0, None);
    let numbers = uniform(node, shape, ElementType::F32, seed);
    let mut kept = node.compare(Comparison::GreaterOrEqual, numbers, ratio);
    let one = node.add_constant("one", Tensor::scalar(1f32)?);
    let rest = node.binary(Binary::Sub, one, ratio);
    let factor = node.unary(Unary::Reciprocal, rest);
    let like = CastLike { saturate: true, rounding: PowerRounding::Up };
    let factor = node.step(Operator::CastLike(like), [Some(factor), Some(x)]);
    let larger = node.binary(Binary::Mul, x, factor);
    let zero = node.scalar_like("zero", x, 0.0)?;
    let mut y = node.select(kept, larger, zero);
    if known.is_none() {
        let is_off = node.unary(Unary::Not, training);
        kept = node.binary(Binary::Or, kept, is_off);
        y = node.select(training, y, x);
    }
    node.give(0, y);
    node.give(1, kept);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::super::testing::{graph, node, operators, read_graph};
    use super::*;

    fn names(node: super::super::super::proto::NodeProto) -> String {
        let read = operators(22, node, Vec::new()).unwrap();
        read.iter().map(Operator::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn become_steps() {
        let cases = [
            (node("Bernoulli", &["x"], &["y"]), "Shape RandomUniform Less Cast"),
            (node("RandomNormalLike", &["x"], &["y"]), "Shape RandomNormal"),
            (node("RandomUniformLike", &["x"], &["y"]).int("dtype", 10), "Shape RandomUniform Cast"),
            (node("RandomNormal", &[], &["y"]).ints("shape", &[2, 3]).int("dtype", 11), "RandomNormal"),
            (node("Dropout", &["x"], &["y", "mask"]), "Dropout"),
            (
                node("Dropout", &["x", "", "t"], &["y"]),
                "Shape RandomUniform GreaterOrEqual Sub Reciprocal CastLike Mul Where Not Or Where Identity",
            ),
        ];
        for (node, expected) in cases {
            let shown = format!("{node:?}");
            assert_eq!(names(node), expected, "{shown}");
        }
        assert!(
            names(node("Multinomial", &["x"], &["y"]))
                .ends_with("LessOrEqual Cast ReduceSum Shape Sub Min Cast")
        );
    }

    #[test]
    fn seeds_are_kept() {
        let seed_of = |node| {
            let read = read_graph(22, graph(vec![], vec![], vec![node])).unwrap();
            let Operator::Random(op) = &read.nodes()[0].op else { panic!("{:?}", read.nodes()[0].op) };
            op.seed
        };
        let uniform = || node("RandomUniform", &[], &["y"]).ints("shape", &[4]);
        assert_eq!(seed_of(uniform()), None);
        assert_eq!(seed_of(uniform().float("seed", 7.0)), Some(7));
        assert_eq!(seed_of(uniform().float("seed", -1.0)), Some(u32::MAX));
    }
}
