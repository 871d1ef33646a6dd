"""What a network keeps in global variables from one call for the next.

Its copies cannot have those for themselves.  Whether a network goes by what is kept there is found
out with functions that see other variables in their place; the user's own are not touched.
"""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from innerloop.algorithms.kept import names_in
from innerloop.algorithms.rows import differ
from innerloop.models.unregistered import SEARCHED
from innerloop.trees import is_foreign, is_of_user, tensors_in


def kept_in_globals(
    first: Callable[[], nn.Module],
    call: Callable[[nn.Module, Any], list[Tensor]],
    x: Any,
    later: Sequence[tuple[Callable[[], nn.Module], Any]],
) -> set[str]:
    """Global variables in which a call leaves what changes the outputs of the next call.

    Args:
        first: makes a copy of the network.
        call: its outputs for examples.
        x: examples of the first call.
        later: makers of copies with other weights, or other examples.
    """
    # Most networks do without; what fails here fails when it counts.
    with contextlib.suppress(Exception):
        caches: dict[str, Any] = {}
        module = _with_caches(first(), caches)
        if not caches:
            return set()
        call(module, x)
        filled = {name for name, cache in caches.items() if tensors_in(cache)}
        for make, others in later if filled else ():
            kept = {name: type(cache)(cache) for name, cache in caches.items()}
            if differ([call(_with_caches(make(), held), others) for held in (kept, {})]):
                return filled
    return set()


def _globals_of(function: types.FunctionType) -> dict[str, Any]:
    known = function.__globals__
    return {n: known[n] for n in names_in(function.__code__) if n in known}


def _is_cache(value: Any) -> bool:
    """True for a container that is empty, or has tensors."""
    if not isinstance(value, dict | list) or len(value) > SEARCHED:
        return False
    return not value or bool(tensors_in(value))


def _with_caches(module: nn.Module, caches: dict[str, Any]) -> nn.Module:
    """A copy of a network whose functions have other containers in global variables.

    Args:
        module: the copy; the classes of its parts are exchanged.
        caches: the containers by name; empty ones are added for those that are not there.
    """
    spaces: dict[int, dict[str, Any]] = {}
    made: dict[int, types.FunctionType] = {}

    def again(function: types.FunctionType) -> types.FunctionType:
        if id(function) in made:
            return made[id(function)]
        space = spaces.setdefault(id(function.__globals__), {**function.__globals__})
        new = types.FunctionType(
            function.__code__,
            space,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        new.__kwdefaults__ = function.__kwdefaults__
        made[id(function)] = new
        for name, value in _globals_of(function).items():
            if _is_cache(value):
                space[name] = caches.setdefault(name, type(value)())
            elif isinstance(value, types.FunctionType) and is_of_user(value.__module__):
                space[name] = again(value)
        return new

    kinds: dict[type, type] = {}
    for part in module.modules():
        kind = type(part)
        if not is_foreign(kind):
            continue
        if kind not in kinds:
            functions = {
                name: again(value)
                for base in reversed(kind.__mro__)
                if is_foreign(base)
                for name, value in vars(base).items()
                if isinstance(value, types.FunctionType)
            }
            kinds[kind] = type(kind.__name__, (kind,), functions)
        part.__class__ = kinds[kind]
    return module
