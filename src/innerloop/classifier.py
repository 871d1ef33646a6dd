"""A classifier for one's own few images, in the manner of scikit-learn."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    assert_all_finite,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.backbones import Backbone, Preprocess, Transform, backbone
from innerloop.backbones.sources import is_backbone
from innerloop.build import build_algorithm
from innerloop.config import TrainConfig
from innerloop.data.single import several
from innerloop.errors import UserError, at_least, one_of
from innerloop.inputs import FeatureInputs, PixelInputs
from innerloop.models.layers import check_batch_norm, has_batch_norm
from innerloop.runs.loading import Loaded, load_shared

# Nats by which the support loss may rise again without a warning: below that, steps only jitter.
RISE = 0.2
INKS = ("auto", "dark", "light")
# Queries predicted at a time, at most: images, and numbers in them.
BATCH, BATCH_NUMBERS = 256, 2**22


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Learns to tell classes apart from a few images of each, by a meta-learnt network.

    `fit` adapts the network to the support set, a matter of milliseconds, and can be called again
    with other classes.  Everything follows scikit-learn: `clone`, `Pipeline` and
    cross-validation work.

    Args:
        model: a name of `pretrained_names`, a run folder, a weights file, or what `load` gave; or
            a pretrained network: `"timm:NAME"`, `"torchvision:NAME"`, `"transformers:NAME"`,
            `"FILE.py:NAME"` or `"MODULE:NAME"`, or any `nn.Module` from pictures to features, see
            `innerloop.backbones.backbone`.  Classes are then told apart by the cosine to the mean
            of their features, which are kept on disk; `inner_steps` and `bn` have no effect.
        inner_steps: steps of gradient descent; None for as many as the run was tested with.
        bn: where batch norm takes the statistics for queries from. With `"support"`, what is
            predicted for an image does not depend on what else is predicted with it; with
            `"transductive"` it does, and is a little better for a balanced set of queries.
        ink: `"dark"` strokes on light paper, `"light"` ones on dark; only for networks that were
            trained on grey pictures with inputs `"ink"`.  With `"auto"`, the edges of the support
            images tell, where all pictures in training were ink on paper; else, and always for
            colour, pixels are treated as in training.
        weights: a file of weights for what `"FILE.py:NAME"` or a library's name makes.
        preprocess: what a pretrained network needs done to pictures: an
            `innerloop.backbones.Preprocess`, a function from an RGB picture of PIL to a tensor, or
            a reference to one of these; None for what comes with it, else pixels 0..1.
        image_size: S, to which pictures are scaled for a pretrained network; None for the size
            that comes with it, or 224.
        temperature: divides the logits: above 1, probabilities are less extreme. None for the
            one that comes with the weights, fitted on validation tasks.

    Attributes:
        classes_: the classes, sorted.
        ink_: `"dark"` or `"light"`; None for networks that were not trained on ink.
        temperature_: the temperature in use.
        support_loss_: loss on the support set before the first and after each inner step.
        n_features_in_: for flattened images alone, how many numbers each has.

    Images: `[n, H, W]`, `[n, C, H, W]`, `[n, H, W, C]` or flattened `[n, C*H*W]`; integers 0..255
    or real numbers 0..1; or a list of paths (text or `Path`) or of PIL pictures, of any sizes.
    They are scaled to the size of the network.

    `predict` takes one picture, too, and gives one label `[1]`: a path, a PIL picture, `[H, W]`
    (unless flattened images were learnt), `[H, W, C]`, or `[3, H, W]` for a network that takes
    colour.

    Example:
        >>> import numpy as np, innerloop
        >>> images = np.stack([np.eye(28), np.eye(28)[::-1]])
        >>> innerloop.FewShotClassifier().fit(images, ["down", "up"]).predict(images).tolist()
        ['down', 'up']
    """

    def __init__(
        self,
        model: str | Path | Loaded | nn.Module | Backbone = "omniglot-conv4",
        *,
        inner_steps: int | None = None,
        bn: str = "support",
        ink: str = "auto",
        weights: str | Path | None = None,
        preprocess: Preprocess | Transform | str | None = None,
        image_size: int | None = None,
        temperature: float | None = None,
    ) -> None:
        self.model = model
        self.inner_steps = inner_steps
        self.bn = bn
        self.ink = ink
        self.weights = weights
        self.preprocess = preprocess
        self.image_size = image_size
        self.temperature = temperature

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        inner_steps: int | None = None,
        bn: str = "support",
        ink: str = "auto",
        weights: str | Path | None = None,
        preprocess: Preprocess | Transform | str | None = None,
        image_size: int | None = None,
        temperature: float | None = None,
    ) -> FewShotClassifier:
        """A classifier with weights that come with the package, of a run folder, or of a file; or
        on a pretrained network by its name.

        The keywords are those of the class.

        Raises:
            UserError: there are no such weights, or they are damaged.
        """
        made = cls(
            model,
            inner_steps=inner_steps,
            bn=bn,
            ink=ink,
            weights=weights,
            preprocess=preprocess,
            image_size=image_size,
            temperature=temperature,
        )
        made._find_inputs()
        return made

    def fit(self, X: Any, y: Any) -> FewShotClassifier:
        """Adapt to a support set.

        Args:
            X: images, see the class.
            y: `[n]`, a label for each: numbers or text.  At least two classes; at least one
                image of each, not necessarily equally many.

        Raises:
            UserError: images or labels that do not fit, or more classes than the network can
                tell apart.
            ValueError: what scikit-learn finds wrong with them.

        Warns:
            ConvergenceWarning: the support loss rises over the inner steps.
        """
        one_of(INKS, ink=self.ink)
        at_least(1, inner_steps=self.inner_steps)
        if self.temperature is not None and not 0 < self.temperature < np.inf:
            raise UserError(f"temperature must be greater than 0, not {self.temperature}")
        inputs = self._find_inputs()
        loaded = inputs.loaded
        X, y = inputs.checked(X), column_or_1d(y, warn=True)
        if y.dtype.kind == "f":
            assert_all_finite(y, input_name="y")
        check_consistent_length(X, y)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        self._check_classes(loaded)
        if isinstance(X, np.ndarray) and X.ndim == 2:
            self.n_features_in_ = X.shape[1]
        elif hasattr(self, "n_features_in_"):
            del self.n_features_in_  # of an earlier fit
        config = loaded.config
        self.temperature_ = self.temperature or loaded.temperature
        if not isinstance(config, TrainConfig):
            self._algorithm = _with_statistics(loaded.algorithm, self.bn)
        else:
            bn: Any = "frozen" if config.bn == "frozen" else self.bn
            self._algorithm = build_algorithm(
                replace(config, bn=bn),
                loaded.model,
                loaded.num_classes,
            )
        self._params, self._support_x = loaded.params, inputs.fit(X)
        self._inputs, self.ink_ = inputs, inputs.ink_
        targets = torch.from_numpy(labels.astype(np.int64))
        steps = self.inner_steps or config.eval_inner_steps
        with torch.no_grad():
            self._algorithm.network.look(self._support_x)
            loop = self._algorithm.inner_loop(
                self._params,
                self._support_x,
                targets,
                inner_steps=steps,
                n_way=len(self.classes_),
            )
            # Before any step, which would fail on labels beyond the outputs.
            self._fast = [next(loop)]
            shape = tuple(self._logits(self._support_x)[0].shape)
            if shape != (len(targets), len(self.classes_)):
                raise UserError(
                    f"the network gives outputs {shape} for {len(targets)} images of "
                    f"{len(self.classes_)} classes: it cannot tell so many classes apart"
                )
            self._fast += loop
        self.support_loss_ = [
            F.cross_entropy(logits, targets).item() for logits in self._logits(self._support_x)
        ]
        self._warn_of_rise()
        return self

    def _warn_of_rise(self) -> None:
        """Warn where the last inner steps lead away from what they should lead to."""
        losses = self.support_loss_
        lowest = int(np.argmin(losses))
        if losses[-1] <= losses[lowest] + RISE:
            return
        less = f"give inner_steps={lowest}, or " if lowest else ""
        warnings.warn(
            f"the loss on the support images rises over the {len(losses) - 1} inner steps, from "
            f"{losses[lowest]:.2g} after {lowest} to {losses[-1]:.2g} at the end, so answers get "
            f"worse: {less}train with a lower inner_lr",
            ConvergenceWarning,
            stacklevel=3,
        )

    def predict(self, X: Any) -> np.ndarray:
        """The most probable class of each image, `[n]`."""
        probabilities = self.predict_proba(X)
        labels: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, `[n, N]`, columns as in `classes_`."""
        *_, last = self.staged_predict_proba(X)
        return last

    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """`predict_proba` before the first and after each inner step."""
        check_is_fitted(self)
        expected = getattr(self, "n_features_in_", None)
        X = several(X, self._inputs.channels, flat=expected is not None)
        X = self._inputs.checked(X)
        shape: tuple[int, ...] = np.shape(X)[1:] if isinstance(X, np.ndarray) else ()
        if expected is not None and shape != (expected,):
            found = shape[0] if len(shape) == 1 else f"shape {shape}"
            raise UserError(
                f"X has {found} features, but FewShotClassifier is expecting {expected} features "
                "as input, as in fit"
            )
        for step in self._logits(self._inputs(X)):
            yield (step.double() / self.temperature_).softmax(dim=1).numpy()

    def _logits(self, x: Tensor) -> list[Tensor]:
        """`[B, N]` for every inner step."""
        # With transductive statistics, all queries belong together.
        size = max(1, min(BATCH, BATCH_NUMBERS // x[0].numel()))
        chunks = x.split(size) if self.bn == "support" and len(x) > size else [x]
        with torch.no_grad():
            parts = []
            for chunk in chunks:
                predict = self._algorithm.predictor(self._params, self._support_x, chunk)
                parts.append([predict(fast) for fast in self._fast])
        return [torch.cat(step) for step in zip(*parts, strict=True)]

    def _find_inputs(self) -> PixelInputs | FeatureInputs:
        """What `model` takes, and with it what adapts."""
        if is_backbone(self.model):
            body = backbone(
                self.model,
                weights=self.weights,
                preprocess=self.preprocess,
                image_size=self.image_size,
            )
            return FeatureInputs(body, self.ink)
        if not isinstance(self.model, str | Path | Loaded):
            raise UserError(
                "model must be a name, a run folder, a weights file, what innerloop.load gave or a "
                f"torch.nn.Module, not {type(self.model).__name__}"
            )
        for name in ("weights", "preprocess", "image_size"):
            if getattr(self, name) is not None:
                raise UserError(f"{name} is for pretrained networks of others: leave it out")
        if isinstance(self.model, Loaded):
            return PixelInputs(self.model, self.ink)
        return PixelInputs(load_shared(self.model), self.ink)

    def _check_classes(self, loaded: Loaded) -> None:
        n = len(self.classes_)
        name = self.model if isinstance(self.model, str | Path) else "the network"
        if loaded.config.regression:
            raise UserError(f"{name} was trained for regression: it knows no classes")
        if n < 2:
            raise UserError(
                f"the number of classes has to be greater than one; got {n} class: give images of "
                "at least two"
            )
        if not isinstance(loaded.config, TrainConfig):
            return
        if not loaded.config.any_ways and n != loaded.config.n_way:
            raise UserError(
                f"{name} has a head with {loaded.config.n_way} rows and cannot tell {n} "
                "classes apart: use one with head shared, or a ProtoNet"
            )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # Noise in place of images is not learnt.
        tags.classifier_tags.poor_score = True
        return tags


def _with_statistics(algorithm: Algorithm, bn: str) -> Algorithm:
    """An algorithm of a user's own, with batch statistics from elsewhere; it is not changed.

    Raises:
        UserError: the algorithm or the network cannot take them from there.
    """
    if algorithm.bn in (bn, "frozen") or not has_batch_norm(algorithm.model):
        return algorithm
    one_of(algorithm.bn_modes, bn=bn)
    check_batch_norm(algorithm.model, own_only=bn == "support", frozen=False)
    changed = copy.copy(algorithm)
    changed.bn = bn
    return changed
