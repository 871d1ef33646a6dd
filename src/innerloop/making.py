"""What a setting names, found and made from the settings that its arguments name."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from innerloop.algorithms import noise
from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.references import call, find, is_reference
from innerloop.registry import Registry

# Settings of the body, which are no arguments of the network on it or of anything else.
OF_BODY = ("body", "weights", "preprocess", "views")


def find_named(registry: Registry, name: str) -> Any:
    """The object that a setting names, by reference or by registered name."""
    return find(name) if is_reference(name) else registry.get(name)


def make(name: str, function: Any, config: TrainConfig, **given: Any) -> Any:
    """Call a function with the settings that its arguments name; a network is taken as it is.

    Raises:
        UserError: an argument is not a setting and has no default, or the function fails.
    """
    if isinstance(function, nn.Module):
        return function
    if not callable(function):
        raise UserError(f"{name} must be a class or a function, not {type(function).__name__}")
    settings = {n: v for n, v in config.to_dict().items() if n not in OF_BODY} | given
    arguments = {}
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in settings:
            arguments[parameter.name] = settings[parameter.name]
        elif parameter.default is parameter.empty and parameter.kind not in (
            parameter.VAR_KEYWORD,
            parameter.VAR_POSITIONAL,
        ):
            raise UserError(
                f"{name} needs an argument {parameter.name!r}, which is not a setting: give it a "
                f"default, or name it after a setting: {', '.join(settings)}"
            )
    return call_seeded(name, function, config, **arguments)


def call_seeded(name: str, function: Any, config: TrainConfig, **arguments: Any) -> Any:
    """`call`; what code of a user's own draws from global generators follows from the seed."""
    if (getattr(function, "__module__", None) or "").startswith("innerloop."):
        return call(name, function, **arguments)
    with noise.seeded(config.seed, 0):
        return call(name, function, **arguments)
