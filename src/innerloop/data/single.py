"""One picture given in place of several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from innerloop.data.given import CHANNELS, square_of
from innerloop.errors import UserError

# Flattened pictures are not smaller.
_LEAST_SIDE = 8


def several(X: Any, channels: int | None, *, flat: bool) -> Any:
    """`X` as more than one picture: a single one becomes a batch of one.

    Args:
        X: a path, a PIL picture, an array or a tensor `[H, W]`, `[C, H, W]` or `[H, W, C]`; or
            several pictures, which are given back unchanged.
        channels: of the network. With 1, `[n, H, W]` are n grey pictures; with 3 they are one;
            None where it takes both.
        flat: `[n, F]` are n flattened pictures, not the rows of one.

    Raises:
        UserError: `[3, H, W]` may be three grey pictures or one of colour; or `[H, W]` may be one
            picture or flattened ones.
    """
    if isinstance(X, str | Path | Image.Image):
        return [X]
    shape = getattr(X, "shape", None)
    if (not isinstance(X, np.ndarray) and not hasattr(X, "detach")) or not isinstance(shape, tuple):
        return X
    if len(shape) == 2 and not flat:
        channels_of, side = square_of(shape[1], (1, 3)) or (0, 0)
        if side >= _LEAST_SIDE:
            number = shape[0]
            grey = f"X.reshape({number}, {side}, {side}), or fit on flattened ones too"
            colour = (
                f"X.reshape({number}, {side}, {side}, 3) or X.reshape({number}, 3, {side}, {side})"
            )
            raise UserError(
                f"an array of shape {shape} may be one picture or {number} flattened ones: give "
                f"X[None] for one; for flattened ones, {grey if channels_of == 1 else colour}"
            )
        return X[None]
    if len(shape) == 3 and (shape[2] in CHANNELS or shape[0] == channels == 3):
        return X[None]
    if len(shape) == 3 and shape[0] == 3 and channels is None:
        raise UserError(
            f"an array of shape {shape} may be three grey pictures or one of colour: give "
            "X[:, None] for three, X[None] for one"
        )
    return X
