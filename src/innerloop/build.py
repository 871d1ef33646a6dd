"""From settings to objects: data, episode samplers, network, algorithm."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from innerloop import models
from innerloop.algorithms import MAML, Algorithm
from innerloop.config import TrainConfig
from innerloop.data import NAMES
from innerloop.data import load as load_data
from innerloop.data.base import ImageClasses
from innerloop.data.splits import automatic_split, split_classes
from innerloop.errors import UserError
from innerloop.sampler import EpisodeSampler


def build_data(config: TrainConfig, *, progress: bool = False) -> ImageClasses:
    """The data set that `config` names; raises `UserError` as `innerloop.data.load`."""
    return load_data(
        config.data,
        omniglot_source=config.omniglot_source,
        image_size=config.image_size,
        glyph_classes=config.glyph_classes,
        progress=progress,
    )


def build_samplers(config: TrainConfig, data: ImageClasses) -> dict[str, EpisodeSampler]:
    """Samplers for `"train"`, `"val"` and `"test"`; no `"val"` where the split has none.

    Raises:
        UserError: unknown split, or too few classes or images for the tasks.
    """
    parts = split_classes(data, config.split)
    return {
        part: build_sampler(config, data, part, classes, training=part == "train")
        for part, classes in parts.items()
        if part != "val" or len(classes)
    }


def build_sampler(
    config: TrainConfig,
    data: ImageClasses,
    part: str,
    classes: np.ndarray,
    *,
    training: bool = False,
    episode_seed: int | None = None,
) -> EpisodeSampler:
    """A sampler of training tasks, or of tasks to evaluate on, from one part of a split.

    Args:
        config: the settings.
        data: the images.
        part: name of the part.
        classes: its classes.
        training: with the ways, queries and rotation of training.
        episode_seed: draw other episodes; None for `config.seed`.

    Raises:
        UserError: too few classes or images for the tasks.
    """
    return EpisodeSampler(
        data,
        classes,
        n_way=(config.train_n_way or config.n_way) if training else config.n_way,
        k_shot=config.k_shot,
        k_query=config.k_query if training else config.eval_k_query,
        seed=config.seed if episode_seed is None else episode_seed,
        split=part,
        split_name=config.split,
        rotate=config.rotate if training else config.rotate_test,
        within_group=config.within_group,
        inputs=config.inputs,
        device=config.device,
    )


def resolve(config: TrainConfig, data: ImageClasses) -> TrainConfig:
    """`config` with `split: auto` replaced by the split that it means, so that results name it."""
    if config.split != "auto":
        return config
    return dataclasses.replace(config, split=automatic_split(data))


def build_model(config: TrainConfig, image_shape: tuple[int, int, int]) -> nn.Module:
    """The network that `config` names, for images of shape `(C, H, W)`."""
    channels, height, width = image_shape
    if config.model == "mlp":
        return models.MLP(
            channels * height * width, config.n_way, head=config.head, seed=config.seed
        )
    if config.model == "tutorial_conv":
        if (height, width) != (28, 28):
            raise UserError(f"model tutorial_conv takes 28 x 28 images, not {height} x {width}")
        return models.TutorialConv(
            config.n_way, channels=channels, width=config.width, seed=config.seed
        )
    if height != width:
        raise UserError(f"model conv4 takes square images, not {height} x {width}")
    return models.Conv4(
        config.n_way,
        channels=channels,
        image_size=height,
        width=config.width,
        pool=config.pool,
        head=config.head,
        unit_features=config.unit_features,
        seed=config.seed,
    )


def _maml(config: TrainConfig, model: nn.Module) -> Algorithm:
    return MAML(
        model,
        config.inner_lr,
        config.inner_steps,
        config.first_order,
        inner_reduction=config.inner_reduction,
        inner_max_norm=config.inner_max_norm,
        bn=config.bn,
        chunk_size=config.chunk_size,
    )


ALGORITHMS: dict[str, Callable[[TrainConfig, nn.Module], Algorithm]] = {"maml": _maml}


def build_algorithm(config: TrainConfig, model: nn.Module) -> Algorithm:
    """The algorithm that `config` names, on `model`.

    Raises:
        UserError: there is no such device, or settings that do not fit.
    """
    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {config.device!r} cannot be used here: {reason}") from error
    return ALGORITHMS[config.algorithm](config, model.to(config.device))


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """Paths made absolute, so that a run folder can be used from any working directory."""
    changes: dict[str, Any] = {}
    if config.omniglot_source:
        changes["omniglot_source"] = str(Path(config.omniglot_source).expanduser().absolute())
    # A name stays a name, even beside a folder that is called the same.
    if config.data not in NAMES and Path(config.data).exists():
        changes["data"] = str(Path(config.data).expanduser().absolute())
    return dataclasses.replace(config, **changes)
