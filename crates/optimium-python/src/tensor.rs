//! `Tensor`, and the functions that make one.

use std::ffi::{CStr, c_int, c_void};
use std::path::PathBuf;

use half::{bf16, f16};
use optimium_runtime::tensor_file;
use optimium_tensor::{Element, ElementType, Error, Tensor};
use pyo3::exceptions::{PyBufferError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;

use crate::arguments::argument;
use crate::arrays::shared_tensor;
use crate::dlpack;
use crate::enums::{from_python, to_python};
use crate::errors::{invalid_argument, raise};
use crate::model::scheme_to_python;
use crate::python::{arrays, detached};
use crate::shape::{PyTensorShape, to_dims};

/// Values of one element type in a row-major shape.
#[pyclass(name = "Tensor", module = "optimium.runtime", frozen, weakref)]
pub(crate) struct PyTensor(pub(crate) Tensor);

/// A tensor of zeros, or of empty strings.
#[pyfunction]
pub(crate) fn empty_tensor(shape: &Bound<'_, PyAny>, dtype: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let (dims, element_type) = (to_dims(shape)?, from_python(dtype)?);
    detached(shape.py(), || Tensor::zeros(element_type, &dims)).map(PyTensor)
}

/// A tensor of strings.
#[pyfunction]
pub(crate) fn string_tensor(values: Vec<String>, shape: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let dims = to_dims(shape)?;
    detached(shape.py(), || Tensor::from_strings(&dims, values)).map(PyTensor)
}

/// A tensor whose elements are all `value`.
#[pyfunction]
pub(crate) fn repeated_string_tensor(value: String, shape: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let dims = to_dims(shape)?;
    detached(shape.py(), || Tensor::repeated_string(&dims, &value)).map(PyTensor)
}

/// A tensor of the given type and shape over the memory of a C-contiguous array, or with a copy of it.
#[pyfunction]
pub(crate) fn tensor_of_array(
    array: &Bound<'_, PyAny>,
    dtype: &Bound<'_, PyAny>,
    shape: &Bound<'_, PyAny>,
    copy: bool,
) -> PyResult<PyTensor> {
    let py = array.py();
    let (element_type, dims) = (from_python::<ElementType>(dtype)?, to_dims(shape)?);
    let shared = shared_tensor(array)?.ok_or_else(|| {
        invalid_argument(py, "the array is not contiguous, not aligned, or not of a known type")
    })?;
    detached(py, || {
        let tensor = if copy { shared.to_owned_copy()? } else { shared };
        relabelled(tensor, element_type)?.reshaped(&dims)
    })
    .map(PyTensor)
}

/// The tensor in a file.
#[pyfunction]
pub(crate) fn load_tensor(path: &Bound<'_, PyAny>) -> PyResult<PyTensor> {
    let (py, path) = (path.py(), argument::<PathBuf>("path", path)?);
    detached(py, || tensor_file::load(&path)).map(PyTensor)
}

/// The tensor as `element_type`, which NumPy may know under another name.
fn relabelled(tensor: Tensor, element_type: ElementType) -> optimium_tensor::Result<Tensor> {
    if element_type.as_bits() != Some(tensor.element_type()) {
        return tensor.reinterpret(element_type);
    }
    let dims = tensor.dims().to_vec();
    let (buffer, offset) = tensor.buffer().ok_or_else(|| Error::type_mismatch("strings are not numbers"))?;
    Tensor::from_buffer(element_type, &dims, buffer.clone(), offset)
}

#[pymethods]
impl PyTensor {
    /// Its shape.
    #[getter]
    fn shape(&self) -> PyTensorShape {
        PyTensorShape(self.0.shape())
    }

    /// The type of its elements.
    #[getter(r#type)]
    fn element_type<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, self.0.element_type())
    }

    /// Number of elements.
    #[getter]
    fn size(&self) -> usize {
        self.0.len()
    }

    /// Size of the elements in bytes; 0 for strings.
    #[getter]
    fn nbytes(&self) -> usize {
        self.0.byte_len()
    }

    /// Whether its elements cannot be changed, and it cannot be an output.
    #[getter]
    fn readonly(&self) -> bool {
        self.0.buffer().is_none_or(|(buffer, _)| !buffer.is_writable())
    }

    /// Its quantization scheme, for quantized tensors that a model made.
    #[getter]
    fn scheme<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.scheme().map(|scheme| scheme_to_python(py, scheme)).transpose()
    }

    /// A NumPy array over the same memory; a copy for strings.
    fn to_numpy<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        arrays(slf.py())?.getattr("to_numpy")?.call1((slf,))
    }

    /// Sets every element to `value`.
    fn fill(&self, value: &Bound<'_, PyAny>) -> PyResult<()> {
        fill(&self.0, value)
    }

    /// Writes it to a file: NumPy's format where the name ends in .npy, else the runtime's own.
    fn save(&self, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, path) = (path.py(), argument::<PathBuf>("path", path)?);
        detached(py, || tensor_file::save(&self.0, &path))
    }

    /// Reads its elements from a file that save() wrote; type and shape have to be the same.
    fn load(&self, path: &Bound<'_, PyAny>) -> PyResult<()> {
        let (py, path) = (path.py(), argument::<PathBuf>("path", path)?);
        detached(py, || {
            let read = relabelled(tensor_file::load(&path)?, self.0.element_type())?;
            if read.dims() != self.0.dims() {
                return Err(Error::shape(format!(
                    "the tensor in {} has the shape {:?}, not {:?}",
                    path.display(),
                    read.dims(),
                    self.0.dims()
                )));
            }
            self.0.write_bytes()?.copy_from_slice(&read.read_bytes()?);
            Ok(())
        })
    }

    /// The strings of a string tensor, row by row.
    fn _strings(&self) -> Option<Vec<String>> {
        self.0.strings().map(<[String]>::to_vec)
    }

    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        arrays(slf.py())?.getattr("as_array")?.call1((slf, dtype, copy))
    }

    #[pyo3(signature = (*, stream=None, max_version=None, dl_device=None, copy=None))]
    fn __dlpack__<'py>(
        &self,
        py: Python<'py>,
        stream: Option<&Bound<'py, PyAny>>,
        max_version: Option<(u32, u32)>,
        dl_device: Option<(i32, i32)>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if stream.is_some() || dl_device.is_some_and(|device| device != self.__dlpack_device__()) {
            return Err(PyBufferError::new_err(
                "a tensor lies in the memory of the CPU, which has no streams",
            ));
        }
        dlpack::export(py, &self.0, max_version, copy.unwrap_or(false))
    }

    fn __dlpack_device__(&self) -> (i32, i32) {
        (dlpack::CPU, 0)
    }

    fn __repr__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        arrays(slf.py())?.getattr("represent")?.call1((slf,))
    }

    /// # Safety
    /// `view` is the interpreter's, to be filled.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: as the caller promises.
        unsafe { export(slf, view, flags) }
    }

    /// # Safety
    /// `view` was filled by `__getbuffer__`.
    unsafe fn __releasebuffer__(&self, view: *mut ffi::Py_buffer) {
        // SAFETY: `internal` is what `export` leaked into it.
        drop(unsafe { Box::from_raw((*view).internal.cast::<Layout>()) });
    }
}

