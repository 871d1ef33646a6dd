"""From users' pictures to what the algorithm adapts on: pixels as in training, or features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor

from innerloop.backbones import Backbone
from innerloop.config import TrainConfig
from innerloop.data.given import are_pictures, read_pictures, scaled_images
from innerloop.data.pictures import MIDDLE, border_brightness
from innerloop.errors import UserError, one_of
from innerloop.runs.loading import Loaded

INKS = ("auto", "dark", "light")


def check_ink(loaded: Loaded, ink: str) -> None:
    """Raise a `UserError` unless `ink` is one of `INKS` that means something for the network."""
    one_of(INKS, ink=ink)
    if ink != "auto" and (loaded.config.inputs != "ink" or loaded.input_shape[0] != 1):
        raise UserError(
            f"ink is {ink!r}, but this network was not trained on grey pictures of ink: leave ink "
            "out, and pixels are treated as in training"
        )


class PixelInputs:
    """Pixels `[n, C, H, W]`, as training had them.

    Args:
        loaded: a network that was meta-trained.
        ink: `"auto"`, `"dark"` or `"light"`.

    Attributes:
        raw: the network takes 0..255.
        ink_: `"dark"` or `"light"`, once `fit` has run; None for networks without ink.
    """

    def __init__(self, loaded: Loaded, ink: str) -> None:
        self.loaded, self._ink = loaded, ink
        self.raw = loaded.config.inputs == "raw"
        self.channels: int | None = loaded.input_shape[0]
        self.ink_: str | None = None

    def checked(self, X: Any) -> np.ndarray:
        """An array; raises what is wrong with `X` as one."""
        if are_pictures(X):
            return read_pictures(X, self.loaded.input_shape)
        return _array(X)

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


class FeatureInputs:
    """Features `[n, F]` of a pretrained network.

    Args:
        backbone: the network.
        ink: `"auto"`; there is no ink for it.
        views: what of each picture it sees, see `Backbone.features`.
    """

    ink_ = None
    channels = None

    def __init__(self, backbone: Backbone, ink: str, views: str) -> None:
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
        return self.backbone.features(X, self._views)


def inputs_of(loaded: Loaded, ink: str, name: str) -> PixelInputs | FeatureInputs:
    """What a network takes that was meta-trained: features where it was on those of a body.

    Args:
        loaded: the network.
        ink: as for `PixelInputs`.
        name: how messages call the network.

    Raises:
        UserError: it takes no pictures, or its body cannot be had.
    """
    body = loaded.body()
    if body is not None and isinstance(loaded.config, TrainConfig):
        return FeatureInputs(body, ink, loaded.config.views)
    if len(loaded.input_shape) != 3:
        raise UserError(
            f"{name} takes examples of shape {list(loaded.input_shape)}, which are no pictures: "
            "use a network that was trained on pictures, or on a body by innerloop.train"
        )
    return PixelInputs(loaded, ink)


def _array(X: Any) -> np.ndarray:
    checked: np.ndarray = check_array(
        X, ensure_2d=True, allow_nd=True, dtype="numeric", input_name="X"
    )
    return checked
