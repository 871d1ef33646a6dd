"""Classes that look the same once their drawings are cropped, such as bars high and low."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from innerloop.data.remarks import some

# Standard deviation of the blur, as a share of a picture: hands differ by about so much.
BLUR = 1.5 / 28
# Correlation up to which two classes differ as they are; above which they are alike once prepared,
# if that meets most classes; and above which they are the same.  In 20-way tasks of the ten sets of
# `benchmarks.elsewhere`, no two classes are the same, and 2% of the tasks have two that are alike.
DIFFERENT, ALIKE, SAME = 0.0, 0.9, 0.95


def likeness(
    given: np.ndarray, prepared: np.ndarray, labels: np.ndarray, different: float = DIFFERENT
) -> np.ndarray:
    """How alike preparation makes classes that differ as they are.

    Classes are compared by the mean of their pictures, blurred.

    Args:
        given: the support set as it is, bytes `[n, 1, H, W]`.
        prepared: the same, prepared.
        labels: `[n]`, from 0 to N - 1.
        different: correlation up to which two classes differ as they are.

    Returns:
        `[N, N]`, the correlation of each two classes once prepared; -1 for those that are alike
        as they are.
    """
    before, after = (_correlation(images, labels) for images in (given, prepared))
    found: np.ndarray = np.where(before < different, after, -1)
    return found


def most_are_alike(likeness: np.ndarray, alike: float = ALIKE) -> bool:
    """Whether preparation makes most classes like others: `likeness` is above `alike`."""
    return 2 * int((likeness > alike).any(axis=1).sum()) > len(likeness)


def warn_of_same_drawings(
    likeness: np.ndarray, classes: Sequence[object], stacklevel: int = 1
) -> None:
    """Warn of classes that preparation makes the same.

    Args:
        likeness: `[N, N]`, see there.
        classes: the name of each.
    """
    same = np.asarray((likeness > SAME).any(axis=1))
    if same.any():
        names = some([str(name) for name, is_one in zip(classes, same, strict=True) if is_one])
        warnings.warn(
            f"{same.sum()} of the {len(classes)} classes ({names}) look like one another once each "
            "drawing is cropped and centred, though not as they are: their queries are guessed; "
            "prepare='none' keeps place and size",
            stacklevel=stacklevel + 1,
        )


def _correlation(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of the classes' mean pictures, `[N, N]`; 0 for those of one brightness."""
    of_class = np.eye(labels.max() + 1)[labels]
    means = np.tensordot(of_class.T, images[:, 0].astype(np.float64), 1)
    means /= of_class.sum(axis=0)[:, None, None]
    sigma = BLUR * images.shape[-1]
    x = ndimage.gaussian_filter(means, (0, sigma, sigma)).reshape(len(means), -1)
    x -= x.mean(axis=1, keepdims=True)
    x /= np.linalg.norm(x, axis=1, keepdims=True).clip(min=1)
    found: np.ndarray = x @ x.T
    return found
