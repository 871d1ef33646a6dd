"""What a network or a loss keeps from one call to the next, where its copies cannot have their own.

Two things of it are found out: tensors that were computed from the weights before we came, and
numbers outside the module that every call changes.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import logging
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.models.unregistered import OF_EVERY_MODULE, SEARCHED
from innerloop.trees import is_foreign, is_of_user, is_plain_object, tensors_in

_log = logging.getLogger("innerloop")

# ---- Tensors that are filled in once


def filled_before(
    copy: Callable[[], nn.Module],
    call: Callable[[nn.Module], Any],
    reached: Callable[[Tensor], Any],
) -> set[str]:
    """Attributes whose values a call would compute from the weights if they were not there.

    Args:
        copy: makes a copy of the network with weights that gradients lead to.
        call: calls such a copy.
        reached: whether such a gradient leads from a tensor to the weights.
    """
    first = copy()
    held = {(place, name): value for place, _, name, value in _constants(first)}
    if not held:
        return set()
    call(first)
    after = {(place, name): value for place, _, name, value in _constants(first)}
    # What every call writes is no cache.
    kept = [key for key, value in held.items() if after.get(key) is value]

    def is_computed(key: tuple[str, str], empty: Callable[[nn.Module, str], None]) -> bool:
        place, name = key
        with contextlib.suppress(Exception):  # most networks cannot do without
            module = copy()
            part = module.get_submodule(place)
            empty(part, name)
            call(module)
            return any(map(reached, tensors_in(getattr(part, name))))
        return False

    return {
        f"{place}.{name}".lstrip(".")
        for place, name in kept
        if any(is_computed((place, name), empty) for empty in _EMPTIED)
    }


def _constants(module: nn.Module) -> Iterator[tuple[str, nn.Module, str, Any]]:
    """Tensors and containers of them among the attributes of a user's modules, and buffers."""
    for place, part in module.named_modules():
        kind: Any = type(part)
        if not is_foreign(kind):
            continue
        for name, value in (*vars(part).items(), *part._buffers.items()):
            if name in OF_EVERY_MODULE or (held := _held_in(value)) is None:
                continue
            # An empty container will be filled by the call itself.
            constant = held and not any(
                isinstance(t, nn.Parameter) or t.requires_grad for t in held
            )
            if constant and (not isinstance(value, Tensor) or name in _written_by(kind)):
                yield place, part, name, value


@functools.cache
def _written_by(kind: Any) -> set[str]:
    """Names that methods of a class give to attributes, or as text to what does, such as buffers.

    Those of `__init__` are no cache.
    """
    found: set[str] = set()
    for base in filter(is_foreign, kind.__mro__):
        for method in vars(base).values():
            if isinstance(method, types.FunctionType) and method.__name__ != "__init__":
                code = dis.get_instructions(method)
                found |= {str(i.argval) for i in code if i.opname in ("STORE_ATTR", "LOAD_CONST")}
    return found


def _held_in(value: Any) -> list[Tensor] | None:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict | list) and len(value) <= SEARCHED:
        return [t for t in tensors_in(value) if t.is_floating_point() or t.is_complex()]
    return None


def _none(part: nn.Module, name: str) -> None:
    value = getattr(part, name)
    if isinstance(value, dict | list):
        value.clear()
    else:
        setattr(part, name, None)


def _gone(part: nn.Module, name: str) -> None:
    delattr(part, name)


def _not_yet(part: nn.Module, name: str) -> None:
    """Switches say that nothing was computed; what is there then is not what is there now."""
    switches = [n for n, v in vars(part).items() if v is True and n not in OF_EVERY_MODULE]
    if not switches:
        raise AttributeError(name)
    for switch in switches:
        setattr(part, switch, False)


_EMPTIED = (_none, _gone, _not_yet)


# ---- Numbers outside the module


def numbers_outside(of: Any) -> dict[str, Any]:
    """Numbers that the code of a network or a loss can reach and change, by name.

    They are in global variables, in what functions enclose, and in classes; in attributes, too, of
    a loss, which is not copied.
    """
    found: dict[str, Any] = {}
    waiting, seen = list(_functions(of, found)), set[int]()
    while waiting:
        function = waiting.pop()
        if id(function) in seen:
            continue
        seen.add(id(function))
        for name, value in _named_in(function):
            if not isinstance(value, types.FunctionType):
                found |= _numbers_in(name, value)
            elif is_of_user(value.__module__):
                waiting.append(value)
    return found


