"""Find the features in whatever a network returns."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from innerloop.errors import UserError

# By name, the first that is there: pooled outputs of transformers, then those of other code.
POOLED = ("pooler_output", "image_embeds", "x_norm_clstoken", "features", "embedding")
TOKENS = "last_hidden_state"


def features_of(out: Any, name: str, n: int) -> tuple[Tensor, str]:
    """Features `[n, F]` in what a network gave for `n` pictures, and what they are, in words.

    Raises:
        UserError: there are none; it names the network, `name`.
    """
    found, what, code = _chosen(out)
    if isinstance(found, Tensor) and found.ndim == 4 and found.shape[2:] == (1, 1):
        found = found.flatten(1)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != n or not found.shape[1]:
        shown = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if isinstance(out, Mapping):
            shown = f"{shown} in {what}"
        raise UserError(
            f"{name} gives {shown} for {n} pictures, where features [{n}, F] are needed: "
            f"{_advice(found, n, code)}"
        )
    if found.is_complex():
        raise UserError(
            f"{name} gives complex numbers, where features are real: for instance "
            "torch.view_as_real(features).flatten(1)"
        )
    return found, what


def unit_length(features: Tensor) -> Tensor:
    """Rows `[n, F]` scaled to length 1; rows of zeros stay.

    In double precision: squares of large float32 overflow, and those of small ones vanish.
    """
    wide = features.double()
    length = wide.norm(dim=1, keepdim=True)
    found: Tensor = wide / length.where(length > 0, 1)
    return found.to(features.dtype)


def warn_of_sameness(features: Tensor, name: str) -> None:
    """A warning where features `[n, F]` tell nothing, as heads see their directions alone."""
    if features.shape[1] == 1:
        warnings.warn(
            f"{name} gives one number a picture, which tells next to nothing: give a network "
            "without its last layer, or name inner ones by layers=",
            stacklevel=4,
        )
        return
    directions = unit_length(features)
    if len(features) > 1 and torch.allclose(directions, directions[:1], rtol=0, atol=1e-6):
        warnings.warn(
            f"{name} gives all pictures of the support set the same features, up to their length, "
            "so that nothing tells the classes apart: look at its weights, at preprocess=, and at "
            "the pictures, if they differ at all",
            stacklevel=4,
        )


def _chosen(out: Any) -> tuple[Any, str, str]:
    """What is taken of an output, in words, and as code."""
    code = "network(x)"
    if isinstance(out, Mapping):
        for key in POOLED:
            if out.get(key) is not None:
                return out[key], key, f"{code}[{key!r}]"
        tokens = out.get(TOKENS)
        if isinstance(tokens, Tensor) and tokens.ndim == 3:
            return tokens[:, 0], "class token", f"{code}[{TOKENS!r}][:, 0]"
        if len(out) == 1:
            ((key, value),) = out.items()
            return value, str(key), f"{code}[{key!r}]"
        return out, f"a dict of {', '.join(map(str, out))}", code
    if isinstance(out, tuple | list) and out:
        return out[0], f"the first of {len(out)} outputs", f"{code}[0]"
    return out, "output", code


def _advice(found: Any, n: int, code: str) -> str:
    """How features come out of what a network gave for `n` pictures, if anyone can say.

    Args:
        found: what was taken for features and is none.
        n: the number of pictures.
        code: how it comes out of the network.
    """
    wrap = "wrap the network in a module whose forward returns"
    if isinstance(found, Mapping):
        fits = [k for k, v in found.items() if isinstance(v, Tensor) and v.ndim == 2]
        keys = fits or [k for k, v in found.items() if isinstance(v, Tensor)]
        return f"{wrap} one of them, such as {code}[{keys[0]!r}]" if keys else _NONE
    if not isinstance(found, Tensor) or found.ndim == 0 or not found.numel():
        return _NONE
    if len(found) != n:
        return "let the first axis be that of the pictures, as it was in x"
    if found.ndim == 1:
        return "one number tells next to nothing: return what the layer before the last one gives"
    if found.ndim == 3:
        return f"{wrap} {code}.mean(dim=1), the mean of tokens, or {code}[:, 0], the class token"
    if found.ndim == 4:
        # As `quarters` tells where the channels are.
        last = found.shape[1] == found.shape[2] != found.shape[3]
        if code == "network(x)" and not last:
            return (
                "for instance torch.nn.Sequential(network, torch.nn.AdaptiveAvgPool2d(1), "
                "torch.nn.Flatten())"
            )
        return f"{wrap} {code}.mean(dim={(1, 2) if last else (2, 3)}), the mean over the places"
    return f"{wrap} {code}.flatten(1)"


_NONE = "return them from its forward, a torch.Tensor"
