//! Einstein sums of one or two operands: sums, transposes, and a batch of matrix products.

use optimium_graph::ops::{Fusion, MatMul, Reduce, Reduction, Reshape, Transpose};
use optimium_graph::{Node, Operator, ValueId};
use optimium_tensor::{ElementType, Expr, TensorShape};

use super::Parts;

/// A value whose axes have letters, each once.
#[derive(Clone)]
struct Labelled {
    value: ValueId,
    labels: Vec<char>,
    dims: Vec<Expr>,
}

impl Labelled {
    fn size(&self, label: char) -> Option<Expr> {
        self.labels.iter().position(|&own| own == label).map(|axis| self.dims[axis].clone())
    }
}

impl Parts {
    /// Equations with an ellipsis, a letter twice in an operand, or more than two operands are left.
    pub(super) fn einsum(&mut self, node: &Node, equation: &str) -> Option<()> {
        let y = node.output(0)?;
        let element_type = self.graph.value(y).element_type()?;
        let (operands, output) = parse(equation)?;
        if operands.len() != node.inputs.len() {
            return None;
        }
        let labelled = |(labels, input): (Vec<char>, &Option<ValueId>)| {
            let dims = self.graph.value((*input)?).shape()?.dims().to_vec();
            (dims.len() == labels.len()).then_some(Labelled { value: (*input)?, labels, dims })
        };
        let operands: Vec<Labelled> =
            operands.into_iter().zip(&node.inputs).map(labelled).collect::<Option<_>>()?;
        let mut rearrange = Rearrange { parts: self, element_type, y };
        let result = match &operands[..] {
            [x] => rearrange.summed(x, &output),
            [a, b] => {
                let of_b = |label: &char| b.labels.contains(label);
                if a.labels.iter().any(|label| of_b(label) && a.size(*label) != b.size(*label)) {
                    return None;
                }
                let (of_a, output) = (a.labels.clone(), &output);
                let a = rearrange.summed(a, &[output.as_slice(), &b.labels].concat());
                let b = rearrange.summed(b, &[output.as_slice(), &of_a].concat());
                rearrange.product(&a, &b, output)
            }
            _ => return None,
        };
        let result = rearrange.ordered(&result, &output);
        self.write(Operator::Identity, &[result.value], y);
        Some(())
    }
}

/// The letters of each operand and of the result.
fn parse(equation: &str) -> Option<(Vec<Vec<char>>, Vec<char>)> {
    let equation: String = equation.chars().filter(|c| !c.is_whitespace()).collect();
    let (operands, output) = match equation.split_once("->") {
        Some((operands, output)) => (operands, Some(output)),
        None => (equation.as_str(), None),
    };
    let operands: Vec<Vec<char>> = operands.split(',').map(|labels| labels.chars().collect()).collect();
    let all: Vec<char> = operands.concat();
    let output = match output {
        Some(output) => output.chars().collect(),
        None => {
            let mut once: Vec<char> = all
                .iter()
                .copied()
                .filter(|label| all.iter().filter(|other| *other == label).count() == 1)
                .collect();
            once.sort_unstable();
            once
        }
    };
    let plain = |labels: &[char]| {
        labels
            .iter()
            .enumerate()
            .all(|(i, label)| label.is_ascii_alphabetic() && !labels[..i].contains(label))
    };
    let known = output.iter().all(|label| all.contains(label));
    (known && plain(&output) && operands.iter().all(|labels| plain(labels))).then_some((operands, output))
}

/// Makes the nodes, for a result like `y`.
struct Rearrange<'a> {
    parts: &'a mut Parts,
    element_type: ElementType,
    y: ValueId,
}

impl Rearrange<'_> {
    fn node(&mut self, op: Operator, inputs: &[ValueId], labels: Vec<char>, dims: Vec<Expr>) -> Labelled {
        let shape = Some(TensorShape::new(dims.clone()));
        let value = self.parts.add_value(self.y, self.element_type, shape);
        self.parts.write(op, inputs, value);
        Labelled { value, labels, dims }
    }

    /// Without the axes that are not among `kept`.
    fn summed(&mut self, x: &Labelled, kept: &[char]) -> Labelled {
        let (stay, go): (Vec<usize>, Vec<usize>) =
            (0..x.labels.len()).partition(|&axis| kept.contains(&x.labels[axis]));
        if go.is_empty() {
            return x.clone();
        }
        let op = Operator::Reduce(Reduce {
            reduction: Reduction::Sum,
            axes: Some(go.iter().map(|&axis| axis as i64).collect()),
            keep_dims: false,
            noop_with_empty_axes: false,
        });
        let labels = stay.iter().map(|&axis| x.labels[axis]).collect();
        let dims = stay.iter().map(|&axis| x.dims[axis].clone()).collect();
        self.node(op, &[x.value], labels, dims)
    }

    /// With the axes in that order.
    fn ordered(&mut self, x: &Labelled, order: &[char]) -> Labelled {
        let permutation: Vec<usize> =
            order.iter().filter_map(|label| x.labels.iter().position(|own| own == label)).collect();
        if permutation.is_sorted() {
            return x.clone();
        }
        let dims = permutation.iter().map(|&axis| x.dims[axis].clone()).collect();
        self.node(Operator::Transpose(Transpose { permutation }), &[x.value], order.to_vec(), dims)
    }

    fn reshaped(&mut self, x: &Labelled, labels: Vec<char>, dims: Vec<Expr>) -> Labelled {
        let op = Operator::Reshape(Reshape { dims: Some(dims.clone()), allow_zero: true });
        self.node(op, &[x.value], labels, dims)
    }

    /// The sum over the letters that both operands have and the output has not; no letter is in one operand alone.
    fn product(&mut self, a: &Labelled, b: &Labelled, output: &[char]) -> Labelled {
        let (shared, rows): (Vec<char>, Vec<char>) =
            a.labels.iter().partition(|label| b.labels.contains(label));
        let (batch, inner): (Vec<char>, Vec<char>) = shared.iter().partition(|label| output.contains(label));
        let columns: Vec<char> = b.labels.iter().copied().filter(|label| !shared.contains(label)).collect();
        let sizes = |x: &Labelled, labels: &[char]| -> Vec<Expr> {
            labels.iter().filter_map(|&label| x.size(label)).collect()
        };
        let count = |dims: &[Expr]| TensorShape::new(dims.to_vec()).element_count();
        let (batch_dims, row_dims, column_dims) = (sizes(a, &batch), sizes(a, &rows), sizes(b, &columns));
        let (m, k, n) = (count(&row_dims), count(&sizes(a, &inner)), count(&column_dims));
        let matrix = |dims: [&Expr; 2]| [batch_dims.clone(), dims.map(Expr::clone).to_vec()].concat();
        let left = self.ordered(a, &[batch.as_slice(), &rows, &inner].concat());
        let left = self.reshaped(&left, Vec::new(), matrix([&m, &k]));
        let right = self.ordered(b, &[batch.as_slice(), &inner, &columns].concat());
        let right = self.reshaped(&right, Vec::new(), matrix([&k, &n]));
        let op = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Fusion::default() };
        let inputs = [left.value, right.value];
        let product = self.node(Operator::MatMul(op), &inputs, Vec::new(), matrix([&m, &n]));
        let labels = [batch, rows, columns].concat();
        self.reshaped(&product, labels, [batch_dims.clone(), row_dims, column_dims].concat())
    }
}
