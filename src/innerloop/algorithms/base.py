"""The base class of all meta-learning algorithms: the public methods, for any number of tasks."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from innerloop.algorithms import in_use
from innerloop.algorithms.arguments import check_support, checking, given_episodes
from innerloop.algorithms.execution import MetaGradient
from innerloop.algorithms.explain import explain
from innerloop.algorithms.inner_loops import steps_of
from innerloop.errors import at_least, share_of_training
from innerloop.functional import Params
from innerloop.tasks.episodes import Episodes


class Algorithm(MetaGradient):
    """A meta-learning algorithm on a network.

    An algorithm is how it adapts, `inner_loop`, and its part of the meta-gradient,
    `task_gradient`, which by default is the gradient of the query loss after adaptation.  Both
    are about one task; `execution` decides how many tasks are computed.  The network is never
    changed: parameters come in as a dict and go out as a dict.  The meta-parameters are those of
    the network by name, and possibly more of the algorithm's own, which have a `@` in their names.

    Methods of one task may be overridden: `forward`, `inner_loop`, `query_outputs`, `score`,
    `query_loss`, `loss_after_adaptation`, `task_gradient`.  Tasks are then computed in a way that
    goes through the overridden method.

    Args:
        model: any `nn.Module` from inputs `[B, ...]` to outputs, usually `[B, ...]`.
            Parameters with `requires_grad=False` stay fixed.
        loss: of outputs and targets, the mean over the examples of one set.
        metric: what results are measured by: `"auto"`, the accuracy where targets are class
            labels `[B]` and outputs are logits `[B, N]`; a function of outputs and targets that
            returns a number, the higher the better; None for the loss alone.
        bn: where batch norm takes the statistics for queries from: `"transductive"`, the query
            set itself, so that a prediction depends on the other queries; `"support"`, the support
            set alone; or `"frozen"`, the running statistics that a pretrained network comes with,
            as constants.  (`MAMLPlusPlus` has another.)
        chunk_size: tasks computed at a time, to bound memory; None for all.
        execution: how tasks are computed: `"auto"`; or one of `"stacked"`, `"vmap"`, `"loop"`,
            `"shared_body"`, see `explain`.

    Raises:
        UserError: the network keeps running batch statistics, `bn="support"` is asked of a
            network with a batch norm other than `innerloop.models.BatchNorm`, or a parameter has
            a `@` in its name.
    """

    def adapt(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Params:
        """The fast weights of one task after the last inner step; arguments of `inner_loop`.

        Weights that the inner loop does not move are those of `params` themselves, not copies.
        """
        at_least(0, inner_steps=inner_steps)
        check_support(support_x, support_y)
        with checking(self, params, support_x, also=[support_y]):
            self.look(support_x)
            how: dict[str, Any] = {"inner_steps": inner_steps, "n_way": n_way}
            *_, adapted = steps_of(self, params, support_x, support_y, **how)
        return adapted

    def score_steps(
        self,
        params: Params,
        episodes: Episodes,
        *,
        inner_steps: int | None = None,
        every_step: bool = True,
    ) -> Params:
        """Adapt to T tasks and score the queries.

        Args:
            params: as in `inner_loop`, as is `inner_steps`.
            episodes: T tasks.
            every_step: after each inner step; False for after the last alone.

        Returns:
            The metrics by name, `[T, steps + 1]`: before the first and after each inner step; or
            without `every_step` `[T, 1]`.
        """
        at_least(0, inner_steps=inner_steps)
        episodes, first = given_episodes(episodes)
        with checking(self, params, *first, also=episodes):
            return in_use.score_steps(self, params, episodes, inner_steps, every_step)

    def inner_loop_each(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> list[Params]:
        """`inner_loop` of T tasks, for inference: the result is detached.

        Args:
            params: as in `inner_loop`, as are `inner_steps` and `n_way`.
            support_x: `[T, N*K, ...]`.
            support_y: `[T, N*K]`.

        Returns:
            The fast weights of all tasks, each with an axis `[T, ...]`, before the first and after
            each inner step.
        """
        at_least(0, inner_steps=inner_steps)
        check_support(support_x, support_y)
        with checking(self, params, *support_x[:1], also=[support_y]):
            return in_use.adapt_all(self, params, support_x, support_y, inner_steps, n_way)

    def explain(self, progress: float = 1.0) -> str:
        """How tasks are computed, and why not in another way: a few lines of text."""
        share_of_training(progress=progress)
        return explain(self, progress)

    # ---- Names of version 0.1

    def adapt_steps(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> Iterator[Params]:
        """Deprecated: `inner_loop`."""
        _renamed("adapt_steps", "inner_loop")
        return self.inner_loop(params, support_x, support_y, inner_steps=inner_steps, n_way=n_way)

    def adapt_tasks(
        self,
        params: Params,
        support_x: Tensor,
        support_y: Tensor,
        *,
        inner_steps: int | None = None,
        n_way: int | None = None,
    ) -> list[Params]:
        """Deprecated: `inner_loop_each`."""
        _renamed("adapt_tasks", "inner_loop_each")
        return self.inner_loop_each(
            params, support_x, support_y, inner_steps=inner_steps, n_way=n_way
        )

    def judge(self, outputs: Any, targets: Any) -> tuple[Tensor, Params]:
        """Deprecated: `score`."""
        _renamed("judge", "score")
        return self.score(outputs, targets)

    def judge_steps(
        self,
        params: Params,
        episodes: Episodes,
        *,
        inner_steps: int | None,
        n_way: int | None,
        every_step: bool = True,
    ) -> Params:
        """Deprecated: `score_steps`."""
        _renamed("judge_steps", "score_steps")
        episodes = Episodes(*episodes, n_way=n_way or getattr(episodes, "n_way", None))
        return self.score_steps(params, episodes, inner_steps=inner_steps, every_step=every_step)


def _renamed(old: str, new: str) -> None:
    warnings.warn(
        f"Algorithm.{old} is deprecated: it is called {new} now", DeprecationWarning, stacklevel=3
    )
