"""From settings to objects: data, episode samplers, network, algorithm."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from innerloop.algorithms import Algorithm
from innerloop.config import TrainConfig
from innerloop.data.augment import Augment
from innerloop.data.augment import named as named_augment
from innerloop.data.base import ClassIndexed
from innerloop.data.splits import automatic_split, split_classes
from innerloop.errors import UserError, first_line
from innerloop.functional import mean_squared_error
from innerloop.inner import SGD, Adam, InnerOptimizer
from innerloop.keywords import arguments_of
from innerloop.making import call_seeded, find_named, make
from innerloop.recipes import OWN
from innerloop.references import find, is_reference
from innerloop.registry import ALGORITHMS, MODELS
from innerloop.renamed import forward
from innerloop.sizes import fit_sizes
from innerloop.sources import Source, build_source, of_features
from innerloop.tasks.augmenting import check_augment
from innerloop.tasks.normalization import Normalization
from innerloop.tasks.protocol import Tasks
from innerloop.tasks.sampler import EpisodeSampler
from innerloop.tasks.sinusoid import SinusoidSampler

# Names of version 0.1.0 that are elsewhere now.
__getattr__ = forward(__name__)


def check_device(device: str) -> None:
    """Raise a `UserError` if there is no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        found = (
            torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        )
        there = ["cpu", *([] if found is None else [found.type])]
        raise UserError(
            f"device {device!r} cannot be used here: {first_line(error)}; this machine has "
            f"{' and '.join(there)}"
        ) from error


def build_samplers(
    config: TrainConfig,
    data: ClassIndexed | None = None,
    *,
    progress: bool = False,
    given: Collection[str] | None = None,
    say: Callable[[str], None] = warnings.warn,
) -> tuple[TrainConfig, dict[str, Tasks]]:
    """Tasks for `"train"`, `"val"` and `"test"`; no `"val"` where the split has none.

    Args:
        config: the settings.
        data: the images; None for what `config` names.
        progress: show the progress of preparing data.
        given: sizes of tasks that the user gave; others are lowered where the data is too small
            for them.  None to lower none.
        say: told what was lowered.

    Returns:
        `config`, with `split: auto` replaced by the split that it means so that results
        name it, and sizes that the data can serve; and the samplers.

    Raises:
        UserError: unknown data, split or device, or too few classes or images for the tasks.
    """
    check_device(config.device)
    source: Source
    if data is None:
        check_regression(config)
        source = build_source(config, progress=progress)
    else:
        source = of_features(config, data, progress=progress)
    if not isinstance(source, ClassIndexed):
        return _with_ways(config, source), dict(source)
    config = resolve(config, source)
    if given is not None:
        config, line = fit_sizes(config, source, given)
        if line is not None:
            say(line)
    parts = split_classes(source, config.split)
    return config, {
        part: build_sampler(config, source, part, classes, training=part == "train")
        for part, classes in parts.items()
        if part != "val" or len(classes)
    }


def _with_ways(config: TrainConfig, source: Mapping[str, Tasks]) -> TrainConfig:
    """`config` with the number of ways that tasks of a user's own have, if all say the same one."""
    ways = {getattr(tasks, "n_way", None) for tasks in source.values()}
    n_way = ways.pop() if len(ways) == 1 else None
    if not isinstance(n_way, int) or n_way == config.n_way:
        return config
    if config.n_way != TrainConfig.recipe(config.algorithm, config.data, config.model).n_way:
        raise UserError(
            f"n_way is {config.n_way}, but tasks of data {config.data} are {n_way}-way: leave out "
            "n_way"
        )
    return dataclasses.replace(config, n_way=n_way)


def check_regression(config: TrainConfig) -> None:
    """Raise a `UserError` for settings with which a network cannot learn numbers."""
    if not config.regression:
        return
    if config.algorithm == "protonet":
        raise UserError(
            f"protonet needs classes, which data {config.data} does not have: use another algorithm"
        )
    if MODELS.is_ours(config.model) and config.model != "mlp":
        raise UserError(
            f"model {config.model} takes images; for data {config.data} set model to mlp"
        )
    if config.model == "mlp" and config.head == "shared":
        raise UserError(f"head shared is for classes; for data {config.data} set head to linear")


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
    data: ClassIndexed,
    part: str,
    classes: np.ndarray,
    *,
    training: bool = False,
    episode_seed: int | None = None,
    labels: str | None = None,
) -> EpisodeSampler:
    """A sampler of training tasks, or of tasks to evaluate on, from one part of a split.

    Args:
        config: the settings.
        data: the images.
        part: name of the part.
        classes: its classes.
        training: with the ways, shots, queries, rotation and augmentation of training.
        episode_seed: draw other episodes; None for `config.seed`.
        labels: of training tasks, see `EpisodeSampler`; None for what the algorithm asks for.

    Raises:
        UserError: too few classes or images for the tasks, or no such device.
    """
    check_device(config.device)
    return EpisodeSampler(
        data,
        classes,
        n_way=(config.train_n_way or config.n_way) if training else config.n_way,
        k_shot=(config.train_k_shot or config.k_shot) if training else config.k_shot,
        k_query=config.k_query if training else config.eval_k_query,
        seed=config.seed if episode_seed is None else episode_seed,
        split=part,
        split_name=config.split,
        rotate=config.rotate if training else config.rotate_test,
        within_group=config.within_group,
        inputs=config.inputs,
        labels=(labels or _labels(config)) if training else "task",
        augment=_augment(config, data) if training else None,
        # Tasks of an outer step lie in one tensor.
        block=config.meta_batch_size if training else 1,
        device=config.device,
    )


