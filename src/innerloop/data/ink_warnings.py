"""Warnings of pictures in which ink is not what the network learnt."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from innerloop.data.polarity import darkness_of_ink
from innerloop.data.remarks import some

# Pictures of the other ink are warned of where it is surer than this, see `darkness_of_ink`.
SURE = 0.3


def warn_of_other_ink(
    images: np.ndarray, pixels: Sequence[int], ink: str, names: Sequence[str], stacklevel: int = 1
) -> np.ndarray:
    """Warn of drawings with light and dark the other way round than in those learnt.

    Args:
        images: `uint8` `[n, 1, H, W]`.
        pixels: in each before it was scaled.
        ink: `"dark"` or `"light"`.
        names: how messages call each picture.

    Returns:
        Which ones, booleans `[n]`.
    """
    darkness = darkness_of_ink(images)
    # Three standard deviations of the skewness of noise: a handful of pixels is no drawing.
    by_chance = 3 * np.sqrt(6 / np.minimum(pixels, images[0].size))
    other = (darkness if ink == "light" else -darkness) > by_chance.clip(min=SURE)
    if other.any():
        # What lies along the edges is not enough, such as the black border of a scan.
        down, right = (n // 6 for n in images.shape[2:])
        middle = images[other, :, down : images.shape[2] - down, right : images.shape[3] - right]
        other[other] = darkness_of_ink(middle) * darkness[other] > 0
    if other.any():
        learnt, found = ("dark strokes on light paper", "light strokes on dark")
        if ink == "light":
            learnt, found = ("light strokes on dark paper", "dark strokes on light")
        warnings.warn(
            f"{_of_all(other, names)} look like {found}, where those learnt "
            f"are {learnt}: answers for them mean little; invert them ({_inverting(names)})",
            stacklevel=stacklevel + 1,
        )
    return np.asarray(other)


def _inverting(names: Sequence[str]) -> str:
    """How to invert what has these names, in words; with paper where a picture is transparent."""
    if not all(name.startswith("X[") for name in names):
        return "files: 255 - innerloop.data.pictures.read_picture(path, 1, None)[0]"
    return (
        "bytes: 255 - X, numbers up to 1: 1 - X, PIL pictures: PIL.ImageOps.invert of "
        "innerloop.data.pictures.rgb_picture(x, 'x')"
    )


def warn_of_blank(found: np.ndarray, done: str, names: Sequence[str], stacklevel: int = 1) -> None:
    """Warn of blank pictures.

    Args:
        found: for each picture whether it is not blank, `[n]`.
        done: what is done with them: `"learnt"` or `"told"`.
        names: how messages call each picture.
    """
    if not found.all():
        warnings.warn(
            f"{_of_all(~found, names)} look blank, without any ink: they are {done} as they are, "
            "which means little",
            stacklevel=stacklevel + 1,
        )


def _of_all(chosen: np.ndarray, names: Sequence[str]) -> str:
    """`2 of the 9 pictures (a.png, b.png)`, by booleans `[n]`."""
    shown = some([name for name, is_one in zip(names, chosen, strict=True) if is_one])
    return f"{chosen.sum()} of the {len(names)} pictures ({shown})"
