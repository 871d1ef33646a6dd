"""Trained networks back from a run folder or a weights file."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.build import (
    SINUSOID,
    build_algorithm,
    build_data,
    build_model,
    build_sampler,
    build_waves,
    resolve,
)
from innerloop.config import TrainConfig
from innerloop.data.archive import MAX_SIDE
from innerloop.data.splits import split_classes
from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.runs.checkpoint import fill, read_tensors
from innerloop.runs.folder import CONFIG, MODEL
from innerloop.tasks.protocol import TaskSampler

PRETRAINED = Path(__file__).parent.parent / "pretrained"


class Loaded(NamedTuple):
    """What `load` gives back.

    Attributes:
        model: the network; its own parameters are the trained ones, where they were trained.
        algorithm: the algorithm on it, to adapt and predict.
        params: the trained meta-parameters by name.
        config: the settings of the run.
        input_shape: of the examples that it was trained on, `(C, H, W)` for images.
        data_name: short name of that data.
        train_classes: names of the classes that it was trained on.
        temperature: divides the logits so that probabilities can be trusted, as fitted on
            validation tasks; 1 where that was not done.
    """

    model: nn.Module
    algorithm: Algorithm
    params: Params
    config: TrainConfig
    input_shape: tuple[int, ...]
    data_name: str
    train_classes: list[str]
    temperature: float = 1.0

    @property
    def num_classes(self) -> int | None:
        """How many classes it was trained on, turned ones counted; None in regression."""
        return num_trained(self.config, self.train_classes)

    def untrained(self) -> Loaded:
        """The same network as it was before meta-training, to see what that bought."""
        model = build_model(self.config, self.input_shape)
        algorithm = build_algorithm(self.config, model, self.num_classes)
        return self._replace(
            model=model, algorithm=algorithm, params=algorithm.init_params(), temperature=1.0
        )


def num_trained(config: TrainConfig, train_classes: list[str]) -> int | None:
    """See `Loaded.num_classes`."""
    return len(train_classes) * (4 if config.rotate else 1) or None


def pretrained_names() -> list[str]:
    """Names of the weights that come with the package; each has a card beside it."""
    return sorted(file.stem for file in PRETRAINED.glob("*.safetensors"))


def load(path: str | Path) -> Loaded:
    """Load what a run has learnt.

    Args:
        path: a run folder, a `model.safetensors` of one, or one of `pretrained_names`.

    Raises:
        UserError: there is no such file, it is damaged, or not of this package.
    """
    name, path = str(path), Path(path)
    if name in pretrained_names() and not path.exists():
        path = PRETRAINED / f"{name}.safetensors"
    file = path / MODEL if path.is_dir() else path
    if not file.exists():
        if path.is_dir() and (path / CONFIG).exists():
            raise UserError(
                f"the run in {path} has no weights yet: go on with innerloop train --resume {path}"
            )
        raise UserError(
            f"{path} is neither a run folder nor a weights file, nor one of the weights that come "
            f"with the package: {', '.join(pretrained_names())}"
        )
    tensors, metadata = read_tensors(file)
    settings, shape, data_name, classes, temperature = _description(file, metadata)
    # Where it was trained need not be where it is used.
    config = TrainConfig.from_dict(settings, str(file))
    config = dataclasses.replace(config, device="cpu", precision="float32")
    _check_size(file, config, shape, tensors)
    model = build_model(config, shape)
    algorithm = build_algorithm(config, model, num_trained(config, classes))
    params = fill(algorithm.init_params(), tensors, str(file))
    for name, p in model.named_parameters():
        if name in params:
            p.data.copy_(params[name])
    return Loaded(model, algorithm, params, config, shape, data_name, classes, temperature)


def _description(
    file: Path, metadata: dict[str, Any]
) -> tuple[dict[str, Any], tuple[int, ...], str, list[str], float]:
    """Settings, input shape, name of the data, training classes, temperature."""
    names = ("config", "input_shape", "data", "train_classes")
    settings, shape, data_name, classes = (metadata.get(name) for name in names)
    temperature = metadata.get("temperature", 1.0)
    if not (
        isinstance(settings, dict)
        and isinstance(shape, list)
        and len(shape) in (1, 3)
        and all(type(n) is int and 0 < n <= MAX_SIDE for n in shape)
        and isinstance(data_name, str)
        and isinstance(classes, list)
        and all(isinstance(name, str) for name in classes)
        and type(temperature) is float
        and 0 < temperature < math.inf
    ):
        raise UserError(f"{file} lacks the description of its network")
    return settings, tuple(shape), data_name, classes, temperature


def _check_size(
    file: Path, config: TrainConfig, shape: tuple[int, ...], tensors: dict[str, Tensor]
) -> None:
    """Raise a `UserError` for a small file whose settings describe a network beyond all memory."""
    try:
        with torch.device("meta"):  # shapes alone
            described = sum(p.numel() for p in build_model(config, shape).parameters())
    except (RuntimeError, TypeError):  # more than can be counted
        described = sys.maxsize
    held = sum(t.numel() for t in tensors.values())
    # An algorithm without a head leaves out that of the network, and it may be the larger part.
    if described > 10 * held + 1_000_000:
        raise UserError(
            f"{file} describes a network of {described:,} parameters, but holds {held:,} numbers"
        )


def load_for(
    path: str | Path,
    *,
    part: str = "test",
    episode_seed: int | None = None,
    progress: bool = False,
    **changes: Any,
) -> tuple[Loaded, TaskSampler]:
    """Load a run together with a sampler of tasks to test it on.

    Args:
        path: as for `load`.
        part: `"test"`, `"val"` or `"train"`.
        episode_seed: draw other tasks, from the same split; None for those of the run.
        progress: show the progress of preparing data.
        changes: settings that replace those of the run, for instance `data`, `bn`, `n_way`.
            Other data comes with its usual split unless `split` is given.

    Raises:
        UserError: as `load`; the network cannot do what is asked; or classes to test on
            were trained on.
    """
    loaded = load(path)
    if changes.get("data", loaded.config.data) != loaded.config.data:
        changes.setdefault("split", "auto")
    config = TrainConfig.from_dict({**loaded.config.to_dict(), **changes, "train_n_way": None})
    if SINUSOID in (loaded.config.data, config.data):
        return _load_for_waves(loaded, config, part, episode_seed, changes)
    if config.n_way != loaded.config.n_way and not config.any_ways:
        raise UserError(
            f"this network has a head with {loaded.config.n_way} rows and cannot tell "
            f"{config.n_way} classes apart: train with that n_way, or with head: shared"
        )
    data = build_data(config, progress=progress)
    if data.image_shape != loaded.input_shape:
        raise UserError(
            f"the network was trained on images of shape {loaded.input_shape} (channels, height, "
            f"width), but those of {config.data} have {data.image_shape}"
        )
    config = resolve(config, data)
    classes = split_classes(data, config.split)[part]
    if len(classes) == 0:
        raise UserError(f"split {config.split} has no {part} part")
    if part != "train" and data.name == loaded.data_name:
        seen = {data.names[int(c)] for c in classes} & set(loaded.train_classes)
        if seen:
            raise UserError(
                f"{len(seen)} of the {len(classes)} {part} classes of split {config.split} were "
                f"trained on: the run's own split is {loaded.config.split}"
            )
    sampler = build_sampler(config, data, part, classes, episode_seed=episode_seed)
    return _fitted(loaded, config), sampler


def _fitted(loaded: Loaded, config: TrainConfig) -> Loaded:
    """`loaded` with the algorithm and the device that `config` says."""
    algorithm = build_algorithm(config, loaded.model, loaded.num_classes)
    params = {name: p.to(config.device) for name, p in loaded.params.items()}
    return loaded._replace(algorithm=algorithm, params=params, config=config)


def _load_for_waves(
    loaded: Loaded,
    config: TrainConfig,
    part: str,
    episode_seed: int | None,
    changes: dict[str, Any],
) -> tuple[Loaded, TaskSampler]:
    """`load_for` in regression, where nothing about classes has a meaning."""
    if config.data != loaded.config.data:
        raise UserError(
            f"this network was trained on {loaded.config.data} and cannot be tested on "
            f"{config.data}: its inputs are of another kind"
        )
    wrong = sorted(set(changes) - {"data", "k_shot", "eval_k_query", "eval_inner_steps", "device"})
    if wrong:
        raise UserError(
            f"{', '.join(wrong)}: not for data sinusoid, which has neither classes nor images"
        )
    return _fitted(loaded, config), build_waves(config, part, episode_seed=episode_seed)
