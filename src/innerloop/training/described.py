"""What a user's objects are set to, as plain values to compare when a run goes on."""

from __future__ import annotations

import dis
import enum
import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.algorithms.modules import name_in_code
from innerloop.models.unregistered import OF_EVERY_MODULE, SEARCHED
from innerloop.tasks.protocol import digest_of
from innerloop.trees import is_foreign, is_plain_object

_PLAIN = (str, int, float, bool, type(None))
_AS_TEXT = (complex, bytes, np.generic, enum.Enum, torch.dtype)
_CONTAINERS = (dict, list, tuple, set, frozenset)
# Containers, objects and closures hold others, and may hold themselves.
_DEPTH = 4
# Folders and devices may be others when a run goes on.
_FOLDER = re.compile(r"^(?:[A-Za-z]:)?[\\/~].*[\\/]")
_DEVICE = re.compile(r"^(?:cpu|cuda|mps|xpu)(?::\d+)?$")


def described(value: Any, depth: int = _DEPTH) -> Any:
    """Plain values as they are, containers entry by entry, all else by its name and settings."""
    if isinstance(value, str):
        return "device" if _DEVICE.match(value) else _FOLDER.sub("", value)
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Tensor):
        return digest_of(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        return digest_of(torch.from_numpy(np.array(value)))
    if isinstance(value, torch.device):
        return "device"
    if isinstance(value, _AS_TEXT):
        return str(value)
    if inspect.isroutine(value) or inspect.isclass(value):
        return _function(value, depth)
    if depth == 0:
        return name_in_code(type(value))
    if isinstance(value, dict):
        return {str(name): described(entry, depth - 1) for name, entry in value.items()}
    if isinstance(value, _CONTAINERS):
        entries = [described(entry, depth - 1) for entry in value]
        return sorted(entries, key=str) if isinstance(value, set | frozenset) else entries
    if isinstance(value, functools.partial):
        parts = (value.func, value.args, value.keywords)
        return {"partial": [described(part, depth - 1) for part in parts]}
    found = {"class": name_in_code(type(value)), **attributes(value, depth - 1)}
    if isinstance(value, nn.Module):
        found |= {name: digest_of(t) for name, t in value.state_dict().items()}
    return found


def attributes(value: Any, depth: int = _DEPTH) -> dict[str, Any]:
    """The public attributes of an object that are settings, with those of a user's class.

    What the object keeps for itself, under names with a `_`, may be other each time.
    """
    named: dict[str, Any] = {}
    for kind in reversed(type(value).__mro__):
        if is_foreign(kind):
            named |= {name: v for name, v in vars(kind).items() if isinstance(v, _PLAIN)}
    named |= getattr(value, "__dict__", {})
    skipped = OF_EVERY_MODULE if isinstance(value, nn.Module) else ()
    return {
        name: described(held, depth)
        for name, held in named.items()
        if not name.startswith("_") and name not in skipped and _is_setting(held)
    }


def of_parts(model: nn.Module) -> dict[str, Any]:
    """The attributes of a network and all its parts, by place and name."""
    return {
        f"{place}.{name}".lstrip("."): value
        for place, part in model.named_modules()
        for name, value in attributes(part, 2).items()
    }


def _is_setting(value: Any, depth: int = _DEPTH) -> bool:
    """False for modules, what is learnt or follows from it, and what no file could hold."""
    if isinstance(value, Tensor):
        return not value.requires_grad
    if isinstance(value, _CONTAINERS):
        entries = value.values() if isinstance(value, dict) else value
        return (
            depth > 0 and len(value) <= SEARCHED and all(_is_setting(e, depth - 1) for e in entries)
        )
    if isinstance(value, nn.Module):
        return False
    known = (*_PLAIN, *_AS_TEXT, np.ndarray, functools.partial, torch.device)
    return isinstance(value, known) or inspect.isroutine(value) or is_plain_object(value)


def _function(value: Callable[..., Any], depth: int) -> Any:
    """The name of a function or class, with the values that it was made with."""
    function = value.__func__ if isinstance(value, types.MethodType) else value
    if not isinstance(function, types.FunctionType) or depth == 0:
        return name_in_code(value)
    given = {
        name: described(held, depth - 1)
        for name, held in (*_defaults(function), *_closed_over(function))
        if _is_setting(held) and not isinstance(held, dict | list | set)
    }
    if isinstance(value, types.MethodType) and not isinstance(value.__self__, nn.Module | type):
        given["self"] = described(value.__self__, depth - 1)
    return {"function": name_in_code(value), **given} if given else name_in_code(value)


def _defaults(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    for name, parameter in inspect.signature(function, follow_wrapped=False).parameters.items():
        if parameter.default is not parameter.empty:
            yield name, parameter.default


def _closed_over(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Variables of the functions around it, but for those that it writes to itself."""
    code = dis.get_instructions(function)
    written = {i.argval for i in code if i.opname == "STORE_DEREF"}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name not in written:
            try:
                yield name, cell.cell_contents
            except ValueError:  # it has no value yet
                continue
