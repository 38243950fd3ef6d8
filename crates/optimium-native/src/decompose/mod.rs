//! Nodes that have no kernel of their own, or none for their element type, become several that have.
//!
//! Double precision and large integers are rare enough to be computed step by step.

mod einsum;
mod narrow;

use optimium_graph::ops::{Activation, Binary, Cast, Conv, ConvTranspose, Fusion, Gemm, MatMul};
use optimium_graph::ops::{Reduce, Reduction, Softmax, Unary};
use optimium_graph::{Graph, Node, Operator, ValueId};
use optimium_tensor::{ElementType, Result, Tensor, TensorShape};

/// The graph with such nodes replaced.
///
/// # Errors
/// [`OutOfResource`](optimium_tensor::ErrorKind::OutOfResource) where memory ran out.
pub(crate) fn decompose(graph: &Graph) -> Result<Graph> {
    let mut parts = Parts { graph: graph.clone(), nodes: Vec::with_capacity(graph.nodes().len()) };
    for node in graph.nodes() {
        parts.node(node)?;
    }
    let Parts { mut graph, nodes } = parts;
    *graph.nodes_mut() = nodes;
    Ok(graph)
}

/// A graph and its nodes so far.
struct Parts {
    graph: Graph,
    nodes: Vec<Node>,
}

impl Parts {
    fn node(&mut self, node: &Node) -> Result<()> {
        let element_type = node.output(0).and_then(|y| self.graph.value(y).element_type());
        let double = element_type == Some(ElementType::F64);
        let decomposed = match &node.op {
            Operator::Softmax(op) if double => self.softmax(node, op),
            Operator::MatMul(op) if has_plain_kernel(element_type) => self.product(node, op)?,
            Operator::Conv(op) if double => {
                let plain = Operator::Conv(Conv { fusion: Fusion::default(), ..op.clone() });
                self.fused(node, plain, op.fusion, 3)
            }
            Operator::ConvTranspose(op) if double => {
                let plain =
                    Operator::ConvTranspose(ConvTranspose { fusion: Fusion::default(), ..op.clone() });
                self.fused(node, plain, op.fusion, 3)
            }
            Operator::Gemm(op) if double => self.gemm(node, op)?,
            Operator::Einsum(op) => self.einsum(node, &op.equation),
            Operator::OneHot(_) => self.one_hot(node),
            Operator::Cast(_) | Operator::NarrowCast(_) => self.narrow_cast(node),
            _ => None,
        };
        if decomposed.is_none() {
            self.nodes.push(node.clone());
        }
        Ok(())
    }

    /// The result of a new node, of the type and shape of `like`.
    fn compute(&mut self, op: Operator, inputs: &[ValueId], like: ValueId) -> ValueId {
        let value = self.graph.value(like);
        let (element_type, shape) =
            (value.element_type().unwrap_or(ElementType::F64), value.shape().cloned());
        let result = self.add_value(like, element_type, shape);
        self.write(op, inputs, result);
        result
    }

    fn add_value(&mut self, like: ValueId, to: ElementType, shape: Option<TensorShape>) -> ValueId {
        let name = format!("{}.part_{}", self.graph.value(like).name, self.graph.values().len());
        self.graph.add_tensor(name, to, shape)
    }

    /// A node that writes `result`.
    fn write(&mut self, op: Operator, inputs: &[ValueId], result: ValueId) {
        let name = self.graph.value(result).name.clone();
        let inputs = inputs.iter().copied().map(Some).collect();
        self.nodes.push(Node { name, op, inputs, outputs: vec![Some(result)] });
    }

    /// `value` times `factor`, of double precision.
    fn scaled(&mut self, value: ValueId, factor: f32) -> Result<ValueId> {
        if factor == 1.0 {
            return Ok(value);
        }
        let name = format!("factor_{}", self.graph.values().len());
        let factor = self.graph.add_constant(name, Tensor::scalar(f64::from(factor))?);
        Ok(self.compute(Operator::Binary { function: Binary::Mul }, &[value, factor], value))
    }

    fn softmax(&mut self, node: &Node, op: &Softmax) -> Option<()> {
        let (x, y) = (node.input(0)?, node.output(0)?);
        let shape = self.graph.value(x).shape()?.clone();
        let rank = shape.rank() as i64;
        let first = if op.axis < 0 { op.axis + rank } else { op.axis };
        let axes: Vec<i64> =
            if op.flatten { (first..rank).collect() } else { (first..rank).take(1).collect() };
        let kept = (0..rank)
            .map(|axis| if axes.contains(&axis) { 1i64.into() } else { shape[axis as usize].clone() });
        let reduced: TensorShape = kept.collect();
        let reduce = |parts: &mut Parts, reduction, x| {
            let op =
                Reduce { reduction, axes: Some(axes.clone()), keep_dims: true, noop_with_empty_axes: true };
            let result = parts.add_value(y, ElementType::F64, Some(reduced.clone()));
            parts.write(Operator::Reduce(op), &[x], result);
            result
        };
        let binary = |function| Operator::Binary { function };
        let largest = reduce(self, Reduction::Max, x);
        let shifted = self.compute(binary(Binary::Sub), &[x, largest], y);
        let powers = self.compute(Operator::Unary { function: Unary::Exp }, &[shifted], y);
        let sum = reduce(self, Reduction::Sum, powers);
        if op.log {
            let sum = self.compute(Operator::Unary { function: Unary::Log }, &[sum], sum);
            self.write(binary(Binary::Sub), &[shifted, sum], y);
        } else {
            self.write(binary(Binary::Div), &[powers, sum], y);
        }
        Some(())
    }

