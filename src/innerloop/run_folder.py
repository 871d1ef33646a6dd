"""The run folder: what is in it, and how a run is kept there and taken up again."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import __version__
from innerloop.algorithms.base import Algorithm
from innerloop.checkpoint import fill, read_tensors, write_tensors
from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.files import write_whole
from innerloop.functional import Params
from innerloop.sampler import TaskSampler

CONFIG, METRICS, CHECKPOINT = "config.yaml", "metrics.jsonl", "checkpoint.safetensors"
MODEL, RESULTS, PICTURE = "model.safetensors", "results.json", "run.png"


@dataclass
class State:
    """Everything that resuming needs."""

    params: Params
    optimizer: torch.optim.Optimizer
    best: Params
    iteration: int = 0
    seconds: float = 0.0
    # Of those, in outer steps; the rest is validation and writing.
    step_seconds: float = 0.0
    best_iteration: int = 0
    # Validation accuracy, or minus the validation loss.
    best_score: float = -math.inf
    # Training losses since the last line of metrics.
    losses: list[float] = field(default_factory=list)


# The tensors and the counters of a checkpoint.
Saved = tuple[dict[str, Tensor], dict[str, Any]]
COUNTERS = ("iteration", "seconds", "step_seconds", "best_iteration", "best_score", "losses")


def new_folder(out: str | Path | None, config: TrainConfig) -> Path:
    """Make the run folder.

    Raises:
        UserError: `out` already holds a run, or cannot be made.
    """
    if out is None:
        ways = "" if config.data == "sinusoid" else f"{config.n_way}way"
        stem = f"{Path(config.data).stem}-{config.algorithm}-{ways}{config.k_shot}shot"
        for i in itertools.count(1):
            folder = Path("runs") / f"{stem}-{i:03d}"
            # Made at once, so that two runs started together do not share a folder.
            with contextlib.suppress(FileExistsError), _making(folder):
                folder.mkdir(parents=True)
                return folder
    out = Path(str(out))
    if any((out / name).exists() for name in (CONFIG, MODEL, RESULTS)):
        raise UserError(
            f"{out} already holds a run: choose another --out, or go on with it by "
            f"innerloop train --resume {out}"
        )
    with _making(out):
        out.mkdir(parents=True, exist_ok=True)
    return out


@contextlib.contextmanager
def _making(folder: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        if folder.is_dir():
            raise
        raise UserError(f"cannot make the run folder {folder}: a file has that name") from None
    except OSError as error:
        raise UserError(f"cannot make the run folder {folder}: {error.strerror}") from error


def new_state(config: TrainConfig, algorithm: Algorithm) -> State:
    """The state before the first iteration."""
    params = algorithm.init_params()
    learnt = [p for name, p in params.items() if name not in algorithm.moving_averages]
    return State(params=params, optimizer=make_optimizer(config, learnt), best=params)


def make_optimizer(config: TrainConfig, params: list[Tensor]) -> torch.optim.Optimizer:
    """Adam with the defaults of its paper, or plain gradient descent."""
    if config.meta_optimizer == "sgd":
        return torch.optim.SGD(params, lr=config.meta_lr)
    return torch.optim.Adam(params, lr=config.meta_lr)


def read_config(folder: Path) -> TrainConfig:
    """The settings that a run began with.

    Raises:
        UserError: `folder` is no run folder.
    """
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} is no run folder: there is no {CONFIG} in it")
    return TrainConfig.from_file(folder / CONFIG)


def _check_same_classes(folder: Path, train: TaskSampler) -> None:
    """Refuse to go on with a run whose data has changed since."""
    if (folder / MODEL).exists():
        _, metadata = read_tensors(folder / MODEL)
        if metadata.get("train_classes") != train.class_names:
            raise UserError(
                f"{train.data_name} no longer has the training classes that the run in {folder} "
                "began with: bring the data back as it was, or start a new run"
            )


def save_state(folder: Path, state: State) -> None:
    """Write the checkpoint: parameters, best parameters, the optimiser's state, counters."""
    tensors = {f"params/{name}": p for name, p in state.params.items()}
    tensors |= {f"best/{name}": p for name, p in state.best.items()}
    for name, p in state.params.items():
        for key, value in state.optimizer.state.get(p, {}).items():
            tensors[f"optimizer/{key}/{name}"] = value
    counters = {name: getattr(state, name) for name in COUNTERS}
    write_tensors(folder / CHECKPOINT, tensors, counters)


def read_state(folder: Path, train: TaskSampler) -> Saved | None:
    """What `save_state` wrote; None where the first checkpoint was yet to come.

    Raises:
        UserError: a damaged checkpoint, or `train` has other classes than the run began with.
    """
    _check_same_classes(folder, train)
    if not (folder / CHECKPOINT).exists():
        return None
    tensors, counters = read_tensors(folder / CHECKPOINT)
    missing = [name for name in COUNTERS if name not in counters]
    if missing or not any(name.startswith("best/") for name in tensors):
        raise UserError(f"{folder / CHECKPOINT} is no checkpoint: it lacks what resuming needs")
    return tensors, counters


def restore(state: State, saved: Saved, source: str) -> None:
    """Bring a new state to where a checkpoint was written; `source` names it in errors."""
    tensors, counters = saved
    parts: dict[str, Params] = {}
    for key, tensor in tensors.items():
        part, name = key.rsplit("/", 1)
        parts.setdefault(part, {})[name] = tensor
    state.best = fill(state.params, parts["best"], source)
    for name, value in fill(state.params, parts["params"], source).items():
        state.params[name].copy_(value)
    for name, p in state.params.items():
        for part in parts:
            if part.startswith("optimizer/") and name in parts[part]:
                value = parts[part][name]
                if value.ndim:  # the moments; the step count stays where Adam wants it
                    value = torch.empty_like(p).copy_(value)
                state.optimizer.state[p][part.removeprefix("optimizer/")] = value
    for name in COUNTERS:
        setattr(state, name, counters[name])


def cut_metrics(folder: Path, state: State) -> None:
    """Cut off metrics that were written after the checkpoint."""
    if (folder / METRICS).exists():
        lines = (folder / METRICS).read_text("utf-8").splitlines()
        kept = [line for line in lines if _iteration(line) <= state.iteration]
        with write_whole(folder / METRICS) as file:
            file.write("".join(line + "\n" for line in kept).encode())


def _iteration(line: str) -> float:
    """The iteration of a line of metrics; infinity for a line that was cut off."""
    try:
        return json.loads(line)["iteration"]
    except (ValueError, KeyError):
        return math.inf


def save_model(folder: Path, config: TrainConfig, train: TaskSampler, params: Params) -> None:
    """Write the weights, with all that `innerloop.load` needs to rebuild the network.

    The names of the training classes go along, so that nobody tests on them by mistake.
    """
    metadata = {
        "config": config.to_dict(),
        "input_shape": train.input_shape,
        "data": train.data_name,
        "train_classes": train.class_names,
        "version": __version__,
    }
    write_tensors(folder / MODEL, params, metadata)
