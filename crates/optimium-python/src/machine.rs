//! What this machine reaches, for programs that compare times with what is possible.

use optimium_kernels::machine::Rates;
use optimium_runtime::device::{CacheSizes, cpu_model};
use optimium_simd::Level;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::detached;

/// Measures the rates of one core in some tens of milliseconds, at its best instruction set.
#[pyfunction]
pub(crate) fn probe_machine(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let caches = CacheSizes::of_this_cpu();
    let rates = detached(py, || Ok(Rates::measure(Level::best(), caches.l2, caches.l3)))?;
    let result = PyDict::new(py);
    result.set_item("f32", rates.multiply_adds)?;
    result.set_item("int8", rates.byte_products)?;
    result.set_item("l2", rates.second_cache)?;
    result.set_item("l3", rates.third_cache)?;
    result.set_item("memory", rates.memory)?;
    Ok(result)
}

/// What this processor is, and the best of its instruction sets that kernels use.
#[pyfunction]
pub(crate) fn processor() -> (&'static str, &'static str) {
    (cpu_model(), Level::best().name())
}
