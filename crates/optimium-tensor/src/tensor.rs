//! The one tensor type.

use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut, Range};
use std::sync::Arc;

use crate::{Access, Buffer, Element, ElementType, Error, QuantScheme, Result, TensorShape};

/// Values of one element type in a concrete, row-major shape. Cloning shares the memory.
#[derive(Clone)]
pub struct Tensor {
    element_type: ElementType,
    dims: Vec<usize>,
    storage: Storage,
    scheme: Option<Arc<QuantScheme>>,
}

#[derive(Clone)]
enum Storage {
    Bytes {
        buffer: Arc<Buffer>,
        offset: usize,
    },
    /// Blocks of memory at equal distances.
    Blocks {
        buffer: Arc<Buffer>,
        offset: usize,
        blocks: Blocks,
    },
    Strings(Arc<Vec<String>>),
}

/// How the elements of a tensor lie that is not contiguous: in blocks of equal size that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Number of blocks, at least two.
    pub count: usize,
    /// Bytes from one block to the next.
    pub stride: usize,
}

impl Tensor {
    /// A tensor with zeros in fresh memory; empty strings for [`ElementType::String`].
    ///
    /// # Errors
    /// [`OutOfResource`](crate::ErrorKind::OutOfResource) where it is too large.
    pub fn zeros(element_type: ElementType, dims: &[usize]) -> Result<Tensor> {
        let count = element_count(dims)?;
        if element_type == ElementType::String {
            return Tensor::repeated_string(dims, "");
        }
        let bytes = byte_count(count, element_type)?;
        Ok(Tensor {
            element_type,
            dims: dims.to_vec(),
            storage: Storage::Bytes { buffer: Arc::new(Buffer::zeroed(bytes)?), offset: 0 },
            scheme: None,
        })
    }

    /// A tensor with a copy of `values`, of type `T::TYPE`.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where their number does not fit `dims`.
    pub fn from_slice<T: Element>(dims: &[usize], values: &[T]) -> Result<Tensor> {
        Self::from_bytes(T::TYPE, dims, bytemuck::cast_slice(values))
    }

    /// A tensor of one element, without dimensions.
    ///
    /// # Errors
    /// [`OutOfResource`](crate::ErrorKind::OutOfResource) where memory ran out.
    pub fn scalar<T: Element>(value: T) -> Result<Tensor> {
        Self::from_slice(&[], &[value])
    }

    /// A tensor with a copy of `bytes`, which hold the elements row by row in native byte order.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where their number does not fit `dims`.
    pub fn from_bytes(element_type: ElementType, dims: &[usize], bytes: &[u8]) -> Result<Tensor> {
        let expected = byte_count(element_count(dims)?, element_type)?;
        if bytes.len() != expected || element_type == ElementType::String {
            return Err(Error::shape(format!(
                "a {element_type} tensor of shape {dims:?} holds {expected} bytes, but {} were given",
                bytes.len()
            )));
        }
        let buffer = Buffer::allocate(expected)?;
        // SAFETY: both hold `expected` bytes, and the buffer is new.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), buffer.as_ptr(), expected) };
        Self::from_buffer(element_type, dims, Arc::new(buffer), 0)
    }

    /// A tensor over the bytes of `buffer` from `offset` on.
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where they do not lie within the buffer, are not
    /// aligned for the type, or the type is `String`.
    pub fn from_buffer(
        element_type: ElementType,
        dims: &[usize],
        buffer: Arc<Buffer>,
        offset: usize,
    ) -> Result<Tensor> {
        let bytes = byte_count(element_count(dims)?, element_type)?;
        let aligned = (buffer.as_ptr().addr() + offset).is_multiple_of(element_type.size().max(1));
        if element_type == ElementType::String
            || !aligned
            || offset.checked_add(bytes).is_none_or(|end| end > buffer.len())
        {
            return Err(Error::invalid_argument(format!(
                "a {element_type} tensor of shape {dims:?} does not fit {} bytes at offset {offset}",
                buffer.len()
            )));
        }
        Ok(Tensor {
            element_type,
            dims: dims.to_vec(),
            storage: Storage::Bytes { buffer, offset },
            scheme: None,
        })
    }

