"""Several views of a picture, whose features are averaged."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image, ImageOps


class View(NamedTuple):
    """A part of a picture.

    Attributes:
        name: it is kept under this name.
        share: of width and height that is cut out.
        across, down: where, from the left or the top at 0 to the right or the bottom at 1.
        mirrored: left and right change places.
    """

    name: str
    share: float = 0.8
    across: float = 0.5
    down: float = 0.5
    mirrored: bool = False

    def __call__(self, picture: Image.Image) -> Image.Image:
        width, height = (max(1, round(side * self.share)) for side in picture.size)
        left = round((picture.width - width) * self.across)
        top = round((picture.height - height) * self.down)
        if self.share < 1:
            picture = picture.crop((left, top, left + width, top + height))
        return ImageOps.mirror(picture) if self.mirrored else picture


# Features of whole pictures are kept under no further name.
WHOLE, MIDDLE = View("", share=1), View("middle")
CORNERS = tuple(View(f"{x},{y}", across=x, down=y) for y in (0, 1) for x in (0, 1))
VIEWS: dict[str, tuple[View, ...]] = {
    "whole": (WHOLE,),
    "middle": (WHOLE, MIDDLE),
    "crops": (WHOLE, MIDDLE, *CORNERS),
    # Not where left and right make a class.
    "flips": (WHOLE, MIDDLE, View("mirrored", share=1, mirrored=True)),
}
"""By what is added to the whole picture."""
