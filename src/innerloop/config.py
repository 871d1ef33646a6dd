"""The settings of a training run: config file schema and command line in one.

This module imports neither PyTorch nor NumPy, so that `--help` is instant.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import yaml

from innerloop.errors import (
    UserError,
    above_zero,
    at_least,
    at_most,
    share_below_one,
    share_of_training,
)
from innerloop.outer_loop import OuterLoop
from innerloop.recipes import OWN, RECIPES, SINUSOID, SINUSOID_RECIPES
from innerloop.references import absolute, is_reference
from innerloop.registry import ALGORITHMS, DATA, MODELS

# Of a file of settings; ours have 2,000.
MAX_CHARACTERS = 100_000


# Names and references: the names are for --help and for completion alone.
if TYPE_CHECKING:
    AlgorithmName = str
    ModelName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS.names())] | str
    ModelName = Literal[tuple(MODELS.names())] | str

WAVES = "sinusoid"
LOSSES = ("cross_entropy", "mse")
METRICS = ("auto", "accuracy")
# What runs of version 0.1.0 did without saying so; and settings that tell those of a run, which
# name all there were, from a file made by hand.
BEFORE = {"unit_length": False}
_OF_A_RUN = {"unit_features", "image_size", "cg_steps", "regularization", "threads", "precision"}
INNER_OPTIMIZERS = ("sgd", "adam")
# Settings whose values can be references.
_OUTER = ("meta_optimizer", "schedule")
REFERENCES = ("data", "model", "algorithm", "loss", "metric", "inner_optimizer", *_OUTER)


@dataclass(frozen=True)
class _Parts:
    """What is learnt, from what: the part of the settings that `fit` takes as objects."""

    # --- data and tasks
    data: str = "glyphs"
    """What to learn from: `glyphs` (made on the spot), `omniglot`, `random`, `sinusoid` (regression
    on sine waves), or the PATH of a folder with one folder of images per class, of a folder with
    train.csv, val.csv and test.csv, or of a .npy array (classes, images, channels, height,
    width), or a function of your own that loads it, MODULE:NAME or FILE.py:NAME."""
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
    model: ModelName = "conv4"
    """The network: a name, or a function of your own that makes it, MODULE:NAME or FILE.py:NAME."""
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
    """conv4: scale feature vectors to one length."""
    unit_length: bool = True
    """conv4 with unit_features: the same length for images of every size, that of unit mean square
    at 28 pixels; `false` is unit mean square at every size, as in version 0.1.0."""
    drop_rate: float = 0.0
    """resnet12: dropout after each block in training, 0 to less than 1."""
    init: Literal["kaiming", "xavier"] = "kaiming"
    """conv4: how convolutions start: Kaiming-normal; or, as in the code of the MAML paper,
    Xavier-uniform."""

    # --- algorithm (inner loop)
    algorithm: AlgorithmName = "maml"
    """The meta-learning algorithm; other settings then start from its own recipe. A name, or a
    class of your own: MODULE:NAME or FILE.py:NAME."""
    loss: str | None = None
    """What is minimised: `cross_entropy`, `mse` (regression), or a function of your own of outputs
    and targets, MODULE:NAME or FILE.py:NAME; by default what suits the data."""
    metric: str | None = "auto"
    """What results are measured by: `auto`, the accuracy where there are classes; `accuracy`; or a
    function of your own of outputs and targets, the higher the better; null for the loss alone."""
    adapted: str | None = None
    """What the inner loop changes: `all`, `head`, `body`, or names of parameters with
    wildcards, such as `convs.3.*,head.*`; by default what the algorithm is known for."""
    inner_lr: float = 0.02
    """Inner learning rate."""
    inner_steps: int = 1
    """Inner steps in training."""
    inner_optimizer: str = "sgd"
    """What the inner loop does with a gradient: `sgd`, `adam` (wants smaller rates), or a class or
    function of your own that makes an `innerloop.inner.InnerOptimizer`, MODULE:NAME or
    FILE.py:NAME."""
    inner_momentum: float = 0.0
    """Momentum of `sgd` in the inner loop, 0 to less than 1."""
    inner_weight_decay: float = 0.0
    """Weight decay in the inner loop, at least 0."""
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
    bn: Literal["transductive", "support", "frozen", "per_step"] = "transductive"
    """Batch statistics for queries: of the query set, or of the support set; `frozen`, for a
    pretrained network of your own, its running statistics as constants; maml++ in use also
    `per_step`, the running statistics of each inner step."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """protonet: squared Euclidean distance to the means of classes, or the cosine."""
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


@dataclass(frozen=True)
class TrainConfig(OuterLoop, _Parts):
    """All settings of one run; the defaults are the `quick` recipe, that of MAML.

    `recipe` gives those of another algorithm, of other data or of a network of your own.  Those
    of the outer loop are explained in `OuterLoop`.
    """

    eval_inner_steps: int = 3
    """Inner steps in validation and test."""
    execution: Literal["auto", "fastest", "stacked", "vmap", "loop", "shared_body"] = "auto"
    """How tasks are computed: `auto` goes by the network; `fastest` measures once, at the start of
    the run, and keeps to that way; the others ask for a way."""
    chunk_size: int | None = None
    """Tasks computed at a time: lower it when memory runs out."""

    def __post_init__(self) -> None:
        super().__post_init__()

        def named(names: str) -> dict[str, Any]:
            return {name: getattr(self, name) for name in names.split()}

        at_most(10_000, **named("inner_steps"))
        at_least(2, **named("n_way train_n_way"))
        at_least(1, **named("glyph_classes k_shot k_query eval_k_query width inner_steps"))
        at_least(1, **named("cg_steps chunk_size inner_batch_size"))
        above_zero(**named("inner_lr regularization"))
        share_of_training(**named("second_order_from multi_step_loss_until"))
        for name, registry in (("algorithm", ALGORITHMS), ("model", MODELS)):
            value = getattr(self, name)
            if not is_reference(value) and value not in registry:
                raise UserError(
                    f"{name} must be one of {', '.join(registry.names())}, or MODULE:NAME or "
                    f"FILE.py:NAME, not {repr(value)}"
                )
        for name, known in (
            ("loss", (*LOSSES, None)),
            ("metric", (*METRICS, None)),
            ("inner_optimizer", INNER_OPTIMIZERS),
        ):
            value = getattr(self, name)
            if value not in known and not is_reference(value):
                raise UserError(
                    f"{name} must be one of {', '.join(filter(None, known))}, or MODULE:NAME or "
                    f"FILE.py:NAME, not {repr(value)}"
                )
        share_below_one(**named("inner_momentum"))
        at_least(0, **named("inner_weight_decay"))
        if self.inner_momentum and self.inner_optimizer == "adam":
            raise UserError(
                "inner_momentum is for inner_optimizer sgd, not for adam, which has its own: set "
                "inner_momentum to 0"
            )
        # The baseline trains a classifier of all classes, whatever its tasks' ways.
        free = self.any_ways or self.algorithm == "fine-tune"
        if self.train_n_way not in (None, self.n_way) and not free:
            raise UserError(
                "train_n_way can differ from n_way only with head: shared, because any other head "
                "has one row per class; set head to shared or train_n_way to null"
            )
        share_below_one(**named("drop_rate"))
        if self.drop_rate and self.model in ("conv4", "tutorial_conv", "mlp"):
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

    @property
    def regression(self) -> bool:
        """Whether tasks have numbers as targets, not classes."""
        return self.loss == "mse" or (self.loss is None and self.data == WAVES)

    @property
    def references(self) -> list[str]:
        """The code that the settings name, see `innerloop.references`."""
        values = (getattr(self, name) for name in REFERENCES)
        return [value for value in values if value is not None and is_reference(value)]

    def absolute(self) -> TrainConfig:
        """Paths made absolute, so that a run folder can be used from any working directory."""
        changes: dict[str, Any] = {}
        if self.omniglot_source:
            changes["omniglot_source"] = str(Path(self.omniglot_source).expanduser().absolute())
        for name in REFERENCES:
            value = getattr(self, name)
            if value is not None and is_reference(value):
                changes[name] = absolute(value)
        # A name stays a name, even beside a folder that is called the same.
        if not is_reference(self.data) and self.data not in DATA and Path(self.data).exists():
            changes["data"] = str(Path(self.data).expanduser().absolute())
        return dataclasses.replace(self, **changes)

    def title(self) -> str:
        ways = "" if self.regression else f"{self.n_way}-way "
        return f"{self.algorithm} on {self.data}, {ways}{self.k_shot}-shot, network {self.model}"

    def stem(self) -> str:
        """The beginning of the name of a run folder."""
        data = self.data.rpartition(":")[0] if is_reference(self.data) else self.data
        ways = "" if self.regression else f"{self.n_way}way"
        return f"{Path(data).stem}-{self.algorithm.rpartition(':')[2]}-{ways}{self.k_shot}shot"

    @classmethod
    def recipe(
        cls, algorithm: str = "maml", data: str = "glyphs", model: str | None = None
    ) -> TrainConfig:
        """The defaults that suit an algorithm, the data, and a network of one's own."""
        settings = dict(RECIPES.get(algorithm, ALGORITHMS.recipes.get(algorithm, {})))
        if data == WAVES:
            settings |= {**SINUSOID, **SINUSOID_RECIPES.get(algorithm, {})}
        if model is not None and not MODELS.is_ours(model):
            settings |= {**OWN["model"], "model": model}
        if not DATA.is_ours(data) and (is_reference(data) or data in DATA):
            settings |= OWN["data"]
        return cls(**{**settings, "algorithm": algorithm, "data": data})

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
        if given.keys() >= _OF_A_RUN:
            given = {**BEFORE, **given}
        names = (given.get("algorithm", "maml"), given.get("data", "glyphs"), given.get("model"))
        base = cls.recipe(*names)
        return dataclasses.replace(base, **given)

    @classmethod
    def from_file(cls, path: str | Path) -> TrainConfig:
        """Read a YAML file of settings.

        Raises:
            UserError: the file cannot be read, is no YAML, or has a bad setting.
        """
        return cls.from_dict(read_settings(path), str(path))

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


def read_settings(path: str | Path) -> Any:
    """What a YAML file of settings holds; raises `UserError` as `TrainConfig.from_file`."""
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
    return settings


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
    if choices:  # X | None, or a name of a list | another
        if value is None and type(None) in choices:
            return None
        kind = next(c for c in choices if c is not type(None) and get_origin(c) is not Literal)
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