    /// A tensor in `blocks` of the buffer, the first of them at `offset`. Such tensors are arguments of inferences and nothing else:
    /// their elements cannot be read or written here, but for [a copy](Tensor::to_owned_copy).
    ///
    /// # Errors
    /// [`InvalidArgument`](crate::ErrorKind::InvalidArgument) where the blocks overlap, do not divide the elements, do not lie in the
    /// buffer or are not aligned for the type, or the type is `String`.
    pub fn from_blocks(
        element_type: ElementType,
        dims: &[usize],
        buffer: Arc<Buffer>,
        offset: usize,
        blocks: Blocks,
    ) -> Result<Tensor> {
        let bytes = byte_count(element_count(dims)?, element_type)?;
        let Blocks { count, stride } = blocks;
        let each = bytes.checked_div(count).filter(|each| each * count == bytes);
        let end = |each: usize| stride.checked_mul(count - 1)?.checked_add(each)?.checked_add(offset);
        let fits =
            each.is_some_and(|each| stride >= each && end(each).is_some_and(|end| end <= buffer.len()));
        let size = element_type.size().max(1);
        let aligned = (buffer.as_ptr().addr() + offset).is_multiple_of(size) && stride.is_multiple_of(size);
        if element_type == ElementType::String || count < 2 || !fits || !aligned {
            return Err(Error::invalid_argument(format!(
                "a {element_type} tensor of shape {dims:?} in {count} blocks at {stride} bytes from each other does not fit {} \
                 bytes at offset {offset}",
                buffer.len()
            )));
        }
        let storage = Storage::Blocks { buffer, offset, blocks };
        Ok(Tensor { element_type, dims: dims.to_vec(), storage, scheme: None })
    }

