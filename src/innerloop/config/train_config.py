"""All settings of a training run, by name."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

from innerloop.config.files import FLAT, complete, is_flat, read_settings, settings_from
from innerloop.config.parts import (
    PARTS,
    AlgorithmSettings,
    NetworkSettings,
    TaskSettings,
    TrainRunSettings,
)
from innerloop.errors import UserError
from innerloop.files import at_home
from innerloop.outer_loop import OuterLoop
from innerloop.ranges import range_from
from innerloop.recipes import (
    BODY,
    BODY_RECIPES,
    OWN,
    RECIPES,
    REGRESSION,
    REGRESSION_RECIPES,
)
from innerloop.references import absolute, is_of_library, is_reference
from innerloop.registry import ALGORITHMS, DATA, MODELS

# What runs of version 0.1.0 did without saying so; and settings that tell those of a run, which
# name all there were, from a file made by hand.
BEFORE = {"unit_length": False}
_OF_A_RUN = {"unit_features", "image_size", "cg_steps", "regularization", "threads", "precision"}
# Settings whose values can be references.
_OUTER = ("meta_optimizer", "schedule")
_INNER = ("algorithm", "loss", "metric", "inner_optimizer")
_BODY = ("body", "preprocess")
REFERENCES = ("data", "augment", "model", *_BODY, *_INNER, *_OUTER)


@dataclass(frozen=True)
class TrainConfig(TrainRunSettings, OuterLoop, AlgorithmSettings, NetworkSettings, TaskSettings):
    """All settings of one run; the defaults are the `quick` recipe, that of MAML.

    `recipe` gives those of another algorithm, of other data or of a network of your own.  Every
    setting has a name of its own: `config.inner_lr`.  In a file they stand by part, see
    `to_parts`: tasks, network, algorithm, outer_loop, run.  Those of the outer loop are explained
    in `OuterLoop`.
    """

    parts: ClassVar[Mapping[str, type[Any]]] = PARTS

    def __post_init__(self) -> None:
        if isinstance(self.inner_lr, Mapping):
            # A copy, so that the caller cannot change it.
            object.__setattr__(self, "inner_lr", dict(self.inner_lr))
        for name in ("train_n_way", "train_k_shot"):
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, range_from(name, value))
        for name, value in _network(self.model, self.body).items():
            object.__setattr__(self, name, value)
        super().__post_init__()

    def check(self) -> None:
        super().check()
        if self.body is not None and self.regression:
            raise UserError("a body is for classes of pictures: leave body out of a regression")
        for name in ("rotate", "rotate_test", "normalize", "augment"):
            if self.body is not None and getattr(self, name):
                raise UserError(
                    f"{name} is for pixels, and what a body gives is features: leave {name} out"
                )
        if self.train_k_shot is not None and self.regression:
            raise UserError("train_k_shot is for classes: leave it out of a regression")
        if self.pretrain_lr is not None and not self.pretrain:
            raise UserError("pretrain_lr is for a run with pretrain: leave it out, or set pretrain")
        # The baseline trains a classifier of all classes, whatever its tasks' ways.
        free = self.any_ways or self.algorithm == "fine-tune"
        if self.train_n_way not in (None, self.n_way) and not free:
            raise UserError(
                "train_n_way can differ from n_way only with head: shared, because any other head "
                "has one row per class; set head to shared or train_n_way to null"
            )

    @property
    def any_ways(self) -> bool:
        """True if the network can tell any number of classes apart."""
        return self.head == "shared" or self.algorithm == "protonet"

    @property
    def regression(self) -> bool:
        """True if tasks have numbers as targets, not classes: the one place that decides."""
        return self.loss == "mse" or (self.loss is None and self.data in REGRESSION)

    @property
    def references(self) -> list[str]:
        """The code that the settings name, see `innerloop.references`."""
        values = (getattr(self, name) for name in REFERENCES)
        return [v for v in values if v is not None and is_reference(v) and not is_of_library(v)]

    def absolute(self) -> TrainConfig:
        """Paths made absolute, so that a run folder can be used from any working directory."""
        changes: dict[str, Any] = {}
        for name in ("omniglot_source", "weights"):
            if value := getattr(self, name):
                changes[name] = str(at_home(value).absolute())
        for name in REFERENCES:
            value = getattr(self, name)
            if value is not None:
                changes[name] = absolute(value)
        # A name stays a name, even if a folder has the same one.
        if not is_reference(self.data) and self.data not in DATA and at_home(self.data).exists():
            changes["data"] = str(at_home(self.data).absolute())
        return dataclasses.replace(self, **changes)

    def found_in(self, folder: Path) -> TrainConfig:
        """Files of code and weights that are gone, from a run folder or from beside it.

        Whoever is given a run puts them there.  Code in another place is other code: it has to be
        trusted anew.
        """
        changes: dict[str, Any] = {}
        for name, (place, rest) in self._files().items():
            near = [where / _name_of(place) for where in (folder, folder.parent)]
            there = [file for file in near if file.is_file()]
            if not at_home(place).exists() and there:
                changes[name] = f"{there[0].resolve()}{rest}"
        return dataclasses.replace(self, **changes)

    def check_data(
        self, run: Path | str, way_out: Callable[[str], str], given: Collection[str] = ()
    ) -> None:
        """Raise a `UserError` where the data is gone that a run names.

        Args:
            run: its folder or weights.
            way_out: from the name of a setting to how it is given anew.
            given: settings that are given anew.
        """
        path = None if is_reference(self.data) or self.data in DATA else self.data
        source = self.omniglot_source if self.data == "omniglot" else None
        for name, place in (("data", path), ("omniglot_source", source)):
            if not place or name in given or at_home(place).exists():
                continue
            if at_home(place).is_absolute():
                lost = f"names {place} as its {name}, and nothing is there: put it back"
            else:
                lost = (
                    f"was trained on {place!r}, a data set that was made in Python: write it to a "
                    "folder or a .npy file"
                )
            raise UserError(f"the run in {run} {lost}, or {way_out(name)}")

    def check_body(self) -> None:
        """Raise a `UserError` where a file is gone that makes the body."""
        for name, (place, _) in self._files().items():
            if name in ("body", "weights", "preprocess") and not at_home(place).exists():
                raise UserError(
                    f"{name}: there is no file {place}: put it back; for a run that has moved, put "
                    f"{_name_of(place)} into its folder"
                )

    def _files(self) -> dict[str, tuple[str, str]]:
        """The files that settings name, and what follows the path, by setting."""
        found = {}
        for name in REFERENCES:
            place, _, rest = (getattr(self, name) or "").rpartition(":")
            if place.endswith(".py"):
                found[name] = (place, f":{rest}")
        return found | ({"weights": (self.weights, "")} if self.weights else {})

    @property
    def setting(self) -> str:
        """Such as "5-way 1-shot"; empty for data of one's own, which may give tasks as they are."""
        if is_reference(self.data):
            return ""
        return ("" if self.regression else f"{self.n_way}-way ") + f"{self.k_shot}-shot"

    def title(self) -> str:
        tasks = ", ".join(part for part in (self.data, self.setting) if part)
        on = "" if self.body is None else f" on {self.body}"
        return f"{self.algorithm} on {tasks}, network {self.model}{on}"

    def stem(self) -> str:
        """The beginning of the name of a run folder."""
        data = self.data.rpartition(":")[0] if is_reference(self.data) else self.data
        parts = Path(data).stem, self.algorithm.rpartition(":")[2], re.sub("[- ]", "", self.setting)
        return "-".join(filter(None, parts))

    @classmethod
    def recipe(
        cls,
        algorithm: str = "maml",
        data: str = "glyphs",
        model: str | None = None,
        body: str | None = None,
    ) -> TrainConfig:
        """The defaults that suit an algorithm, the data, and a network or a body of one's own."""
        return cls(**_recipe(algorithm, data, model, body))

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any], source: str | None = None) -> TrainConfig:
        """Settings by name or by part; what is not given is as in `recipe`.

        Raises:
            UserError: an unknown name (the nearest known one is suggested), a name in another part
                than its own, or a value of the wrong type or out of range; it names `source`.
        """
        given = settings_from(settings, cls, source)
        given |= _network(given.get("model"), given.get("body"))
        if given.keys() >= _OF_A_RUN:
            given = {**BEFORE, **given}
        usual: dict[str, Any] = {"algorithm": "maml", "data": "glyphs", "model": None, "body": None}
        names = {name: given.get(name, value) for name, value in usual.items()}
        return complete(cls, {**_recipe(**names), **given}, source)

    @classmethod
    def from_file(cls, path: str | Path) -> TrainConfig:
        """Read a YAML file of settings.  One without parts, of version 0.1.0, is read with a note.

        Raises:
            UserError: the file cannot be read, is not YAML, or has a bad setting.
        """
        settings = read_settings(path)
        config = cls.from_dict(settings, str(path))
        if is_flat(settings, cls):
            warnings.warn(FLAT.format(path=path), stacklevel=2)
        return config

    @classmethod
    def preset(cls, name: str) -> TrainConfig:
        """One of the recipes that come with the package, see `preset_names`.

        Raises:
            UserError: there is no such recipe; it lists those that there are.
        """
        if name not in preset_names():
            raise UserError(f"there is no preset {name!r}: choose from {', '.join(preset_names())}")
        with resources.as_file(resources.files("innerloop") / "presets" / f"{name}.yaml") as file:
            return cls.from_file(file)


