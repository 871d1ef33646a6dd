"""Pictures of more than 8 bits, and arrays of pixels: which value is white."""

from __future__ import annotations

import warnings

import numpy as np

from innerloop.data.examples import require_numbers
from innerloop.errors import UserError

# The largest values of 8, 10, 12, 14 and 16 bits.
WHITES = (255, 1023, 4095, 16383, 65535)
# Real numbers that are 0..1 but for rounding, as an interpolation leaves them.
_ROUNDING = 1e-4


def white_of(low: float, high: float, whole: bool, what: str) -> float:
    """The value of white: the smallest of 8, 10, 12, 14 and 16 bits that holds all values.

    Args:
        low, high: the smallest and the largest value of all pictures.
        whole: integers; real numbers of at most 1 have white at 1.
        what: how messages name the pictures, or the one with these values.

    Raises:
        UserError: no usual range holds these values.
    """
    ways = (
        "say which value is white, innerloop.data.folder(path, white=...), or save them with 8 or "
        "16 bits"
    )
    if not np.isfinite([low, high]).all():
        raise UserError(f"{what} has values that are not finite numbers: fill them first")
    if low < 0:
        raise UserError(
            f"{what} has values below 0 ({low:g} to {high:g}), so they are not brightness: scale "
            "them to 0..65535 and save them with 16 bits"
        )
    if not whole and high <= 1 + _ROUNDING:
        return 1.0
    for white in WHITES:
        if high <= white:
            return float(white)
    raise UserError(f"{what} has values up to {high:g}, more than 16 bits hold: {ways}")


def scaled(values: np.ndarray, white: float, what: str) -> np.ndarray:
    """Bytes, from numbers of which 0 is black and `white` is white.

    Raises:
        UserError: some are outside.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= white * (1 + _ROUNDING)):
        raise UserError(
            f"{what} has values of {low:g} to {high:g}, and white is {white:g}: give a white that "
            "is not below any value"
        )
    exact = values.astype(np.float64)
    # The highest 8 bits of integers; where there are fewer steps, the nearest.
    found = np.floor(exact * (256 / (white + 1))) if white >= 255 else np.round(exact * 255 / white)
    return found.clip(0, 255).astype(np.uint8)


def as_bytes(X: np.ndarray, what: str = "pixels", stacklevel: int = 2) -> np.ndarray:
    """Bytes 0..255, from integers of that range, real numbers 0..1, or True and False.

    Raises:
        UserError: values outside of the range of their type; the message says how to scale them.

    Warns:
        UserWarning: integers of which none is above 1, so that all would be black.
    """
    if X.dtype == object:  # numbers of Python, as a list of numbers that are too large gives
        X = np.asarray(X.tolist())
    require_numbers(X.dtype, f"what holds these {what}")
    if X.dtype == bool:
        return X.astype(np.uint8) * np.uint8(255)
    if not X.size:
        return X.astype(np.uint8)
    low, high, whole = X.min(), X.max(), np.issubdtype(X.dtype, np.integer)
    slack = 0 if whole else _ROUNDING
    if not (low >= -slack and high <= (255 if whole else 1) + slack):
        raise UserError(
            f"{what} must be integers 0 to 255 or real numbers 0 to 1; these are of type {X.dtype} "
            f"and reach from {low:g} to {high:g}: {_way(float(low), float(high))}"
        )
    if not whole:
        return (X * 255).round().clip(0, 255).astype(np.uint8)
    if 0 < high <= 1:
        warnings.warn(
            f"the largest of these {what} is 1, where 255 is white: multiply by 255, or give them "
            "as bool or float",
            stacklevel=stacklevel + 1,
        )
    return X.astype(np.uint8)


def _way(low: float, high: float) -> str:
    """How to scale values of this range."""
    if not np.isfinite([low, high]).all():
        return "fill those that are not finite, numpy.nan_to_num(X)"
    if low < 0:
        return "give them before they are normalised, or (X - X.min()) / (X.max() - X.min())"
    white = next((white for white in WHITES if high <= white), None)
    return f"divide by {white}" if white else "divide by the value of white"