    /// A tensor whose elements are all `text`.
    ///
    /// # Errors
    /// [`OutOfResource`](crate::ErrorKind::OutOfResource) where it is too large.
    pub fn repeated_string(dims: &[usize], text: &str) -> Result<Tensor> {
        let count = element_count(dims)?;
        let too_large =
            || Error::new(crate::ErrorKind::OutOfResource, format!("cannot allocate {count} strings"));
        // The characters come in blocks of their own, which cannot be refused one by one.
        count.checked_mul(text.len()).filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(too_large)?;
        let mut values = Vec::new();
        values.try_reserve_exact(count).map_err(|_| too_large())?;
        values.resize(count, text.to_string());
        Tensor::from_strings(dims, values)
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where their number does not fit `dims`.
    pub fn from_strings(dims: &[usize], values: Vec<String>) -> Result<Tensor> {
        if element_count(dims)? != values.len() {
            return Err(Error::shape(format!("{} strings do not fit the shape {dims:?}", values.len())));
        }
        Ok(Tensor {
            element_type: ElementType::String,
            dims: dims.to_vec(),
            storage: Storage::Strings(Arc::new(values)),
            scheme: None,
        })
    }

    /// The same values with a quantization scheme.
    #[must_use]
    pub fn with_scheme(mut self, scheme: Option<Arc<QuantScheme>>) -> Tensor {
        self.scheme = scheme;
        self
    }

    /// The same memory as another type of the same storage.
    ///
    /// # Errors
    /// [`Type`](crate::ErrorKind::Type) where the storage differs.
    pub fn reinterpret(mut self, element_type: ElementType) -> Result<Tensor> {
        if element_type.storage() != self.element_type.storage() {
            return Err(Error::type_mismatch(format!(
                "{} cannot be read as {element_type}",
                self.element_type
            )));
        }
        self.element_type = element_type;
        Ok(self)
    }

    /// The same memory in another shape of as many elements.
    ///
    /// # Errors
    /// [`Shape`](crate::ErrorKind::Shape) where the number differs.
    pub fn reshaped(mut self, dims: &[usize]) -> Result<Tensor> {
        if element_count(dims)? != self.len() {
            return Err(Error::shape(format!("{:?} cannot be reshaped to {dims:?}", self.dims)));
        }
        self.dims = dims.to_vec();
        Ok(self)
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ElementType {
        self.element_type
    }

    /// The size of each dimension.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The shape, as models speak of it.
    pub fn shape(&self) -> TensorShape {
        TensorShape::fixed(&self.dims)
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Size of the elements in bytes.
    pub fn byte_len(&self) -> usize {
        self.len() * self.element_type.size()
    }

    /// The quantization scheme, for quantized types.
    pub fn scheme(&self) -> Option<&Arc<QuantScheme>> {
        self.scheme.as_ref()
    }

    /// The strings of a string tensor.
    pub fn strings(&self) -> Option<&[String]> {
        match &self.storage {
            Storage::Strings(strings) => Some(strings),
            Storage::Bytes { .. } | Storage::Blocks { .. } => None,
        }
    }

    /// The buffer and the byte offset of the first element; `None` for strings, and for tensors in [blocks](Tensor::blocks).
    pub fn buffer(&self) -> Option<(&Arc<Buffer>, usize)> {
        match &self.storage {
            Storage::Bytes { buffer, offset } => Some((buffer, *offset)),
            Storage::Blocks { .. } | Storage::Strings(_) => None,
        }
    }

    /// How its elements lie, where they are not contiguous.
    pub fn blocks(&self) -> Option<Blocks> {
        match &self.storage {
            Storage::Blocks { blocks, .. } => Some(*blocks),
            Storage::Bytes { .. } | Storage::Strings(_) => None,
        }
    }

    /// The buffer, and the bytes of it from the first to the last element: with what lies between blocks. `None` for strings.
    pub fn span(&self) -> Option<(&Arc<Buffer>, Range<usize>)> {
        match &self.storage {
            Storage::Bytes { buffer, offset } => Some((buffer, *offset..offset + self.byte_len())),
            Storage::Blocks { buffer, offset, blocks: Blocks { count, stride } } => {
                Some((buffer, *offset..offset + stride * (count - 1) + self.byte_len() / count))
            }
            Storage::Strings(_) => None,
        }
    }

    /// The elements, for reading.
    ///
    /// # Errors
    /// [`Type`](crate::ErrorKind::Type) where they are not of type `T`;
    /// [`InvalidOperation`](crate::ErrorKind::InvalidOperation) while somebody writes them.
    pub fn read<T: Element>(&self) -> Result<ReadGuard<'_, T>> {
        let (buffer, pointer) = self.typed::<T>()?;
        buffer.acquire(Access::Read)?;
        Ok(ReadGuard { buffer, pointer: pointer.cast(), length: self.len(), borrow: PhantomData })
    }

    /// The elements, for writing.
    ///
    /// # Errors
    /// [`Type`](crate::ErrorKind::Type) where they are not of type `T`;
    /// [`InvalidOperation`](crate::ErrorKind::InvalidOperation) while somebody uses them, or for read-only memory.
    pub fn write<T: Element>(&self) -> Result<WriteGuard<'_, T>> {
        let (buffer, pointer) = self.typed::<T>()?;
        buffer.acquire(Access::Write)?;
        Ok(WriteGuard { buffer, pointer: pointer.cast(), length: self.len(), borrow: PhantomData })
    }

    /// The bytes of the elements, for reading.
    ///
    /// # Errors
    /// As [`read`](Tensor::read).
    pub fn read_bytes(&self) -> Result<ReadGuard<'_, u8>> {
        let (buffer, offset) = self.bytes()?;
        buffer.acquire(Access::Read)?;
        let pointer = buffer.as_ptr().wrapping_add(offset).cast_const();
        Ok(ReadGuard { buffer, pointer, length: self.byte_len(), borrow: PhantomData })
    }