def preset_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("innerloop") / "presets"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def _recipe(
    algorithm: str, data: str, model: str | None, body: str | None = None
) -> dict[str, Any]:
    """See `TrainConfig.recipe`."""
    short = _network(model, body)
    model, body = short.get("model", model), short.get("body", body)
    settings = dict(RECIPES.get(algorithm, ALGORITHMS.recipes.get(algorithm, {})))
    if data in REGRESSION:
        settings |= {**REGRESSION[data], **REGRESSION_RECIPES.get(algorithm, {})}
    if model is not None and not MODELS.is_ours(model):
        settings |= {**OWN["model"], "model": model}
    if not DATA.is_ours(data) and (is_reference(data) or data in DATA):
        settings |= OWN["data"]
    if body is not None:
        settings |= {**BODY, **BODY_RECIPES.get(algorithm, {}), "body": body}
    return {**settings, "algorithm": algorithm, "data": data}


def _network(model: str | None, body: str | None) -> dict[str, str]:
    """What the name of a pretrained network of others is short for as a model."""
    if model is None or not is_of_library(model):
        return {}
    if body not in (None, model):
        raise UserError(f"model {model} is a body, and so is {body}: give one of them")
    return {"model": "embedding", "body": model}


def _name_of(place: str) -> str:
    """The last part of a path, also of one of Windows wherever this is."""
    return re.split(r"[\\/]", place)[-1]
