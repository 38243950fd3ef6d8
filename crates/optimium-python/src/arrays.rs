//! NumPy arrays, and whatever else offers the buffer protocol, as tensors over the same memory.

use std::ptr::NonNull;
use std::sync::Arc;

use optimium_tensor::{Blocks, Buffer, ElementType, Tensor};
use pyo3::buffer::PyUntypedBuffer;
use pyo3::prelude::*;

use crate::errors::raise;

/// The address of empty tensors: aligned for every element type.
#[repr(align(64))]
struct Nowhere;
static NOWHERE: Nowhere = Nowhere;

/// A tensor over the memory of `object`, which stays alive with it, read-only where `object` is. `None` where
/// the object offers no buffer, or one that is not C-contiguous, aligned and of a known element type in
/// native byte order.
pub(crate) fn shared_tensor(object: &Bound<'_, PyAny>) -> PyResult<Option<Tensor>> {
    tensor_over(object, false)
}

/// As [`shared_tensor`], where `in_blocks` also over an array that consists of contiguous blocks at equal distances.
pub(crate) fn tensor_over(object: &Bound<'_, PyAny>, in_blocks: bool) -> PyResult<Option<Tensor>> {
    let Ok(buffer) = PyUntypedBuffer::get(object) else { return Ok(None) };
    let Some(element_type) = element_type(&buffer) else { return Ok(None) };
    let is_contiguous = buffer.is_c_contiguous();
    let blocks = if is_contiguous { None } else { blocks_of(&buffer).filter(|_| in_blocks) };
    let length = blocks.map_or(buffer.len_bytes(), |Blocks { count, stride }| {
        stride * (count - 1) + buffer.len_bytes() / count
    });
    let pointer = match NonNull::new(buffer.buf_ptr().cast::<u8>()) {
        Some(pointer) if length > 0 => pointer,
        _ => NonNull::from(&NOWHERE).cast(),
    };
    let is_known = is_contiguous || blocks.is_some();
    if !is_known || !pointer.addr().get().is_multiple_of(element_type.size().max(1)) {
        return Ok(None);
    }
    let (dims, writable) = (Dims::of(buffer.shape()), !buffer.readonly());
    // SAFETY: the exporter keeps the memory valid, and writable where it says so, until `buffer` is released. Blocks lie in one
    // array, and what lies between them is never touched.
    let memory = Arc::new(unsafe { Buffer::foreign(pointer, length, writable, buffer) });
    let tensor = match blocks {
        None => Tensor::from_buffer(element_type, dims.get(), memory, 0),
        Some(blocks) => match Tensor::from_blocks(element_type, dims.get(), memory, 0, blocks) {
            Ok(tensor) => Ok(tensor),
            // What is not aligned is copied as everything else.
            Err(_) => return Ok(None),
        },
    };
    tensor.map(Some).map_err(|error| raise(object.py(), error))
}

/// A copy of a shape that takes no memory from the heap where the dimensions are as few as they usually are.
enum Dims {
    Few(usize, [usize; 8]),
    Many(Vec<usize>),
}

impl Dims {
    fn of(shape: &[usize]) -> Dims {
        let mut few = [0; 8];
        match few.get_mut(..shape.len()) {
            Some(dims) => {
                dims.copy_from_slice(shape);
                Dims::Few(shape.len(), few)
            }
            None => Dims::Many(shape.to_vec()),
        }
    }

    fn get(&self) -> &[usize] {
        match self {
            Dims::Few(rank, dims) => &dims[..*rank],
            Dims::Many(dims) => dims,
        }
    }
}

/// The blocks that an array consists of which is not contiguous; `None` where its elements lie in another way.
fn blocks_of(buffer: &PyUntypedBuffer) -> Option<Blocks> {
    let mut blocks: Option<Blocks> = None;
    let mut expected = buffer.item_size();
    for (&dim, &stride) in buffer.shape().iter().zip(buffer.strides()).rev().filter(|(dim, _)| **dim != 1) {
        let stride = usize::try_from(stride).ok().filter(|&stride| stride >= expected)?;
        match &mut blocks {
            Some(blocks) if stride == expected => blocks.count = blocks.count.checked_mul(dim)?,
            None if stride > expected => blocks = Some(Blocks { count: dim, stride }),
            None => {}
            Some(_) => return None,
        }
        expected = stride.checked_mul(dim)?;
    }
    blocks.filter(|blocks| blocks.count > 1)
}

/// The element type of a format of the `struct` module; `None` for others, structures and foreign byte orders
/// among them.
fn element_type(buffer: &PyUntypedBuffer) -> Option<ElementType> {
    let format = buffer.format().to_bytes();
    let native: &[u8] = if cfg!(target_endian = "little") { b"@=<" } else { b"@=>!" };
    let code = match format {
        [code] => *code,
        [order, code] if native.contains(order) || buffer.item_size() == 1 => *code,
        _ => return None,
    };
    let element_type = match (code, buffer.item_size()) {
        (b'?', 1) => ElementType::Bool,
        (b'b', 1) => ElementType::I8,
        (b'B' | b'c', 1) => ElementType::U8,
        (b'h', 2) => ElementType::I16,
        (b'H', 2) => ElementType::U16,
        (b'i' | b'l', 4) => ElementType::I32,
        (b'I' | b'L', 4) => ElementType::U32,
        (b'l' | b'q', 8) => ElementType::I64,
        (b'L' | b'Q', 8) => ElementType::U64,
        (b'e', 2) => ElementType::F16,
        (b'f', 4) => ElementType::F32,
        (b'd', 8) => ElementType::F64,
        _ => return None,
    };
    Some(element_type)
}