    /// The bytes of the elements, for writing.
    ///
    /// # Errors
    /// As [`write`](Tensor::write).
    pub fn write_bytes(&self) -> Result<WriteGuard<'_, u8>> {
        let (buffer, offset) = self.bytes()?;
        buffer.acquire(Access::Write)?;
        let pointer = buffer.as_ptr().wrapping_add(offset);
        Ok(WriteGuard { buffer, pointer, length: self.byte_len(), borrow: PhantomData })
    }

    /// A copy in fresh memory, contiguous.
    ///
    /// # Errors
    /// As [`read`](Tensor::read), and where memory ran out.
    pub fn to_owned_copy(&self) -> Result<Tensor> {
        match &self.storage {
            Storage::Strings(_) => Ok(self.clone()),
            Storage::Blocks { buffer, offset, blocks: Blocks { count, stride } } => {
                let copy = Tensor::zeros(self.element_type, &self.dims)?;
                let each = self.byte_len() / count;
                let all = Tensor::from_buffer(
                    ElementType::U8,
                    &[stride * (count - 1) + each],
                    buffer.clone(),
                    *offset,
                )?;
                let from = all.read_bytes()?;
                for (index, block) in copy.write_bytes()?.chunks_exact_mut(each.max(1)).enumerate() {
                    block.copy_from_slice(&from[index * stride..][..each]);
                }
                drop(from);
                Ok(copy.with_scheme(self.scheme.clone()))
            }
            Storage::Bytes { .. } => {
                let bytes = self.read_bytes()?;
                Ok(Tensor::from_bytes(self.element_type, &self.dims, &bytes)?
                    .with_scheme(self.scheme.clone()))
            }
        }
    }

    /// The elements as `i64`, for integer and bool tensors: shapes, axes, indices.
    ///
    /// # Errors
    /// [`Type`](crate::ErrorKind::Type) for other element types.
    pub fn to_i64s(&self) -> Result<Vec<i64>> {
        use ElementType::*;
        fn widened<T: Element + Into<i64>>(tensor: &Tensor) -> Result<Vec<i64>> {
            Ok(tensor.read::<T>()?.iter().map(|&x| x.into()).collect())
        }
        match self.element_type.storage() {
            I8 => widened::<i8>(self),
            U8 => widened::<u8>(self),
            I16 => widened::<i16>(self),
            U16 => widened::<u16>(self),
            I32 => widened::<i32>(self),
            U32 => widened::<u32>(self),
            I64 => Ok(self.read::<i64>()?.to_vec()),
            Bool => Ok(self.read_bytes()?.iter().map(|&x| i64::from(x != 0)).collect()),
            other => Err(Error::type_mismatch(format!("expected a tensor of integers, not {other}"))),
        }
    }

    /// The elements as `f32`, for floating-point tensors.
    ///
    /// # Errors
    /// [`Type`](crate::ErrorKind::Type) for other element types.
    pub fn to_f32s(&self) -> Result<Vec<f32>> {
        use ElementType::*;
        match self.element_type.storage() {
            F32 => Ok(self.read::<f32>()?.to_vec()),
            F64 => Ok(self.read::<f64>()?.iter().map(|&x| x as f32).collect()),
            F16 => Ok(self.read::<half::f16>()?.iter().map(|x| x.to_f32()).collect()),
            BF16 => Ok(self.read::<half::bf16>()?.iter().map(|x| x.to_f32()).collect()),
            other => Err(Error::type_mismatch(format!("expected a floating-point tensor, not {other}"))),
        }
    }

    fn bytes(&self) -> Result<(&Buffer, usize)> {
        match &self.storage {
            Storage::Bytes { buffer, offset } => Ok((buffer, *offset)),
            Storage::Blocks { .. } => Err(Error::invalid_argument("the tensor is not contiguous")),
            Storage::Strings(_) => Err(Error::type_mismatch("a STRING tensor has no plain bytes")),
        }
    }

    fn typed<T: Element>(&self) -> Result<(&Buffer, *mut u8)> {
        let bool_as_bytes = self.element_type == ElementType::Bool && T::TYPE == ElementType::U8;
        if self.element_type.storage() != T::TYPE && !bool_as_bytes {
            return Err(Error::type_mismatch(format!(
                "a {} tensor cannot be read as {}",
                self.element_type,
                T::TYPE
            )));
        }
        let (buffer, offset) = self.bytes()?;
        Ok((buffer, buffer.as_ptr().wrapping_add(offset)))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}, {:?})", self.element_type, self.dims)
    }
}

