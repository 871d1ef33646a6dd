"""Inner learning rates: one number, or numbers by pattern of parameter names.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import Any

from innerloop.errors import UserError, above_zero, finite_above_zero

InnerRates = float | Mapping[str, float]
"""An inner learning rate; or rates by pattern of parameter names, of which the first that matches
counts."""


def check_rates(inner_lr: InnerRates) -> None:
    """Raise a `UserError` unless every rate is a finite number greater than 0."""
    if not isinstance(inner_lr, Mapping):
        finite_above_zero(inner_lr=inner_lr)
        return
    if not inner_lr:
        raise UserError('inner_lr is empty: give a number, or rates by pattern: {"*": 0.01}')
    for pattern, rate in inner_lr.items():
        name = f"inner_lr[{repr(pattern)}]"
        if not isinstance(pattern, str):
            raise UserError(f"{name}: a pattern of parameter names must be text, such as 'head.*'")
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not math.isfinite(rate):
            raise UserError(f"{name} must be a number, not {repr(rate)}")
        above_zero(**{name: rate})


def rates_from(value: Any) -> float | dict[str, float]:
    """Rates as a file or the command line has them.

    Args:
        value: a number, its text, a mapping, or text such as `head.*=0.4,*=0.01`.

    Raises:
        UserError: it is none of these; it names the part at fault.
    """
    if isinstance(value, Mapping):
        return {str(pattern): _number(pattern, rate) for pattern, rate in value.items()}
    if not isinstance(value, str) or not value.partition("=")[1]:
        return _number(None, value)
    found: dict[str, float] = {}
    for part in value.split(","):
        pattern, _, rate = part.rpartition("=")
        pattern = pattern.strip()
        if not pattern:
            raise UserError(
                f"inner_lr: {repr(part)} is not PATTERN=RATE; write for instance "
                "'head.*=0.4,*=0.01'"
            )
        if pattern in found:
            raise UserError(f"inner_lr has two rates for {repr(pattern)}: leave one out")
        found[pattern] = _number(pattern, rate)
    return found


def as_text(rates: InnerRates) -> str:
    """What `rates_from` reads as these rates."""
    if not isinstance(rates, Mapping):
        return str(rates)
    return ",".join(f"{pattern}={rate}" for pattern, rate in rates.items())


def _number(pattern: Any, value: Any) -> float:
    name = "inner_lr" if pattern is None else f"inner_lr[{repr(pattern)}]"
    try:
        if isinstance(value, bool):
            raise TypeError
        # YAML reads 1e-3 (without a point) as text.
        return float(value)
    except (TypeError, ValueError, OverflowError):
        wanted = "a number, or rates by pattern such as 'head.*=0.4,*=0.01'"
        raise UserError(
            f"{name} must be {wanted if pattern is None else 'a number'}, not {repr(value)}"
        ) from None
