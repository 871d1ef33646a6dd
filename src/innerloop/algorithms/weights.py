"""Weights by name, as users give them: one check for all methods that take some."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import UserError

Shapes = Mapping[str, torch.Size]
_SOURCE = "algorithm.init_params()"


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
