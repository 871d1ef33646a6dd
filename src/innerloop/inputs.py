"""From users' pictures to what the algorithm adapts on: pixels as in training, or features."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_array
from torch import Tensor

from innerloop.backbones import Backbone
from innerloop.data.given import are_pictures, each_as_bytes, image_bytes, scaled_image
from innerloop.data.ink import find_ink, looked_at, on_blank_paper, worth_finding
from innerloop.data.pictures import MIDDLE, border_brightness
from innerloop.errors import UserError, one_of
from innerloop.runs.loading import Loaded

INKS = ("auto", "dark", "light")
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


class Pictures:
    """Pictures at a network's size, and the grey ones as ink is looked for in them.

    Of large ones no more is kept than that.

    Args:
        given: bytes `[C, h, w]` of each, in its own size.
        shape: `(C, H, W)` of the network.

    Attributes:
        scaled: bytes `[n, C, H, W]`.
        looked_at: bytes `[h, w]` of each; none where C is not 1.
    """

    def __init__(self, given: Iterable[np.ndarray], shape: tuple[int, ...]) -> None:
        scaled = []
        self.looked_at: list[np.ndarray] = []
        for pixels in given:
            scaled.append(scaled_image(pixels, shape[1:]))
            if shape[0] == 1:
                self.looked_at.append(looked_at(pixels[0]))
        self.scaled = np.stack(scaled)

    def __len__(self) -> int:
        return len(self.scaled)


class PixelInputs:
    """Pixels `[n, C, H, W]`, as training had them.

    Args:
        loaded: a network that was meta-trained.
        ink: `"auto"`, `"dark"` or `"light"`.
        prepare: `"auto"`, `"ink"` or `"none"`.

    Attributes:
        raw: the network takes 0..255.
        ink_: `"dark"` or `"light"`, once `fit` has run; None for networks without ink.
        prepare_: `"ink"` or `"none"`, once `fit` has run.
    """

    def __init__(self, loaded: Loaded, ink: str, prepare: str = "auto") -> None:
        self.loaded, self._ink, self._prepare = loaded, ink, prepare
        self.raw = loaded.config.inputs == "raw"
        self.channels: int | None = loaded.input_shape[0]
        self.ink_: str | None = None
        self.prepare_ = "none"

    def checked(self, X: Any) -> np.ndarray | Pictures:
        """An array, or pictures of any sizes; raises what is wrong with `X` as one."""
        shape = self.loaded.input_shape
        if isinstance(X, Pictures):
            return X
        if are_pictures(X):
            return Pictures(each_as_bytes(X, shape[0]), shape)
        return _array(X)

    def fit(self, X: np.ndarray | Pictures) -> Tensor:
        """Pixels of the support set, which tells what `ink_` and `prepare_` are."""
        pictures = self._pictures(X)
        self.ink_ = self._find_ink(pictures.scaled)
        self.prepare_ = self._find_prepare(pictures)
        return self._pixels(self._prepared(pictures))

    def __call__(self, X: np.ndarray | Pictures) -> Tensor:
        return self._pixels(self.prepared(X))

    def prepared(self, X: np.ndarray | Pictures) -> np.ndarray:
        """Bytes `[n, C, H, W]` of what the network sees, before ink becomes 1."""
        return self._prepared(self._pictures(X))

    def _pictures(self, X: np.ndarray | Pictures) -> Pictures:
        if isinstance(X, Pictures):
            return X
        return Pictures(image_bytes(X, self.loaded.input_shape), self.loaded.input_shape)

    def _prepared(self, pictures: Pictures) -> np.ndarray:
        if self.prepare_ == "none":
            return pictures.scaled
        seen, dark = pictures.scaled.copy(), self.ink_ == "dark"
        for into, picture in zip(seen, pictures.looked_at, strict=True):
            ink = find_ink(picture, dark)
            if ink is not None:
                into[0] = on_blank_paper(ink, dark, into.shape[1:])
        return seen

    def _find_ink(self, images: np.ndarray) -> str | None:
        check_ink(self.loaded, self._ink)
        if self._ink != "auto":
            return self._ink
        if not self.loaded.knows_ink:
            return None
        return "dark" if border_brightness(images) > MIDDLE else "light"

    def _find_prepare(self, pictures: Pictures) -> str:
        one_of(PREPARE, prepare=self._prepare)
        if self.ink_ is None:
            if self._prepare == "ink":
                raise UserError(
                    "prepare is 'ink', but this network was not trained on grey pictures of ink: "
                    "leave prepare out"
                )
            return "none"
        if self._prepare != "auto":
            return self._prepare
        if self.loaded.data_name not in CENTRED:
            return "none"
        dark = self.ink_ == "dark"
        return "ink" if worth_finding([find_ink(x, dark) for x in pictures.looked_at]) else "none"

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
    prepare_ = "none"

    def __init__(self, backbone: Backbone, ink: str, prepare: str, views: str) -> None:
        for name, value in (("ink", ink), ("prepare", prepare)):
            if value not in ("auto", "none"):
                raise UserError(
                    f"{name} is {value!r}, but {backbone.name} takes any pictures: leave it out"
                )
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


def _array(X: Any) -> np.ndarray:
    checked: np.ndarray = check_array(
        X, ensure_2d=True, allow_nd=True, dtype="numeric", input_name="X"
    )
    return checked
