"""The run folder: its files, and how a run is saved and resumed."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import logging
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from innerloop import __version__
from innerloop.algorithms.base import Algorithm
from innerloop.config import TrainConfig, read_settings
from innerloop.data.remarks import some
from innerloop.errors import UserError
from innerloop.files import at_home, quoted, write_whole
from innerloop.functional import Params
from innerloop.keywords import check_takes
from innerloop.outer_loop import OuterLoop
from innerloop.runs.checkpoint import fill, read_tensors, write_tensors
from innerloop.runs.fit_config import FitConfig
from innerloop.runs.optimizer import OptimizerFactory, make_optimizer
from innerloop.runs.optimizer_state import OURS, OWN, Packed, fill_ours, tensors_of, unpack
from innerloop.tasks.marks import are_other, marks_of
from innerloop.tasks.protocol import (
    Tasks,
    class_names_of,
    computed_by,
    input_shape_of,
    name_of,
    origin_of,
    pixels_of,
)

_log = logging.getLogger("innerloop")

CONFIG, METRICS, CHECKPOINTS = "config.yaml", "metrics.jsonl", "checkpoints"
MODEL, RESULTS, PICTURE = "model.safetensors", "results.json", "run.png"
# How many of the latest checkpoints are kept while a run goes on.
KEPT = 3


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
    # Of all cores of this process.
    cpu_seconds: float = 0.0
    # Number of the stretch of the run, see `innerloop.training.phases`.
    phase: int = 0
    best_iteration: int = 0
    # Validation accuracy, or minus the validation loss.
    best_score: float = -math.inf
    # Training losses since the last line of metrics.
    losses: list[float] = field(default_factory=list)
    # The rate of each of the optimiser's groups, before the schedule.
    rates: list[float] = field(default_factory=list)
    # The optimiser is not one that the config names.
    own_optimizer: bool = False
    # A schedule of the user's own; None for that of the config.
    schedule: Callable[[float], float] | None = None
    # What tells the objects of a user's own from others; None where the config says all.
    fingerprint: dict[str, Any] | None = None


# The tensors and the counters of a checkpoint.
Saved = tuple[dict[str, Tensor], dict[str, Any]]
# With their types, because a file can hold anything.
COUNTERS = {
    "iteration": int,
    "seconds": float,
    "step_seconds": float,
    "best_iteration": int,
    "best_score": float,
    "losses": list,
}
# Those that checkpoints of version 0.1 lack.
LATER = {"cpu_seconds": float, "phase": int}


def new_folder(out: str | Path | None, config: TrainConfig | FitConfig) -> Path:
    """Make the run folder.

    Raises:
        UserError: `out` already holds a run, or cannot be made.
    """
    if out is None:
        for i in itertools.count(1):
            folder = Path("runs") / f"{config.stem()}-{i:03d}"
            # Made at once, so that two runs started together do not share a folder.
            with contextlib.suppress(FileExistsError), _making(folder):
                folder.mkdir(parents=True)
                return folder
    out = at_home(str(out))
    refuse_used(out)
    with _making(out):
        out.mkdir(parents=True, exist_ok=True)
    return out


def refuse_used(out: Path) -> None:
    """Raise a `UserError` if there is a run in that folder, or what one would write over."""
    if any((out / name).exists() for name in (CONFIG, MODEL, RESULTS)):
        raise UserError(
            f"{out} already holds a run: choose another folder, or go on with it by "
            f"innerloop resume {quoted(out)} (in Python by resume=True)"
        )
    for name in (METRICS, PICTURE, CHECKPOINTS):
        if (out / name).exists():
            raise UserError(
                f"{out} holds {name} of something else, and a run would write there: choose "
                "another folder, or remove it"
            )


def beside(out: Path) -> str:
    """What to say of a folder that holds other things already; "" of one that does not."""
    names = sorted(entry.name for entry in out.iterdir()) if out.is_dir() else []
    shown = [name for name in names if not name.startswith(".")]
    if not shown:
        return ""
    return f"{out} is not empty ({some(shown)}): the files of the run go there, too"


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


def new_state(
    config: OuterLoop,
    algorithm: Algorithm,
    optimizer: OptimizerFactory | None = None,
    schedule: Callable[[float], float] | None = None,
    fingerprint: dict[str, Any] | None = None,
    *,
    meta_lr: float | None = None,
) -> State:
    """The state before the first iteration.

    Args:
        config: the settings.
        algorithm: what is learnt.
        optimizer: one of the user's own; None for the one that `config` names.
        schedule: the same of the schedule.
        fingerprint: see `State`.
        meta_lr: learning rate; None for that of `config`.
    """
    if schedule is not None:
        check_takes("schedule", schedule, "the share of the run that is done", 0.0)
    params = algorithm.init_params()
    learnt = [p for name, p in params.items() if name not in algorithm.moving_averages]
    made = make_optimizer(config, learnt, optimizer, meta_lr=meta_lr)
    return State(
        params=params,
        optimizer=made,
        best=params,
        rates=[group["lr"] for group in made.param_groups],
        own_optimizer=optimizer is not None,
        schedule=schedule,
        fingerprint=fingerprint,
    )


def read_config(folder: Path) -> TrainConfig | FitConfig:
    """The settings that a run began with.

    Raises:
        UserError: `folder` is not a run folder.
    """
    if not folder.exists():
        raise UserError(f"there is no folder {folder}; innerloop runs lists the runs")
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} is not a run folder: there is no {CONFIG} in it")
    settings = read_settings(folder / CONFIG)
    if FitConfig.describes(settings):
        return FitConfig.from_dict(settings, str(folder / CONFIG))
    return TrainConfig.from_dict(settings, str(folder / CONFIG))


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, the newest first."""
    found = [
        path
        for path in (folder / CHECKPOINTS).glob("*.safetensors")
        if re.fullmatch(r"iteration-\d{1,18}", path.stem)
    ]
    # By their iterations: the clock of a machine can be wrong.
    return sorted(found, key=iteration_of, reverse=True)


