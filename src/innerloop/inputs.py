"""From users' pictures to what the algorithm adapts on: pixels as in training, or features."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.utils.validation import check_array
from torch import Tensor

from innerloop.backbones import Backbone
from innerloop.backbones.outputs import warn_of_sameness
from innerloop.config import TrainConfig
from innerloop.data.closer import closer
from innerloop.data.depth import as_bytes
from innerloop.data.examples import as_array, require_finite
from innerloop.data.given import (
    are_files,
    are_pictures,
    each_as_bytes,
    entries,
    image_bytes,
    names_of,
    require_pictures,
    white_in,
)
from innerloop.data.ink import (
    BLANK,
    EMPTY,
    Ink,
    find_ink,
    on_blank_paper,
    worth_finding,
)
from innerloop.data.ink_warnings import warn_of_blank, warn_of_other_ink
from innerloop.data.likeness import likeness, most_are_alike, warn_of_same_drawings
from innerloop.data.polarity import ink_is_dark
from innerloop.data.progress import bar_for_many
from innerloop.data.scaled import Pictures
from innerloop.data.surroundings import Surroundings, surroundings
from innerloop.errors import UserError, finite_above_zero, one_of
from innerloop.runs.loading import Loaded

INKS = ("auto", "dark", "light")
_FORMS = "give an array [n, height, width] or [n, 3, height, width], or a list of paths"
PREPARE = ("auto", "ink", "none")
# Data whose drawings have the place and the size that finding the ink gives.
CENTRED = ("omniglot", "glyphs")


def check_ink(loaded: Loaded, ink: str) -> None:
    """Raise a `UserError` unless `ink` is one of `INKS` that means something for the network."""
    one_of(INKS, ink=ink)
    if ink != "auto" and (loaded.config.inputs != "ink" or loaded.input_shape[0] != 1):
        raise UserError(
            f"ink is {ink!r}, but this network was not trained on grey pictures of ink: leave ink "
            "out, and pixels are treated as in training"
        )


class Inputs:
    """What pixels and features share.

    Args:
        white: the value of white that was asked for.
        trained: that of the pictures which the network was trained on.

    Attributes:
        channels: of the network; None where it takes any.
        white_: the value of white in pictures of more than 8 bits, once `find_white` has run; None
            where there were none in the support set or in training, and none was asked for.
    """

    channels: int | None = None

    def __init__(self, white: float | None, trained: float | None = None) -> None:
        finite_above_zero(white=white)
        self._white, self._trained, self.white_ = white, trained, white

    def find_white(self, X: Any, stacklevel: int = 2) -> None:
        """Find the value of white in the support set, so that it is that of queries, too.

        Warns:
            UserWarning: it is not clear.
        """
        found, said = white_in(X, self._white, self._trained)
        self.white_ = self._trained if found is None else found
        if said:
            warnings.warn(f"{said}; white= says otherwise", stacklevel=stacklevel + 1)

    def white_of(self, X: Any) -> float | None:
        """The value of white in `X`: in arrays, only what was asked for."""
        return self.white_ if are_files(X) else self._white


class PixelInputs(Inputs):
    """Pixels `[n, C, H, W]`, as training had them.

    Args:
        loaded: a network that was meta-trained.
        ink: `"auto"`, `"dark"` or `"light"`.
        prepare: `"auto"`, `"ink"` or `"none"`.
        white: see `Inputs`.

    Attributes:
        raw: the network takes 0..255.
        ink_: `"dark"` or `"light"`, once `fit` has run; None for networks without ink.
        prepare_: `"ink"` or `"none"`, once `fit` has run.
    """

    def __init__(
        self, loaded: Loaded, ink: str, prepare: str = "auto", white: float | None = None
    ) -> None:
        super().__init__(white, loaded.white)
        self.loaded, self._ink, self._prepare = loaded, ink, prepare
        self.raw = loaded.config.inputs == "raw"
        self.channels = loaded.input_shape[0]
        self.ink_: str | None = None
        self.prepare_ = "none"
        # What is left out round drawings, once `fit` has run.
        self._surroundings = Surroundings()

    def checked(self, X: Any, what: str = "X") -> np.ndarray | Pictures:
        """An array, or pictures of any sizes; raises what is wrong with `X`, called `what`."""
        shape = self.loaded.input_shape
        if isinstance(X, Pictures):
            return X
        white = self.white_of(X)
        if are_pictures(X):
            return Pictures(each_as_bytes(X, shape[0], white), shape, names_of(X))
        X = _array(X, what)
        return X if white is None else as_bytes(X, white=white)

    def fit(
        self, X: np.ndarray | Pictures, labels: np.ndarray, classes: Sequence[object]
    ) -> Tensor:
        """Pixels of the support set, which tells what `ink_` and `prepare_` are.

        Args:
            X: what `checked` gave.
            labels: `[n]`, from 0.
            classes: how messages call each.
        """
        pictures = self._pictures(X)
        self.ink_ = self._find_ink(pictures.scaled)
        inks: list[Ink | None] = []
        if self._may_prepare():
            # Found once: few, as a support set is.
            self._surroundings, inks = surroundings(
                pictures.looked_at, self.ink_ == "dark", labels, pictures.scaled.shape[2:]
            )
        self.prepare_ = "ink" if inks and self._helps(inks) else "none"
        seen, found = self._prepared(pictures, inks)
        if self.prepare_ == "ink" and self._prepare == "auto":
            alike = likeness(pictures.scaled, seen, labels)
            if most_are_alike(alike):
                self.prepare_ = "none"
                seen, found = self._prepared(pictures, inks)
            else:
                warn_of_same_drawings(alike, classes, stacklevel=3)
        self._warn(pictures, found, "learnt", stacklevel=3)
        return self._pixels(seen)

    def __call__(self, X: np.ndarray | Pictures) -> Tensor:
        pictures = self._pictures(X)
        seen, found = self._prepared(pictures, self._inks(pictures))
        # The caller of predict, which asks _told, which asks _queries.
        self._warn(pictures, found, "told", stacklevel=5)
        return self._pixels(seen)

    def prepared(self, X: np.ndarray | Pictures) -> np.ndarray:
        """Bytes `[n, C, H, W]` of what the network sees, before ink becomes 1."""
        pictures = self._pictures(X)
        return self._prepared(pictures, self._inks(pictures))[0]

    def _pictures(self, X: np.ndarray | Pictures) -> Pictures:
        if isinstance(X, Pictures):
            return X
        return Pictures(image_bytes(X, self.loaded.input_shape), self.loaded.input_shape)

    def _inks(self, pictures: Pictures) -> Iterator[Ink | None]:
        dark = self.ink_ == "dark"
        return (find_ink(picture, dark, *self._surroundings) for picture in pictures.looked_at)

    def _prepared(
        self, pictures: Pictures, inks: Iterable[Ink | None]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the network sees; and for each whether it is not blank."""
        if self.prepare_ == "none":
            seen = pictures.scaled
            return seen, np.array([picture.std() > EMPTY for picture in pictures.looked_at], bool)
        seen, found = pictures.scaled.copy(), np.ones(len(pictures), bool)
        dark = self.ink_ == "dark"
        with bar_for_many("finding the ink", len(pictures)) as advance:
            for number, (into, ink) in enumerate(zip(seen, inks, strict=True)):
                found[number] = ink is not None or pictures.looked_at[number].std() > BLANK
                if ink is not None:
                    finer = closer(ink, pictures.closer[number], dark)
                    into[0] = on_blank_paper(finer, dark, into.shape[1:])
                advance(1)
        return seen, found

    def _warn(self, pictures: Pictures, found: np.ndarray, done: str, stacklevel: int) -> None:
        """Warn, unless ink was given, of what is no such drawing.

        Args:
            found: for each picture whether it is not blank.
            done: what is done with the pictures: `"learnt"` or `"told"`.
        """
        if self._ink == "auto" and self.ink_ is not None:
            pixels = [picture.size for picture in pictures.looked_at]
            names = pictures.names
            other = warn_of_other_ink(pictures.scaled, pixels, self.ink_, names, stacklevel + 1)
            warn_of_blank(found | other, done, names, stacklevel + 1)

    def _find_ink(self, images: np.ndarray) -> str | None:
        check_ink(self.loaded, self._ink)
        if self._ink != "auto":
            return self._ink
        if not self.loaded.knows_ink:
            return None
        return "dark" if ink_is_dark(images) else "light"

    def _may_prepare(self) -> bool:
        """True unless it is known without a look at the pictures that they stay as they are."""
        if self.ink_ is None and self._prepare == "ink":
            raise UserError(
                "prepare is 'ink', but this network was not trained on grey pictures of ink: "
                "leave prepare out"
            )
        usual = self._prepare == "auto" and self.loaded.data_name in CENTRED
        return self.ink_ is not None and (self._prepare == "ink" or usual)

    def _helps(self, inks: list[Ink | None]) -> bool:
        return self._prepare == "ink" or worth_finding(inks)

    @property
    def inverted(self) -> bool:
        """True if bytes are inverted, once `fit` has run."""
        return bool(self.loaded.inverted) if self.ink_ is None else self.ink_ == "dark"

    def _pixels(self, images: np.ndarray) -> Tensor:
        x = torch.from_numpy(images).float()
        if self.raw:
            return x
        return 1 - x / 255 if self.inverted else x / 255