def _augment(config: TrainConfig, data: ClassIndexed) -> Augment | None:
    """What `config` names; a reference is to an augmentation, or to a function that is one."""
    if config.augment is None:
        return None
    if not is_reference(config.augment):
        if not data.pixels:
            raise UserError(
                f"augment {config.augment} is for images of bytes, and {data.name} has none: "
                "name a function of your own, MODULE:NAME or FILE.py:NAME"
            )
        return named_augment(config.augment, data.example_shape)
    found: Augment = find(config.augment)
    check_augment(found, f"augment {config.augment}")
    return found


def _labels(config: TrainConfig) -> str:
    """The labels that the algorithm trains on: `task` (0..N-1) or `class`; task if unknown."""
    return getattr(find_named(ALGORITHMS, config.algorithm), "labels", "task")


def resolve(config: TrainConfig, data: ClassIndexed) -> TrainConfig:
    """`config` with what it means for the data: `split: auto`, and `inputs` without pixels."""
    if not data.pixels and config.inputs == OWN["data"]["inputs"]:  # the recipe's, for bytes
        config = dataclasses.replace(config, inputs=TrainConfig.inputs)
    if config.split != "auto":
        return config
    return dataclasses.replace(config, split=automatic_split(data))


def build_model(
    config: TrainConfig,
    input_shape: tuple[int, ...],
    normalization: Normalization | None = None,
) -> nn.Module:
    """The network that `config` names, for inputs of a shape: `(C, H, W)` for images.

    Args:
        config: the settings.
        input_shape: of one example.
        normalization: what `normalize` means for the data, see `normalization_of`.

    Raises:
        UserError: that network does not take such inputs, or does not normalise them.
    """
    maker = find_named(MODELS, config.model)
    given: dict[str, Any] = {"input_shape": input_shape, "regression": config.regression}
    if normalization is not None:
        if not normalization._asdict().keys() <= arguments_of(maker):
            raise UserError(
                f"model {config.model} does not normalise images: set normalize to false, or give "
                "it arguments mean and deviation, each with one entry a channel"
            )
        given |= normalization._asdict()
    model = make(config.model, maker, config, **given)
    if not isinstance(model, nn.Module):
        raise UserError(f"model {config.model} must give an nn.Module, not {type(model).__name__}")
    return model


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
    algorithm = find_named(ALGORITHMS, config.algorithm)
    settings = {**config.to_dict(), "num_classes": num_classes}
    if config.execution == "fastest":  # not yet measured
        settings["execution"] = "auto"
    settings["loss"] = _loss(config)
    settings["inner_optimizer"] = _inner_optimizer(config)
    if config.metric is not None and is_reference(config.metric):
        settings["metric"] = find(config.metric)
    taken = arguments_of(algorithm) - {"model"}
    options = {name: value for name, value in settings.items() if name in taken}
    options["model"] = model.to(config.device)
    made = call_seeded(config.algorithm, algorithm, config, **options)
    if not isinstance(made, Algorithm):
        raise UserError(
            f"algorithm {config.algorithm} must be an innerloop.Algorithm, not "
            f"{type(made).__name__}"
        )
    return made


def _inner_optimizer(config: TrainConfig) -> InnerOptimizer | None:
    """What `config` names; None for plain gradient descent."""
    name, momentum, decay = config.inner_optimizer, config.inner_momentum, config.inner_weight_decay
    if name == "sgd":
        return SGD(momentum, decay) if momentum or decay else None
    if name == "adam":
        return Adam(weight_decay=decay)
    maker = find(name)
    if callable(maker):  # `make` refuses what is not
        for setting in ("inner_momentum", "inner_weight_decay"):
            if getattr(config, setting) and setting not in arguments_of(maker):
                raise UserError(
                    f"inner_optimizer {name} has no argument {setting!r}: set {setting} to 0"
                )
    made: InnerOptimizer = make(name, maker, config)
    return made


def _loss(config: TrainConfig) -> Callable[[Any, Any], Any]:
    if config.loss is not None and is_reference(config.loss):
        found = find(config.loss)
        loss: Callable[[Any, Any], Any] = found() if isinstance(found, type) else found
        return loss
    return mean_squared_error if config.regression else F.cross_entropy


def normalization_of(config: TrainConfig, train: Tasks) -> Normalization | None:
    """Mean and deviation of the training classes' pixels, if `config` asks for them.

    Raises:
        UserError: the tasks are not of images.
    """
    if not config.normalize:
        return None
    found = getattr(train, "normalization", None)
    if not isinstance(found, Normalization):
        raise UserError(
            f"normalize is for classes of images, and data {config.data} has none: set normalize "
            "to false"
        )
    return found


def num_classes(train: Tasks) -> int | None:
    """How many classes training tasks are drawn from; None where that is not known."""
    return getattr(train, "num_classes", None)


def absolute_paths(config: TrainConfig) -> TrainConfig:
    """See `TrainConfig.absolute`."""
    return config.absolute()
