//! Tensors to and from other libraries over DLPack: <https://dmlc.github.io/dlpack/latest/c_api.html>

use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::Arc;

use optimium_tensor::{Buffer, ElementType, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::raise;

/// `kDLCPU`, the only device that memory can be shared with.
pub(crate) const CPU: i32 = 1;
const READ_ONLY: u64 = 1;
const IS_COPIED: u64 = 2;

#[repr(C)]
#[derive(Clone, Copy, PartialEq)]
struct DataType {
    code: u8,
    bits: u8,
    lanes: u16,
}

#[repr(C)]
struct DlTensor {
    data: *mut c_void,
    device_type: i32,
    device_id: i32,
    rank: i32,
    data_type: DataType,
    shape: *mut i64,
    /// In elements; null stands for row-major memory.
    strides: *mut i64,
    byte_offset: u64,
}

/// The structure of the time before versions.
#[repr(C)]
struct Legacy {
    tensor: DlTensor,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Legacy)>,
}

/// The structure of version 1.
#[repr(C)]
struct Versioned {
    major: u32,
    minor: u32,
    context: *mut c_void,
    deleter: Option<unsafe extern "C" fn(*mut Versioned)>,
    flags: u64,
    tensor: DlTensor,
}

/// What both structures have.
trait Managed: Sized + 'static {
    /// The name of a capsule with it, and its name once somebody has taken the content.
    const NAMES: (&CStr, &CStr);
    fn new(tensor: DlTensor, flags: u64, deleter: unsafe extern "C" fn(*mut Self)) -> Self;
    fn tensor(&self) -> &DlTensor;
    fn is_read_only(&self) -> bool;
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)>;
}

impl Managed for Legacy {
    const NAMES: (&CStr, &CStr) = (c"dltensor", c"used_dltensor");
    fn new(tensor: DlTensor, _: u64, deleter: unsafe extern "C" fn(*mut Self)) -> Self {
        Legacy { tensor, context: std::ptr::null_mut(), deleter: Some(deleter) }
    }
    fn tensor(&self) -> &DlTensor {
        &self.tensor
    }
    fn is_read_only(&self) -> bool {
        false
    }
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

impl Managed for Versioned {
    const NAMES: (&CStr, &CStr) = (c"dltensor_versioned", c"used_dltensor_versioned");
    fn new(tensor: DlTensor, flags: u64, deleter: unsafe extern "C" fn(*mut Self)) -> Self {
        let context = std::ptr::null_mut();
        Versioned { major: 1, minor: 0, context, deleter: Some(deleter), flags, tensor }
    }
    fn tensor(&self) -> &DlTensor {
        &self.tensor
    }
    fn is_read_only(&self) -> bool {
        self.flags & READ_ONLY != 0
    }
    fn deleter(&self) -> Option<unsafe extern "C" fn(*mut Self)> {
        self.deleter
    }
}

/// An exported structure, and what its pointers lead to. The structure comes first: both have one address.
#[repr(C)]
struct Export<M> {
    managed: M,
    tensor: Tensor,
    shape: Vec<i64>,
    strides: Vec<i64>,
}

/// A capsule over the memory of `tensor`, or of a copy where that is asked for.
///
/// Raises `BufferError` for what cannot be shared: strings, and read-only memory with consumers that know no
/// versions.
pub(crate) fn export<'py>(
    py: Python<'py>,
    tensor: &Tensor,
    max_version: Option<(u32, u32)>,
    copy: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let tensor =
        if copy { tensor.to_owned_copy().map_err(|error| raise(py, error))? } else { tensor.clone() };
    let writable = tensor.buffer().is_some_and(|(buffer, _)| buffer.is_writable());
    let flags = if writable { 0 } else { READ_ONLY } | if copy { IS_COPIED } else { 0 };
    if max_version.is_some_and(|(major, _)| major >= 1) {
        return capsule::<Versioned>(py, tensor, flags);
    }
    if !writable {
        return Err(PyBufferError::new_err("read-only memory needs a consumer of DLPack 1.0 or newer"));
    }
    capsule::<Legacy>(py, tensor, flags)
}

