"""Two profiles side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from .data import Layer, Profile, Timing

_NONE = Timing(0.0, 0.0)


@dataclass(frozen=True)
class Change:
    """The time of something before and after; None where it is not there."""

    name: str
    operator: str
    before: Timing | None
    after: Timing | None
    kernel_before: str = ""
    kernel_after: str = ""

    @property
    def difference(self) -> float:
        """Nanoseconds that it takes longer; what is not there takes none."""
        return (self.after or _NONE).median - (self.before or _NONE).median

    @property
    def noise(self) -> float:
        """By how much the difference may be wrong: both spreads."""
        return (self.after or _NONE).spread + (self.before or _NONE).spread

    @property
    def ratio(self) -> float | None:
        """The time after by the time before; None where either is missing."""
        if self.before is None or self.after is None or not self.before.median:
            return None
        return self.after.median / self.before.median

    @property
    def is_significant(self) -> bool:
        """Whether the difference is larger than the noise."""
        return abs(self.difference) > self.noise


@dataclass(frozen=True)
class Comparison:
    """What changed from `baseline` to `profile`."""

    baseline: Profile
    profile: Profile
    #: Whole inferences.
    total: Change
    #: Layers of the same name belong together; the largest differences come first.
    layers: tuple[Change, ...]
    #: The sums of layers by kind of operator.
    operators: tuple[Change, ...]

    @property
    def remarks(self) -> list[str]:
        """What makes the two hard to compare."""
        pairs = {
            "CPUs": (self.baseline.machine.cpu, self.profile.machine.cpu),
            "numbers of threads": (self.baseline.threads, self.profile.threads),
            "precisions": (self.baseline.precision, self.profile.precision),
            "input shapes": (self.baseline.shapes, self.profile.shapes),
        }
        remarks = [f"the {what} differ: {before} and {after}" for what, (before, after) in pairs.items() if before != after]
        alone = sum(change.before is None or change.after is None for change in self.layers)
        if 2 * alone > len(self.layers):
            remarks.append(f"{alone} of {len(self.layers)} layers are in one of the two alone: they may be different models")
        if self.baseline.overlaps != self.profile.overlaps:
            rates = f"{self.baseline.inferences_per_second:.1f} and {self.profile.inferences_per_second:.1f}"
            remarks.append(f"inferences overlap in one of the two, as those of a pipeline do: {rates} end in a second")
        return remarks


def compare(baseline: Profile, profile: Profile) -> Comparison:
    """What changed from `baseline` to `profile`."""
    before, after = _by_name(baseline.timed_layers), _by_name(profile.timed_layers)
    layers = [_layer_change(before.get(key), after.get(key)) for key in before | after]
    kinds_before = {total.name: total.timing for total in baseline.operators}
    kinds_after = {total.name: total.timing for total in profile.operators}
    kinds = [
        Change(kind, kind, kinds_before.get(kind), kinds_after.get(kind)) for kind in kinds_before | kinds_after
    ]
    total = Change("inference", "", baseline.timing, profile.timing)
    return Comparison(baseline, profile, total, _largest_first(layers), _largest_first(kinds))


def _by_name(layers: Iterable[Layer]) -> dict[tuple[str, int], Layer]:
    """The layers by name; those of the same name are numbered."""
    seen: Counter[str] = Counter()
    named = {}
    for layer in layers:
        named[layer.name, seen[layer.name]] = layer
        seen[layer.name] += 1
    return named


def _layer_change(before: Layer | None, after: Layer | None) -> Change:
    either = after or before
    assert either is not None
    return Change(
        either.name,
        either.operator,
        before.timing if before else None,
        after.timing if after else None,
        before.kernel if before else "",
        after.kernel if after else "",
    )


def _largest_first(changes: Iterable[Change]) -> tuple[Change, ...]:
    return tuple(sorted(changes, key=lambda change: -abs(change.difference)))
