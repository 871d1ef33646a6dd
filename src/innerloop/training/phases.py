"""The phases of a run: pretraining as a classifier, then meta-training."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from innerloop.algorithms import FineTune
from innerloop.algorithms.base import Algorithm
from innerloop.build import build_sampler
from innerloop.config import TrainConfig
from innerloop.errors import UserError
from innerloop.functional import Params
from innerloop.tasks.protocol import Tasks
from innerloop.tasks.sampler import EpisodeSampler


@dataclass(frozen=True)
class Phase:
    """A stretch of a run.

    Attributes:
        algorithm: whose gradient it follows.
        train: what the gradient is of.
        meta_lr: learning rate; None for that of the run.
        start, end: the share of the run where it begins and ends, 0 to 1.
    """

    algorithm: Algorithm
    train: Tasks
    meta_lr: float | None = None
    start: float = 0.0
    end: float = 1.0

    def share(self, progress: float) -> float:
        """The share of the phase that is done, 0 to 1, at a share of the run."""
        return (progress - self.start) / (self.end - self.start)


def phases(
    config: TrainConfig, algorithm: Algorithm, model: nn.Module, train: Tasks
) -> tuple[Phase, ...]:
    """Those of a run: `pretrain` says whether there are two.

    Pretraining is `FineTune`'s: one classifier of all training classes, of the same images,
    as many a step as in meta-training.

    Args:
        config: the settings.
        algorithm: that of the run.
        model: its network.
        train: its training tasks.

    Raises:
        UserError: there are no classes, or the algorithm cannot start from such a classifier.
    """
    if not config.pretrain:
        return (Phase(algorithm, train),)
    if not isinstance(train, EpisodeSampler) or config.regression:
        raise UserError(
            f"pretrain needs classes of examples; data {config.data} has none: set pretrain to 0"
        )
    if isinstance(algorithm, FineTune):
        raise UserError("algorithm fine-tune trains a classifier throughout: set pretrain to 0")
    classes = build_sampler(
        config, train.data, train.split, train.classes, training=True, labels="class"
    )
    classifier = FineTune(model, num_classes=classes.num_classes, loss=algorithm.loss)
    _check_start(config, algorithm, classifier)
    return (
        Phase(classifier, classes, config.pretrain_lr, end=config.pretrain),
        Phase(algorithm, train, start=config.pretrain),
    )


def _check_start(config: TrainConfig, algorithm: Algorithm, classifier: FineTune) -> None:
    """Raise a `UserError` if `algorithm` would start without a part of the classifier's body."""
    body = {n for n in classifier.init_params() if "@" not in n and not n.startswith("head.")}
    lost = sorted(body - algorithm.init_params().keys())
    if lost:
        hint = ": set per_step_norm to false" if config.algorithm == "maml++" else ""
        raise UserError(
            f"pretrain: algorithm {config.algorithm} has no {', '.join(lost[:3])}, which a "
            f"classifier learns{hint or '; set pretrain to 0'}"
        )


def taken_over(algorithm: Algorithm, params: Params) -> Params:
    """The meta-parameters that `algorithm` begins with: those of `params` where it has them."""
    return {name: params.get(name, p).detach() for name, p in algorithm.init_params().items()}
