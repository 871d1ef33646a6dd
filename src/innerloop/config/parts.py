"""The settings of a run by part: tasks, network, algorithm, outer loop, run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

# Short, whatever the value is: YAML's references can make a small file mean an endless one.
from reprlib import repr
from typing import TYPE_CHECKING, Any, Literal

from innerloop.augment_names import parse_augment
from innerloop.errors import (
    UserError,
    above_zero,
    at_least,
    not_negative,
    number_of_steps,
    share_below_one,
    share_of_training,
)
from innerloop.outer_loop import OuterLoopSettings, Part, RunSettings
from innerloop.ranges import check_range
from innerloop.rates import InnerRates, check_rates
from innerloop.references import LIBRARIES, is_of_library, is_reference
from innerloop.registry import ALGORITHMS, MODELS

# Names and references: the names are for --help and for completion alone.
if TYPE_CHECKING:
    AlgorithmName = str
    ModelName = str
else:
    AlgorithmName = Literal[tuple(ALGORITHMS.names())] | str
    ModelName = Literal[tuple(MODELS.names())] | str

LOSSES = ("cross_entropy", "mse")
METRICS = ("auto", "accuracy")
INNER_OPTIMIZERS = ("sgd", "adam")


@dataclass(frozen=True)
class TaskSettings(Part):
    """The data, and the size of tasks."""

    data: str = "glyphs"
    """What to learn from: `glyphs` (made on the spot), `omniglot`, `random`, `sinusoid` (regression
    on sine waves), or the PATH of a folder with one folder of images per class, of a folder with
    train.csv, val.csv and test.csv, or of a .npy array (classes, images, channels, height,
    width), or a function of your own that loads it, MODULE:NAME or FILE.py:NAME."""
    omniglot_source: str | None = None
    """Folder with images_background.zip and images_evaluation.zip (or what is in them);
    without it they are downloaded once."""
    image_size: int | None = None
    """Images from a folder are resized to this many pixels; with a body, those that it sees."""
    glyph_classes: int = 4000
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
    train_n_way: int | tuple[int, int] | None = 20
    """Classes in a training task if different from n_way (needs head `shared`, or an
    algorithm without a head); or a range such as 3-10, from which each outer step draws."""
    train_k_shot: int | tuple[int, int] | None = None
    """Support images of each class in a training task if different from k_shot; or a range."""
    eval_k_query: int = 15
    """Query images of each class in a validation or test task."""
    inputs: Literal["ink", "unit", "raw"] = "ink"
    """Pixels: `ink` is 1 for ink and 0 for paper, `unit` 0 to 1, `raw` 0 to 255."""
    normalize: bool = False
    """Subtract the mean of the training classes' pixels and divide by their deviation, a channel
    at a time; both are stored with the weights, and applied at test time."""
    augment: str | None = None
    """Random changes of training images: any of `crop`, `flip`, `color`, `channels` (other colours
    for whole tasks), `affine`, `erase`, `warp`, separated by commas, as in
    `crop=8,flip,color=0.4`; or `conditions`, for drawings: other pens,
    papers and cameras in half of the tasks, or in `conditions=0.7` of them; or a function of your
    own, MODULE:NAME or FILE.py:NAME."""
    rotate: bool = True
    """Training classes turned by 90, 180 and 270 degrees count as further classes."""
    rotate_test: bool = False
    """The same for validation and test classes."""

    def check(self) -> None:
        super().check()
        at_least(2, **self.named("n_way"))
        check_range(2, **self.named("train_n_way"))
        check_range(1, **self.named("train_k_shot"))
        at_least(1, **self.named("glyph_classes k_shot k_query eval_k_query"))
        if self.augment is not None and not is_reference(self.augment):
            names = dict(parse_augment(self.augment))
            if "color" in names and self.inputs == "raw":
                raise UserError("augment color is for pixels of 0 to 1: set inputs to unit or ink")
            if "conditions" in names and self.inputs != "ink":
                raise UserError("augment conditions is for drawings of ink: set inputs to ink")


@dataclass(frozen=True)
class NetworkSettings(Part):
    """The network."""

    model: ModelName = "conv4"
    """The network: a name, or a function of your own that makes it, MODULE:NAME or FILE.py:NAME; or
    timm:NAME and the like, which is short for `embedding` on this body."""
    body: str | None = None
    """A pretrained network that stays as it is: timm:NAME, torchvision:NAME, transformers:NAME, or
    a function of your own that makes it, MODULE:NAME or FILE.py:NAME. Each picture goes through it
    once, and what is trained is `model`, on its features."""
    weights: str | None = None
    """File of weights for the body: .safetensors, or .pt without code."""
    preprocess: str | None = None
    """What the body needs done to pictures, where not its own: MODULE:NAME or FILE.py:NAME."""
    views: Literal["whole", "middle", "crops", "flips"] = "middle"
    """What the body sees of a picture: `middle` is the whole and its middle, in twice the time of
    `whole`."""
    width: int = 48
    """Filters of each convolution, units of each hidden layer. resnet12: filters in the first
    block; the others have 2.5, 5 and 10 times as many (64 is the usual size). embedding: numbers
    in an embedding."""
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

    def check(self) -> None:
        super().check()
        at_least(1, **self.named("width"))
        share_below_one(**self.named("drop_rate"))
        if not is_reference(self.model) and self.model not in MODELS:
            raise _not_one_of("model", MODELS.names(), self.model)
        if self.body is None:
            # The class attribute is the default.
            for name in ("weights", "preprocess", "views"):
                if getattr(self, name) != getattr(type(self), name):
                    raise UserError(
                        f"{name} is for a body, and there is none: leave {name} out, or name the "
                        "pretrained network by body instead of model"
                    )
        elif not is_of_library(self.body) and not is_reference(self.body):
            names = ", ".join(f"{library}:NAME" for library in LIBRARIES)
            raise UserError(
                f"body must be {names}, MODULE:NAME or FILE.py:NAME, not {repr(self.body)}"
            )
        elif self.model in ("conv4", "resnet12", "tutorial_conv"):
            raise UserError(
                f"model {self.model} takes pictures, and a body gives features: set model to "
                "embedding or mlp"
            )
        if self.drop_rate and self.model in ("conv4", "tutorial_conv", "mlp", "embedding"):
            raise UserError(
                f"drop_rate is for model resnet12, not for {self.model}: set drop_rate to 0"
            )
        if self.head != "linear" and self.model == "tutorial_conv":
            raise UserError("model tutorial_conv has a linear head: set head to linear")
        if self.init != "kaiming" and self.model != "conv4":
            raise UserError(
                f"init {self.init} is for model conv4, not for {self.model}: set init to kaiming"
            )


@dataclass(frozen=True)
class AlgorithmSettings(Part):
    """The algorithm and its inner loop."""

    algorithm: AlgorithmName = "maml"
    """The meta-learning algorithm; other settings then start from its own recipe. A name, or a
    class of your own: MODULE:NAME or FILE.py:NAME."""
    pretrain: float = 0.0
    """For this first share of the run, 0 to less than 1, a classifier of all training classes is
    trained; meta-training then starts from its body."""
    pretrain_lr: float | None = None
    """Learning rate of that share; by default meta_lr."""
    loss: str | None = None
    """What is minimised: `cross_entropy`, `mse` (regression), or a function of your own of outputs
    and targets, MODULE:NAME or FILE.py:NAME; by default what suits the data."""
    metric: str | None = "auto"
    """What results are measured by: `auto`, the accuracy where there are classes; `accuracy`; or a
    function of your own of outputs and targets, the higher the better; null for the loss alone."""
    adapted: str | None = None
    """What the inner loop changes: `all`, `head`, `body`, or names of parameters with
    wildcards, such as `convs.3.*,head.*`; by default that of the algorithm."""
    inner_lr: InnerRates = 0.02
    """Inner learning rate; or rates by pattern of parameter names, of which the first that matches
    counts: `head.*=0.4,*=0.01`, in a file also `{"head.*": 0.4, "*": 0.01}`."""
    inner_steps: int = 1
    """Inner steps in training."""
    inner_optimizer: str = "sgd"
    """What the inner loop does with a gradient: `sgd`, `adam` (needs smaller rates), or a class or
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
    code; n_way times the mean; the mean where targets are no class labels)."""
    inner_max_norm: float | None = None
    """Clip each inner gradient to this norm."""
    bn: Literal["transductive", "support", "frozen", "per_step"] = "transductive"
    """Batch statistics for queries: of the query set, or of the support set; `frozen`, for a
    pretrained network of your own, its running statistics as constants; maml++ at test time also
    `per_step`, the running statistics of each inner step."""
    distance: Literal["euclidean", "cosine"] = "euclidean"
    """protonet: squared Euclidean distance to the means of classes, or the cosine."""
    learn_inner_lr: bool = True
    """maml++: learn an inner rate for every layer and step."""
    per_step_norm: bool = True
    """maml++: learn a batch norm scale and shift for each inner step."""
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

    def check(self) -> None:
        super().check()
        number_of_steps(**self.named("inner_steps cg_steps"))
        at_least(1, **self.named("inner_batch_size"))
        check_rates(self.inner_lr)
        above_zero(**self.named("regularization inner_max_norm"))
        share_of_training(**self.named("second_order_from multi_step_loss_until"))
        share_below_one(**self.named("inner_momentum pretrain"))
        above_zero(**self.named("pretrain_lr"))
        not_negative(**self.named("inner_weight_decay"))
        if not is_reference(self.algorithm) and self.algorithm not in ALGORITHMS:
            raise _not_one_of("algorithm", ALGORITHMS.names(), self.algorithm)
        for name, known in (
            ("loss", (*LOSSES, None)),
            ("metric", (*METRICS, None)),
            ("inner_optimizer", INNER_OPTIMIZERS),
        ):
            value = getattr(self, name)
            if value not in known and not is_reference(value):
                raise _not_one_of(name, filter(None, known), value)
        if self.inner_momentum and self.inner_optimizer == "adam":
            raise UserError(
                "inner_momentum is for inner_optimizer sgd, not for adam, which has its own: set "
                "inner_momentum to 0"
            )


@dataclass(frozen=True)
class TrainRunSettings(RunSettings):
    """How a run is validated and tested, and where and how it is computed."""

    eval_inner_steps: int = 3
    """Inner steps in validation and test."""
    execution: Literal["auto", "fastest", "stacked", "vmap", "loop", "shared_body"] = "auto"
    """How tasks are computed: `auto` goes by the network; `fastest` measures once, at the start of
    the run, and keeps to that way; the others ask for a way."""
    chunk_size: int | None = None
    """Tasks computed at a time: lower it when memory runs out."""

    def check(self) -> None:
        super().check()
        at_least(1, **self.named("chunk_size"))


PARTS: Mapping[str, type[Part]] = {
    "tasks": TaskSettings,
    "network": NetworkSettings,
    "algorithm": AlgorithmSettings,
    "outer_loop": OuterLoopSettings,
    "run": TrainRunSettings,
}
"""The parts by the names that they have in files of settings."""


def _not_one_of(name: str, known: Iterable[str], value: Any) -> UserError:
    return UserError(
        f"{name} must be one of {', '.join(known)}, or MODULE:NAME or FILE.py:NAME, not "
        f"{repr(value)}"
    )
