"""Layers whose behaviour in few-shot learning needs to be explicit."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from innerloop import ops
from innerloop.errors import UserError
from innerloop.ops import after_norm, batch_norm, conv2d, linear
from innerloop.ops.moments import moments
from innerloop.ops.stacked import of_tasks
from innerloop.renamed import forward

Statistics = dict[object, tuple[Tensor, Tensor]]
"""Mean and variance `[C]` of each batch norm, by its `key`."""

# How the rows of a batch belong together: (rows a group, leading rows that give the
# statistics), or None where all rows are one set.
_groups: ContextVar[tuple[int, int, int | None] | None] = ContextVar("groups", default=None)
# Statistics to use instead of those of the batch, and where to note those of the batch.
_given: ContextVar[Statistics | None] = ContextVar("given", default=None)
_seen: ContextVar[tuple[Statistics, bool] | None] = ContextVar("seen", default=None)


@contextlib.contextmanager
def statistics_by_group(
    rows: int, first: int | None = None, total: int | None = None
) -> Iterator[None]:
    """Within this context, `BatchNorm` treats every `rows` examples as a set of their own.

    So the sets of many tasks can go through a network in one batch.  With `first`,
    only the first `first` examples of each set give the statistics: support and
    query together, normalised by the support alone, make each query's prediction
    independent of the other queries.

    Args:
        rows: examples a set; the batch is a whole number of sets.
        first: examples of each set that the statistics are taken from; None for all.
        total: examples in the batch that goes into the network, so that a norm inside it which sees
            several rows of each example can tell; None where there is no such norm.
    """
    token = _groups.set((rows, rows if first is None else first, total))
    try:
        yield
    finally:
        _groups.reset(token)


@contextlib.contextmanager
def given_statistics(statistics: Statistics) -> Iterator[None]:
    """Within this context, each `BatchNorm` normalises by its mean and variance in `statistics`."""
    token = _given.set(statistics)
    try:
        yield
    finally:
        _given.reset(token)


@contextlib.contextmanager
def seen_statistics(*, unbiased: bool = True) -> Iterator[Statistics]:
    """Within this context, each `BatchNorm` notes the mean and variance `[C]` of its batch.

    Of T tasks it notes `[T, C]`.

    Args:
        unbiased: divide the variance by n - 1, as is usual for statistics to be used on other
            batches; False for what the batch itself is normalised by.
    """
    seen: Statistics = {}
    token = _seen.set((seen, unbiased))
    try:
        yield seen
    finally:
        _seen.reset(token)


class Conv2d(nn.Conv2d):
    """A convolution whose bias is left to the layer after it.

    Before a batch norm, which subtracts the mean, a bias makes no difference:
    `forward` does without, unless told otherwise.

    Args:
        inputs, outputs: channels.
        stride, padding: the same along both axes.
    """

    takes_tasks = True

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, padding: int = 1) -> None:
        super().__init__(inputs, outputs, 3, stride=stride, padding=padding)

    def forward(self, x: Tensor, *, bias: bool = False) -> Tensor:
        x = conv2d(x, self.weight, stride=self.stride[0], padding=int(self.padding[0]))
        return x + self.bias[..., None, :, None, None] if bias and self.bias is not None else x


class BatchNorm(nn.Module):
    """Batch normalisation with the statistics of the current batch, in training and testing.

    There are no running statistics: in meta-learning they would mix tasks, and
    support with query.  `statistics_by_group` and `given_statistics` say otherwise where
    the statistics come from.

    Args:
        features: C, channels of the input `[B, C]` or `[B, C, ...]`.
        eps: added to the variance.
    """

    takes_tasks = True

    def __init__(self, features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        # Copies of the module that share its weights share it, too.
        self.key = object()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor, *, pool: bool = False, relu: bool = False) -> Tensor:
        """Normalise `x`; then, in the same pass, 2 x 2 max-pooling if `pool` and ReLU if `relu`."""
        slope = 0.0 if relu else 1.0
        seen, given, groups = _seen.get(), _given.get(), _groups.get()
        # With an axis of tasks, weight and bias have one as well.
        tasks = self.weight.ndim - 1
        if seen is not None:
            mean, variance, count = moments(x, [tasks, *range(tasks + 2, x.ndim)])
            noted, unbiased = seen
            if unbiased:
                # As PyTorch's running variance.
                variance = variance * (count / (count - 1) if count > 1 else math.nan)
            noted[self.key] = of_tasks(mean.flatten(tasks)), of_tasks(variance.flatten(tasks))
        if given is not None:
            mean, variance = given[self.key]
            x = F.batch_norm(x, mean, variance, self.weight, self.bias, False, 0.0, self.eps)
            return after_norm(x, pool=pool, slope=slope)
        rows, first = self._grouped(x.shape[tasks], groups)
        return batch_norm(
            x,
            self.weight,
            self.bias,
            self.eps,
            pool=pool,
            slope=slope,
            # With an axis of tasks, each task's rows are one set.
            group=None if tasks else rows,
            first=None if first == rows else first,
        )

    def _grouped(
        self, seen: int, groups: tuple[int, int, int | None] | None
    ) -> tuple[int | None, int | None]:
        """Rows a set, and those that give the statistics, for a batch of `seen` rows."""
        if groups is None:
            return None, None
        rows, first, total = groups
        if total is None or seen == total:
            return rows, first
        if seen % total:
            raise UserError(
                f"batch norm sees {seen} rows for {total} examples, and cannot tell whose they are"
            )
        # As after a reshape to [B * L, C]: the rows of an example stand together.
        each = seen // total
        return rows * each, first * each

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"


def conv_norm(
    x: Tensor, conv: nn.Module, norm: nn.Module, *, pool: bool = False, relu: bool = True
) -> Tensor:
    """`norm(conv(x), pool=pool, relu=relu)`; in one go, where the batch gives the statistics."""
    assert isinstance(conv, Conv2d)
    assert isinstance(norm, BatchNorm)
    if any(context.get() is not None for context in (_seen, _given, _groups)):
        y: Tensor = norm(conv(x), pool=pool, relu=relu)
        return y
    return ops.conv_block(
        x,
        conv.weight,
        norm.weight,
        norm.bias,
        norm.eps,
        stride=conv.stride[0],
        padding=int(conv.padding[0]),
        pool=pool,
        slope=0.0 if relu else 1.0,
    )


class Linear(nn.Linear):
    """A linear layer that also takes `[T, B, F]` with weights of their own for T tasks."""

    takes_tasks = True

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class SharedHead(nn.Module):
    """A linear classifier with one row that every class starts from.

    The fast weights of a task hold N copies of the row (see
    `Algorithm.fast_weights`), which the inner loop then pulls apart.  The
    accuracy does not depend on which class gets which label, and a network
    trained N-way can be used M-way (UNICORN-MAML, Ye and Chao 2021).  Under softmax
    cross-entropy the row itself makes no difference, because what is added to all logits
    cancels: it stays at zero, where it starts.

    Args:
        features: F, width of the input `[B, F]`.
    """

    takes_tasks = True

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, features))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight, self.bias)


class HeadedModel(nn.Module):
    """A network that is `head(features(x))`, and treats examples one by one.

    Only `BatchNorm` may look at several examples at a time.  Subclasses define
    `features`, `[B, ...]` to `[B, F]`, and the module `head`, `[B, F]` to `[B, N]`.
    """

    head: nn.Module
    # Whether inputs `[T, B, ...]` are taken too, with all parameters `[T, ...]`: T tasks side by
    # side, each with its own weights.  True of networks whose layers are those of this
    # file and whose other operations count the axes from the last.
    takes_tasks = False

    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees: `[B, ...]` to `[B, F]`."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(x))
        return y


# Makes the seed of the head differ from that of the other layers.
HEAD_SEED = 0x5EEDAD


def make_head(kind: str, features: int, n_way: int, seed: int = 0) -> nn.Module:
    """The last layer: one row per class (`"linear"`, `"random"`, `"normal"`) or a `"shared"` one.

    A linear and a shared head start at zero, so the untrained network guesses with equal
    probabilities; a random one at rows of length about 1, a normal one at N(0, 1) in every place,
    as in the code of Finn et al. 2017, both drawn from `seed`.
    """
    if kind == "shared":
        return SharedHead(features)
    deviation = {"linear": 0.0, "random": features**-0.5, "normal": 1.0}.get(kind)
    if deviation is None:
        raise UserError(f"head must be 'linear', 'random', 'normal' or 'shared', not {kind!r}")
    head = Linear(features, n_way)
    # Other random numbers than those of the layers before.
    generator = torch.Generator().manual_seed(seed ^ HEAD_SEED)
    # A deviation of zero makes zeros.
    nn.init.normal_(head.weight, std=deviation, generator=generator)
    nn.init.zeros_(head.bias)
    return head


_old_name = forward(__name__)


def __getattr__(name: str) -> Any:
    if name == "conv_block":
        warnings.warn(
            "innerloop.models.layers.conv_block is called conv_norm now",
            DeprecationWarning,
            stacklevel=2,
        )
        return conv_norm
    return _old_name(name)
