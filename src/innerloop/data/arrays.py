"""A data set from arrays: examples and their labels."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.data.base import ClassIndexed, ExampleClasses, ImageClasses
from innerloop.data.depth import doubtful_range
from innerloop.data.examples import (
    ArrayExamples,
    Examples,
    RowExamples,
    as_array,
    evenly_spread,
    require_finite,
    require_numbers,
)
from innerloop.data.labels import (
    Grouping,
    class_groups,
    class_names,
    given_split,
    group,
    label_array,
)
from innerloop.data.paper import SAMPLE
from innerloop.data.polarity import ink_is_dark
from innerloop.errors import UserError
from innerloop.keywords import keywords_checked


@keywords_checked
def from_arrays(
    X: Any,
    y: Any,
    *,
    images: bool | None = None,
    names: Mapping[Any, str] | Sequence[str] | None = None,
    groups: Any = None,
    split: Mapping[str, Iterable[Any]] | None = None,
    dark_ink: bool | None = None,
    name: str = "arrays",
) -> ClassIndexed:
    """A data set from examples and their labels.

    `X` is anything with one example a row: a NumPy array, a tensor, a data frame, a list of
    equal arrays; a memory-mapped array, an HDF5 or a Zarr array, which is read episode by
    episode.  In an episode integers are `int64` (token ids), other numbers `float32`, unchanged.
    `uint8` images are the exception: samplers scale them as they scale pictures from files.

    Args:
        X: `[M, ...]`, one example a row; it is never written to, and not copied unless it is
            an array of images that is not sorted by label.
        y: `[M]`, one label each: integers or strings, in any order, with any gaps.
        images: True for images `[M, H, W]`, `[M, C, H, W]` or `[M, H, W, C]`, which become
            `[C, H, W]` each; False for numbers that are not images; None: `uint8` arrays of
            three or four axes are images, others are not.
        names: names of classes: label to name, or a list with label i's name at i.
        groups: `[M]`, a group for each example (a super-class, a speaker), the same for all of
            a class; for tasks within one group.
        split: `{"train": labels, "val": labels, "test": labels}`; it becomes the split
            `"given"`, which `split="auto"` takes.
        dark_ink: grey images of dark strokes on light paper, which `inputs="ink"` inverts; None:
            they are if strokes are darker than their paper.
        name: short name, for results.

    Returns:
        `ImageClasses` for `uint8` images in memory, else `ExampleClasses`; classes sorted by
        label, examples of a class as they came.

    Warns:
        UserWarning: the range of images looks wrong, such as real numbers up to 255.

    Raises:
        UserError: `X` is not numbers of one shape, holds NaN, or does not fit `y`; `y` is no
            labels of at least two classes; the axes of images are not clear.

    Example:
        >>> from sklearn.datasets import load_digits
        >>> X, y = load_digits(return_X_y=True)
        >>> data = from_arrays(X, y)
        >>> data.num_classes, data.example_shape
        (10, (64,))
    """
    stored = hasattr(X, "chunks") and hasattr(X, "dtype") and hasattr(X, "shape")
    array = X if stored else as_array(X, "X")
    if len(array.shape) < 2 or 0 in array.shape:
        raise UserError(
            f"X must be [examples, ...] with at least one value for each, not {list(array.shape)}"
            + (": X[:, None] makes one number an example" if len(array.shape) == 1 else "")
        )
    grouping = group(label_array(y), len(array))
    details = Details(names, groups, split, dark_ink, name, images)
    if stored:
        if images is not None:
            raise UserError(f"images is for arrays; a {type(X).__name__} is read as it stands")
        require_numbers(array.dtype, "X")
        row = _StoredRow(X)
        examples = RowExamples(row, array.shape[1:], array.dtype, grouping.order, "X[{}]")
        return assembled(examples, grouping, details, pixels=False)
    images = _are_images(array) if images is None else images
    if images:
        array = channels_first(array, "X")
    return from_one_array(array, grouping, details, pixels=images and array.dtype == np.uint8)


@dataclass(frozen=True)
class Details:
    """Options of a data set beside its examples and labels; see `from_arrays`."""

    names: Mapping[Any, str] | Sequence[str] | None
    groups: Any
    split: Mapping[str, Iterable[Any]] | None
    dark_ink: bool | None
    name: str
    images: bool | None = None


class _StoredRow:
    """One row of an array that a file holds."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __call__(self, row: int) -> np.ndarray:
        return np.asarray(self._array[row])


