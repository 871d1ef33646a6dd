"""Fit a head, or choose the best by cross-validation on the support set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn import functional as F

from innerloop.calibration import fit_temperature
from innerloop.errors import UserError, number_of_steps, one_of
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
# Another has to be better than the first by this many standard errors, and by so many nats:
# where both are right about all that was left out, smaller differences mean nothing.
SURE, GAIN = 2.0, 0.05


class Trial(NamedTuple):
    """Pictures that are told by what has learnt others.

    Attributes:
        features: of what is learnt, `[k, F]`.
        labels: `[k]`, 0..N-1, each at least once.
        queries: features of what is told, `[m, F]`, by the same body.
        targets: `[m]`.
        background: features `[b, F]` by this body; None for none.
    """

    features: Any
    labels: np.ndarray
    queries: Any
    targets: np.ndarray
    background: Any = None


class Tried(NamedTuple):
    """The outcome of trials.

    Attributes:
        name: the head that is chosen.
        temperatures: of each head.
        losses: the cross-entropy of each head on what was told, `[m]` in nats; empty without
            trials.
        familiarity: of what was told, `[m]`.
    """

    name: str
    temperatures: dict[str, float]
    losses: dict[str, np.ndarray]
    familiarity: np.ndarray


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
    trials: Sequence[Trial] | None = None,
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
        trials: in place of the folds, by which the head is chosen and calibrated, for a body that
            was trained on the support set and knows too well what is left out; None for the folds.

    Raises:
        UserError: features that are not finite, labels that skip a class, or no such head.
    """
    one_of([AUTO, *HEADS], head=head)
    number_of_steps(inner_steps=inner_steps)
    prepared = Prepared(features, background)
    y = np.asarray(labels)
    counts = np.bincount(y) if y.dtype.kind in "iu" and y.size and y.min() >= 0 else np.zeros(1)
    if len(y) != len(prepared.support) or len(counts) < 2 or not counts.all():
        raise UserError(
            "labels must be one whole number from 0 a picture, two classes or more, without a gap"
        )
    y, n_way = y.astype(np.int64), len(counts)
    x = prepared.support
    if trials is None:
        parts = [(np.setdiff1d(np.arange(len(y)), part), part) for part in folds(features, y)]
        rounds = [_Round(prepared, x[kept], y[kept], x[part], y[part]) for kept, part in parts]
    else:
        rounds = _rounds(trials)
    tried = _try(rounds, n_way, head, inner_steps, whitened=background is not None)
    return FittedHead(
        tried.name,
        prepared,
        _heads(inner_steps)[tried.name](prepared.coordinates(x), y, n_way),
        tried.temperatures[tried.name],
        {n: float(found.mean()) for n, found in tried.losses.items()} if head == AUTO else {},
        Familiarity(x, y, n_way, background is not None),
        tried.familiarity,
    )


def try_heads(
    trials: Sequence[Trial], n_way: int, head: str = AUTO, *, inner_steps: int | None = None
) -> Tried:
    """What each head says in trials, one or more, of which all have a background or none.

    Args:
        trials: each may have features of a body of its own.
        n_way: N.
        head, inner_steps: as for `fit_head`.
    """
    whitened = trials[0].background is not None
    return _try(_rounds(trials), n_way, head, inner_steps, whitened=whitened)


class _Round(NamedTuple):
    """A trial with features of unit length."""

    prepared: Prepared
    learnt: np.ndarray
    labels: np.ndarray
    asked: np.ndarray
    targets: np.ndarray


def _rounds(trials: Sequence[Trial]) -> list[_Round]:
    found = []
    for trial in trials:
        prepared = Prepared(trial.features, trial.background)
        asked = prepared.unit(trial.queries)
        found.append(_Round(prepared, prepared.support, trial.labels, asked, trial.targets))
    return found


def _heads(inner_steps: int | None) -> dict[str, Head]:
    return {**HEADS, "inner_loop": partial(inner_loop, steps=inner_steps)}


def _try(
    rounds: Sequence[_Round], n_way: int, head: str, inner_steps: int | None, *, whitened: bool
) -> Tried:
    names, heads = list(COMPARED) if head == AUTO else [head], _heads(inner_steps)
    logits: dict[str, list[np.ndarray]] = {name: [] for name in names}
    familiar: list[np.ndarray] = [np.zeros(0)]
    for prepared, learnt, labels, asked, _ in rounds:
        a, b = prepared.coordinates(learnt), prepared.coordinates(asked)
        for name in names:
            logits[name].append(heads[name](a, labels, n_way)(b)[-1])
        familiar.append(Familiarity(learnt, labels, n_way, whitened)(asked))

    priors = (WHITENED if whitened else {}) | (SINGLE if not rounds else {})
    temperatures = {name: priors.get(name, 1.0) for name in names}
    losses: dict[str, np.ndarray] = {}
    if rounds:
        targets = torch.from_numpy(np.concatenate([each.targets for each in rounds]))
        for name in names:
            z = torch.from_numpy(np.concatenate(logits[name]))
            temperatures[name] = t = fit_temperature(z, targets, prior=temperatures[name])
            losses[name] = F.cross_entropy(z / t, targets, reduction="none").numpy()
    chosen = _best(losses) if losses else names[0]
    return Tried(chosen, temperatures, losses, np.concatenate(familiar))


def _best(losses: dict[str, np.ndarray]) -> str:
    """The first head, unless another is clearly better."""
    first = next(iter(losses))
    for name in sorted(losses, key=lambda name: losses[name].mean()):
        if clear_gain(losses[first], losses[name]):
            return name
    return first


def clear_gain(before: np.ndarray, after: np.ndarray) -> float:
    """By how much losses `[m]` are lower on average; 0 unless that is clear."""
    gain = before - after
    error = gain.std(ddof=1) / len(gain) ** 0.5 if len(gain) > 1 else np.inf
    return float(gain.mean()) if gain.mean() > max(GAIN, SURE * error) else 0.0
