"""What an algorithm says of one task, and the same for T tasks: `Hooks`.

Inside the inner loop everything has a leading axis of T tasks.  What a subclass may override, the
hooks, is written for one task.  Beside each hook stands a method of the same name with `_each`,
which computes the same for T tasks together, usually much faster.  A subclass that overrides the
hook alone has thereby changed what is computed: its tasks go through the hook one by one.
"""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from innerloop.algorithms import noise
from innerloop.algorithms.apart import T, first, task_by_task, with_task
from innerloop.algorithms.checks import check_scored, check_tensors_by_name, check_weights
from innerloop.algorithms.inner_loops import steps_of
from innerloop.algorithms.overriding import alone, each, overrides
from innerloop.algorithms.scores import score
from innerloop.algorithms.settings import Settings
from innerloop.errors import UserError
from innerloop.functional import Params, accuracy, are_labels, cross_entropy_each, gradients
from innerloop.models.layers import (
    HeadedModel,
    Statistics,
    given_statistics,
    statistics_by_group,
)
from innerloop.ops import autograd
from innerloop.tasks.episodes import Episodes, count_ways
from innerloop.trees import closed, mapped


class Hooks(Settings):
    """What is computed for one task; `Algorithm` adds the public methods.

    Methods of one task may be overridden; those that end in `_each` do the same for T tasks.
    """

    # ---- One task: what a subclass may override

    def forward(self, params: Params, x: Tensor) -> Any:
        """The network's outputs for `x` with `params` in place of its own."""
        return self.call(params, x)

    @abstractmethod
    def inner_loop(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterator[Params]:
        """The fast weights of one task, before the first and after each inner step.

        Args:
            params: the meta-parameters; they are not changed.
            support_x: `[N*K, ...]`.
            support_y: `[N*K]`.
            inner_steps: None for as many as in training.
            n_way: N, for a network with a shared head; None to count the classes in
                `support_y` (not possible inside `vmap`).

        Yields:
            All weights that `forward` needs, by name.
        """

    def query_outputs(self, params: Params, support_x: Tensor, query_x: Tensor) -> Any:
        """Outputs for the queries of one task, batch norm as `bn` says.

        Args:
            params: fast weights.
            support_x: `[N*K, ...]`, looked at only where `bn="support"`.
            query_x: `[N*Q, ...]`.

        Returns:
            `[N*Q, N]`, or whatever the network returns.
        """
        return alone(self, "query_outputs", params, support_x, query_x)

    def score(self, outputs: Any, targets: Any) -> tuple[Tensor, Params]:
        """The loss of `outputs`, and the metrics: `loss`, and what `metric` says."""
        return score(self.loss, self.metric, outputs, targets, self._loss_draws)

    def query_loss(self, params: Params, task: Episodes) -> tuple[Tensor, Params]:
        """Loss of the fast weights `params` on a task's queries, a scalar, and metrics."""
        found: tuple[Tensor, Params] = alone(self, "query_loss", params, task)
        return found

    def loss_after_adaptation(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Tensor, Params]:
        """What is differentiated: the query loss of one task's fast weights, and metrics."""
        *_, fast = steps_of(self, params, task.support_x, task.support_y, n_way=n_way)
        with noise.at(self.inner_steps, query=True):
            return self.checked_query_loss(fast, task)

    def checked_query_loss(self, params: Params, task: Episodes) -> tuple[Tensor, Params]:
        """`query_loss`, checked."""
        return check_scored(self.query_loss(params, task), f"query_loss of {type(self).__name__}")

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        """One task's part of the meta-gradient.

        Args:
            params: the meta-parameters.
            task: tensors without the task axis, e.g. `support_x` `[N*K, C, H, W]`.
            n_way: as for `inner_loop`.
            progress: as for `meta_gradient`.

        Returns:
            The gradient by parameter name, and a dict of scalar metrics.
        """
        what = f"loss_after_adaptation of {type(self).__name__}"
        (found,), metrics = gradients(
            lambda p: check_scored(self.loss_after_adaptation(p, task, n_way, progress), what),
            params,
        )
        return found, metrics

    def phase(self, progress: float) -> Hashable:
        """The part of `progress` that the meta-gradient depends on.

        In equal phases the computation is the same.  On a GPU a step is captured once per phase.
        The default is `progress` itself, which is always right and is never captured.
        """
        return progress

    def predictor(
        self, params: Params, support_x: Tensor, query_x: Tensor
    ) -> Callable[[Params], Any]:
        """`query_outputs` of one task as a function of its fast weights alone.

        What does not depend on the inner step can so be computed once.
        """
        return lambda fast: self.query_outputs(fast, support_x, query_x)

    # ---- T tasks: the same with a leading axis of tasks

    @each(0, 0)
    def forward_each(self, params: Params, x: Tensor) -> Any:
        """`forward` of T tasks: outputs `[T, B, ...]` of inputs `[T, B, ...]`."""
        if len(x) == 1 and not self.network.takes_one_as_several():
            return one_task(self.forward, params, x)
        return self.call(params, x, self.network.each)

    @each(0, 0, 0)
    def query_outputs_each(self, params: Params, support_x: Tensor, query_x: Tensor) -> Any:
        """`query_outputs` of T tasks."""
        # The statistics of the support set are its own; and there may be no norm.
        if self.bn != "support" or query_x is support_x or not self.network.normalises:
            return self.forward_each(params, query_x)
        rows = (support := support_x.shape[1]) + query_x.shape[1]
        with statistics_by_group(rows, first=support, total=rows):
            outputs = self.forward_each(params, torch.cat([support_x, query_x], dim=1))
        if kind := closed(outputs):
            raise UserError(
                f"with bn='support' a {kind} cannot be cut into support set and queries, which go "
                "through the network together: return its tensors, or choose bn='transductive'"
            )
        return mapped(lambda o: o[:, support:] if isinstance(o, Tensor) else o, outputs)

    @each(0, 0, check=check_scored)
    def score_each(self, outputs: Any, targets: Any) -> tuple[Tensor, Params]:
        """`score` of T tasks: losses `[T]`, and metrics of `[T]` each."""
        simple = self.loss is F.cross_entropy and self.metric in ("auto", "accuracy")
        if not (simple and are_labels(outputs, targets, tasks=True)):
            scored = functools.partial(score, self.loss, self.metric, draws=self._loss_draws)
            return task_by_task(scored, (0, 0), (outputs, targets))
        losses = cross_entropy_each(outputs, targets)
        return losses, {"loss": losses.detach(), "accuracy": accuracy(outputs.detach(), targets)}

    @each(0, 0, check=check_scored)
    def query_loss_each(self, params: Params, tasks: Episodes) -> tuple[Tensor, Params]:
        """`query_loss` of T tasks: losses `[T]`, and metrics of `[T]` each."""
        outputs = self.query_outputs_each(params, tasks.support_x, tasks.query_x)
        return self.score_each(outputs, tasks.query_y)

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        """The mean of `task_gradient` over T tasks, and of the metrics.

        With `of_features` the body is computed once for the images of all tasks.
        """
        raise NotImplementedError

    def loops(
        self, params: Params, tasks: Episodes, *, inner_steps: int | None = None
    ) -> Iterator[Params]:
        """`inner_loop` of T tasks."""
        raise NotImplementedError

    def why_not_together(self, training: bool) -> str | None:
        """Why T tasks cannot be computed with a leading task axis; None if they can."""
        return f"{type(self).__name__} says what is computed for one task alone"

    def scores_each(
        self,
        params: Params,
        tasks: Episodes,
        *,
        inner_steps: int | None,
        every_step: bool,
        of_features: bool = False,
    ) -> list[Params]:
        """The metrics of T tasks, `[T]` each, after each step or only after the last."""
        (task,) = tasks.tasks()
        predict = self.predictor(params, task.support_x, task.query_x)
        sets = task.support_x, task.support_y
        steps = steps_of(self, params, *sets, inner_steps=inner_steps, n_way=tasks.n_way)

        def scored(fast: Params) -> Params:
            if overrides(self, "query_loss"):
                return self.checked_query_loss(fast, task)[1]
            return self.score(predict(fast), task.query_y)[1]

        found = each_step(scored, steps, every_step)
        return [{name: m.unsqueeze(0) for name, m in metrics.items()} for metrics in found]

    # ---- For algorithms

    def call(
        self, params: Params, x: Tensor, network: Callable[[Params, Any], Any] | None = None
    ) -> Any:
        """The network itself on weights `[...]`; or another `network`, as one for T tasks."""
        if network is None:
            self.network.look_once(x)
        network, statistics = network or self.network, self.statistics_in(params)
        weights = self._weights(params)
        if not statistics:
            return network(weights, x)
        with given_statistics(statistics):
            return network(weights, x)

    def _weights(self, params: Params) -> Params:
        """The network's own among `params`, all that it trains.

        Raises:
            UserError: one is missing, for which the module's own would stand in, or has another
                shape, which PyTorch might spread over the others.
        """
        check_tensors_by_name(params)
        found, named = of_network(params), dict(self.network.named())
        own = {name: p.shape for name, p in named.items()}

        def fits(name: str, shape: torch.Size) -> bool:
            # With an axis of tasks before; and a shared head has a row for each class.
            wanted = own[name][1:] if name in self._shared_rows else own[name]
            return shape[len(shape) - len(wanted) :] == wanted

        needed = [n for n, p in named.items() if p.requires_grad and self.uses(n)]
        check_weights(found, own, needed, fits=fits)
        return found

    def uses(self, name: str) -> bool:
        """True if the outputs depend on the network's parameter of this name."""
        return True

    def look(self, x: Any) -> None:
        """See `Network.look` and, where queries are to stay apart, `check_apart`."""
        self.network.look(x)
        if self.bn != "transductive" and not overrides(self, "query_outputs"):
            self.network.check_apart(x, self.bn, shapes=not overrides(self, "forward"))

    def statistics_in(self, params: Params) -> Statistics:
        """Batch statistics among the weights, which are used in place of the batch's own."""
        return {}

    def features(self, params: Params, x: Tensor) -> Tensor:
        """What the last layer of a `HeadedModel` sees, with `params` in place of its own."""
        assert isinstance(self.model, HeadedModel)
        found: Tensor = self.network(self._weights(params), x, lambda model, x: model.features(x))
        return found

    def ways(self, labels: Tensor, n_way: int | None) -> int | None:
        """`n_way`, or if it is not given the number of classes, if that is needed."""
        if n_way is None and self.counts_ways:
            return count_ways(labels)
        return n_way

    @property
    def counts_ways(self) -> bool:
        """True if the number of classes matters before the first forward pass."""
        return bool(self._shared_rows)

    def body_stays(self, progress: float) -> bool:
        """True if adaptation in training is known to change only the head.

        The features of all tasks can then be computed together, by `shared_body`.
        """
        return False

    def body_stays_in_use(self) -> bool:
        """The same for adaptation to new tasks, which may take more steps."""
        return False

    def derivative_now(self, progress: float) -> str:
        """How second derivatives are taken at this point: `"first"` (not at all), `"reverse"`..."""
        return "reverse"

    def fast_weights(self, params: Params, n_way: int | None) -> Params:
        """What the inner loop starts from: the network's, a shared head copied once a class."""
        return {
            name: p if n_way is None or name not in self._shared_rows else _rows(p, n_way)
            for name, p in of_network(params).items()
        }

    def arranged(self, params: Params, way: str) -> Params:
        """The same values, with convolution weights in the kernels' memory layout.

        What copies would do otherwise in every step, unless PyTorch's own convolutions are next.
        """
        names = {n for n, own in self._convolutions.items() if own or way == "stacked"}
        return {n: autograd.arranged(p) if n in names else p for n, p in params.items()}


def one_task(forward: Callable[[Params, Tensor], T], params: Params, x: Tensor) -> T:
    return with_task(forward(first(params), x.squeeze(0)))


def each_step(
    scored: Callable[[Params], Params], steps: Iterable[Params], every_step: bool
) -> list[Params]:
    """The metrics after each step, or only after the last."""
    if every_step:
        return [scored(fast) for fast in steps]
    *_, last = steps
    return [scored(last)]


def of_network(params: Params) -> Params:
    """The network's own among the meta-parameters or fast weights."""
    return {name: p for name, p in params.items() if "@" not in name}


def _rows(row: Tensor, n_way: int) -> Tensor:
    # A copy, not a view: forward-mode differentiation refuses one with overlapping rows.
    return row.repeat(n_way, *[1] * (row.ndim - 1))


def taken(weights: Params, names: Iterable[str]) -> Params:
    """Those of `weights` that have these names.

    Raises:
        UserError: one is not among them.
    """
    missing = [name for name in names if name not in weights]
    if missing:
        raise UserError(
            f"the inner loop changes {', '.join(missing)}, which the meta-parameters do not have: "
            "they are not those of this algorithm's init_params, or these parameters were frozen "
            "after the algorithm was made; make it anew"
        )
    return {name: weights[name] for name in names}
