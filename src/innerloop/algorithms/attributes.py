"""What the attributes of a module hold, for a copy of it with other weights.

What a forward pass may write to is copied, as deeply as it can be reached, and once each: parts of
a network that share an object go on sharing it.  What only holds the network (closures, hooks,
bound methods) is shared, with every mention of the network redirected to the copy.
"""

from __future__ import annotations

import copy
import functools
import types
import weakref
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.errors import UserError
from innerloop.models.unregistered import OF_EVERY_MODULE, SEARCHED
from innerloop.trees import is_foreign, is_plain_object, slots_of

# Attributes of these types hold neither modules nor tensors.
_ATOMS = {bool, int, float, complex, str, bytes, type(None), type, torch.dtype, torch.device}
_ATOMS |= {torch.Size, torch.memory_format}
# What a forward pass may write to in place; made once, for every attribute is compared with it.
_STATEFUL = (np.ndarray, bytearray, *get_args(noise.OwnGenerator))
_CONTAINERS = (dict, list, deque, set)
_CACHE = functools._lru_cache_wrapper
_WRITABLE = (Tensor, *_CONTAINERS, *_STATEFUL, _CACHE)
_PROXIES = (weakref.ProxyType, weakref.CallableProxyType)
_WEAK = (weakref.ref, weakref.WeakMethod, *_PROXIES)
# These mention things, and do not hold them.
_MENTIONS: tuple[type, ...] = (types.FunctionType, types.MethodType, types.BuiltinMethodType)
_MENTIONS += (functools.partial, *_WEAK)
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def uncompiled(model: nn.Module) -> nn.Module:
    """The network before `torch.compile`, which supports only one set of weights.

    Raises:
        UserError: hooks were registered with what was compiled, which is left out.
    """
    kind = type(model)
    if kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch._dynamo"):
        if any(map(vars(model).get, HOOKS)):
            raise UserError(
                "a hook is registered with what torch.compile returned, and networks are called "
                "as they were before: register it with the module that was compiled "
                f"({type(model._orig_mod).__name__})"
            )
        plain: nn.Module = model._orig_mod  # type: ignore[assignment]
        return plain
    return model


