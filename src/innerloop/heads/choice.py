"""Fit a head, or choose the best by cross-validation on the support set."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from innerloop.calibration import fit_temperature
from innerloop.errors import UserError, one_of
from innerloop.heads.inner_loop import inner_loop
from innerloop.heads.left_out import folds
from innerloop.heads.linear import Stages, cosine, logistic, ridge
from innerloop.heads.prepared import Prepared
from innerloop.rejection import Familiarity

Head = Callable[[np.ndarray, np.ndarray, int], Stages]
HEADS: dict[str, Head] = {
    "ridge": ridge,
    "cosine": cosine,
    "logistic": logistic,
    "inner_loop": inner_loop,
}
AUTO = "auto"
# What it compares.  The inner loop is left out: it takes longer than the others together, and was
# never better than logistic regression, which minimises the same loss.
COMPARED = ("ridge", "cosine", "logistic")
# Temperatures of heads on whitened features that are far from 1; chosen as the heads' scales.
WHITENED = {"cosine": 1.7}
# Temperatures of heads where each class has one picture, so that none can be fitted.
SINGLE = {"ridge": 0.7, "logistic": 0.7}
# Another head has to be better than the first by this many standard errors, and by so many nats:
# where both are right about all that was left out, smaller differences mean nothing.
SURE, GAIN = 2.0, 0.05


class FittedHead:
    """A head that has learnt a support set.

    Attributes:
        name: of `HEADS`.
        temperature: divides the logits, so that probabilities can be trusted.
        compared: with `head="auto"`, the cross-entropy of each head on left-out pictures, in nats;
            empty where each class has one picture.
    """

    def __init__(
        self,
        name: str,
        prepared: Prepared,
        stages: Stages,
        temperature: float,
        compared: dict[str, float],
        familiarity: Familiarity,
        left_out_familiarity: np.ndarray,
    ) -> None:
        self.name, self.temperature, self.compared = name, temperature, compared
        self._prepared, self._stages = prepared, stages
        self._familiarity, self._left_out = familiarity, left_out_familiarity

    def stages(self, features: Any) -> list[np.ndarray]:
        """Logits `[m, N]` of features `[m, F]`; for `inner_loop` before and after each step."""
        return self._stages(self._prepared.coordinates(self._prepared.unit(features)))

    def probabilities(self, features: Any) -> np.ndarray:
        """`[m, N]`, of features `[m, F]`."""
        logits = torch.from_numpy(self.stages(features)[-1])
        found: np.ndarray = (logits / self.temperature).softmax(dim=1).numpy()
        return found

    def familiarity(self, features: Any) -> np.ndarray:
        """How familiar features `[m, F]` are, `[m]`: see `innerloop.rejection.Familiarity`."""
        return self._familiarity(self._prepared.unit(features))

    def left_out_familiarity(self) -> np.ndarray:
        """The familiarity of support pictures, by heads that were fitted without them."""
        return self._left_out


def fit_head(
    features: Any,
    labels: Any,
    head: str = AUTO,
    *,
    background: Any = None,
    inner_steps: int | None = None,
) -> FittedHead:
    """Learn to tell classes apart by features.

    Every class weighs the same, however many pictures it has.  With `"auto"`, each fold of the
    support set is told by ridge, cosine and logistic heads that have learnt the others; ridge
    regression is taken unless the cross-entropy of another is lower by more than 0.05 nats and two
    standard errors of the difference.  Where each class has one picture, nothing can be left out,
    and it is ridge regression: the best on average where we measured.

    Args:
        features: `[n, F]`, of a frozen body.
        labels: `[n]`, 0..N-1, each at least once; N at least 2.
        head: `"ridge"`, `"cosine"`, `"logistic"`, `"inner_loop"`, or `"auto"`.
        background: features `[b, F]` of pictures of none of the classes, by which features are
            whitened, see `Prepared`; None for none.
        inner_steps: of `"inner_loop"`; None for 20.

    Raises:
        UserError: features that are not finite, labels that skip a class, or no such head.
    """
    one_of([AUTO, *HEADS], head=head)
    prepared = Prepared(features, background)
    y = np.asarray(labels)
    counts = np.bincount(y) if y.dtype.kind in "iu" and y.size and y.min() >= 0 else np.zeros(1)
    if len(y) != len(prepared.support) or len(counts) < 2 or not counts.all():
        raise UserError(
            "labels must be one whole number from 0 a picture, two classes or more, without a gap"
        )
    y, n_way = y.astype(np.int64), len(counts)
    whitened = background is not None
    heads: dict[str, Head] = {**HEADS, "inner_loop": partial(inner_loop, steps=inner_steps)}
    names = list(COMPARED) if head == AUTO else [head]

    x = prepared.coordinates(prepared.support)
    parts = folds(prepared.support, y)
    rows = np.concatenate([np.zeros(0, np.int64), *parts])
    logits: dict[str, list[np.ndarray]] = {name: [] for name in names}
    familiar: list[np.ndarray] = []
    for part in parts:
        kept = np.setdiff1d(np.arange(len(y)), part)
        for name in names:
            logits[name].append(heads[name](x[kept], y[kept], n_way)(x[part])[-1])
        without = Familiarity(prepared.support[kept], y[kept], n_way, whitened)
        familiar.append(without(prepared.support[part]))

    priors = (WHITENED if whitened else {}) | (SINGLE if not parts else {})
    temperatures = {name: priors.get(name, 1.0) for name in names}
    losses: dict[str, np.ndarray] = {}
    if parts:
        targets = torch.from_numpy(y[rows])
        for name in names:
            z = torch.from_numpy(np.concatenate(logits[name]))
            temperatures[name] = t = fit_temperature(z, targets, prior=temperatures[name])
            losses[name] = F.cross_entropy(z / t, targets, reduction="none").numpy()
    chosen = _best(losses) if losses else names[0]
    return FittedHead(
        chosen,
        prepared,
        heads[chosen](x, y, n_way),
        temperatures[chosen],
        {name: float(found.mean()) for name, found in losses.items()} if head == AUTO else {},
        Familiarity(prepared.support, y, n_way, whitened),
        np.concatenate([np.zeros(0), *familiar]),
    )


def _best(losses: dict[str, np.ndarray]) -> str:
    """The first head, unless another is clearly better."""
    first = next(iter(losses))
    for name in sorted(losses, key=lambda name: losses[name].mean()):
        gain = losses[first] - losses[name]
        error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.inf
        if gain.mean() > max(GAIN, SURE * error):
            return name
    return first
