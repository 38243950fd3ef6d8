"""How far apart the outputs of two engines are, and how far they may be."""

from __future__ import annotations

import math

import numpy as np

F32 = 1e-4
"""Of networks in single precision: what different orders of summation and other algorithms may cost."""
BF16 = 5e-2
"""Of networks in bfloat16: eight bits of mantissa in every product, from layer to layer."""
QUANTIZED = 0.15
"""Of quantized networks: every engine rounds halves, residuals and scales its own way, and a quantum is 1/128 of a tensor."""


def distance(ours: list[np.ndarray], theirs: list[np.ndarray]) -> float:
    """The largest of ‖ours − theirs‖ / ‖theirs‖ over the outputs. Integers of one byte are quantized numbers: theirs are taken
    without their mean, as a zero point may be anything. For other integers, which a choice between nearly equal numbers may give,
    it is the share that differs. Infinite where shapes differ, or what is finite does.
    """
    if [array.shape for array in ours] != [array.shape for array in theirs]:
        return math.inf
    return max((_distance(a, b) for a, b in zip(ours, theirs, strict=True)), default=0.0)


def _distance(ours: np.ndarray, theirs: np.ndarray) -> float:
    if theirs.size == 0:
        return 0.0
    if theirs.dtype in (np.int8, np.uint8):
        mean = theirs.mean()
        ours, theirs = ours - mean, theirs - mean
    if not np.issubdtype(theirs.dtype, np.floating):
        return float(np.mean(ours != theirs))
    a, b = ours.astype(np.float64).ravel(), theirs.astype(np.float64).ravel()
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return math.inf
    finite = np.isfinite(b)
    norm = float(np.linalg.norm(b[finite]))
    return float(np.linalg.norm(a[finite] - b[finite])) / (norm or 1.0)


def tolerance(precision: str, quantized: bool) -> float:
    """The distance that is allowed."""
    return QUANTIZED if quantized else BF16 if precision == "bf16" else F32