def iteration_of(checkpoint: Path) -> int:
    """The outer step after which a checkpoint was written, by its name."""
    return int(checkpoint.stem.removeprefix("iteration-"))


def save_state(folder: Path, train: Tasks, state: State) -> None:
    """Write a checkpoint: parameters, best parameters, the optimiser's state, counters.

    The last few are kept, for the case that one is damaged.
    """
    tensors = {f"params/{name}": p for name, p in state.params.items()}
    tensors |= {f"best/{name}": p for name, p in state.best.items()}
    metadata = {name: getattr(state, name) for name in COUNTERS | LATER}
    metadata |= {"version": __version__, "train_classes": _digest(train)}
    metadata["train_marks"] = marks_of(train)
    if state.fingerprint is not None:
        metadata["fingerprint"] = state.fingerprint
    if state.own_optimizer:
        packed = Packed(state.optimizer, state.params)
        tensors |= packed.tensors
        metadata["optimizer"] = packed.plain
        if packed.left_out and state.iteration == 0:
            _log.warning(
                "checkpoints do not hold %s of %s: if it changes in training, a run that is "
                "resumed goes on otherwise",
                ", ".join(packed.left_out),
                type(state.optimizer).__name__,
            )
    else:
        tensors |= tensors_of(state.optimizer, state.params)
    path = folder / CHECKPOINTS / f"iteration-{state.iteration:06d}.safetensors"
    write_tensors(path, tensors, metadata)
    keep_checkpoints(folder, KEPT)


def keep_checkpoints(folder: Path, number: int) -> None:
    """Remove all but the newest checkpoints."""
    for path in checkpoints(folder)[number:]:
        # One too many does no harm.
        with contextlib.suppress(OSError):
            path.unlink()


