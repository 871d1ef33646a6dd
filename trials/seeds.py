"""A picture for readers to be fed with."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image


def picture_bytes(seed: int, mode: str, kind: str, size: tuple[int, int]) -> bytes:
    """An encoded picture of noise below white; `kind` is Pillow's name of the format."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    pixels[: size[1] // 2] = 255
    picture = Image.fromarray(pixels)
    if mode == "I;16":
        picture = Image.fromarray(pixels[..., 0].astype(np.uint16) * 256)
    elif mode != "RGB":
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()
