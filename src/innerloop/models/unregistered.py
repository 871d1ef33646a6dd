"""Modules in plain lists and dicts of a network, which PyTorch does not count among its parts."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from torch import nn

from innerloop.errors import UserError

_log = logging.getLogger("innerloop")
OF_EVERY_MODULE = frozenset(vars(nn.Module()))
"""The attributes that every module has."""
# Longer containers are not searched for modules: they hold data.
SEARCHED = 1000


def check_registered(model: nn.Module) -> None:
    """See that no part of `model` is overlooked; weights that would never change are logged.

    Raises:
        UserError: a batch norm of it is not among its modules.
    """
    own = {id(p) for p in model.parameters()}
    for place, module in unregistered(model):
        why = (
            f"{type(model).__name__} holds a module ({type(module).__name__}) in a plain list, "
            f"tuple or dict ({place}), where PyTorch does not count it among the parts of the "
            "network, so that {}: hold it in an nn.ModuleList or nn.ModuleDict"
        )
        if any(isinstance(m, nn.modules.batchnorm._NormBase) for m in module.modules()):
            raise UserError(why.format("nothing can be said of its running statistics"))
        weights = [p for p in module.parameters() if p.requires_grad and id(p) not in own]
        if weights:
            number = sum(p.numel() for p in weights)
            what = f"its {number:,} weights are neither adapted nor trained"
            _log.warning(why.format(what) + ", or, if that is meant, call requires_grad_(False)")


def unregistered(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Such modules, each with its place in the network, as `encoder.blocks[2]`."""
    return _held(model, {id(module) for module in model.modules()})


def held(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules in plain lists and dicts of `model`, also those that it counts among its parts."""
    return _held(model, set())


def _held(model: nn.Module, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    for prefix, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in OF_EVERY_MODULE:
                yield from _within(value, f"{prefix}.{name}".lstrip("."), seen)


def _within(value: Any, place: str, seen: set[int]) -> Iterator[tuple[str, nn.Module]]:
    if id(value) in seen:
        return
    if isinstance(value, nn.Module):
        seen.update(id(module) for module in value.modules())
        yield place, value
        return
    value = vars(value) if isinstance(value, SimpleNamespace) else value
    if isinstance(value, list | tuple | deque | dict) and len(value) <= SEARCHED:
        # A container may hold itself.
        seen.add(id(value))
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _within(item, f"{place}[{key!r}]", seen)