class FeatureInputs(Inputs):
    """Features `[n, F]` of a pretrained network.

    Args:
        backbone: the network.
        ink: `"auto"`; there is no ink for it.
        views: what of each picture it sees, see `Backbone.features`.
        white, trained: see `Inputs`.
    """

    ink_ = None
    prepare_ = "none"

    def __init__(
        self,
        backbone: Backbone,
        ink: str,
        prepare: str,
        views: str,
        white: float | None,
        trained: float | None = None,
    ) -> None:
        super().__init__(white, trained)
        for name, value in (("ink", ink), ("prepare", prepare)):
            if value not in ("auto", "none"):
                raise UserError(
                    f"{name} is {value!r}, but {backbone.name} takes any pictures: leave it out"
                )
        self.backbone, self._views = backbone, views

    def checked(self, X: Any, what: str = "X") -> Any:
        """An array, or pictures as they are; raises what is wrong with `X`, called `what`."""
        return entries(X) if are_pictures(X) else _array(X, what)

    def fit(self, X: Any, labels: np.ndarray, classes: Sequence[object]) -> Tensor:
        """Features of the support set; labels tell nothing about them."""
        self._weights = self.backbone.weights_digest
        found = self(X)
        warn_of_sameness(found, self.backbone.name)
        return found

    def __call__(self, X: Any) -> Tensor:
        if self.backbone.weights_digest != self._weights:
            raise UserError(
                f"the weights of {self.backbone.name} have changed since fit: fit again, or give a "
                "copy of the network"
            )
        return self.backbone.features(X, self._views, white=self.white_of(X))

    def with_body(self, body: Backbone) -> FeatureInputs:
        """The same of another body, such as one that was fine-tuned."""
        found = copy.copy(self)
        found.backbone = body
        return found

    def seen_by(self, body: Backbone, pictures: Sequence[Image.Image]) -> Tensor:
        """Features of pictures by another body, `[n, F]`."""
        return body.features(pictures, self._views)


