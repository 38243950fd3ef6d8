//! The names of devices.

use std::fmt;
use std::str::FromStr;

use optimium_tensor::{Error, ErrorKind, Result};

use crate::host::LOCAL_HOST;
use crate::{Capability, DeviceKind, HostInfo, PlatformKind, local_info};

/// One device, used through one platform: `native:x64:0@0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId {
    /// The platform.
    pub platform: PlatformKind,
    /// What the device is.
    pub device_kind: DeviceKind,
    /// Its number among the devices of its kind on its host.
    pub index: u32,
    /// The host that has it.
    pub host_id: u32,
}

impl DeviceId {
    /// The host that has the device.
    ///
    /// # Errors
    /// [`DeviceNotFound`](ErrorKind::DeviceNotFound) for a host that is not this one.
    pub fn host_info(&self) -> Result<&'static HostInfo> {
        if self.host_id == LOCAL_HOST { Ok(local_info()) } else { Err(self.not_found()) }
    }

    /// What the device can do.
    ///
    /// # Errors
    /// [`DeviceNotFound`](ErrorKind::DeviceNotFound) for a device that this host does not have.
    pub fn capability(&self) -> Result<&'static Capability> {
        let present = self.host_info()?.devices.contains(self);
        if present {
            Capability::of_this_cpu().ok_or_else(|| self.not_found())
        } else {
            Err(self.not_found())
        }
    }

    fn not_found(&self) -> Error {
        Error::new(ErrorKind::DeviceNotFound, format!("there is no device {self} on this host"))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}@{}", self.platform, self.device_kind, self.index, self.host_id)
    }
}

impl FromStr for DeviceId {
    type Err = Error;

    /// Reads `platform:kind`, `platform:kind:index` or `platform:kind:index@host`; what is left out is 0.
    fn from_str(text: &str) -> Result<Self> {
        let wrong = || {
            Error::invalid_argument(format!(
                "{text:?} is not the name of a device; they look like native:x64:0@0"
            ))
        };
        let (device, host) = text.split_once('@').unwrap_or((text, "0"));
        let mut parts = device.split(':');
        let platform = parts.next().ok_or_else(wrong)?.parse()?;
        let device_kind = parts.next().ok_or_else(wrong)?.parse()?;
        let index = parts.next().unwrap_or("0").parse().map_err(|_| wrong())?;
        if parts.next().is_some() {
            return Err(wrong());
        }
        Ok(DeviceId { platform, device_kind, index, host_id: host.parse().map_err(|_| wrong())? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_and_read_back() {
        for platform in PlatformKind::ALL {
            for device_kind in DeviceKind::ALL {
                let id = DeviceId { platform, device_kind, index: 3, host_id: 7 };
                assert_eq!(id.to_string().parse::<DeviceId>().unwrap(), id);
            }
        }
        let id: DeviceId = "native:x64".parse().unwrap();
        assert_eq!(id.to_string(), "native:x64:0@0");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in
            ["", "native", "native:x64:a", "native:x64:0@", "native:x64:0:0", "x64:native", "native:x64:-1"]
        {
            assert!(text.parse::<DeviceId>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_local_device_is_there() {
        let local = local_info();
        assert!(!local.name.is_empty());
        let device = local.devices[0];
        assert_eq!(device.host_info().unwrap(), local);
        assert!(device.capability().is_ok());
        let elsewhere = DeviceId { host_id: 9, ..device };
        assert_eq!(elsewhere.capability().unwrap_err().kind(), ErrorKind::DeviceNotFound);
    }
}
