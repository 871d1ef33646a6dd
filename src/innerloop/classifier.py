"""A scikit-learn classifier that learns from a few images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from innerloop.backbones import Backbone, Preprocess, Transform
from innerloop.data.examples import without_mask
from innerloop.data.shared import warn_of_shared
from innerloop.data.single import several
from innerloop.errors import UserError, finite_above_zero, number_of_steps, one_of
from innerloop.fine_tuning import fine_tuned
from innerloop.heads.choice import AUTO
from innerloop.inputs import (
    INKS,
    PREPARE,
    FeatureInputs,
    PixelInputs,
    require_numbers,
)
from innerloop.labels import class_labels
from innerloop.learners import support_losses, warn_of_rise
from innerloop.model_in_use import inputs_and_learner
from innerloop.rejection import Threshold, threshold
from innerloop.runs.loading import Loaded
from innerloop.settings import ClassifierSettings


class FewShotClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Learns to tell classes apart from a few images of each, by a meta-learnt network.

    `fit` adapts the network to the support set, a matter of milliseconds, and can be called again
    with other classes.  Everything follows scikit-learn: `clone`, `Pipeline` and
    cross-validation work.

    Args:
        model: a name of `pretrained_names`, a run folder, a weights file, or what `load` gave; or
            a pretrained network: `"timm:NAME"`, `"torchvision:NAME"`, `"transformers:NAME"`,
            `"FILE.py:NAME"` or `"MODULE:NAME"`, or any `nn.Module` from pictures to features, see
            `innerloop.backbones.backbone`.  Classes are then told apart by a head on its features,
            which are kept on disk; `bn` has no effect.
        inner_steps: steps of gradient descent; None for as many as the run was tested with, or,
            where a class has several images, for no more than in training. Where training took one
            step from a shared head, None takes it, in small parts where a class has several.
        bn: where batch norm takes the statistics for queries from. With `"support"`, what is
            predicted for an image does not depend on what else is predicted with it; with
            `"transductive"` it does, and is a little better for a balanced set of queries.
        ink: `"dark"` strokes on light paper, `"light"` ones on dark; only for networks that were
            trained on grey pictures with inputs `"ink"`.  With `"auto"`, the support images tell
            whether strokes are darker than their paper, where training had ink on paper; else, and
            always for colour, pixels are treated as in training.
        prepare: what is done to pictures for a network that was trained on ink. With `"ink"`, each
            drawing is found on its paper, freed of shading and specks, and centred at the size of
            Omniglot's, see `innerloop.data.ink`; with `"none"`, pictures are only scaled. With
            `"auto"`, the support images tell whether that helps a network that was trained on
            Omniglot or glyphs; others take drawings where and as large as they are.
        weights: a file of weights for what `"FILE.py:NAME"` or a library's name makes.
        preprocess: what a pretrained network needs done to pictures: an
            `innerloop.backbones.Preprocess`, a function from an RGB picture of PIL to a tensor, or
            a reference to one of these; None for what comes with it, else pixels 0..1.
        image_size: S, to which pictures are scaled for a pretrained network; None for the size
            that comes with it, or 224.
        head: what tells classes apart by the features of a pretrained network: `"ridge"` or
            `"logistic"` regression, `"cosine"` to the class means, an `"inner_loop"` from zero; or
            `"auto"`, chosen on images of the support set that are left out, see
            `innerloop.heads.fit_head`.
        views: what a pretrained network sees of each image: `"whole"`; `"middle"`, its middle, too,
            in twice the time; `"crops"` or `"flips"`, see `Backbone.features`. None for `"middle"`.
            A network that was meta-trained sees images `"whole"`; with `"turns"` it learns them
            in each quarter turn, and what it answers to a query that is turned likewise is
            averaged, in four times the time; with `"flips"` it learns their mirror images, too,
            and the four answers for a query, as it is and mirrored, are averaged: not where left
            and right make a class.
        layers: names of inner layers of a pretrained network, whose maps are features, too, see
            `innerloop.backbones.Backbone`; `()` for none. None for the last one with a map, and for
            a `Backbone` for its own.
        white: the value of white in arrays, and in pictures of more than 8 bits (16-bit PNG and
            TIFF, floating point).  None: 255 in arrays of integers, 1 of real numbers; for such
            pictures that of training, or the smallest of 1 (for floating point), 255, 1023, 4095,
            16383 and 65535 that no value of the support set exceeds.
        fine_tune: train a copy of a pretrained network on the support set, where that tells images
            better that are left out. It takes minutes.
        temperature: divides the logits: above 1, probabilities are less extreme. None for the
            one that comes with the weights, fitted on validation tasks; or for a head, one fitted
            on left-out images of the support set.

    Attributes:
        classes_: the classes, sorted.
        ink_: `"dark"` or `"light"`; None for networks that were not trained on ink.
        prepare_: `"ink"` or `"none"`, what is done to pictures.
        head_: the head in use; None for networks that were meta-trained.
        fine_tuned_: with `fine_tune`, the learning rate, 0 for a network left as it is; else None.
        temperature_: the temperature in use.
        white_: the value of white in pictures of more than 8 bits; None where `fit` met none.
        support_loss_: loss on the support set before the first and after each inner step, the mean
            over the classes.
        n_features_in_: for flattened images alone, how many numbers each has.

    Images: `[n, H, W]`, `[n, C, H, W]`, `[n, H, W, C]` or flattened grey `[n, H*W]`; integers
    0..255 or real numbers 0..1; or a list of paths (text or `Path`) or of PIL pictures, of any
    sizes.  They are scaled to the size of the network.

    `predict` takes one picture, too, and gives one label `[1]`: a path, a PIL picture, `[H, W]`
    (unless flattened images were learnt), `[H, W, C]`, or `[3, H, W]` for a network that takes
    colour.  What may be several pictures as well is refused, such as `[3, H, W]` for a pretrained
    network, which takes grey ones, too.

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
        prepare: str = "auto",
        weights: str | Path | None = None,
        preprocess: Preprocess | Transform | str | None = None,
        image_size: int | None = None,
        head: str = AUTO,
        views: str | None = None,
        layers: str | Sequence[str] | None = None,
        white: float | None = None,
        fine_tune: bool = False,
        temperature: float | None = None,
    ) -> None:
        self.model = model
        self.inner_steps = inner_steps
        self.bn = bn
        self.ink = ink
        self.prepare = prepare
        self.weights = weights
        self.preprocess = preprocess
        self.image_size = image_size
        self.head = head
        self.views = views
        self.layers = layers
        self.white = white
        self.fine_tune = fine_tune
        self.temperature = temperature

    @classmethod
    def from_pretrained(
        cls, model: str | Path, **settings: Unpack[ClassifierSettings]
    ) -> FewShotClassifier:
        """A classifier with weights of this package, a run folder or a file.

        Or on a pretrained network by its name.

        Args:
            model: as for the class.
            settings: keywords of the class.

        Raises:
            UserError: there are no such weights, or they are damaged.
        """
        made = cls(model, **settings)
        inputs_and_learner(**made.get_params(deep=False))
        return made

    def fit(self, X: Any, y: Any, *, background: Any = None) -> FewShotClassifier:
        """Adapt to a support set.

        Args:
            X: images, see the class.
            y: `[n]`, a label for each: numbers or text.  At least two classes; at least one
                image of each, not necessarily equally many: the inner loss is the mean over
                the classes.
            background: images of none of the classes, such as of the empty bench or of other
                things: with a pretrained network alone, they help to tell the classes apart and
                to refuse what is none of these.

        Raises:
            UserError: images or labels that do not fit, or more classes than the network can
                tell apart.
            ValueError: what scikit-learn finds wrong with them.

        Warns:
            UserWarning: the value of white is not clear, or a picture is in two classes.
            ConvergenceWarning: the support loss rises over the inner steps.
        """
        one_of(INKS, ink=self.ink)
        one_of(PREPARE, prepare=self.prepare)
        number_of_steps(inner_steps=self.inner_steps)
        finite_above_zero(temperature=self.temperature)
        if isinstance(X, str | Path):
            raise UserError(
                f"fit takes several pictures, not {str(X)!r}: give a list of paths, for instance "
                "sorted(Path(folder).glob('*/*.jpg')), with y = [path.parent.name for path in ...]"
            )
        if isinstance(background, str | Path):
            raise UserError(
                f"background takes several pictures, not {str(background)!r}: give a list of "
                "paths, for instance sorted(Path(folder).glob('*.jpg'))"
            )
        inputs, learn = inputs_and_learner(**self.get_params(deep=False))
        inputs.find_white(X)
        X = inputs.checked(X)
        y = class_labels(without_mask(y, "y"), len(X))
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise UserError(
                "the number of classes has to be greater than one; got 1 class: give images of "
                "at least two"
            )
        if isinstance(X, np.ndarray) and X.ndim == 2:
            self.n_features_in_ = X.shape[1]
        elif hasattr(self, "n_features_in_"):
            del self.n_features_in_  # of an earlier fit
        labels = labels.astype(np.int64)
        others = None if background is None else inputs.checked(background, "background")
        self.fine_tuned_ = None
        if self.fine_tune and isinstance(inputs, FeatureInputs):
            inputs, learn, self.fine_tuned_ = fine_tuned(
                inputs, X, labels, others, self.head, self.inner_steps
            )
        support = inputs.fit(X, labels, self.classes_.tolist())
        warn_of_shared(X, support.numpy(), labels, self.classes_, stacklevel=2)
        self._fitted = learn(support, labels, None if others is None else inputs(others))
        self._inputs, self.ink_, self.white_ = inputs, inputs.ink_, inputs.white_
        self.prepare_ = inputs.prepare_
        self.head_ = self._fitted.name
        self.temperature_ = self.temperature or self._fitted.temperature
        self.support_loss_ = support_losses(self._fitted, support, labels)
        warn_of_rise(self.support_loss_, stacklevel=2)
        return self

    def predict(self, X: Any, reject: float | None = None) -> np.ndarray:
        """The most probable class of each image, `[n]`.

        Args:
            X: images, see the class.
            reject: α, above 0 and below 1: None, in an array of objects, takes the place of a
                class where an image is less like the classes than all but a share α of their own
                images.  At most a share α of further images of the classes, taken like those of
                the support set, is refused, on average over support sets.  The threshold comes
                from images of the support set, each told by what was learnt without it, so there
                have to be classes with several images; see `innerloop.rejection.threshold`.

        Raises:
            UserError: images that do not fit, or `reject` without two such images.

        Warns:
            UserWarning: there are too few images for the promise (19 for 0.05). The threshold is
                then an estimate for images whose likeness is normally distributed.
        """
        return self._told(X, reject)[0]

    def tell(self, X: Any, reject: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """What `predict` and `predict_proba` give, at once: images go through the network once.

        Args:
            X: images, see the class.
            reject: as for `predict`.

        Returns:
            Labels `[n]` and probabilities `[n, N]`, columns as in `classes_`.

        Raises:
            UserError: as `predict`.

        Warns:
            UserWarning: as `predict`.
        """
        return self._told(X, reject)

    def _told(self, X: Any, reject: float | None) -> tuple[np.ndarray, np.ndarray]:
        x = self._queries(X)
        probabilities = self._probabilities(self._fitted.stages(x)[-1])
        labels: np.ndarray = self.classes_[probabilities.argmax(axis=1)]
        if reject is None:
            return labels, probabilities
        limit = self.threshold(reject)
        limit.warn_of_estimate(reject, stacklevel=3)
        labels = labels.astype(object)
        labels[self._fitted.familiarity(x) < limit.value] = None
        return labels, probabilities

    def threshold(self, reject: float) -> Threshold:
        """The familiarity below which `predict` refuses images.

        Args:
            reject: as for `predict`.

        Returns:
            The threshold, and whether its share is promised.

        Raises:
            UserError: as `predict`.
        """
        check_is_fitted(self)
        return threshold(self._fitted.left_out_familiarity(), reject)

    def familiarity(self, X: Any) -> np.ndarray:
        """How familiar each image is, `[n]`; higher is more like one of the classes.

        It is what `predict` compares to a threshold, and has no unit.  See `innerloop.rejection`.
        """
        x = self._queries(X)
        return self._fitted.familiarity(x)

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probability of each class, `[n, N]`, columns as in `classes_`."""
        *_, last = self.staged_predict_proba(X)
        return last

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of the images that get their label, 0 to 1.

        Args:
            X: images, see the class.
            y: `[n]`, a label for each.
            sample_weight: `[n]`, how much each counts; None for equally much.
        """
        found = self.predict(X)
        return float(
            accuracy_score(class_labels(y, len(found)), found, sample_weight=sample_weight)
        )

    def staged_predict_proba(self, X: Any) -> Iterator[np.ndarray]:
        """`predict_proba` before the first and after each inner step."""
        x = self._queries(X)
        for logits in self._fitted.stages(x):
            yield self._probabilities(logits)

    def prepared(self, X: Any) -> np.ndarray:
        """What the network sees of images, bytes `[n, C, H, W]`: scaled, and prepared if need be.

        Raises:
            UserError: images that do not fit, or a pretrained network, which prepares them itself.
        """
        X = self._checked(X)
        if not isinstance(self._inputs, PixelInputs):
            raise UserError("a pretrained network prepares pictures itself: see its preprocess")
        return self._inputs.prepared(X)

    def export(self, path: str | Path, *, format: str | None = None) -> dict[str, str]:
        """Write the adapted network for runtimes without PyTorch.

        The file takes `images`, bytes `[B, C, H, W]` of the network's size, and gives
        `probabilities` `[B, N]`, columns as in `classes_`.

        Args:
            path: the file to write.
            format: `"onnx"` or `"torch-export"`; None to go by the ending of `path`.

        Returns:
            What the file says of itself, as text by name: `classes` is a list in JSON.

        Raises:
            UserError: a package is missing, or this cannot be exported.
        """
        check_is_fitted(self)
        from innerloop.exporting.write import write_classifier

        temperature, classes = float(self.temperature_), self.classes_.tolist()
        return write_classifier(
            path, self._fitted, self._inputs, temperature, classes, format=format
        )

    def _probabilities(self, logits: np.ndarray) -> np.ndarray:
        found: np.ndarray = (torch.from_numpy(logits) / self.temperature_).softmax(dim=1).numpy()
        return found

    def _queries(self, X: Any) -> Tensor:
        """The inputs of images to classify."""
        X = self._checked(X)
        return self._inputs(X)

    def _checked(self, X: Any) -> Any:
        """Images to classify, as the inputs take them."""
        check_is_fitted(self)
        expected = getattr(self, "n_features_in_", None)
        X = several(X, self._inputs.channels, flat=expected is not None)
        X = self._inputs.checked(X)
        if expected is not None:
            require_numbers(X, expected)
        return X

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        # Noise in place of images is not learnt.
        tags.classifier_tags.poor_score = True
        return tags