class Attributes(ABC):
    """The attributes of one copy beside parameters, buffers and modules; see `Skeleton`."""

    # Tensors in place of parameters, by the identity of the parameter.
    _given: dict[int, Tensor]
    # What was copied, by the identity of what it is a copy of.
    _memo: dict[int, Any]
    # While something is in the memo it must not be freed, and its identity given away.
    _kept: list[Any]
    # Functions, hooks and weak references, and where their copies go.  They may mention what an
    # attribute holds that is copied after them, so they wait until all attributes are.
    _later: list[tuple[Any, Callable[[Any], None]]]

    def whole(self, module: nn.Module) -> nn.Module:
        """The copy of a network."""
        new = self.of(module, "")
        while self._later:
            value, put = self._later.pop(0)
            put(self._value(value) if isinstance(value, tuple) else self._shared(value))
        return new

    @abstractmethod
    def of(self, module: nn.Module, prefix: str) -> nn.Module:
        """The copy of a module, whose parts have names with this prefix."""

    @abstractmethod
    def _tensor(self, value: Any, name: str = "") -> Any:
        """The copy of a tensor; anything else as it is."""

    def part(self, module: nn.Module, prefix: str) -> nn.Module:
        """The copy of a part; where it went through `torch.compile`, of what that was given."""
        plain = uncompiled(module)
        return self.of(plain, prefix if plain is module else f"{prefix}_orig_mod.")

    def copied_into(self, state: dict[str, Any], module: nn.Module, prefix: str) -> None:
        """Put copies of the attributes of `module` into the state of its own copy."""
        state["_non_persistent_buffers_set"] = set(module._non_persistent_buffers_set)
        for name, value in module.__dict__.items():
            if name in HOOKS:
                state[name] = hooks = copy.copy(value)
                self._later += [
                    (hook, functools.partial(hooks.__setitem__, key)) for key, hook in value.items()
                ]
            elif name not in OF_EVERY_MODULE and type(value) not in _ATOMS:
                self._put(value, functools.partial(state.__setitem__, name), prefix + name)
        new = self._memo[id(module)]
        for name, value in _of_class(type(module)).items():
            if name not in state and (own := self._of_its_own(value, new, name)) is not value:
                state[name] = own

    def _put(self, value: Any, put: Callable[[Any], None], name: str = "") -> None:
        """Put the copy of what is held somewhere in its place, where the original stands."""
        items = value if isinstance(value, tuple) else (value,)
        if any(type(item) in _MENTIONS for item in items):
            self._later.append((value, put))
        else:
            put(self._value(value, name))

    def _of_its_own(self, value: Any, new: Any, name: str = "") -> Any:
        """What a copy has in place of an attribute of its class."""
        if isinstance(value, _CACHE):
            # One for all copies would keep each of them, with what it computed.
            return types.MethodType(_emptied(value, value.__wrapped__), new)
        return self._value(value, name)

    def _value(self, value: Any, name: str = "") -> Any:
        """What an attribute holds, copied where the copy may write to it."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind in _WEAK:
            return self._weak(value)
        if isinstance(value, Tensor):
            return self._tensor(value, name)
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, nn.Module):
            return self.part(value, name and f"{name}.")
        if isinstance(value, _CONTAINERS):
            return self._container(value)
        if isinstance(value, _STATEFUL):
            return self._state_of_its_own(value)
        if isinstance(value, tuple):
            items = [self._value(v) for v in value]
            return kind._make(items) if hasattr(kind, "_make") else kind(items)
        if is_plain_object(value):
            return self._object(value)
        return self._shared(value)

    def _state_of_its_own(self, value: Any) -> Any:
        """The copy of an array, or of a generator of random numbers."""
        if isinstance(value, noise.OwnGenerator):
            number = sum(isinstance(kept, noise.OwnGenerator) for kept in self._kept)
            new = noise.of_its_own(value, number)
        else:
            new = copy.copy(value)
        self._memo[id(value)] = new
        self._kept.append(value)
        return new

    def _container(self, value: Any) -> Any:
        new = copy.copy(value)
        self._memo[id(value)] = new
        self._kept.append(value)
        if len(value) > SEARCHED:
            return new
        if isinstance(value, dict):
            for key, item in value.items():
                self._put(item, functools.partial(new.__setitem__, key))
        elif isinstance(value, list):
            for place, item in enumerate(value):
                self._put(item, functools.partial(new.__setitem__, place))
        else:
            new.clear()
            (new.update if isinstance(value, set) else new.extend)([self._value(v) for v in value])
        return new

    def _object(self, value: Any) -> Any:
        """An object of a class of the user's; shared where it cannot be copied."""
        new = _copied(value)
        if new is value:
            return value
        self._memo[id(value)] = new
        self._kept.append(value)
        if hasattr(value, "__dict__"):
            own = vars(value)
            for name in own:
                put = functools.partial(object.__setattr__, new, name)
                self._put(getattr(value, name), put)
            for name, held in _of_class(type(value)).items():
                if name not in own and (copied := self._of_its_own(held, new)) is not held:
                    object.__setattr__(new, name, copied)
        self.fill_slots(value, new)
        return new

    def fill_slots(self, value: Any, new: Any) -> None:
        for name in slots_of(value.__class__):
            if hasattr(value, name):
                object.__setattr__(new, name, self._value(getattr(value, name)))

    def _shared(self, value: Any) -> Any:
        """What is shared with the user, with every mention of the module redirected to the copy."""
        kind = type(value)
        if kind in _ATOMS:
            return value
        if kind in _WEAK:
            return self._weak(value)
        if id(value) in self._memo:
            return self._memo[id(value)]
        if isinstance(value, Tensor):
            return self._given.get(id(value), value)
        if isinstance(value, nn.Module):
            return self.part(value, "")
        if isinstance(value, noise.OwnGenerator):
            return self._state_of_its_own(value)
        if kind is types.MethodType:
            owner = self._shared(value.__self__)
            if owner is value.__self__ and is_plain_object(owner):
                owner = self._value(owner)
            function = self._shared(value.__func__)
            same = owner is value.__self__ and function is value.__func__
            return value if same else types.MethodType(function, owner)
        if kind is types.BuiltinMethodType:
            return self._builtin(value)
        if kind is types.FunctionType:
            return self._function(value)
        if kind is _CACHE:
            wrapped = self._shared(value.__wrapped__)
            return value if wrapped is value.__wrapped__ else _emptied(value, wrapped)
        if kind is functools.partial:
            arguments = [self._shared(v) for v in value.args]
            named = {n: self._shared(v) for n, v in value.keywords.items()}
            return functools.partial(self._shared(value.func), *arguments, **named)
        if kind in (list, tuple) and len(value) <= SEARCHED:
            items = [self._shared(v) for v in value]
            same = all(a is b for a, b in zip(items, value, strict=True))
            return value if same else kind(items)
        if kind in (dict, OrderedDict) and len(value) <= SEARCHED:
            held = {k: self._shared(v) for k, v in value.items()}
            return value if all(held[k] is v for k, v in value.items()) else kind(held)
        return self._holder(value) if is_plain_object(value) else value

    def _holder(self, value: Any) -> Any:
        """An object of the user's, such as a hook; shared unless it holds the network."""
        self._memo[id(value)] = value  # it may hold itself
        before = dict(getattr(value, "__dict__", {}))
        after = {name: self._shared(held) for name, held in before.items()}
        if all(after[name] is held for name, held in before.items()):
            return value
        new = _copied(value)
        if new is value:
            return value
        for name, held in after.items():
            object.__setattr__(new, name, held)
        self._memo[id(value)] = new
        self._kept.append(value)
        return new

    def _weak(self, reference: Any) -> Any:
        """A weak reference, to the copy where it is one to a part of the network.

        It keeps nothing, so that what is no part of the network is shared.
        """
        if type(reference) in _PROXIES:
            # The method is that of what the proxy stands for, and bound to it.
            try:
                there = reference.__repr__.__self__
            except ReferenceError:
                return reference
            new = self._shared(there)
            return reference if new is there else weakref.proxy(new)
        there = reference()
        new = self._shared(there)
        return reference if new is there else type(reference)(new)

    def _builtin(self, method: types.BuiltinMethodType) -> Any:
        """A method of a generator, a container or a tensor; a function has a module or a class."""
        owner = method.__self__
        if owner is None or isinstance(owner, type | types.ModuleType):
            return method
        new = self._value(owner)
        return method if new is owner else getattr(new, method.__name__)

    def _function(self, function: types.FunctionType) -> Any:
        before_compile = getattr(function, "_torchdynamo_orig_callable", None)
        if before_compile is not None:
            return self._shared(before_compile)
        cells, defaults = function.__closure__ or (), function.__defaults__ or ()
        named = function.__kwdefaults__ or {}
        if not cells and not defaults and not named:
            return function
        self._memo[id(function)] = function  # it may hold itself
        before = (*(_content(cell) for cell in cells), *defaults, *named.values())
        after = [self._shared(c) for c in before]
        if all(a is b for a, b in zip(before, after, strict=True)):
            return function
        closure = tuple(
            cell if old is new else types.CellType(new)
            for cell, old, new in zip(cells, before, after, strict=False)
        )
        new = types.FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            tuple(after[len(cells) : len(cells) + len(defaults)]) or None,
            closure or None,
        )
        of_named = after[len(cells) + len(defaults) :]
        new.__kwdefaults__ = dict(zip(named, of_named, strict=True)) or None
        new.__dict__.update(function.__dict__)
        self._memo[id(function)] = new
        self._kept.append(function)
        return new


def _copied(value: Any) -> Any:
    """A shallow copy; the object itself where it cannot be copied, or is its own copy.

    Such as a member of an enumeration.
    """
    try:
        return copy.copy(value)
    except Exception:
        # A class of the user's may refuse with any error; what it holds is then shared.
        return value


def _emptied(cache: Any, function: Any) -> Any:
    """A cache such as this one, of what `function` returns."""
    return functools.lru_cache(**cache.cache_parameters())(function)


def _of_class(kind: type) -> dict[str, Any]:
    """What the objects of a user's class share and a forward pass may write to, by name."""
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        if is_foreign(base):
            found.update(vars(base))
    return {
        name: value
        for name, value in found.items()
        if not (name.startswith("__") and name.endswith("__")) and isinstance(value, _WRITABLE)
    }


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
