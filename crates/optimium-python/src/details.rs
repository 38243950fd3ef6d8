//! What an inference consisted of.

use optimium_runtime::device::{MemoryBlock, MemoryDetails, OperationDetails, RunDetails};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::python::types;

/// A `RunDetails`.
pub(crate) fn details_to_python<'py>(py: Python<'py>, details: &RunDetails) -> PyResult<Bound<'py, PyAny>> {
    let operations = details.operations.iter().map(|operation| operation_to_python(py, operation));
    let operations = PyTuple::new(py, operations.collect::<PyResult<Vec<_>>>()?)?;
    types(py)?.getattr("RunDetails")?.call1((operations, memory_to_python(py, &details.memory)?))
}

fn operation_to_python<'py>(py: Python<'py>, operation: &OperationDetails) -> PyResult<Bound<'py, PyAny>> {
    let shapes = |shapes: &[Vec<usize>]| -> PyResult<Bound<'py, PyTuple>> {
        let shapes = shapes.iter().map(|dims| PyTuple::new(py, dims)).collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(py, shapes)
    };
    types(py)?.getattr("OperationDetails")?.call1((
        shapes(&operation.inputs)?,
        shapes(&operation.outputs)?,
        operation.multiply_adds,
        operation.in_integers,
        operation.bytes_read,
        operation.constant_bytes,
        operation.bytes_written,
        operation.is_run,
        operation.is_shared,
    ))
}

fn memory_to_python<'py>(py: Python<'py>, memory: &MemoryDetails) -> PyResult<Bound<'py, PyAny>> {
    let class = types(py)?.getattr("MemoryBlock")?;
    let block = |block: &MemoryBlock| {
        class.call1((&block.tensor, block.offset, block.bytes, block.first, block.last))
    };
    let blocks = memory.blocks.iter().map(block).collect::<PyResult<Vec<_>>>()?;
    let MemoryDetails { arena, scratch, constants, .. } = *memory;
    types(py)?.getattr("MemoryDetails")?.call1((arena, scratch, constants, PyTuple::new(py, blocks)?))
}
