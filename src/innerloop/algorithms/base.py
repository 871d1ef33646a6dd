"""What all meta-learning algorithms share: the task axis, the query loss, prediction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from innerloop.errors import at_least, one_of
from innerloop.functional import Params, accuracy, detach, mean_squared_error
from innerloop.models.layers import (
    Conv2d,
    FeaturesOf,
    HeadedModel,
    SharedHead,
    check_batch_norm,
    statistics_by_group,
)
from innerloop.ops import autograd
from innerloop.tasks.episodes import Episodes


class Algorithm(ABC):
    """A meta-learning algorithm on a network.

    An algorithm is its `meta_gradient`; trainer and evaluation know nothing else
    of it but how it adapts.  The network is never changed: parameters come in
    as a dict and go out as a dict.  The meta-parameters are those of the network by
    name, and possibly more of the algorithm's own, which have a `@` in their names.

    Args:
        model: any `nn.Module` from inputs `[B, ...]` to outputs `[B, ...]`.
            Parameters with `requires_grad=False` stay fixed.
        loss: of outputs and targets, the mean over the examples of one set.
        bn: where batch norm takes the statistics for queries from:
            `"transductive"`, the query set itself, so that a prediction depends on
            the other queries; or `"support"`, the support set alone.  (`MAMLPlusPlus` has a
            third.)
        chunk_size: tasks computed at a time, to bound memory; None for all.

    Raises:
        UserError: the network keeps running batch statistics, or `bn="support"` is
            asked of a network with a batch norm other than `innerloop.models.BatchNorm`.
    """

    inner_steps: int
    bn_modes: tuple[str, ...] = ("transductive", "support")
    # What the labels of a training episode count: the classes of its task, 0..N-1,
    # or all training classes.
    labels = "task"
    # Meta-parameters that follow the data as a running average instead of being learnt.
    moving_averages: frozenset[str] = frozenset()

    def __init__(
        self,
        model: nn.Module,
        *,
        loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
        bn: str = "transductive",
        chunk_size: int | None = None,
    ) -> None:
        one_of(self.bn_modes, bn=bn)
        at_least(1, chunk_size=chunk_size)
        check_batch_norm(model, own_only=bn != "transductive")
        # PyTorch's own fails where it is differentiated forward over reverse.
        mse = isinstance(loss, nn.MSELoss) and loss.reduction == "mean"
        self.loss = mean_squared_error if mse or loss is F.mse_loss else loss
        self.model, self.bn, self.chunk_size = model, bn, chunk_size
        self._convolutions = {
            f"{name}.weight" for name, module in model.named_modules() if isinstance(module, Conv2d)
        }
        # Parameters that hold one row for every class.
        self._shared_rows = {
            f"{name}.{part}".lstrip(".")
            for name, module in model.named_modules()
            if isinstance(module, SharedHead)
            for part in ("weight", "bias")
        }

    def init_params(self) -> Params:
        """The meta-parameters that training starts from: copies, in a new dict."""
        return {
            name: p.detach().clone() for name, p in self.model.named_parameters() if p.requires_grad
        }

    @abstractmethod
    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        """One task's part of the meta-gradient.

        Args:
            params: the meta-parameters.
            task: tensors without the task axis, e.g. `support_x` `[N*K, C, H, W]`.
            n_way: as for `adapt_steps`.
            progress: as for `meta_gradient`.

        Returns:
            The gradient by parameter name, and a dict of scalar metrics.
        """

    @abstractmethod
    def adaptation(
        self, params: Params, x: Tensor, y: Tensor, inner_steps: int | None, n_way: int | None
    ) -> Iterator[Params]:
        """`adapt_steps` on the support set `x`, `y`, with its N counted where that is needed."""

    def adapt_steps(
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
        """
        n_way = self.count_ways(support_y) if n_way is None else n_way
        return self.adaptation(params, support_x, support_y, inner_steps, n_way)

    def adapt(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Params:
        """The fast weights after the last inner step; arguments as for `adapt_steps`."""
        *_, adapted = self.adapt_steps(
            params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
        )
        return adapted

    def meta_gradient(
        self, params: Params, episodes: Episodes, progress: float = 1.0
    ) -> tuple[Params, Params]:
        """The mean of the tasks' gradients, all tasks computed together.

        Args:
            params: the meta-parameters by name; they are not changed.
            episodes: T tasks.
            progress: the share of training that is done, 0..1, for what changes meanwhile.

        Returns:
            `(grads, metrics)`: gradients by parameter name, and the tasks' mean of
            each metric, scalars: `loss` (query loss), for class labels `accuracy`
            (query accuracy, 0..1).
        """
        params, means = self._arranged(detach(params)), []
        if self.chunk_size is None or episodes.num_tasks <= self.chunk_size:
            grads, metrics = self.chunk_gradient(params, episodes, progress)
            # In memory as the parameters are, which PyTorch's optimisers on a GPU insist on.
            return {name: g.contiguous() for name, g in grads.items()}, metrics
        for chunk in episodes.chunks(self.chunk_size):
            share = chunk.num_tasks / episodes.num_tasks
            parts = self.chunk_gradient(params, chunk, progress)
            means.append([{name: share * v for name, v in part.items()} for part in parts])
        grads, metrics = (
            {name: torch.stack([part[name] for part in parts]).sum(dim=0) for name in parts[0]}
            for parts in zip(*means, strict=True)
        )
        return grads, metrics

    def _arranged(self, params: Params) -> Params:
        """The same values, the weights of our convolutions in memory as the kernels want them."""
        return {
            n: autograd.arranged(p) if n in self._convolutions else p for n, p in params.items()
        }

    def phase(self, progress: float) -> Hashable:
        """What of `progress` the meta-gradient depends on: equal phases, the same computation.

        On a GPU a step is recorded once in each phase.  The default is `progress` itself, which
        is never wrong and never recorded.
        """
        return progress

    def chunk_gradient(
        self, params: Params, episodes: Episodes, progress: float
    ) -> tuple[Params, Params]:
        """`meta_gradient` of tasks that fit into memory together."""
        # The gradient is taken inside vmap, one a task, and averaged afterwards.
        # Differentiating through vmap instead gives wrong numbers with batch norm
        # and layer norm (PyTorch 2.13): see tests/algorithms/test_maml.py.
        batched = torch.func.vmap(
            self.task_gradient, in_dims=(None, 0, None, None), randomness="different"
        )
        grads, metrics = (
            {name: value.mean(dim=0) for name, value in part.items()}
            for part in batched(params, episodes, self.count_ways(episodes.support_y), progress)
        )
        return grads, metrics

    def forward(self, params: Params, x: Tensor) -> Tensor:
        """The network's outputs for `x` with `params` in place of its own."""
        # PyTorch's fused attention kernels have no second derivative and no vmap rule.
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.functional_call(self.model, of_network(params), (x,))

    def features(self, params: Params, x: Tensor) -> Tensor:
        """What the last layer of a `HeadedModel` sees, with `params` in place of its own."""
        assert isinstance(self.model, HeadedModel)
        named = {f"model.{name}": p for name, p in of_network(params).items()}
        with sdpa_kernel(SDPBackend.MATH):
            return torch.func.functional_call(FeaturesOf(self.model), named, (x,))

    def count_ways(self, labels: Tensor) -> int | None:
        """N, for labels 0..N-1 that all occur; None where no shared head asks for it."""
        return self._classes_of(labels) if self._shared_rows else None

    def _classes_of(self, labels: Tensor) -> int:
        # A recording (training/recorded.py) cannot ask the GPU.  It is of the step before.
        if not (labels.is_cuda and torch.cuda.is_current_stream_capturing()):
            self._classes = int(labels.max()) + 1
        return self._classes

    def fast_weights(self, params: Params, n_way: int | None) -> Params:
        """What the inner loop starts from: the network's, a shared head copied once a class."""
        return {
            name: p if n_way is None or name not in self._shared_rows else _rows(p, n_way)
            for name, p in of_network(params).items()
        }

    def query_outputs(self, params: Params, support_x: Tensor, query_x: Tensor) -> Tensor:
        """Outputs for the queries of one task, batch norm as `bn` says.

        Args:
            params: fast weights.
            support_x: `[N*K, ...]`, looked at only where `bn="support"`.
            query_x: `[N*Q, ...]`.

        Returns:
            `[N*Q, N]`.
        """
        if self.bn != "support" or query_x is support_x:  # its statistics are its own
            return self.forward(params, query_x)
        support, queries = support_x.shape[0], query_x.shape[0]
        with statistics_by_group(support + queries, first=support):
            return self.forward(params, torch.cat([support_x, query_x]))[support:]

    def predictor(
        self, params: Params, support_x: Tensor, query_x: Tensor
    ) -> Callable[[Params], Tensor]:
        """`query_outputs` of one task as a function of its fast weights alone.

        What does not depend on the inner step can so be computed once.
        """
        return lambda fast: self.query_outputs(fast, support_x, query_x)

    def judge_steps(
        self,
        params: Params,
        episodes: Episodes,
        *,
        inner_steps: int | None,
        n_way: int | None,
        every_step: bool = True,
    ) -> Params:
        """Adapt to T tasks and judge the queries; arguments as for `adapt_steps`.

        Returns:
            The metrics by name: before the first and after each inner step, `[T, steps + 1]`, or
            without `every_step` after the last alone, `[T, 1]`.
        """

        def of_task(task: Episodes) -> Params:
            predict = self.predictor(params, task.support_x, task.query_x)
            steps = self.adaptation(params, task.support_x, task.support_y, inner_steps, n_way)
            judged = judged_each(
                lambda fast: self.judge(predict(fast), task.query_y)[1], steps, every_step
            )
            return {name: torch.stack([m[name] for m in judged]) for name in judged[0]}

        return torch.func.vmap(of_task, randomness="different")(episodes)

    def adapt_tasks(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterable[Params]:
        """`adapt_steps` of T tasks together, for use: it cannot be differentiated.

        Args:
            params: as in `adapt_steps`, as are `inner_steps` and `n_way`, which cannot be counted.
            support_x: `[T, N*K, ...]`.
            support_y: `[T, N*K]`.

        Returns:
            The fast weights of all tasks, each with an axis `[T, ...]`, before the first and after
            each inner step.
        """

        def of_task(x: Tensor, y: Tensor) -> list[Params]:
            return list(self.adaptation(params, x, y, inner_steps, n_way))

        return torch.func.vmap(of_task, randomness="different")(support_x, support_y)

    def query_loss(
        self, params: Params, task: Episodes, tasks: int | None = None
    ) -> tuple[Tensor, Params]:
        """Loss of the fast weights `params` on a task's queries, and metrics.

        With `tasks`, those of T tasks, `[T]`: everything then has a leading axis of tasks.
        """
        outputs = self.query_outputs(params, task.support_x, task.query_x)
        return self.judge(outputs, task.query_y, tasks)

    def judge(
        self, outputs: Tensor, targets: Tensor, tasks: int | None = None
    ) -> tuple[Tensor, Params]:
        """The loss of `outputs`, and the metrics `loss` and, for class labels, `accuracy`.

        With `tasks`, those of T tasks, `[T]`: everything then has a leading axis of tasks.
        """
        loss = self.loss(outputs, targets) if tasks is None else self.losses(outputs, targets)
        metrics = {"loss": loss.detach()}
        if not targets.is_floating_point():
            metrics["accuracy"] = accuracy(outputs.detach(), targets)
        return loss, metrics

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The losses of T tasks, `[T]`, from outputs `[T, B, ...]` and targets `[T, B, ...]`."""
        if self.loss is F.cross_entropy and not targets.is_floating_point():
            # Without vmap, for which PyTorch takes this loss apart.
            each = F.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
            return each.view(targets.shape).mean(dim=1)
        return torch.func.vmap(self.loss)(outputs, targets)


def judged_each(
    judge: Callable[[Params], Params], steps: Iterable[Params], every_step: bool
) -> list[Params]:
    """The metrics of the weights of each step, or of the last alone."""
    if every_step:
        return [judge(fast) for fast in steps]
    *_, last = steps
    return [judge(last)]


def of_network(params: Params) -> Params:
    """The network's own among the meta-parameters or fast weights."""
    return {name: p for name, p in params.items() if "@" not in name}


def _rows(row: Tensor, n_way: int) -> Tensor:
    # A copy, not a view: forward-mode differentiation refuses one with overlapping rows.
    return row.repeat(n_way, *[1] * (row.ndim - 1))
