//! Which device a model runs on.

use std::sync::Arc;

use optimium_device::{Backend, DeviceId, PlatformKind, local_info};
use optimium_tensor::{Error, ErrorKind, Result};

use crate::options::LoadOptions;

/// The device for a model, and the backend that serves it: the first of the wanted devices that is there;
/// where none is, this host's CPU, unless the options are strict.
///
/// # Errors
/// [`DeviceNotFound`](ErrorKind::DeviceNotFound) naming what is not there.
pub(crate) fn place(options: &LoadOptions) -> Result<(DeviceId, Arc<dyn Backend>)> {
    let devices = &local_info().devices;
    let wanted = &options.devices;
    let is_there = |wanted: &DeviceId| devices.iter().copied().find(|device| serves(device, wanted));
    let found = if options.strict {
        wanted
            .iter()
            .map(|id| is_there(id).ok_or_else(|| not_found(std::slice::from_ref(id))))
            .collect::<Result<Vec<_>>>()?
    } else {
        wanted.iter().filter_map(is_there).collect()
    };
    let own_cpu = devices.iter().copied().find(|device| device.platform == PlatformKind::Native);
    let device = found.first().copied().or(own_cpu).ok_or_else(|| not_found(wanted))?;
    if found.len() < wanted.len() {
        tracing::warn!("{}; the model runs on {device}", not_found(wanted));
    }
    Ok((device, Arc::new(optimium_native::Native::new())))
}

/// Whether `device` is the one that `wanted` names, which may name a class of devices.
fn serves(device: &DeviceId, wanted: &DeviceId) -> bool {
    device.platform == wanted.platform
        && device.host_id == wanted.host_id
        && device.index == wanted.index
        && device.device_kind.is_capable(wanted.device_kind)
}

fn not_found(wanted: &[DeviceId]) -> Error {
    let names: Vec<String> = wanted.iter().map(DeviceId::to_string).collect();
    Error::new(
        ErrorKind::DeviceNotFound,
        format!("this host does not have the device {}", names.join(" or ")),
    )
}
