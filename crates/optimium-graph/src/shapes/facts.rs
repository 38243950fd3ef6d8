//! Small tensors whose values are followed as expressions.

use optimium_tensor::{Element, ElementType, Expr, Tensor};

use super::arithmetic::Number;

/// Larger tensors are data, not shapes.
const MAX_ELEMENTS: usize = 4096;
/// Floating-point numbers become part of a shape in small numbers only (the scales of a Resize).
const MAX_FLOATS: usize = 64;

/// The values of a tensor, as far as they are known.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SymbolicTensor {
    dims: Vec<usize>,
    elements: Vec<Option<Number>>,
}

impl SymbolicTensor {
    /// A tensor whose elements `f` gives for their coordinates; `None` where it is too large.
    pub(super) fn from_fn(
        dims: &[usize],
        mut f: impl FnMut(&[usize]) -> Option<Number>,
    ) -> Option<SymbolicTensor> {
        let count = element_count(dims)?;
        let mut coordinates = vec![0; dims.len()];
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(f(&coordinates));
            for axis in (0..dims.len()).rev() {
                coordinates[axis] += 1;
                if coordinates[axis] < dims[axis] {
                    break;
                }
                coordinates[axis] = 0;
            }
        }
        Some(SymbolicTensor { dims: dims.to_vec(), elements })
    }

    /// A tensor without dimensions.
    pub(super) fn scalar(value: Number) -> SymbolicTensor {
        SymbolicTensor { dims: vec![], elements: vec![Some(value)] }
    }

    /// A vector.
    pub(super) fn vector(values: Vec<Expr>) -> SymbolicTensor {
        let elements: Vec<_> = values.into_iter().map(|value| Some(value.into())).collect();
        SymbolicTensor { dims: vec![elements.len()], elements }
    }

    /// A tensor of whose values nothing is known, as a part of others.
    pub(super) fn unknown(dims: &[usize]) -> Option<SymbolicTensor> {
        SymbolicTensor::from_fn(dims, |_| None)
    }

    /// The values of a constant, where it is small and of a type that sizes are computed with.
    pub(super) fn of_constant(tensor: &Tensor) -> Option<SymbolicTensor> {
        let count = element_count(tensor.dims())?;
        let element_type = tensor.element_type();
        if element_type.is_quantized() || (element_type.is_float() && count > MAX_FLOATS) {
            return None;
        }
        let float = |value: f64| Number::from_float(value, element_type == ElementType::F64);
        let elements = match element_type {
            ElementType::I8 => read(tensor, |n: i8| Some(i64::from(n).into())),
            ElementType::U8 => read(tensor, |n: u8| Some(i64::from(n).into())),
            ElementType::Bool => read(tensor, |n: u8| Some(i64::from(n != 0).into())),
            ElementType::I16 => read(tensor, |n: i16| Some(i64::from(n).into())),
            ElementType::U16 => read(tensor, |n: u16| Some(i64::from(n).into())),
            ElementType::I32 => read(tensor, |n: i32| Some(i64::from(n).into())),
            ElementType::U32 => read(tensor, |n: u32| Some(i64::from(n).into())),
            ElementType::I64 => read(tensor, |n: i64| Some(n.into())),
            ElementType::U64 => read(tensor, |n: u64| i64::try_from(n).ok().map(Into::into)),
            ElementType::F32 | ElementType::TF32 => read(tensor, |x: f32| float(f64::from(x))),
            ElementType::F64 => read(tensor, float),
            _ => None,
        }?;
        Some(SymbolicTensor { dims: tensor.dims().to_vec(), elements })
    }

    /// Its dimensions.
    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Its elements, row by row.
    pub(super) fn elements(&self) -> &[Option<Number>] {
        &self.elements
    }

    /// Whether no element is known.
    pub(super) fn is_unknown(&self) -> bool {
        self.elements.iter().all(Option::is_none) && !self.elements.is_empty()
    }

    /// The element at those coordinates, which are counted from the last axis, axes of size one repeated: as
    /// broadcasting reads it.
    pub(super) fn broadcast_get(&self, coordinates: &[usize]) -> Option<&Number> {
        let skip = coordinates.len().checked_sub(self.dims.len())?;
        let index = self
            .dims
            .iter()
            .zip(&coordinates[skip..])
            .fold(0, |index, (&dim, &at)| index * dim + if dim == 1 { 0 } else { at });
        self.elements.get(index)?.as_ref()
    }

    /// The element at those coordinates.
    pub(super) fn get(&self, coordinates: &[usize]) -> Option<Number> {
        let inside = coordinates.iter().zip(&self.dims).all(|(at, dim)| at < dim);
        (inside && coordinates.len() == self.dims.len()).then(|| self.broadcast_get(coordinates).cloned())?
    }

    /// The same elements in another shape of as many.
    pub(super) fn reshaped(&self, dims: &[usize]) -> Option<SymbolicTensor> {
        (element_count(dims)? == self.elements.len())
            .then(|| SymbolicTensor { dims: dims.to_vec(), elements: self.elements.clone() })
    }

    /// `f` of every element.
    pub(super) fn map(&self, mut f: impl FnMut(&Number) -> Option<Number>) -> SymbolicTensor {
        let elements = self.elements.iter().map(|element| element.as_ref().and_then(&mut f)).collect();
        SymbolicTensor { dims: self.dims.clone(), elements }
    }

    /// The integers, `None` for those that are not known.
    pub(super) fn integers(&self) -> Vec<Option<Expr>> {
        self.elements.iter().map(|element| element.as_ref()?.as_integer().cloned()).collect()
    }

    /// The elements, where all are constant integers.
    pub(super) fn constants(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(|element| element.as_ref()?.as_const()).collect()
    }
}

/// The number of elements, where there are few enough.
fn element_count(dims: &[usize]) -> Option<usize> {
    let count = dims.iter().try_fold(1usize, |count, &dim| count.checked_mul(dim))?;
    (count <= MAX_ELEMENTS).then_some(count)
}

fn read<T: Element>(tensor: &Tensor, f: impl Fn(T) -> Option<Number>) -> Option<Vec<Option<Number>>> {
    let values = tensor.read::<T>().ok()?;
    Some(values.iter().map(|&value| f(value)).collect())
}
