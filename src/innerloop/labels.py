"""Labels as people give them to a classifier."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
from sklearn.utils.validation import assert_all_finite, column_or_1d

from innerloop.data.examples import array_of_tensor
from innerloop.data.labels import of_one_kind, require_labels
from innerloop.data.remarks import counted
from innerloop.errors import UserError


def class_labels(y: Any, pictures: int) -> np.ndarray:
    """Labels `[n]` as they were given, one for each of so many pictures, all of one kind.

    Raises:
        UserError: they are not, or name no classes.
        ValueError: what scikit-learn finds wrong with them.
    """
    if (
        y is None
        or isinstance(y, str | bytes | dict)
        or not any(hasattr(y, name) for name in ("__len__", "__array__"))
    ):
        raise UserError(
            "y should be a 1d array or a list, one label for each picture, not "
            f"{'None' if y is None else type(y).__name__}"
        )
    if hasattr(y, "detach"):
        y = array_of_tensor(y, "labels")
    elif hasattr(y, "to_numpy"):
        # scikit-learn makes real numbers of a column of integers that could have missing ones.
        y = y.to_numpy()
    listed = isinstance(y, list | tuple) or (isinstance(y, np.ndarray) and y.dtype.kind == "O")
    if listed and all(np.ndim(label) == 0 for label in y):
        plain = of_one_kind(list(y))
        y = plain if isinstance(y, list | tuple) else y
    labels: np.ndarray = column_or_1d(y, warn=True)
    for label in labels if labels.dtype.kind == "O" else ():
        if not isinstance(label, Hashable):
            raise UserError(
                f"a label is {type(label).__name__}, and labels name classes: give integers or text"
            )
    if len(labels) != pictures:
        raise UserError(
            f"X has {counted(pictures, 'picture')}, but y {counted(len(labels), 'label')}: give "
            "one label for each"
        )
    if labels.dtype.kind in "fmM":
        require_labels(labels)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
        fractions = labels != np.round(labels)
        if fractions.any():
            raise UserError(
                f"Unknown label type: y[{fractions.argmax()}] is {labels[fractions.argmax()]}, and "
                "labels name classes: give integers or text"
            )
    return labels
