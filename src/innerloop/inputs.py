"""From pictures as people give them to what adapts: pixels as in training, or features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor, nn

from innerloop.algorithms.protonet import ProtoNet
from innerloop.backbones import Backbone
from innerloop.data.given import are_pictures, read_pictures, scaled_images
from innerloop.data.pictures import MIDDLE, border_brightness
from innerloop.errors import UserError
from innerloop.runs.fit_config import FitConfig
from innerloop.runs.loading import Loaded


class PixelInputs:
    """Pixels `[n, C, H, W]`, as training had them.

    Args:
        loaded: a network that was meta-trained.
        ink: `"auto"`, `"dark"` or `"light"`.

    Attributes:
        ink_: `"dark"` or `"light"`, once `fit` has run; None for networks without ink.
    """

    def __init__(self, loaded: Loaded, ink: str) -> None:
        self.loaded, self._ink = loaded, ink
        self.channels: int | None = loaded.input_shape[0]
        self._raw = loaded.config.inputs == "raw"
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
        loaded = self.loaded
        if self._ink != "auto":
            if loaded.config.inputs != "ink" or loaded.input_shape[0] != 1:
                raise UserError(
                    f"ink is {self._ink!r}, but this network was not trained on grey pictures of "
                    "ink: leave ink out, and pixels are treated as in training"
                )
            return self._ink
        if not loaded.knows_ink:
            return None
        return "dark" if border_brightness(images) > MIDDLE else "light"

    def _pixels(self, images: np.ndarray) -> Tensor:
        x = torch.from_numpy(images).float()
        if self._raw:
            return x
        inverted = bool(self.loaded.inverted) if self.ink_ is None else self.ink_ == "dark"
        return 1 - x / 255 if inverted else x / 255


class FeatureInputs:
    """Features `[n, F]` of a pretrained network.

    Attributes:
        loaded: class means of features and cosines to them, as what `load` gives of a run.
    """

    ink_ = None
    channels = None

    def __init__(self, backbone: Backbone, ink: str) -> None:
        if ink != "auto":
            raise UserError(f"ink is {ink!r}, but {backbone.name} takes any pictures: leave it out")
        self.backbone = backbone
        algorithm = ProtoNet(nn.Identity(), distance="cosine")
        config = FitConfig(algorithm="ProtoNet", model=backbone.name)
        self.loaded = Loaded(algorithm.model, algorithm, {}, config, (backbone.width,), "", [])

    def checked(self, X: Any) -> Any:
        """An array, or pictures as they are; raises what is wrong with `X`."""
        return X if are_pictures(X) else _array(X)

    def fit(self, X: Any) -> Tensor:
        """Features of the support set."""
        return self.backbone.features(X)

    def __call__(self, X: Any) -> Tensor:
        return self.backbone.features(X)


def _array(X: Any) -> np.ndarray:
    checked: np.ndarray = check_array(
        X, ensure_2d=True, allow_nd=True, dtype="numeric", input_name="X"
    )
    return checked
