"""Fingerprints of a run's objects: kept in checkpoints, compared on resume."""

from __future__ import annotations

import json
import re
from typing import Any

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.modules import layers_of, name_in_code, text_of
from innerloop.errors import UserError
from innerloop.keywords import arguments_of
from innerloop.outer_loop import OuterLoop
from innerloop.tasks.protocol import Tasks, digest_of, fingerprint_of
from innerloop.training.described import attributes, described, of_parts

# Settings that may change: of the length `training/length.py` decides.
_FREE = ("made_by", "device", "iterations", "max_seconds")
# Attributes of algorithms that follow from the rest.
_DERIVED = {"network", "adapted_names", "moving_averages", "model"}


def fingerprint(
    config: OuterLoop, algorithm: Algorithm, tasks: dict[str, Tasks], **functions: Any
) -> dict[str, Any]:
    """Plain values that are equal where a run goes on as it began.

    Modules are compared by class and attributes, and PyTorch's own by what they print of
    themselves, too; functions by name, defaults and the values that they close over.  Their code
    and that of `forward` is not compared, and neither are the values of what is learnt, which the
    checkpoint has; those that stay as they are, frozen parameters and buffers, are.

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
        **{name: described(function) for name, function in functions.items()},
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
    elif then != now and json.dumps(then) != json.dumps(now):  # nan is not nan
        what = " of ".join(reversed(path))
        if isinstance(then, str) and len(then) == 64:
            yield f"{what} has other values"
        else:
            yield f"{what} was {_short(then)} and is {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _settings(algorithm: Algorithm) -> dict[str, Any]:
    """What the algorithm was made with, as far as it kept that, and a user's own attributes."""
    names = arguments_of(type(algorithm)) - {"model"}
    found = {n: getattr(algorithm, n) for n in sorted(names) if hasattr(algorithm, n)}
    if hasattr(algorithm, "adapted_names"):
        found["adapted"] = algorithm.adapted_names
    own = {n: v for n, v in attributes(algorithm).items() if n not in names | _DERIVED}
    return own | {name: described(value) for name, value in found.items()}


def _network(algorithm: Algorithm) -> dict[str, Any]:
    """Its modules; names, shapes and types of what is learnt, and the values of what is not."""
    learnt = algorithm.init_params()
    found = {name: f"{p.dtype} {tuple(p.shape)}" for name, p in learnt.items()}
    rest = {n: t for n, t in algorithm.model.state_dict().items() if n not in learnt}
    return {
        "class": name_in_code(type(algorithm.model)),
        "modules": layers_of(algorithm.model),
        "attributes": of_parts(algorithm.model),
        "parameters": found,
        "constants": {name: digest_of(t) for name, t in rest.items()},
    }
