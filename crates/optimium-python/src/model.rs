//! `Model`, and the information about its parts.

use std::sync::Arc;

use optimium_runtime::{InputShapes, Model, OpInfo, TensorInfo};
use optimium_tensor::{QuantScheme, TensorShape};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::arguments::{argument, own};
use crate::devices::device_to_python;
use crate::enums::to_python;
use crate::errors::{invalid_argument, raise};
use crate::python::{attached, detached, types};
use crate::request::PyInferRequest;
use crate::shape::{PyTensorShape, to_shape};

/// A loaded model.
#[pyclass(name = "Model", module = "optimium.runtime", frozen, weakref)]
pub(crate) struct PyModel {
    model: Model,
    names: Arc<Names>,
}

/// The names of inputs and outputs, in order, as Python looks things up by them.
pub(crate) struct Names {
    pub(crate) inputs: Vec<Py<PyString>>,
    pub(crate) outputs: Vec<Py<PyString>>,
}

impl PyModel {
    pub(crate) fn new(py: Python<'_>, model: Model) -> PyModel {
        let of = |infos: &[TensorInfo]| -> Vec<Py<PyString>> {
            infos.iter().map(|info| PyString::intern(py, &info.name).unbind()).collect()
        };
        let names = Arc::new(Names { inputs: of(model.inputs()), outputs: of(model.outputs()) });
        PyModel { model, names }
    }
}

/// A `QuantizationScheme`.
pub(crate) fn scheme_to_python<'py>(py: Python<'py>, scheme: &QuantScheme) -> PyResult<Bound<'py, PyAny>> {
    let types = types(py)?;
    let param = types.getattr("QuantizationParam")?;
    let params = scheme
        .params()
        .iter()
        .map(|it| param.call1((it.scale, it.zero_point)))
        .collect::<PyResult<Vec<_>>>()?;
    types.getattr("QuantizationScheme")?.call1((PyTuple::new(py, params)?, scheme.axis()))
}

fn info_to_python<'py>(py: Python<'py>, info: &TensorInfo) -> PyResult<Bound<'py, PyAny>> {
    types(py)?.getattr("TensorInfo")?.call1((
        &info.name,
        to_python(py, info.element_type)?,
        PyTensorShape(info.shape.clone()),
        info.alignment,
        info.padding,
        info.scheme.as_ref().map(|scheme| scheme_to_python(py, scheme)).transpose()?,
        info.opt_out,
        info.constant,
    ))
}

fn operation_to_python<'py>(py: Python<'py>, operation: &OpInfo) -> PyResult<Bound<'py, PyAny>> {
    types(py)?.getattr("OpInfo")?.call1((
        &operation.name,
        device_to_python(py, operation.device)?,
        &operation.operator,
        &operation.kernel,
        PyTuple::new(py, &operation.inputs)?,
        PyTuple::new(py, &operation.outputs)?,
    ))
}

fn infos_to_python<'py>(py: Python<'py>, infos: &[TensorInfo]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    infos.iter().map(|info| info_to_python(py, info)).collect()
}

fn nth<'py>(infos: &[TensorInfo], index: &Bound<'py, PyAny>, what: &str) -> PyResult<Bound<'py, PyAny>> {
    let (py, index) = (index.py(), argument::<isize>("index", index)?);
    let info = usize::try_from(index).ok().and_then(|index| infos.get(index)).ok_or_else(|| {
        invalid_argument(py, format!("there is no {what} {index}; the model has {}", infos.len()))
    })?;
    info_to_python(py, info)
}

#[pymethods]
impl PyModel {
    /// Its name.
    #[getter]
    fn name(&self) -> &str {
        self.model.name()
    }

    /// Names of its inputs, in order.
    #[getter]
    fn input_names(&self) -> Vec<&str> {
        self.model.inputs().iter().map(|info| info.name.as_str()).collect()
    }

    /// Names of its outputs, in order.
    #[getter]
    fn output_names(&self) -> Vec<&str> {
        self.model.outputs().iter().map(|info| info.name.as_str()).collect()
    }

    /// All its tensors, constants included.
    #[getter]
    fn tensors<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        infos_to_python(py, self.model.tensors())
    }

    /// The steps that an inference takes.
    #[getter]
    fn operations<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyAny>>> {
        self.model.operations().iter().map(|operation| operation_to_python(py, operation)).collect()
    }

    /// Whether an input or output has a symbolic shape.
    #[getter]
    fn is_dynamic(&self) -> bool {
        self.model.is_dynamic()
    }

    /// The tensor of that name.
    fn get_tensor<'py>(&self, name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, name) = (name.py(), argument::<String>("name", name)?);
        info_to_python(py, self.model.tensor(&name).map_err(|error| raise(py, error))?)
    }

    /// Input number `index`.
    fn get_input_tensor<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        nth(self.model.inputs(), index, "input")
    }

    /// Output number `index`.
    fn get_output_tensor<'py>(&self, index: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        nth(self.model.outputs(), index, "output")
    }

    /// The shape that a tensor gets from inputs of the given shapes: a dict by name, or a sequence in the
    /// model's order.
    fn infer_shape(
        &self,
        output_name: &Bound<'_, PyAny>,
        input_shapes: &Bound<'_, PyAny>,
    ) -> PyResult<PyTensorShape> {
        let py = input_shapes.py();
        let output_name = &*argument::<String>("output_name", output_name)?;
        if let Ok(named) = input_shapes.cast::<PyDict>() {
            let shapes: Vec<(String, TensorShape)> = named
                .iter()
                .map(|(name, shape)| {
                    Ok((argument::<String>("the name of an input", &name)?, to_shape(&shape)?))
                })
                .collect::<PyResult<_>>()?;
            let shapes = shapes.iter().map(|(name, shape)| (name.as_str(), shape.clone())).collect();
            return detached(py, || self.model.infer_shape(output_name, &InputShapes::Named(shapes)))
                .map(PyTensorShape);
        }
        let shapes = input_shapes.try_iter().map_err(|error| own(py, "input_shapes", error))?;
        let shapes = shapes.map(|shape| to_shape(&shape?)).collect::<PyResult<_>>()?;
        detached(py, || self.model.infer_shape(output_name, &InputShapes::Ordered(shapes))).map(PyTensorShape)
    }

    /// Room for one inference at a time. Requests of one model run independently of each other. Raises InvalidStateError where the
    /// runtime that the model was loaded in was finalized.
    fn create_request(&self, py: Python<'_>) -> PyResult<PyInferRequest> {
        let request = attached(py, || self.model.create_request())?;
        Ok(PyInferRequest::new(request, self.names.clone()))
    }

    fn __repr__(&self) -> String {
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        format!(
            "<Model {:?}: {}, {}, {}>",
            self.model.name(),
            count(self.model.inputs().len(), "input"),
            count(self.model.outputs().len(), "output"),
            count(self.model.operations().len(), "operation"),
        )
    }
}
