"""From a picture to the pixels that a pretrained network was trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from innerloop.errors import UserError, given, not_negative, one_of, plain, side_of_image

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
FITS = ("crop", "stretch")


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing of a network.

    The picture is scaled to `size / crop` pixels, the middle `size x size` is cut out, and of each
    channel, from 0 to 1, `mean` is subtracted and the rest divided by `deviation`.  Scaling and
    cropping round as torchvision and timm do.

    Args:
        size: side of the square that the network takes, in pixels.
        crop: the share of the scaled picture's side that is kept, above 0, at most 1.
        fit: `"crop"` scales the shorter side and cuts off what is left of the longer one;
            `"stretch"` scales both sides, whatever the proportions are.
        interpolation: `"nearest"`, `"bilinear"`, `"bicubic"` or `"lanczos"`, Pillow's filters.
        mean: of the channels, in pixels from 0 to 1; all that iterates over numbers will do.
        deviation: standard deviation of the channels, in the same unit.
        channels: 3 for red, green, blue; 1 for grey.

    Raises:
        UserError: a value is out of range.
    """

    size: int = 224
    crop: float = 1.0
    fit: str = "crop"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    deviation: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: int = 3

    def __post_init__(self) -> None:
        for name in ("size", "crop", "channels"):
            object.__setattr__(self, name, plain(getattr(self, name)))
        given(image_size=self.size, crop=self.crop)
        side_of_image(image_size=self.size)
        not_negative(crop=self.crop)
        if not 0 < self.crop <= 1:
            raise UserError(f"crop is a share of the picture, above 0 to 1, not {self.crop}")
        one_of(FITS, fit=self.fit)
        one_of(FILTERS, interpolation=self.interpolation)
        if self.channels not in (1, 3):
            raise UserError(f"channels must be 1 or 3, not {self.channels!r}")
        for name in ("mean", "deviation"):
            # A tuple, also of an array or a list, has a hash and one text.
            object.__setattr__(self, name, self._per_channel(name, getattr(self, name)))
        if not all(0 <= value <= 1 for value in self.mean):
            raise UserError(
                f"mean is of pixels from 0 to 1, not {self.mean}: divide mean and deviation by 255"
            )
        if min(self.deviation) <= 0:
            raise UserError(f"deviation must be greater than 0, not {self.deviation}")

    def _per_channel(self, name: str, values: Any) -> tuple[float, ...]:
        try:
            found = tuple(float(value) for value in values)
        except (TypeError, ValueError):
            found = ()
        if self.channels == 1 and len(found) == 3 and len(set(found)) == 1:
            found = found[:1]  # the defaults
        if len(found) != self.channels or not all(map(math.isfinite, found)):
            raise UserError(f"{name} must be {self.channels} numbers, one a channel: {values}")
        return found

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, S, S)`, of what it gives."""
        return (self.channels, self.size, self.size)

    def __call__(self, picture: Image.Image) -> Tensor:
        """Pixels `[C, S, S]`, float32, of an RGB picture."""
        # Without rounding up what binary fractions make of 224 / (224 / 256).
        scaled = math.floor(self.size / self.crop + 1e-6)
        width, height = picture.size
        if self.fit == "stretch":
            width = height = scaled
        elif width <= height:
            width, height = scaled, max(scaled, int(scaled * height / width))
        else:
            width, height = max(scaled, int(scaled * width / height)), scaled
        picture = picture.convert("L" if self.channels == 1 else "RGB")
        if picture.size != (width, height):
            picture = picture.resize((width, height), FILTERS[self.interpolation])
        left, top = round((width - self.size) / 2), round((height - self.size) / 2)
        picture = picture.crop((left, top, left + self.size, top + self.size))
        pixels = torch.from_numpy(np.array(picture)).reshape(self.size, self.size, self.channels)
        x = pixels.permute(2, 0, 1).float() / 255
        mean, deviation = (torch.tensor(v)[:, None, None] for v in (self.mean, self.deviation))
        return (x - mean) / deviation
