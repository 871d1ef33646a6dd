"""Predictions for support pictures by heads that were fitted without them."""

from __future__ import annotations

from typing import Any

import numpy as np

# Folds, at most.
MOST = 10


def folds(pictures: Any, labels: np.ndarray, most: int = MOST) -> list[np.ndarray]:
    """The rows of the support set that are left out together, fold by fold.

    Each fold leaves out one picture of each class that has several; of more than `most` pictures,
    more.  The same picture twice counts as one: it would be told by itself.  Which are left out
    together follows from what they are, because a set has no order.

    Args:
        pictures: `[n, ...]`, pixels or features.
        labels: `[n]`, 0..N-1.
        most: folds, at most; 2 or more.

    Returns:
        Disjoint arrays of rows; none where each class has one picture.
    """
    flat = np.asarray(pictures).reshape(len(labels), -1)
    _, which = np.unique(flat, axis=0, return_inverse=True)
    which = which.ravel()
    rank = np.full(len(labels), -1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        # `np.unique` has sorted them by their values.
        different, order = np.unique(which[rows], return_inverse=True)
        if len(different) > 1:
            rank[rows] = order
    count = min(most, int(rank.max(initial=-1)) + 1)
    return [np.flatnonzero((rank >= 0) & (rank % count == fold)) for fold in range(count)]
