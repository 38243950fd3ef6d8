"""How tensors are printed."""

from __future__ import annotations

import builtins
import operator

from ._errors import InvalidArgumentError, TypeError

_threshold = 8
_precision = 6


def _integer(what: str, value: int) -> int:
    try:
        return operator.index(value)
    except builtins.TypeError as error:
        raise TypeError(f"the {what} is an integer, not {value!r}") from error


def set_print_threshold(threshold: int) -> None:
    """Sets the largest number of elements displayed per dimension; -1 displays all."""
    global _threshold
    threshold = _integer("print threshold", threshold)
    if threshold < -1:
        raise InvalidArgumentError(f"the print threshold cannot be {threshold}")
    _threshold = threshold


def get_print_threshold() -> int:
    """The largest number of elements displayed per dimension; -1 where all are."""
    return _threshold


def set_print_precision(precision: int) -> None:
    """Sets the number of decimal places of floating point elements, from 0 to 15."""
    global _precision
    precision = _integer("print precision", precision)
    if not 0 <= precision <= 15:
        raise InvalidArgumentError(f"the print precision is a number from 0 to 15, not {precision}")
    _precision = precision


def get_print_precision() -> int:
    """The number of decimal places of floating point elements."""
    return _precision
