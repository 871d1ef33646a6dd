"""Load trained networks from a run folder or a weights file."""

from __future__ import annotations

import dataclasses
import functools
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm
from innerloop.backbones import Backbone
from innerloop.build import (
    build_algorithm,
    build_model,
    build_sampler,
    resolve,
)
from innerloop.config import TrainConfig
from innerloop.data.base import ClassIndexed, in_colour, with_dark_ink
from innerloop.data.splits import split_classes
from innerloop.errors import UserError
from innerloop.files import at_home, quoted
from innerloop.functional import Params
from innerloop.keywords import keywords_checked
from innerloop.references import call, check_trust, find
from innerloop.references import trust as remember
from innerloop.registry import MODELS
from innerloop.runs.checkpoint import fill, read_tensors
from innerloop.runs.described import check_layers, description, normalization, pixels, white
from innerloop.runs.fit_config import FitConfig
from innerloop.runs.folder import CONFIG, MODEL
from innerloop.runs.tested import check_same, check_shape
from innerloop.sources import body_of, build_source
from innerloop.tasks.normalization import Normalization
from innerloop.tasks.protocol import Tasks, is_maker

PRETRAINED = Path(__file__).parent.parent / "pretrained"
# Settings of training tasks alone, which have no part in a test.
_TRAINING = {"train_n_way": None, "train_k_shot": None}


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
        inverted: training inverted bytes (dark ink); None where the file does not say.
        on_paper: its pictures were of ink on paper, which show if ink is dark or light; None
            where the file does not say.
        normalization: mean and deviation by which the network normalises images; None for none.
        computed_by: the `identity` of the pretrained body whose features it takes; empty for none.
        white: the value of white in the pictures of more than 8 bits that it was trained on; None
            where there were none.
        train_marks: marks of the training examples, see `innerloop.tasks.marks`; none in files of
            older versions.
    """

    model: nn.Module
    algorithm: Algorithm
    params: Params
    config: TrainConfig | FitConfig
    input_shape: tuple[int, ...]
    data_name: str
    train_classes: list[str]
    temperature: float = 1.0
    inverted: bool | None = None
    on_paper: bool | None = None
    normalization: Normalization | None = None
    computed_by: str = ""
    white: float | None = None
    train_marks: Any = ()

    def body(self) -> Backbone | None:
        """The pretrained network whose features this network takes; None where it takes pictures.

        Raises:
            UserError: it cannot be had, or it is another one than in training.
        """
        found = body_of(self.config) if isinstance(self.config, TrainConfig) else None
        if found is not None and found.identity != self.computed_by:
            raise UserError(
                f"{found.name} computes other features than when the network was trained on them: "
                "bring back its weights and its preprocessing as they were, or train again"
            )
        return found

    @property
    def knows_ink(self) -> bool:
        """True if ink, dark or light by what the pictures show, becomes 1.

        For all other pixels the preprocessing of training is repeated.
        """
        if getattr(self.config, "inputs", None) != "ink" or self.input_shape[0] != 1:
            return False
        return self.on_paper is not False

    @property
    def num_classes(self) -> int | None:
        """How many classes it was trained on, turned ones counted; None in regression."""
        if isinstance(self.config, FitConfig):
            return len(self.train_classes) or None
        return num_trained(self.config, self.train_classes)

    def untrained(self) -> Loaded:
        """The same network before meta-training, for comparison."""
        if isinstance(self.config, FitConfig):
            return self._replace(params=self.algorithm.init_params(), temperature=1.0)
        model = build_model(self.config, self.input_shape, self.normalization)
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


def _resolved(path: str | Path) -> Path:
    """The path, or that of the weights of this name that come with the package."""
    if str(path) in pretrained_names() and not Path(path).exists():
        return PRETRAINED / f"{path}.safetensors"
    return at_home(path)


def load_shared(path: str | Path) -> Loaded:
    """`load` for read-only use; weights of the package are read once."""
    resolved = _resolved(path)
    return _shipped(resolved) if resolved.parent == PRETRAINED else load(resolved)


@functools.cache
def _shipped(file: Path) -> Loaded:
    return load(file)


@keywords_checked
def load(path: str | Path, *, algorithm: Algorithm | None = None, trust: bool = False) -> Loaded:
    """Load what a run has learnt.

    Args:
        path: a run folder, a `model.safetensors` of one, or one of `pretrained_names`.
        algorithm: for a run by `fit`, one like that which it began with; None to make it by the
            function that the run names.
        trust: run the code that the file names, although you never used it on this machine.

    Raises:
        UserError: there is no such file, it is damaged, or not of this package; or it names code
            that was never used here.
    """
    path = _resolved(path)
    file = path / MODEL if path.is_dir() else path
    if not file.exists():
        if path.is_dir() and (path / CONFIG).exists():
            raise UserError(
                f"the run in {path} has no weights yet: go on with innerloop resume {quoted(path)}"
            )
        raise UserError(
            f"{path} is neither a run folder nor a weights file, nor one of the weights that come "
            f"with the package: {', '.join(pretrained_names())}"
        )
    if file.suffix == ".py":
        raise UserError(f"{path} is code: name what makes the network in it, {path}:NAME")
    tensors, metadata = read_tensors(file)
    settings, shape, data_name, classes, temperature = description(file, metadata)
    config: TrainConfig | FitConfig
    if FitConfig.describes(settings):
        config = FitConfig.from_dict(settings, str(file))
        if algorithm is None:
            algorithm = _made(file, config, trust)
            algorithm.network.takes = shape
        check_layers(file, metadata, algorithm.model)
        params = fill(algorithm.init_params(), tensors, str(file))
        return Loaded(
            *(algorithm.model, algorithm, params, config, shape, data_name, classes, temperature),
            *pixels(file, metadata),
            white=white(file, metadata),
        )
    if algorithm is not None:
        raise UserError(f"{file} names its algorithm: leave out algorithm=")
    # Where it was trained need not be where it is used.
    config = TrainConfig.from_dict(settings, str(file))
    config = dataclasses.replace(config, device="cpu", precision="float32").found_in(file.parent)
    check_trust(config.references, file, trust)
    _check_size(file, config, shape, tensors)
    norm = normalization(file, config, shape, metadata)
    model = build_model(config, shape, norm)
    algorithm = build_algorithm(config, model, num_trained(config, classes))
    algorithm.network.takes = shape
    check_layers(file, metadata, model)
    params = fill(algorithm.init_params(), tensors, str(file))
    for name, p in model.named_parameters():
        if name in params:
            p.data.copy_(params[name])
    return Loaded(
        *(model, algorithm, params, config, shape, data_name, classes, temperature),
        *pixels(file, metadata),
        norm,
        str(metadata.get("computed_by", "")),
        white(file, metadata),
        metadata.get("train_marks"),
    )


def _made(file: Path, config: FitConfig, trusted: bool) -> Algorithm:
    """The algorithm of a run by `fit`, made again by the function that the run names."""
    text = config.made_by.get("algorithm")
    if text is None:
        raise UserError(
            f"the algorithm of {file} cannot be imported: pass algorithm=, one like that which the "
            "run began with"
        )
    check_trust([text], file, trusted)
    made = call(text, find(text))
    if not isinstance(made, Algorithm):
        raise UserError(f"{text} must give an innerloop.Algorithm, not {type(made).__name__}")
    return made


def _check_size(
    file: Path, config: TrainConfig, shape: tuple[int, ...], tensors: dict[str, Tensor]
) -> None:
    """Raise a `UserError` for a small file whose settings describe a network beyond all memory."""
    if not MODELS.is_ours(config.model):
        return  # code of the user's own
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
    trust: bool = False,
    **changes: Any,
) -> tuple[Loaded, Tasks]:
    """Load a run together with a sampler of tasks to test it on.

    Args:
        path: as for `load`, as is `trust`.
        part: `"test"`, `"val"` or `"train"`; or `"all"`, every class of other data.
        episode_seed: draw other tasks, from the same split; None for those of the run.
        progress: show the progress of preparing data.
        changes: settings that replace those of the run, for instance `data`, `bn`, `n_way`.
            Other data comes with its usual split unless `split` is given.

    Raises:
        UserError: as `load`; the run's data is gone; the network cannot do what is asked; or
            classes to test on were trained on.
    """
    loaded = load(path, trust=trust)
    if isinstance(loaded.config, FitConfig):
        return _load_made(loaded, loaded.config, path, part, trust, episode_seed, changes)
    own = loaded.config
    own.check_data(path, lambda name: _command(path, name), changes)
    if changes.get("data", own.data) != own.data:
        changes.setdefault("split", "auto")
        shape = loaded.input_shape
        square = len(shape) == 3 and shape[1] == shape[2]
        if square and own.image_size is None and at_home(changes["data"]).is_dir():
            # Pictures are scaled to what the network takes.
            changes.setdefault("image_size", shape[1])
    config = TrainConfig.from_dict({**own.to_dict(), **changes, **_TRAINING}).absolute()
    # What was just given is the user's.
    remember(set(config.references) - set(own.references))
    if own.regression != config.regression:
        raise UserError(
            f"this network was trained on {own.data} and cannot be tested on {config.data}: its "
            "inputs are of another kind"
        )
    if config.n_way != own.n_way and not (config.any_ways or config.regression):
        raise UserError(
            f"this network has a head with {own.n_way} rows and cannot tell "
            f"{config.n_way} classes apart: train with that n_way, or with head: shared"
        )
    source = build_source(config, progress=progress, episode_seed=episode_seed)
    if not isinstance(source, ClassIndexed):
        if part not in source:
            raise UserError(f"{config.data} has no {part} part")
        return _fitted(loaded, config), source[part]
    if getattr(source, "computed_by", "") != loaded.computed_by:
        loaded.body()  # says what is another
    if source.pixels and (loaded.input_shape[0], source.example_shape[0]) == (3, 1):
        source = in_colour(source)
    check_shape(loaded.input_shape, source.example_shape, config.data)
    if loaded.inverted is not None and not loaded.knows_ink:
        # As in training, whatever the other pictures look like.
        source = with_dark_ink(source, loaded.inverted)
    config = resolve(config, source)
    every = np.arange(source.num_classes)
    classes = every if part == "all" else split_classes(source, config.split)[part]
    if len(classes) == 0:
        raise UserError(f"split {config.split} has no {part} part")
    seen = {source.names[int(c)] for c in classes} & set(loaded.train_classes)
    if part != "train" and seen:
        where = "classes" if part == "all" else f"{part} classes of split {config.split}"
        count = f"{len(seen)} of the {len(classes)} {where}"
        if source.name == loaded.data_name:
            raise UserError(f"{count} were trained on: the run's own split is {own.split}")
        # Pictures of the same things may be others; a copy of the folder has the very same.
        warnings.warn(
            f"{count} of {source.name} have names of classes that were trained on, such as "
            f"{min(seen)}: if they are the same, the result is too good",
            stacklevel=2,
        )
    if "data" not in changes and episode_seed is None:
        check_same(path, loaded.train_classes, loaded.train_marks, source)
    sampler = build_sampler(config, source, part, classes, episode_seed=episode_seed)
    return _fitted(loaded, config), sampler


def _command(path: str | Path, name: str) -> str:
    """How to test a run on data in another place."""
    option = f"--{name.replace('_', '-')}"
    return f"name another place: innerloop evaluate {quoted(path)} {option} PATH"


def _fitted(loaded: Loaded, config: TrainConfig) -> Loaded:
    """`loaded` with the algorithm and the device that `config` says."""
    algorithm = build_algorithm(config, loaded.model, loaded.num_classes)
    algorithm.network.takes = loaded.input_shape
    params = {name: p.to(config.device) for name, p in loaded.params.items()}
    return loaded._replace(algorithm=algorithm, params=params, config=config)


def _load_made(
    loaded: Loaded,
    config: FitConfig,
    path: str | Path,
    part: str,
    trusted: bool,
    episode_seed: int | None,
    changes: dict[str, Any],
) -> tuple[Loaded, Tasks]:
    """`load_for` of a run by `fit`: its tasks are made by the functions that the run names."""
    steps = changes.pop("eval_inner_steps", config.eval_inner_steps)
    changes = {name: value for name, value in changes.items() if (name, value) != ("device", "cpu")}
    if changes or episode_seed is not None:
        raise UserError(
            f"{', '.join(changes) or 'seed'}: cannot be changed in a run by innerloop.fit; call "
            "innerloop.evaluate with tasks of your own"
        )
    text = config.made_by.get(part)
    if text is None:
        raise UserError(
            f"the {part} tasks of the run in {path} cannot be imported: call innerloop.evaluate "
            "with them"
        )
    check_trust([text], path, trusted)
    tasks = find(text)
    if is_maker(tasks):
        tasks = call(text, tasks)
    if not isinstance(tasks, Tasks):
        raise UserError(f"{text} must give innerloop.Tasks, not {type(tasks).__name__}")
    return loaded._replace(config=dataclasses.replace(config, eval_inner_steps=steps)), tasks
