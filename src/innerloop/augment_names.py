"""What the setting `augment` can say.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import math

from innerloop.errors import UserError

# What `augment` can name, and what a number after it means; see `innerloop.data.augment`.
AUGMENTATIONS = (
    "crop",
    "flip",
    "color",
    "channels",
    "affine",
    "erase",
    "warp",
    "conditions",
)


def parse_augment(text: str) -> list[tuple[str, float | None]]:
    """The names in `text`, each with the number behind it, None where there is none.

    Raises:
        UserError: an unknown or repeated name, or a value that is not a number.
    """
    found: list[tuple[str, float | None]] = []
    for word in text.split(","):
        name, equals, value = word.strip().partition("=")
        if name not in AUGMENTATIONS:
            raise UserError(
                f"augment has {name!r}: it takes {', '.join(AUGMENTATIONS)}, "
                "separated by commas, or MODULE:NAME or FILE.py:NAME"
            )
        if name in dict(found):
            raise UserError(f"augment names {name} twice")
        if equals and name == "affine":
            raise UserError("augment: affine takes no number; give a function of your own instead")
        try:
            number = float(value) if equals else None
        except ValueError:
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise UserError(f"augment: {word.strip()} needs a number after =")
        found.append((name, number))
    if len(found) > 1 and "conditions" in dict(found):
        raise UserError(
            "augment: conditions goes alone, since it changes places and sizes itself; for more "
            "give a function of your own"
        )
    return found