/// Shape and strides of an exported buffer, which live as long as the export.
struct Layout {
    shape: Vec<isize>,
    strides: Vec<isize>,
}

impl Layout {
    fn new(tensor: &Tensor) -> Layout {
        let shape: Vec<isize> = tensor.dims().iter().map(|&dim| dim as isize).collect();
        let mut strides = vec![0; shape.len()];
        let mut stride = tensor.element_type().size() as isize;
        for (slot, dim) in strides.iter_mut().zip(&shape).rev() {
            *slot = stride;
            stride *= dim;
        }
        Layout { shape, strides }
    }
}

/// Fills `view` with the memory of a tensor.
///
/// # Safety
/// `view` can be written.
unsafe fn export(slf: &Bound<'_, PyTensor>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
    let tensor = &slf.get().0;
    let Some((buffer, offset)) = tensor.buffer() else {
        return Err(PyBufferError::new_err("a tensor of strings has no plain memory"));
    };
    if flags & ffi::PyBUF_WRITABLE == ffi::PyBUF_WRITABLE && !buffer.is_writable() {
        return Err(PyBufferError::new_err("the tensor is read-only"));
    }
    let asked_for = |flag: c_int| flags & flag == flag;
    let mut layout = Box::new(Layout::new(tensor));
    // SAFETY: `view` can be written; the pointers stay valid until the export is released, because the view
    // holds the tensor and the layout.
    unsafe {
        (*view).buf = buffer.as_ptr().add(offset).cast::<c_void>();
        (*view).len = tensor.byte_len() as isize;
        (*view).readonly = c_int::from(!buffer.is_writable());
        (*view).itemsize = tensor.element_type().size() as isize;
        (*view).format = if asked_for(ffi::PyBUF_FORMAT) {
            format(tensor.element_type()).as_ptr().cast_mut()
        } else {
            std::ptr::null_mut()
        };
        (*view).ndim = tensor.dims().len() as c_int;
        (*view).shape =
            if asked_for(ffi::PyBUF_ND) { layout.shape.as_mut_ptr() } else { std::ptr::null_mut() };
        (*view).strides =
            if asked_for(ffi::PyBUF_STRIDES) { layout.strides.as_mut_ptr() } else { std::ptr::null_mut() };
        (*view).suboffsets = std::ptr::null_mut();
        (*view).internal = Box::into_raw(layout).cast::<c_void>();
        (*view).obj = slf.clone().into_any().into_ptr();
    }
    Ok(())
}

