//! NumPy arrays, and whatever else offers the buffer protocol, as tensors over the same memory.

use std::ptr::NonNull;
use std::sync::Arc;

use optimium_tensor::{Buffer, ElementType, Tensor};
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
    let Ok(buffer) = PyUntypedBuffer::get(object) else { return Ok(None) };
    let Some(element_type) = element_type(&buffer) else { return Ok(None) };
    let length = buffer.len_bytes();
    let pointer = match NonNull::new(buffer.buf_ptr().cast::<u8>()) {
        Some(pointer) if length > 0 => pointer,
        _ => NonNull::from(&NOWHERE).cast(),
    };
    if !buffer.is_c_contiguous() || !pointer.addr().get().is_multiple_of(element_type.size().max(1)) {
        return Ok(None);
    }
    let (dims, writable) = (buffer.shape().to_vec(), !buffer.readonly());
    // SAFETY: the exporter keeps the memory valid, and writable where it says so, until `buffer` is released.
    let memory = unsafe { Buffer::foreign(pointer, length, writable, buffer) };
    Tensor::from_buffer(element_type, &dims, Arc::new(memory), 0)
        .map(Some)
        .map_err(|error| raise(object.py(), error))
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
