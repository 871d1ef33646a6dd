"""Modules in plain lists and dicts of a network, which PyTorch does not count among its parts.

And the weights of a loss, which nobody counts among those of the network.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import deque
from collections.abc import Iterator
from types import FunctionType, MethodType, SimpleNamespace
from typing import Any

from torch import nn

from innerloop.errors import UserError

_log = logging.getLogger("innerloop")
OF_EVERY_MODULE = frozenset(vars(nn.Module())) | {"_compiled_call_impl"}
"""The attributes that every module has, and what `compile()` leaves in one."""
# Longer containers are not searched for modules: they hold data.
SEARCHED = 1000
_NEVER = "neither adapted nor trained"
_MEANT = ", or, if that is meant, call requires_grad_(False)"


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
            what = f"its {number:,} weights are {_NEVER}"
            _log.warning(why.format(what) + _MEANT)


def check_parts_of_loss(loss: Any, model: nn.Module) -> None:
    """Look at the parts of a loss that are none of the network; log weights that never change.

    Raises:
        UserError: a norm of the loss would renew running statistics.
    """
    own = {id(p) for p in (*model.parameters(), *model.modules())}
    weights: dict[int, tuple[str, nn.Parameter]] = {}
    for part in _parts(loss):
        for name, m in part.named_modules() if isinstance(part, nn.Module) else ():
            renews = m.training and getattr(m, "running_mean", None) is not None
            if renews and id(m) not in own:
                raise UserError(
                    f"the loss ({getattr(loss, '__name__', type(loss).__name__)}) holds "
                    f"{name or 'a module'} ({type(m).__name__}), which keeps running statistics: "
                    "every task, and every call that only looks, would change them. Call eval() on "
                    "it to have them as constants, or make it with track_running_stats=False"
                )
        named = part.named_parameters() if isinstance(part, nn.Module) else [("a tensor", part)]
        weights |= {id(p): (name, p) for name, p in named if p.requires_grad and id(p) not in own}
    if weights:
        _log.warning(
            "the loss (%s) has weights of its own (%s), which are %s: make them parameters of the "
            "network, which then returns what is computed with them" + _MEANT,
            getattr(loss, "__name__", type(loss).__name__),
            ", ".join(name for name, _ in weights.values()),
            _NEVER,
        )


def _parts(loss: Any) -> Iterator[nn.Module | nn.Parameter]:
    """The modules and parameters that a function or an object holds."""
    waiting, seen = [loss], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, nn.Module | nn.Parameter):
            yield value
        elif isinstance(value, functools.partial):
            waiting += [value.func, *value.args, *value.keywords.values()]
        elif isinstance(value, MethodType):
            waiting.append(value.__self__)
        elif isinstance(value, FunctionType):
            for cell in value.__closure__ or ():
                with contextlib.suppress(ValueError):  # not yet filled
                    waiting.append(cell.cell_contents)
            waiting += [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        elif isinstance(value, list | tuple | deque | dict) and len(value) <= SEARCHED:
            waiting += value.values() if isinstance(value, dict) else value
        elif value is loss:
            waiting += getattr(value, "__dict__", {}).values()


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