    fn product(&mut self, node: &Node, op: &MatMul) -> Result<Option<()>> {
        let plain = Operator::MatMul(MatMul { alpha: 1.0, fusion: Fusion::default(), ..op.clone() });
        if op.alpha == 1.0 || node.input(1).is_none() {
            return Ok(self.fused(node, plain, op.fusion, 2));
        }
        let mut node = node.clone();
        let Some(b) = node.input(1).filter(|&b| self.graph.value(b).element_type() == Some(ElementType::F64))
        else {
            return Ok(None);
        };
        node.inputs[1] = Some(self.scaled(b, op.alpha)?);
        if self.fused(&node, plain.clone(), op.fusion, 2).is_none() {
            node.op = plain;
            self.nodes.push(node);
        }
        Ok(Some(()))
    }

    /// A product with its own `count` operands, then what is fused behind it: for a MatMul the bias too.
    fn fused(&mut self, node: &Node, plain: Operator, fusion: Fusion, count: usize) -> Option<()> {
        if fusion == Fusion::default() && node.inputs.iter().skip(count).flatten().next().is_none() {
            return None;
        }
        let y = node.output(0)?;
        let own: Vec<ValueId> = node.inputs.iter().take(count).flatten().copied().collect();
        let add = Operator::Binary { function: Binary::Add };
        let mut result = self.compute(plain, &own, y);
        if let Some(bias) = node.input(2).filter(|_| count == 2) {
            result = self.compute(add.clone(), &[result, bias], y);
        }
        let residual = node.input(3);
        if let Some(residual) = residual.filter(|_| !fusion.residual_after_activation) {
            result = self.compute(add.clone(), &[result, residual], y);
        }
        if fusion.activation != Activation::None {
            let inputs: Vec<ValueId> = std::iter::once(result)
                .chain(node.input(4).filter(|_| fusion.activation == Activation::PRelu))
                .collect();
            result = self.compute(Operator::Activation { function: fusion.activation }, &inputs, y);
        }
        if let Some(residual) = residual.filter(|_| fusion.residual_after_activation) {
            result = self.compute(add, &[result, residual], y);
        }
        self.end_at(result, y);
        Some(())
    }

    /// Lets the last node, which computes `result`, write `y`.
    fn end_at(&mut self, result: ValueId, y: ValueId) {
        if let Some(last) = self.nodes.last_mut()
            && last.outputs == [Some(result)]
        {
            last.outputs = vec![Some(y)];
        }
    }

    fn gemm(&mut self, node: &Node, op: &Gemm) -> Result<Option<()>> {
        let (Some(a), Some(b), Some(y)) = (node.input(0), node.input(1), node.output(0)) else {
            return Ok(None);
        };
        let matmul = MatMul {
            transpose_a: op.transpose_a,
            transpose_b: op.transpose_b,
            alpha: 1.0,
            fusion: Fusion::default(),
        };
        let b = self.scaled(b, op.alpha)?;
        let c = node.input(2).map(|c| self.scaled(c, op.beta)).transpose()?;
        let product = self.compute(Operator::MatMul(matmul), &[a, b], y);
        let result = match c {
            Some(c) => self.compute(Operator::Binary { function: Binary::Add }, &[product, c], y),
            None => product,
        };
        self.end_at(result, y);
        Ok(Some(()))
    }

    /// Indices of another type than kernels read are cast.
    fn one_hot(&mut self, node: &Node) -> Option<()> {
        let indices = node.input(0)?;
        let value = self.graph.value(indices);
        if matches!(value.element_type()?, ElementType::I32 | ElementType::I64) {
            return None;
        }
        let shape = value.shape().cloned();
        let cast = self.add_value(indices, ElementType::I64, shape);
        self.write(Operator::Cast(Cast { to: ElementType::I64 }), &[indices], cast);
        let mut node = node.clone();
        node.inputs[0] = Some(cast);
        self.nodes.push(node);
        Some(())
    }
}

/// Whether products of the type have a kernel without an epilogue.
fn has_plain_kernel(element_type: Option<ElementType>) -> bool {
    use ElementType::{F64, I32, I64, U32, U64};
    matches!(element_type, Some(F64 | I32 | I64 | U32 | U64))
}