/// The element type as the `struct` module writes it. It has no letters for BF16 and narrow types, which pass as their bits.
fn format(element_type: ElementType) -> &'static CStr {
    use ElementType::*;
    match element_type.storage() {
        Bool => c"?",
        I8 => c"b",
        I16 => c"h",
        U16 | BF16 => c"H",
        I32 => c"i",
        U32 => c"I",
        I64 => c"q",
        U64 => c"Q",
        F16 => c"e",
        F32 => c"f",
        F64 => c"d",
        _ => c"B",
    }
}

fn fill(tensor: &Tensor, value: &Bound<'_, PyAny>) -> PyResult<()> {
    use ElementType::*;
    match tensor.element_type().storage() {
        I8 => fill_with(tensor, value, value.extract::<i8>()),
        U8 => fill_with(tensor, value, value.extract::<u8>()),
        I16 => fill_with(tensor, value, value.extract::<i16>()),
        U16 => fill_with(tensor, value, value.extract::<u16>()),
        I32 => fill_with(tensor, value, value.extract::<i32>()),
        U32 => fill_with(tensor, value, value.extract::<u32>()),
        I64 => fill_with(tensor, value, value.extract::<i64>()),
        U64 => fill_with(tensor, value, value.extract::<u64>()),
        F16 => fill_with(tensor, value, value.extract::<f64>().map(f16::from_f64)),
        BF16 => fill_with(tensor, value, value.extract::<f64>().map(bf16::from_f64)),
        F64 => fill_with(tensor, value, value.extract::<f64>()),
        Bool => fill_with(tensor, value, truth(value).map(u8::from)),
        String => Err(raise(value.py(), Error::type_mismatch("a tensor of strings cannot be filled"))),
        narrow if narrow.is_narrow() => Err(raise(
            value.py(),
            Error::type_mismatch(format!("a tensor of {narrow} cannot be filled; make it of an array")),
        )),
        _ => fill_with(tensor, value, value.extract::<f32>()),
    }
}

/// Whether a boolean is true, or a number is not zero.
fn truth(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract::<bool>().or_else(|_| value.extract::<f64>().map(|number| number != 0.0))
}

fn fill_with<T: Element>(tensor: &Tensor, value: &Bound<'_, PyAny>, converted: PyResult<T>) -> PyResult<()> {
    let py = value.py();
    let converted = converted.map_err(|error| {
        let text = format!("{value} is not a value of {}", tensor.element_type());
        if error.is_instance_of::<PyTypeError>(py) {
            raise(py, Error::type_mismatch(text))
        } else {
            invalid_argument(py, text)
        }
    })?;
    detached(py, || {
        tensor.write::<T>()?.fill(converted);
        Ok(())
    })
}
