"""The inner loop of all algorithms that adapt by gradient descent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from innerloop.algorithms import inner_update, noise
from innerloop.algorithms.adapted import names_of
from innerloop.algorithms.apart import task_by_task
from innerloop.algorithms.checks import check_loss, checked_rates, checked_tensors
from innerloop.algorithms.hooks import each_step, taken
from innerloop.algorithms.inner_loops import dropping_second, in_step, steps_of
from innerloop.algorithms.inner_settings import InnerSettings
from innerloop.algorithms.options import AlgorithmOptions
from innerloop.algorithms.overriding import alone, each, is_own, overrides
from innerloop.algorithms.reached import INNER_LOSSES, may_use_own_weights, refuse_own_weights
from innerloop.algorithms.scores import loss_of
from innerloop.algorithms.shared_body import head_outputs, predict_from_features
from innerloop.algorithms.support import Support
from innerloop.errors import UserError
from innerloop.functional import (
    Params,
    Rates,
    are_labels,
    clip_norm_each,
    cross_entropy_each,
    descend,
    gradient,
    in_transform,
    repeat_each,
)
from innerloop.inner import InnerOptimizer
from innerloop.rates import InnerRates
from innerloop.tasks.episodes import Episodes, check_tensors

# From weights and examples to outputs, with an axis of tasks throughout.
NetworkEach = Callable[[Params, Tensor], Tensor]


class GradientBased(InnerSettings):
    """An algorithm whose inner loop is gradient descent on the support loss.

    Beside the methods of `Algorithm`, these may be overridden: `start`, `rest`, `rates`,
    `support_loss`, `inner_loss` and `update`.

    Args:
        model: see `Algorithm`.
        inner_lr: learning rate of the inner loop, greater than 0; or rates by pattern of
            parameter names, `{"head.*": 0.4, "*": 0.01}`, of which the first that matches counts.
        inner_steps: gradient steps in training, at least 1.
        adapted: what the inner loop changes: `"all"`; `"head"`, the module of that
            name; `"body"`, all but it; or names of parameters, separated by commas, with
            wildcards: `"convs.3.*,head.*"`.  None for the algorithm's own choice.
        inner_reduction: of the support loss: `"mean"` over the N*K examples, or
            `"per_shot"`, their sum divided by K, as in the code of the MAML paper: N
            times the mean, so that its rate of 0.4 at 5-way is 2.0 for the mean. Targets that
            are no class labels have no N: there it is the mean, too.
        inner_max_norm: clip each inner gradient to this norm; None for no clipping.
        inner_optimizer: what the inner loop does with a gradient: an `innerloop.inner.SGD` or
            `Adam`, or your own `innerloop.inner.InnerOptimizer`; None for plain gradient descent.
            Its state starts from the beginning in every task.
        options: `loss`, `metric`, `bn`, `chunk_size`, `execution` of `Algorithm`.

    Raises:
        UserError: a value out of range, nothing to adapt, a parameter without a rate, or an
            inner optimiser for a class that overrides `update`.
    """

    adapts = "all"
    first_order = False  # see `MAML`

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.4,
        inner_steps: int = 1,
        *,
        adapted: str | None = None,
        inner_reduction: str = "mean",
        inner_max_norm: float | None = None,
        inner_optimizer: InnerOptimizer | None = None,
        **options: Unpack[AlgorithmOptions],
    ) -> None:
        super().__init__(model, **options)
        self.inner_lr, self.inner_steps = inner_lr, inner_steps
        self.inner_reduction, self.inner_max_norm = inner_reduction, inner_max_norm
        self.adapted_names = names_of(
            self.adapts if adapted is None else adapted, self.model, self._shared_rows
        )
        self.inner_optimizer, self.inner_lr = inner_optimizer, inner_lr

    def _checked_inner_optimizer(self, optimizer: Any) -> Any:
        if optimizer is not None:
            inner_update.check_optimizer(optimizer)
            if is_own(self, "update", GradientBased) or is_own(self, "update_each", GradientBased):
                raise UserError(
                    f"{type(self).__name__} overrides update, which an inner optimiser would "
                    "replace: leave inner_optimizer out"
                )
        return optimizer

    def inner_lr_of(self, name: str) -> float:
        """`inner_lr` of a parameter."""
        rates = self._by_name_or_one()
        return rates[name] if isinstance(rates, Mapping) else rates

    def _by_name_or_one(self) -> InnerRates:
        return self.inner_lr if self._rates is None else self._rates

    def of_head(self, share: float) -> Self:
        """A copy whose inner loop changes the head alone, at this share of the inner rates."""
        changed = copy.copy(self)
        changed.adapted_names = head = [n for n in self.adapted_names if n.startswith("head.")]
        changed.inner_lr = changed._rates = {n: share * self.inner_lr_of(n) for n in head}
        return changed

    # ---- What the inner loop is made of; a subclass may override each of these

    def start(self, params: Params, n_way: int | None, names: list[str] | None = None) -> Params:
        """The weights that the inner loop changes, as they are before its first step."""
        weights = taken(self.fast_weights(params, n_way), self.adapted_names)
        return weights if names is None else {name: weights[name] for name in names}

    def rest(self, params: Params, n_way: int | None, step: int) -> Params:
        """The network's weights at a step; those that the inner loop changes are ignored."""
        return self.fast_weights(params, n_way)

    def rates(self, params: Params, step: int) -> Rates:
        """The inner learning rates of a step: a number, or one entry a parameter name."""
        return self._by_name_or_one()

    def support_loss(self, outputs: Any, targets: Any) -> Tensor:
        """The support loss that the inner loop minimises, a scalar."""
        loss = check_loss(loss_of(self.loss, outputs, targets, self._loss_draws))
        if self.inner_reduction == "mean" or not are_labels(outputs, targets):
            return loss
        return check_loss(loss * outputs.shape[-1])

    def inner_loss(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        """The loss that inner step `step` minimises, as a function of everything it depends on.

        Args:
            params: the meta-parameters.
            fast: what the inner loop changes.
            support: the support set; `support.batch(step)` gives the examples of this step.
            step: 0 for the first.
        """
        found: Tensor = alone(self, "inner_loss", params, fast, support, step)
        return found

    def update(self, params: Params, fast: Params, gradient: Params, step: int) -> Params:
        """The weights after inner step `step`, from those before it and their gradient.

        This is plain gradient descent; an `inner_optimizer` takes its place.
        """
        found: Params = alone(self, "update", params, fast, gradient, step)
        return found

    # ---- The same for T tasks

    @each(0, 0, check=check_loss)
    def support_loss_each(self, outputs: Any, targets: Any) -> Tensor:
        """`support_loss` of T tasks, `[T]`."""
        if self.loss is F.cross_entropy and are_labels(outputs, targets, tasks=True):
            losses = cross_entropy_each(outputs, targets)
            return losses * outputs.shape[-1] if self.inner_reduction == "per_shot" else losses
        return task_by_task(self.support_loss, (0, 0), (outputs, targets))

    @each(None, 0, 0, None, check=check_loss)
    def inner_loss_each(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        """`inner_loss` of T tasks, `[T]`."""
        x, y = support.batch(step)
        network = head_outputs if support.of_features else self.forward_each
        with noise.at(step):
            outputs = network(self.weights(params, fast, support, step), x)
        return self.support_loss_each(outputs, y)

    @each(None, 0, 0, None)
    def update_each(self, params: Params, fast: Params, gradient: Params, step: int) -> Params:
        """`update` of T tasks."""
        return descend(fast, self._clipped(gradient), self._rates_at(params, fast, step))

    def _rates_at(self, params: Params, fast: Params, step: int) -> Rates:
        return checked_rates(self.rates(params, step), f"rates of {type(self).__name__}", fast)

    def _clipped(self, gradient: Params) -> Params:
        most = self.inner_max_norm
        return gradient if most is None else clip_norm_each(gradient, most)

    # ---- The inner loop

    def inner_losses(self, params: Params, fast: Params, support: Support, step: int) -> Tensor:
        """`inner_loss` of T tasks, `[T]`, with the same random numbers at every call."""
        with noise.at(step):
            losses = self.inner_loss_each(params, fast, support, step)
        if losses.ndim != 1:
            found = tuple(losses.shape[1:])
            raise UserError(f"the inner loss of a task must be a scalar, a mean, not {found}")
        if not self._reached and may_use_own_weights(self):
            refuse_own_weights("inner loss", losses, self.model, params, fast)
        if step == 0 and (seen := INNER_LOSSES.get()) is not None:
            seen.append(losses)
        return losses

    def started(
        self, params: Params, n_way: int | None, tasks: int, names: list[str] | None = None
    ) -> Params:
        """`start` for each of so many tasks."""
        found = self.start(params, n_way) if names is None else self.start(params, n_way, names)
        return repeat_each(checked_tensors(found, f"start of {type(self).__name__}"), tasks)

    def first_state(self, fast: Params) -> Any:
        """The inner optimiser's state of T tasks before the first step; None without one."""
        if self.inner_optimizer is None:
            return None
        return inner_update.first_state(self.inner_optimizer, fast)

    def advance_each(
        self, params: Params, fast: Params, gradient: Params, state: Any, step: int
    ) -> tuple[Params, Any]:
        """The weights and optimiser state that the inner loop carries to the next step."""
        if self.inner_optimizer is None:
            # Copies of the dicts, which an update may fill: a step may be taken again.
            found = self.update_each(params, {**fast}, {**gradient}, step)
            hooks = ("update", "update_each", "rates")
            if any(is_own(self, hook, GradientBased) for hook in hooks):
                inner_update.check_weights(f"update of {type(self).__name__}", fast, found)
            return found, None
        slope, rates = self._clipped(gradient), self._rates_at(params, fast, step)
        return inner_update.step(self.inner_optimizer, fast, slope, state, rates)

    def weights(self, params: Params, fast: Params, support: Support, step: int) -> Params:
        """All weights at a step, `[T, ...]`: those that the inner loop changes, and the rest."""
        found = self.rest(params, support.n_way, step)
        rest = checked_tensors(found, f"rest of {type(self).__name__}")
        rest = {
            name: p
            for name, p in rest.items()
            if name not in fast and (name.startswith("head.") or not support.of_features)
        }
        return {**repeat_each(rest, len(support.x)), **fast}

    def descent(
        self,
        params: Params,
        support: Support,
        *,
        inner_steps: int | None = None,
        first_order: bool = False,
        names: list[str] | None = None,
    ) -> Iterator[Params]:
        """The inner loop of T tasks: yields all weights before the first and after each step.

        Args:
            params: the meta-parameters.
            support: what is learnt from.
            inner_steps: None for as many as in training.
            first_order: inner gradients are constants when the result is differentiated.
            names: the parameters that are changed; None for those of `adapted`.
        """
        steps = self.inner_steps if inner_steps is None else inner_steps
        fast = self.started(params, support.n_way, len(support.x), names)
        state = self.first_state(fast)
        # Without anything to differentiate, a graph would only waste memory.
        asked = in_transform() or any(t.requires_grad for t in (*params.values(), support.x))
        for step in range(steps + 1):
            yield self.weights(params, fast, support, step)
            if step == steps:
                return

            def loss(fast: Params, step: int = step) -> Tensor:
                return self.inner_losses(params, fast, support, step)

            slope = gradient(loss, fast, create_graph=asked and not first_order)
            fast, state = self.advance_each(params, fast, slope, state, step)

    def inner_loop(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterator[Params]:
        check_tensors(support_x=support_x, support_y=support_y)
        n_way = self.ways(support_y, n_way)
        support = Support(support_x, support_y, n_way, axis=0).with_task()
        others: Params = {}
        if self.keeps_body:
            features = self.features(params, support_x).unsqueeze(0)
            support = support._replace(x=features, of_features=True)
            # Steps need none of them, but `forward` does: the module's own would stand in.
            others = self.fast_weights(params, n_way)
        first_order = self.first_order or dropping_second()
        for weights in self.descent(
            params, support, inner_steps=inner_steps, first_order=first_order
        ):
            yield others | {name: p.squeeze(0) for name, p in weights.items()}

    def loops(
        self,
        params: Params,
        tasks: Episodes,
        *,
        inner_steps: int | None = None,
        first_order: bool = False,
        of_features: bool = False,
        batch_size: int | None = None,
    ) -> Iterator[Params]:
        """The inner loops of T tasks, through `inner_loop` where a subclass overrides it."""
        if is_own(self, "inner_loop", GradientBased):
            apart = [
                steps_of(self, params, x, y, inner_steps=inner_steps, n_way=tasks.n_way)
                for x, y in zip(tasks.support_x, tasks.support_y, strict=True)
            ]
            yield from in_step(self, apart, first_order)
            return
        support = Support(tasks.support_x, tasks.support_y, tasks.n_way, of_features, batch_size)
        head = [name for name in self.adapted_names if name.startswith("head.")]
        yield from self.descent(
            params,
            support,
            inner_steps=inner_steps,
            first_order=first_order,
            names=head if of_features else None,
        )

    def scores_each(
        self,
        params: Params,
        tasks: Episodes,
        *,
        inner_steps: int | None,
        every_step: bool,
        of_features: bool = False,
    ) -> list[Params]:
        if len(tasks.support_x) == 1 and not of_features:
            return super().scores_each(
                params, tasks, inner_steps=inner_steps, every_step=every_step
            )

        def scored(fast: Params) -> Params:
            if of_features:
                return self.score_each(head_outputs(fast, tasks.query_x), tasks.query_y)[1]
            return self.query_loss_each(fast, tasks)[1]

        steps = self.loops(
            params, tasks, inner_steps=inner_steps, first_order=True, of_features=of_features
        )
        return each_step(scored, steps, every_step)

    def why_not_together(self, training: bool) -> str | None:
        if is_own(self, "inner_loop", GradientBased):
            return f"{type(self).__name__} overrides inner_loop, which is about one task"
        return None

    def body_stays_in_use(self) -> bool:
        return self.keeps_body

    # ---- What holds for this network and these settings

    @property
    def keeps_body(self) -> bool:
        """True if the inner loop changes and needs nothing but the last layer."""
        return (
            all(name.startswith("head.") for name in self.adapted_names)
            and not overrides(self, "inner_loss")
            and not overrides(self, "forward")
            and not is_own(self, "rest", GradientBased)
            and self.network.is_head_on_features()
        )

    def predictor(
        self, params: Params, support_x: Tensor, query_x: Tensor
    ) -> Callable[[Params], Any]:
        if not self.keeps_body or overrides(self, "query_outputs"):
            return super().predictor(params, support_x, query_x)
        return predict_from_features(self, params, support_x, query_x)
