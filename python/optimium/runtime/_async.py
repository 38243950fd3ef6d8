"""Inferences that an event loop awaits."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._errors import RuntimeException

if TYPE_CHECKING:
    from ._native import InferRequest

#: Long enough for a wait that finds the inference ended, which it has. Zero would wait forever.
_AT_ONCE = 1


async def infer_async(
    request: InferRequest, inputs: Sequence[Any] | Mapping[str, Any], outputs: Sequence[Any] | Mapping[str, Any]
) -> None:
    """See `InferRequest.infer_async`."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    request._infer_then(inputs, outputs, functools.partial(_tell, loop, ended))
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            # The shield keeps `ended` open where this task is cancelled: the inference still uses its tensors.
            await asyncio.shield(ended)
        except asyncio.CancelledError as error:
            cancelled = error
            request.cancel()
        except GeneratorExit:
            # The loop is gone, and nobody will hear of the end.
            request.cancel()
            raise
    try:
        # A callback may have begun another inference, which is not to be waited for here.
        request.wait(_AT_ONCE)
    except RuntimeException:
        if cancelled is None:
            raise
    if cancelled is not None:
        raise cancelled


def _tell(loop: asyncio.AbstractEventLoop, ended: asyncio.Future[None]) -> None:
    # A closed loop cannot be told, and has nobody to tell.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(_end, ended)


def _end(ended: asyncio.Future[None]) -> None:
    if not ended.done():
        ended.set_result(None)
