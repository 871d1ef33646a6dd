"""Grouping examples by their labels."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from innerloop.data.examples import array_of_tensor, without_mask
from innerloop.data.splits import PARTS
from innerloop.errors import UserError

_AS_TEXT = "[str(label) for label in labels]"


@dataclass(frozen=True)
class Grouping:
    """Which examples belong to which class.

    Attributes:
        values: the label of each class, sorted.
        order: `int64` `[M]`, the examples sorted by class, within a class as they came.
        counts: `int64` `[classes]`.
        class_of: `int64` `[M]`, the class of each example.
    """

    values: list[Any]
    order: np.ndarray
    counts: np.ndarray
    class_of: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """`int64` `[classes]`, where each class begins in `order`."""
        starts: np.ndarray = np.cumsum(self.counts) - self.counts
        return starts


def label_array(labels: Any) -> np.ndarray:
    """Labels of classes as one array `[M]` of integers or strings.

    Args:
        labels: one label an example: a list, an array, a tensor, a column of a data frame.

    Raises:
        UserError: they are not labels of classes.
    """
    labels = without_mask(labels, "labels")
    if hasattr(labels, "detach"):
        labels = array_of_tensor(labels, "labels")
    elif hasattr(labels, "to_numpy"):
        labels = labels.to_numpy()
    # What a dict or a set gives one by one are its keys, in an order of its own.
    unordered = isinstance(labels, str | bytes | Mapping | Set)
    if unordered or not hasattr(labels, "__iter__"):
        raise UserError(
            f"labels must be one for each example, [M], not {type(labels).__name__}: give a list "
            "of them in the order of the examples"
        )
    if not isinstance(labels, np.ndarray):
        labels = of_one_kind(list(labels))
        try:
            labels = np.asarray(labels)
        except ValueError:
            labels = np.zeros((len(labels), 2))  # ragged: refused below
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise UserError(
            f"labels must be one for each example, [M], not of shape {list(labels.shape)}: "
            "labels.argmax(1) turns one-hot rows into labels"
        )
    if labels.dtype.kind == "O":
        labels = np.array(of_one_kind(labels.tolist()))
        if labels.dtype.kind == "O":
            raise UserError(f"a label is an integer of more than 64 bits: give text, {_AS_TEXT}")
    if labels.dtype.kind == "f":
        whole = np.isfinite(labels) & (labels == np.round(labels))
        if not whole.all():
            first = int((~whole).argmax())
            raise UserError(
                f"labels must name classes, but label {first} is {labels[first]}: give integers "
                "or strings (a task of regression is not made from classes)"
            )
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "biuUS":
        raise UserError(f"labels must be integers or strings, not {labels.dtype}")
    checked: np.ndarray = labels
    return checked


def of_one_kind(labels: Sequence[Any]) -> list[Any]:
    """Labels as integers, real numbers, truths, texts or bytes of Python's own.

    Raises:
        UserError: some are missing, are of different kinds, or of none of these.
    """
    require_labels(labels)
    found = [_own(label) for label in labels]
    other = next((label for label in found if _kind(label) is None), None)
    if other is not None:
        raise UserError(
            f"a label is {type(other).__name__}, and labels name classes: give integers or text, "
            f"such as {_way_to_text(other)}"
        )
    kinds = {_kind(label): type(label).__name__ for label in found}
    if len(kinds) > 1:
        types = ", ".join(sorted(kinds.values()))
        raise UserError(
            f"labels are of several types, such as numbers and strings ({types}): use one type"
        )
    return found


def _own(label: Any) -> Any:
    """A member of an enumeration of texts or integers as that: an array cuts its name instead."""
    if isinstance(label, enum.Enum) and isinstance(label, str | bytes | int):
        return label.value
    # An array or a tensor of no axes.
    alone = getattr(label, "ndim", None) == 0 and not isinstance(label, np.generic)
    return label.item() if alone and hasattr(label, "item") else label


def _way_to_text(label: Any) -> str:
    if isinstance(label, enum.Enum):
        return "[label.name for label in labels]"
    return _AS_TEXT


def require_labels(labels: Sequence[Any] | np.ndarray) -> None:
    """Raise a `UserError` where some labels are missing: None, NaN, NaT, or NA of a table."""
    missing = sum(map(is_missing, labels))
    if missing:
        raise UserError(
            f"{missing} of the {len(labels)} labels are missing: leave those examples out"
        )


def is_missing(value: Any) -> bool:
    """True of None, of what differs from itself (NaN, NaT), and of what is neither (NA)."""
    try:
        return value is None or bool(value != value)
    except TypeError:
        # A table's NA is neither the same as itself nor another.
        return True


def _kind(label: Any) -> str | None:
    """Which labels it goes with; None for what is no label."""
    if isinstance(label, str | bytes):
        return "string" if isinstance(label, str) else "bytes"
    # True among numbers is 1, another class's label perhaps.
    if isinstance(label, bool | np.bool_):
        return "bool"
    return "number" if isinstance(label, int | float | np.integer | np.floating) else None


def group(labels: np.ndarray, number: int) -> Grouping:
    """Sort `number` examples by their labels.

    Args:
        labels: `[M]`, of `label_array`.
        number: M.

    Raises:
        UserError: another number of labels than of examples, or only one class.
    """
    if len(labels) != number:
        raise UserError(
            f"there are {len(labels):,} labels for {number:,} examples: give one for each"
        )
    values, class_of = np.unique(labels, return_inverse=True)
    if len(values) < 2:
        found = (
            f"all {number:,} have the label {values[0].item()!r}" if number else "there are none"
        )
        raise UserError(f"tasks need examples of at least two classes, but {found}")
    class_of = class_of.reshape(-1).astype(np.int64)
    return Grouping(
        values.tolist(),
        np.argsort(class_of, kind="stable"),
        np.bincount(class_of, minlength=len(values)).astype(np.int64),
        class_of,
    )


def class_names(
    values: Sequence[Any], names: Mapping[Any, str] | Sequence[str] | None
) -> list[str]:
    """A name for each class.

    Args:
        values: the labels.
        names: label to name, or a list in which label i is the index of its name; None for
            the labels themselves.

    Raises:
        UserError: a label without a name.
    """
    found = []
    for value in values:
        if names is None:
            name = value.decode(errors="replace") if isinstance(value, bytes) else value
        elif isinstance(names, Set):
            raise UserError("names is a set, which has no order: give a dict of label to name")
        elif isinstance(names, Mapping):
            if value not in names:
                raise UserError(f"names has no entry for the label {value!r}")
            name = names[value]
        else:
            if not isinstance(value, int) or not 0 <= value < len(names):
                raise UserError(
                    f"names is a list of {len(names)}, and label {value!r} is not an index of it: "
                    "give a dict of label to name"
                )
            name = names[value]
        found.append(str(name))
    return found


def class_groups(groups: Any, grouping: Grouping) -> list[str]:
    """The group of each class, from that of each example.

    Raises:
        UserError: another number of groups than of examples, or a class in two groups.
    """
    if groups is None:
        return []
    if isinstance(groups, Mapping | Set):
        raise UserError(
            f"groups must be one for each example, [M], not {type(groups).__name__}: give a list "
            "of them in the order of the examples"
        )
    each = label_array(groups).astype(str)
    if len(each) != len(grouping.order):
        raise UserError(
            f"there are {len(each):,} groups for {len(grouping.order):,} examples: give one each"
        )
    firsts = each[grouping.order[grouping.starts]]
    wrong = np.flatnonzero(each != firsts[grouping.class_of])
    if len(wrong):
        number = int(grouping.class_of[wrong[0]])
        two = f"{str(firsts[number])!r} and {str(each[wrong[0]])!r}"
        raise UserError(
            f"class {grouping.values[number]!r} has examples in two groups, {two}: all examples "
            "of a class belong to one group"
        )
    return [str(group) for group in firsts]


def given_split(
    split: Mapping[str, Iterable[Any]] | None, values: Sequence[Any]
) -> dict[str, dict[str, np.ndarray]]:
    """The split `"given"`, from the labels of each part; none for None.

    Raises:
        UserError: an unknown part or label, or a label in two parts.
    """
    if split is None:
        return {}
    index = {value: i for i, value in enumerate(values)}
    part_of: dict[Any, str] = {}
    parts: dict[str, list[int]] = {part: [] for part in PARTS}
    for part, labels in split.items():
        if part not in PARTS:
            raise UserError(f"a split has the parts {', '.join(PARTS)}, not {part!r}")
        for label in label_array(list(labels)).tolist():
            if label not in index:
                raise UserError(f"the split's part {part} names {label!r}, which no example has")
            if label in part_of:
                raise UserError(
                    f"the split names {label!r} in {part_of[label]} and in {part}: parts must not "
                    "share classes"
                )
            part_of[label] = part
            parts[part].append(index[label])
    return {"given": {part: np.array(parts[part], dtype=np.int64) for part in PARTS}}
