"""Prepare the features of a body for heads."""

from __future__ import annotations

from typing import Any

import numpy as np

from innerloop.errors import UserError


class Prepared:
    """Features of unit length, in coordinates of the space that those of the support span.

    Features without negative numbers, as after a ReLU, are replaced by their square roots, which
    lie less skewed (Hu, Gripon, Pateux 2021, "Leveraging the Feature Distribution in Transfer-based
    Few-Shot Learning", section 3.1).  All heads are linear and start at zero, so their weights stay
    in that space: what is computed in it is the same, and takes milliseconds however wide the
    features are.

    With background pictures, features are centred by the mean of the background and whitened by its
    covariance, to which the mean variance is added in every direction: what makes any pictures
    differ counts less than what makes one differ from all others.

    Args:
        support: features `[n, F]`.
        background: features `[b, F]` of pictures of none of the classes; None for none.

    Raises:
        UserError: they are not `[n, F]`, or not finite.
    """

    def __init__(self, support: Any, background: Any = None) -> None:
        x = checked(support)
        self.width = x.shape[1]
        self._root = bool(x.min() >= 0)
        self._whiten: Whitening | None = None
        if background is not None:
            self._whiten = Whitening(self.unit(background))
        self.support = self.unit(x)
        self._basis = np.linalg.qr(self.support.T)[0] if len(x) < self.width else None

    def unit(self, features: Any) -> np.ndarray:
        """Features of unit length `[m, F]`; zeros stay zeros."""
        x = checked(features)
        if x.shape[1] != self.width:
            raise UserError(
                f"features have {x.shape[1]} numbers, but those of the support set have "
                f"{self.width}: take both from the same body"
            )
        found = unit(np.sqrt(x.clip(min=0)) if self._root else x)
        return found if self._whiten is None else unit(self._whiten(found))

    def coordinates(self, features: np.ndarray) -> np.ndarray:
        """What heads see, `[m, D]`, of features of unit length."""
        return features if self._basis is None else features @ self._basis


class Whitening:
    """Features centred and whitened by those of a background, up to a factor.

    Args:
        background: `[b, F]`, of unit length.
    """

    def __init__(self, background: np.ndarray) -> None:
        self._centre = background.mean(axis=0)
        # Of fewer pictures than numbers, the covariance has these axes, and no others.
        _, spread, self._axes = np.linalg.svd(background - self._centre, full_matrices=False)
        variances = spread**2 / len(background)
        # One picture has no variance, and nothing is whitened.
        added = variances.mean() + 1e-12
        self._factors = np.sqrt(added / (variances + added)) - 1

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """`[m, F]`, of features `[m, F]`."""
        x = x - self._centre
        found: np.ndarray = x + (x @ self._axes.T * self._factors) @ self._axes
        return found


def unit(x: np.ndarray) -> np.ndarray:
    """Rows of length 1; rows of zeros stay."""
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    found: np.ndarray = x / np.where(length == 0, 1.0, length)
    return found


def means(x: np.ndarray, labels: np.ndarray, n_way: int) -> np.ndarray:
    """The mean of each class, `[n_way, D]`."""
    members = np.eye(n_way)[:, labels]
    found: np.ndarray = members @ x / members.sum(axis=1, keepdims=True)
    return found


def checked(features: Any) -> np.ndarray:
    """Features as float64 `[n, F]`, or a `UserError`."""
    x = np.asarray(features, dtype=np.float64)
    if x.ndim != 2 or 0 in x.shape:
        raise UserError(f"features must be [n, F], not of shape {list(x.shape)}")
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(axis=1)))
        raise UserError(
            f"the features of picture {row} are not finite: look at the body's weights, and at the "
            "scale of the pixels that it gets"
        )
    return x
