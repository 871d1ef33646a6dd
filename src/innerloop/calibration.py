"""Calibration error of probabilities, and the temperature that calibrates them."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from innerloop.errors import UserError, at_least

__all__ = ["expected_calibration_error", "fit_temperature"]


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error: the mean gap between confidence and accuracy.

    Predictions are put into bins by the probability of the predicted class; the error is
    the mean over predictions of |accuracy - mean probability| of their bin.

    Guo, Pleiss, Sun, Weinberger 2017, "On Calibration of Modern Neural Networks", Eq. 3.

    Args:
        probabilities: `[B, N]`, rows that sum to one.
        labels: `[B]`, 0..N-1.
        bins: of equal width, at least 1.

    Returns:
        0 (perfectly calibrated) to 1.

    Raises:
        UserError: `bins` is too small, or there are no predictions.
    """
    at_least(1, bins=bins)
    if len(labels) == 0:
        raise UserError("an error needs at least one prediction")
    confidence, predicted = probabilities.double().max(dim=1)
    right = (predicted == labels).double()
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = confidence.new_zeros(bins).index_add(0, which, right - confidence)
    return (gaps.abs().sum() / len(labels)).item()


# Standard deviation of the natural logarithm of a temperature about its prior.
PRIOR_SPREAD = 0.3


def fit_temperature(logits: Tensor, labels: Tensor, *, prior: float | None = None) -> float:
    """The temperature T for which softmax(logits / T) has the lowest cross-entropy.

    T does not change which class is predicted.  Guo et al. 2017, section 4.2.

    Args:
        logits: `[B, N]`, of validation tasks, not of those that are scored afterwards.
        labels: `[B]`, 0..N-1.
        prior: T where little is known. Its logarithm then counts as normally distributed about
            that of `prior`, with a deviation of 0.3, so that a few predictions, all right, do not
            make T tiny. None where there are many predictions.

    Returns:
        0.05..20.
    """
    from scipy.optimize import minimize_scalar

    logits = logits.double()

    def loss(log_temperature: float) -> float:
        fit = F.cross_entropy(logits / math.exp(log_temperature), labels).item()
        if prior is None:
            return fit
        return fit + ((log_temperature - math.log(prior)) / PRIOR_SPREAD) ** 2 / (2 * len(labels))

    found = minimize_scalar(loss, bounds=(math.log(0.05), math.log(20)), method="bounded")
    return math.exp(found.x)
