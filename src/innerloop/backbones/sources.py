"""The one place where a name, a file or a module becomes a `Backbone`."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import torch
from torch import nn

from innerloop.algorithms import noise
from innerloop.backbones.body import Backbone
from innerloop.backbones.libraries import LIBRARIES
from innerloop.backbones.maps import layer_names
from innerloop.backbones.preprocess import Preprocess
from innerloop.backbones.transforms import Transform
from innerloop.backbones.weights import load_weights
from innerloop.errors import UserError
from innerloop.files import at_home
from innerloop.references import absolute, call, find, is_reference, trust


def is_backbone(source: Any) -> TypeGuard[str | nn.Module | Backbone]:
    """True if this names or is a pretrained network, not a run or weights of this package."""
    return isinstance(source, Backbone | nn.Module) or (
        isinstance(source, str) and _is_name(source)
    )


def _is_name(source: str) -> bool:
    if Path(source).exists():
        return False
    return source.partition(":")[0] in LIBRARIES or is_reference(source)


def backbone(
    source: str | nn.Module | Backbone,
    *,
    weights: str | Path | None = None,
    preprocess: Preprocess | Transform | str | None = None,
    image_size: int | None = None,
    precision: str = "float32",
    keep: bool = True,
    layers: str | Sequence[str] = (),
) -> Backbone:
    """A pretrained network, ready to turn pictures into features.

    Args:
        source: `"timm:NAME"`, `"torchvision:NAME"` or `"transformers:NAME"`, fetched by that
            library, without the last layer; `"FILE.py:NAME"` or `"MODULE:NAME"`, a network or a
            function without arguments that makes one; or any `nn.Module`.
        weights: a file of weights for what a name makes: `.safetensors`, or `.pt` without code.
        preprocess: a `Preprocess`, a function from an RGB picture of PIL to a tensor `[3, S, S]`,
            or a reference to one of these. None for what comes with the network; where nothing
            does, whole pictures are stretched to `image_size` and pixels are 0 to 1.
        image_size: S, side of the square pictures, in pixels; None for what comes with the
            network, or 224. Many networks take other sizes than the one they were trained on.
        precision: `"float32"` or `"bf16"`.
        keep: keep features on disk, see `Backbone`.
        layers: names of inner layers whose maps are features, too, or `"auto"`, see `Backbone`.

    Returns:
        The `Backbone`. One made from a name is pickled as this name, and made again from it.

    Raises:
        UserError: there is no such network, its library is not installed, it cannot be fetched,
            or it gives no features.
    """
    if isinstance(source, Backbone):
        given = (weights, preprocess, image_size, layers or None)
        if any(value is not None for value in given):
            raise UserError(
                "a Backbone has its weights, its preprocessing and its layers: give it alone"
            )
        return source
    if isinstance(preprocess, str):
        preprocess = _preprocess(preprocess)
    if isinstance(source, nn.Module):
        if weights is not None:
            raise UserError(
                "weights= is for networks by name: load them into yours by load_state_dict"
            )
        own = _plain(image_size) if preprocess is None else preprocess
        used = _sized(own, image_size)
        return Backbone(source, used, precision=precision, keep=keep, layers=layers)
    if not _is_name(source):
        raise UserError(
            f"{source!r} does not name a network: write "
            f"{', '.join(f'{n}:NAME' for n in LIBRARIES)}, FILE.py:NAME or MODULE:NAME"
        )
    file = None if weights is None else at_home(weights).resolve()
    stamp = None
    if file is not None and file.exists():
        status = os.stat(file)
        stamp = (status.st_mtime_ns, status.st_size)
    options = (absolute(source), file, preprocess, image_size, precision, keep)
    # A function without a hash, such as a dataclass, cannot be looked up: its network is made anew.
    made = _named if isinstance(preprocess, Hashable) else _named.__wrapped__
    return made(*options, layer_names(layers), stamp)


# A network is made once, however often a classifier is cloned and fitted.
@functools.lru_cache(maxsize=2)
def _named(
    source: str,
    weights: Path | None,
    preprocess: Preprocess | Transform | None,
    image_size: int | None,
    precision: str,
    keep: bool,
    layers: tuple[str, ...],
    stamp: tuple[int, int] | None,
) -> Backbone:
    library, _, name = source.partition(":")
    if library in LIBRARIES:
        network, own, lost = LIBRARIES[library](name, weights is None)
    else:
        network, own, lost = _followed(source, weights is None), _plain(image_size), ()
    if weights is not None:
        load_weights(network, weights, lost)
    used = _sized(own if preprocess is None else preprocess, image_size)
    made = NamedBackbone(network, used, name=source, precision=precision, keep=keep, layers=layers)
    made.made_by = (source, weights, preprocess, image_size, precision, keep, layers)
    return made


class NamedBackbone(Backbone):
    """One that is pickled as its name, and copied as itself, since nothing writes to it."""

    made_by: tuple[Any, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.made_by, self.weights_digest)

    def __copy__(self) -> NamedBackbone:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> NamedBackbone:
        return self


def _again(made_by: tuple[Any, ...], digest: str) -> Backbone:
    source, weights, preprocess, image_size, precision, keep, layers = made_by
    made = backbone(
        source,
        weights=weights,
        preprocess=preprocess,
        image_size=image_size,
        precision=precision,
        keep=keep,
        layers=layers,
    )
    if made.weights_digest != digest:
        raise UserError(
            f"{source} has changed its weights since this was pickled: fit the classifier again"
        )
    return made


def _followed(source: str, alone: bool) -> nn.Module:
    """The network that a reference names, or that what it names makes.

    What it draws is the same every time.  If it comes `alone`, without weights, a network is a
    warning that has other ones after other draws.
    """
    found = find(source)
    made = found
    if callable(found) and not isinstance(found, nn.Module):
        with noise.seeded(0, 0):
            before = torch.get_rng_state()
            made = call(source, found)
            drew = not torch.equal(torch.get_rng_state(), before)
        if alone and drew and isinstance(made, nn.Module):
            with noise.seeded(1, 0):
                _warn_of_drawn(source, made, call(source, found))
    if not isinstance(made, nn.Module):
        raise UserError(
            f"{source} must be a torch.nn.Module or a function without arguments that makes one, "
            f"not {type(made).__name__}"
        )
    trust([source])
    return made


def _warn_of_drawn(source: str, made: nn.Module, again: nn.Module) -> None:
    others = dict(again.named_parameters())
    for name, p in made.named_parameters():
        if name in others and p.shape == others[name].shape and not p.equal(others[name]):
            warnings.warn(
                f"{source} makes a network whose weights are drawn at random ({name}), which knows "
                "nothing of pictures: give the weights that it was trained to, by weights=",
                stacklevel=2,
            )
            return


def _preprocess(reference: str) -> Preprocess | Transform:
    found: Preprocess | Transform = find(reference)
    if not callable(found) or isinstance(found, type):
        raise UserError(
            f"{reference} must be an innerloop.backbones.Preprocess or a function from an RGB "
            "picture to a tensor"
        )
    return found


def _plain(image_size: int | None) -> Preprocess:
    """The default for unknown networks: the whole picture, pixels 0 to 1."""
    return Preprocess(
        224 if image_size is None else image_size, fit="stretch", interpolation="lanczos"
    )


def _sized(preprocess: Preprocess | Transform, image_size: int | None) -> Preprocess | Transform:
    if image_size is None:
        return preprocess
    if not isinstance(preprocess, Preprocess):
        raise UserError("preprocess= is a function, which says the size: leave out image_size=")
    return dataclasses.replace(preprocess, size=image_size)
