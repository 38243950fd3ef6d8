//! The host, its devices and their capabilities, as the plain data classes of `optimium.runtime._types`.

use optimium_runtime::device::{CacheSizes, Capability, DeviceId, HostInfo};
use optimium_tensor::Error;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::arguments::argument;
use crate::enums::{PythonEnum, from_python, to_python};
use crate::errors::raise;
use crate::python::types;

/// This host and its devices.
#[pyfunction]
pub(crate) fn get_local_info(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    let info: &HostInfo = optimium_runtime::local_info().map_err(|error| raise(py, error))?;
    let devices = info.devices.iter().map(|id| device_to_python(py, *id)).collect::<PyResult<Vec<_>>>()?;
    types(py)?.getattr("HostInfo")?.call1((
        info.id,
        &info.name,
        to_python(py, info.architecture)?,
        to_python(py, info.os)?,
        PyTuple::new(py, devices)?,
    ))
}

/// What a device of this host can do.
#[pyfunction]
pub(crate) fn device_capability<'py>(device: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = device.py();
    let capability = device_from_python(device)?.capability().map_err(|error| raise(py, error))?;
    let types = types(py)?;
    match capability {
        Capability::X86(x86) => cpu_to_python(&types.getattr("X86Capability")?, &x86.caches, &x86.features),
        Capability::Arm(arm) => cpu_to_python(&types.getattr("ARMCapability")?, &arm.caches, &arm.features),
        Capability::RiscV(risc_v) => {
            let CacheSizes { l1, l2, l3 } = risc_v.caches;
            types.getattr("RISCVCapability")?.call1((l1, l2, l3, PyTuple::new(py, &risc_v.extensions)?))
        }
        Capability::SpirV(spirv) => types.getattr("SPIRVCapability")?.call1((
            &spirv.target,
            spirv.target_version,
            spirv.spirv_version,
            spirv.max_grid_size.into_pyobject(py)?,
            spirv.max_block_size.into_pyobject(py)?,
            spirv.max_shared_memory,
            spirv.max_const_memory,
            PyTuple::new(py, &spirv.features)?,
        )),
        Capability::Cuda(cuda) => types.getattr("CUDACapability")?.call1((cuda.compute_capability,)),
        Capability::Hexagon(hexagon) => types.getattr("HexagonCapability")?.call1((hexagon.version,)),
    }
}

/// The device of that name.
#[pyfunction]
pub(crate) fn parse_device<'py>(name: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let (py, name) = (name.py(), argument::<String>("name", name)?);
    device_to_python(py, name.parse().map_err(|error: Error| raise(py, error))?)
}

fn cpu_to_python<'py, F: PythonEnum>(
    class: &Bound<'py, PyAny>,
    caches: &CacheSizes,
    features: &[F],
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    let features = features.iter().map(|feature| to_python(py, *feature)).collect::<PyResult<Vec<_>>>()?;
    class.call1((caches.l1, caches.l2, caches.l3, PyTuple::new(py, features)?))
}

/// A `DeviceID`.
pub(crate) fn device_to_python(py: Python<'_>, id: DeviceId) -> PyResult<Bound<'_, PyAny>> {
    types(py)?.getattr("DeviceID")?.call1((
        to_python(py, id.platform)?,
        to_python(py, id.device_kind)?,
        id.index,
        id.host_id,
    ))
}

/// The device that a `DeviceID`, or its name, stands for.
pub(crate) fn device_from_python(object: &Bound<'_, PyAny>) -> PyResult<DeviceId> {
    let py = object.py();
    if let Ok(name) = object.extract::<String>() {
        return name.parse().map_err(|error: Error| raise(py, error));
    }
    if !object.is_instance(&types(py)?.getattr("DeviceID")?)? {
        return Err(raise(
            py,
            Error::type_mismatch(format!("expected a DeviceID or its name, not {object}")),
        ));
    }
    Ok(DeviceId {
        platform: from_python(&object.getattr("platform")?)?,
        device_kind: from_python(&object.getattr("device_kind")?)?,
        index: argument("index", &object.getattr("index")?)?,
        host_id: argument("host_id", &object.getattr("host_id")?)?,
    })
}
