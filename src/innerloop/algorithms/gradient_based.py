"""What algorithms that adapt by gradient descent share: the inner loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from typing import NamedTuple

import torch
from torch import Tensor, nn

from innerloop.algorithms.base import Algorithm, judged_each, of_network
from innerloop.algorithms.body import features_of_sets, keeps_tasks_apart
from innerloop.errors import UserError, above_zero, at_least, one_of
from innerloop.functional import Params, Rates, for_tasks, inner_step
from innerloop.models.layers import HeadedModel, SharedHead
from innerloop.ops import kernels
from innerloop.tasks.episodes import Episodes

REDUCTIONS = ("mean", "per_shot")
Network = Callable[[Params, Tensor], Tensor]


class Support(NamedTuple):
    """The support set of one task, as the inner loop sees it.

    Attributes:
        x: `[N*K, ...]`, or `[N*K, F]` where `network` takes features.
        y: `[N*K]`.
        n_way: as for `adapt_steps`.
        network: from weights and `x` to outputs; None for the whole network.
        batch_size: examples in the mini-batch of a step; None for all.
        tasks: T, where this is the support sets of T tasks side by side: `x` and `y` then
            have a leading axis of tasks, and so have all weights; None for one task.
    """

    x: Tensor
    y: Tensor
    n_way: int | None
    network: Network | None = None
    batch_size: int | None = None
    tasks: int | None = None

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """The examples of inner step `step`: mini-batches in turn, then from the start again."""
        size, all_rows = self.batch_size, self.y.shape[self.axis]
        if size is None or size >= all_rows:
            return self.x, self.y
        rows = torch.arange(step * size, (step + 1) * size, device=self.y.device) % all_rows
        return self.x.index_select(self.axis, rows), self.y.index_select(self.axis, rows)

    @property
    def axis(self) -> int:
        """Which axis of `x` and `y` counts the examples."""
        return 0 if self.tasks is None else 1


class GradientBased(Algorithm):
    """An algorithm whose inner loop is gradient descent on the support loss.

    Args:
        model: see `Algorithm`.
        inner_lr: learning rate of the inner loop, greater than 0.
        inner_steps: gradient steps in training, at least 1.
        adapted: what the inner loop changes: `"all"`; `"head"`, the module of that
            name; `"body"`, all but it; or names of parameters, separated by commas, with
            wildcards: `"convs.3.*,head.*"`.  None for what the algorithm is known for.
        inner_reduction: of the support loss: `"mean"` over the N*K examples, or
            `"per_shot"`, their sum divided by K, as in the code of the MAML paper: N
            times the mean, so that its rate of 0.4 at 5-way is 2.0 for the mean.
        inner_max_norm: clip each inner gradient to this norm; None for no clipping.
        options: `loss`, `bn`, `chunk_size` of `Algorithm`.

    Raises:
        UserError: a value out of range, or nothing to adapt.
    """

    adapts = "all"

    def __init__(
        self,
        model: nn.Module,
        inner_lr: float = 0.4,
        inner_steps: int = 1,
        *,
        adapted: str | None = None,
        inner_reduction: str = "mean",
        inner_max_norm: float | None = None,
        **options,
    ) -> None:
        super().__init__(model, **options)
        at_least(1, inner_steps=inner_steps)
        above_zero(inner_lr=inner_lr, inner_max_norm=inner_max_norm)
        one_of(REDUCTIONS, inner_reduction=inner_reduction)
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.inner_reduction, self.inner_max_norm = inner_reduction, inner_max_norm
        self.adapted_names = self._names(self.adapts if adapted is None else adapted)

    def _names(self, adapted: str) -> list[str]:
        """The names of the trainable parameters that `adapted` means."""
        names = [name for name, p in self.model.named_parameters() if p.requires_grad]
        if adapted in ("head", "body") and not hasattr(self.model, "head"):
            raise UserError(
                f"this network has no module called head, so adapted={adapted!r} has no meaning: "
                f"name the parameters instead, with wildcards; there are {', '.join(names)}"
            )
        if adapted == "body":
            chosen = [name for name in names if not name.startswith("head.")]
        else:
            patterns = {"all": "*", "head": "head.*"}.get(adapted, adapted).split(",")
            matches = {p: [n for n in names if fnmatchcase(n, p.strip())] for p in patterns}
            for pattern, found in matches.items():
                if not found:
                    raise UserError(
                        f"adapted: {pattern.strip()!r} is none of the trainable parameters "
                        f"{', '.join(names)}"
                    )
            chosen = [name for name in names if any(name in found for found in matches.values())]
        if self._shared_rows and not self._shared_rows & set(chosen):
            raise UserError(
                f"adapted={adapted!r} leaves out the shared head, whose rows would stay the same "
                "for all classes: give the network head='random', with a row for each class"
            )
        return chosen

    @property
    def keeps_body(self) -> bool:
        """Whether the inner loop changes nothing below the last layer."""
        return self.plain_head and all(name.startswith("head.") for name in self.adapted_names)

    @property
    def features_in_one_batch(self) -> bool:
        """Whether the body's features can be computed for all tasks at once."""
        return self.plain_head and keeps_tasks_apart(self.model)

    @property
    def side_by_side(self) -> bool:
        """Whether the inner loops of all tasks can go through the network together.

        That is, with a leading axis of tasks on images and weights, by plain autograd: where the
        network is made for it and the compiled kernels serve, faster than vmap.
        """
        return self.bn == "transductive" and self.loops_side_by_side

    @property
    def loops_side_by_side(self) -> bool:
        """The same of the inner loops alone, which do not ask for statistics of queries."""
        return (
            getattr(self.model, "takes_tasks", False)
            and self.inner_max_norm is None
            and all(
                kernels.serve(conv.weight, conv.out_channels)
                for conv in self.model.modules()
                if isinstance(conv, nn.Conv2d)
            )
        )

    @property
    def plain_head(self) -> bool:
        """Whether the network is a body, and a linear layer that shares nothing with it."""
        if not isinstance(self.model, HeadedModel):
            return False
        own = {id(p) for p in self.model.head.parameters()}
        uses = [p for _, p in self.model.named_parameters(remove_duplicate=False) if id(p) in own]
        return isinstance(self.model.head, (SharedHead, nn.Linear)) and len(uses) == len(own)

    def start(self, params: Params, n_way: int | None, names: list[str] | None = None) -> Params:
        """The weights that the inner loop changes, as they are before its first step."""
        weights = self.fast_weights(params, n_way)
        return {name: weights[name] for name in names or self.adapted_names}

    def rest(self, params: Params, n_way: int | None, step: int) -> Params:
        """The network's weights at a step; those that the inner loop changes are ignored."""
        return self.fast_weights(params, n_way)

    def rates(self, params: Params, step: int) -> Rates:
        """The inner learning rates of a step."""
        return self.inner_lr

    def support_loss(self, outputs: Tensor, targets: Tensor, tasks: int | None = None) -> Tensor:
        """What the inner loop descends on; a scalar, or `[T]` with `tasks`, as for `judge`."""
        loss = self.loss(outputs, targets) if tasks is None else self.losses(outputs, targets)
        return loss * outputs.shape[-1] if self.inner_reduction == "per_shot" else loss

    def weights(self, params: Params, fast: Params, support: Support, step: int) -> Params:
        """All weights at a step: those that the inner loop changes, `fast`, and the rest."""
        rest = self.rest(params, support.n_way, step)
        rest = {name: p for name, p in rest.items() if name not in fast}
        return {**for_tasks(rest, support.tasks), **fast}

    def inner_loss(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        """The loss that inner step `step` descends on, as a function of all that it depends on."""
        network = support.network or self.forward
        x, y = support.batch(step)
        weights = self.weights(params, fast, support, step)
        return self.support_loss(network(weights, x), y, support.tasks)

    def inner_loop(
        self,
        params: Params,
        support: Support,
        *,
        inner_steps: int | None = None,
        first_order: bool = False,
        names: list[str] | None = None,
    ) -> Iterator[Params]:
        """The inner loop of one task: yields all weights before the first and after each step.

        Args:
            params: the meta-parameters.
            support: what is learnt from.
            inner_steps: None for as many as in training.
            first_order: inner gradients are constants when the result is differentiated.
            names: the parameters that are changed; None for those of `adapted`.
        """
        fast = for_tasks(self.start(params, support.n_way, names), support.tasks)
        steps = self.inner_steps if inner_steps is None else inner_steps
        for step in range(steps + 1):
            yield self.weights(params, fast, support, step)
            if step == steps:
                return

            def loss(fast: Params, step: int = step) -> Tensor:
                return self.inner_loss(params, fast, support, step)

            fast = inner_step(
                loss,
                fast,
                inner_lr=self.rates(params, step),
                max_norm=self.inner_max_norm,
                first_order=first_order,
                of_tasks=support.tasks is not None,
            )

    def adaptation(
        self, params: Params, x: Tensor, y: Tensor, inner_steps: int | None, n_way: int | None
    ) -> Iterator[Params]:
        support = Support(x, y, n_way)
        if self.keeps_body:
            support = Support(self.features(params, x), y, n_way, self.head_outputs)
        return self.inner_loop(params, support, inner_steps=inner_steps)

    def adapt_tasks(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterable[Params]:
        if self.keeps_body or not self.loops_side_by_side:
            return super().adapt_tasks(
                params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
            )
        support = Support(support_x, support_y, n_way, tasks=len(support_x))
        return self.inner_loop(params, support, inner_steps=inner_steps, first_order=True)

    def judge_steps(
        self,
        params: Params,
        episodes: Episodes,
        *,
        inner_steps: int | None,
        n_way: int | None,
        every_step: bool = True,
    ) -> Params:
        if self.keeps_body or not self.side_by_side:
            return super().judge_steps(
                params, episodes, inner_steps=inner_steps, n_way=n_way, every_step=every_step
            )
        steps = self.adapt_tasks(
            params, episodes.support_x, episodes.support_y, inner_steps=inner_steps, n_way=n_way
        )
        judged = judged_each(
            lambda fast: self.query_loss(fast, episodes, episodes.num_tasks)[1], steps, every_step
        )
        return {name: torch.stack([m[name] for m in judged], dim=1) for name in judged[0]}

    def head_outputs(self, weights: Params, features: Tensor) -> Tensor:
        """The outputs for `features`, what the last layer sees, with `weights` in it."""
        head = {
            name.removeprefix("head."): p
            for name, p in of_network(weights).items()
            if name.startswith("head.")
        }
        assert isinstance(self.model, HeadedModel)
        return torch.func.functional_call(self.model.head, head, (features,))

    def predictor(
        self, params: Params, support_x: Tensor, query_x: Tensor
    ) -> Callable[[Params], Tensor]:
        if not self.keeps_body:
            return super().predictor(params, support_x, query_x)
        _, features = features_of_sets(self, params, support_x[None], query_x[None])
        return lambda fast: self.head_outputs(fast, features[0])
