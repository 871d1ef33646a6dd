"""Tensors in whatever networks return: lists, tuples, dicts, and objects such as dataclasses.

PyTorch's trees end at an object that nobody has registered with them.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

# Packages whose classes and objects are none of the user's.
_OTHERS = {"torch", "numpy", "innerloop", *sys.stdlib_module_names}


def mapped(function: Callable[..., Any], tree: Any, *others: Any) -> Any:
    """A tree of the same form, with `function` of every leaf.

    Args:
        function: of a leaf of `tree`, and those at its place in the others.
        tree: it is not changed; objects of the user's classes are copied.
        others: of the same form.
    """
    return _mapped(function, frozenset(), tree, *others)


def _mapped(function: Callable[..., Any], inside: frozenset[int], tree: Any, *others: Any) -> Any:
    """`mapped` within objects of these identities, which may hold themselves."""

    def at(leaf: Any, *same: Any) -> Any:
        if isinstance(leaf, Tensor) or not _is_open(leaf) or id(leaf) in inside:
            return function(leaf, *same)
        new, of_others = _copy(leaf), [_contents(other) for other in same]
        within = inside | {id(leaf)}
        for (name, is_item), value in _contents(leaf).items():
            of_same = (held[name, is_item] for held in of_others)
            found = _mapped(function, within, value, *of_same)
            if is_item:
                _built_in(leaf).__setitem__(new, name, found)
            else:
                object.__setattr__(new, name, found)
        return new

    return tree_map(at, tree, *others)


def tensors_in(tree: Any) -> list[Tensor]:
    """The tensors of `tree`, also those of objects that `mapped` does not go through."""
    return list(_tensors(tree, set()))


def closed(tree: Any) -> str | None:
    """The class of an object with tensors that `mapped` does not reach; None if there is none."""
    found: list[str] = []

    def look(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) and tensors_in(leaf):
            found.append(type(leaf).__name__)
        return leaf

    mapped(look, tree)
    return found[0] if found else None


def is_plain_object(value: Any) -> bool:
    """True if the class of `value` is a user's plain container."""
    kind = type(value)
    held = hasattr(value, "__dict__") or hasattr(kind, "__slots__")
    return (
        held
        and (is_foreign(kind) or kind is types.SimpleNamespace)
        and not isinstance(value, type | types.ModuleType)
        and not hasattr(kind, "__del__")
        and not hasattr(kind, "__deepcopy__")
    )


def is_foreign(kind: type) -> bool:
    """True for a class of the user's."""
    return is_of_user(kind.__module__)


def is_of_user(module: str | None) -> bool:
    """True if this is the name of a module of the user's."""
    return (module or "").partition(".")[0] not in _OTHERS


@functools.cache
def slots_of(kind: type) -> tuple[str, ...]:
    """The names in the `__slots__` of a class and its bases, as attributes have them."""
    found = []
    for base in kind.__mro__:
        named = vars(base).get("__slots__", ())
        for name in (named,) if isinstance(named, str) else tuple(named):
            private = name.startswith("__") and not name.endswith("__")
            found.append(f"_{base.__name__.lstrip('_')}{name}" if private else name)
    return tuple(name for name in found if name not in ("__dict__", "__weakref__"))


def _is_open(leaf: Any) -> bool:
    return is_plain_object(leaf) and not isinstance(leaf, nn.Module | tuple | list | set)


def _copy(value: Any) -> Any:
    try:
        return copy.copy(value)
    except Exception:  # such as a dict that is made from other arguments than its items
        kind: Any = type(value)
        return _built_in(value).__new__(kind)


def _built_in(value: Any) -> Any:
    """The first of Python's own classes that the class of `value` is made from."""
    return next(base for base in type(value).__mro__ if not is_foreign(base))


def _contents(value: Any) -> dict[tuple[Any, bool], Any]:
    """What an object holds, by name and whether that is a key of it."""
    found = {(name, False): held for name, held in getattr(value, "__dict__", {}).items()}
    kind: Any = type(value)
    for name in slots_of(kind):
        if hasattr(value, name):
            found[name, False] = getattr(value, name)
    if isinstance(value, dict):
        found |= {(key, True): held for key, held in value.items()}
    return found


def _tensors(tree: Any, seen: set[int]) -> Iterator[Tensor]:
    for leaf in tree_leaves(tree):
        if isinstance(leaf, Tensor):
            yield leaf
        elif id(leaf) not in seen and (_is_open(leaf) or _is_of_torch(leaf)):
            seen.add(id(leaf))
            yield from _tensors(list(_contents(leaf).values()), seen)


def _is_of_torch(leaf: Any) -> bool:
    """Such as a distribution: its tensors can be looked at, and not exchanged."""
    of_torch = type(leaf).__module__.partition(".")[0] == "torch"
    return of_torch and hasattr(leaf, "__dict__") and not isinstance(leaf, nn.Module | type)
