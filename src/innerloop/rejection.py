"""Rejection of pictures of none of the classes: familiarity and its threshold."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from scipy import stats

from innerloop.errors import UserError, share_inside
from innerloop.heads.prepared import means, unit

__all__ = ["Familiarity", "Threshold", "threshold"]


def contrast(similarities: np.ndarray) -> np.ndarray:
    """The largest of each row of `[m, N]`, less half the mean of the others: `[m]`."""
    best = similarities.max(axis=1)
    others = (similarities.sum(axis=1) - best) / (similarities.shape[1] - 1)
    found: np.ndarray = best - others / 2
    return found


def margin(logits: np.ndarray) -> np.ndarray:
    """How far the largest of each row of `[m, N]` is above the second: `[m]`."""
    second, best = np.sort(logits, axis=1)[:, -2:].T
    found: np.ndarray = best - second
    return found


class Familiarity:
    """How similar features are to the nearest class, a number without a unit.

    The cosine to the nearest class mean, less half the mean cosine to the other means.  Of features
    that a background has whitened, it is the cosine to the nearest class mean alone.

    Args:
        x: features of the support set, of unit length, `[n, F]`.
        labels: `[n]`, 0..N-1.
        n_way: N.
        whitened: a background has whitened them, see `innerloop.heads.Prepared`.
    """

    def __init__(
        self, x: np.ndarray, labels: np.ndarray, n_way: int, whitened: bool = False
    ) -> None:
        self._means, self._whitened = unit(means(x, labels, n_way)), whitened

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """`[m]`, of features of unit length `[m, F]`."""
        cosines = x @ self._means.T
        if not self._whitened:
            return contrast(cosines)
        found: np.ndarray = cosines.max(axis=1)
        return found


class NothingToGoBy(UserError):
    """No class has two different pictures, so that nobody knows how unlike they are."""


@dataclass(frozen=True)
class Threshold:
    """The familiarity threshold below which a picture is refused.

    Attributes:
        value: refused is what is less familiar than this.
        promised: the share holds for any distribution; else only if familiarity is normally
            distributed, as there were too few pictures.
        needed: pictures that would be needed for the promise.
        pictures: pictures that there were.
    """

    value: float
    promised: bool
    needed: int
    pictures: int

    def warn_of_estimate(self, reject: float, stacklevel: int = 1) -> None:
        """Warn if the share `reject` is not promised."""
        if not self.promised:
            warnings.warn(
                f"the threshold is an estimate: to promise that at most {100 * reject:g}% of "
                f"pictures of the classes are refused takes {self.needed} pictures from classes "
                f"with two or more, and there are {self.pictures}",
                stacklevel=stacklevel + 1,
            )


def threshold(left_out: np.ndarray, reject: float) -> Threshold:
    """The familiarity below which at most a share of pictures of the classes is refused.

    With m pictures of the support set, each told by what was learnt without it, and α = `reject`,
    the threshold is the k-th smallest familiarity, k = ⌊α (m + 1)⌋: a further picture of the same
    kind is among the k - 1 smaller ones or below them with a probability of at most
    k / (m + 1) ≤ α (split conformal prediction; Vovk, Gammerman, Shafer 2005).  Where k would be 0,
    it is the lower prediction bound of a normal distribution, mean - t s √(1 + 1/m).

    Args:
        left_out: `[m]`, familiarity of pictures of the support set that were left out.
        reject: α, above 0 and below 1.

    Raises:
        UserError: `reject` out of range.
        NothingToGoBy: fewer than two pictures.
    """
    share_inside(reject=reject)
    m = len(left_out)
    if m < 2:
        raise NothingToGoBy(
            "reject needs classes with two different pictures or more, to see how unlike each "
            "other pictures of one class are: give more pictures, or leave reject out"
        )
    needed = int(np.ceil(1 / reject - 1e-9)) - 1
    k = int(np.floor(reject * (m + 1) + 1e-9))
    if k:
        return Threshold(float(np.sort(left_out)[k - 1]), True, needed, m)
    spread = float(np.std(left_out, ddof=1)) * np.sqrt(1 + 1 / m)
    value = float(np.mean(left_out) + stats.t.ppf(reject, m - 1) * spread)
    return Threshold(value, False, needed, m)