def require_numbers(X: Any, expected: int) -> None:
    """Refuse what are not flattened pictures of so many numbers each, as `fit` was given.

    Raises:
        UserError: they are not.
    """
    shape: tuple[int, ...] = np.shape(X)[1:] if isinstance(X, np.ndarray) else ()
    if shape != (expected,):
        found = shape[0] if len(shape) == 1 else f"shape {shape}"
        raise UserError(
            f"X has {found} features, but FewShotClassifier is expecting {expected} features "
            "as input, as in fit"
        )


def inputs_of(
    loaded: Loaded, ink: str, name: str, prepare: str, white: float | None
) -> PixelInputs | FeatureInputs:
    """What a network takes that was meta-trained: features where it was on those of a body.

    Args:
        loaded: the network.
        ink: as for `PixelInputs`.
        name: how messages call the network.
        prepare: as for `PixelInputs`.
        white: as for `PixelInputs`.

    Raises:
        UserError: it takes no pictures, or its body cannot be had.
    """
    body = loaded.body()
    if body is not None and isinstance(loaded.config, TrainConfig):
        return FeatureInputs(body, ink, prepare, loaded.config.views, white, loaded.white)
    if len(loaded.input_shape) != 3:
        raise UserError(
            f"{name} takes examples of shape {list(loaded.input_shape)}, which are no pictures: "
            "use a network that was trained on pictures, or on a body by innerloop.train"
        )
    return PixelInputs(loaded, ink, prepare, white)


def _array(X: Any, what: str) -> np.ndarray:
    """An array `[n, ...]` with at least one number; scikit-learn checks the rest of it."""
    X = entries(X)
    require_pictures(X, what)
    sparse = hasattr(X, "toarray")
    if not sparse and not _is_object(X):
        if isinstance(X, np.ndarray) and X.dtype.kind == "c":
            raise UserError(f"Complex data not supported: {what} is {X.dtype}; give real numbers")
        if not hasattr(X, "__len__") and not hasattr(X, "__array__"):
            raise UserError(f"{what} must hold pictures, not {type(X).__name__}: {_FORMS}")
        if len(getattr(X, "columns", "")) == 1:
            raise UserError(f"{what} is a table of one column: give that, {what}.iloc[:, 0]")
        X = as_array(X, what)
        if X.ndim < 2:
            raise UserError(_too_few_axes(X, what))
        if not X.size and X.shape[1:] != (0,):
            raise UserError(f"{what} holds no pictures: its shape is {X.shape}")
        require_finite(X)
    checked: np.ndarray = check_array(
        X, ensure_2d=True, allow_nd=True, dtype="numeric", input_name=what
    )
    return checked


def _too_few_axes(X: np.ndarray, what: str) -> str:
    if not X.size:
        return f"{what} holds no pictures: {_FORMS}"
    if X.ndim == 0:
        return f"{what} must hold pictures, not one number: {_FORMS}"
    return (
        f"{what} has one axis of {len(X)} numbers, and pictures have more. Reshape your data: "
        f"{what}.reshape(1, -1) for one flattened picture, or {what}.reshape(height, width)"
    )


def _is_object(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind == "O"
