"""From users' pictures to what the algorithm adapts on: pixels as in training, or features."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import assert_all_finite, check_array, column_or_1d
from torch import Tensor

from innerloop.backbones import Backbone
from innerloop.config import TrainConfig
from innerloop.data.depth import as_bytes
from innerloop.data.examples import as_array, require_finite
from innerloop.data.given import (
    are_files,
    are_pictures,
    read_pictures,
    scaled_images,
    white_in,
)
from innerloop.data.labels import require_one_kind
from innerloop.data.pictures import MIDDLE, border_brightness
from innerloop.data.remarks import counted
from innerloop.errors import UserError, finite_above_zero, one_of
from innerloop.runs.loading import Loaded

INKS = ("auto", "dark", "light")
_FORMS = "give an array [n, height, width] or [n, 3, height, width], or a list of paths"


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

    Attributes:
        channels: of the network; None where it takes any.
        white_: the value of white in pictures of more than 8 bits, once `find_white` has run; None
            where there were none in the support set, and none was asked for.
    """

    channels: int | None = None

    def __init__(self, white: float | None) -> None:
        finite_above_zero(white=white)
        self._white = self.white_ = white

    def find_white(self, X: Any, stacklevel: int = 2) -> None:
        """Find the value of white in the support set, so that it is that of queries, too.

        Warns:
            UserWarning: it is not clear.
        """
        self.white_, said = white_in(X, self._white)
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
        white: see `Inputs`.

    Attributes:
        raw: the network takes 0..255.
        ink_: `"dark"` or `"light"`, once `fit` has run; None for networks without ink.
    """

    def __init__(self, loaded: Loaded, ink: str, white: float | None) -> None:
        super().__init__(white)
        self.loaded, self._ink = loaded, ink
        self.raw = loaded.config.inputs == "raw"
        self.channels = loaded.input_shape[0]
        self.ink_: str | None = None

    def checked(self, X: Any) -> np.ndarray:
        """An array; raises what is wrong with `X` as one."""
        white = self.white_of(X)
        if are_pictures(X):
            return read_pictures(X, self.loaded.input_shape, white)
        return _array(X) if white is None else as_bytes(_array(X), white=white)

    def fit(self, X: np.ndarray) -> Tensor:
        """Pixels of the support set, whose edges tell dark ink from light."""
        images = scaled_images(X, self.loaded.input_shape)
        self.ink_ = self._find_ink(images)
        return self._pixels(images)

    def __call__(self, X: np.ndarray) -> Tensor:
        return self._pixels(scaled_images(X, self.loaded.input_shape))

    def _find_ink(self, images: np.ndarray) -> str | None:
        check_ink(self.loaded, self._ink)
        if self._ink != "auto":
            return self._ink
        if not self.loaded.knows_ink:
            return None
        return "dark" if border_brightness(images) > MIDDLE else "light"

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
        white: see `Inputs`.
    """

    ink_ = None

    def __init__(self, backbone: Backbone, ink: str, views: str, white: float | None) -> None:
        super().__init__(white)
        if ink != "auto":
            raise UserError(f"ink is {ink!r}, but {backbone.name} takes any pictures: leave it out")
        self.backbone, self._views = backbone, views

    def checked(self, X: Any) -> Any:
        """An array, or pictures as they are; raises what is wrong with `X`."""
        return X if are_pictures(X) else _array(X)

    def fit(self, X: Any) -> Tensor:
        """Features of the support set."""
        self._weights = self.backbone.weights_digest
        return self(X)

    def __call__(self, X: Any) -> Tensor:
        if self.backbone.weights_digest != self._weights:
            raise UserError(
                f"the weights of {self.backbone.name} have changed since fit: fit again, or give a "
                "copy of the network"
            )
        return self.backbone.features(X, self._views, white=self.white_of(X))


def class_labels(y: Any, pictures: int) -> np.ndarray:
    """Labels `[n]` as they were given, one for each of so many pictures, all of one kind.

    Raises:
        UserError: they are not, or name no classes.
        ValueError: what scikit-learn finds wrong with them.
    """
    if (
        y is None
        or isinstance(y, str | bytes | dict)
        or not any(hasattr(y, name) for name in ("__len__", "__array__"))
    ):
        raise UserError(
            "y should be a 1d array or a list, one label for each picture, not "
            f"{'None' if y is None else type(y).__name__}"
        )
    if hasattr(y, "detach"):
        y = y.detach().cpu().numpy()
    listed = isinstance(y, list | tuple) or _is_object(y)
    if listed and all(np.ndim(label) == 0 for label in y):
        require_one_kind(list(y))
    labels: np.ndarray = column_or_1d(y, warn=True)
    if len(labels) != pictures:
        raise UserError(
            f"X has {counted(pictures, 'picture')}, but y {counted(len(labels), 'label')}: give "
            "one label for each"
        )
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
        fractions = labels != np.round(labels)
        if fractions.any():
            raise UserError(
                f"Unknown label type: y[{fractions.argmax()}] is {labels[fractions.argmax()]}, and "
                "labels name classes: give integers or text"
            )
    return labels


def inputs_of(
    loaded: Loaded, ink: str, name: str, white: float | None = None
) -> PixelInputs | FeatureInputs:
    """What a network takes that was meta-trained: features where it was on those of a body.

    Args:
        loaded: the network.
        ink: as for `PixelInputs`.
        name: how messages call the network.
        white: as for `PixelInputs`.

    Raises:
        UserError: it takes no pictures, or its body cannot be had.
    """
    body = loaded.body()
    if body is not None and isinstance(loaded.config, TrainConfig):
        return FeatureInputs(body, ink, loaded.config.views, white)
    if len(loaded.input_shape) != 3:
        raise UserError(
            f"{name} takes examples of shape {list(loaded.input_shape)}, which are no pictures: "
            "use a network that was trained on pictures, or on a body by innerloop.train"
        )
    return PixelInputs(loaded, ink, white)


def _array(X: Any) -> np.ndarray:
    """An array `[n, ...]` with at least one number; scikit-learn checks the rest of it."""
    sparse = hasattr(X, "toarray")
    if not sparse and not _is_object(X):
        if isinstance(X, np.ndarray) and X.dtype.kind == "c":
            raise UserError(f"Complex data not supported: X is {X.dtype}; give real numbers")
        if not hasattr(X, "__len__") and not hasattr(X, "__array__"):
            raise UserError(f"X must hold pictures, not {type(X).__name__}: {_FORMS}")
        X = as_array(X, "X")
        if X.ndim < 2:
            raise UserError(_too_few_axes(X))
        if not X.size and X.shape[1:] != (0,):
            raise UserError(f"X holds no pictures: its shape is {X.shape}")
        require_finite(X)
    checked: np.ndarray = check_array(
        X, ensure_2d=True, allow_nd=True, dtype="numeric", input_name="X"
    )
    return checked


def _too_few_axes(X: np.ndarray) -> str:
    if not X.size:
        return f"X holds no pictures: {_FORMS}"
    if X.ndim == 0:
        return f"X must hold pictures, not one number: {_FORMS}"
    return (
        f"X has one axis of {len(X)} numbers, and pictures have more. Reshape your data: "
        "X.reshape(1, -1) for one flattened picture, or X.reshape(height, width)"
    )


def _is_object(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind == "O"
