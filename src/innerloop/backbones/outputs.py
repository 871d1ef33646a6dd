"""Find the features in whatever a network returns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    found, what = _chosen(out)
    if isinstance(found, Tensor) and found.ndim == 4 and found.shape[2:] == (1, 1):
        found = found.flatten(1)
    if not isinstance(found, Tensor) or found.ndim != 2 or len(found) != n or not found.shape[1]:
        shown = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
        if isinstance(out, Mapping):
            shown = f"{shown} in {what}"
        raise UserError(
            f"{name} gives {shown} for {n} pictures, where features [{n}, F] are needed: for "
            "instance torch.nn.Sequential(network, torch.nn.AdaptiveAvgPool2d(1), "
            "torch.nn.Flatten())"
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


def _chosen(out: Any) -> tuple[Any, str]:
    if isinstance(out, Mapping):
        for key in POOLED:
            if out.get(key) is not None:
                return out[key], key
        tokens = out.get(TOKENS)
        if isinstance(tokens, Tensor) and tokens.ndim == 3:
            return tokens[:, 0], "class token"
        if len(out) == 1:
            ((key, value),) = out.items()
            return value, str(key)
        return out, f"a dict of {', '.join(map(str, out))}"
    if isinstance(out, tuple | list) and out:
        return out[0], f"the first of {len(out)} outputs"
    return out, "output"
