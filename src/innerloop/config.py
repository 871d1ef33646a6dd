"""The settings of a training run: config file schema and command line in one.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from innerloop.errors import (
    UserError,
    above_zero,
    at_least,
    at_most,
    share_below_one,
    share_of_training,
)
from innerloop.recipes import RECIPES, SINUSOID, SINUSOID_RECIPES

# Of a file of settings; ours have 2,000.
MAX_CHARACTERS = 100_000


@dataclass(frozen=True)
class TrainConfig:
    """All settings of one run; the defaults are the `quick` recipe, that of MAML.

    `recipe` gives those of another algorithm.
    """

    # --- data and tasks
    data: str = "glyphs"
    """What to learn from: `glyphs` (made on the spot), `omniglot`, `random`, `sinusoid` (regression
    on sine waves), or the PATH of a folder with one folder of images per class, of a folder with
    train.csv, val.csv and test.csv, or of a .npy array (classes, images, channels, height,
    width)."""
    omniglot_source: str | None = None
    """Folder with images_background.zip and images_evaluation.zip (or what is in them);
    without it they are downloaded once."""
    image_size: int | None = None
    """Images from a folder are resized to this many pixels."""
    glyph_classes: int = 1500
    """How many different glyphs to make, training, validation and test together."""
    split: str = "auto"
    """Which classes are for meta-training, -validation and -test; `auto` takes the usual split of
    the data. `innerloop data info DATA` lists them."""
    within_group: bool = False
    """All classes of a task come from one group, such as an alphabet."""
    n_way: int = 5
    """Classes in a task."""
    k_shot: int = 1
    """Support images of each class."""
    k_query: int = 2
    """Query images of each class in a training task."""
    train_n_way: int | None = 20
    """Classes in a training task where it should differ from n_way (needs head `shared`, or an
    algorithm without a head)."""
    eval_k_query: int = 15
    """Query images of each class in a validation or test task."""
    inputs: Literal["ink", "unit", "raw"] = "ink"
    """Pixels: `ink` is 1 for ink and 0 for paper, `unit` 0 to 1, `raw` 0 to 255."""
    rotate: bool = True
    """Training classes turned by 90, 180 and 270 degrees count as further classes."""
    rotate_test: bool = False
    """The same for validation and test classes."""

    # --- network
    model: Literal["conv4", "resnet12", "tutorial_conv", "mlp"] = "conv4"
    """The network."""
    width: int = 32
    """Filters of each convolution, units of each hidden layer. resnet12: filters in the first
    block; the others have 2.5, 5 and 10 times as many (64 is the usual size)."""
    pool: Literal["stride", "max"] = "max"
    """conv4: halve the image by strided convolutions or by max-pooling."""
    head: Literal["linear", "random", "normal", "shared"] = "shared"
    """Last layer: `linear` has one learned row per class, zero at first; `random` the same with
    random rows of length about 1, `normal` with numbers drawn from N(0, 1), as in the code of the
    MAML paper; `shared` one row that all classes start from."""
    unit_features: bool = True
    """conv4: scale feature vectors to unit mean square."""
    drop_rate: float = 0.0
    """resnet12: dropout after each block in training, 0 to less than 1."""
    init: Literal["kaiming", "xavier"] = "kaiming"
    """conv4: how convolutions start: Kaiming-normal; or, as in the code of the MAML paper,
    Xavier-uniform."""

    # --- algorithm (inner loop)
    algorithm: Literal[
        "maml",
        "anil",
        "boil",
        "reptile",
        "meta-sgd",
        "maml++",
        "imaml",
        "protonet",
        "fine-tune",
    ] = "maml"
    """The meta-learning algorithm; other settings then start from its own recipe."""
    adapted: str | None = None
    """What the inner loop changes: `all`, `head`, `body`, or names of parameters with
    wildcards, such as `convs.3.*,head.*`; by default what the algorithm is known for."""
    inner_lr: float = 0.02
    """Inner learning rate."""
    inner_steps: int = 1
    """Inner steps in training."""
    eval_inner_steps: int = 3
    """Inner steps in validation and test."""
    first_order: bool = False
    """Drop the second derivatives (first-order MAML)."""
    second_order_from: float = 0.0
    """Drop them only for this first share of the run, 0 to 1 (derivative-order annealing)."""
    derivative: Literal["reverse", "mixed"] = "reverse"
    """How second derivatives are taken: `mixed` keeps the graph of one inner step at a time."""
    inner_reduction: Literal["mean", "per_shot"] = "per_shot"
    """Support loss: the mean over examples, or their sum divided by the shots (as in the paper's
    code; n_way times the mean)."""
    inner_max_norm: float | None = None
    """Clip each inner gradient to this norm."""
    bn: Literal["transductive", "support", "per_step"] = "transductive"
    """Batch statistics for queries: of the query set, or of the support set; maml++ in use also
    `per_step`, the running statistics of each inner step."""
    learn_inner_lr: bool = True
    """maml++: learn an inner rate for every layer and step."""
    per_step_norm: bool = True
    """maml++: learn batch norm's scale and shift anew for every inner step."""
    per_step_statistics: bool = True
    """maml++: keep running batch statistics for every inner step, for bn `per_step`."""
    multi_step_loss_until: float = 0.15
    """maml++: for this first share of the run the query loss of every inner step counts."""
    inner_batch_size: int | None = 20
    """reptile: images in each inner step."""
    regularization: float = 2.0
    """imaml: how strongly the fast weights are pulled towards the initial ones (lambda)."""
    cg_steps: int = 5
    """imaml: conjugate-gradient steps."""

    # --- meta-training (outer loop)
    iterations: int = 1200
    """Outer steps."""
    max_seconds: float | None = None
    """End training after this much time, even if iterations are left; the schedule follows."""
    meta_batch_size: int = 2
    """Tasks in one outer step."""
    meta_optimizer: Literal["adam", "sgd"] = "adam"
    """What takes the outer steps."""
    meta_lr: float = 1e-2
    """Learning rate of the outer loop."""
    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    """meta_lr over the run: as it is, straight down to 0, or a short warm-up and a half cosine down
    to 1%."""
    clip_value: float | None = None
    """Clip each entry of the meta-gradient to plus or minus this."""
    clip_norm: float | None = 10.0
    """Clip the norm of the meta-gradient."""

    # --- run
    seed: int = 0
    """Initial weights and episodes are a pure function of it."""
    val_every: int = 400
    """Validate after this many outer steps; the best weights so far are what the run is for."""
    val_tasks: int = 100
    """Tasks in each validation."""
    test_tasks: int = 600
    """Tasks in the test at the end."""
    execution: Literal["auto", "fastest", "stacked", "vmap", "loop", "shared_body"] = "auto"
    """How tasks are computed: `auto` goes by the network; `fastest` measures once, at the start of
    the run, and keeps to that way; the others ask for a way."""
    chunk_size: int | None = None
    """Tasks computed at a time: lower it when memory runs out."""
    threads: int | None = None
    """CPU threads; PyTorch's choice by default."""
    device: str = "cpu"
    """Where to compute: cpu, cuda, mps."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """On cuda: how exactly factors are multiplied; tf32 and bf16 are faster and less exact."""

    def __post_init__(self) -> None:
        def named(names: str) -> dict[str, Any]:
            return {name: getattr(self, name) for name in names.split()}

        for name, value in self.to_dict().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name} must be a finite number, not {value}")
            if isinstance(value, int) and abs(value) >= 2**31:
                raise UserError(f"{name} must be less than {2**31:,}, not {repr(value)}")
        at_most(10_000, **named("inner_steps eval_inner_steps threads"))
        at_least(0, **named("seed"))
        at_least(2, **named("n_way train_n_way"))
        at_least(1, **named("glyph_classes k_shot k_query eval_k_query width inner_steps"))
        at_least(1, **named("eval_inner_steps iterations meta_batch_size val_every val_tasks"))
        at_least(1, **named("test_tasks cg_steps threads chunk_size inner_batch_size"))
        above_zero(**named("inner_lr meta_lr max_seconds clip_value clip_norm regularization"))
        share_of_training(**named("second_order_from multi_step_loss_until"))
        # The baseline trains a classifier of all classes, whatever its tasks' ways.
        free = self.any_ways or self.algorithm == "fine-tune"
        if self.train_n_way not in (None, self.n_way) and not free:
            raise UserError(
                "train_n_way can differ from n_way only with head: shared, because any other head "
                "has one row per class; set head to shared or train_n_way to null"
            )
        share_below_one(**named("drop_rate"))
        if self.drop_rate and self.model != "resnet12":
            raise UserError(
                f"drop_rate is for model resnet12, not for {self.model}: set drop_rate to 0"
            )
        if self.head != "linear" and self.model == "tutorial_conv":
            raise UserError("model tutorial_conv has a linear head: set head to linear")
        if self.init != "kaiming" and self.model != "conv4":
            raise UserError(
                f"init {self.init} is for model conv4, not for {self.model}: set init to kaiming"
            )

    @property
    def any_ways(self) -> bool:
        """Whether the network can tell any number of classes apart."""
        return self.head == "shared" or self.algorithm == "protonet"

    def to_dict(self) -> dict[str, Any]:
        """All settings as plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def recipe(cls, algorithm: str = "maml", data: str = "glyphs") -> TrainConfig:
        """The defaults that suit an algorithm and the data."""
        settings = RECIPES.get(algorithm, {})
        if data == "sinusoid":
            settings = {**settings, **SINUSOID, **SINUSOID_RECIPES.get(algorithm, {})}
        return cls(**{**settings, "algorithm": algorithm, "data": data})  # type: ignore[arg-type]

    @classmethod
    def from_dict(cls, settings: dict[str, Any], source: str = "the config") -> TrainConfig:
        """Settings by name; what is not given is as in `recipe`.

        Raises:
            UserError: an unknown name (the nearest known one is suggested), or a value
                of the wrong type; it names `source`.
        """
        if not isinstance(settings, dict):
            raise UserError(f"{source} must hold `name: value` lines")
        types = get_type_hints(cls)
        for name in settings:
            if name not in types:
                near = difflib.get_close_matches(str(name), types, n=1)
                hint = f": did you mean {near[0]!r}?" if near else f"; known: {', '.join(types)}"
                raise UserError(f"{source} has an unknown setting {name!r}{hint}")
        given = {n: _coerce(n, value, types[n], source) for n, value in settings.items()}
        base = cls.recipe(given.get("algorithm", "maml"), given.get("data", "glyphs"))
        return dataclasses.replace(base, **given)

    @classmethod
    def from_file(cls, path: str | Path) -> TrainConfig:
        """Read a YAML file of settings.

        Raises:
            UserError: the file cannot be read, is no YAML, or has a bad setting.
        """
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read(MAX_CHARACTERS + 1)
            if len(text) > MAX_CHARACTERS:
                raise UserError(f"{path} is too large for a file of settings")
            settings = yaml.safe_load(text)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            # ValueError: no UTF-8, a date that there is not, a number of thousands of digits.
            if isinstance(error, UserError):
                raise
            raise UserError(f"{path} is not valid YAML: {error}") from error
        return cls.from_dict(settings, str(path))

    @classmethod
    def preset(cls, name: str) -> TrainConfig:
        """One of the recipes that come with the package, see `preset_names`.

        Raises:
            UserError: there is no such recipe; it lists those that there are.
        """
        if name not in preset_names():
            raise UserError(f"there is no preset {name!r}: choose from {', '.join(preset_names())}")
        text = (resources.files("innerloop") / "presets" / f"{name}.yaml").read_text("utf-8")
        return cls.from_dict(yaml.safe_load(text), f"preset {name}")


ALGORITHM_NAMES: tuple[str, ...] = get_args(get_type_hints(TrainConfig)["algorithm"])


def preset_names() -> list[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files("innerloop") / "presets"
    return sorted(f.name[: -len(".yaml")] for f in folder.iterdir() if f.name.endswith(".yaml"))


def _coerce(name: str, value: Any, kind: Any, source: str) -> Any:
    """`value` as `kind`, for what YAML and JSON can hold."""
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        if value in choices:
            return value
        raise UserError(f"{source}: {name} must be one of {', '.join(choices)}, not {repr(value)}")
    if choices:  # X | None
        if value is None:
            return None
        kind = next(c for c in choices if c is not type(None))
    if kind is bool or isinstance(value, bool):
        good = kind is bool and isinstance(value, bool)
    elif kind is float:
        # YAML reads 1e-3 (without a point) as text.
        try:
            value, good = float(value), True
        except (TypeError, ValueError, OverflowError):
            good = False
    else:
        good = isinstance(value, kind)
    if not good:
        raise UserError(f"{source}: {name} must be of type {kind.__name__}, not {repr(value)}")
    return value
