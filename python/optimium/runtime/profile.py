"""Profilers: they load a model, repeat its inference, and say how long everything took.

    from optimium.runtime.profile import BasicProfiler

    profiler = BasicProfiler("path/to/model")
    profiler.profile(repeat=100)
    print(profiler.model_stat.mean)

All durations are in nanoseconds.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from ._arrays import tensor
from ._errors import InvalidArgumentError, InvalidOperationError, NotImplementedError
from ._inputs import empty_outputs, random_inputs
from ._native import Model, Tensor, get_version, load_model
from ._types import DeviceID, ProfileDurations

__all__ = ["BasicProfiler", "BatchProfiler", "BatchStatistics", "Statistics"]

_Path = str | os.PathLike[str]
_Result = TypeVar("_Result")
_Tensors = Sequence[Tensor | NDArray[Any]] | Mapping[str, Tensor | NDArray[Any]]

#: The port that remote servers listen on where nothing else is said.
_REMOTE_PORT = 32264


class _Options(TypedDict):
    repeat: int
    warmup: int
    warmup_time: int
    stop_threshold: int
    check_period: int
    event_buffer_size: int


@dataclass(frozen=True)
class Statistics:
    """What `count` durations, in nanoseconds, have in common."""

    name: str
    count: int
    min: int
    max: int
    mean: float
    #: Standard deviation.
    std: float
    #: Percentiles: 50 is the median.
    p50: float
    p90: float
    p95: float
    p99: float

    @classmethod
    def of(cls, name: str, durations: Sequence[int]) -> Statistics:
        """Those of some durations, at least one."""
        values = np.asarray(durations, np.float64)
        p50, p90, p95, p99 = (float(value) for value in np.percentile(values, (50, 90, 95, 99)))
        mean, std = float(values.mean()), float(values.std())
        return cls(name, len(durations), min(durations), max(durations), mean, std, p50, p90, p95, p99)


@dataclass(frozen=True)
class BatchStatistics:
    """What a profile says about the model, its layers, and copies between devices."""

    model_stat: Statistics
    layer_stats: list[Statistics]
    copy_stats: list[Statistics]

    @classmethod
    def of(cls, profiles: Sequence[ProfileDurations]) -> BatchStatistics:
        """Those of all inferences of some profiles of the same model."""
        whole = [duration for profile in profiles for duration in profile.model_durations]
        if not whole:
            raise InvalidOperationError(
                "the event buffer is too small for a whole inference; make event_buffer_size larger"
            )
        return cls(
            Statistics.of(profiles[0].model_name, whole),
            _by_name(profile.layer_durations for profile in profiles),
            _by_name(profile.copy_durations for profile in profiles),
        )


def _by_name(profiles: Iterable[dict[str, list[int]]]) -> list[Statistics]:
    together: dict[str, list[int]] = {}
    for profile in profiles:
        for name, durations in profile.items():
            together.setdefault(name, []).extend(durations)
    return [Statistics.of(name, durations) for name, durations in together.items()]


class _Profiler:
    """A model under a profiler, and its request."""

    def __init__(
        self,
        path: _Path,
        *,
        devices: Sequence[DeviceID | str] | None = None,
        memory_optimization: bool = True,
        disable_denormals: bool = False,
        threads: int | None = 1,
        cores: Sequence[int] | None = None,
        intermediate_save_path: _Path | None = "",
        remote_address: str | None = None,
        remote_port: int = _REMOTE_PORT,
    ) -> None:
        """Loads the model. The options are those of `load_model`.

        Raises NotImplementedError where a `remote_address` is given: models cannot be profiled on other hosts yet.
        """
        if remote_address:
            raise NotImplementedError(
                f"profiling on {remote_address}:{remote_port}: there is no remote inference in this version"
            )
        self.model: Model = load_model(
            path,
            devices=devices,
            memory_optimization=memory_optimization,
            disable_denormals=disable_denormals,
            threads=threads,
            cores=cores,
            intermediate_save_path=intermediate_save_path or None,
        )
        self._request = self.model.create_request()

    def _measured(
        self, inputs: _Tensors | None, outputs: _Tensors | None, options: _Options
    ) -> ProfileDurations:
        if inputs is None:
            inputs = random_inputs(self.model)
        if outputs is None:
            names = inputs if isinstance(inputs, Mapping) else dict(zip(self.model.input_names, inputs, strict=False))
            given = {name: value if isinstance(value, Tensor) else tensor(value) for name, value in names.items()}
            outputs = empty_outputs(self.model, given)
        self._request.profile(inputs, outputs, **options)
        return self._request.get_profile_durations()

    def _write(self, path: _Path, results: dict[str, Any]) -> None:
        header = {"model": self.model.name, "version": str(get_version()), "unit": "ns"}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(header | results, file, indent=2)


class BasicProfiler(_Profiler):
    """Profiles one inference of a model."""

    _profile: ProfileDurations | None = None
    _statistics: BatchStatistics | None = None

    def profile(
        self,
        repeat: int = 100,
        warmup: int = 10,
        warmup_time: int = 1_000_000,
        stop_threshold: int = 0,
        check_period: int = 0,
        event_buffer_size: int = 0,
        *,
        inputs: _Tensors | None = None,
        outputs: _Tensors | None = None,
    ) -> None:
        """As InferRequest.profile(). Inputs that are not given are random, with 1 for every symbolic dimension."""
        options = _options(repeat, warmup, warmup_time, stop_threshold, check_period, event_buffer_size)
        self._profile = self._measured(inputs, outputs, options)
        self._statistics = BatchStatistics.of([self._profile])

    @property
    def model_stat(self) -> Statistics:
        """Of whole inferences. Raises InvalidOperationError before profile()."""
        return _profiled(self._statistics).model_stat

    @property
    def layer_stats(self) -> list[Statistics]:
        """Of layers, in their order. Raises InvalidOperationError before profile()."""
        return _profiled(self._statistics).layer_stats

    @property
    def copy_stats(self) -> list[Statistics]:
        """Of copies between devices. Raises InvalidOperationError before profile()."""
        return _profiled(self._statistics).copy_stats

    @property
    def durations(self) -> ProfileDurations:
        """All durations. Raises InvalidOperationError before profile()."""
        return _profiled(self._profile)

    def dump_json(self, path: _Path) -> None:
        """Writes statistics and durations to a file. Raises InvalidOperationError before profile()."""
        results = asdict(_profiled(self._statistics)) | {"durations": asdict(self.durations)}
        self._write(path, results)


class BatchProfiler(_Profiler):
    """Profiles one inference after the other, each with inputs of its own."""

    _batches: list[BatchStatistics] | None = None
    _total: BatchStatistics | None = None

    def profile(
        self,
        repeat: int = 100,
        warmup: int = 10,
        warmup_time: int = 1_000_000,
        stop_threshold: int = 0,
        check_period: int = 0,
        event_buffer_size: int = 0,
        *,
        inputs: Sequence[_Tensors],
        outputs: Sequence[_Tensors] | None = None,
    ) -> None:
        """As InferRequest.profile(), for each of `inputs` with the one of `outputs` at the same place.

        Raises InvalidArgumentError where there are none, or not as many of both.
        """
        if not inputs or (outputs is not None and len(outputs) != len(inputs)):
            count = "no" if outputs is None else str(len(outputs))
            raise InvalidArgumentError(
                f"{len(inputs)} batches of inputs and {count} of outputs; give at least one, and as many of both"
            )
        options = _options(repeat, warmup, warmup_time, stop_threshold, check_period, event_buffer_size)
        pairs = zip(inputs, outputs if outputs is not None else [None] * len(inputs), strict=True)
        profiles = [self._measured(given, wanted, options) for given, wanted in pairs]
        self._batches = [BatchStatistics.of([profile]) for profile in profiles]
        self._total = BatchStatistics.of(profiles)

    @property
    def batch_stat(self) -> list[BatchStatistics]:
        """Of each batch. Raises InvalidOperationError before profile()."""
        return _profiled(self._batches)

    @property
    def total_stat(self) -> BatchStatistics:
        """Of all batches together. Raises InvalidOperationError before profile()."""
        return _profiled(self._total)

    def dump_json(self, path: _Path) -> None:
        """Writes the statistics to a file. Raises InvalidOperationError before profile()."""
        batches = [asdict(batch) for batch in self.batch_stat]
        self._write(path, {"total": asdict(self.total_stat), "batches": batches})


def _options(
    repeat: int, warmup: int, warmup_time: int, stop_threshold: int, check_period: int, event_buffer_size: int
) -> _Options:
    return {
        "repeat": repeat,
        "warmup": warmup,
        "warmup_time": warmup_time,
        "stop_threshold": stop_threshold,
        "check_period": check_period,
        "event_buffer_size": event_buffer_size,
    }


def _profiled(result: _Result | None) -> _Result:
    if result is None:
        raise InvalidOperationError("nothing was profiled yet; call profile() first")
    return result
