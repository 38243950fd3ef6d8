"""What a bug report needs to know about the installation."""

from __future__ import annotations

import importlib.metadata
import platform
import sys

from . import _native


def show_versions() -> None:
    """Prints the versions of the runtime, of Python and of the packages that it uses, and the devices."""
    print(f"optimium-runtime: {_native.get_version().build_info} ({_native.__file__})")
    print(f"python: {sys.version.split()[0]} on {platform.platform()}")
    for package in ("numpy", "ml_dtypes", "typer", "rich"):
        try:
            print(f"{package}: {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{package}: not installed")
    if not _native.is_initialized():
        print("devices: the runtime is not initialized")
        return
    for device in _native.get_local_info().devices:
        features = getattr(device.capability, "features", ())
        print(f"device {device}: {', '.join(map(str, features))}")