def _digest(train: Tasks) -> str:
    """Tells whether the training classes are still those that the run began with."""
    told = [*class_names_of(train), *filter(None, [computed_by(train)])]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def read_state(folder: Path, train: Tasks, warn: Callable[[str], None]) -> Saved | None:
    """What `save_state` wrote last; None where the first checkpoint was yet to come.

    A damaged checkpoint is set aside, under another name, and the one before it used.

    Args:
        folder: the run folder.
        train: the sampler of training tasks.
        warn: told of every damaged checkpoint.

    Raises:
        UserError: no checkpoint is whole, or `train` has other classes than the run began with.
    """
    paths = checkpoints(folder)
    for path in paths:
        try:
            tensors, metadata = read_tensors(path)
            _check_counters(path, metadata)
        except UserError as error:
            aside = path.with_name(path.name + ".damaged")
            with contextlib.suppress(OSError):
                path.replace(aside)
            warn(f"{error}. It is kept as {aside.name}; going on from the one before it")
            continue
        if metadata.get("train_classes") != _digest(train):
            raise UserError(
                f"{name_of(train)} no longer has the training classes that the run in {folder} "
                "began with, or a body computes other features of them: bring data and body back "
                "as they were, or start a new run"
            )
        if are_other(metadata.get("train_marks"), marks_of(train)):
            raise UserError(
                f"{name_of(train)} has other examples of the training classes than the run in "
                f"{folder} began with: bring them back as they were. If the run was given a data "
                f"set that was made in Python, write that to a folder or a .npy file, and its "
                f"place as data into {folder / CONFIG}"
            )
        return tensors, metadata
    if paths:
        raise UserError(
            f"every checkpoint in {folder / CHECKPOINTS} is damaged: start a new run, or the "
            f"same from its beginning by innerloop train --config {quoted(folder / CONFIG)}"
        )
    return None


def _check_counters(path: Path, metadata: dict[str, Any]) -> None:
    for name, kind in (COUNTERS | LATER).items():
        if name in LATER:
            metadata.setdefault(name, kind())
        value: Any = metadata.get(name)
        good = type(value) is kind
        if good and kind is list:
            good = all(type(loss) is float for loss in value)
        elif good and name != "best_score":
            good = 0 <= value < math.inf
        if not good:
            raise UserError(f"{path} is not a checkpoint: it lacks what resuming needs ({name})")


def restore(state: State, saved: Saved, source: str) -> None:
    """Load a checkpoint into a new state; `source` names it in errors."""
    tensors, counters = saved
    parts: dict[str, Params] = {}
    for key, tensor in tensors.items():
        # What follows is a parameter's name, which may have a "/" itself.
        *part, name = key.split("/", 2 if key.startswith("optimizer/") else 1)
        parts.setdefault("/".join(part), {})[name] = tensor
    state.best = fill(state.best, parts.pop("best", {}), source)
    for name, value in fill(state.params, parts.pop("params", {}), source).items():
        state.params[name].copy_(value)
    for name in COUNTERS | LATER:
        setattr(state, name, counters[name])
    if state.own_optimizer:
        own = parts.get(OWN, {})
        unpack(state.optimizer, state.params, own, counters.get("optimizer"), source)
        return
    learnt = {id(p) for group in state.optimizer.param_groups for p in group["params"]}
    template = {name: p for name, p in state.params.items() if id(p) in learnt}
    known = {f"optimizer/{key}" for key in OURS[type(state.optimizer)]}
    if parts.keys() != (known if state.iteration else set()):
        raise UserError(f"{source} does not fit the optimiser: it holds {', '.join(parts)}")
    fill_ours(state.optimizer, template, parts, source)


def cut_metrics(folder: Path, state: State) -> None:
    """Cut off metrics that were written after the checkpoint."""
    if (folder / METRICS).exists():
        lines = (folder / METRICS).read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if _iteration(line) <= state.iteration]
        with write_whole(folder / METRICS) as file:
            file.write(b"".join(kept))


def _iteration(line: bytes) -> float:
    """The iteration of a line of metrics; infinity for a line that was cut off."""
    try:
        iteration = json.loads(line)["iteration"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return math.inf
    whole = isinstance(iteration, int) and line.endswith(b"\n")
    return iteration if whole else math.inf


def save_model(
    folder: Path,
    config: OuterLoop,
    train: Tasks,
    params: Params,
    layers: Mapping[str, str] | None = None,
) -> None:
    """Write the weights, with all that `innerloop.load` needs to rebuild the network.

    The names of the training classes go along, so that nobody tests on them by mistake; and the
    `layers` of a network of the user's own, whose code may change.
    """
    metadata = {
        "config": config.to_dict(),
        "input_shape": input_shape_of(train),
        "pixels": pixels_of(train),
        "data": name_of(train),
        "train_classes": class_names_of(train),
        "train_marks": marks_of(train),
        "version": __version__,
        **origin_of(train),
    }
    if layers:
        metadata["layers"] = dict(layers)
    if getattr(config, "normalize", False):
        metadata["normalization"] = train.normalization._asdict()  # type: ignore[attr-defined]
    write_tensors(folder / MODEL, params, metadata)
