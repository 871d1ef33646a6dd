"""Noise in the shape of a data set: try the whole pipeline before downloading anything."""

from __future__ import annotations

import numpy as np

from innerloop.data.base import ImageClasses
from innerloop.errors import UserError, at_least
from innerloop.keywords import keywords_checked


@keywords_checked
def random_images(
    classes: int = 1623, per_class: int = 20, size: int = 28, seed: int = 0
) -> ImageClasses:
    """Uniform grey noise with Omniglot's shape by default.

    There is nothing to learn in it: accuracy on its test classes is chance,
    which makes it a check that nothing leaks from query to support.

    Args:
        classes: number of classes, at least 1.
        per_class: images of each class, at least 1.
        size: height and width in pixels, at least 1.
        seed: the same seed gives the same images, on every machine.

    Returns:
        `classes * per_class` images `[1, size, size]`; 25,448,640 bytes by default.

    Raises:
        UserError: a number is too small.
    """
    at_least(1, classes=classes, per_class=per_class, size=size)
    if seed < 0:
        raise UserError(f"seed must not be negative, not {seed}")
    generator = np.random.default_rng(seed)
    array = generator.integers(0, 256, size=(classes, per_class, 1, size, size), dtype=np.uint8)
    return ImageClasses.from_square(array, name="random", dark_ink=True)
