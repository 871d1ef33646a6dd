"""An optimiser in a checkpoint: ours in a fixed form, a user's own with whatever it keeps."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.runs.checkpoint import fill
from innerloop.trees import slots_of

# What each optimiser of ours keeps of every parameter, from the first step on.
OURS: dict[type, tuple[str, ...]] = {
    torch.optim.Adam: ("step", "exp_avg", "exp_avg_sq"),
    torch.optim.SGD: (),
}
# Where the tensors of a user's own are.
OWN = "optimizer/own"
_STATE = "the state of"
_HOLDING = (Optimizer, dict, list, tuple, deque)


def tensors_of(optimizer: Optimizer, params: Params) -> dict[str, Tensor]:
    """The state of an optimiser of ours, as tensors for a checkpoint."""
    return {
        f"optimizer/{key}/{name}": value
        for name, p in params.items()
        for key, value in optimizer.state.get(p, {}).items()
        if value is not None
    }


def fill_ours(optimizer: Optimizer, params: Params, parts: dict[str, Params], source: str) -> None:
    """Put back what `tensors_of` gave, by its names without the last part.

    Raises:
        UserError: it is not that of this optimiser or of these parameters; it names `source`.
    """
    for part, values in parts.items():
        key = part.removeprefix("optimizer/")
        like = params
        if any(t.ndim == 0 and params[n].ndim for n, t in values.items() if n in params):
            # A count has no shape, and is where the optimiser wants it.
            like = {
                name: torch.zeros((), device=p.device if p.is_cuda else "cpu")
                for name, p in params.items()
            }
        for name, value in fill(like, values, source).items():
            optimizer.state[params[name]][key] = value


class Packed:
    """All that an optimiser of a user's own keeps, as tensors and as plain values for JSON.

    That are its state, the settings of its groups, and such attributes as are plain values,
    tensors, arrays, generators or optimisers themselves, or lists and dicts of these.

    Args:
        optimizer: the user's own.
        params: by name; it mentions them by these.

    Raises:
        UserError: its state holds something else.

    Attributes:
        tensors: for a checkpoint, under `OWN`.
        plain: where these belong, and the rest.
        left_out: names of attributes that are something else, but for functions.
    """

    def __init__(self, optimizer: Optimizer, params: Params) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names = {id(p): name for name, p in params.items()}
        # Of tensors that are held in several places.
        self._places: dict[int, int] = {}
        self.left_out: list[str] = []
        # What is being looked into: it may hold itself.
        self._inside = [id(optimizer)]
        self.plain = self._optimizer(optimizer)

    def _optimizer(self, optimizer: Optimizer) -> dict[str, Any]:
        kind = type(optimizer).__name__
        groups = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        others = _attributes(optimizer)
        return {
            "state": self._value(dict(optimizer.state), f"{_STATE} {kind}"),
            "groups": [self._what_is_plain(group) for group in groups],
            "attributes": self._what_is_plain(others),
        }

    def _what_is_plain(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """What else there is, functions among it, is made again with the optimiser."""
        found = {}
        for name, value in named.items():
            try:
                found[name] = self._value(value, name)
            except UserError:
                if not callable(value):
                    self.left_out.append(name)
        return found

    def _value(self, value: Any, where: str) -> Any:
        value = value.item() if isinstance(value, np.generic) else value
        if isinstance(value, int) and value in self._names:
            return {"identity of": self._names[value]}
        if value is None or isinstance(value, bool | int | float | str):
            return {"is": value}
        if isinstance(value, torch.Generator):
            return {"generator": self._value(value.get_state(), where), "on": str(value.device)}
        if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            return {"array": self._value(torch.from_numpy(value.copy()), where)}
        if isinstance(value, Tensor):
            if id(value) in self._names:
                return {"parameter": self._names[id(value)]}
            place = self._places.setdefault(id(value), len(self._places))
            self.tensors[f"{OWN}/{place}"] = value
            return {"tensor": place, "on_cpu": value.device.type == "cpu"}
        if isinstance(value, _HOLDING) and id(value) not in self._inside:
            self._inside.append(id(value))
            try:
                return self._holding(value, where)
            finally:
                self._inside.pop()
        raise UserError(
            f"{where} holds a {type(value).__name__}, which a checkpoint cannot hold: only tensors "
            "and plain values, and lists, tuples and dicts of them"
        )

    def _holding(self, value: Any, where: str) -> dict[str, Any]:
        if isinstance(value, Optimizer) and not where.startswith(_STATE):
            return {"optimizer": self._optimizer(value)}
        if isinstance(value, dict):
            pairs = [[self._value(k, where), self._value(v, where)] for k, v in value.items()]
            return {"dict": pairs}
        values = [self._value(v, where) for v in value]
        if isinstance(value, deque):
            return {"deque": values, "most": value.maxlen}
        return {"tuple" if isinstance(value, tuple) else "list": values}


def unpack(
    optimizer: Optimizer, params: Params, tensors: Mapping[str, Tensor], plain: Any, source: str
) -> None:
    """Put back what `Packed` took.

    Args:
        optimizer: made as the first one was.
        params: by name.
        tensors: by number.
        plain: see `Packed`.
        source: where both are from.

    Raises:
        UserError: they do not fit; it names `source`.
    """
    try:
        _Unpacker(params, tensors).fill(optimizer, plain)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, RecursionError) as error:
        raise UserError(
            f"{source} does not fit the optimiser ({type(error).__name__}: {error})"
        ) from error


class _Unpacker:
    def __init__(self, params: Params, tensors: Mapping[str, Tensor]) -> None:
        self.params, self.tensors = params, tensors
        self.device = next(iter(params.values())).device
        self.made: dict[str, Tensor] = {}

    def fill(self, optimizer: Optimizer, plain: dict[str, Any]) -> None:
        state = self.value(plain["state"])
        for key, kept in state.items():
            if isinstance(key, Tensor) and isinstance(kept, dict):
                state[key] = {k: _laid_out(v, key) for k, v in kept.items()}
        for group, found in zip(optimizer.param_groups, plain["groups"], strict=True):
            for name in found.keys() - {"params"}:
                group[name] = self.value(found[name], group.get(name))
        optimizer.state.clear()
        optimizer.state.update(state)
        there = _attributes(optimizer)
        for name, found in plain["attributes"].items():
            # What a class has under this name, such as a method, stays.
            known = name in there or not callable(getattr(optimizer, name, None))
            if known and name not in _usual():
                setattr(optimizer, name, self.value(found, there.get(name)))

    def value(self, found: dict[str, Any], there: Any = None) -> Any:
        """What was packed; `there` is what the new optimiser has in its place, to be filled."""
        if "tensor" in found:
            return self._tensor(found)
        if "generator" in found:
            generator = (
                there if isinstance(there, torch.Generator) else torch.Generator(found["on"])
            )
            return generator.set_state(self.value(found["generator"]).cpu())
        if "array" in found:
            return self.value(found["array"]).numpy()
        if "parameter" in found:
            return self.params[found["parameter"]]
        if "identity of" in found:
            return id(self.params[found["identity of"]])
        if "optimizer" in found:
            self.fill(there, found["optimizer"])
            return there
        if "dict" in found:
            return self._dict(found["dict"], there)
        for kind in ("list", "tuple", "deque"):
            if kind in found:
                return self._sequence(kind, found, there)
        if found["is"] is None or isinstance(found["is"], bool | int | float | str):
            return found["is"]
        raise ValueError("a value that is none")

    def _tensor(self, found: dict[str, Any]) -> Tensor:
        place = str(found["tensor"])
        if place not in self.made:
            device = torch.device("cpu") if found["on_cpu"] else self.device
            self.made[place] = self.tensors[place].to(device)
        return self.made[place]

    def _dict(self, pairs: list[Any], there: Any) -> Any:
        # Of the kind that it was, and where others hold it, too.
        kept = there if isinstance(there, dict) else {}
        keys = [self.value(k) for k, _ in pairs]
        values = [self.value(v, kept.get(k)) for k, (_, v) in zip(keys, pairs, strict=True)]
        kept.clear()
        kept.update(zip(keys, values, strict=True))
        return kept

    def _sequence(self, kind: str, found: dict[str, Any], there: Any) -> Any:
        before = list(there) if isinstance(there, list | tuple | deque) else []
        before += [None] * len(found[kind])
        values = [self.value(v, old) for v, old in zip(found[kind], before, strict=False)]
        if kind == "tuple":
            return tuple(values)
        if kind == "deque" and not isinstance(there, deque):
            return deque(values, found["most"])
        if isinstance(there, list | deque):
            there.clear()
            there.extend(values)
            return there
        return values


@functools.cache
def _usual() -> frozenset[str]:
    """What every optimiser has beside its state and its groups."""
    # Not when this module is imported: PyTorch loads its compiler for it, which takes seconds.
    return frozenset(vars(torch.optim.SGD([torch.zeros(())], 0.1)))


def _attributes(optimizer: Optimizer) -> dict[str, Any]:
    """What an optimiser has beside what every one has."""
    kind: type = type(optimizer)
    slots = {n: getattr(optimizer, n) for n in slots_of(kind) if hasattr(optimizer, n)}
    return slots | {n: v for n, v in vars(optimizer).items() if n not in _usual()}


def _laid_out(value: Any, like: Tensor) -> Any:
    """A tensor in memory as the parameter is, so that both are read in one order."""
    if isinstance(value, Tensor) and value.shape == like.shape:
        return torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
    return value
