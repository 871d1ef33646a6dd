"""From settings to objects: data, episode samplers, network, algorithm."""

from __future__ import annotations

import dataclasses
import inspect
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from innerloop import models
from innerloop.algorithms import ALGORITHMS, Algorithm
from innerloop.config import TrainConfig
from innerloop.data import NAMES
from innerloop.data import load as load_data
from innerloop.data.base import ImageClasses
from innerloop.data.splits import automatic_split, split_classes
from innerloop.errors import UserError
from innerloop.functional import mean_squared_error
from innerloop.models.resnet12 import check_size
from innerloop.tasks.protocol import TaskSampler
from innerloop.tasks.sampler import EpisodeSampler
from innerloop.tasks.sinusoid import SinusoidSampler

SINUSOID = "sinusoid"
# Settings that have a meaning for images and their classes alone.
IMAGES_ONLY = ("split", "within_group", "n_way", "rotate", "rotate_test", "bn")


def build_data(config: TrainConfig, *, progress: bool = False) -> ImageClasses:
    """The images that `config` names; raises `UserError` as `innerloop.data.load`."""
    return load_data(
        config.data,
        omniglot_source=config.omniglot_source,
        image_size=config.image_size,
        glyph_classes=config.glyph_classes,
        progress=progress,
    )


def check_device(device: str) -> None:
    """Raise a `UserError` if there is no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"device {device!r} cannot be used here: {reason}") from error


def build_samplers(
    config: TrainConfig, data: ImageClasses | None = None, *, progress: bool = False
) -> tuple[TrainConfig, dict[str, TaskSampler]]:
    """Samplers for `"train"`, `"val"` and `"test"`; no `"val"` where the split has none.

    Args:
        config: the settings.
        data: the images; None for those that `config` names.
        progress: show the progress of preparing data.

    Returns:
        `config`, with `split: auto` replaced by the split that it means so that results
        name it, and the samplers.

    Raises:
        UserError: unknown data, split or device, or too few classes or images for the tasks.
    """
    check_device(config.device)
    if data is None and config.data == SINUSOID:
        check_regression(config)
        return config, {
            part: build_waves(config, part, training=part == "train")
            for part in ("train", "val", "test")
        }
    data = data or build_data(config, progress=progress)
    config = resolve(config, data)
    parts = split_classes(data, config.split)
    return config, {
        part: build_sampler(config, data, part, classes, training=part == "train")
        for part, classes in parts.items()
        if part != "val" or len(classes)
    }


def check_regression(config: TrainConfig) -> None:
    """Raise a `UserError` for settings with which a network cannot learn numbers."""
    if config.algorithm == "protonet":
        raise UserError(
            "protonet needs classes, which data sinusoid has not: use another algorithm"
        )
    if config.model != "mlp":
        raise UserError(f"model {config.model} takes images; for data sinusoid set model to mlp")
    if config.head == "shared":
        raise UserError("head shared is for classes; for data sinusoid set head to linear")
    usual = TrainConfig.recipe(config.algorithm, SINUSOID)
    wrong = [name for name in IMAGES_ONLY if getattr(config, name) != getattr(usual, name)]
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: not for data sinusoid, which has neither classes nor images"
        )


def build_waves(
    config: TrainConfig, part: str, *, training: bool = False, episode_seed: int | None = None
) -> SinusoidSampler:
    """A sampler of sine waves; arguments as for `build_sampler`."""
    return SinusoidSampler(
        config.k_shot,
        config.k_query if training else config.eval_k_query,
        seed=config.seed if episode_seed is None else episode_seed,
        split=part,
        device=config.device,
    )


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
        UserError: too few classes or images for the tasks, or no such device.
    """
    check_device(config.device)
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
        labels=ALGORITHMS[config.algorithm].labels if training else "task",
        device=config.device,
    )


def resolve(config: TrainConfig, data: ImageClasses) -> TrainConfig:
    """`config` with `split: auto` replaced by the split that it means, so that results name it."""
    if config.split != "auto":
        return config
    return dataclasses.replace(config, split=automatic_split(data))


def build_model(config: TrainConfig, input_shape: tuple[int, ...]) -> nn.Module:
    """The network that `config` names, for inputs of a shape: `(C, H, W)` for images.

    Raises:
        UserError: that network does not take such inputs.
    """
    regression = config.data == SINUSOID
    if config.model == "mlp":
        return models.MLP(
            math.prod(input_shape),
            1 if regression else config.n_way,
            hidden=(config.width, config.width),
            head=config.head,
            seed=config.seed,
        )
    channels, height, width = input_shape
    if config.model == "resnet12":
        check_size(height, width)
        return models.ResNet12(
            config.n_way,
            channels=channels,
            widths=[config.width * part // 2 for part in (2, 5, 10, 20)],
            drop_rate=config.drop_rate,
            head=config.head,
            seed=config.seed,
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
        init=config.init,
        seed=config.seed,
    )


def build_algorithm(
    config: TrainConfig, model: nn.Module, num_classes: int | None = None
) -> Algorithm:
    """The algorithm that `config` names, on `model`.

    Settings go to the arguments of the same names.

    Args:
        config: the settings.
        model: the network.
        num_classes: of the training tasks, for an algorithm that asks for it.

    Raises:
        UserError: there is no such device, or settings that do not fit.
    """
    check_device(config.device)
    algorithm = ALGORITHMS[config.algorithm]
    settings = {**config.to_dict(), "num_classes": num_classes}
    if config.execution == "fastest":  # not yet measured
        settings["execution"] = "auto"
    if config.data == SINUSOID:
        settings["loss"] = mean_squared_error
    taken = {
        name
        for cls in algorithm.__mro__
        if "__init__" in vars(cls)
        for name in inspect.signature(cls).parameters
    }
    options = {name: value for name, value in settings.items() if name in taken - {"model"}}
    return algorithm(model.to(config.device), **options)


def num_classes(train: TaskSampler) -> int | None:
    """How many classes training tasks are drawn from; None for regression."""
    return train.num_classes if isinstance(train, EpisodeSampler) else None


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """Paths made absolute, so that a run folder can be used from any working directory."""
    changes: dict[str, Any] = {}
    if config.omniglot_source:
        changes["omniglot_source"] = str(Path(config.omniglot_source).expanduser().absolute())
    # A name stays a name, even beside a folder that is called the same.
    if config.data not in (*NAMES, SINUSOID) and Path(config.data).exists():
        changes["data"] = str(Path(config.data).expanduser().absolute())
    return dataclasses.replace(config, **changes)
