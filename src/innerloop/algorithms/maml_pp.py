"""MAML++: MAML with what makes its training stable."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor, nn

from innerloop.algorithms import noise
from innerloop.algorithms.hooks import taken
from innerloop.algorithms.maml import MAML
from innerloop.algorithms.options import MAMLOptions
from innerloop.errors import UserError, share_of_training
from innerloop.functional import Params, Rates, detach
from innerloop.models.layers import BatchNorm, Statistics, seen_statistics
from innerloop.models.norms import batch_norms
from innerloop.rates import InnerRates
from innerloop.tasks.episodes import Episodes


class MAMLPlusPlus(MAML):
    """MAML++, with each part as an option.

    Antoniou, Edwards, Storkey 2019, "How to train your MAML", section 4.  The two parts
    that are not options of this class are `second_order_from` of `MAML` (derivative-order
    annealing) and the trainer's cosine schedule.

    Args:
        model, inner_lr, inner_steps, first_order: see `MAML`.
        learn_inner_lr: learn a rate for each layer and step (LSLR).  The meta-parameter
            `rate@NAME` `[inner_steps]` is a multiple of `inner_lr`, 1 at first.
        multi_step_loss_until: for this first share of training, 0..1, the query loss after
            every inner step counts (MSL, Eq. 4), all alike at first and more and
            more the last.
        per_step_norm: learn scale and shift of each batch norm, PyTorch's or
            `innerloop.models.BatchNorm`, for each step (BNWB), as meta-parameters `step@NAME`
            `[inner_steps + 1, C]`; the inner loop leaves them alone.
        per_step_statistics: keep running statistics of each `innerloop.models.BatchNorm` for each
            step (BNRS), as `mean@NORM` and `variance@NORM` `[inner_steps + 1, C]`.  In training the
            batch's own normalise, as in any batch norm; with `bn="per_step"` the running ones do
            at test time, and so no prediction depends on the other queries.
        options: see `MAML`.  `second_order_from` is half of training in the paper.

    Raises:
        UserError: a value out of range; `bn="per_step"` for a network without
            `innerloop.models.BatchNorm`.
    """

    bn_modes = (*MAML.bn_modes, "per_step")

    def __init__(
        self,
        model: nn.Module,
        inner_lr: InnerRates = 0.1,
        inner_steps: int = 5,
        first_order: bool = False,
        *,
        learn_inner_lr: bool = True,
        multi_step_loss_until: float = 0.1,
        per_step_norm: bool = True,
        per_step_statistics: bool = True,
        **options: Unpack[MAMLOptions],
    ) -> None:
        super().__init__(model, inner_lr, inner_steps, first_order, **options)
        share_of_training(multi_step_loss_until=multi_step_loss_until)
        self.learn_inner_lr, self.multi_step_loss_until = learn_inner_lr, multi_step_loss_until
        self._norms = {n: m for n, m in model.named_modules() if isinstance(m, BatchNorm)}
        if self.bn == "per_step" and not (self._norms and per_step_statistics):
            raise UserError(
                'bn="per_step" needs per_step_statistics and a network with '
                "innerloop.models.BatchNorm, which innerloop.models.replace_batch_norm(model) puts "
                "in the place of PyTorch's"
            )
        self._per_step: list[str] = []
        if per_step_norm:
            owned = {f"{n}.{part}" for n in batch_norms(model) for part in ("weight", "bias")}
            self._per_step = [name for name in super().init_params() if name in owned]
            self.adapted_names = [n for n in self.adapted_names if n not in self._per_step]
            if not self.adapted_names:
                raise UserError(
                    "nothing is left to adapt: with per_step_norm the inner loop leaves batch norm "
                    "alone; adapt more, or set per_step_norm to false"
                )
        if per_step_statistics:
            self.moving_averages = frozenset(
                f"{part}@{norm}" for norm in self._norms for part in ("mean", "variance")
            )

    def init_params(self) -> Params:
        params = super().init_params()
        steps = self.inner_steps
        if self.learn_inner_lr:
            params |= {
                f"rate@{name}": torch.ones(steps, dtype=p.dtype, device=p.device)
                for name, p in taken(params, self.adapted_names).items()
            }
        for name in self._per_step:
            params[f"step@{name}"] = params.pop(name).repeat(steps + 1, 1)
        for name in sorted(self.moving_averages):
            part, norm = name.split("@")
            fill = torch.zeros_like if part == "mean" else torch.ones_like
            params[name] = fill(self._norms[norm].weight.detach()).repeat(steps + 1, 1)
        return params

    def rates(self, params: Params, step: int) -> Rates:
        if not self.learn_inner_lr:
            return super().rates(params, step)
        # Steps beyond those of training go on with the last rate; so do norms below.
        row = min(step, self.inner_steps - 1)
        return {
            name: self.inner_lr_of(name) * params[f"rate@{name}"][row]
            for name in self.adapted_names
        }

    def rest(self, params: Params, n_way: int | None, step: int) -> Params:
        row = min(step, self.inner_steps)
        of_step = {name: params[f"step@{name}"][row] for name in self._per_step}
        statistics = {}
        if self.bn == "per_step":
            statistics = {n: params[n][row] for n in self.moving_averages if n in params}
        return super().rest(params, n_way, step) | of_step | statistics

    def statistics_in(self, params: Params) -> Statistics:
        return {
            norm.key: (params[f"mean@{name}"], params[f"variance@{name}"])
            for name, norm in self._norms.items()
            if f"mean@{name}" in params
        }

    def step_weights(self, progress: float) -> list[float]:
        if progress >= self.multi_step_loss_until:
            return super().step_weights(progress)
        share = progress / self.multi_step_loss_until
        others = (1 - share) / self.inner_steps
        return [0.0] + [others] * (self.inner_steps - 1) + [others + share]

    def task_gradient(
        self, params: Params, task: Episodes, n_way: int | None, progress: float
    ) -> tuple[Params, Params]:
        grads, metrics = super().task_gradient(self._learnt(params), task, n_way, progress)
        return grads | self._statistics_gradient(params, task.with_task(n_way)), metrics

    def mean_gradient(
        self, params: Params, episodes: Episodes, progress: float, *, of_features: bool = False
    ) -> tuple[Params, Params]:
        grads, metrics = super().mean_gradient(self._learnt(params), episodes, progress)
        return grads | self._statistics_gradient(params, episodes), metrics

    def _learnt(self, params: Params) -> Params:
        return {name: p for name, p in params.items() if name not in self.moving_averages}

    def _statistics_gradient(self, params: Params, tasks: Episodes) -> Params:
        """How far the running statistics are from those of the support sets, on average."""
        if not self.moving_averages:
            return {}
        # One more pass per step: values cannot be carried out of torch.func.grad.
        rows: dict[str, list[Tensor]] = {name: [] for name in self.moving_averages}
        learnt = detach(self._learnt(params))
        for step, weights in enumerate(self.loops(learnt, tasks, first_order=True)):
            with seen_statistics() as seen, torch.no_grad(), noise.at(step):
                self.forward_each(weights, tasks.support_x)
            for name, norm in self._norms.items():
                names = f"mean@{name}", f"variance@{name}"
                # A norm that the network does not use keeps what it has.
                values = seen.get(norm.key, [params[n][step] for n in names])
                for n, value in zip(names, values, strict=True):
                    rows[n].append(value.expand(tasks.num_tasks, -1).mean(dim=0))
        return {name: params[name] - torch.stack(values) for name, values in rows.items()}

    @property
    def keeps_body(self) -> bool:
        # The norms change with the step, and so do the features.
        return False

    def body_stays(self, progress: float) -> bool:
        return False
