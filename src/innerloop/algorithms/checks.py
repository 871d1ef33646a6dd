"""What users give as weights and what their hooks return, and what is said of anything else."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import UserError
from innerloop.functional import Params, Rates
from innerloop.given import check_rate

Shapes = Mapping[str, torch.Size]
_SOURCE = "algorithm.init_params()"


# ---- Given


def check_tensors_by_name(params: Any) -> None:
    """Raise a `UserError` for what is no dict of tensors, or an empty one."""
    if not isinstance(params, Mapping) or not params:
        raise UserError(
            f"params must be weights, a dict of tensors such as {_SOURCE} or "
            f"run.params, not {'an empty dict' if params == {} else type(params).__name__}"
        )
    for name, p in params.items():
        if not isinstance(p, Tensor):
            raise UserError(
                f"params[{name!r}] must be a tensor, not a {type(p).__name__}: use torch.as_tensor"
            )


def check_weights(
    params: Mapping[str, Tensor],
    known: Shapes,
    needed: Collection[str],
    *,
    others: Callable[[str], bool] = lambda name: False,
    fits: Callable[[str, torch.Size], bool] | None = None,
) -> None:
    """See that weights have the names and the shapes that they should have.

    Args:
        params: what was given.
        known: shapes by name, of all that may be among them.
        needed: names of those that must be.
        others: whether another name may be among them as well.
        fits: whether a shape serves; None if it must be the one that is known.

    Raises:
        UserError: names the first that is wrong, and what it should be.
    """
    for name in params:
        if name not in known and not others(name):
            near = difflib.get_close_matches(str(name), known.keys() - params.keys(), n=1)
            raise UserError(
                f"params has {name!r}, which is no meta-parameter of the algorithm: "
                + (f"did you mean {near[0]!r}" if near else f"give those of {_SOURCE} alone")
            )
    missing = [name for name in needed if name not in params]
    if missing:
        raise UserError(f"params has no {', '.join(missing)}: give all that {_SOURCE} has")
    for name, p in params.items():
        wanted = known.get(name)
        if wanted is None or p.shape == wanted or (fits is not None and fits(name, p.shape)):
            continue
        raise UserError(
            f"params[{name!r}] has shape {tuple(p.shape)} and must have {tuple(wanted)}, as in "
            f"{_SOURCE}"
        )


# ---- Returned


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


def checked_rates(found: Any, what: str, fast: Params) -> Rates:
    """Raise a `UserError` unless these are inner learning rates of weights `[T, ...]`."""
    if isinstance(found, Mapping):
        wrong = [f"a {type(r).__name__} for {n!r}" for n, r in found.items() if not _is_rate(r)]
    else:
        wrong = [] if _is_rate(found) else [f"a {type(found).__name__}"]
    if wrong:
        raise UserError(
            f"{what} must return the inner learning rates, a number or a dict of numbers and "
            f"tensors by parameter name, not {wrong[0]}"
        )
    for name, p in fast.items():
        # Tasks have the same rates: the axis of tasks is none that one could broadcast against.
        check_rate(name, found.get(name, 0.0) if isinstance(found, Mapping) else found, p.shape[1:])
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


def check_loss(value: Any, what: str = "a loss") -> Tensor:
    """Raise a `UserError` for a loss that is not a scalar, a real number."""
    wrong: Any = None
    if not isinstance(value, Tensor):
        wrong = type(value).__name__
    elif value.ndim:
        wrong = tuple(value.shape)
    elif not value.is_floating_point():
        wrong = f"one of {value.dtype}"
    if wrong is not None:
        raise UserError(
            f"{what} must return a scalar tensor, the mean over the examples, not {wrong}"
        )
    scalar: Tensor = value
    return scalar


def check_scored(found: Any, what: str) -> tuple[Tensor, Params]:
    """Raise a `UserError` unless this is a loss, a scalar, and a dict of metrics."""
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
        raise UserError(
            f"{what} must return the loss and a dict of metrics, such as (loss, {{'loss': "
            f"loss.detach()}}), not a {type(found).__name__}"
        )
    loss, metrics = found
    return check_loss(loss, what), check_metrics(metrics, what)


def check_metrics(metrics: Any, what: str) -> Params:
    """Raise a `UserError` unless this is a dict of tensors by name."""
    if not isinstance(metrics, dict):
        raise UserError(f"{what}: the metrics must be a dict, not a {type(metrics).__name__}")
    for name, metric in metrics.items():
        if not isinstance(metric, Tensor):
            raise UserError(
                f"{what}: the metric {name!r} must be a tensor, not a {type(metric).__name__}"
            )
    if "loss" not in metrics:
        raise UserError(
            f"{what}: the metrics have no 'loss', by which training and evaluation go: add it, "
            "such as {'loss': loss.detach()}"
        )
    return metrics
