//! The Python module `optimium.runtime._native`: the runtime's classes and functions with Python's types.
//!
//! Nothing is decided here. Arguments are converted, the interpreter is let go while the runtime works, and
//! errors become the exceptions of `optimium.runtime._errors`. What is plain data (enumerations, device and
//! tensor information) lives in `optimium.runtime._types` and is filled in from here; what needs NumPy
//! itself, beyond the buffer protocol, lives in `optimium.runtime._arrays`.

mod arguments;
mod arrays;
mod details;
mod devices;
mod dlpack;
mod enums;
mod errors;
mod expr;
mod loading;
mod machine;
mod model;
mod profile;
mod python;
mod request;
mod settings;
mod shape;
mod tensor;
mod tuning;

use pyo3::prelude::*;

/// The compiled part of `optimium.runtime`.
#[pymodule(gil_used = false)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<expr::PyExpr>()?;
    module.add_class::<shape::PyTensorShape>()?;
    module.add_class::<tensor::PyTensor>()?;
    module.add_class::<model::PyModel>()?;
    module.add_class::<loading::PyConversion>()?;
    module.add_class::<request::PyInferRequest>()?;
    module.add_class::<profile::PyProfileEvent>()?;
    module.add_function(wrap_pyfunction!(tensor::empty_tensor, module)?)?;
    module.add_function(wrap_pyfunction!(tensor::string_tensor, module)?)?;
    module.add_function(wrap_pyfunction!(tensor::repeated_string_tensor, module)?)?;
    module.add_function(wrap_pyfunction!(expr::expr_from_json, module)?)?;
    module.add_function(wrap_pyfunction!(tensor::tensor_of_array, module)?)?;
    module.add_function(wrap_pyfunction!(dlpack::tensor_of_dlpack, module)?)?;
    module.add_function(wrap_pyfunction!(tensor::load_tensor, module)?)?;
    module.add_function(wrap_pyfunction!(loading::load_model, module)?)?;
    module.add_function(wrap_pyfunction!(loading::convert, module)?)?;
    module.add_function(wrap_pyfunction!(tuning::tune_model, module)?)?;
    module.add_function(wrap_pyfunction!(devices::get_local_info, module)?)?;
    module.add_function(wrap_pyfunction!(devices::device_capability, module)?)?;
    module.add_function(wrap_pyfunction!(devices::parse_device, module)?)?;
    module.add_function(wrap_pyfunction!(machine::probe_machine, module)?)?;
    module.add_function(wrap_pyfunction!(machine::processor, module)?)?;
    module.add_function(wrap_pyfunction!(settings::initialize, module)?)?;
    module.add_function(wrap_pyfunction!(settings::finalize, module)?)?;
    module.add_function(wrap_pyfunction!(settings::finalize_at_exit, module)?)?;
    module.add_function(wrap_pyfunction!(settings::is_initialized, module)?)?;
    module.add_function(wrap_pyfunction!(settings::before_fork, module)?)?;
    module.add_function(wrap_pyfunction!(settings::after_fork_in_parent, module)?)?;
    module.add_function(wrap_pyfunction!(settings::after_fork_in_child, module)?)?;
    module.add_function(wrap_pyfunction!(settings::is_deferred, module)?)?;
    module.add_function(wrap_pyfunction!(settings::get_version, module)?)?;
    module.add_function(wrap_pyfunction!(settings::set_loglevel, module)?)?;
    module.add_function(wrap_pyfunction!(settings::enable_console_log, module)?)?;
    module.add_function(wrap_pyfunction!(settings::enable_file_log, module)?)?;
    Ok(())
}
