"""What inner layers of a network give at each place of a picture, as features."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.errors import UserError

# For the last layer that gives a map.
LAST = "auto"
# Quarters of the picture: more places make features wider, and moved pictures less alike.
PLACES = 2
# Tokens before those of places, at most: a class token and registers.
PREFIX = 8


def layer_names(layers: str | Sequence[str]) -> tuple[str, ...]:
    """One name or several as a tuple.

    Raises:
        UserError: they are no names, or one stands twice.
    """
    names = (layers,) if isinstance(layers, str) else layers
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise UserError(
            f"layers must be names of layers, such as ('layer3', 'layer4'), or {LAST!r}, not "
            f"{layers!r}"
        )
    if len(set(names)) < len(names):
        raise UserError(f"layers names a layer twice, which would count double: {layers!r}")
    return tuple(names)


def watch(
    names: Collection[str] | None,
) -> Callable[[nn.Module, Tensor], tuple[Any, dict[str, Tensor]]]:
    """What calls a copy of a network and gives its output and the `quarters` of its layers.

    Args:
        names: of the layers; None for all. The result holds those with maps, in the order in which
            they were computed last.
    """

    def call(network: nn.Module, x: Tensor) -> tuple[Any, dict[str, Tensor]]:
        found: dict[str, Tensor] = {}

        def keep(name: str, out: Any) -> None:
            found.pop(name, None)
            pooled = quarters(out)
            # Others take parts of pictures for pictures.
            if pooled is not None and len(pooled) == len(x):
                found[name] = pooled

        for name, layer in list(network.named_modules(remove_duplicate=False)):
            if name and (names is None or name in names):
                # A copy may share this with the user's module, which must not be written to.
                layer.__dict__["_forward_hooks"] = OrderedDict(layer._forward_hooks)
                layer.register_forward_hook(lambda _, __, out, name=name: keep(name, out))
        return network(x), found

    return call


def chosen(layers: Sequence[str], found: dict[str, Tensor], name: str) -> tuple[str, ...]:
    """The names of the layers that `layers` means, of those `found` that have maps.

    Raises:
        UserError: one of them has none; it names the network, `name`.
    """
    if tuple(layers) == (LAST,):
        return tuple(found)[-1:]
    for layer in layers:
        if layer not in found:
            advice = (
                f"the last with one are {', '.join([*found][-5:])}" if found else "leave it out"
            )
            raise UserError(
                f"layer {layer!r} of {name} gives no map [B, C, H, W] or tokens [B, T, C] of the "
                f"places of a picture: {advice}"
            )
    return tuple(layers)


def quarters(out: Any) -> Tensor | None:
    """Means over each quarter of a map, `[B, 4 * C]`; None for what is no map.

    Args:
        out: `[B, C, H, W]`, or `[B, H, W, C]` of a square picture; or tokens `[B, T, C]`, of which
            the last are those of a square of places; or a tuple that begins with one of these.
    """
    if isinstance(out, tuple | list) and out:
        out = out[0]
    if not isinstance(out, Tensor) or not out.is_floating_point():
        return None
    if out.ndim == 3:
        side = math.isqrt(out.shape[1])
        if out.shape[1] - side**2 > PREFIX:
            return None
        out = out[:, -(side**2) :].mT.unflatten(2, (side, side))
    if out.ndim != 4:
        return None
    if out.shape[1] == out.shape[2] != out.shape[3]:
        out = out.movedim(3, 1)
    if min(out.shape[2:]) < PLACES:
        return None
    return F.adaptive_avg_pool2d(out.float(), PLACES).flatten(1)