def from_one_array(
    array: np.ndarray, grouping: Grouping, details: Details, *, pixels: bool
) -> ClassIndexed:
    """A data set of the rows of an array `[M, ...]`; `pixels`: `uint8` images `[M, C, H, W]`."""
    on_disk = _on_disk(array)
    if not on_disk:
        require_finite(array)
    if pixels and not on_disk:
        if int(array.max()) <= 1:
            warnings.warn(
                f"{details.name}: the largest value of these images is {int(array.max())}, where "
                "255 is white: multiply by 255, or give images=False for numbers as they are",
                stacklevel=3,
            )
        is_sorted = bool((np.diff(grouping.class_of) >= 0).all())
        images = np.ascontiguousarray(array if is_sorted else array[grouping.order])
        dark_ink = _dark_ink(details, ArrayExamples(images), pixels=True)
        return ImageClasses(images, dark_ink=dark_ink, **_attributes(grouping, details))
    if not pixels:
        warn_of_range(array[evenly_spread(len(array), SAMPLE)], details)
    examples = ArrayExamples(array, grouping.order, checked=on_disk)
    return assembled(examples, grouping, details, pixels=pixels)


def warn_of_range(some: np.ndarray, details: Details) -> None:
    """Warn where some examples `[M, ...]` look like images whose range is wrong."""
    said = doubtful_range(some, details.images)
    if said:
        warnings.warn(f"{details.name}: {said}", stacklevel=5)


def assembled(
    examples: Examples, grouping: Grouping, details: Details, *, pixels: bool
) -> ExampleClasses:
    """A data set of examples that are sorted by class already."""
    return ExampleClasses(
        examples,
        pixels=pixels,
        dark_ink=_dark_ink(details, examples, pixels=pixels),
        **_attributes(grouping, details),
    )


def _attributes(grouping: Grouping, details: Details) -> dict[str, Any]:
    return {
        "starts": grouping.starts,
        "counts": grouping.counts,
        "names": class_names(grouping.values, details.names),
        "groups": class_groups(details.groups, grouping),
        "name": details.name,
        "splits": given_split(details.split, grouping.values),
    }


def _dark_ink(details: Details, examples: Examples, *, pixels: bool) -> bool:
    """`dark_ink` as given, or as some images look."""
    grey = pixels and examples.shape[1] == 1
    if details.dark_ink is not None:
        if details.dark_ink and not pixels:
            raise UserError("dark_ink is for uint8 images")
        return details.dark_ink
    if not grey:
        return False
    return ink_is_dark(examples.read(evenly_spread(examples.shape[0], SAMPLE)))


def _on_disk(array: np.ndarray) -> bool:
    base: Any = array
    while base is not None:
        if isinstance(base, np.memmap):
            return True
        base = getattr(base, "base", None)
    return False


def _are_images(array: np.ndarray) -> bool:
    """True if an array looks like images and nothing was said about it."""
    if array.dtype != np.uint8 or array.ndim not in (3, 4):
        return False
    if array.ndim == 4 and not {1, 3} & {array.shape[1], array.shape[3]}:
        raise UserError(
            f"X is uint8 of shape {list(array.shape)}, with neither 1 nor 3 channels: give "
            "images=True for images [M, C, H, W], or images=False for integers that are not images"
        )
    return True


def channels_first(array: np.ndarray, what: str) -> np.ndarray:
    """Images `[M, H, W]`, `[M, C, H, W]` or `[M, H, W, C]` as `[M, C, H, W]`.

    Raises:
        UserError: they have another number of axes, or either could be the channels.
    """
    if array.ndim == 3:
        return array[:, None]
    if array.ndim != 4:
        raise UserError(
            f"images are [M, H, W], [M, C, H, W] or [M, H, W, C]; {what} has {array.ndim} axes"
            + (": reshape flat pictures first" if array.ndim == 2 else "")
        )
    first, last = (array.shape[axis] in (1, 3) for axis in (1, 3))
    if first and last:
        raise UserError(
            f"{what} has shape {list(array.shape)}, of which the second or the last axis could be "
            f"the channels: give images=False with {what} as [M, C, H, W], scaled to floats"
        )
    return np.moveaxis(array, 3, 1) if last else array
