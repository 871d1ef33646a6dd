"""The networks and the data that have names, made from the settings that their arguments name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from innerloop import models
from innerloop.data import load
from innerloop.data.base import ImageClasses
from innerloop.errors import UserError
from innerloop.models.resnet12 import check_size
from innerloop.tasks.sinusoid import SinusoidSampler


def mlp(
    n_way: int, input_shape: tuple[int, ...], width: int, head: str, seed: int, regression: bool
) -> models.MLP:
    """Two hidden layers; one output in regression."""
    outputs = 1 if regression else n_way
    return models.MLP(math.prod(input_shape), outputs, hidden=(width, width), head=head, seed=seed)


def embedding(
    n_way: int, input_shape: tuple[int, ...], width: int, head: str, seed: int
) -> models.Embedding:
    """A linear map of features; raises `UserError` for pictures."""
    if len(input_shape) != 1:
        raise UserError(
            f"model embedding takes features [F], not examples of shape {list(input_shape)}: give "
            "a body, such as --body timm:NAME, or another model"
        )
    return models.Embedding(input_shape[0], n_way, width=width, head=head, seed=seed)


def tutorial_conv(n_way: int, input_shape: tuple[int, ...], width: int, seed: int) -> Any:
    """The tutorial's network; raises `UserError` for images of another size."""
    channels, height, breadth = input_shape
    if (height, breadth) != (28, 28):
        raise UserError(f"model tutorial_conv takes 28 x 28 images, not {height} x {breadth}")
    return models.TutorialConv(n_way, channels=channels, width=width, seed=seed)


def conv4(
    n_way: int,
    input_shape: tuple[int, ...],
    width: int,
    pool: str,
    head: str,
    unit_features: bool,
    unit_length: bool,
    init: str,
    seed: int,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
) -> models.Conv4:
    """Four blocks; raises `UserError` for images that are not square."""
    channels, height, breadth = input_shape
    if height != breadth:
        raise UserError(
            f"model conv4 takes square images, not {height} x {breadth}: scale pictures of a "
            "folder by image_size, for instance --image-size 64, or use model resnet12"
        )
    return models.Conv4(
        n_way,
        channels=channels,
        image_size=height,
        width=width,
        pool=pool,
        head=head,
        unit_features=unit_features,
        unit_length=unit_length,
        init=init,
        mean=mean,
        deviation=deviation,
        seed=seed,
    )


def resnet12(
    n_way: int,
    input_shape: tuple[int, ...],
    width: int,
    head: str,
    drop_rate: float,
    seed: int,
    mean: Sequence[float] | None = None,
    deviation: Sequence[float] | None = None,
) -> models.ResNet12:
    """The first block as wide as `width`; raises `UserError` for images that are too small."""
    channels, height, breadth = input_shape
    check_size(height, breadth)
    return models.ResNet12(
        n_way,
        channels=channels,
        widths=[width * part // 2 for part in (2, 5, 10, 20)],
        drop_rate=drop_rate,
        head=head,
        mean=mean,
        deviation=deviation,
        seed=seed,
    )


def images(
    data: str,
    omniglot_source: str | None,
    image_size: int | None,
    glyph_classes: int,
    progress: bool,
) -> ImageClasses:
    """Images by a name, or from a path."""
    return load(
        data,
        omniglot_source=omniglot_source,
        image_size=image_size,
        glyph_classes=glyph_classes,
        progress=progress,
    )


def sinusoid(
    k_shot: int, k_query: int, eval_k_query: int, episode_seed: int, device: str
) -> dict[str, SinusoidSampler]:
    """Sine waves."""
    return {
        part: SinusoidSampler(
            k_shot,
            k_query if part == "train" else eval_k_query,
            seed=episode_seed,
            split=part,
            device=device,
        )
        for part in ("train", "val", "test")
    }
