"""Mean and deviation of the pixels that a network is trained on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from innerloop.data.base import ClassIndexed


class Normalization(NamedTuple):
    """Standardisation of images: subtract `mean`, divide by `deviation`.

    Attributes:
        mean, deviation: one number a channel, of pixels as `inputs` makes them.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]


def normalization(
    data: ClassIndexed, classes: np.ndarray, zero: float, unit: float
) -> Normalization:
    """The normalisation of all images of some classes.

    A channel that is the same everywhere has deviation 1: there is nothing to divide by.

    Args:
        data: its examples are `uint8` images.
        classes: their indices.
        zero, unit: a byte b is the pixel `zero + b / unit`.
    """
    channels = data.example_shape[0]
    total, squares, count = np.zeros(channels), np.zeros(channels), 0
    for c in classes:
        # Sums of bytes are whole numbers: exact, whatever the order of the classes.
        values = data.class_examples(int(c)).astype(np.uint32)
        total += values.sum(axis=(0, 2, 3), dtype=np.uint64)
        squares += (values * values).sum(axis=(0, 2, 3), dtype=np.uint64)
        count += values.size // channels
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0))
    return Normalization(
        tuple((zero + mean / unit).tolist()),
        tuple(np.where(deviation > 0, deviation / abs(unit), 1.0).tolist()),
    )
