"""What hooks of a user's own return, and what is said of anything else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from innerloop.algorithms.scores import check_metrics
from innerloop.errors import UserError
from innerloop.functional import Params, Rates


def checked_tensors(found: Any, what: str) -> Params:
    """Raise a `UserError` unless this is a dict of tensors by parameter name."""
    wrong = next(
        (
            f"a {type(p).__name__} for {name!r}"
            for name, p in (found.items() if isinstance(found, Mapping) else ())
            if not isinstance(p, Tensor)
        ),
        None if isinstance(found, Mapping) else f"a {type(found).__name__}",
    )
    if wrong:
        raise UserError(f"{what} must return a dict of tensors by parameter name, not {wrong}")
    return {**found}


def checked_rates(found: Any, what: str) -> Rates:
    """Raise a `UserError` unless these are inner learning rates."""
    if isinstance(found, Mapping):
        wrong = [f"a {type(r).__name__} for {n!r}" for n, r in found.items() if not _is_rate(r)]
    else:
        wrong = [] if _is_rate(found) else [f"a {type(found).__name__}"]
    if wrong:
        raise UserError(
            f"{what} must return the inner learning rates, a number or a dict of numbers and "
            f"tensors by parameter name, not {wrong[0]}"
        )
    rates: Rates = found
    return rates


def _is_rate(value: Any) -> bool:
    return isinstance(value, Tensor | int | float)


def checked_gradient(found: Any, what: str, params: Params) -> tuple[Params, Params]:
    """Raise a `UserError` unless these are gradients of `params`, and metrics.

    Nothing is said of shapes, which may have an axis of tasks.
    """
    if not (isinstance(found, tuple) and len(found) == 2):
        raise UserError(
            f"{what} must return the gradients and the metrics, two dicts of tensors by name, not "
            f"a {type(found).__name__}"
        )
    grads, metrics = checked_tensors(found[0], what), found[1]
    if grads.keys() != params.keys():
        raise UserError(
            f"{what} must return a gradient for each meta-parameter, zeros where there is none: "
            + _difference(grads, params)
        )
    return grads, check_metrics(metrics, what)


def checked_counts(found: Any, what: str, number: int) -> list[float]:
    """Raise a `UserError` unless these are so many numbers."""
    counts = list(found) if isinstance(found, Iterable) and not isinstance(found, str) else []
    if len(counts) != number or not all(_is_rate(c) for c in counts):
        raise UserError(
            f"{what} must return {number} numbers, one for the weights before the first inner step "
            "and one after each"
        )
    return counts


def _difference(found: Params, wanted: Params) -> str:
    missing = [n for n in wanted if n not in found]
    if missing:
        return f"there is none for {', '.join(missing[:4])}"
    return f"{', '.join([str(n) for n in found if n not in wanted][:4])} is none of them"
