//! The steps that operators without a kernel of their own are composed of.

use optimium_graph::ValueId;
use optimium_graph::ops::{
    Binary, Cast, Concat, Expand, Gather, MatMul, Operator, Range, Reduce, Reduction, Reshape, Shape, Slice,
    Squeeze, Transpose, Unsqueeze,
};
use optimium_tensor::{ElementType, Result, Tensor};

use super::node::NodeReader;

impl NodeReader<'_, '_> {
    /// `x` in a shape, as ONNX's Reshape reads it.
    pub(super) fn reshape(&mut self, x: ValueId, shape: &[i64]) -> Result<ValueId> {
        let shape = self.add_i64s("shape", shape)?;
        Ok(self.reshape_to(x, shape))
    }

    /// `x` in a computed shape.
    pub(super) fn reshape_to(&mut self, x: ValueId, shape: ValueId) -> ValueId {
        let reshape = Reshape { dims: None, allow_zero: false };
        self.step(Operator::Reshape(reshape), [Some(x), Some(shape)])
    }

    /// `x` with its axes in another order.
    pub(super) fn transpose(&mut self, x: ValueId, permutation: &[usize]) -> ValueId {
        let permutation = permutation.to_vec();
        self.step(Operator::Transpose(Transpose { permutation }), [Some(x)])
    }

    /// `x` with new axes of size one.
    pub(super) fn unsqueeze(&mut self, x: ValueId, axes: &[i64]) -> ValueId {
        let axes = Some(axes.to_vec());
        self.step(Operator::Unsqueeze(Unsqueeze { axes }), [Some(x)])
    }

    /// `x` without axes of size one.
    pub(super) fn squeeze(&mut self, x: ValueId, axes: &[i64]) -> ValueId {
        let axes = Some(axes.to_vec());
        self.step(Operator::Squeeze(Squeeze { axes }), [Some(x)])
    }

    /// `x[start..end]` along an axis.
    pub(super) fn slice(&mut self, x: ValueId, axis: i64, start: i64, end: i64) -> Result<ValueId> {
        let (start, end) = (self.add_i64s("start", &[start])?, self.add_i64s("end", &[end])?);
        self.slice_to(x, axis, start, end)
    }

    /// [`slice`](Self::slice) with computed bounds, vectors of one.
    pub(super) fn slice_to(
        &mut self,
        x: ValueId,
        axis: i64,
        start: ValueId,
        end: ValueId,
    ) -> Result<ValueId> {
        let axis = self.add_i64s("axis", &[axis])?;
        Ok(self.step(Operator::Slice(Slice { ranges: None }), [x, start, end, axis].map(Some)))
    }

    /// Tensors joined along an axis.
    pub(super) fn concat(&mut self, parts: &[ValueId], axis: i64) -> ValueId {
        let parts: Vec<_> = parts.iter().copied().map(Some).collect();
        self.step(Operator::Concat(Concat { axis }), parts)
    }

    /// `x` at indices along an axis.
    pub(super) fn gather(&mut self, x: ValueId, indices: ValueId, axis: i64) -> ValueId {
        self.step(Operator::Gather(Gather { axis }), [Some(x), Some(indices)])
    }

    /// `x` broadcast with a computed shape.
    pub(super) fn expand(&mut self, x: ValueId, shape: ValueId) -> ValueId {
        self.step(Operator::Expand(Expand { dims: None }), [Some(x), Some(shape)])
    }

    /// `x` reduced over axes, all of them where none are named.
    pub(super) fn reduce(
        &mut self,
        reduction: Reduction,
        x: ValueId,
        axes: Option<&[i64]>,
        keep_dims: bool,
    ) -> ValueId {
        let axes = axes.map(<[i64]>::to_vec);
        let op = Reduce { reduction, axes, keep_dims, noop_with_empty_axes: false };
        self.step(Operator::Reduce(op), [Some(x)])
    }

    /// `x` as another type.
    pub(super) fn cast(&mut self, x: ValueId, to: ElementType) -> ValueId {
        self.step(Operator::Cast(Cast { to }), [Some(x)])
    }

    /// `x` as the type of `like`, where that is known and another one than `from`.
    pub(super) fn cast_from(&mut self, x: ValueId, from: ElementType, like: ValueId) -> ValueId {
        match self.element_type(like) {
            Some(to) if to != from => self.cast(x, to),
            _ => x,
        }
    }

    /// The product of two matrices, or of stacks of them.
    pub(super) fn matmul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        let op = MatMul { transpose_a: false, transpose_b: false, alpha: 1.0, fusion: Default::default() };
        self.step(Operator::MatMul(op), [Some(a), Some(b)])
    }

    /// `a` where the condition holds, else `b`.
    pub(super) fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> ValueId {
        self.step(Operator::Where, [condition, a, b].map(Some))
    }

    /// The sizes of the axes `start..end`, a vector; negative axes count from the end, which is also what no `end` means.
    pub(super) fn sizes(&mut self, x: ValueId, start: i64, end: Option<i64>) -> ValueId {
        self.step(Operator::Shape(Shape { start, end }), [Some(x)])
    }

    /// The size of one axis, a vector of one.
    pub(super) fn size(&mut self, x: ValueId, axis: i64) -> ValueId {
        let end = if axis == -1 { None } else { Some(axis + 1) };
        self.sizes(x, axis, end)
    }

    /// 0, 1, … as many as the vector of one says.
    pub(super) fn count_to(&mut self, count: ValueId) -> Result<ValueId> {
        let limit = self.squeeze(count, &[0]);
        let (start, delta) = (self.scalar("start", 0)?, self.scalar("delta", 1)?);
        let range = Range { element_type: ElementType::I64, bounds: None };
        Ok(self.step(Operator::Range(range), [start, limit, delta].map(Some)))
    }

    /// A constant I64 scalar.
    pub(super) fn scalar(&mut self, what: &str, value: i64) -> Result<ValueId> {
        Ok(self.add_constant(what, Tensor::scalar(value)?))
    }

    /// `x + value`, of the element type of `x`.
    pub(super) fn plus(&mut self, x: ValueId, value: f32) -> Result<ValueId> {
        let value = self.scalar_like("offset", x, value)?;
        Ok(self.binary(Binary::Add, x, value))
    }

    /// `x · value`, of the element type of `x`.
    pub(super) fn times(&mut self, x: ValueId, value: f32) -> Result<ValueId> {
        let value = self.scalar_like("factor", x, value)?;
        Ok(self.binary(Binary::Mul, x, value))
    }

    /// Gives what was computed as output `index`, where that is wanted.
    pub(super) fn give(&mut self, index: usize, value: ValueId) {
        if let Some(structure) = self.structure(value) {
            return self.finish_structure(index, structure);
        }
        if let Some(output) = self.output(index) {
            self.add_node(Operator::Identity, vec![Some(value)], vec![Some(output)]);
        }
    }
}