fn capsule<M: Managed>(py: Python<'_>, tensor: Tensor, flags: u64) -> PyResult<Bound<'_, PyAny>> {
    let (Some((buffer, offset)), Some(data_type)) = (tensor.buffer(), data_type(tensor.element_type()))
    else {
        return Err(PyBufferError::new_err(format!("DLPack has no elements of {}", tensor.element_type())));
    };
    let mut shape: Vec<i64> = tensor.dims().iter().map(|&dim| dim as i64).collect();
    let mut strides = row_major(&shape);
    let described = DlTensor {
        data: buffer.as_ptr().wrapping_add(offset).cast(),
        device_type: CPU,
        device_id: 0,
        rank: shape.len() as i32,
        data_type,
        shape: shape.as_mut_ptr(),
        strides: strides.as_mut_ptr(),
        byte_offset: 0,
    };
    let managed = M::new(described, flags, delete_export::<M>);
    let pointer = Box::into_raw(Box::new(Export { managed, tensor, shape, strides }));
    // SAFETY: the pointer is not null, and the name is static.
    let object =
        unsafe { ffi::PyCapsule_New(pointer.cast(), M::NAMES.0.as_ptr(), Some(delete_capsule::<M>)) };
    if object.is_null() {
        // SAFETY: nobody else knows the pointer.
        drop(unsafe { Box::from_raw(pointer) });
    }
    // SAFETY: a new reference, or null with an exception set.
    unsafe { Bound::from_owned_ptr_or_err(py, object) }
}

/// # Safety
/// `managed` is the start of an [`Export`] that `capsule` leaked, and is not used again.
unsafe extern "C" fn delete_export<M>(managed: *mut M) {
    // SAFETY: as the caller promises.
    drop(unsafe { Box::from_raw(managed.cast::<Export<M>>()) });
}

/// Deletes the content of a capsule that nobody has taken.
///
/// # Safety
/// Called by the interpreter, with a capsule that `capsule` made.
unsafe extern "C" fn delete_capsule<M: Managed>(object: *mut ffi::PyObject) {
    let name = M::NAMES.0.as_ptr();
    // SAFETY: `object` is a capsule; the name tells whether the content is still its own.
    unsafe {
        if ffi::PyCapsule_IsValid(object, name) != 0 {
            delete_export(ffi::PyCapsule_GetPointer(object, name).cast::<M>());
        }
    }
}

/// What another library lent. Dropping it gives it back.
struct Loan<M: Managed>(NonNull<M>);

// SAFETY: DLPack lets deleters be called on any thread.
unsafe impl<M: Managed> Send for Loan<M> {}
// SAFETY: the structure is read-only as long as the loan lasts.
unsafe impl<M: Managed> Sync for Loan<M> {}

impl<M: Managed> Drop for Loan<M> {
    fn drop(&mut self) {
        // SAFETY: the structure was taken out of its capsule, and is given back once.
        unsafe {
            if let Some(delete) = self.0.as_ref().deleter() {
                delete(self.0.as_ptr());
            }
        }
    }
}

/// A tensor over the memory of an object that speaks DLPack. `None` where that lies on another device, is not
/// contiguous or aligned, or has elements that the runtime does not know.
#[pyfunction]
pub(crate) fn tensor_of_dlpack(object: &Bound<'_, PyAny>) -> PyResult<Option<crate::tensor::PyTensor>> {
    let (device, _): (i32, i32) = object.call_method0("__dlpack_device__")?.extract()?;
    if device != CPU {
        return Ok(None);
    }
    let arguments = PyDict::new(object.py());
    arguments.set_item("max_version", (1, 0))?;
    let capsule = match object.call_method("__dlpack__", (), Some(&arguments)) {
        // Producers of the time before versions do not know the argument.
        Err(error) if error.is_instance_of::<PyTypeError>(object.py()) => {
            object.call_method0("__dlpack__")?
        }
        result => result?,
    };
    let tensor = match take::<Versioned>(&capsule)? {
        Some(loan) => borrowed(loan),
        None => take::<Legacy>(&capsule)?.and_then(borrowed),
    };
    Ok(tensor.map(crate::tensor::PyTensor))
}

/// Takes the content of a capsule; `None` where it is not of this kind.
fn take<M: Managed>(capsule: &Bound<'_, PyAny>) -> PyResult<Option<Loan<M>>> {
    let (name, used) = M::NAMES;
    // SAFETY: a capsule of that name has such a structure; renaming it is how taking is announced.
    let content = unsafe {
        if ffi::PyCapsule_IsValid(capsule.as_ptr(), name.as_ptr()) == 0 {
            return Ok(None);
        }
        let content = ffi::PyCapsule_GetPointer(capsule.as_ptr(), name.as_ptr());
        if ffi::PyCapsule_SetName(capsule.as_ptr(), used.as_ptr()) != 0 {
            return Err(PyErr::fetch(capsule.py()));
        }
        content
    };
    Ok(NonNull::new(content.cast::<M>()).map(Loan))
}

fn borrowed<M: Managed>(loan: Loan<M>) -> Option<Tensor> {
    // SAFETY: the structure is valid as long as the loan.
    let managed = unsafe { loan.0.as_ref() };
    let described = managed.tensor();
    let rank = usize::try_from(described.rank).ok()?;
    // SAFETY: DLPack says that `shape` has `rank` elements, and `strides` too where it is not null.
    let (shape, strides) = unsafe {
        let list = |pointer: *mut i64| match NonNull::new(pointer) {
            Some(pointer) if rank > 0 => Some(std::slice::from_raw_parts(pointer.as_ptr(), rank)),
            _ => None,
        };
        (list(described.shape).unwrap_or_default(), list(described.strides))
    };
    let element_type = element_type(described.data_type)?;
    let dims: Vec<usize> = shape.iter().map(|&dim| usize::try_from(dim)).collect::<Result<_, _>>().ok()?;
    let length = dims.iter().try_fold(element_type.size(), |bytes, &dim| bytes.checked_mul(dim))?;
    let is_contiguous = strides.is_none_or(|strides| {
        let expected = row_major(shape);
        length == 0 || (0..rank).all(|axis| shape[axis] == 1 || strides[axis] == expected[axis])
    });
    if !is_contiguous {
        return None;
    }
    if length == 0 {
        return Tensor::zeros(element_type, &dims).ok();
    }
    let start = described.data.cast::<u8>().wrapping_add(usize::try_from(described.byte_offset).ok()?);
    let writable = !managed.is_read_only();
    // SAFETY: the memory is valid as long as the loan, and holds contiguous elements of that shape.
    let buffer = unsafe { Buffer::foreign(NonNull::new(start)?, length, writable, loan) };
    Tensor::from_buffer(element_type, &dims, Arc::new(buffer), 0).ok()
}

fn row_major(shape: &[i64]) -> Vec<i64> {
    let mut strides = vec![1i64; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// How DLPack names the element types; strings have no name there.
fn data_type(element_type: ElementType) -> Option<DataType> {
    use ElementType::*;
    let (code, bits) = match element_type.storage() {
        I8 => (0, 8),
        I16 => (0, 16),
        I32 => (0, 32),
        I64 => (0, 64),
        U8 => (1, 8),
        U16 => (1, 16),
        U32 => (1, 32),
        U64 => (1, 64),
        F16 => (2, 16),
        F32 => (2, 32),
        F64 => (2, 64),
        BF16 => (4, 16),
        Bool => (6, 8),
        _ => return None,
    };
    Some(DataType { code, bits, lanes: 1 })
}

fn element_type(wanted: DataType) -> Option<ElementType> {
    ElementType::ALL
        .into_iter()
        .filter(|element_type| element_type.storage() == *element_type)
        .find(|element_type| data_type(*element_type) == Some(wanted))
}