def _functions(of: Any, found: dict[str, Any]) -> Iterator[types.FunctionType]:
    """The functions that a call goes through; numbers of classes and objects go to `found`."""
    if isinstance(of, types.FunctionType):
        yield of
    elif isinstance(of, functools.partial):
        yield from _functions(of.func, found)
    elif isinstance(of, types.MethodType):
        yield from _functions(of.__func__, found)
        yield from _functions(of.__self__, found)
    else:
        for part in of.modules() if isinstance(of, nn.Module) else [of]:
            for held in (vars(part) if hasattr(part, "__dict__") else {}).values():
                yield from (f for f in (held,) if isinstance(f, types.FunctionType))
            for base in filter(is_foreign, type(part).__mro__):
                found |= _numbers_in(base.__name__, base)
                yield from (f for f in vars(base).values() if isinstance(f, types.FunctionType))
            # Instead of those of its class.  A module of the network is copied for each call.
            found |= _numbers_in(type(part).__name__, part)


def _named_in(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """What a function names that is not its own."""
    names = set(names_in(function.__code__))
    for name in names:
        value = function.__globals__.get(name)
        if not isinstance(value, types.ModuleType):
            yield name, value
        elif is_of_user(value.__name__):
            held = vars(value)
            yield from ((f"{name}.{n}", held[n]) for n in names if n in held)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not yet filled
            yield name, cell.cell_contents


def names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from names_in(constant)


def _numbers_in(name: str, value: Any) -> dict[str, Any]:
    if (number := _number(value)) is not None:
        return {name: number}
    items: Iterable[tuple[Any, Any]] = ()
    form = "{}[{!r}]"
    if isinstance(value, dict) and len(value) <= SEARCHED:
        items = value.items()
    elif isinstance(value, list) and len(value) <= SEARCHED:
        items = enumerate(value)
    elif is_plain_object(value) or (isinstance(value, type) and is_foreign(value)):
        name = value.__name__ if isinstance(value, type) else name
        held = {**getattr(value, "__dict__", {}), **getattr(value, "_buffers", {})}
        items, form = held.items(), "{}.{}"
    # A name for numbers alone: the keys of others may print pages of themselves.
    numbers = ((key, _number(v)) for key, v in items)
    return {form.format(name, key): number for key, number in numbers if number is not None}


def _number(value: Any) -> Any:
    if isinstance(value, Tensor):
        plain = value.layout is torch.strided and not value.is_meta and value.numel() == 1
        return value.item() if plain else None
    return value if type(value) in (int, float, complex) else None


def read_of(loss: Any, network: nn.Module) -> set[str]:
    """The names that a loss's code mentions, if it mentions the network or a part of it.

    Also those of methods that it names, but for `forward`, which gives a call of its own.
    """
    parts = {id(part) for part in network.modules()}
    waiting, seen, found = list(_functions(loss, {})), set[int](), set[str]()
    values = [*getattr(loss, "__dict__", {}).values(), *getattr(loss, "args", ())]
    values += getattr(loss, "keywords", {}).values()
    methods: list[types.FunctionType] = []
    while waiting or values:
        for value in values:
            if isinstance(value, types.FunctionType) and is_of_user(value.__module__):
                waiting.append(value)
            elif id(value) in parts and id(value) not in seen:
                seen.add(id(value))
                own = (m for base in type(value).__mro__ if is_foreign(base) for m in vars(base))
                held = (getattr(type(value), name) for name in own if name != "forward")
                methods += [m for m in held if isinstance(m, types.FunctionType)]
        values = []
        for function in waiting:
            if id(function) not in seen:
                seen.add(id(function))
                found |= set(names_in(function.__code__))
                values += [value for _, value in _named_in(function)]
        waiting = [m for m in methods if m.__name__ in found and id(m) not in seen]
    return found if seen & parts else set()


def changed(before: dict[str, Any], after: dict[str, Any]) -> set[str]:
    """The names of numbers that are others now."""
    # What is not a number is not equal to itself.
    return {n for n, v in after.items() if n in before and before[n] != v and v == v}


def warn_of_numbers(of: str, names: Iterable[str]) -> None:
    """Log that every call `of` the network or the loss changes numbers that others share."""
    if names:
        _log.warning(
            "every call of the %s changes %s, which all calls share: if what it returns depends on "
            "that, now or later, it depends on how often and in which order it is called, which "
            "differs between ways of computing and after resume. Let a network hold it as an "
            "attribute (self), of which every call has its own; let a loss do without",
            of,
            ", ".join(sorted(names)),
        )
