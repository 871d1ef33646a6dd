"""Heads that are solved: class means, ridge regression, logistic regression."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from innerloop.heads.prepared import means, unit


class Stages(NamedTuple):
    """Linear maps from what heads see to logits: of each stage of learning, the last counts.

    Attributes:
        weights: `[D, N]` each.
        biases: `[N]` each.
    """

    weights: list[np.ndarray]
    biases: list[np.ndarray]

    def __call__(self, x: np.ndarray) -> list[np.ndarray]:
        """Logits `[m, N]` of `[m, D]`, of each stage."""
        return [x @ w + b for w, b in zip(self.weights, self.biases, strict=True)]


# Factors that make a temperature of 1 about right; all were chosen on emoji of other classes than
# those that results are reported on.
COSINE_SCALE, RIDGE_SCALE, LOGISTIC_SCALE = 30.0, 12.0, 2.5
# Penalties, for features of unit length.
RIDGE_ALPHA, LOGISTIC_C = 0.1, 100.0


def cosine(x: np.ndarray, labels: np.ndarray, n_way: int) -> Stages:
    """The cosine to the mean of each class.

    Args:
        x: `[n, D]`, of unit length, as for all heads.
        labels: `[n]`, 0..`n_way` - 1; each class at least once.
        n_way: N.
    """
    centres = unit(means(x, labels, n_way))
    return Stages([COSINE_SCALE * centres.T], [np.zeros(n_way)])


def ridge(x: np.ndarray, labels: np.ndarray, n_way: int) -> Stages:
    """Least squares on 1 for the own class and 0 for others; every class weighs the same."""
    fitted = Ridge(alpha=RIDGE_ALPHA).fit(x, np.eye(n_way)[labels], class_weights(labels, n_way))
    return Stages([RIDGE_SCALE * fitted.coef_.T], [RIDGE_SCALE * (fitted.intercept_ - 1 / n_way)])


def logistic(x: np.ndarray, labels: np.ndarray, n_way: int) -> Stages:
    """Softmax regression; every class weighs the same."""
    fitted = LogisticRegression(C=LOGISTIC_C, tol=1e-3, max_iter=500)
    fitted.fit(x, labels, class_weights(labels, n_way))
    weight, bias = fitted.coef_.T, fitted.intercept_
    if len(bias) == 1:  # of two classes, the logit of the second alone
        weight, bias = (np.concatenate([-t, t], axis=-1) / 2 for t in (weight, bias))
    return Stages([LOGISTIC_SCALE * weight], [LOGISTIC_SCALE * bias])


def class_weights(labels: np.ndarray, n_way: int) -> np.ndarray:
    """One weight a picture, 1 on average, the same sum for each class."""
    counts = np.bincount(labels, minlength=n_way)
    found: np.ndarray = len(labels) / (n_way * counts[labels])
    return found
