"""One picture in two classes of a support set."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from innerloop.data.given import each_picture, names_of
from innerloop.data.remarks import counted, some
from innerloop.data.scaled import Pictures


def warn_of_shared(
    X: Any, seen: np.ndarray, labels: np.ndarray, classes: np.ndarray, stacklevel: int = 1
) -> None:
    """Warn of pictures of the same content with different labels.

    Args:
        X: the pictures: an array, `Pictures`, or a list of paths, of PIL pictures or of arrays.
        seen: what the network makes of each, `[n, ...]`, so that only pictures that are alike in
            it are read again.
        labels: `[n]`, 0..N-1.
        classes: the name of each class, `[N]`.
    """
    names = X.names if isinstance(X, Pictures) else names_of(X)
    pairs = []
    for alike in _groups(range(len(seen)), lambda n: seen[n].tobytes()):
        if len(set(labels[alike])) == 1:
            continue
        for same in _groups(alike, lambda n: _digest(X, n)):
            first = same[0]
            for other in same[1:]:
                if labels[other] != labels[first]:
                    both = (f"{names[n]} ({classes[labels[n]]})" for n in (first, other))
                    pairs.append(" and ".join(both))
    if pairs:
        warnings.warn(
            f"{counted(len(pairs), 'picture')} that another class has, so that one of the labels "
            f"is wrong, or the classes cannot be told apart by it: {some(pairs)}",
            stacklevel=stacklevel + 1,
        )


def _groups(numbers: Iterable[int], content: Callable[[int], bytes]) -> Iterator[list[int]]:
    """Numbers of pictures of one content; only where there are several."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for number in numbers:
        found[hashlib.sha256(content(number)).digest()].append(number)
    return (group for group in found.values() if len(group) > 1)


def _digest(X: Any, number: int) -> bytes:
    """Of all that was given of a picture."""
    if isinstance(X, Pictures):
        return X.digests[number]
    if isinstance(X, np.ndarray) and X.dtype.kind not in "OU":
        return np.asarray(X[number]).tobytes()
    return next(each_picture([X[number]])).digest