/// The number of elements of a shape.
fn element_count(dims: &[usize]) -> Result<usize> {
    dims.iter()
        .try_fold(1usize, |count, &dim| count.checked_mul(dim))
        .filter(|&count| count <= isize::MAX as usize)
        .ok_or_else(|| Error::shape(format!("the shape {dims:?} has more elements than memory can hold")))
}

fn byte_count(elements: usize, element_type: ElementType) -> Result<usize> {
    elements.checked_mul(element_type.size()).filter(|&bytes| bytes <= isize::MAX as usize).ok_or_else(|| {
        Error::shape(format!("{elements} elements of {element_type} are more than memory can hold"))
    })
}

/// Elements held for reading.
#[derive(Debug)]
pub struct ReadGuard<'a, T> {
    buffer: &'a Buffer,
    pointer: *const T,
    length: usize,
    borrow: PhantomData<&'a [T]>,
}

impl<T> Deref for ReadGuard<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: bounds, alignment and type were checked when the guard was made, and nobody writes meanwhile.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

impl<T> Drop for ReadGuard<'_, T> {
    fn drop(&mut self) {
        self.buffer.release(Access::Read);
    }
}

/// Elements held for writing.
#[derive(Debug)]
pub struct WriteGuard<'a, T> {
    buffer: &'a Buffer,
    pointer: *mut T,
    length: usize,
    borrow: PhantomData<&'a mut [T]>,
}

impl<T> Deref for WriteGuard<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        // SAFETY: bounds, alignment and type were checked when the guard was made, and it is the only user.
        unsafe { std::slice::from_raw_parts(self.pointer, self.length) }
    }
}

impl<T> DerefMut for WriteGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.length) }
    }
}

impl<T> Drop for WriteGuard<'_, T> {
    fn drop(&mut self) {
        self.buffer.release(Access::Write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_in_blocks() {
        let numbers: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let whole = Tensor::from_slice(&[20], &numbers).unwrap();
        let (buffer, _) = whole.buffer().unwrap();
        let view = |dims: &[usize], offset: usize, count: usize, stride: usize| {
            let blocks = Blocks { count, stride };
            Tensor::from_blocks(ElementType::F32, dims, buffer.clone(), offset, blocks)
        };
        let tensor = view(&[2, 3, 2], 4, 2, 32).unwrap();
        assert_eq!(tensor.span().unwrap().1, 4..4 + 32 + 24);
        assert!(tensor.buffer().is_none() && tensor.to_f32s().is_err() && tensor.write::<f32>().is_err());
        let copy = tensor.to_owned_copy().unwrap();
        assert_eq!((copy.dims(), copy.blocks()), (&[2, 3, 2][..], None));
        let expected: Vec<f32> = (1..7).chain(9..15).map(|i| i as f32).collect();
        assert_eq!(copy.to_f32s().unwrap(), expected);
        let impossible = [
            (&[2, 3, 2], 4, 1, 32),
            (&[2, 3, 2], 4, 0, 32),
            (&[2, 3, 2], 4, 5, 32),
            (&[2, 3, 2], 4, 2, 20),
            (&[2, 3, 2], 4, 2, 30),
            (&[2, 3, 2], 2, 2, 32),
            (&[2, 3, 2], 4, 2, 56),
            (&[2, 3, 2], 4, 2, usize::MAX - 3),
        ];
        for (dims, offset, count, stride) in impossible {
            assert!(view(dims, offset, count, stride).is_err(), "{count} blocks at {stride}");
        }
    }
}
