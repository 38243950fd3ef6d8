"""What the machine can do at best, as a yardstick for layers."""

from __future__ import annotations

from .. import _native
from .._types import OperationDetails, X86Capability
from .data import Machine


def probe() -> Machine:
    """Measures one core of this machine, for some tens of milliseconds."""
    cpu, instruction_set = _native.processor()
    capability = _native.get_local_info().devices[0].capability
    caches = (capability.L2, capability.L3) if isinstance(capability, X86Capability) else (0, 0)
    return Machine(cpu, instruction_set, **_native.probe_machine(), l2_size=caches[0], l3_size=caches[1])


def limit(work: OperationDetails, machine: Machine, threads: int, constants: int) -> float:
    """Nanoseconds in which `threads` cores can do that work, if nothing but arithmetic or memory holds them up.

    What a layer reads and writes can be in the cache that has room for it; its constants at best in the one that has room for
    all `constants` bytes of the model, since every inference reads them all.
    """
    rate = machine.int8 if work.in_integers else machine.f32
    arithmetic = 2 * work.multiply_adds / rate
    tensors = work.bytes_read + work.bytes_written
    traffic = tensors / machine.bandwidth(tensors) + work.constant_bytes / machine.bandwidth(constants)
    return max(arithmetic, traffic) / threads * 1e9
