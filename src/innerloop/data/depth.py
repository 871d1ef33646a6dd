"""Pictures of more than 8 bits, and arrays of pixels: which value is white."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from innerloop.data.examples import require_numbers
from innerloop.data.remarks import counted
from innerloop.errors import UserError, finite_above_zero

# How messages name a picture, its smallest and its largest value, and whether they are integers.
Range = tuple[str, float, float, bool]

# The largest values of 8, 10, 12, 14 and 16 bits.
WHITES = (255, 1023, 4095, 16383, 65535)
# Real numbers that are 0..1 but for rounding, as an interpolation leaves them.
_ROUNDING = 1e-4
# Of 255: pictures that are all darker look black.
DARK = 32
# Normalised images do not reach as far.
_WIDE = 20
# Images are not smaller.
_LEAST_SIDE = 8


def white_of(low: float, high: float, whole: bool, what: str) -> float:
    """The value of white: the smallest of 8, 10, 12, 14 and 16 bits that holds all values.

    Args:
        low, high: the smallest and the largest value of all pictures.
        whole: integers; real numbers of at most 1 have white at 1.
        what: how messages name the pictures, or the one with these values.

    Raises:
        UserError: no usual range holds these values.
    """
    ways = "say which value is white, by white=, or save them with 8 or 16 bits"
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
        UserError: some are outside, or no number of this type can be white.
    """
    most = np.iinfo(values.dtype).max if values.dtype.kind in "iu" else math.inf
    if white > most:
        raise UserError(
            f"white is {white:g}, but {what} of type {values.dtype} holds {most} at most: leave "
            "out white, or give the values that it is for"
        )
    low, high = float(values.min()), float(values.max())
    if low < 0:
        raise UserError(
            f"{what} has values of {low:g} to {high:g}, and 0 is black: give values from 0 on"
        )
    if not high <= white * (1 + _ROUNDING):  # nor where it is no number
        raise UserError(
            f"{what} has values of {low:g} to {high:g}, and white is {white:g}: give a white that "
            "is not below any value"
        )
    exact = values.astype(np.float64)
    # The highest 8 bits of integers; where there are fewer steps, the nearest.
    found = np.floor(exact * (256 / (white + 1))) if white >= 255 else np.round(exact * 255 / white)
    return found.clip(0, 255).astype(np.uint8)


def shared_white(deep: Sequence[Range], white: float | None = None) -> tuple[float | None, str]:
    """The value of white that pictures of more than 8 bits share, by the range of all of them.

    Args:
        deep: of each picture of more than 8 bits: how messages name it, its smallest and its
            largest value, and whether they are integers.
        white: what was asked for.

    Returns:
        None where there are no such pictures; and what to say of it, unless the range is clear.

    Raises:
        UserError: values that fit no range.
    """
    finite_above_zero(white=white)
    if not deep or white is not None:
        return (white if deep else None), ""
    # Integers and real numbers side by side have no range in common.
    whole = any(each[3] for each in deep)
    for what, low, high, _ in deep:
        white_of(low, high, whole, what)
    highest = max(each[2] for each in deep)
    white = white_of(0, highest, whole, "these pictures")
    if white in (1, WHITES[-1]):
        return white, ""
    return white, (
        f"{counted(len(deep), 'picture')} of more than 8 bits, with values up to {highest:,g}: "
        f"{white:,g} is taken for white"
    )


def as_bytes(
    X: np.ndarray, what: str = "pixels", white: float | None = None, stacklevel: int = 2
) -> np.ndarray:
    """Bytes 0..255, from integers of that range, real numbers 0..1, or True and False.

    Args:
        X: of any shape.
        what: how messages name the values.
        white: the value of white, which any numbers may have; None: 255 of integers, 1 of real
            numbers.
        stacklevel: of a warning.

    Raises:
        UserError: values outside of the range of their type; the message says how to scale them.

    Warns:
        UserWarning: all values are nearly black, as integers of which none is above 1 are, and
            values that are far below `white`.
    """
    if X.dtype == object:  # numbers of Python, as a list of numbers that are too large gives
        X = np.asarray(X.tolist())
    require_numbers(X.dtype, f"what holds these {what}")
    if X.dtype == bool:
        return X.astype(np.uint8) * np.uint8(255)
    if not X.size:
        return X.astype(np.uint8)
    if white is not None:
        found = scaled(X, white, f"an array of {what}")
        if X.max() > 0 and found.max() < DARK:
            warnings.warn(
                f"the largest of these {what} is {X.max():g} and white is {white:g}, so that all "
                f"are nearly black: white= is the value that a white pixel has in them",
                stacklevel=stacklevel + 1,
            )
        return found
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


def doubtful_range(X: np.ndarray, images: bool | None) -> str:
    """What looks wrong with examples that stay as they are; nothing where all is well.

    Args:
        X: `[M, ...]`, some of the examples, of any dtype but `uint8`.
        images: whether they are images; None to go by their look.
    """
    if images is False or not X.size or X.dtype.kind not in "fiu":
        return ""
    whole = X.dtype.kind in "iu"
    low, high = float(X.min()), float(X.max())
    if images is None:
        # Features may have any range: only bytes that became real numbers are told by their look.
        bytes_like = not whole and low >= 0 and WHITES[0] / 2 < high <= WHITES[0]
        if not bytes_like or not _like_images(X.shape[1:]) or (np.round(X) != X).any():
            return ""
    if whole:
        what = f"images of {X.dtype} stay integers, which no convolution takes"
    elif (low >= 0 and high > 1 + _ROUNDING) or max(-low, high) > _WIDE:
        what = (
            f"values of {low:g} to {high:g} stay as they are, where networks learn best near 0..1"
        )
    else:
        return ""
    if low < 0:
        return f"{what}: scale them"
    white = next((white for white in WHITES if high <= white), None)
    way = f"divide by {white}" if white else "divide by the value of white"
    unsigned = ", or give uint8, which samplers scale" if high <= WHITES[0] and X.ndim > 2 else ""
    return f"{what}: {way}{unsigned}; images=False where they are no images"


def _like_images(shape: tuple[int, ...]) -> bool:
    """Whether examples may be images: `[C, H, W]`, `[H, W, C]`, `[S, S]` or `[S * S]`."""
    if len(shape) == 3:
        return shape[0] in (1, 3) or shape[2] in (1, 3)
    if len(shape) == 2:
        return shape[0] == shape[1] >= _LEAST_SIDE
    return len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0] >= _LEAST_SIDE**2


def _way(low: float, high: float) -> str:
    """How to scale values of this range."""
    if not np.isfinite([low, high]).all():
        return "fill those that are not finite, numpy.nan_to_num(X)"
    if low < 0:
        return (
            "give them before they are normalised, or numpy.interp(X, (X.min(), X.max()), (0, 1))"
        )
    if high <= WHITES[0] / 2:
        return f"say the value of white: white={high:g} if the brightest of them is white"
    white = next((white for white in WHITES if high <= white), None)
    return f"divide by {white}, or say white={white}" if white else "divide by the value of white"
