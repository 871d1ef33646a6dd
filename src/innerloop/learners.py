"""What learns a support set: a network that was meta-trained, or a head on features."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import Tensor

from innerloop.algorithms.base import Algorithm
from innerloop.algorithms.protonet import minus_squared_distances, prototypes
from innerloop.algorithms.scores import logits_of
from innerloop.algorithms.shared_body import features_of_sets
from innerloop.config import TrainConfig
from innerloop.errors import UserError, one_of
from innerloop.functional import Params
from innerloop.heads.choice import fit_head
from innerloop.heads.left_out import folds
from innerloop.in_use import (
    Way,
    algorithm_in_use,
    class_mean_cross_entropy,
    ways_in_use,
    with_classes_alike,
)
from innerloop.models.layers import HeadedModel
from innerloop.models.norms import has_batch_norm
from innerloop.rejection import margin
from innerloop.runs.loading import Loaded

# Queries predicted at a time, at most: images, and numbers in them.
BATCH, BATCH_NUMBERS = 256, 2**22
# What of a picture a meta-trained network sees.
VIEWS = ("whole", "flips", "turns")
# Nats by which the support loss may rise again without a warning: below that, steps only jitter.
RISE = 0.2
# Nats by which it may rise in a step before another way to learn is taken.
JITTER = 1e-4


class Fitted(Protocol):
    """What has learnt a support set; `innerloop.heads.FittedHead` is one.

    `name` is that of the head, None for a meta-trained network; `temperature` divides the logits.
    """

    @property
    def name(self) -> str | None:
        """See the class."""

    @property
    def temperature(self) -> float:
        """See the class."""

    def stages(self, x: Any) -> list[np.ndarray]:
        """Logits `[m, N]` of each stage of learning; the last counts."""

    def familiarity(self, x: Any) -> np.ndarray:
        """`[m]`, see `innerloop.rejection`."""

    def left_out_familiarity(self) -> np.ndarray:
        """The familiarity of support pictures, by heads that were fitted without them."""


Predictor = Callable[[Params], Tensor]
"""From adapted weights to logits of some images."""
View = Callable[[Tensor], Tensor]
"""From pictures `[n, C, H, W]` to what is seen of them."""
# Beside the pictures themselves.
TURNED: tuple[View, ...] = tuple(partial(torch.rot90, k=n, dims=(-2, -1)) for n in (1, 2, 3))
MIRRORED: tuple[View, ...] = (partial(torch.flip, dims=(-1,)),)
Learner = Callable[[Tensor, np.ndarray, Tensor | None], Fitted]
"""From inputs `[n, ...]`, labels `[n]` and inputs of none of the classes to what has learnt."""


def head_learner(head: str, inner_steps: int | None) -> Learner:
    """Learns a head on features, see `innerloop.heads.fit_head`."""

    def learn(x: Tensor, labels: np.ndarray, background: Tensor | None) -> Fitted:
        return fit_head(x, labels, head, background=background, inner_steps=inner_steps)

    return learn


def network_learner(
    loaded: Loaded, name: str, bn: str, inner_steps: int | None, views: str | None = None
) -> Learner:
    """Adapts a meta-trained network.

    Args:
        loaded: the network.
        name: how messages call it.
        bn: where batch norm takes the statistics for queries from.
        inner_steps: None for those of `ways_in_use`.
        views: `"flips"` to learn mirror images, too, `"turns"` to learn pictures in all quarter
            turns, see `SeveralViews`; None or `"whole"` for pictures as they are.

    Raises:
        UserError: it was trained for regression, or cannot take statistics from there; no such
            views.
    """
    config = loaded.config
    if views is not None:
        if getattr(config, "body", None) is not None:
            raise UserError(f"{name} has the views of its training: leave views out")
        one_of(VIEWS, views=views)
    if config.regression:
        raise UserError(f"{name} was trained for regression: it knows no classes")
    algorithm = algorithm_in_use(loaded, bn)
    tested: Any = config.eval_inner_steps

    def adapted(way: Way, x: Tensor, labels: np.ndarray) -> AdaptedNetwork:
        temperature = way.sharper * loaded.temperature
        return AdaptedNetwork(way.algorithm, loaded.params, x, labels, way.steps, temperature)

    def learn(x: Tensor, labels: np.ndarray, background: Tensor | None) -> AdaptedNetwork:
        n_way = int(labels.max()) + 1
        if isinstance(config, TrainConfig) and not config.any_ways and n_way != config.n_way:
            raise UserError(
                f"{name} has a head with {config.n_way} rows and cannot tell {n_way} "
                "classes apart: use one with head shared, or a ProtoNet"
            )
        if background is not None:
            raise UserError(
                f"background= helps the heads of pretrained networks alone: leave it out for {name}"
            )
        several = len(labels) > n_way
        *preferred, last = ways_in_use(algorithm, tested, several=several, asked=inner_steps)
        for way in preferred:
            found = adapted(way, x, labels)
            losses = support_losses(found, x, labels)
            if all(after <= before + JITTER for before, after in pairwise(losses)):
                return found
        return adapted(last, x, labels)

    def learn_views(x: Tensor, labels: np.ndarray, background: Tensor | None) -> SeveralViews:
        if x.ndim != 4:
            raise UserError(
                f"views={views!r} is for pictures, and these examples have the shape "
                f"{tuple(x.shape[1:])}: leave it out"
            )
        if views == "turns" and x.shape[-1] != x.shape[-2]:
            raise UserError(
                f"views='turns' is for square pictures, and the network sees {x.shape[-2]} x "
                f"{x.shape[-1]} pixels: leave it out"
            )
        others = MIRRORED if views == "flips" else TURNED
        learnt = [learn(seen, labels, background) for seen in (x, *(view(x) for view in others))]
        return SeveralViews(others, learnt, crossed=views == "flips")

    return learn if views in (None, "whole") else learn_views


def support_losses(fitted: Fitted, x: Tensor, labels: np.ndarray) -> list[float]:
    """The loss on the support set at each stage of learning, in nats: the mean over the classes.

    Args:
        fitted: what has learnt.
        x, labels: the support set, `[n, ...]` and `[n]`.
    """
    targets = torch.from_numpy(labels)
    return [
        class_mean_cross_entropy(torch.from_numpy(logits), targets).item()
        for logits in fitted.stages(x)
    ]


def warn_of_rise(losses: Sequence[float], stacklevel: int = 1) -> None:
    """Warn if the support loss, before and after each inner step, rises over the last ones."""
    lowest = int(np.argmin(losses))
    if losses[-1] <= losses[lowest] + RISE:
        return
    less = f"give inner_steps={lowest}, or " if lowest else ""
    warnings.warn(
        f"the loss on the support images rises over the {len(losses) - 1} inner steps, from "
        f"{losses[lowest]:.2g} after {lowest} to {losses[-1]:.2g} at the end, so answers get "
        f"worse: {less}train with a lower inner_lr",
        ConvergenceWarning,
        stacklevel=stacklevel + 1,
    )


def _logits(predictors: Iterable[Predictor], fast: Params) -> np.ndarray:
    """Logits `[m, N]` of all images, by adapted weights."""
    found = [logits_of(predict(fast)).double().numpy() for predict in predictors]
    return np.concatenate(found)


class _LeavesOut(ABC):
    """Tells each picture of the support set by what has learnt the others, once it is asked."""

    _left_out: np.ndarray | None = None

    @abstractmethod
    def left_out(self) -> Iterator[tuple[Tensor, Fitted]]:
        """Pictures of the support set, and what has learnt all but these, fold by fold."""

    def left_out_familiarity(self) -> np.ndarray:
        """See `Fitted`."""
        if self._left_out is None:
            found = [without.familiarity(pictures) for pictures, without in self.left_out()]
            self._left_out = np.concatenate([np.zeros(0), *found])
        return self._left_out


class AdaptedNetwork(_LeavesOut):
    """A meta-trained network that has learnt a support set.

    Args:
        algorithm: how it adapts.
        params: the meta-parameters.
        x, labels: the support set, `[n, ...]` and `[n]`.
        steps: of the inner loop; None for as many as in training.
        temperature: divides the logits.
        n_way: N; None to count the labels.
    """

    name = None

    def __init__(
        self,
        algorithm: Algorithm,
        params: Params,
        x: Tensor,
        labels: np.ndarray,
        steps: int | None,
        temperature: float,
        n_way: int | None = None,
    ) -> None:
        self.temperature = temperature
        self._algorithm, self._params, self._steps = algorithm, params, steps
        self.support_x, self._labels = x, labels
        self._n_way = n_way = n_way or int(labels.max()) + 1
        targets = torch.from_numpy(labels.astype(np.int64))
        counts = np.bincount(labels)
        learns = with_classes_alike(algorithm) if counts.min() < counts.max() else algorithm
        with torch.no_grad():
            algorithm.look(x)
            loop = learns.inner_loop(params, x, targets, inner_steps=steps, n_way=n_way)
            self._fast = [next(loop)]
            predictors = list(self._predictors(x))
            # Before any step, which would fail on labels beyond the outputs.
            shape = _logits(predictors, self._fast[0]).shape
            if shape != (len(labels), n_way):
                few = len(shape) == 2 and shape[1] < n_way
                raise UserError(
                    f"the network gives outputs {shape} for {len(labels)} images of {n_way} "
                    f"classes: it cannot tell so {'many' if few else 'few'} classes apart"
                )
            self._fast += loop
            self._of_support = [_logits(predictors, fast) for fast in self._fast]

    @property
    def parts(self) -> tuple[Algorithm, Params, Params, Tensor]:
        """The algorithm, its meta-parameters, the adapted weights and the support set."""
        return self._algorithm, self._params, self._fast[-1], self.support_x

    def stages(self, x: Tensor) -> list[np.ndarray]:
        """Logits `[m, N]` before the first and after each inner step."""
        if x is self.support_x:
            return self._of_support
        with torch.no_grad():
            # A chunk's images are done with before those of the next.
            parts = [
                [_logits([predict], fast) for fast in self._fast] for predict in self._predictors(x)
            ]
        return [np.concatenate(step) for step in zip(*parts, strict=True)]

    def _predictors(self, x: Tensor) -> Iterator[Predictor]:
        """From adapted weights to logits, for some of the images at a time."""
        for chunk in self._chunks(x):
            yield self._algorithm.predictor(self._params, self.support_x, chunk)

    def familiarity(self, x: Tensor) -> np.ndarray:
        """Minus the squared distance to the nearest class mean of adapted features, `[m]`.

        Adapted logits say which class it is rather than whether it is one.  Of a network without
        a body and a head of its own there is nothing else: how far the largest logit is above the
        second.
        """
        if not isinstance(self._algorithm.model, HeadedModel):
            return margin(self.stages(x)[-1])
        found = []
        with torch.no_grad():
            for chunk in self._chunks(x):
                sets = features_of_sets(
                    self._algorithm, self._fast[-1], self.support_x[None], chunk[None]
                )
                support, queries = (features[0].double() for features in sets)
                centres = prototypes(support, torch.from_numpy(self._labels), self._n_way)
                found.append(minus_squared_distances(queries, centres).amax(dim=1).numpy())
        return np.concatenate(found)

    def _chunks(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries that are told at a time: with transductive statistics all belong together."""
        size = max(1, min(BATCH, BATCH_NUMBERS // x[0].numel()))
        apart = self._algorithm.bn != "transductive" or not has_batch_norm(self._algorithm.model)
        return x.split(size) if apart and len(x) > size else (x,)

    def left_out(self) -> Iterator[tuple[Tensor, AdaptedNetwork]]:
        """See `_LeavesOut`; the network adapts once for each fold."""
        for part in self.folds():
            yield self.support_x[part], self.without(part)

    def folds(self) -> list[np.ndarray]:
        """The rows of the support set that are left out together."""
        return folds(self.support_x, self._labels)

    def without(self, part: np.ndarray) -> AdaptedNetwork:
        """The network that has learnt all of the support set but these rows."""
        kept = np.setdiff1d(np.arange(len(self._labels)), part)
        return AdaptedNetwork(
            self._algorithm,
            self._params,
            self.support_x[kept],
            self._labels[kept],
            self._steps,
            self.temperature,
            self._n_way,
        )


class SeveralViews(_LeavesOut):
    """Networks that have learnt one support set, the first as it is, each other in another view.

    Their logits are averaged, and so is the familiarity.  Where they have learnt in different
    steps, their temperatures differ, and the logits are scaled to that of the first.

    Args:
        views: from pictures `[n, C, H, W]` to what is seen of them by all networks but the first.
        networks: what has learnt the support set, and each view of it.
        crossed: each network tells all views of a query, as a mirror image of a thing is taken for
            the same thing; else only the view that it has learnt.
    """

    name = None

    def __init__(
        self, views: Sequence[View], networks: Sequence[AdaptedNetwork], crossed: bool
    ) -> None:
        self.temperature = networks[0].temperature
        self._views, self._networks, self._crossed = views, networks, crossed

    def stages(self, x: Tensor) -> list[np.ndarray]:
        """See `Fitted`; where one has learnt in fewer stages, its last one stays."""

        def stages(of: AdaptedNetwork, x: Tensor) -> list[np.ndarray]:
            return [self.temperature / of.temperature * logits for logits in of.stages(x)]

        found = self._of_each(x, stages)
        steps = max(map(len, found))
        return [np.mean([s[min(n, len(s) - 1)] for s in found], axis=0) for n in range(steps)]

    def familiarity(self, x: Tensor) -> np.ndarray:
        """See `Fitted`."""
        found: np.ndarray = np.mean(self._of_each(x, lambda of, x: of.familiarity(x)), axis=0)
        return found

    def left_out(self) -> Iterator[tuple[Tensor, SeveralViews]]:
        """See `_LeavesOut`."""
        first = self._networks[0]
        for part in first.folds():
            without = [of.without(part) for of in self._networks]
            yield first.support_x[part], SeveralViews(self._views, without, self._crossed)

    def _of_each(self, x: Tensor, what: Callable[[AdaptedNetwork, Tensor], Any]) -> list[Any]:
        # What a network has learnt, it has already told.
        own = x is self._networks[0].support_x
        seen = [of.support_x for of in self._networks] if own else [x, *(v(x) for v in self._views)]
        if self._crossed:
            return [what(of, view) for view in seen for of in self._networks]
        return [what(of, view) for of, view in zip(self._networks, seen, strict=True)]
