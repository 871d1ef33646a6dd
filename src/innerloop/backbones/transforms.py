"""Preprocessing of a user's own: any function from a picture to pixels, called with care."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from innerloop.backbones.preprocess import Preprocess
from innerloop.errors import UserError, first_line
from innerloop.keywords import check_takes
from innerloop.references import at_line, is_of_user

Transform = Callable[[Image.Image], Tensor]
"""From an RGB picture of PIL to pixels `[C, S, S]`."""
# What happens by chance in half the calls, such as a mirrored picture, is missed once in 16,000.
_CALLS = 8


def pixels_of(preprocess: Preprocess | Transform, picture: Image.Image, name: str) -> Tensor:
    """Pixels `[C, H, W]` of an RGB picture.

    Args:
        preprocess: what gives them.
        picture: a function may write to it.
        name: how messages call it.

    Raises:
        UserError: the preprocessing fails, or gives anything else.
    """
    try:
        x = preprocess(picture)
    except (UserError, MemoryError):
        raise
    except Exception as error:  # of code of the user's own
        check_takes("preprocess", preprocess, "an RGB picture of PIL", picture)
        said = f"{type(error).__name__}: {first_line(error)}"
        raise UserError(
            f"preprocess fails on {name}, an RGB picture of {picture.width} x {picture.height} "
            f"pixels: {at_line(error) if is_of_user(error) else said}"
        ) from error
    if not isinstance(x, Tensor) or x.ndim != 3 or not x.is_floating_point():
        shown = list(x.shape) if isinstance(x, Tensor) else type(x).__name__
        raise UserError(
            f"preprocess gave {shown} for {name}, where real numbers [3, S, S] are needed"
        )
    return x


def pixels_of_noise(preprocess: Preprocess | Transform) -> list[Tensor]:
    """Pixels of two pictures of noise, a wide one and a tall one.

    Raises:
        UserError: as `pixels_of`; or the pixels of a picture change between calls.
    """
    name = "a picture of noise"
    found = [pixels_of(preprocess, picture.copy(), name) for picture in _noise()]
    if type(preprocess) is not Preprocess:
        for picture, x in zip(_noise(), found, strict=True):
            for _ in range(_CALLS - 1):
                again = pixels_of(preprocess, picture.copy(), name)
                same = x.shape == again.shape and torch.allclose(x, again, equal_nan=True)
                if not same:
                    raise UserError(
                        "the pixels that preprocess gives of a picture change between calls: leave "
                        "out random crops, flips and colours, which are for training"
                    )
    return found


@functools.cache
def _noise() -> list[Image.Image]:
    """A wide picture and a tall one."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (90, 60, 3), generator=generator, dtype=torch.uint8).numpy()
    return [Image.fromarray(pixels), Image.fromarray(pixels.transpose(1, 0, 2).copy())]
