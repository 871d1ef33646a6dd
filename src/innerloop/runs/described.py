"""What a weights file says of its network, checked: files are exchanged."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from innerloop.algorithms.modules import layers_of
from innerloop.config import TrainConfig
from innerloop.data.archive import MAX_SIDE
from innerloop.errors import UserError
from innerloop.tasks.normalization import Normalization


def description(
    file: Path, metadata: dict[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...], str, list[str], float]:
    """Settings, input shape, name of the data, training classes, temperature."""
    names = ("config", "input_shape", "data", "train_classes")
    settings, shape, data_name, classes = (metadata.get(name) for name in names)
    temperature = metadata.get("temperature", 1.0)
    if not (
        isinstance(settings, dict)
        and isinstance(shape, list)
        and len(shape) <= 8
        and all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)
        and isinstance(data_name, str)
        and isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and type(temperature) is float
        and 0 < temperature < math.inf
    ):
        raise UserError(f"{file} lacks the description of its network")
    return settings, tuple(shape), data_name, classes, temperature


def check_layers(file: Path, metadata: dict[str, Any], model: nn.Module) -> None:
    """Raise a `UserError` for a network of the user's own with other layers than in training.

    Where its code stands may have changed meanwhile: classes are compared by their names alone.
    """
    then = metadata.get("layers")
    if not isinstance(then, dict):
        return
    now = layers_of(model)
    for name in dict.fromkeys((*then, *now)):
        was, found = (_short(layers.get(name)) for layers in (then, now))
        if was != found:
            raise UserError(
                f"the network is not the one that was trained in {file}: its layer {name} was "
                f"{was} and is {found}. Bring back the code as it was, or train again"
            )


def _short(layer: Any) -> str:
    if layer is None:
        return "missing"
    kind, bracket, rest = str(layer).partition("(")
    return kind.rpartition(".")[2] + bracket + rest


def pixels(file: Path, metadata: dict[str, Any]) -> tuple[bool | None, bool | None]:
    """`inverted` and `on_paper` of `Loaded`; files of version 0.1.0 do not say."""
    found = metadata.get("pixels", {})
    if (
        not isinstance(found, dict)
        or not found.keys() <= {"inverted", "on_paper"}
        or not all(type(value) is bool for value in found.values())
    ):
        raise UserError(f"{file} does not say what training did to pixels")
    return found.get("inverted"), found.get("on_paper")


def white(file: Path, metadata: dict[str, Any]) -> float | None:
    """`white` of `Loaded`."""
    found = metadata.get("white")
    if found is not None and not (type(found) is float and 0 < found < math.inf):
        raise UserError(f"{file} does not say which value was white in training")
    return found


def normalization(
    file: Path, config: TrainConfig, shape: tuple[int, ...], metadata: dict[str, Any]
) -> Normalization | None:
    """The normalisation of images that the file names."""
    if not config.normalize:
        return None
    found = metadata.get("normalization")
    found = found if isinstance(found, dict) else {}
    values: list[tuple[float, ...]] = []
    for name in Normalization._fields:
        numbers = found.get(name)
        if not (
            isinstance(numbers, list)
            and len(numbers) == shape[0]
            and all(type(x) is float and math.isfinite(x) for x in numbers)
        ):
            raise UserError(f"{file} does not say how images are normalised")
        values.append(tuple(numbers))
    return Normalization(*values)
