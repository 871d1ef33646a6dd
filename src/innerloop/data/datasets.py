"""A data set from any map-style one: PyTorch's, torchvision's, Hugging Face's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from innerloop.data.arrays import (
    Details,
    assembled,
    channels_first,
    from_one_array,
    warn_of_range,
)
from innerloop.data.base import ClassIndexed
from innerloop.data.examples import RowExamples, as_array, checked_row, evenly_spread
from innerloop.data.labels import group, label_array
from innerloop.data.pictures import picture_pixels
from innerloop.data.progress import progress_bar
from innerloop.errors import UserError, side_of_image
from innerloop.keywords import keywords_checked

# Where data sets of PyTorch's libraries keep the labels of all items.
_ATTRIBUTES = ("targets", "labels", "_labels")
_COLUMNS = ("label", "labels")
_CHECKED = 8


@keywords_checked
def from_dataset(
    dataset: Any,
    labels: Any = None,
    *,
    inputs: str | None = None,
    transform: Callable[[Any], Any] | None = None,
    image_size: int | None = None,
    in_memory: bool | None = None,
    names: Mapping[Any, str] | Sequence[str] | None = None,
    groups: Any = None,
    split: Mapping[str, Iterable[Any]] | None = None,
    dark_ink: bool | None = None,
    name: str | None = None,
    progress: bool = False,
) -> ClassIndexed:
    """A data set from one with `len(dataset)` and `dataset[i]`.

    For instance any map-style `torch.utils.data.Dataset`, torchvision's data sets and image
    folders, and Hugging Face's.  An item is a pair of input and label (further entries are left
    out), a dict (see `inputs`), or, where `labels` are given, the input alone.  Inputs are
    arrays, tensors, numbers or PIL pictures, all of one shape; pictures become `uint8`
    `[C, H, W]`, as bytes `[H, W]` and `[H, W, C]` do, all else is as for `from_arrays`.

    Args:
        dataset: the data set; item i must be the same each time, so leave random transforms
            out: samplers have `augment` for them.
        labels: `[M]`, one label an item, or the name of the column that has them; None for
            those of the data set: its `targets` or `labels`, its column of that name, or else
            the second entry of each item.
        inputs: where items are dicts, the key of the input; None if there is only one beside
            the label.
        transform: a function of each input, for instance to cut a recording to one length.
        image_size: height and width in pixels to scale PIL pictures to.
        in_memory: True reads all items now; False reads them when an episode needs them; None:
            they are read now if they take at most a quarter of the free memory.  Episodes are
            the same.
        names: see `from_arrays`; None for the data set's own names of its classes.
        groups: see `from_arrays`.
        split: see `from_arrays`.
        dark_ink: see `from_arrays`.
        name: short name, for results; None for that of the data set's class.
        progress: show progress on standard error while items are read.

    Raises:
        UserError: items cannot be read, are not numbers of one shape, or change from one
            reading to the next; labels that do not fit; fewer than two classes.  Of items that are
            read when an episode needs them, only a few are looked at before that; so a label that
            is not the data set's `targets` may be an error of the episode.

    Example:
        >>> import torch
        >>> x, y = torch.randn(60, 3, 40), torch.arange(60) % 6  # 60 series, 6 classes
        >>> data = from_dataset(torch.utils.data.TensorDataset(x, y))
        >>> data.num_classes, data.example_shape
        (6, (3, 40))
    """
    side_of_image(image_size=image_size)
    number = _length(dataset)
    items = _Items(dataset, _label_key(dataset, labels), inputs, transform, image_size)
    first = items(0)
    _check_repeatable(items, number)
    given = _labels(dataset, items, labels, number)
    nbytes = number * first.nbytes
    if in_memory is None:
        in_memory = nbytes <= _free_memory() // 4

    array = np.empty((number, *first.shape), first.dtype) if in_memory else None
    if array is not None or given is None:
        found: list[Any] = []
        title = f"read {name or type(dataset).__name__}"
        with progress_bar(title, number, shown=progress) as advance:
            for i in range(number):
                item = items.item(i)
                if array is not None:
                    array[i] = items.checked(item, i, first)
                if given is None or (labels is None and items.is_pair(item)):
                    found.append(items.label(item, i))
                advance(1)
        # The items say what counts, where all are read; see `_labels`.
        given = label_array(found) if len(found) == number else given
    assert given is not None
    grouping = group(given, number)
    names = _names(dataset, items.label_key, given) if names is None else names
    details = Details(names, groups, split, dark_ink, name or type(dataset).__name__)
    pixels = items.gives_pictures or items.bytes_are_pictures
    if array is not None:
        return from_one_array(array, grouping, details, pixels=pixels)
    if not pixels:
        warn_of_range(first[None], details)
    examples = RowExamples(items, first.shape, first.dtype, grouping.order, "dataset[{}]")
    return assembled(examples, grouping, details, pixels=pixels)


class _Items:
    """The inputs of a data set, by number, as arrays."""

    def __init__(
        self,
        dataset: Any,
        label_key: str | None,
        inputs: str | None,
        transform: Callable[[Any], Any] | None,
        image_size: int | None,
    ) -> None:
        self._dataset, self._transform, self._image_size = dataset, transform, image_size
        self.label_key, self._key = label_key, inputs
        self.gives_pictures = self.bytes_are_pictures = False
        # What the data set says of all labels, if it is taken at its word; see `_labels`.
        self.kept_labels: np.ndarray | None = None
        item = self.item(0)
        self._is_dict = isinstance(item, Mapping)
        if self._is_dict and inputs is None:
            others = [key for key in item if key != self.label_key]
            if len(others) != 1:
                raise UserError(
                    f"items have the keys {', '.join(map(repr, item))}: say with inputs= which "
                    "is the input, and with labels= which the label"
                )
            self._key = others[0]
        if inputs is not None and (not self._is_dict or inputs not in item):
            keys = f"the keys {', '.join(map(repr, item))}" if self._is_dict else "no keys"
            raise UserError(f"inputs is {inputs!r}, but items have {keys}")
        first, self.gives_pictures = self._read(item, 0)
        self.bytes_are_pictures = not self.gives_pictures and _are_pictures(first)

    def item(self, i: int) -> Any:
        """`dataset[i]`; any error of it is a `UserError` that names i."""
        try:
            return self._dataset[i]
        except Exception as error:
            # It is other people's code, which raises whatever it likes.
            raise UserError(f"dataset[{i}] fails: {type(error).__name__}: {error}") from error

    @staticmethod
    def is_pair(item: Any) -> bool:
        """True for an input with its label."""
        return isinstance(item, (tuple, list)) and len(item) > 1

    def __call__(self, i: int) -> np.ndarray:
        item = self.item(i)
        if self.kept_labels is not None and not self.agrees(item, i, self.kept_labels):
            raise UserError(
                f"dataset[{i}] has the label {self.label(item, i)!r}, where the data set says "
                f"{self.kept_labels[i].item()!r} in what it keeps beside its items: "
                "in_memory=True takes those of all items, labels= any others"
            )
        return self._read(item, i)[0]

    def agrees(self, item: Any, i: int, labels: np.ndarray) -> bool:
        """Whether an item has the label that all labels say, or none of its own."""
        return not self.is_pair(item) or bool(self.label(item, i) == labels[i].item())

    def checked(self, item: Any, i: int, first: np.ndarray) -> np.ndarray:
        """The input of `item`, of the shape of `first`."""
        return checked_row(self._read(item, i)[0], first.shape, first.dtype, f"dataset[{i}]")

    def label(self, item: Any, i: int) -> Any:
        """The label of an item."""
        if isinstance(item, Mapping):
            if self.label_key is None or self.label_key not in item:
                raise UserError(
                    f"items have the keys {', '.join(map(repr, item))}: say with labels= which is "
                    "the label"
                )
            label = item[self.label_key]
        elif self.is_pair(item):
            label = item[1]
        else:
            raise UserError(f"dataset[{i}] has no label beside its input: give labels=")
        # As one number, or an array with nothing else in it (MedMNIST).
        if hasattr(label, "item") and math.prod(getattr(label, "shape", (0,))) == 1:
            return label.item()
        if hasattr(label, "__len__") and not isinstance(label, (str, bytes)):
            raise UserError(f"the label of dataset[{i}] is {label!r}, not one class: give labels=")
        return label

    def _read(self, item: Any, i: int) -> tuple[np.ndarray, bool]:
        """The input of an item, and whether it was a picture."""
        what = f"dataset[{i}]"
        if isinstance(item, Mapping) != self._is_dict or (self._is_dict and self._key not in item):
            raise UserError(
                f"{what} is {_described(item)}, and dataset[0] is not: give all items one form"
            )
        if isinstance(item, (tuple, list)) and not item:
            raise UserError(f"{what} is empty: an item is an input, or a pair of input and label")
        if self._is_dict:
            x = item[self._key]
        else:
            x = item[0] if isinstance(item, (tuple, list)) else item
        if self._transform is not None:
            try:
                x = self._transform(x)
            except Exception as error:
                raise UserError(f"transform fails on the input of {what}: {error}") from error
        if isinstance(x, Image.Image):
            size = None if self._image_size is None else (self._image_size, self._image_size)
            return picture_pixels(x, what, size), True
        if self._image_size is not None:
            raise UserError(f"image_size is for PIL pictures, but {what} is {type(x).__name__}")
        found = np.atleast_1d(as_array(x, f"the input of {what}"))
        # What is no such picture is refused as another shape.
        if self.bytes_are_pictures and found.ndim in (2, 3):
            found = channels_first(found[None], "an item")[0]
        return found, False


def _are_pictures(x: np.ndarray) -> bool:
    """True for bytes `[H, W]`, `[C, H, W]` or `[H, W, C]`, which `from_arrays` takes for images."""
    if x.dtype != np.uint8 or x.ndim not in (2, 3):
        return False
    first, last = (x.ndim == 3 and x.shape[axis] in (1, 3) for axis in (0, 2))
    if first and last:
        raise UserError(
            f"items are bytes of shape {list(x.shape)}, of which the first or the last axis could "
            "be the channels: give transform=PIL.Image.fromarray for [H, W, C], or a transform "
            "that scales them to floats"
        )
    return x.ndim == 2 or first or last


def _described(item: Any) -> str:
    if isinstance(item, Mapping):
        return f"a dict of {', '.join(map(repr, item)) or 'nothing'}"
    return f"no dict but {type(item).__name__}"


def _length(dataset: Any) -> int:
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise UserError(
            f"{type(dataset).__name__} has no items by number: give a map-style data set, with "
            "len(dataset) and dataset[i], or list(dataset) of one that is only iterated over"
        )
    if isinstance(dataset, Mapping):
        raise UserError(
            f"these are several data sets by name: give one of {', '.join(map(str, dataset))}"
        )
    try:
        number = len(dataset)
    except TypeError as error:
        raise UserError(f"{type(dataset).__name__} has no length: {error}") from error
    if number == 0:
        raise UserError("the data set is empty")
    return number


def _check_repeatable(items: _Items, number: int) -> None:
    """Raise a `UserError` if an item differs when it is read again."""
    for i in evenly_spread(number, _CHECKED).tolist():
        if not np.array_equal(items(i), items(i), equal_nan=False) and np.isfinite(items(i)).all():
            raise UserError(
                f"dataset[{i}] differs each time it is read, so episodes could not be repeated: "
                "leave out its random transforms, and give augment= to the sampler"
            )


def _label_key(dataset: Any, labels: Any) -> str | None:
    """The column of labels, where there are columns."""
    if isinstance(labels, str):
        return labels
    features = getattr(dataset, "features", None)
    columns = list(features) if isinstance(features, Mapping) else []
    if not columns:
        first = dataset[0] if labels is None and not _has_attribute(dataset) else None
        columns = list(first) if isinstance(first, Mapping) else []
    found = [name for name in _COLUMNS if name in columns]
    if not found and isinstance(features, Mapping):
        found = [name for name, feature in features.items() if hasattr(feature, "names")]
    return found[0] if len(found) == 1 else None


def _has_attribute(dataset: Any) -> bool:
    return any(getattr(dataset, name, None) is not None for name in _ATTRIBUTES)


def _labels(dataset: Any, items: _Items, labels: Any, number: int) -> np.ndarray | None:
    """The labels of all items; None where only the items have them."""
    if labels is not None and not isinstance(labels, str):
        return label_array(labels)
    if items.label_key is not None and isinstance(getattr(dataset, "features", None), Mapping):
        if items.label_key not in dataset.features:
            raise UserError(
                f"there is no column {items.label_key!r}, but {', '.join(dataset.features)}"
            )
        return label_array(list(dataset[items.label_key]))
    found = None if isinstance(labels, str) else _kept_labels(dataset)
    if found is None or len(found) != number:
        return None
    # A short cut, as long as it says what the items say: with target_transform it does not.
    for i in evenly_spread(number, _CHECKED).tolist():
        if not items.agrees(items.item(i), i, found):
            return None
    # The others are compared as they are read.
    items.kept_labels = found
    return found


def _kept_labels(dataset: Any) -> np.ndarray | None:
    """Labels that a data set keeps beside its items."""
    if hasattr(dataset, "indices") and hasattr(dataset, "dataset"):  # torch's Subset
        whole = _kept_labels(dataset.dataset)
        return None if whole is None else whole[np.asarray(dataset.indices, dtype=np.int64)]
    if isinstance(getattr(dataset, "datasets", None), (list, tuple)):  # torch's ConcatDataset
        parts = [_kept_labels(part) for part in dataset.datasets]
        there = [part for part in parts if part is not None]
        return np.concatenate(there) if there and len(there) == len(parts) else None
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple) and len(tensors) == 2:  # torch's TensorDataset
        kept = [tensors[1]]
    else:
        kept = [getattr(dataset, name, None) for name in _ATTRIBUTES]
    for labels in kept:
        if isinstance(labels, (list, tuple, np.ndarray)) or hasattr(labels, "detach"):
            try:
                return label_array(labels)
            except UserError:
                continue  # It is something else by that name: the items say what counts.
    return None


def _names(dataset: Any, key: str | None, labels: np.ndarray) -> Sequence[str] | None:
    """The names that a data set gives its classes; None if it has none for these labels."""
    while hasattr(dataset, "indices") and hasattr(dataset, "dataset"):
        dataset = dataset.dataset
    features = getattr(dataset, "features", None)
    if isinstance(features, Mapping):
        names = getattr(features.get(key), "names", None)
    else:
        names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or len(set(map(str, names))) != len(names):
        return None
    if labels.dtype.kind not in "iu" or not 0 <= labels.min() <= labels.max() < len(names):
        return None
    return [str(name) for name in names]


def _free_memory() -> int:
    """Bytes; 4 GiB where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return 2**32
