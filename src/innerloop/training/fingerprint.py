"""Fingerprints of a run's objects: kept in checkpoints, compared on resume."""

from __future__ import annotations

import functools
import inspect
import json
import re
from typing import Any

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.modules import layers_of, name_in_code, text_of
from innerloop.errors import UserError
from innerloop.keywords import arguments_of
from innerloop.outer_loop import OuterLoop
from innerloop.tasks.protocol import Tasks, digest_of, fingerprint_of

_PLAIN = (str, int, float, bool, type(None))
# Settings that may change: of the length `training/length.py` decides.
_FREE = ("made_by", "device", "iterations", "max_seconds")


def fingerprint(
    config: OuterLoop, algorithm: Algorithm, tasks: dict[str, Tasks], **functions: Any
) -> dict[str, Any]:
    """Plain values that are equal where a run goes on as it began.

    Modules are compared by class, and PyTorch's own by what they print of themselves.  The code of
    functions and of `forward` is not compared, and neither are the values of what is
    learnt, which the checkpoint has; those that stay as they are, frozen parameters and buffers,
    are.

    Args:
        config: the settings of the outer loop.
        algorithm: with its network.
        tasks: by part.
        functions: an optimiser and a schedule of the user's own.
    """
    parts: dict[str, Any] = {
        "settings": {k: v for k, v in config.to_dict().items() if k not in _FREE},
        "algorithm": {"class": name_in_code(type(algorithm)), **_settings(algorithm)},
        "network": _network(algorithm),
        **{name: _described(function) for name, function in functions.items()},
        **{part: fingerprint_of(source) for part, source in tasks.items()},
    }
    # As it will be when it has been in a file.
    written: dict[str, Any] = json.loads(json.dumps(parts, default=text_of))
    return written


def check_same(then: dict[str, Any], now: dict[str, Any], where: str) -> None:
    """Raise a `UserError` that says how two fingerprints differ."""
    differences = list(_differences(_anywhere(then), _anywhere(now), ()))
    if differences:
        shown = "; ".join(differences[:5]) + ("; ..." if len(differences) > 5 else "")
        raise UserError(
            f"this is not the run in {where}: {shown}. Give what it began with, or start a new run "
            "in another folder"
        )


def _anywhere(parts: Any) -> Any:
    """A fingerprint with the names of files of code and weights, wherever they lie."""
    if not isinstance(parts, dict) or not isinstance(parts.get("settings"), dict):
        return parts  # of a file, which can hold anything
    settings = {
        name: re.sub(r"^.*[\\/]", "", value)
        if isinstance(value, str) and (name == "weights" or re.search(r"\.py:[\w.]+$", value))
        else value
        for name, value in parts["settings"].items()
    }
    return {**parts, "settings": settings}


def _differences(then: Any, now: Any, path: tuple[str, ...]) -> Any:
    if isinstance(then, dict) and isinstance(now, dict):
        for name in dict.fromkeys((*then, *now)):
            if name not in then or name not in now:
                which = "is new" if name in now else "is missing"
                yield f"{' of '.join((name, *reversed(path)))} {which}"
            else:
                yield from _differences(then[name], now[name], (*path, name))
    elif then != now:
        what = " of ".join(reversed(path))
        if isinstance(then, str) and len(then) == 64:
            yield f"{what} has other values"
        else:
            yield f"{what} was {_short(then)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _settings(algorithm: Algorithm) -> dict[str, Any]:
    """The arguments that the algorithm was made with, as far as it kept them."""
    names = arguments_of(type(algorithm)) - {"model"}
    found = {n: getattr(algorithm, n) for n in sorted(names) if hasattr(algorithm, n)}
    if hasattr(algorithm, "adapted_names"):
        found["adapted"] = algorithm.adapted_names
    return {name: _described(value) for name, value in found.items()}


def _described(value: Any) -> Any:
    """Plain values as they are, containers entry by entry, all else by its name and settings."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(name): _described(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        entries = [_described(entry) for entry in value]
        return sorted(entries, key=str) if isinstance(value, set | frozenset) else entries
    if isinstance(value, Tensor):
        return digest_of(value)
    if isinstance(value, functools.partial):
        given = [_described(value.func), _described(value.args), _described(value.keywords)]
        return {"partial": given}
    if inspect.isroutine(value) or inspect.isclass(value):
        return name_in_code(value)
    if isinstance(value, torch.device | torch.dtype):
        return str(value)
    own = vars(value) if hasattr(value, "__dict__") else {}
    plain = {n: v for n, v in own.items() if not n.startswith("_") and isinstance(v, _PLAIN)}
    if isinstance(value, nn.Module):
        plain |= {name: digest_of(t) for name, t in value.state_dict().items()}
    return {"class": name_in_code(type(value)), **plain}


def _network(algorithm: Algorithm) -> dict[str, Any]:
    """Its modules; names, shapes and types of what is learnt, and the values of what is not."""
    learnt = algorithm.init_params()
    found = {name: f"{p.dtype} {tuple(p.shape)}" for name, p in learnt.items()}
    rest = {n: t for n, t in algorithm.model.state_dict().items() if n not in learnt}
    return {
        "class": name_in_code(type(algorithm.model)),
        "modules": layers_of(algorithm.model),
        "parameters": found,
        "constants": {name: digest_of(t) for name, t in rest.items()},
    }
